//! Whatever the target, its path is made of plain names and never climbs.
#![no_main]

use common::http::target::resolve;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|target: &[u8]| {
    let mut path = Vec::new();
    if resolve(target, &mut path).is_ok() && !path.is_empty() {
        for name in path.split(|byte| *byte == b'/') {
            assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&0));
        }
    }
});

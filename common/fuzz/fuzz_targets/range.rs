//! Whatever is asked for, only bytes of the file are selected.
#![no_main]

use common::http::range::{Selection, select};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &[u8])| {
    let (size, value) = input;
    if let Selection::Ranges(ranges) = select(value, size) {
        assert!(!ranges.is_empty());
        for range in ranges {
            assert!(range.length > 0 && range.start + range.length <= size);
        }
    }
});

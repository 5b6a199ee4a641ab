//! Whatever `Accept-Encoding` says, only what there is gets chosen, and what is there alone counts.
#![no_main]

use common::http::accept_encoding::{Choice, Coding, preferred};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (first, second) = input;
    let all = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
    match preferred([first, second], &all) {
        Choice::Coding(coding) => {
            assert_eq!(preferred([first, second], &[coding]), Choice::Coding(coding));
        }
        refused => assert_eq!(preferred([first, second], &[]), refused),
    }
    // Fields are one list.
    let joined = [first, b",", second].concat();
    assert_eq!(preferred([first, second], &all), preferred([joined.as_slice()], &all));
});

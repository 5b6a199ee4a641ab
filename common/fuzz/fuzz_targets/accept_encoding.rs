//! Whatever `Accept-Encoding` says, each coding is chosen once at most.
#![no_main]

use common::http::accept_encoding::{Coding, acceptable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (first, second) = input;
    let codings = acceptable([first, second]);
    for coding in Coding::ALL {
        assert!(codings.iter().filter(|other| **other == coding).count() <= 1);
    }
    // Fields are one list.
    let joined = [first, b",", second].concat();
    assert_eq!(codings, acceptable([joined.as_slice()]));
});

//! Parsing at once and byte after byte come to the same.
#![no_main]

use common::http::request::{Parsed, parse_http_get};
use common::http::scan::{HeadScan, Scanned};
use libfuzzer_sys::fuzz_target;

fn outcome(bytes: &[u8]) -> Option<Result<(usize, String), u16>> {
    match parse_http_get(bytes) {
        Parsed::Complete(request, length) => Some(Ok((length, format!("{request:?}")))),
        Parsed::Refused(status) => Some(Err(status.code())),
        Parsed::Incomplete => None,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let whole = outcome(bytes);
    let mut scan = HeadScan::default();
    for end in 0..=bytes.len() {
        match scan.advance(&bytes[..end]) {
            Scanned::Incomplete => assert_eq!(outcome(&bytes[..end]), None),
            Scanned::Refused(status) => return assert_eq!(whole, Some(Err(status.code()))),
            Scanned::Complete { .. } => return assert_eq!(whole, outcome(&bytes[..end])),
        }
    }
    assert_eq!(whole, None);
});

//! A proxy's header is told from what is none in the same way however it comes, and of a bounded part of it.
#![no_main]

use common::http::proxy_header::{HEADER_BYTES_MAX, Introduction, introduction};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = introduction(bytes);
    let mut parts = (0..=bytes.len()).map(|end| introduction(&bytes[..end]));
    let first = parts.find(|part| *part != Introduction::Incomplete).unwrap_or(Introduction::Incomplete);
    assert_eq!(first, whole);
    match whole {
        Introduction::Incomplete => assert!(bytes.len() < HEADER_BYTES_MAX),
        Introduction::Complete { length, .. } => assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX),
        Introduction::Refused => {}
    }
});

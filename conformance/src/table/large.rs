//! A file of 5 GiB: offsets and lengths beyond 32 bits.

use crate::row::{Answer, Row, get, part, parts, problem, request, row};
use crate::site::{SPARSE_BYTES, SPARSE_MIDDLE, SPARSE_TAIL};

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("length", request("HEAD", "/sparse.bin", &[]), whole().head_only()),
        ranged("suffix", "bytes=-23", part(BINARY, "5368709097-5368709119/5368709120", SPARSE_TAIL)),
        ranged("last_byte", "bytes=5368709119-", part(BINARY, "5368709119-5368709119/5368709120", "B")),
        ranged(
            "end_beyond_the_file",
            "bytes=5368709117-9999999999",
            part(BINARY, "5368709117-5368709119/5368709120", "GiB"),
        ),
        ranged(
            "across_4_gib",
            "bytes=4294967288-4294967303",
            part(BINARY, "4294967288-4294967303/5368709120", SPARSE_MIDDLE),
        ),
        ranged(
            "from_4_gib",
            "bytes=4294967296-4294967302",
            part(BINARY, "4294967296-4294967302/5368709120", "above4G"),
        ),
        ranged(
            "hole",
            "bytes=2147483640-2147483655",
            part(BINARY, "2147483640-2147483655/5368709120", [0; 16]),
        ),
        ranged(
            "much_across_4_gib",
            "bytes=4294867288-4294967303",
            part(BINARY, "4294867288-4294967303/5368709120", much()),
        ),
        ranged(
            "just_beyond_the_end",
            "bytes=5368709120-",
            problem(416).has("Content-Range", "bytes */5368709120"),
        ),
        ranged(
            "both_ends",
            "bytes=0-3,-3",
            parts(
                BINARY,
                [("0-3/5368709120", vec![0; 4]), ("5368709117-5368709119/5368709120", b"GiB".to_vec())],
            ),
        ),
    ]
}

const BINARY: &str = "application/octet-stream";

fn ranged(name: &'static str, range: &str, answer: Answer) -> Row {
    row(name, get("/sparse.bin", &[&format!("Range: {range}")]), answer)
}

fn whole() -> Answer {
    crate::row::head_of_file(BINARY, SPARSE_BYTES)
}

/// A hundred thousand zeros, then the bytes across 4 GiB.
fn much() -> Vec<u8> {
    [&[0; 100_000], SPARSE_MIDDLE.as_bytes()].concat()
}

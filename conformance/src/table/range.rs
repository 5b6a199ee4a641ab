//! Ranges (RFC 9110 §14): single, multiple, merged, ignored, refused.

use common::http::range::{GAP_BYTES_MIN, RANGES_MAX};

use crate::row::{Answer, Row, digits, file, get, part, parts, problem, request, row};
use crate::site::{kilobyte, pattern_of};

pub(super) fn rows() -> Vec<Row> {
    [single(), ignored(), unsatisfiable(), several(), merged(), bounded(), of_larger_files()].concat()
}

const TEXT: &str = "text/plain; charset=utf-8";
const BINARY: &str = "application/octet-stream";

fn ranged(name: &'static str, target: &str, range: &str, answer: Answer) -> Row {
    row(name, get(target, &[&format!("Range: {range}")]), answer)
}

fn single() -> Vec<Row> {
    [
        ("first_byte", "bytes=0-0", "0-0/10", "0"),
        ("first_bytes", "bytes=0-3", "0-3/10", "0123"),
        ("middle", "bytes=4-6", "4-6/10", "456"),
        ("last_byte", "bytes=9-9", "9-9/10", "9"),
        ("open", "bytes=7-", "7-9/10", "789"),
        ("open_from_the_start", "bytes=0-", "0-9/10", "0123456789"),
        ("suffix", "bytes=-3", "7-9/10", "789"),
        ("suffix_of_one", "bytes=-1", "9-9/10", "9"),
        ("suffix_of_all", "bytes=-10", "0-9/10", "0123456789"),
        ("suffix_longer_than_the_file", "bytes=-99", "0-9/10", "0123456789"),
        ("end_beyond_the_file", "bytes=8-99", "8-9/10", "89"),
        ("end_beyond_any_number", "bytes=8-99999999999999999999999", "8-9/10", "89"),
        ("suffix_beyond_any_number", "bytes=-99999999999999999999999", "0-9/10", "0123456789"),
        ("unit_in_capitals", "BYTES=4-6", "4-6/10", "456"),
        ("leading_zeros", "bytes=0004-0006", "4-6/10", "456"),
        ("blanks_around_the_range", "bytes= 4-6 ", "4-6/10", "456"),
        ("empty_elements", "bytes=,4-6,,", "4-6/10", "456"),
        ("one_of_two_unsatisfiable", "bytes=99-,4-6", "4-6/10", "456"),
    ]
    .into_iter()
    .map(|(name, range, content_range, content)| {
        ranged(name, "/digits.txt", range, part(TEXT, content_range, content).has("ETag", "{etag}"))
    })
    .collect()
}

fn ignored() -> Vec<Row> {
    let mut rows: Vec<Row> = [
        ("unknown_unit", "lines=1-2"),
        ("no_unit", "1-2"),
        ("no_equals_sign", "bytes 1-2"),
        ("blank_before_the_equals_sign", "bytes =1-2"),
        ("nothing", "bytes="),
        ("only_commas", "bytes=,,"),
        ("only_a_dash", "bytes=-"),
        ("only_a_number", "bytes=1"),
        ("letters", "bytes=a-b"),
        ("end_before_start", "bytes=5-4"),
        ("end_before_start_beside_a_good_one", "bytes=0-1,5-4"),
        ("negative", "bytes=-1-2"),
        ("signed", "bytes=+1-2"),
        ("blank_within", "bytes=1 -2"),
        ("hexadecimal", "bytes=0x1-0x2"),
        ("three_numbers", "bytes=1-2-3"),
        ("semicolon", "bytes=1-2;3-4"),
        ("more_bytes_than_the_file_has", "bytes=0-9,0-0"),
        ("the_file_twice", "bytes=0-,0-"),
    ]
    .into_iter()
    .map(|(name, range)| ranged(name, "/digits.txt", range, digits()))
    .collect();
    rows.extend([
        row("two_lines", get("/digits.txt", &["Range: bytes=0-1", "Range: bytes=2-3"]), digits()),
        row("for_head", request("HEAD", "/digits.txt", &["Range: bytes=0-1"]), digits().head_only()),
        row(
            "unsatisfiable_for_head",
            request("HEAD", "/digits.txt", &["Range: bytes=99-"]),
            digits().head_only(),
        ),
        row("for_post", request("POST", "/digits.txt", &["Range: bytes=0-1"]), problem(405)),
        ranged("of_what_is_missing", "/missing", "bytes=0-1", problem(404)),
        ranged("of_an_empty_file", "/empty.txt", "bytes=0-", file(TEXT, "")),
        ranged("suffix_of_an_empty_file", "/empty.txt", "bytes=-5", file(TEXT, "")),
        ranged("beyond_an_empty_file", "/empty.txt", "bytes=5-", file(TEXT, "")),
    ]);
    rows
}

fn unsatisfiable() -> Vec<Row> {
    [
        ("just_beyond_the_end", "bytes=10-"),
        ("far_beyond_the_end", "bytes=99-100"),
        ("beyond_any_number", "bytes=99999999999999999999999-"),
        ("empty_suffix", "bytes=-0"),
        ("several_beyond_the_end", "bytes=10-11,20-30,-0"),
    ]
    .into_iter()
    .map(|(name, range)| ranged(name, "/digits.txt", range, problem(416).has("Content-Range", "bytes */10")))
    .collect()
}

/// A range of `/kilobyte.txt` as a part.
fn of_kilobyte(range: &'static str) -> (&'static str, Vec<u8>) {
    let (first, last) = range.trim_end_matches("/1000").split_once('-').expect("first-last/1000");
    let position = |text: &str| text.parse::<usize>().expect("a position");
    (range, kilobyte().as_bytes()[position(first)..=position(last)].to_vec())
}

fn several() -> Vec<Row> {
    [
        ("two", "bytes=0-9,200-209", &["0-9/1000", "200-209/1000"][..]),
        ("two_in_the_order_of_the_request", "bytes=200-209,0-9", &["200-209/1000", "0-9/1000"]),
        ("with_a_suffix", "bytes=0-0,-1", &["0-0/1000", "999-999/1000"]),
        ("three", "bytes=0-99,300-300,900-", &["0-99/1000", "300-300/1000", "900-999/1000"]),
        ("some_unsatisfiable", "bytes=0-0,5000-,500-500", &["0-0/1000", "500-500/1000"]),
        ("just_far_enough_apart", "bytes=0-9,90-99", &["0-9/1000", "90-99/1000"]),
    ]
    .into_iter()
    .map(|(name, range, expected)| {
        ranged(name, "/kilobyte.txt", range, parts(TEXT, expected.iter().copied().map(of_kilobyte)))
    })
    .chain([row(
        "several_then_another_request",
        get("/kilobyte.txt", &["Range: bytes=0-9,200-209"]).with(get("/digits.txt", &[])),
        [parts(TEXT, ["0-9/1000", "200-209/1000"].map(of_kilobyte)), digits()],
    )])
    .collect()
}

fn merged() -> Vec<Row> {
    [
        ("overlapping", "bytes=0-19,10-29", "0-29/1000"),
        ("adjacent", "bytes=0-9,10-19", "0-19/1000"),
        ("adjacent_backwards", "bytes=10-19,0-9", "0-19/1000"),
        ("near", "bytes=0-9,89-99", "0-99/1000"),
        ("within_another", "bytes=0-499,200-209", "0-499/1000"),
        ("the_same_twice", "bytes=5-6,5-6", "5-6/1000"),
        ("a_chain", "bytes=0-9,150-159,70-99", "0-159/1000"),
    ]
    .into_iter()
    .map(|(name, range, expected)| {
        let (content_range, content) = of_kilobyte(expected);
        ranged(name, "/kilobyte.txt", range, part(TEXT, content_range, content))
    })
    .collect()
}

/// The offsets of `count` one-byte ranges, too far apart to be merged.
fn scattered(count: usize) -> Vec<u64> {
    (0..count as u64).map(|index| index * (GAP_BYTES_MIN + 1)).collect()
}

fn bounded() -> Vec<Row> {
    let field = |positions: &[u64]| {
        let specs: Vec<_> = positions.iter().map(|position| format!("{position}-{position}")).collect();
        format!("bytes={}", specs.join(","))
    };
    let pattern = pattern_of(4096);
    let most = scattered(RANGES_MAX);
    let one = |position: u64| {
        let content_range: &'static str = Box::leak(format!("{position}-{position}/4096").into_boxed_str());
        (content_range, pattern.bytes(position, 1))
    };
    let whole = file(BINARY, pattern.bytes(0, 4096));
    vec![
        ranged(
            "as_many_as_allowed",
            "/4096.bin",
            &field(&most),
            parts(BINARY, most.iter().copied().map(one)),
        ),
        ranged("more_than_allowed", "/4096.bin", &field(&scattered(RANGES_MAX + 1)), whole.clone()),
        ranged(
            "more_than_allowed_though_merged",
            "/4096.bin",
            &format!("bytes={}", "0-0,".repeat(RANGES_MAX + 1)),
            whole,
        ),
    ]
}

fn of_larger_files() -> Vec<Row> {
    let pattern = pattern_of(1 << 20);
    let bytes =
        |first: u64, last: u64| pattern.bytes(first, usize::try_from(last - first + 1).expect("small"));
    vec![
        ranged(
            "across_a_buffer",
            "/1m.bin",
            "bytes=65000-66000",
            part(BINARY, "65000-66000/1048576", bytes(65_000, 66_000)),
        ),
        ranged(
            "most_of_a_file",
            "/1m.bin",
            "bytes=1-1048574",
            part(BINARY, "1-1048574/1048576", bytes(1, 1_048_574)),
        ),
        ranged(
            "large_parts",
            "/1m.bin",
            "bytes=0-199999,300000-499999,1048575-",
            parts(
                BINARY,
                [
                    ("0-199999/1048576", bytes(0, 199_999)),
                    ("300000-499999/1048576", bytes(300_000, 499_999)),
                    ("1048575-1048575/1048576", bytes(1_048_575, 1_048_575)),
                ],
            ),
        ),
    ]
}

//! Field lines (RFC 9112 §5): a token, a colon, a value; no folding, no space before the colon.

use crate::row::{Answer, Row, digits, refused, row};

pub(super) fn rows() -> Vec<Row> {
    [malformed(), tolerated()].concat()
}

/// A request for the digits with one additional line.
fn with_line(name: &'static str, line: &[u8], answer: Answer) -> Row {
    let request = [b"GET /digits.txt HTTP/1.1\r\nHost: h\r\n", line, b"\r\n\r\n"].concat();
    row(name, request, answer)
}

fn malformed() -> Vec<Row> {
    [
        ("space_before_the_colon", &b"A : b"[..]),
        ("tab_before_the_colon", b"A\t: b"),
        ("space_before_the_colon_of_a_framing_field", b"Content-Length : 0"),
        ("folded", b"A: b\r\n c"),
        ("folded_with_a_tab", b"A: b\r\n\tc"),
        ("empty_name", b": b"),
        ("only_a_colon", b":"),
        ("no_colon", b"A"),
        ("space_within_the_name", b"A B: c"),
        ("space_before_the_name", b" A: b"),
        ("parentheses_in_the_name", b"A(b): c"),
        ("slash_in_the_name", b"A/b: c"),
        ("quote_in_the_name", b"\"A\": b"),
        ("bytes_beyond_ascii_in_the_name", b"\xc3\xa4: b"),
    ]
    .map(|(name, line)| with_line(name, line, refused(400)))
    .into_iter()
    .chain([row("folded_first_line", b"GET /digits.txt HTTP/1.1\r\n Host: h\r\n\r\n", refused(400))])
    .collect()
}

fn tolerated() -> Vec<Row> {
    [
        ("no_space_after_the_colon", &b"A:b"[..]),
        ("spaces_and_tabs_around_the_value", b"A: \t b \t "),
        ("empty_value", b"A:"),
        ("blank_value", b"A:  "),
        ("tab_within_the_value", b"A: b\tc"),
        ("bytes_beyond_ascii_in_the_value", b"A: \xe4\xff"),
        ("every_token_character_in_the_name", b"!#$%&'*+-.^_`|~09azAZ: b"),
        ("colon_in_the_value", b"A: b: c"),
        ("unknown_field_twice", b"A: b\r\nA: c"),
        ("names_are_case_blind", b"rAnGe: lines=1-2"),
    ]
    .map(|(name, line)| with_line(name, line, digits()))
    .into()
}

//! Request lines and line endings (RFC 9112 §2.2, §3): single spaces, CR LF, no leniency.

use crate::row::{Row, digits, refused, row};

pub(super) fn rows() -> Vec<Row> {
    [line_ends(), control_characters(), spaces(), before_the_line()].concat()
}

fn bad(name: &'static str, bytes: &[u8]) -> Row {
    row(name, bytes, refused(400))
}

fn line_ends() -> Vec<Row> {
    vec![
        bad("bare_line_feeds", b"GET /digits.txt HTTP/1.1\nHost: h\n\n"),
        bad("bare_line_feed_after_the_request_line", b"GET /digits.txt HTTP/1.1\nHost: h\r\n\r\n"),
        bad("bare_line_feed_after_a_field", b"GET /digits.txt HTTP/1.1\r\nHost: h\nA: b\r\n\r\n"),
        bad("bare_line_feed_for_the_empty_line", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\n\n"),
        bad("bare_line_feed_within_a_value", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\nA: b\nc\r\n\r\n"),
        bad("bare_carriage_returns", b"GET /digits.txt HTTP/1.1\rHost: h\r\r"),
        bad("bare_carriage_return_within_a_value", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n"),
        bad("bare_carriage_return_in_the_target", b"GET /digits\r.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("two_carriage_returns", b"GET /digits.txt HTTP/1.1\r\r\nHost: h\r\n\r\n"),
        bad("two_carriage_returns_after_a_field", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\r\n\r\n"),
        bad("carriage_return_for_the_empty_line", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\n\rx\n"),
    ]
}

fn control_characters() -> Vec<Row> {
    vec![
        bad("nul_in_the_method", b"G\0T /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("nul_in_the_target", b"GET /digits\0.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("nul_in_the_version", b"GET /digits.txt HTTP/1.1\0\r\nHost: h\r\n\r\n"),
        bad("nul_in_a_name", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\nA\0: b\r\n\r\n"),
        bad("nul_in_a_value", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n"),
        bad("escape_in_a_value", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\nA: b\x1bc\r\n\r\n"),
        bad("vertical_tab_in_a_value", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\nA: b\x0bc\r\n\r\n"),
        bad("form_feed_in_a_value", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\nA: b\x0cc\r\n\r\n"),
        bad("delete_in_a_value", b"GET /digits.txt HTTP/1.1\r\nHost: h\r\nA: b\x7fc\r\n\r\n"),
        bad("delete_in_the_target", b"GET /digits\x7f.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("tab_in_the_target", b"GET /digits\t.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
    ]
}

fn spaces() -> Vec<Row> {
    vec![
        bad("two_spaces_after_the_method", b"GET  /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("two_spaces_before_the_version", b"GET /digits.txt  HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("tab_after_the_method", b"GET\t/digits.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("tab_before_the_version", b"GET /digits.txt\tHTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("space_at_the_start", b" GET /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("space_at_the_end", b"GET /digits.txt HTTP/1.1 \r\nHost: h\r\n\r\n"),
        bad("space_within_the_target", b"GET /digits .txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("no_target", b"GET HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("empty_target", b"GET  HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("no_version", b"GET /digits.txt\r\nHost: h\r\n\r\n"),
        bad("method_only", b"GET\r\nHost: h\r\n\r\n"),
        bad("more_than_three_parts", b"GET /digits.txt HTTP/1.1 x\r\nHost: h\r\n\r\n"),
    ]
}

fn before_the_line() -> Vec<Row> {
    vec![
        row("one_empty_line_first", b"\r\nGET /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n", digits()),
        row("two_empty_lines_first", b"\r\n\r\nGET /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n", digits()),
        bad("three_empty_lines_first", b"\r\n\r\n\r\nGET /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("bare_line_feed_first", b"\nGET /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("carriage_return_first", b"\rGET /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
        bad("bytes_beyond_ascii_first", b"\xef\xbb\xbfGET /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n"),
    ]
}

//! Limits of a request: each is reached exactly, and exceeded by one.

use common::http::request::FIELDS_MAX;
use common::http::scan::{HEAD_BYTES_MAX, METHOD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};

use crate::row::{Row, digits, problem, refused, request, row};

pub(super) fn rows() -> Vec<Row> {
    [lines(), fields(), heads()].concat()
}

/// A request whose line has exactly this many bytes, padded with a query.
fn line_of(bytes: usize) -> Vec<u8> {
    let rest = "GET /digits.txt? HTTP/1.1";
    format!("GET /digits.txt?{} HTTP/1.1\r\nHost: h\r\n\r\n", "q".repeat(bytes - rest.len())).into_bytes()
}

fn lines() -> Vec<Row> {
    let endless = "x".repeat(4 * REQUEST_LINE_BYTES_MAX);
    let method = |bytes: usize| "M".repeat(bytes);
    vec![
        row(
            "method_as_long_as_allowed",
            request(&method(METHOD_BYTES_MAX), "/digits.txt", &[]),
            problem(501),
        ),
        row(
            "method_one_byte_too_long",
            request(&method(METHOD_BYTES_MAX + 1), "/digits.txt", &[]),
            refused(501),
        ),
        row(
            "method_that_fills_the_line",
            request(&method(REQUEST_LINE_BYTES_MAX + 1), "/digits.txt", &[]),
            refused(501),
        ),
        row(
            "long_method_and_a_target_too_long",
            request(&method(METHOD_BYTES_MAX), &format!("/{}", "t".repeat(REQUEST_LINE_BYTES_MAX)), &[]),
            refused(414),
        ),
        row(
            "long_method_that_is_no_token",
            format!("{}(", method(METHOD_BYTES_MAX)).into_bytes(),
            refused(400),
        ),
        row("line_as_long_as_allowed", line_of(REQUEST_LINE_BYTES_MAX), digits()),
        row("line_one_byte_too_long", line_of(REQUEST_LINE_BYTES_MAX + 1), refused(414)),
        row("line_far_too_long", line_of(12 * 1024), refused(414)),
        row("line_without_end", format!("GET /{endless}").into_bytes(), refused(414)),
        row("method_without_end", endless.into_bytes(), refused(501)),
        row("long_path_of_a_missing_file", long_path(), problem(404)),
    ]
}

fn long_path() -> Vec<u8> {
    format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "d/".repeat(2000)).into_bytes()
}

/// A request with exactly this many fields, including Host.
fn with_fields(count: usize) -> Vec<u8> {
    let fields: String = (1..count).map(|index| format!("F{index}: v\r\n")).collect();
    format!("GET /digits.txt HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes()
}

fn fields() -> Vec<Row> {
    vec![
        row("as_many_fields_as_allowed", with_fields(FIELDS_MAX), digits()),
        row("one_field_too_many", with_fields(FIELDS_MAX + 1), refused(431)),
        row("far_too_many_fields", with_fields(8 * FIELDS_MAX), refused(431)),
    ]
}

/// A request whose head has exactly this many bytes.
fn head_of(bytes: usize) -> Vec<u8> {
    let rest = "GET /digits.txt HTTP/1.1\r\nHost: h\r\nA: \r\n\r\n";
    let value = "v".repeat(bytes - rest.len());
    format!("GET /digits.txt HTTP/1.1\r\nHost: h\r\nA: {value}\r\n\r\n").into_bytes()
}

fn heads() -> Vec<Row> {
    let endless = "v".repeat(3 * HEAD_BYTES_MAX);
    vec![
        row("head_as_long_as_allowed", head_of(HEAD_BYTES_MAX), digits()),
        row("head_one_byte_too_long", head_of(HEAD_BYTES_MAX + 1), refused(431)),
        row("head_far_too_long", head_of(3 * HEAD_BYTES_MAX), refused(431)),
        row(
            "value_without_end",
            format!("GET / HTTP/1.1\r\nHost: h\r\nA: {endless}").into_bytes(),
            refused(431),
        ),
        row("name_without_end", format!("GET / HTTP/1.1\r\nHost: h\r\n{endless}").into_bytes(), refused(431)),
        row(
            "fields_without_end",
            format!("GET / HTTP/1.1\r\nHost: h\r\n{}", "A: b\r\n".repeat(4000)).into_bytes(),
            refused(431),
        ),
    ]
}

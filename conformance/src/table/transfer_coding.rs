//! Transfer-Encoding (RFC 9112 §6.1, §6.3): `chunked`, once and last, and never together with Content-Length.

use crate::row::{Row, digits, get, refused, request, row};

pub(super) fn rows() -> Vec<Row> {
    [smuggling(), unknown(), fine()].concat()
}

const EMPTY: &str = "0\r\n\r\n";

fn smuggling() -> Vec<Row> {
    [
        ("with_content_length", &["Content-Length: 5", "Transfer-Encoding: chunked"][..]),
        ("before_content_length", &["Transfer-Encoding: chunked", "Content-Length: 5"]),
        ("with_content_length_zero", &["Content-Length: 0", "Transfer-Encoding: chunked"]),
        ("identity_with_content_length", &["Content-Length: 5", "Transfer-Encoding: identity"]),
        ("chunked_twice", &["Transfer-Encoding: chunked, chunked"]),
        ("chunked_on_two_lines", &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]),
        ("chunked_not_last", &["Transfer-Encoding: chunked, gzip"]),
        ("chunked_not_last_on_two_lines", &["Transfer-Encoding: chunked", "Transfer-Encoding: gzip"]),
        ("chunked_then_identity", &["Transfer-Encoding: chunked, identity"]),
        ("chunked_around_another", &["Transfer-Encoding: chunked, gzip, chunked"]),
        ("no_chunked_at_all", &["Transfer-Encoding: gzip"]),
        ("identity", &["Transfer-Encoding: identity"]),
        ("empty", &["Transfer-Encoding:"]),
        ("nearly_chunked", &["Transfer-Encoding: xchunked"]),
        ("chunked_with_more_behind", &["Transfer-Encoding: chunkedx"]),
        ("chunked_with_a_parameter", &["Transfer-Encoding: chunked;q=1"]),
        ("chunked_in_quotes", &["Transfer-Encoding: \"chunked\""]),
        ("comma_after_chunked", &["Transfer-Encoding: chunked,"]),
        ("space_before_the_colon", &["Transfer-Encoding : chunked"]),
    ]
    .into_iter()
    .map(|(name, fields)| row(name, request("POST", "/digits.txt", fields).with(EMPTY), refused(400)))
    .collect()
}

fn unknown() -> Vec<Row> {
    [
        ("gzip_then_chunked", &["Transfer-Encoding: gzip, chunked"][..]),
        ("gzip_then_chunked_on_two_lines", &["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"]),
        ("anything_then_chunked", &["Transfer-Encoding: strange, chunked"]),
    ]
    .into_iter()
    .map(|(name, fields)| row(name, get("/digits.txt", fields).with(EMPTY), refused(501)))
    .collect()
}

fn fine() -> Vec<Row> {
    vec![
        row("capitals", get("/digits.txt", &["TRANSFER-ENCODING: CHUNKED"]).with(EMPTY), digits()),
        row("blanks_around", get("/digits.txt", &["Transfer-Encoding: \t chunked \t"]).with(EMPTY), digits()),
    ]
}

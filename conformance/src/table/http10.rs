//! HTTP/1.0 (RFC 9112 §9.3, appendix C): one response per connection, unless the client asks for keep-alive.

use crate::row::{Answer, Row, digits, problem, refused, row};

pub(super) fn rows() -> Vec<Row> {
    vec![
        old("plain", "GET /digits.txt", "", digits().closing()),
        old("with_host", "GET /digits.txt", "Host: h\r\n", digits().closing()),
        old("head", "HEAD /digits.txt", "", digits().head_only().closing()),
        old("missing_file", "GET /missing", "", problem(404).closing()),
        old("unknown_method", "BREW /pot", "", problem(501).closing()),
        old("keep_alive", "GET /digits.txt", "Connection: keep-alive\r\n", kept()),
        old("keep_alive_in_capitals", "GET /digits.txt", "Connection: KEEP-ALIVE\r\n", kept()),
        old("keep_alive_in_a_list", "GET /digits.txt", "Connection: te, keep-alive\r\n", kept()),
        old("keep_alive_and_close", "GET /digits.txt", "Connection: keep-alive, close\r\n", digits().closing()),
        old("keep_alive_for_head", "HEAD /digits.txt", "Connection: keep-alive\r\n", kept().head_only()),
        old("two_hosts", "GET /digits.txt", "Host: h\r\nHost: h\r\n", refused(400)),
        old("invalid_host", "GET /digits.txt", "Host: h/i\r\n", refused(400)),
        old("transfer_encoding", "GET /digits.txt", "Transfer-Encoding: chunked\r\n", refused(400)),
        old("transfer_encoding_not_chunked", "GET /digits.txt", "Transfer-Encoding: gzip, chunked\r\n", refused(400)),
        row(
            "with_content",
            b"POST /digits.txt HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
            problem(405).has("Connection", "keep-alive"),
        ),
        row(
            "what_follows_is_dropped",
            b"GET /digits.txt HTTP/1.0\r\n\r\nGET /digits.txt HTTP/1.0\r\n\r\n",
            digits().closing(),
        )
        .dropped(),
        row(
            "kept_then_1_1",
            b"GET /digits.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /digits.txt HTTP/1.1\r\nHost: h\r\n\r\n",
            [kept(), digits()],
        ),
    ]
}

fn old(name: &'static str, start: &str, fields: &str, answer: Answer) -> Row {
    row(name, format!("{start} HTTP/1.0\r\n{fields}\r\n").into_bytes(), answer)
}

/// An HTTP/1.0 client must be told that the connection stays open.
fn kept() -> Answer {
    digits().has("Connection", "keep-alive")
}

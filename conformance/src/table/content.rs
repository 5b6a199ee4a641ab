//! Request content framed by Content-Length (RFC 9112 §6): parsed strictly, read and discarded.

use crate::row::{Row, digits, get, problem, refused, request, row};

pub(super) fn rows() -> Vec<Row> {
    [malformed(), dropped(), bounded()].concat()
}

/// With any method: framing is checked first.
fn malformed() -> Vec<Row> {
    [
        ("letters", "Content-Length: abc"),
        ("hexadecimal", "Content-Length: 0x5"),
        ("plus", "Content-Length: +5"),
        ("minus", "Content-Length: -5"),
        ("fraction", "Content-Length: 5.0"),
        ("empty", "Content-Length:"),
        ("space_within", "Content-Length: 1 0"),
        ("semicolon", "Content-Length: 5;"),
        ("trailing_comma", "Content-Length: 5,"),
        ("leading_comma", "Content-Length: ,5"),
        ("list_that_differs", "Content-Length: 5, 6"),
        ("lines_that_differ", "Content-Length: 5\r\nContent-Length: 6"),
        ("one_line_malformed", "Content-Length: 5\r\nContent-Length: x"),
        ("overflow", "Content-Length: 18446744073709551616"),
        ("overflow_to_five", "Content-Length: 18446744073709551621"),
        ("forty_digits", "Content-Length: 1234567890123456789012345678901234567890"),
        ("bytes_beyond_ascii", "Content-Length: \u{665}"),
    ]
    .into_iter()
    .map(|(name, field)| row(name, request("POST", "/digits.txt", &[field]).with("hello"), refused(400)))
    .collect()
}

fn dropped() -> Vec<Row> {
    vec![
        row("of_get", get("/digits.txt", &["Content-Length: 5"]).with("hello"), digits()),
        row(
            "of_head",
            request("HEAD", "/digits.txt", &["Content-Length: 5"]).with("hello"),
            digits().head_only(),
        ),
        row(
            "that_looks_like_a_request",
            get("/digits.txt", &["Content-Length: 19"]).with("GET /x HTTP/1.1\r\n\r\n"),
            digits(),
        ),
        row("zero", get("/digits.txt", &["Content-Length: 0"]), digits()),
        row("leading_zeros", get("/digits.txt", &["Content-Length: 005"]).with("hello"), digits()),
        row("list_of_the_same", get("/digits.txt", &["Content-Length: 5, 5"]).with("hello"), digits()),
        row(
            "lines_of_the_same",
            get("/digits.txt", &["Content-Length: 5", "Content-Length: 5"]).with("hello"),
            digits(),
        ),
        row("of_what_is_missing", get("/missing", &["Content-Length: 5"]).with("hello"), problem(404)),
        row("of_a_bad_target", get("/%", &["Content-Length: 5"]).with("hello"), problem(400)),
        row("any_bytes", get("/digits.txt", &["Content-Length: 6"]).with(b"\0\r\n\r\n\xff"), digits()),
        row(
            "then_another_request",
            get("/digits.txt", &["Content-Length: 5"]).with("hello").with(get("/missing", &[])),
            [digits(), problem(404)],
        ),
    ]
}

fn bounded() -> Vec<Row> {
    let most = "x".repeat(1 << 20);
    vec![
        row("as_much_as_allowed", get("/digits.txt", &["Content-Length: 1048576"]).with(&most), digits()),
        row("more_than_allowed", get("/digits.txt", &["Content-Length: 1048577"]), refused(413)),
        row(
            "far_more_than_allowed",
            get("/digits.txt", &["Content-Length: 18446744073709551615"]),
            refused(413),
        ),
        row("more_than_allowed_for_post", request("POST", "/", &["Content-Length: 1048577"]), refused(413)),
    ]
}

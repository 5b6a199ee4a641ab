//! Methods (RFC 9110 §9): GET, HEAD and OPTIONS are supported; others are known or unknown. Methods are case-sensitive.

use crate::row::{Row, digits, options, problem, refused, request, row};

pub(super) fn rows() -> Vec<Row> {
    [served(), known(), unknown()].concat()
}

fn served() -> Vec<Row> {
    vec![
        row("get", request("GET", "/digits.txt", &[]), digits()),
        row("head", request("HEAD", "/digits.txt", &[]), digits().head_only()),
        row("options_of_the_server", request("OPTIONS", "*", &[]), options()),
        row("options_of_a_file", request("OPTIONS", "/digits.txt", &[]), options()),
        row("options_of_what_is_missing", request("OPTIONS", "/missing", &[]), options()),
        row(
            "options_with_content",
            request("OPTIONS", "*", &["Content-Length: 5"]).with(b"hello"),
            options(),
        ),
        row("the_asterisk_is_for_options_only", request("GET", "*", &[]), problem(400)),
        row("options_does_not_climb", request("OPTIONS", "/../x", &[]), problem(400)),
    ]
}

fn known() -> Vec<Row> {
    vec![
        row("post", request("POST", "/digits.txt", &["Content-Length: 0"]), problem(405)),
        row(
            "post_with_content",
            request("POST", "/digits.txt", &["Content-Length: 5"]).with(b"hello"),
            problem(405),
        ),
        row("post_without_content_length", request("POST", "/digits.txt", &[]), problem(405)),
        row("put", request("PUT", "/new.txt", &["Content-Length: 5"]).with(b"hello"), problem(405)),
        row("delete", request("DELETE", "/digits.txt", &[]), problem(405)),
        row("patch", request("PATCH", "/digits.txt", &["Content-Length: 2"]).with(b"{}"), problem(405)),
        row("trace", request("TRACE", "/digits.txt", &[]), problem(405)),
        row("connect", request("CONNECT", "triptych.test:443", &[]), problem(405)),
        row("connect_to_a_path", request("CONNECT", "/digits.txt", &[]), problem(405)),
        row("post_to_what_is_missing", request("POST", "/missing", &[]), problem(405)),
    ]
}

fn unknown() -> Vec<Row> {
    vec![
        row("extension_method", request("PROPFIND", "/digits.txt", &[]), problem(501)),
        row("lower_case", request("get", "/digits.txt", &[]), problem(501)),
        row("prefix_of_a_method", request("GE", "/digits.txt", &[]), problem(501)),
        row("method_with_more_behind", request("GETS", "/digits.txt", &[]), problem(501)),
        row("every_token_character", request("!#$%&'*+-.^_`|~09azAZ", "/digits.txt", &[]), problem(501)),
        row(
            "unknown_with_content",
            request("BREW", "/pot", &["Content-Length: 5"]).with(b"beans"),
            problem(501),
        ),
        row("no_token", request("G(T", "/digits.txt", &[]), refused(400)),
        row("no_token_but_a_slash", request("GET/", "/digits.txt", &[]), refused(400)),
        row("bytes_beyond_ascii", request("G\u{cb}T", "/digits.txt", &[]), refused(400)),
    ]
}

//! Expect (RFC 9110 §10.1.1).

use crate::row::{Row, digits, get, problem, refused, request, row};

pub(super) fn rows() -> Vec<Row> {
    let with_content = ["Expect: 100-continue", "Content-Length: 5"];
    let with_chunks = ["Expect: 100-continue", "Transfer-Encoding: chunked"];
    vec![
        row("unknown", get("/digits.txt", &["Expect: the-unexpected"]), refused(417)),
        row("unknown_beside_continue", get("/digits.txt", &["Expect: 100-continue, more"]), refused(417)),
        row(
            "unknown_on_a_second_line",
            get("/digits.txt", &["Expect: 100-continue", "Expect: more"]),
            refused(417),
        ),
        row("continue_without_content", get("/digits.txt", &["Expect: 100-continue"]), digits()),
        // The final status is sent at once, because the content is never used. The client needn't send it.
        row("continue_with_content_to_come", get("/digits.txt", &with_content), digits().closing()),
        row(
            "continue_with_content_sent_anyway",
            get("/digits.txt", &with_content).with("hello"),
            digits().closing(),
        ),
        row("continue_with_chunks_to_come", get("/digits.txt", &with_chunks), digits().closing()),
        row("continue_for_post", request("POST", "/", &with_content), problem(405).closing()),
        row("continue_for_what_is_missing", get("/missing", &with_content), problem(404).closing()),
        row(
            "continue_with_content_of_zero_bytes",
            get("/digits.txt", &["Expect: 100-continue", "Content-Length: 0"]),
            digits(),
        ),
        row("continue_in_capitals", get("/digits.txt", &["Expect: 100-CONTINUE"]), digits()),
        row(
            "continue_with_content_that_is_too_large",
            request("POST", "/digits.txt", &["Expect: 100-continue", "Content-Length: 1048577"]),
            refused(413),
        ),
        row("bad_framing_comes_first", get("/", &["Expect: more", "Content-Length: x"]), refused(400)),
        row(
            "ignored_in_http_1_0",
            b"GET /digits.txt HTTP/1.0\r\nExpect: the-unexpected\r\nConnection: keep-alive\r\n\r\n",
            digits().has("Connection", "keep-alive"),
        ),
    ]
}

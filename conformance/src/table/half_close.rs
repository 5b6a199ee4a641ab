//! A client that half-closes after its request still gets its response; then the server closes, too.

use crate::row::{Row, digits, file, get, problem, refused, request, row, silence};
use crate::site::pattern_of;

pub(super) fn rows() -> Vec<Row> {
    let text = "text/plain; charset=utf-8";
    let large = pattern_of(8 << 20).bytes(0, 8 << 20);
    vec![
        row("after_a_request", get("/digits.txt", &[]), digits()).half_closed(),
        row("after_a_request_with_close", get("/digits.txt", &["Connection: close"]), digits().closing())
            .half_closed(),
        row("after_head", request("HEAD", "/digits.txt", &[]), digits().head_only()).half_closed(),
        row("after_a_problem", get("/missing", &[]), problem(404)).half_closed(),
        row("after_an_empty_file", get("/empty.txt", &[]), file(text, "")).half_closed(),
        row("while_a_large_answer_is_sent", get("/8m.bin", &[]), file("application/octet-stream", large))
            .half_closed(),
        row(
            "after_two_requests",
            get("/digits.txt", &[]).with(get("/missing", &[])),
            [digits(), problem(404)],
        )
        .half_closed(),
        row("after_fifty_requests", get("/digits.txt", &[]).repeat(50), vec![digits(); 50]).half_closed(),
        row("after_content", get("/digits.txt", &["Content-Length: 5"]).with("hello"), digits())
            .half_closed(),
        row("with_nothing_sent", "", silence()).half_closed(),
        row("after_an_empty_line", "\r\n", refused(400)).half_closed(),
        row("within_the_request_line", "GET /dig", refused(400)).half_closed(),
        row("within_the_fields", "GET /digits.txt HTTP/1.1\r\nHost: h\r\n", refused(400)).half_closed(),
        row("before_the_last_byte", "GET /digits.txt HTTP/1.1\r\nHost: h\r\n\r", refused(400)).half_closed(),
        row("within_content", get("/digits.txt", &["Content-Length: 5"]).with("hell"), refused(400))
            .half_closed(),
        row(
            "within_chunks",
            get("/digits.txt", &["Transfer-Encoding: chunked"]).with("5\r\nhel"),
            refused(400),
        )
        .half_closed(),
        row("within_a_second_request", get("/digits.txt", &[]).with("GET /d"), [digits(), refused(400)])
            .half_closed(),
    ]
}

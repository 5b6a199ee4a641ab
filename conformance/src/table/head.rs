//! HEAD (RFC 9110 §9.3.2) on a persistent connection: the client must not expect content.

use crate::row::{Row, digits, file, get, moved, options, precondition, problem, request, row};
use crate::site::INDEX;

pub(super) fn rows() -> Vec<Row> {
    let head = |target: &str| request("HEAD", target, &[]);
    vec![
        row(
            "twice",
            head("/digits.txt").with(head("/digits.txt")),
            [digits().head_only(), digits().head_only()],
        ),
        row("then_get", head("/digits.txt").with(get("/digits.txt", &[])), [digits().head_only(), digits()]),
        row(
            "get_then_head",
            get("/digits.txt", &[]).with(head("/digits.txt")),
            [digits(), digits().head_only()],
        ),
        row(
            "of_everything_at_once",
            head("/").with(head("/dir")).with(head("/missing")).with(head("/%")).with(head("/digits.txt")),
            [
                file("text/html; charset=utf-8", INDEX).head_only(),
                moved("/dir/").head_only(),
                problem(404).head_only(),
                problem(400).head_only(),
                digits().head_only(),
            ],
        ),
        row(
            "between_answers_without_content",
            request("OPTIONS", "*", &[])
                .with(head("/digits.txt"))
                .with(get("/digits.txt", &["If-None-Match: *"])),
            [options(), digits().head_only(), precondition(304)],
        ),
        row(
            "with_close",
            request("HEAD", "/digits.txt", &["Connection: close"]),
            digits().head_only().closing(),
        ),
        row(
            "unknown_expectation",
            request("HEAD", "/", &["Expect: x"]),
            crate::row::refused(417).head_only(),
        ),
    ]
}

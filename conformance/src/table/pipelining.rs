//! Pipelined requests (RFC 9112 §9.3.2): answered in order, whatever the kind of response.

use crate::row::{
    Answer, Request, Row, digits, file, get, moved, options, part, problem, refused, request, row,
};
use crate::site::{PATTERNS, pattern_of};

pub(super) fn rows() -> Vec<Row> {
    [mixtures(), many(), broken_in_the_middle()].concat()
}

/// A pattern file, which may or may not fit into one buffer.
fn pattern(bytes: u64) -> (Request, Answer) {
    let name = PATTERNS.iter().find(|(_, size)| *size == bytes).map_or("", |(name, _)| name);
    let content = pattern_of(bytes).bytes(0, usize::try_from(bytes).expect("a small file"));
    (get(&format!("/{name}"), &[]), file("application/octet-stream", content))
}

fn mixtures() -> Vec<Row> {
    let (large, large_answer) = pattern(300_000);
    let (larger, larger_answer) = pattern(1 << 20);
    vec![
        row("two", get("/digits.txt", &[]).with(get("/digits.txt", &[])), [digits(), digits()]),
        row("file_and_problem", get("/digits.txt", &[]).with(get("/missing", &[])), [digits(), problem(404)]),
        row("problem_and_file", get("/missing", &[]).with(get("/digits.txt", &[])), [problem(404), digits()]),
        row(
            "small_behind_large",
            large.clone().with(get("/digits.txt", &[])).with(&larger).with(get("/digits.txt", &[])),
            [large_answer.clone(), digits(), larger_answer, digits()],
        ),
        row("large_behind_small", get("/digits.txt", &[]).with(&large), [digits(), large_answer]),
        row(
            "every_kind",
            get("/digits.txt", &[])
                .with(request("HEAD", "/digits.txt", &[]))
                .with(request("OPTIONS", "*", &[]))
                .with(get("/dir", &[]))
                .with(request("POST", "/digits.txt", &["Content-Length: 5"]).with("hello"))
                .with(get("/digits.txt", &["Range: bytes=1-2"]))
                .with(request("BREW", "/", &["Transfer-Encoding: chunked"]).with("1\r\na\r\n0\r\n\r\n"))
                .with(get("/%", &[]))
                .with(get("/digits.txt", &[])),
            [
                digits(),
                digits().head_only(),
                options(),
                moved("/dir/"),
                problem(405),
                part("text/plain; charset=utf-8", "1-2/10", "12"),
                problem(501),
                problem(400),
                digits(),
            ],
        ),
        row(
            "empty_lines_between",
            get("/digits.txt", &[])
                .with("\r\n")
                .with(get("/digits.txt", &[]))
                .with("\r\n\r\n")
                .with(get("/missing", &[])),
            [digits(), digits(), problem(404)],
        ),
    ]
}

fn many() -> Vec<Row> {
    let repeated = |request: &[u8], count: usize| request.repeat(count);
    let (file, answer) = pattern(4096);
    vec![
        row("a_hundred_files", repeated(&get("/digits.txt", &[]), 100), vec![digits(); 100]),
        row("five_hundred_problems", repeated(&get("/missing", &[]), 500), vec![problem(404); 500]),
        row("a_thousand_options", repeated(&request("OPTIONS", "*", &[]), 1000), vec![options(); 1000]),
        row(
            "five_hundred_heads",
            repeated(&request("HEAD", "/digits.txt", &[]), 500),
            vec![digits().head_only(); 500],
        ),
        row("fifty_files_of_a_page", repeated(&file, 50), vec![answer; 50]),
    ]
}

fn broken_in_the_middle() -> Vec<Row> {
    vec![
        row(
            "answered_up_to_the_refusal",
            get("/digits.txt", &[]).with("GET / HTTP/1.1\r\n\r\n").with(get("/digits.txt", &[])),
            [digits(), refused(400)],
        ),
        row(
            "a_refusal_behind_head_has_content",
            request("HEAD", "/digits.txt", &[]).with("GET / HTTP/1.1\r\n\r\n"),
            [digits().head_only(), refused(400)],
        ),
        row("answered_up_to_the_garbage", get("/digits.txt", &[]).with("\0"), [digits(), refused(400)]),
        row(
            "answered_up_to_bad_content",
            get("/missing", &[]).with(get("/", &["Transfer-Encoding: chunked"])).with("x\r\n"),
            [problem(404), refused(400)],
        ),
        row(
            "answered_up_to_another_version",
            get("/digits.txt", &[]).with("GET / HTTP/2.0\r\nHost: h\r\n\r\n"),
            [digits(), refused(505)],
        ),
    ]
}

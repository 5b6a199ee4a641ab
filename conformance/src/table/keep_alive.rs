//! Persistence (RFC 9112 §9.3, §9.6): kept in 1.1 unless the client says close.

use crate::row::{Answer, Row, digits, get, moved, options, precondition, problem, request, row};

pub(super) fn rows() -> Vec<Row> {
    [kept(), closed(), after_every_answer()].concat()
}

fn each<const COUNT: usize>(rows: [(&'static str, &[&str]); COUNT], answer: &Answer) -> Vec<Row> {
    rows.map(|(name, fields)| row(name, get("/digits.txt", fields), answer.clone())).into()
}

fn kept() -> Vec<Row> {
    each(
        [
            ("by_default", &[]),
            ("keep_alive", &["Connection: keep-alive"]),
            ("other_options", &["Connection: te, upgrade"]),
            ("empty_option", &["Connection:"]),
            ("nearly_close", &["Connection: closed"]),
            ("close_in_another_field", &["Proxy-Connection: close"]),
            ("upgrade_is_ignored", &["Connection: upgrade", "Upgrade: h2c"]),
        ],
        &digits(),
    )
}

fn closed() -> Vec<Row> {
    let mut rows = each(
        [
            ("close", &["Connection: close"]),
            ("close_in_capitals", &["Connection: CLOSE"]),
            ("close_in_a_list", &["Connection: te, close"]),
            ("close_without_blanks", &["Connection:te,close,x"]),
            ("close_beats_keep_alive", &["Connection: close, keep-alive"]),
            ("keep_alive_then_close", &["Connection: keep-alive", "Connection: close"]),
            ("name_in_capitals", &["CONNECTION: close"]),
        ],
        &digits().closing(),
    );
    rows.push(
        row(
            "what_follows_close_is_dropped",
            get("/digits.txt", &["Connection: close"]).with(get("/digits.txt", &[])),
            digits().closing(),
        )
        .dropped(),
    );
    rows.push(
        row(
            "garbage_after_close_is_dropped",
            get("/digits.txt", &["Connection: close"]).with(b"\0\0\0\0"),
            digits().closing(),
        )
        .dropped(),
    );
    rows.push(row(
        "close_for_the_last_of_three",
        get("/digits.txt", &[])
            .with(get("/digits.txt", &[]))
            .with(get("/digits.txt", &["Connection: close"])),
        [digits(), digits(), digits().closing()],
    ));
    rows
}

/// With every kind of response: the connection stays open if the framing is sound, and closes if the client asks for
/// it.
fn after_every_answer() -> Vec<Row> {
    let close: &[&str] = &["Connection: close"];
    vec![
        row("close_after_404", get("/missing", close), problem(404).closing()),
        row("close_after_301", get("/dir", close), moved("/dir/").closing()),
        row("close_after_400", get("/%", close), problem(400).closing()),
        row("close_after_405", request("POST", "/", close), problem(405).closing()),
        row("close_after_501", request("BREW", "/", close), problem(501).closing()),
        row("close_after_204", request("OPTIONS", "*", close), options().closing()),
        row(
            "close_after_304",
            get("/digits.txt", &["If-None-Match: *", "Connection: close"]),
            precondition(304).closing(),
        ),
        row(
            "close_after_416",
            get("/digits.txt", &["Range: bytes=99-", "Connection: close"]),
            problem(416).closing(),
        ),
    ]
}

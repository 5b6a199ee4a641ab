//! How a file is sent: its media type, its validators, and sizes around every buffer size.

use crate::row::{Row, file, get, request, row};
use crate::site::{PATTERNS, kilobyte, pattern_of};

pub(super) fn rows() -> Vec<Row> {
    [media_types(), sizes()].concat()
}

fn media_types() -> Vec<Row> {
    [
        ("html", "/index.html", "text/html; charset=utf-8", crate::site::INDEX.as_bytes()),
        ("css", "/style.css", "text/css; charset=utf-8", b"p { margin: 0 }\n"),
        ("extension_in_capitals", "/UPPER.CSS", "text/css; charset=utf-8", b"p { margin: 0 }\n"),
        ("javascript", "/app.js", "text/javascript; charset=utf-8", b"export {};\n"),
        ("json", "/data.json", "application/json", b"{}\n"),
        ("svg", "/picture.svg", "image/svg+xml", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>\n"),
        ("png", "/picture.png", "image/png", "\u{89}PNG".as_bytes()),
        ("woff2", "/font.woff2", "font/woff2", b"wOF2"),
        ("wasm", "/module.wasm", "application/wasm", b"\0asm"),
        ("the_last_extension_counts", "/archive.tar.gz", "application/gzip", "\u{1f}\u{8b}".as_bytes()),
        ("no_extension", "/README", "application/octet-stream", b"no extension\n"),
        ("unknown_extension", "/strange.what-is-this", "application/octet-stream", b"unknown extension\n"),
    ]
    .into_iter()
    .map(|(name, target, media_type, content)| row(name, get(target, &[]), file(media_type, content)))
    .collect()
}

fn sizes() -> Vec<Row> {
    let text = "text/plain; charset=utf-8";
    let mut rows = vec![
        row("empty", get("/empty.txt", &[]), file(text, "")),
        row("empty_for_head", request("HEAD", "/empty.txt", &[]), file(text, "").head_only()),
        row("a_thousand_bytes", get("/kilobyte.txt", &[]), file(text, kilobyte())),
    ];
    for (name, bytes) in PATTERNS {
        let content = pattern_of(*bytes).bytes(0, usize::try_from(*bytes).expect("a small file"));
        let answer = file("application/octet-stream", content);
        rows.push(row(name, get(&format!("/{name}"), &[]), answer));
    }
    rows
}

//! How a file is sent: its media type, its validators, and sizes around every buffer size.

use crate::row::{Row, file, get, not_modified, part, parts, request, row};
use crate::site::{MODIFIED, PATTERNS, kilobyte, pattern_of};

pub(super) fn rows() -> Vec<Row> {
    [media_types(), compressed(), sizes()].concat()
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
        ("mjs", "/module.mjs", "text/javascript; charset=utf-8", b"export {};\n"),
        ("cjs", "/module.cjs", "text/javascript; charset=utf-8", b"module.exports = {};\n"),
        ("stream_segment", "/source.ts", "video/mp2t", b"export type A = 1;\n"),
        ("typescript_module", "/source.mts", "text/plain; charset=utf-8", b"export type A = 1;\n"),
        ("source_map", "/app.js.map", "application/json", b"{}\n"),
        ("webmanifest", "/site.webmanifest", "application/manifest+json", b"{}\n"),
        (
            "xml_says_its_own_charset",
            "/feed.xml",
            "text/xml",
            b"<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><a/>\n",
        ),
        (
            "xhtml",
            "/page.xhtml",
            "application/xhtml+xml",
            b"<html xmlns=\"http://www.w3.org/1999/xhtml\"/>\n",
        ),
        ("m3u8", "/live.m3u8", "application/vnd.apple.mpegurl", b"#EXTM3U\n"),
        ("vtt", "/titles.vtt", "text/vtt; charset=utf-8", b"WEBVTT\n"),
        ("no_extension", "/README", "application/octet-stream", b"no extension\n"),
        ("unknown_extension", "/strange.what-is-this", "application/octet-stream", b"unknown extension\n"),
    ]
    .into_iter()
    .map(|(name, target, media_type, content)| {
        row(name, get(target, &[]), file(media_type, content).lacks("Content-Encoding"))
    })
    .collect()
}

/// A file in a content coding says so wherever its media type is said (RFC 9110 §8.4). Ranges are of the coded bytes.
fn compressed() -> Vec<Row> {
    const SVG: &str = "image/svg+xml";
    let whole = file(SVG, kilobyte()).has("Content-Encoding", "gzip");
    let since = format!("If-Modified-Since: {MODIFIED}");
    // The fields of each part.
    let coded = "image/svg+xml\r\nContent-Encoding: gzip";
    let two = [("0-3/1000", b"000-".to_vec()), ("500-503/1000", b"050-".to_vec())];
    vec![
        row("svgz", get("/picture.svgz", &[]), whole.clone()),
        row("svgz_for_head", request("HEAD", "/picture.svgz", &[]), whole.clone().head_only()),
        row(
            "svgz_on_a_connection_that_closes",
            get("/picture.svgz", &["Connection: close"]),
            whole.closing(),
        ),
        row(
            "svgz_range",
            get("/picture.svgz", &["Range: bytes=500-503"]),
            part(SVG, "500-503/1000", "050-").has("Content-Encoding", "gzip"),
        ),
        row(
            "svgz_ranges",
            get("/picture.svgz", &["Range: bytes=0-3,500-503"]),
            parts(coded, two).lacks("Content-Encoding"),
        ),
        row("svgz_not_modified", get("/picture.svgz", &[&since]), not_modified()),
    ]
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

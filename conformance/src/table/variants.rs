//! Files in the codings that a client accepts, from files beside them; `site.rs` has these. What is in them is text that
//! tells which one was sent: the server doesn't look into them.

use crate::row::Variant::{Sidecars, Uncoded};
use crate::row::{Answer, Row, digits, file, get, not_modified, options, page, part, redirect, request, row};
use crate::site::{DIGITS, INDEX, MISSING_PAGE, MODIFIED};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const BROWSER: &str = "Accept-Encoding: gzip, deflate, br, zstd";

pub(super) fn rows() -> Vec<Row> {
    let rows =
        [choices(), methods_and_conditions(), paths(), beside_rules(), files_without(), not_variants()];
    let rows = rows.concat().into_iter().map(|row| row.on(Sidecars));
    rows.chain(off().into_iter().map(|row| row.on(Uncoded))).collect()
}

/// The file as it is, where there could be another.
fn whole(media_type: &'static str, content: &str) -> Answer {
    file(media_type, content).has("Vary", "Accept-Encoding").lacks("Content-Encoding")
}

fn coded(media_type: &'static str, coding: &'static str, content: &str) -> Answer {
    file(media_type, content).has("Vary", "Accept-Encoding").has("Content-Encoding", coding)
}

fn choices() -> Vec<Row> {
    [
        ("nothing_said", "X: y", ""),
        ("nothing_in_it", "Accept-Encoding:", ""),
        ("a_browser", BROWSER, "br"),
        ("a_browser_without_encryption", "Accept-Encoding: gzip, deflate", "gzip"),
        ("zstd_alone", "Accept-Encoding: zstd", "zstd"),
        ("only_others", "Accept-Encoding: compress, deflate", ""),
        ("anything", "Accept-Encoding: *", "br"),
        ("nothing_but_identity", "Accept-Encoding: identity", ""),
        ("anything_but_identity", "Accept-Encoding: identity;q=0", ""),
        ("weights", "Accept-Encoding: br;q=0.1, gzip;q=0.5, zstd;q=0.4", "gzip"),
        ("refused", "Accept-Encoding: br;q=0, gzip", "gzip"),
        ("the_rest", "Accept-Encoding: br;q=0, *;q=0.5", "zstd"),
        ("identity_is_better", "Accept-Encoding: identity, br;q=0.9", ""),
        ("two_fields", "Accept-Encoding: x\r\nAccept-Encoding: gzip", "gzip"),
        ("broken", "Accept-Encoding: br;q=2, gzip;q=x", ""),
    ]
    .into_iter()
    .map(|(name, field, coding)| {
        let answer = match coding {
            "" => whole(HTML, INDEX),
            "br" => coded(HTML, "br", "page in brotli"),
            "zstd" => coded(HTML, "zstd", "page in zstd"),
            _ => coded(HTML, "gzip", "page in gzip"),
        };
        row(name, get("/page.html", &[field]), answer)
    })
    .collect()
}

fn methods_and_conditions() -> Vec<Row> {
    let brotli = || coded(HTML, "br", "page in brotli");
    let since = format!("If-Modified-Since: {MODIFIED}");
    vec![
        row("head", request("HEAD", "/page.html", &[BROWSER]), brotli().head_only()),
        row("close", get("/page.html", &[BROWSER, "Connection: close"]), brotli().closing()),
        row(
            "pipelined_with_others",
            get("/page.html", &[BROWSER])
                .with(get("/page.html", &[]))
                .with(get("/style.css", &[BROWSER]))
                .with(get("/page.html", &["Accept-Encoding: zstd"])),
            [
                brotli(),
                whole(HTML, INDEX),
                coded(CSS, "gzip", "style in gzip"),
                coded(HTML, "zstd", "page in zstd"),
            ],
        ),
        row(
            "not_modified",
            get("/page.html", &[BROWSER, &since]),
            not_modified().has("Vary", "Accept-Encoding"),
        ),
        row(
            "whole_not_modified",
            get("/page.html", &[&since]),
            not_modified().has("Vary", "Accept-Encoding"),
        ),
        row("any_tag", get("/page.html", &[BROWSER, "If-None-Match: *"]), not_modified()),
        row("another_tag", get("/page.html", &[BROWSER, "If-None-Match: \"x\""]), brotli()),
        row(
            "a_range_is_of_the_file",
            get("/digits.txt", &[BROWSER, "Range: bytes=2-4"]),
            part("text/plain; charset=utf-8", "2-4/10", "234").has("Vary", "Accept-Encoding"),
        ),
        row("a_range_that_is_ignored", get("/page.html", &[BROWSER, "Range: lines=1"]), whole(HTML, INDEX)),
        row("options_have_none", request("OPTIONS", "/page.html", &[BROWSER]), options().lacks("Vary")),
    ]
}

fn paths() -> Vec<Row> {
    vec![
        row("index", get("/dir/", &[BROWSER]), coded(HTML, "gzip", "index in gzip")),
        row("index_by_name", get("/dir/index.html", &[BROWSER]), coded(HTML, "gzip", "index in gzip")),
        row("encoded", get("/p%61ge.html", &[BROWSER]), coded(HTML, "br", "page in brotli")),
        row("in_a_linked_folder", get("/linked/", &[BROWSER]), coded(HTML, "gzip", "index in gzip")),
        row("a_link_that_stays_inside", get("/linked.css", &[BROWSER]), coded(CSS, "gzip", "style in gzip")),
        row("svg", get("/picture.svg", &[BROWSER]), coded("image/svg+xml", "br", "picture in brotli")),
        row("json", get("/data.json", &[BROWSER]), coded("application/json", "zstd", "data in zstd")),
    ]
}

fn beside_rules() -> Vec<Row> {
    vec![
        row(
            "fields",
            get("/ruled.css", &[BROWSER]),
            file(CSS, "ruled in gzip")
                .has("Content-Encoding", "gzip")
                .has("Vary", "Accept-Encoding, Origin")
                .has("Cache-Control", "no-cache"),
        ),
        row(
            "rewritten",
            get("/rewritten", &[BROWSER]),
            coded(HTML, "br", "page in brotli").has("X-Asked", "rewritten"),
        ),
        row("redirected", get("/away", &[BROWSER]), redirect(302, "/page.html").lacks("Vary")),
        row("forced", get("/forced.css", &[BROWSER]), redirect(302, "/page.html").lacks("Content-Encoding")),
        row(
            "a_missing_page",
            get("/missing.html", &[BROWSER]),
            page(404, MISSING_PAGE).lacks("Content-Encoding"),
        ),
    ]
}

/// What is beside these files isn't sent.
fn files_without() -> Vec<Row> {
    [
        ("nothing", "/digits.txt", "text/plain; charset=utf-8", DIGITS),
        ("an_older_one", "/older.css", CSS, "a { }\n"),
        ("an_empty_one", "/empty.css", CSS, "a { }\n"),
        ("a_folder", "/folder.css", CSS, "a { }\n"),
        ("a_fifo", "/fifo.css", CSS, "a { }\n"),
        ("a_link_that_leads_out", "/out.css", CSS, "a { }\n"),
        ("a_link_that_leads_nowhere", "/nowhere.css", CSS, "a { }\n"),
    ]
    .into_iter()
    .map(|(name, target, media_type, content)| row(name, get(target, &[BROWSER]), whole(media_type, content)))
    .collect()
}

/// Types that are compressed by themselves, and files that are asked for by their own name.
fn not_variants() -> Vec<Row> {
    vec![
        row(
            "a_picture",
            get("/picture.png", &[BROWSER]),
            file("image/png", "picture").lacks("Vary").lacks("Content-Encoding"),
        ),
        row(
            "by_its_own_name",
            get("/page.html.gz", &[BROWSER]),
            file("application/gzip", "page in gzip").lacks("Vary").lacks("Content-Encoding"),
        ),
        row("without_its_file", get("/lonely.css", &[BROWSER]), page(404, MISSING_PAGE)),
    ]
}

fn off() -> Vec<Row> {
    let plain = || file(HTML, INDEX).lacks("Vary").lacks("Content-Encoding");
    vec![
        row("off", get("/page.html", &[BROWSER]), plain()),
        row("off_for_those_who_say_nothing", get("/page.html", &[]), plain()),
        row("off_and_digits", get("/digits.txt", &[BROWSER]), digits().lacks("Vary")),
    ]
}

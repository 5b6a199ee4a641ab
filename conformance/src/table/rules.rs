//! `_headers` and `_redirects` of the site itself; `site.rs` has the files.

use crate::row::Variant::Rules;
use crate::row::{
    Answer, Row, digits, file, get, moved, not_modified, options, page, page_of_type, part, parts,
    precondition, problem, redirect, request, row,
};
use crate::site::{DIGITS, INDEX, MISSING_PAGE, MODIFIED};

const IMMUTABLE: &str = "public, max-age=31536000, immutable";

pub(super) fn rows() -> Vec<Row> {
    let rows = [fields(), fields_of_pages(), redirects(), hosts(), rewrites(), files_first(), never_served()];
    rows.concat().into_iter().map(|row| row.on(Rules)).collect()
}

/// What the rule for everything says.
fn general(answer: Answer) -> Answer {
    answer.has("X-Frame-Options", "DENY").has("Referrer-Policy", "no-referrer").lacks("X-Early")
}

fn odd(answer: Answer) -> Answer {
    answer
        .has("Cache-Control", IMMUTABLE)
        .has("Vary", "Accept-Encoding, Origin")
        .has("Referrer-Policy", "no-referrer")
        .has("X-Content-Type-Options", "nosniff")
        .lacks("X-Frame-Options")
}

fn fields() -> Vec<Row> {
    let whole = || odd(file("application/x-odd", DIGITS));
    let html = "text/html; charset=utf-8";
    vec![
        row(
            "fields_and_no_framing",
            get("/digits.txt", &[]),
            general(digits()).has("Content-Length", "10").has("X-Content-Type-Options", "nosniff"),
        ),
        row(
            "fields_of_two_rules",
            get("/assets/plain.txt", &[]),
            file("text/plain; charset=utf-8", DIGITS)
                .has("Cache-Control", IMMUTABLE)
                .has("X-Content-Type-Options", "nosniff")
                .lacks("X-Frame-Options"),
        ),
        row("fields_instead_of_the_own", get("/assets/odd.txt", &[]), whole()),
        row("fields_whatever_the_case", get("/ASSETS/../assets/odd.txt", &[]), whole()),
        row("fields_for_head", request("HEAD", "/assets/odd.txt", &[]), whole().head_only()),
        row("fields_when_closing", get("/assets/odd.txt", &["Connection: close"]), whole().closing()),
        row(
            "fields_of_a_part",
            get("/assets/odd.txt", &["Range: bytes=0-3"]),
            odd(part("application/x-odd", "0-3/10", "0123")),
        ),
        row(
            "fields_of_parts",
            get("/assets/long.txt", &["Range: bytes=0-0,900-900"]),
            parts("application/x-long", [("0-0/1000", b"0".to_vec()), ("900-900/1000", b"0".to_vec())])
                .has("Cache-Control", IMMUTABLE)
                .lacks("X-Frame-Options"),
        ),
        row(
            "fields_of_what_is_not_modified",
            get("/assets/odd.txt", &[&format!("If-Modified-Since: {MODIFIED}")]),
            odd(not_modified()),
        ),
        row(
            "no_fields_of_what_failed",
            get("/digits.txt", &["If-None-Match: \"x\"", "If-Match: \"x\""]),
            precondition(412).lacks("X-Frame-Options"),
        ),
        row("fields_of_a_slash", get("/", &[]), general(file(html, INDEX)).has("X-Page", "root")),
        row("fields_of_a_name", get("/index.html", &[]), general(file(html, INDEX)).has("X-Page", "name")),
        row(
            "fields_of_both_in_turns",
            get("/", &[]).with(get("/index.html", &[])).with(get("/", &[])),
            [
                file(html, INDEX).has("X-Page", "root"),
                file(html, INDEX).has("X-Page", "name"),
                file(html, INDEX).has("X-Page", "root"),
            ],
        ),
        row(
            "fields_of_an_example",
            get("/templates/index.html", &[]),
            general(file(html, INDEX))
                .has("X-XSS-Protection", "1; mode=block")
                .has("Cache-Control", "max-age=0, no-cache, no-store, must-revalidate"),
        ),
    ]
}

/// A page for an error is a file like any other, but not the one that may be kept for a year.
fn fields_of_pages() -> Vec<Row> {
    let missing = || general(page(404, MISSING_PAGE));
    vec![
        row("fields_of_an_error_page", get("/missing", &[]), missing()),
        row(
            "fields_of_an_error_page_twice",
            get("/missing", &[]).with(get("/missing", &[])),
            [missing(), missing()],
        ),
        row(
            "an_error_page_is_not_kept",
            get("/assets/missing.css", &[]),
            page(404, MISSING_PAGE).has("Referrer-Policy", "no-referrer").lacks("Cache-Control"),
        ),
        row("no_fields_of_a_built_in_page", get("/%", &[]), problem(400).lacks("X-Frame-Options")),
        row("no_fields_of_a_redirect", get("/dir", &[]), moved("/dir/").lacks("X-Frame-Options")),
        row("no_fields_of_options", request("OPTIONS", "/", &[]), options().lacks("X-Frame-Options")),
    ]
}

fn redirects() -> Vec<Row> {
    [
        ("example_home", "/home", 301, "/"),
        ("example_page", "/blog/my-post.php", 301, "/blog/my-post"),
        ("example_host", "/cuties", 301, "https://www.petsofnetlify.com"),
        ("example_code", "/my-redirect", 301, "/"),
        ("example_placeholders", "/news/02/12/2004/my-story", 301, "/blog/2004/02/12/my-story"),
        ("example_splat", "/news/a/b", 301, "/blog/a/b"),
        ("example_parameters", "/articles?tag=x&id=5", 301, "/posts/x/5"),
        ("example_parameter", "/articles?id=5", 301, "/posts/5"),
        ("example_elsewhere", "/twitch", 301, "https://twitch.tv"),
        ("example_splat_elsewhere", "/blog/a/b?c", 301, "https://blog.my.domain/a/b?c"),
        ("found", "/temp", 302, "/digits.txt"),
        ("see_other", "/see", 303, "/digits.txt"),
        ("permanent", "/kept", 308, "/digits.txt"),
        ("slash_behind", "/home/", 301, "/"),
        ("splat_and_slash", "/news/a/", 301, "/blog/a/"),
        ("query_is_passed_on", "/temp?a=b%20c&d", 302, "/digits.txt?a=b%20c&d"),
        ("query_of_the_target", "/keep?a=b", 307, "/digits.txt?own=1"),
        ("absolute_form", "http://triptych.test/temp?q", 302, "/digits.txt?q"),
        ("directory_without_index", "/bare/", 302, "/home"),
        ("hidden_name", "/.hidden", 302, "/home"),
        ("two_slashes", "/out//evil.example", 302, "/evil.example"),
        ("many_slashes", "/out////evil.example/x", 302, "/evil.example/x"),
        ("slashes_escaped", "/out/%2f%2Fevil.example", 302, "/evil.example"),
        ("backslash", "/out/\\evil.example", 302, "/%5Cevil.example"),
        ("line_break", "/out/%0d%0aSet-Cookie:%20a=b", 302, "/%0D%0ASet-Cookie:%20a=b"),
    ]
    .into_iter()
    .map(|(name, target, status, location)| row(name, get(target, &[]), redirect(status, location)))
    .chain([
        row("for_head", request("HEAD", "/temp", &[]), redirect(302, "/digits.txt").head_only()),
        row("twice", get("/temp", &[]).with(get("/home", &[])), [redirect(302, "/digits.txt"), moved("/")]),
        row("not_for_post", request("POST", "/home", &[]), problem(405)),
        row("other_parameters", get("/articles?id=5&x=y", &[]), general(page(404, MISSING_PAGE))),
        row("to_itself_is_none", get("/trailing", &[]), page(404, MISSING_PAGE)),
        row("of_a_broken_line_is_none", get("/a-broken-line", &[]), page(404, MISSING_PAGE)),
    ])
    .collect()
}

fn hosts() -> Vec<Row> {
    let raw = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    vec![
        row("of_a_host", raw("/x", "OLD.example:8080"), moved("https://new.example/x")),
        row("of_a_host_in_the_target", get("http://old.example/x", &[]), moved("https://new.example/x")),
        row("of_another_host", raw("/x", "new.example"), page(404, MISSING_PAGE)),
        row(
            "of_a_host_that_does_not_count",
            raw("http://new.example/x", "old.example"),
            page(404, MISSING_PAGE),
        ),
    ]
}

fn rewrites() -> Vec<Row> {
    let html = "text/html; charset=utf-8";
    let app = || general(file(html, INDEX)).has("X-Page", "app");
    vec![
        row("example_pass_through", get("/pass-through", &[]), general(file(html, INDEX)).lacks("X-Page")),
        row("example_closed", get("/ecommerce", &[]), general(page(404, MISSING_PAGE))),
        row("application", get("/app/deep/link?x", &[]), app()),
        row(
            "application_and_its_index_in_turns",
            get("/app/x", &[]).with(get("/", &[])).with(get("/app/y/", &[])),
            [app(), file(html, INDEX).has("X-Page", "root"), app()],
        ),
        row("application_for_head", request("HEAD", "/app/x", &[]), app().head_only()),
        row(
            "application_not_modified",
            get("/app/x", &[&format!("If-Modified-Since: {MODIFIED}")]),
            not_modified().has("X-Page", "app"),
        ),
        row("to_a_directory", get("/docs", &[]), general(file(html, INDEX))),
        row("gone", get("/gone", &[]), general(page_of_type(410, "text/plain; charset=utf-8", "gone\n"))),
        row(
            "gone_has_no_ranges",
            get("/gone", &["Range: bytes=0-1"]),
            page_of_type(410, "text/plain; charset=utf-8", "gone\n"),
        ),
        row("gone_without_a_page", get("/gone-bare", &[]), problem(410)),
        row("gone_without_a_page_for_head", request("HEAD", "/gone-bare", &[]), problem(410).head_only()),
        row("to_what_is_missing", get("/lost", &[]), general(page(404, MISSING_PAGE))),
        row("to_itself", get("/loop", &[]), page(404, MISSING_PAGE)),
        row("to_each_other", get("/ping", &[]), page(404, MISSING_PAGE)),
    ]
}

fn files_first() -> Vec<Row> {
    vec![
        row("file_before_a_rule", get("/shadowed.txt", &[]), file("text/plain; charset=utf-8", DIGITS)),
        row("forced_before_a_file", get("/forced.txt", &[]), general(digits())),
        row("forced_for_head", request("HEAD", "/forced.txt", &[]), digits().head_only()),
        row("forced_away", get("/forced-away.txt", &[]), redirect(302, "/home")),
        row("example_forced", get("/best-pets/dogs", &[]), file("text/html; charset=utf-8", INDEX)),
        row("forced_by_parameters", get("/forced-for?a=b", &[]), redirect(302, "/home")),
        row("not_forced_by_others", get("/forced-for?a=c", &[]), page(404, MISSING_PAGE)),
    ]
}

fn never_served() -> Vec<Row> {
    [
        ("no_file_of_fields", "/_headers"),
        ("no_file_of_redirects", "/_redirects"),
        ("no_file_in_capitals", "/_HEADERS"),
        ("no_file_behind_escapes", "/x/..//%5fheaders"),
        ("no_file_with_a_slash", "/_redirects/"),
        ("no_file_by_a_rule", "/leak"),
        ("no_hidden_file_by_a_rule", "/leak-hidden"),
    ]
    .into_iter()
    .map(|(name, target)| row(name, get(target, &[]), page(404, MISSING_PAGE)))
    .collect()
}

//! Directories: the redirect to the trailing slash, the index page, and the listing.

use crate::row::Variant::{Custom, Listing};
use crate::row::{Row, file, get, listing, moved, page, problem, request, row};
use crate::site::{INDEX, MISSING_PAGE};

pub(super) fn rows() -> Vec<Row> {
    [redirects(), no_open_redirects(), indexes(), listings(), custom_pages()].concat()
}

fn redirects() -> Vec<Row> {
    [
        ("without_a_slash", "/dir", "/dir/"),
        ("query_is_kept", "/dir?a=b&c", "/dir/?a=b&c"),
        ("empty_query_is_kept", "/dir?", "/dir/?"),
        ("query_is_kept_as_it_is", "/dir?%2f%zz", "/dir/?%2f%zz"),
        ("nested", "/dir/nested", "/dir/nested/"),
        ("without_an_index", "/bare", "/bare/"),
        ("dots_are_resolved", "/dir/../dir/./nested", "/dir/nested/"),
        ("space", "/with%20space", "/with%20space/"),
        ("percent", "/percent%25", "/percent%25/"),
        ("question_mark", "/question%3F?q", "/question%3F/?q"),
        ("line_break", "/line%0D%0Abreak", "/line%0D%0Abreak/"),
        ("backslash", "/back\\slash", "/back%5Cslash/"),
        ("utf_8", "/%c3%bcml%c3%a4ut", "/%C3%BCml%C3%A4ut/"),
        ("colon", "/colon:name", "/colon%3Aname/"),
    ]
    .into_iter()
    .map(|(name, target, location)| row(name, get(target, &[]), moved(location)))
    .chain([row("for_head", request("HEAD", "/dir", &[]), moved("/dir/").head_only())])
    .collect()
}

/// A reference that begins with two slashes names another host (RFC 3986 §4.2). Browsers treat a backslash the same
/// way.
fn no_open_redirects() -> Vec<Row> {
    [
        ("two_slashes", "//evil.example"),
        ("three_slashes", "///evil.example"),
        ("slash_escaped", "/%2fevil.example"),
        ("slash_escaped_in_capitals", "/%2Fevil.example"),
        ("dot_between", "/./evil.example"),
        ("dots_between", "//x/../evil.example"),
        ("absolute_form_with_two_slashes", "http://triptych.test//evil.example"),
        ("absolute_form_of_another_host", "http://other.test/evil.example"),
    ]
    .into_iter()
    .map(|(name, target)| row(name, get(target, &[]), moved("/evil.example/")))
    .chain([
        row("dots_to_the_root", get("//evil.example/..", &[]), file("text/html; charset=utf-8", INDEX)),
        row("backslashes", get("/\\evil.example", &[]), problem(404)),
    ])
    .collect()
}

fn indexes() -> Vec<Row> {
    let index = || file("text/html; charset=utf-8", INDEX);
    vec![
        row("of_the_root", get("/", &[]), index()),
        row("of_the_root_with_a_query", get("/?q", &[]), index()),
        row("of_a_directory", get("/dir/", &[]), index()),
        row("of_a_nested_directory", get("/dir/nested/", &[]), index()),
        row("by_its_name", get("/dir/index.html", &[]), index()),
        row("for_head_of_the_root", request("HEAD", "/", &[]), index().head_only()),
        row("none", get("/bare/", &[]), problem(404)),
        row("none_for_head", request("HEAD", "/bare/", &[]), problem(404).head_only()),
        row("that_is_a_directory", get("/odd/", &[]), problem(404)),
        row("that_is_a_directory_by_its_name", get("/odd/index.html", &[]), moved("/odd/index.html/")),
        row("of_what_is_missing", get("/missing/", &[]), problem(404)),
    ]
}

fn listings() -> Vec<Row> {
    vec![
        row("listing", get("/bare/", &[]), listing()).on(Listing),
        row("listing_for_head", request("HEAD", "/bare/", &[]), listing().head_only()).on(Listing),
        row("listing_needs_a_slash", get("/bare", &[]), moved("/bare/")).on(Listing),
        row("index_before_a_listing", get("/dir/", &[]), file("text/html; charset=utf-8", INDEX)).on(Listing),
        row("no_listing_of_what_is_missing", get("/missing/", &[]), problem(404)).on(Listing),
        row("no_listing_of_a_file", get("/digits.txt/", &[]), problem(404)).on(Listing),
        row("no_listing_of_a_hidden_directory", get("/.git/", &[]), problem(404)).on(Listing),
        row("no_listing_outside", get("/link-outside-dir/", &[]), problem(404)).on(Listing),
    ]
}

fn custom_pages() -> Vec<Row> {
    vec![
        row("page_for_what_is_missing", get("/missing", &[]), page(404, MISSING_PAGE)).on(Custom),
        row("page_for_a_directory_without_index", get("/bare/", &[]), page(404, MISSING_PAGE)).on(Custom),
        row("page_for_a_hidden_name", get("/.hidden", &[]), page(404, MISSING_PAGE)).on(Custom),
        row("page_for_head", request("HEAD", "/missing", &[]), page(404, MISSING_PAGE).head_only())
            .on(Custom),
        row("page_has_no_ranges", get("/missing", &["Range: bytes=0-3"]), page(404, MISSING_PAGE)).on(Custom),
        row("page_by_its_name", get("/404.html", &[]), file("text/html; charset=utf-8", MISSING_PAGE))
            .on(Custom),
        row(
            "page_twice",
            get("/missing", &[]).with(get("/missing", &["If-None-Match: *"])),
            [page(404, MISSING_PAGE), page(404, MISSING_PAGE)],
        )
        .on(Custom),
        row("no_page_for_a_bad_target", get("/%", &[]), problem(400)).on(Custom),
        row("no_page_for_another_method", request("POST", "/missing", &[]), problem(405)).on(Custom),
    ]
}

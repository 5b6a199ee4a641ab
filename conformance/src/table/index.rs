//! Directories: the redirect to the trailing slash, the index page, and the listing.

use crate::row::Variant::{Custom, Listing};
use crate::row::{Row, file, get, json_listing, listing, moved, page, problem, request, row};
use crate::site::{INDEX, MISSING_PAGE, NEARER_PAGE};

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

/// `/bare/`: a file, a file whose name is markup, and a hidden one.
const BARE: &str = concat!(
    "[\n",
    r#"{"name":"<tag>&amp;.txt","type":"file","size":10,"mtime":"2024-02-29T12:34:56Z","href":"./%3Ctag%3E%26amp%3B.txt"}"#,
    ",\n",
    r#"{"name":"file.txt","type":"file","size":10,"mtime":"2024-02-29T12:34:56Z","href":"./file.txt"}"#,
    "\n]\n",
);
/// The same the other way round.
const BARE_DOWN: &str = concat!(
    "[\n",
    r#"{"name":"file.txt","type":"file","size":10,"mtime":"2024-02-29T12:34:56Z","href":"./file.txt"}"#,
    ",\n",
    r#"{"name":"<tag>&amp;.txt","type":"file","size":10,"mtime":"2024-02-29T12:34:56Z","href":"./%3Ctag%3E%26amp%3B.txt"}"#,
    "\n]\n",
);

fn listings() -> Vec<Row> {
    let page = || {
        listing(&[
            "<title>Index of /bare/</title>",
            "<h1>bare</h1>",
            "<caption>2 files, 20 B</caption>",
            "<th scope=\"col\" aria-sort=\"ascending\"><a href=\"?sort=name&amp;order=desc\">Name</a></th>",
            "<a href=\"./%3Ctag%3E%26amp%3B.txt\">&lt;tag&gt;&amp;amp;.txt</a><td title=\"10 bytes\">10 B<td>\
             <time datetime=\"2024-02-29T12:34:56Z\">2024-02-29 12:34</time>\n\
             <tr><th scope=\"row\"><a href=\"./file.txt\">file.txt</a>",
        ])
    };
    let down = || {
        listing(&[
            "<th scope=\"col\" aria-sort=\"descending\"><a href=\"./\">Name</a></th>",
            "<tr><th scope=\"row\"><a href=\"./file.txt\">file.txt</a><td title=\"10 bytes\">10 B<td>\
             <time datetime=\"2024-02-29T12:34:56Z\">2024-02-29 12:34</time>\n\
             <tr><th scope=\"row\"><a href=\"./%3Ctag%3E%26amp%3B.txt\">&lt;tag&gt;&amp;amp;.txt</a>",
        ])
    };
    let (up_as_json, down_as_json) = (|| json_listing(BARE), || json_listing(BARE_DOWN));
    [
        ("listing", get("/bare/", &[]), page()),
        ("listing_for_head", request("HEAD", "/bare/", &[]), page().head_only()),
        (
            "listing_that_is_not_asked_for_in_known_words",
            get("/bare/?sort=x&order=&y&format=xml", &[]),
            page(),
        ),
        (
            "listing_for_a_browser",
            get("/bare/", &["Accept: text/html,application/xml;q=0.9,*/*;q=0.8"]),
            page(),
        ),
        ("listing_has_no_ranges", get("/bare/", &["Range: bytes=0-3"]), page()),
        ("listing_has_no_preconditions", get("/bare/", &["If-None-Match: *"]), page()),
        ("listing_from_z_to_a", get("/bare/?order=desc", &[]), down()),
        (
            "listing_by_size",
            get("/bare/?sort=size", &[]),
            listing(&["aria-sort=\"ascending\"><a href=\"?sort=size"]),
        ),
        ("listing_by_time", get("/bare/?sort=time&order=desc", &[]), listing(&["?sort=time&amp;order=asc"])),
        (
            "listing_of_folders",
            get("/odd/", &[]),
            listing(&["<a href=\"./index.html/\">index.html/</a><td><td>"]),
        ),
        ("json", get("/bare/?format=json", &[]), up_as_json()),
        ("json_for_head", request("HEAD", "/bare/?format=json", &[]), up_as_json().head_only()),
        ("json_from_z_to_a", get("/bare/?format=json&sort=name&order=desc", &[]), down_as_json()),
        ("json_by_accept", get("/bare/", &["Accept: application/json"]), up_as_json()),
        (
            "json_by_weight",
            get("/bare/", &["Accept: text/html;q=0.5", "aCCept: application/*"]),
            up_as_json(),
        ),
        ("json_not_wanted", get("/bare/", &["Accept: application/json;q=0, */*"]), page()),
        ("json_or_anything", get("/bare/", &["Accept: application/json, */*"]), page()),
        ("format_before_accept", get("/bare/?format=html", &["Accept: application/json"]), page()),
        ("listing_needs_a_slash", get("/bare", &[]), moved("/bare/")),
        ("listing_keeps_its_query", get("/bare?sort=size", &[]), moved("/bare/?sort=size")),
        ("index_before_a_listing", get("/dir/?format=json", &[]), file("text/html; charset=utf-8", INDEX)),
        ("no_listing_of_what_is_missing", get("/missing/", &[]), problem(404)),
        ("no_listing_of_a_file", get("/digits.txt/", &[]), problem(404)),
        ("no_listing_of_a_hidden_directory", get("/.git/", &[]), problem(404)),
        ("no_listing_outside", get("/link-outside-dir/", &[]), problem(404)),
    ]
    .into_iter()
    .map(|(name, request, answer)| row(name, request, answer).on(Listing))
    .collect()
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
        row("page_of_a_folder", get("/deep/missing", &[]), page(404, NEARER_PAGE)).on(Custom),
        row(
            "page_of_a_folder_for_head",
            request("HEAD", "/deep/missing", &[]),
            page(404, NEARER_PAGE).head_only(),
        )
        .on(Custom),
        row("page_of_a_parent", get("/deep/er/missing", &[]), page(404, NEARER_PAGE)).on(Custom),
        row("page_of_a_parent_of_nothing", get("/deep/no/such/", &[]), page(404, NEARER_PAGE)).on(Custom),
        row("page_not_of_a_hidden_folder", get("/deep/.hidden/x", &[]), page(404, NEARER_PAGE)).on(Custom),
        row("page_not_of_another_folder", get("/deeper/missing", &[]), page(404, MISSING_PAGE)).on(Custom),
        row("page_not_from_outside", get("/bare/missing", &[]), page(404, MISSING_PAGE)).on(Custom),
        row("page_seven_folders_up", get("/1/2/3/4/5/6/7/8/x", &[]), page(404, NEARER_PAGE)).on(Custom),
        row("page_too_far_up", get("/1/2/3/4/5/6/7/8/9/x", &[]), page(404, MISSING_PAGE)).on(Custom),
        row("no_page_for_a_bad_target", get("/%", &[]), problem(400)).on(Custom),
        row("no_page_for_another_method", request("POST", "/missing", &[]), problem(405)).on(Custom),
    ]
}

//! Flags for what a site could say in rules, or couldn't; `site.rs` has the files.

use crate::row::Variant::{Application, Clean, Custom, Fields, Shared};
use crate::row::{
    Answer, Row, digits, file, get, listing, moved, not_modified, options, page, part, precondition, problem,
    redirect, request, row,
};
use crate::site::{DIGITS, INDEX, MODIFIED};

const HTML: &str = "text/html; charset=utf-8";
/// What a browser takes that goes to an address.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
/// What a script of a page takes.
const SCRIPT: &str = "Accept: */*";
const CACHE_CONTROL: &str = "public, max-age=60";

pub(super) fn rows() -> Vec<Row> {
    let fields = [fields(), types(), index()].concat().into_iter().map(|row| row.on(Fields));
    let clean = [clean(), clean_forms(), clean_beside_rules(), clean_and_hidden()].concat();
    fields
        .chain(shared().into_iter().map(|row| row.on(Shared)))
        .chain(clean.into_iter().map(|row| row.on(Clean)))
        .chain(application().into_iter().map(|row| row.on(Application)))
        .chain(off().into_iter().map(|row| row.on(Custom)))
        .collect()
}

/// What the flags say, where the site says nothing.
fn flagged(answer: Answer) -> Answer {
    answer
        .has("Cache-Control", CACHE_CONTROL)
        .has("X-Flag", "one, two")
        .has("Access-Control-Allow-Origin", "https://app.example")
        .has("Access-Control-Expose-Headers", "*")
}

/// What no answer has that isn't a file.
fn unflagged(answer: Answer) -> Answer {
    answer.lacks("Cache-Control").lacks("X-Flag").has("Access-Control-Allow-Origin", "https://app.example")
}

fn fields() -> Vec<Row> {
    let since = format!("If-Modified-Since: {MODIFIED}");
    vec![
        row("of_a_file", get("/digits.txt", &[]), flagged(digits()).has("Content-Length", "10")),
        row("for_head", request("HEAD", "/digits.txt", &[]), flagged(digits()).head_only()),
        row("when_closing", get("/digits.txt", &["Connection: close"]), flagged(digits()).closing()),
        row(
            "of_a_part",
            get("/digits.txt", &["Range: bytes=0-3"]),
            flagged(part("text/plain; charset=utf-8", "0-3/10", "0123")),
        ),
        row("of_what_is_not_modified", get("/digits.txt", &[&since]), flagged(not_modified())),
        row(
            "the_own_rule_counts",
            get("/own.txt", &[]),
            file("text/plain; charset=utf-8", DIGITS)
                .has("Cache-Control", "no-store")
                .has("X-Flag", "one, two")
                .lacks("Access-Control-Allow-Origin"),
        ),
        row("not_of_what_failed", get("/digits.txt", &["If-Match: \"x\""]), unflagged(precondition(412))),
        row("not_of_a_redirect", get("/dir", &[]), unflagged(moved("/dir/"))),
        row("not_of_a_rule", get("/old", &[]), unflagged(moved("/about"))),
        row("not_of_a_built_in_page", get("/missing", &[]), unflagged(problem(404))),
        row("not_of_bad_requests", get("/%", &[]), unflagged(problem(400))),
        row(
            "an_own_error_page_is_not_kept",
            get("/deep/missing", &[]),
            page(404, "deep page").has("X-Flag", "one, two").lacks("Cache-Control"),
        ),
    ]
}

fn types() -> Vec<Row> {
    vec![
        row(
            "type_as_it_is_written",
            get("/text.bar", &[]),
            flagged(file("text/x-bar; charset=iso-8859-1", DIGITS)).has("Vary", "Accept-Encoding"),
        ),
        row(
            "type_in_capitals",
            get("/TEXT.BAR", &[]),
            flagged(file("text/x-bar; charset=iso-8859-1", DIGITS)),
        ),
        row(
            "type_that_is_not_compressible",
            get("/style.css", &[]),
            flagged(file("application/x-css", "a { }\n")).lacks("Vary"),
        ),
        row(
            "type_of_a_part",
            get("/style.css", &["Range: bytes=0-0"]),
            flagged(part("application/x-css", "0-0/6", "a")),
        ),
    ]
}

fn index() -> Vec<Row> {
    let root = || flagged(file(HTML, "home page"));
    vec![
        row("index_by_another_name", get("/", &[]), root().has("X-Page", "root")),
        row("index_by_its_name", get("/home.htm", &[]), root().has("X-Page", "name")),
        row(
            "index_by_both_in_turns",
            get("/", &[]).with(get("/home.htm", &[])).with(get("/", &[])),
            [root().has("X-Page", "root"), root().has("X-Page", "name"), root().has("X-Page", "root")],
        ),
        row("index_of_a_folder", get("/dir/", &[]), flagged(file(HTML, "home of dir"))),
        row("no_index_by_the_usual_name", get("/both/", &[]), problem(404)),
        row("the_usual_name_is_a_file", get("/index.html", &[]), flagged(file(HTML, INDEX)).lacks("X-Page")),
    ]
}

/// Everything may be read by pages of any origin, what isn't a file as well: a script sees why it has failed.
fn shared() -> Vec<Row> {
    let any = |answer: Answer| {
        answer.has("Access-Control-Allow-Origin", "*").has("Access-Control-Expose-Headers", "*")
    };
    let preflight = || {
        any(options())
            .has("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
            .has("Access-Control-Allow-Headers", "*, Authorization")
            .has("Access-Control-Max-Age", "86400")
    };
    let origin = "Origin: https://app.example";
    vec![
        row("a_file", get("/digits.txt", &[origin]), any(digits()).has("Vary", "Accept-Encoding")),
        row(
            "a_file_without_an_origin",
            get("/digits.txt", &[]),
            any(digits()).has("Vary", "Accept-Encoding"),
        ),
        row(
            "no_part",
            get("/digits.txt", &["Range: bytes=99-"]),
            any(problem(416)).has("Content-Range", "bytes */10"),
        ),
        row("what_is_missing", get("/missing.json", &[origin]), any(problem(404))),
        row("a_bad_method", request("POST", "/digits.txt", &[origin]), any(problem(405))),
        row("a_redirect", get("/dir", &[origin]), any(moved("/dir/"))),
        row("a_listing", get("/bare/", &[origin]), any(listing(&["file.txt"]))),
        row("options", request("OPTIONS", "*", &[]), preflight()),
        row(
            "a_preflight",
            request(
                "OPTIONS",
                "/digits.txt",
                &[origin, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: range"],
            ),
            preflight().lacks("Vary"),
        ),
    ]
}

fn clean() -> Vec<Row> {
    let about = || file(HTML, "about page");
    [
        ("name_leads_to_the_address", "/about.html", "/about"),
        ("query_is_kept", "/about.html?a=b%20c&d", "/about?a=b%20c&d"),
        ("slash_leads_to_the_address", "/about/", "/about"),
        ("slash_and_query", "/about/?a", "/about?a"),
        ("index_leads_to_the_root", "/index.html", "/"),
        ("index_and_query", "/index.html?a", "/?a"),
        ("index_leads_to_its_directory", "/both/index.html", "/both/"),
        ("index_without_extension", "/both/index", "/both/"),
        ("index_of_the_root_without_extension", "/index?a", "/?a"),
        ("name_besides_a_folder", "/both.html", "/both"),
        ("no_other_host", "//about.html", "/about"),
        ("no_other_host_behind_escapes", "/%2f/about.html", "/about"),
        ("name_is_encoded_again", "/a%20%22b%22.html", "/a%20%22b%22"),
        ("directory_as_ever", "/bare", "/bare/"),
    ]
    .into_iter()
    .map(|(name, target, location)| row(name, get(target, &[]), moved(location)))
    .chain([
        row("page", get("/about", &[]), about().has("X-Page", "clean").has("Vary", "Accept-Encoding")),
        row("page_with_a_query", get("/about?a=b", &[]), about().has("X-Page", "clean")),
        row("page_besides_a_folder", get("/both", &[]), file(HTML, "both page")),
        row("folder_besides_a_page", get("/both/", &[]), file(HTML, INDEX)),
        row("in_the_folder_besides", get("/about/team", &[]), file(HTML, "team page")),
        row("page_with_a_dot", get("/v1.2", &[]), file(HTML, "version page")),
        row("page_with_blanks", get("/a%20%22b%22", &[]), file(HTML, "odd page")),
        row("file_wins", get("/plain", &[]), file("application/octet-stream", DIGITS)),
        row("name_where_a_file_wins", get("/plain.html", &[]), file(HTML, "plain page")),
        row("other_files_as_ever", get("/style.css", &[]), file("text/css; charset=utf-8", "a { }\n")),
        row("root", get("/", &[]), file(HTML, INDEX)),
        row("nothing", get("/nothing", &[]), problem(404)),
        row("nothing_by_name", get("/nothing.html", &[]), problem(404)),
        row("nothing_with_a_slash", get("/nothing/", &[]), problem(404)),
        row("no_page_of_two_extensions", get("/about.html/", &[]), problem(404)),
        row("folder_without_anything", get("/bare/", &[]), problem(404)),
        row(
            "address_and_name_in_turns",
            get("/about", &[]).with(get("/about.html", &[])).with(get("/about", &[])).with(get("/", &[])),
            [about(), moved("/about"), about(), file(HTML, INDEX)],
        ),
    ])
    .collect()
}

/// A page at its clean address is a file like any other.
fn clean_forms() -> Vec<Row> {
    let gzip = "Accept-Encoding: gzip";
    let coded = || file(HTML, "coded in gzip").has("Content-Encoding", "gzip").has("Vary", "Accept-Encoding");
    vec![
        row("page_for_head", request("HEAD", "/about", &[]), file(HTML, "about page").head_only()),
        row("name_for_head", request("HEAD", "/about.html", &[]), moved("/about").head_only()),
        row("page_when_closing", get("/about", &["Connection: close"]), file(HTML, "about page").closing()),
        row("page_in_a_coding", get("/coded", &[gzip]), coded()),
        row("page_as_it_is", get("/coded", &[]), file(HTML, "coded page").lacks("Content-Encoding")),
        row(
            "page_in_codings_in_turns",
            get("/coded", &[gzip]).with(get("/coded", &[])).with(get("/coded", &[gzip])),
            [coded(), file(HTML, "coded page"), coded()],
        ),
        row("part_of_a_page", get("/about", &["Range: bytes=0-4"]), part(HTML, "0-4/10", "about")),
        row(
            "page_not_modified",
            get("/about", &[&format!("If-Modified-Since: {MODIFIED}")]),
            not_modified().has("X-Page", "clean"),
        ),
        row("name_not_for_post", request("POST", "/about.html", &[]), problem(405)),
    ]
}

fn clean_beside_rules() -> Vec<Row> {
    vec![
        row("rule_leads_to_a_page", get("/old", &[]), moved("/about")),
        row("rule_for_a_page_that_there_is", get("/team", &[]), file(HTML, "team page of the root")),
        row("rewrite_to_a_clean_address", get("/app/x", &[]), file(HTML, "about page").lacks("X-Page")),
        row(
            "rewrite_and_page_in_turns",
            get("/app/x", &[]).with(get("/about", &[])).with(get("/app/y/", &[])),
            [
                file(HTML, "about page").lacks("X-Page"),
                file(HTML, "about page").has("X-Page", "clean"),
                file(HTML, "about page").lacks("X-Page"),
            ],
        ),
        row("rewrite_by_name", get("/named/x", &[]), file(HTML, "about page").lacks("X-Page")),
        row("rewrite_to_nothing", get("/lost/x", &[]), problem(404)),
        row("forced_away_from_the_address", get("/forced", &[]), redirect(301, "/forced.html")),
        row("and_served_by_its_name", get("/forced.html", &[]), file(HTML, "forced page")),
        row("forced_away_from_a_directory", get("/round/", &[]), redirect(301, "/round/index.html")),
        row("and_served_by_the_name_of_its_index", get("/round/index.html", &[]), file(HTML, INDEX)),
        row("forced_away_from_the_name", get("/moved.html", &[]), redirect(302, "/about")),
        row("never_a_file_of_rules", get("/_headers", &[]), problem(404)),
        row("page_of_such_a_name", get("/_headers.html", &[]), file(HTML, "page about fields")),
    ]
}

fn clean_and_hidden() -> Vec<Row> {
    [
        ("no_hidden_page", "/.secret"),
        ("no_hidden_name", "/.secret.html"),
        ("no_page_in_a_hidden_folder", "/.git/config"),
        ("no_name_in_a_hidden_folder", "/.git/config.html"),
        ("no_page_that_its_extension_hides", "/.well-known"),
        ("no_page_outside", "/outside"),
    ]
    .into_iter()
    .map(|(name, target)| row(name, get(target, &[]), problem(404)))
    .collect()
}

fn application() -> Vec<Row> {
    let app = || file(HTML, INDEX).has("Vary", "Accept-Encoding, Accept").lacks("Location");
    let since = format!("If-Modified-Since: {MODIFIED}");
    vec![
        row("route", get("/users/7", &[BROWSER]), app()),
        row("route_with_a_slash", get("/users/", &[BROWSER]), app()),
        row("route_with_an_extension", get("/users/j.doe?tab=1", &[BROWSER]), app()),
        row("route_for_head", request("HEAD", "/users/7", &[BROWSER]), app().head_only()),
        row("route_not_modified", get("/users/7", &[BROWSER, &since]), not_modified()),
        row("folder_without_an_index", get("/bare/", &[BROWSER]), app()),
        row("no_route_for_a_script", get("/users/7", &[SCRIPT]), problem(404).has("Vary", "Accept")),
        row("no_route_for_whom_says_nothing", get("/users/7", &[]), problem(404).has("Vary", "Accept")),
        row(
            "no_route_for_a_style",
            get("/missing.css", &["Accept: text/css,*/*;q=0.1"]),
            problem(404).has("Vary", "Accept"),
        ),
        row(
            "no_route_where_it_is_refused",
            get("/users/7", &["Accept: text/html;q=0, */*"]),
            problem(404).has("Vary", "Accept"),
        ),
        row(
            "a_nearer_page_for_a_script",
            get("/deep/missing", &[SCRIPT]),
            page(404, "deep page").has("Vary", "Accept"),
        ),
        row("index", get("/", &[BROWSER]), file(HTML, INDEX).has("Vary", "Accept-Encoding")),
        row(
            "index_and_routes_in_turns",
            get("/x", &[BROWSER]).with(get("/", &[])).with(get("/y", &[BROWSER])),
            [app(), file(HTML, INDEX).has("Vary", "Accept-Encoding"), app()],
        ),
        row("a_file_is_itself", get("/style.css", &[BROWSER]), file("text/css; charset=utf-8", "a { }\n")),
        row("a_folder_leads_to_its_slash", get("/both", &[BROWSER]), moved("/both/")),
        row("rules_come_first", get("/old", &[BROWSER]), moved("/about")),
        row("a_rule_that_says_404", get("/closed/x", &[BROWSER]), page(404, "deep page")),
        row("a_rule_whose_file_is_missing", get("/lost/x", &[BROWSER]), problem(404)),
        row("no_hidden_route", get("/.secret", &[BROWSER]), problem(404)),
        row("no_route_in_a_hidden_folder", get("/.git/x", &[BROWSER]), problem(404)),
        row("no_file_of_rules", get("/_redirects", &[BROWSER]), problem(404)),
        row("no_route_for_bad_targets", get("/%00", &[BROWSER]), problem(400)),
        row("not_for_post", request("POST", "/users/7", &[BROWSER]), problem(405)),
        row("name_as_ever", get("/about.html", &[BROWSER]), file(HTML, "about page").has("X-Page", "name")),
    ]
}

/// Without flags all of this is as it was.
fn off() -> Vec<Row> {
    vec![
        row("off_no_fields", get("/digits.txt", &[]), digits().lacks("Access-Control-Allow-Origin")),
        row(
            "off_no_preflight",
            request("OPTIONS", "/", &[]),
            options().lacks("Access-Control-Allow-Methods"),
        ),
        row("off_index_by_name", get("/index.html", &[]), file(HTML, INDEX)),
        row("off_no_clean_address", get("/index", &[BROWSER]), page(404, crate::site::MISSING_PAGE)),
    ]
}

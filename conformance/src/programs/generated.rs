//! The output folder of a site generator, served with a single flag: files with hashes in their names and compressed
//! files beside them, pages at clean addresses, an application with addresses of its own, and the rules that say how.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;

use super::Needs::Server;
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::Client;
use crate::program::Running;
use crate::response::{Framing, Response};
use crate::row::get;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("is_served_as_it_means_to_be", Server, is_served_as_it_means_to_be),
    ("is_the_same_from_a_browser_s_cache", Server, is_the_same_from_a_browser_s_cache),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PAGE: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
const ANY: &str = "Accept: */*";
const CODINGS: &str = "Accept-Encoding: gzip, deflate, br, zstd";
const FOREVER: &str = "public, max-age=31536000, immutable";

const HEADERS: &str = "\
/*
  X-Content-Type-Options: nosniff
  Referrer-Policy: strict-origin-when-cross-origin
/assets/*
  Cache-Control: public, max-age=31536000, immutable
/posts/*
  X-Robots-Tag: all
";

const REDIRECTS: &str = "\
# The blog has moved once.
/blog/*        /posts/:splat   301
/feed          /index.xml      302
/app/legacy    /app/           301!
";

const FILES: &[(&str, &str)] = &[
    (
        "index.html",
        "<!doctype html><title>home</title><script type=module src=/assets/index-C0ffee12.js></script>",
    ),
    ("posts/index.html", "<!doctype html><title>posts</title>"),
    ("posts/first/index.html", "<!doctype html><title>first</title>"),
    ("posts/first/picture.avif", "avif"),
    ("404.html", "<!doctype html><title>nothing here</title>"),
    ("index.xml", "<rss/>"),
    ("sitemap.xml", "<urlset/>"),
    ("robots.txt", "User-agent: *\n"),
    ("favicon.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>"),
    ("site.webmanifest", "{}"),
    ("assets/index-C0ffee12.js", "import('./view-Ab34_-90.js')"),
    ("assets/index-C0ffee12.js.br", "the script in brotli"),
    ("assets/index-C0ffee12.js.gz", "the script in gzip"),
    ("assets/index-C0ffee12.js.map", "{\"version\":3}"),
    ("assets/view-Ab34_-90.js", "export {}"),
    ("assets/index-D1e2f3.css", "body{}"),
    ("assets/inter-latin-9z.woff2", "wOF2"),
    ("app/index.html", "<!doctype html><title>app</title>"),
    (".well-known/security.txt", "Contact: mailto:a@example.org\n"),
    (".git/config", "[core]"),
    ("_headers", HEADERS),
    ("_redirects", REDIRECTS),
];

fn build(ground: Ground<'_>) -> Result<PathBuf, Failed> {
    let root = ground.sites.scratch(&format!("generated-{}", ground.program))?;
    for (name, content) in FILES {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(path, content)?;
    }
    Ok(root)
}

/// What a client asks, and what it gets: a status, a media type or a location, fields, and something of the content.
type Visit = (
    &'static str,
    &'static [&'static str],
    u16,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

const VISITS: &[Visit] = &[
    ("/", &[PAGE], 200, HTML, &[("Referrer-Policy", "strict-origin-when-cross-origin")], "home"),
    ("/posts", &[PAGE], 301, "/posts/", &[], ""),
    ("/posts/", &[PAGE], 200, HTML, &[("X-Robots-Tag", "all")], "posts"),
    ("/posts/first/?utm=x", &[PAGE], 200, HTML, &[], "first"),
    ("/posts/first/picture.avif", &[ANY, CODINGS], 200, "image/avif", &[], "avif"),
    ("/blog/first/", &[PAGE], 301, "/posts/first/", &[], ""),
    ("/feed", &[ANY], 302, "/index.xml", &[], ""),
    ("/index.xml", &[ANY], 200, "text/xml", &[("Vary", "Accept-Encoding")], "<rss/>"),
    ("/robots.txt", &[ANY], 200, "text/plain; charset=utf-8", &[], "User-agent"),
    ("/site.webmanifest", &[ANY], 200, "application/manifest+json", &[], "{}"),
    (
        "/assets/index-C0ffee12.js",
        &[ANY, CODINGS],
        200,
        SCRIPT,
        &[("Content-Encoding", "br"), ("Cache-Control", FOREVER), ("Vary", "Accept-Encoding")],
        "the script in brotli",
    ),
    (
        "/assets/index-C0ffee12.js",
        &[ANY, "Accept-Encoding: gzip, deflate"],
        200,
        SCRIPT,
        &[("Content-Encoding", "gzip"), ("Cache-Control", FOREVER)],
        "the script in gzip",
    ),
    ("/assets/index-C0ffee12.js", &[ANY], 200, SCRIPT, &[("Cache-Control", FOREVER)], "import("),
    ("/assets/index-C0ffee12.js.map", &[ANY], 200, "application/json", &[], "version"),
    (
        "/assets/inter-latin-9z.woff2",
        &[ANY, CODINGS],
        200,
        "font/woff2",
        &[("Cache-Control", FOREVER)],
        "wOF2",
    ),
    ("/app/", &[PAGE], 200, HTML, &[], "app"),
    ("/app/legacy", &[PAGE], 301, "/app/", &[], ""),
    // Addresses of the application are its page; what its page lacks is lacking.
    ("/settings/profile?tab=2", &[PAGE], 200, HTML, &[], "home"),
    ("/assets/gone-12345678.js", &[ANY], 404, HTML, &[], "nothing here"),
    ("/gone.png", &["Accept: image/avif,image/webp,*/*"], 404, HTML, &[], "nothing here"),
    // What isn't for anybody.
    ("/.git/config", &[ANY], 404, HTML, &[], "nothing here"),
    ("/_headers", &[ANY], 404, HTML, &[], "nothing here"),
    ("/_redirects", &[ANY], 404, HTML, &[], "nothing here"),
];

fn visit(client: &mut Client, visit: &Visit) -> Result<(), Failed> {
    let (target, fields, status, what, expected, content) = *visit;
    client.send(&get(target, fields))?;
    let response = client.response(Framing::Content)?;
    let field = if (300..400).contains(&status) { "Location" } else { "Content-Type" };
    let is_right = response.status == status
        && response.field(field) == Some(what)
        && expected.iter().all(|(name, value)| response.field(name) == Some(*value))
        && String::from_utf8_lossy(&response.content).contains(content);
    if is_right {
        return Ok(());
    }
    Err(format!("{target} with {fields:?}: {}", response.bytes().escape_ascii()).into())
}

fn is_served_as_it_means_to_be(ground: Ground<'_>) -> Outcome {
    let root = build(ground)?;
    let mut command = ground.command(&["--listen", "127.0.0.1:0", "--spa"])?;
    let mut running = Running::start(command.arg(&root))?;
    let mut client = Client::connect(running.addresses(1)?[0])?;
    // Uncached, while they come into the cache, and from it.
    for _ in 0..4 {
        VISITS.iter().try_for_each(|of| visit(&mut client, of))?;
    }
    if running.errors().lines().count() != 1 {
        return Err(format!("it said: {}", running.errors()).into());
    }
    DONE
}

/// What a browser has, it isn't sent again.
fn is_the_same_from_a_browser_s_cache(ground: Ground<'_>) -> Outcome {
    let root = build(ground)?;
    let mut command = ground.command(&["--listen", "127.0.0.1:0", "--spa"])?;
    let mut running = Running::start(command.arg(&root))?;
    let mut client = Client::connect(running.addresses(1)?[0])?;
    let mut ask = |target: &str, fields: &[&str]| -> Result<Response, Failed> {
        client.send(&get(target, fields))?;
        client.response(Framing::Content)
    };
    for (target, fields, status, ..) in VISITS.iter().filter(|visit| visit.2 == 200) {
        // A file that was made a moment ago has another tag soon.
        let mut tag = String::new();
        while tag.is_empty() || tag.starts_with("W/") {
            let response = ask(target, fields)?;
            if response.status != *status {
                return Err(format!("{} for {target}", response.status).into());
            }
            response.require("ETag")?.clone_into(&mut tag);
        }
        let condition = format!("If-None-Match: {tag}");
        let again: Vec<&str> = fields.iter().copied().chain([&*condition]).collect();
        let response = ask(target, &again)?;
        if response.status != 304 || response.require("ETag")? != tag {
            return Err(format!("{target} with {again:?}: {}", response.bytes().escape_ascii()).into());
        }
    }
    DONE
}

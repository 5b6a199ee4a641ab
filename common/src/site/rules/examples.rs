//! What both hosts publish about the two files, as rows: their documentation, and the tests of the parsers and
//! matchers that they have published (`netlify/build`, `netlify/primitives`, `cloudflare/workers-sdk`).
//!
//! A row that one host answers in another way says so.

use super::*;
use crate::http::status::Status;
use crate::http::target::resolve;

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer<'a> {
    /// No rule is for it.
    None,
    /// A redirect, with this code and location.
    To(u16, &'a str),
    /// The same, and a file doesn't keep it from counting.
    Forced(u16, &'a str),
    /// The line isn't in force.
    Refused(Problem),
}

use Answer::{Forced, None as Nothing, Refused, To};

/// Rules, the target of a request, the host, the answer.
type Row = (&'static str, &'static str, &'static str, Answer<'static>);

fn check(rows: &[Row]) {
    for (file, asked, host, expected) in rows {
        let (rules, faults) = RedirectRules::parse(file.as_bytes());
        let mut path = Vec::new();
        let target = resolve(asked.as_bytes(), &mut path).unwrap_or_else(|_| panic!("{asked}"));
        let query = &asked.as_bytes()[target.query.clone()];
        let host = Some(host.as_bytes());
        let found = rules.find(&Asked { path: &path, directory: target.directory, query, host });
        let location = found.as_ref().map(|found| String::from_utf8_lossy(&found.location).into_owned());
        let answer = match (&found, faults.told.first()) {
            (None, Some(fault)) => Refused(fault.problem),
            (None, None) => Nothing,
            (Some(found), _) => {
                let location = location.as_deref().unwrap_or_default();
                let code = found.status.code();
                if found.is_forced { Forced(code, location) } else { To(code, location) }
            }
        };
        assert_eq!(answer, *expected, "{file}: {asked}");
    }
}

const SITE: &str = "site.example";

#[test]
fn netlify_redirects() {
    check(&[
        // The syntax.
        ("/home /", "/home", SITE, To(301, "/")),
        ("/blog/my-post.php /blog/my-post", "/blog/my-post.php", SITE, To(301, "/blog/my-post")),
        ("/news /blog", "/news", SITE, To(301, "/blog")),
        ("/cuties https://www.petsofnetlify.com", "/cuties", SITE, To(301, "https://www.petsofnetlify.com")),
        (
            "/authors/c%C3%A9line /authors/about-c%C3%A9line",
            "/authors/c%C3%A9line",
            SITE,
            To(301, "/authors/about-c%C3%A9line"),
        ),
        ("  /home \t / \t", "/home", SITE, To(301, "/")),
        ("# a comment\n\n/home /", "/home", SITE, To(301, "/")),
        ("/my-post /other # and why", "/my-post", SITE, To(301, "/other")),
        ("/my-post /other#ads # and why", "/my-post", SITE, To(301, "/other#ads")),
        ("/home /", "/Home", SITE, Nothing),
        // Codes.
        ("/home / 301", "/home", SITE, To(301, "/")),
        ("/my-redirect / 302", "/my-redirect", SITE, To(302, "/")),
        ("/ecommerce /store-closed 404", "/ecommerce", SITE, To(404, "/store-closed")),
        ("/pass-through /index.html 200", "/pass-through", SITE, To(200, "/index.html")),
        ("/en/* /en/404.html 404", "/en/missing/page", SITE, To(404, "/en/404.html")),
        (
            "/test https://www.bitballoon.com/test=hello 301",
            "/test",
            SITE,
            To(301, "https://www.bitballoon.com/test=hello"),
        ),
        // Shadowing.
        ("/* /index.html 200", "/deep/link", SITE, To(200, "/index.html")),
        ("/app/* /app/index.html 200!", "/app/deep/link", SITE, Forced(200, "/app/index.html")),
        (
            "/best-pets/dogs /best-pets/cats.html 200!",
            "/best-pets/dogs",
            SITE,
            Forced(200, "/best-pets/cats.html"),
        ),
        (
            "/* https://www.bitballoon.com/:splat 301!",
            "/a",
            SITE,
            Forced(301, "https://www.bitballoon.com/a"),
        ),
        // Splats.
        ("/news/* /blog/:splat", "/news/2004/01/10/my-story", SITE, To(301, "/blog/2004/01/10/my-story")),
        ("/jobs/*.html /careers/:splat", "/jobs/a.html", SITE, Refused(Problem::StarNotLast)),
        ("/admin/* 200", "/admin/users", SITE, To(200, "/admin/users")),
        ("/admin/* 200!", "/admin/users", SITE, Forced(200, "/admin/users")),
        ("/news/* /blog/:splat", "/news/2004/", SITE, To(301, "/blog/2004/")),
        ("/news/* /blog/:splat", "/news/", SITE, To(301, "/blog/")),
        // Placeholders.
        (
            "/news/:month/:date/:year/:slug /blog/:year/:month/:date/:slug",
            "/news/02/12/2004/my-story",
            SITE,
            To(301, "/blog/2004/02/12/my-story"),
        ),
        ("/news/:year/:slug /blog/:slug", "/news/2004", SITE, Nothing),
        // A slash at the end makes no difference, so none can be added or removed.
        (
            "/blog/title-with-a-typo /blog/typo-free-title",
            "/blog/title-with-a-typo/",
            SITE,
            To(301, "/blog/typo-free-title"),
        ),
        (
            "/blog/title-with-a-typo/ /blog/typo-free-title",
            "/blog/title-with-a-typo",
            SITE,
            To(301, "/blog/typo-free-title"),
        ),
        (
            "/blog/remove-my-slashes/ /blog/remove-my-slashes 301!",
            "/blog/remove-my-slashes/",
            SITE,
            Refused(Problem::Loop),
        ),
        // The query.
        ("/store id=:id /blog/:id 301", "/store?id=my-blog-post", SITE, To(301, "/blog/my-blog-post")),
        ("/store id=:id /blog/:id 301", "/store", SITE, Nothing),
        (
            "/articles id=:id tag=:tag /posts/:tag/:id 301",
            "/articles?tag=b&id=a",
            SITE,
            To(301, "/posts/b/a"),
        ),
        ("/articles id=:id tag=:tag /posts/:tag/:id 301", "/articles?id=a", SITE, Nothing),
        (
            "/path/* param1=:value1 /otherpath/:value1/:splat 301",
            "/path/x?param1=a",
            SITE,
            To(301, "/otherpath/a/x"),
        ),
        ("/path/* param1=:value1 /otherpath/:value1/:splat 301", "/path/x?param1=a&param2=b", SITE, Nothing),
        ("/ page=news /news", "/?page=news", SITE, To(301, "/news")),
        ("/ page=news /news", "/?page=other", SITE, Nothing),
        ("/blog post=:post_id /blog/:post_id", "/blog?post=7", SITE, To(301, "/blog/7")),
        ("/ _escaped_fragment_=/about /about", "/?_escaped_fragment_=/about", SITE, To(301, "/about")),
        ("/foo / 302", "/foo?a=b", SITE, To(302, "/?a=b")),
        ("/bar /?a=1&a=2&b=3 302", "/bar?x=y", SITE, To(302, "/?a=1&a=2&b=3")),
        ("/test id=:id /?param=:id", "/test?id=1", SITE, To(301, "/?param=1")),
        (
            "/oauth_callback state=:state code=:code /login?code=:code&state=:state 301",
            "/oauth_callback?code=c&state=s",
            SITE,
            To(301, "/login?code=c&state=s"),
        ),
        // Hosts.
        (
            "http://blog.yoursite.com/* https://www.yoursite.com/blog/:splat 301!",
            "/a/b",
            "blog.yoursite.com",
            Forced(301, "https://www.yoursite.com/blog/a/b"),
        ),
        (
            "http://blog.yoursite.com/* https://www.yoursite.com/blog/:splat 301!",
            "/a/b",
            "www.yoursite.com",
            Nothing,
        ),
        (
            "http://hello.bitballoon.com/* http://www.hello.com/:splat",
            "/",
            "hello.bitballoon.com",
            To(301, "http://www.hello.com/"),
        ),
        // What needs an account, a place in the world or another host.
        ("/ /anz 302 Country=au,nz", "/", SITE, Refused(Problem::Condition)),
        ("/israel/* /israel/he/:splat 302 Language=he", "/israel/a", SITE, Refused(Problem::Condition)),
        ("/admin/* /admin/:splat 200 Role=admin", "/admin/a", SITE, Refused(Problem::Condition)),
        ("/* /preview/:splat 302 Cookie=preview", "/a", SITE, Refused(Problem::Condition)),
        ("/api/* https://api.example.com/:splat 200", "/api/a", SITE, Refused(Problem::Proxy)),
        (
            "/api/* https://api.example.com/:splat 200! Sign=API_SECRET",
            "/api/a",
            SITE,
            Refused(Problem::Condition),
        ),
        ("/api/* /.netlify/functions/:splat 200", "/api/a", SITE, Refused(Problem::Function)),
        // What its parser refuses.
        ("/a", "/a", SITE, Refused(Problem::NoTarget)),
        ("/a 301", "/a", SITE, Refused(Problem::NoTarget)),
        ("/a id=:id", "/a", SITE, Refused(Problem::NotATarget)),
        ("/a b", "/a", SITE, Refused(Problem::NotATarget)),
        ("/a /b invalid", "/a", SITE, Refused(Problem::Status)),
        ("X-Frame-Options: SAMEORIGIN", "/a", SITE, Refused(Problem::NotAPath)),
    ]);
}

#[test]
fn netlify_order() {
    let jobs = "/jobs/customer-ninja-rockstar /careers/support-engineer\n\
        /jobs/* /careers/:splat\n\
        /jobs/outdated-job-link /careers/position-filled";
    check(&[
        (jobs, "/jobs/customer-ninja-rockstar", SITE, To(301, "/careers/support-engineer")),
        (jobs, "/jobs/cook", SITE, To(301, "/careers/cook")),
        (jobs, "/jobs/outdated-job-link", SITE, To(301, "/careers/outdated-job-link")),
        ("/a /b\n/a /c", "/a", SITE, To(301, "/b")),
        // From the most specific one on.
        (
            "/path/* a=:a b=:b /:a/:b/:splat\n/path/* a=:a /:a/:splat\n/path/* /:splat",
            "/path/x?b=2&a=1",
            SITE,
            To(301, "/1/2/x"),
        ),
        (
            "/path/* a=:a b=:b /:a/:b/:splat\n/path/* a=:a /:a/:splat\n/path/* /:splat",
            "/path/x?a=1",
            SITE,
            To(301, "/1/x"),
        ),
        (
            "/path/* a=:a b=:b /:a/:b/:splat\n/path/* a=:a /:a/:splat\n/path/* /:splat",
            "/path/x?c=3",
            SITE,
            To(301, "/x?c=3"),
        ),
    ]);
}

#[test]
fn cloudflare_redirects() {
    check(&[
        ("/home301 / 301", "/home301", SITE, To(301, "/")),
        ("/home302 / 302", "/home302", SITE, To(302, "/")),
        ("/querystrings /?query=string 301", "/querystrings", SITE, To(301, "/?query=string")),
        // 302 there.
        ("/twitch https://twitch.tv", "/twitch", SITE, To(301, "https://twitch.tv")),
        // It adds a slash there.
        ("/trailing /trailing/ 301", "/trailing", SITE, Refused(Problem::Loop)),
        ("/notrailing/ /nottrailing 301", "/notrailing/", SITE, To(301, "/nottrailing")),
        ("/page/ /page2/#fragment 301", "/page/", SITE, To(301, "/page2/#fragment")),
        ("/blog/* https://blog.my.domain/:splat", "/blog/a/b", SITE, To(301, "https://blog.my.domain/a/b")),
        (
            "/products/:code/:name /products?code=:code&name=:name",
            "/products/1/hat",
            SITE,
            To(301, "/products?code=1&name=hat"),
        ),
        (
            "/blog/:year/:month/:date/:slug /news/:year/:month/:date/:slug",
            "/blog/2004/1/2/x",
            SITE,
            To(301, "/news/2004/1/2/x"),
        ),
        ("/movies/:title /media/:title", "/movies/Top%20Gun", SITE, To(301, "/media/Top%20Gun")),
        ("/a /b 303", "/a", SITE, To(303, "/b")),
        ("/a /b 307", "/a", SITE, To(307, "/b")),
        ("/a /b 308", "/a", SITE, To(308, "/b")),
        // Rewrites, which it calls proxying; only the first counts.
        ("/blog/* /news/:splat 200", "/blog/a", SITE, To(200, "/news/a")),
        ("/a /b 200\n/b /c 200", "/a", SITE, To(200, "/b")),
        ("/a /b 200\n/b /c 200", "/b", SITE, To(200, "/c")),
        ("/about/faq/* /about/faqs 200", "/about/faq/x", SITE, To(200, "/about/faqs")),
        // Its parser's tests.
        ("/a /b?query=string 302", "/a", SITE, To(302, "/b?query=string")),
        (
            "/ext https://some.domain:1234/route?q=string#anchor",
            "/ext",
            SITE,
            To(301, "https://some.domain:1234/route?q=string#anchor"),
        ),
        ("/a /b#blah 302", "/a", SITE, To(302, "/b#blah")),
        // It keeps the second number sign, which can't stand in a fragment.
        ("/a /b##blah-1 302", "/a", SITE, To(302, "/b#%23blah-1")),
        ("/foo https://bar.com/index.html 302", "/foo", SITE, To(302, "https://bar.com/index.html")),
        ("/* /foo 200", "/x", SITE, To(200, "/foo")),
        ("/a /b 301 # why", "/a", SITE, To(301, "/b")),
        ("/p/:id/:id_2 /q/:id_2/:id", "/p/1/2", SITE, To(301, "/q/2/1")),
        // It ignores such a query, and the rest of the path.
        ("/c?this=rejected /d 301", "/c", SITE, Refused(Problem::QueryInPath)),
        // It refuses this one as a loop; a file at the target ends it.
        ("/* /index.html 200", "/x", SITE, To(200, "/index.html")),
        ("/a https://b.example/ 200", "/a", SITE, Refused(Problem::Proxy)),
        ("/a /b 404x", "/a", SITE, Refused(Problem::Status)),
        ("a.b/* /c", "/x", SITE, Refused(Problem::NotAPath)),
    ]);
}

/// A file, and for each path the fields that are sent.
type FieldRow = (&'static str, &'static [(&'static str, &'static str)]);

fn check_fields(rows: &[FieldRow]) {
    for (file, paths) in rows {
        let (rules, _) = HeaderRules::parse(file.as_bytes());
        for (path, expected) in *paths {
            let fields = rules.fields_for(path.as_bytes());
            let lines = String::from_utf8_lossy(fields.lines()).replace("\r\n", "\n");
            assert_eq!(lines.trim_end(), *expected, "{file}\n{path}");
        }
    }
}

#[test]
fn netlify_headers() {
    check_fields(&[
        (
            "# a path:\n/templates/index.html\n  # headers for that path:\n  X-Frame-Options: DENY\n\
             # another path:\n/templates/index2.html\n  X-Frame-Options: SAMEORIGIN\n",
            &[
                ("templates/index.html", "X-Frame-Options: DENY"),
                ("templates/index2.html", "X-Frame-Options: SAMEORIGIN"),
                ("templates", ""),
            ],
        ),
        // One name several times.
        (
            "/*\n  cache-control: max-age=0\n  cache-control: no-cache\n\
               cache-control: no-store\n  cache-control: must-revalidate\n",
            &[("a", "cache-control: max-age=0, no-cache, no-store, must-revalidate")],
        ),
        (
            "/\nX-Frame-Options: SAMEORIGIN\n/*\nX-Frame-Thing: SAMEORIGIN\n\
             /static-path/*\nX-Frame-Options: DENY\nX-XSS-Protection: 1; mode=block\n\
             /:placeholder/index.html\nX-Frame-Options: SAMEORIGIN\n\
             /*/_next/static/chunks/*\ncache-control: public\ncache-control: immutable\n\
             /directory/*/test.html\nX-Frame-Options: test\n\
             /with-colon\nCustom-header: http://www.example.com\n",
            &[
                ("", "X-Frame-Options: SAMEORIGIN\nX-Frame-Thing: SAMEORIGIN"),
                ("placeholder", "X-Frame-Thing: SAMEORIGIN"),
                (
                    "static-path/a",
                    "X-Frame-Thing: SAMEORIGIN\nX-Frame-Options: DENY\nX-XSS-Protection: 1; mode=block",
                ),
                (
                    "static-path",
                    "X-Frame-Thing: SAMEORIGIN\nX-Frame-Options: DENY\nX-XSS-Protection: 1; mode=block",
                ),
                ("placeholder/index.html", "X-Frame-Thing: SAMEORIGIN\nX-Frame-Options: SAMEORIGIN"),
                ("a/_next/static/chunks/b", "X-Frame-Thing: SAMEORIGIN\ncache-control: public, immutable"),
                ("directory/a/test.html", "X-Frame-Thing: SAMEORIGIN\nX-Frame-Options: test"),
                ("with-colon", "X-Frame-Thing: SAMEORIGIN\nCustom-header: http://www.example.com"),
            ],
        ),
        // Blanks are no matter.
        ("  /path  \n\n  test :   one  \n", &[("path", "test: one")]),
        ("/path\ntest: one\ntest: two", &[("path", "test: one, two")]),
        // Not sent, whatever it says.
        (
            "/protected/*\n  Basic-Auth: someuser:somepassword anotheruser:anotherpassword",
            &[("protected/a", "")],
        ),
    ]);
}

#[test]
fn cloudflare_headers() {
    check_fields(&[
        (
            "# This is a comment\n/secure/page\n  X-Frame-Options: DENY\n  X-Content-Type-Options: nosniff\n\
               Referrer-Policy: no-referrer\n\n\
             /static/*\n  Access-Control-Allow-Origin: *\n  X-Robots-Tag: nosnippet\n\n\
             https://myproject.pages.dev/*\n  X-Robots-Tag: noindex\n",
            &[
                (
                    "secure/page",
                    "X-Frame-Options: DENY\nX-Content-Type-Options: nosniff\nReferrer-Policy: no-referrer",
                ),
                ("static/image.jpg", "Access-Control-Allow-Origin: *\nX-Robots-Tag: nosnippet"),
                // `noindex` on that host there; here fields are for all hosts.
                ("home", ""),
            ],
        ),
        (
            "/*\n  Content-Security-Policy: default-src 'self';\n\n/*.jpg\n  ! Content-Security-Policy\n",
            &[("a.html", "Content-Security-Policy: default-src 'self';"), ("img/a.jpg", "")],
        ),
        // Filled in there.
        (
            "/movies/:title\n  x-movie-name: You are watching \":title\"\n",
            &[("movies/x", "x-movie-name: You are watching \":title\"")],
        ),
        (
            "/app/*\n  X-Frame-Options: DENY\n  Permissions-Policy: document-domain=()\n\
               Content-Security-Policy: script-src 'self'; frame-ancestors 'none';\n",
            &[(
                "app/x",
                "X-Frame-Options: DENY\nPermissions-Policy: document-domain=()\n\
                 Content-Security-Policy: script-src 'self'; frame-ancestors 'none';",
            )],
        ),
        (
            "/about/faq/*\n  Link: </about/faqs>; rel=\"canonical\"\n",
            &[("about/faq/x", "Link: </about/faqs>; rel=\"canonical\"")],
        ),
        // Joined there: `public, max-age=0, s-maxage=86400, public, max-age=604800`.
        (
            "/lwe/*\n  Cache-Control: public, max-age=0, s-maxage=86400\n\
             /lwe/q.txt\n  Cache-Control: public, max-age=604800\n",
            &[("lwe/q.txt", "Cache-Control: public, max-age=604800")],
        ),
    ]);
}

/// What a generator writes for a site with one page.
#[test]
fn a_site_with_one_page() {
    let (rules, faults) = RedirectRules::parse(b"/*    /index.html   200\n");
    assert_eq!(faults.told, []);
    assert!(!rules.has_forced() && !rules.may_force(b"index.html"));
    let found =
        rules.find(&Asked { path: b"users/7", query: b"?tab=1", ..Asked::default() }).expect("a rule");
    assert_eq!((found.status, found.is_rewrite(), found.is_forced), (Status::Ok, true, false));
    assert_eq!(found.location, b"/index.html");
}

//! Clean addresses: what appears at one and what leaves is noticed, and a cached page costs no open.

use std::fs;
use std::path::Path;
use std::time::Instant;

use common::{CacheConfig, CacheLevel, Config, SiteOptions};
use libtest_mimic::Failed;

use super::freshness::STALE_MAX;
use super::{DONE, Ground, Outcome, Test};
use crate::census;
use crate::client::Client;
use crate::server::Server;

pub(super) const TESTS: &[(&str, Test)] =
    &[("addresses_follow_files", addresses_follow_files), ("a_cached_page_costs_no_open", costs_no_open)];

const LEVELS: [CacheLevel; 3] = [CacheLevel::Off, CacheLevel::Descriptors, CacheLevel::Contents];

fn serve(ground: Ground<'_>, folder: &Path, level: CacheLevel) -> Result<Server, Failed> {
    let cache = match level {
        CacheLevel::Off => CacheConfig::OFF,
        level => CacheConfig { level, ..CacheConfig::default() },
    };
    let options = SiteOptions { clean_urls: true, ..SiteOptions::default() };
    Server::start(ground.backend, folder, options, Config { cache, ..Config::default() })
}

/// What is done to the site, and what `/about`, `/about.html` and `/about/` are then: content, or where they lead.
type Change = (&'static str, fn(&Path) -> std::io::Result<()>, [&'static str; 3]);

const CHANGES: &[Change] = &[
    ("a page", |root| fs::write(root.join("about.html"), "page"), ["page", "/about", "/about"]),
    ("a folder besides", |root| fs::create_dir(root.join("about")), ["page", "/about", "/about"]),
    ("an index in it", |root| fs::write(root.join("about/index.html"), "index"), ["page", "/about", "index"]),
    ("no folder", |root| fs::remove_dir_all(root.join("about")), ["page", "/about", "/about"]),
    ("a file besides", |root| fs::write(root.join("about"), "file"), ["file", "page", "/about"]),
    (
        "another name for it",
        |root| fs::rename(root.join("about"), root.join("x")),
        ["page", "/about", "/about"],
    ),
    ("the file again", |root| fs::rename(root.join("x"), root.join("about")), ["file", "page", "/about"]),
    ("no file", |root| fs::remove_file(root.join("about")), ["page", "/about", "/about"]),
    ("other content", |root| fs::write(root.join("about.html"), "other"), ["other", "/about", "/about"]),
    ("nothing", |root| fs::remove_file(root.join("about.html")), ["404", "404", "404"]),
    ("a page again", |root| fs::write(root.join("about.html"), "new"), ["new", "/about", "/about"]),
];

fn addresses_follow_files(ground: Ground<'_>) -> Outcome {
    for level in LEVELS {
        let root = ground.sites.scratch("pages")?;
        let server = serve(ground, &root, level)?;
        let mut client = Client::connect(server.address)?;
        for (what, change, expected) in CHANGES {
            change(&root)?;
            let changed = Instant::now();
            for (target, expected) in ["/about", "/about.html", "/about/"].into_iter().zip(expected) {
                let mut good = 0;
                while good < 4 {
                    let asked = changed.elapsed();
                    let response = client.get(target)?;
                    let found = match response.status {
                        200 => String::from_utf8_lossy(&response.content).into_owned(),
                        301 => response.require("Location")?.to_owned(),
                        status => status.to_string(),
                    };
                    if found == *expected {
                        good += 1;
                    } else if good > 0 || asked > STALE_MAX {
                        return Err(format!("{level:?}, {what}: {target} is {found} {asked:?} later").into());
                    }
                }
            }
        }
        drop(client);
        server.stop()?;
    }
    DONE
}

/// Once it is known that nothing else has its address, a page comes from the cache like any other file.
fn costs_no_open(ground: Ground<'_>) -> Outcome {
    let root = ground.sites.scratch("pages")?;
    fs::write(root.join("about.html"), "page")?;
    let server = serve(ground, &root, CacheLevel::Contents)?;
    let mut client = Client::connect(server.address)?;
    for _ in 0..8 {
        client.get("/about")?;
    }
    drop(client);
    census::connections_end(&server)?;
    let before = server.service().stats.totals();
    let mut client = Client::connect(server.address)?;
    for _ in 0..20 {
        if client.get("/about")?.content != b"page" {
            return Err("another page".into());
        }
        client.get("/about.html")?;
    }
    drop(client);
    census::connections_end(&server)?;
    let after = server.service().stats.totals();
    let (hits, misses) = (after.cache_hits - before.cache_hits, after.cache_misses - before.cache_misses);
    // Within the test's time an entry may expire, once.
    if hits < 36 || misses > 4 {
        return Err(format!("{hits} hits, {misses} misses").into());
    }
    server.stop()?;
    DONE
}

//! Validators prove what they say: whoever has a file's strong tag has its bytes.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{CacheConfig, CacheLevel, Config, EtagPolicy, SiteOptions};
use libtest_mimic::Failed;

use super::freshness::STALE_MAX;
use super::{DONE, Ground, Outcome, Test};
use crate::client::{Client, PATIENCE};
use crate::response::{Framing, Response};
use crate::row::get;
use crate::server::Server;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("restored_times", restored_times),
    ("links_to_twins", links_to_twins),
    ("young_files", young_files),
    ("copies_on_two_machines", copies_on_two_machines),
    ("permissions", permissions),
    ("dates_that_nobody_set", dates_that_nobody_set),
];

const OLD: &str = "old content, and more of it";
const NEW: &str = "new content, and more of it";
const RANGE: &str = "Range: bytes=4-";

/// Every way in which a server can have a file.
const LEVELS: [CacheLevel; 3] = [CacheLevel::Off, CacheLevel::Descriptors, CacheLevel::Contents];

fn modified() -> SystemTime {
    UNIX_EPOCH + Duration::new(1_000_000_000, 5)
}

fn put(path: &Path, content: &str) -> Result<(), Failed> {
    fs::write(path, content)?;
    Ok(restore(path)?)
}

fn restore(path: &Path) -> std::io::Result<()> {
    let times = FileTimes::new().set_modified(modified());
    File::options().write(true).open(path)?.set_times(times)
}

fn serve(ground: Ground<'_>, folder: &Path, level: CacheLevel, etag: EtagPolicy) -> Result<Server, Failed> {
    let cache = match level {
        CacheLevel::Off => CacheConfig::OFF,
        level => CacheConfig { level, ..CacheConfig::default() },
    };
    let options = SiteOptions { etag, ..SiteOptions::default() };
    Server::start(ground.backend, folder, options, Config { cache, ..Config::default() })
}

fn ask(client: &mut Client, target: &str, fields: &[&str]) -> Result<Response, Failed> {
    client.send(&get(target, fields))?;
    client.response(Framing::Content)
}

/// The strong tag that a file has once it is old enough. By then it has been asked for often enough to be cached.
fn settled_tag(client: &mut Client, target: &str) -> Result<String, Failed> {
    let begun = Instant::now();
    loop {
        let tag = ask(client, target, &[])?.require("ETag")?.to_owned();
        if !tag.starts_with("W/") {
            return Ok(tag);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{target} still has {tag}").into());
        }
    }
}

/// Asks until the whole new content comes, which a cache may take a moment for.
fn expect_new(client: &mut Client, target: &str, fields: &[&str]) -> Result<(), Failed> {
    let begun = Instant::now();
    loop {
        let asked = begun.elapsed();
        let response = ask(client, target, fields)?;
        if response.status == 200 && response.content == NEW.as_bytes() {
            return Ok(());
        }
        if asked > STALE_MAX {
            return Err(
                format!("{} for {fields:?}: {}", response.status, response.content.escape_ascii()).into()
            );
        }
    }
}

/// Content of the same size is put in place with the old modification time, as `cp -p`, `tar` and `rsync -t` do.
fn restored_times(ground: Ground<'_>) -> Outcome {
    type Way = fn(&Path) -> Result<(), Failed>;
    let ways: [(&str, Way); 3] = [
        ("overwritten", |path| put(path, NEW)),
        ("removed and made anew", |path| {
            fs::remove_file(path)?;
            put(path, NEW)
        }),
        ("replaced", |path| {
            let next = path.with_extension("next");
            put(&next, NEW)?;
            Ok(fs::rename(next, path)?)
        }),
    ];
    for level in LEVELS {
        for (name, change) in ways {
            let folder = ground.sites.scratch("validators")?;
            let path = folder.join("file.txt");
            put(&path, OLD)?;
            let server = serve(ground, &folder, level, EtagPolicy::Strict)?;
            let mut client = Client::connect(server.address)?;
            let tag = settled_tag(&mut client, "/file.txt")?;
            let date = ask(&mut client, "/file.txt", &[])?.require("Last-Modified")?.to_owned();
            change(&path)?;
            for fields in [
                &[&*format!("If-None-Match: {tag}")][..],
                &[RANGE, &*format!("If-Range: {tag}")],
                &[RANGE, &*format!("If-Range: {date}")],
            ] {
                expect_new(&mut client, "/file.txt", fields).map_err(|failed| {
                    format!("{name}, {level:?}: {}", failed.message().unwrap_or_default())
                })?;
            }
            server.stop()?;
        }
    }
    DONE
}

/// A link is switched to a file with the same times and size.
fn links_to_twins(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("validators")?;
    for (name, content) in [("one", OLD), ("two", NEW)] {
        put(&folder.join(name), content)?;
    }
    std::os::unix::fs::symlink("one", folder.join("link.txt"))?;
    let server = serve(ground, &folder, CacheLevel::Contents, EtagPolicy::Strict)?;
    let mut client = Client::connect(server.address)?;
    let tag = settled_tag(&mut client, "/link.txt")?;
    std::os::unix::fs::symlink("two", folder.join("next"))?;
    fs::rename(folder.join("next"), folder.join("link.txt"))?;
    expect_new(&mut client, "/link.txt", &[&format!("If-None-Match: {tag}")])?;
    server.stop()?;
    DONE
}

/// Another change may yet leave the same times behind. Until it can't, the tag is weak; then it is another.
fn young_files(ground: Ground<'_>) -> Outcome {
    for level in LEVELS {
        for etag in [EtagPolicy::Strict, EtagPolicy::Replica] {
            let folder = ground.sites.scratch("validators")?;
            let path = folder.join("file.txt");
            let server = serve(ground, &folder, level, etag)?;
            let mut client = Client::connect(server.address)?;
            let begun = Instant::now();
            // On a busy machine a file may be old before anyone has asked for it.
            let weak = loop {
                fs::write(&path, OLD)?;
                match ask_while_young(&mut client)? {
                    Some(weak) => break weak,
                    None if begun.elapsed() > PATIENCE => return Err("no file is ever young".into()),
                    None => {}
                }
            };
            let strong = settled_tag(&mut client, "/file.txt")?;
            if weak.ends_with(&strong) {
                return Err(format!("{weak} has become {strong}").into());
            }
            for (fields, status) in [
                (&[&*format!("If-None-Match: {weak}")][..], 200),
                (&[&*format!("If-None-Match: {strong}")], 304),
                (&[&*format!("If-Match: {strong}")], 200),
                (&[RANGE, &*format!("If-Range: {strong}")], 206),
            ] {
                let response = ask(&mut client, "/file.txt", fields)?;
                if response.status != status || response.require("ETag")? != strong {
                    return Err(
                        format!("{level:?}, {fields:?}: {:?}", response.bytes().escape_ascii()).into()
                    );
                }
            }
            server.stop()?;
        }
    }
    DONE
}

/// The weak tag of a file, if all of these requests were answered while it was weak.
fn ask_while_young(client: &mut Client) -> Result<Option<String>, Failed> {
    let weak = ask(client, "/file.txt", &[])?.require("ETag")?.to_owned();
    let Some(opaque) = weak.strip_prefix("W/") else { return Ok(None) };
    // Often enough for a cache.
    for _ in 0..4 {
        if ask(client, "/file.txt", &[])?.require("ETag")? != weak {
            return Ok(None);
        }
    }
    let mut wrong = None;
    for (fields, status) in [
        (&[&*format!("If-None-Match: {weak}")][..], 304),
        (&[&*format!("If-None-Match: {opaque}")], 304),
        (&[&*format!("If-Match: {weak}")], 412),
        (&[&*format!("If-Match: {opaque}")], 412),
        (&[RANGE, &*format!("If-Range: {weak}")], 200),
        (&[RANGE, &*format!("If-Range: {opaque}")], 200),
    ] {
        let response = ask(client, "/file.txt", fields)?;
        if response.field("ETag") != Some(&weak) {
            return Ok(None);
        }
        if response.status != status {
            wrong = Some(format!("{} for {fields:?} while {weak} is weak", response.status));
        }
    }
    wrong.map_or(Ok(Some(weak)), |wrong| Err(wrong.into()))
}

/// Copies with the same times have the same tag where that was asked for, and only there.
fn copies_on_two_machines(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("validators")?;
    for (etag, are_equal) in [(EtagPolicy::Replica, true), (EtagPolicy::Strict, false)] {
        let mut tags = Vec::new();
        for name in ["one", "two"] {
            let root = folder.join(name);
            fs::create_dir_all(&root)?;
            put(&root.join("file.txt"), OLD)?;
            let server = serve(ground, &root, CacheLevel::Contents, etag)?;
            let mut client = Client::connect(server.address)?;
            tags.push(settled_tag(&mut client, "/file.txt")?);
            server.stop()?;
        }
        if (tags[0] == tags[1]) != are_equal {
            return Err(format!("{etag:?}: {tags:?}").into());
        }
    }
    DONE
}

/// The kernel has one change time for content and permissions, so a strict tag is renewed by both.
fn permissions(ground: Ground<'_>) -> Outcome {
    for (etag, is_renewed) in [(EtagPolicy::Strict, true), (EtagPolicy::Replica, false)] {
        let folder = ground.sites.scratch("validators")?;
        let path = folder.join("file.txt");
        put(&path, OLD)?;
        let server = serve(ground, &folder, CacheLevel::Off, etag)?;
        let mut client = Client::connect(server.address)?;
        let before = settled_tag(&mut client, "/file.txt")?;
        fs::set_permissions(&path, Permissions::from_mode(0o640))?;
        let after = settled_tag(&mut client, "/file.txt")?;
        if (before != after) != is_renewed {
            return Err(format!("{etag:?}: {before}, then {after}").into());
        }
        server.stop()?;
    }
    DONE
}

/// A date is good for a range when its second is over and nobody has set it.
fn dates_that_nobody_set(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("validators")?;
    fs::write(folder.join("file.txt"), OLD)?;
    let server = serve(ground, &folder, CacheLevel::Contents, EtagPolicy::Strict)?;
    let mut client = Client::connect(server.address)?;
    let date = ask(&mut client, "/file.txt", &[])?.require("Last-Modified")?.to_owned();
    let begun = Instant::now();
    while ask(&mut client, "/file.txt", &[RANGE, &format!("If-Range: {date}")])?.status != 206 {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{date} is never good for a range").into());
        }
    }
    server.stop()?;
    DONE
}

//! Content no response may contain: files outside the root, unreadable files, devices.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::{Config, SiteOptions, Symlinks};
use libtest_mimic::{Completion, Failed};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::freshness::STALE_MAX;
use super::{DONE, Ground, Outcome, Test};
use crate::child::{ChildServer, Settings};
use crate::client::Client;
use crate::response::Framing;
use crate::row::get;
use crate::server::Server;
use crate::site::{DIGITS, SECRET, Sites, write};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("directory_swapped_for_a_link", directory_swapped_for_a_link),
    ("file_swapped_for_a_link", file_swapped_for_a_link),
    ("parent_moved_out_of_the_root", parent_moved_out_of_the_root),
    ("unreadable", unreadable),
    ("root_that_may_not_be_listed", root_that_may_not_be_listed),
    ("device", device),
    ("listing_names_only_what_is_served", listing_names_only_what_is_served),
];

/// The minimum duration of the race. It continues until both states have been seen: a journal commit may delay a swap
/// for seconds.
const RACE_MIN: Duration = Duration::from_secs(1);
const RACE_MAX: Duration = Duration::from_secs(60);

/// If the response stays the same for longer than this, across many swaps, it is stale. Ten times the limit, for a busy
/// machine.
const STREAK_MAX: Duration = STALE_MAX.saturating_mul(10);
const STREAK_SWAPS_MAX: usize = 1000;

/// Keeps swapping two names while a client requests a target. Both the file and its absence must be seen repeatedly,
/// and nothing else.
fn race(ground: Ground<'_>, root: &Path, target: &str, [one, other]: [&Path; 2], absent: &[u16]) -> Outcome {
    let server = ground.serve_folder(root, Config::default())?;
    let mut client = Client::connect(server.address)?;
    let (over, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let raced = thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            while !over.load(Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
                swaps.fetch_add(1, Relaxed);
            }
            Ok::<(), rustix::io::Errno>(())
        });
        let asked = watch_race(&mut client, target, absent, &swaps);
        over.store(true, Relaxed);
        match swapping.join() {
            Ok(swapped) => swapped.map_err(Failed::from).and(asked),
            Err(_panic) => Err("the swapping thread panicked".into()),
        }
    });
    raced?;
    server.stop()?;
    DONE
}

fn watch_race(client: &mut Client, target: &str, absent: &[u16], swaps: &AtomicUsize) -> Result<(), Failed> {
    let begun = Instant::now();
    let (mut is_served, mut changes) = (true, 0);
    let (mut since, mut swaps_before) = (begun, 0);
    while begun.elapsed() < RACE_MIN || changes == 0 {
        let response = client.get(target)?;
        let was_served = is_served;
        is_served = match (response.status, response.content.as_slice()) {
            (200, content) if content == DIGITS.as_bytes() => true,
            (status, _) if absent.contains(&status) => false,
            (status, content) => return Err(format!("{status}: \"{}\"", content.escape_ascii()).into()),
        };
        let swapped = swaps.load(Relaxed) - swaps_before;
        if is_served != was_served {
            changes += 1;
            (since, swaps_before) = (Instant::now(), swaps.load(Relaxed));
        } else if since.elapsed() > STREAK_MAX && swapped > STREAK_SWAPS_MAX {
            let streak = since.elapsed();
            return Err(format!("{} for {streak:?} across {swapped} swaps", response.status).into());
        }
        if begun.elapsed() > RACE_MAX {
            return Err(format!("no race: always {}, {swapped} swaps", response.status).into());
        }
    }
    Ok(())
}

fn directory_swapped_for_a_link(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("swapped")?;
    write(&folder.join("dir/file.txt"), DIGITS)?;
    symlink(ground.sites.outside(), folder.join("link"))?;
    race(ground, &folder, "/dir/file.txt", [&folder.join("dir"), &folder.join("link")], &[404])
}

fn file_swapped_for_a_link(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("swapped")?;
    write(&folder.join("file.txt"), DIGITS)?;
    symlink(ground.sites.outside().join("secret.txt"), folder.join("link"))?;
    race(ground, &folder, "/file.txt", [&folder.join("file.txt"), &folder.join("link")], &[404])
}

/// A path climbs with `..` through a link while its directory is moved out of the root. The kernel must notice
/// (openat2(2), `EAGAIN`), and the server may give up after some attempts.
fn parent_moved_out_of_the_root(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("swapped")?;
    let root = folder.join("root");
    write(&root.join("file.txt"), DIGITS)?;
    // Three levels up from here is the root. Once its parent is next to the root, three levels up is the outside
    // folder.
    write(&root.join("a/b/c/stay.txt"), DIGITS)?;
    symlink("../../../file.txt", root.join("a/b/c/up"))?;
    write(&folder.join("file.txt"), SECRET)?;
    write(&folder.join("x/away/c/stay.txt"), SECRET)?;
    race(ground, &root, "/a/b/c/up", [&root.join("a/b"), &folder.join("x/away")], &[404, 503])
}

/// Root can read everything, so the server then runs as another user.
const NOBODY: u32 = 65_534;

/// The content of the site's own page for what may not be read.
const FORBIDDEN_PAGE: &str = "<!doctype html><title>not for you</title>\n";

fn unreadable(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("unreadable")?;
    write(&folder.join("403.html"), FORBIDDEN_PAGE)?;
    for name in ["file.txt", "dir/file.txt", "open/file.txt"] {
        write(&folder.join(name), DIGITS)?;
    }
    let lock = |name: &str, mode| fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode));
    lock("file.txt", 0o000)?;
    lock("dir", 0o000)?;
    let user = rustix::process::geteuid().is_root().then_some(NOBODY);
    let server = ChildServer::start(ground.backend, &folder, &Settings { user, ..Settings::default() });
    let asked = server.and_then(|server| {
        let mut client = Client::connect(server.address)?;
        for (target, expected) in [
            ("/file.txt", 403),
            ("/dir/file.txt", 403),
            ("/dir/missing", 403),
            ("/dir", 403),
            ("/dir/", 403),
            ("/open/file.txt", 200),
        ] {
            let response = client.get(target)?;
            let status = response.status;
            if status != expected {
                return Err(format!("{status} instead of {expected} for {target}").into());
            }
            if (response.content == FORBIDDEN_PAGE.as_bytes()) != (status == 403) {
                return Err(format!("{status} with \"{}\"", response.content.escape_ascii()).into());
            }
        }
        server.stop()
    });
    // Only root could delete locked folders.
    lock("dir", 0o755)?;
    match asked {
        Err(failed) if user.is_some() && !others_may_run_this() => {
            let why = failed.message().unwrap_or_default();
            Ok(Completion::ignored_with(format!("other users can't run this test: {why}")))
        }
        asked => asked.and(DONE),
    }
}

/// To serve what is in the root, it is enough that the server may enter it.
fn root_that_may_not_be_listed(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("unlisted")?;
    write(&folder.join("file.txt"), DIGITS)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o311))?;
    let user = rustix::process::geteuid().is_root().then_some(NOBODY);
    let server = ChildServer::start(ground.backend, &folder, &Settings { user, ..Settings::default() });
    let asked = server.and_then(|server| {
        let mut client = Client::connect(server.address)?;
        // Often enough for the cache to look at the folder.
        for _ in 0..5 {
            let status = client.get("/file.txt")?.status;
            if status != 200 {
                return Err(format!("the answer is {status}").into());
            }
        }
        server.stop()
    });
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    match asked {
        Err(failed) if user.is_some() && !others_may_run_this() => {
            let why = failed.message().unwrap_or_default();
            Ok(Completion::ignored_with(format!("other users can't run this test: {why}")))
        }
        asked => asked.and(DONE),
    }
}

/// Whether all folders above this executable are accessible to other users.
fn others_may_run_this() -> bool {
    let Ok(executable) = std::env::current_exe() else { return false };
    let passable =
        |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    executable.ancestors().all(passable)
}

fn device(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("device")?;
    if !Sites::make_device(&folder)? {
        return Ok(Completion::ignored_with("only the superuser can make a device file"));
    }
    let server = ground.serve_folder(&folder, Config::default())?;
    let mut client = Client::connect(server.address)?;
    for fields in [&[][..], &["Range: bytes=0-9"]] {
        client.send(&get("/device", fields))?;
        let status = client.response(Framing::Content)?.status;
        if status != 404 {
            return Err(format!("{status} for a device").into());
        }
    }
    server.stop()?;
    DONE
}

/// Every link in a listing works, and every served file is listed.
fn listing_names_only_what_is_served(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("listed")?;
    for name in LISTED_FILES {
        write(&folder.join(OsStr::from_bytes(name)), DIGITS)?;
    }
    write(&folder.join("dir/index.html"), DIGITS)?;
    write(&folder.join(".hidden"), DIGITS)?;
    for (name, to) in [
        ("link-file", "plain.txt"),
        ("link-dir", "dir"),
        ("link-dangling", "nowhere"),
        ("link-loop", "link-loop"),
        ("link-device", "/dev/null"),
        ("link-outside", "../../outside/secret.txt"),
        ("link-outside-dir", "../../outside"),
    ] {
        symlink(to, folder.join(name))?;
    }
    for symlinks in [Symlinks::Beneath, Symlinks::Deny] {
        let options = SiteOptions { listing: true, symlinks, ..SiteOptions::default() };
        let server = Server::start(ground.backend, &folder, options, Config::default())?;
        check_listing(&server)?;
        server.stop()?;
    }
    DONE
}

const LISTED_FILES: [&[u8]; 8] = [
    b"plain.txt",
    b"with space.txt",
    b"100%.txt",
    b"a:colon.txt",
    b"question?mark.txt",
    b"<tag> & \"quote\".txt",
    b"line\r\nbreak.txt",
    b"latin-\xfc.txt",
];

fn check_listing(server: &Server) -> Result<(), Failed> {
    let mut client = Client::connect(server.address)?;
    let page = String::from_utf8(client.get("/")?.content)?;
    let references: Vec<&str> = page
        .split("<tr><th scope=\"row\"><a href=\"./")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    if page.contains("<tag>") || page.contains("hidden") {
        return Err(format!("an unescaped or hidden name is listed: {page}").into());
    }
    let mut files = 0;
    for reference in &references {
        let response = client.get(&format!("/{reference}"))?;
        if response.status != 200 || response.content != DIGITS.as_bytes() {
            return Err(format!("{} for the listed {reference}", response.status).into());
        }
        files += usize::from(!reference.starts_with("link") && !reference.ends_with('/'));
    }
    if files != LISTED_FILES.len() || !references.contains(&"dir/") {
        return Err(format!("something isn't listed: {references:?}").into());
    }
    Ok(())
}

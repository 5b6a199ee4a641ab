//! Sites on an overlay, as in most containers, in memory, and partly in a folder that is mounted from elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use common::CacheLevel;
use common::site::residency::RESIDENT_FOR;
use libtest_mimic::{Completion, Failed};

use super::exchange::{expect_all, write_files};
use super::*;
use crate::child::{ChildServer, Settings};
use crate::mounts::{self, Kind, Mount, Overlay};
use crate::site::{cool, write_pattern};
use crate::trace::{Call, Forbidden, Trace};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("overlay", overlay),
    ("overlay_changes", overlay_changes),
    ("tmpfs", tmpfs),
    ("tmpfs_changes", tmpfs_changes),
    ("folder_from_elsewhere", folder_from_elsewhere),
    ("folder_from_elsewhere_changes", folder_from_elsewhere_changes),
];

pub(super) const TESTS_OF_LOOPS: &[(&str, Test)] = &[("cold_overlay", cold_overlay)];

/// Sent from a buffer, and in many pieces.
const SIZES: [u64; 2] = [100 << 10, 10 << 20];

/// What a client asks for later than this after a change is answered as it is since.
const FRESH_WITHIN: Duration = Duration::from_millis(1100);

const LEVELS: [(&str, CacheLevel); 3] = [
    ("no cache", CacheLevel::Off),
    ("descriptors", CacheLevel::Descriptors),
    ("contents", CacheLevel::Contents),
];

fn serve(ground: Ground<'_>, root: &Path, cache: CacheLevel) -> Result<ChildServer, Failed> {
    ChildServer::start(ground.backend, root, &Settings { cache, listing: true, ..Settings::default() })
}

/// Serves a root with such sites at these prefixes.
fn expect_sites(ground: Ground<'_>, root: &Path, prefixes: &[&str]) -> Outcome {
    in_each_case(&LEVELS, |_, cache| {
        let server = serve(ground, root, *cache)?;
        prefixes.iter().try_for_each(|prefix| expect_all(&server, prefix, &SIZES))?;
        server.stop()
    })
}

fn overlay(ground: Ground<'_>) -> Outcome {
    mounts::with(Kind::Overlay, || {
        let folder = ground.sites.scratch("overlay")?;
        for part in ["lower/low", "upper/high", "lower/both"] {
            write_files(&folder.join(part), &SIZES)?;
        }
        let overlay = Overlay::mount(&folder)?;
        // Copied up, and so in both layers.
        write_files(&overlay.merged.join("both"), &SIZES[..1])?;
        expect_sites(ground, &overlay.merged, &["/low/", "/high/", "/both/"])
    })
}

fn tmpfs(ground: Ground<'_>) -> Outcome {
    mounts::with(Kind::Tmpfs, || {
        let root = ground.sites.scratch("tmpfs")?;
        let _memory = Mount::tmpfs(&root)?;
        write_files(&root, &SIZES)?;
        expect_sites(ground, &root, &["/"])
    })
}

fn folder_from_elsewhere(ground: Ground<'_>) -> Outcome {
    mounts::with(Kind::Bind, || {
        let (root, elsewhere) = (make_root(ground, "bound")?, ground.sites.scratch("elsewhere")?);
        write_files(&elsewhere, &SIZES)?;
        let _bound = Mount::bind(&elsewhere, &root.join(FAR))?;
        expect_sites(ground, &root, &[&format!("/{FAR}")])
    })
}

fn overlay_changes(ground: Ground<'_>) -> Outcome {
    mounts::with(Kind::Overlay, || {
        let folder = ground.sites.scratch("changing-overlay")?;
        for name in NAMES {
            write(&folder.join("lower/low").join(name), DIGITS)?;
            write(&folder.join("upper/high").join(name), DIGITS)?;
        }
        let overlay = Overlay::mount(&folder)?;
        let places = ["low/", "high/"].map(|folder| (folder, overlay.merged.join(folder)));
        expect_fresh(ground, &overlay.merged, &places)
    })
}

fn tmpfs_changes(ground: Ground<'_>) -> Outcome {
    mounts::with(Kind::Tmpfs, || {
        let root = ground.sites.scratch("changing-tmpfs")?;
        let _memory = Mount::tmpfs(&root)?;
        NAMES.iter().try_for_each(|name| write(&root.join(name), DIGITS))?;
        expect_fresh(ground, &root, &[("", root.clone())])
    })
}

/// The changes are made elsewhere.
fn folder_from_elsewhere_changes(ground: Ground<'_>) -> Outcome {
    mounts::with(Kind::Bind, || {
        let (root, elsewhere) =
            (make_root(ground, "changing-bound")?, ground.sites.scratch("changing-elsewhere")?);
        NAMES.iter().try_for_each(|name| write(&elsewhere.join(name), DIGITS))?;
        let _bound = Mount::bind(&elsewhere, &root.join(FAR))?;
        expect_fresh(ground, &root, &[(FAR, elsewhere)])
    })
}

/// Files that are changed, each in its way.
const NAMES: [&str; 3] = ["rewritten.txt", "replaced.txt", "deleted.txt"];

/// Changes files that are served all the time, at these prefixes, in these folders.
fn expect_fresh(ground: Ground<'_>, root: &Path, places: &[(&str, PathBuf)]) -> Outcome {
    for (level, cache) in LEVELS {
        let server = serve(ground, root, cache)?;
        let mut client = Client::connect(server.address)?.with_patience(PATIENCE);
        for (prefix, folder) in places {
            let content = level.repeat(3);
            let path = |index: usize| folder.join(NAMES[index]);
            let target = |index: usize| format!("/{prefix}{}", NAMES[index]);
            for index in 0..NAMES.len() {
                for _ in 0..3 {
                    client.get(&target(index))?;
                }
            }
            fs::write(path(0), &content)?;
            expect_soon(&mut client, &target(0), Some(&content))?;
            fs::write(path(1).with_extension("new"), &content)?;
            fs::rename(path(1).with_extension("new"), path(1))?;
            expect_soon(&mut client, &target(1), Some(&content))?;
            fs::remove_file(path(2))?;
            expect_soon(&mut client, &target(2), None)?;
            fs::write(path(2), &content)?;
            expect_soon(&mut client, &target(2), Some(&content))?;
        }
        drop(client);
        server.stop()?;
    }
    DONE
}

/// Asks until the file is as it was just made, or gone; an older answer is right for a moment only.
fn expect_soon(client: &mut Client, target: &str, content: Option<&str>) -> Result<(), Failed> {
    let changed = Instant::now();
    loop {
        let asked_after = changed.elapsed();
        let response = client.get(target)?;
        let is_new = match content {
            Some(content) => response.status == 200 && response.content == content.as_bytes(),
            None => response.status == 404,
        };
        if is_new {
            return Ok(());
        }
        if asked_after > FRESH_WITHIN {
            return Err(format!("{target} is old {asked_after:?} after the change").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Files that are admitted to the cache, sent from a buffer, and in pieces.
const COLD_SIZES: [u64; 3] = [1_000, 100_000, 1_500_001];

/// `RESOLVE_CACHED` (openat2(2)).
const CACHED: u64 = 0x20;

/// `RWF_NOWAIT` (preadv2(2)).
const NOWAIT: u64 = 8;

/// Looks at each system call of the loop's thread while files are served that are in neither layer's page cache.
fn cold_overlay(ground: Ground<'_>) -> Outcome {
    const ROUNDS: usize = 4;
    mounts::with(Kind::Overlay, || {
        let folder = ground.sites.scratch("cold-overlay")?;
        let layers = ["lower/low", "upper/high"].map(|layer| folder.join(layer));
        for (layer, size) in layers.iter().flat_map(|layer| COLD_SIZES.map(|size| (layer, size))) {
            write_pattern(&layer.join(size.to_string()), size)?;
        }
        let overlay = Overlay::mount(&folder)?;
        write(&overlay.merged.join(&NEAR[1..]), DIGITS)?;
        let server = serve(ground, &overlay.merged, CacheLevel::Contents)?;
        let mut client = Client::connect(server.address)?.with_patience(PATIENCE);
        client.get(NEAR)?;
        let process = server.process();
        let read = || process.disk_bytes_read().unwrap_or(0);
        let before = read();
        let trace = match Trace::begin(process.id(), process.thread("worker-0")?) {
            Ok(trace) => trace,
            Err(Forbidden(reason)) => return Ok(Completion::ignored_with(reason)),
        };
        let asked = (0..ROUNDS).try_for_each(|_| ask_for_cold(&mut client, &layers));
        let calls = trace.end(|| client.get(NEAR).map(drop))?;
        asked?;
        judge(&calls, &overlay.merged)?;
        let bytes = read() - before;
        if bytes < ROUNDS as u64 * 2 * COLD_SIZES[2] {
            return Ok(Completion::ignored_with(format!("only {bytes} bytes were read from a disk")));
        }
        drop(client);
        server.stop()?;
        DONE
    })
}

/// Whole, and from the middle.
fn ask_for_cold(client: &mut Client, layers: &[PathBuf]) -> Result<(), Failed> {
    for (layer, size) in layers.iter().flat_map(|layer| COLD_SIZES.map(|size| (layer, size))) {
        let name = layer.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        for first in [0, size / 2] {
            cool(&layer.join(size.to_string()))?;
            // Until then, what was sent before counts as being there.
            thread::sleep(RESIDENT_FOR + Duration::from_millis(10));
            client.send(&get(&format!("/{name}/{size}"), &[&format!("Range: bytes={first}-")]))?;
            pattern_of(size).check(first, &client.response(Framing::Content)?.content)?;
        }
    }
    Ok(())
}

/// No call reads a file, opens one that the kernel's caches don't know, or sends one without having asked where it is.
fn judge(calls: &[Call], volume: &Path) -> Result<(), Failed> {
    let mut is_known = false;
    for call in calls {
        let touches = call.source.as_ref().is_some_and(|path| path.starts_with(volume));
        let waits = match call.number {
            libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 | libc::SYS_preadv => touches,
            libc::SYS_preadv2 => touches && call.arguments[5] & NOWAIT == 0,
            libc::SYS_openat2 => call.pointed.is_none_or(|resolve| resolve & CACHED == 0),
            libc::SYS_sendfile => touches && !is_known,
            libc::SYS_openat | libc::SYS_fadvise64 | libc::SYS_readahead | libc::SYS_getdents64 => true,
            _ => false,
        };
        if waits {
            return Err(format!("one of {} calls may wait for a disk: {call:?}", calls.len()).into());
        }
        is_known = match call.number {
            libc::SYS_preadv2 => call.result.is_none_or(|result| result > 0),
            libc::SYS_mincore => call.result.is_none_or(|result| result == 0),
            libc::SYS_sendfile => false,
            _ => is_known,
        };
    }
    if calls.is_empty() {
        return Err("not one call was seen".into());
    }
    Ok(())
}

//! Cached files that change: no response stays stale for long.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{CacheConfig, CacheLevel, Config};
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::client::Client;
use crate::deadline;
use crate::load::join_all;
use crate::server::Server;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("kinds_of_change", kinds_of_change),
    ("permissions", permissions),
    ("retargeted_link", retargeted_link),
    ("changes_under_load", changes_under_load),
];

/// How long after a change a response may still be stale.
pub(super) const STALE_MAX: Duration = Duration::from_millis(50);

const LEVELS: [CacheLevel; 2] = [CacheLevel::Descriptors, CacheLevel::Contents];

const TARGET: &str = "/dir/sub/file";

fn config(level: CacheLevel) -> Config {
    Config { cache: CacheConfig { level, ..CacheConfig::default() }, ..Config::default() }
}

/// Requests the target until the response comes from the cache.
fn warm(server: &Server, client: &mut Client, target: &str) -> Result<(), Failed> {
    for _ in 0..20 {
        client.get(target)?;
        if server.service().stats.cached().entries > 0 {
            let before = server.service().stats.totals().cache_hits;
            client.get(target)?;
            let is_hit = || server.service().stats.totals().cache_hits > before;
            return deadline::within(Duration::from_secs(5), "a hit", is_hit);
        }
    }
    Err(format!("{target} is never cached").into())
}

/// Requests the file until the content is as expected (`None`: the file is missing), and a few times more.
///
/// Before the deadline, a response may also be truncated, as can happen whenever the file shrinks.
fn expect(
    server: &Server,
    client: &mut Client,
    expected: Option<&str>,
    bound: Duration,
) -> Result<(), Failed> {
    let changed = Instant::now();
    let mut good = 0;
    while good < 4 {
        let asked = changed.elapsed();
        let response = match client.get(TARGET) {
            Err(_cut) if good == 0 && asked <= bound => {
                *client = Client::connect(server.address)?;
                continue;
            }
            response => response?,
        };
        let content = (response.status == 200).then_some(response.content.as_slice());
        if content == expected.map(str::as_bytes) {
            good += 1;
        } else if good > 0 || asked > bound {
            let shown = response.content.escape_ascii();
            return Err(format!("{} \"{shown}\" {asked:?} after the change", response.status).into());
        }
    }
    Ok(())
}

/// A change to the site, and the content of `/dir/sub/file` afterwards.
type Change = (&'static str, fn(&Path) -> io::Result<()>, Option<&'static str>);

const CHANGES: &[Change] = &[
    ("overwritten", |root| open(root)?.write_all_at(b"NEW", 0), Some("NEW as it was")),
    ("changed in one byte", |root| open(root)?.write_all_at(b"h", 10), Some("old as it has")),
    ("appended to", |root| open(root)?.write_all_at(b", and more", 13), Some("old as it was, and more")),
    ("truncated", |root| open(root)?.set_len(3), Some("old")),
    ("emptied", |root| open(root)?.set_len(0), Some("")),
    ("written by another name", |root| fs::write(root.join("dir/link"), "new"), Some("new")),
    ("replaced", |root| replace(root, "new"), Some("new")),
    ("deleted", |root| fs::remove_file(root.join("dir/sub/file")), None),
    ("renamed", |root| fs::rename(root.join("dir/sub/file"), root.join("dir/sub/gone")), None),
    ("parent renamed", |root| fs::rename(root.join("dir/sub"), root.join("dir/gone")), None),
    ("grandparent renamed", |root| fs::rename(root.join("dir"), root.join("gone")), None),
    ("parent replaced", replace_parent, Some("new")),
    ("replaced by a link", replace_by_link, Some("new")),
];

fn open(root: &Path) -> io::Result<File> {
    File::options().write(true).open(root.join("dir/sub/file"))
}

fn replace(root: &Path, content: &str) -> io::Result<()> {
    fs::write(root.join("new"), content)?;
    fs::rename(root.join("new"), root.join("dir/sub/file"))
}

fn replace_parent(root: &Path) -> io::Result<()> {
    fs::create_dir(root.join("fresh"))?;
    fs::write(root.join("fresh/file"), "new")?;
    fs::rename(root.join("dir/sub"), root.join("gone"))?;
    fs::rename(root.join("fresh"), root.join("dir/sub"))
}

fn replace_by_link(root: &Path) -> io::Result<()> {
    fs::write(root.join("target"), "new")?;
    symlink("../../target", root.join("link"))?;
    fs::rename(root.join("link"), root.join("dir/sub/file"))
}

/// Recreates the site with the old file.
fn lay_out(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        }?;
    }
    fs::create_dir_all(root.join("dir/sub"))?;
    fs::write(root.join("dir/sub/file"), "old as it was")?;
    fs::hard_link(root.join("dir/sub/file"), root.join("dir/link"))
}

/// One server sees all changes: a change must not blind it for the next one.
fn kinds_of_change(ground: Ground<'_>) -> Outcome {
    const ROUNDS: usize = 4;
    for level in LEVELS {
        let root = ground.sites.scratch("freshness")?;
        let server = ground.serve_folder(&root, config(level))?;
        let mut client = Client::connect(server.address)?;
        for _ in 0..ROUNDS {
            for (what, change, expected) in CHANGES {
                lay_out(&root)?;
                expect(&server, &mut client, Some("old as it was"), STALE_MAX)?;
                warm(&server, &mut client, TARGET)?;
                change(&root)?;
                let failed = |failed: Failed| format!("{what}: {}", failed.message().unwrap_or_default());
                expect(&server, &mut client, *expected, STALE_MAX).map_err(failed)?;
            }
        }
        drop(client);
        server.stop()?;
    }
    DONE
}

/// As root the file stays readable, so check that the entry is dropped.
fn permissions(ground: Ground<'_>) -> Outcome {
    let root = ground.sites.scratch("freshness")?;
    lay_out(&root)?;
    let server = ground.serve_folder(&root, config(CacheLevel::Contents))?;
    let mut client = Client::connect(server.address)?;
    for path in ["dir/sub/file", "dir/sub", "dir", ""] {
        warm(&server, &mut client, TARGET)?;
        let mode = fs::metadata(root.join(path))?.permissions().mode();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o0))?;
        let gone = || server.service().stats.cached().entries == 0;
        let seen = deadline::within(STALE_MAX, "the entry to go", gone);
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode))?;
        seen.map_err(|failed| format!("chmod of \"{path}\": {}", failed.message().unwrap_or_default()))?;
        // Undoing it is a change, too.
        expect(&server, &mut client, Some("old as it was"), STALE_MAX)?;
    }
    drop(client);
    server.stop()?;
    DONE
}

/// Links aren't watched: the limit is one second.
fn retargeted_link(ground: Ground<'_>) -> Outcome {
    let root = ground.sites.scratch("freshness")?;
    fs::create_dir_all(root.join("dir/sub"))?;
    fs::write(root.join("dir/sub/one"), "one")?;
    fs::write(root.join("dir/sub/two"), "two")?;
    symlink("one", root.join("dir/sub/file"))?;
    let server = ground.serve_folder(&root, config(CacheLevel::Contents))?;
    let mut client = Client::connect(server.address)?;
    warm(&server, &mut client, TARGET)?;
    symlink("two", root.join("dir/sub/next"))?;
    fs::rename(root.join("dir/sub/next"), root.join("dir/sub/file"))?;
    expect(&server, &mut client, Some("two"), STALE_MAX)?;
    drop(client);
    server.stop()?;
    DONE
}

/// Files changed one after the other. Each line of a file contains its version.
const FILES: usize = 30;
const CHANGES_MIN: usize = 2000;
const READERS: usize = 3;
/// The kinds of change, in turn. A deleted file is recreated by the next change.
const WAYS: [usize; 5] = [REPLACED, OVERWRITTEN, REPLACED, OVERWRITTEN, DELETED];
const REPLACED: usize = 0;
const OVERWRITTEN: usize = 1;
const DELETED: usize = 2;
/// At least this long, and this many responses, between two changes; otherwise few responses would be hits.
const PAUSE: Duration = Duration::from_micros(700);
const ANSWERS: usize = 12;

/// What is known about one file.
#[derive(Debug, Default)]
struct History {
    /// When a version was completely written.
    versions: Vec<(Instant, u64)>,
    /// The latest version at which the file was deleted, or is about to be.
    absent: u64,
}

impl History {
    /// The oldest version a request sent now may see.
    fn floor(&self, asked: Instant) -> u64 {
        let settled = self.versions.iter().rev().find(|(since, _)| *since + STALE_MAX <= asked);
        settled.map_or(0, |(_, version)| *version)
    }
}

struct Subject {
    path: PathBuf,
    target: String,
    /// Some files are sent together with their heads, others from their own memory.
    lines: usize,
    history: Mutex<History>,
}

impl Subject {
    fn new(root: &Path, index: usize) -> io::Result<Subject> {
        let name = format!("d{}/f{index}", index % 3);
        let lines = if index.is_multiple_of(2) { 300 } else { 4000 };
        let path = root.join(&name);
        let subject = Subject { path, target: format!("/{name}"), lines, history: Mutex::default() };
        fs::create_dir_all(root.join(format!("d{}", index % 3)))?;
        subject.change(0, REPLACED)?;
        Ok(subject)
    }

    fn content(&self, version: u64) -> String {
        format!("{version:07}\n").repeat(self.lines)
    }

    /// Changes the file to another version, in one of several ways.
    fn change(&self, version: u64, way: usize) -> io::Result<()> {
        let content = self.content(version);
        match way {
            OVERWRITTEN => File::options()
                .write(true)
                .open(&self.path)
                .and_then(|file| file.write_all_at(content.as_bytes(), 0)),
            DELETED => {
                self.history().absent = version;
                fs::remove_file(&self.path)
            }
            _ => {
                let next = self.path.with_extension("next");
                fs::write(&next, content).and_then(|()| fs::rename(&next, &self.path))
            }
        }?;
        self.history().versions.push((Instant::now(), version));
        Ok(())
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests the file, and checks that the response isn't too old.
    fn ask(&self, client: &mut Client) -> Result<(), Failed> {
        let floor = self.history().floor(Instant::now());
        let response = client.get(&self.target)?;
        let oldest = match response.status {
            404 => self.history().absent,
            200 => {
                let versions = std::str::from_utf8(&response.content)?.lines().map(str::parse::<u64>);
                versions.collect::<Result<Vec<_>, _>>()?.into_iter().min().unwrap_or_default()
            }
            other => return Err(format!("{other} for {}", self.target).into()),
        };
        if oldest < floor {
            let status = response.status;
            return Err(format!("{}: {status}, version {oldest} where {floor} was", self.target).into());
        }
        Ok(())
    }
}

/// The readers' progress.
#[derive(Debug, Default)]
struct Progress {
    answers: AtomicUsize,
    over: AtomicBool,
}

fn read_on(
    address: SocketAddr,
    subjects: &[Subject],
    progress: &Progress,
    seed: usize,
) -> Result<(), Failed> {
    let mut client = Client::connect(address)?;
    let mut next = seed;
    while !progress.over.load(Relaxed) {
        next = next.wrapping_mul(2_654_435_761).wrapping_add(12_345) % (1 << 31);
        subjects[next / 7 % FILES].ask(&mut client)?;
        progress.answers.fetch_add(1, Relaxed);
    }
    // Nothing changes any more.
    thread::sleep(STALE_MAX);
    subjects.iter().try_for_each(|subject| subject.ask(&mut client))
}

/// Thousands of changes of all kinds, one at a time, while clients keep requesting all files.
fn changes_under_load(ground: Ground<'_>) -> Outcome {
    for level in LEVELS {
        let root = ground.sites.scratch("freshness")?;
        let subjects = (0..FILES).map(|index| Subject::new(&root, index)).collect::<io::Result<Vec<_>>>()?;
        let server = ground.serve_folder(&root, Config { workers: 2, ..config(level) })?;
        let progress = Progress::default();
        thread::scope(|scope| {
            let reader = |seed| {
                let (address, subjects, progress) = (server.address, &subjects, &progress);
                scope.spawn(move || read_on(address, subjects, progress, seed))
            };
            let readers: Vec<_> = (1..=READERS).map(reader).collect();
            let has_failed = || readers.iter().any(thread::ScopedJoinHandle::is_finished);
            let changed = change_all(&subjects, &progress.answers, has_failed);
            progress.over.store(true, Relaxed);
            join_all(readers).and(changed.map_err(Failed::from))
        })?;
        let totals = server.service().stats.totals();
        if totals.cache_hits < totals.requests() / 4 {
            return Err(format!("too few hits for a result: {totals}").into());
        }
        server.stop()?;
    }
    DONE
}

fn change_all(subjects: &[Subject], answers: &AtomicUsize, has_failed: impl Fn() -> bool) -> io::Result<()> {
    let mut absent = [false; FILES];
    for change in 0..CHANGES_MIN {
        let index = change * 7 % FILES;
        let way = if absent[index] { REPLACED } else { WAYS[change / FILES % WAYS.len()] };
        absent[index] = way == DELETED;
        let due = answers.load(Relaxed) + ANSWERS;
        subjects[index].change(change as u64 + 1, way)?;
        thread::sleep(PAUSE);
        while answers.load(Relaxed) < due {
            if has_failed() {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

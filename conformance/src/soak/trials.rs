//! The soak as a test: a few seconds on every backend, and checks that the judge detects faults.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant, SystemTime};

use common::http::conditional::Timestamp;
use common::{Config, SiteOptions};
use libtest_mimic::{Completion, Failed, Trial};
use tempfile::TempDir;

use super::clients::{Asker, Manner, ServerUnderTest};
use super::dice::Dice;
use super::gauge::{Levels, Sample};
use super::judge::{Answer, Ask, Fault, judge, judge_silence};
use super::ledger::{Entry, STALE_MAX, Size, State, Subject, What, Window};
use super::mutator::{Grounds, Mutator};
use super::{Options, Outcome};
use crate::backend::Backend;
use crate::response::{Framing, Response};
use crate::server::Server;
use crate::site::build_folder;

/// The duration of each of the two phases.
const PHASE: Duration = Duration::from_secs(3);
/// With fewer requests, the test proves nothing.
const REQUESTS_MIN: u64 = 100;

/// A test, and its name.
type Named = (&'static str, fn() -> Result<(), Failed>);

/// All tests.
#[must_use]
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = Backend::ALL
        .into_iter()
        .map(|backend| {
            Trial::ignorable_test(format!("{backend}::soak::seconds"), move || {
                if let Some(reason) = backend.missing() {
                    return Ok(Completion::ignored_with(reason));
                }
                seconds(backend)?;
                Ok(Completion::Completed)
            })
        })
        .collect();
    trials.extend(CASES.iter().map(|case| Trial::test(format!("judge::{}", case.name), move || case.run())));
    let others: [Named; 7] = [
        ("judge::a_response_date_before_the_file_date", a_response_date_before_the_file_date),
        ("judge::a_file_that_leaves", a_file_that_leaves),
        ("judge::an_end_without_an_answer", an_end_without_an_answer),
        ("judge::a_leak_of_memory", a_leak_of_memory),
        ("judge::a_leak_of_descriptors", a_leak_of_descriptors),
        ("judge::a_server_of_old_files", a_server_of_old_files),
        ("judge::a_server_of_wrong_bytes", a_server_of_wrong_bytes),
    ];
    trials.extend(others.into_iter().map(|(name, test)| Trial::test(name, test)));
    trials
}

/// Ignores memory: after so few seconds, a server is still warming up.
fn seconds(backend: Backend) -> Result<(), Failed> {
    let options =
        Options { backends: vec![backend], cache: None, seed: 7, first: PHASE, rest: PHASE, news: false };
    let Outcome { changes, verdicts } = super::run(&options)?;
    let [verdict] = verdicts.as_slice() else { return Err("not one verdict".into()) };
    let mut violations = verdict.answers_wrong();
    violations.extend(verdict.levels.more_descriptors());
    if !violations.is_empty() {
        return Err(format!("{verdict}\n{}", violations.join("\n")).into());
    }
    if verdict.tally.requests() < REQUESTS_MIN || changes == 0 {
        return Err(format!("the test proved nothing: {changes} changes, {verdict}").into());
    }
    Ok(())
}

/// A file of a thousand bytes that was overwritten in place and replaced, a given time before the request, and a
/// response for it.
struct Case {
    name: &'static str,
    /// Time between the completion of the last change and the request.
    since: Duration,
    status: u16,
    /// The version the response shows: 1 is overwritten by 2, 2 is replaced by 3.
    tag: u32,
    content: fn(&Subject) -> Vec<u8>,
    expected: Option<Fault>,
}

const LONG_AGO: Duration = Duration::from_millis(51);
const JUST_NOW: Duration = Duration::from_millis(49);
const BYTES: usize = 1000;

fn whole(subject: &Subject, version: u32) -> Vec<u8> {
    subject.pattern(version).bytes(0, BYTES)
}

/// Half of one version, then half of the other.
fn half(subject: &Subject, first: u32, second: u32) -> Vec<u8> {
    let middle = BYTES / 2;
    let second = subject.pattern(second).bytes(middle as u64, BYTES - middle);
    [&whole(subject, first)[..middle], &second].concat()
}

fn one_byte_wrong(subject: &Subject, version: u32) -> Vec<u8> {
    let mut bytes = whole(subject, version);
    bytes[BYTES / 3] ^= 1;
    bytes
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "what_is_there", since: LONG_AGO, status: 200, tag: 3, content: |it| whole(it, 3), expected: None },
    Case { name: "what_was_there_until_now", since: JUST_NOW, status: 200, tag: 2, content: |it| whole(it, 2), expected: None },
    Case { name: "a_stale_answer", since: LONG_AGO, status: 200, tag: 2, content: |it| whole(it, 2), expected: Some(Fault::Stale) },
    Case { name: "a_stale_confirmation", since: LONG_AGO, status: 304, tag: 2, content: |_| Vec::new(), expected: Some(Fault::Stale) },
    Case { name: "a_confirmation", since: LONG_AGO, status: 304, tag: 3, content: |_| Vec::new(), expected: None },
    Case { name: "a_stale_body_under_a_new_tag", since: LONG_AGO, status: 200, tag: 3, content: |it| whole(it, 2), expected: Some(Fault::Stale) },
    Case { name: "a_mixture_of_two_files", since: JUST_NOW, status: 200, tag: 3, content: |it| half(it, 2, 3), expected: Some(Fault::WrongByte) },
    Case { name: "what_was_overwritten_long_ago", since: JUST_NOW, status: 200, tag: 2, content: |it| half(it, 2, 1), expected: Some(Fault::Stale) },
    Case { name: "a_wrong_byte", since: LONG_AGO, status: 200, tag: 3, content: |it| one_byte_wrong(it, 3), expected: Some(Fault::WrongByte) },
    Case { name: "a_zero_where_nothing_was_cut", since: LONG_AGO, status: 200, tag: 3, content: |_| vec![0; BYTES], expected: Some(Fault::WrongByte) },
    Case { name: "a_body_cut_for_no_reason", since: LONG_AGO, status: 200, tag: 3, content: |it| whole(it, 3)[..BYTES - 1].to_vec(), expected: Some(Fault::Broken) },
    Case { name: "an_error_that_never_was", since: LONG_AGO, status: 404, tag: 3, content: |_| Vec::new(), expected: Some(Fault::WrongHead) },
    Case { name: "an_error_of_the_server", since: LONG_AGO, status: 500, tag: 3, content: |_| Vec::new(), expected: Some(Fault::WrongHead) },
    Case { name: "a_tag_that_never_was", since: LONG_AGO, status: 200, tag: 4, content: |it| whole(it, 3), expected: Some(Fault::WrongHead) },
];

/// The states of versions 1 to 3; version 4 never existed.
fn state(version: u32) -> State {
    let inode = if version < 3 { 10 } else { 11 };
    let modified = Timestamp { seconds: 1_709_210_096 + i64::from(version), nanoseconds: 5 };
    State { inode, size: BYTES as u64, modified, changed: modified, version }
}

fn entry(change: &'static str, version: u32, settled: Instant) -> Entry {
    let begun = settled.checked_sub(Duration::from_micros(50)).unwrap_or(settled);
    let what = What::File(state(version));
    Entry { change, what, begun, settled, gradual: false, cut: None, superseded: None }
}

fn changed_file(since: Duration) -> (Subject, Window) {
    let subject = Subject::new(5, PathBuf::new(), "/a/5.bin".to_owned(), Size::Small);
    let created = Instant::now();
    let overwritten = created + Duration::from_secs(1);
    let replaced = overwritten + Duration::from_secs(1);
    let mut history = subject.history();
    history.push(entry("created", 1, created));
    history.push(entry("overwritten", 2, overwritten));
    history.push(entry("replaced", 3, replaced));
    drop(history);
    let sent = replaced + since;
    (subject, Window { sent, received: sent + Duration::from_millis(1) })
}

impl Case {
    fn run(&self) -> Result<(), Failed> {
        let (subject, window) = changed_file(self.since);
        let tag = state(self.tag).etag();
        let asks = Ask { if_none_match: (self.status == 304).then(|| tag.clone()), ..Ask::default() };
        let modified = state(self.tag).modified();
        let answer =
            Answer { head: self.head(&tag, SystemTime::now(), modified)?, content: (self.content)(&subject) };
        let verdict = judge(&subject, &asks, window, &answer);
        if verdict.as_ref().err().map(|(fault, _)| *fault) == self.expected {
            Ok(())
        } else {
            Err(format!("{verdict:?} instead of {:?}", self.expected).into())
        }
    }

    fn head(&self, tag: &str, date: SystemTime, modified: SystemTime) -> Result<Response, Failed> {
        let phrase = match self.status {
            200 => "200 OK",
            304 => "304 Not Modified",
            404 => "404 Not Found",
            _ => "500 Internal Server Error",
        };
        let length = if self.status == 200 { BYTES } else { 0 };
        let [date, modified] = [date, modified].map(httpdate::fmt_http_date);
        let head = format!(
            "HTTP/1.1 {phrase}\r\nServer: triptych\r\nDate: {date}\r\nX-Content-Type-Options: nosniff\r\n\
             ETag: {tag}\r\nLast-Modified: {modified}\r\nContent-Length: {length}\r\n\r\n"
        );
        Response::parse(head.into_bytes(), Framing::Content)
    }
}

/// The response's date may be slightly old. The file's date is then capped to it, never earlier.
fn a_response_date_before_the_file_date() -> Result<(), Failed> {
    let (subject, window) = changed_file(LONG_AGO);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = Timestamp { seconds: now.as_secs().cast_signed(), nanoseconds: 0 };
    let now = State { modified: now, changed: now, ..state(3) };
    let (tag, modified) = (now.etag(), now.modified());
    subject.history().push(Entry { what: What::File(now), ..entry("touched", 3, window.sent) });
    let case = &CASES[0];
    for (date, shown, is_right) in [(1, 1, true), (1, 2, false), (0, 1, false)] {
        let [date, shown] = [date, shown].map(|seconds| modified - Duration::from_secs(seconds));
        let answer = Answer { head: case.head(&tag, date, shown)?, content: whole(&subject, 3) };
        let verdict = judge(&subject, &Ask::default(), window, &answer);
        if verdict.is_ok() != is_right {
            return Err(format!("{date:?}, {shown:?}: {verdict:?}").into());
        }
    }
    Ok(())
}

/// A request has opened a file, and then it is deleted, which changes its change time and so its tag.
fn a_file_that_leaves() -> Result<(), Failed> {
    for (since, is_right) in [(Duration::ZERO, true), (LONG_AGO, false)] {
        let (subject, window) = changed_file(LONG_AGO);
        let deleted = window.sent.checked_sub(since).ok_or("the clock has just begun")?;
        subject.history().push(Entry { what: What::Absent, ..entry("deleted", 3, deleted) });
        let left = State { changed: Timestamp { nanoseconds: 6, ..state(3).changed }, ..state(3) };
        let head = CASES[0].head(&left.etag(), SystemTime::now(), left.modified())?;
        let answer = Answer { head, content: whole(&subject, 3) };
        let verdict = judge(&subject, &Ask::default(), window, &answer);
        if verdict.is_ok() != is_right {
            return Err(format!("{since:?} after it was deleted: {verdict:?}").into());
        }
    }
    Ok(())
}

fn an_end_without_an_answer() -> Result<(), Failed> {
    let (subject, window) = changed_file(LONG_AGO);
    let cut = Entry { cut: Some(500), gradual: true, ..entry("cut", 3, window.sent) };
    subject.history().push(cut);
    match judge_silence(Some(&subject), window) {
        Err((Fault::Broken, _)) => Ok(()),
        other => Err(format!("a cut is no excuse: {other:?}").into()),
    }
}

fn levels(first: Sample, end: Sample) -> Levels {
    Levels { rest: [first, end], load: [first, first] }
}

fn a_leak_of_memory() -> Result<(), Failed> {
    let this = std::process::id();
    let first = Sample::take(this)?;
    if let Some(growth) = levels(first, Sample::take(this)?).growth().first() {
        return Err(format!("growth without a leak: {growth}").into());
    }
    // More than five percent of this process's memory, and more than malloc(3) could serve from freed memory (32 MiB,
    // mallopt(3), M_MMAP_THRESHOLD).
    let more = usize::try_from(first.memory_bytes / 10)?.max(40 << 20);
    let leaked = vec![1_u8; more];
    let grown = levels(first, Sample::take(this)?).growth();
    if std::hint::black_box(&leaked).len() == more && grown.len() == 1 && grown[0].contains("memory at rest")
    {
        Ok(())
    } else {
        Err(format!("a leak of {more} bytes: {grown:?}").into())
    }
}

fn a_leak_of_descriptors() -> Result<(), Failed> {
    let this = std::process::id();
    let first = Sample::take(this)?;
    let opened: Result<Vec<_>, _> = (0..9).map(|_| File::open("/proc/self/exe")).collect();
    let opened = opened?;
    let grown = levels(first, Sample::take(this)?).growth();
    drop(opened);
    if grown.len() == 1 && grown[0].contains("descriptors at rest") {
        Ok(())
    } else {
        Err(format!("a leak of nine: {grown:?}").into())
    }
}

/// A site, and a server for another folder that has the same files but keeps the old ones.
struct Forgery {
    folder: TempDir,
    grounds: Grounds,
}

impl Forgery {
    fn lay_out() -> io::Result<Forgery> {
        let folder = tempfile::Builder::new().prefix("soak-").tempdir_in(build_folder()?)?;
        let root = folder.path().join("site");
        fs::create_dir(&root)?;
        let grounds = Grounds::lay_out(&root, false)?;
        Mutator::new(&grounds, 3, &AtomicU64::new(0)).restore()?;
        for subject in &grounds.subjects {
            let link = Self::link(folder.path(), subject);
            fs::create_dir_all(link.parent().unwrap_or(Path::new("/")))?;
            fs::hard_link(&subject.path, link)?;
            record(subject, &subject.path, version_of(subject))?;
        }
        Ok(Forgery { folder, grounds })
    }

    fn link(folder: &Path, subject: &Subject) -> PathBuf {
        folder.join("forged").join(subject.target.trim_start_matches('/'))
    }

    /// Requests all files from the server; returns how often the fault was detected.
    fn ask(&self, fault: Fault) -> Result<u64, Failed> {
        let forged = self.folder.path().join("forged");
        let server = Server::start(Backend::Blocking, &forged, SiteOptions::default(), Config::default())?;
        let tested = ServerUnderTest::new("forged", server.address);
        let over = AtomicBool::new(false);
        let dice = Dice::new(3, 1);
        Asker::new(&tested, &self.grounds.subjects, &over, Manner::KeepAlive, dice).ask_for_all(1)?;
        server.stop()?;
        let caught = tested.tally().faults(fault);
        Ok(caught)
    }
}

/// The version that a file has now.
fn version_of(subject: &Subject) -> u32 {
    subject.history().entries().rev().find_map(|entry| Some(entry.state()?.version)).unwrap_or_default()
}

/// Records that a file has this version, and the state that is found.
fn record(subject: &Subject, path: &Path, version: u32) -> io::Result<()> {
    let what = What::File(State::new(&fs::metadata(path)?, version));
    subject.history().push(Entry { what, ..entry("linked", version, Instant::now()) });
    Ok(())
}

/// Every file is replaced on the site; the server still has the old ones.
fn a_server_of_old_files() -> Result<(), Failed> {
    let forgery = Forgery::lay_out()?;
    let caught = forgery.ask(Fault::Stale)?;
    if caught != 0 {
        return Err(format!("{caught} faults before anything was replaced").into());
    }
    let changes = AtomicU64::new(0);
    let mut mutator = Mutator::new(&forgery.grounds, 4, &changes);
    for subject in &forgery.grounds.subjects {
        let old = version_of(subject);
        mutator.replace(subject)?;
        let new = version_of(subject);
        // Replacing has taken a name from the old file, and so given it another change time.
        record(subject, &Forgery::link(forgery.folder.path(), subject), old)?;
        record(subject, &subject.path, new)?;
    }
    std::thread::sleep(STALE_MAX + Duration::from_millis(1));
    let caught = forgery.ask(Fault::Stale)?;
    let all = forgery.grounds.subjects.len() as u64;
    if caught == all { Ok(()) } else { Err(format!("{caught} faults detected of {all}").into()) }
}

/// One byte of a file differs from the record, which knows its tag.
fn a_server_of_wrong_bytes() -> Result<(), Failed> {
    let forgery = Forgery::lay_out()?;
    let subject = &forgery.grounds.subjects[0];
    let file = File::options().read(true).write(true).open(&subject.path)?;
    let modified = file.metadata()?.modified()?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0)?;
    file.write_all_at(&[!byte[0]], 0)?;
    file.set_modified(modified)?;
    record(subject, &subject.path, version_of(subject))?;
    let caught = forgery.ask(Fault::WrongByte)?;
    if caught == 1 { Ok(()) } else { Err(format!("caught {caught} times").into()) }
}

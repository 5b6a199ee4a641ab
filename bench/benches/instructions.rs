//! How many instructions the core takes per request: `cargo bench --bench instructions`.
//!
//! Times wander with the machine, instructions don't: two per cent more is a change of the code. The program starts
//! itself once more. That child carries out the cases and marks where each begins and ends by a signal to
//! itself; in between the parent lets it go on by one instruction at a time and counts (`PTRACE_SINGLESTEP`,
//! ptrace(2)). A system call counts as one. So no tool has to be installed, and the site works as it always does:
//! under Valgrind before 3.20 there would be no openat2(2), and so neither a site nor a cache.
//!
//! `instructions.toml` beside this file holds what is expected, of one compiler on one target. With these, more
//! than [`TOLERANCE`] above it fails (exit code 1); with others the counts are only told. `-- --renew` writes
//! the file anew. Where no process may be traced, it says so and succeeds.

#![expect(clippy::print_stdout, reason = "the counts are what this program is for")]

mod heads;

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bench::failure::{Failure, Result};
use clap::Parser;
use common::http::request::Parsed;
use common::{
    CacheConfig, Config, Connection, OpenRequest, Service, Site, SiteOptions, Step, Worker, parse_http_get,
};
use heads::{BROWSER, WRK};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{getpid, kill_process};
use serde::{Deserialize, Serialize};

/// What a count may exceed its expectation by.
const TOLERANCE: f64 = 0.02;

/// How often each case is counted. The least counts: what comes on top now and then is no part of a request.
const REPETITIONS: usize = 5;

/// The only argument of the child.
const CHILD: &str = "--carry-out-the-cases";

/// The child's exit code where it may not be traced.
const UNTRACED: i32 = 77;

/// The C library chooses among several memcpy by what the processor has: this one shall be had everywhere
/// (glibc manual, "Hardware Capability Tunables"; other libraries know nothing of it).
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-ERMS,-FSRM");

const NAME: &str = "instructions.toml";

const PIPELINED: u32 = 16;

/// A case: its name, how many requests one go consists of, and how one is prepared.
type Case = (&'static str, u32, fn(&mut Setting) -> Go);

/// One go of a case, ready to be counted.
type Go = Box<dyn FnOnce(&mut Setting)>;

const CASES: [Case; 10] = [
    ("1 KiB from the cache", 1, |setting| setting.hit(WRK.to_vec())),
    ("1 KiB from the cache, with rules", 1, |setting| {
        setting.rule();
        setting.hit(WRK.to_vec())
    }),
    ("text as it is, from the cache", 1, |setting| setting.hit(text_in(""))),
    ("text in brotli, compressed", 1, |setting| setting.coded("text.html")),
    ("text in brotli, a file beside it", 1, |setting| setting.coded("beside.html")),
    ("1 KiB, cache off, file handed over", 1, Setting::miss),
    ("not modified, from the cache", 1, |setting| {
        let condition = format!("If-None-Match: {}\r\n", setting.entity_tag());
        setting.hit(with_field(&condition))
    }),
    ("a range, from the cache", 1, |setting| setting.hit(with_field("Range: bytes=100-299\r\n"))),
    ("16 pipelined, from the cache", PIPELINED, |setting| setting.hit(WRK.repeat(PIPELINED as usize))),
    ("parse a browser's head", 1, |_| {
        Box::new(|_| {
            assert!(matches!(black_box(parse_http_get(black_box(BROWSER))), Parsed::Complete(..)));
        })
    }),
];

/// What cargo and the user say.
#[derive(Debug, Parser)]
#[command(name = "instructions")]
struct Arguments {
    /// Writes down what is counted as what is expected from now on
    #[arg(long)]
    renew: bool,
    /// Only the cases whose names hold one of these
    cases: Vec<String>,
    /// Cargo's own
    #[arg(long, hide = true)]
    bench: bool,
    /// As without it: the counts take a second or two
    #[arg(long, hide = true)]
    test: bool,
}

/// What is expected, and of whom.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Expectations {
    compiler: String,
    target: String,
    /// Instructions per request.
    cases: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(CHILD) {
        return carry_out();
    }
    let arguments = Arguments::parse();
    run(&arguments).unwrap_or_else(|failure| bench::cli::fail(&failure))
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Some(counts) = count()? else { return Ok(ExitCode::SUCCESS) };
    let found = Expectations {
        compiler: env!("BENCH_RUSTC").to_owned(),
        target: env!("BENCH_TARGET").to_owned(),
        cases: counts,
    };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches").join(NAME);
    if arguments.renew {
        let text = toml::to_string(&found).map_err(Failure::context("write the expectations"))?;
        let head = "# Instructions per request. Renewed by: cargo bench --bench instructions -- --renew\n";
        fs::write(&path, head.to_owned() + &text).map_err(Failure::context("write the expectations"))?;
    }
    let expected = match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(Failure::context("read the expectations"))?,
        Err(error) if error.kind() == ErrorKind::NotFound => Expectations::default(),
        Err(error) => return Err(Failure::context("read the expectations")(error)),
    };
    Ok(compare(&expected, &found, &arguments.cases))
}

/// Tells the counts, and whether they are what is expected.
fn compare(expected: &Expectations, found: &Expectations, wanted: &[String]) -> ExitCode {
    let is_comparable = (&expected.compiler, &expected.target) == (&found.compiler, &found.target);
    let mut crept = false;
    println!("instructions per request      counted  expected");
    for (name, counted) in &found.cases {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part)) {
            continue;
        }
        let Some(expectation) = expected.cases.get(name) else {
            println!("{name:36} {counted:8}         -  (new: -- --renew writes it down)");
            crept |= is_comparable;
            continue;
        };
        let ratio = as_float(*counted) / as_float(*expectation);
        let remark = if !is_comparable {
            ""
        } else if ratio > 1.0 + TOLERANCE {
            crept = true;
            "  more than expected"
        } else if ratio < 1.0 - TOLERANCE {
            "  less: -- --renew keeps it so"
        } else {
            ""
        };
        println!("{name:36} {counted:8} {expectation:9}  {:+.1} %{remark}", (ratio - 1.0) * 100.0);
    }
    if expected.cases.is_empty() {
        println!("nothing is expected yet: -- --renew writes down what was counted");
    } else if !is_comparable {
        println!("expected of {} on {}; this is {}", expected.compiler, expected.target, found.compiler);
    }
    if crept {
        println!(
            "The core has become dearer: look for the reason, or, if it is worth it, renew (-- --renew)."
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn as_float(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

// ---- the parent: counts

/// Instructions per request of every case; nothing where no process may be traced.
fn count() -> Result<Option<BTreeMap<String, u64>>> {
    let mut command = Command::new(std::env::current_exe().map_err(Failure::context("find this program"))?);
    command.arg(CHILD).env(TUNABLES.0, TUNABLES.1).stdin(Stdio::null());
    let child = command.spawn().map_err(Failure::context("start this program again"))?;
    let child = Pid::from_raw(child.id().cast_signed());
    match wait(child)? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        WaitStatus::Exited(_, UNTRACED) => return Ok(None),
        other => return Err(Failure::new(format!("the cases ended before they began: {other:?}"))),
    }
    ptrace::setoptions(child, ptrace::Options::PTRACE_O_EXITKILL)
        .map_err(Failure::context("trace the cases"))?;
    // Between two marks with nothing between them: what the marks themselves cost.
    let marks = least(child)?;
    let mut counts = BTreeMap::new();
    for (name, requests, _) in CASES {
        let each = (least(child)?.saturating_sub(marks)) / u64::from(requests);
        counts.insert(name.to_owned(), each);
    }
    go_on(child)?;
    match wait(child)? {
        WaitStatus::Exited(_, 0) => Ok(Some(counts)),
        other => Err(Failure::new(format!("the cases did not end well: {other:?}"))),
    }
}

/// The least count of one case.
fn least(child: Pid) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..REPETITIONS {
        go_on(child)?;
        expect_mark(wait(child)?)?;
        least = least.min(count_to_mark(child)?);
    }
    Ok(least)
}

fn count_to_mark(child: Pid) -> Result<u64> {
    let mut instructions = 0;
    loop {
        ptrace::step(child, None).map_err(Failure::context("step through a case"))?;
        match wait(child)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => instructions += 1,
            other => return expect_mark(other).map(|()| instructions),
        }
    }
}

fn expect_mark(status: WaitStatus) -> Result<()> {
    match status {
        WaitStatus::Stopped(_, Signal::SIGUSR1) => Ok(()),
        other => Err(Failure::new(format!("a case ended in its middle: {other:?}"))),
    }
}

fn go_on(child: Pid) -> Result<()> {
    ptrace::cont(child, None).map_err(Failure::context("let the cases go on"))
}

fn wait(child: Pid) -> Result<WaitStatus> {
    waitpid(child, None).map_err(Failure::context("wait for the cases"))
}

// ---- the child: carries out

fn carry_out() -> ExitCode {
    if let Err(errno) = ptrace::traceme() {
        println!("skipped: instructions can't be counted where ptrace(2) is forbidden ({errno})");
        return ExitCode::from(u8::try_from(UNTRACED).unwrap_or(1));
    }
    let _parent_takes_over = kill_process(getpid(), rustix::process::Signal::STOP);
    for _ in 0..REPETITIONS {
        mark();
        mark();
    }
    for (_, _, prepare) in CASES {
        let mut setting = Setting::new();
        for _ in 0..REPETITIONS {
            let go = prepare(&mut setting);
            mark();
            go(&mut setting);
            mark();
        }
    }
    ExitCode::SUCCESS
}

/// Begins or ends what is counted. The parent sees the signal and takes it away.
fn mark() {
    kill_process(getpid(), rustix::process::Signal::USR1).expect("a signal to itself");
}

/// A site of files of 1 KiB, and a connection that has been used.
struct Setting {
    folder: tempfile::TempDir,
    worker: Worker,
    connection: Connection,
}

impl Setting {
    fn new() -> Setting {
        Setting::with(Config::default())
    }

    fn with(config: Config) -> Setting {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["1KiB.bin", "text.html", "beside.html", "beside.html.br"] {
            fs::write(folder.path().join(name), vec![b'x'; 1024]).expect("a temporary file");
        }
        Setting::of(folder, config)
    }

    /// The same site, with rules that have nothing to say of the file.
    fn rule(&mut self) {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"));
        fs::write(folder.path().join("_headers"), "/assets/*\n Cache-Control: immutable\n").expect("a file");
        fs::write(folder.path().join("_redirects"), "/old/* /new/:splat\n/now /then 302!\n").expect("a file");
        *self = Setting::of(folder, Config::default());
    }

    fn of(folder: tempfile::TempDir, config: Config) -> Setting {
        let site = Site::open_root(folder.path(), SiteOptions::default()).expect("the folder opens");
        let service = Arc::new(Service::new(site, config).expect("a service"));
        let worker = Worker::new(service, 0);
        let connection = Connection::new(&worker, None);
        let mut setting = Setting { folder, worker, connection };
        // The head of a file that has just been written is no prepared one.
        while setting.entity_tag().starts_with("W/") {
            std::thread::sleep(Duration::from_millis(10));
            setting.worker.tick();
        }
        setting
    }

    /// A request that nothing has to be opened for.
    fn hit(&mut self, request: Vec<u8>) -> Go {
        // The second lets the file in, what follows grows the buffers.
        for _ in 0..4 {
            self.answer(&request);
        }
        self.connection.received(&mut self.worker, &request);
        assert!(matches!(self.connection.step(), Step::Send(_)), "it is in the cache");
        self.send();
        Box::new(move |setting| {
            setting.connection.received(&mut setting.worker, black_box(&request));
            setting.send();
        })
    }

    /// A request for text by a client that accepts brotli, once it is there.
    fn coded(&mut self, name: &str) -> Go {
        let request = text_in("Accept-Encoding: gzip, deflate, br, zstd\r\n");
        let request = String::from_utf8(request).expect("a head").replace("text.html", name);
        while !String::from_utf8_lossy(&self.answer(request.as_bytes())).contains("Content-Encoding: br") {
            std::thread::sleep(Duration::from_millis(1));
            self.worker.tick();
        }
        self.hit(request.into_bytes())
    }

    /// A request without a cache: the backend's open is made beforehand.
    fn miss(&mut self) -> Go {
        if self.worker.config().cache != CacheConfig::OFF {
            *self = Setting::with(Config { cache: CacheConfig::OFF, ..Config::default() });
        }
        // The first grows the buffers.
        self.answer(WRK);
        self.connection.received(&mut self.worker, WRK);
        let wanted = self.wanted().map(|wanted| OpenRequest::clone(&wanted)).expect("an open");
        let opened = wanted.open();
        self.connection.opened(&mut self.worker, opened);
        self.send();
        let opened = wanted.open();
        Box::new(move |setting| {
            setting.connection.received(&mut setting.worker, black_box(WRK));
            setting.connection.opened(&mut setting.worker, black_box(opened));
            setting.send();
        })
    }

    fn wanted(&self) -> Option<Arc<OpenRequest>> {
        match self.connection.step() {
            Step::Open(wanted) => Some(Arc::clone(wanted)),
            _ => None,
        }
    }

    /// Carries out all steps; the answer's bytes in memory.
    fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        self.connection.received(&mut self.worker, request);
        loop {
            if let Some(wanted) = self.wanted() {
                let opened = wanted.open();
                drop(wanted);
                self.connection.opened(&mut self.worker, opened);
            }
            match self.connection.step() {
                Step::Open(_) => {}
                Step::Read(range) => {
                    let content = range.read().expect("a file that is there");
                    self.connection.read(&mut self.worker, Ok(content));
                }
                Step::Send(chunks) => {
                    chunks.front().0.iter().for_each(|piece| answer.extend_from_slice(piece.bytes()));
                    self.send_once();
                }
                Step::Receive => return answer,
                Step::Close(close) => panic!("the connection stays, no {close:?}"),
            }
        }
    }

    fn entity_tag(&mut self) -> String {
        let answer = String::from_utf8(self.answer(WRK)).expect("a head and letters");
        let (_, rest) = answer.split_once("ETag: ").expect("an entity tag");
        rest.split("\r\n").next().expect("a value").to_owned()
    }

    /// Sends until another request is waited for.
    fn send(&mut self) {
        while self.send_once() {}
        assert!(matches!(self.connection.step(), Step::Receive), "the connection waits for a request");
    }

    fn send_once(&mut self) -> bool {
        let Step::Send(chunks) = self.connection.step() else { return false };
        let bytes = usize::try_from(chunks.length()).expect("a small file");
        self.connection.sent(&mut self.worker, bytes);
        true
    }
}

/// The plainest request for text, with one more field.
fn text_in(field: &str) -> Vec<u8> {
    let request = String::from_utf8(with_field(field)).expect("a head");
    request.replace("1KiB.bin", "text.html").into_bytes()
}

/// The plainest request with one more field.
fn with_field(field: &str) -> Vec<u8> {
    let fields = WRK.strip_suffix(b"\r\n").expect("an empty line at the end");
    [fields, field.as_bytes(), b"\r\n"].concat()
}

//! A soak test: many kinds of clients on servers whose files change all the time, for any length of time.
//!
//! One thread (`mutator.rs`) changes one site, which each backend's real program serves from its own process. Every
//! version of a file has its own pattern ([`ledger`]), so every response can be checked ([`judge`]) against the history
//! of its file. The resources of each process are measured every second ([`gauge`]), and at rest after the first phase
//! and at the end.

mod clients;
mod dice;
pub mod gauge;
pub mod judge;
pub mod ledger;
mod mutator;
pub mod tally;
mod trials;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rustix::process::Signal;

pub use self::trials::trials;

use self::clients::{Asker, CROWD, Manner, ServerUnderTest};
use self::dice::Dice;
use self::gauge::{Levels, Sample, median};
use self::mutator::{Grounds, Mutator};
use self::tally::Verdict;
use crate::backend::Backend;
use crate::program::{Program, Programs, Running};
use crate::site::build_folder;

/// The user the servers run as, so that files can be made unreadable (overflowuid, proc(5)).
const NOBODY: u32 = 65_534;

const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How often progress is reported.
const NEWS_INTERVAL: Duration = Duration::from_secs(60);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Connections that request all files before a measurement at rest: enough to reach every worker.
const SETTLERS: u64 = 16;
/// How often each of them requests all files: the second request admits a file to the cache.
const SETTLE_ROUNDS: u32 = 3;

/// At least one response in this many must be a cache hit; otherwise the test proves nothing about the cache.
const HIT_SHARE: u64 = 4;

/// What to test, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The servers.
    pub backends: Vec<Backend>,
    /// Their cache level, as for `--cache`; `None` for the default.
    pub cache: Option<String>,
    /// The random seed.
    pub seed: u64,
    /// Duration of the load before the first measurement at rest, which is the reference.
    pub first: Duration,
    /// Duration of the load after it.
    pub rest: Duration,
    /// Whether to report progress on standard error.
    pub news: bool,
}

/// A server under test, as a running program.
struct TestServer {
    tested: ServerUnderTest,
    running: Running,
}

/// The result of a soak.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The number of changes made.
    pub changes: u64,
    /// The result for each server.
    pub verdicts: Vec<Verdict>,
}

/// Runs a soak.
///
/// # Errors
/// If it can't be run. Faults of servers are part of the outcome.
pub fn run(options: &Options) -> Result<Outcome, Failed> {
    let programs = Programs::build()?;
    let folder = tempfile::Builder::new().prefix("soak-").tempdir_in(build_folder()?)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let root = folder.path().join("site");
    fs::create_dir(&root)?;
    let is_root = rustix::process::geteuid().is_root();
    let user = (is_root && others_can_pass(&root)).then_some(NOBODY);
    let grounds = Grounds::lay_out(&root, user.is_some() || !is_root)?;
    let changes = AtomicU64::new(0);
    let mut mutator = Mutator::new(&grounds, options.seed, &changes);
    mutator.restore()?;

    let start = |backend: &Backend| {
        TestServer::start(*backend, programs.path(Program::Of(*backend))?, &root, options, user)
    };
    let servers = options.backends.iter().map(start).collect::<Result<Vec<_>, Failed>>()?;
    let mut soak = Soak { options, grounds: &grounds, servers: &servers, phase: 0 };
    let (first_load, first_rest) = soak.phase(options.first, &mut mutator)?;
    let (end_load, end_rest) = soak.phase(options.rest, &mut mutator)?;
    let verdicts = servers.into_iter().enumerate().map(|(index, server)| {
        let rest = [first_rest[index], end_rest[index]];
        let load = [first_load[index], end_load[index]];
        server.end(options, Levels { rest, load })
    });
    Ok(Outcome { verdicts: verdicts.collect::<Result<_, _>>()?, changes: changes.load(Relaxed) })
}

impl TestServer {
    fn start(
        backend: Backend,
        program: &Path,
        root: &Path,
        options: &Options,
        user: Option<u32>,
    ) -> Result<TestServer, Failed> {
        let mut command = Command::new(program);
        // With `--stats`, the server prints its totals at exit.
        command.args(["--listen", "127.0.0.1:0", "--stats=1h"]).arg(root);
        command.args(options.cache.iter().flat_map(|level| ["--cache", level]));
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut running = Running::start(&mut command)?;
        let address = running.addresses(1)?[0];
        Ok(TestServer { tested: ServerUnderTest::new(backend.name(), address), running })
    }

    /// Ends the server and returns its verdict.
    fn end(self, options: &Options, levels: Levels) -> Result<Verdict, Failed> {
        let TestServer { tested, running } = self;
        let (name, tally) = (tested.name, tested.tally().clone());
        running.signal(Signal::TERM)?;
        let ended = running.wait(STOP_PATIENCE)?;
        if !ended.status.success() {
            return Err(format!("{name} ended with {}: {}", ended.status, ended.errors).into());
        }
        let hits = hits(&ended.errors).ok_or_else(|| format!("no totals: {}", ended.errors))?;
        let is_cached = options.cache.as_deref() != Some("off");
        let hits_wanted = if is_cached { tally.requests() / HIT_SHARE } else { 0 };
        Ok(Verdict { name, tally, levels, hits, hits_wanted })
    }
}

/// The number of hits in a server's totals: `epoll: total …, 12 hits, 3 misses, …`.
fn hits(errors: &str) -> Option<u64> {
    let totals = errors.lines().find(|line| line.contains(": total "))?;
    totals.split(", ").find_map(|part| part.strip_suffix(" hits"))?.parse().ok()
}

/// Whether other users can access a path.
fn others_can_pass(path: &Path) -> bool {
    let passes =
        |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o1 != 0);
    path.ancestors().all(passes)
}

struct Soak<'a> {
    options: &'a Options,
    grounds: &'a Grounds,
    servers: &'a [TestServer],
    phase: u64,
}

impl Soak<'_> {
    /// Applies load for this long, then rest. Returns each server's median under load and its level at rest.
    fn phase(
        &mut self,
        duration: Duration,
        mutator: &mut Mutator<'_>,
    ) -> Result<(Vec<Sample>, Vec<Sample>), Failed> {
        self.phase += 1;
        let samples = self.load(duration, mutator)?;
        let count = self.servers.len();
        let mut load = Vec::new();
        for index in 0..count {
            let mine: Vec<_> = samples.iter().map(|second| second[index]).collect();
            // The second half of a short phase, the last minute of a long one.
            let last = mine.len().saturating_sub(60).max(mine.len() / 2);
            load.push(median(&mine[last..]).ok_or("too short for a sample")?);
        }
        self.settle()?;
        let rest = self.servers.iter().map(|server| Sample::take_at_rest(server.running.id()));
        Ok((load, rest.collect::<Result<_, _>>()?))
    }

    fn load(&self, duration: Duration, mutator: &mut Mutator<'_>) -> Result<Vec<Vec<Sample>>, Failed> {
        let over = &AtomicBool::new(false);
        let subjects = &self.grounds.subjects;
        thread::scope(|scope| {
            let mut index = self.phase << 32;
            for server in self.servers {
                for manner in CROWD {
                    index += 1;
                    let dice = Dice::new(self.options.seed, index);
                    let mut asker = Asker::new(&server.tested, subjects, over, manner, dice);
                    scope.spawn(move || asker.run());
                }
            }
            let changing = scope.spawn(|| mutator.run(over));
            let watched = self.watch(Instant::now() + duration, || changing.is_finished());
            over.store(true, Relaxed);
            let changed = changing.join().unwrap_or_else(|_| Err(std::io::Error::other("a panic")));
            changed.map_err(|error| format!("changing files: {error}"))?;
            watched
        })
    }

    /// Takes samples until the deadline.
    fn watch(&self, deadline: Instant, given_up: impl Fn() -> bool) -> Result<Vec<Vec<Sample>>, Failed> {
        let mut samples = Vec::new();
        let begun = Instant::now();
        let mut news = begun + NEWS_INTERVAL;
        while Instant::now() < deadline && !given_up() {
            thread::sleep(SAMPLE_INTERVAL.min(deadline.saturating_duration_since(Instant::now())));
            let second: Result<Vec<_>, _> =
                self.servers.iter().map(|server| Sample::take(server.running.id())).collect();
            let second = second?;
            if self.options.news && Instant::now() >= news {
                news += NEWS_INTERVAL;
                for (server, sample) in self.servers.iter().zip(&second) {
                    let tally = server.tested.tally();
                    let seconds = begun.elapsed().as_secs();
                    eprintln!(
                        "{seconds} s, {} ({}): {tally}; {} KiB, {} descriptors",
                        server.tested.name,
                        server.running.id(),
                        sample.memory_bytes / 1024,
                        sample.descriptors
                    );
                    tally.shown().iter().for_each(|fault| eprintln!("  {fault}"));
                }
            }
            samples.push(second);
        }
        Ok(samples)
    }

    /// Fills the caches, so that their content is not random.
    fn settle(&self) -> Result<(), Failed> {
        let over = AtomicBool::new(false);
        for server in self.servers {
            for index in 0..SETTLERS {
                let dice = Dice::new(self.options.seed, index);
                let mut asker =
                    Asker::new(&server.tested, &self.grounds.subjects, &over, Manner::KeepAlive, dice);
                asker.ask_for_all(SETTLE_ROUNDS)?;
            }
        }
        Ok(())
    }
}

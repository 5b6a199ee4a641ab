//! A soak: every manner of client on servers whose files change all the time, for as long as one likes.
//!
//! One site, changed by one thread (`mutator.rs`), is served by each backend's real program in a process of its
//! own. Every content of a file is a pattern of its own ([`ledger`]), so that any answer can be told right or
//! wrong ([`judge`]) from what the file was at that time. What a process holds is looked at each second
//! ([`gauge`]), and at rest after the first phase and at the end.

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

use self::clients::{Accused, Asker, CROWD, Manner};
use self::dice::Dice;
use self::gauge::{Levels, Sample, median};
use self::mutator::{Grounds, Mutator};
use self::tally::Verdict;
use crate::backend::Backend;
use crate::program::{Programs, Running};
use crate::site::build_folder;

/// Files may be kept from this user: nobody (overflowuid, proc(5)).
const NOBODY: u32 = 65_534;

const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is said how things are going.
const NEWS_INTERVAL: Duration = Duration::from_secs(60);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Connections that ask for all files before a time of rest: enough to reach every worker.
const SETTLERS: u64 = 16;
/// How often each of them asks: the second time a file is let into the cache.
const SETTLE_ROUNDS: u32 = 3;

/// One answer of so many at least must have come from the cache: else nothing is shown about it.
const HIT_SHARE: u64 = 4;

/// What is soaked, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom.
    pub backends: Vec<Backend>,
    /// The level of their cache, as `--cache` names it; none: the default.
    pub cache: Option<String>,
    /// What chance begins with.
    pub seed: u64,
    /// Load before the first time of rest, whose level is what counts.
    pub first: Duration,
    /// Load after it.
    pub rest: Duration,
    /// Whether to say on standard error how things are going.
    pub news: bool,
}

/// One server, and its program.
struct Suspect {
    accused: Accused,
    running: Running,
}

/// What a soak came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The changes that were made.
    pub changes: u64,
    /// What is said of each server.
    pub verdicts: Vec<Verdict>,
}

/// Runs a soak.
///
/// # Errors
/// When it can't be run: what servers do wrong is in the outcome.
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

    let start = |backend: &Backend| Suspect::start(*backend, programs.path(*backend)?, &root, options, user);
    let suspects = options.backends.iter().map(start).collect::<Result<Vec<_>, Failed>>()?;
    let mut soak = Soak { options, grounds: &grounds, suspects: &suspects, phase: 0 };
    let (first_load, first_rest) = soak.phase(options.first, &mut mutator)?;
    let (end_load, end_rest) = soak.phase(options.rest, &mut mutator)?;
    let verdicts = suspects.into_iter().enumerate().map(|(index, suspect)| {
        let rest = [first_rest[index], end_rest[index]];
        let load = [first_load[index], end_load[index]];
        suspect.end(options, Levels { rest, load })
    });
    Ok(Outcome { verdicts: verdicts.collect::<Result<_, _>>()?, changes: changes.load(Relaxed) })
}

impl Suspect {
    fn start(
        backend: Backend,
        program: &Path,
        root: &Path,
        options: &Options,
        user: Option<u32>,
    ) -> Result<Suspect, Failed> {
        let mut command = Command::new(program);
        // With statistics, it tells its totals at the end.
        command.args(["--listen", "127.0.0.1:0", "--stats=1h"]).arg(root);
        command.args(options.cache.iter().flat_map(|level| ["--cache", level]));
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let mut running = Running::start(&mut command)?;
        let address = running.addresses(1)?[0];
        Ok(Suspect { accused: Accused::new(backend.name(), address), running })
    }

    /// Ends it, and says what is to be said of it.
    fn end(self, options: &Options, levels: Levels) -> Result<Verdict, Failed> {
        let Suspect { accused, running } = self;
        let (name, tally) = (accused.name, accused.tally().clone());
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

/// The hits, from the last words of a server: `epoll: total …, 12 hits, 3 misses, …`.
fn hits(errors: &str) -> Option<u64> {
    let totals = errors.lines().find(|line| line.contains(": total "))?;
    totals.split(", ").find_map(|part| part.strip_suffix(" hits"))?.parse().ok()
}

/// Whether another user can reach a path.
fn others_can_pass(path: &Path) -> bool {
    let passes =
        |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o1 != 0);
    path.ancestors().all(passes)
}

struct Soak<'a> {
    options: &'a Options,
    grounds: &'a Grounds,
    suspects: &'a [Suspect],
    phase: u64,
}

impl Soak<'_> {
    /// Load for so long, then rest: what each server held, the median under load and at rest.
    fn phase(
        &mut self,
        duration: Duration,
        mutator: &mut Mutator<'_>,
    ) -> Result<(Vec<Sample>, Vec<Sample>), Failed> {
        self.phase += 1;
        let samples = self.load(duration, mutator)?;
        let count = self.suspects.len();
        let mut load = Vec::new();
        for index in 0..count {
            let mine: Vec<_> = samples.iter().map(|second| second[index]).collect();
            // The second half of the first minute, the last minute of all.
            let last = mine.len().saturating_sub(60).max(mine.len() / 2);
            load.push(median(&mine[last..]).ok_or("too short for a sample")?);
        }
        self.settle()?;
        let rest = self.suspects.iter().map(|suspect| Sample::take_at_rest(suspect.running.id()));
        Ok((load, rest.collect::<Result<_, _>>()?))
    }

    fn load(&self, duration: Duration, mutator: &mut Mutator<'_>) -> Result<Vec<Vec<Sample>>, Failed> {
        let over = &AtomicBool::new(false);
        let subjects = &self.grounds.subjects;
        thread::scope(|scope| {
            let mut index = self.phase << 32;
            for suspect in self.suspects {
                for manner in CROWD {
                    index += 1;
                    let dice = Dice::new(self.options.seed, index);
                    let mut asker = Asker::new(&suspect.accused, subjects, over, manner, dice);
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
                self.suspects.iter().map(|suspect| Sample::take(suspect.running.id())).collect();
            let second = second?;
            if self.options.news && Instant::now() >= news {
                news += NEWS_INTERVAL;
                for (suspect, sample) in self.suspects.iter().zip(&second) {
                    let tally = suspect.accused.tally();
                    let seconds = begun.elapsed().as_secs();
                    eprintln!(
                        "{seconds} s, {} ({}): {tally}; {} KiB, {} descriptors",
                        suspect.accused.name,
                        suspect.running.id(),
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

    /// Fills the caches: what they hold is no matter of luck then.
    fn settle(&self) -> Result<(), Failed> {
        let over = AtomicBool::new(false);
        for suspect in self.suspects {
            for index in 0..SETTLERS {
                let dice = Dice::new(self.options.seed, index);
                let mut asker =
                    Asker::new(&suspect.accused, &self.grounds.subjects, &over, Manner::KeepAlive, dice);
                asker.ask_for_all(SETTLE_ROUNDS)?;
            }
        }
        Ok(())
    }
}

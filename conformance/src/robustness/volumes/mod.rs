//! Sites on other volumes than a local disk, whole or in part. Only those who ask for a volume's files wait for it.
//!
//! The server is in another process: one that hangs in a dead volume can be killed there.

mod dead;
mod exchange;
mod healthy;
mod layered;
mod slow;

use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::backend::Backend;
use crate::client::Client;
use crate::response::Framing;
use crate::row::get;
use crate::site::{DIGITS, pattern_of, write};

/// The groups of tests for a backend.
pub(super) fn groups(backend: Backend) -> Vec<(&'static str, &'static [(&'static str, Test)])> {
    let mut groups = vec![
        ("healthy_volume", healthy::TESTS),
        ("slow_volume", slow::TESTS),
        ("dead_volume", dead::TESTS),
        ("layered_volume", layered::TESTS),
    ];
    if backend != Backend::Blocking {
        groups.extend([
            ("healthy_volume", healthy::TESTS_OF_LOOPS),
            ("dead_volume", dead::TESTS_OF_LOOPS),
            ("layered_volume", layered::TESTS_OF_LOOPS),
        ]);
    }
    groups
}

/// Whoever asks for something that lies elsewhere is answered within this time.
const SOON: Duration = Duration::from_millis(300);

/// Long enough for a server that is stuck to be told from one that is slow.
const PATIENCE: Duration = Duration::from_secs(5);

/// Below a root, where a volume is mounted.
const FAR: &str = "far/";

/// Below a root, a file on the disk.
const NEAR: &str = "/near.txt";

/// A folder on the disk with one file in it, and a directory to mount a volume over.
fn make_root(ground: Ground<'_>, name: &str) -> Result<PathBuf, Failed> {
    let root = ground.sites.scratch(name)?;
    write(&root.join(&NEAR[1..]), DIGITS)?;
    fs::create_dir(root.join(FAR))?;
    Ok(root)
}

/// Files of these sizes with their patterns; a name starts with its file's number.
fn numbered(sizes: &[u64]) -> Result<Vec<(String, Vec<u8>)>, Failed> {
    let file = |(number, size): (usize, &u64)| {
        Ok((name_of(number, *size), pattern_of(*size).bytes(0, usize::try_from(*size)?)))
    };
    sizes.iter().enumerate().map(file).collect()
}

fn name_of(number: usize, size: u64) -> String {
    format!("{number}-{size}.bin")
}

/// Checks that a response has all of the file of this size.
fn expect_pattern(client: &mut Client, target: &str, size: u64) -> Result<(), Failed> {
    let response = client.get(target)?;
    if response.status != 200 || response.content.len() as u64 != size {
        return Err(format!("{}, {} bytes for {target}", response.status, response.content.len()).into());
    }
    pattern_of(size).check(0, &response.content)
}

/// Somebody who asks for a file that lies elsewhere, on a kept connection and on new ones.
struct Neighbour {
    address: SocketAddr,
    kept: Client,
    target: &'static str,
    /// The longest wait for an answer.
    longest: Duration,
    /// Meanwhile, the longest that a new thread with nothing but a sleep to do was late. The machine may be busy.
    stall: Duration,
}

/// A server takes a few threads' turns for an answer,
const TURNS: u32 = 3;

/// and however busy the machine is, no longer than this: what is slow takes longer.
const STALL_MAX: Duration = Duration::from_millis(500);

/// Between two looks, or two questions. Leaves the processor to the others.
const INTERVAL: Duration = Duration::from_millis(10);

impl Neighbour {
    /// Asks twice already, so the file may be cached.
    fn new(address: SocketAddr, target: &'static str) -> Result<Neighbour, Failed> {
        let kept = Client::connect(address)?.with_patience(PATIENCE);
        let mut neighbour =
            Neighbour { address, kept, target, longest: Duration::ZERO, stall: Duration::ZERO };
        neighbour.ask()?;
        neighbour.longest = Duration::ZERO;
        Ok(neighbour)
    }

    fn ask(&mut self) -> Result<(), Failed> {
        for client in [&mut self.kept, &mut Client::connect(self.address)?.with_patience(PATIENCE)] {
            let begun = Instant::now();
            let response = client.get(self.target).map_err(|failed| {
                let why = failed.message().unwrap_or("no answer").to_owned();
                format!("{} after {:?}: {why}", self.target, begun.elapsed())
            })?;
            self.longest = self.longest.max(begun.elapsed());
            if response.status != 200 || response.content != DIGITS.as_bytes() {
                return Err(format!("{} for {}", response.status, self.target).into());
            }
        }
        Ok(())
    }

    /// Goes on asking until `over`.
    fn ask_until(&mut self, mut over: impl FnMut() -> bool) -> Result<(), Failed> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let stall = scope.spawn(|| longest_stall(&is_over));
            let mut asked = Ok(());
            while asked.is_ok() && !over() {
                asked = self.ask();
                thread::sleep(INTERVAL);
            }
            is_over.store(true, Relaxed);
            self.stall = self.stall.max(stall.join().unwrap_or_default());
            asked
        })
    }

    fn expect_soon(&self) -> Result<(), Failed> {
        let Neighbour { target, longest, stall, .. } = self;
        if *longest > SOON + (*stall * TURNS).min(STALL_MAX) {
            return Err(format!("{target} took {longest:?} (the machine was busy for {stall:?})").into());
        }
        Ok(())
    }
}

/// How late new threads were at most that did nothing but sleep. One that is there already is given more of a busy
/// machine.
fn longest_stall(is_over: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !is_over.load(Relaxed) {
        let begun = Instant::now();
        thread::scope(|scope| drop(scope.spawn(|| thread::sleep(INTERVAL))));
        longest = longest.max(begun.elapsed().saturating_sub(INTERVAL));
    }
    longest
}

/// Runs a trial in each case at the same time, each with its number, and tells of those that failed.
fn in_each_case<'c, C: Sync, N: Display + Sync>(
    cases: &'c [(N, C)],
    trial: impl Fn(usize, &'c C) -> Result<(), Failed> + Sync,
) -> Outcome {
    let trial = &trial;
    let failures: Vec<_> = thread::scope(|scope| {
        let start =
            |(number, (name, case)): (usize, &'c (N, C))| (name, scope.spawn(move || trial(number, case)));
        let running: Vec<_> = cases.iter().enumerate().map(start).collect();
        let ended = running.into_iter().filter_map(|(name, thread)| {
            let failed = thread.join().unwrap_or_else(|_| Err("it panicked".into())).err()?;
            Some(format!("{name}: {}", failed.message().unwrap_or("failed")))
        });
        ended.collect()
    });
    if failures.is_empty() { DONE } else { Err(failures.join("\n").into()) }
}

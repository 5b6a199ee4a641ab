//! The counts and faults of one server.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use super::gauge::{Levels, Sample};
use super::judge::{Fault, Observation};

/// The number of faults shown; further ones are only counted.
const SHOWN_MAX: usize = 12;

/// The counts of one server.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Responses by status.
    pub answers: BTreeMap<u16, u64>,
    /// Bytes of content.
    pub bytes: u64,
    /// Requests whose client disconnected early.
    pub aborted: u64,
    /// Responses with bytes of several versions, as an overwrite in place permits.
    pub mixed: u64,
    /// Responses that ended early, as a truncation permits.
    pub cut: u64,
    /// Responses that showed an obsolete state, within the limit.
    pub late: u64,
    /// The longest time any of these states had been obsolete.
    pub slowest: Duration,
    faults: BTreeMap<Fault, u64>,
    shown: Vec<String>,
}

impl Tally {
    pub(super) fn count(&mut self, status: u16, bytes: usize) {
        *self.answers.entry(status).or_default() += 1;
        self.bytes += bytes as u64;
    }

    pub(super) fn observe(&mut self, observation: Observation) {
        self.mixed += u64::from(observation.mixed);
        self.cut += u64::from(observation.cut);
        if let Some(age) = observation.age {
            self.late += 1;
            self.slowest = self.slowest.max(age);
        }
    }

    pub(super) fn complain(&mut self, fault: Fault, why: String) {
        *self.faults.entry(fault).or_default() += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(format!("{fault:?}: {why}"));
        }
    }

    /// The number of responses with this fault.
    #[must_use]
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or_default()
    }

    /// The number of responses so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answers.values().sum()
    }

    /// The first faults, as text.
    #[must_use]
    pub fn shown(&self) -> &[String] {
        &self.shown
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses = self.answers.iter().fold(String::new(), |mut all, (status, count)| {
            let _infallible = write!(all, " {status}:{count}");
            all
        });
        write!(
            f,
            "{} answers ({}), {} MiB, {} aborted; {} wrong bytes, {} stale, {} wrong heads, {} broken; {} late, \
             the slowest by {:.1} ms; {} mixed, {} cut",
            self.requests(),
            statuses.trim(),
            self.bytes >> 20,
            self.aborted,
            self.faults(Fault::WrongByte),
            self.faults(Fault::Stale),
            self.faults(Fault::WrongHead),
            self.faults(Fault::Broken),
            self.late,
            self.slowest.as_secs_f64() * 1e3,
            self.mixed,
            self.cut,
        )
    }
}

/// The result of a soak for one server.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The server's name.
    pub name: &'static str,
    /// The counts.
    pub tally: Tally,
    /// The resource levels.
    pub levels: Levels,
    /// Requests served from the cache.
    pub hits: u64,
    /// The required minimum of hits.
    pub hits_wanted: u64,
}

impl Verdict {
    /// All violations, as text. None means that the server has passed.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut violations = self.answers_wrong();
        violations.extend(self.levels.growth());
        violations
    }

    /// What is wrong with its responses.
    #[must_use]
    pub fn answers_wrong(&self) -> Vec<String> {
        let mut violations = self.tally.shown.clone();
        let faults: u64 = self.tally.faults.values().sum();
        let unseen = faults.saturating_sub(violations.len() as u64);
        if unseen > 0 {
            violations.push(format!("and {unseen} more"));
        }
        if self.hits < self.hits_wanted {
            violations.push(format!("too few hits for a result: {}, not {}", self.hits, self.hits_wanted));
        }
        violations
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Levels { rest: [first, end], load: [first_load, end_load] } = self.levels;
        let memory = |first: Sample, end: Sample| {
            format!("{} -> {} KiB", first.memory_bytes / 1024, end.memory_bytes / 1024)
        };
        write!(
            f,
            "{}: {}; {} hits; memory at rest {}, under load {}; descriptors at rest {} -> {}, under load {} -> {}",
            self.name,
            self.tally,
            self.hits,
            memory(first, end),
            memory(first_load, end_load),
            first.descriptors,
            end.descriptors,
            first_load.descriptors,
            end_load.descriptors,
        )
    }
}

//! Self-tests of the engine, against servers whose behaviour is known.
//!
//! The fake servers answer at moments that a formula decides, in steps of several milliseconds, so that the
//! noise of a busy machine is small beside what is measured. Each check also records how late the client, the
//! server and a sleeper on each CPU were. A check with wrong readings on a late machine is repeated a few
//! times.

mod fake;
mod peers;
mod queue;
mod stall;
mod watch;

use crate::failure::{Failure, Result};
use crate::load::class::{Asks, Class, Pacing};
use crate::load::engine::Engine;
use crate::load::outcome::{ClassOutcome, Outcome, quantile};
use crate::load::request::Request;
use crate::machine::disturbance::Patience;
use crate::machine::placement::Placement;
use fake::FakeServer;
use std::fmt;
use std::time::Duration;
use watch::Watch;

pub(crate) use peers::cpu_of_children;

/// Attempts before a busy machine fails a check.
const ATTEMPTS_MAX: u32 = 6;
/// How long a check waits in all for the machine to be quiet.
const PATIENCE: Duration = Duration::from_secs(60);
/// A wake-up later than this disturbs a check: the whole queue behind it is delayed.
const LATE_MAX: Duration = Duration::from_millis(3);

/// One thing that was measured, and what it has to be.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What: "response p90".
    pub(crate) what: String,
    /// In `unit`.
    pub(crate) measured: f64,
    pub(crate) bound: Bound,
    /// "ms", "answers".
    pub(crate) unit: &'static str,
}

/// What a reading has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// This, give or take a share of it.
    Near {
        expected: f64,
        /// By how much, as a share of it, a reading may differ.
        share: f64,
    },
    AtMost(f64),
    AtLeast(f64),
}

/// What became of a check.
#[derive(Clone, Debug)]
pub enum CheckResult {
    /// It was made, and gave these readings.
    Made(Vec<Reading>),
    /// It couldn't be made, for this reason.
    Skipped(String),
}

/// One of the self-tests.
#[derive(Clone, Copy)]
pub struct Check {
    /// What it shows, as a sentence.
    pub name: &'static str,
    /// Whether it needs no other program, so that it belongs to the project's tests.
    pub is_self_contained: bool,
    /// Whether its client stays awake, for which it has to have a CPU of its own.
    is_awake: bool,
    run: fn() -> Result<CheckResult>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// It sleeps until something happens.
    Asleep,
    /// It looks again and again while something is due or owed, as in every trial of a run.
    Awake,
}

/// All of them.
pub const CHECKS: &[Check] = &[
    Check::alone("the schedule's queue waits as theory says (Pollaczek-Khinchine, Erlang)", queue::theory),
    Check::alone("the open loop sees a stall as long as it is", || stall::open_loop(Client::Asleep)),
    Check::awake("the open loop sees a stall as long as it is, with a client that stays awake", || {
        stall::open_loop(Client::Awake)
    }),
    Check::alone("the closed loop doesn't see the stall", stall::closed_loop),
    Check::alone("Poisson arrivals at a server of known service time wait as a queue does (M/D/1)", || {
        queue::poisson(Client::Asleep)
    }),
    Check::awake("Poisson arrivals wait as a queue does, with a client that stays awake", || {
        queue::poisson(Client::Awake)
    }),
    Check::alone("constant arrivals below capacity don't wait", || queue::constant(Client::Asleep)),
    Check::awake("constant arrivals below capacity don't wait, with a client that stays awake", || {
        queue::constant(Client::Awake)
    }),
    Check::alone("an overloaded server's queue grows as it must, and what is unanswered counts", || {
        queue::overload(Client::Asleep)
    }),
    Check::awake("an overloaded server's queue grows as it must, with a client that stays awake", || {
        queue::overload(Client::Awake)
    }),
    Check::beside_others("wrk finds the same rate", peers::wrk),
    Check::beside_others("oha finds the same rate", peers::oha),
    Check::beside_others("clocks and accounts agree", peers::accounts),
];

impl Check {
    const fn alone(name: &'static str, run: fn() -> Result<CheckResult>) -> Check {
        Check { name, is_self_contained: true, is_awake: false, run }
    }

    const fn awake(name: &'static str, run: fn() -> Result<CheckResult>) -> Check {
        Check { name, is_self_contained: true, is_awake: true, run }
    }

    const fn beside_others(name: &'static str, run: fn() -> Result<CheckResult>) -> Check {
        Check { name, is_self_contained: false, is_awake: false, run }
    }

    /// Why it can't be made here, if it can't.
    pub fn impossible(&self) -> Option<String> {
        let is_apart = || Placement::choose().is_ok_and(Placement::is_apart);
        (self.is_awake && !is_apart()).then(|| "a client that stays awake needs a core of its own".to_owned())
    }

    /// Makes the check.
    pub fn run(&self) -> Result<CheckResult> {
        match self.impossible() {
            None => (self.run)(),
            Some(reason) => Ok(CheckResult::Skipped(reason)),
        }
    }
}

impl CheckResult {
    /// Whether all readings are right.
    pub(crate) fn is_passed(&self) -> bool {
        match self {
            CheckResult::Made(readings) => readings.iter().all(Reading::is_right),
            CheckResult::Skipped(_) => true,
        }
    }
}

impl Reading {
    fn near(
        what: impl Into<String>,
        measured: f64,
        expected: f64,
        share: f64,
        unit: &'static str,
    ) -> Reading {
        Reading { what: what.into(), measured, bound: Bound::Near { expected, share }, unit }
    }

    fn at_least(what: impl Into<String>, measured: f64, limit: f64, unit: &'static str) -> Reading {
        Reading { what: what.into(), measured, bound: Bound::AtLeast(limit), unit }
    }

    /// Whether it is what it has to be.
    pub fn is_right(&self) -> bool {
        match self.bound {
            Bound::Near { expected, share } => (self.measured - expected).abs() <= share * expected.abs(),
            Bound::AtMost(limit) => self.measured <= limit,
            Bound::AtLeast(limit) => self.measured >= limit,
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reading { what, measured, bound, unit } = self;
        write!(f, "{what}: {measured:.2} {unit}, ")?;
        match bound {
            Bound::Near { expected, share } => write!(f, "expected {expected:.2} ± {:.1} %", share * 100.0),
            Bound::AtMost(limit) => write!(f, "at most {limit:.2}"),
            Bound::AtLeast(limit) => write!(f, "at least {limit:.2}"),
        }
    }
}

pub(crate) fn run(output: &mut impl std::io::Write) -> Result<()> {
    let written = Failure::context::<std::io::Error>;
    let mut failed = 0;
    for check in CHECKS {
        let (mark, lines) = match check.run() {
            Ok(verdict) => lines_of(&verdict),
            Err(failure) => ("FAILED", vec![failure.to_string()]),
        };
        failed += usize::from(mark == "FAILED");
        writeln!(output, "{mark:>7}  {}", check.name).map_err(written("write the results"))?;
        for line in lines {
            writeln!(output, "         {line}").map_err(written("write the results"))?;
        }
    }
    if failed == 0 { Ok(()) } else { Err(Failure::new(format!("{failed} self-tests failed"))) }
}

fn lines_of(verdict: &CheckResult) -> (&'static str, Vec<String>) {
    let mark = if verdict.is_passed() { "ok" } else { "FAILED" };
    match verdict {
        CheckResult::Made(readings) => (mark, readings.iter().map(ToString::to_string).collect()),
        CheckResult::Skipped(reason) => ("skipped", vec![reason.clone()]),
    }
}

/// Makes a measurement again while the machine disturbs it. `measure` gives the fake server that it asked,
/// the outcome, and what it makes of it.
fn undisturbed(
    mut measure: impl FnMut() -> Result<(FakeServer, Outcome, Vec<Reading>)>,
) -> Result<CheckResult> {
    let mut doubts = String::new();
    let mut patience = Patience::new(PATIENCE);
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            patience.await_calm(Placement::choose()?, || false);
        }
        let watch = Watch::start()?;
        let (server, outcome, readings) = measure()?;
        let lag = outcome.classes.iter().filter_map(|class| class.lag.as_ref());
        let lag = Duration::from_nanos(lag.map(|lag| lag.max()).max().unwrap_or_default());
        let late = watch.latest().max(server.lateness()).max(lag);
        // Lateness can make a right reading wrong, not a wrong one right.
        let Some(wrong) = readings.iter().find(|reading| !reading.is_right()) else {
            return Ok(CheckResult::Made(readings));
        };
        if late <= LATE_MAX {
            return Ok(CheckResult::Made(readings));
        }
        doubts = format!("at last by {:.1} ms ({wrong})", late.as_secs_f64() * 1e3);
    }
    Err(Failure::new(format!(
        "this machine is too busy for the check: each of {ATTEMPTS_MAX} attempts was disturbed, {doubts}; try \
         again on a quiet machine"
    )))
}

/// The only class of an outcome, without errors.
fn only_class(outcome: &Outcome) -> Result<&ClassOutcome> {
    let class = &outcome.classes[0];
    match class.first_error() {
        None => Ok(class),
        Some(error) => Err(Failure::new(format!("the fake server answered wrongly: {error}"))),
    }
}

fn engine(server: &FakeServer, class: Class, client: Client, seed: u64) -> Result<Engine> {
    let engine = Engine::connect(server.address(), vec![class], seed).map_err(Failure::context("connect"))?;
    Ok(match client {
        Client::Asleep => engine,
        Client::Awake => engine.with_busy_polling(),
    })
}

fn class(server: &FakeServer, connections: usize, pacing: Pacing) -> Class {
    let asks = Asks::one(Request::new(server.address(), "/", fake::EXPECTED));
    Class { pacing, ..Class::closed("probe", connections, asks) }
}

/// A quantile of a class's response time, in milliseconds.
fn response_ms(class: &ClassOutcome, at: f64) -> Result<f64> {
    let response = class.response.as_ref().and_then(|response| quantile(response, at));
    let nanoseconds = response.ok_or_else(|| Failure::new("too few answers for a quantile"))?;
    Ok(seconds(nanoseconds) * 1e3)
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

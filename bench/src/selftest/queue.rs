//! A server that serves one request at a time, each in the same known time: queueing theory says how long
//! requests wait.

use super::fake::FakeServer;
use super::{CheckResult, Client, Reading, class, engine, only_class, response_ms, seconds, undisturbed};
use crate::failure::{Failure, Result};
use crate::load::class::{Arrivals, Pacing};
use crate::load::group::Streams;
use crate::load::outcome::Outcome;
use crate::load::schedule::Schedule;
use crate::random::Random;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const SERVICE: Duration = Duration::from_millis(25);
const CONNECTIONS: usize = 32;

/// The mean wait in an M/D/1 queue, in units of the service time, where the server is busy for `load` of the
/// time (Pollaczek and Khinchine's formula without variance of service).
pub(crate) fn md1_mean_wait(load: f64) -> f64 {
    load / (2.0 * (1.0 - load))
}

/// The share of the requests to an M/D/1 queue that wait at most `wait`, in units of the service time
/// (Erlang 1909). Its terms alternate in sign and grow: not for waits of more than ten services.
pub(crate) fn md1_wait_cdf(load: f64, wait: f64) -> f64 {
    let mut sum = 0.0;
    let mut services = 0.0;
    let mut factorial = 1.0;
    while services <= wait {
        let exponent = load * (services - wait);
        sum += exponent.powf(services) / factorial * (-exponent).exp();
        services += 1.0;
        factorial *= services;
    }
    (1.0 - load) * sum
}

/// How long each of these arrivals waits for the one server, which takes `service` for each: Lindley's
/// recursion. All in seconds.
pub(crate) fn lindley_waits(arrivals: impl IntoIterator<Item = f64>, service: f64) -> Vec<f64> {
    let mut free_at = 0.0_f64;
    let wait = |arrival: f64| {
        let start = free_at.max(arrival);
        free_at = start + service;
        start - arrival
    };
    arrivals.into_iter().map(wait).collect()
}

fn arrivals(mut schedule: Schedule) -> Vec<f64> {
    let mut arrivals = Vec::new();
    while let Some(due) = schedule.next() {
        arrivals.push(due.as_secs_f64());
        schedule.advance();
    }
    arrivals
}

/// Without any server: do the schedule's arrivals make the queue that theory knows?
pub(super) fn theory() -> Result<CheckResult> {
    let mut readings = Vec::new();
    for load in [0.5, 0.8] {
        let window = Duration::from_secs(1_000_000);
        let schedule = Schedule::new(load, Arrivals::Poisson, &[], window, Random::new(4));
        let waits = lindley_waits(arrivals(schedule), 1.0);
        let mean = waits.iter().sum::<f64>() / waits.len() as f64;
        let name = |what: &str| format!("{what}, load {load}");
        readings.push(Reading::near(name("mean wait"), mean, md1_mean_wait(load), 0.02, "services"));
        for wait in [0.0, 1.5, 4.0] {
            let share = waits.iter().filter(|found| **found <= wait).count() as f64 / waits.len() as f64;
            let what = name(&format!("share that waits at most {wait} services"));
            readings.push(Reading::near(what, share, md1_wait_cdf(load, wait), 0.01, ""));
        }
    }
    Ok(CheckResult::Made(readings))
}

/// One request at a time. When it is free again is counted, not observed: that a thread wakes up late delays
/// its own answer, and no other.
fn one_at_a_time() -> Result<FakeServer> {
    let free_at = Mutex::new(Instant::now());
    FakeServer::start(move |now| {
        let mut free_at = free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = (*free_at).max(now) + SERVICE;
        *free_at
    })
}

fn measure(
    client: Client,
    per_second: f64,
    arrivals: Arrivals,
    window: Duration,
) -> Result<(FakeServer, Outcome)> {
    let server = one_at_a_time()?;
    let probe = class(&server, CONNECTIONS, Pacing::Open { per_second, arrivals, steps: Vec::new() });
    let mut engine = engine(&server, probe, client, SEED)?;
    let outcome = engine.run(window, None).map_err(Failure::context("load"))?;
    Ok((server, outcome))
}

const SEED: u64 = 9;

/// The arrivals of this very run are known, so that theory says not only the mean over all runs, but each
/// wait: a few hundred arrivals are enough.
pub(super) fn poisson(client: Client) -> Result<CheckResult> {
    const PER_SECOND: f64 = 28.0;
    const WINDOW: Duration = Duration::from_secs(12);
    let schedule = Schedule::new(PER_SECOND, Arrivals::Poisson, &[], WINDOW, Streams::of(SEED, 0, 0).times);
    let service = SERVICE.as_secs_f64();
    let mut expected: Vec<f64> =
        lindley_waits(arrivals(schedule), service).iter().map(|wait| (wait + service) * 1e3).collect();
    expected.sort_by(f64::total_cmp);
    let mean = expected.iter().sum::<f64>() / expected.len() as f64;
    undisturbed(|| {
        let (server, outcome) = measure(client, PER_SECOND, Arrivals::Poisson, WINDOW)?;
        let class = only_class(&outcome)?;
        let response = class.response.as_ref().ok_or_else(|| Failure::new("no response times"))?;
        let count = expected.len() as f64;
        let mut readings = vec![
            Reading::near("answers", class.answers as f64, count, 0.0, "answers"),
            Reading::near("mean response", response.mean() / 1e6, mean, 0.03, "ms"),
        ];
        for at in [0.5, 0.75, 0.9] {
            // The rank of a histogram's quantile.
            let rank = (at * count).ceil().max(1.0);
            let at_rank = expected.iter().zip(1..).find(|(_, number)| f64::from(*number) >= rank);
            let expected = at_rank.map_or(0.0, |(value, _): (_, i32)| *value);
            let what = format!("response p{:.0}", at * 100.0);
            readings.push(Reading::near(what, response_ms(class, at)?, expected, 0.03, "ms"));
        }
        Ok((server, outcome, readings))
    })
}

pub(super) fn constant(client: Client) -> Result<CheckResult> {
    const PER_SECOND: f64 = 32.0;
    const WINDOW: Duration = Duration::from_secs(7);
    undisturbed(|| {
        let (server, outcome) = measure(client, PER_SECOND, Arrivals::Constant, WINDOW)?;
        let class = only_class(&outcome)?;
        let service = SERVICE.as_secs_f64() * 1e3;
        let readings = vec![
            Reading::near("answers", class.answers as f64, 223.0, 0.0, "answers"),
            Reading::near("response p50", response_ms(class, 0.5)?, service, 0.05, "ms"),
            Reading::near("response p90", response_ms(class, 0.9)?, service, 0.05, "ms"),
        ];
        Ok((server, outcome, readings))
    })
}

/// Twice as much as the server can do: the n-th request waits n · (service − gap), and what never found a
/// connection before the end is in the record with the time it has waited.
pub(super) fn overload(client: Client) -> Result<CheckResult> {
    const PER_SECOND: f64 = 80.0;
    const WINDOW: Duration = Duration::from_secs(3);
    undisturbed(|| {
        let (server, outcome) = measure(client, PER_SECOND, Arrivals::Constant, WINDOW)?;
        let class = only_class(&outcome)?;
        let offered = PER_SECOND * WINDOW.as_secs_f64() - 1.0;
        let served = WINDOW.as_secs_f64() / SERVICE.as_secs_f64();
        let response = class.response.as_ref().ok_or_else(|| Failure::new("no response times"))?;
        let longest = (WINDOW.as_secs_f64() / 2.0 + CONNECTIONS as f64 * SERVICE.as_secs_f64() / 2.0) * 1e3;
        let readings = vec![
            Reading::near("offered", class.offered as f64, offered, 0.0, "requests"),
            Reading::near(
                "answers",
                class.answers as f64,
                served + CONNECTIONS as f64,
                0.02,
                "answers (those under way at the end among them)",
            ),
            Reading::near(
                "answers and unanswered",
                (class.answers + class.unanswered) as f64,
                offered,
                0.0,
                "requests",
            ),
            Reading::near("recorded", response.len() as f64, offered, 0.0, "response times"),
            Reading::near("longest response", seconds(response.max()) * 1e3, longest, 0.03, "ms"),
            Reading::at_least(
                "response p50",
                response_ms(class, 0.5)?,
                WINDOW.as_secs_f64() * 1e3 / 5.0,
                "ms",
            ),
        ];
        Ok((server, outcome, readings))
    })
}

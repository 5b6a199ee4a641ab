//! One trial: a fresh server, a warm-up, a window.

use crate::failure::{Failure, Result};
use crate::load::client::{Client, Outcome};
use crate::machine::disturbance::{Account, Disturbance};
use crate::machine::placement::{Placement, Thread};
use crate::run::cell::Cell;
use crate::run::corpus::Corpus;
use crate::run::plan::Plan;
use crate::server::gate::request_for;
use crate::server::target::{Backend, Server, Start};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// How much of the corpus each of the two content checks of a trial receives at most: all connections for
/// small files, some for large ones.
const VERIFIED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A quantile needs at least so many samples above it.
const SAMPLES_ABOVE_MIN: f64 = 20.0;

/// Where a trial stands in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Counted over the whole run, from 0.
    pub number: usize,
    /// The round within the cell, from 0.
    pub round: usize,
    /// The position within the round, from 0.
    pub position: usize,
}

/// What one trial has shown: a line of `trials.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// When it began, in UTC.
    pub started: String,
    /// The server.
    pub backend: Backend,
    /// The comparison.
    #[serde(flatten)]
    pub cell: Cell,
    /// Its place in the run.
    #[serde(flatten)]
    pub place: Place,
    /// Answers, each checked.
    pub answers: u64,
    /// From the first request to the last answer.
    pub elapsed_ns: u64,
    /// Answers per second.
    pub requests_per_second: f64,
    /// User and system time of the server's whole process.
    pub server_cpu_ns: u64,
    /// The same per answer.
    pub cpu_per_request_ns: f64,
    /// CPU time of the client's thread.
    pub client_cpu_ns: u64,
    /// Its share of the time: near 1, the client was the limit.
    pub client_busy: f64,
    /// Bytes per answer, head included.
    pub wire_bytes_per_answer: f64,
    /// Closed-loop service time.
    pub service: ServiceTime,
    /// Threads of the server at the end of the window, kernel workers included.
    pub server_threads: usize,
    /// The kernel's io_uring workers among them.
    pub ring_workers: usize,
    /// Threads that could have run elsewhere than on the server's CPU.
    pub misplaced: Vec<Thread>,
    /// What else went on on the two CPUs in the window.
    pub disturbance: Option<Disturbance>,
}

/// Quantiles of the service time; `None` where there were too few answers to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTime {
    /// Half of the answers took at most so long.
    pub p50_ns: Option<u64>,
    /// Nine in ten.
    pub p90_ns: Option<u64>,
    /// 99 in 100.
    pub p99_ns: Option<u64>,
    /// 999 in 1,000.
    pub p999_ns: Option<u64>,
    /// The slowest answer.
    pub max_ns: u64,
}

impl ServiceTime {
    fn of(histogram: &Histogram<u64>) -> ServiceTime {
        let quantile = |quantile: f64| {
            let above = histogram.len() as f64 * (1.0 - quantile);
            (above >= SAMPLES_ABOVE_MIN).then(|| histogram.value_at_quantile(quantile))
        };
        ServiceTime {
            p50_ns: quantile(0.5),
            p90_ns: quantile(0.9),
            p99_ns: quantile(0.99),
            p999_ns: quantile(0.999),
            max_ns: histogram.max(),
        }
    }
}

/// Runs one trial.
///
/// # Errors
///
/// The server doesn't start, answers wrongly or doesn't end.
pub fn run(
    backend: Backend,
    cell: Cell,
    place: Place,
    plan: &Plan,
    corpus: &Corpus,
    placement: Placement,
) -> Result<Trial> {
    let started = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let server = match Server::start(backend, corpus.root(), placement)? {
        Start::Running(server) => server,
        Start::Unavailable(reason) => {
            return Err(Failure::new(format!("{backend} started before, and doesn't now: {reason}")));
        }
    };
    let measured = measure(&server, cell, plan, corpus, placement);
    let stopped = server.stop();
    // If the server died in mid-load, its end says more than the reset that the client saw.
    let measured = match (measured, stopped) {
        (Ok(measured), Ok(())) => measured,
        (Err(fault), Ok(())) => return Err(Failure::new(format!("{backend}, {cell}: {fault}"))),
        (Ok(_), Err(end)) => return Err(Failure::new(format!("{end} ({cell})"))),
        (Err(fault), Err(end)) => return Err(Failure::new(format!("{end} ({cell}: {fault})"))),
    };
    Ok(measured.into_trial(started, backend, cell, place, placement))
}

struct Measured {
    outcome: Outcome,
    server_cpu: Duration,
    threads: Vec<Thread>,
    disturbance: Option<Disturbance>,
}

fn measure(
    server: &Server,
    cell: Cell,
    plan: &Plan,
    corpus: &Corpus,
    placement: Placement,
) -> Result<Measured> {
    let request = request_for(server.address(), cell.size, cell.persistence);
    let mut client = Client::connect(server.address(), request, cell.connections)
        .map_err(|fault| Failure::new(fault.to_string()))?;
    let checked = usize::try_from(VERIFIED_BYTES_MAX / cell.size.bytes()).unwrap_or(usize::MAX);
    let digest = corpus.digest(cell.size);
    let verify =
        |client: &mut Client| client.verify(checked, digest).map_err(|fault| Failure::new(fault.to_string()));
    let load =
        |client: &mut Client, window| client.load(window).map_err(|fault| Failure::new(fault.to_string()));
    verify(&mut client)?;
    load(&mut client, plan.warm_up())?;
    let before = server.clock().settled()?;
    let account = Account::read(placement);
    let outcome = load(&mut client, plan.window())?;
    let later = Account::read(placement);
    let server_cpu = server.clock().settled()? - before;
    let measured = server_cpu + outcome.client_cpu;
    let disturbance = account.zip(later).map(|(account, later)| account.until(later, measured));
    let threads = server.threads()?;
    // Once more, now that every buffer of the server has seen use.
    verify(&mut client)?;
    Ok(Measured { outcome, server_cpu, threads, disturbance })
}

impl Measured {
    fn into_trial(
        self,
        started: String,
        backend: Backend,
        cell: Cell,
        place: Place,
        placement: Placement,
    ) -> Trial {
        let Outcome { answers, wire_bytes, elapsed, client_cpu, service } = self.outcome;
        let count = answers as f64;
        let misplaced = |thread: &&Thread| !thread.is_pinned_to(placement.server);
        Trial {
            started,
            backend,
            cell,
            place,
            answers,
            elapsed_ns: nanoseconds(elapsed),
            requests_per_second: count / elapsed.as_secs_f64(),
            server_cpu_ns: nanoseconds(self.server_cpu),
            cpu_per_request_ns: self.server_cpu.as_secs_f64() * 1e9 / count,
            client_cpu_ns: nanoseconds(client_cpu),
            client_busy: client_cpu.as_secs_f64() / elapsed.as_secs_f64(),
            wire_bytes_per_answer: wire_bytes as f64 / count,
            service: ServiceTime::of(&service),
            server_threads: self.threads.len(),
            ring_workers: self.threads.iter().filter(|thread| thread.is_ring_worker()).count(),
            misplaced: self.threads.iter().filter(misplaced).cloned().collect(),
            disturbance: self.disturbance,
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_with_too_few_samples_are_unknown() {
        let mut histogram = Histogram::new(3).unwrap();
        for value in 1..=300_u64 {
            histogram.record(value * 1_000).unwrap();
        }
        let service = ServiceTime::of(&histogram);
        assert!(service.p50_ns.is_some() && service.p90_ns.is_some());
        assert_eq!((service.p99_ns, service.p999_ns), (None, None));
        assert_eq!(service.max_ns / 1_000, 300);
    }
}

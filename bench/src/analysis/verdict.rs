//! What the trials of a cell say: a value per server, and ratios between them.

use crate::analysis::stats::{Estimate, median, median_estimate, ratio_estimate};
use crate::run::cell::Cell;
use crate::run::trial::Trial;
use crate::server::target::Backend;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// From this share of its CPU on, the client may have been the limit: then the rate isn't the server's.
pub const CLIENT_BUSY_MAX: f64 = 0.85;

/// The pairs that are compared, the one above the line first.
pub const PAIRS: [(Backend, Backend); 3] = [
    (Backend::Uring, Backend::Epoll),
    (Backend::Blocking, Backend::Epoll),
    (Backend::Uring, Backend::Blocking),
];

/// One cell's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The comparison.
    #[serde(flatten)]
    pub cell: Cell,
    /// Per server; null for one that this machine can't run.
    pub servers: BTreeMap<Backend, Option<Figures>>,
    /// Between servers that both ran.
    pub ratios: Vec<Ratio>,
}

/// What one server did in a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Trials.
    pub trials: usize,
    /// Answers per second.
    pub requests_per_second: Estimate,
    /// The server's CPU time per answer.
    pub cpu_per_request_ns: Estimate,
    /// Closed-loop service time: the median over the trials of each one's quantile.
    pub service_p50_ns: Option<f64>,
    /// The same for 99 in 100.
    pub service_p99_ns: Option<f64>,
    /// The median share of its CPU that the client used.
    pub client_busy: f64,
    /// Bytes per answer, head included.
    pub wire_bytes_per_answer: f64,
}

impl Figures {
    /// Whether the client may have been the limit.
    pub fn is_client_bound(&self) -> bool {
        self.client_busy > CLIENT_BUSY_MAX
    }
}

/// Two servers, compared round by round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Above the line.
    pub above: Backend,
    /// Below the line.
    pub below: Backend,
    /// Of the CPU time per answer: below 1, the one above is cheaper.
    pub cpu_per_request: Estimate,
    /// Of the answers per second: over 1, the one above is faster.
    pub requests_per_second: Estimate,
}

impl Verdict {
    /// Judges the trials of `cell`; trials of other cells don't count.
    pub fn of(cell: Cell, trials: &[Trial]) -> Verdict {
        let mine: Vec<&Trial> = trials.iter().filter(|trial| trial.cell == cell).collect();
        let servers = Backend::ALL.into_iter().map(|backend| (backend, figures(&mine, backend)));
        let ratios = PAIRS.into_iter().filter_map(|(above, below)| ratio(&mine, above, below));
        Verdict { cell, servers: servers.collect(), ratios: ratios.collect() }
    }

    /// What this server did; `None` for one that didn't run.
    pub fn figures(&self, backend: Backend) -> Option<&Figures> {
        self.servers.get(&backend)?.as_ref()
    }

    /// The ratio of two servers, in the order of [`PAIRS`].
    pub fn ratio(&self, above: Backend, below: Backend) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| (ratio.above, ratio.below) == (above, below))
    }
}

fn figures(trials: &[&Trial], backend: Backend) -> Option<Figures> {
    let mine: Vec<&Trial> = trials.iter().copied().filter(|trial| trial.backend == backend).collect();
    let collect = |f: &dyn Fn(&Trial) -> f64| mine.iter().map(|trial| f(trial)).collect::<Vec<_>>();
    let quantile = |f: &dyn Fn(&Trial) -> Option<u64>| {
        let known: Option<Vec<f64>> =
            mine.iter().map(|trial| f(trial).map(|nanoseconds| nanoseconds as f64)).collect();
        known.and_then(|known| median(&known))
    };
    Some(Figures {
        trials: mine.len(),
        requests_per_second: median_estimate(&collect(&|trial| trial.requests_per_second))?,
        cpu_per_request_ns: median_estimate(&collect(&|trial| trial.cpu_per_request_ns))?,
        service_p50_ns: quantile(&|trial| trial.service.p50_ns),
        service_p99_ns: quantile(&|trial| trial.service.p99_ns),
        client_busy: median(&collect(&|trial| trial.client_busy))?,
        wire_bytes_per_answer: median(&collect(&|trial| trial.wire_bytes_per_answer))?,
    })
}

fn ratio(trials: &[&Trial], above: Backend, below: Backend) -> Option<Ratio> {
    let find = |round: usize, backend: Backend| {
        trials.iter().find(|trial| trial.place.round == round && trial.backend == backend)
    };
    let rounds = trials.iter().map(|trial| trial.place.round).max()? + 1;
    let pairs: Vec<(&Trial, &Trial)> =
        (0..rounds).filter_map(|round| Some((*find(round, above)?, *find(round, below)?))).collect();
    let compare = |f: &dyn Fn(&Trial) -> f64| {
        ratio_estimate(&pairs.iter().map(|(above, below)| (f(above), f(below))).collect::<Vec<_>>())
    };
    Some(Ratio {
        above,
        below,
        cpu_per_request: compare(&|trial| trial.cpu_per_request_ns)?,
        requests_per_second: compare(&|trial| trial.requests_per_second)?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::run::trial::{Place, ServiceTime};

    /// A trial with the numbers that matter, and plausible ones for the rest.
    pub(crate) fn trial(backend: Backend, cell: Cell, round: usize, cpu_ns: f64) -> Trial {
        Trial {
            started: "2026-01-02T03:04:05.678Z".to_owned(),
            backend,
            cell,
            place: Place { number: round * 3, round, position: 0 },
            answers: 1_000,
            elapsed_ns: 1_000_000_000,
            requests_per_second: 9e8 / cpu_ns,
            server_cpu_ns: 900_000_000,
            cpu_per_request_ns: cpu_ns,
            client_cpu_ns: 500_000_000,
            client_busy: 0.5,
            wire_bytes_per_answer: 1_300.0,
            service: ServiceTime {
                p50_ns: Some(400_000),
                p90_ns: Some(500_000),
                p99_ns: Some(600_000),
                p999_ns: None,
                max_ns: 700_000,
            },
            server_threads: 2,
            ring_workers: 0,
            misplaced: Vec::new(),
            disturbance: None,
        }
    }

    #[test]
    fn medians_and_paired_ratios() {
        let cell = Cell::all()[0];
        let other = Cell::all()[1];
        let mut trials = Vec::new();
        for (round, drift) in [1.0, 1.5, 1.2].into_iter().enumerate() {
            trials.push(trial(Backend::Epoll, cell, round, 8_000.0 * drift));
            trials.push(trial(Backend::Uring, cell, round, 6_000.0 * drift));
            trials.push(trial(Backend::Uring, other, round, 1.0));
        }
        let verdict = Verdict::of(cell, &trials);
        let epoll = verdict.figures(Backend::Epoll).unwrap();
        assert_eq!((epoll.trials, epoll.cpu_per_request_ns.value.round()), (3, 9_600.0));
        assert_eq!(epoll.service_p99_ns, Some(600_000.0));
        assert!(verdict.figures(Backend::Blocking).is_none());
        let ratio = verdict.ratio(Backend::Uring, Backend::Epoll).unwrap();
        assert!((ratio.cpu_per_request.value - 0.75).abs() < 1e-9);
        assert!((ratio.requests_per_second.value - 8.0 / 6.0).abs() < 1e-9);
        assert_eq!(verdict.ratios.len(), 1);
    }

    #[test]
    fn a_round_without_a_partner_is_no_pair() {
        let cell = Cell::all()[0];
        let trials = [
            trial(Backend::Epoll, cell, 0, 8_000.0),
            trial(Backend::Uring, cell, 0, 4_000.0),
            trial(Backend::Uring, cell, 1, 1.0),
        ];
        let verdict = Verdict::of(cell, &trials);
        let ratio = verdict.ratio(Backend::Uring, Backend::Epoll).unwrap();
        assert!((ratio.cpu_per_request.value - 0.5).abs() < 1e-9);
    }
}

//! What is measured of a server: each measure with its unit, its direction, and where it is found in a trial.

use crate::record::trial::{ClassFigures, Latency, Trial};
use crate::run::scenario::Metric;
use serde::{Deserialize, Serialize};

/// A number that servers are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The server's CPU time per right answer, in nanoseconds.
    CpuPerRequest,
    /// Right answers of the first class per second.
    Rate,
    /// Half of the first class waited at most so long, in nanoseconds.
    P50,
    /// 99 in 100 did.
    P99,
    /// 999 in 1,000 did.
    P999,
    /// User memory per connection, in bytes.
    MemoryPerConnection,
}

/// Smaller growth can't be measured: one page more or less makes the difference.
const BYTES_PER_CONNECTION_MIN: f64 = 1.0;

impl Measure {
    pub(crate) const ALL: [Measure; 6] = [
        Measure::CpuPerRequest,
        Measure::Rate,
        Measure::P50,
        Measure::P99,
        Measure::P999,
        Measure::MemoryPerConnection,
    ];

    pub(crate) const fn of(metric: Metric) -> Measure {
        match metric {
            Metric::CpuPerRequest => Measure::CpuPerRequest,
            Metric::P99 => Measure::P99,
            Metric::MemoryPerConnection => Measure::MemoryPerConnection,
            Metric::Rate => Measure::Rate,
        }
    }

    /// For JSON, file names and attributes.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Measure::CpuPerRequest => "cpu-per-request",
            Measure::Rate => "rate",
            Measure::P50 => "p50",
            Measure::P99 => "p99",
            Measure::P999 => "p999",
            Measure::MemoryPerConnection => "memory-per-connection",
        }
    }

    /// For people, in mid-sentence.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Measure::CpuPerRequest => "CPU time per request",
            Measure::Rate => "requests per second",
            Measure::P50 => "p50 latency",
            Measure::P99 => "p99 latency",
            Measure::P999 => "p99.9 latency",
            Measure::MemoryPerConnection => "user memory per connection",
        }
    }

    pub(crate) const fn lower_is_better(self) -> bool {
        !matches!(self, Measure::Rate)
    }

    /// Whether a client at its limit spoils it (rule 3). The server's CPU time and memory are its own in any
    /// case.
    pub(crate) const fn is_spoilt_by_the_client(self) -> bool {
        matches!(self, Measure::Rate | Measure::P50 | Measure::P99 | Measure::P999)
    }

    /// Its value in a trial, if the trial has one above 0.
    pub(crate) fn of_trial(self, trial: &Trial) -> Option<f64> {
        let value = match self {
            Measure::CpuPerRequest => trial.cpu_per_request_ns(),
            Measure::Rate => trial.main_class().map(|class| class.answers_per_second),
            Measure::P50 | Measure::P99 | Measure::P999 => self.of_latency(latency(trial.main_class()?)?),
            Measure::MemoryPerConnection => memory_per_connection(trial),
        };
        value.filter(|value| *value > 0.0 && value.is_finite())
    }

    /// The quantile that it stands for; `None` for what isn't one, and where too few samples lie above it.
    pub(crate) fn of_latency(self, latency: &Latency) -> Option<f64> {
        let nanoseconds = match self {
            Measure::P50 => latency.p50_ns,
            Measure::P99 => latency.p99_ns,
            Measure::P999 => latency.p999_ns,
            Measure::CpuPerRequest | Measure::Rate | Measure::MemoryPerConnection => None,
        };
        nanoseconds.map(|nanoseconds| nanoseconds as f64)
    }
}

/// A class's latency: in an open loop counted from the intended start of a request, in a closed loop from the
/// send.
pub(crate) fn latency(class: &ClassFigures) -> Option<&Latency> {
    if class.offered_per_second.is_some() { class.response.as_ref() } else { class.service.as_ref() }
}

/// Anonymous memory added per connection. PSS of file pages isn't counted: it moves by hundreds of KiB when
/// another process of the same program starts or ends.
fn memory_per_connection(trial: &Trial) -> Option<f64> {
    let memory = trial.memory?;
    let grown = match (memory.base.anonymous_bytes, memory.loaded.anonymous_bytes) {
        (Some(base), Some(loaded)) => loaded as f64 - base as f64,
        // A run from before the two were told apart.
        _ => memory.loaded.pss_bytes? as f64 - memory.base.pss_bytes? as f64,
    };
    let connections: usize = trial.classes.iter().map(|class| class.connections).sum();
    (connections > 0).then(|| (grown / connections as f64).max(BYTES_PER_CONNECTION_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::trial::tests::trial;
    use crate::record::trial::{MemoryFigures, MemoryRecord};

    #[test]
    fn an_open_loop_tells_response_time() {
        let mut trial = trial("epoll", 0, 8_000.0);
        assert_eq!(Measure::P99.of_trial(&trial), Some(600_000.0));
        assert_eq!(Measure::P999.of_trial(&trial), None, "too few samples");
        trial.classes[0].offered_per_second = Some(2_000.0);
        assert_eq!(Measure::P99.of_trial(&trial), None, "service time isn't response time");
        trial.classes[0].response = trial.classes[0].service.clone();
        assert_eq!(Measure::P50.of_trial(&trial), Some(500_000.0));
    }

    #[test]
    fn memory_per_connection_is_what_was_added() {
        let mut trial = trial("epoll", 0, 8_000.0);
        assert_eq!(Measure::MemoryPerConnection.of_trial(&trial), None);
        let memory = |bytes| MemoryRecord { pss_bytes: Some(bytes), ..MemoryRecord::default() };
        trial.memory = Some(MemoryFigures { base: memory(1_000_000), loaded: memory(1_006_400) });
        assert_eq!(Measure::MemoryPerConnection.of_trial(&trial), Some(100.0));
        trial.memory = Some(MemoryFigures { base: memory(1_000_000), loaded: memory(900_000) });
        assert_eq!(Measure::MemoryPerConnection.of_trial(&trial), Some(1.0));
        // The program's pages are shared with one process less now: no connection did that.
        let memory = |bytes, pss| MemoryRecord { anonymous_bytes: Some(bytes), ..memory(pss) };
        let (base, loaded) = (memory(1_000_000, 3_000_000), memory(1_006_400, 2_000_000));
        trial.memory = Some(MemoryFigures { base, loaded });
        assert_eq!(Measure::MemoryPerConnection.of_trial(&trial), Some(100.0));
    }
}

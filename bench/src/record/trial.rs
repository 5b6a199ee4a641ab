//! What one trial has shown: a line of `trials.jsonl`.
//!
//! Times are in nanoseconds, sizes in bytes. What this machine can't measure is `None`, and `unmeasured` says why.

use crate::agent::fleet::Elsewhere;
use crate::load::introduction::Introduction;
use crate::load::traffic::Traffic;
use crate::machine::disturbance::Disturbance;
use crate::machine::placement::Thread;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One comparison: a scenario at one of its points. Every target gets exactly this load.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CellId {
    /// The scenario's name.
    pub scenario: String,
    /// The label of its point ("64", "90 %"); empty where the scenario has one point only.
    pub(crate) point: String,
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.point.as_str() {
            "" => f.write_str(&self.scenario),
            point => write!(f, "{}@{point}", self.scenario),
        }
    }
}

/// Why a trial was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pass {
    /// For its times.
    Timing,
    /// For its counts of system calls and ring operations. Counting taxes whoever makes many calls, so its
    /// times take no part in anything.
    Counting,
}

/// Where a trial stands in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialPosition {
    /// Counted over the whole run, void trials included, from 0.
    pub number: usize,
    /// The round within the cell, from 0.
    pub round: usize,
    pub(crate) position: usize,
    /// 0, or how often the trial was repeated before, because it was void.
    pub(crate) attempt: usize,
}

/// What bounded the rate of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limiter {
    /// The server's CPU.
    ServerCpu,
    /// The client: rule 3 of the method; such a trial takes no part in a verdict on rates and times.
    ClientCpu,
    /// The disk.
    Disk,
    /// The rate that was asked for: the server had time to spare.
    OfferedRate,
    /// Connections that each waited for its answer, while both CPUs had time to spare.
    Connections,
    /// Failures.
    Errors,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// When it began, in UTC.
    pub started: String,
    /// The target's id.
    pub target: String,
    /// The comparison.
    #[serde(flatten)]
    pub cell: CellId,
    /// Why it was made.
    pub pass: Pass,
    /// Its place in the run.
    #[serde(flatten)]
    pub place: TrialPosition,
    /// Why it takes no part in any result; null for one that does. A void trial was repeated.
    pub void: Option<String>,
    /// The length of the window as it was.
    pub elapsed_ns: u64,
    /// Per class of connections, in the scenario's order.
    pub classes: Vec<ClassFigures>,
    /// What the window cost the server's whole process tree.
    pub cost: CostRecord,
    /// CPU time of the client's thread.
    pub client_cpu_ns: u64,
    /// The share of the time in which it had something to do; looks that found nothing aren't in it.
    pub client_busy: f64,
    /// What bounded the rate.
    pub limiter: Limiter,
    /// Memory before the first connection, and with all of them there; null where it isn't asked.
    pub memory: Option<MemoryFigures>,
    /// Bytes that the server caused to be read from the device.
    pub device_read_bytes: Option<u64>,
    /// What was called, in a counting pass.
    pub calls: Option<CallsRecord>,
    /// Threads of the server at the end of the window, kernel workers included.
    pub server_threads: usize,
    /// The kernel's io_uring workers among them.
    pub ring_workers: usize,
    /// Threads that could have run elsewhere than on the server's CPU.
    pub misplaced: Vec<Thread>,
    /// What else went on on the CPUs of the measurement.
    pub disturbance: Option<Disturbance>,
    /// How long a fixed piece of work took on the server's CPU just before.
    pub spin_ns: Option<u64>,
    /// What couldn't be measured, by the field's name, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unmeasured: BTreeMap<String, String>,
    /// Of load from other machines: what each of these has shown; null where the client was here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Elsewhere>,
}

/// What one class of connections met with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// The class's name in its scenario: "hot".
    pub(crate) name: String,
    pub(crate) connections: usize,
    pub(crate) answers: u64,
    #[serde(rename = "faults")]
    pub(crate) errors: BTreeMap<String, u64>,
    /// Requests still unanswered at the end of an open loop.
    pub(crate) unanswered: u64,
    /// Requests that the schedule asked for per second; null in a closed loop.
    pub offered_per_second: Option<f64>,
    pub(crate) answers_per_second: f64,
    /// Bytes received per answer, head included.
    pub(crate) wire_bytes_per_answer: Option<f64>,
    /// How the answers were coded; null where requests leave no choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traffic: Option<Traffic>,
    /// What came of files that were new to the server; null where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) introduction: Option<Introduction>,
    /// From the departure of a request to the last byte of its answer.
    pub(crate) service: Option<Latency>,
    /// From the moment at which the schedule wanted it to depart; null in a closed loop.
    pub(crate) response: Option<Latency>,
    /// How late the client itself was.
    pub(crate) lag_p99_ns: Option<u64>,
    /// Answers per slice of the window; empty where it isn't asked.
    pub(crate) timeline: Vec<u64>,
    pub(crate) slice_ns: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Half took at most so long. A quantile with fewer than 20 samples above it is null.
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p90_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    pub(crate) p999_ns: Option<u64>,
    pub(crate) max_ns: u64,
    pub(crate) mean_ns: f64,
    /// The whole histogram: HdrHistogram's compressed V2 encoding in Base64, two digits. Null in a record whose results
    /// aren't made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) histogram: Option<String>,
}

/// What the server's process tree used, threads and children that have ended included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostRecord {
    /// User and system time.
    pub cpu_ns: u64,
    pub(crate) user_ns: Option<u64>,
    pub(crate) system_ns: Option<u64>,
    pub(crate) page_faults: Option<u64>,
}

/// Memory, before and during the load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryFigures {
    pub(crate) base: MemoryRecord,
    pub(crate) loaded: MemoryRecord,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemoryRecord {
    /// Proportional set size: what is in user space.
    pub(crate) pss_bytes: Option<u64>,
    /// What of it lies in no file. Runs before it was recorded lack it.
    pub(crate) anonymous_bytes: Option<u64>,
    pub(crate) kernel_stack_bytes: Option<u64>,
    pub(crate) page_table_bytes: Option<u64>,
    /// Buffers of TCP sockets on the whole machine, both ends, since before the server's start.
    pub(crate) socket_bytes: Option<i64>,
    /// The kernel's objects on the whole machine that can't be reclaimed: sockets, files, epoll items, rings.
    pub(crate) slab_bytes: Option<i64>,
}

/// What the server's process tree asked of the kernel in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallsRecord {
    pub(crate) system_calls: Option<BTreeMap<String, u64>>,
    pub(crate) ring_submissions: Option<u64>,
    pub(crate) ring_completions: Option<u64>,
    /// Operations that a ring handed to a kernel worker thread.
    pub(crate) ring_punts: Option<u64>,
    /// Context switches away from a thread of the server.
    pub(crate) context_switches: Option<u64>,
}

impl Trial {
    pub(crate) fn main_class(&self) -> Option<&ClassFigures> {
        self.classes.first()
    }

    /// Right answers of all classes.
    pub fn answers(&self) -> u64 {
        self.classes.iter().map(|class| class.answers).sum()
    }

    /// Errors of all classes.
    pub fn errors(&self) -> u64 {
        self.classes.iter().flat_map(|class| class.errors.values()).sum()
    }

    /// The server's CPU time per right answer, over all classes; `None` without an answer.
    pub(crate) fn cpu_per_request_ns(&self) -> Option<f64> {
        let answers = self.answers();
        (answers > 0).then(|| self.cost.cpu_ns as f64 / answers as f64)
    }

    /// The agent that failed in it, and how.
    pub(crate) fn lost_agent(&self) -> Option<&str> {
        self.elsewhere.as_ref()?.lost.as_deref()
    }

    /// Whether it counts: made for its times, and not void.
    pub fn counts(&self) -> bool {
        self.pass == Pass::Timing && self.void.is_none()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::load::coding::Coding;
    use crate::load::traffic::Sent;
    use std::time::Duration;

    /// A trial of `hot-small` with this CPU time per request, as the client of one class with 64 connections
    /// saw it.
    pub(crate) fn trial(target: &str, round: usize, cpu_per_request_ns: f64) -> Trial {
        let answers = 50_000;
        let rate = 1e9 / cpu_per_request_ns;
        let class = ClassFigures {
            name: "hot".to_owned(),
            connections: 64,
            answers,
            errors: BTreeMap::new(),
            unanswered: 0,
            offered_per_second: None,
            answers_per_second: rate,
            wire_bytes_per_answer: Some(1_300.0),
            traffic: None,
            introduction: None,
            service: Some(Latency {
                p50_ns: Some(500_000),
                p90_ns: Some(550_000),
                p99_ns: Some(600_000),
                p999_ns: None,
                max_ns: 700_000,
                mean_ns: 510_000.0,
                histogram: None,
            }),
            response: None,
            lag_p99_ns: None,
            timeline: Vec::new(),
            slice_ns: None,
        };
        Trial {
            started: "2026-01-02T03:04:05.678Z".to_owned(),
            target: target.to_owned(),
            cell: CellId { scenario: "hot-small".to_owned(), point: String::new() },
            pass: Pass::Timing,
            place: TrialPosition { number: round, round, position: 0, attempt: 0 },
            void: None,
            elapsed_ns: 400_000_000,
            classes: vec![class],
            cost: CostRecord {
                cpu_ns: (Duration::from_secs_f64(cpu_per_request_ns * answers as f64 / 1e9))
                    .as_nanos()
                    .try_into()
                    .unwrap(),
                user_ns: Some(100_000_000),
                system_ns: None,
                page_faults: Some(12),
            },
            client_cpu_ns: 300_000_000,
            client_busy: 0.75,
            limiter: Limiter::ServerCpu,
            memory: None,
            device_read_bytes: Some(0),
            calls: None,
            server_threads: 2,
            ring_workers: 0,
            misplaced: Vec::new(),
            disturbance: Some(Disturbance { others: 0.01, stolen: 0.0 }),
            spin_ns: Some(1_000_000),
            unmeasured: BTreeMap::new(),
            elsewhere: None,
        }
    }

    #[test]
    fn traffic_round_trips_and_older_runs_lack_it() {
        let mut trial = trial("epoll", 0, 8_000.0);
        let older = serde_json::to_string(&trial).unwrap();
        assert!(!older.contains("traffic"), "{older}");
        assert_eq!(serde_json::from_str::<Trial>(&older).unwrap(), trial);
        let sent = Sent { answers: 30_000, body_bytes: 90_000_000 };
        let text = BTreeMap::from([(Coding::Br, sent), (Coding::Identity, Sent::default())]);
        trial.classes[0].traffic = Some(Traffic { not_modified: 7, head_bytes: 9, pictures: sent, text });
        let written = serde_json::to_string(&trial).unwrap();
        assert!(written.contains(r#""text":{"br":{"answers":30000,"body_bytes":90000000}"#), "{written}");
        assert_eq!(serde_json::from_str::<Trial>(&written).unwrap(), trial);
    }

    #[test]
    fn per_answer() {
        let mut trial = trial("epoll", 0, 8_000.0);
        assert!((trial.cpu_per_request_ns().unwrap() - 8_000.0).abs() < 1e-6);
        assert!(trial.counts());
        trial.classes[0].answers = 0;
        assert_eq!(trial.cpu_per_request_ns(), None);
        trial.void = Some("the hypervisor took 3 % of the CPUs".to_owned());
        assert!(!trial.counts());
    }
}

//! What a rule looks at: a number of a trial, with its unit.

use crate::analysis::measure::Measure;
use crate::record::trial::{CallsRecord, MemoryRecord, Pass, Trial};
use serde::{Deserialize, Serialize};

/// A number that a trial shows of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Quantity {
    /// CPU time per right answer, in nanoseconds.
    CpuPerRequest,
    /// CPU time per time: 1 is a whole CPU.
    CpuShare,
    /// Half of the first class waited at most so long, in nanoseconds.
    P50,
    P99,
    /// Right answers of the first class per second.
    Rate,
    /// Bytes that the server and its threads have, with all connections there: memory that lies in no file, kernel stacks
    /// and page tables. Sockets are left out: they are the same for everybody, and known for the whole machine only.
    Memory,
    CallsPerRequest,
    /// Context switches.
    SwitchesPerRequest,
    /// Operations that a call of io_uring_enter(2) submits.
    OperationsPerCall,
    /// Threads of the kernel that do what a ring handed over. One that has nothing to do stays for five seconds, so at
    /// the end of a window of less none is missed that was there in between.
    RingWorkers,
    /// Operations that a ring handed to such threads, for each answer of a class called "cold".
    HandOversPerColdFile,
}

/// What a number is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
    PerSecond,
    /// Of a whole: 0.5 is a half.
    Share,
    Count,
    /// How many times as much.
    Times,
}

impl Quantity {
    pub(crate) const fn unit(self) -> Unit {
        match self {
            Quantity::CpuPerRequest | Quantity::P50 | Quantity::P99 => Unit::Nanoseconds,
            Quantity::CpuShare => Unit::Share,
            Quantity::Rate => Unit::PerSecond,
            Quantity::Memory => Unit::Bytes,
            Quantity::CallsPerRequest
            | Quantity::SwitchesPerRequest
            | Quantity::OperationsPerCall
            | Quantity::RingWorkers
            | Quantity::HandOversPerColdFile => Unit::Count,
        }
    }

    /// The pass that shows it.
    pub(crate) const fn pass(self) -> Pass {
        match self {
            Quantity::CallsPerRequest
            | Quantity::SwitchesPerRequest
            | Quantity::OperationsPerCall
            | Quantity::HandOversPerColdFile => Pass::Counting,
            _ => Pass::Timing,
        }
    }

    /// Whether a client at its limit spoils it.
    pub(crate) const fn is_spoilt_by_the_client(self) -> bool {
        matches!(self, Quantity::P50 | Quantity::P99 | Quantity::Rate)
    }

    /// The measure whose band of noise holds for it.
    pub(crate) const fn measure(self) -> Option<Measure> {
        match self {
            Quantity::CpuPerRequest | Quantity::CpuShare => Some(Measure::CpuPerRequest),
            Quantity::P50 => Some(Measure::P50),
            Quantity::P99 => Some(Measure::P99),
            Quantity::Rate => Some(Measure::Rate),
            _ => None,
        }
    }

    /// What `Trial::unmeasured` calls what it is made of.
    pub(crate) const fn fields(self) -> &'static [&'static str] {
        match self {
            Quantity::Memory => &["anonymous_bytes", "kernel_stack_bytes", "page_table_bytes"],
            Quantity::CallsPerRequest => &["system_calls"],
            Quantity::SwitchesPerRequest => &["context_switches"],
            Quantity::OperationsPerCall => &["system_calls", "ring_submissions"],
            Quantity::HandOversPerColdFile => &["ring_punts"],
            _ => &[],
        }
    }

    /// Its value in a trial of its pass; `None` if the trial doesn't have it.
    pub(crate) fn of_trial(self, trial: &Trial) -> Option<f64> {
        match self {
            Quantity::CpuPerRequest => Measure::CpuPerRequest.of_trial(trial),
            Quantity::P50 => Measure::P50.of_trial(trial),
            Quantity::P99 => Measure::P99.of_trial(trial),
            Quantity::Rate => Measure::Rate.of_trial(trial),
            Quantity::CpuShare => Some(trial.cost.cpu_ns as f64 / trial.elapsed_ns.max(1) as f64),
            Quantity::Memory => memory(&trial.memory.as_ref()?.loaded),
            Quantity::CallsPerRequest => per_answer(trial, calls(trial.calls.as_ref()?)?),
            Quantity::SwitchesPerRequest => per_answer(trial, trial.calls.as_ref()?.context_switches?),
            Quantity::OperationsPerCall => operations_per_call(trial.calls.as_ref()?),
            Quantity::RingWorkers => Some(trial.ring_workers as f64),
            Quantity::HandOversPerColdFile => hand_overs(trial),
        }
    }
}

fn memory(record: &MemoryRecord) -> Option<f64> {
    Some((record.anonymous_bytes? + record.kernel_stack_bytes? + record.page_table_bytes?) as f64)
}

fn calls(record: &CallsRecord) -> Option<u64> {
    Some(record.system_calls.as_ref()?.values().sum())
}

fn operations_per_call(record: &CallsRecord) -> Option<f64> {
    let calls = *record.system_calls.as_ref()?.get("io_uring_enter")?;
    (calls > 0).then_some(record.ring_submissions? as f64 / calls as f64)
}

fn hand_overs(trial: &Trial) -> Option<f64> {
    let cold = trial.classes.iter().filter(|class| class.name == "cold").map(|class| class.answers);
    let answers: u64 = cold.sum();
    let punts = trial.calls.as_ref()?.ring_punts?;
    (answers > 0).then(|| punts as f64 / answers as f64)
}

fn per_answer(trial: &Trial, count: u64) -> Option<f64> {
    let answers = trial.answers();
    (answers > 0).then(|| count as f64 / answers as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::trial::tests::trial;
    use crate::record::trial::{ClassFigures, MemoryFigures};
    use std::collections::BTreeMap;

    #[test]
    fn each_is_found_in_a_trial_of_its_pass() {
        let mut trial = trial("uring", 0, 8_000.0);
        trial.ring_workers = 3;
        let cold = ClassFigures { name: "cold".to_owned(), answers: 1_000, ..trial.classes[0].clone() };
        trial.classes[0].answers -= cold.answers;
        trial.classes.push(cold);
        let record = MemoryRecord {
            anonymous_bytes: Some(1_000_000),
            kernel_stack_bytes: Some(32_768),
            page_table_bytes: Some(4_096),
            ..MemoryRecord::default()
        };
        trial.memory = Some(MemoryFigures { base: MemoryRecord::default(), loaded: record });
        let system_calls =
            BTreeMap::from([("io_uring_enter".to_owned(), 5_000), ("close".to_owned(), 20_000)]);
        trial.calls = Some(CallsRecord {
            system_calls: Some(system_calls),
            ring_submissions: Some(40_000),
            ring_punts: Some(1_500),
            context_switches: Some(100_000),
            ..CallsRecord::default()
        });
        // 50,000 answers in 400 ms.
        let table = [
            (Quantity::CpuPerRequest, 8_000.0),
            (Quantity::CpuShare, 1.0),
            (Quantity::P50, 500_000.0),
            (Quantity::Rate, 125_000.0),
            (Quantity::Memory, 1_036_864.0),
            (Quantity::CallsPerRequest, 0.5),
            (Quantity::SwitchesPerRequest, 2.0),
            (Quantity::OperationsPerCall, 8.0),
            (Quantity::RingWorkers, 3.0),
            (Quantity::HandOversPerColdFile, 1.5),
        ];
        for (quantity, expected) in table {
            let found = quantity.of_trial(&trial).unwrap();
            assert!((found / expected - 1.0).abs() < 1e-6, "{quantity:?}: {found}");
        }
        trial.calls = None;
        trial.memory = None;
        for quantity in [
            Quantity::Memory,
            Quantity::CallsPerRequest,
            Quantity::OperationsPerCall,
            Quantity::HandOversPerColdFile,
        ] {
            assert_eq!(quantity.of_trial(&trial), None, "{quantity:?}");
        }
    }
}

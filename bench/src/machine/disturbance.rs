//! What else went on on the two CPUs of a measurement.

use crate::machine::placement::Placement;
use serde::{Deserialize, Serialize};
use std::fs;
use std::time::{Duration, Instant};

/// More other work than this share of a CPU disturbs a trial. Idle time is counted in ticks of 10 ms: up to
/// 0.1 was seen with nothing else running.
pub(crate) const OTHERS_MAX: f64 = 0.15;
/// The same for stolen time.
pub(crate) const STOLEN_MAX: f64 = 0.02;

/// Below this, ticks of 10 ms on two CPUs say nothing.
const TOLD_FROM: Duration = Duration::from_millis(200);

/// How much of the CPUs of a measurement went elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disturbance {
    /// Used by neither server nor client, in CPUs: other processes, interrupts.
    pub others: f64,
    /// Taken by the hypervisor, in CPUs.
    pub stolen: f64,
}

impl Disturbance {
    /// Whether it voids a trial.
    pub(crate) fn is_large(&self) -> bool {
        self.others > OTHERS_MAX || self.stolen > STOLEN_MAX
    }
}

/// The account of the two CPUs at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuAccount {
    at: Instant,
    cpus: u32,
    idle: Duration,
    stolen: Duration,
}

impl CpuAccount {
    /// Reads it; `None` where the kernel doesn't tell.
    pub(crate) fn read(placement: Placement) -> Option<CpuAccount> {
        let table = fs::read_to_string("/proc/stat").ok()?;
        let mut cpus = vec![placement.server, placement.client];
        cpus.dedup();
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        CpuAccount::parse(&table, &cpus, ticks_per_second, Instant::now())
    }

    /// Lines of proc_stat(5): "cpu1 user nice system idle iowait irq softirq steal …".
    fn parse(table: &str, cpus: &[usize], ticks_per_second: u64, at: Instant) -> Option<CpuAccount> {
        let (mut idle, mut stolen) = (0, 0);
        for cpu in cpus {
            let name = format!("cpu{cpu}");
            let mut fields = table
                .lines()
                .map(str::split_ascii_whitespace)
                .find_map(|mut fields| (fields.next() == Some(&name)).then_some(fields))?
                .map(str::parse::<u64>);
            // Waiting for a disk is idleness, too.
            idle += fields.nth(3)?.ok()? + fields.next()?.ok()?;
            stolen += fields.nth(2)?.ok()?;
        }
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64);
        let cpus = u32::try_from(cpus.len()).ok()?;
        Some(CpuAccount { at, cpus, idle: time(idle), stolen: time(stolen) })
    }

    /// What went elsewhere until `later`, when `measured` went to server and client; `None` if the time is
    /// too short to tell.
    pub(crate) fn until(self, later: CpuAccount, measured: Duration) -> Option<Disturbance> {
        let elapsed = later.at - self.at;
        if elapsed < TOLD_FROM {
            return None;
        }
        let elapsed = elapsed.as_secs_f64();
        let idle = later.idle.saturating_sub(self.idle).as_secs_f64();
        let stolen = later.stolen.saturating_sub(self.stolen).as_secs_f64();
        let others = elapsed * f64::from(self.cpus) - idle - stolen - measured.as_secs_f64();
        Some(Disturbance { others: (others / elapsed).max(0.0), stolen: stolen / elapsed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_neither_idled_nor_was_measured_went_elsewhere() {
        let table = |idle, iowait, steal| {
            format!("cpu 9 9 9 9\ncpu0 5 0 5 {idle} {iowait} 1 1 {steal} 0 0\ncpu1 5 0 5 100 0 1 1 0 0 0\n")
        };
        let start = Instant::now();
        let before = CpuAccount::parse(&table(100, 10, 0), &[1, 0], 100, start).unwrap();
        let end = start + Duration::from_secs(1);
        let after = CpuAccount::parse(&table(120, 20, 10), &[1, 0], 100, end).unwrap();
        // Two CPU seconds, of which 0.3 idle, 0.1 stolen, 1.2 measured.
        let disturbance = before.until(after, Duration::from_millis(1_200)).unwrap();
        assert!((disturbance.others - 0.4).abs() < 1e-6, "{disturbance:?}");
        assert!((disturbance.stolen - 0.1).abs() < 1e-6 && disturbance.is_large());
    }

    /// A tick more or less would be most of it.
    #[test]
    fn of_a_short_time_nothing_is_said() {
        let start = Instant::now();
        let at = |after: u64| CpuAccount {
            at: start + Duration::from_millis(after),
            cpus: 2,
            idle: Duration::ZERO,
            stolen: Duration::ZERO,
        };
        assert_eq!(at(0).until(at(199), Duration::ZERO), None);
        assert!(at(0).until(at(200), Duration::ZERO).is_some_and(|found| found.is_large()));
    }

    #[test]
    fn a_cpu_that_is_not_listed_is_unknown() {
        assert!(CpuAccount::parse("cpu0 1 1 1 1 1 1 1 1\n", &[7], 100, Instant::now()).is_none());
    }
}

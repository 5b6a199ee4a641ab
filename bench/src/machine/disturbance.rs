//! Disturbances: what else ran on the CPUs of a measurement, and waiting for its end. On a shared host the
//! hypervisor may take half of a CPU for a minute; a trial that is repeated at once falls into the same minute.

use crate::machine::placement::{Placement, pin};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs;
use std::hint::spin_loop;
use std::thread;
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

    /// Who is to blame for a large one.
    pub(crate) fn cause(&self) -> &'static str {
        match (self.others > OTHERS_MAX, self.stolen > STOLEN_MAX) {
            (true, true) => "another process uses the CPU, and so does another virtual machine",
            (false, true) => "another virtual machine uses the CPU",
            _ => "another process uses the CPU",
        }
    }
}

/// The account of these CPUs at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuAccount {
    at: Instant,
    cpus: u32,
    idle: Duration,
    stolen: Duration,
    /// What interrupts took, the network's among them (irq, softirq).
    interrupts: Duration,
}

impl CpuAccount {
    /// Reads it; `None` where the kernel doesn't tell.
    pub(crate) fn read(placement: Placement) -> Option<CpuAccount> {
        let table = fs::read_to_string("/proc/stat").ok()?;
        let cpus: Vec<usize> = placement.measured().iter().collect();
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        CpuAccount::parse(&table, &cpus, ticks_per_second, Instant::now())
    }

    /// Lines of proc_stat(5): "cpu1 user nice system idle iowait irq softirq steal …".
    fn parse(table: &str, cpus: &[usize], ticks_per_second: u64, at: Instant) -> Option<CpuAccount> {
        let (mut idle, mut stolen, mut interrupts) = (0, 0, 0);
        for cpu in cpus {
            let name = format!("cpu{cpu}");
            let mut fields = table
                .lines()
                .map(str::split_ascii_whitespace)
                .find_map(|mut fields| (fields.next() == Some(&name)).then_some(fields))?
                .map(str::parse::<u64>);
            // Waiting for a disk is idleness, too.
            idle += fields.nth(3)?.ok()? + fields.next()?.ok()?;
            interrupts += fields.next()?.ok()? + fields.next()?.ok()?;
            stolen += fields.next()?.ok()?;
        }
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64);
        let cpus = u32::try_from(cpus.len()).ok()?;
        let (idle, stolen, interrupts) = (time(idle), time(stolen), time(interrupts));
        Some(CpuAccount { at, cpus, idle, stolen, interrupts })
    }

    /// What interrupts took until `later`.
    pub(crate) fn interrupts_until(self, later: CpuAccount) -> Duration {
        later.interrupts.saturating_sub(self.interrupts)
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

/// The length of one look: long enough that a single tick of 10 ms isn't a disturbance.
const LOOK: Duration = Duration::from_millis(600);
/// The most looks of one wait.
const LOOKS_MAX: u32 = 25;
/// The share of a run's budget for all waits, so that a machine that is never quiet still gets its trials.
const SHARE_MAX: f64 = 0.1;

#[derive(Debug)]
pub(crate) struct Patience {
    left: Duration,
}

impl Patience {
    pub(crate) fn of_run(budget: Duration) -> Patience {
        Patience::new(budget.mul_f64(SHARE_MAX))
    }

    pub(crate) fn new(left: Duration) -> Patience {
        Patience { left }
    }

    /// Waits until the CPUs of `placement` are quiet, the patience is used up, or `is_over`.
    pub(crate) fn await_calm(&mut self, placement: Placement, is_over: impl Fn() -> bool) {
        self.await_with(|| look(placement), is_over);
    }

    fn await_with(&mut self, mut look: impl FnMut() -> Option<Disturbance>, is_over: impl Fn() -> bool) {
        for _ in 0..LOOKS_MAX {
            let Some(left) = self.left.checked_sub(LOOK) else {
                return;
            };
            if is_over() {
                return;
            }
            self.left = left;
            if look().is_none_or(|found| !found.is_large()) {
                return;
            }
        }
    }
}

/// What others take while the CPUs are kept busy: the hypervisor steals nothing from an idle CPU.
fn look(placement: Placement) -> Option<Disturbance> {
    let before = (CpuAccount::read(placement)?, process_cpu());
    let until = Instant::now() + LOOK;
    thread::scope(|scope| {
        for cpu in placement.measured().iter() {
            scope.spawn(move || {
                // It was possible for the servers.
                let _pinned = pin(cpu);
                while Instant::now() < until {
                    spin_loop();
                }
            });
        }
    });
    let later = CpuAccount::read(placement)?;
    before.0.until(later, process_cpu().saturating_sub(before.1))
}

fn process_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
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
        assert_eq!(before.interrupts_until(after), Duration::ZERO);
        let interrupted = CpuAccount::parse("cpu0 1 1 1 1 1 30 40 1\n", &[0], 100, end).unwrap();
        assert_eq!(before.interrupts_until(interrupted), Duration::from_millis(660), "two of 4 were before");
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
            interrupts: Duration::ZERO,
        };
        assert_eq!(at(0).until(at(199), Duration::ZERO), None);
        assert!(at(0).until(at(200), Duration::ZERO).is_some_and(|found| found.is_large()));
    }

    #[test]
    fn a_cpu_that_is_not_listed_is_unknown() {
        assert!(CpuAccount::parse("cpu0 1 1 1 1 1 1 1 1\n", &[7], 100, Instant::now()).is_none());
    }

    #[test]
    fn who_is_to_blame() {
        let cause = |others, stolen| Disturbance { others, stolen }.cause();
        assert_eq!(cause(0.2, 0.0), "another process uses the CPU");
        assert_eq!(cause(0.0, 0.2), "another virtual machine uses the CPU");
        assert_eq!(cause(0.2, 0.2), "another process uses the CPU, and so does another virtual machine");
    }

    const CALM: Disturbance = Disturbance { others: 0.01, stolen: 0.0 };
    const STORM: Disturbance = Disturbance { others: 0.0, stolen: 0.5 };

    /// How many looks a wait takes with this budget, when they find this.
    fn looks(budget: u32, found: &[Option<Disturbance>], is_over: bool) -> usize {
        let mut patience = Patience::new(LOOK * budget);
        let mut looks = 0;
        patience.await_with(
            || {
                looks += 1;
                found[looks - 1]
            },
            || is_over,
        );
        assert_eq!(patience.left, LOOK * budget - LOOK * u32::try_from(looks).unwrap());
        looks
    }

    #[test]
    fn waits_until_it_is_calm_and_no_longer() {
        assert_eq!(looks(9, &[Some(STORM), Some(STORM), Some(CALM)], false), 3);
        assert_eq!(looks(9, &[Some(CALM)], false), 1);
        assert_eq!(looks(9, &[None], false), 1);
    }

    #[test]
    fn patience_has_an_end() {
        let storm = [Some(STORM); 100];
        assert_eq!(looks(2, &storm, false), 2);
        assert_eq!(looks(0, &storm, false), 0);
        assert_eq!(looks(90, &storm, false), LOOKS_MAX as usize);
        assert_eq!(looks(9, &storm, true), 0);
    }

    #[test]
    fn a_look_sees_who_else_is_busy() {
        let placement = Placement::choose().unwrap();
        let mut other = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let found = look(placement);
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(found.is_some_and(|found| found.is_large()), "{found:?}");
    }
}

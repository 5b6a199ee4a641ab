//! Waiting for a quiet machine.
//!
//! On a shared host the hypervisor may take half of a CPU for a minute. A trial that is repeated at once
//! falls into the same minute.

use crate::machine::disturbance::{CpuAccount, Disturbance};
use crate::machine::placement::{Placement, pin};
use rustix::time::{ClockId, clock_gettime};
use std::hint::spin_loop;
use std::thread;
use std::time::{Duration, Instant};

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

/// What others take while both CPUs are kept busy: the hypervisor steals nothing from an idle CPU.
fn look(placement: Placement) -> Option<Disturbance> {
    let mut cpus = vec![placement.server, placement.client];
    cpus.dedup();
    let before = (CpuAccount::read(placement)?, process_cpu());
    let until = Instant::now() + LOOK;
    thread::scope(|scope| {
        for cpu in cpus {
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

    const CALM: Disturbance = Disturbance { others: 0.01, stolen: 0.0 };
    const STORM: Disturbance = Disturbance { others: 0.0, stolen: 0.5 };

    /// How many looks it takes, when these find this, and are allowed by a budget of so many.
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

//! What a server's process tree has cost so far, measured without adding to the cost.
//!
//! Counters of perf_event_open(2) are switched at every context switch: once per request with a thread per
//! connection, once per batch with an event loop. The kernel keeps its own account of every process anyway,
//! so that is read: CPU time from the process's clocks, to the nanosecond, the rest from `/proc/PID/stat`.
//! Both include threads that have ended. The time of ended children is known only in ticks of 10 ms.

use crate::failure::Result;
use crate::server::tree::{self, ProcessStat};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::ops::Sub;
use std::time::Duration;

/// What the whole tree has used since it was started; by subtraction, what it has used between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// User and system time, kernel workers included; exact when read from an idle server.
    pub cpu: Duration,
    /// The user's part of it, in clock ticks, as the timer's interrupts found it: a sample.
    pub user: Duration,
    /// The system's part, in the same way.
    pub system: Duration,
    /// What children that have ended contributed to `cpu`, in clock ticks. Not zero: `cpu` is as coarse.
    pub(crate) gone: Duration,
    /// Page faults that the page cache or a free page has answered.
    pub(crate) minor_faults: u64,
    /// Page faults that waited for a disk.
    pub(crate) major_faults: u64,
}

impl Cost {
    /// Of `root` and its descendants, once they are idle.
    pub(crate) fn settled(root: Pid) -> Result<Cost> {
        let tree = tree::of(root);
        let living = tree::settled_cpu(&tree)?;
        let mut cost = Cost { cpu: living, ..Cost::default() };
        for account in tree.into_iter().filter_map(ProcessStat::of) {
            cost.user += ticks(account.user_ticks);
            cost.system += ticks(account.system_ticks);
            cost.gone += ticks(account.gone_ticks);
            cost.minor_faults += account.minor_faults + account.gone_minor_faults;
            cost.major_faults += account.major_faults + account.gone_major_faults;
        }
        cost.cpu += cost.gone;
        Ok(cost)
    }
}

fn ticks(count: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second();
    Duration::from_millis(count.saturating_mul(1_000) / per_second)
}

impl Sub for Cost {
    type Output = Cost;

    /// What came between an earlier reading and this one. A child that was still counted among the living in
    /// the earlier one may have left its last tick behind; nothing goes below zero.
    fn sub(self, earlier: Cost) -> Cost {
        Cost {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            gone: self.gone.saturating_sub(earlier.gone),
            minor_faults: self.minor_faults.saturating_sub(earlier.minor_faults),
            major_faults: self.major_faults.saturating_sub(earlier.major_faults),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Children that were waited for must still count.
    #[test]
    fn children_that_have_ended_count() {
        let script = "i=0; (while [ $i -lt 200000 ]; do i=$((i+1)); done); echo done; read line";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let cost = Cost::settled(Pid::from_child(&child)).unwrap();
        assert!(cost.gone >= Duration::from_millis(20), "{cost:?}");
        assert!(cost.cpu >= cost.gone && cost.minor_faults > 0, "{cost:?}");
        assert_eq!(cost - cost, Cost::default());
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

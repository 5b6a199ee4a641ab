//! The CPU time of another process, to the nanosecond.
//!
//! The source is the process's CPU clock (`clock_getcpuclockid(3)`): user and system time of all threads,
//! ended or alive, io_uring workers included. It needs no permission. The alternatives fall short:
//! `/proc/PID/stat` counts in ticks of 10 ms, `/proc/PID/task/*/schedstat` forgets ended threads, and the
//! `rusage` of a dead child includes its start and warm-up.
//!
//! The kernel updates the account of a *running* thread only at ticks and switches. So the clock is read
//! while the server is idle (`CpuClock::settle`), and is then exact.

use crate::failure::{Failure, Result};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::thread;
use std::time::Duration;

/// Between two readings that have to agree.
const SETTLE_STEP: Duration = Duration::from_micros(500);
/// A server that works without requests isn't waited for.
const SETTLE_STEPS_MAX: u32 = 40;

/// The CPU clock of a process.
#[derive(Clone, Copy, Debug)]
pub struct CpuClock {
    clock: ClockId,
}

impl CpuClock {
    /// The clock of process `pid`.
    pub fn of(pid: rustix::process::Pid) -> Result<CpuClock> {
        let pid = Pid::from_raw(pid.as_raw_nonzero().get());
        let clock =
            ClockId::pid_cpu_clock_id(pid).map_err(Failure::context("open the CPU clock of the server"))?;
        Ok(CpuClock { clock })
    }

    /// What the process has used up to now.
    pub fn now(self) -> Result<Duration> {
        let time = clock_gettime(self.clock).map_err(Failure::context("read the CPU clock of the server"))?;
        Ok(Duration::from(time))
    }

    /// Reads until two readings agree, or gives up on a server that is never idle.
    pub(crate) fn settle(read: impl Fn() -> Result<Duration>) -> Result<Duration> {
        let mut last = read()?;
        for _ in 0..SETTLE_STEPS_MAX {
            thread::sleep(SETTLE_STEP);
            let now = read()?;
            if now == last {
                break;
            }
            last = now;
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn counts_threads_that_have_ended() {
        let clock = CpuClock::of(rustix::process::getpid()).unwrap();
        let before = clock.now().unwrap();
        let spin = Duration::from_millis(50);
        let spun = thread::spawn(move || {
            let own = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let start = own();
            let mut used = Duration::ZERO;
            while used < spin {
                let now = own();
                used = Duration::try_from(now - start).unwrap();
            }
            used
        });
        let used = spun.join().unwrap();
        assert!(clock.now().unwrap() - before >= used);
    }

    #[test]
    fn a_sleeping_process_uses_nothing() {
        let mut child = Command::new("sleep").arg("5").spawn().unwrap();
        let clock = CpuClock::of(rustix::process::Pid::from_child(&child)).unwrap();
        // The exec itself takes a moment, and may wait for the disk in it.
        let settled = || CpuClock::settle(|| clock.now()).unwrap();
        assert!((0..100).any(|_| settled() == settled()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        child.wait().unwrap();
        assert!(CpuClock::of(pid).and_then(CpuClock::now).is_err());
    }
}

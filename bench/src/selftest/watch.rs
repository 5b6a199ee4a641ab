//! How long the CPUs kept a thread waiting that wanted to run, at worst. Who is stopped for a moment neither
//! reads nor sends in it, and everybody in the queue behind waits longer, long after the moment is over.

use crate::failure::Result;
use crate::machine::placement::{allowed_cpus, pin};
use rustix::thread::set_current_timer_slack;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a watcher sleeps at a time.
const STEP: Duration = Duration::from_millis(1);

/// A thread on each CPU that measures how late it wakes from sleep.
pub(super) struct Watch {
    ended: Arc<AtomicBool>,
    watchmen: Vec<JoinHandle<Duration>>,
}

impl Watch {
    pub(super) fn start() -> Result<Watch> {
        let ended = Arc::new(AtomicBool::new(false));
        let cpus = allowed_cpus()?.into_iter();
        let watchmen = cpus.map(|cpu| {
            let ended = Arc::clone(&ended);
            thread::spawn(move || {
                // Without either it sees less, but nothing that isn't there.
                let _pinned = pin(cpu);
                let _slack_stays = set_current_timer_slack(Some(NonZeroU64::MIN));
                stand_by(&ended, thread::sleep)
            })
        });
        Ok(Watch { watchmen: watchmen.collect(), ended })
    }

    /// Ends the watch, and returns the worst lateness.
    pub(super) fn latest(mut self) -> Duration {
        self.ended.store(true, Ordering::Relaxed);
        let lates = self.watchmen.drain(..).map(|watchman| watchman.join().unwrap_or(Duration::MAX));
        lates.max().unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn stand_by(ended: &AtomicBool, sleep: impl Fn(Duration)) -> Duration {
    let mut latest = Duration::ZERO;
    while !ended.load(Ordering::Relaxed) {
        let due = Instant::now() + STEP;
        sleep(STEP);
        latest = latest.max(due.elapsed());
    }
    latest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_latest_wake_counts() {
        const STOP: Duration = Duration::from_millis(80);
        let ended = AtomicBool::new(false);
        let sleeps = Cell::new(0);
        let latest = stand_by(&ended, |step| {
            sleeps.set(sleeps.get() + 1);
            thread::sleep(if sleeps.get() == 3 { step + STOP } else { step });
            ended.store(sleeps.get() == 5, Ordering::Relaxed);
        });
        assert!(latest >= STOP && sleeps.get() == 5, "{latest:?} in {} sleeps", sleeps.get());
    }

    #[test]
    fn each_cpu_is_watched_until_the_end() {
        let watch = Watch::start().unwrap();
        assert_eq!(watch.watchmen.len(), allowed_cpus().unwrap().len());
        assert!(watch.latest() < Duration::MAX);
    }
}

//! Shutdown: the switch that starts a drain, and the timing of its phases ([`Drain`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::machine::drain::{Drain, DrainFlag};

/// How long a drain keeps idle connections open, for requests that may already be on their way.
pub const QUIET: Duration = Duration::from_millis(250);

/// Starts a drain; shared by all workers.
#[derive(Debug)]
pub struct Shutdown {
    begun: OnceLock<Instant>,
    flag: Arc<DrainFlag>,
    event: OwnedFd,
}

impl Shutdown {
    /// A switch that is off.
    ///
    /// # Errors
    /// If the process is out of descriptors (`eventfd(2)`).
    pub fn new() -> std::io::Result<Shutdown> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Shutdown { begun: OnceLock::new(), flag: Arc::default(), event })
    }

    /// Starts the drain. Further calls have no effect.
    pub fn drain(&self) {
        if self.begun.set(Instant::now()).is_ok() {
            self.flag.raise();
            // Can't fail: the counter starts at zero and is written only once.
            let _written = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.begun.get().is_some()
    }

    /// Set when the drain begins.
    pub(crate) fn flag(&self) -> &Arc<DrainFlag> {
        &self.flag
    }

    /// The current phase of the drain.
    #[must_use]
    pub fn phase(&self, now: Instant, grace: Duration) -> Drain {
        let Some(begun) = self.begun.get() else {
            return Drain::Serving;
        };
        let elapsed = now.saturating_duration_since(*begun);
        if elapsed >= grace {
            Drain::Over
        } else if elapsed >= QUIET {
            Drain::Closing
        } else {
            Drain::Quiet
        }
    }

    /// Time until the phase changes; `None` before the drain and after it.
    #[must_use]
    pub fn wait(&self, now: Instant, grace: Duration) -> Option<Duration> {
        let begun = *self.begun.get()?;
        let next = match self.phase(now, grace) {
            Drain::Serving | Drain::Over => return None,
            Drain::Quiet => begun + QUIET.min(grace),
            Drain::Closing => begun + grace,
        };
        Some(next.saturating_duration_since(now))
    }
}

/// An eventfd that becomes readable when the drain begins and stays so, because nobody reads it.
impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other() {
        let shutdown = Shutdown::new().expect("an eventfd");
        let grace = Duration::from_secs(1);
        assert_eq!(shutdown.phase(Instant::now(), grace), Drain::Serving);
        assert_eq!(shutdown.wait(Instant::now(), grace), None);
        shutdown.drain();
        let begun = *shutdown.begun.get().expect("begun");
        for (after, phase, wait) in [
            (0, Drain::Quiet, Some(250)),
            (249, Drain::Quiet, Some(1)),
            (250, Drain::Closing, Some(750)),
            (999, Drain::Closing, Some(1)),
            (1000, Drain::Over, None),
        ] {
            let now = begun + Duration::from_millis(after);
            assert_eq!(shutdown.phase(now, grace), phase);
            assert_eq!(shutdown.wait(now, grace), wait.map(Duration::from_millis));
        }
        assert_eq!(shutdown.phase(begun, Duration::ZERO), Drain::Over, "no grace, no phases");
    }
}

//! Shutdown: the switch that starts a drain, and the timing of its phases ([`Drain`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::machine::drain::{Drain, DrainFlag};

/// How long a drain keeps idle connections open, for requests that may already be on their way.
pub const QUIET: Duration = Duration::from_millis(250);

/// The last part of the grace period, in which connections are no longer waited for: an eighth of it, at most so long. It
/// is for threads to end, and for what is yet to be logged.
const RESERVE_MAX: Duration = Duration::from_secs(1);
/// Even without a grace period, so long may it take to write what is yet to be logged.
pub(crate) const END_MIN: Duration = Duration::from_millis(100);
/// So long may the process take to end when a signal has asked for that at once.
pub const HURRY_MAX: Duration = Duration::from_secs(1);

/// Starts a drain; shared by all workers.
#[derive(Debug)]
pub struct Shutdown {
    /// The end has been asked for: the drain has begun, or it will.
    ending: AtomicBool,
    begun: OnceLock<Instant>,
    /// Since when the grace period runs. Not while nobody waits for this process to end: another one serves already.
    due: Mutex<Option<Instant>>,
    is_due: Condvar,
    /// Why it has begun, if that is an error.
    failure: OnceLock<String>,
    /// Another process serves already.
    handed_over: OnceLock<()>,
    /// The root's path leads elsewhere: what is served here is an earlier state of the site.
    outdated: AtomicBool,
    /// The signal that has asked for the end at once.
    hurry: OnceLock<(i32, Instant)>,
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
        Ok(Shutdown {
            ending: AtomicBool::new(false),
            begun: OnceLock::new(),
            due: Mutex::default(),
            is_due: Condvar::new(),
            failure: OnceLock::new(),
            handed_over: OnceLock::new(),
            outdated: AtomicBool::new(false),
            hurry: OnceLock::new(),
            flag: Arc::default(),
            event,
        })
    }

    /// Starts the drain because another process has taken over, on the same sockets. Nobody waits for this one to end, so
    /// answers take the time that they take, until a [`drain`](Self::drain) is asked for. And idle connections stay open for
    /// half of the grace period: a client that is about to send a request finds the connection open, and is told with the
    /// answer to open another one. Unless that answer would be outdated, because the root has moved: then they are closed as
    /// soon as in any drain.
    pub fn hand_over(&self) {
        let _already = self.handed_over.set(());
        self.begin();
    }

    /// Says whether the root's path leads elsewhere. Returns whether workers are to be told, because their connections are
    /// open for nothing but outdated answers: another process has taken over, which has no way back.
    #[must_use]
    pub(crate) fn set_outdated(&self, is_outdated: bool) -> bool {
        if !self.has_handed_over() {
            self.outdated.store(is_outdated, Relaxed);
            return false;
        }
        is_outdated && !self.outdated.swap(true, Relaxed)
    }

    /// Says that the drain will begin, while connections are still accepted: who sends them here is to send them
    /// elsewhere.
    pub fn announce(&self) {
        self.ending.store(true, Relaxed);
    }

    /// Whether somebody has asked for the end: from the first signal on, before the drain begins.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.ending.load(Relaxed)
    }

    /// Whether the server is about to end, so that it isn't ready for more.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.is_announced() || self.draining()
    }

    /// Whether another process has taken over.
    #[must_use]
    pub fn has_handed_over(&self) -> bool {
        self.handed_over.get().is_some()
    }

    /// Starts the drain, and the grace period. Further calls have no effect.
    pub fn drain(&self) {
        self.announce();
        self.due.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        self.is_due.notify_all();
        self.begin();
    }

    fn begin(&self) {
        if self.begun.set(self.due().unwrap_or_else(Instant::now)).is_ok() {
            self.flag.raise();
            // Can't fail: the counter starts at zero and is written only once.
            let _written = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    fn due(&self) -> Option<Instant> {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the grace period runs.
    pub(crate) fn wait_until_due(&self) {
        let due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let _due = self.is_due.wait_while(due, |due| due.is_none()).unwrap_or_else(PoisonError::into_inner);
    }

    /// Starts the drain because something has failed. The first reason stays.
    pub fn fail(&self, reason: String) {
        let _later = self.failure.set(reason);
        self.drain();
    }

    /// Why the drain has begun, if that is an error.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Ends the drain because this signal has come: nobody is waited for any longer.
    pub(crate) fn hurry(&self, signal: i32) {
        let _already = self.hurry.set((signal, Instant::now()));
        self.drain();
    }

    /// The signal that has ended the drain.
    pub(crate) fn hurried_by(&self) -> Option<i32> {
        self.hurry.get().map(|(signal, _)| *signal)
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
        let is_over = self.due().is_some_and(|due| now >= due + served(grace));
        if is_over || self.hurried_by().is_some() {
            Drain::Over
        } else if now >= self.closes_at(*begun, grace) {
            Drain::Closing
        } else {
            Drain::Quiet
        }
    }

    /// Time until the phase changes; `None` before the drain and after it, and while nobody waits for the last answers.
    #[must_use]
    pub fn wait(&self, now: Instant, grace: Duration) -> Option<Duration> {
        let begun = *self.begun.get()?;
        let next = match self.phase(now, grace) {
            Drain::Serving | Drain::Over => return None,
            Drain::Quiet => self.closes_at(begun, grace),
            Drain::Closing => self.due()? + served(grace),
        };
        Some(next.saturating_duration_since(now))
    }

    /// Until when idle connections stay open.
    fn closes_at(&self, begun: Instant, grace: Duration) -> Instant {
        let unhurried = begun + served(grace) / 2;
        let outlasts = self.has_handed_over() && !self.outdated.load(Relaxed);
        match (outlasts, self.due()) {
            (true, None) => unhurried,
            (true, Some(due)) => unhurried.min(due + QUIET.min(served(grace))),
            (false, _) => begun + QUIET.min(served(grace)),
        }
    }

    /// Time until the process has to be gone; `None` while it has no end.
    #[must_use]
    pub fn left(&self, now: Instant, grace: Duration) -> Option<Duration> {
        let end = self.due()? + grace.max(END_MIN);
        let end = self.hurry.get().map_or(end, |(_, at)| end.min(*at + HURRY_MAX));
        Some(end.saturating_duration_since(now))
    }
}

/// The part of the grace period in which answers go on.
fn served(grace: Duration) -> Duration {
    grace - (grace / 8).min(RESERVE_MAX)
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
    fn most_of_the_grace_period_is_for_answers() {
        for (grace, left) in [(0, 0), (8, 7), (16, 15), (30, 29), (3600, 3599)] {
            assert_eq!(served(Duration::from_secs(grace)), Duration::from_secs(left));
        }
    }

    #[test]
    fn idle_connections_outlast_a_takeover() {
        let shutdown = Shutdown::new().expect("an eventfd");
        let grace = Duration::from_secs(30);
        shutdown.hand_over();
        let begun = *shutdown.begun.get().expect("begun");
        for (after, phase, wait) in [
            (0, Drain::Quiet, Some(14_500)),
            (14_499, Drain::Quiet, Some(1)),
            (14_500, Drain::Closing, None),
            (29_000, Drain::Closing, None),
            (3_600_000, Drain::Closing, None),
        ] {
            let now = begun + Duration::from_millis(after);
            assert_eq!(shutdown.phase(now, grace), phase);
            assert_eq!(shutdown.wait(now, grace), wait.map(Duration::from_millis));
            assert_eq!(shutdown.left(now, grace), None, "nobody waits for it");
        }
        assert!(shutdown.is_ending() && !shutdown.is_announced());
        shutdown.drain();
        let due = shutdown.due().expect("it has an end now");
        for (after, phase, wait) in [
            (0, Drain::Quiet, Some(250)),
            (250, Drain::Closing, Some(28_750)),
            (28_999, Drain::Closing, Some(1)),
            (29_000, Drain::Over, None),
        ] {
            let now = due + Duration::from_millis(after);
            assert_eq!(shutdown.phase(now, grace), phase);
            assert_eq!(shutdown.wait(now, grace), wait.map(Duration::from_millis));
            assert_eq!(shutdown.left(now, grace), Some(grace - Duration::from_millis(after)));
        }
    }

    /// What they would be answered is no longer what the site is.
    #[test]
    fn idle_connections_do_not_outlast_their_root() {
        let grace = Duration::from_secs(30);
        let closes = |shutdown: &Shutdown| {
            let begun = *shutdown.begun.get().expect("begun");
            shutdown.closes_at(begun, grace) - begun
        };
        let shutdown = Shutdown::new().expect("an eventfd");
        assert!(!shutdown.set_outdated(true), "it serves, so nobody has to be told");
        shutdown.hand_over();
        assert_eq!(closes(&shutdown), QUIET);
        assert!(!shutdown.set_outdated(false) && !shutdown.set_outdated(true), "there is no way back");
        assert_eq!(closes(&shutdown), QUIET);
        let upgraded = Shutdown::new().expect("an eventfd");
        assert!(!upgraded.set_outdated(true) && !upgraded.set_outdated(false), "it leads here again");
        upgraded.hand_over();
        assert!(!upgraded.set_outdated(false));
        assert_eq!(closes(&upgraded), served(grace) / 2);
        assert!(upgraded.set_outdated(true), "switched while they are waited for");
        assert_eq!(closes(&upgraded), QUIET);
    }

    #[test]
    fn the_first_failure_stays() {
        let shutdown = Shutdown::new().expect("an eventfd");
        assert_eq!((shutdown.draining(), shutdown.failure()), (false, None));
        shutdown.fail("one".to_owned());
        shutdown.fail("two".to_owned());
        assert_eq!((shutdown.draining(), shutdown.failure()), (true, Some("one")));
    }

    #[test]
    fn an_end_is_announced_before_the_drain() {
        let shutdown = Shutdown::new().expect("an eventfd");
        assert!(!shutdown.is_ending());
        shutdown.announce();
        assert!(shutdown.is_ending() && !shutdown.draining() && !shutdown.flag().is_raised());
        assert_eq!(shutdown.phase(Instant::now(), Duration::ZERO), Drain::Serving);
        let unannounced = Shutdown::new().expect("an eventfd");
        unannounced.fail("one".to_owned());
        assert!(unannounced.is_ending() && unannounced.flag().is_raised());
    }

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
            (250, Drain::Closing, Some(625)),
            (874, Drain::Closing, Some(1)),
            (875, Drain::Over, None),
        ] {
            let now = begun + Duration::from_millis(after);
            assert_eq!(shutdown.phase(now, grace), phase);
            assert_eq!(shutdown.wait(now, grace), wait.map(Duration::from_millis));
            assert_eq!(shutdown.left(now, grace), Some(Duration::from_millis(1000 - after)));
        }
        assert_eq!(shutdown.left(begun + grace * 2, grace), Some(Duration::ZERO));
        assert_eq!(shutdown.left(begun, Duration::ZERO), Some(END_MIN));
        assert_eq!(shutdown.phase(begun, Duration::ZERO), Drain::Over, "no grace, no phases");
        shutdown.hurry(15);
        shutdown.hurry(2);
        assert_eq!(shutdown.hurried_by(), Some(15), "the first of them");
        let long = HURRY_MAX * 9;
        assert!(shutdown.left(begun, long).is_some_and(|left| left < long));
        assert_eq!((shutdown.phase(begun, grace), shutdown.wait(begun, grace)), (Drain::Over, None));
    }
}

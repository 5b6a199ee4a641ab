//! How far a drain has come: from the signal to the last answer.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The phases of a drain.
///
/// First nothing new is accepted, and clients are told `Connection: close` with their next answer, so that a busy one
/// never writes a request into a connection that is being closed. Then idle connections are closed. When the grace
/// period is over, what is left is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// There is none.
    Serving,
    /// Nothing new is accepted; every answer carries `Connection: close`.
    Quiet,
    /// Idle connections are closed; answers under way go on.
    Closing,
    /// The grace period has passed: drop what is left.
    Over,
}

/// Raised when a drain begins; every thread can look at it at once.
#[derive(Debug, Default)]
pub struct DrainFlag(AtomicBool);

impl DrainFlag {
    /// Raises the flag, for good.
    pub fn raise(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it is raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Relaxed)
    }
}

//! A pause in accepting, when descriptors have run out.

use std::time::{Duration, Instant};

use common::service::socket::ACCEPT_PAUSE;

use crate::limits::Limit;

/// A pause in which connections stay in the kernel's queue. Without it the rung would spin, because the listener
/// stays readable. It ends when one of the rung's connections closes, or after a while: another thread or process may
/// have freed descriptors.
#[derive(Debug, Default)]
pub struct Pause {
    until: Option<Instant>,
}

impl Pause {
    /// Begins one.
    pub fn begin(&mut self) {
        Limit::Descriptors.mention();
        self.until = Some(Instant::now() + ACCEPT_PAUSE);
    }

    /// Ends it; whether there was one.
    pub fn end(&mut self) -> bool {
        self.until.take().is_some()
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// How long the rung may wait: no limit if there is no pause.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Ends it if it is over; whether it was.
    pub fn is_over(&mut self) -> bool {
        self.left().is_some_and(|left| left.is_zero()) && self.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_by_itself_or_before() {
        let mut pause = Pause::default();
        assert!(!pause.is_on() && !pause.end() && !pause.is_over() && pause.left().is_none());
        pause.begin();
        assert!(pause.is_on() && !pause.is_over());
        assert!(pause.left().is_some_and(|left| left <= ACCEPT_PAUSE));
        assert!(pause.end() && !pause.is_on());
        pause.until = Some(Instant::now());
        assert!(pause.is_over() && !pause.is_over());
    }
}

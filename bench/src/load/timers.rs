//! What the engine has to do later, connection by connection: the next sip, a new attempt to connect.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Timers are gathered to multiples of this, so that thousands of slow readers wake the client 200 times a
/// second, not thousands of times.
const TICK: Duration = Duration::from_millis(5);

/// At most one timer per connection: its owner sees to that.
pub(crate) struct Timers {
    origin: Instant,
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers { origin: Instant::now(), heap: BinaryHeap::new() }
    }

    /// Sets a timer at `when` or up to a [`TICK`] later.
    pub(crate) fn set(&mut self, when: Instant, index: usize) {
        let ticks = when.saturating_duration_since(self.origin).as_nanos().div_ceil(TICK.as_nanos());
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.heap.push(Reverse((self.origin + TICK * ticks, index)));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((when, _))| *when)
    }

    pub(crate) fn take_due(&mut self, now: Instant) -> Option<usize> {
        let Reverse((when, _)) = self.heap.peek()?;
        if *when > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, index))| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_in_order_and_never_early() {
        let mut timers = Timers::new();
        let start = timers.origin;
        timers.set(start + Duration::from_millis(11), 1);
        timers.set(start + Duration::from_millis(3), 2);
        timers.set(start + Duration::from_millis(14), 3);
        assert_eq!(timers.next(), Some(start + TICK));
        assert_eq!(timers.take_due(start + Duration::from_millis(4)), None);
        assert_eq!(timers.take_due(start + Duration::from_millis(5)), Some(2));
        assert_eq!(timers.take_due(start + Duration::from_millis(14)), None);
        assert_eq!(timers.take_due(start + TICK * 3), Some(1));
        assert_eq!(timers.take_due(start + TICK * 3), Some(3));
        assert_eq!((timers.take_due(start + TICK * 9), timers.next()), (None, None));
    }
}

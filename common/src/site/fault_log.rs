//! What goes wrong with files and rules while requests are answered: the client has its status, and the operator a line.
//!
//! Nothing here is on the way of a request that goes well. A fault that comes with every request costs a line at first, and
//! then a number.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many lines may come at once, if there were fewer before;
pub const BURST_MAX: u32 = 10;
/// beyond that, one each time this has passed.
pub const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Says faults, and counts those beyond its bound.
pub struct FaultLog {
    say: Box<dyn Fn(&str) + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When those that were said would all have come, had they come one in each interval.
    due: Option<Instant>,
    untold: u64,
}

impl State {
    /// Takes one line of those that may be said.
    fn take(&mut self, now: Instant) -> bool {
        let due = self.due.map_or(now, |due| due.max(now));
        let has_room = due <= now + LINE_INTERVAL * (BURST_MAX - 1);
        if has_room {
            self.due = Some(due + LINE_INTERVAL);
        }
        has_room
    }
}

impl FaultLog {
    /// Faults are said by calling `say`, which must not wait.
    pub fn new(say: impl Fn(&str) + Send + Sync + 'static) -> FaultLog {
        FaultLog { say: Box::new(say), state: Mutex::default() }
    }

    /// Says a fault, if there is room for a line; with it, how many had none before.
    #[cold]
    pub fn tell(&self, now: Instant, fault: fmt::Arguments<'_>) {
        let mut state = self.lock();
        if !state.take(now) {
            state.untold += 1;
            return;
        }
        let untold = std::mem::take(&mut state.untold);
        drop(state);
        match untold {
            0 => (self.say)(&fault.to_string()),
            1 => (self.say)(&format!("{fault} (1 more fault before it wasn't said)")),
            more => (self.say)(&format!("{fault} ({more} more faults before it weren't said)")),
        }
    }

    /// Says how many faults had no room, where there is some by now: the last ones have none behind them.
    pub fn flush(&self, now: Instant) {
        let mut state = self.lock();
        if state.untold == 0 || !state.take(now) {
            return;
        }
        let untold = std::mem::take(&mut state.untold);
        drop(state);
        match untold {
            1 => (self.say)("1 more fault of a file or a rule wasn't said"),
            more => (self.say)(&format!("{more} more faults of files and rules weren't said")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for FaultLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn lines_are_bounded_and_none_is_forgotten() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&said);
        let log = FaultLog::new(move |line| theirs.lock().expect("not poisoned").push(line.to_owned()));
        let take = || std::mem::take(&mut *said.lock().expect("not poisoned"));
        let begun = Instant::now();
        for number in 0..BURST_MAX + 3 {
            log.tell(begun, format_args!("fault {number}"));
        }
        log.flush(begun);
        let lines: Vec<String> = (0..BURST_MAX).map(|number| format!("fault {number}")).collect();
        assert_eq!(take(), lines, "there is no room for more");
        log.tell(begun + LINE_INTERVAL, format_args!("another"));
        log.tell(begun + LINE_INTERVAL, format_args!("one too many"));
        assert_eq!(take(), ["another (3 more faults before it weren't said)"]);
        log.flush(begun + LINE_INTERVAL * 2);
        log.flush(begun + LINE_INTERVAL * 3);
        assert_eq!(take(), ["1 more fault of a file or a rule wasn't said"], "once");
        // After a while there may be as many at once as in the beginning.
        let later = begun + LINE_INTERVAL * 100;
        for number in 0..=BURST_MAX {
            log.tell(later, format_args!("fault {number}"));
        }
        assert_eq!(take(), lines);
    }
}

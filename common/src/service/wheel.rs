//! A timer wheel that makes deadlines for thousands of connections nearly free.
//!
//! A connection's deadline moves with every request, but its entry in the wheel stays. Each slot has at most one entry,
//! never further ahead than the shortest timeout. When the entry comes due, the loop checks the connection's own
//! deadline: if it has passed, the loop acts; if not, it puts the slot back. Every deadline is set at least the
//! shortest timeout ahead, and the slot's entry is due no later than that, so a deadline is late by at most one tick,
//! and setting one costs a single store.

use std::time::{Duration, Instant};

const TICKS: u32 = 16;
/// One bucket per tick of the shortest timeout, one for rounding up, and one for the current tick.
const BUCKETS: usize = TICKS as usize + 2;

/// A coarse timer wheel, keyed by slot.
pub struct Wheel {
    buckets: [Vec<u32>; BUCKETS],
    /// Whether a slot has an entry.
    watched: Vec<bool>,
    origin: Instant,
    tick: Duration,
    /// All ticks before this one have been swept.
    swept: u64,
}

impl Wheel {
    /// A wheel for deadlines that are set at least `shortest_timeout` ahead.
    #[must_use]
    pub fn new(shortest_timeout: Duration, now: Instant) -> Wheel {
        let tick = (shortest_timeout / TICKS).max(Duration::from_millis(1));
        Wheel { buckets: Default::default(), watched: Vec::new(), origin: now, tick, swept: 0 }
    }

    /// Makes sure the slot is checked no later than about one tick after `deadline`, possibly earlier. A slot that has
    /// an entry keeps it.
    pub fn watch(&mut self, slot: u32, deadline: Option<Instant>, now: Instant) {
        let index = slot as usize;
        if index >= self.watched.len() {
            self.watched.resize(index + 1, false);
        }
        if std::mem::replace(&mut self.watched[index], true) {
            return;
        }
        let furthest = now + self.tick * TICKS;
        let at = deadline.map_or(furthest, |deadline| deadline.min(furthest));
        let tick = (self.tick_of(at) + 1).max(self.swept);
        self.bucket(tick).push(slot);
    }

    /// Moves the slots that are due into `due` and removes their entries.
    pub fn sweep(&mut self, now: Instant, due: &mut Vec<u32>) {
        let current = self.tick_of(now);
        // After a long sleep, one round sweeps all buckets.
        let last = current.min(self.swept + BUCKETS as u64 - 1);
        for tick in self.swept..=last {
            let from = due.len();
            // Takes the bucket's memory as well: few buckets are full at once.
            due.extend(std::mem::take(self.bucket(tick)));
            for slot in &due[from..] {
                self.watched[*slot as usize] = false;
            }
        }
        self.swept = self.swept.max(current + 1);
    }

    /// How long the loop may sleep until the next sweep finds something; `None` if there are no entries.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let ahead = (self.swept..).take(BUCKETS).find(|tick| !self.buckets[Self::index(*tick)].is_empty())?;
        let ticks = u32::try_from(ahead).unwrap_or(u32::MAX);
        Some((self.origin + self.tick * ticks).saturating_duration_since(now))
    }

    fn tick_of(&self, at: Instant) -> u64 {
        let ticks = at.saturating_duration_since(self.origin).as_nanos() / self.tick.as_nanos();
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    fn bucket(&mut self, tick: u64) -> &mut Vec<u32> {
        &mut self.buckets[Self::index(tick)]
    }

    #[expect(clippy::cast_possible_truncation, reason = "less than BUCKETS")]
    fn index(tick: u64) -> usize {
        (tick % BUCKETS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Duration = Duration::from_millis(1600);

    fn due(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.sweep(now, &mut due);
        due
    }

    #[test]
    fn an_entry_is_due_within_two_ticks_of_its_deadline() {
        let start = Instant::now();
        for after in [0, 1, 99, 100, 101, 550, 1600] {
            let mut wheel = Wheel::new(SHORTEST, start);
            let deadline = start + Duration::from_millis(after);
            wheel.watch(3, Some(deadline), start);
            let mut now = start;
            while due(&mut wheel, now).is_empty() {
                now += Duration::from_millis(1);
                assert!(now < deadline + Duration::from_millis(201), "due too late for {after}");
            }
            assert!(now >= deadline, "due too early for {after}");
            assert_eq!(wheel.wait(now), None);
        }
    }

    #[test]
    fn a_far_deadline_is_checked_after_the_shortest_timeout() {
        let start = Instant::now();
        let mut wheel = Wheel::new(SHORTEST, start);
        wheel.watch(0, Some(start + Duration::from_secs(60)), start);
        wheel.watch(1, None, start);
        assert!(due(&mut wheel, start + SHORTEST - Duration::from_millis(1)).is_empty());
        assert_eq!(due(&mut wheel, start + SHORTEST + Duration::from_millis(100)), [0, 1]);
    }

    #[test]
    fn a_slot_has_one_entry() {
        let start = Instant::now();
        let mut wheel = Wheel::new(SHORTEST, start);
        for _ in 0..3 {
            wheel.watch(5, Some(start), start);
        }
        assert_eq!(due(&mut wheel, start + SHORTEST), [5]);
        wheel.watch(5, Some(start + SHORTEST), start + SHORTEST);
        assert_eq!(due(&mut wheel, start + SHORTEST * 2), [5]);
    }

    /// Else a loop with an overdue connection would never sleep.
    #[test]
    fn what_is_overdue_is_checked_in_the_next_tick() {
        let start = Instant::now();
        let mut wheel = Wheel::new(SHORTEST, start);
        let now = start + Duration::from_millis(550);
        assert!(due(&mut wheel, now).is_empty());
        wheel.watch(0, Some(start), now);
        assert!(due(&mut wheel, now).is_empty());
        assert_eq!(wheel.wait(now), Some(Duration::from_millis(50)));
        assert_eq!(due(&mut wheel, now + Duration::from_millis(50)), [0]);
    }

    #[test]
    fn a_long_sleep_loses_nothing() {
        let start = Instant::now();
        let mut wheel = Wheel::new(SHORTEST, start);
        for slot in 0..100 {
            wheel.watch(slot, Some(start + Duration::from_millis(u64::from(slot) * 16)), start);
        }
        let mut found = due(&mut wheel, start + Duration::from_secs(3600));
        found.sort_unstable();
        assert_eq!(found, (0..100).collect::<Vec<_>>());
        let later = start + Duration::from_secs(3600);
        wheel.watch(1, Some(later + SHORTEST), later);
        assert!(due(&mut wheel, later + Duration::from_millis(100)).is_empty());
        assert_eq!(due(&mut wheel, later + SHORTEST + Duration::from_millis(100)), [1]);
    }

    #[test]
    fn the_wait_ends_at_the_next_entry() {
        let start = Instant::now();
        let mut wheel = Wheel::new(SHORTEST, start);
        assert_eq!(wheel.wait(start), None);
        wheel.watch(0, Some(start + Duration::from_millis(450)), start);
        let wait = wheel.wait(start).expect("an entry");
        assert_eq!(wait, Duration::from_millis(500));
        assert_eq!(due(&mut wheel, start + wait), [0]);
    }
}

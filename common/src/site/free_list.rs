//! A LIFO free list: allocations kept for reuse, the most recently used first, because it is still in the CPU cache.
//!
//! A burst leaves more of them than will be needed for hours. Items unused for a while are freed, so memory follows the
//! current load, not the peak.

use std::time::{Duration, Instant};

/// How long an item stays unused before it is freed; twice that at most.
pub const UNNEEDED_AFTER: Duration = Duration::from_secs(10);

/// Free items of one kind.
#[derive(Debug)]
pub struct FreeList<T> {
    /// The most recently used is last.
    items: Vec<T>,
    /// This many are never freed.
    least: usize,
    /// At most this many are kept.
    most: usize,
    /// The low-water mark since the last trim: that many items went unused.
    fewest: usize,
}

impl<T> FreeList<T> {
    /// Keeps up to `most` items, and never trims below `least`.
    #[must_use]
    pub const fn new(least: usize, most: usize) -> FreeList<T> {
        FreeList { items: Vec::new(), least, most, fewest: 0 }
    }

    /// The number of free items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether no items are free.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Takes the most recently used item.
    pub fn take(&mut self) -> Option<T> {
        let taken = self.items.pop();
        self.fewest = self.fewest.min(self.items.len());
        taken
    }

    /// Returns an item for reuse, or drops it if the list is full.
    pub fn put(&mut self, item: T) {
        if self.items.len() < self.most {
            self.items.push(item);
        }
    }

    /// Frees the items that went unused since the last trim, oldest first.
    pub fn trim(&mut self) {
        let unneeded = self.fewest.min(self.items.len().saturating_sub(self.least));
        self.items.drain(..unneeded);
        self.fewest = self.items.len();
    }
}

/// Tells when to trim free lists: every [`UNNEEDED_AFTER`].
#[derive(Clone, Copy, Debug)]
pub struct TrimTimer {
    due: Instant,
}

impl TrimTimer {
    /// A timer that starts at `now`.
    #[must_use]
    pub fn new(now: Instant) -> TrimTimer {
        TrimTimer { due: now + UNNEEDED_AFTER }
    }

    /// Whether a trim is due. If so, the timer restarts.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.due;
        if is_due {
            *self = TrimTimer::new(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(least: usize, most: usize, items: impl IntoIterator<Item = u32>) -> FreeList<u32> {
        let mut free_list = FreeList::new(least, most);
        items.into_iter().for_each(|item| free_list.put(item));
        free_list
    }

    #[test]
    fn the_list_is_lifo() {
        let mut free_list = filled(0, 3, 1..=4);
        assert_eq!(
            [free_list.take(), free_list.take(), free_list.take(), free_list.take()],
            [Some(3), Some(2), Some(1), None]
        );
        assert!(free_list.is_empty());
    }

    #[test]
    fn unused_items_are_freed() {
        let mut free_list = filled(2, 100, 1..=10);
        free_list.trim();
        assert_eq!(free_list.len(), 10, "they have just been put");
        // Three items are in use at once.
        let wanted: Vec<_> = (0..3).map_while(|_| free_list.take()).collect();
        wanted.into_iter().for_each(|item| free_list.put(item));
        free_list.trim();
        assert_eq!(free_list.len(), 3);
        free_list.trim();
        assert_eq!(free_list.len(), 2, "`least` items stay");
        free_list.trim();
        assert_eq!(free_list.len(), 2);
    }

    #[test]
    fn items_in_use_are_not_trimmed() {
        let mut free_list = filled(0, 100, 1..=5);
        free_list.trim();
        let out: Vec<_> = (0..5).map_while(|_| free_list.take()).collect();
        free_list.trim();
        out.into_iter().for_each(|item| free_list.put(item));
        free_list.trim();
        assert_eq!(free_list.len(), 5);
    }

    #[test]
    fn the_trim_timer_repeats() {
        let now = Instant::now();
        let mut round = TrimTimer::new(now);
        assert!(!round.is_due(now + UNNEEDED_AFTER / 2));
        assert!(round.is_due(now + UNNEEDED_AFTER));
        assert!(!round.is_due(now + UNNEEDED_AFTER + UNNEEDED_AFTER / 2));
        assert!(round.is_due(now + 2 * UNNEEDED_AFTER));
    }
}

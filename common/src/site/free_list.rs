//! A LIFO free list: allocations that wait to be used again, the most recent first, while they are warm.
//!
//! A burst leaves more of them than will be needed for hours. What nobody has needed for a while is freed, so that a
//! server holds what its load takes and not what its busiest moment took.

use std::time::{Duration, Instant};

/// How long an item goes unneeded before it is freed; at most twice that.
pub const UNNEEDED_AFTER: Duration = Duration::from_secs(10);

/// Free items of one kind.
#[derive(Debug)]
pub struct FreeList<T> {
    /// The most recent is at the end.
    items: Vec<T>,
    /// So many are never freed.
    least: usize,
    /// More are not kept.
    most: usize,
    /// The fewest that there have been since the last trim: all of those went unneeded.
    fewest: usize,
}

impl<T> FreeList<T> {
    /// Keeps up to `most` items, and `least` of them even if nobody needs them.
    #[must_use]
    pub const fn new(least: usize, most: usize) -> FreeList<T> {
        FreeList { items: Vec::new(), least, most, fewest: 0 }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Takes the most recent item.
    pub fn take(&mut self) -> Option<T> {
        let taken = self.items.pop();
        self.fewest = self.fewest.min(self.items.len());
        taken
    }

    /// Keeps an item for the next who needs one, if there is room.
    pub fn put(&mut self, item: T) {
        if self.items.len() < self.most {
            self.items.push(item);
        }
    }

    /// Frees the items that nobody has needed since the last trim, oldest first.
    pub fn trim(&mut self) {
        let unneeded = self.fewest.min(self.items.len().saturating_sub(self.least));
        self.items.drain(..unneeded);
        self.fewest = self.items.len();
    }
}

/// Tells when free lists are to be trimmed: every [`UNNEEDED_AFTER`].
#[derive(Clone, Copy, Debug)]
pub struct TrimTimer {
    due: Instant,
}

impl TrimTimer {
    /// A timer that starts now.
    #[must_use]
    pub fn new(now: Instant) -> TrimTimer {
        TrimTimer { due: now + UNNEEDED_AFTER }
    }

    /// Whether a trim is due. Then the timer starts anew.
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
    fn the_last_that_came_goes_first() {
        let mut free_list = filled(0, 3, 1..=4);
        assert_eq!(
            [free_list.take(), free_list.take(), free_list.take(), free_list.take()],
            [Some(3), Some(2), Some(1), None]
        );
        assert!(free_list.is_empty());
    }

    #[test]
    fn what_nobody_wants_is_given_up() {
        let mut free_list = filled(2, 100, 1..=10);
        free_list.trim();
        assert_eq!(free_list.len(), 10, "they have only just come");
        // Three are wanted at once.
        let wanted: Vec<_> = (0..3).map_while(|_| free_list.take()).collect();
        wanted.into_iter().for_each(|item| free_list.put(item));
        free_list.trim();
        assert_eq!(free_list.len(), 3);
        free_list.trim();
        assert_eq!(free_list.len(), 2, "some stay whatever happens");
        free_list.trim();
        assert_eq!(free_list.len(), 2);
    }

    #[test]
    fn what_is_out_is_wanted() {
        let mut free_list = filled(0, 100, 1..=5);
        free_list.trim();
        let out: Vec<_> = (0..5).map_while(|_| free_list.take()).collect();
        free_list.trim();
        out.into_iter().for_each(|item| free_list.put(item));
        free_list.trim();
        assert_eq!(free_list.len(), 5);
    }

    #[test]
    fn rounds_follow_each_other() {
        let now = Instant::now();
        let mut round = TrimTimer::new(now);
        assert!(!round.is_due(now + UNNEEDED_AFTER / 2));
        assert!(round.is_due(now + UNNEEDED_AFTER));
        assert!(!round.is_due(now + UNNEEDED_AFTER + UNNEEDED_AFTER / 2));
        assert!(round.is_due(now + 2 * UNNEEDED_AFTER));
    }
}

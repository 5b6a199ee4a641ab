//! Spares: memory that was used and waits to be used again, the last that came first, while it is warm.
//!
//! A burst leaves more of it than is wanted for hours. What nobody has wanted for a while is given up, so that a
//! server holds what its load takes, and not what its busiest moment took.

use std::time::{Duration, Instant};

/// How long a spare goes unwanted before it is given up; at most twice that.
pub const UNWANTED_AFTER: Duration = Duration::from_secs(10);

/// Spares of one kind.
#[derive(Debug)]
pub struct Spares<T> {
    /// The one that came last is at the end.
    items: Vec<T>,
    /// So many are never given up.
    least: usize,
    /// More are not kept.
    most: usize,
    /// The fewest that there have been since some were last given up: all of those were unwanted.
    fewest: usize,
}

impl<T> Spares<T> {
    /// Keeps up to `most`, and `least` of them even if nobody wants them.
    #[must_use]
    pub const fn new(least: usize, most: usize) -> Spares<T> {
        Spares { items: Vec::new(), least, most, fewest: 0 }
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

    /// The one that came last.
    pub fn take(&mut self) -> Option<T> {
        let taken = self.items.pop();
        self.fewest = self.fewest.min(self.items.len());
        taken
    }

    /// Keeps one for the next who wants one, if there is room.
    pub fn keep(&mut self, item: T) {
        if self.items.len() < self.most {
            self.items.push(item);
        }
    }

    /// Gives up those that nobody has wanted since the last time: the ones that came first.
    pub fn give_up_unwanted(&mut self) {
        let unwanted = self.fewest.min(self.items.len().saturating_sub(self.least));
        self.items.drain(..unwanted);
        self.fewest = self.items.len();
    }
}

/// Tells when spares are to be looked at again: every [`UNWANTED_AFTER`].
#[derive(Clone, Copy, Debug)]
pub struct Round {
    ends: Instant,
}

impl Round {
    /// The first one begins now.
    #[must_use]
    pub fn new(now: Instant) -> Round {
        Round { ends: now + UNWANTED_AFTER }
    }

    /// Whether the round is over. Then the next begins.
    pub fn is_over(&mut self, now: Instant) -> bool {
        let is_over = now >= self.ends;
        if is_over {
            *self = Round::new(now);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(least: usize, most: usize, items: impl IntoIterator<Item = u32>) -> Spares<u32> {
        let mut spares = Spares::new(least, most);
        items.into_iter().for_each(|item| spares.keep(item));
        spares
    }

    #[test]
    fn the_last_that_came_goes_first() {
        let mut spares = filled(0, 3, 1..=4);
        assert_eq!(
            [spares.take(), spares.take(), spares.take(), spares.take()],
            [Some(3), Some(2), Some(1), None]
        );
        assert!(spares.is_empty());
    }

    #[test]
    fn what_nobody_wants_is_given_up() {
        let mut spares = filled(2, 100, 1..=10);
        spares.give_up_unwanted();
        assert_eq!(spares.len(), 10, "they have only just come");
        // Three are wanted at once.
        let wanted: Vec<_> = (0..3).map_while(|_| spares.take()).collect();
        wanted.into_iter().for_each(|item| spares.keep(item));
        spares.give_up_unwanted();
        assert_eq!(spares.len(), 3);
        spares.give_up_unwanted();
        assert_eq!(spares.len(), 2, "some stay whatever happens");
        spares.give_up_unwanted();
        assert_eq!(spares.len(), 2);
    }

    #[test]
    fn what_is_out_is_wanted() {
        let mut spares = filled(0, 100, 1..=5);
        spares.give_up_unwanted();
        let out: Vec<_> = (0..5).map_while(|_| spares.take()).collect();
        spares.give_up_unwanted();
        out.into_iter().for_each(|item| spares.keep(item));
        spares.give_up_unwanted();
        assert_eq!(spares.len(), 5);
    }

    #[test]
    fn rounds_follow_each_other() {
        let now = Instant::now();
        let mut round = Round::new(now);
        assert!(!round.is_over(now + UNWANTED_AFTER / 2));
        assert!(round.is_over(now + UNWANTED_AFTER));
        assert!(!round.is_over(now + UNWANTED_AFTER + UNWANTED_AFTER / 2));
        assert!(round.is_over(now + 2 * UNWANTED_AFTER));
    }
}

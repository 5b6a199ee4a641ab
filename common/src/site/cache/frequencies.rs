//! How often files are asked for, as far as it is worth remembering. This decides who gets into a full cache.
//!
//! It is TinyLFU (Einziger, Friedman and Manes: "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions
//! on Storage 13(4), 2017): a file is let in if it is asked for more often than those that must leave for it, judging
//! by recent counts, and counts are halved now and then, so that what was popular gives way to what is. Since letting a
//! file in costs what about a dozen hits save, three things are stricter than in the paper:
//!
//! - "More often" is more than chance explains. Among equally popular files some are always lucky and some are not;
//!   comparing bare counts would exchange them at every tenth request, for nothing.
//! - The count of a file in the cache is kept beside it. It is exact, and a hit needs no hash for it.
//! - The other files' counts lie in marked places, not in a count-min sketch. There, many paths asked for once would
//!   add up until each looks like a repeat. Here they displace each other.

use std::hash::{BuildHasher, RandomState};

/// Places per bucket. More than one, so that two popular paths in the same bucket don't keep each other out.
const WAYS: usize = 4;
/// Minimum number of buckets, whatever the size of the cache.
const BUCKETS_MIN: usize = 64;
/// Maximum number of buckets: 2 MiB in total.
const BUCKETS_MAX: usize = 64 * 1024;

/// Counts are halved after so many hits for each file in the cache: a file that barely belongs there has a count of
/// about this size.
const WINDOW_HITS: u64 = 16;
/// Counts are halved after so many misses for each file in the cache, however few hits there are.
const WINDOW_MISSES: u64 = 160;

/// Some bits of a path's hash, and how often it was seen; zero is an empty place. A plain number, because the kernel
/// provides zeroed memory as pages that take up space only once written, and a small site touches few.
type Place = u64;

const COUNT_BITS: u32 = 8;

fn place(mark: u32, count: u8) -> Place {
    u64::from(mark) << COUNT_BITS | u64::from(count)
}

fn mark_of(place: Place) -> u32 {
    u32::try_from(place >> COUNT_BITS).expect("a mark")
}

fn count_of(place: Place) -> u8 {
    place.to_le_bytes()[0]
}

/// How often a file in the cache was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    count: u8,
    /// How often the count was halved already.
    halvings: u32,
}

/// Counts requests: of files in the cache in their [`Tally`], of others by path.
#[derive(Debug)]
pub(crate) struct Frequencies {
    buckets: Box<[[Place; WAYS]]>,
    /// Clients choose paths, so it must be unknown to them which ones share a bucket.
    hasher: RandomState,
    /// Hits and misses since the last halving.
    hits: u64,
    misses: u64,
    halvings: u32,
}

impl Frequencies {
    /// For a cache with this many entries; remembers about four times as many other paths.
    pub(crate) fn new(entries: usize) -> Frequencies {
        let buckets = entries.clamp(BUCKETS_MIN, BUCKETS_MAX).next_power_of_two();
        Frequencies {
            buckets: vec![[Place::default(); WAYS]; buckets].into_boxed_slice(),
            hasher: RandomState::new(),
            hits: 0,
            misses: 0,
            halvings: 0,
        }
    }

    /// Counts a request for a file in the cache.
    #[inline]
    pub(crate) fn hit(&mut self, tally: &mut Tally) {
        self.hits += 1;
        if tally.halvings != self.halvings {
            self.catch_up(tally);
        }
        tally.count = tally.count.saturating_add(1);
    }

    #[cold]
    fn catch_up(&self, tally: &mut Tally) {
        *tally = Tally { count: self.count(*tally), halvings: self.halvings };
    }

    /// Counts a request for a file that isn't in the cache.
    pub(crate) fn miss(&mut self, path: &[u8]) -> Tally {
        self.misses += 1;
        let halvings = self.halvings;
        let (bucket, mark) = self.bucket(path);
        let is_known = |known: &&mut Place| mark_of(**known) == mark;
        if let Some(known) = bucket.iter_mut().find(is_known) {
            let count = count_of(*known).saturating_add(1);
            *known = place(mark, count);
            return Tally { count, halvings };
        }
        // Lower the least count, or replace it once it is down to one.
        let least = bucket.iter_mut().min_by_key(|known| count_of(**known)).expect("several places");
        *least = match count_of(*least) {
            0 | 1 => place(mark, 1),
            count => place(mark_of(*least), count - 1),
        };
        Tally { count: 1, halvings }
    }

    /// Remembers the count of a file that leaves the cache.
    pub(crate) fn remember(&mut self, path: &[u8], tally: Tally) {
        let count = self.count(tally);
        let (bucket, mark) = self.bucket(path);
        let is_known = |known: &Place| mark_of(*known) == mark;
        let index = bucket.iter().position(is_known).unwrap_or_else(|| {
            (0..WAYS).min_by_key(|index| count_of(bucket[*index])).expect("several places")
        });
        if is_known(&bucket[index]) || count_of(bucket[index]) <= count {
            bucket[index] = place(mark, count);
        }
    }

    /// How often it was asked for, as of now.
    pub(crate) fn count(&self, tally: Tally) -> u8 {
        tally.count.checked_shr(self.halvings.wrapping_sub(tally.halvings)).unwrap_or(0)
    }

    /// Halves all counts if there were enough requests since the last time, in a cache with this many files.
    pub(crate) fn age(&mut self, files: usize) {
        let files = files as u64;
        if self.hits < WINDOW_HITS * files && self.misses < WINDOW_MISSES * files {
            return;
        }
        (self.hits, self.misses) = (0, 0);
        self.halvings = self.halvings.wrapping_add(1);
        // What is empty stays untouched, so that it takes no memory.
        for known in self.buckets.iter_mut().flatten().filter(|known| **known != 0) {
            *known = match count_of(*known) {
                0 | 1 => 0,
                count => place(mark_of(*known), count / 2),
            };
        }
    }

    fn bucket(&mut self, path: &[u8]) -> (&mut [Place; WAYS], u32) {
        let hash = self.hasher.hash_one(path);
        let mark = u32::try_from(hash >> 32).expect("the upper half of 64 bits");
        let index = usize::try_from(hash & 0xffff_ffff).expect("32 bits") & (self.buckets.len() - 1);
        (&mut self.buckets[index], mark)
    }
}

/// Whether the first was asked for more often than the second, by more than chance explains: by two standard
/// deviations. The difference of two counts varies by the root of their sum (they are Poisson distributed).
pub(crate) fn is_more(count: u32, other: u32) -> bool {
    let difference = count.saturating_sub(other);
    difference.saturating_mul(difference) > count.saturating_add(other).saturating_mul(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts of a path that is asked for again and again.
    fn counts(frequencies: &mut Frequencies, path: &[u8], times: usize) -> Vec<u8> {
        (0..times).map(|_| frequencies.miss(path).count).collect()
    }

    #[test]
    fn requests_are_counted() {
        let mut frequencies = Frequencies::new(1000);
        assert_eq!(counts(&mut frequencies, b"a", 3), [1, 2, 3]);
        assert_eq!(counts(&mut frequencies, b"b", 300)[253..257], [254, 255, 255, 255]);
        assert_eq!(counts(&mut frequencies, b"a", 1), [4]);
        let mut tally = frequencies.miss(b"c");
        (0..2).for_each(|_| frequencies.hit(&mut tally));
        assert_eq!(frequencies.count(tally), 3);
        (0..300).for_each(|_| frequencies.hit(&mut tally));
        assert_eq!(frequencies.count(tally), 255);
    }

    #[test]
    fn what_leaves_the_cache_keeps_its_count() {
        let mut frequencies = Frequencies::new(1);
        for path in 0..1000u32 {
            let path = path.to_ne_bytes();
            let mut tally = frequencies.miss(&path);
            (0..9).for_each(|_| frequencies.hit(&mut tally));
            frequencies.remember(&path, tally);
            assert_eq!(frequencies.miss(&path).count, 11);
            // It may be less, too: counts are halved while a file is in the cache.
            frequencies.remember(&path, Tally { count: 1, ..tally });
            assert_eq!(frequencies.miss(&path).count, 2);
        }
    }

    /// What leaves with a small count displaces nobody who has a greater one.
    #[test]
    fn a_small_count_displaces_no_greater_one() {
        let mut frequencies = Frequencies::new(1);
        let paths: Vec<_> = (0..10_000u32).map(u32::to_ne_bytes).collect();
        let halvings = frequencies.halvings;
        paths.iter().for_each(|path| frequencies.remember(path, Tally { count: 9, halvings }));
        let before = frequencies.buckets.clone();
        assert!(before.iter().flatten().all(|place| count_of(*place) == 9));
        frequencies.remember(b"rare", Tally { count: 8, halvings });
        assert_eq!(frequencies.buckets, before);
        frequencies.remember(b"rare", Tally { count: 9, halvings });
        assert_ne!(frequencies.buckets, before);
    }

    /// A path that nobody remembers becomes known as soon as another has been asked for too rarely meanwhile.
    #[test]
    fn what_was_popular_gives_way() {
        let mut frequencies = Frequencies::new(1);
        frequencies.buckets.iter_mut().flatten().for_each(|known| *known = place(0, 9));
        let asked = counts(&mut frequencies, b"new", 11);
        assert_eq!(asked, [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3], "eight lower another, the ninth replaces it");
    }

    #[test]
    fn counts_are_halved_after_many_requests() {
        const FILES: u64 = 5;
        for (hits, misses, halved) in [
            (WINDOW_HITS * FILES - 1, 0, false),
            (WINDOW_HITS * FILES, 0, true),
            (0, WINDOW_MISSES * FILES - 1, false),
            (0, WINDOW_MISSES * FILES, true),
        ] {
            let mut frequencies = Frequencies::new(1);
            let tally = Tally { count: 9, halvings: 0 };
            (0..hits).for_each(|_| frequencies.hit(&mut tally.clone()));
            (0..misses).for_each(|_| _ = frequencies.miss(b"a"));
            frequencies.remember(b"b", tally);
            frequencies.remember(b"c", Tally { count: 1, halvings: 0 });
            frequencies.age(5);
            frequencies.age(5);
            assert_eq!(frequencies.count(tally), if halved { 4 } else { 9 }, "{hits} hits, {misses} misses");
            assert_eq!(frequencies.miss(b"b").count, if halved { 5 } else { 10 });
            assert_eq!(frequencies.miss(b"c").count, if halved { 1 } else { 2 });
            let mut tally = tally;
            frequencies.hit(&mut tally);
            assert_eq!(frequencies.count(tally), if halved { 5 } else { 10 });
        }
    }

    #[test]
    fn nothing_is_left_after_many_halvings() {
        let mut frequencies = Frequencies::new(1);
        let tally = Tally { count: 255, halvings: u32::MAX };
        for (halvings, left) in [(u32::MAX, 255), (0, 127), (6, 1), (7, 0), (8, 0), (100, 0)] {
            frequencies.halvings = halvings;
            assert_eq!(frequencies.count(tally), left, "{halvings}");
        }
    }

    #[test]
    fn a_scan_is_not_mistaken_for_repeats() {
        let mut frequencies = Frequencies::new(1);
        let again = (0..100_000u32).filter(|path| frequencies.miss(&path.to_ne_bytes()).count > 1).count();
        assert!(again < 10, "{again} new paths were taken for known ones");
    }

    #[test]
    fn a_scan_does_not_wipe_out_what_is_popular() {
        let mut frequencies = Frequencies::new(1);
        for path in 0..10_000u32 {
            frequencies.miss(&path.to_ne_bytes());
            if path % 10 == 0 {
                frequencies.miss(b"popular");
            }
        }
        assert_eq!(frequencies.miss(b"popular").count, 255);
    }

    #[test]
    fn two_popular_paths_do_not_keep_each_other_out() {
        let mut frequencies = Frequencies::new(1);
        let paths: Vec<[u8; 2]> = (0..64u16).map(u16::to_ne_bytes).collect();
        for path in &paths {
            frequencies.miss(path);
        }
        let known = paths.iter().filter(|path| frequencies.miss(*path).count > 1).count();
        assert!(known > 32, "only {known} of {} were known the second time", paths.len());
    }

    #[test]
    fn the_table_is_bounded() {
        for (entries, buckets) in
            [(0, BUCKETS_MIN), (65, 128), (16_384, 16_384), (usize::MAX, BUCKETS_MAX), (33_000, BUCKETS_MAX)]
        {
            assert_eq!(Frequencies::new(entries).buckets.len(), buckets, "{entries}");
        }
    }

    #[test]
    fn more_is_more_than_chance_explains() {
        for (count, other, expected) in [
            (0, 0, false),
            (4, 0, false),
            (5, 0, true),
            (0, 9, false),
            (12, 5, false),
            (18, 10, false),
            (22, 10, true),
            (255, 196, true),
            (255, 215, false),
        ] {
            assert_eq!(is_more(count, other), expected, "{count} and {other}");
        }
    }
}

//! The doorkeeper: remembers, in little memory and not for long, how often a path was asked for in vain.
//!
//! Most files of a large site are asked for once. To keep one costs watches and a copy, so a path is let in
//! when it comes again, and where something else has to leave for it, when it has come several times. A scan
//! over the whole site passes by.

use std::hash::{BuildHasher, RandomState};

/// Paths that share a bucket: more than one, so that two that are both in demand don't keep each other out.
const WAYS: usize = 4;
/// How far is counted.
const SIGHTINGS_MAX: u8 = 15;
/// Buckets there are, whatever the size of the cache.
const BUCKETS_MIN: usize = 64;
/// Buckets there are at most: 512 KiB for all of them.
const BUCKETS_MAX: usize = 16 * 1024;

/// A path, by some bits of its hash, and how often it was seen; zero is nobody, seen never. It is a plain number
/// because zeroed memory of plain numbers comes from the kernel as pages that take up room only once they are
/// written: a small site touches few of them.
type Sighting = u64;

const COUNT_BITS: u32 = 8;

fn sighting(mark: u32, count: u8) -> Sighting {
    u64::from(mark) << COUNT_BITS | u64::from(count)
}

fn mark_of(sighting: Sighting) -> u32 {
    u32::try_from(sighting >> COUNT_BITS).expect("a mark")
}

fn count_of(sighting: Sighting) -> u8 {
    sighting.to_le_bytes()[0]
}

/// Counts sightings; what comes seldom is forgotten for what comes often.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    buckets: Box<[[Sighting; WAYS]]>,
    hasher: RandomState,
}

impl Doorkeeper {
    /// For a cache of so many entries: remembers about four times as many paths.
    pub(crate) fn new(entries: usize) -> Doorkeeper {
        let buckets = entries.next_power_of_two().clamp(BUCKETS_MIN, BUCKETS_MAX);
        Doorkeeper {
            buckets: vec![[Sighting::default(); WAYS]; buckets].into_boxed_slice(),
            hasher: RandomState::new(),
        }
    }

    /// How often the path was seen, this time included, as far as remembered.
    pub(crate) fn see(&mut self, path: &[u8]) -> u8 {
        let (bucket, mark) = self.bucket(path);
        let is_known = |known: &&mut Sighting| mark_of(**known) == mark && count_of(**known) > 0;
        if let Some(known) = bucket.iter_mut().find(is_known) {
            let count = (count_of(*known) + 1).min(SIGHTINGS_MAX);
            *known = sighting(mark, count);
            return count;
        }
        // The least seen makes room, when it has been passed over often enough.
        let least = bucket.iter_mut().min_by_key(|known| count_of(**known)).expect("several places");
        *least = match count_of(*least) {
            0 | 1 => sighting(mark, 1),
            count => sighting(mark_of(*least), count - 1),
        };
        1
    }

    /// The path had to leave: it has to earn its place anew.
    pub(crate) fn forget(&mut self, path: &[u8]) {
        let (bucket, mark) = self.bucket(path);
        if let Some(known) = bucket.iter_mut().find(|known| mark_of(**known) == mark) {
            *known = sighting(mark, 0);
        }
    }

    fn bucket(&mut self, path: &[u8]) -> (&mut [Sighting; WAYS], u32) {
        let hash = self.hasher.hash_one(path);
        let mark = u32::try_from(hash >> 32).expect("the upper half of 64 bits");
        let index = usize::try_from(hash & 0xffff_ffff).expect("32 bits") & (self.buckets.len() - 1);
        (&mut self.buckets[index], mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_is_known() {
        let mut doorkeeper = Doorkeeper::new(1000);
        assert_eq!([0; 3].map(|_| doorkeeper.see(b"a")), [1, 2, 3]);
        doorkeeper.forget(b"a");
        assert_eq!(doorkeeper.see(b"a"), 1);
        assert!((0..100).map(|_| doorkeeper.see(b"b")).max() <= Some(SIGHTINGS_MAX));
    }

    #[test]
    fn a_scan_is_not_remembered_for_what_it_is_not() {
        let mut doorkeeper = Doorkeeper::new(1);
        let again = (0..100_000u32).filter(|path| doorkeeper.see(&path.to_ne_bytes()) > 1).count();
        assert!(again < 10, "{again} strangers were taken for acquaintances");
    }

    #[test]
    fn two_paths_in_demand_do_not_keep_each_other_out() {
        let mut doorkeeper = Doorkeeper::new(1);
        let paths: Vec<[u8; 2]> = (0..64u16).map(u16::to_ne_bytes).collect();
        for path in &paths {
            doorkeeper.see(path);
        }
        let known = paths.iter().filter(|path| doorkeeper.see(*path) > 1).count();
        assert!(known > 32, "only {known} of {} were known the second time", paths.len());
    }
}

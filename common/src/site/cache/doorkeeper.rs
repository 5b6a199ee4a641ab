//! The doorkeeper: counts recent cache misses per path in little memory, for cache admission.
//!
//! Most files of a large site are requested only once, and caching a file costs watches and a copy. So a path is
//! admitted on its second request, or after several if another entry must be evicted for it. A scan over the whole site
//! leaves the cache alone.

use std::hash::{BuildHasher, RandomState};

/// Paths per bucket. More than one, so that two popular paths in the same bucket don't keep each other out.
const WAYS: usize = 4;
/// Counts saturate here.
const SIGHTINGS_MAX: u8 = 15;
/// Minimum number of buckets, whatever the size of the cache.
const BUCKETS_MIN: usize = 64;
/// Maximum number of buckets: 512 KiB in total.
const BUCKETS_MAX: usize = 16 * 1024;

/// Some bits of a path's hash, and how often it was seen; zero is an empty place. A plain number, because the kernel
/// provides zeroed memory as pages that take up space only once written, and a small site touches few.
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

/// Counts sightings. Frequent paths displace rare ones.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    buckets: Box<[[Sighting; WAYS]]>,
    hasher: RandomState,
}

impl Doorkeeper {
    /// For a cache with this many entries; remembers about four times as many paths.
    pub(crate) fn new(entries: usize) -> Doorkeeper {
        let buckets = entries.next_power_of_two().clamp(BUCKETS_MIN, BUCKETS_MAX);
        Doorkeeper {
            buckets: vec![[Sighting::default(); WAYS]; buckets].into_boxed_slice(),
            hasher: RandomState::new(),
        }
    }

    /// Counts a sighting and returns how often the path has been seen, as far as remembered.
    pub(crate) fn see(&mut self, path: &[u8]) -> u8 {
        let (bucket, mark) = self.bucket(path);
        let is_known = |known: &&mut Sighting| mark_of(**known) == mark && count_of(**known) > 0;
        if let Some(known) = bucket.iter_mut().find(is_known) {
            let count = (count_of(*known) + 1).min(SIGHTINGS_MAX);
            *known = sighting(mark, count);
            return count;
        }
        // Age the least-seen path; replace it once its count is down to one.
        let least = bucket.iter_mut().min_by_key(|known| count_of(**known)).expect("several places");
        *least = match count_of(*least) {
            0 | 1 => sighting(mark, 1),
            count => sighting(mark_of(*least), count - 1),
        };
        1
    }

    /// Resets the count of an evicted path, so that it must qualify again.
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
    fn a_repeated_path_is_known() {
        let mut doorkeeper = Doorkeeper::new(1000);
        assert_eq!([0; 3].map(|_| doorkeeper.see(b"a")), [1, 2, 3]);
        doorkeeper.forget(b"a");
        assert_eq!(doorkeeper.see(b"a"), 1);
        assert!((0..100).map(|_| doorkeeper.see(b"b")).max() <= Some(SIGHTINGS_MAX));
    }

    #[test]
    fn a_scan_is_not_mistaken_for_repeats() {
        let mut doorkeeper = Doorkeeper::new(1);
        let again = (0..100_000u32).filter(|path| doorkeeper.see(&path.to_ne_bytes()) > 1).count();
        assert!(again < 10, "{again} new paths were taken for known ones");
    }

    #[test]
    fn two_popular_paths_do_not_keep_each_other_out() {
        let mut doorkeeper = Doorkeeper::new(1);
        let paths: Vec<[u8; 2]> = (0..64u16).map(u16::to_ne_bytes).collect();
        for path in &paths {
            doorkeeper.see(path);
        }
        let known = paths.iter().filter(|path| doorkeeper.see(*path) > 1).count();
        assert!(known > 32, "only {known} of {} were known the second time", paths.len());
    }
}

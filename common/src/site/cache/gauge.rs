//! How full a cache is, for whoever counts: written by its worker, read by any thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The fill of one cache. Reading is never exact to the moment.
#[derive(Debug, Default)]
pub struct CacheGauge {
    entries: AtomicU64,
    descriptors: AtomicU64,
    bytes: AtomicU64,
    evictions: AtomicU64,
}

/// What caches hold, and what they have evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheUse {
    /// Files that are kept.
    pub entries: u64,
    /// Those of them that are open.
    pub descriptors: u64,
    /// Bytes of the bodies of the others.
    pub bytes: u64,
    /// Files evicted so far.
    pub evictions: u64,
}

impl CacheGauge {
    /// What the cache holds now.
    #[must_use]
    pub fn read(&self) -> CacheUse {
        CacheUse {
            entries: self.entries.load(Relaxed),
            descriptors: self.descriptors.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
        }
    }

    pub(crate) fn set(&self, entries: usize, descriptors: usize, bytes: u64) {
        self.entries.store(entries as u64, Relaxed);
        self.descriptors.store(descriptors as u64, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }

    pub(crate) fn count_eviction(&self) {
        self.evictions.fetch_add(1, Relaxed);
    }
}

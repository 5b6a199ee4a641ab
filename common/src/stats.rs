//! Counters: what `--stats` shows and what the tests look at.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The counters of one worker. Only sums over workers mean anything; reading is never exact to the moment.
#[derive(Debug, Default)]
pub struct WorkerStats {
    accepted: AtomicU64,
    closed: AtomicU64,
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    events: AtomicU64,
    errors: AtomicU64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    cache_evictions: AtomicU64,
    cache_entries: AtomicU64,
    cache_descriptors: AtomicU64,
    cache_bytes: AtomicU64,
}

/// Counts that a worker keeps to itself until its next tick, so that a request costs no atomic operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed.
    pub closed: u64,
    /// Requests answered (the answer was begun).
    pub requests: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes that the kernel has taken.
    pub bytes_out: u64,
    /// Events of epoll, or completions of a ring.
    pub events: u64,
    /// Connections that broke, answers with a status of 500 and above, failed accepts.
    pub errors: u64,
    /// Files that the cache had.
    pub cache_hits: u64,
    /// Files that had to be opened, or are not there.
    pub cache_misses: u64,
}

/// The state of the file caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cached {
    /// Files that are kept.
    pub entries: u64,
    /// Those of them that are open.
    pub descriptors: u64,
    /// Bytes of the bodies of the others.
    pub bytes: u64,
    /// Files that had to leave for others so far.
    pub evictions: u64,
}

impl WorkerStats {
    /// Adds what has gathered, and empties it.
    pub fn add(&self, counts: &mut Counts) {
        let Counts {
            accepted,
            closed,
            requests,
            bytes_in,
            bytes_out,
            events,
            errors,
            cache_hits,
            cache_misses,
        } = std::mem::take(counts);
        for (total, count) in [
            (&self.accepted, accepted),
            (&self.closed, closed),
            (&self.requests, requests),
            (&self.bytes_in, bytes_in),
            (&self.bytes_out, bytes_out),
            (&self.events, events),
            (&self.errors, errors),
            (&self.cache_hits, cache_hits),
            (&self.cache_misses, cache_misses),
        ] {
            if count != 0 {
                total.fetch_add(count, Relaxed);
            }
        }
    }

    fn read(&self) -> Counts {
        // `closed` first: a connection that ends meanwhile must not make the difference negative.
        let closed = self.closed.load(Relaxed);
        Counts {
            closed,
            accepted: self.accepted.load(Relaxed),
            requests: self.requests.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            events: self.events.load(Relaxed),
            errors: self.errors.load(Relaxed),
            cache_hits: self.cache_hits.load(Relaxed),
            cache_misses: self.cache_misses.load(Relaxed),
        }
    }

    /// The worker's cache keeps so much now.
    pub(crate) fn set_cached(&self, entries: usize, descriptors: usize, bytes: u64) {
        self.cache_entries.store(entries as u64, Relaxed);
        self.cache_descriptors.store(descriptors as u64, Relaxed);
        self.cache_bytes.store(bytes, Relaxed);
    }

    /// Something had to leave the worker's cache.
    pub(crate) fn count_eviction(&self) {
        self.cache_evictions.fetch_add(1, Relaxed);
    }
}

/// The counters of all workers of a server.
#[derive(Debug, Default)]
pub struct Stats {
    workers: Mutex<Vec<Arc<WorkerStats>>>,
}

impl Stats {
    /// Counters for one more worker.
    pub fn register(&self) -> Arc<WorkerStats> {
        let worker = Arc::new(WorkerStats::default());
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&worker));
        worker
    }

    /// The sums over all workers.
    #[must_use]
    pub fn totals(&self) -> Counts {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().map(|worker| worker.read()).fold(Counts::default(), Counts::plus)
    }

    /// What the caches of all workers keep.
    #[must_use]
    pub fn cached(&self) -> Cached {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().fold(Cached::default(), |sum, worker| Cached {
            entries: sum.entries + worker.cache_entries.load(Relaxed),
            descriptors: sum.descriptors + worker.cache_descriptors.load(Relaxed),
            bytes: sum.bytes + worker.cache_bytes.load(Relaxed),
            evictions: sum.evictions + worker.cache_evictions.load(Relaxed),
        })
    }

    /// Connections that are open now.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.totals().active()
    }
}

impl Counts {
    /// Connections accepted and not closed.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.accepted.saturating_sub(self.closed)
    }

    fn plus(self, other: Counts) -> Counts {
        Counts {
            accepted: self.accepted + other.accepted,
            closed: self.closed + other.closed,
            requests: self.requests + other.requests,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            events: self.events + other.events,
            errors: self.errors + other.errors,
            cache_hits: self.cache_hits + other.cache_hits,
            cache_misses: self.cache_misses + other.cache_misses,
        }
    }

    /// One line for what happened between two readings.
    #[must_use]
    pub fn since(self, earlier: Counts, elapsed: Duration) -> Interval {
        Interval { earlier, later: self, elapsed }
    }
}

/// What happened between two readings, shown as one line.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    earlier: Counts,
    later: Counts,
    elapsed: Duration,
}

impl fmt::Display for Interval {
    #[expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        let rate =
            |of: fn(&Counts) -> u64| of(&self.later).saturating_sub(of(&self.earlier)) as f64 / seconds;
        write!(
            f,
            "{} active, {:.0} requests/s, {:.2} MB/s in, {:.2} MB/s out, {:.0} events/s, {} errors, \
             {:.0} hits/s, {:.0} misses/s",
            self.later.active(),
            rate(|counts| counts.requests),
            rate(|counts| counts.bytes_in) / 1e6,
            rate(|counts| counts.bytes_out) / 1e6,
            rate(|counts| counts.events),
            self.later.errors - self.earlier.errors,
            rate(|counts| counts.cache_hits),
            rate(|counts| counts.cache_misses),
        )
    }
}

/// The totals, shown as one line.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections, {} requests, {} bytes in, {} bytes out, {} events, {} errors, {} hits, {} misses",
            self.accepted,
            self.requests,
            self.bytes_in,
            self.bytes_out,
            self.events,
            self.errors,
            self.cache_hits,
            self.cache_misses
        )
    }
}

/// The state of the caches, as the end of a line.
impl fmt::Display for Cached {
    #[expect(clippy::cast_precision_loss, reason = "sizes are shown with three digits")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cached ({:.2} MB, {} descriptors), {} evictions",
            self.entries,
            self.bytes as f64 / 1e6,
            self.descriptors,
            self.evictions
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_sum_over_workers() {
        let stats = Stats::default();
        let (one, two) = (stats.register(), stats.register());
        let mut counts =
            Counts { accepted: 3, closed: 1, requests: 10, bytes_out: 2_000_000, ..Counts::default() };
        one.add(&mut counts);
        assert_eq!(counts, Counts::default(), "added once");
        two.add(&mut Counts { accepted: 1, errors: 2, ..Counts::default() });
        assert_eq!(stats.active(), 3);
        let line = stats.totals().since(Counts::default(), Duration::from_secs(2)).to_string();
        assert_eq!(
            line,
            "3 active, 5 requests/s, 0.00 MB/s in, 1.00 MB/s out, 0 events/s, 2 errors, 0 hits/s, 0 misses/s"
        );
    }
}

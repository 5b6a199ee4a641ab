//! Counters, for `--stats` and for the tests.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::machine::context::Counts;
use crate::site::cache::{CacheGauge, CacheUse};

/// The counters of one worker. Only sums over all workers are meaningful. Readings are approximate.
#[derive(Debug, Default)]
pub struct WorkerStats {
    accepted: AtomicU64,
    closed: AtomicU64,
    requests: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    events: AtomicU64,
    errors: AtomicU64,
    cut_off: AtomicU64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    cache: Arc<CacheGauge>,
}

impl WorkerStats {
    /// Adds the collected counts and resets them.
    pub fn add(&self, counts: &mut Counts) {
        let Counts {
            accepted,
            closed,
            requests,
            bytes_in,
            bytes_out,
            events,
            errors,
            cut_off,
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
            (&self.cut_off, cut_off),
            (&self.cache_hits, cache_hits),
            (&self.cache_misses, cache_misses),
        ] {
            if count != 0 {
                total.fetch_add(count, Relaxed);
            }
        }
    }

    fn read(&self) -> Counts {
        // Read `closed` first, so that a connection ending meanwhile can't make the difference negative.
        let closed = self.closed.load(Relaxed);
        Counts {
            closed,
            accepted: self.accepted.load(Relaxed),
            requests: self.requests.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            events: self.events.load(Relaxed),
            errors: self.errors.load(Relaxed),
            cut_off: self.cut_off.load(Relaxed),
            cache_hits: self.cache_hits.load(Relaxed),
            cache_misses: self.cache_misses.load(Relaxed),
        }
    }

    /// The gauge of the worker's cache.
    pub(crate) fn cache(&self) -> &Arc<CacheGauge> {
        &self.cache
    }
}

/// The counters of all workers.
#[derive(Debug, Default)]
pub struct Stats {
    workers: Mutex<Vec<Arc<WorkerStats>>>,
}

impl Stats {
    /// Counters for another worker.
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

    /// What the caches of all workers hold.
    #[must_use]
    pub fn cached(&self) -> CacheUse {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().map(|worker| worker.cache.read()).fold(CacheUse::default(), |sum, cache| CacheUse {
            entries: sum.entries + cache.entries,
            descriptors: sum.descriptors + cache.descriptors,
            bytes: sum.bytes + cache.bytes,
            evictions: sum.evictions + cache.evictions,
        })
    }

    /// Connections open now.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.totals().active()
    }
}

impl Counts {
    /// Connections accepted and not yet closed.
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
            cut_off: self.cut_off + other.cut_off,
            cache_hits: self.cache_hits + other.cache_hits,
            cache_misses: self.cache_misses + other.cache_misses,
        }
    }

    /// The difference between two readings.
    #[must_use]
    pub fn since(self, earlier: Counts, elapsed: Duration) -> Interval {
        Interval { earlier, later: self, elapsed }
    }
}

/// The difference between two readings, displayed as one line.
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

/// Displayed as one line.
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

/// Displayed at the end of a line.
impl fmt::Display for CacheUse {
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

    fn counts(factor: u64) -> Counts {
        Counts {
            accepted: 30 * factor,
            closed: 10 * factor,
            requests: 200 * factor,
            bytes_in: 3_000_000 * factor,
            bytes_out: 4_000_000 * factor,
            events: 500 * factor,
            errors: 6 * factor,
            cut_off: factor,
            cache_hits: 70 * factor,
            cache_misses: 80 * factor,
        }
    }

    #[test]
    fn every_count_has_its_place_in_the_line() {
        let stats = Stats::default();
        let (one, two) = (stats.register(), stats.register());
        for worker in [&one, &two, &two] {
            worker.add(&mut counts(1));
        }
        let totals = stats.totals();
        assert_eq!(totals, counts(3));
        assert_eq!(
            totals.to_string(),
            "90 connections, 600 requests, 9000000 bytes in, 12000000 bytes out, 1500 events, 18 errors, \
             210 hits, 240 misses"
        );
        assert_eq!(
            totals.since(counts(1), Duration::from_secs(2)).to_string(),
            "60 active, 200 requests/s, 3.00 MB/s in, 4.00 MB/s out, 500 events/s, 12 errors, 70 hits/s, \
             80 misses/s"
        );
    }

    #[test]
    fn what_all_caches_hold_is_added_up() {
        let stats = Stats::default();
        for worker in [stats.register(), stats.register(), stats.register()] {
            worker.cache().set(5, 3, 2_500_000);
            (0..2).for_each(|_| worker.cache().count_eviction());
        }
        let cached = stats.cached();
        assert_eq!(cached, CacheUse { entries: 15, descriptors: 9, bytes: 7_500_000, evictions: 6 });
        assert_eq!(cached.to_string(), "15 cached (7.50 MB, 9 descriptors), 6 evictions");
    }
}

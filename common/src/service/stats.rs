//! Counters, for `--stats` and for the tests.

use std::array;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::http::status::Class;
use crate::machine::context::{COUNTS, Counts};
use crate::machine::latencies::{BUCKETS, Latencies, Latency};
use crate::site::cache::{CacheGauge, CacheUse};

/// The counters of one worker. Only sums over all workers are meaningful. Readings are approximate.
#[derive(Debug, Default)]
pub struct WorkerStats {
    /// In the order of [`Counts::to_array`].
    counts: [AtomicU64; COUNTS],
    latencies: [LatencyStats; Class::ALL.len()],
    cache: Arc<CacheGauge>,
}

#[derive(Debug, Default)]
struct LatencyStats {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl WorkerStats {
    /// Adds the collected counts and resets them.
    pub fn add(&self, counts: &mut Counts) {
        for (total, count) in self.counts.iter().zip(std::mem::take(counts).to_array()) {
            if count != 0 {
                total.fetch_add(count, Relaxed);
            }
        }
    }

    /// Adds the collected latencies and resets them.
    pub fn add_latencies(&self, latencies: &mut Latencies) {
        let of = |class: Class| &self.latencies[class as usize];
        latencies.hand_over(
            |class, bucket, answers| {
                of(class).buckets[bucket].fetch_add(answers, Relaxed);
            },
            |class, nanos| {
                of(class).nanos.fetch_add(nanos, Relaxed);
            },
        );
    }

    fn read(&self) -> Counts {
        // In order: see `to_array`.
        Counts::from_array(array::from_fn(|index| self.counts[index].load(Relaxed)))
    }

    fn read_latency(&self, class: Class) -> Latency {
        let LatencyStats { buckets, nanos } = &self.latencies[class as usize];
        Latency { buckets: array::from_fn(|index| buckets[index].load(Relaxed)), nanos: nanos.load(Relaxed) }
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

    /// How long answers of this class took, in all workers.
    #[must_use]
    pub fn latency(&self, class: Class) -> Latency {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().map(|worker| worker.read_latency(class)).fold(Latency::default(), Latency::plus)
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
        let (ours, theirs) = (self.to_array(), other.to_array());
        Counts::from_array(array::from_fn(|index| ours[index] + theirs[index]))
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
            rate(Counts::requests),
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
            self.requests(),
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
    use std::time::Instant;

    #[test]
    fn totals_sum_over_workers() {
        let stats = Stats::default();
        let (one, two) = (stats.register(), stats.register());
        let mut counts = Counts {
            accepted: 3,
            closed: 1,
            answers: [5, 1, 4, 0],
            bytes_out: 2_000_000,
            ..Counts::default()
        };
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
            answers: [100 * factor, 30 * factor, 50 * factor, 20 * factor],
            bytes_in: 3_000_000 * factor,
            bytes_out: 4_000_000 * factor,
            events: 500 * factor,
            errors: 6 * factor,
            cut_off: factor,
            cache_hits: 70 * factor,
            cache_misses: 80 * factor,
            waits: 9 * factor,
            gave_way: 11 * factor,
            exchanges_begun: 12 * factor,
            exchanges_ended: 13 * factor,
            readings_begun: 14 * factor,
            readings_ended: 15 * factor,
            opens: 16 * factor,
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
    fn latencies_of_all_workers_are_added_up() {
        let stats = Stats::default();
        let (one, two) = (stats.register(), stats.register());
        let mut latencies = Latencies::default();
        for (worker, millis) in [(&one, 3), (&two, 3), (&two, 20_000)] {
            let begun = Instant::now();
            latencies.count(Class::Redirection, begun, begun + Duration::from_millis(millis));
            worker.add_latencies(&mut latencies);
            worker.add_latencies(&mut latencies);
        }
        let mut expected = Latency { nanos: 20_006_000_000, ..Latency::default() };
        (expected.buckets[5], expected.buckets[BUCKETS - 1]) = (2, 1);
        assert_eq!(stats.latency(Class::Redirection), expected);
        assert_eq!(stats.latency(Class::Successful), Latency::default());
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

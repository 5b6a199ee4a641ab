//! Latencies: how long answers took, counted in buckets.
//!
//! A latency is taken from the clock of the worker's turns, which is read anyway. So an answer whose request came and
//! whose last byte left in one turn took no time, as far as this can tell.

use std::time::{Duration, Instant};

use crate::http::status::Class;

/// The upper bounds of the buckets, in nanoseconds; the last bucket has none. A latency on a bound is in its bucket.
pub const BOUNDS_NANOS: [u64; BUCKETS - 1] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// How many buckets each class has.
pub const BUCKETS: usize = 17;

/// The latencies of answers of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many there are in each bucket.
    pub buckets: [u64; BUCKETS],
    /// All of them together, in nanoseconds.
    pub nanos: u64,
}

impl Latency {
    pub(crate) fn plus(mut self, other: Latency) -> Latency {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(ours, theirs)| *ours += theirs);
        self.nanos = self.nanos.saturating_add(other.nanos);
        self
    }
}

/// The latencies of all classes since they were last handed over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latencies {
    classes: [Latency; Class::ALL.len()],
    /// The buckets that hold something, by class: most of them never do, and nobody looks at those.
    touched: [u32; Class::ALL.len()],
}

impl Latencies {
    /// Counts an answer that took from one moment to the other. Most of them are of one turn.
    #[inline]
    pub(crate) fn count(&mut self, class: Class, asked: Instant, now: Instant) {
        if asked == now {
            self.classes[class as usize].buckets[0] += 1;
            self.touched[class as usize] |= 1;
        } else {
            self.count_time(class, now.saturating_duration_since(asked));
        }
    }

    #[inline(never)]
    fn count_time(&mut self, class: Class, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket_of(nanos);
        let latency = &mut self.classes[class as usize];
        latency.buckets[bucket] += 1;
        latency.nanos = latency.nanos.saturating_add(nanos);
        self.touched[class as usize] |= 1 << bucket;
    }

    /// Hands over what was counted: each bucket that has something, and for each class the time.
    pub(crate) fn hand_over(
        &mut self,
        mut answers: impl FnMut(Class, usize, u64),
        mut time: impl FnMut(Class, u64),
    ) {
        for class in Class::ALL {
            let touched = &mut self.touched[class as usize];
            if *touched == 0 {
                continue;
            }
            let latency = &mut self.classes[class as usize];
            while *touched != 0 {
                let bucket = touched.trailing_zeros() as usize;
                *touched &= *touched - 1;
                answers(class, bucket, std::mem::take(&mut latency.buckets[bucket]));
            }
            match std::mem::take(&mut latency.nanos) {
                0 => {}
                nanos => time(class, nanos),
            }
        }
    }
}

fn bucket_of(nanos: u64) -> usize {
    BOUNDS_NANOS.partition_point(|bound| *bound < nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_on_a_bound_is_in_its_bucket() {
        for (nanos, bucket) in [
            (0, 0),
            (1, 0),
            (100_000, 0),
            (100_001, 1),
            (250_000, 1),
            (1_000_000, 3),
            (1_000_001, 4),
            (10_000_000_000, 15),
            (10_000_000_001, 16),
            (1 << 62, 16),
        ] {
            let mut latencies = Latencies::default();
            let begun = Instant::now();
            let ended = begun + Duration::from_nanos(nanos);
            latencies.count(Class::Successful, begun, ended);
            let mut counted = Vec::new();
            latencies.hand_over(
                |class, bucket, answers| counted.push((class, bucket, answers)),
                |_, sum| assert_eq!(sum, nanos),
            );
            assert_eq!(counted, [(Class::Successful, bucket, 1)], "{nanos} ns");
        }
        assert!(BOUNDS_NANOS.is_sorted());
    }

    #[test]
    fn what_was_counted_is_handed_over_once() {
        let mut latencies = Latencies::default();
        for (class, millis) in
            [(Class::Successful, 2), (Class::ClientError, 0), (Class::Successful, 2), (Class::Successful, 0)]
        {
            let begun = Instant::now();
            latencies.count(class, begun, begun + Duration::from_millis(millis));
        }
        let mut rounds = Vec::new();
        for _ in 0..2 {
            let (mut answers, mut times) = (Vec::new(), Vec::new());
            latencies.hand_over(
                |class, bucket, count| answers.push((class, bucket, count)),
                |class, nanos| times.push((class, nanos)),
            );
            rounds.push((answers, times));
        }
        let [(first, times), (second, no_times)] = &rounds[..] else { panic!("two rounds") };
        assert_eq!(
            first[..],
            [(Class::Successful, 0, 1), (Class::Successful, 4, 2), (Class::ClientError, 0, 1)]
        );
        assert_eq!(times[..], [(Class::Successful, 4_000_000)]);
        assert!(second.is_empty() && no_times.is_empty());
    }
}

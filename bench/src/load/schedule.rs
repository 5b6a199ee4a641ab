//! When the requests of an open loop are due.

use crate::load::class::Arrivals;
use crate::random::Random;
use std::time::Duration;

/// The intended starts of one run. They depend only on rate, seed and window, so every server gets the same.
pub(crate) struct Schedule {
    per_second: f64,
    arrivals: Arrivals,
    /// Length in seconds and factor of each stretch with a rate of its own.
    steps: Vec<(f64, f64)>,
    window: Duration,
    random: Random,
    count: u64,
    /// Constant arrivals are this share of a gap earlier.
    phase: f64,
    /// In seconds since the start of the run, on a clock that runs by each stretch's factor.
    last: f64,
    next: Option<Duration>,
}

impl Schedule {
    pub(crate) fn new(
        per_second: f64,
        arrivals: Arrivals,
        steps: &[(Duration, f64)],
        window: Duration,
        random: Random,
    ) -> Schedule {
        assert!(steps.iter().all(|(_, factor)| *factor > 0.0), "a stretch has a rate");
        assert!(per_second > 0.0 && per_second.is_finite(), "an open loop has a rate");
        let steps = steps.iter().map(|(length, factor)| (length.as_secs_f64(), *factor)).collect();
        let mut schedule = Schedule {
            per_second,
            arrivals,
            steps,
            window,
            random,
            count: 0,
            phase: 0.0,
            last: 0.0,
            next: None,
        };
        schedule.next = schedule.draw();
        schedule
    }

    /// The same with constant arrivals this share of a gap earlier, 0 to 1; Poisson's fall where they fall.
    #[must_use]
    pub(crate) fn earlier(mut self, phase: f64) -> Schedule {
        if self.arrivals == Arrivals::Constant && phase > 0.0 {
            (self.phase, self.count) = (phase, 0);
            self.next = self.draw();
        }
        self
    }

    /// When the next request is due, since the start of the run; `None` after the window's last one.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.next
    }

    /// Goes on to the one after.
    pub(crate) fn advance(&mut self) {
        self.next = self.draw();
    }

    fn draw(&mut self) -> Option<Duration> {
        self.count += 1;
        self.last = match self.arrivals {
            // From the count, not from the last one: a sum of many gaps would drift.
            Arrivals::Constant => (self.count as f64 - self.phase) / self.per_second,
            // A gap by inversion; 1 − u is never 0.
            Arrivals::Poisson => self.last - (1.0 - self.random.fraction()).ln() / self.per_second,
        };
        let due = Duration::try_from_secs_f64(self.wall(self.last)).ok()?;
        (due < self.window).then_some(due)
    }

    /// The time at which the clock that runs by each stretch's factor shows `shown`.
    fn wall(&self, shown: f64) -> f64 {
        let (mut begun, mut left) = (0.0, shown);
        for (index, (length, factor)) in self.steps.iter().enumerate() {
            if left < length * factor || index + 1 == self.steps.len() {
                return begun + left / factor;
            }
            begun += length;
            left -= length * factor;
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(arrivals: Arrivals, seed: u64) -> Vec<f64> {
        let mut schedule = Schedule::new(1_000.0, arrivals, &[], Duration::from_secs(100), Random::new(seed));
        let mut gaps = Vec::new();
        let mut last = Duration::ZERO;
        while let Some(due) = schedule.next() {
            gaps.push((due - last).as_secs_f64());
            last = due;
            schedule.advance();
        }
        gaps
    }

    #[test]
    fn constant_arrivals_are_even() {
        let gaps = gaps(Arrivals::Constant, 1);
        assert_eq!(gaps.len(), 99_999);
        assert!(gaps.iter().all(|gap| (gap - 0.001).abs() < 2e-9));
    }

    /// Four schedules of a quarter of the rate, each a quarter of a gap earlier, are one schedule.
    #[test]
    fn shared_constant_arrivals_are_even() {
        let mut all = Vec::new();
        for part in 0..4_u32 {
            let window = Duration::from_millis(100);
            let schedule = Schedule::new(250.0, Arrivals::Constant, &[], window, Random::new(1));
            let mut schedule = schedule.earlier(f64::from(part) / 4.0);
            while let Some(due) = schedule.next() {
                all.push(due);
                schedule.advance();
            }
        }
        all.sort();
        let even = (1..100).map(Duration::from_millis);
        let off = all.iter().zip(even).map(|(due, even)| due.abs_diff(even)).max();
        assert!(all.len() == 99 && off < Some(Duration::from_nanos(10)), "{all:?}");
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        let gaps = gaps(Arrivals::Poisson, 1);
        let count = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        // The mean and the deviation of an exponential distribution are the same.
        assert!((mean - 0.001).abs() < 1e-5, "{mean}");
        assert!((variance.sqrt() - 0.001).abs() < 2e-5, "{variance}");
        let long = gaps.iter().filter(|gap| **gap > 0.003).count() as f64 / count;
        assert!((long - (-3.0_f64).exp()).abs() < 0.003, "{long}");
    }

    #[test]
    fn stretches_have_rates_of_their_own() {
        let second = Duration::from_secs(1);
        let steps = [(second, 0.5), (second, 1.5), (second, 0.25)];
        for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
            let mut schedule = Schedule::new(10_000.0, arrivals, &steps, second * 4, Random::new(3));
            let mut counts = [0_u32; 4];
            while let Some(due) = schedule.next() {
                counts[usize::try_from(due.as_secs()).unwrap()] += 1;
                schedule.advance();
            }
            for (count, wanted) in counts.into_iter().zip([5_000, 15_000, 2_500, 2_500_u32]) {
                let off = f64::from(count.abs_diff(wanted));
                assert!(off <= 4.0 * f64::from(wanted).sqrt(), "{arrivals:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(gaps(Arrivals::Poisson, 7), gaps(Arrivals::Poisson, 7));
        assert_ne!(gaps(Arrivals::Poisson, 7), gaps(Arrivals::Poisson, 8));
    }
}

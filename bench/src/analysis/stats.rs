//! Estimates and their intervals.
//!
//! A **value** of a server is the median over the rounds. A **ratio** of two servers is the geometric mean of
//! the ratios within each round, because what disturbs a round disturbs both. Intervals are two-sided, 95 %,
//! from a bootstrap over the rounds. With fewer than `ROUNDS_FOR_BOOTSTRAP` rounds a bootstrap knows too
//! little about its tails, so the interval is widened to contain Student's.

use crate::random::Random;
use serde::{Deserialize, Serialize};

/// With at least this many rounds the bootstrap is used alone.
pub(crate) const ROUNDS_FOR_BOOTSTRAP: usize = 10;
const RESAMPLES: usize = 10_000;
const RESAMPLES_UNPAIRED: usize = 4_000;
/// The 97.5 % quantile of the normal distribution.
const NORMAL_TAIL: f64 = 1.96;
const CONFIDENCE_TAIL: f64 = 0.025;
/// A constant, so that the same data always give the same interval.
const BOOTSTRAP_SEED: u64 = 0x7269_7074;

/// A number with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub(crate) value: f64,
    /// Its 95 % interval; `None` with a single round.
    pub(crate) interval: Option<Interval>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    pub(crate) fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    pub(crate) fn inverted(self) -> Interval {
        Interval { low: 1.0 / self.high, high: 1.0 / self.low }
    }

    fn widened_by(self, other: Interval) -> Interval {
        Interval { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    fn map(self, f: impl Fn(f64) -> f64) -> Interval {
        Interval { low: f(self.low), high: f(self.high) }
    }
}

impl Estimate {
    /// The reciprocal of a ratio.
    pub(crate) fn inverted(self) -> Estimate {
        Estimate { value: 1.0 / self.value, interval: self.interval.map(Interval::inverted) }
    }
}

/// The median of positive measurements, one per round.
pub(crate) fn median_estimate(rounds: &[f64]) -> Option<Estimate> {
    let value = median(rounds)?;
    // On a logarithmic scale, so that Student's interval can't reach below zero.
    let logs: Vec<f64> = rounds.iter().map(|value| value.ln()).collect();
    let interval = interval(&logs, Statistic::Median);
    Some(Estimate { value, interval: interval.map(|interval| interval.map(f64::exp)) })
}

/// The ratio of positive measurements that were taken in pairs, one pair per round.
pub fn ratio_estimate(pairs: &[(f64, f64)]) -> Option<Estimate> {
    let logs: Vec<f64> = pairs.iter().map(|(above, below)| (above / below).ln()).collect();
    let value = mean(&logs)?.exp();
    let interval = interval(&logs, Statistic::Mean);
    Some(Estimate { value, interval: interval.map(|interval| interval.map(f64::exp)) })
}

/// The mean of measurements that may be zero or negative, one per round, with Student's interval.
pub(crate) fn mean_estimate(rounds: &[f64]) -> Option<Estimate> {
    let value = mean(rounds)?;
    Some(Estimate { value, interval: (rounds.len() > 1).then(|| student(rounds)) })
}

/// How much two groups of measurements on a logarithmic scale differ that were *not* taken in pairs: the
/// difference of their medians, second less first, as a ratio. Each group is resampled by itself; where one
/// has fewer than [`ROUNDS_FOR_BOOTSTRAP`] the interval is widened to contain Welch's.
///
/// `excess` is the standard error of what isn't in either group, on the same scale: it is folded in.
pub(crate) fn unpaired_estimate(first: &[f64], second: &[f64], excess: f64) -> Option<Estimate> {
    let difference = median(second)? - median(first)?;
    let value = difference.exp();
    if first.len() < 2 || second.len() < 2 {
        return Some(Estimate { value, interval: None });
    }
    let mut random = Random::new(BOOTSTRAP_SEED);
    let (mut one, mut other) = (Resampler::new(first), Resampler::new(second));
    let differences: Vec<f64> = (0..RESAMPLES_UNPAIRED)
        .map(|_| other.draw(&mut random, Statistic::Median) - one.draw(&mut random, Statistic::Median))
        .collect();
    let mut interval = middle_of(differences);
    if first.len().min(second.len()) < ROUNDS_FOR_BOOTSTRAP {
        interval = interval.widened_by(welch(first, second));
    }
    let fold = |reach: f64| reach.hypot(NORMAL_TAIL * excess);
    let interval = Interval {
        low: difference - fold((difference - interval.low).max(0.0)),
        high: difference + fold((interval.high - difference).max(0.0)),
    };
    Some(Estimate { value, interval: Some(interval.map(f64::exp)) })
}

/// Welch's interval of the difference of the means, second less first.
fn welch(first: &[f64], second: &[f64]) -> Interval {
    let (one, other) = (squared_error(first), squared_error(second));
    let difference = mean(second).unwrap_or(f64::NAN) - mean(first).unwrap_or(f64::NAN);
    // Between the smaller group's degrees of freedom, which is the wide side, and the sum of both.
    let least = first.len().min(second.len()) - 1;
    let reach = student_t(least) * (one + other).sqrt();
    Interval { low: difference - reach, high: difference + reach }
}

pub(crate) fn squared_error(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0) / count
}

/// The geometric mean of independent ratios; the half-widths of their intervals add in quadrature.
pub(crate) fn geometric_mean(ratios: &[Estimate]) -> Option<Estimate> {
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.value.ln()).collect();
    let middle = mean(&logs)?;
    let intervals: Option<Vec<Interval>> = ratios.iter().map(|ratio| ratio.interval).collect();
    let reach = |side: &dyn Fn(&Interval) -> f64| {
        let squares =
            intervals.as_ref()?.iter().zip(&logs).map(|(found, log)| (side(found).ln() - log).powi(2));
        Some(squares.sum::<f64>().sqrt() / logs.len() as f64)
    };
    let interval = reach(&|found| found.low)
        .zip(reach(&|found| found.high))
        .map(|(below, above)| Interval { low: middle - below, high: middle + above }.map(f64::exp));
    Some(Estimate { value: middle.exp(), interval })
}

/// Student's interval of a ratio at 99.9 %, for questions asked so often that at 95 % some would go wrong by
/// chance.
pub(crate) fn strict_ratio_interval(pairs: &[(f64, f64)]) -> Option<Interval> {
    let logs: Vec<f64> = pairs.iter().map(|(above, below)| (above / below).ln()).collect();
    if logs.len() < 2 {
        return None;
    }
    let middle = mean(&logs)?;
    let reach = strict_student_t(logs.len() - 1) * squared_error(&logs).sqrt();
    Some(Interval { low: middle - reach, high: middle + reach }.map(f64::exp))
}

/// The 99.95 % quantile of Student's distribution.
fn strict_student_t(degrees: usize) -> f64 {
    const TABLE: [f64; 20] = [
        636.6, 31.60, 12.92, 8.610, 6.869, 5.959, 5.408, 5.041, 4.781, 4.587, 4.437, 4.318, 4.221, 4.140,
        4.073, 4.015, 3.965, 3.922, 3.883, 3.850,
    ];
    TABLE[degrees.clamp(1, TABLE.len()) - 1]
}

/// The interval of a statistic over the rounds.
fn interval(rounds: &[f64], statistic: Statistic) -> Option<Interval> {
    if rounds.len() < 2 {
        return None;
    }
    let bootstrap = bootstrap(rounds, statistic);
    if rounds.len() < ROUNDS_FOR_BOOTSTRAP {
        return Some(bootstrap.widened_by(student(rounds)));
    }
    Some(bootstrap)
}

#[derive(Clone, Copy, Debug)]
enum Statistic {
    Mean,
    Median,
}

/// Draws resamples of a group, and computes a statistic of each.
struct Resampler {
    sorted: Vec<f64>,
    counts: Vec<usize>,
}

impl Resampler {
    fn new(group: &[f64]) -> Resampler {
        let mut sorted = group.to_vec();
        sorted.sort_by(f64::total_cmp);
        Resampler { counts: vec![0; sorted.len()], sorted }
    }

    fn draw(&mut self, random: &mut Random, statistic: Statistic) -> f64 {
        let count = self.sorted.len();
        match statistic {
            Statistic::Mean => {
                (0..count).map(|_| self.sorted[random.below(count)]).sum::<f64>() / count as f64
            }
            Statistic::Median => {
                // How often each was drawn says where the middle of the resample lies; nothing is sorted again.
                self.counts.fill(0);
                for _ in 0..count {
                    self.counts[random.below(count)] += 1;
                }
                f64::midpoint(self.at_rank((count - 1) / 2), self.at_rank(count / 2))
            }
        }
    }

    /// The value at a rank of the resample, from 0.
    fn at_rank(&self, rank: usize) -> f64 {
        let mut before = 0;
        for (value, count) in self.sorted.iter().zip(&self.counts) {
            before += count;
            if before > rank {
                return *value;
            }
        }
        f64::NAN
    }
}

/// The percentile bootstrap (Efron, 1979).
fn bootstrap(rounds: &[f64], statistic: Statistic) -> Interval {
    let mut random = Random::new(BOOTSTRAP_SEED);
    let mut resampler = Resampler::new(rounds);
    middle_of((0..RESAMPLES).map(|_| resampler.draw(&mut random, statistic)).collect())
}

/// The middle 95 % of resampled statistics.
fn middle_of(mut statistics: Vec<f64>) -> Interval {
    statistics.sort_unstable_by(f64::total_cmp);
    Interval {
        low: quantile_of_sorted(&statistics, CONFIDENCE_TAIL),
        high: quantile_of_sorted(&statistics, 1.0 - CONFIDENCE_TAIL),
    }
}

fn student(rounds: &[f64]) -> Interval {
    let mean = rounds.iter().sum::<f64>() / rounds.len() as f64;
    let reach = student_t(rounds.len() - 1) * squared_error(rounds).sqrt();
    Interval { low: mean - reach, high: mean + reach }
}

/// The 97.5 % quantile of Student's distribution. Beyond the table its last value is used, which errs on the
/// wide side.
fn student_t(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
        2.045, 2.042,
    ];
    TABLE[degrees.clamp(1, TABLE.len()) - 1]
}

pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The median; with an even number of values the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(quantile_of_sorted(&sorted, 0.5))
}

/// The quantile by linear interpolation between order statistics (Hyndman and Fan's type 7).
fn quantile_of_sorted(sorted: &[f64], quantile: f64) -> f64 {
    let mut position = quantile * (sorted.len() - 1) as f64;
    for pair in sorted.windows(2) {
        if position <= 1.0 {
            return pair[0] + (pair[1] - pair[0]) * position;
        }
        position -= 1.0;
    }
    sorted[sorted.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() <= tolerance
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn quantiles() {
        let sorted = [10.0, 20.0, 30.0, 40.0, 50.0];
        for (quantile, value) in [(0.0, 10.0), (0.1, 14.0), (0.25, 20.0), (0.9, 46.0), (1.0, 50.0)] {
            assert!(close(quantile_of_sorted(&sorted, quantile), value, 1e-9), "{quantile}");
        }
    }

    #[test]
    fn student_by_hand() {
        // 1, 2, 3, 4, 5: mean 3, standard error √(2.5 / 5), t with 4 degrees 2.776.
        let interval = student(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(close(interval.low, 3.0 - 2.776 * 0.5_f64.sqrt(), 1e-9));
        assert!(close(interval.high, 3.0 + 2.776 * 0.5_f64.sqrt(), 1e-9));
        assert!(close(student_t(1), 12.706, 0.0) && close(student_t(500), 2.042, 0.0));
    }

    #[test]
    fn one_round_has_no_interval() {
        let estimate = median_estimate(&[7.0]).unwrap();
        assert_eq!(estimate, Estimate { value: 7.0, interval: None });
        assert_eq!(median_estimate(&[]), None);
        assert_eq!(ratio_estimate(&[]), None);
    }

    #[test]
    fn drift_that_hits_both_leaves_the_ratio_sharp() {
        let pairs: Vec<(f64, f64)> =
            (0..12).map(|round| 100.0 * 1.1_f64.powi(round)).map(|drift| (0.8 * drift, drift)).collect();
        let ratio = ratio_estimate(&pairs).unwrap();
        let interval = ratio.interval.unwrap();
        assert!(close(ratio.value, 0.8, 1e-9), "{ratio:?}");
        assert!(close(interval.low, 0.8, 1e-9) && close(interval.high, 0.8, 1e-9), "{interval:?}");
    }

    #[test]
    fn means_of_ratios_are_geometric() {
        let ratio =
            |value: f64| Estimate { value, interval: Some(Interval { low: value / 1.1, high: value * 1.1 }) };
        let mean = geometric_mean(&[ratio(0.5), ratio(2.0)]).unwrap();
        assert!(close(mean.value, 1.0, 1e-12));
        let interval = mean.interval.unwrap();
        assert!(close(interval.high, 1.1_f64.powf(0.5_f64.sqrt()), 1e-9), "{interval:?}");
        assert!(close(interval.low * interval.high, 1.0, 1e-9));
        assert_eq!(geometric_mean(&[]), None);
    }

    #[test]
    fn unpaired_groups() {
        let first = [1.0, 1.1, 0.9, 1.05, 0.95];
        let second: Vec<f64> = first.iter().map(|log| log + 0.5).collect();
        let ratio = unpaired_estimate(&first, &second, 0.0).unwrap();
        assert!(close(ratio.value, 0.5_f64.exp(), 1e-9));
        let interval = ratio.interval.unwrap();
        let wanted = welch(&first, &second).map(f64::exp);
        assert!(interval.low <= wanted.low + 1e-12 && wanted.high <= interval.high + 1e-12);
        let wider = unpaired_estimate(&first, &second, 0.1).unwrap().interval.unwrap();
        assert!(wider.low < interval.low && interval.high < wider.high);
        assert_eq!(unpaired_estimate(&[1.0], &second, 0.0).unwrap().interval, None);
    }

    #[test]
    fn few_rounds_are_at_least_as_wide_as_student() {
        let pairs = [(1.0, 1.0), (1.2, 1.0), (0.9, 1.0)];
        let logs: Vec<f64> = pairs.iter().map(|(a, b): &(f64, f64)| (a / b).ln()).collect();
        let wanted = student(&logs).map(f64::exp);
        let interval = ratio_estimate(&pairs).unwrap().interval.unwrap();
        assert!(interval.low <= wanted.low && wanted.high <= interval.high);
    }

    /// Over many experiments the intervals contain the truth about as often as they claim. The percentile
    /// bootstrap of twelve rounds is known to fall a little short of 95 %.
    #[test]
    fn intervals_cover_the_truth() {
        let mut random = Random::new(42);
        let mut normal = || {
            let sum: f64 = (0..12).map(|_| random.below(1_000_000) as f64 / 1e6).sum();
            sum - 6.0
        };
        for (rounds, least) in [(5, 0.93), (12, 0.88)] {
            let experiments = 300;
            let hits = (0..experiments)
                .filter(|_| {
                    let pairs: Vec<(f64, f64)> =
                        (0..rounds).map(|_| ((0.05 * normal()).exp() * 0.7, 1.0)).collect();
                    ratio_estimate(&pairs).unwrap().interval.unwrap().contains(0.7)
                })
                .count();
            assert!(hits as f64 >= least * f64::from(experiments), "{rounds} rounds: {hits}");
        }
    }
}

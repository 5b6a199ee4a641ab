//! Estimates and their intervals.
//!
//! A **value** of a server is the median over the rounds; a **ratio** of two servers is the geometric mean of the ratios
//! within each round, because what disturbs a round disturbs both (`grid` knows more than one pair). Intervals are Student's, two-sided, 95 %, of logarithms: what varies by factors is nearly normal there, and no
//! interval reaches below zero. A bootstrap would promise more than a dozen rounds can keep: its 95 % intervals contain
//! the truth in 89 to 92 of 100 cases.

use crate::analysis::student;
use serde::{Deserialize, Serialize};

/// Of every interval that is shown.
pub(crate) const CONFIDENCE: f64 = 0.95;
/// The standard error of a median, in standard errors of a mean: √(π/2), for many normal values. For few it is less.
const MEDIAN_ERROR: f64 = 1.2533;

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
    /// So far to both sides.
    pub(crate) fn around(middle: f64, reach: f64) -> Interval {
        Interval { low: middle - reach, high: middle + reach }
    }

    pub(crate) fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    pub(crate) fn inverted(self) -> Interval {
        Interval { low: 1.0 / self.high, high: 1.0 / self.low }
    }

    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Interval {
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
    let logs: Vec<f64> = rounds.iter().map(|value| value.ln()).collect();
    let interval = (logs.len() > 1).then(|| {
        let reach = MEDIAN_ERROR * student_reach(&logs);
        Interval::around(value.ln(), reach).map(f64::exp)
    });
    Some(Estimate { value, interval })
}

/// The ratio of positive measurements that were taken in pairs, one pair per round.
pub fn ratio_estimate(pairs: &[(f64, f64)]) -> Option<Estimate> {
    let logs: Vec<f64> = pairs.iter().map(|(above, below)| (above / below).ln()).collect();
    let found = mean_estimate(&logs)?;
    let interval = found.interval.map(|interval| interval.map(f64::exp));
    Some(Estimate { value: found.value.exp(), interval })
}

/// The mean of measurements that may be zero or negative, one per round.
pub(crate) fn mean_estimate(rounds: &[f64]) -> Option<Estimate> {
    let value = mean(rounds)?;
    let interval = (rounds.len() > 1).then(|| Interval::around(value, student_reach(rounds)));
    Some(Estimate { value, interval })
}

/// How far Student's interval reaches from the mean.
fn student_reach(rounds: &[f64]) -> f64 {
    student::reach(CONFIDENCE, rounds.len() - 1) * squared_error(rounds).sqrt()
}

/// The variance of a sample of at least two.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)
}

/// The variance of a sample's mean.
pub(crate) fn squared_error(values: &[f64]) -> f64 {
    variance(values) / values.len() as f64
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

/// Which of several chances are small enough *together*: in at most `level` of all reports, one or more of those that it
/// picks are due to chance alone (Holm, 1979). In the order of `chances`.
pub(crate) fn holm(chances: &[f64], level: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|one, other| chances[*one].total_cmp(&chances[*other]));
    let mut picked = vec![false; chances.len()];
    for (rank, index) in order.into_iter().enumerate() {
        if chances[index] > level / (chances.len() - rank) as f64 {
            break;
        }
        picked[index] = true;
    }
    picked
}

pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The median; with an even number of values the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().checked_sub(1)?;
    Some(f64::midpoint(sorted[middle / 2], sorted[sorted.len() / 2]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

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
    fn student_by_hand() {
        // 1, 2, 3, 4, 5: mean 3, standard error √(2.5 / 5), t with 4 degrees 2.776.
        let interval = mean_estimate(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap().interval.unwrap();
        assert!(close(interval.low, 3.0 - 2.776 * 0.5_f64.sqrt(), 1e-3));
        assert!(close(interval.high, 3.0 + 2.776 * 0.5_f64.sqrt(), 1e-3));
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
    fn chances_are_judged_together() {
        let table: [(&[f64], &[bool]); 5] = [
            (&[], &[]),
            (&[0.04], &[true]),
            // 0.05 / 3, 0.05 / 2, 0.05: the third would stand alone, but not behind the second.
            (&[0.04, 0.01, 0.03], &[false, true, false]),
            (&[0.04, 0.01, 0.02], &[true, true, true]),
            (&[0.02, 0.03], &[true, true]),
        ];
        for (chances, expected) in table {
            assert_eq!(holm(chances, 0.05), expected, "{chances:?}");
        }
    }

    /// Over many experiments the intervals contain the truth as often as they say.
    #[test]
    fn intervals_cover_the_truth() {
        let mut random = Random::new(42);
        const EXPERIMENTS: usize = 2_000;
        for rounds in [3, 5, 12] {
            let (mut ratios, mut medians) = (0, 0);
            for _ in 0..EXPERIMENTS {
                let values: Vec<f64> = (0..rounds).map(|_| 0.7 * (0.05 * random.normal()).exp()).collect();
                let pairs: Vec<(f64, f64)> = values.iter().map(|value| (*value, 1.0)).collect();
                ratios += usize::from(ratio_estimate(&pairs).unwrap().interval.unwrap().contains(0.7));
                medians += usize::from(median_estimate(&values).unwrap().interval.unwrap().contains(0.7));
            }
            let share = |hits: usize| hits as f64 / EXPERIMENTS as f64;
            assert!((0.935..0.965).contains(&share(ratios)), "{rounds} rounds: {}", share(ratios));
            assert!((0.935..0.985).contains(&share(medians)), "{rounds} rounds: {}", share(medians));
        }
    }
}

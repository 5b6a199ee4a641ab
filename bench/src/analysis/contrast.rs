//! What is known of a difference: its mean, and how sure that is.

use crate::analysis::stats::{CONFIDENCE, Estimate, Interval, mean, squared_error};
use crate::analysis::student;

/// So far from a whole number, degrees of freedom are one.
const ROUNDING: f64 = 1e-6;

/// A difference on a logarithmic scale: of two servers in the same rounds, or of one server in two runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Contrast {
    /// The mean.
    pub(crate) difference: f64,
    /// Its standard error; infinite with a single round.
    pub(crate) error: f64,
    /// Degrees of freedom of the standard error.
    pub(crate) degrees: usize,
}

impl Contrast {
    /// The difference of two groups that were *not* taken in pairs, second less first, as Welch (1947) judges it. `excess`
    /// is the standard error of what isn't in either group, on the same scale. `None` without any value on one side.
    pub(crate) fn unpaired(first: &[f64], second: &[f64], excess: f64) -> Option<Contrast> {
        let difference = mean(second)? - mean(first)?;
        if first.len() < 2 || second.len() < 2 {
            return Some(Contrast { difference, error: f64::INFINITY, degrees: 1 });
        }
        let (one, other) = (squared_error(first), squared_error(second));
        let freedom = |group: &[f64]| (group.len() - 1) as f64;
        let degrees =
            (one + other).powi(2) / (one.powi(2) / freedom(first) + other.powi(2) / freedom(second));
        // Whole degrees, rounded to the wide side. Without any spread it isn't a number, and doesn't matter.
        let least = first.len().min(second.len()) - 1;
        let most = first.len() + second.len() - 2;
        let degrees = (least..=most).rev().find(|whole| *whole as f64 <= degrees + ROUNDING).unwrap_or(least);
        Some(Contrast { difference, error: (one + other + excess * excess).sqrt(), degrees })
    }

    /// The ratio with its 95 % interval.
    pub(crate) fn estimate(&self) -> Estimate {
        let interval = self.error.is_finite().then(|| {
            let reach = student::reach(CONFIDENCE, self.degrees) * self.error;
            Interval::around(self.difference, reach).map(f64::exp)
        });
        Estimate { value: self.difference.exp(), interval }
    }

    /// How probable it is that noise alone makes a difference as large as this one.
    pub(crate) fn chance(&self) -> f64 {
        1.0 - self.confidence(self.difference.abs())
    }

    /// How sure it is that the truth lies within `distance` of the mean.
    pub(crate) fn confidence(&self, distance: f64) -> f64 {
        if distance <= 0.0 || self.error.is_infinite() {
            return 0.0;
        }
        // Without any spread this is infinite, and surely so.
        student::middle(distance / self.error, self.degrees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpaired_groups() {
        let first = [1.0, 1.1, 0.9, 1.05, 0.95];
        let second: Vec<f64> = first.iter().map(|log| log + 0.5).collect();
        let found = Contrast::unpaired(&first, &second, 0.0).unwrap();
        assert!((found.difference - 0.5).abs() < 1e-12);
        // Variance 0.00625 in both: the error is √(2 · 0.00625 / 5), with all degrees of freedom.
        assert!((found.error - 0.05).abs() < 1e-12, "{found:?}");
        assert_eq!(found.degrees, 8);
        let wider = Contrast::unpaired(&first, &second, 0.1).unwrap();
        assert!((wider.error - 0.05_f64.hypot(0.1)).abs() < 1e-12);
        let sharp: Vec<f64> = second.iter().map(|log| 1.5 + (log - 1.5) / 1_000.0).collect();
        assert_eq!(
            Contrast::unpaired(&first, &sharp, 0.0).unwrap().degrees,
            4,
            "one group tells nothing of it"
        );
        assert_eq!(Contrast::unpaired(&[1.0], &second, 0.0).unwrap().estimate().interval, None);
        assert_eq!(Contrast::unpaired(&[], &second, 0.0), None);
    }

    #[test]
    fn the_extremes() {
        let of = |difference, error| Contrast { difference, error, degrees: 3 };
        assert_eq!(
            (of(0.5, f64::INFINITY).estimate().interval, of(0.5, f64::INFINITY).chance()),
            (None, 1.0)
        );
        assert!(of(0.5, 0.0).chance() < 1e-12);
        assert_eq!(of(0.0, 0.0).chance(), 1.0);
        assert_eq!(
            of(0.0, 0.0).estimate(),
            Estimate { value: 1.0, interval: Some(Interval::around(1.0, 0.0)) }
        );
    }
}

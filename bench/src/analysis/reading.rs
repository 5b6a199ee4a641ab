//! What may be told of a number. Only [`Reading::Told`] has one to print; what is too noisy has a place in a chart.

use crate::analysis::stats::{Estimate, Interval};

/// An interval whose high end is more than so many times its low end says too little.
pub(crate) const SPAN_MAX: f64 = 3.0;

/// A number that was measured, or why it isn't told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reading {
    Told(Estimate),
    /// A place in a chart, without a number: its 95 % interval spans more than a factor of [`SPAN_MAX`], or there is none,
    /// since there was a single round.
    TooNoisy(Estimate),
    Unmeasured,
}

/// What stands in place of a number that is too noisy.
pub(crate) const TOO_NOISY: &str = "too noisy";

impl Reading {
    /// Of a value or a ratio, `None` if there is none.
    pub(crate) fn of(estimate: Option<&Estimate>) -> Reading {
        match estimate {
            None => Reading::Unmeasured,
            Some(found) if found.interval.is_some_and(is_narrow) => Reading::Told(*found),
            Some(found) => Reading::TooNoisy(*found),
        }
    }

    /// The number, if it may be told.
    pub(crate) fn told(self) -> Option<Estimate> {
        if let Reading::Told(estimate) = self { Some(estimate) } else { None }
    }

    pub(crate) fn is_too_noisy(self) -> bool {
        matches!(self, Reading::TooNoisy(_))
    }

    /// Where a chart draws it: what is too noisy is marked as such there.
    pub(crate) fn place(self) -> Option<Estimate> {
        match self {
            Reading::Told(estimate) | Reading::TooNoisy(estimate) => Some(estimate),
            Reading::Unmeasured => None,
        }
    }

    /// The same in another unit, that many times as large.
    pub(crate) fn divided_by(self, unit: f64) -> Reading {
        let divided = |Estimate { value, interval }: Estimate| Estimate {
            value: value / unit,
            interval: interval.map(|Interval { low, high }| Interval { low: low / unit, high: high / unit }),
        };
        match self {
            Reading::Told(estimate) => Reading::Told(divided(estimate)),
            Reading::TooNoisy(estimate) => Reading::TooNoisy(divided(estimate)),
            Reading::Unmeasured => Reading::Unmeasured,
        }
    }

    /// What a table says: the number by `write`, that it is too noisy, or `nothing`.
    pub(crate) fn text(self, nothing: &str, write: impl FnOnce(&Estimate) -> String) -> String {
        match self {
            Reading::Told(estimate) => write(&estimate),
            Reading::TooNoisy(_) => TOO_NOISY.to_owned(),
            Reading::Unmeasured => nothing.to_owned(),
        }
    }
}

fn is_narrow(interval: Interval) -> bool {
    interval.high <= SPAN_MAX * interval.low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_more_than_a_factor_of_three_is_noise() {
        let estimate = |low, high| Estimate { value: 1.0, interval: Some(Interval { low, high }) };
        let single = Estimate { value: 1.0, interval: None };
        let table = [
            (Some(estimate(0.5, 1.5)), Reading::Told(estimate(0.5, 1.5)), "1"),
            (Some(estimate(0.5, 1.51)), Reading::TooNoisy(estimate(0.5, 1.51)), "too noisy"),
            (Some(single), Reading::TooNoisy(single), "too noisy"),
            (None, Reading::Unmeasured, "–"),
        ];
        for (found, expected, text) in table {
            let reading = Reading::of(found.as_ref());
            assert_eq!(reading, expected);
            assert_eq!(reading.text("–", |estimate| estimate.value.to_string()), text);
            assert_eq!(reading.told().is_some(), matches!(expected, Reading::Told(_)));
        }
        assert!(Reading::of(Some(&estimate(f64::NAN, 1.0))).is_too_noisy(), "no number at all");
    }
}

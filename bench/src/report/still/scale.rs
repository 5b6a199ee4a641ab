//! From values to places, and the numbers along an axis.

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// From `low` to `high`, equal steps for equal differences.
    pub(crate) fn linear(low: f64, high: f64, from: f64, to: f64) -> Scale {
        Scale { low, high, from, to, logarithmic: false }
    }

    /// From `low` to `high`, both positive, equal steps for equal ratios.
    pub(crate) fn logarithmic(low: f64, high: f64, from: f64, to: f64) -> Scale {
        Scale { low, high, from, to, logarithmic: true }
    }

    /// Where a value belongs; what lies beyond an end is put there.
    pub(crate) fn at(self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    pub(crate) fn is_below(self, value: f64) -> bool {
        value < self.low
    }

    pub(crate) fn is_beyond(self, value: f64) -> bool {
        value > self.high
    }

    /// Round numbers along the axis, about `count` of them.
    pub(crate) fn ticks(self, count: usize) -> Vec<f64> {
        if self.logarithmic { self.ticks_by_ratio(count) } else { self.ticks_by_step(count) }
    }

    fn ticks_by_step(self, count: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / count.max(1) as f64;
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let first = (self.low / step).ceil();
        (0..=2 * count)
            .map(|index| (first + index as f64) * step)
            .filter(|tick| *tick <= self.high * 1.0001)
            .collect()
    }

    fn ticks_by_ratio(self, count: usize) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let factors: &[f64] = if decades * 3.0 <= count as f64 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let mut power = 10.0_f64.powf(self.low.log10().floor());
        while power <= self.high {
            ticks.extend(factors.iter().map(|factor| factor * power));
            power *= 10.0;
        }
        ticks.retain(|tick| *tick >= self.low * 0.9999 && *tick <= self.high * 1.0001);
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_places_between_the_ends() {
        let linear = Scale::linear(0.0, 10.4, 0.0, 104.0);
        assert!((linear.at(10.0) - 100.0).abs() < 1e-9 && linear.at(0.0).abs() < 1e-9);
        assert!((linear.at(99.0) - 104.0).abs() < 1e-9);
        let wide = Scale::logarithmic(1.0, 1_000.0, 0.0, 90.0);
        assert!((wide.at(10.0) - 30.0).abs() < 1e-9 && wide.at(0.0).abs() < 1e-9);
        assert!(wide.is_below(0.5) && !wide.is_below(1.0) && !wide.is_beyond(1e3) && wide.is_beyond(2e3));
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(Scale::linear(0.0, 10.4, 0.0, 1.0).ticks(5), [0.0, 5.0, 10.0]);
        assert_eq!(Scale::logarithmic(0.8, 120.0, 0.0, 1.0).ticks(5), [1.0, 10.0, 100.0]);
        assert_eq!(Scale::logarithmic(0.8, 12.0, 0.0, 1.0).ticks(6), [1.0, 2.0, 5.0, 10.0]);
    }
}

//! From values to places, and the numbers along an axis.

/// From this ratio of the largest to the smallest value on, a scale is logarithmic.
const LOGARITHMIC_FROM: f64 = 12.0;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// For positive values: logarithmic where they differ by more than an order of magnitude, else from zero.
    /// `from` and `to` are places.
    pub(crate) fn of(values: &[f64], from: f64, to: f64) -> Scale {
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = values.iter().copied().fold(0.0, f64::max);
        if smallest > 0.0 && largest / smallest > LOGARITHMIC_FROM {
            return Scale::logarithmic(smallest / 1.15, largest * 1.1, from, to);
        }
        Scale::linear(0.0, largest.max(f64::MIN_POSITIVE) * 1.04, from, to)
    }

    /// From `low` to `high`, equal steps for equal differences.
    pub(crate) fn linear(low: f64, high: f64, from: f64, to: f64) -> Scale {
        Scale { low, high, from, to, logarithmic: false }
    }

    /// From `low` to `high`, both positive, equal steps for equal ratios.
    pub(crate) fn logarithmic(low: f64, high: f64, from: f64, to: f64) -> Scale {
        Scale { low, high, from, to, logarithmic: true }
    }

    pub(crate) fn is_logarithmic(self) -> bool {
        self.logarithmic
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

    /// Round numbers along the axis, about `count` of them. `step_of` is the unit that they should be round
    /// in: 1 for plain numbers.
    pub(crate) fn ticks(self, count: usize, unit: f64) -> Vec<f64> {
        if !self.logarithmic {
            self.ticks_by_step(count, unit)
        } else if unit % 1_024.0 == 0.0 {
            self.ticks_by_doubling(count)
        } else {
            self.ticks_by_ratio(count)
        }
    }

    fn ticks_by_step(self, count: usize, unit: f64) -> Vec<f64> {
        let rough = (self.high - self.low) / unit / count.max(1) as f64;
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power) * unit;
        let first = (self.low / step).ceil();
        (0..=2 * count)
            .map(|index| (first + index as f64) * step)
            .filter(|tick| *tick <= self.high * 1.0001)
            .collect()
    }

    /// For sizes: powers of two, as far apart as it takes.
    fn ticks_by_doubling(self, count: usize) -> Vec<f64> {
        let (first, last) = (self.low.log2().ceil(), self.high.log2());
        let strides = [1.0, 2.0, 5.0, 10.0, 20.0];
        let stride =
            strides.into_iter().find(|stride| (last - first) / stride < count as f64).unwrap_or(20.0);
        let begin = (first / stride).ceil() * stride;
        let exponents = (0..=2 * count).map(|index| begin + index as f64 * stride);
        exponents.take_while(|exponent| *exponent <= last).map(f64::exp2).collect()
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
    fn scales_choose_themselves() {
        let linear = Scale::of(&[5.0, 10.0], 0.0, 104.0);
        assert!(!linear.is_logarithmic() && (linear.at(10.0) - 100.0).abs() < 1e-9);
        assert!(linear.at(0.0).abs() < 1e-9 && (linear.at(99.0) - 104.0).abs() < 1e-9);
        let wide = Scale::of(&[1.0, 1_000.0], 0.0, 100.0);
        assert!(wide.is_logarithmic() && wide.at(30.0) > 40.0 && wide.at(30.0) < 60.0);
        assert!(
            wide.is_below(0.5) && !wide.is_below(1.0) && !wide.is_beyond(1_000.0) && wide.is_beyond(2_000.0)
        );
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            Scale::logarithmic(900.0, 20_000.0, 0.0, 1.0).ticks(5, 1_024.0),
            [1_024.0, 2_048.0, 4_096.0, 8_192.0, 16_384.0]
        );
        assert_eq!(Scale::linear(0.0, 10.4, 0.0, 1.0).ticks(5, 1.0), [0.0, 5.0, 10.0]);
        assert_eq!(
            Scale::linear(0.0, 12_000.0, 0.0, 1.0).ticks(6, 1_000.0),
            [0.0, 2_000.0, 4_000.0, 6_000.0, 8_000.0, 10_000.0, 12_000.0]
        );
        assert_eq!(Scale::logarithmic(0.8, 120.0, 0.0, 1.0).ticks(5, 1.0), [1.0, 10.0, 100.0]);
        assert_eq!(Scale::logarithmic(0.8, 12.0, 0.0, 1.0).ticks(6, 1.0), [1.0, 2.0, 5.0, 10.0]);
    }
}

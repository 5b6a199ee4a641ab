//! Bounds, and what a number with an interval says about them.

use crate::analysis::stats::{Estimate, Interval};

/// What a rule asks of its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// How numbers differ: ratios by factors, everything else by differences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// Two servers in one cell. What the cell's twin strays by can't be told from noise: 0.05 is 5 %.
    Ratio {
        band: f64,
    },
    Difference,
}

/// What is known of a number and its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Kept,
    Broken,
    /// The interval is wider than the distance to the bound, or there is none.
    Wide,
    /// Two copies of one server differ by as much here.
    Noise,
}

impl Bound {
    pub(crate) const fn value(self) -> f64 {
        match self {
            Bound::AtLeast(value) | Bound::AtMost(value) => value,
        }
    }

    /// The number has to be at least as far from the bound as its interval is wide, so that the interval never is wider
    /// than the effect. That is stricter than leaving the bound out of a 95 % interval, which would go wrong by chance in
    /// some of the dozens of rules that a run judges.
    pub(crate) fn decide(self, estimate: &Estimate, scale: Scale) -> Decision {
        let bound = self.value();
        let Some(Interval { low, high }) = estimate.interval else {
            return Decision::Wide;
        };
        let (distance, width, band) = match scale {
            Scale::Ratio { band } => ((estimate.value / bound).ln().abs(), (high / low).ln(), band.ln_1p()),
            Scale::Difference => ((estimate.value - bound).abs(), high - low, 0.0),
        };
        // Not a number: it decides nothing either.
        let is_narrow = width <= distance && distance > 0.0 && !(low..=high).contains(&bound);
        let is_above = estimate.value > bound;
        match self {
            _ if !is_narrow => Decision::Wide,
            _ if distance < band => Decision::Noise,
            Bound::AtLeast(_) if is_above => Decision::Kept,
            Bound::AtMost(_) if !is_above => Decision::Kept,
            _ => Decision::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::stats::{mean_estimate, ratio_estimate};
    use crate::random::Random;

    fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, interval: Some(Interval { low, high }) }
    }

    #[test]
    fn an_interval_wider_than_the_effect_decides_nothing() {
        let ratio = Scale::Ratio { band: 0.05 };
        let table = [
            ("far above", Bound::AtLeast(5.0), ratio, estimate(40.0, 30.0, 53.0), Decision::Kept),
            (
                "far above, the other way",
                Bound::AtMost(5.0),
                ratio,
                estimate(40.0, 30.0, 53.0),
                Decision::Broken,
            ),
            ("far below", Bound::AtLeast(5.0), ratio, estimate(1.0, 0.9, 1.1), Decision::Broken),
            (
                "leaves the bound out, but is wide",
                Bound::AtLeast(5.0),
                ratio,
                estimate(8.0, 5.1, 12.5),
                Decision::Wide,
            ),
            ("holds the bound", Bound::AtMost(1.5), ratio, estimate(1.4, 1.2, 1.63), Decision::Wide),
            (
                "nearer than the twin strays",
                Bound::AtMost(1.0),
                ratio,
                estimate(0.97, 0.965, 0.975),
                Decision::Noise,
            ),
            ("a slope", Bound::AtLeast(5.0), Scale::Difference, estimate(30.0, 26.0, 34.0), Decision::Kept),
            ("no slope", Bound::AtMost(1.0), Scale::Difference, estimate(-0.1, -0.4, 0.2), Decision::Kept),
            (
                "perhaps a slope",
                Bound::AtMost(1.0),
                Scale::Difference,
                estimate(0.5, -0.2, 0.9),
                Decision::Wide,
            ),
            (
                "a count that never varies",
                Bound::AtMost(0.5),
                Scale::Difference,
                estimate(2.0, 2.0, 2.0),
                Decision::Broken,
            ),
            (
                "the bound itself",
                Bound::AtMost(2.0),
                Scale::Difference,
                estimate(2.0, 2.0, 2.0),
                Decision::Wide,
            ),
        ];
        for (name, bound, scale, estimate, expected) in table {
            assert_eq!(bound.decide(&estimate, scale), expected, "{name}");
        }
        let single = Estimate { value: 9.0, interval: None };
        assert_eq!(Bound::AtLeast(1.0).decide(&single, ratio), Decision::Wide);
    }

    /// One standard deviation, roughly normal.
    fn noise(random: &mut Random) -> f64 {
        (0..12).map(|_| random.fraction()).sum::<f64>() - 6.0
    }

    /// How often in 1,000 a ratio's rule decides, of servers whose ratio is `truth` and whose rounds vary by 10 %.
    fn decided(truth: f64, bound: f64, rounds: usize) -> (usize, usize) {
        let mut random = Random::new(17);
        let mut counts = (0, 0);
        for _ in 0..1_000 {
            let mut value = |middle: f64| middle * (0.1 * noise(&mut random)).exp();
            let pairs: Vec<(f64, f64)> = (0..rounds).map(|_| (value(truth), value(1.0))).collect();
            let estimate = ratio_estimate(&pairs).unwrap();
            match Bound::AtLeast(bound).decide(&estimate, Scale::Ratio { band: 0.02 }) {
                Decision::Kept => counts.0 += 1,
                Decision::Broken => counts.1 += 1,
                Decision::Wide | Decision::Noise => {}
            }
        }
        counts
    }

    /// Known truth in, verdict out: what decides by chance does so in fewer than 3 of 100, and hardly any true effect that
    /// is large is missed.
    #[test]
    fn the_rule_is_right_about_servers_of_known_truth() {
        for rounds in [3, 4, 6, 8] {
            let (kept, broken) = decided(1.5, 1.5, rounds);
            assert!(kept + broken < 30, "{rounds} rounds, on the bound: {kept} and {broken}");
            let (kept, broken) = decided(1.2, 5.0, rounds);
            assert!(kept == 0 && broken > 900, "{rounds} rounds, far below: {kept} and {broken}");
        }
        let (kept, broken) = decided(2.5, 1.5, 6);
        assert!(kept > 900 && broken == 0, "{kept} and {broken}");
        let (kept, broken) = decided(1.05, 1.0, 4);
        assert!(kept < 60 && broken < 30, "too small an effect for four rounds: {kept} and {broken}");
    }

    #[test]
    fn a_flat_line_under_noise_is_flat() {
        let mut random = Random::new(3);
        let mut kept = 0;
        for _ in 0..1_000 {
            let slopes: Vec<f64> = (0..4).map(|_| 0.1 * noise(&mut random)).collect();
            let estimate = mean_estimate(&slopes).unwrap();
            kept += usize::from(Bound::AtMost(1.0).decide(&estimate, Scale::Difference) == Decision::Kept);
        }
        assert!(kept > 950, "{kept}");
    }
}

//! Student's t-distribution for whole degrees of freedom.

/// How probable it is that |t| is at most `reach`: Abramowitz and Stegun, *Handbook of Mathematical Functions*, 26.7.3 for
/// odd and 26.7.4 for even degrees of freedom, which are exact.
pub(crate) fn middle(reach: f64, degrees: usize) -> f64 {
    let degrees = degrees.max(1);
    let angle = (reach.abs() / (degrees as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = degrees % 2 == 1;
    let (mut term, mut index) = if is_odd { (cosine, 3.0) } else { (1.0, 2.0) };
    let mut sum = 0.0;
    for _ in 0..degrees / 2 {
        sum += term;
        term *= cosine * cosine * (index - 1.0) / index;
        index += 2.0;
    }
    if is_odd { std::f64::consts::FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

/// The reach within which |t| lies with a probability of `confidence`, which is below 1.
pub(crate) fn reach(confidence: f64, degrees: usize) -> f64 {
    /// More halvings than an `f64` has digits.
    const STEPS: usize = 64;
    let (mut low, mut high) = (0.0, 2.0);
    while middle(high, degrees) < confidence && high < f64::MAX / 2.0 {
        low = high;
        high *= 2.0;
    }
    for _ in 0..STEPS {
        let half = f64::midpoint(low, high);
        if middle(half, degrees) < confidence {
            low = half;
        } else {
            high = half;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tables that every textbook has.
    #[test]
    fn known_values() {
        let table = [
            (0.90, 1, 6.314),
            (0.95, 1, 12.706),
            (0.95, 2, 4.303),
            (0.95, 3, 3.182),
            (0.95, 10, 2.228),
            (0.95, 30, 2.042),
            (0.99, 2, 9.925),
            (0.99, 9, 3.250),
            (0.99, 29, 2.756),
            (0.999, 3, 12.924),
            (0.999, 20, 3.850),
            (0.95, 1_000, 1.962),
        ];
        for (confidence, degrees, expected) in table {
            let found = reach(confidence, degrees);
            assert!((found - expected).abs() < 6e-4, "{confidence}, {degrees}: {found}");
            assert!((middle(found, degrees) - confidence).abs() < 1e-9);
        }
    }

    #[test]
    fn the_ends() {
        for degrees in [1, 2, 7, 40] {
            assert_eq!(middle(0.0, degrees), 0.0);
            assert!((middle(f64::INFINITY, degrees) - 1.0).abs() < 1e-12, "{degrees}");
        }
    }
}

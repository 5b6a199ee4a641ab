//! Seeded randomness: the corpus, the order within a round, synthetic runs.

/// SplitMix64 (Steele, Lea and Flood, 2014): tiny, well mixed, and the same on every machine and in every
/// version, so that a seed in a result means what it meant.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// A sequence of its own for the `index`-th thing that draws from `seed`.
    pub(crate) fn stream(seed: u64, index: u64) -> Random {
        let mut mixed = Random::new(seed ^ index.wrapping_mul(0xD134_2543_DE82_EF95));
        Random::new(mixed.draw())
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which isn't 0. The bias of at most `bound` in 2⁶⁴ is nothing here.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let scaled = (u128::from(self.draw()) * bound as u128) >> 64;
        usize::try_from(scaled).expect("a number below a usize is one")
    }

    /// A number from 0 up to, but not including, 1: the upper 53 bits, as many as an `f64` holds.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution (Box and Muller, 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.fraction()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.fraction()).cos()
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Puts `items` into random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // The first outputs for seed 0 in the authors' reference.
        let mut random = Random::new(0);
        assert_eq!(random.draw(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(random.draw(), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn shuffles_evenly() {
        let mut random = Random::new(7);
        let mut firsts = [0_u32; 3];
        for _ in 0..30_000 {
            let mut items = [0, 1, 2];
            random.shuffle(&mut items);
            firsts[items[0]] += 1;
        }
        assert!(firsts.iter().all(|count| (9_700..10_300).contains(count)), "{firsts:?}");
    }

    #[test]
    fn normal_numbers_are_normal() {
        let mut random = Random::new(3);
        let drawn: Vec<f64> = (0..100_000).map(|_| random.normal()).collect();
        let share = |limit: f64| drawn.iter().filter(|value| value.abs() < limit).count() as f64 / 1e5;
        for (limit, expected) in [(0.674_5, 0.5), (1.0, 0.682_7), (1.96, 0.95), (3.0, 0.997_3)] {
            assert!((share(limit) - expected).abs() < 0.005, "{limit}: {}", share(limit));
        }
        assert!(drawn.iter().sum::<f64>().abs() / 1e5 < 0.01);
    }

    #[test]
    fn streams_differ() {
        assert_ne!(Random::stream(1, 0).draw(), Random::stream(1, 1).draw());
        assert_ne!(Random::stream(1, 1).draw(), Random::stream(2, 1).draw());
    }
}

//! Seeded randomness: the same seed gives the same changes and requests, though not the same timing.

/// A pseudo-random sequence (its output function is splitmix64's finalizer, as in [`crate::pattern`]).
#[derive(Clone, Debug)]
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    /// An independent sequence for the `index`-th consumer of `seed`.
    pub(super) fn new(seed: u64, index: u64) -> Dice {
        let mut dice = Dice { state: seed ^ index.wrapping_mul(0xd134_2543_de82_ef95) };
        dice.state = dice.draw();
        dice
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number of at least `least` and less than `end`, which must be larger.
    pub(super) fn between(&mut self, least: u64, end: u64) -> u64 {
        least + self.draw() % (end - least)
    }

    /// A random item.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.between(0, items.len() as u64);
        &items[usize::try_from(index).unwrap_or_default()]
    }

    /// True in this many percent of the cases.
    pub(super) fn percent(&mut self, cases: u64) -> bool {
        self.between(0, 100) < cases
    }
}

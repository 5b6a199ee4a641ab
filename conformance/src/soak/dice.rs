//! Seeded chance: the same seed, the same changes and the same requests, though not at the same moments.

/// The sequence of a seed (the generator that ends in splitmix64's finalizer, as [`crate::pattern`]).
#[derive(Clone, Debug)]
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    /// A sequence of its own for the `index`-th thing that draws from `seed`.
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

    /// A number from `least` up to, but not including, `end`, which is larger.
    pub(super) fn between(&mut self, least: u64, end: u64) -> u64 {
        least + self.draw() % (end - least)
    }

    /// One of them.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.between(0, items.len() as u64);
        &items[usize::try_from(index).unwrap_or_default()]
    }

    /// Whether it happens, in so many cases of a hundred.
    pub(super) fn percent(&mut self, cases: u64) -> bool {
        self.between(0, 100) < cases
    }
}

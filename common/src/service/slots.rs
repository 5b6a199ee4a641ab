//! Slots: a table of connections whose keys detect stale references.
//!
//! A [`Token`] is a slot and a generation. When a connection ends, its slot is reused with the next generation, so a
//! stale event, a late pool result or an old completion finds nothing, instead of another connection.

/// A key that identifies one entry of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The index in the table.
    pub slot: u32,
    /// How many entries the slot held before, modulo [`GENERATIONS`].
    pub generation: u32,
}

/// Generations wrap after this many: 24 bits, so that a ring's `user_data` has room for an operation.
pub const GENERATIONS: u32 = 1 << 24;

impl Token {
    /// The token in the low 56 bits, generation above slot. The top 8 bits are free for the caller.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// Reads a token from the low 56 bits and ignores the top 8.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each half is masked to its width")]
    pub fn from_u64(value: u64) -> Token {
        Token { slot: value as u32, generation: (value >> 32) as u32 & (GENERATIONS - 1) }
    }
}

struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

/// The table grows by this many slots at a time. Rows never move when it grows.
const ROW_SLOTS: usize = 256;

/// A growing table. Free slots are reused last in, first out, because recent ones are still in the CPU cache.
pub struct Slots<T> {
    /// All full except the last.
    rows: Vec<Vec<Slot<T>>>,
    vacant: Vec<u32>,
    length: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { rows: Vec::new(), vacant: Vec::new(), length: 0 }
    }
}

impl<T> Slots<T> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Slots::default()
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// At 2³² entries, more than any descriptor limit allows.
    pub fn insert(&mut self, entry: T) -> Token {
        self.length += 1;
        if let Some(slot) = self.vacant.pop()
            && let Some(place) = self.place_mut(slot)
        {
            place.entry = Some(entry);
            return Token { slot, generation: place.generation };
        }
        if self.rows.last().is_none_or(|row| row.len() == ROW_SLOTS) {
            self.rows.push(Vec::with_capacity(ROW_SLOTS));
        }
        let last = self.rows.len() - 1;
        let row = &mut self.rows[last];
        let slot = u32::try_from(last * ROW_SLOTS + row.len()).expect("fewer than 2^32 connections");
        row.push(Slot { generation: 0, entry: Some(entry) });
        Token { slot, generation: 0 }
    }

    /// The entry with this token, unless it has been removed.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let place = self.place_mut(token.slot)?;
        if place.generation == token.generation { place.entry.as_mut() } else { None }
    }

    /// The entry with this token, unless it has been removed.
    #[must_use]
    pub fn get(&self, token: Token) -> Option<&T> {
        let place = self.place(token.slot)?;
        if place.generation == token.generation { place.entry.as_ref() } else { None }
    }

    /// Removes an entry; all copies of its token are stale from now on.
    pub fn remove(&mut self, token: Token) -> Option<T> {
        let place = self.place_mut(token.slot)?;
        if place.generation != token.generation {
            return None;
        }
        let entry = place.entry.take()?;
        place.generation = (place.generation + 1) % GENERATIONS;
        self.vacant.push(token.slot);
        self.length -= 1;
        Some(entry)
    }

    /// The token of the entry that is in this slot now.
    #[must_use]
    pub fn token_at(&self, slot: u32) -> Option<Token> {
        let place = self.place(slot)?;
        place.entry.as_ref().map(|_| Token { slot, generation: place.generation })
    }

    /// The tokens of all entries, in slot order.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        (0u32..)
            .zip(self.rows.iter().flatten())
            .filter(|(_, place)| place.entry.is_some())
            .map(|(slot, place)| Token { slot, generation: place.generation })
    }

    fn place(&self, slot: u32) -> Option<&Slot<T>> {
        let slot = slot as usize;
        self.rows.get(slot / ROW_SLOTS)?.get(slot % ROW_SLOTS)
    }

    fn place_mut(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        let slot = slot as usize;
        self.rows.get_mut(slot / ROW_SLOTS)?.get_mut(slot % ROW_SLOTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_token_finds_nothing() {
        let mut slots = Slots::new();
        assert!(slots.is_empty());
        let first = slots.insert("first");
        assert!(!slots.is_empty());
        assert_eq!(slots.remove(first), Some("first"));
        assert!(slots.is_empty());
        let second = slots.insert("second");
        assert_eq!(second.slot, first.slot, "the free slot is reused");
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!(slots.token_at(second.slot), Some(second));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn tokens_round_trip_through_a_u64() {
        for token in [
            Token { slot: 0, generation: 0 },
            Token { slot: u32::MAX, generation: GENERATIONS - 1 },
            Token { slot: 7, generation: 9 },
        ] {
            assert_eq!(Token::from_u64(token.to_u64()), token);
            assert_eq!(Token::from_u64(token.to_u64() | 0xff << 56), token, "the top bits are the caller's");
        }
    }

    #[test]
    fn generations_wrap() {
        let mut slots = Slots::new();
        slots.insert(());
        slots.rows[0][0].generation = GENERATIONS - 1;
        let last = slots.token_at(0).expect("occupied");
        assert!(slots.remove(last).is_some());
        assert_eq!(slots.insert(()).generation, 0);
    }

    #[test]
    fn a_table_of_several_rows_finds_every_entry() {
        let mut slots = Slots::new();
        let tokens: Vec<_> = (0..3 * ROW_SLOTS + 1).map(|n| slots.insert(n)).collect();
        assert!(tokens.iter().enumerate().all(|(n, token)| slots.get(*token) == Some(&n)));
        assert_eq!(slots.tokens().collect::<Vec<_>>(), tokens);
        assert_eq!(slots.get(Token { slot: u32::MAX, generation: 0 }), None, "no such slot");
        let between = tokens[ROW_SLOTS];
        assert_eq!(slots.remove(between), Some(ROW_SLOTS));
        assert_eq!(slots.len(), 3 * ROW_SLOTS);
        assert_eq!(slots.insert(0).slot, between.slot, "the free slot is reused");
    }

    #[test]
    fn tokens_lists_all_entries() {
        let mut slots = Slots::new();
        let tokens: Vec<_> = (0..4).map(|n| slots.insert(n)).collect();
        slots.remove(tokens[1]);
        assert_eq!(slots.tokens().collect::<Vec<_>>(), [tokens[0], tokens[2], tokens[3]]);
    }
}

//! Verifiable content: every byte is a function of the file's seed and the byte's position, so any range of any file
//! can be checked without storing it, and a failure names the first wrong byte.

use libtest_mimic::Failed;

const WORD_BYTES: u64 = 8;

/// The content of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

impl Pattern {
    /// The content for this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Pattern {
        Pattern { seed }
    }

    /// The bytes from `start` on.
    #[must_use]
    pub fn bytes(self, start: u64, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 2 * 8);
        let mut index = start / WORD_BYTES;
        let skip = usize::try_from(start % WORD_BYTES).expect("less than 8");
        while bytes.len() < count + skip {
            bytes.extend_from_slice(&self.word(index));
            index += 1;
        }
        bytes.truncate(count + skip);
        bytes.drain(..skip);
        bytes
    }

    /// Checks the bytes received for positions from `start` on.
    ///
    /// # Errors
    /// If they differ: the first position.
    pub fn check(self, start: u64, received: &[u8]) -> Result<(), Failed> {
        let expected = self.bytes(start, received.len());
        if expected == received {
            return Ok(());
        }
        let first =
            expected.iter().zip(received).position(|(expected, received)| expected != received).unwrap_or(0);
        Err(format!(
            "byte {} of the file is {:#04x} instead of {:#04x}",
            start + first as u64,
            received[first],
            expected[first]
        )
        .into())
    }

    /// A scrambled word (the finalizer of splitmix64), so that neighbouring words and different files have nothing in
    /// common.
    fn word(self, index: u64) -> [u8; 8] {
        let mut word = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    }
}

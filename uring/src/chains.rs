//! Chains: pairs of submission queue entries that must be submitted together.
//!
//! The kernel ends a chain at the end of a submission. If it runs out of memory between a READ and the SEND linked to
//! it, it takes only the READ. The SEND would go with the next submission, unlinked, and would send the buffer's
//! previous content.

use std::collections::VecDeque;

use common::Token;
use io_uring::squeue::Entry as Sqe;

/// Where the chains are that the kernel hasn't taken yet.
#[derive(Default)]
pub(crate) struct Chains {
    /// The number of entries ever pushed, modulo 2³²: the tail of the submission queue.
    pushed: u32,
    /// The position of a chain's first entry, and its operation.
    queued: VecDeque<(u32, Token)>,
}

impl Chains {
    /// Call after pushing an entry, or a chain of two.
    pub(crate) fn on_pushed(&mut self, entries: &[Sqe]) {
        if let [first, _second] = entries {
            self.queued.push_back((self.pushed, Token::from_u64(first.get_user_data())));
        }
        for _ in entries {
            self.pushed = self.pushed.wrapping_add(1);
        }
    }

    /// Call when the kernel has taken all but the last `left` entries. Returns the operation whose chain was torn, if
    /// any.
    pub(crate) fn on_submitted(&mut self, left: u32) -> Option<Token> {
        let head = self.pushed.wrapping_sub(left);
        let mut last_begun = None;
        while let Some((first, _)) = self.queued.front()
            && first.wrapping_sub(head) >= left
        {
            last_begun = self.queued.pop_front();
        }
        last_begun.filter(|(first, _)| left > 0 && first.wrapping_add(1) == head).map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::opcode::Nop;

    #[test]
    fn a_chain_is_torn_only_between_its_entries() {
        let entry = |slot| Nop::new().build().user_data(Token { slot, generation: 0 }.to_u64());
        // The queue: a chain, a single entry, a chain, a chain. For each number of entries left, the torn operation.
        let expected = [None, Some(3), None, Some(2), None, None, Some(0), None];
        for (left, torn) in (0..).zip(expected) {
            let mut chains = Chains { pushed: u32::MAX - 2, ..Chains::default() };
            chains.on_pushed(&[entry(0), entry(0)]);
            chains.on_pushed(&[entry(1)]);
            chains.on_pushed(&[entry(2), entry(2)]);
            chains.on_pushed(&[entry(3), entry(3)]);
            assert_eq!(chains.on_submitted(left).map(|place| place.slot), torn, "{left} left");
            assert_eq!(chains.on_submitted(left), None, "told once");
            assert_eq!(chains.on_submitted(0), None);
            assert!(chains.queued.is_empty());
        }
    }
}

//! Operations with two variants: optimized, or with the optimization disabled.

use std::ptr;

use common::{Token, Tune};
use io_uring::opcode;
use io_uring::squeue::Entry as Sqe;
use io_uring::types::Fd;

use super::{Flight, Pair, Ring, Socket};

/// Starts a receive.
type Receive = fn(&mut Ring, Token, &Socket) -> Flight;

/// The variant of each operation, chosen when the ring is created.
pub(super) struct Ways {
    pub(super) accept: fn(Fd) -> Sqe,
    pub(super) receive: Receive,
    pub(super) receive_first: Receive,
    pub(super) pair: Pair,
    /// Whether operations are batched into one submission.
    pub(super) batches: bool,
}

impl Ways {
    pub(super) fn without(disabled: &[Tune]) -> Ways {
        let has = |switch| !disabled.contains(&switch);
        Ways {
            accept: if has(Tune::SingleAccept) { accept_multishot } else { accept_once },
            receive: if has(Tune::SingleReceive) {
                Ring::receive_provided::<true>
            } else {
                Ring::receive_once
            },
            receive_first: if has(Tune::SingleReceive) {
                Ring::receive_provided::<false>
            } else {
                Ring::receive_once
            },
            pair: if has(Tune::UnlinkedSend) { Ring::pair_linked } else { Ring::pair_unlinked },
            batches: has(Tune::Unbatched),
        }
    }
}

fn accept_multishot(listener: Fd) -> Sqe {
    opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build()
}

fn accept_once(listener: Fd) -> Sqe {
    opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
}

//! The operations that there are two ways for.

use std::ptr;

use common::{Token, Tune};
use io_uring::opcode;
use io_uring::squeue::Entry as Sqe;
use io_uring::types::Fd;

use super::{Flight, Pair, Ring, Socket};

/// Starts a receive.
type Receive = fn(&mut Ring, Token, &Socket) -> Flight;

/// With a technique, or without it; chosen when the ring is made.
pub(super) struct Ways {
    pub(super) accept: fn(Fd) -> Sqe,
    pub(super) receive: Receive,
    pub(super) receive_first: Receive,
    pub(super) pair: Pair,
    /// Whether an operation waits for others to be submitted with.
    pub(super) batches: bool,
}

impl Ways {
    pub(super) fn without(techniques: &[Tune]) -> Ways {
        let has = |technique| !techniques.contains(&technique);
        Ways {
            accept: if has(Tune::SingleAccept) { accept_on } else { accept_once },
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

fn accept_on(listener: Fd) -> Sqe {
    opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build()
}

fn accept_once(listener: Fd) -> Sqe {
    opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
}

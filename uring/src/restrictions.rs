//! What a ring is allowed to do, from the moment that it is enabled: what this server does, and nothing else.
//!
//! The kernel carries out a ring's operations past any seccomp filter. So a ring is made disabled
//! (`IORING_SETUP_R_DISABLED`, Linux 5.10), given the list of its operations, and enabled; nothing can take the list back
//! (io_uring_register(2), `IORING_REGISTER_RESTRICTIONS`). Any other operation fails with `EACCES`.

use std::io;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{Submitter, opcode};

/// The operations that [`Ring`](crate::ring::Ring) knows.
const OPERATIONS: [u8; 11] = [
    opcode::Accept::CODE,
    opcode::AsyncCancel2::CODE,
    opcode::Close::CODE,
    opcode::Nop::CODE,
    opcode::OpenAt2::CODE,
    opcode::PollAdd::CODE,
    opcode::PollRemove::CODE,
    opcode::Read::CODE,
    opcode::Recv::CODE,
    opcode::Send::CODE,
    opcode::SendMsg::CODE,
];

/// The call with which a ring ends (`IORING_UNREGISTER_RING_FDS`, Linux 5.18).
const UNREGISTER_RING_FDS: u8 = 21;

/// Restricts a disabled ring to what it is for, and enables it. To be called once all else has been registered.
pub(crate) fn restrict_and_enable(submitter: &Submitter<'_>) -> io::Result<()> {
    let flags = Flags::BUFFER_SELECT | Flags::IO_LINK | Flags::SKIP_SUCCESS;
    let mut restrictions: Vec<_> = OPERATIONS.into_iter().map(Restriction::sqe_op).collect();
    restrictions.push(Restriction::sqe_flags_allowed(flags.bits()));
    restrictions.push(Restriction::register_op(UNREGISTER_RING_FDS));
    submitter.register_restrictions(&mut restrictions)?;
    submitter.register_enable_rings()
}

//! Operations: what is started, what it owns while it is in flight, and what it comes to.
//!
//! The rules of ownership are [`ring`](crate::ring)'s; this is the list of what they hold for.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use arrayvec::ArrayVec;
use common::machine::chunks::PIECES_MAX;
use common::{FileBytes, OpenRequest, SharedFile, SharedPiece, Token};
use io_uring::opcode;
use io_uring::squeue::Entry as Sqe;
use io_uring::types::Fd;
use rustix::net::{self, Shutdown};

use crate::buffers::{ReadBuffer, Received};

/// A socket, shared by a client and its operations in flight. A number that the kernel will look up later
/// must still mean the same socket then.
pub type Socket = Rc<OwnedFd>;

/// A part of a file, and the bytes that go before it.
pub struct FilePart<'a> {
    /// The bytes in front: at most [`HEAD_ROOM_BYTES`](crate::buffers::HEAD_ROOM_BYTES).
    pub head: &'a [u8],
    /// The file.
    pub file: &'a Arc<SharedFile>,
    /// Where the part begins.
    pub offset: u64,
    /// How long it is; the operation carries as much of it as fits a buffer.
    pub length: u64,
}

/// An operation in flight, for [`Ring::cancel`](crate::ring::Ring::cancel). It outlives its operation without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight(pub(crate) Token);

/// What has happened. `token` is the one that the operation was started with.
pub enum Completion {
    /// A connection was accepted, or can't be. `armed`: the accept goes on.
    Accepted {
        /// Of the listener.
        token: Token,
        /// The new socket.
        result: io::Result<OwnedFd>,
        /// Whether more will come without another [`Ring::arm_accept`](crate::ring::Ring::arm_accept).
        armed: bool,
    },
    /// Bytes have arrived; `None`: the client closed its side.
    Received {
        /// Of the client.
        token: Token,
        /// The bytes.
        result: io::Result<Option<Received>>,
        /// Whether more will come without another [`Ring::arm_recv`](crate::ring::Ring::arm_recv).
        armed: bool,
    },
    /// Bytes of a [`Ring::send`](crate::ring::Ring::send) or a
    /// [`Ring::read_then_send`](crate::ring::Ring::read_then_send) have left, in order; or the send has failed.
    Sent {
        /// Of the client.
        token: Token,
        /// How many, since the last report.
        result: io::Result<usize>,
        /// Whether the rest is on its way.
        armed: bool,
    },
    /// The read of a [`Ring::read_then_send`](crate::ring::Ring::read_then_send) failed, or the file ended early: nothing
    /// was sent, and the send will not happen.
    ReadShort {
        /// Of the client.
        token: Token,
    },
    /// A [`Ring::read`](crate::ring::Ring::read) is over.
    Read {
        /// Of the client.
        token: Token,
        /// As much as was there.
        result: io::Result<FileBytes>,
    },
    /// An [`Ring::open`](crate::ring::Ring::open) is over.
    Opened {
        /// Of the client.
        token: Token,
        /// What was asked for.
        request: Arc<OpenRequest>,
        /// The open file.
        result: io::Result<OwnedFd>,
    },
    /// A [`Ring::poll_readable`](crate::ring::Ring::poll_readable) is over: the descriptor is readable. Or a
    /// [`Ring::poll_writable`](crate::ring::Ring::poll_writable): the socket has room. Or there is an error to be met.
    Polled {
        /// Of whoever polls.
        token: Token,
    },
}

/// Pieces of memory that are sent with one SENDMSG (sendmsg(2)). It lies on the heap: the kernel looks at the header and
/// the slices when the operation begins; the pieces belong to it until it ends.
pub(crate) struct Message {
    header: libc::msghdr,
    slices: [libc::iovec; PIECES_MAX],
    /// None while the memory waits to be used again.
    pieces: ArrayVec<SharedPiece, PIECES_MAX>,
    more: bool,
}

impl Message {
    /// Memory for messages. The header is an empty one.
    pub(crate) fn new(header: libc::msghdr) -> Box<Message> {
        let nowhere = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Box::new(Message { header, slices: [nowhere; PIECES_MAX], pieces: ArrayVec::new(), more: false })
    }

    /// Takes pieces over. `more`: what follows belongs to them (`MSG_MORE`).
    pub(crate) fn fill(&mut self, pieces: ArrayVec<SharedPiece, PIECES_MAX>, more: bool) {
        self.pieces = pieces;
        self.more = more;
    }

    /// Lets go of the pieces.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
    }

    /// The SENDMSG of what has not left yet, if there is anything left of it.
    fn rest(&mut self, socket: &Socket) -> Option<Sqe> {
        if self.pieces.iter().all(|piece| piece.bytes().is_empty()) {
            return None;
        }
        for (slice, piece) in self.slices.iter_mut().zip(&self.pieces) {
            let bytes = piece.bytes();
            *slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        }
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.pieces.len() as _;
        let send = opcode::SendMsg::new(Fd(socket.as_raw_fd()), &raw const self.header);
        Some(send.flags(send_flags(self.more).cast_unsigned()).build())
    }

    /// So many bytes have left, of the first piece, then of the next.
    fn advance(&mut self, bytes: usize) {
        let mut left = bytes;
        for piece in &mut self.pieces {
            left = piece.advance(left);
        }
    }
}

/// What an operation in flight owns.
pub(crate) enum Memory {
    Accept {
        _listener: Rc<OwnedFd>,
    },
    Receive {
        _socket: Socket,
    },
    /// A RECV into memory of its own.
    ReceiveOnce {
        _socket: Socket,
        bytes: Vec<u8>,
    },
    Send {
        socket: Socket,
        piece: SharedPiece,
        more: bool,
    },
    /// A SENDMSG of several pieces.
    Message {
        socket: Socket,
        message: Box<Message>,
    },
    /// A READ alone, into memory of its own.
    Read {
        _file: Arc<SharedFile>,
        bytes: FileBytes,
    },
    /// A READ and the SEND that is linked behind it, or the SEND alone.
    Pair {
        socket: Socket,
        _file: Arc<SharedFile>,
        buffer: ReadBuffer,
        more: bool,
    },
    /// The SEND of a [`Pair`](Memory::Pair) whose READ was taken without it. What both name is leaked.
    Abandoned {
        _socket: Socket,
    },
    /// An OPENAT2: the request owns its path, and its site the root and the way to open.
    Open {
        request: Arc<OpenRequest>,
    },
    Poll {
        _descriptor: Rc<OwnedFd>,
    },
}

impl Memory {
    /// The SEND of what has not left yet, if this is something to be sent and there is anything left of it.
    pub(crate) fn rest(&mut self) -> Option<Sqe> {
        let (socket, (bytes, length), more) = match self {
            Memory::Send { socket, piece, more } => {
                let unsent = piece.bytes();
                (socket, (unsent.as_ptr(), unsent.len()), *more)
            }
            Memory::Pair { socket, buffer, more, .. } => (socket, buffer.unsent(), *more),
            Memory::Message { socket, message } => return message.rest(socket),
            Memory::Accept { .. }
            | Memory::Receive { .. }
            | Memory::ReceiveOnce { .. }
            | Memory::Read { .. }
            | Memory::Abandoned { .. }
            | Memory::Open { .. }
            | Memory::Poll { .. } => return None,
        };
        let send = opcode::Send::new(Fd(socket.as_raw_fd()), bytes, length_of(length));
        (length > 0).then(|| send.flags(send_flags(more)).build())
    }

    /// So many bytes have left.
    pub(crate) fn advance(&mut self, bytes: usize) {
        match self {
            Memory::Send { piece, .. } => drop(piece.advance(bytes)),
            Memory::Message { message, .. } => message.advance(bytes),
            Memory::Pair { buffer, .. } => buffer.advance(bytes),
            Memory::Accept { .. }
            | Memory::Receive { .. }
            | Memory::ReceiveOnce { .. }
            | Memory::Read { .. }
            | Memory::Abandoned { .. }
            | Memory::Open { .. }
            | Memory::Poll { .. } => {}
        }
    }

    /// Makes sure that a SEND which the kernel has yet to take sends nothing: the socket is shut for it. What
    /// its READ may still write into is the caller's to keep.
    pub(crate) fn abandon(&mut self) -> Option<ReadBuffer> {
        let Memory::Pair { socket, .. } = self else { return None };
        // It only fails on a socket that isn't connected any more, which takes no bytes either.
        let _shut = net::shutdown(&*socket, Shutdown::Write);
        let abandoned = Memory::Abandoned { _socket: Rc::clone(socket) };
        match mem::replace(self, abandoned) {
            Memory::Pair { buffer, .. } => Some(buffer),
            _ => None,
        }
    }

    /// Gives up the memory that the kernel may still touch; closes the rest.
    pub(crate) fn leak(self) {
        match self {
            // What receives write into is the ring's, which leaks it once for all of them.
            Memory::Accept { .. } | Memory::Receive { .. } | Memory::Poll { .. } => {}
            // The ring leaked it when it gave it up.
            Memory::Abandoned { .. } => {}
            Memory::Send { piece, .. } => mem::forget(piece),
            Memory::Message { message, .. } => mem::forget(message),
            Memory::Read { bytes, .. } => mem::forget(bytes),
            Memory::ReceiveOnce { bytes, .. } => mem::forget(bytes),
            Memory::Pair { buffer, .. } => mem::forget(buffer),
            Memory::Open { request } => mem::forget(request),
        }
    }
}

/// An operation in flight, for whom, and what it owns.
pub(crate) struct InFlight {
    pub(crate) token: Token,
    pub(crate) memory: Memory,
}

/// The kind of an operation: the top byte of `user_data`, above place and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Accept = 1,
    Receive,
    ReceiveOnce,
    Send,
    /// A READ that stands alone, or that a SEND is linked behind.
    Read,
    /// A READ that a SEND will follow.
    ReadFirst,
    Open,
    Poll,
    Close,
    Cancel,
}

impl Operation {
    const ALL: [Operation; 10] = [
        Operation::Accept,
        Operation::Receive,
        Operation::ReceiveOnce,
        Operation::Send,
        Operation::Read,
        Operation::ReadFirst,
        Operation::Open,
        Operation::Poll,
        Operation::Close,
        Operation::Cancel,
    ];

    pub(crate) fn user_data(self, place: Token) -> u64 {
        (self as u64) << 56 | place.to_u64()
    }

    pub(crate) fn of(user_data: u64) -> Option<Operation> {
        let index = usize::try_from(user_data >> 56).ok()?.checked_sub(1)?;
        Operation::ALL.get(index).copied()
    }
}

/// No signal on a broken connection, and `MSG_MORE` if what follows belongs to it.
fn send_flags(more: bool) -> i32 {
    libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 }
}

/// Lengths of an entry have 32 bits.
pub(crate) fn length_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a buffer is shorter than 4 GiB")
}

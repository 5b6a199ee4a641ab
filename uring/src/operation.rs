//! Operations: what can be started, what each owns while in flight, and its result.
//!
//! The ownership rules are in [`ring`](crate::ring).

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

/// A socket, shared by a client and its operations in flight. The kernel may look up the descriptor later, when it must
/// still refer to the same socket.
pub type Socket = Rc<OwnedFd>;

/// A part of a file, preceded by a head.
pub struct FilePart<'a> {
    /// Sent before the part: at most [`HEAD_ROOM_BYTES`](crate::buffers::HEAD_ROOM_BYTES).
    pub head: &'a [u8],
    /// The file.
    pub file: &'a Arc<SharedFile>,
    /// Offset of the part.
    pub offset: u64,
    /// Length of the part; one operation sends as much of it as fits a buffer.
    pub length: u64,
}

/// An operation in flight, for [`Ring::cancel`](crate::ring::Ring::cancel). Harmless after the operation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight(pub(crate) Token);

/// A completed step of an operation. `token` is the one passed when the operation was started.
pub enum Completion {
    /// A connection was accepted, or accepting failed.
    Accepted {
        /// The listener.
        token: Token,
        /// The new socket.
        result: io::Result<OwnedFd>,
        /// Whether more will come without another [`Ring::arm_accept`](crate::ring::Ring::arm_accept).
        armed: bool,
    },
    /// Bytes were received; `None` if the client has closed its side.
    Received {
        /// The client.
        token: Token,
        /// The bytes.
        result: io::Result<Option<Received>>,
        /// Whether more will come without another [`Ring::arm_recv`](crate::ring::Ring::arm_recv).
        armed: bool,
    },
    /// Bytes of a [`Ring::send`](crate::ring::Ring::send) or a
    /// [`Ring::read_then_send`](crate::ring::Ring::read_then_send) were sent, in order, or the send failed.
    Sent {
        /// The client.
        token: Token,
        /// Number of bytes since the last report.
        result: io::Result<usize>,
        /// Whether the rest is being sent.
        armed: bool,
    },
    /// The read of a [`Ring::read_then_send`](crate::ring::Ring::read_then_send) failed, or the file ended early.
    /// Nothing was sent, and nothing will be.
    ReadShort {
        /// The client.
        token: Token,
    },
    /// A [`Ring::read`](crate::ring::Ring::read) has completed.
    Read {
        /// The client.
        token: Token,
        /// The bytes; fewer than requested if the file ends early.
        result: io::Result<FileBytes>,
    },
    /// An [`Ring::open`](crate::ring::Ring::open) has completed.
    Opened {
        /// The client.
        token: Token,
        /// The request.
        request: Arc<OpenRequest>,
        /// The open file.
        result: io::Result<OwnedFd>,
    },
    /// A [`Ring::poll_readable`](crate::ring::Ring::poll_readable) or
    /// [`Ring::poll_writable`](crate::ring::Ring::poll_writable) has completed: the descriptor is readable, the socket
    /// has room, or there is an error to report.
    Polled {
        /// The polling client or listener.
        token: Token,
    },
}

/// Pieces of memory sent with one SENDMSG (sendmsg(2)). Kept on the heap: the kernel reads the header and the slices
/// when the operation begins, and the pieces until it ends.
pub(crate) struct Message {
    header: libc::msghdr,
    slices: [libc::iovec; PIECES_MAX],
    /// Empty while the message is idle.
    pieces: ArrayVec<SharedPiece, PIECES_MAX>,
    more: bool,
}

impl Message {
    /// An empty message.
    pub(crate) fn new(header: libc::msghdr) -> Box<Message> {
        let nowhere = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Box::new(Message { header, slices: [nowhere; PIECES_MAX], pieces: ArrayVec::new(), more: false })
    }

    /// Fills in the pieces. `more`: more data of the same response follows (`MSG_MORE`).
    pub(crate) fn fill(&mut self, pieces: ArrayVec<SharedPiece, PIECES_MAX>, more: bool) {
        self.pieces = pieces;
        self.more = more;
    }

    /// Releases the pieces.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
    }

    /// The SENDMSG for the unsent rest, if any.
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

    /// Marks this many bytes as sent, in order.
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
    /// A RECV into its own buffer.
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
    /// A READ without a SEND.
    Read {
        _file: Arc<SharedFile>,
        bytes: FileBytes,
    },
    /// A READ and its linked SEND, or the SEND alone.
    Pair {
        socket: Socket,
        _file: Arc<SharedFile>,
        buffer: ReadBuffer,
        more: bool,
    },
    /// The SEND of a [`Pair`](Memory::Pair) whose READ was submitted without it. The memory both refer to is leaked.
    Abandoned {
        _socket: Socket,
    },
    /// An OPENAT2. The request owns its path; its site owns the root and the open flags.
    Open {
        request: Arc<OpenRequest>,
    },
    Poll {
        _descriptor: Rc<OwnedFd>,
    },
}

impl Memory {
    /// The SEND for the unsent rest, if this operation sends and anything is left.
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

    /// Marks this many bytes as sent.
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

    /// Makes sure that a SEND still in the submission queue sends nothing, by shutting down the socket. The caller must
    /// keep the returned buffer alive: the READ may still write into it.
    pub(crate) fn abandon(&mut self) -> Option<ReadBuffer> {
        let Memory::Pair { socket, .. } = self else { return None };
        // Fails only if the socket isn't connected any more; then nothing can be sent either.
        let _shut = net::shutdown(&*socket, Shutdown::Write);
        let abandoned = Memory::Abandoned { _socket: Rc::clone(socket) };
        match mem::replace(self, abandoned) {
            Memory::Pair { buffer, .. } => Some(buffer),
            _ => None,
        }
    }

    /// Leaks the memory the kernel may still access, and closes everything else.
    pub(crate) fn leak(self) {
        match self {
            // Receives write into the ring's buffers, which the ring leaks as a whole.
            Memory::Accept { .. } | Memory::Receive { .. } | Memory::Poll { .. } => {}
            // The ring leaked the buffer when it abandoned the operation.
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

/// An operation in flight: its client and what it owns.
pub(crate) struct InFlight {
    pub(crate) token: Token,
    pub(crate) memory: Memory,
}

/// The kind of an operation, stored in the top byte of `user_data`, above slot and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Accept = 1,
    Receive,
    ReceiveOnce,
    Send,
    /// A READ alone, or one with a linked SEND.
    Read,
    /// A READ whose SEND is submitted after its completion.
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

/// No SIGPIPE on a broken connection; `MSG_MORE` if more data of the same response follows.
fn send_flags(more: bool) -> i32 {
    libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 }
}

/// Entry lengths have 32 bits.
pub(crate) fn length_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a buffer is shorter than 4 GiB")
}

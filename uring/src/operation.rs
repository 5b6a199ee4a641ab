//! Operations: what is started, what it owns while it is in flight, and what it comes to.
//!
//! The rules of ownership are [`ring`](crate::ring)'s; this is the list of what they hold for.

use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use common::file_bytes::FileBytes;
use common::site::{OpenHow, OpenRequest, SharedFile};
use common::slots::Token;
use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::{self, Fd};
use rustix::net::{self, Shutdown};

use crate::buffers::{ReadBuffer, RecvBuffer, SingleBuffer};

/// A socket, shared by a client and its operations in flight. A number that the kernel will look up later
/// must still mean the same socket then.
pub type Socket = Rc<OwnedFd>;

/// Where to open: below which directory, and how (openat2(2)).
pub struct Beneath {
    pub(crate) root: Rc<OwnedFd>,
    pub(crate) how: Rc<types::OpenHow>,
}

impl Beneath {
    /// Everything is opened below `root`, in this way.
    #[must_use]
    pub fn new(root: OwnedFd, how: OpenHow) -> Beneath {
        let OpenHow { flags, mode, resolve } = how;
        Beneath {
            root: Rc::new(root),
            how: Rc::new(types::OpenHow::new().flags(flags).mode(mode).resolve(resolve)),
        }
    }
}

/// A piece of a file, and the bytes that go before it.
pub struct Piece<'a> {
    /// The bytes in front: at most [`HEAD_ROOM_BYTES`](crate::buffers::HEAD_ROOM_BYTES).
    pub head: &'a [u8],
    /// The file.
    pub file: &'a Arc<SharedFile>,
    /// Where the piece begins.
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
        result: io::Result<Option<RecvBuffer>>,
        /// Whether more will come without another [`Ring::arm_recv`](crate::ring::Ring::arm_recv).
        armed: bool,
    },
    /// Bytes have arrived for a receive that was for once; `None`: the client closed its side.
    ReceivedOnce {
        /// Of the client.
        token: Token,
        /// The bytes.
        result: io::Result<Option<SingleBuffer>>,
    },
    /// Bytes of a [`Ring::send`](crate::ring::Ring::send) have left; or it has failed.
    Sent {
        /// Of the client.
        token: Token,
        /// How many, since the last report.
        result: io::Result<usize>,
        /// Whether the rest is on its way.
        armed: bool,
    },
    /// The read of a [`Ring::read_then_send`](crate::ring::Ring::read_then_send) failed, or the file ended early. Nothing was sent, and the send
    /// will not happen.
    FileRead {
        /// Of the client.
        token: Token,
        /// How much was there.
        result: io::Result<usize>,
    },
    /// Bytes of a [`Ring::read_then_send`](crate::ring::Ring::read_then_send) have left, of its head and its file; or the send has failed.
    FileSent {
        /// Of the client.
        token: Token,
        /// How many, since the last report.
        result: io::Result<usize>,
        /// Whether the rest is on its way.
        armed: bool,
    },
    /// A [`Ring::read`](crate::ring::Ring::read) is over.
    Loaded {
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
    /// A [`Ring::poll_once`](crate::ring::Ring::poll_once) is over: the descriptor is readable. Or a
    /// [`Ring::poll_room`](crate::ring::Ring::poll_room): the socket has room. Or there is an error to be met.
    Polled {
        /// Of whoever polls.
        token: Token,
    },
}

/// Two pieces of memory that are sent with one SENDMSG (sendmsg(2)). It lies on the heap: the kernel looks at
/// the header and the places of the pieces when the operation begins, the pieces belong to it until it ends.
pub(crate) struct Message {
    header: libc::msghdr,
    places: [libc::iovec; 2],
    /// None while the memory waits to be used again.
    parts: Option<Parts>,
    unsent: [Range<usize>; 2],
}

/// The connection's own bytes, and those of a cached body.
struct Parts {
    output: Rc<Vec<u8>>,
    body: Arc<FileBytes>,
}

impl Message {
    /// Memory for messages. The header is an empty one.
    pub(crate) fn new(header: libc::msghdr) -> Box<Message> {
        let nowhere = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Box::new(Message { header, places: [nowhere; 2], parts: None, unsent: [0..0, 0..0] })
    }

    /// Takes both parts of an answer over.
    pub(crate) fn fill(
        &mut self,
        (output, of_output): (Rc<Vec<u8>>, Range<usize>),
        (body, of_body): (Arc<FileBytes>, Range<usize>),
    ) {
        self.parts = Some(Parts { output, body });
        self.unsent = [of_output, of_body];
    }

    /// Lets go of the parts.
    pub(crate) fn clear(&mut self) {
        self.parts = None;
    }

    /// The SENDMSG of what has not left yet, if there is anything left of it.
    fn rest(&mut self, socket: &Socket) -> Option<Entry> {
        let Parts { output, body } = self.parts.as_ref()?;
        let unsent = [&output[self.unsent[0].clone()], &body[self.unsent[1].clone()]];
        if unsent.iter().all(|piece| piece.is_empty()) {
            return None;
        }
        self.places = unsent
            .map(|piece| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() });
        self.header.msg_iov = self.places.as_mut_ptr();
        self.header.msg_iovlen = self.places.len() as _;
        let send = opcode::SendMsg::new(Fd(socket.as_raw_fd()), &raw const self.header);
        Some(send.flags(libc::MSG_NOSIGNAL.cast_unsigned()).build())
    }

    /// So many bytes have left: of the first piece, then of the second.
    fn advance(&mut self, bytes: usize) {
        let of_first = bytes.min(self.unsent[0].len());
        self.unsent[0].start += of_first;
        self.unsent[1].start += (bytes - of_first).min(self.unsent[1].len());
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
        output: Rc<Vec<u8>>,
        unsent: Range<u32>,
        more: bool,
    },
    /// A SENDMSG of two pieces.
    Message {
        socket: Socket,
        message: Box<Message>,
    },
    /// A READ alone, into memory of its own.
    Load {
        _file: Arc<SharedFile>,
        bytes: FileBytes,
    },
    /// A READ and the SEND that is linked behind it, or the SEND alone.
    Piece {
        socket: Socket,
        _file: Arc<SharedFile>,
        buffer: ReadBuffer,
        more: bool,
    },
    /// The SEND of a [`Piece`](Memory::Piece) whose READ was taken without it. What both name is leaked.
    Abandoned {
        _socket: Socket,
    },
    Open {
        _root: Rc<OwnedFd>,
        how: Rc<types::OpenHow>,
        request: Arc<OpenRequest>,
    },
    Poll {
        _descriptor: Rc<OwnedFd>,
    },
}

impl Memory {
    /// The SEND of what has not left yet, if this is something to be sent and there is anything left of it.
    pub(crate) fn rest(&mut self) -> Option<Entry> {
        let (socket, (bytes, length), more) = match self {
            Memory::Send { socket, output, unsent, more } => {
                let unsent = &output[unsent.start as usize..unsent.end as usize];
                (socket, (unsent.as_ptr(), unsent.len()), *more)
            }
            Memory::Piece { socket, buffer, more, .. } => (socket, buffer.unsent(), *more),
            Memory::Message { socket, message } => return message.rest(socket),
            Memory::Accept { .. }
            | Memory::Receive { .. }
            | Memory::ReceiveOnce { .. }
            | Memory::Load { .. }
            | Memory::Abandoned { .. }
            | Memory::Open { .. }
            | Memory::Poll { .. } => return None,
        };
        let more = if more { libc::MSG_MORE } else { 0 };
        let send = opcode::Send::new(Fd(socket.as_raw_fd()), bytes, length_of(length));
        (length > 0).then(|| send.flags(libc::MSG_NOSIGNAL | more).build())
    }

    /// So many bytes have left.
    pub(crate) fn advance(&mut self, bytes: usize) {
        match self {
            Memory::Send { unsent, .. } => unsent.start = unsent.end.min(unsent.start + length_of(bytes)),
            Memory::Message { message, .. } => message.advance(bytes),
            Memory::Piece { buffer, .. } => buffer.advance(bytes),
            Memory::Accept { .. }
            | Memory::Receive { .. }
            | Memory::ReceiveOnce { .. }
            | Memory::Load { .. }
            | Memory::Abandoned { .. }
            | Memory::Open { .. }
            | Memory::Poll { .. } => {}
        }
    }

    /// Makes sure that a SEND which the kernel has yet to take sends nothing: the socket is shut for it. What
    /// its READ may still write into is the caller's to keep.
    pub(crate) fn abandon(&mut self) -> Option<ReadBuffer> {
        let Memory::Piece { socket, .. } = self else { return None };
        // It only fails on a socket that isn't connected any more, which takes no bytes either.
        let _shut = net::shutdown(&*socket, Shutdown::Write);
        let abandoned = Memory::Abandoned { _socket: Rc::clone(socket) };
        match mem::replace(self, abandoned) {
            Memory::Piece { buffer, .. } => Some(buffer),
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
            Memory::Send { output, .. } => mem::forget(output),
            Memory::Message { message, .. } => mem::forget(message),
            Memory::Load { bytes, .. } => mem::forget(bytes),
            Memory::ReceiveOnce { bytes, .. } => mem::forget(bytes),
            Memory::Piece { buffer, .. } => mem::forget(buffer),
            Memory::Open { how, request, .. } => {
                mem::forget(how);
                mem::forget(request);
            }
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

/// Lengths of an entry have 32 bits.
pub(crate) fn length_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a buffer is shorter than 4 GiB")
}

//! A client of the loop: a socket, its machine, and what is known of both.

use std::os::fd::OwnedFd;

use common::{Chunks, Connection, Step};

use crate::poller::Interest;

/// A client. An idle one holds nothing else.
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    pub(crate) connection: Connection,
    pub(crate) waits: Waits,
    /// By the contract of edges, see [`poller`](crate::poller): may there be bytes, may there be space?
    pub(crate) incoming: Incoming,
    pub(crate) writable: bool,
    /// What the poller watches it for.
    pub(crate) registered: Interest,
}

/// What a receive may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// Nothing: the last one has emptied the socket.
    Nothing,
    /// Bytes.
    Bytes,
    /// The peer's last bytes. Only the end of the stream proves that all of them were read.
    LastBytes,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Bytes from the peer.
    Bytes,
    /// Space in the socket.
    Space,
    /// Its next turn; it is queued in `turns`.
    Turn,
    /// The result of its job in the pool.
    Job,
}

impl Client {
    /// What is to be sent, if something is.
    pub(crate) fn chunks(&self) -> Option<Chunks<'_>> {
        match self.connection.step() {
            Step::Send(chunks) => Some(chunks),
            Step::Receive | Step::Open(_) | Step::Read(_) | Step::Close(_) => None,
        }
    }
}

//! Steps: what a backend must do next.

use std::sync::Arc;

use crate::machine::chunks::Chunks;
use crate::site::file::FileRange;
use crate::site::open::OpenRequest;

/// What a backend must do next.
#[derive(Debug)]
pub enum Step<'a> {
    /// Wait for bytes, then report [`received`](crate::Connection::received).
    Receive,
    /// Open the file and look at what it is, then report [`opened`](crate::Connection::opened).
    Open(&'a Arc<OpenRequest>),
    /// Read these bytes of a file into memory, at most [`READ_BYTES_MAX`] of them, then report
    /// [`read`](crate::Connection::read).
    Read(FileRange<'a>),
    /// Send some of this, then report [`sent`](crate::Connection::sent).
    Send(Chunks<'a>),
    /// Close the connection; it is over.
    Close(Close),
}

/// Bytes that one [`Step::Read`] asks for at most.
pub const READ_BYTES_MAX: u64 = crate::site::cache::BODY_BYTES_MAX;

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Close our side (`SHUT_WR`), report [`half_closed`](crate::Connection::half_closed), and go on: what the client
    /// still sends is dropped for a while, so that its kernel doesn't destroy the answer (RFC 9112 §9.6).
    Graceful,
    /// close(2).
    Drop,
    /// Discard what the client hasn't taken; it sees a reset.
    Reset,
}

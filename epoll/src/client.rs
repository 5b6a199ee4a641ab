//! A client of the loop: a socket, its machine, and what is known of both.

use std::os::fd::OwnedFd;

use common::connection::{Connection, Send, Step};
use common::slots::{Slots, Token};
use rustix::io::IoSlice;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use crate::trigger::Edges;

/// A socket, its machine, and what is known of both. An idle one holds nothing else.
pub(crate) struct Client<T = Edges> {
    pub(crate) socket: OwnedFd,
    pub(crate) connection: Connection,
    pub(crate) waits: Waits,
    /// By the contract of edges, see [`poller`](crate::poller): may there be bytes, may there be space?
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has sent its last byte; only the end of the stream proves that all was read.
    pub(crate) hung_up: bool,
    /// What it is registered for.
    pub(crate) trigger: T,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Bytes from the peer.
    Bytes,
    /// Space in the socket.
    Space,
    /// Its next turn; it stands in `turns`.
    Turn,
    /// The result of its job in the pool.
    Job,
    /// Room in the pool for its job; it stands in `applicants`.
    Room,
}

/// The client's answer under way.
pub(crate) fn answer<T>(clients: &Slots<Client<T>>, token: Token) -> Option<(&Client<T>, Send<'_>)> {
    let client = clients.get(token)?;
    match client.connection.step() {
        Step::Send(answer) => Some((client, answer)),
        Step::Receive | Step::Open(_) | Step::Load(_) | Step::Close(_) => None,
    }
}

/// Sends what is in two places with one call.
pub(crate) fn send_both(socket: &OwnedFd, head: &[u8], body: &[u8]) -> rustix::io::Result<usize> {
    let slices = [IoSlice::new(head), IoSlice::new(body)];
    sendmsg(socket, &slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
}

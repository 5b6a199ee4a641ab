//! One connection of the client: what it waits for, and the step from there.
//!
//! The socket is registered edge-triggered, so each function here goes on until the kernel has no more for
//! it: a receive that brings less than was asked for has emptied the queue (epoll(7)), and what arrives
//! later is a new edge. The one exception is the end of the stream: when the event already said that the
//! peer has closed, there will be no further edge, and the connection reads on until it sees the end.

use crate::load::fault::Fault;
use crate::load::request::Request;
use crate::load::response::{HEAD_BYTES_MAX, Head, parse_head};
use crate::server::congestion;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_congestion;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::time::Instant;

/// The first receive of an answer asks for so much: the head, and with it the whole of a small body. The
/// rest of a large body never comes here.
const HEAD_BUFFER_BYTES: usize = 4 * 1024;

/// How much one receive may discard. The memory behind it is never touched: with `MSG_TRUNC`, TCP drops the
/// bytes in the kernel (tcp(7)), so the pages of this zeroed allocation are never made.
const DISCARD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How much of a body one receive takes while bodies are hashed.
const HASH_BUFFER_BYTES: usize = 256 * 1024;

/// What happens with the bodies.
pub(crate) enum Bodies {
    /// Counted and dropped within the kernel.
    Discarded,
    /// Received and hashed: one digest per connection.
    Hashed(Vec<Sha256>),
}

/// The memory that all connections of a client share while they receive.
pub(crate) struct Buffers {
    head: Vec<u8>,
    discard: Vec<u8>,
    hash: Vec<u8>,
    pub(crate) bodies: Bodies,
}

impl Buffers {
    pub(crate) fn new() -> Buffers {
        Buffers {
            head: vec![0; HEAD_BUFFER_BYTES],
            discard: vec![0; DISCARD_BYTES_MAX],
            hash: vec![0; HASH_BUFFER_BYTES],
            bodies: Bodies::Discarded,
        }
    }

    fn hash_start_of_body(&mut self, index: usize, received: usize, body_bytes: usize) {
        if let Bodies::Hashed(digests) = &mut self.bodies {
            digests[index].update(&self.head[received - body_bytes..received]);
        }
    }

    /// Receives up to `wanted` bytes of a body: how many came, and how many were asked for.
    fn take_body(
        &mut self,
        index: usize,
        socket: &OwnedFd,
        wanted: u64,
    ) -> rustix::io::Result<(usize, usize)> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        match &mut self.bodies {
            Bodies::Discarded => {
                let asked = wanted.min(self.discard.len());
                let (_, came) = recv(socket, &mut self.discard[..asked], RecvFlags::TRUNC)?;
                Ok((came, asked))
            }
            Bodies::Hashed(digests) => {
                let asked = wanted.min(self.hash.len());
                let (_, came) = recv(socket, &mut self.hash[..asked], RecvFlags::empty())?;
                digests[index].update(&self.hash[..came]);
                Ok((came, asked))
            }
        }
    }
}

/// What a connection waits for.
enum Phase {
    /// Nothing: no answer is owed.
    Idle,
    /// Room to send the rest of the request.
    Send { sent: usize },
    /// The head, or the rest of one that came in pieces.
    Head { partial: Vec<u8> },
    /// The rest of the body.
    Body { wire_bytes: u64, body_bytes: u64, remaining: u64 },
    /// The end of the stream, after the answer to a request that asked for it.
    End,
}

/// What an event has brought a connection to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// It waits for the next edge.
    Waiting,
    /// The answer is complete, and was so many bytes on the wire.
    Answered(u64),
    /// The server has closed its side, as it was asked to.
    Ended,
}

/// Whether the event said that the server has closed its side (`EPOLLRDHUP`, `EPOLLHUP`, `EPOLLERR`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Open,
    Gone,
}

/// One connection.
pub(crate) struct Connection {
    socket: OwnedFd,
    phase: Phase,
    started: Instant,
}

impl Connection {
    /// Begins to connect. On loopback the handshake is over when the call returns, though it says that it
    /// isn't: a send right after it succeeds.
    pub(crate) fn open(address: SocketAddr, now: Instant) -> Result<Connection, Fault> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            socket_with(family, SocketType::STREAM, flags, None).map_err(Fault::system("make a socket"))?;
        set_tcp_congestion(&socket, congestion::CONTROL)
            .map_err(Fault::system("choose the congestion control"))?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(Fault::System { doing: "connect", errno }),
        }
        Ok(Connection { socket, phase: Phase::Idle, started: now })
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// When the request that is under way began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Sends the request; service time counts from `now`.
    pub(crate) fn start(&mut self, request: &Request, now: Instant) -> Result<(), Fault> {
        self.started = now;
        self.send_rest(request, 0)
    }

    /// Whether the request has left whole, so that only the server can make this connection ready.
    pub(crate) fn has_sent(&self) -> bool {
        !matches!(self.phase, Phase::Send { .. })
    }

    fn send_rest(&mut self, request: &Request, mut sent: usize) -> Result<(), Fault> {
        let bytes = request.bytes();
        while sent < bytes.len() {
            match send(&self.socket, &bytes[sent..], SendFlags::NOSIGNAL) {
                Ok(n) => sent += n,
                Err(Errno::AGAIN) => {
                    self.phase = Phase::Send { sent };
                    return Ok(());
                }
                Err(errno) => return Err(Fault::System { doing: "send", errno }),
            }
        }
        self.phase = Phase::Head { partial: Vec::new() };
        Ok(())
    }

    /// Goes on after an event on connection number `index`.
    pub(crate) fn advance(
        &mut self,
        index: usize,
        request: &Request,
        buffers: &mut Buffers,
        peer: Peer,
    ) -> Result<Advance, Fault> {
        match &mut self.phase {
            Phase::Idle => self.check_silent(),
            Phase::Send { sent } => {
                let sent = *sent;
                self.send_rest(request, sent)?;
                Ok(Advance::Waiting)
            }
            Phase::Head { .. } => self.receive_head(index, request, buffers, peer),
            Phase::Body { .. } => self.receive_body(index, buffers, peer),
            Phase::End => self.receive_end(),
        }
    }

    fn receive_head(
        &mut self,
        index: usize,
        request: &Request,
        buffers: &mut Buffers,
        peer: Peer,
    ) -> Result<Advance, Fault> {
        let Phase::Head { partial } = &mut self.phase else {
            unreachable!("a head is received only while one is awaited");
        };
        loop {
            let came = match recv(&self.socket, &mut buffers.head[..], RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Fault::Closed),
                Ok((_, came)) => came,
                Err(Errno::AGAIN) => return Ok(Advance::Waiting),
                Err(errno) => return Err(Fault::System { doing: "receive", errno }),
            };
            // An answer's head nearly always comes in one piece, and is read where it lies.
            let received = if partial.is_empty() {
                &buffers.head[..came]
            } else {
                partial.extend_from_slice(&buffers.head[..came]);
                partial.as_slice()
            };
            let Some(head) = parse_head(received)? else {
                if partial.is_empty() {
                    partial.reserve(HEAD_BYTES_MAX);
                    partial.extend_from_slice(&buffers.head[..came]);
                }
                if came < HEAD_BUFFER_BYTES && peer == Peer::Open {
                    return Ok(Advance::Waiting);
                }
                continue;
            };
            let body_came = received.len() - head.head_bytes;
            self.phase = body_after(&head, body_came, request)?;
            buffers.hash_start_of_body(index, came, body_came);
            let drained = came < HEAD_BUFFER_BYTES && peer == Peer::Open;
            return match self.phase {
                Phase::Body { remaining, .. } if remaining > 0 && drained => Ok(Advance::Waiting),
                _ => self.receive_body(index, buffers, peer),
            };
        }
    }

    fn receive_body(&mut self, index: usize, buffers: &mut Buffers, peer: Peer) -> Result<Advance, Fault> {
        let Phase::Body { wire_bytes, body_bytes, remaining } = &mut self.phase else {
            unreachable!("a body is received only while one is awaited");
        };
        while *remaining > 0 {
            let (came, asked) = match buffers.take_body(index, &self.socket, *remaining) {
                Ok((0, _)) => {
                    return Err(Fault::Short { got: *body_bytes - *remaining, want: *body_bytes });
                }
                Ok(progress) => progress,
                Err(Errno::AGAIN) => return Ok(Advance::Waiting),
                Err(errno) => return Err(Fault::System { doing: "receive", errno }),
            };
            *remaining -= came as u64;
            if came < asked && peer == Peer::Open {
                return Ok(Advance::Waiting);
            }
        }
        let answered = Advance::Answered(*wire_bytes);
        self.phase = Phase::Idle;
        Ok(answered)
    }

    /// After the answer to a request that said `Connection: close`.
    pub(crate) fn await_end(&mut self) {
        self.phase = Phase::End;
    }

    fn receive_end(&mut self) -> Result<Advance, Fault> {
        let mut byte = [0];
        match recv(&self.socket, &mut byte, RecvFlags::empty()) {
            Ok((_, 0)) => Ok(Advance::Ended),
            Ok(_) => Err(Fault::Surplus),
            Err(Errno::AGAIN) => Ok(Advance::Waiting),
            Err(errno) => Err(Fault::System { doing: "receive the end", errno }),
        }
    }

    /// An event while nothing is owed: the server has closed, or sent what nobody asked for.
    fn check_silent(&mut self) -> Result<Advance, Fault> {
        match self.receive_end()? {
            Advance::Ended => Err(Fault::Closed),
            other => Ok(other),
        }
    }
}

/// Checks a head against what was expected, and says what of the body is still to come.
fn body_after(head: &Head, body_came: usize, request: &Request) -> Result<Phase, Fault> {
    let expected = request.expected();
    if head.status != expected.status {
        return Err(Fault::Status { got: head.status, want: expected.status });
    }
    if head.body_bytes != expected.body_bytes {
        return Err(Fault::Length { got: head.body_bytes, want: expected.body_bytes });
    }
    let remaining = head.body_bytes.checked_sub(body_came as u64).ok_or(Fault::Surplus)?;
    let wire_bytes = head.head_bytes as u64 + head.body_bytes;
    Ok(Phase::Body { wire_bytes, body_bytes: head.body_bytes, remaining })
}

//! One connection of the client: a state machine.
//!
//! The socket is registered edge-triggered, so each function reads until the socket would block: a receive
//! that returns less than was asked for has emptied the queue (epoll(7)). When the event already reported
//! that the peer has closed, there will be no further edge, and the connection reads on to the end of the
//! stream.

use crate::load::error::LoadError;
use crate::load::request::Request;
use crate::load::response::{HEAD_BYTES_MAX, Head, LastHead};
use crate::server::congestion;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_tcp_congestion};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;

/// The size of the first receive: the head and a whole small body.
const HEAD_BUFFER_BYTES: usize = 4 * 1024;

/// How much one receive may discard. The memory is never touched: with `MSG_TRUNC`, TCP drops the bytes in
/// the kernel (tcp(7)).
const DISCARD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The size of a receive while bodies are hashed.
const HASH_BUFFER_BYTES: usize = 256 * 1024;

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
    last_head: LastHead,
    pub(crate) bodies: Bodies,
}

impl Buffers {
    pub(crate) fn new() -> Buffers {
        Buffers {
            head: vec![0; HEAD_BUFFER_BYTES],
            discard: vec![0; DISCARD_BYTES_MAX],
            hash: vec![0; HASH_BUFFER_BYTES],
            last_head: LastHead::default(),
            bodies: Bodies::Discarded,
        }
    }

    fn hash_start_of_body(&mut self, digest: Option<usize>, received: usize, body_bytes: usize) {
        if let (Bodies::Hashed(digests), Some(digest)) = (&mut self.bodies, digest) {
            digests[digest].update(&self.head[received - body_bytes..received]);
        }
    }

    /// Receives up to `wanted` bytes of a body: how many came, and how many were asked for.
    fn take_body(
        &mut self,
        digest: Option<usize>,
        socket: &OwnedFd,
        wanted: usize,
    ) -> rustix::io::Result<(usize, usize)> {
        if let (Bodies::Hashed(digests), Some(digest)) = (&mut self.bodies, digest) {
            let asked = wanted.min(self.hash.len());
            let (_, came) = recv(socket, &mut self.hash[..asked], RecvFlags::empty())?;
            digests[digest].update(&self.hash[..came]);
            return Ok((came, asked));
        }
        let asked = wanted.min(self.discard.len());
        let (_, came) = recv(socket, &mut self.discard[..asked], RecvFlags::TRUNC)?;
        Ok((came, asked))
    }
}

/// What a connection waits for.
enum State {
    Connect,
    Idle,
    /// Room to send the rest of the request.
    Send {
        sent: usize,
    },
    /// The head, or the rest of one that came in pieces.
    Head {
        partial: Vec<u8>,
    },
    Body {
        wire_bytes: u64,
        body_bytes: u64,
        remaining: u64,
    },
    /// The end of the stream, after the answer to a request that asked for it.
    End,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// Waits for the next edge, or has used up its budget.
    Waiting,
    /// The answer is complete: its bytes on the wire.
    Answered(u64),
    /// The server has closed its side, as it was asked to.
    Ended,
}

/// Whether the event said that the server has closed its side (`EPOLLRDHUP`, `EPOLLHUP`, `EPOLLERR`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerState {
    Open,
    Gone,
}

pub(crate) struct Visit<'a> {
    pub(crate) request: &'a Request,
    /// Whether it was the last request of the connection.
    pub(crate) closing: bool,
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) digest: Option<usize>,
    pub(crate) peer: PeerState,
    pub(crate) budget: usize,
}

impl Visit<'_> {
    fn take_head(&mut self, socket: &OwnedFd) -> rustix::io::Result<Take> {
        let asked = HEAD_BUFFER_BYTES.min(self.budget);
        let (_, came) = recv(socket, &mut self.buffers.head[..asked], RecvFlags::empty())?;
        Ok(self.note(came, asked))
    }

    /// One receive of a body of which `wanted` bytes are still to come.
    fn take_body(&mut self, socket: &OwnedFd, wanted: u64) -> rustix::io::Result<Take> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.budget);
        let (came, asked) = self.buffers.take_body(self.digest, socket, wanted)?;
        Ok(self.note(came, asked))
    }

    fn note(&mut self, came: usize, asked: usize) -> Take {
        self.budget -= came;
        let drained = came < asked && self.peer == PeerState::Open;
        Take { came, is_last: drained || self.budget == 0 }
    }
}

struct Take {
    came: usize,
    /// Whether nothing more is to be taken in this visit.
    is_last: bool,
}

pub(crate) struct Connection {
    socket: OwnedFd,
    state: State,
    closes: bool,
}

impl Connection {
    /// Begins to connect, with a receive buffer of so many bytes or as large as the kernel likes. On loopback
    /// the handshake is over when the call returns, though it says that it isn't: a send right after it
    /// succeeds.
    pub(crate) fn open(address: SocketAddr, receive_buffer: Option<usize>) -> Result<Connection, LoadError> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)
            .map_err(LoadError::system("make a socket"))?;
        set_tcp_congestion(&socket, congestion::CONTROL)
            .map_err(LoadError::system("choose the congestion control"))?;
        if let Some(bytes) = receive_buffer {
            // Before the handshake, where the window's scale is agreed upon (tcp(7)).
            set_socket_recv_buffer_size(&socket, bytes)
                .map_err(LoadError::system("choose the receive buffer"))?;
        }
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(LoadError::System { doing: "connect", errno }),
        }
        Ok(Connection { socket, state: State::Connect, closes: false })
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connect)
    }

    /// Whether the whole request has been sent, so that only the server can make the socket ready.
    pub(crate) fn has_sent(&self) -> bool {
        !matches!(self.state, State::Send { .. } | State::Connect)
    }

    /// Whether the last answer announced the end of the connection.
    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    pub(crate) fn start(&mut self, request: &[u8]) -> Result<(), LoadError> {
        self.send_rest(request, 0)
    }

    fn send_rest(&mut self, request: &[u8], mut sent: usize) -> Result<(), LoadError> {
        while sent < request.len() {
            match send(&self.socket, &request[sent..], SendFlags::NOSIGNAL) {
                Ok(n) => sent += n,
                Err(Errno::AGAIN) => {
                    self.state = State::Send { sent };
                    return Ok(());
                }
                Err(errno) => return Err(LoadError::System { doing: "send", errno }),
            }
        }
        self.state = State::Head { partial: Vec::new() };
        Ok(())
    }

    pub(crate) fn advance(&mut self, visit: &mut Visit<'_>) -> Result<Advance, LoadError> {
        match &mut self.state {
            State::Connect => self.finish_connect(visit.peer),
            State::Idle => self.check_silent(),
            State::Send { sent } => {
                let sent = *sent;
                self.send_rest(visit.request.bytes(visit.closing), sent)?;
                Ok(Advance::Waiting)
            }
            State::Head { .. } => self.receive_head(visit),
            State::Body { .. } => self.receive_body(visit),
            State::End => self.receive_end(),
        }
    }

    fn finish_connect(&mut self, peer: PeerState) -> Result<Advance, LoadError> {
        self.state = State::Idle;
        match peer {
            PeerState::Open => Ok(Advance::Waiting),
            // What went wrong is what a receive says.
            PeerState::Gone => self.check_silent(),
        }
    }

    fn receive_head(&mut self, visit: &mut Visit<'_>) -> Result<Advance, LoadError> {
        let State::Head { partial } = &mut self.state else {
            unreachable!("a head is received only while one is awaited");
        };
        loop {
            let take = match visit.take_head(&self.socket) {
                Ok(take) if take.came == 0 => return Err(LoadError::Closed),
                Ok(take) => take,
                Err(Errno::AGAIN) => return Ok(Advance::Waiting),
                Err(errno) => return Err(LoadError::System { doing: "receive", errno }),
            };
            // An answer's head nearly always comes in one piece, and is read where it lies.
            let came = &visit.buffers.head[..take.came];
            let received = if partial.is_empty() {
                came
            } else {
                partial.extend_from_slice(came);
                partial.as_slice()
            };
            let Some(head) = visit.buffers.last_head.parse(received)? else {
                if partial.is_empty() {
                    partial.reserve(HEAD_BYTES_MAX);
                    partial.extend_from_slice(came);
                }
                if take.is_last {
                    return Ok(Advance::Waiting);
                }
                continue;
            };
            let body_came = received.len() - head.head_bytes;
            self.closes = head.closes;
            self.state = body_after(&head, body_came, visit.request)?;
            visit.buffers.hash_start_of_body(visit.digest, take.came, body_came);
            return match self.state {
                State::Body { remaining, .. } if remaining > 0 && take.is_last => Ok(Advance::Waiting),
                _ => self.receive_body(visit),
            };
        }
    }

    fn receive_body(&mut self, visit: &mut Visit<'_>) -> Result<Advance, LoadError> {
        let State::Body { wire_bytes, body_bytes, remaining } = &mut self.state else {
            unreachable!("a body is received only while one is awaited");
        };
        while *remaining > 0 {
            let take = match visit.take_body(&self.socket, *remaining) {
                Ok(take) if take.came == 0 => {
                    return Err(LoadError::Short { got: *body_bytes - *remaining, want: *body_bytes });
                }
                Ok(take) => take,
                Err(Errno::AGAIN) => return Ok(Advance::Waiting),
                Err(errno) => return Err(LoadError::System { doing: "receive", errno }),
            };
            *remaining -= take.came as u64;
            if *remaining > 0 && take.is_last {
                return Ok(Advance::Waiting);
            }
        }
        let answered = Advance::Answered(*wire_bytes);
        self.state = State::Idle;
        Ok(answered)
    }

    pub(crate) fn await_end(&mut self) {
        self.state = State::End;
    }

    fn receive_end(&mut self) -> Result<Advance, LoadError> {
        let mut byte = [0];
        match recv(&self.socket, &mut byte, RecvFlags::empty()) {
            Ok((_, 0)) => Ok(Advance::Ended),
            Ok(_) => Err(LoadError::Surplus),
            Err(Errno::AGAIN) => Ok(Advance::Waiting),
            Err(errno) => Err(LoadError::System { doing: "receive the end", errno }),
        }
    }

    /// An event while no answer is owed: the server closed, or sent surplus bytes.
    fn check_silent(&mut self) -> Result<Advance, LoadError> {
        match self.receive_end()? {
            Advance::Ended => Err(LoadError::Closed),
            other => Ok(other),
        }
    }
}

/// Checks a head against the expectation, and returns what is left of the body.
fn body_after(head: &Head, body_came: usize, request: &Request) -> Result<State, LoadError> {
    let expected = request.expected();
    if head.status != expected.status {
        return Err(LoadError::Status { got: head.status, want: expected.status });
    }
    if head.body_bytes != expected.body_bytes {
        return Err(LoadError::Length { got: head.body_bytes, want: expected.body_bytes });
    }
    let remaining = head.body_bytes.checked_sub(body_came as u64).ok_or(LoadError::Surplus)?;
    let wire_bytes = head.head_bytes as u64 + head.body_bytes;
    Ok(State::Body { wire_bytes, body_bytes: head.body_bytes, remaining })
}

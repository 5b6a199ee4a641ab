//! One connection of the client: a state machine.
//!
//! The socket is registered edge-triggered, so each function reads until the socket would block: a receive
//! that returns less than was asked for has emptied the queue (epoll(7)). When the event already reported
//! that the peer has closed, there will be no further edge, and the connection reads on to the end of the
//! stream.

use crate::load::chunked::Chunks;
use crate::load::coding::Coding;
use crate::load::error::LoadError;
use crate::load::remembered::Remembered;
use crate::load::request::Request;
use crate::load::response::{HEAD_BYTES_MAX, Head, HeadError, LastHead};
use crate::load::traffic::Answer;
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

/// The size of a receive whose bytes are looked at.
const BODY_BUFFER_BYTES: usize = 256 * 1024;

pub(crate) enum Bodies {
    /// Counted and dropped within the kernel.
    Discarded,
    /// Received and hashed: one digest per connection.
    Hashed(Vec<Sha256>),
    /// Received and kept: one per connection.
    Kept(Vec<Received>),
}

impl Bodies {
    fn take(&mut self, place: usize, body: &[u8]) {
        match self {
            Bodies::Discarded => {}
            Bodies::Hashed(digests) => digests[place].update(body),
            Bodies::Kept(bodies) => bodies[place].body.extend_from_slice(body),
        }
    }
}

/// A body as it came, and how it is coded.
#[derive(Clone, Debug)]
pub struct Received {
    /// What the answer says.
    pub coding: Coding,
    /// Without the frame of its chunks, if it came in any.
    pub body: Vec<u8>,
}

/// The memory that all connections of a client share while they receive.
pub(crate) struct Buffers {
    head: Vec<u8>,
    discard: Vec<u8>,
    body: Vec<u8>,
    last_head: LastHead,
    pub(crate) bodies: Bodies,
}

impl Buffers {
    pub(crate) fn new() -> Buffers {
        Buffers {
            head: vec![0; HEAD_BUFFER_BYTES],
            discard: vec![0; DISCARD_BYTES_MAX],
            body: vec![0; BODY_BUFFER_BYTES],
            last_head: LastHead::default(),
            bodies: Bodies::Discarded,
        }
    }

    /// What came of a body behind its head, in the last receive.
    fn take_start_of_body(&mut self, place: Option<usize>, received: usize, body_bytes: usize) {
        if let Some(place) = place {
            self.bodies.take(place, &self.head[received - body_bytes..received]);
        }
    }

    /// Receives up to `wanted` bytes of a body: how many came, and how many were asked for.
    fn take_body(
        &mut self,
        place: Option<usize>,
        socket: &OwnedFd,
        wanted: usize,
    ) -> rustix::io::Result<(usize, usize)> {
        if let (Bodies::Hashed(_) | Bodies::Kept(_), Some(place)) = (&self.bodies, place) {
            let asked = wanted.min(self.body.len());
            let (_, came) = recv(socket, &mut self.body[..asked], RecvFlags::empty())?;
            self.bodies.take(place, &self.body[..came]);
            return Ok((came, asked));
        }
        let asked = wanted.min(self.discard.len());
        let (_, came) = recv(socket, &mut self.discard[..asked], RecvFlags::TRUNC)?;
        Ok((came, asked))
    }

    /// Notes how the body that follows is coded.
    fn note_coding(&mut self, place: Option<usize>, coding: Coding) {
        if let (Bodies::Kept(bodies), Some(place)) = (&mut self.bodies, place) {
            bodies[place].coding = coding;
        }
    }
}

/// What a connection waits for.
enum State {
    Connect,
    Idle,
    /// Room to send the rest of the request.
    Send {
        rest: Vec<u8>,
    },
    /// The head, or the rest of one that came in pieces.
    Head {
        partial: Vec<u8>,
    },
    Body {
        answer: Answer,
        remaining: u64,
    },
    /// A body whose length its chunks will tell.
    Chunks {
        answer: Answer,
        chunks: Chunks,
    },
    /// The end of the stream, after the answer to a request that asked for it.
    End,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// Waits for the next edge, or has used up its budget.
    Waiting,
    /// The answer is complete.
    Answered(Answer),
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
    /// Whether it asked if the file is still the same.
    pub(crate) is_conditional: bool,
    /// Where validators are kept, if they are.
    pub(crate) remembered: Option<&'a mut Remembered>,
    pub(crate) buffers: &'a mut Buffers,
    /// The body's place among those that are looked at.
    pub(crate) place: Option<usize>,
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
        let (came, asked) = self.buffers.take_body(self.place, socket, wanted)?;
        Ok(self.note(came, asked))
    }

    /// One receive of a body that comes in chunks. It may bring what follows the body, which is an error.
    fn take_chunks(&mut self, socket: &OwnedFd, chunks: &mut Chunks) -> Result<Option<Take>, LoadError> {
        let asked = self.buffers.body.len().min(self.budget);
        let came = match recv(socket, &mut self.buffers.body[..asked], RecvFlags::empty()) {
            Ok((_, came)) => came,
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(LoadError::System { doing: "receive", errno }),
        };
        let Buffers { body, bodies, .. } = &mut *self.buffers;
        take_chunks(chunks, &body[..came], self.place, bodies)?;
        Ok(Some(self.note(came, asked)))
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

    pub(crate) fn start(&mut self, mut request: &[u8]) -> Result<(), LoadError> {
        while !request.is_empty() {
            match send(&self.socket, request, SendFlags::NOSIGNAL) {
                Ok(sent) => request = &request[sent..],
                Err(Errno::AGAIN) => {
                    self.state = State::Send { rest: request.to_vec() };
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
            State::Send { rest } => {
                let rest = std::mem::take(rest);
                self.start(&rest)?;
                Ok(Advance::Waiting)
            }
            State::Head { .. } => self.receive_head(visit),
            State::Body { .. } => self.receive_body(visit),
            State::Chunks { .. } => self.receive_chunks(visit),
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
            let state = body_after(&head, body_came, visit)?;
            if let Some(remembered) = &mut visit.remembered {
                remembered.note(visit.request, &head, received)?;
            }
            return self.begin_body(state, visit, &take, body_came);
        }
    }

    /// Goes on with what came behind a head, and what comes then.
    fn begin_body(
        &mut self,
        mut state: State,
        visit: &mut Visit<'_>,
        take: &Take,
        body_came: usize,
    ) -> Result<Advance, LoadError> {
        let is_owed = match &mut state {
            State::Body { answer, remaining } => {
                visit.buffers.note_coding(visit.place, answer.coding);
                visit.buffers.take_start_of_body(visit.place, take.came, body_came);
                *remaining > 0
            }
            State::Chunks { answer, chunks } => {
                visit.buffers.note_coding(visit.place, answer.coding);
                let Buffers { head, bodies, .. } = &mut *visit.buffers;
                take_chunks(chunks, &head[take.came - body_came..take.came], visit.place, bodies)?;
                answer.body_bytes += body_came as u64;
                !chunks.is_done()
            }
            _ => unreachable!("a head is followed by a body"),
        };
        self.state = state;
        match self.state {
            _ if is_owed && take.is_last => Ok(Advance::Waiting),
            State::Chunks { .. } => self.receive_chunks(visit),
            _ => self.receive_body(visit),
        }
    }

    fn receive_body(&mut self, visit: &mut Visit<'_>) -> Result<Advance, LoadError> {
        let State::Body { answer, remaining } = &mut self.state else {
            unreachable!("a body is received only while one is awaited");
        };
        while *remaining > 0 {
            let take = match visit.take_body(&self.socket, *remaining) {
                Ok(take) if take.came == 0 => {
                    let want = answer.body_bytes;
                    return Err(LoadError::Short { got: want - *remaining, want });
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
        let answered = Advance::Answered(*answer);
        self.state = State::Idle;
        Ok(answered)
    }

    fn receive_chunks(&mut self, visit: &mut Visit<'_>) -> Result<Advance, LoadError> {
        let State::Chunks { answer, chunks } = &mut self.state else {
            unreachable!("chunks are received only while some are awaited");
        };
        while !chunks.is_done() {
            let take = match visit.take_chunks(&self.socket, chunks)? {
                Some(take) if take.came == 0 => return Err(LoadError::Closed),
                Some(take) => take,
                None => return Ok(Advance::Waiting),
            };
            answer.body_bytes += take.came as u64;
            if take.is_last && !chunks.is_done() {
                return Ok(Advance::Waiting);
            }
        }
        let is_other =
            answer.coding == Coding::Identity && chunks.body_bytes() != visit.request.expected().body_bytes;
        if is_other || chunks.body_bytes() == 0 {
            return Err(LoadError::Length {
                got: chunks.body_bytes(),
                want: visit.request.expected().body_bytes,
            });
        }
        let answered = Advance::Answered(*answer);
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

fn take_chunks(
    chunks: &mut Chunks,
    received: &[u8],
    place: Option<usize>,
    bodies: &mut Bodies,
) -> Result<(), LoadError> {
    let take = |body: &[u8]| {
        if let Some(place) = place {
            bodies.take(place, body);
        }
    };
    chunks.take(received, take).map_err(|_| LoadError::Chunks)
}

/// Checks a head against the expectation, and returns what is left of the body.
fn body_after(head: &Head, body_came: usize, visit: &Visit<'_>) -> Result<State, LoadError> {
    let expected = visit.request.expected();
    let is_negotiated = visit.request.choice().is_some();
    let is_not_modified = visit.is_conditional && head.status == 304;
    if head.status != expected.status && !is_not_modified {
        return Err(LoadError::Status { got: head.status, want: expected.status });
    }
    if head.is_chunked && !is_negotiated {
        return Err(LoadError::Head(HeadError::TransferCoding));
    }
    let coding = if is_negotiated { head.coding.ok_or(LoadError::Coding)? } else { Coding::Identity };
    // How long a coded body is, nobody knows beforehand; what it says is looked at in a sample.
    let is_right = match coding {
        _ if head.is_chunked || is_not_modified => true,
        Coding::Identity => head.body_bytes == expected.body_bytes,
        _ => head.body_bytes > 0,
    };
    if !is_right {
        return Err(LoadError::Length { got: head.body_bytes, want: expected.body_bytes });
    }
    let (head_bytes, body_bytes) = (head.head_bytes as u64, head.body_bytes);
    let answer = Answer { head_bytes, body_bytes, coding, is_not_modified };
    if head.is_chunked {
        return Ok(State::Chunks { answer, chunks: Chunks::new() });
    }
    let remaining = head.body_bytes.checked_sub(body_came as u64).ok_or(LoadError::Surplus)?;
    Ok(State::Body { answer, remaining })
}

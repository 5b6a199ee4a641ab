//! The step machine: HTTP decides, the backend moves bytes.
//!
//! A [`Connection`] does no I/O. Its backend reports what has happened ([`received`](Connection::received),
//! [`opened`](Connection::opened), [`sent`](Connection::sent)) and asks what must happen next
//! ([`step`](Connection::step)). The three servers are three ways to carry out the same five steps.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::cache::Source;
use crate::config::LINGER_TIMEOUT;
use crate::exchange::{Exchange, Need};
use crate::file_bytes::FileBytes;
use crate::range::ByteRange;
use crate::site::{OpenRequest, Opened, SharedFile};
use crate::status::Status;
use crate::worker::Worker;

/// While lingering, a client that sends more than this is dropped.
pub const LINGER_BYTES_MAX: usize = 256 * 1024;

/// What a backend must do next.
#[derive(Debug)]
pub enum Step<'a> {
    /// Wait for bytes, then [`received`](Connection::received).
    Receive,
    /// Open the file and look at what it is, then [`opened`](Connection::opened).
    Open(&'a Arc<OpenRequest>),
    /// Read a small file whole, for the cache, then [`loaded`](Connection::loaded).
    Load(FileRange<'a>),
    /// Send, then [`sent`](Connection::sent).
    Send(Send<'a>),
    /// Close the connection; it is over.
    Close(Close),
}

/// What is to be sent: the connection's own bytes, then bytes of a cached body or of a file. One of the two may
/// be missing.
#[derive(Clone, Copy, Debug)]
pub struct Send<'a> {
    output: &'a Rc<Vec<u8>>,
    start: usize,
    /// What follows the bytes, if it is in memory.
    pub body: Option<BodyRange<'a>>,
    /// What follows the bytes, if it is in a file.
    pub file: Option<FileRange<'a>>,
}

impl Send<'_> {
    /// The connection's own bytes that have not been sent: heads, small bodies, and bodies that are no file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.output[self.start..]
    }

    /// The same bytes for an operation in flight: while it holds this share the memory stays as it is.
    #[must_use]
    pub fn shared(&self) -> (Rc<Vec<u8>>, Range<usize>) {
        (Rc::clone(self.output), self.start..self.output.len())
    }
}

/// Some bytes of a cached body, at least one.
#[derive(Clone, Copy, Debug)]
pub struct BodyRange<'a> {
    body: &'a Arc<FileBytes>,
    start: usize,
    end: usize,
}

impl BodyRange<'_> {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body[self.start..self.end]
    }

    /// The same bytes for an operation in flight: they never change, and stay as long as the share is held.
    #[must_use]
    pub fn shared(&self) -> (Arc<FileBytes>, Range<usize>) {
        (Arc::clone(self.body), self.start..self.end)
    }
}

/// Some bytes of an open file, at least one (of an empty file that is to be loaded, none).
#[derive(Clone, Copy, Debug)]
pub struct FileRange<'a> {
    /// The file, shared with whatever operation reads from it.
    pub file: &'a Arc<SharedFile>,
    /// The position of the first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Close our side (`SHUT_WR`), report [`half_closed`](Connection::half_closed), and go on: what the client
    /// still sends is dropped for a while, so that its kernel doesn't destroy the answer (RFC 9112 §9.6).
    Graceful,
    /// close(2).
    Drop,
    /// close(2) with `SO_LINGER` 0: what the client hasn't taken is discarded, and it sees a reset.
    Reset,
}

/// What the connection is waiting for.
#[derive(Debug)]
enum State {
    /// A request. Nothing is held.
    Idle,
    /// The rest of a request.
    Reading(Box<Exchange>),
    /// A file.
    Opening(Box<Exchange>),
    /// The bytes of a file, for the cache.
    Loading(Box<Exchange>),
    /// An answer to leave.
    Sending(Box<Exchange>),
    /// The client to close its side, too.
    Lingering { bytes_left: usize },
    /// The backend to close it.
    Closing(Close),
}

/// One connection, from its first byte to its last.
#[derive(Debug)]
pub struct Connection {
    state: State,
    deadline: Option<Instant>,
    peer: Option<IpAddr>,
}

impl Connection {
    /// A connection that was just accepted. The peer is wanted if [`Worker::logs`].
    #[must_use]
    pub fn new(worker: &Worker, peer: Option<IpAddr>) -> Connection {
        Connection { state: State::Idle, deadline: Some(worker.now() + worker.config().idle_timeout), peer }
    }

    /// What must happen next.
    #[must_use]
    pub fn step(&self) -> Step<'_> {
        match &self.state {
            State::Idle | State::Reading(_) | State::Lingering { .. } => Step::Receive,
            State::Opening(exchange) => Step::Open(exchange.open_request()),
            State::Loading(exchange) => Step::Load(exchange.load()),
            State::Sending(exchange) => {
                let (output, start) = exchange.output();
                let mut send = Send { output, start, body: None, file: None };
                match exchange.rest() {
                    Some((Source::File(file), ByteRange { start: offset, length })) => {
                        send.file = Some(FileRange { file, offset, length });
                    }
                    Some((Source::Memory(body), range)) => {
                        let place = |at: u64| usize::try_from(at).expect("a place in memory");
                        let (start, end) = (place(range.start), place(range.start + range.length));
                        send.body = Some(BodyRange { body, start, end });
                    }
                    None => {}
                }
                Step::Send(send)
            }
            State::Closing(close) => Step::Close(*close),
        }
    }

    /// Bytes have come from the client; none: it has closed its side. Bytes that come before
    /// [`Step::Receive`] asks for them are kept, see [`wants_bytes`](Self::wants_bytes).
    pub fn received(&mut self, worker: &mut Worker, bytes: &[u8]) {
        worker.counts.bytes_in += bytes.len() as u64;
        match &mut self.state {
            State::Idle if bytes.is_empty() => self.state = State::Closing(Close::Drop),
            State::Idle => {
                let mut exchange = worker.exchange(self.peer);
                let need = exchange.receive(worker, bytes);
                self.deadline = Some(worker.now() + worker.config().head_timeout);
                self.settle(worker, exchange, need);
            }
            State::Reading(exchange) => {
                let was_in_content = exchange.is_in_content();
                let need = exchange.receive(worker, bytes);
                if exchange.is_in_content() && !was_in_content {
                    self.deadline = Some(worker.now() + worker.config().head_timeout);
                }
                self.resettle(worker, need);
            }
            State::Opening(exchange) | State::Loading(exchange) | State::Sending(exchange) => {
                exchange.keep(bytes);
            }
            State::Lingering { bytes_left } => {
                *bytes_left = bytes_left.saturating_sub(bytes.len());
                if bytes.is_empty() || *bytes_left == 0 {
                    self.state = State::Closing(Close::Drop);
                }
            }
            State::Closing(_) => {}
        }
    }

    /// The open that [`Step::Open`] asked for has ended.
    pub fn opened(&mut self, worker: &mut Worker, result: io::Result<Opened>) {
        if let State::Opening(exchange) = &mut self.state {
            let need = exchange.opened(worker, result);
            self.resettle(worker, need);
        }
    }

    /// The load that [`Step::Load`] asked for has ended: all bytes of the file, or as many as there were.
    pub fn loaded(&mut self, worker: &mut Worker, result: io::Result<FileBytes>) {
        if let State::Loading(exchange) = &mut self.state {
            let need = exchange.loaded(worker, result);
            self.resettle(worker, need);
        }
    }

    /// So many bytes of what [`Step::Send`] asked for have left: the connection's own first, then the body's.
    pub fn sent(&mut self, worker: &mut Worker, bytes: usize) {
        let State::Sending(exchange) = &mut self.state else {
            return;
        };
        worker.counts.bytes_out += bytes as u64;
        match exchange.sent(worker, bytes) {
            Some(need) => {
                self.deadline = None; // what follows is another request, with a deadline of its own
                self.resettle(worker, need);
            }
            None if bytes > 0 => self.deadline = Some(worker.now() + worker.config().send_timeout),
            None => {}
        }
    }

    /// Our side has been closed, as [`Close::Graceful`] asked.
    pub fn half_closed(&mut self, worker: &mut Worker) {
        self.deadline = Some(worker.now() + LINGER_TIMEOUT);
        self.state = State::Lingering { bytes_left: LINGER_BYTES_MAX };
    }

    /// The body can't be finished: its file has shrunk, or can't be read. The plan is fixed, so all that is left
    /// is to let the client see that the answer isn't whole (RFC 9112 §8): what came before is still sent, then
    /// the connection ends.
    pub fn cut_short(&mut self, worker: &mut Worker) {
        let State::Sending(exchange) = &mut self.state else { return };
        worker.count_error();
        if let Some(need) = exchange.cut_short(worker) {
            self.resettle(worker, need);
        }
    }

    /// The connection broke.
    pub fn failed(&mut self, worker: &mut Worker) {
        match std::mem::replace(&mut self.state, State::Closing(Close::Reset)) {
            State::Reading(mut exchange)
            | State::Opening(mut exchange)
            | State::Loading(mut exchange)
            | State::Sending(mut exchange) => {
                worker.count_error();
                exchange.log_answer(worker);
                worker.keep(exchange);
            }
            // A half-close has failed, too, or there is nothing left to close.
            State::Idle | State::Lingering { .. } | State::Closing(Close::Graceful) => {
                self.state = State::Closing(Close::Drop);
            }
            State::Closing(close) => self.state = State::Closing(close),
        }
    }

    /// The moment at which [`expired`](Self::expired) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Acts on the deadline, if it has passed: 408 to a request that isn't whole, else the end.
    pub fn expired(&mut self, worker: &mut Worker) {
        if self.deadline.is_none_or(|deadline| deadline > worker.now()) {
            return;
        }
        match &mut self.state {
            State::Idle | State::Lingering { .. } => self.state = State::Closing(Close::Drop),
            State::Reading(exchange) => {
                exchange.refuse(worker, Status::RequestTimeout);
                self.resettle(worker, Need::Send);
            }
            State::Sending(_) => self.failed(worker),
            State::Opening(_) | State::Loading(_) | State::Closing(_) => {}
        }
    }

    /// The drain closes idle connections: [`Drain::Closing`](crate::shutdown::Drain::Closing). One with an
    /// answer under way goes on, and ends with it.
    pub fn drain(&mut self) {
        if let State::Idle = self.state {
            self.state = State::Closing(Close::Drop);
        }
    }

    /// Whether nothing of a request is here: what a drain closes.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether more bytes may be received now. If not, enough of them wait here already: receive again when
    /// [`Step::Receive`] says so.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        match &self.state {
            State::Opening(exchange) | State::Loading(exchange) | State::Sending(exchange) => {
                exchange.has_room()
            }
            State::Idle | State::Reading(_) | State::Lingering { .. } => true,
            State::Closing(_) => false,
        }
    }

    /// Goes on with the exchange that the state holds.
    fn resettle(&mut self, worker: &mut Worker, need: Need) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Reading(exchange)
            | State::Opening(exchange)
            | State::Loading(exchange)
            | State::Sending(exchange) => {
                self.settle(worker, exchange, need);
            }
            state @ (State::Idle | State::Lingering { .. } | State::Closing(_)) => self.state = state,
        }
    }

    /// Enters the state in which the exchange's need is waited for, with its deadline.
    fn settle(&mut self, worker: &mut Worker, exchange: Box<Exchange>, need: Need) {
        let config = worker.config();
        let (state, deadline) = match need {
            Need::Request => {
                self.deadline = Some(worker.now() + config.idle_timeout);
                self.state = State::Idle;
                worker.keep(exchange);
                return;
            }
            Need::End { graceful } => {
                self.deadline = None;
                self.state = State::Closing(if graceful { Close::Graceful } else { Close::Drop });
                worker.keep(exchange);
                return;
            }
            // Counted from the request's first byte, unless an answer has been sent since.
            Need::Rest => {
                (State::Reading(exchange), self.deadline.or(Some(worker.now() + config.head_timeout)))
            }
            Need::Open => (State::Opening(exchange), None),
            Need::Load => (State::Loading(exchange), None),
            Need::Send => (State::Sending(exchange), Some(worker.now() + config.send_timeout)),
        };
        self.state = state;
        self.deadline = deadline;
    }
}

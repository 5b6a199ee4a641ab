//! One exchange: from the bytes of a request to the bytes of its answer.
//!
//! The memory of an exchange is borrowed from the worker: a connection has it from the first byte of a
//! request to the last byte of the answer, and holds nothing in between. Answers to pipelined requests that
//! need no file gather in one output, up to a bound.

use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::cache::{Entry, Source};
use crate::connection::FileRange;
use crate::content::Content;
use crate::head::Representation;
use crate::range::{ByteRange, Ranges};
use crate::request::{Expectation, Parsed, Request, parse_http_get};
use crate::scan::{HeadScan, Scanned};
use crate::shutdown::Drain;
use crate::site::OpenRequest;
use crate::status::Status;
use crate::worker::Worker;

/// Answers in memory are gathered up to this many bytes, then sent.
const OUTPUT_BYTES_MAX: usize = 32 * 1024;
/// While an answer is under way, this many received bytes wait, then no more are asked for.
const INPUT_BYTES_MAX: usize = 32 * 1024;
/// Buffers that grew beyond this are not kept for the next exchange.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What an exchange can't go on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The beginning of the next request: nothing is kept.
    Request,
    /// The rest of a request.
    Rest,
    /// An open file.
    Open,
    /// The bytes of a file that is to be cached.
    Load,
    /// The output to be sent.
    Send,
    /// The connection to be closed: nothing is left to be said.
    End { graceful: bool },
}

/// What an open is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seeking {
    /// The file that was asked for.
    #[default]
    File,
    /// The entries of a directory that has no index.
    Listing,
    /// The site's own page for what isn't there.
    NotFoundPage,
}

/// What follows when the output has been sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request.
    #[default]
    Next,
    /// The open that the last request needs.
    Open,
    /// The load that the last request needs.
    Load,
    /// The end. Graceful when the client may still be sending.
    Close { graceful: bool },
}

/// What is sent after the output's bytes.
#[derive(Debug, Default)]
#[expect(clippy::large_enum_variant, reason = "it lies in memory that is used again and again")]
pub(crate) enum Body {
    #[default]
    None,
    One {
        source: Source,
        left: ByteRange,
    },
    Multipart {
        source: Source,
        left: ByteRange,
        /// The parts that follow the one under way.
        rest: Ranges,
        representation: Representation,
    },
}

/// What the access log says of an answer whose sending takes time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) head_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// The state of one exchange, and the memory for it.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) started: Instant,
    pub(crate) peer: Option<IpAddr>,
    /// Received and not yet used, from `input_used` on.
    pub(crate) input: Vec<u8>,
    input_used: usize,
    scan: HeadScan,
    /// The client has closed its side.
    pub(crate) ended: bool,
    /// The current request's head, while something must be waited for.
    pub(crate) head: Vec<u8>,
    pub(crate) request: Request,
    pub(crate) content: Option<Content>,
    pub(crate) seeking: Seeking,
    /// The target names a directory.
    pub(crate) directory: bool,
    /// Where in the target the query stands.
    pub(crate) query: Range<usize>,
    pub(crate) path: Vec<u8>,
    pub(crate) open: Arc<OpenRequest>,
    /// The cached file whose bytes are awaited.
    pub(crate) loading: Option<Arc<Entry>>,
    pub(crate) output: Rc<Vec<u8>>,
    pub(crate) output_sent: usize,
    pub(crate) body: Body,
    pub(crate) after: After,
    pub(crate) answer: Option<Answer>,
}

impl Default for Exchange {
    fn default() -> Self {
        Exchange {
            started: Instant::now(),
            peer: None,
            query: 0..0,
            input: Vec::new(),
            input_used: 0,
            scan: HeadScan::default(),
            ended: false,
            head: Vec::new(),
            request: Request::default(),
            content: None,
            seeking: Seeking::default(),
            directory: false,
            path: Vec::new(),
            open: Arc::default(),
            loading: None,
            output: Rc::default(),
            output_sent: 0,
            body: Body::None,
            after: After::Next,
            answer: None,
        }
    }
}

impl Exchange {
    /// Takes the memory into use for a connection.
    pub(crate) fn begin(&mut self, now: Instant, peer: Option<IpAddr>) {
        self.started = now;
        self.peer = peer;
    }

    /// Forgets everything but the memory. What an operation still shares is left to that operation.
    pub(crate) fn reset(&mut self) {
        for buffer in [&mut self.input, &mut self.head, &mut self.path, unshared(&mut self.output)] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES_MAX);
        }
        self.input_used = 0;
        self.scan = HeadScan::default();
        self.ended = false;
        self.content = None;
        self.loading = None;
        self.output_sent = 0;
        self.body = Body::None;
        self.after = After::Next;
        self.answer = None;
    }

    /// Keeps bytes that came while an answer is under way; none: the client has closed its side.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.ended |= bytes.is_empty();
        self.input.extend_from_slice(bytes);
    }

    /// Whether more bytes may be received while an answer is under way.
    pub(crate) fn has_room(&self) -> bool {
        !self.ended && self.input.len() - self.input_used < INPUT_BYTES_MAX
    }

    /// Whether the head is complete and its content is being dropped.
    pub(crate) fn is_in_content(&self) -> bool {
        self.content.is_some()
    }

    /// The file that is needed.
    pub(crate) fn open_request(&self) -> &Arc<OpenRequest> {
        &self.open
    }

    /// The file whose bytes are needed for the cache.
    pub(crate) fn load(&self) -> FileRange<'_> {
        let entry = self.loading.as_ref().expect("who waits for bytes knows of which file");
        let Source::File(file) = &entry.source else { unreachable!("what is in memory needs no load") };
        FileRange { file, offset: 0, length: entry.metadata.size }
    }

    /// The output, and how much of it has been sent.
    pub(crate) fn output(&self) -> (&Rc<Vec<u8>>, usize) {
        (&self.output, self.output_sent)
    }

    /// The body's bytes that follow the output.
    pub(crate) fn rest(&self) -> Option<(&Source, ByteRange)> {
        match &self.body {
            Body::One { source, left } | Body::Multipart { source, left, .. } if left.length > 0 => {
                Some((source, *left))
            }
            Body::None | Body::One { .. } | Body::Multipart { .. } => None,
        }
    }
}

/// The buffer for writing; a new one if an operation in flight still reads the old one.
pub(crate) fn unshared(output: &mut Rc<Vec<u8>>) -> &mut Vec<u8> {
    if Rc::get_mut(output).is_none() {
        *output = Rc::default();
    }
    Rc::get_mut(output).expect("a buffer that was just made has one owner")
}

impl Exchange {
    /// Takes bytes from the client (none: it closed its side) and goes as far as they lead.
    pub(crate) fn receive(&mut self, worker: &mut Worker, bytes: &[u8]) -> Need {
        self.keep_if_begun(bytes);
        if self.input.is_empty() {
            let (used, need) = self.read_requests(worker, bytes);
            self.input.extend_from_slice(&bytes[used..]);
            need
        } else {
            self.proceed(worker)
        }
    }

    /// The rest of a request joins what is kept of it already.
    fn keep_if_begun(&mut self, bytes: &[u8]) {
        self.ended |= bytes.is_empty();
        if !self.input.is_empty() {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Goes on with the bytes that were kept.
    pub(crate) fn proceed(&mut self, worker: &mut Worker) -> Need {
        let mut input = std::mem::take(&mut self.input);
        let (used, need) = self.read_requests(worker, &input[self.input_used..]);
        self.input_used += used;
        if self.input_used == input.len() || self.input_used > INPUT_BYTES_MAX {
            input.drain(..self.input_used);
            self.input_used = 0;
        }
        self.input = input;
        need
    }

    /// Reads requests from the start of `bytes` until one needs a file, the output is full, or the bytes end.
    /// Returns how many bytes were used.
    fn read_requests(&mut self, worker: &mut Worker, bytes: &[u8]) -> (usize, Need) {
        let mut used = 0;
        loop {
            match self.read_request(&bytes[used..]) {
                Err(status) => {
                    self.refuse(worker, status);
                    return (bytes.len(), Need::Send);
                }
                Ok((taken, Completeness::Partial)) => {
                    used += taken;
                    return (used, self.starve(worker, used < bytes.len()));
                }
                Ok((taken, Completeness::Whole)) => used += taken,
            }
            let (need, after) = match self.answer(worker) {
                Answered::InMemory if self.after == After::Next && self.output.len() < OUTPUT_BYTES_MAX => {
                    continue;
                }
                Answered::InMemory | Answered::Begun => return (used, Need::Send),
                Answered::NeedsFile => (Need::Open, After::Open),
                Answered::NeedsBytes => (Need::Load, After::Load),
            };
            if self.output.is_empty() {
                return (used, need);
            }
            // First what has gathered.
            self.after = after;
            return (used, Need::Send);
        }
    }

    /// Reads a head, if none is being followed, and drops the content behind it. Returns how many bytes were
    /// used.
    fn read_request(&mut self, bytes: &[u8]) -> Result<(usize, Completeness), Status> {
        let mut used = 0;
        if self.content.is_none() {
            self.head.clear();
            match self.parse(bytes) {
                Parsed::Incomplete => return Ok((0, Completeness::Partial)),
                Parsed::Refused(status) => return Err(status),
                Parsed::Complete(request, length) => {
                    used = length;
                    self.head.extend_from_slice(&bytes[..length]);
                    self.begin_request(request)?;
                }
            }
        }
        let Some(content) = &mut self.content else {
            return Ok((used, Completeness::Whole));
        };
        used += content.advance(&bytes[used..])?;
        if !content.is_complete() {
            return Ok((used, Completeness::Partial));
        }
        self.content = None;
        Ok((used, Completeness::Whole))
    }

    /// Parses a head; one that comes in pieces is only scanned until it is whole.
    fn parse(&mut self, bytes: &[u8]) -> Parsed {
        if bytes.is_empty() {
            return Parsed::Incomplete;
        }
        if self.scan.has_begun()
            && let Scanned::Incomplete = self.scan.advance(bytes)
        {
            return Parsed::Incomplete;
        }
        self.scan = HeadScan::default();
        let parsed = parse_http_get(bytes);
        if let Parsed::Incomplete = parsed {
            self.scan.advance(bytes);
        }
        parsed
    }

    /// The head is here: what of its content must come before the answer.
    fn begin_request(&mut self, request: Request) -> Result<(), Status> {
        self.request = request;
        let content = Content::new(self.request.framing)?;
        match self.request.expectation {
            Expectation::Unknown => return Err(Status::ExpectationFailed),
            // The final status comes at once: what nobody reads needn't be sent (RFC 9110 §10.1.1).
            Expectation::Continue if !content.is_complete() => self.request.keep_alive = false,
            Expectation::Continue | Expectation::None => {
                self.content = Some(content).filter(|content| !content.is_complete())
            }
        }
        Ok(())
    }

    /// The bytes have ended. What is needed then.
    fn starve(&mut self, worker: &mut Worker, in_head: bool) -> Need {
        let in_request = in_head || self.content.is_some();
        if self.ended && in_request {
            self.refuse(worker, Status::BadRequest);
            return Need::Send;
        }
        if !self.output.is_empty() {
            if self.ended {
                self.after = After::Close { graceful: false };
            }
            return Need::Send;
        }
        match (in_request, self.ended, worker.drain() >= Drain::Closing) {
            (true, ..) => Need::Rest,
            (false, true, _) => Need::End { graceful: false },
            (false, false, true) => Need::End { graceful: true },
            (false, false, false) => Need::Request,
        }
    }
}

/// Whether a request is here.
#[derive(Clone, Copy)]
enum Completeness {
    Whole,
    Partial,
}

/// What has become of a request.
#[derive(Clone, Copy)]
pub(crate) enum Answered {
    /// All of the answer is in the output.
    InMemory,
    /// A body follows the output.
    Begun,
    /// A file must be opened first.
    NeedsFile,
    /// A file that is to be cached must be read first.
    NeedsBytes,
}

impl Answered {
    /// What is needed when nothing else has gathered.
    pub(crate) fn need(self) -> Need {
        match self {
            Answered::InMemory | Answered::Begun => Need::Send,
            Answered::NeedsFile => Need::Open,
            Answered::NeedsBytes => Need::Load,
        }
    }
}

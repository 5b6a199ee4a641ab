//! The reader of requests: bytes in, one request after the other out.

use crate::http::content::Content;
use crate::http::request::{Expectation, Parsed, Request, parse_http_get};
use crate::http::scan::{HeadScan, Scanned};
use crate::http::status::Status;

/// While an answer is under way, this many received bytes wait, then no more are wanted.
const INPUT_BYTES_MAX: usize = 32 * 1024;
/// Buffers that grew beyond this are not kept for the next exchange.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The request that is being answered.
#[derive(Clone, Copy)]
pub(crate) struct Current<'a> {
    pub(crate) request: &'a Request,
    /// The bytes that it was parsed from; none if there was no request to parse.
    pub(crate) head: &'a [u8],
}

/// Whether a request is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    Whole,
    Partial,
}

/// Reads requests.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Received and not yet used, from `input_used` on.
    input: Vec<u8>,
    input_used: usize,
    scan: HeadScan,
    /// The client has closed its side.
    ended: bool,
    /// The head of the current request.
    head: Vec<u8>,
    request: Request,
    /// Content that is being dropped.
    content: Option<Content>,
}

impl Reader {
    /// The request that was read last.
    pub(crate) fn current(&self) -> Current<'_> {
        Current { request: &self.request, head: &self.head }
    }

    /// Forgets everything but the memory.
    pub(crate) fn reset(&mut self) {
        for buffer in [&mut self.input, &mut self.head] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES_MAX);
        }
        self.input_used = 0;
        self.scan = HeadScan::default();
        self.ended = false;
        self.content = None;
    }

    /// Keeps bytes for later; none: the client has closed its side.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.ended |= bytes.is_empty();
        self.input.extend_from_slice(bytes);
    }

    /// Whether more bytes may be kept.
    pub(crate) fn has_room(&self) -> bool {
        !self.ended && self.input.len() - self.input_used < INPUT_BYTES_MAX
    }

    /// Whether bytes are kept.
    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether a part of a request is here.
    pub(crate) fn is_in_request(&self) -> bool {
        self.content.is_some() || self.has_input()
    }

    /// Whether the client has closed its side.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the head is complete and its content is being dropped.
    pub(crate) fn is_in_content(&self) -> bool {
        self.content.is_some()
    }

    /// Lends the kept bytes out; [`put_input_back`](Self::put_input_back) says how many of them were used.
    pub(crate) fn take_input(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.input), self.input_used)
    }

    /// Takes the kept bytes back.
    pub(crate) fn put_input_back(&mut self, mut input: Vec<u8>, used: usize) {
        self.input_used += used;
        if self.input_used == input.len() || self.input_used > INPUT_BYTES_MAX {
            input.drain(..self.input_used);
            self.input_used = 0;
        }
        self.input = input;
    }

    /// Reads a head, if none is being followed, and drops the content behind it. Returns how many bytes were used.
    #[inline]
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(usize, Completeness), Status> {
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

    /// What comes next can't be read: the connection will end behind the answer.
    pub(crate) fn give_up(&mut self) {
        if self.head.is_empty() {
            self.request = Request::default();
        }
        self.content = None;
        self.request.keep_alive = false;
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
                self.content = Some(content).filter(|content| !content.is_complete());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_bytes_wait() {
        let mut reader = Reader::default();
        reader.keep(&[0; INPUT_BYTES_MAX - 1]);
        assert!(reader.has_room());
        reader.keep(&[0]);
        assert!(!reader.has_room());
        let (input, _) = reader.take_input();
        reader.put_input_back(input, 1);
        assert!(reader.has_room(), "what was used counts no more");
        reader.keep(b"");
        assert!(!reader.has_room() && reader.has_ended(), "nothing will come");
    }

    /// What was used is dropped with the last byte, or when it has become much.
    #[test]
    fn what_was_used_is_dropped_now_and_then() {
        let mut reader = Reader::default();
        reader.keep(&[0; INPUT_BYTES_MAX * 2]);
        for (used, expected) in [
            (INPUT_BYTES_MAX, (INPUT_BYTES_MAX * 2, INPUT_BYTES_MAX)),
            (1, (INPUT_BYTES_MAX - 1, 0)),
            (7, (INPUT_BYTES_MAX - 1, 7)),
            (INPUT_BYTES_MAX - 8, (0, 0)),
        ] {
            let (input, _) = reader.take_input();
            reader.put_input_back(input, used);
            assert_eq!((reader.input.len(), reader.input_used), expected, "{used}");
        }
        assert!(!reader.has_input() && !reader.is_in_request());
    }

    #[test]
    fn the_next_exchange_begins_with_nothing() {
        let mut reader = Reader::default();
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
        assert_eq!(reader.read(head), Ok((head.len(), Completeness::Partial)));
        assert!(reader.is_in_content() && reader.is_in_request());
        reader.keep(&[0; KEPT_BYTES_MAX + 1]);
        reader.keep(b"");
        reader.reset();
        assert!(!reader.is_in_content() && !reader.is_in_request() && !reader.has_ended());
        assert!(reader.has_room() && reader.input.capacity() <= KEPT_BYTES_MAX);
    }
}

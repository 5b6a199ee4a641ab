//! One exchange: from the bytes of a request to the bytes of its answer.
//!
//! The memory of an exchange is borrowed from the worker: a connection has it from the first byte of a request to the
//! last byte of the answer, and holds nothing in between. Answers to pipelined requests that need no file gather, up to
//! a bound.

use std::io;
use std::sync::Arc;

use crate::http::status::Status;
use crate::machine::context::Context;
use crate::machine::drain::Drain;
use crate::machine::reader::{Completeness, Reader};
use crate::machine::responder::Responder;
use crate::machine::step::Close;
use crate::site::file_bytes::FileBytes;
use crate::site::open::Opened;
use crate::site::root::Site;

/// A reader and a responder, for one connection at a time.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) reader: Reader,
    pub(crate) responder: Responder,
}

impl Exchange {
    /// Memory for exchanges.
    pub(crate) fn new(site: &Arc<Site>) -> Exchange {
        Exchange { reader: Reader::default(), responder: Responder::new(site) }
    }

    /// Forgets everything but the memory. What an operation still shares is left to that operation.
    pub(crate) fn reset(&mut self, context: &mut Context) {
        self.reader.reset();
        self.responder.reset(context);
    }

    /// Takes bytes from the client (none: it closed its side) and goes as far as they lead.
    #[inline]
    pub(crate) fn received(&mut self, context: &mut Context, bytes: &[u8]) {
        if self.reader.has_input() {
            self.reader.keep(bytes);
            return self.proceed(context);
        }
        if bytes.is_empty() {
            self.reader.keep(bytes);
        }
        let used = self.read_requests(context, bytes);
        if used < bytes.len() {
            self.reader.keep(&bytes[used..]);
        }
    }

    /// Goes on with the bytes that were kept.
    fn proceed(&mut self, context: &mut Context) {
        let (input, from) = self.reader.take_input();
        let used = self.read_requests(context, &input[from..]);
        self.reader.put_input_back(input, used);
    }

    /// Reads requests from the start of `bytes` until one needs a file, the answers have to be sent, or the bytes end.
    /// Returns how many bytes were used.
    fn read_requests(&mut self, context: &mut Context, bytes: &[u8]) -> usize {
        let mut used = 0;
        while self.responder.takes_requests() {
            match self.reader.read(&bytes[used..]) {
                Err(status) => {
                    self.refuse(context, status);
                    return bytes.len();
                }
                Ok((taken, Completeness::Partial)) => {
                    used += taken;
                    self.starve(context, used < bytes.len());
                    return used;
                }
                Ok((taken, Completeness::Whole)) => {
                    used += taken;
                    let current = self.reader.current();
                    self.responder.answer(context, &current);
                }
            }
        }
        used
    }

    /// The bytes have ended, perhaps in the middle of a request.
    fn starve(&mut self, context: &mut Context, in_head: bool) {
        let in_request = in_head || self.reader.is_in_content();
        match (in_request, self.reader.has_ended()) {
            (true, true) => self.refuse(context, Status::BadRequest),
            (false, true) => self.responder.close = Some(Close::Drop),
            (false, false) if self.responder.outgoing.is_empty() && context.drain >= Drain::Closing => {
                self.responder.close = Some(Close::Graceful);
            }
            (_, false) => {}
        }
    }

    /// Answers what can't be served, and ends the connection.
    pub(crate) fn refuse(&mut self, context: &mut Context, status: Status) {
        self.reader.give_up();
        let current = self.reader.current();
        self.responder.refuse(context, &current, status);
    }

    /// The open has ended.
    #[inline]
    pub(crate) fn opened(&mut self, context: &mut Context, result: io::Result<Opened>) {
        let current = self.reader.current();
        self.responder.opened(context, &current, result);
    }

    /// The read for the cache has ended.
    #[inline]
    pub(crate) fn read(&mut self, context: &mut Context, result: io::Result<FileBytes>) {
        let current = self.reader.current();
        self.responder.read(context, &current, result);
    }

    /// So many bytes have left. When they were the last, goes on with the bytes that were kept, and returns true.
    #[inline]
    pub(crate) fn sent(&mut self, context: &mut Context, bytes: u64) -> bool {
        if !self.responder.outgoing.sent(context, bytes) {
            return false;
        }
        if self.responder.takes_requests() {
            self.proceed(context);
        } else if let Some(close) = &mut self.responder.close {
            *close = if self.reader.has_ended() {
                Close::Drop
            } else if self.reader.has_input() {
                Close::Graceful
            } else {
                *close
            };
        }
        true
    }

    /// The body can't be finished. Returns true if nothing is left to be sent.
    pub(crate) fn cut_short(&mut self, context: &mut Context) -> bool {
        self.responder.cut_short(context);
        self.sent(context, 0)
    }
}

//! The answers of an exchange: what a request gets, and how far its sending has come.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::FileType;

use crate::conditional::Validators;
use crate::exchange::{After, Answer, Answered, Body, Exchange, Need, Seeking, unshared};
use crate::head::{self, General, Persistence, Representation};
use crate::log;
use crate::mime::{MediaType, mime_for};
use crate::plan::{Plan, plan};
use crate::range::{ByteRange, Ranges};
use crate::request::{Expectation, Method, Request};
use crate::shutdown::Drain;
use crate::site::{OpenRequest, Opened};
use crate::status::{Status, status_of};
use crate::target;
use crate::worker::Worker;

impl Exchange {
    /// Answers the current request, or finds out which file that takes.
    pub(crate) fn answer(&mut self, worker: &mut Worker) -> Answered {
        let status = match self.request.method {
            Method::Unknown => Status::NotImplemented,
            Method::Known => Status::MethodNotAllowed,
            Method::Options => return self.answer_options(worker),
            Method::Get | Method::Head => match self.locate(worker) {
                Ok(()) => return Answered::NeedsFile,
                Err(status) => status,
            },
        };
        self.queue_error(worker, status)
    }

    fn answer_options(&mut self, worker: &mut Worker) -> Answered {
        let target = self.request.target(&self.head);
        match if target == b"*" { Ok(()) } else { target::resolve(target, &mut self.path).map(drop) } {
            Ok(()) => self.queue(worker, Status::NoContent, 0, head::build_options),
            Err(status) => self.queue_error(worker, status),
        }
    }

    /// Resolves the target and prepares the open.
    fn locate(&mut self, worker: &Worker) -> Result<(), Status> {
        let target = target::resolve(self.request.target(&self.head), &mut self.path)?;
        self.directory = target.directory;
        self.query = target.query;
        if target.hidden && !worker.site().options().hidden {
            self.seek_not_found_page();
        } else {
            self.seeking = Seeking::File;
            let index: &[u8] = if self.directory { b"index.html" } else { b"" };
            unshared_request(&mut self.open).set_file(&self.path, index);
        }
        Ok(())
    }

    fn seek_not_found_page(&mut self) {
        self.seeking = Seeking::NotFoundPage;
        unshared_request(&mut self.open).set_file(b"404.html", b"");
    }

    /// The open has ended, well or not.
    pub(crate) fn opened(&mut self, worker: &mut Worker, result: io::Result<Opened>) -> Need {
        let listing = worker.site().options().listing;
        match (self.seeking, result) {
            (Seeking::File, Ok(opened)) => match opened.metadata.kind {
                FileType::RegularFile => self.answer_file(worker, opened),
                FileType::Directory if !self.directory => self.answer_redirect(worker),
                _ => {
                    self.seek_not_found_page();
                    return Need::Open;
                }
            },
            (Seeking::File, Err(error))
                if listing && self.directory && status_of(&error) == Status::NotFound =>
            {
                self.seeking = Seeking::Listing;
                let hidden = worker.site().options().hidden;
                unshared_request(&mut self.open).set_listing(&self.path, hidden);
                return Need::Open;
            }
            (Seeking::Listing, Ok(Opened { listing: Some(page), .. })) => self.answer_listing(worker, &page),
            (Seeking::Listing, Ok(_)) => {
                self.seek_not_found_page();
                return Need::Open;
            }
            (Seeking::NotFoundPage, Ok(opened)) if opened.metadata.kind == FileType::RegularFile => {
                self.answer_not_found_page(worker, opened);
            }
            (Seeking::NotFoundPage, _) => {
                self.queue(
                    worker,
                    Status::NotFound,
                    head::error_body_bytes(Status::NotFound),
                    head::build_404,
                );
            }
            (Seeking::File | Seeking::Listing, Err(error)) => match status_of(&error) {
                Status::NotFound => {
                    self.seek_not_found_page();
                    return Need::Open;
                }
                status => {
                    self.queue_error(worker, status);
                }
            },
        }
        Need::Send
    }

    fn answer_file(&mut self, worker: &mut Worker, opened: Opened) {
        let Opened { file, metadata, .. } = opened;
        let validators = Validators::new(
            metadata.inode,
            metadata.size,
            metadata.modified_seconds,
            metadata.modified_nanoseconds,
            worker.unix_seconds(),
        );
        let name = self.open.path().to_bytes();
        let representation = Representation { media_type: mime_for(name), size: metadata.size, validators };
        let size = metadata.size;
        let decided = plan(self.request.method, &self.request.conditions(&self.head), &validators, size);
        match decided {
            Plan::Whole => {
                let whole = ByteRange { start: 0, length: size };
                self.begin_file(worker, Status::Ok, file, whole, |out, general| {
                    head::build_ok_headers(out, general, &representation);
                });
            }
            Plan::Part(range) => {
                self.begin_file(worker, Status::PartialContent, file, range, |out, general| {
                    head::build_partial_headers(out, general, &representation, range);
                })
            }
            Plan::Parts(ranges) => self.begin_multipart(worker, file, ranges, representation),
            Plan::NotModified => {
                self.queue(worker, Status::NotModified, 0, |out, general| {
                    head::build_not_modified(out, general, &validators);
                });
            }
            Plan::PreconditionFailed => {
                self.queue(worker, Status::PreconditionFailed, 0, |out, general| {
                    head::build_precondition_failed(out, general, &validators);
                });
            }
            Plan::RangeNotSatisfiable => {
                let body_bytes = head::error_body_bytes(Status::RangeNotSatisfiable);
                self.queue(worker, Status::RangeNotSatisfiable, body_bytes, |out, general| {
                    head::build_range_not_satisfiable(out, general, size);
                });
            }
        }
    }

    /// Begins an answer whose body is one range of a file.
    fn begin_file(
        &mut self,
        worker: &mut Worker,
        status: Status,
        file: OwnedFd,
        range: ByteRange,
        build: impl FnOnce(&mut Vec<u8>, &General),
    ) {
        self.begin_answer(worker, status, build);
        if self.request.method == Method::Get {
            self.body = Body::One { file: worker.share(file), left: range };
        }
    }

    fn begin_multipart(
        &mut self,
        worker: &mut Worker,
        file: OwnedFd,
        mut rest: Ranges,
        representation: Representation,
    ) {
        self.begin_answer(worker, Status::PartialContent, |out, general| {
            let content_bytes = head::multipart_bytes(out, &representation, &rest);
            head::build_multipart_headers(out, general, &representation, content_bytes);
        });
        let left = rest.remove(0);
        head::build_part_header(unshared(&mut self.output), &representation, left, true);
        self.body = Body::Multipart { file: worker.share(file), left, rest, representation };
    }

    fn answer_not_found_page(&mut self, worker: &mut Worker, opened: Opened) {
        let size = opened.metadata.size;
        let whole = ByteRange { start: 0, length: size };
        self.begin_file(worker, Status::NotFound, opened.file, whole, |out, general| {
            head::build_404_page_headers(out, general, MediaType::HTML, size);
        });
    }

    fn answer_listing(&mut self, worker: &mut Worker, page: &[u8]) {
        self.queue(worker, Status::Ok, page.len() as u64, |out, general| {
            head::build_page_headers(out, general, MediaType::HTML, page.len() as u64);
            out.extend_from_slice(page);
        });
    }

    /// 301 to the same path with a slash behind it, on this host whatever the target looked like.
    fn answer_redirect(&mut self, worker: &mut Worker) {
        let mut location = vec![b'/'];
        target::encode(&self.path, &mut location);
        location.push(b'/');
        location.extend_from_slice(&self.request.target(&self.head)[self.query.clone()]);
        let body_bytes = head::error_body_bytes(Status::MovedPermanently);
        self.queue(worker, Status::MovedPermanently, body_bytes, |out, general| {
            head::build_redirect(out, general, &location);
        });
    }

    fn queue_error(&mut self, worker: &mut Worker, status: Status) -> Answered {
        self.queue(worker, status, head::error_body_bytes(status), |out, general| {
            head::build_error(out, general, status);
        })
    }

    /// Appends an answer that is all memory; the last `body_bytes` of it are its body.
    fn queue(
        &mut self,
        worker: &mut Worker,
        status: Status,
        body_bytes: u64,
        build: impl FnOnce(&mut Vec<u8>, &General),
    ) -> Answered {
        self.begin_answer(worker, status, build);
        self.answer = None;
        let body_bytes = if self.request.method == Method::Head {
            let output = unshared(&mut self.output);
            output.truncate(output.len() - usize::try_from(body_bytes).unwrap_or(0));
            0
        } else {
            body_bytes
        };
        self.log(worker, status, body_bytes);
        Answered::InMemory
    }

    /// Appends a head, and settles what follows the answer.
    fn begin_answer(
        &mut self,
        worker: &mut Worker,
        status: Status,
        build: impl FnOnce(&mut Vec<u8>, &General),
    ) {
        let keep = self.request.keep_alive
            && worker.drain() == Drain::Serving
            && !worker.service().shutdown.draining();
        let persistence = match (keep, self.request.is_http10) {
            (false, _) => Persistence::Closing,
            (true, true) => Persistence::KeptExplicitly,
            (true, false) => Persistence::Kept,
        };
        self.after = if keep {
            After::Next
        } else {
            // Where the client may still be sending, a plain close could destroy the answer on its way.
            After::Close {
                graceful: self.request.keep_alive || self.request.expectation == Expectation::Continue,
            }
        };
        worker.counts.requests += 1;
        worker.counts.errors += u64::from(status.code() >= 500);
        let output = unshared(&mut self.output);
        let before = output.len();
        build(output, &General { date: worker.date(), persistence });
        self.answer = Some(Answer { status, head_bytes: (output.len() - before) as u64, sent_bytes: 0 });
    }

    /// Answers what can't be served and ends the connection: where the next request begins isn't known.
    pub(crate) fn refuse(&mut self, worker: &mut Worker, status: Status) {
        if self.head.is_empty() {
            self.request = Request::default();
        }
        self.content = None;
        self.request.keep_alive = false;
        self.queue_error(worker, status);
        self.after = After::Close { graceful: true };
    }

    /// So many bytes of the output, then of the file, have left. `None` while there are more.
    pub(crate) fn sent(&mut self, worker: &mut Worker, bytes: usize) -> Option<Need> {
        let of_output = bytes.min(self.output.len() - self.output_sent);
        self.output_sent += of_output;
        if let Body::One { left, .. } | Body::Multipart { left, .. } = &mut self.body {
            let of_file = (bytes - of_output) as u64;
            left.start += of_file;
            left.length -= of_file;
        }
        if let Some(answer) = &mut self.answer {
            answer.sent_bytes += bytes as u64;
        }
        if self.output_sent < self.output.len() || self.file().is_some() || self.begin_next_part(worker) {
            return None;
        }
        self.log_answer(worker);
        self.release_file(worker);
        unshared(&mut self.output).clear();
        self.output_sent = 0;
        self.started = worker.now();
        Some(match std::mem::take(&mut self.after) {
            After::Next => self.proceed(worker),
            After::Open => Need::Open,
            After::Close { graceful } => {
                Need::End { graceful: (graceful || !self.input.is_empty()) && !self.ended }
            }
        })
    }

    /// The answer is over: its file is closed, unless an operation in flight still reads from it.
    pub(crate) fn release_file(&mut self, worker: &mut Worker) {
        match std::mem::take(&mut self.body) {
            Body::One { file, .. } | Body::Multipart { file, .. } => drop(worker.release(file)),
            Body::None => {}
        }
    }

    /// The output and the file's range have been sent: the next part of a multipart body, if there is one.
    fn begin_next_part(&mut self, worker: &mut Worker) -> bool {
        let Body::Multipart { left, rest, representation, .. } = &mut self.body else {
            return false;
        };
        let output = unshared(&mut self.output);
        output.clear();
        self.output_sent = 0;
        if rest.is_empty() {
            head::build_multipart_end(output, representation);
            self.release_file(worker);
        } else {
            *left = rest.remove(0);
            head::build_part_header(output, representation, *left, false);
        }
        true
    }

    /// Logs the answer under way, with what has been sent of it.
    pub(crate) fn log_answer(&mut self, worker: &Worker) {
        if let Some(Answer { status, head_bytes, sent_bytes }) = self.answer.take() {
            self.log(worker, status, sent_bytes.saturating_sub(head_bytes));
        }
    }

    fn log(&self, worker: &Worker, status: Status, content_bytes: u64) {
        let Some(log) = &worker.log else { return };
        let head = self.head.as_slice();
        let known = !head.is_empty();
        log.append(&log::Entry {
            peer: self.peer,
            unix_seconds: worker.unix_seconds(),
            request_line: if known { self.request.line(head) } else { b"" },
            status: status.code(),
            content_bytes,
            referer: self.request.referer(head).filter(|_| known),
            user_agent: self.request.user_agent(head).filter(|_| known),
            duration: self.started.elapsed(),
        });
    }
}

/// The request for writing; a new one if an operation in flight still reads the old one.
fn unshared_request(open: &mut Arc<OpenRequest>) -> &mut OpenRequest {
    if Arc::get_mut(open).is_none() {
        *open = Arc::default();
    }
    Arc::get_mut(open).expect("a request that was just made has one owner")
}

//! The answers of an exchange: what a request gets, and how far its sending has come.

use std::io;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::cache::{Entry, Source, representation};
use crate::exchange::{After, Answer, Answered, Body, Exchange, Need, Seeking, unshared};
use crate::file_bytes::FileBytes;
use crate::head::{self, General, Persistence, Representation};
use crate::log;
use crate::mime::MediaType;
use crate::plan::{Plan, plan};
use crate::range::{ByteRange, Ranges};
use crate::request::{Expectation, Method, Request};
use crate::shutdown::Drain;
use crate::site::{Metadata, OpenRequest, Opened};
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
                Ok(answered) => return answered,
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

    /// Resolves the target, and answers from the cache or prepares the open.
    fn locate(&mut self, worker: &mut Worker) -> Result<Answered, Status> {
        let target = target::resolve(self.request.target(&self.head), &mut self.path)?;
        self.directory = target.directory;
        self.query = target.query;
        if target.hidden && !worker.site().options().hidden {
            return Ok(self.seek_not_found_page(worker));
        }
        self.seeking = Seeking::File;
        let index: &[u8] = if self.directory { b"index.html" } else { b"" };
        unshared_request(&mut self.open).set_file(&self.path, index);
        Ok(self.look_up(worker))
    }

    fn seek_not_found_page(&mut self, worker: &mut Worker) -> Answered {
        self.seeking = Seeking::NotFoundPage;
        unshared_request(&mut self.open).set_file(b"404.html", b"");
        self.look_up(worker)
    }

    /// Answers from the cache, if the file is there.
    fn look_up(&mut self, worker: &mut Worker) -> Answered {
        match worker.cached(self.open.path_bytes()) {
            Some(entry) => self.answer_entry(worker, entry),
            None => Answered::NeedsFile,
        }
    }

    fn answer_entry(&mut self, worker: &mut Worker, entry: Arc<Entry>) -> Answered {
        if entry.wants_bytes && self.request.method == Method::Get {
            self.loading = Some(entry);
            return Answered::NeedsBytes;
        }
        let source = entry.source.clone();
        self.answer_found(worker, Found::of(&entry, source))
    }

    /// The file to be cached was read, as far as it went.
    pub(crate) fn loaded(&mut self, worker: &mut Worker, result: io::Result<FileBytes>) -> Need {
        let Some(entry) = self.loading.take() else { return Need::Send };
        let path = self.open.path_bytes();
        let source = match result {
            Ok(bytes) if bytes.len() as u64 == entry.metadata.size => {
                Source::Memory(worker.keep_bytes(path, &entry, bytes))
            }
            // It has shrunk or can't be read: it will fail as it does without a cache.
            Ok(_) | Err(_) => {
                worker.forget(path);
                entry.source.clone()
            }
        };
        self.answer_found(worker, Found::of(&entry, source)).need()
    }

    /// The open has ended, well or not.
    pub(crate) fn opened(&mut self, worker: &mut Worker, result: io::Result<Opened>) -> Need {
        let listing = worker.site().options().listing;
        match (self.seeking, result) {
            (Seeking::File, Ok(opened)) => match opened.metadata.kind {
                FileType::RegularFile => return self.answer_opened(worker, opened).need(),
                FileType::Directory if !self.directory => self.answer_redirect(worker),
                _ => return self.seek_not_found_page(worker).need(),
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
            (Seeking::Listing, Ok(_)) => return self.seek_not_found_page(worker).need(),
            (Seeking::NotFoundPage, Ok(opened)) if opened.metadata.kind == FileType::RegularFile => {
                return self.answer_opened(worker, opened).need();
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
                Status::NotFound => return self.seek_not_found_page(worker).need(),
                status => {
                    if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) {
                        worker.shed_descriptors();
                    }
                    self.queue_error(worker, status);
                }
            },
        }
        Need::Send
    }

    /// A regular file was opened: answers with it, and keeps it if it is worth it.
    fn answer_opened(&mut self, worker: &mut Worker, opened: Opened) -> Answered {
        let Opened { file, metadata, .. } = opened;
        let file = worker.share(file, metadata.device);
        let path = self.open.path_bytes();
        if let Some(entry) = worker.admit(path, &file, metadata) {
            worker.release_source(Source::File(file));
            return self.answer_entry(worker, entry);
        }
        let media_type = worker.media_types.mime_for(path);
        let source = Source::File(file);
        self.answer_found(worker, Found { metadata: &metadata, media_type, source, entry: None })
    }

    fn answer_found(&mut self, worker: &mut Worker, found: Found<'_>) -> Answered {
        match self.seeking {
            Seeking::NotFoundPage => self.answer_not_found_page(worker, found),
            Seeking::File | Seeking::Listing => self.answer_file(worker, found),
        }
    }

    fn answer_file(&mut self, worker: &mut Worker, found: Found<'_>) -> Answered {
        let Found { metadata, media_type, source, entry } = found;
        let (now, size) = (worker.unix_seconds(), metadata.size);
        let whole = ByteRange { start: 0, length: size };
        let is_unconditional = self.request.is_unconditional();
        if let Some(entry) = entry
            && is_unconditional
        {
            let push_head = |out: &mut Vec<u8>, general: &General| entry.push_head(out, general, now);
            return self.begin_body(worker, Status::Ok, source, whole, push_head);
        }
        let representation = representation(metadata, media_type, now);
        let validators = representation.validators;
        let decided = if is_unconditional {
            Plan::Whole
        } else {
            plan(self.request.method, &self.request.conditions(&self.head), &validators, size)
        };
        match decided {
            Plan::Whole => self.begin_body(worker, Status::Ok, source, whole, |out, general| {
                head::build_ok_headers(out, general, &representation);
            }),
            Plan::Part(range) => {
                self.begin_body(worker, Status::PartialContent, source, range, |out, general| {
                    head::build_partial_headers(out, general, &representation, range);
                })
            }
            Plan::Parts(ranges) => self.begin_multipart(worker, source, ranges, representation),
            Plan::NotModified => {
                worker.release_source(source);
                self.queue(worker, Status::NotModified, 0, |out, general| {
                    head::build_not_modified(out, general, &validators);
                })
            }
            Plan::PreconditionFailed => {
                worker.release_source(source);
                self.queue(worker, Status::PreconditionFailed, 0, |out, general| {
                    head::build_precondition_failed(out, general, &validators);
                })
            }
            Plan::RangeNotSatisfiable => {
                worker.release_source(source);
                let body_bytes = head::error_body_bytes(Status::RangeNotSatisfiable);
                self.queue(worker, Status::RangeNotSatisfiable, body_bytes, |out, general| {
                    head::build_range_not_satisfiable(out, general, size);
                })
            }
        }
    }

    /// Begins an answer whose body is one range of a file.
    fn begin_body(
        &mut self,
        worker: &mut Worker,
        status: Status,
        source: Source,
        range: ByteRange,
        build: impl FnOnce(&mut Vec<u8>, &General),
    ) -> Answered {
        if self.request.method != Method::Get {
            worker.release_source(source);
            return self.queue(worker, status, 0, build);
        }
        match &source {
            Source::Memory(bytes) if range.length <= INLINE_BYTES_MAX => {
                let start = usize::try_from(range.start).expect("it is in memory");
                let body = &bytes[start..][..usize::try_from(range.length).expect("it is in memory")];
                self.queue(worker, status, range.length, |out, general| {
                    build(out, general);
                    out.extend_from_slice(body);
                })
            }
            Source::Memory(_) | Source::File(_) => {
                self.begin_answer(worker, status, build);
                self.body = Body::One { source, left: range };
                self.await_body()
            }
        }
    }

    fn begin_multipart(
        &mut self,
        worker: &mut Worker,
        source: Source,
        mut rest: Ranges,
        representation: Representation,
    ) -> Answered {
        self.begin_answer(worker, Status::PartialContent, |out, general| {
            let content_bytes = head::multipart_bytes(out, &representation, &rest);
            head::build_multipart_headers(out, general, &representation, content_bytes);
        });
        let answered = self.await_body();
        let left = rest.remove(0);
        head::build_part_header(unshared(&mut self.output), &representation, left, true);
        self.body = Body::Multipart { source, left, rest, representation };
        answered
    }

    /// The output ends with a head, and a body follows: what is sent of the output isn't content.
    fn await_body(&mut self) -> Answered {
        if let Some(answer) = &mut self.answer {
            answer.head_bytes = self.output.len() as u64;
        }
        Answered::Begun
    }

    fn answer_not_found_page(&mut self, worker: &mut Worker, found: Found<'_>) -> Answered {
        let size = found.metadata.size;
        let whole = ByteRange { start: 0, length: size };
        self.begin_body(worker, Status::NotFound, found.source, whole, |out, general| {
            head::build_404_page_headers(out, general, MediaType::HTML, size);
        })
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

    /// So many bytes of the output, then of the body, have left. `None` while there are more.
    pub(crate) fn sent(&mut self, worker: &mut Worker, bytes: usize) -> Option<Need> {
        let of_output = bytes.min(self.output.len() - self.output_sent);
        self.output_sent += of_output;
        if let Body::One { left, .. } | Body::Multipart { left, .. } = &mut self.body {
            let of_body = (bytes - of_output) as u64;
            left.start += of_body;
            left.length -= of_body;
        }
        if let Some(answer) = &mut self.answer {
            answer.sent_bytes += bytes as u64;
        }
        if self.output_sent < self.output.len() || self.rest().is_some() || self.begin_next_part(worker) {
            return None;
        }
        self.log_answer(worker);
        self.release_body(worker);
        unshared(&mut self.output).clear();
        self.output_sent = 0;
        self.started = worker.now();
        Some(match std::mem::take(&mut self.after) {
            After::Next => self.proceed(worker),
            After::Open => Need::Open,
            After::Load => Need::Load,
            After::Close { graceful } => {
                Need::End { graceful: (graceful || !self.input.is_empty()) && !self.ended }
            }
        })
    }

    /// There will be no more of the body. `None` while output is still to be sent.
    pub(crate) fn cut_short(&mut self, worker: &mut Worker) -> Option<Need> {
        self.release_body(worker);
        self.after = After::Close { graceful: true };
        self.sent(worker, 0)
    }

    /// The answer is over: its file is closed, unless the cache keeps it or an operation in flight still reads
    /// from it.
    pub(crate) fn release_body(&mut self, worker: &mut Worker) {
        match std::mem::take(&mut self.body) {
            Body::One { source, .. } | Body::Multipart { source, .. } => worker.release_source(source),
            Body::None => {}
        }
    }

    /// The output and the body's range have been sent: the next part of a multipart body, if there is one.
    fn begin_next_part(&mut self, worker: &mut Worker) -> bool {
        let Body::Multipart { left, rest, representation, .. } = &mut self.body else {
            return false;
        };
        let output = unshared(&mut self.output);
        output.clear();
        self.output_sent = 0;
        if rest.is_empty() {
            head::build_multipart_end(output, representation);
            self.release_body(worker);
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

/// Bodies in memory up to this size are copied next to their heads: a piece of memory less to be sent.
const INLINE_BYTES_MAX: u64 = 8 * 1024;

/// A file that an answer can be made of.
struct Found<'a> {
    metadata: &'a Metadata,
    media_type: MediaType,
    source: Source,
    /// Its entry in the cache.
    entry: Option<&'a Entry>,
}

impl<'a> Found<'a> {
    fn of(entry: &'a Entry, source: Source) -> Found<'a> {
        let Entry { metadata, media_type, .. } = entry;
        Found { metadata, media_type: *media_type, source, entry: Some(entry) }
    }
}

/// The request for writing; a new one if an operation in flight still reads the old one.
fn unshared_request(open: &mut Arc<OpenRequest>) -> &mut OpenRequest {
    if Arc::get_mut(open).is_none() {
        *open = Arc::default();
    }
    Arc::get_mut(open).expect("a request that was just made has one owner")
}

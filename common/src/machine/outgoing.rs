//! Outgoing: the answers under way, how far they have been sent, and what the log will say of them.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use crate::http::accept_encoding::Coding;
use crate::http::range::ByteRange;
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::target;
use crate::machine::chunks::{Chunk, Chunks};
use crate::machine::context::Context;
use crate::machine::peer::Peer;
use crate::machine::proxies::FORWARDED_FOR;
use crate::machine::reader::Current;
use crate::machine::record::{LogFormat, Record};
use crate::machine::timing::Timing;
use crate::site::cache::Source;
use crate::site::file::{SharedFile, place_of};

/// Answers in memory are gathered up to this many bytes, then sent.
const OUTPUT_BYTES_MAX: usize = 32 * 1024;
/// Bodies in memory up to this size are copied next to their heads: one piece of memory less to be sent.
const INLINE_BYTES_MAX: u64 = 8 * 1024;
/// Buffers that grew beyond this are not kept for the next exchange.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What is to be sent, in order.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The connection's own bytes: heads, small bodies, separators.
    output: Rc<Vec<u8>>,
    /// The bytes of the output that come first,
    lead: Range<usize>,
    /// and what follows them. In most cases it is empty.
    rest: Vec<Chunk>,
    /// Bytes put here and bytes sent, since it was last empty.
    queued: u64,
    sent: u64,
    peer: Option<Peer>,
    /// How long the answers take.
    timing: Timing,
    /// When the first byte came of what is being answered.
    started: Instant,
    /// What the content of the answer under way is in: it counts for that one alone.
    coding: Option<Coding>,
    /// What the log will say of each answer; empty without a log.
    pending: VecDeque<Pending>,
    /// The texts that `pending` refers to.
    texts: Vec<u8>,
}

/// An answer that the log doesn't have yet.
#[derive(Debug)]
struct Pending {
    status: Status,
    started: Instant,
    /// Where its content begins and ends, in bytes queued.
    content: Range<u64>,
    client: Option<Peer>,
    coding: Option<Coding>,
    line: Range<usize>,
    host: Option<Range<usize>>,
    referer: Option<Range<usize>>,
    user_agent: Option<Range<usize>>,
}

impl Outgoing {
    /// Nothing to send.
    pub(crate) fn new() -> Outgoing {
        Outgoing {
            output: Rc::default(),
            lead: 0..0,
            rest: Vec::new(),
            queued: 0,
            sent: 0,
            peer: None,
            timing: Timing::new(),
            started: Instant::now(),
            coding: None,
            pending: VecDeque::new(),
            texts: Vec::new(),
        }
    }

    /// The first byte of a request has come from this peer.
    pub(crate) fn begin(&mut self, now: Instant, peer: Option<Peer>) {
        self.started = now;
        self.peer = peer;
    }

    /// A request is whole, or won't be.
    #[inline]
    pub(crate) fn ask(&mut self, now: Instant) {
        self.timing.ask(now);
    }

    /// Whether everything has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.lead.is_empty() && self.rest.is_empty()
    }

    /// Whether another answer may join those that gather: as long as all are in one piece of memory.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.rest.is_empty() && self.output.len() < OUTPUT_BYTES_MAX
    }

    /// What is to be sent.
    pub(crate) fn chunks(&self) -> Chunks<'_> {
        Chunks::new(&self.output, &self.lead, &self.rest)
    }

    /// Appends bytes to the connection's own.
    #[inline]
    pub(crate) fn append(&mut self, build: impl FnOnce(&mut Vec<u8>)) {
        let output = unshared(&mut self.output);
        let start = output.len();
        build(output);
        let end = output.len();
        self.queued += (end - start) as u64;
        match self.rest.last_mut() {
            None => self.lead.end = end,
            Some(Chunk::Output(range)) => range.end = end,
            Some(Chunk::Body(..) | Chunk::File(..)) => self.rest.push(Chunk::Output(start..end)),
        }
    }

    /// Appends bytes of the connection's own, and a range of a body behind them.
    #[inline]
    pub(crate) fn append_with_body(
        &mut self,
        context: &mut Context,
        build: impl FnOnce(&mut Vec<u8>),
        source: Source,
        range: ByteRange,
    ) {
        let copied = match &source {
            Source::Memory(body) if range.length <= INLINE_BYTES_MAX => &body[positions(range)],
            Source::Memory(_) | Source::File(_) => &[],
        };
        self.append(|out| {
            build(out);
            if !copied.is_empty() {
                out.extend_from_slice(copied);
            }
        });
        if copied.len() as u64 == range.length {
            return context.files.release_source(source);
        }
        self.queued += range.length;
        self.rest.push(match source {
            Source::Memory(body) => Chunk::Body(body, positions(range)),
            Source::File(file) => Chunk::File(file, range),
        });
    }

    /// An answer is complete; the last `content_bytes` of it are its content.
    #[inline]
    pub(crate) fn end_answer(
        &mut self,
        context: &Context,
        current: &Current<'_>,
        status: Status,
        content_bytes: u64,
    ) {
        if context.latencies.is_some() {
            self.timing.end_answer(status.class(), self.queued);
        }
        if let Some(log) = &context.log {
            self.end_logged(context, log.format, current, status, content_bytes);
        }
    }

    /// Apart, so that answers of which no log is kept don't pay for its room on the stack.
    #[inline(never)]
    fn end_logged(
        &mut self,
        context: &Context,
        format: LogFormat,
        current: &Current<'_>,
        status: Status,
        content_bytes: u64,
    ) {
        let host = if format == LogFormat::Json { host(current) } else { None };
        let forwarded_for = || Request::values(current.head, FORWARDED_FOR).rev();
        let client = context.proxies.client(self.peer, forwarded_for);
        self.remember(current, client, host, status, content_bytes);
    }

    /// The content of the answer that is begun is in this coding.
    #[inline]
    pub(crate) fn note_coding(&mut self, coding: Option<Coding>) {
        self.coding = coding;
    }

    /// Keeps what the log will say of an answer.
    fn remember(
        &mut self,
        current: &Current<'_>,
        client: Option<Peer>,
        host: Option<&[u8]>,
        status: Status,
        content_bytes: u64,
    ) {
        let Current { request, head } = *current;
        let texts = &mut self.texts;
        let mut keep = |text: &[u8]| {
            let start = texts.len();
            texts.extend_from_slice(text);
            start..texts.len()
        };
        self.pending.push_back(Pending {
            status,
            started: self.started,
            content: self.queued - content_bytes..self.queued,
            client,
            coding: self.coding.take(),
            line: keep(request.line(head)),
            host: host.map(&mut keep),
            referer: request.referer(head).map(&mut keep),
            user_agent: request.user_agent(head).map(&mut keep),
        });
    }

    /// So many bytes have left. Whether these were the last.
    pub(crate) fn sent(&mut self, context: &mut Context, bytes: u64) -> bool {
        self.sent += bytes;
        let of_lead = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.lead.len());
        self.lead.start += of_lead;
        let mut left = bytes - of_lead as u64;
        while let Some(chunk) = self.rest.first_mut() {
            let length = chunk.length();
            if left < length {
                chunk.advance(left);
                break;
            }
            left -= length;
            release(context, self.rest.remove(0));
        }
        let now = context.now();
        if let Some(latencies) = &mut context.latencies {
            self.timing.sent(self.sent, now, latencies);
        }
        self.log_finished(context);
        if !self.is_empty() {
            return false;
        }
        // What is still unlogged, or timed, was cut short.
        if context.latencies.is_some() {
            self.timing.clear();
        }
        self.log_unfinished(context);
        self.forget_output();
        self.started = context.now();
        true
    }

    /// A file's body can't be finished: drops it and what follows it. What is in front of it is still sent.
    pub(crate) fn cut_short(&mut self, context: &mut Context) {
        let first_file = self.rest.iter().position(|chunk| matches!(chunk, Chunk::File(..)));
        if let Some(Chunk::File(file, _)) = first_file.and_then(|first| self.rest.get(first)) {
            tell_cut(context, file);
        }
        for chunk in self.rest.drain(first_file.unwrap_or(self.rest.len())..) {
            release(context, chunk);
        }
    }

    /// Logs what has left whole.
    #[inline]
    fn log_finished(&mut self, context: &Context) {
        while let Some(pending) = self.pending.front()
            && pending.content.end <= self.sent
        {
            self.log_next(context);
        }
    }

    /// The connection ends: logs what is left, with what has been sent of it.
    pub(crate) fn log_unfinished(&mut self, context: &Context) {
        while !self.pending.is_empty() {
            self.log_next(context);
        }
    }

    fn log_next(&mut self, context: &Context) {
        let (Some(pending), Some(log)) = (self.pending.pop_front(), &context.log) else { return };
        let text = |range: Range<usize>| &self.texts[range];
        let now = Instant::now();
        log.append(&Record {
            client: pending.client,
            peer: self.peer,
            time: context.unix_time(now),
            unix_seconds: context.moment().unix_seconds,
            request_line: text(pending.line),
            host: pending.host.map(text),
            status: pending.status.code(),
            coding: pending.coding,
            content_bytes: self.sent.min(pending.content.end).saturating_sub(pending.content.start),
            referer: pending.referer.map(text),
            user_agent: pending.user_agent.map(text),
            duration: now.saturating_duration_since(pending.started),
        });
    }

    /// Drops everything that is left.
    pub(crate) fn clear(&mut self, context: &mut Context) {
        if self.queued > 0 {
            self.rest.drain(..).for_each(|chunk| release(context, chunk));
            self.pending.clear();
            self.timing.clear();
            self.forget_output();
        }
        unshared(&mut self.output).shrink_to(KEPT_BYTES_MAX);
        self.texts.shrink_to(KEPT_BYTES_MAX);
    }

    fn forget_output(&mut self) {
        unshared(&mut self.output).clear();
        self.lead = 0..0;
        self.texts.clear();
        self.queued = 0;
        self.sent = 0;
    }
}

/// The host that was asked.
fn host<'a>(current: &Current<'a>) -> Option<&'a [u8]> {
    let named = target::authority(current.request.target(current.head));
    named.or_else(|| Request::values(current.head, "Host").next())
}

/// Where a range of a body lies in memory.
fn positions(range: ByteRange) -> Range<usize> {
    let position = |at: u64| usize::try_from(at).expect("a position in memory");
    position(range.start)..position(range.start + range.length)
}

/// Gives a chunk's file or body back.
fn release(context: &mut Context, chunk: Chunk) {
    if let Chunk::File(file, _) = chunk {
        drop(context.files.release(file));
    }
}

/// The buffer for writing; a new one if an operation in flight still reads the old one.
fn unshared(output: &mut Rc<Vec<u8>>) -> &mut Vec<u8> {
    if Rc::get_mut(output).is_none() {
        *output = Rc::default();
    }
    Rc::get_mut(output).expect("a buffer that was just made has one owner")
}

/// Says which file has let a client down. The path of the request says it no more, since others may follow it already.
#[cold]
fn tell_cut(context: &Context, file: &SharedFile) {
    let Some(log) = &context.files.site().options().fault_log else { return };
    let place = place_of(file).unwrap_or_default();
    let place = place.display();
    log.tell(
        context.now(),
        format_args!(
            "{place}: an answer was cut short: the file is shorter than its size was, or can't be read"
        ),
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::http::request::{Parsed, Request, parse_http_get};
    use crate::machine::context::Timeouts;
    use crate::machine::record::LogBuffer;
    use crate::site::cache::CacheConfig;
    use crate::site::file_bytes::FileBytes;
    use crate::site::files::Files;
    use crate::site::root::{Site, SiteOptions};

    const HEAD: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

    fn context(log: &LogBuffer) -> Context {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let site = Site::open_root(root, SiteOptions::default()).expect("opened");
        let files = Files::new((Arc::new(site), 0), CacheConfig::OFF, Arc::default(), None);
        let second = Duration::from_secs(1);
        let timeouts =
            Timeouts { head: second, idle: second, send: second, send_rate_min: 0, linger: second };
        Context::new(files, timeouts, Some(log.clone()), Arc::default())
    }

    fn lines(log: &LogBuffer) -> String {
        let lines = std::mem::take(&mut log.lines.lock().expect("not poisoned").waiting);
        String::from_utf8(lines).expect("ASCII")
    }

    /// The status and the bytes of content that each line of the log tells.
    fn logged(log: &LogBuffer) -> Vec<String> {
        lines(log).lines().map(|line| line.split('"').nth(2).expect("numbers").trim().to_owned()).collect()
    }

    #[test]
    fn an_answer_is_logged_when_its_last_byte_has_left() {
        let log = LogBuffer::default();
        let mut context = context(&log);
        let Parsed::Complete(request, _) = parse_http_get(HEAD) else { panic!("a request") };
        let current = Current { request: &request, head: HEAD };
        let mut outgoing = Outgoing::new();
        for (status, content_bytes) in [(Status::Ok, 10), (Status::NotFound, 20), (Status::Ok, 30)] {
            outgoing.append(|out| out.resize(out.len() + 100 + content_bytes, b'x'));
            outgoing.end_answer(&context, &current, status, content_bytes as u64);
        }
        assert!(!outgoing.sent(&mut context, 109) && logged(&log).is_empty(), "a byte of it is still here");
        assert!(!outgoing.sent(&mut context, 1 + 50));
        assert_eq!(logged(&log), ["200 10"]);
        assert!(!outgoing.sent(&mut context, 70 + 105));
        assert_eq!(logged(&log), ["404 20"]);
        outgoing.log_unfinished(&context);
        assert_eq!(logged(&log), ["200 5"], "what was sent of an answer that was cut off");
    }

    #[test]
    fn a_line_tells_who_asked_for_what_and_for_how_long() {
        let log = LogBuffer::default();
        let mut context = context(&log);
        let head = b"GET /a HTTP/1.1\r\nHost: a\r\nReferer: r\r\nUser-Agent: u\r\n\r\n";
        let Parsed::Complete(request, _) = parse_http_get(head) else { panic!("a request") };
        let peer: std::net::SocketAddr = "192.0.2.7:1".parse().expect("an address");
        let mut outgoing = Outgoing::new();
        outgoing.begin(context.now() - Duration::from_secs(1000), Some(peer.into()));
        outgoing.append(|out| out.push(b'x'));
        outgoing.end_answer(&context, &Current { request: &request, head }, Status::Ok, 0);
        let none = Current { request: &Request::default(), head: b"" };
        outgoing.end_answer(&context, &none, Status::BadRequest, 0);
        assert!(outgoing.sent(&mut context, 1));
        let lines = lines(&log);
        let [first, second] = lines.lines().collect::<Vec<_>>()[..] else { panic!("two lines: {lines}") };
        assert!(first.starts_with("192.0.2.7 - - ["), "{first}");
        let (_, first) = first.split_once("+0000] ").expect("a date");
        let duration = first.strip_prefix("\"GET /a HTTP/1.1\" 200 0 \"r\" \"u\" ").expect(first);
        assert!(duration.parse::<f64>().is_ok_and(|seconds| seconds >= 1000.0), "{duration}");
        assert!(second.contains("] \"-\" 400 0 \"-\" \"-\" "), "there was no request: {second}");
    }

    fn in_bytes(length: u64) -> usize {
        usize::try_from(length).expect("small")
    }

    fn in_memory(bytes: &[u8]) -> Source {
        Source::Memory(Arc::new(FileBytes::from(bytes)))
    }

    #[test]
    fn a_small_body_is_copied_behind_its_head() {
        let mut context = context(&LogBuffer::default());
        let body: Vec<u8> = (0..=255).cycle().take(in_bytes(INLINE_BYTES_MAX) + 6).collect();
        for (length, pieces) in [(INLINE_BYTES_MAX, 1), (INLINE_BYTES_MAX + 1, 2)] {
            let mut outgoing = Outgoing::new();
            let range = ByteRange { start: 5, length };
            outgoing.append_with_body(&mut context, |out| out.extend(b"head"), in_memory(&body), range);
            let (front, _) = outgoing.chunks().front();
            let sent: Vec<u8> = front.iter().flat_map(|piece| piece.bytes()).copied().collect();
            assert!(sent == [b"head", &body[positions(range)]].concat(), "{length}");
            assert_eq!((front.len(), outgoing.has_room()), (pieces, pieces == 1), "{length}");
        }
    }

    #[test]
    fn answers_gather_up_to_a_bound() {
        let mut outgoing = Outgoing::new();
        outgoing.append(|out| out.resize(OUTPUT_BYTES_MAX - 1, 0));
        assert!(outgoing.has_room());
        outgoing.append(|out| out.push(0));
        assert!(!outgoing.has_room());
    }

    /// One call may send the end of one body, all of what follows, and the beginning of another.
    #[test]
    fn what_has_left_may_end_in_any_chunk() {
        const BODY: u64 = INLINE_BYTES_MAX + 1;
        let log = LogBuffer::default();
        let mut context = context(&log);
        let Parsed::Complete(request, _) = parse_http_get(HEAD) else { panic!("a request") };
        let current = Current { request: &request, head: HEAD };
        let body = vec![7; in_bytes(BODY)];
        let mut outgoing = Outgoing::new();
        for status in [Status::Ok, Status::PartialContent] {
            let range = ByteRange { start: 0, length: BODY };
            outgoing.append_with_body(&mut context, |out| out.extend(b"head"), in_memory(&body), range);
            outgoing.end_answer(&context, &current, status, BODY);
        }
        assert!(!outgoing.sent(&mut context, 4 + BODY - 1) && logged(&log).is_empty());
        assert!(!outgoing.sent(&mut context, 1 + 4 + 10));
        assert_eq!(outgoing.chunks().length(), BODY - 10);
        assert_eq!(logged(&log), [format!("200 {BODY}")]);
        outgoing.log_unfinished(&context);
        assert_eq!(logged(&log), ["206 10"]);
    }

    #[test]
    fn memory_that_has_grown_is_not_kept() {
        let mut context = context(&LogBuffer::default());
        let mut outgoing = Outgoing::new();
        outgoing.append(|out| out.resize(KEPT_BYTES_MAX + 1, 0));
        outgoing.texts.resize(KEPT_BYTES_MAX + 1, 0);
        outgoing.clear(&mut context);
        assert!(outgoing.is_empty() && outgoing.output.capacity() <= KEPT_BYTES_MAX);
        assert!(outgoing.texts.capacity() <= KEPT_BYTES_MAX);
    }
}

//! The connection: what it waits for, and until when.
//!
//! A [`Connection`] does no I/O. Its backend reports what has happened ([`received`](Connection::received),
//! [`opened`](Connection::opened), [`read`](Connection::read), [`sent`](Connection::sent)) and asks what must happen
//! next ([`step`](Connection::step)).

use std::io;
use std::time::{Duration, Instant};

use crate::http::proxy_header::{Introduction, introduction};
use crate::http::status::Status;
use crate::machine::context::Context;
use crate::machine::drain::Drain;
use crate::machine::exchange::Exchange;
use crate::machine::peer::Peer;
use crate::machine::progress::{Delivery, Progress};
use crate::machine::responder::Missing;
use crate::machine::step::{Close, Step};
use crate::site::file_bytes::FileBytes;
use crate::site::free_list::FreeList;
use crate::site::open::Opened;

/// While lingering, a client that sends more than this is dropped: far more than fits into the buffers of both sides, so
/// that who uploads what is refused gets to read why.
pub const LINGER_BYTES_MAX: usize = 256 << 20;
/// How long a connection lingers, which is to drop what the client sends behind its last answer, without more of it.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it lingers for a client that goes on sending: by default, [`Config::linger_time`](crate::Config::linger_time).
/// (nginx has the same three bounds: `lingering_close`, `lingering_timeout` 5 s, `lingering_time` 30 s.)
pub const LINGER_TIME: Duration = Duration::from_secs(30);

/// Exchanges that are kept for the next requests; beyond that they are freed.
const SPARE_EXCHANGES_MAX: usize = 1024;
/// So many of them stay, however little there is to do.
const SPARE_EXCHANGES_MIN: usize = 2;

/// What a worker's connections live on: their common context, and memory for exchanges.
#[derive(Debug)]
pub struct Host {
    /// What they share.
    pub(crate) context: Context,
    exchanges: FreeList<Box<Exchange>>,
}

impl Host {
    pub(crate) fn new(context: Context) -> Host {
        Host { context, exchanges: FreeList::new(SPARE_EXCHANGES_MIN, SPARE_EXCHANGES_MAX) }
    }

    /// Reads the clock, and frees memory that has gone unneeded for a while.
    pub(crate) fn tick(&mut self) {
        if self.context.tick() {
            self.exchanges.trim();
        }
    }

    /// Memory for an exchange: used before, or new.
    fn take(&mut self, peer: Option<Peer>) -> Box<Exchange> {
        self.context.counts.exchanges_begun += 1;
        let spare = self.exchanges.take();
        let mut exchange = spare.unwrap_or_else(|| Box::new(Exchange::new(self.context.files.site())));
        exchange.responder.outgoing.begin(self.context.now(), peer);
        exchange
    }

    /// Takes the memory of an exchange back.
    fn put_back(&mut self, mut exchange: Box<Exchange>) {
        self.context.counts.exchanges_ended += 1;
        exchange.reset(&mut self.context);
        self.exchanges.put(exchange);
    }
}

/// What the connection is waiting for.
#[derive(Debug)]
enum State {
    /// The header in which a proxy introduces its client. What has come of it, if that is only a part: none does as a
    /// rule, and all other states would have the room for it.
    Introduced(Option<Box<Part>>),
    /// A request. Nothing is held.
    Idle,
    /// The rest of a request.
    Reading(Box<Exchange>),
    /// A file.
    Opening(Box<Exchange>),
    /// Bytes of a file, for the cache.
    Loading(Box<Exchange>),
    /// An answer to leave.
    Sending(Box<Exchange>),
    /// The client to close its side, too.
    Lingering(Box<Lingering>),
    /// The backend to close it.
    Closing(Close),
}

/// The first bytes of a proxy's header.
#[derive(Debug)]
struct Part(Vec<u8>);

/// What a connection waits for when it lingers. In a box: few do, and all others would have the room for it.
#[derive(Debug)]
struct Lingering {
    /// So many bytes may still come,
    bytes_left: usize,
    /// until then.
    ends: Instant,
}

/// Which connections give way first when another one needs a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Those that wait for a request.
    Idle,
    /// Those whose answer is sent, and that wait for the client to close.
    Lingering,
    /// Those that wait for the rest of a request.
    Reading,
}

/// A connection's standing among those that may give way: the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// What it waits for.
    pub rank: Rank,
    /// Since when.
    pub since: Instant,
}

/// One connection, from its first byte to its last.
#[derive(Debug)]
pub struct Connection {
    state: State,
    deadline: Option<Instant>,
    /// What has been seen of a client that is slow to take its answer.
    progress: Option<Box<Progress>>,
    peer: Option<Peer>,
}

impl Connection {
    /// A connection that was just accepted. The peer is for the access log, and tells whether it is that of a proxy.
    #[must_use]
    pub fn new(host: &Host, peer: Option<Peer>) -> Connection {
        let timeouts = &host.context.timeouts;
        // A proxy sends its header at once.
        let (state, timeout) = match host.context.proxies.introduce(peer) {
            true => (State::Introduced(None), timeouts.head),
            false => (State::Idle, timeouts.idle),
        };
        Connection { state, deadline: Some(host.context.now() + timeout), progress: None, peer }
    }

    /// What must happen next.
    #[must_use]
    pub fn step(&self) -> Step<'_> {
        match &self.state {
            State::Introduced(_) | State::Idle | State::Reading(_) | State::Lingering(_) => Step::Receive,
            State::Opening(exchange) => Step::Open(exchange.responder.open_request()),
            State::Loading(exchange) => {
                Step::Read(exchange.responder.missing_bytes().expect("the state is named after them"))
            }
            State::Sending(exchange) => Step::Send(exchange.responder.outgoing.chunks()),
            State::Closing(close) => Step::Close(*close),
        }
    }

    /// Bytes have come from the client; none: it has closed its side. Bytes that come before [`Step::Receive`] asks for
    /// them are kept, see [`wants_bytes`](Self::wants_bytes).
    pub fn received(&mut self, host: &mut Host, bytes: &[u8]) {
        host.context.counts.bytes_in += bytes.len() as u64;
        self.take(host, bytes);
    }

    #[inline]
    fn take(&mut self, host: &mut Host, bytes: &[u8]) {
        match &mut self.state {
            State::Introduced(part) => {
                let part = part.take();
                self.introduced(host, part, bytes);
            }
            State::Idle if bytes.is_empty() => self.state = State::Closing(Close::Drop),
            State::Idle => {
                let mut exchange = host.take(self.peer);
                exchange.received(&mut host.context, bytes);
                self.deadline = Some(host.context.now() + host.context.timeouts.head);
                self.enter(host, exchange);
            }
            State::Reading(exchange) => {
                host.context.counts.readings_ended += 1;
                let was_in_content = exchange.reader.is_in_content();
                exchange.received(&mut host.context, bytes);
                if exchange.reader.is_in_content() && !was_in_content {
                    self.deadline = Some(host.context.now() + host.context.timeouts.head);
                }
                self.proceed(host);
            }
            State::Opening(exchange) | State::Loading(exchange) | State::Sending(exchange) => {
                exchange.reader.keep(bytes);
            }
            State::Lingering(lingering) => {
                let Lingering { bytes_left, ends } = &mut **lingering;
                *bytes_left = bytes_left.saturating_sub(bytes.len());
                let silent_at = host.context.now() + LINGER_TIMEOUT;
                if bytes.is_empty() || *bytes_left == 0 {
                    self.state = State::Closing(Close::Drop);
                } else if silent_at <= *ends && host.context.drain < Drain::Closing {
                    self.deadline = self.deadline.max(Some(silent_at));
                }
            }
            State::Closing(_) => {}
        }
    }

    /// Some of a proxy's header has come, and perhaps what follows it; no bytes: the end. A connection that has no right
    /// header ends without a word: whose it is isn't known, nor whether it is one of HTTP.
    #[cold]
    fn introduced(&mut self, host: &mut Host, mut part: Option<Box<Part>>, bytes: &[u8]) {
        let all = match &mut part {
            Some(part) => {
                part.0.extend_from_slice(bytes);
                &part.0[..]
            }
            None => bytes,
        };
        match introduction(all) {
            Introduction::Incomplete if bytes.is_empty() => self.end_introduction(host, part.is_some()),
            Introduction::Incomplete => {
                let part = part.unwrap_or_else(|| Box::new(Part(bytes.to_vec())));
                self.state = State::Introduced(Some(part));
            }
            Introduction::Refused => {
                self.end_introduction(host, true);
                self.state = State::Closing(Close::Reset);
            }
            Introduction::Complete { client, length } => {
                self.peer = client.map(Peer::from).or(self.peer);
                self.deadline = Some(host.context.now() + host.context.timeouts.idle);
                self.state = State::Idle;
                if all.len() > length {
                    self.take(host, &all[length..]);
                }
            }
        }
    }

    /// There is no header. If something else has come, that is worth a word: who only connects may be looking whether
    /// somebody is here.
    fn end_introduction(&mut self, host: &mut Host, has_begun: bool) {
        self.state = State::Closing(Close::Drop);
        if !has_begun {
            return;
        }
        host.context.count_error();
        if let (Some(notice), Some(peer)) = (&host.context.unintroduced, self.peer)
            && notice.is_due()
        {
            notice.give(&peer.to_string());
        }
    }

    /// The open that [`Step::Open`] asked for has ended.
    pub fn opened(&mut self, host: &mut Host, result: io::Result<Opened>) {
        if let State::Opening(exchange) = &mut self.state {
            host.context.counts.opens += 1;
            exchange.opened(&mut host.context, result);
            self.proceed(host);
        }
    }

    /// The read that [`Step::Read`] asked for has ended: with all bytes, or as many as the file has.
    pub fn read(&mut self, host: &mut Host, result: io::Result<FileBytes>) {
        if let State::Loading(exchange) = &mut self.state {
            exchange.read(&mut host.context, result);
            self.proceed(host);
        }
    }

    /// So many bytes of what [`Step::Send`] asked for have left, in order.
    pub fn sent(&mut self, host: &mut Host, bytes: usize) {
        let State::Sending(exchange) = &mut self.state else {
            return;
        };
        host.context.counts.bytes_out += bytes as u64;
        if exchange.sent(&mut host.context, bytes as u64) {
            self.deadline = None; // what follows is another request, with a deadline of its own
            self.proceed(host);
        } else if let Some(progress) = &mut self.progress {
            progress.sent(bytes as u64);
        }
    }

    /// Our side has been closed, as [`Close::Graceful`] asked.
    pub fn half_closed(&mut self, host: &mut Host) {
        let now = host.context.now();
        let ends = now + host.context.timeouts.linger;
        self.deadline = Some(ends.min(now + LINGER_TIMEOUT));
        self.state = State::Lingering(Box::new(Lingering { bytes_left: LINGER_BYTES_MAX, ends }));
    }

    /// The body can't be finished: its file has shrunk, or can't be read. The head is gone, so all that is left is to
    /// let the client see that the answer isn't whole (RFC 9112 §8): what came before is still sent, then the
    /// connection ends.
    pub fn cut_short(&mut self, host: &mut Host) {
        let State::Sending(exchange) = &mut self.state else { return };
        host.context.count_error();
        if exchange.cut_short(&mut host.context) {
            self.proceed(host);
        }
    }

    /// The connection broke.
    pub fn failed(&mut self, host: &mut Host) {
        host.context.counts.readings_ended += u64::from(self.is_reading());
        match std::mem::replace(&mut self.state, State::Closing(Close::Reset)) {
            State::Reading(mut exchange)
            | State::Opening(mut exchange)
            | State::Loading(mut exchange)
            | State::Sending(mut exchange) => {
                host.context.count_error();
                exchange.responder.outgoing.log_unfinished(&host.context);
                host.put_back(exchange);
            }
            State::Introduced(Some(_)) => host.context.count_error(),
            // A half-close has failed, too, or there is nothing left to close.
            State::Introduced(None) | State::Idle | State::Lingering(_) | State::Closing(Close::Graceful) => {
                self.state = State::Closing(Close::Drop);
            }
            State::Closing(close) => self.state = State::Closing(close),
        }
    }

    /// The drain is over: what is under way is given up. The backend ends the connection in the ordinary way, so that
    /// what the kernel has taken still arrives.
    pub fn cut_off(&mut self, host: &mut Host) {
        if let State::Opening(_) | State::Loading(_) | State::Sending(_) = self.state {
            host.context.counts.cut_off += 1;
        }
        self.failed(host);
    }

    /// Closes a connection because another one needs its place: one that has a [`Standing`]. A head that isn't whole has
    /// no answer, so that this takes no time; a client may send it again (RFC 9110 §9.2.2).
    pub fn give_way(&mut self, host: &mut Host) {
        match std::mem::replace(&mut self.state, State::Closing(Close::Drop)) {
            State::Introduced(_) | State::Idle | State::Lingering(_) => {}
            State::Reading(exchange) => {
                host.context.counts.readings_ended += 1;
                host.put_back(exchange);
            }
            state @ (State::Opening(_) | State::Loading(_) | State::Sending(_) | State::Closing(_)) => {
                self.state = state;
                return;
            }
        }
        host.context.counts.gave_way += 1;
    }

    /// The moment at which [`expired`](Self::expired) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the deadline has passed. What has come from the client by now is to be looked at first, then
    /// [`expired`](Self::expired) is due: in a pause of the process, both come about.
    #[must_use]
    pub fn is_overdue(&self, host: &Host) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= host.context.now())
    }

    /// Acts on the deadline, if it has passed: 408 to a request that isn't whole, 503 where a file doesn't come, else the
    /// end. But who has yet to take an answer isn't idle, and goes on as long as there is progress. `delivery`: what the
    /// socket knows of that, if it can tell.
    pub fn expired(&mut self, host: &mut Host, delivery: Option<Delivery>) {
        if !self.is_overdue(host) {
            return;
        }
        let is_owed = delivery.is_some_and(|delivery| !delivery.is_complete);
        match &mut self.state {
            State::Introduced(part) => {
                let has_begun = part.is_some();
                self.end_introduction(host, has_begun);
            }
            State::Reading(exchange) => {
                host.context.counts.readings_ended += 1;
                exchange.refuse(&mut host.context, Status::RequestTimeout);
                self.proceed(host);
            }
            State::Sending(_) => self.look(host, delivery),
            State::Idle if is_owed => self.look(host, delivery),
            // The last answer has been taken only now.
            State::Idle if self.progress.take().is_some() => {
                self.deadline = Some(host.context.now() + host.context.timeouts.idle);
            }
            State::Lingering(lingering) if is_owed && host.context.now() < lingering.ends => {
                self.look(host, delivery);
            }
            State::Idle | State::Lingering(_) => self.state = State::Closing(Close::Drop),
            // The file system doesn't answer. The client may try later, on another connection: what comes of the file
            // finds nobody here.
            State::Opening(exchange) | State::Loading(exchange) => {
                let waited = host.context.timeouts.send;
                let fault = format_args!("not opened or read after {waited:?}");
                exchange.responder.tell_fault(&host.context, fault);
                exchange.refuse(&mut host.context, Status::ServiceUnavailable);
                self.proceed(host);
            }
            State::Closing(_) => {}
        }
    }

    /// Looks at a client that is slow to take its answer, and gives it up if there has been no progress.
    fn look(&mut self, host: &mut Host, delivery: Option<Delivery>) {
        let (now, timeouts) = (host.context.now(), &host.context.timeouts);
        let goes_on = match &mut self.progress {
            Some(progress) => progress.look(now, delivery, timeouts),
            None => {
                self.progress = Some(Box::new(Progress::begin(now, delivery)));
                true
            }
        };
        if goes_on {
            self.deadline = Some(now + timeouts.look());
        } else if let State::Sending(_) = self.state {
            self.failed(host);
        } else {
            // Its answer has been logged: as far as could be told, it was sent.
            host.context.count_error();
            self.state = State::Closing(Close::Reset);
        }
    }

    /// Closes an idle connection in a drain. One with an answer under way goes on, and ends with it.
    pub fn drain(&mut self) {
        if self.is_idle() {
            self.state = State::Closing(Close::Drop);
        }
    }

    fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// Whether nothing of a request is here.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle | State::Introduced(None))
    }

    /// Since when it has had nothing under way that anybody is owed, if that is so: whether and when it gives way to
    /// another connection. Its deadline tells, so nothing is kept for this.
    #[must_use]
    pub fn standing(&self, host: &Host) -> Option<Standing> {
        let timeouts = &host.context.timeouts;
        let before = |timeout| self.deadline?.checked_sub(timeout);
        let (rank, since) = match &self.state {
            State::Introduced(None) => (Rank::Idle, before(timeouts.head)),
            State::Introduced(Some(_)) => (Rank::Reading, before(timeouts.head)),
            State::Idle => (Rank::Idle, before(timeouts.idle)),
            State::Lingering(lingering) => (Rank::Lingering, lingering.ends.checked_sub(timeouts.linger)),
            State::Reading(_) => (Rank::Reading, before(timeouts.head)),
            State::Opening(_) | State::Loading(_) | State::Sending(_) | State::Closing(_) => return None,
        };
        Some(Standing { rank, since: since? })
    }

    /// Whether more bytes may be received now. If not, enough of them wait here already: receive again when
    /// [`Step::Receive`] says so.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        match &self.state {
            State::Opening(exchange) | State::Loading(exchange) | State::Sending(exchange) => {
                exchange.reader.has_room()
            }
            State::Introduced(_) | State::Idle | State::Reading(_) | State::Lingering(_) => true,
            State::Closing(_) => false,
        }
    }

    /// Goes on with the exchange that the state holds.
    fn proceed(&mut self, host: &mut Host) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Reading(exchange)
            | State::Opening(exchange)
            | State::Loading(exchange)
            | State::Sending(exchange) => self.enter(host, exchange),
            state @ (State::Introduced(_) | State::Idle | State::Lingering(_) | State::Closing(_)) => {
                self.state = state;
            }
        }
    }

    /// Enters the state that the exchange is in, with its deadline.
    fn enter(&mut self, host: &mut Host, exchange: Box<Exchange>) {
        let (now, timeouts) = (host.context.now(), &host.context.timeouts);
        let responder = &exchange.responder;
        if !responder.outgoing.is_empty() {
            self.deadline = Some(now + timeouts.look());
            self.state = State::Sending(exchange);
        } else if let Some(close) = responder.close {
            self.deadline = None;
            self.state = State::Closing(close);
            host.put_back(exchange);
        } else if let Missing::File = responder.missing {
            self.deadline = Some(now + timeouts.send);
            self.state = State::Opening(exchange);
        } else if let Missing::Bytes(_) = responder.missing {
            self.deadline = Some(now + timeouts.send);
            self.state = State::Loading(exchange);
        } else if exchange.reader.is_in_request() {
            // Counted from the request's first byte, unless an answer has been sent since.
            self.deadline = self.deadline.or(Some(now + timeouts.head));
            host.context.counts.readings_begun += 1;
            self.state = State::Reading(exchange);
        } else {
            self.deadline = Some(now + timeouts.idle);
            self.progress = None;
            self.state = State::Idle;
            host.put_back(exchange);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::machine::context::Timeouts;
    use crate::machine::proxies::Proxies;
    use crate::site::cache::CacheConfig;
    use crate::site::files::Files;
    use crate::site::free_list::UNNEEDED_AFTER;
    use crate::site::root::{Site, SiteOptions};

    const TIMEOUTS: Timeouts = Timeouts {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        send: Duration::from_secs(32),
        send_rate_min: 256,
        linger: Duration::from_secs(30),
    };
    const LOOK: Duration = Duration::from_secs(4);
    const INSTANT: Duration = Duration::from_nanos(1);
    const COMPLETE: Option<Delivery> = Some(Delivery { acknowledged: 500, is_complete: true });

    fn host(timeouts: Timeouts) -> Host {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let site = Site::open_root(root, SiteOptions::default()).expect("opened");
        let files = Files::new((Arc::new(site), 0), CacheConfig::OFF, Arc::default(), None);
        Host::new(Context::new(files, timeouts, None, Arc::default()))
    }

    /// A connection whose answer is being sent.
    fn sending(host: &mut Host) -> Connection {
        let mut connection = Connection::new(host, None);
        connection.received(host, b"GET /Cargo.toml HTTP/1.1\r\nHost: a\r\n\r\n");
        let Step::Open(request) = connection.step() else { panic!("an open") };
        let result = request.open();
        connection.opened(host, result);
        connection
    }

    fn lingering(host: &mut Host) -> Connection {
        let mut connection = Connection::new(host, None);
        connection.received(host, b"nonsense\r\n\r\n");
        send_all(&mut connection, host);
        assert_eq!(closes(&connection), Some(Close::Graceful));
        connection.half_closed(host);
        connection
    }

    fn send_all(connection: &mut Connection, host: &mut Host) {
        while let Step::Send(chunks) = connection.step() {
            let bytes = usize::try_from(chunks.length()).expect("small");
            connection.sent(host, bytes);
        }
    }

    fn closes(connection: &Connection) -> Option<Close> {
        match connection.step() {
            Step::Close(close) => Some(close),
            Step::Receive | Step::Open(_) | Step::Read(_) | Step::Send(_) => None,
        }
    }

    /// Lets `left` pass but for an instant, when nothing may happen, and then that instant.
    fn expire(connection: &mut Connection, host: &mut Host, left: Duration, delivery: Option<Delivery>) {
        host.context.advance(left - INSTANT);
        let before = format!("{:?}", connection.step());
        assert!(!connection.is_overdue(host));
        connection.expired(host, delivery);
        assert_eq!(format!("{:?}", connection.step()), before, "{left:?} have not passed");
        host.context.advance(INSTANT);
        assert!(connection.is_overdue(host), "{left:?} have passed");
        connection.expired(host, delivery);
    }

    #[test]
    fn a_deadline_counts_from_the_very_instant() {
        let host = &mut host(TIMEOUTS);
        for delivery in [COMPLETE, None] {
            let mut idle = Connection::new(host, None);
            expire(&mut idle, host, TIMEOUTS.idle, delivery);
            assert_eq!(closes(&idle), Some(Close::Drop));
            let mut reading = Connection::new(host, None);
            reading.received(host, b"GET");
            expire(&mut reading, host, TIMEOUTS.head, delivery);
            assert!(matches!(reading.step(), Step::Send(_)), "408");
            let mut silent = lingering(host);
            expire(&mut silent, host, LINGER_TIMEOUT, delivery);
            assert_eq!(closes(&silent), Some(Close::Drop));
        }
    }

    /// The time for the content begins anew behind the head, and not with every piece.
    #[test]
    fn the_content_has_a_deadline_of_its_own() {
        let host = &mut host(TIMEOUTS);
        let second = Duration::from_secs(1);
        let mut connection = Connection::new(host, None);
        connection.received(host, b"GET / HTTP/1.1\r\nHost: a\r\n");
        host.context.advance(second);
        connection.received(host, b"Content-Length: 5\r\n");
        assert_eq!(
            connection.deadline(),
            Some(host.context.now() + TIMEOUTS.head - second),
            "still the head"
        );
        connection.received(host, b"\r\n1");
        assert_eq!(connection.deadline(), Some(host.context.now() + TIMEOUTS.head));
        host.context.advance(second);
        connection.received(host, b"234");
        expire(&mut connection, host, TIMEOUTS.head - second, COMPLETE);
        assert!(matches!(connection.step(), Step::Send(_)), "408");
    }

    #[test]
    fn who_leaves_without_a_request_takes_no_memory() {
        let host = &mut host(TIMEOUTS);
        let mut connection = Connection::new(host, None);
        connection.received(host, b"");
        assert_eq!((closes(&connection), host.exchanges.len()), (Some(Close::Drop), 0));
    }

    #[test]
    fn bytes_and_broken_connections_are_counted() {
        let host = &mut host(TIMEOUTS);
        for count in 1..=2 {
            let mut connection = sending(host);
            assert!(!connection.is_idle() && connection.standing(host).is_none());
            connection.sent(host, 7);
            connection.sent(host, 3);
            connection.failed(host);
            let counts = host.context.counts;
            let request = "GET /Cargo.toml HTTP/1.1\r\nHost: a\r\n\r\n".len() as u64;
            assert_eq!((counts.bytes_in, counts.bytes_out), (request * count, 10 * count));
            assert_eq!((counts.requests(), counts.errors), (count, count));
        }
    }

    /// Of a socket that can't tell what was acknowledged, what it takes is progress.
    #[test]
    fn an_answer_that_moves_is_not_given_up() {
        let host = &mut host(TIMEOUTS);
        let mut still = sending(host);
        for _ in 0..8 {
            expire(&mut still, host, LOOK, None);
            assert_eq!(closes(&still), None);
        }
        expire(&mut still, host, LOOK, None);
        assert_eq!(closes(&still), Some(Close::Reset), "at least the timeout after the first look");
        let mut moving = sending(host);
        for look in 1..24 {
            if look % 7 == 0 {
                moving.sent(host, 10);
            }
            expire(&mut moving, host, LOOK, None);
            assert_eq!(closes(&moving), None, "look {look}");
        }
        // A pause of the server counts for three looks, however long it was.
        host.context.advance(LOOK * 1000);
        moving.expired(host, None);
        assert_eq!(closes(&moving), None);
    }

    #[test]
    fn who_has_yet_to_take_the_answer_is_not_idle() {
        let owing = |acknowledged| Some(Delivery { acknowledged, is_complete: false });
        let host = &mut host(TIMEOUTS);
        let mut connection = sending(host);
        send_all(&mut connection, host);
        assert!(connection.is_idle());
        expire(&mut connection, host, TIMEOUTS.idle, owing(0));
        for look in 1..24 {
            expire(&mut connection, host, LOOK, owing(look * 10_000));
            assert!(connection.is_idle(), "look {look}");
        }
        // Only now it is.
        expire(&mut connection, host, LOOK, COMPLETE);
        expire(&mut connection, host, TIMEOUTS.idle, COMPLETE);
        assert_eq!(closes(&connection), Some(Close::Drop));
        // Who takes nothing is given up as while the answer is sent.
        let mut connection = sending(host);
        send_all(&mut connection, host);
        expire(&mut connection, host, TIMEOUTS.idle, owing(0));
        for _ in 0..8 {
            assert!(connection.is_idle());
            expire(&mut connection, host, LOOK, owing(0));
        }
        assert_eq!(closes(&connection), Some(Close::Reset));
    }

    #[test]
    fn lingering_goes_on_with_the_client_and_has_an_end() {
        let second = Duration::from_secs(1);
        let host = &mut host(TIMEOUTS);
        let mut talkative = lingering(host);
        let mut seconds = 0;
        while closes(&talkative).is_none() {
            host.context.advance(second);
            seconds += 1;
            talkative.expired(host, COMPLETE);
            talkative.received(host, b"more");
        }
        assert_eq!(seconds, 30);
        // An answer that is still on its way is waited for as long.
        let mut slow = lingering(host);
        for acknowledged in 0.. {
            let Some(deadline) = slow.deadline().filter(|_| closes(&slow).is_none()) else { break };
            let left = deadline - host.context.now();
            let delivery = Some(Delivery { acknowledged, is_complete: false });
            expire(&mut slow, host, left, delivery);
            seconds -= left.as_secs();
        }
        assert_eq!((seconds, closes(&slow)), (0, Some(Close::Drop)));
        // In a drain nobody goes on for long.
        let mut talkative = lingering(host);
        host.context.drain = Drain::Closing;
        host.context.advance(second);
        talkative.received(host, b"more");
        expire(&mut talkative, host, second, COMPLETE);
        assert_eq!(closes(&talkative), Some(Close::Drop));
    }

    /// It was told that it may ask again, and may be doing so.
    #[test]
    fn a_drain_during_an_answer_ends_gracefully() {
        let host = &mut host(TIMEOUTS);
        let mut connection = sending(host);
        host.context.drain = Drain::Closing;
        send_all(&mut connection, host);
        assert_eq!(closes(&connection), Some(Close::Graceful));
    }

    #[test]
    fn who_is_owed_nothing_may_give_way() {
        let host = &mut host(TIMEOUTS);
        host.context.advance(Duration::from_secs(100));
        let begun = host.context.now();
        let mut idle = Connection::new(host, None);
        let mut reading = Connection::new(host, None);
        let mut answering = sending(host);
        let mut lingering = lingering(host);
        let mut opening = Connection::new(host, None);
        opening.received(host, b"GET /Cargo.toml HTTP/1.1\r\nHost: a\r\n\r\n");
        host.context.advance(LINGER_TIMEOUT / 2);
        reading.received(host, b"GET");
        let read = host.context.now();
        // What follows is the rest of the same head, or sent behind the answer.
        host.context.advance(LINGER_TIMEOUT / 4);
        reading.received(host, b" /Cargo.toml");
        lingering.received(host, b"more");
        let is = |rank, since| Some(Standing { rank, since });
        for (connection, standing) in [
            (&mut idle, is(Rank::Idle, begun)),
            (&mut reading, is(Rank::Reading, read)),
            (&mut lingering, is(Rank::Lingering, begun)),
        ] {
            assert_eq!(connection.standing(host), standing);
            connection.give_way(host);
            assert_eq!(closes(connection), Some(Close::Drop), "{standing:?}");
            assert_eq!(connection.standing(host), None);
        }
        for connection in [&mut answering, &mut opening] {
            assert_eq!(connection.standing(host), None);
            connection.give_way(host);
            assert_eq!(closes(connection), None, "its answer is under way");
        }
        assert_ne!(host.exchanges.len(), 0, "what was read of half a request is forgotten");
        // An answer that is sent makes it idle, since now.
        send_all(&mut answering, host);
        assert_eq!(answering.standing(host), is(Rank::Idle, host.context.now()));
    }

    /// A host that trusts a proxy, whose connections begin with a header, and that proxy.
    fn host_of_proxy() -> (Host, Option<Peer>) {
        let mut host = host(TIMEOUTS);
        let ranges = vec!["192.0.2.1".parse().expect("an address")];
        host.context.proxies = Arc::new(Proxies { ranges, send_header: true });
        let proxy: std::net::SocketAddr = "192.0.2.1:1".parse().expect("an address");
        (host, Some(proxy.into()))
    }

    #[test]
    fn a_proxy_has_the_time_of_a_head_for_its_header() {
        let (host, proxy) = &mut host_of_proxy();
        for (pieces, errors) in [(&[][..], 0), (&["PROXY"], 1), (&["PROXY", " TCP4"], 2)] {
            let mut connection = Connection::new(host, *proxy);
            let begun = host.context.now();
            for piece in pieces {
                host.context.advance(Duration::from_secs(1));
                connection.received(host, piece.as_bytes());
            }
            let left = TIMEOUTS.head - (host.context.now() - begun);
            expire(&mut connection, host, left, COMPLETE);
            assert_eq!(closes(&connection), Some(Close::Drop), "{pieces:?}");
            assert_eq!(host.context.counts.errors, errors, "{pieces:?}");
        }
        // Behind it the time is that of any connection.
        for (after, time) in [("", TIMEOUTS.idle), ("GET", TIMEOUTS.head)] {
            let mut connection = Connection::new(host, *proxy);
            host.context.advance(Duration::from_secs(1));
            connection.received(host, format!("PROXY UNKNOWN\r\n{after}").as_bytes());
            assert_eq!(connection.deadline(), Some(host.context.now() + time), "{after}");
            assert_eq!(connection.is_idle(), after.is_empty());
        }
    }

    #[test]
    fn a_proxy_that_has_yet_to_say_something_is_idle() {
        let (host, proxy) = &mut host_of_proxy();
        let begun = host.context.now();
        let is = |rank, since| Some(Standing { rank, since });
        let mut begin = |piece: &str| {
            let mut connection = Connection::new(host, *proxy);
            if !piece.is_empty() {
                connection.received(host, piece.as_bytes());
            }
            connection
        };
        let [mut silent, mut begins] = ["", "PROXY"].map(&mut begin);
        assert!(silent.is_idle() && !begins.is_idle() && silent.wants_bytes() && begins.wants_bytes());
        silent.drain();
        begins.drain();
        assert_eq!((closes(&silent), closes(&begins)), (Some(Close::Drop), None));
        let [mut silent, mut begins] = ["", "PROXY"].map(begin);
        assert_eq!(silent.standing(host), is(Rank::Idle, begun));
        assert_eq!(begins.standing(host), is(Rank::Reading, begun));
        for connection in [&mut silent, &mut begins] {
            connection.give_way(host);
            assert_eq!(closes(connection), Some(Close::Drop));
        }
        assert_eq!(host.context.counts.errors, 0);
        let [mut silent, mut begins] = ["", "PROXY"].map(|piece| {
            let mut connection = Connection::new(host, *proxy);
            connection.received(host, piece.as_bytes());
            connection
        });
        assert_eq!(closes(&silent), Some(Close::Drop), "it has left");
        begins.failed(host);
        silent.failed(host);
        assert_eq!((closes(&silent), closes(&begins)), (Some(Close::Drop), Some(Close::Reset)));
        assert_eq!((host.context.counts.errors, host.exchanges.len()), (1, 0));
    }

    #[test]
    fn only_answers_under_way_are_cut_off() {
        let host = &mut host(TIMEOUTS);
        let mut reading = Connection::new(host, None);
        reading.received(host, b"GET");
        let mut sent = sending(host);
        send_all(&mut sent, host);
        for mut connection in [Connection::new(host, None), reading, sent, lingering(host)] {
            connection.cut_off(host);
            assert!(closes(&connection).is_some());
        }
        assert_eq!(host.context.counts.cut_off, 0);
        let mut opening = Connection::new(host, None);
        opening.received(host, b"GET /Cargo.toml HTTP/1.1\r\nHost: a\r\n\r\n");
        for (mut connection, count) in [(opening, 1), (sending(host), 2)] {
            connection.cut_off(host);
            assert!(closes(&connection).is_some());
            assert_eq!(host.context.counts.cut_off, count);
        }
    }

    #[test]
    fn exchanges_that_nobody_wants_are_freed() {
        let mut host = host(TIMEOUTS);
        let burst: Vec<_> = (0..10).map(|_| host.take(None)).collect();
        burst.into_iter().for_each(|exchange| host.put_back(exchange));
        for left in [10, SPARE_EXCHANGES_MIN, SPARE_EXCHANGES_MIN] {
            if host.context.advance(UNNEEDED_AFTER) {
                host.exchanges.trim();
            }
            assert_eq!(host.exchanges.len(), left);
        }
    }
}

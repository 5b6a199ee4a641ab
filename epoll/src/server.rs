//! The server: one thread, one poller, thousands of clients.
//!
//! Here, waiting is *returning*. Every function does what can be done at once and says what comes next; none of them
//! waits, neither for a client nor for a disk. What a client waits for is the name of its state.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::machine::step::READ_BYTES_MAX;
use common::service::listen::BACKLOG;
use common::service::pool::{Done, Job, Outcome, Pool, Submitter, THREADS_MAX};
use common::service::socket::{
    ACCEPT_PAUSE, AcceptError, accept, delivery, end, has_connection, is_silent, reset, send_pieces,
};
use common::site::sendfile::{SENDFILE_BYTES_MAX, SENDFILE_BYTES_MIN, Sent, send_cached};
use common::{
    Close, Connection, CopyMode, Drain, FileBytes, FileRange, Idles, Listeners, Opened, Peer, Service, Slots,
    Step, Token, Tune, Wheel, Worker, run_workers,
};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, recv, send, shutdown};

use crate::client::{Client, Incoming, Waits};
use crate::page_cache::PageCache;
use crate::poller::{Event, EventSource, Events, Interest, Poller};

/// Events of one turn of the loop.
const EVENTS_MAX: usize = 512;

/// Connections accepted from one listener in one turn of the loop.
const ACCEPTS_MAX: usize = 64;

/// Bytes received by one call. All clients of the worker share the one buffer.
const RECEIVE_BYTES_MAX: usize = 64 * 1024;

/// The one buffer for heads with bodies of small files, which stays in the processor's cache, and for what the file
/// cache reads.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
const _: () = assert!(SEND_BUFFER_BYTES >= SENDFILE_BYTES_MIN && SEND_BUFFER_BYTES as u64 >= READ_BYTES_MAX);

/// A client's share of one turn of the loop: so many bytes, and a head. It is what one sendfile(2) sends at most, so
/// that a large file takes few of them.
const SHARE_BYTES: usize = SENDFILE_BYTES_MAX;

/// And so many steps, whatever they send.
const SHARE_STEPS: usize = 16;

/// Serves until the drain is over. `ready` is called once connections are accepted.
///
/// # Errors
/// When a worker or the pool can't be set up; while serving, none that a client or a file could cause.
pub fn serve(listeners: Listeners, service: &Arc<Service>, ready: impl FnOnce()) -> io::Result<()> {
    let pool = Pool::start(THREADS_MAX)?;
    service.watch_pool(&pool);
    run_workers(listeners, service, |worker, sockets| Server::new(worker, sockets, &pool), Server::run, ready)
}

/// What follows a step.
enum Next {
    /// Another step, at once; so many bytes were sent.
    Step(usize),
    /// Nothing, until this has come.
    Wait(Waits),
    /// Nothing: the client is gone.
    Gone,
}

struct Listener {
    socket: OwnedFd,
    /// By the contract of edges: may there be a connection?
    acceptable: bool,
}

/// One worker: its poller, its listeners, its clients.
struct Server {
    worker: Worker,
    poller: Poller,
    page_cache: PageCache,
    pool: Submitter,
    listeners: Vec<Listener>,
    /// Out of descriptors: no accept before this moment, or before a connection closes.
    accept_pause: Option<Instant>,
    clients: Slots<Client>,
    /// Who gives way when no place is left.
    idles: Idles,
    /// Clients that have used up their share of a turn, first come, first served. Tokens may be stale.
    turns: VecDeque<Token>,
    wheel: Wheel,
    /// The slots of one sweep of the wheel; kept for its memory.
    due: Vec<u32>,
    /// How far the drain had come when it was last acted on.
    drain: Drain,
    /// A connection waits, and there may be a place for it.
    may_accept: bool,
    receive_buffer: Box<[u8]>,
    send_buffer: Box<[u8]>,
    /// How a large file is sent: `--copy`, `--tune=always-pool`, `--tune=loop-reads`.
    send_large: fn(&mut Server, Token, usize) -> Next,
    /// What the poller watches a new client for: `--tune=level-triggered`.
    interest: Interest,
    #[cfg(test)]
    jobs: tests::Jobs,
}

impl Server {
    fn new(mut worker: Worker, sockets: Vec<OwnedFd>, pool: &Pool) -> io::Result<Server> {
        let poller = Poller::new()?;
        let pool = pool.submitter()?;
        poller.register(pool.event(), EventSource::Pool, Interest::Arrival)?;
        poller.register(&worker.service().shutdown, EventSource::Shutdown, Interest::Arrival)?;
        poller.register(worker.seat().bell(), EventSource::Places, Interest::Arrival)?;
        if let Some(events) = worker.files().cache_events() {
            poller.register(&events, EventSource::Cache, Interest::Arrival)?;
        }
        for (index, socket) in (0..).zip(&sockets) {
            poller.register(socket, EventSource::Listener(index), Interest::Arrival)?;
        }
        let config = worker.config();
        Ok(Server {
            wheel: Wheel::new(config.shortest_timeout(), worker.now()),
            idles: Idles::new(config.head_timeout, worker.now()),
            page_cache: PageCache::of(config),
            send_large: match config.copy {
                _ if config.tuned(Tune::AlwaysPool) => Server::send_cold,
                CopyMode::Sendfile if !config.tuned(Tune::LoopReads) => Server::send_file,
                CopyMode::Sendfile | CopyMode::Read => Server::send_copy,
            },
            interest: if config.tuned(Tune::LevelTriggered) { Interest::Bytes } else { Interest::Stream },
            worker,
            poller,
            pool,
            listeners: sockets.into_iter().map(|socket| Listener { socket, acceptable: false }).collect(),
            accept_pause: None,
            clients: Slots::new(),
            turns: VecDeque::new(),
            due: Vec::new(),
            drain: Drain::Serving,
            may_accept: false,
            receive_buffer: vec![0; RECEIVE_BYTES_MAX].into_boxed_slice(),
            send_buffer: vec![0; SEND_BUFFER_BYTES].into_boxed_slice(),
            #[cfg(test)]
            jobs: tests::Jobs::default(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while self.drain < Drain::Over {
            let timeout = self.wait_max();
            self.worker.flush();
            self.poller.wait(&mut events, timeout)?;
            self.turn(&events);
        }
        Ok(())
    }

    /// How long the loop may wait for events. Not at all while there is work; else until something is due that no event
    /// tells of: the wheel's next tick, the end of a pause, the next phase of the drain.
    fn wait_max(&self) -> Option<Duration> {
        if !self.turns.is_empty() || self.may_accept {
            return Some(Duration::ZERO);
        }
        let now = self.worker.now();
        let pause = self.accept_pause.map(|until| until.saturating_duration_since(now));
        let waits = [self.wheel.wait(now), pause, self.idles.wait(now), self.worker.drain_wait()];
        waits.into_iter().flatten().min()
    }

    /// One turn of the loop: everybody who has something to do gets a share of it.
    fn turn(&mut self, events: &Events) {
        self.worker.tick();
        self.worker.count_wait();
        self.worker.count_events(events.len() as u64);
        self.take_turns();
        for event in events.iter() {
            self.on_event(event);
        }
        self.accept();
        self.expire();
        self.drain();
    }

    fn on_event(&mut self, event: Event) {
        match event.source {
            EventSource::Client(token) => {
                let Some(client) = self.clients.get_mut(token) else { return };
                if event.hung_up() {
                    client.incoming = Incoming::LastBytes;
                }
                if event.is_broken() && client.waits == Waits::Job {
                    client.connection.failed(&mut self.worker);
                    return self.on_changed(token);
                }
                if !matches!(client.waits, Waits::Bytes | Waits::Space) {
                    self.want(token, Interest::Nothing);
                }
                if event.readable() {
                    self.on_readable(token);
                }
                if event.writable() {
                    self.on_writable(token);
                }
            }
            EventSource::Listener(index) => self.on_acceptable(index),
            EventSource::Pool => self.on_done(),
            EventSource::Cache => self.worker.files().refresh_cache(),
            EventSource::Places => self.on_places(),
            // The drain that follows every turn's events looks at its phase anyway.
            EventSource::Shutdown => {}
        }
    }

    /// There may be a place for a connection, or a descriptor, or one is sought.
    fn on_places(&mut self) {
        self.idles.wake(self.worker.seat());
        self.accept_pause = None;
    }
}

// ---- accept

impl Server {
    /// Accepts a bounded batch from each listener.
    fn accept(&mut self) {
        if self.accept_pause.is_some_and(|until| until <= self.worker.now()) {
            self.accept_pause = None;
        }
        for index in 0..self.listeners.len() {
            self.accept_up_to(ACCEPTS_MAX, index);
        }
        self.make_room();
    }

    fn accept_up_to(&mut self, accepts_max: usize, index: usize) {
        for _ in 0..accepts_max {
            let listener = &mut self.listeners[index];
            if !listener.acceptable || self.accept_pause.is_some() || !self.worker.seat().take() {
                return;
            }
            match accept(&listener.socket, SocketFlags::NONBLOCK, self.worker.wants_peer()) {
                Ok((socket, peer)) => {
                    self.on_accept(socket, peer);
                    continue;
                }
                Err(AcceptError::Empty) => listener.acceptable = false,
                Err(AcceptError::Connection) => self.worker.count_error(),
                Err(AcceptError::Exhausted) => {
                    self.worker.seat().give_back();
                    return self.pause_accepting();
                }
            }
            self.worker.seat().free();
        }
    }

    /// A listener has a connection.
    fn on_acceptable(&mut self, index: u32) {
        // Gone, if the drain has begun.
        if let Some(listener) = self.listeners.get_mut(index as usize) {
            listener.acceptable = true;
        }
    }

    /// Where no place or no descriptor is left and a connection waits, here or in another worker, one gives way that has
    /// nothing under way: not if bytes have come from it, which events of this turn may not tell of yet.
    fn make_room(&mut self) {
        let now = self.worker.now();
        self.may_accept = false;
        if self.idles.pauses(now) {
            return;
        }
        let (is_exhausted, has_newcomer) = (self.accept_pause.is_some(), self.has_newcomer());
        self.may_accept = self.idles.seek(self.worker.seat(), has_newcomer, is_exhausted);
        let clients = &self.clients;
        let standing = |token| clients.get(token)?.connection.standing(&self.worker);
        let all = |list: &mut Vec<_>| {
            list.extend(clients.tokens().filter_map(|token| Some((standing(token)?, token))));
        };
        let stands = |token, before| {
            standing(token) == Some(before)
                && clients.get(token).is_some_and(|client| is_silent(&client.socket))
        };
        let Some((_, token)) = self.idles.give_way(self.worker.seat(), now, all, stands) else { return };
        if let Some(client) = self.clients.get_mut(token) {
            client.connection.give_way(&mut self.worker);
        }
        self.on_changed(token);
    }

    /// Whether a connection waits to be accepted. Edges don't tell when accepting has ended for want of a place.
    fn has_newcomer(&mut self) -> bool {
        let mut waiting = self.listeners.iter_mut().filter(|listener| listener.acceptable);
        waiting.any(|listener| {
            listener.acceptable = has_connection(&listener.socket);
            listener.acceptable
        })
    }

    fn on_accept(&mut self, socket: OwnedFd, peer: Option<Peer>) {
        let connection = Connection::new(&self.worker, peer);
        let (deadline, registered) = (connection.deadline(), self.interest);
        // With edges a client may take a turn before it is registered.
        let is_early = registered == Interest::Stream;
        let token = self.clients.insert(Client {
            socket,
            connection,
            waits: Waits::Bytes,
            incoming: if is_early { Incoming::Bytes } else { Incoming::Nothing },
            writable: true,
            registered,
        });
        self.worker.count_accepted();
        self.wheel.watch(token.slot, deadline, self.worker.now());
        // Its request has often come with it. If it is answered and gone in one turn, the poller needn't know it.
        if is_early {
            self.drive(token);
        }
        let Some(client) = self.clients.get(token) else { return };
        if self.poller.register(&client.socket, EventSource::Client(token), registered).is_err() {
            self.close(token, Close::Reset);
            self.pause_accepting();
        }
    }

    /// Descriptors or memory have run out. The connections stay in the kernel's queue.
    fn pause_accepting(&mut self) {
        self.worker.count_error();
        self.worker.files().shed_descriptors();
        self.accept_pause = Some(self.worker.now() + ACCEPT_PAUSE);
    }
}

// ---- drive

impl Server {
    /// Carries out the client's steps until it has to wait for something, or has used up its share of the turn.
    fn drive(&mut self, token: Token) {
        let mut share = SHARE_BYTES;
        for _ in 0..SHARE_STEPS {
            if share == 0 {
                break;
            }
            let Some(client) = self.clients.get(token) else { return };
            let next = match client.connection.step() {
                Step::Receive => self.receive(token),
                Step::Open(_) => self.open(token),
                Step::Read(_) => self.read(token),
                Step::Send(_) => self.send_response(token, share),
                Step::Close(Close::Graceful) => self.half_close(token),
                Step::Close(close @ (Close::Drop | Close::Reset)) => self.close(token, close),
            };
            match next {
                Next::Step(sent) => share = share.saturating_sub(sent),
                Next::Wait(waits) => return self.wait_for(token, waits),
                Next::Gone => return,
            }
        }
        self.wait_for(token, Waits::Turn);
    }

    /// Those that are queued now each get a turn; who joins meanwhile waits for the next round.
    fn take_turns(&mut self) {
        for _ in 0..self.turns.len() {
            let Some(token) = self.turns.pop_front() else { return };
            self.drive(token);
        }
    }

    /// Notes what the client waits for.
    fn wait_for(&mut self, token: Token, waits: Waits) {
        let Some(client) = self.clients.get_mut(token) else { return };
        client.waits = waits;
        match waits {
            Waits::Bytes => self.want(token, Interest::Bytes),
            Waits::Space => self.want(token, Interest::Space),
            Waits::Turn => self.turns.push_back(token),
            Waits::Job => {}
        }
    }

    /// What the client is to be told of, if it is told by levels. With edges it is registered for everything, once.
    fn want(&mut self, token: Token, interest: Interest) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if client.registered == Interest::Stream || client.registered == interest {
            return;
        }
        client.registered = interest;
        if self.poller.modify(&client.socket, EventSource::Client(token), interest).is_err() {
            self.close(token, Close::Reset);
        }
    }
}

// ---- receive

impl Server {
    fn receive(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        if client.incoming == Incoming::Nothing {
            return Next::Wait(Waits::Bytes);
        }
        match recv(&client.socket, &mut *self.receive_buffer, RecvFlags::empty()) {
            Ok((_, received)) => {
                client.incoming = match client.incoming {
                    Incoming::LastBytes if received > 0 => Incoming::LastBytes,
                    _ if received == RECEIVE_BYTES_MAX => Incoming::Bytes,
                    _ => Incoming::Nothing,
                };
                client.connection.received(&mut self.worker, &self.receive_buffer[..received]);
            }
            Err(Errno::AGAIN) => client.incoming = Incoming::Nothing,
            Err(Errno::INTR) => {}
            Err(_broken) => client.connection.failed(&mut self.worker),
        }
        Next::Step(0)
    }

    fn on_readable(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if client.incoming == Incoming::Nothing {
            client.incoming = Incoming::Bytes;
        }
        if client.waits == Waits::Bytes {
            self.drive(token);
        }
    }
}

// ---- open

impl Server {
    fn open(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get(token) else { return Next::Gone };
        let Step::Open(request) = client.connection.step() else { return Next::Step(0) };
        match self.page_cache.open(request) {
            Some(result) => self.on_open(token, result),
            None => {
                let job = Job::Open(Arc::clone(request));
                self.submit(token, job)
            }
        }
    }

    fn on_open(&mut self, token: Token, result: io::Result<Opened>) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        client.connection.opened(&mut self.worker, result);
        Next::Step(0)
    }
}

// ---- read: bytes of a file, for the cache

impl Server {
    fn read(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        let Step::Read(range) = client.connection.step() else { return Next::Step(0) };
        let length = usize::try_from(range.length).unwrap_or(usize::MAX);
        let bytes = &mut self.send_buffer[..length];
        if self.page_cache.read(range.file, range.offset, bytes) == length {
            let bytes = FileBytes::from(&*bytes);
            return self.on_read(token, Ok(bytes));
        }
        let job = Job::read(&range);
        self.submit(token, job)
    }

    fn on_read(&mut self, token: Token, result: io::Result<FileBytes>) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        client.connection.read(&mut self.worker, result);
        Next::Step(0)
    }

    /// Hands a job to the pool.
    fn submit(&mut self, token: Token, job: Job) -> Next {
        #[cfg(test)]
        self.jobs.count(&job);
        self.pool.submit(token, job);
        Next::Wait(Waits::Job)
    }

    /// Jobs are done. Their clients go on.
    fn on_done(&mut self) {
        self.pool.collect();
        while let Some(Done { token, outcome }) = self.pool.next_done() {
            #[cfg(test)]
            self.jobs.count_done();
            let next = match outcome {
                Outcome::Opened(result) => self.on_open(token, result),
                Outcome::Read(result) => self.on_read(token, result),
                Outcome::Sent(result) => self.on_sent(token, result),
            };
            match next {
                Next::Step(_) => self.drive(token),
                Next::Wait(waits) => self.wait_for(token, waits),
                Next::Gone => {}
            }
        }
    }
}

// ---- send

impl Server {
    /// Sends some of the answer: what is in memory, which is bounded where it is made, or some of a file with the head in
    /// front of it, at most the client's share.
    fn send_response(&mut self, token: Token, share: usize) -> Next {
        let Some(client) = self.clients.get(token) else { return Next::Gone };
        let Some(chunks) = client.chunks() else { return Next::Step(0) };
        if !client.writable {
            return Next::Wait(Waits::Space);
        }
        let (pieces, file) = chunks.front();
        let in_memory = pieces.iter().map(|piece| piece.bytes().len()).sum();
        match file {
            // The rest of a large file may be small, but is sent as the file was.
            Some(range)
                if pieces.len() == 1 && in_memory as u64 + range.length < SENDFILE_BYTES_MIN as u64 =>
            {
                drop(pieces);
                self.send_copy(token, share)
            }
            Some(_) if pieces.len() <= 1 => {
                drop(pieces);
                (self.send_large)(self, token, share)
            }
            _ => {
                let flags = if file.is_some() { SendFlags::MORE } else { SendFlags::empty() };
                let sent = send_pieces(&client.socket, &pieces, flags);
                drop(pieces);
                self.on_send(token, in_memory, sent)
            }
        }
    }

    /// Sends head and file in one call, as much of the file as fits the buffer and is in the page cache.
    fn send_copy(&mut self, token: Token, share: usize) -> Next {
        let Some((client, head, range)) = front(&self.clients, token) else { return Next::Step(0) };
        let room = self.send_buffer.len().saturating_sub(head.len()).min(share);
        let length = usize::try_from(range.length).map_or(room, |length| length.min(room));
        let body = &mut self.send_buffer[head.len()..][..length];
        let read = self.page_cache.read(range.file, range.offset, body);
        if read == 0 {
            return self.send_cold(token, share);
        }
        self.send_buffer[..head.len()].copy_from_slice(head);
        let asked = head.len() + read;
        let sent = send(&client.socket, &self.send_buffer[..asked], SendFlags::NOSIGNAL);
        self.on_send(token, asked, sent)
    }

    /// Sends the head, and without a copy some of the file, as far as it is in the page cache.
    fn send_file(&mut self, token: Token, share: usize) -> Next {
        let Some((client, head, range)) = front(&self.clients, token) else { return Next::Step(0) };
        match send_cached(&client.socket, head, &range, share) {
            Ok(Sent::Bytes { count, full }) => self.on_send(token, count + usize::from(full), Ok(count)),
            Ok(Sent::Unready) => self.send_cold(token, share),
            Ok(Sent::Shorter) => self.cut_short(token),
            Err(errno) => self.on_send(token, usize::MAX, Err(errno)),
        }
    }

    /// Has the pool send what the page cache doesn't hold, or can't be asked for.
    fn send_cold(&mut self, token: Token, _share: usize) -> Next {
        let Some((client, head, range)) = front(&self.clients, token) else { return Next::Step(0) };
        match Job::send(&client.socket, head, &range, self.worker.config().copy) {
            Ok(job) => {
                if let Some(client) = self.clients.get_mut(token) {
                    // An edge that comes meanwhile is news.
                    client.writable = false;
                }
                self.submit(token, job)
            }
            Err(_exhausted) => self.close(token, Close::Reset),
        }
    }

    /// The pool has sent.
    fn on_sent(&mut self, token: Token, sent: rustix::io::Result<usize>) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        match sent {
            Ok(0) => self.cut_short(token),
            Err(Errno::AGAIN) if client.writable => Next::Step(0),
            sent => self.on_send(token, 0, sent),
        }
    }

    fn on_writable(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        client.writable = true;
        if client.waits == Waits::Space {
            self.drive(token);
        }
    }

    fn on_send(&mut self, token: Token, asked: usize, sent: rustix::io::Result<usize>) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        match sent {
            Ok(sent) => {
                client.writable = sent >= asked;
                client.connection.sent(&mut self.worker, sent);
                Next::Step(sent)
            }
            Err(Errno::AGAIN) => {
                client.writable = false;
                Next::Wait(Waits::Space)
            }
            Err(Errno::INTR) => Next::Step(0),
            Err(_broken) => {
                client.connection.failed(&mut self.worker);
                Next::Step(0)
            }
        }
    }

    /// The file has shrunk, or can't be read.
    fn cut_short(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        client.connection.cut_short(&mut self.worker);
        Next::Step(0)
    }
}

/// The client, and what it sends next: a head, perhaps none, and a file.
fn front(clients: &Slots<Client>, token: Token) -> Option<(&Client, &[u8], FileRange<'_>)> {
    let client = clients.get(token)?;
    let (pieces, file) = client.chunks()?.front();
    Some((client, pieces.first().map_or(&[][..], |piece| piece.bytes()), file?))
}

// ---- close

impl Server {
    /// Ends the client.
    fn close(&mut self, token: Token, close: Close) -> Next {
        let Some(client) = self.clients.remove(token) else { return Next::Gone };
        if client.waits == Waits::Job {
            // A job that runs may hold the socket open for as long as it waits.
            self.pool.cancel(token);
            let _shut = shutdown(&client.socket, Shutdown::Both);
        }
        if close == Close::Reset {
            reset(&client.socket);
        }
        drop(client);
        self.worker.seat().free();
        self.worker.count_closed();
        self.accept_pause = None;
        Next::Gone
    }

    /// Closes our side.
    fn half_close(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        match shutdown(&client.socket, Shutdown::Write) {
            Ok(()) => client.connection.half_closed(&mut self.worker),
            Err(_broken) => client.connection.failed(&mut self.worker),
        }
        Next::Step(0)
    }
}

// ---- deadlines

impl Server {
    /// Looks at the clients whose deadline may have passed.
    fn expire(&mut self) {
        let now = self.worker.now();
        self.wheel.sweep(now, &mut self.due);
        while let Some(slot) = self.due.pop() {
            let Some(token) = self.clients.token_at(slot) else { continue };
            let Some(client) = self.clients.get_mut(token) else { continue };
            if client.connection.is_overdue(&self.worker) {
                self.look(token);
            }
            if let Some(client) = self.clients.get(token) {
                self.wheel.watch(slot, client.connection.deadline(), now);
            }
        }
    }

    /// A client's deadline has passed: looks at what it has sent meanwhile, which may be waiting for the next batch of
    /// events if the process stood still, and acts on the deadline if it still counts.
    fn look(&mut self, token: Token) {
        self.on_readable(token);
        let Some(client) = self.clients.get_mut(token) else { return };
        if client.connection.is_overdue(&self.worker) {
            client.connection.expired(&mut self.worker, delivery(&client.socket));
            self.on_changed(token);
        }
    }

    /// The client's step may have changed while it waited.
    fn on_changed(&mut self, token: Token) {
        let Some(client) = self.clients.get(token) else { return };
        match client.waits {
            Waits::Bytes | Waits::Space => self.drive(token),
            // Its turn comes anyway.
            Waits::Turn => {}
            Waits::Job => match client.connection.step() {
                Step::Close(close) => {
                    self.close(token, close);
                }
                // It no longer waits for a file.
                Step::Send(chunks) if !chunks.has_file() => {
                    self.pool.cancel(token);
                    self.drive(token);
                }
                // The result of its job comes anyway.
                Step::Send(_) | Step::Receive | Step::Open(_) | Step::Read(_) => {}
            },
        }
    }
}

// ---- drain

impl Server {
    /// Follows the drain from phase to phase; it is over for this worker when nobody is left.
    fn drain(&mut self) {
        let phase = self.worker.drain();
        if phase >= Drain::Quiet {
            self.stop_accepting();
        }
        if phase >= Drain::Closing && self.drain < Drain::Closing {
            for token in self.clients.tokens().collect::<Vec<_>>() {
                // What it has asked meanwhile is answered.
                self.on_readable(token);
                if let Some(client) = self.clients.get_mut(token) {
                    client.connection.drain();
                }
                self.on_changed(token);
            }
        }
        if phase == Drain::Over {
            for token in self.clients.tokens().collect::<Vec<_>>() {
                if let Some(client) = self.clients.get_mut(token) {
                    client.connection.cut_off(&mut self.worker);
                    end(&client.socket);
                }
                self.close(token, Close::Drop);
            }
        }
        let is_over = phase >= Drain::Quiet && self.clients.is_empty();
        self.drain = if is_over { Drain::Over } else { phase };
    }

    /// Accepts the connections that the kernel has queued already, then closes the listeners.
    fn stop_accepting(&mut self) {
        for index in 0..self.listeners.len() {
            self.listeners[index].acceptable = true;
            self.accept_up_to(BACKLOG.unsigned_abs() as usize + 1, index);
            // Somebody else may have the same socket, and then its events would go on.
            let (socket, source) = (&self.listeners[index].socket, EventSource::Listener(0));
            let _without = self.poller.modify(socket, source, Interest::Nothing);
        }
        self.listeners.clear();
        self.worker.closed_listeners();
    }
}

#[cfg(test)]
mod tests;

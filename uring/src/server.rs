//! The server: callbacks in the order of the pipeline.
//!
//! Here, waiting is *having submitted*. The loop takes a batch of completions, runs the callback of each, and waits
//! again. A callback never waits: it reports to the connection and queues the operation that the next step asks for. One
//! `io_uring_enter` submits what a whole batch of callbacks has queued, and waits for the next batch.
//!
//! A client has at most two operations in flight: a receive, and one that its answer waits for. It leaves the table when
//! both have ended, so a completion always finds its client, and a client's slot is never reused under an operation.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::service::listen::BACKLOG;
use common::service::pool::{Done, Job, Outcome, Pool, Submitter, THREADS_MAX};
use common::service::socket::{AcceptError, delivery, end, has_bytes, is_silent, peer_of, reset};
use common::site::free_list::TrimTimer;
use common::site::sendfile::{SENDFILE_BYTES_MAX, SENDFILE_BYTES_MIN, Sent, send_cached};
use common::site::volume::Pages;
use common::{
    Close, Connection, CopyMode, Drain, FileBytes, Idles, Listeners, OpenRequest, Service, SharedFile, Slots,
    Step, Token, Wheel, Worker, run_workers,
};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use crate::buffers::{HEAD_ROOM_BYTES, Received};
use crate::client::{Client, Doing, Receiving};
use crate::listener::Listener;
use crate::probe::probe;
use crate::ring::{Completion, FilePart, Options, Ring};

/// How long the end of the server waits for operations that it has cancelled.
const CANCEL_WAIT_MAX: Duration = Duration::from_millis(500);

/// So many clients are looked at in one turn because their deadline has passed.
const LOOKS_MAX: usize = 64;

/// So often a client is looked at in vain, because its bytes are yet to come through the ring; then the deadline counts.
const LATE_LOOKS_MAX: u32 = 10_000;

/// Tokens of what is polled besides clients: no client ever has these slots.
const SHUTDOWN: Token = Token { slot: u32::MAX, generation: 0 };
const POOL: Token = Token { slot: u32::MAX, generation: 1 };
const CACHE: Token = Token { slot: u32::MAX, generation: 2 };
const PLACES: Token = Token { slot: u32::MAX, generation: 3 };

/// Connections accepted from one listener in one turn of the loop, where few places are left.
const ACCEPTS_MAX: usize = 64;

/// Serves until the drain is over. `ready` is called once connections are accepted.
///
/// # Errors
/// When io_uring can't be used here (one line that says why, and what to do), or a worker can't go on.
pub fn serve(listeners: Listeners, service: &Arc<Service>, ready: impl FnOnce()) -> io::Result<()> {
    probe()?;
    let pool = Pool::start(THREADS_MAX)?;
    service.watch_pool(&pool);
    run_workers(listeners, service, |worker, sockets| Server::new(worker, sockets, &pool), Server::run, ready)
}

/// One worker: its ring, its listeners, its clients.
struct Server {
    worker: Worker,
    ring: Ring,
    /// By their slot; `None` once closed.
    listeners: Vec<Option<Listener>>,
    clients: Slots<Client>,
    /// Accepted although the last place was taken in that moment: they wait for one to become free, as those do that
    /// wait in the kernel's queue.
    early: VecDeque<OwnedFd>,
    /// A multishot accept takes all that the kernel has queued, so it is only in flight where more places are left than
    /// all queues may hold.
    queued_max: usize,
    /// Who gives way when no place is left.
    idles: Idles,
    /// Readable when there may be a place for a connection, or one is sought.
    bell: Rc<OwnedFd>,
    /// Clients whose receive found no buffer.
    starved: Vec<Token>,
    wheel: Wheel,
    /// The slots of one sweep of the wheel; kept for its memory.
    due: Vec<u32>,
    /// Clients whose deadline has passed, first come, first served, and how often they were looked at: what they have sent
    /// meanwhile is to be received first.
    late: VecDeque<(Token, u32)>,
    /// For what the ring has no operation for, or should not wait for.
    pool: Submitter,
    /// Readable when the pool has results.
    pool_event: Rc<OwnedFd>,
    /// Readable when cached files have changed.
    cache_events: Option<Rc<OwnedFd>>,
    trim: TrimTimer,
    /// How far the drain had come when it was last acted on.
    drain: Drain,
    /// A connection waits, and there may be a place for it.
    may_accept: bool,
    /// How a large file is sent: `--copy`. False if it has to be read through the ring.
    send_large: fn(&mut Server, Token) -> bool,
}

impl Server {
    /// Makes the ring; must run in the thread that will run the server.
    fn new(mut worker: Worker, sockets: Vec<OwnedFd>, pool: &Pool) -> io::Result<Server> {
        let without = worker.config().tune.clone();
        let mut ring = Ring::new(&Options { without, ..Options::default() })?;
        // Everything that takes a descriptor: once it accepts, there may be none left.
        let shutdown = Rc::new(worker.service().shutdown.as_fd().try_clone_to_owned()?);
        ring.poll_readable(SHUTDOWN, &shutdown);
        let pool = pool.submitter()?;
        let pool_event = Rc::new(pool.event().try_clone()?);
        ring.poll_readable(POOL, &pool_event);
        let bell = Rc::new(worker.seat().bell().try_clone_to_owned()?);
        ring.poll_readable(PLACES, &bell);
        let cache_events = match worker.files().cache_events() {
            Some(events) => Some(Rc::new(events.try_clone()?)),
            None => None,
        };
        if let Some(events) = &cache_events {
            ring.poll_readable(CACHE, events);
        }
        Ok(Server {
            wheel: Wheel::new(worker.config().shortest_timeout(), worker.now()),
            trim: TrimTimer::new(worker.now()),
            idles: Idles::new(worker.config().head_timeout, worker.now()),
            queued_max: BACKLOG.unsigned_abs() as usize * sockets.len() * worker.config().workers,
            send_large: match worker.config().copy {
                CopyMode::Sendfile => Server::send_file,
                CopyMode::Read => |_, _| false,
            },
            worker,
            ring,
            listeners: sockets.into_iter().map(|socket| Some(Listener::new(socket))).collect(),
            clients: Slots::new(),
            early: VecDeque::new(),
            bell,
            starved: Vec::new(),
            due: Vec::new(),
            late: VecDeque::new(),
            pool,
            pool_event,
            cache_events,
            drain: Drain::Serving,
            may_accept: false,
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.accept();
        self.make_room();
        while self.drain < Drain::Over {
            let timeout = self.wait_max();
            self.worker.flush();
            self.ring.submit_and_wait(timeout)?;
            self.turn();
        }
        self.ring.finish(self.worker.service().end_wait(CANCEL_WAIT_MAX));
        Ok(())
    }

    /// How long the loop may wait for completions. Not at all while connections wait that there is room for; else until
    /// something is due that no completion tells of.
    fn wait_max(&self) -> Option<Duration> {
        if !self.late.is_empty() || self.may_accept {
            return Some(Duration::ZERO);
        }
        let now = self.worker.now();
        let pauses = self.listeners.iter().flatten().filter_map(Listener::paused_until);
        let pauses = pauses.map(|until| until.saturating_duration_since(now));
        let waits = [self.wheel.wait(now), self.idles.wait(now), self.worker.drain_wait()];
        pauses.chain(waits.into_iter().flatten()).min()
    }

    /// One turn of the loop: a batch of completions, and what is due besides.
    fn turn(&mut self) {
        self.worker.tick();
        let mut count = 0;
        while let Some(completion) = self.ring.completion() {
            count += 1;
            self.on_completion(completion);
        }
        self.worker.count_events(count);
        self.worker.count_waits_to(self.ring.enters());
        self.feed_starved();
        self.look();
        self.expire();
        if self.trim.is_due(self.worker.now()) {
            self.ring.trim();
        }
        self.drain();
    }

    fn on_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { token, result, armed } => self.on_accept(token, result, armed),
            Completion::Received { token, result, armed } => self.on_recv(token, result, armed),
            Completion::Opened { token, request, result } => self.on_open(token, request, result),
            Completion::Read { token, result } => self.on_read(token, result),
            Completion::ReadShort { token } => self.cut_short(token),
            Completion::Sent { token, result, armed } => self.on_send(token, result, armed),
            Completion::Polled { token: POOL } => self.on_done(),
            Completion::Polled { token: CACHE } => self.on_cache_events(),
            Completion::Polled { token: PLACES } => self.on_places(),
            // The drain that follows every batch looks at its phase anyway.
            Completion::Polled { token: SHUTDOWN } => {}
            Completion::Polled { token } => match Listener::polled(token) {
                Some(slot) => self.on_acceptable(slot),
                None => self.on_writable(token),
            },
        }
    }

    /// There may be a place for a connection, or a descriptor, or one is sought.
    fn on_places(&mut self) {
        self.idles.wake(self.worker.seat());
        for listener in self.listeners.iter_mut().flatten() {
            listener.end_pause();
        }
        self.ring.poll_readable(PLACES, &self.bell);
    }

    /// Cached files have changed.
    fn on_cache_events(&mut self) {
        self.worker.files().refresh_cache();
        if let Some(events) = &self.cache_events {
            self.ring.poll_readable(CACHE, events);
        }
    }
}

// ---- accept

impl Server {
    /// Fills the places that are free: with connections that came early, then with new ones, unless their listener
    /// pauses.
    fn accept(&mut self) {
        while !self.early.is_empty() && self.worker.seat().take() {
            if let Some(socket) = self.early.pop_front() {
                self.admit(socket);
            }
        }
        if self.drain != Drain::Serving {
            return;
        }
        let now = self.worker.now();
        let is_roomy = self.is_roomy();
        if !is_roomy {
            self.cancel_accepts();
        }
        for (index, slot) in (0..self.listeners.len()).zip(0..) {
            let Some(listener) = &mut self.listeners[index] else { continue };
            if is_roomy && listener.is_due(now) {
                listener.accept(&mut self.ring, Token { slot, generation: 0 });
                self.worker.seat().begin_unasked();
            } else if listener.is_due(now) {
                self.accept_up_to(ACCEPTS_MAX, slot);
            }
        }
    }

    /// Accepts without the ring, each connection when it has a place, and then waits for the next.
    fn accept_up_to(&mut self, accepts_max: usize, slot: u32) {
        for _ in 0..accepts_max {
            let Some(Some(listener)) = self.listeners.get_mut(slot as usize) else { return };
            if !self.worker.seat().take() {
                return;
            }
            match listener.accept_now() {
                Ok(socket) => {
                    self.admit(socket);
                    continue;
                }
                Err(AcceptError::Connection) => self.worker.count_error(),
                Err(AcceptError::Exhausted) => {
                    self.worker.seat().give_back();
                    return self.pause_accepting(slot);
                }
                Err(AcceptError::Empty) => {
                    self.worker.seat().free();
                    if self.drain == Drain::Serving {
                        listener.poll(&mut self.ring, slot);
                    }
                    return;
                }
            }
            self.worker.seat().free();
        }
    }

    /// A listener has a connection.
    fn on_acceptable(&mut self, slot: u32) {
        let Some(Some(listener)) = self.listeners.get_mut(slot as usize) else { return };
        listener.on_end();
        match self.drain {
            Drain::Serving => self.accept(),
            Drain::Quiet | Drain::Closing | Drain::Over => self.close_listeners(),
        }
    }

    /// Whether there are places for all that a multishot accept may bring.
    fn is_roomy(&self) -> bool {
        self.worker.seat().left() > self.queued_max
    }

    /// Where no place or no descriptor is left and a connection waits, here or in another worker, one gives way that has
    /// nothing under way: not if bytes have come from it, which completions may not tell of yet.
    fn make_room(&mut self) {
        let now = self.worker.now();
        self.may_accept = false;
        if self.idles.pauses(now) {
            return;
        }
        let is_exhausted = self.listeners.iter().flatten().any(|listener| {
            listener.paused_until().is_some_and(|until| until > now) && listener.has_connection()
        });
        let has_newcomer = self.has_newcomer() || is_exhausted;
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
        self.drive(token);
    }

    /// Whether a connection waits to be accepted. Where none does, the next one will be told of.
    fn has_newcomer(&mut self) -> bool {
        let now = self.worker.now();
        let mut has_newcomer = !self.early.is_empty();
        for (listener, slot) in self.listeners.iter_mut().zip(0..) {
            if let Some(listener) = listener.as_mut().filter(|listener| listener.is_due(now)) {
                if listener.has_connection() {
                    has_newcomer = true;
                } else {
                    listener.poll(&mut self.ring, slot);
                }
            }
        }
        has_newcomer
    }

    /// A connection has come; or the accept has ended.
    fn on_accept(&mut self, token: Token, result: io::Result<OwnedFd>, armed: bool) {
        let error = match result {
            Ok(socket) => {
                self.welcome(socket);
                None
            }
            // Our own cancel.
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => None,
            Err(error) => Some(AcceptError::from(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
        };
        if !self.is_roomy() {
            self.cancel_accepts();
        }
        if armed {
            return;
        }
        self.worker.seat().end_unasked();
        let Some(Some(listener)) = self.listeners.get_mut(token.slot as usize) else { return };
        match error {
            None | Some(AcceptError::Empty) => listener.on_end(),
            Some(AcceptError::Connection) => {
                listener.on_end();
                self.worker.count_error();
            }
            Some(AcceptError::Exhausted) => self.pause_accepting(token.slot),
        }
        match self.drain {
            Drain::Serving => self.accept(),
            Drain::Quiet | Drain::Closing | Drain::Over => self.close_listeners(),
        }
    }

    /// Takes a connection in, now or when there is a place.
    fn welcome(&mut self, socket: OwnedFd) {
        if self.worker.seat().take() {
            self.admit(socket);
        } else {
            self.early.push_back(socket);
        }
    }

    /// Takes a connection in that has a place.
    fn admit(&mut self, socket: OwnedFd) {
        let peer = if self.worker.wants_peer() { peer_of(&socket) } else { None };
        let token = self.clients.insert(Client {
            socket: Rc::new(socket),
            connection: Connection::new(&self.worker, peer),
            receiving: Receiving::New,
            doing: Doing::Waiting,
            is_nonblocking: false,
            has_given_up: false,
            file: None,
        });
        self.worker.count_accepted();
        self.wheel.watch(token.slot, None, self.worker.now());
        self.drive(token);
    }

    /// Descriptors or memory have run out. The connections stay in the kernel's queue.
    fn pause_accepting(&mut self, slot: u32) {
        self.worker.count_error();
        self.worker.files().shed_descriptors();
        if let Some(Some(listener)) = self.listeners.get_mut(slot as usize) {
            listener.pause(self.worker.now());
        }
    }

    /// Ends what takes connections without asking for a place first, here and in other workers.
    fn cancel_accepts(&mut self) {
        for listener in self.listeners.iter_mut().flatten().filter(|listener| listener.is_armed()) {
            listener.cancel(&mut self.ring);
        }
        self.worker.seat().warn();
    }
}

// ---- drive

impl Server {
    /// Carries out the client's next step: queues the operation that it asks for, unless one is in flight.
    fn drive(&mut self, token: Token) {
        self.release_file(token);
        let Some(client) = self.clients.get(token) else { return };
        match (client.doing, client.connection.step()) {
            (Doing::Closing { .. }, _) => return self.on_close(token),
            (_, Step::Close(Close::Graceful)) => return self.half_close(token),
            (_, Step::Close(close @ (Close::Drop | Close::Reset))) => return self.close(token, close),
            (Doing::Waiting, Step::Open(_)) => self.open(token),
            (Doing::Waiting, Step::Read(_)) => self.read(token),
            (Doing::Waiting, Step::Send(_)) => self.send_response(token),
            (Doing::Waiting, Step::Receive)
            | (Doing::Opening | Doing::Reading | Doing::Sending | Doing::Job, _) => {}
        }
        self.receive(token);
    }

    /// The operation that the client was waiting for has ended: reports it to the connection, and goes on.
    fn completed(&mut self, token: Token, report: impl FnOnce(&mut Client, &mut Worker)) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match client.doing {
            Doing::Closing { .. } => client.doing = Doing::Closing { in_flight: false },
            Doing::Waiting | Doing::Opening | Doing::Reading | Doing::Sending | Doing::Job => {
                report(client, &mut self.worker);
                client.doing = Doing::Waiting;
            }
        }
        self.drive(token);
    }
}

// ---- receive

impl Server {
    /// Keeps the receive going while the connection wants bytes, and ends it when too many wait already.
    fn receive(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match (client.receiving, client.connection.step()) {
            // Many clients ask once and go: a multishot receive would have to be cancelled for them.
            (Receiving::New, Step::Receive) => {
                client.receiving = Receiving::Armed(self.ring.recv(token, &client.socket));
            }
            (Receiving::Off, Step::Receive) => {
                client.set_nonblocking(false);
                client.receiving = Receiving::Armed(self.ring.arm_recv(token, &client.socket));
            }
            // A file that takes its time: a client that goes meanwhile needs no answer.
            (Receiving::Off, Step::Open(_) | Step::Read(_))
                if matches!(client.doing, Doing::Job) && client.connection.wants_bytes() =>
            {
                client.set_nonblocking(false);
                client.receiving = Receiving::Armed(self.ring.arm_recv(token, &client.socket));
            }
            (Receiving::Armed(flight), Step::Open(_) | Step::Read(_) | Step::Send(_))
                if !client.connection.wants_bytes() =>
            {
                self.ring.cancel(flight);
                client.receiving = Receiving::Ending;
            }
            (_, Step::Receive | Step::Open(_) | Step::Read(_) | Step::Send(_) | Step::Close(_)) => {}
        }
    }

    /// Bytes have come; or the client has closed its side; or the receive has ended.
    fn on_recv(&mut self, token: Token, result: io::Result<Option<Received>>, armed: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if !armed {
            client.receiving = Receiving::Off;
        }
        match result {
            Ok(Some(_)) if matches!(client.doing, Doing::Closing { .. }) => {}
            Ok(Some(received)) => {
                client.connection.received(&mut self.worker, received.bytes());
                client.look_for_reset(&mut self.worker);
            }
            Ok(None) => {
                client.receiving = Receiving::Over;
                client.connection.received(&mut self.worker, &[]);
            }
            Err(error) => match error.raw_os_error() {
                // Our own cancel.
                Some(libc::ECANCELED) => {}
                // All buffers are with completions of this batch.
                Some(libc::ENOBUFS) => {
                    client.receiving = Receiving::Starved;
                    self.starved.push(token);
                }
                _ => {
                    client.receiving = Receiving::Over;
                    client.connection.failed(&mut self.worker);
                }
            },
        }
        self.drive(token);
    }

    /// Arms the receives that found no buffer, now that the batch has given its buffers back.
    fn feed_starved(&mut self) {
        while let Some(token) = self.starved.pop() {
            if let Some(client) = self.clients.get_mut(token) {
                client.receiving = Receiving::Off;
            }
            self.receive(token);
        }
    }
}

// ---- open

impl Server {
    fn open(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        let Step::Open(request) = client.connection.step() else { return };
        if request.may_be_at_once() {
            client.doing = Doing::Opening;
            self.ring.open(token, request);
        } else {
            let job = Job::Open(Arc::clone(request));
            self.submit(token, job);
        }
    }

    /// The ring has opened a file, or failed to.
    fn on_open(&mut self, token: Token, request: Arc<OpenRequest>, result: io::Result<OwnedFd>) {
        if self.had_given_up(token) {
            return self.drive(token);
        }
        let opened = match result {
            // It lost a race against a rename, or leads into another mount.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EXDEV)) => {
                return self.submit(token, Job::Open(request));
            }
            Err(error) => Err(error),
            Ok(file) => request.examine(file),
        };
        drop(request); // the connection wants it back, unshared
        self.completed(token, |client, worker| client.connection.opened(worker, opened));
    }
}

// ---- read: bytes of a file, for the cache

impl Server {
    fn read(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        let Step::Read(range) = client.connection.step() else { return };
        match range.file.volume().pages() {
            Pages::Askable if range.length > 0 => {
                client.doing = Doing::Reading;
                self.ring.read(token, &range);
            }
            Pages::Askable | Pages::Here => {
                let result = range.read();
                self.on_read(token, result);
            }
            Pages::Remembered | Pages::Unknown => {
                let job = Job::read(&range);
                self.submit(token, job);
            }
        }
    }

    /// The ring has read, as far as the file goes.
    fn on_read(&mut self, token: Token, result: io::Result<FileBytes>) {
        if self.had_given_up(token) {
            return self.drive(token);
        }
        self.completed(token, |client, worker| client.connection.read(worker, result));
    }

    /// Hands a job to the pool.
    fn submit(&mut self, token: Token, job: Job) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if let Doing::Closing { .. } = client.doing {
            return self.completed(token, |_, _| {});
        }
        client.doing = Doing::Job;
        self.pool.submit(token, job);
        self.receive(token);
    }

    /// Jobs are done. Their clients go on.
    fn on_done(&mut self) {
        // Would block if the event is clear already, which is fine.
        let _cleared = rustix::io::read(&*self.pool_event, &mut [0; 8]);
        self.ring.poll_readable(POOL, &self.pool_event);
        self.pool.collect();
        while let Some(Done { token, outcome }) = self.pool.next_done() {
            // Not if the client has given it up.
            if !self.clients.get(token).is_some_and(|client| matches!(client.doing, Doing::Job)) {
                continue;
            }
            match outcome {
                Outcome::Opened(result) => {
                    self.completed(token, |client, worker| client.connection.opened(worker, result));
                }
                Outcome::Read(result) => {
                    self.completed(token, |client, worker| client.connection.read(worker, result));
                }
                Outcome::Sent(result) => self.on_sent(token, result),
            }
        }
    }
}

// ---- send

impl Server {
    /// Sends some of the answer: what is in memory, or some of a file with the head in front of it.
    fn send_response(&mut self, token: Token) {
        if (self.send_large)(self, token) {
            return;
        }
        let Some(client) = self.clients.get_mut(token) else { return };
        let Step::Send(chunks) = client.connection.step() else { return };
        let (pieces, file) = chunks.front();
        if pieces.len() <= 1 && file.is_some_and(|range| needs_pool(range.file)) {
            drop(pieces);
            return self.send_cold(token);
        }
        drop(pieces);
        client.set_nonblocking(false);
        client.doing = Doing::Sending;
        let Step::Send(chunks) = client.connection.step() else { return };
        let (pieces, file) = chunks.front();
        let head = pieces.first().map_or(&[][..], |piece| piece.bytes());
        let Some(range) = file.filter(|_| pieces.len() <= 1 && head.len() <= HEAD_ROOM_BYTES) else {
            let shares = pieces.iter().map(|piece| piece.share());
            self.ring.send(token, &client.socket, shares, file.is_some());
            return;
        };
        client.file.get_or_insert_with(|| Arc::clone(range.file));
        let part = FilePart { head, file: range.file, offset: range.offset, length: range.length };
        if range.file.volume().pages() == Pages::Askable {
            self.ring.read_then_send(token, &client.socket, &part);
        } else {
            let started = self.ring.read_now_then_send(token, &client.socket, &part);
            drop(pieces);
            if started.is_err() {
                self.cut_short(token);
            }
        }
    }

    /// Sends what the page cache holds of a large file, without a copy and without the ring, which can only copy a file
    /// twice, or hand a SPLICE to a kernel thread. What waits still waits in the ring: for a disk as a READ, because
    /// sendfile(2) is only asked for what is in memory, and for room in the socket as a POLL. False if the file isn't
    /// large, or has to be read.
    fn send_file(&mut self, token: Token) -> bool {
        let Some(client) = self.clients.get_mut(token) else { return false };
        let is_large = |step: Step<'_>| {
            let Step::Send(chunks) = step else { return false };
            let (pieces, file) = chunks.front();
            // The rest of a large file may be small, but is sent as the file was.
            pieces.len() <= 1
                && file.is_some_and(|range| {
                    (pieces.is_empty() || range.length >= SENDFILE_BYTES_MIN as u64)
                        && range.file.volume().pages() != Pages::Unknown
                })
        };
        if !is_large(client.connection.step()) || !client.set_nonblocking(true) {
            return false;
        }
        let Step::Send(chunks) = client.connection.step() else { return false };
        let (pieces, Some(range)) = chunks.front() else { return false };
        client.file.get_or_insert_with(|| Arc::clone(range.file));
        let head = pieces.first().map_or(&[][..], |piece| piece.bytes());
        let sent = send_cached(&client.socket, head, &range, SENDFILE_BYTES_MAX);
        drop(pieces);
        match sent {
            Ok(Sent::Bytes { count, full: _ }) => client.connection.sent(&mut self.worker, count),
            Ok(Sent::Unready) => return false,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(Sent::Shorter) => client.connection.cut_short(&mut self.worker),
            Err(_broken) => client.connection.failed(&mut self.worker),
        }
        match client.connection.step() {
            // There is no room, or it is the others' turn: a POLL ends when there is room, at once if there is now.
            Step::Send(_) => {
                self.ring.poll_writable(token, &client.socket);
                client.doing = Doing::Sending;
            }
            Step::Receive => self.release_file(token),
            Step::Open(_) | Step::Read(_) | Step::Close(_) => self.drive(token),
        }
        true
    }

    /// Has the pool send what nobody can say of whether it is in memory.
    fn send_cold(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if !client.set_nonblocking(true) {
            return self.close(token, Close::Reset);
        }
        let Step::Send(chunks) = client.connection.step() else { return };
        let (pieces, Some(range)) = chunks.front() else { return };
        let head = pieces.first().map_or(&[][..], |piece| piece.bytes());
        let job = Job::send(&*client.socket, head, &range, self.worker.config().copy);
        drop(pieces);
        match job {
            Ok(job) => self.submit(token, job),
            Err(_exhausted) => self.close(token, Close::Reset),
        }
    }

    /// The pool has sent.
    fn on_sent(&mut self, token: Token, sent: rustix::io::Result<usize>) {
        match sent {
            Ok(0) => self.cut_short(token),
            Err(Errno::AGAIN) => {
                let Some(client) = self.clients.get_mut(token) else { return };
                self.ring.poll_writable(token, &client.socket);
                client.doing = Doing::Sending;
            }
            Ok(sent) => self.completed(token, |client, worker| client.connection.sent(worker, sent)),
            Err(_broken) => self.completed(token, |client, worker| client.connection.failed(worker)),
        }
    }

    /// The socket has room, or there is an error that the next call will meet.
    fn on_writable(&mut self, token: Token) {
        self.completed(token, |_, _| {});
    }

    /// Bytes have left. `armed`: the rest of them is on its way.
    fn on_send(&mut self, token: Token, result: io::Result<usize>, armed: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match result {
            Ok(sent) if armed => client.connection.sent(&mut self.worker, sent),
            Ok(sent) if sent > 0 => {
                self.completed(token, |client, worker| client.connection.sent(worker, sent));
            }
            Ok(_) | Err(_) => self.completed(token, |client, worker| client.connection.failed(worker)),
        }
    }

    /// The file has shrunk, or can't be read.
    fn cut_short(&mut self, token: Token) {
        self.completed(token, |client, worker| client.connection.cut_short(worker));
    }

    /// Closes the file through the ring once the connection no longer needs it, unless the cache does: dropping the last
    /// share would be a system call of its own.
    fn release_file(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if client.file.is_none()
            || matches!(client.connection.step(), Step::Send(chunks) if chunks.has_file())
        {
            return;
        }
        let unused = client.file.take();
        if let Some(file) = unused.and_then(|file| self.worker.files().release(file)) {
            self.ring.close(file);
        }
    }
}

/// Whether the ring can't tell what of a file is in memory, and so shouldn't read it.
fn needs_pool(file: &SharedFile) -> bool {
    matches!(file.volume().pages(), Pages::Remembered | Pages::Unknown)
}

// ---- close

impl Server {
    /// Ends what is in flight for the client; the last of it closes the socket.
    fn close(&mut self, token: Token, close: Close) {
        let Some(client) = self.clients.get_mut(token) else { return };
        let is_sending = matches!(client.doing, Doing::Sending);
        if let Doing::Job = client.doing {
            // A job that runs may hold the socket open for as long as it waits.
            self.pool.cancel(token);
            let _shut = shutdown(&client.socket, Shutdown::Both);
        }
        let in_flight = is_sending || matches!(client.doing, Doing::Opening | Doing::Reading);
        client.doing = Doing::Closing { in_flight };
        if close == Close::Reset || is_sending {
            reset(&client.socket);
        } else if let Receiving::Armed(flight) = client.receiving {
            self.ring.cancel(flight);
            client.receiving = Receiving::Ending;
        }
        self.on_close(token);
    }

    /// Closes our side and goes on receiving. Not through the ring: there it would always take a kernel thread.
    fn half_close(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if shutdown(&client.socket, Shutdown::Write).is_err() {
            // It is no longer connected.
            return self.close(token, Close::Drop);
        }
        client.connection.half_closed(&mut self.worker);
        if matches!(client.receiving, Receiving::Over) {
            // There is nothing to linger for.
            client.connection.received(&mut self.worker, &[]);
        }
        self.drive(token);
    }

    /// Closes the client, if nothing of it is in flight any more.
    fn on_close(&mut self, token: Token) {
        if !self.clients.get(token).is_some_and(Client::is_done) {
            return;
        }
        let Some(Client { socket, file, .. }) = self.clients.remove(token) else { return };
        let file = file.and_then(|file| self.worker.files().release(file));
        // Where descriptors have run out, a close that is only queued would come behind the next accept.
        let pauses = self.listeners.iter().flatten().any(|listener| listener.paused_until().is_some());
        let queued = if pauses {
            drop(socket);
            None
        } else {
            Rc::into_inner(socket)
        };
        for descriptor in [queued, file].into_iter().flatten() {
            self.ring.close(descriptor);
        }
        self.worker.seat().free();
        self.worker.count_closed();
        for listener in self.listeners.iter_mut().flatten() {
            listener.end_pause();
        }
        self.accept();
    }
}

// ---- deadlines

impl Server {
    /// Looks at the clients whose deadline may have passed, and at the listeners whose pause is over.
    fn expire(&mut self) {
        let now = self.worker.now();
        let mut due = std::mem::take(&mut self.due);
        self.wheel.sweep(now, &mut due);
        for slot in due.drain(..) {
            let Some(token) = self.clients.token_at(slot) else { continue };
            let Some(client) = self.clients.get(token) else { continue };
            if client.connection.is_overdue(&self.worker) {
                self.late.push_back((token, 0));
            } else {
                self.wheel.watch(slot, client.connection.deadline(), now);
            }
        }
        self.due = due;
        self.accept();
        self.make_room();
    }

    /// Acts on deadlines that had passed before the last wait. Meanwhile what was in the sockets has completed, unless a
    /// process that stood still has more to catch up with than one wait brings (the kernel does some twenty receives):
    /// then there are bytes in the socket yet.
    fn look(&mut self) {
        let now = self.worker.now();
        for _ in 0..self.late.len().min(LOOKS_MAX) {
            let Some((token, looks)) = self.late.pop_front() else { return };
            let Some(client) = self.clients.get_mut(token) else { continue };
            let is_overdue = client.connection.is_overdue(&self.worker);
            let is_receiving = matches!(client.connection.step(), Step::Receive);
            if is_overdue && is_receiving && looks < LATE_LOOKS_MAX && has_bytes(&client.socket) {
                self.late.push_back((token, looks + 1));
                continue;
            }
            if is_overdue {
                client.connection.expired(&mut self.worker, delivery(&client.socket));
                self.give_up_file(token);
            }
            if let Some(client) = self.clients.get(token) {
                self.wheel.watch(token.slot, client.connection.deadline(), now);
            }
            if is_overdue {
                self.drive(token);
            }
        }
    }

    /// If the connection no longer waits for its file, neither does the client.
    fn give_up_file(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match (client.doing, client.connection.step()) {
            (_, Step::Open(_) | Step::Read(_)) => {}
            (Doing::Opening | Doing::Reading, _) => {
                client.has_given_up = true;
                client.doing = Doing::Waiting;
            }
            (Doing::Job, Step::Send(chunks)) if !chunks.has_file() => {
                self.pool.cancel(token);
                client.doing = Doing::Waiting;
            }
            (Doing::Waiting | Doing::Sending | Doing::Job | Doing::Closing { .. }, _) => {}
        }
    }

    /// Whether what has ended is an operation that the client had given up.
    fn had_given_up(&mut self, token: Token) -> bool {
        self.clients.get_mut(token).is_some_and(|client| std::mem::take(&mut client.has_given_up))
    }
}

// ---- drain

impl Server {
    /// Follows the drain from phase to phase; it is over for this worker when nobody is left.
    fn drain(&mut self) {
        let phase = self.worker.drain();
        let before = std::mem::replace(&mut self.drain, phase);
        if before == Drain::Serving && phase >= Drain::Quiet {
            self.stop_accepting();
        }
        if before < Drain::Closing && phase >= Drain::Closing {
            self.early.clear();
            for token in self.clients.tokens().collect::<Vec<_>>() {
                // What it has asked meanwhile is answered.
                if let Some(client) = self.clients.get_mut(token)
                    && !(client.connection.is_idle() && has_bytes(&client.socket))
                {
                    client.connection.drain();
                }
                self.drive(token);
            }
        }
        if phase == Drain::Over {
            for token in self.clients.tokens().collect::<Vec<_>>() {
                if let Some(client) = self.clients.get_mut(token) {
                    client.connection.cut_off(&mut self.worker);
                    end(&client.socket);
                }
                self.worker.seat().free();
                self.worker.count_closed();
            }
        }
        let is_alone =
            self.clients.is_empty() && self.early.is_empty() && self.listeners.iter().all(Option::is_none);
        if phase >= Drain::Quiet && is_alone {
            self.drain = Drain::Over;
        }
    }

    fn stop_accepting(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            listener.cancel(&mut self.ring);
        }
        self.close_listeners();
    }

    /// Closes the listeners whose accept has ended. Connections in the kernel's queue came before the drain and are
    /// accepted, as far as there are places; with the listener closed they are reset.
    fn close_listeners(&mut self) {
        for (index, slot) in (0..self.listeners.len()).zip(0..) {
            if self.listeners[index].as_ref().is_some_and(Listener::has_ended) {
                self.accept_up_to(BACKLOG.unsigned_abs() as usize + 1, slot);
                self.listeners[index] = None;
            }
        }
        if self.listeners.iter().all(Option::is_none) {
            self.worker.closed_listeners();
        }
    }
}

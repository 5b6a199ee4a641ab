//! The loop of one worker: one thread, one poller, thousands of clients.
//!
//! Here, waiting is *returning*. Every function below does what can be done at once and says what comes next;
//! none of them waits, neither for a client nor for a disk. What a client waits for is the name of its state.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::cache::BODY_BYTES_MAX;
use common::config::Copy;
use common::connection::{BodyRange, Close, Connection, Step};
use common::file_bytes::FileBytes;
use common::net::{BACKLOG, Listeners};
use common::sendfile::{SENDFILE_BYTES_MIN, Sent, send_cached};
use common::service::Service;
use common::shutdown::Drain;
use common::site::Opened;
use common::slots::{Slots, Token};
use common::tune::Tune;
use common::wheel::Wheel;
use common::worker::Worker;
use common::workers::run_workers;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use crate::accept::{accept_one, is_of_the_connection};
use crate::client::{Client, Waits, answer, send_both};
use crate::page_cache::PageCache;
use crate::poller::{Event, Events, Interest, Key, Poller};
use crate::pool::{self, Buffer, Done, Job, Outcome, Pool, Submitter};
use crate::trigger::{Edges, Levels, Trigger};

/// Events of one turn of the loop.
const EVENTS_MAX: usize = 512;

/// Connections that one listener hands over in one turn of the loop.
const ACCEPTS_MAX: usize = 64;

/// How long accepting rests when the process is out of descriptors and no connection closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes received at once. Every client of the worker shares the one buffer.
const RECEIVE_BYTES_MAX: usize = 64 * 1024;

/// The one buffer for heads with bodies of small files, which stays in the processor's cache, and for what the
/// file cache loads.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
const _: () = assert!(SEND_BUFFER_BYTES >= SENDFILE_BYTES_MIN && SEND_BUFFER_BYTES as u64 >= BODY_BYTES_MAX);

/// The share of a client in one turn of the loop: so many bytes…
const SHARE_BYTES: usize = 256 * 1024;

/// …of which each step costs this many on top of what it sends.
const STEP_BYTES: usize = 16 * 1024;

/// Serves until the service is drained; `ready` is called once every worker accepts.
///
/// # Errors
/// When a worker or the pool can't be set up; while serving, none that a client or a file could cause.
pub fn serve(listeners: Listeners, service: &Arc<Service>, ready: impl FnOnce()) -> io::Result<()> {
    if service.config.tuned(Tune::LevelTriggered) {
        run::<Levels>(listeners, service, ready)
    } else {
        run::<Edges>(listeners, service, ready)
    }
}

fn run<T: Trigger>(listeners: Listeners, service: &Arc<Service>, ready: impl FnOnce()) -> io::Result<()> {
    let pool = Pool::start(Arc::clone(service), pool::THREADS_MAX)?;
    let set_up = |worker, sockets| Server::<T>::new(worker, sockets, &pool);
    run_workers(listeners, service, set_up, Server::run, ready)
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

struct Server<T = Edges> {
    worker: Worker,
    poller: Poller,
    page_cache: PageCache,
    /// How a file is sent that is not to be copied.
    large: fn(&mut Server<T>, Token) -> Next,
    pool: Submitter,
    listeners: Vec<Listener>,
    /// Out of descriptors: no accept before this moment, or before a connection closes.
    accept_pause: Option<Instant>,
    clients: Slots<Client<T>>,
    /// Clients that have used up their share of a turn, first come, first served. Tokens may be stale.
    turns: VecDeque<Token>,
    /// Clients that the pool had no room for, first come, first served. Tokens may be stale.
    applicants: VecDeque<Token>,
    wheel: Wheel,
    /// The slots of one sweep of the wheel; kept for its memory.
    due: Vec<u32>,
    drain: Drain,
    receive_buffer: Box<[u8]>,
    send_buffer: Box<[u8]>,
}

impl<T: Trigger> Server<T> {
    fn new(worker: Worker, sockets: Vec<OwnedFd>, pool: &Pool) -> io::Result<Server<T>> {
        let poller = Poller::new()?;
        let pool = pool.submitter(poller.waker(Key::Pool)?);
        poller.register(&worker.service().shutdown, Key::Shutdown, Interest::Arrival)?;
        if let Some(events) = worker.cache_events() {
            poller.register(&events, Key::Cache, Interest::Arrival)?;
        }
        for (index, socket) in (0..).zip(&sockets) {
            poller.register(socket, Key::Listener(index), Interest::Arrival)?;
        }
        Ok(Server {
            wheel: Wheel::new(worker.config().shortest_timeout(), worker.now()),
            page_cache: PageCache::of(worker.config()),
            large: match worker.config().copy {
                _ if worker.config().tuned(Tune::AlwaysPool) => Server::read,
                Copy::Sendfile => Server::send_large,
                Copy::Read => Server::send_copy,
            },
            worker,
            poller,
            pool,
            listeners: sockets.into_iter().map(|socket| Listener { socket, acceptable: false }).collect(),
            accept_pause: None,
            clients: Slots::new(),
            turns: VecDeque::new(),
            applicants: VecDeque::new(),
            due: Vec::new(),
            drain: Drain::Serving,
            receive_buffer: vec![0; RECEIVE_BYTES_MAX].into_boxed_slice(),
            send_buffer: vec![0; SEND_BUFFER_BYTES].into_boxed_slice(),
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

    /// How long the loop may wait for events. Not at all while there is work, else until something comes due that no
    /// event tells of: the wheel's next tick, the end of a pause, the next phase of the drain.
    fn wait_max(&self) -> Option<Duration> {
        if !self.turns.is_empty() || self.may_accept() {
            return Some(Duration::ZERO);
        }
        let now = self.worker.now();
        let pause = self.accept_pause.map(|until| until.saturating_duration_since(now));
        [self.wheel.wait(now), pause, self.worker.drain_wait()].into_iter().flatten().min()
    }

    /// One turn of the loop: everybody who has something to do gets a share of it.
    fn turn(&mut self, events: &Events) {
        self.worker.tick();
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
        match event.key {
            Key::Client(token) => {
                let Some(client) = self.clients.get_mut(token) else { return };
                client.hung_up |= event.hung_up();
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
            Key::Listener(index) => self.on_acceptable(index),
            Key::Pool => self.on_done(),
            Key::Cache => self.worker.refresh_cache(),
            // The drain that follows every turn's events looks at its phase anyway.
            Key::Shutdown => {}
        }
    }

    // ---- accept

    fn on_acceptable(&mut self, index: u32) {
        // Gone, if the drain has begun.
        if let Some(listener) = self.listeners.get_mut(index as usize) {
            listener.acceptable = true;
        }
    }

    /// Whether a connection may be waiting that there is room for.
    fn may_accept(&self) -> bool {
        self.accept_pause.is_none()
            && self.clients.len() < self.worker.connections_max()
            && self.listeners.iter().any(|listener| listener.acceptable)
    }

    /// Takes in a bounded batch from each listener.
    fn accept(&mut self) {
        if self.accept_pause.is_some_and(|until| until <= self.worker.now()) {
            self.accept_pause = None;
        }
        for index in 0..self.listeners.len() {
            self.accept_up_to(ACCEPTS_MAX, index);
        }
    }

    fn accept_up_to(&mut self, accepts_max: usize, index: usize) {
        for _ in 0..accepts_max {
            if !self.listeners[index].acceptable || !self.may_accept() {
                return;
            }
            match accept_one(&self.listeners[index].socket, self.worker.logs()) {
                Ok((socket, peer)) => self.on_accept(socket, peer),
                Err(Errno::AGAIN) => self.listeners[index].acceptable = false,
                Err(errno) if is_of_the_connection(errno) => self.worker.count_error(),
                // Out of descriptors or memory. The connection stays in the kernel's queue.
                Err(_) => self.pause_accepting(),
            }
        }
    }

    fn on_accept(&mut self, socket: OwnedFd, peer: Option<IpAddr>) {
        let connection = Connection::new(&self.worker, peer);
        let deadline = connection.deadline();
        let token = self.clients.insert(Client {
            socket,
            connection,
            waits: Waits::Bytes,
            readable: T::EARLY,
            writable: true,
            hung_up: false,
            trigger: T::FRESH,
        });
        self.worker.count_accepted();
        self.wheel.watch(token.slot, deadline, self.worker.now());
        // Its request has often come with it. If it is answered and gone in one turn, the poller needn't know it.
        if T::EARLY {
            self.take_turn(token);
        }
        let Some(client) = self.clients.get(token) else { return };
        if self.poller.register(&client.socket, Key::Client(token), client.trigger.interest()).is_err() {
            self.close(token, Close::Reset);
            self.pause_accepting();
        }
    }

    fn pause_accepting(&mut self) {
        self.worker.count_error();
        self.worker.shed_descriptors();
        self.accept_pause = Some(self.worker.now() + ACCEPT_PAUSE);
    }

    // ---- a client's turn

    /// Those who stand in line now each get a turn; who joins meanwhile waits for the next round.
    fn take_turns(&mut self) {
        for _ in 0..self.turns.len() {
            let Some(token) = self.turns.pop_front() else { return };
            self.take_turn(token);
        }
    }

    /// Takes the client's steps until it has to wait for something, or has used up its share.
    fn take_turn(&mut self, token: Token) {
        let mut share = SHARE_BYTES;
        while share > 0 {
            let Some(client) = self.clients.get(token) else { return };
            let next = match client.connection.step() {
                Step::Receive => self.receive(token),
                Step::Open(_) => self.open(token),
                Step::Load(_) => self.load(token),
                Step::Send(_) => self.send_response(token),
                Step::Close(close) => self.close(token, close),
            };
            match next {
                Next::Step(sent) => share = share.saturating_sub(STEP_BYTES + sent),
                Next::Wait(waits) => return self.finish(token, waits),
                Next::Gone => return,
            }
        }
        self.finish(token, Waits::Turn);
    }

    // ---- receive

    fn on_readable(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        client.readable = true;
        if client.waits == Waits::Bytes {
            self.take_turn(token);
        }
    }

    fn receive(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        if !client.readable {
            return Next::Wait(Waits::Bytes);
        }
        match recv(&client.socket, &mut *self.receive_buffer, RecvFlags::empty()) {
            Ok((_, received)) => {
                client.readable = received == RECEIVE_BYTES_MAX || (client.hung_up && received > 0);
                client.connection.received(&mut self.worker, &self.receive_buffer[..received]);
            }
            Err(Errno::AGAIN) => client.readable = false,
            Err(Errno::INTR) => {}
            Err(_) => client.connection.failed(&mut self.worker),
        }
        Next::Step(0)
    }

    // ---- open

    fn open(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get(token) else { return Next::Gone };
        let Step::Open(request) = client.connection.step() else { return Next::Step(0) };
        match self.page_cache.open(self.worker.site(), request) {
            Some(result) => self.on_opened(token, result),
            None => {
                let job = Job::Open(Arc::clone(request));
                self.submit(token, job)
            }
        }
    }

    fn on_opened(&mut self, token: Token, result: io::Result<Opened>) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        client.connection.opened(&mut self.worker, result);
        Next::Step(0)
    }

    // ---- load: a small file, for the cache

    fn load(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        let Step::Load(range) = client.connection.step() else { return Next::Step(0) };
        let length = usize::try_from(range.length).unwrap_or(usize::MAX);
        let bytes = &mut self.send_buffer[..length];
        if self.page_cache.read(range.file, range.offset, bytes) == length {
            client.connection.loaded(&mut self.worker, Ok(FileBytes::from(&*bytes)));
            return Next::Step(0);
        }
        let job = Job::Read { file: Arc::clone(range.file), offset: range.offset, length: range.length };
        self.submit(token, job)
    }

    // ---- send

    fn on_writable(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        client.writable = true;
        if client.waits == Waits::Space {
            self.take_turn(token);
        }
    }

    fn send_response(&mut self, token: Token) -> Next {
        let Some((client, answer)) = answer(&self.clients, token) else { return Next::Step(0) };
        if !client.writable {
            return Next::Wait(Waits::Space);
        }
        let bytes = answer.bytes().len() as u64;
        match answer.file {
            None if answer.body.is_some() => self.send_body(token),
            None => self.send_bytes(token, SendFlags::empty()),
            // What is left of a large file may be small, but goes the way of the rest.
            Some(range) if bytes > 0 && bytes + range.length < SENDFILE_BYTES_MIN as u64 => {
                self.send_copy(token)
            }
            Some(_) => (self.large)(self, token),
        }
    }

    /// Sends the bytes in memory by themselves.
    fn send_bytes(&mut self, token: Token, flags: SendFlags) -> Next {
        let Some((client, answer)) = answer(&self.clients, token) else { return Next::Step(0) };
        let asked = answer.bytes().len();
        let sent = send(&client.socket, answer.bytes(), SendFlags::NOSIGNAL | flags);
        self.on_sent(token, asked, sent)
    }

    /// Sends the bytes in memory and the cached body in one call.
    fn send_body(&mut self, token: Token) -> Next {
        let Some((client, answer)) = answer(&self.clients, token) else { return Next::Step(0) };
        let body = answer.body.as_ref().map_or(&[][..], BodyRange::bytes);
        let asked = answer.bytes().len() + body.len();
        let sent = send_both(&client.socket, answer.bytes(), body);
        self.on_sent(token, asked, sent)
    }

    /// Sends head and file in one call, as much of the file as fits the buffer and the page cache gives at once.
    fn send_copy(&mut self, token: Token) -> Next {
        let Some((client, answer)) = answer(&self.clients, token) else { return Next::Step(0) };
        let Some(range) = answer.file else { return Next::Step(0) };
        let head = answer.bytes();
        let room = self.send_buffer.len().saturating_sub(head.len());
        let length = usize::try_from(range.length).map_or(room, |length| length.min(room));
        let body = &mut self.send_buffer[head.len()..][..length];
        let read = self.page_cache.read(range.file, range.offset, body);
        if read == 0 {
            return self.read(token);
        }
        self.send_buffer[..head.len()].copy_from_slice(head);
        let asked = head.len() + read;
        let sent = send(&client.socket, &self.send_buffer[..asked], SendFlags::NOSIGNAL);
        self.on_sent(token, asked, sent)
    }

    /// Sends some of a file without a copy, as far as the page cache holds it, after the head.
    fn send_large(&mut self, token: Token) -> Next {
        let Some((client, answer)) = answer(&self.clients, token) else { return Next::Step(0) };
        let Some(range) = answer.file else { return Next::Step(0) };
        match send_cached(&client.socket, answer.bytes(), &range) {
            Ok(Sent::Bytes { count, full }) => self.on_sent(token, count + usize::from(full), Ok(count)),
            Ok(Sent::Unready) => self.read(token),
            Ok(Sent::Shorter) => self.cut_short(token),
            Err(errno) => self.on_sent(token, usize::MAX, Err(errno)),
        }
    }

    // ---- read: what the page cache doesn't hold

    fn read(&mut self, token: Token) -> Next {
        let Some((_, answer)) = answer(&self.clients, token) else { return Next::Step(0) };
        let Some(range) = answer.file else { return Next::Step(0) };
        let job = Job::Read { file: Arc::clone(range.file), offset: range.offset, length: range.length };
        self.submit(token, job)
    }

    /// The pool has read what the page cache didn't hold.
    fn on_read(&mut self, token: Token, result: io::Result<Buffer>) -> Next {
        let buffer = match result {
            Ok(buffer) => buffer,
            Err(error) => return self.on_read_failed(token, error),
        };
        let next = match self.clients.get_mut(token) {
            Some(client) if matches!(client.connection.step(), Step::Load(_)) => {
                client.connection.loaded(&mut self.worker, Ok(FileBytes::from(buffer.bytes())));
                Next::Step(0)
            }
            Some(_) => self.send_read(token, buffer.bytes()),
            None => Next::Gone,
        };
        self.pool.put_back(buffer);
        next
    }

    fn on_read_failed(&mut self, token: Token, error: io::Error) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        match client.connection.step() {
            Step::Load(_) => client.connection.loaded(&mut self.worker, Err(error)),
            Step::Receive | Step::Open(_) | Step::Send(_) | Step::Close(_) => {
                client.connection.cut_short(&mut self.worker);
            }
        }
        Next::Step(0)
    }

    fn send_read(&mut self, token: Token, body: &[u8]) -> Next {
        let Some((client, answer)) = answer(&self.clients, token) else { return Next::Step(0) };
        if body.is_empty() {
            // The file is shorter than it was when the answer was planned.
            return self.cut_short(token);
        }
        let asked = answer.bytes().len() + body.len();
        let sent = send_both(&client.socket, answer.bytes(), body);
        self.on_sent(token, asked, sent)
    }

    fn on_sent(&mut self, token: Token, asked: usize, sent: rustix::io::Result<usize>) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        match sent {
            Ok(sent) => {
                client.writable = sent == asked;
                client.connection.sent(&mut self.worker, sent);
                Next::Step(sent)
            }
            Err(Errno::AGAIN) => {
                client.writable = false;
                Next::Wait(Waits::Space)
            }
            Err(Errno::INTR) => Next::Step(0),
            Err(_) => self.fail(token),
        }
    }

    fn cut_short(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        client.connection.cut_short(&mut self.worker);
        Next::Step(0)
    }

    fn fail(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        client.connection.failed(&mut self.worker);
        Next::Step(0)
    }

    // ---- the pool

    fn submit(&mut self, token: Token, job: Job) -> Next {
        let waits = self.clients.get(token).map(|client| client.waits);
        // Whoever stands in line goes first: freed room isn't for those who have just been served.
        let first = self.applicants.is_empty() || waits == Some(Waits::Room);
        if first && self.pool.submit(token, job).is_ok() {
            return Next::Wait(Waits::Job);
        }
        if self.applicants.len() >= self.clients.len() * 2 {
            let clients = &self.clients;
            self.applicants.retain(|token| clients.get(*token).is_some());
        }
        self.applicants.push_back(token);
        Next::Wait(Waits::Room)
    }

    /// Jobs are done. Their clients go on, and then those who had to wait for room.
    fn on_done(&mut self) {
        self.pool.collect();
        while let Some(Done { token, outcome }) = self.pool.next_done() {
            let next = match outcome {
                Outcome::Opened(result) => self.on_opened(token, result),
                Outcome::Read(result) => self.on_read(token, result),
            };
            match next {
                Next::Step(_) => self.take_turn(token),
                Next::Wait(waits) => self.finish(token, waits),
                Next::Gone => {}
            }
        }
        while self.pool.has_room() {
            let Some(token) = self.applicants.pop_front() else { return };
            self.take_turn(token);
        }
    }

    // ---- finish

    /// The end of a turn: notes what the client waits for.
    fn finish(&mut self, token: Token, waits: Waits) {
        let Some(client) = self.clients.get_mut(token) else { return };
        client.waits = waits;
        match waits {
            Waits::Bytes => self.want(token, Interest::Bytes),
            Waits::Space => self.want(token, Interest::Space),
            Waits::Turn => self.turns.push_back(token),
            Waits::Job | Waits::Room => {}
        }
    }

    /// What the client is to be told of from now on, if it is told by levels.
    fn want(&mut self, token: Token, interest: Interest) {
        let Some(client) = self.clients.get_mut(token) else { return };
        let wanted = client.trigger.want(interest, &self.poller, &client.socket, Key::Client(token));
        if wanted.is_err() {
            self.close(token, Close::Reset);
        }
    }

    /// Ends the client's side of the conversation, or the client.
    fn close(&mut self, token: Token, close: Close) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        match close {
            Close::Graceful => return self.half_close(token),
            Close::Drop => {}
            Close::Reset => {
                // The one possible failure is a socket that is already dead.
                let _set = sockopt::set_socket_linger(&client.socket, Some(Duration::ZERO));
            }
        }
        drop(self.clients.remove(token));
        self.worker.count_closed();
        self.accept_pause = None;
        Next::Gone
    }

    fn half_close(&mut self, token: Token) -> Next {
        let Some(client) = self.clients.get_mut(token) else { return Next::Gone };
        match shutdown(&client.socket, Shutdown::Write) {
            Ok(()) => client.connection.half_closed(&mut self.worker),
            Err(_) => client.connection.failed(&mut self.worker),
        }
        Next::Step(0)
    }

    // ---- the clock and the drain

    /// Tells the machines whose deadline has passed.
    fn expire(&mut self) {
        let now = self.worker.now();
        self.wheel.sweep(now, &mut self.due);
        while let Some(slot) = self.due.pop() {
            let Some(token) = self.clients.token_at(slot) else { continue };
            let Some(client) = self.clients.get_mut(token) else { continue };
            if client.connection.deadline().is_some_and(|deadline| deadline <= now) {
                client.connection.expired(&mut self.worker);
                self.on_changed(token);
            }
            if let Some(client) = self.clients.get(token) {
                self.wheel.watch(slot, client.connection.deadline(), now);
            }
        }
    }

    /// The client's step may have changed while it waited.
    fn on_changed(&mut self, token: Token) {
        let Some(client) = self.clients.get(token) else { return };
        match client.waits {
            Waits::Bytes | Waits::Space => self.take_turn(token),
            // Its turn comes by itself.
            Waits::Turn => {}
            // What came of its job comes by itself, and finds nobody if the client goes now.
            Waits::Job | Waits::Room => {
                if let Step::Close(close) = client.connection.step() {
                    self.close(token, close);
                }
            }
        }
    }

    /// Follows the drain from phase to phase; it is over for this worker when nobody is left.
    fn drain(&mut self) {
        let phase = self.worker.drain();
        if phase >= Drain::Quiet {
            self.stop_accepting();
        }
        if phase >= Drain::Closing && self.drain < Drain::Closing {
            self.for_each_client(|server, token| {
                if let Some(client) = server.clients.get_mut(token) {
                    client.connection.drain();
                }
                server.on_changed(token);
            });
        }
        if phase == Drain::Over {
            self.for_each_client(|server, token| {
                server.close(token, Close::Drop);
            });
        }
        let over = phase >= Drain::Quiet && self.clients.is_empty();
        self.drain = if over { Drain::Over } else { phase };
    }

    /// Takes in whom the kernel has already shaken hands with, then closes the listeners.
    fn stop_accepting(&mut self) {
        for index in 0..self.listeners.len() {
            self.listeners[index].acceptable = true;
            self.accept_up_to(BACKLOG.unsigned_abs() as usize + 1, index);
        }
        self.listeners.clear();
    }

    fn for_each_client(&mut self, mut act: impl FnMut(&mut Server<T>, Token)) {
        let tokens: Vec<Token> = self.clients.tokens().collect();
        for token in tokens {
            act(self, token);
        }
    }
}

#[cfg(test)]
mod tests;

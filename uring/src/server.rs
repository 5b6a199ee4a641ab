//! The server: callbacks in the order of the pipeline.
//!
//! The loop takes a batch of completions, runs the callback of each, and waits again. A callback never waits:
//! it reports to the connection and queues the operation that the connection's next step asks for. One
//! `io_uring_enter` submits what a whole batch of callbacks has queued, and waits for the next batch.
//!
//! A client has at most two operations in flight: a receive, which from the second on goes on until further
//! notice, and one that its answer waits for. It leaves the table when both have ended, so a completion always
//! finds its client, and the client's number is never reused under an operation.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::Copy;
use common::connection::{Close, Connection, Step};
use common::file_bytes::FileBytes;
use common::shutdown::Drain;
use common::site::{OpenRequest, Opened};
use common::slots::{Slots, Token};
use common::spares::Round;
use common::wheel::Wheel;
use common::worker::Worker;
use rustix::net::{self, Shutdown};

use crate::buffers::HEAD_ROOM_BYTES;
use crate::client::{Client, Doing, Receiving, peer_of, reset};
use crate::listener::{Listener, is_harmless};
use crate::lister::Lister;
use crate::ring::{Beneath, Completion, Options, Piece, Ring};
use crate::volumes::{self, Reading, Volumes};

/// How long the end of the server waits for operations that it has cancelled.
const FINISH_BOUND: Duration = Duration::from_millis(500);

/// Who polls: no client is ever in these places.
const SHUTDOWN: Token = Token { slot: u32::MAX, generation: 0 };
const LISTER: Token = Token { slot: u32::MAX, generation: 1 };
const CACHE: Token = Token { slot: u32::MAX, generation: 2 };

/// One worker: its ring, its listeners, its clients.
pub(crate) struct Server {
    worker: Worker,
    ring: Ring,
    /// By their number; `None` once closed.
    listeners: Vec<Option<Listener>>,
    clients: Slots<Client>,
    /// Accepted in the moment in which the last place was taken: they wait for one to become free, as those
    /// do that wait in the kernel's queue.
    early: VecDeque<OwnedFd>,
    /// Clients whose receive found no buffer.
    starved: Vec<Token>,
    wheel: Wheel,
    due: Vec<u32>,
    beneath: Beneath,
    volumes: Volumes,
    /// Sends without the ring what needs no copy; false if it doesn't.
    send_without_copy: fn(&mut Server, Token) -> bool,
    lister: Option<Lister>,
    /// Readable when cached files have changed.
    cache_events: Option<Rc<OwnedFd>>,
    /// After which memory that has gone unused is freed.
    round: Round,
    /// How far the drain had come when it was last acted on.
    phase: Drain,
}

impl Server {
    /// Makes the ring; must run in the thread that will run the server.
    pub(crate) fn new(worker: Worker, sockets: Vec<OwnedFd>) -> io::Result<Server> {
        let without = worker.config().tune.clone();
        let mut ring = Ring::new(&Options { without, ..Options::default() })?;
        // Everything that takes a descriptor: once it accepts, there may be none left.
        let shutdown = Rc::new(worker.service().shutdown.as_fd().try_clone_to_owned()?);
        ring.poll_once(SHUTDOWN, &shutdown);
        let cache_events = match worker.cache_events() {
            Some(events) => Some(Rc::new(events.try_clone()?)),
            None => None,
        };
        if let Some(events) = &cache_events {
            ring.poll_once(CACHE, events);
        }
        let send_without_copy = match worker.config().copy {
            Copy::Sendfile => Server::send_cached,
            Copy::Read => Server::send_nothing,
        };
        let beneath = Beneath::new(worker.site().root().try_clone_to_owned()?, worker.site().how());
        Ok(Server {
            wheel: Wheel::new(worker.config().shortest_timeout(), worker.now()),
            round: Round::new(worker.now()),
            worker,
            ring,
            listeners: sockets.into_iter().map(|socket| Some(Listener::new(socket))).collect(),
            clients: Slots::new(),
            early: VecDeque::new(),
            starved: Vec::new(),
            due: Vec::new(),
            beneath,
            volumes: Volumes::default(),
            send_without_copy,
            lister: None,
            cache_events,
            phase: Drain::Serving,
        })
    }

    /// Serves until it is drained.
    pub(crate) fn run(mut self) -> io::Result<()> {
        self.resume_accepting();
        loop {
            self.worker.flush();
            self.ring.submit_and_wait(self.wait_max())?;
            self.turn();
            if self.drain() {
                break;
            }
        }
        self.finish();
        Ok(())
    }

    /// How long the loop may sleep if nothing completes.
    fn wait_max(&self) -> Option<Duration> {
        let now = self.worker.now();
        let pauses = self.listeners.iter().flatten().filter_map(Listener::paused_until);
        let pauses = pauses.map(|until| until.saturating_duration_since(now));
        pauses.chain(self.wheel.wait(now)).chain(self.worker.drain_wait()).min()
    }

    /// One batch of completions, and what is due besides.
    fn turn(&mut self) {
        self.worker.tick();
        let mut count = 0;
        while let Some(completion) = self.ring.completion() {
            count += 1;
            match completion {
                Completion::Accepted { token, result, armed } => self.on_accept(token, result, armed),
                Completion::Received { token, result, armed } => self.on_recv(token, result, armed),
                Completion::ReceivedOnce { token, result } => self.on_recv(token, result, false),
                Completion::Opened { token, request, result } => self.on_open(token, request, result),
                Completion::Loaded { token, result } => self.on_load(token, result),
                Completion::Sent { token, result, armed } => self.on_write_headers(token, result, armed),
                Completion::FileRead { token, result: _ } => self.on_read_file(token),
                Completion::FileSent { token, result, armed } => self.on_write_file(token, result, armed),
                Completion::Polled { token } => self.on_poll(token),
            }
        }
        self.worker.count_events(count);
        self.feed_starved();
        self.expire();
        if self.round.is_over(self.worker.now()) {
            self.ring.give_up_unwanted();
        }
    }
}

// ---- accept

impl Server {
    /// A connection has come; or the accept has ended.
    fn on_accept(&mut self, token: Token, result: io::Result<OwnedFd>, armed: bool) {
        let failed = result.map(|socket| self.welcome(socket)).err().filter(|error| !is_harmless(error));
        if self.is_full() {
            self.stop_accepting();
        }
        if armed {
            return;
        }
        let Some(Some(listener)) = self.listeners.get_mut(token.slot as usize) else { return };
        match failed {
            None => listener.ended(),
            Some(_) => {
                listener.pause(self.worker.now());
                self.worker.count_error();
                self.worker.shed_descriptors();
            }
        }
        match self.phase {
            Drain::Serving => self.resume_accepting(),
            Drain::Quiet | Drain::Closing | Drain::Over => self.close_listeners(),
        }
    }

    /// Takes a connection on, now or when there is a place.
    fn welcome(&mut self, socket: OwnedFd) {
        if self.is_full() {
            self.early.push_back(socket);
        } else {
            self.admit(socket);
        }
    }

    fn admit(&mut self, socket: OwnedFd) {
        let peer = if self.worker.logs() { peer_of(&socket) } else { None };
        self.worker.count_accepted();
        let socket = Rc::new(socket);
        let client = Client {
            connection: Connection::new(&self.worker, peer),
            socket: Rc::clone(&socket),
            receiving: Receiving::New,
            doing: Doing::Waiting,
            is_nonblocking: false,
            file: None,
        };
        let token = self.clients.insert(client);
        self.wheel.watch(token.slot, None, self.worker.now());
        self.start_response(token);
    }

    fn is_full(&self) -> bool {
        self.clients.len() >= self.worker.connections_max()
    }

    fn stop_accepting(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            listener.stop(&mut self.ring);
        }
    }

    /// Fills the places that are free: with those who came early, then with whoever comes, unless their
    /// listener pauses.
    fn resume_accepting(&mut self) {
        while !self.is_full()
            && let Some(socket) = self.early.pop_front()
        {
            self.admit(socket);
        }
        if self.is_full() || self.phase != Drain::Serving {
            return;
        }
        let now = self.worker.now();
        for (slot, listener) in (0..).zip(&mut self.listeners) {
            if let Some(listener) = listener {
                listener.resume(&mut self.ring, Token { slot, generation: 0 }, now);
            }
        }
    }
}

// ---- receive

impl Server {
    /// Bytes have come; or the client has closed its side; or the receive has ended.
    fn on_recv<B>(&mut self, token: Token, result: io::Result<Option<B>>, armed: bool)
    where
        B: AsRef<[u8]>,
    {
        let Some(client) = self.clients.get_mut(token) else { return };
        if !armed {
            client.receiving = Receiving::Off;
        }
        let is_leaving = matches!(client.doing, Doing::Leaving { .. });
        match result {
            Ok(Some(_)) if is_leaving => {}
            Ok(Some(buffer)) => {
                client.connection.received(&mut self.worker, buffer.as_ref());
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
        self.start_response(token);
    }

    /// Keeps the receive going while the connection wants bytes, and ends it when too many wait already.
    fn receive(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match (client.receiving, client.connection.step()) {
            // Many clients ask once and go: a receive that goes on would have to be cancelled for them.
            (Receiving::New, Step::Receive) => {
                client.receiving = Receiving::Armed(self.ring.recv(token, &client.socket));
            }
            (Receiving::Off, Step::Receive) => {
                client.set_nonblocking(false);
                client.receiving = Receiving::Armed(self.ring.arm_recv(token, &client.socket));
            }
            (Receiving::Armed(flight), Step::Open(_) | Step::Load(_) | Step::Send(_))
                if !client.connection.wants_bytes() =>
            {
                self.ring.cancel(flight);
                client.receiving = Receiving::Ending;
            }
            (_, Step::Receive | Step::Open(_) | Step::Load(_) | Step::Send(_) | Step::Close(_)) => {}
        }
    }

    /// Arms the receives that ran out of buffers, now that the batch has given its buffers back.
    fn feed_starved(&mut self) {
        while let Some(token) = self.starved.pop() {
            if let Some(client) = self.clients.get_mut(token) {
                client.receiving = Receiving::Off;
            }
            self.receive(token);
        }
    }
}

// ---- open, send

impl Server {
    /// Carries out the connection's next step: queues what it asks for.
    fn start_response(&mut self, token: Token) {
        self.let_go_of_file(token);
        let Some(client) = self.clients.get_mut(token) else { return };
        match (client.doing, client.connection.step()) {
            (Doing::Leaving { .. }, _) => return self.on_close(token),
            (_, Step::Close(Close::Graceful)) => return self.half_close(token),
            (_, Step::Close(how @ (Close::Drop | Close::Reset))) => return self.close(token, how),
            (Doing::Waiting, Step::Open(request)) => {
                let request = Arc::clone(request);
                self.open(token, &request);
            }
            (Doing::Waiting, Step::Load(_)) => self.load(token),
            (Doing::Waiting, Step::Send(_)) => self.send_response(token),
            (Doing::Waiting, Step::Receive) | (Doing::Opening | Doing::Loading | Doing::Sending, _) => {}
        }
        self.receive(token);
    }

    fn open(&mut self, token: Token, request: &Arc<OpenRequest>) {
        let Some(client) = self.clients.get_mut(token) else { return };
        client.doing = Doing::Opening;
        if request.is_listing() {
            self.list(token, request);
        } else {
            self.ring.open(token, &self.beneath, request);
        }
    }

    /// Lets the lister open.
    fn list(&mut self, token: Token, request: &Arc<OpenRequest>) {
        let lister = match self.lister.take() {
            Some(lister) => lister,
            None => match Lister::start(self.worker.service()) {
                Ok(lister) => {
                    self.ring.poll_once(LISTER, lister.event());
                    lister
                }
                Err(error) => return self.on_opened(token, Err(error)),
            },
        };
        let taken = lister.open(token, request);
        self.lister = Some(lister);
        if let Err(error) = taken {
            self.on_opened(token, Err(error));
        }
    }

    /// The ring has opened a file, or failed to.
    fn on_open(&mut self, token: Token, request: Arc<OpenRequest>, result: io::Result<OwnedFd>) {
        let opened = match result {
            // It lost a race against a rename. The lister tries until it wins.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return self.list(token, &request),
            Err(error) => Err(error),
            Ok(file) => Opened::from_fd(file),
        };
        // The connection wants its request back, unshared.
        drop(request);
        self.on_opened(token, opened);
    }

    fn on_opened(&mut self, token: Token, result: io::Result<Opened>) {
        self.landed(token, |client, worker| client.connection.opened(worker, result));
    }

    /// Reads a small file whole, for the cache.
    fn load(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        let Step::Load(range) = client.connection.step() else { return };
        let length = usize::try_from(range.length).expect("a small file");
        client.doing = Doing::Loading;
        match self.volumes.reading(range.file) {
            Reading::Ring if length > 0 => {
                self.ring.read(token, range.file, length);
            }
            Reading::Ring | Reading::Direct => {
                let bytes = volumes::read_now(range.file, length);
                self.on_load(token, bytes.map_err(io::Error::from));
            }
        }
    }

    /// A file for the cache has been read, as far as it goes.
    fn on_load(&mut self, token: Token, result: io::Result<FileBytes>) {
        self.landed(token, |client, worker| client.connection.loaded(worker, result));
    }

    /// Something is ready. (That a drain has begun the worker's clock tells; its poll only wakes the loop.)
    fn on_poll(&mut self, token: Token) {
        match token {
            SHUTDOWN => {}
            CACHE => self.on_cache_events(),
            LISTER => self.on_listed(),
            _ => self.on_room(token),
        }
    }

    /// Cached files have changed.
    fn on_cache_events(&mut self) {
        self.worker.refresh_cache();
        if let Some(events) = &self.cache_events {
            self.ring.poll_once(CACHE, events);
        }
    }

    /// The lister has something.
    fn on_listed(&mut self) {
        let Some(lister) = self.lister.take() else { return };
        lister.clear();
        while let Some((token, result)) = lister.outcome() {
            self.on_opened(token, result);
        }
        self.ring.poll_once(LISTER, lister.event());
        self.lister = Some(lister);
    }

    /// Sends what is in memory, or a piece of the file with the bytes in front of it.
    fn send_response(&mut self, token: Token) {
        if (self.send_without_copy)(self, token) {
            return;
        }
        let Some(client) = self.clients.get_mut(token) else { return };
        client.set_nonblocking(false);
        let Step::Send(send) = client.connection.step() else { return };
        let (ring, socket, head) = (&mut self.ring, &client.socket, send.bytes());
        let flight = match send.file {
            Some(file) if head.len() <= HEAD_ROOM_BYTES => {
                let piece = Piece { head, file: file.file, offset: file.offset, length: file.length };
                client.file.get_or_insert_with(|| Arc::clone(file.file));
                match self.volumes.reading(file.file) {
                    Reading::Direct => ring.read_now_then_send(token, socket, &piece),
                    Reading::Ring => Ok(ring.read_then_send(token, socket, &piece)),
                }
            }
            file => {
                let (output, range) = send.shared();
                Ok(match send.body {
                    Some(body) => ring.send_both(token, socket, (output, range), body.shared()),
                    None => ring.send(token, socket, output, range, file.is_some()),
                })
            }
        };
        client.doing = Doing::Sending;
        if flight.is_err() {
            self.on_read_file(token);
        }
    }

    /// Bytes in memory have left: heads, small answers.
    fn on_write_headers(&mut self, token: Token, result: io::Result<usize>, armed: bool) {
        self.on_sent(token, result, armed);
    }

    /// A piece of the file could not be read, or the file has become shorter: the answer can't be finished.
    fn on_read_file(&mut self, token: Token) {
        self.landed(token, |client, worker| client.connection.cut_short(worker));
    }

    /// A piece of the file has left, and what went before it.
    fn on_write_file(&mut self, token: Token, result: io::Result<usize>, armed: bool) {
        self.on_sent(token, result, armed);
    }

    /// Bytes have left. `armed`: the rest of them is on its way.
    fn on_sent(&mut self, token: Token, result: io::Result<usize>, armed: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match result {
            Ok(bytes) if armed => client.connection.sent(&mut self.worker, bytes),
            Ok(bytes) if bytes > 0 => {
                self.landed(token, |client, worker| client.connection.sent(worker, bytes));
            }
            Ok(_) | Err(_) => self.landed(token, |client, worker| client.connection.failed(worker)),
        }
    }

    /// What the client was doing has ended: reports it to the connection and goes on.
    fn landed(&mut self, token: Token, report: impl FnOnce(&mut Client, &mut Worker)) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match client.doing {
            Doing::Leaving { .. } => client.doing = Doing::Leaving { owed: false },
            Doing::Waiting | Doing::Opening | Doing::Loading | Doing::Sending => {
                report(client, &mut self.worker);
                client.doing = Doing::Waiting;
            }
        }
        self.start_response(token);
    }

    /// Closes the file through the ring, once the connection no longer needs it, unless the cache does:
    /// dropping the last share would be a system call of its own.
    fn let_go_of_file(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if client.file.is_none()
            || matches!(client.connection.step(), Step::Send(send) if send.file.is_some())
        {
            return;
        }
        let unused = client.file.take();
        if let Some(file) = unused.and_then(|file| self.worker.release(file)) {
            self.ring.close(file);
        }
    }
}

// ---- close

impl Server {
    /// Closes our side and goes on receiving. Not through the ring: there it would always take a kernel
    /// thread.
    fn half_close(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if net::shutdown(&client.socket, Shutdown::Write).is_err() {
            // It is no longer connected.
            return self.close(token, Close::Drop);
        }
        client.connection.half_closed(&mut self.worker);
        if matches!(client.receiving, Receiving::Over) {
            // There is nothing to linger for.
            client.connection.received(&mut self.worker, &[]);
        }
        self.start_response(token);
    }

    /// Ends what is in flight for the client; the last of it closes the socket.
    fn close(&mut self, token: Token, how: Close) {
        let Some(client) = self.clients.get_mut(token) else { return };
        let sending = matches!(client.doing, Doing::Sending);
        let owed = sending || matches!(client.doing, Doing::Opening | Doing::Loading);
        client.doing = Doing::Leaving { owed };
        if how == Close::Reset || sending {
            reset(&client.socket);
        } else if let Receiving::Armed(flight) = client.receiving {
            self.ring.cancel(flight);
            client.receiving = Receiving::Ending;
        }
        self.on_close(token);
    }

    /// Closes the client, if nothing of it is in flight any more.
    fn on_close(&mut self, token: Token) {
        if !self.clients.get(token).is_some_and(Client::is_landed) {
            return;
        }
        let Some(client) = self.clients.remove(token) else { return };
        let Client { socket, file, .. } = client;
        let file = file.and_then(|file| self.worker.release(file));
        for descriptor in [Rc::into_inner(socket), file].into_iter().flatten() {
            self.ring.close(descriptor);
        }
        self.worker.count_closed();
        self.end_pauses();
        self.resume_accepting();
    }

    /// There is a descriptor again: its close is queued, and so comes before the next accept.
    fn end_pauses(&mut self) {
        for listener in self.listeners.iter_mut().flatten() {
            listener.end_pause();
        }
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
            self.on_due(slot);
        }
        self.due = due;
        self.resume_accepting();
    }

    /// Looks at a client whose deadline may have passed.
    fn on_due(&mut self, slot: u32) {
        let now = self.worker.now();
        let Some(token) = self.clients.token_at(slot) else { return };
        let Some(client) = self.clients.get_mut(token) else { return };
        client.connection.expired(&mut self.worker);
        self.wheel.watch(slot, client.connection.deadline(), now);
        self.start_response(token);
    }
}

// ---- drain

impl Server {
    /// Acts on the phase of the drain; whether there is nothing left to do.
    fn drain(&mut self) -> bool {
        let (before, now) = (self.phase, self.worker.drain());
        self.phase = now;
        if before == Drain::Serving && now > Drain::Serving {
            self.stop_accepting();
            self.close_listeners();
        }
        if before < Drain::Closing && now >= Drain::Closing {
            self.early.clear();
            let tokens: Vec<_> = self.clients.tokens().collect();
            for token in tokens {
                if let Some(client) = self.clients.get_mut(token) {
                    client.connection.drain();
                }
                self.start_response(token);
            }
        }
        now == Drain::Over
            || now > Drain::Serving
                && self.clients.is_empty()
                && self.early.is_empty()
                && self.listeners.iter().all(Option::is_none)
    }

    /// Closes the listeners whose accept has ended. Whoever stands in the kernel's queue came before the
    /// drain and is let in; with the listener closed they would be reset.
    fn close_listeners(&mut self) {
        for index in 0..self.listeners.len() {
            let has_ended = |listener: &mut Listener| listener.has_ended();
            let Some(listener) = self.listeners[index].take_if(has_ended) else { continue };
            while let Some(socket) = listener.accept_now() {
                self.welcome(socket);
            }
        }
    }

    /// Drops everyone who is left.
    fn finish(&mut self) {
        self.ring.finish(FINISH_BOUND);
        self.lister = None;
        for _client in self.clients.tokens() {
            self.worker.count_closed();
        }
    }
}

mod sendfile;

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle connection costs: its place among the clients, its receive in flight, its socket's count.
    #[test]
    fn an_idle_connection_takes_less_than_256_bytes() {
        let place = size_of::<Option<Client>>() + size_of::<u64>();
        let socket = size_of::<[usize; 2]>() + size_of::<u64>();
        assert!(
            place + Ring::IN_FLIGHT_BYTES + socket <= 192,
            "{place} + {} + {socket}",
            Ring::IN_FLIGHT_BYTES
        );
    }
}

//! The server: one connection from top to bottom.
//!
//! Here, waiting is *blocking*. A worker's thread accepts; every connection has a thread that carries out its steps. A
//! call that can't go on puts its thread to sleep, so none of these functions has to come back later.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::service::listen::BACKLOG;
use common::service::socket::{
    ACCEPT_PAUSE, AcceptError, accept, delivery, end, has_connection, reset, send_pieces,
};
use common::site::file::read_full;
use common::{
    Close, Connection, CopyMode, Drain, FileRange, Idles, Listeners, Peer, Service, Step, Worker, run_workers,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::sendfile;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, recv, send, shutdown};

use crate::clients::{Clients, Socket};

/// A connection's stack. The deepest call touches a fraction of it.
const STACK_BYTES: usize = 128 * 1024;
/// Received by one call, onto the stack. It holds any usual request, and several pipelined ones.
const RECEIVE_BYTES: usize = 4 * 1024;
/// Moved by one sendfile(2).
const SENDFILE_BYTES_MAX: u64 = 8 << 20;
/// Moved by one pread(2) and send(2).
const COPY_BYTES: u64 = 64 * 1024;
/// A send waits so often in a send timeout: between two looks at a slow client, sendfile(2) tells of what it has sent up
/// to four waits late.
const SEND_WAITS: u32 = 16;
/// So many receives may still find bytes after a deadline, which came while the server stood still; then it counts.
const LATE_RECEIVES_MAX: u32 = 256;

/// How long a drain goes on accepting what the kernel has queued.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(4);
/// How long the end of the server waits for threads whose connections it has ended.
const END_WAIT_MAX: Duration = Duration::from_secs(1);

/// Connections accepted from one listener before the worker looks at its other events.
const ACCEPTS_MAX: usize = 64;

/// Serves until the drain is over. `ready` is called once connections are accepted.
///
/// # Errors
/// When a worker's thread can't be started, or the listeners can't be polled.
pub fn serve(listeners: Listeners, service: &Arc<Service>, ready: impl FnOnce()) -> io::Result<()> {
    run_workers(listeners, service, |worker, sockets| Ok(Server::new(worker, sockets)), Server::run, ready)
}

/// One worker: the thread that accepts, and the connections that it has started threads for.
struct Server {
    worker: Worker,
    listeners: Vec<OwnedFd>,
    clients: Arc<Clients>,
    /// Who gives way when no place is left.
    idles: Idles,
    /// Readable when cached files have changed.
    cache_events: Option<Arc<OwnedFd>>,
}

impl Server {
    fn new(mut worker: Worker, sockets: Vec<OwnedFd>) -> Server {
        let cache_events = worker.files().cache_events();
        let idles = Idles::new(worker.config().head_timeout, worker.now());
        Server { worker, listeners: sockets, clients: Arc::default(), idles, cache_events }
    }

    fn run(mut self) -> io::Result<()> {
        while self.worker.drain() == Drain::Serving {
            self.wait()?;
            self.worker.tick();
            self.accept();
        }
        self.stop_accepting();
        self.drain();
        Ok(())
    }

    /// Waits for a connection, for a place if one waits already, or for the drain. Events of the cache are handled here,
    /// too: connections look for them when they ask for a file, but what was deleted shouldn't be held open until then.
    fn wait(&mut self) -> io::Result<()> {
        self.worker.flush();
        let timeout = self.idles.wait(self.worker.now()).map(Timespec::try_from).transpose();
        let timeout = timeout.map_err(io::Error::other)?;
        let listeners = if self.idles.seeks() { &[] } else { &self.listeners[..] };
        let bell = self.worker.seat().bell();
        let shutdown = self.worker.service().shutdown.as_fd();
        let cache_events = self.cache_events.as_ref().map(|events| events.as_fd());
        let watched = [bell, shutdown].into_iter().chain(cache_events);
        let watched = watched.chain(listeners.iter().map(AsFd::as_fd));
        let mut events: Vec<_> = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        retry_on_intr(|| poll(&mut events, timeout.as_ref()))?;
        if !events[0].revents().is_empty() {
            self.idles.wake(self.worker.seat());
        }
        self.worker.files().refresh_cache();
        Ok(())
    }
}

// ---- accept

impl Server {
    /// Accepts a bounded batch from each listener.
    fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            let _more = self.accept_up_to(ACCEPTS_MAX, index);
        }
        self.make_room();
    }

    /// Whether there may be more.
    fn accept_up_to(&mut self, accepts_max: usize, index: usize) -> bool {
        for _ in 0..accepts_max {
            if !self.worker.seat().take() {
                return false;
            }
            match accept(&self.listeners[index], SocketFlags::empty(), self.worker.wants_peer()) {
                Ok((socket, peer)) => self.on_accept(socket, peer),
                Err(AcceptError::Connection) => {
                    self.worker.seat().free();
                    self.worker.count_error();
                }
                Err(AcceptError::Empty) => {
                    self.worker.seat().free();
                    return false;
                }
                Err(AcceptError::Exhausted) => {
                    self.worker.seat().give_back();
                    let waits = self.has_newcomer();
                    self.pause_accepting(waits);
                    return false;
                }
            }
        }
        true
    }

    fn has_room(&self) -> bool {
        self.worker.seat().left() > 0
    }

    /// Where no place is left and a connection waits, here or in another worker, one gives way that has nothing under way,
    /// unless bytes have come from it.
    fn make_room(&mut self) {
        if !self.idles.pauses(self.worker.now()) {
            let has_newcomer = !self.has_room() && self.has_newcomer();
            self.idles.seek(self.worker.seat(), has_newcomer, false);
            self.give_way();
        }
    }

    fn give_way(&mut self) {
        let clients = &self.clients;
        let all = |list: &mut Vec<_>| clients.list(list);
        let stands = |token, standing| clients.stands(token, standing);
        let now = self.worker.now();
        if let Some((standing, token)) = self.idles.give_way(self.worker.seat(), now, all, stands) {
            clients.give_way(token, standing);
        }
    }

    /// Whether a connection waits to be accepted.
    fn has_newcomer(&self) -> bool {
        self.listeners.iter().any(has_connection)
    }

    /// Starts the connection's thread. Where the system allows no more of them, the connection waits for one to end; in a
    /// drain it is dropped, because the others wait for the drain to go on.
    fn on_accept(&mut self, socket: OwnedFd, peer: Option<Peer>) {
        self.worker.count_accepted();
        let socket = Socket::new(socket, self.worker.now());
        let membership = self.clients.join(&socket, self.worker.seat().clone());
        loop {
            let (socket, membership) = (Arc::clone(&socket), Arc::clone(&membership));
            let seed = self.worker.for_thread();
            let body = move || {
                let mut client = Client::new(seed.grow(), socket, peer);
                client.drive();
                drop(client); // its counts are handed over before its place is free
                drop(membership);
            };
            match thread::Builder::new().stack_size(STACK_BYTES).spawn(body) {
                Ok(_detached) => return,
                Err(_exhausted) => self.pause_accepting(true),
            }
            self.worker.tick();
            if self.worker.drain() != Drain::Serving {
                self.worker.count_closed();
                return;
            }
        }
    }

    /// Descriptors, memory or threads have run out: waits for a connection to end. If one waits for what it sets free,
    /// another gives way.
    fn pause_accepting(&mut self, waits: bool) {
        self.worker.count_error();
        self.worker.files().shed_descriptors();
        if waits {
            self.idles.seek(self.worker.seat(), true, true);
            self.give_way();
        }
        self.clients.wait_for_end(ACCEPT_PAUSE);
    }
}

// ---- drive

/// One connection: its socket, its machine, its thread's worker.
struct Client {
    worker: Worker,
    socket: Arc<Socket>,
    connection: Connection,
    /// `SO_RCVTIMEO` as it is set.
    receive_timeout: Option<Duration>,
    /// Receives that have found bytes since the deadline has passed.
    late_receives: u32,
    /// Its place is for another one. What has come from it in the same moment is answered first.
    gives_way: bool,
    /// For `--copy=read`; empty until a file is sent.
    copy_buffer: Vec<u8>,
}

impl Client {
    fn new(worker: Worker, socket: Arc<Socket>, peer: Option<Peer>) -> Client {
        let connection = Connection::new(&worker, peer);
        Client {
            worker,
            socket,
            connection,
            receive_timeout: None,
            late_receives: 0,
            gives_way: false,
            copy_buffer: Vec::new(),
        }
    }

    /// Carries out the connection's steps until it is closed.
    fn drive(&mut self) {
        self.set_send_timeout();
        let mut buffer = [0; RECEIVE_BYTES];
        loop {
            self.worker.tick();
            self.worker.flush();
            if self.worker.drain() == Drain::Over {
                self.connection.cut_off(&mut self.worker);
                end(&self.socket.descriptor);
                return self.close(Close::Drop);
            }
            match self.connection.step() {
                Step::Receive => self.receive(&mut buffer),
                Step::Open(_) => self.open(),
                Step::Read(_) => self.read(),
                Step::Send(_) => self.send_response(),
                Step::Close(Close::Graceful) => self.half_close(),
                Step::Close(close @ (Close::Drop | Close::Reset)) => return self.close(close),
            }
        }
    }

    // ---- receive

    /// Waits for bytes, up to the deadline. Once it has passed, takes what has come meanwhile, then acts on it.
    fn receive(&mut self, buffer: &mut [u8]) {
        let is_overdue = self.connection.is_overdue(&self.worker);
        let flags = if is_overdue { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        if !is_overdue {
            self.late_receives = 0;
            self.set_receive_timeout();
        }
        self.socket.set_standing(self.connection.standing(&self.worker));
        let result = recv(&self.socket.descriptor, &mut *buffer, flags);
        if self.socket.set_busy() {
            self.gives_way = true;
            self.worker.keep_no_connection();
        }
        self.worker.tick();
        match result {
            // It isn't the client that has ended this.
            Ok((0, _)) if self.worker.drain() == Drain::Over => {}
            Ok((0, _)) if self.gives_way => self.connection.give_way(&mut self.worker),
            Ok((received, _length)) => {
                self.connection.received(&mut self.worker, &buffer[..received]);
                self.late_receives += u32::from(is_overdue);
                if self.late_receives > LATE_RECEIVES_MAX {
                    self.expire();
                }
            }
            Err(Errno::AGAIN) if is_overdue => self.expire(),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_broken) => self.connection.failed(&mut self.worker),
        }
    }

    // ---- open

    fn open(&mut self) {
        let Step::Open(request) = self.connection.step() else { return };
        let result = request.open();
        self.connection.opened(&mut self.worker, result);
    }

    // ---- read: bytes of a file, for the cache

    fn read(&mut self) {
        let Step::Read(range) = self.connection.step() else { return };
        let result = range.read();
        self.connection.read(&mut self.worker, result);
    }

    // ---- send

    /// Sends some of the answer: what is in memory, or some of a file.
    fn send_response(&mut self) {
        let Step::Send(chunks) = self.connection.step() else { return };
        let socket = &self.socket.descriptor;
        let sent = match chunks.front() {
            (pieces, None) => send_pieces(socket, &pieces, SendFlags::empty()),
            (pieces, Some(_)) if !pieces.is_empty() => send_pieces(socket, &pieces, SendFlags::MORE),
            (_, Some(range)) => match self.worker.config().copy {
                CopyMode::Read => Self::send_copy(socket, range, &mut self.copy_buffer),
                CopyMode::Sendfile => Self::send_file(socket, range, &mut self.copy_buffer),
            },
        };
        self.on_send(sent);
    }

    /// Reads some of a file and sends it. What send(2) doesn't take is read again: nothing but a position is remembered.
    fn send_copy(socket: &OwnedFd, range: FileRange<'_>, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
        buffer.resize(usize::try_from(range.length.min(COPY_BYTES)).unwrap_or(usize::MAX), 0);
        let read = read_full(range.file, buffer, range.offset)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let more = if range.length > read as u64 { SendFlags::MORE } else { SendFlags::empty() };
        send(socket, &buffer[..read], SendFlags::NOSIGNAL | more)
    }

    /// Sends some of a file without a copy.
    fn send_file(socket: &OwnedFd, range: FileRange<'_>, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
        let mut offset = range.offset;
        let length = usize::try_from(range.length.min(SENDFILE_BYTES_MAX)).unwrap_or(usize::MAX);
        match sendfile(socket, range.file, Some(&mut offset), length) {
            // Some file systems can't (sendfile(2), "Notes").
            Err(Errno::INVAL | Errno::NOSYS) => Self::send_copy(socket, range, buffer),
            result => result,
        }
    }

    fn on_send(&mut self, sent: rustix::io::Result<usize>) {
        self.worker.tick();
        match sent {
            // It isn't the client that has ended this.
            Err(_ended) if self.worker.drain() == Drain::Over => {}
            // The file has shrunk, or can't be read.
            Ok(0) | Err(Errno::IO) => self.connection.cut_short(&mut self.worker),
            Ok(sent) => {
                self.connection.sent(&mut self.worker, sent);
                // A client that takes a little at a time never keeps a send waiting.
                if let Step::Send(_) = self.connection.step() {
                    self.expire();
                }
            }
            Err(Errno::AGAIN) => self.expire(),
            Err(Errno::INTR) => {}
            Err(_broken) => self.connection.failed(&mut self.worker),
        }
    }

    // ---- close

    /// Ends the client; the last owner of the socket closes it.
    fn close(&mut self, close: Close) {
        if close == Close::Reset {
            reset(&self.socket.descriptor);
        }
        self.worker.count_closed();
    }

    /// Closes our side.
    fn half_close(&mut self) {
        match shutdown(&self.socket.descriptor, Shutdown::Write) {
            Ok(()) => self.connection.half_closed(&mut self.worker),
            Err(_broken) => self.connection.failed(&mut self.worker),
        }
    }

    // ---- deadlines

    /// Acts on the deadline, if it has passed: nothing of the client waits to be looked at.
    fn expire(&mut self) {
        if self.connection.is_overdue(&self.worker) {
            let delivery = delivery(&self.socket.descriptor);
            self.connection.expired(&mut self.worker, delivery);
        }
    }

    /// Sets `SO_RCVTIMEO` to what is left until the deadline, unless it is near to that already: a busy connection needs
    /// no call for it.
    fn set_receive_timeout(&mut self) {
        let Some(deadline) = self.connection.deadline() else { return };
        let left = deadline.saturating_duration_since(self.worker.now()).max(Duration::from_millis(1));
        let is_near = |set: Duration| set >= left && set - left <= left / 64;
        // It fails only on a broken socket, and then the call that follows does so, too.
        if !self.receive_timeout.is_some_and(is_near)
            && sockopt::set_socket_timeout(&self.socket.descriptor, Timeout::Recv, Some(left)).is_ok()
        {
            self.receive_timeout = Some(left);
        }
    }

    fn set_send_timeout(&mut self) {
        let timeout = Some(self.worker.config().send_timeout / SEND_WAITS);
        if sockopt::set_socket_timeout(&self.socket.descriptor, Timeout::Send, timeout).is_err() {
            self.connection.failed(&mut self.worker);
        }
    }
}

// ---- drain

impl Server {
    /// Waits for the connections to end, phase by phase. When the last one is over, threads that are cut off need but a
    /// moment; one that a disk holds up is left behind.
    fn drain(&mut self) {
        let mut given_up = None;
        loop {
            self.worker.tick();
            let now = self.worker.now();
            let left = match self.worker.drain() {
                Drain::Serving | Drain::Quiet => 0,
                Drain::Closing => {
                    self.clients.wake_idle();
                    0
                }
                Drain::Over => self.clients.end(),
            };
            self.worker.flush();
            let mut wait = self.worker.drain_wait().unwrap_or(ACCEPT_PAUSE);
            if self.worker.drain() == Drain::Over {
                let until =
                    *given_up.get_or_insert_with(|| now + self.worker.service().end_wait(END_WAIT_MAX));
                wait = until.saturating_duration_since(now);
                if wait.is_zero() {
                    // They wait for a disk, and their clients for an answer.
                    return self.worker.count_cut_off(left as u64);
                }
            }
            // A second signal doesn't wake this thread.
            if self.clients.wait_below(1, wait.min(ACCEPT_PAUSE)) {
                return;
            }
        }
    }

    /// Accepts the connections that the kernel has queued already, then closes the listeners. Each costs a thread, so a
    /// long queue on a busy machine could take all of the grace period.
    fn stop_accepting(&mut self) {
        let until = self.worker.now() + self.worker.service().end_wait(QUEUE_WAIT_MAX);
        for index in 0..self.listeners.len() {
            let mut left = BACKLOG.unsigned_abs() as usize + 1;
            while left > 0
                && self.worker.now() < until
                && self.worker.drain() != Drain::Over
                && self.accept_up_to(ACCEPTS_MAX.min(left), index)
            {
                left = left.saturating_sub(ACCEPTS_MAX);
                self.worker.tick();
            }
        }
        self.listeners.clear();
        self.worker.closed_listeners();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use common::{Config, Site, SiteOptions};

    #[test]
    fn a_thread_that_never_ends_does_not_hold_up_the_end() {
        let grace = Duration::from_millis(800);
        let site = Site::open_root(Path::new("."), SiteOptions::default()).expect("a root");
        let service = Service::new(site, Config { grace, ..Config::default() }).expect("a service");
        let service = Arc::new(service);
        let mut server = Server::new(Worker::new(Arc::clone(&service), 0), Vec::new());
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let socket = Socket::new(ours.into(), Instant::now());
        assert!(server.worker.seat().take());
        let _never_ends = server.clients.join(&socket, server.worker.seat().clone());
        service.shutdown.drain();
        let begun = Instant::now();
        server.drain();
        // A client's time, and half of the rest.
        let bounds = Duration::from_millis(690)..Duration::from_millis(800);
        assert!(bounds.contains(&begun.elapsed()), "{:?}", begun.elapsed());
        drop(server);
        assert_eq!(service.stats.totals().cut_off, 1, "its client waits for an answer");
    }
}

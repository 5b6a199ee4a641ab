//! The server: accept, receive, open, send, finish, one connection from top to bottom.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use common::{
    Close, Connection, Copy, Drain, FileBytes, FileRange, Listeners, Send, Service, Step, Worker, run_workers,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, IoSlice, pread, retry_on_intr};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrAny, SocketFlags, acceptfrom_with, recv,
    send, sendmsg, shutdown,
};

use crate::clients::{Clients, Socket};

/// A connection's stack. What the deepest call touches is a fraction of it.
const STACK_BYTES: usize = 128 * 1024;
/// Received at once; it lies on the connection's stack. A page holds any usual request, and several pipelined ones.
const RECEIVE_BYTES: usize = 4 * 1024;
/// Moved by one `sendfile(2)`.
const SENDFILE_BYTES_MAX: u64 = 8 << 20;
/// Moved by one `pread(2)` and `send(2)`.
const COPY_BYTES: u64 = 64 * 1024;
/// A send waits so often before the deadline of a client that takes nothing has passed. The deadline counts from the
/// report of what was sent, which sendfile(2) delays by up to four waits: it is late by a quarter at most.
const SEND_WAITS: u32 = 16;
/// How long an accept that lacked a descriptor or a thread waits for a connection to end.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the drain is over. `ready` is called once connections are accepted.
///
/// # Errors
/// When a worker's thread can't be started, or the listeners can't be polled.
pub fn serve(listeners: Listeners, service: &Arc<Service>, ready: impl FnOnce()) -> io::Result<()> {
    run_workers(
        listeners,
        service,
        |worker, listeners| Ok(Server::new(worker, listeners)),
        Server::run,
        ready,
    )
}

/// One worker: the thread that accepts, and the connections that it started threads for.
struct Server {
    worker: Worker,
    listeners: Vec<OwnedFd>,
    clients: Arc<Clients>,
    /// Readable when cached files have changed.
    cache_events: Option<Arc<OwnedFd>>,
}

impl Server {
    fn new(worker: Worker, listeners: Vec<OwnedFd>) -> Server {
        let cache_events = worker.cache_events();
        Server { worker, listeners, clients: Arc::default(), cache_events }
    }

    fn run(mut self) -> io::Result<()> {
        while self.worker.drain() == Drain::Serving {
            self.wait_acceptable()?;
            self.worker.tick();
            self.on_acceptable();
        }
        self.on_acceptable(); // whoever was in the queue when the drain began
        self.listeners.clear();
        self.drain();
        Ok(())
    }

    /// Waits for a connection, or the drain. Changes of cached files are taken in, too: the connections look for
    /// them when they are asked for a file, but what was deleted shouldn't be held open until then.
    fn wait_acceptable(&mut self) -> io::Result<()> {
        self.worker.flush();
        let shutdown = self.worker.service().shutdown.as_fd();
        let cache_events = self.cache_events.as_ref().map(|events| events.as_fd());
        let watched = self.listeners.iter().map(AsFd::as_fd).chain([shutdown]).chain(cache_events);
        let mut events: Vec<_> = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        retry_on_intr(|| poll(&mut events, None))?;
        self.worker.refresh_cache();
        Ok(())
    }

    /// Accepts all that wait, as far as there is room.
    fn on_acceptable(&mut self) {
        for index in 0..self.listeners.len() {
            while self.has_room() && self.accept(index) {}
        }
    }

    /// Waits until there is room for one more connection; false once a drain has begun in vain.
    fn has_room(&mut self) -> bool {
        while !self.clients.wait_below(self.worker.connections_max(), EXHAUSTED_PAUSE) {
            self.worker.tick();
            self.worker.flush();
            if self.worker.drain() != Drain::Serving {
                return false;
            }
        }
        true
    }

    /// Accepts one connection; false when none is waiting.
    fn accept(&mut self, listener: usize) -> bool {
        match acceptfrom_with(&self.listeners[listener], SocketFlags::CLOEXEC) {
            Ok((socket, peer)) => {
                self.worker.count_accepted();
                let peer = peer.filter(|_| self.worker.logs()).and_then(address);
                self.start(&Socket::new(socket), peer);
                true
            }
            Err(Errno::AGAIN) => false,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.worker.count_error();
                self.worker.shed_descriptors();
                self.clients.wait_for_end(EXHAUSTED_PAUSE);
                false
            }
            // A connection that broke while it was waiting (accept(2), "Error handling").
            Err(_) => true,
        }
    }

    /// Starts the connection's thread. Where the system allows no more of them, the connection waits for one
    /// to end.
    fn start(&mut self, socket: &Arc<Socket>, peer: Option<IpAddr>) {
        let place = self.clients.begin(socket);
        loop {
            let (socket, place, seed) = (Arc::clone(socket), Arc::clone(&place), self.worker.for_thread());
            let body = move || {
                let mut client = Client::new(seed.grow(), socket, peer);
                client.converse();
                drop(client); // its counts are handed over before its place is free
                drop(place);
            };
            match thread::Builder::new().stack_size(STACK_BYTES).spawn(body) {
                Ok(_detached) => return,
                Err(_exhausted) => self.worker.count_error(),
            }
            self.clients.wait_for_end(EXHAUSTED_PAUSE);
            self.worker.tick();
            if self.worker.drain() == Drain::Over {
                self.worker.count_closed();
                return;
            }
        }
    }

    /// Waits for the connections to end, phase by phase.
    fn drain(&mut self) {
        let clients = Arc::clone(&self.clients);
        loop {
            self.worker.tick();
            match self.worker.drain() {
                Drain::Serving | Drain::Quiet => {}
                Drain::Closing => clients.wake_idle(),
                Drain::Over => clients.reset(),
            }
            self.worker.flush();
            // Over has no next phase: threads that are cut need but a moment.
            if clients.wait_below(1, self.worker.drain_wait().unwrap_or(EXHAUSTED_PAUSE)) {
                return;
            }
        }
    }
}

fn address(peer: SocketAddrAny) -> Option<IpAddr> {
    std::net::SocketAddr::try_from(peer).ok().map(|address| address.ip())
}

/// One connection: its socket, its machine, its thread's worker.
struct Client {
    worker: Worker,
    socket: Arc<Socket>,
    connection: Connection,
    /// `SO_RCVTIMEO` as it is set.
    receive_timeout: Option<Duration>,
    /// For `--copy=read`; empty until a file is sent.
    copy_buffer: Vec<u8>,
}

impl Client {
    fn new(worker: Worker, socket: Arc<Socket>, peer: Option<IpAddr>) -> Client {
        let connection = Connection::new(&worker, peer);
        Client { worker, socket, connection, receive_timeout: None, copy_buffer: Vec::new() }
    }

    /// The whole conversation.
    fn converse(&mut self) {
        let send_timeout = Some(self.worker.config().send_timeout / SEND_WAITS);
        if sockopt::set_socket_timeout(&self.socket.descriptor, Timeout::Send, send_timeout).is_err() {
            self.connection.failed(&mut self.worker);
        }
        let mut buffer = [0; RECEIVE_BYTES];
        loop {
            self.worker.tick();
            self.worker.flush();
            match self.connection.step() {
                Step::Receive => self.receive(&mut buffer),
                Step::Open(request) => {
                    let result = self.worker.site().open(request);
                    self.connection.opened(&mut self.worker, result);
                }
                Step::Load(range) => {
                    let bytes = read_file(range);
                    self.connection.loaded(&mut self.worker, bytes.map_err(Errno::into));
                }
                Step::Send(answer) => {
                    let result = send_response(
                        &self.socket.descriptor,
                        answer,
                        self.worker.config().copy,
                        &mut self.copy_buffer,
                    );
                    self.on_sent(result);
                }
                Step::Close(Close::Graceful) => self.half_close(),
                Step::Close(close) => return self.finish(close),
            }
        }
    }

    /// Waits for bytes, up to the deadline.
    fn receive(&mut self, buffer: &mut [u8]) {
        self.socket.is_idle.store(self.connection.is_idle(), SeqCst);
        let result = self
            .set_receive_timeout()
            .and_then(|()| recv(&self.socket.descriptor, &mut *buffer, RecvFlags::empty()));
        match result {
            Ok((received, _length)) => {
                self.worker.tick();
                self.connection.received(&mut self.worker, &buffer[..received]);
            }
            Err(Errno::AGAIN) => {
                self.worker.tick();
                self.connection.expired(&mut self.worker);
            }
            Err(Errno::INTR) => {}
            Err(_broken) => self.connection.failed(&mut self.worker),
        }
    }

    /// Sets `SO_RCVTIMEO` to what is left until the deadline, unless it is near to that already: a busy
    /// connection needs no call for it.
    fn set_receive_timeout(&mut self) -> rustix::io::Result<()> {
        let Some(deadline) = self.connection.deadline() else {
            return Ok(());
        };
        let left = deadline.saturating_duration_since(self.worker.now()).max(Duration::from_millis(1));
        let near = |set: Duration| set >= left && set - left <= left / 64;
        if !self.receive_timeout.is_some_and(near) {
            sockopt::set_socket_timeout(&self.socket.descriptor, Timeout::Recv, Some(left))?;
            self.receive_timeout = Some(left);
        }
        Ok(())
    }

    fn on_sent(&mut self, result: rustix::io::Result<usize>) {
        self.worker.tick();
        match result {
            // The file has shrunk, or can't be read: what was promised isn't there.
            Ok(0) | Err(Errno::IO) => self.connection.cut_short(&mut self.worker),
            Ok(sent) => self.connection.sent(&mut self.worker, sent),
            Err(Errno::AGAIN) => self.connection.expired(&mut self.worker),
            Err(Errno::INTR) => {}
            Err(_broken) => self.connection.failed(&mut self.worker),
        }
    }

    fn half_close(&mut self) {
        match shutdown(&self.socket.descriptor, Shutdown::Write) {
            Ok(()) => self.connection.half_closed(&mut self.worker),
            Err(_broken) => self.connection.failed(&mut self.worker),
        }
    }

    fn finish(&mut self, close: Close) {
        if close == Close::Reset {
            let _gone_already = sockopt::set_socket_linger(&self.socket.descriptor, Some(Duration::ZERO));
        }
        self.worker.count_closed();
    }
}

/// Sends some of an answer: its bytes in memory, then its file's.
fn send_response(
    socket: &OwnedFd,
    answer: Send<'_>,
    copy: Copy,
    buffer: &mut Vec<u8>,
) -> rustix::io::Result<usize> {
    if let Some(body) = answer.body {
        let slices = [IoSlice::new(answer.bytes()), IoSlice::new(body.bytes())];
        return sendmsg(socket, &slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL);
    }
    match (answer.bytes(), answer.file, copy) {
        (bytes @ [_, ..], None, _) => send(socket, bytes, SendFlags::NOSIGNAL),
        (bytes @ [_, ..], Some(_), _) => send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::MORE),
        ([], Some(range), Copy::Sendfile) => match send_file(socket.as_fd(), range) {
            // Some file systems can't (sendfile(2), "Notes").
            Err(Errno::INVAL | Errno::NOSYS) => copy_file(socket.as_fd(), range, buffer),
            result => result,
        },
        ([], Some(range), Copy::Read) => copy_file(socket.as_fd(), range, buffer),
        ([], None, _) => Ok(0),
    }
}

/// Reads a small file whole, or as far as it goes.
fn read_file(range: FileRange<'_>) -> rustix::io::Result<FileBytes> {
    let mut bytes = FileBytes::zeroed(usize::try_from(range.length).unwrap_or(usize::MAX));
    let mut filled = 0;
    while filled < bytes.len() {
        let offset = range.offset + filled as u64;
        match retry_on_intr(|| pread(range.file, &mut bytes[filled..], offset))? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn send_file(socket: BorrowedFd<'_>, range: FileRange<'_>) -> rustix::io::Result<usize> {
    let mut offset = range.offset;
    let length = usize::try_from(range.length.min(SENDFILE_BYTES_MAX)).unwrap_or(usize::MAX);
    rustix::fs::sendfile(socket, range.file, Some(&mut offset), length)
}

/// What `send(2)` doesn't take is read again: a file position is all that is remembered.
fn copy_file(
    socket: BorrowedFd<'_>,
    range: FileRange<'_>,
    buffer: &mut Vec<u8>,
) -> rustix::io::Result<usize> {
    buffer.resize(usize::try_from(range.length.min(COPY_BYTES)).unwrap_or(usize::MAX), 0);
    let read = pread(range.file, &mut buffer[..], range.offset)?;
    let more = if range.length > read as u64 { SendFlags::MORE } else { SendFlags::empty() };
    send(socket, &buffer[..read], SendFlags::NOSIGNAL | more)
}

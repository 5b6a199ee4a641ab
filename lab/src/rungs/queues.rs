//! `queues`: one thread waits with epoll(7) and puts read events into one queue and write events into another; worker
//! threads take them out.
//!
//! With `EPOLLONESHOT`, an event disables its socket until the worker has finished with it. So no two workers have
//! the same client, except when a line of chat arrives in between; each client has a lock for that.
//!
//! - Adds: all CPUs, whichever client has work (C20).
//! - Costs: two events per message, two hand-overs between threads, and an epoll_ctl(2) after each.
//! - Limit: the descriptor limit.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread;

use common::service::socket::{self, AcceptError};
use common::{Slots, Token};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventFlags};
use rustix::io::retry_on_intr;
use rustix::net::SocketFlags;

use super::{ACCEPTS_MAX, BELL, EVENTS_MAX, LISTENER, data, timespec};
use crate::client::end;
use crate::services::{RECEIVE_BYTES_MAX, Service};
use crate::{Bell, Client, Pause, Received, Setup};

/// The workers end with the process.
pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let (reads, events_to_read) = channel();
    let (writes, events_to_write) = channel();
    let server = Server::new(&mut setup, reads, writes)?;
    let (to_read, to_write) = (Arc::new(Mutex::new(events_to_read)), Arc::new(Mutex::new(events_to_write)));
    for _ in 0..setup.workers {
        let (reader, queue) = (Arc::clone(&server), Arc::clone(&to_read));
        let mut buffer = vec![0; RECEIVE_BYTES_MAX];
        work(queue, move |token| reader.on_readable(token, &mut buffer))?;
        let (writer, queue) = (Arc::clone(&server), Arc::clone(&to_write));
        work(queue, move |token| writer.on_writable(token))?;
    }
    server.run()
}

/// Starts a worker that takes events from a queue.
fn work(
    queue: Arc<Mutex<Receiver<Token>>>,
    mut on_event: impl FnMut(Token) + Send + 'static,
) -> io::Result<()> {
    let next = move || lock(&queue).recv().ok();
    thread::Builder::new().spawn(move || {
        while let Some(token) = next() {
            on_event(token)
        }
    })?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line of chat from another client is a write event.
struct Line(Sender<Token>, Token);

impl Wake for Line {
    fn wake(self: Arc<Self>) {
        // Fails only when the server has ended.
        let _sent = self.0.send(self.1);
    }
}

/// The queues need no bound: a client has at most one event from epoll in them, and one for a line of chat.
struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    bell: Arc<Bell>,
    service: Arc<Service>,
    clients: Mutex<Slots<Arc<Mutex<Client>>>>,
    reads: Sender<Token>,
    writes: Sender<Token>,
    /// While there is one, the listener isn't watched.
    pause: Mutex<Pause>,
}

impl Server {
    fn new(setup: &mut Setup, reads: Sender<Token>, writes: Sender<Token>) -> io::Result<Arc<Server>> {
        let (listener, bell, service) = (setup.listener(), setup.end.bell()?, Arc::clone(&setup.service));
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, data(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &bell, data(BELL), EventFlags::IN)?;
        let (clients, pause) = (Mutex::default(), Mutex::default());
        Ok(Arc::new(Server { epoll, listener, bell, service, clients, reads, writes, pause }))
    }

    fn run(&self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while !self.bell.has_ended() {
            let timeout = lock(&self.pause).left().map(timespec);
            retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()))?;
            self.service.stats.count_events(events.len());
            self.watch_again(Pause::is_over);
            for event in events.drain(..) {
                let (token, flags) = (Token::from_u64(event.data.u64()), event.flags);
                let queue = if flags.contains(EventFlags::OUT) { &self.writes } else { &self.reads };
                match token {
                    LISTENER => self.accept(),
                    BELL => {}
                    _ => queue.send(token).map_err(io::Error::other)?,
                }
            }
        }
        Ok(())
    }

    /// Accepts a batch. If more are waiting, the listener stays readable.
    fn accept(&self) {
        for _ in 0..ACCEPTS_MAX {
            match socket::accept(&self.listener, SocketFlags::NONBLOCK, false) {
                Ok((socket, _)) => self.on_accept(socket),
                Err(AcceptError::Connection) => {}
                Err(AcceptError::Empty) => return,
                Err(AcceptError::Exhausted) => return self.pause_accepting(),
            }
        }
    }

    fn on_accept(&self, socket: OwnedFd) {
        let client = Arc::new(Mutex::new(Client { socket, connection: self.service.connect() }));
        let token = lock(&self.clients).insert(Arc::clone(&client));
        let mut client = lock(&client);
        client.connection.wake_with(Waker::from(Arc::new(Line(self.writes.clone(), token))));
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        if epoll::add(&self.epoll, &client.socket, data(token), flags).is_err() {
            self.close(token, &client);
        }
    }

    /// The listener stays readable while connections wait, so every wait would report it.
    fn pause_accepting(&self) {
        let mut pause = lock(&self.pause);
        pause.begin();
        self.watch_listener(EventFlags::empty());
    }

    /// Ends the pause. The lock is held until epoll knows, so that a worker's end can't overtake the beginning.
    fn watch_again(&self, end: fn(&mut Pause) -> bool) {
        let mut pause = lock(&self.pause);
        if end(&mut pause) {
            self.watch_listener(EventFlags::IN);
        }
    }

    fn watch_listener(&self, flags: EventFlags) {
        let watched = epoll::modify(&self.epoll, &self.listener, data(LISTENER), flags);
        watched.expect("the listener is registered");
    }

    /// For readers: receives once, and leaves the output to a writer.
    fn on_readable(&self, token: Token, buffer: &mut [u8]) {
        let Some(client) = lock(&self.clients).get(token).cloned() else { return };
        let mut client = lock(&client);
        match client.receive(buffer) {
            Received::Some | Received::Nothing => self.watch(token, &client),
            Received::Broken => self.close(token, &client),
        }
    }

    /// For writers: sends until nothing is left or the socket would block (C18).
    fn on_writable(&self, token: Token) {
        let Some(client) = lock(&self.clients).get(token).cloned() else { return };
        let mut client = lock(&client);
        if client.send() { self.watch(token, &client) } else { self.close(token, &client) }
    }

    /// Enables the client's next event: for room if it has output, else for bytes.
    fn watch(&self, token: Token, client: &Client) {
        let direction = if client.connection.has_output() { EventFlags::OUT } else { EventFlags::IN };
        let flags = direction | EventFlags::ONESHOT;
        if client.connection.is_over()
            || epoll::modify(&self.epoll, &client.socket, data(token), flags).is_err()
        {
            self.close(token, client);
        }
    }

    /// The last worker that holds the client closes its socket, which removes it from epoll.
    fn close(&self, token: Token, client: &Client) {
        end(&client.socket, &client.connection);
        drop(lock(&self.clients).remove(token));
        self.watch_again(Pause::end);
    }
}

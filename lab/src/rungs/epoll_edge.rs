//! `epoll-edge`: epoll(7), edge-triggered, one thread.
//!
//! The kernel reports each change once: bytes have arrived, there is room again. So a socket is registered once, for
//! both directions, and never modified. But code that stops before the socket says "would block" gets no second
//! report (C16).
//!
//! - Adds: no calls per connection after its registration; tens of thousands of connections on one thread (C22).
//! - Costs: one extra receive per event, the one that would block; and care, see `RECEIVES_MAX`.
//! - Limit: the descriptor limit.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use common::service::socket::{self, AcceptError};
use common::{Slots, Token};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventFlags};
use rustix::io::retry_on_intr;
use rustix::net::SocketFlags;

use super::{BELL, EVENTS_MAX, LISTENER, data, timespec};
use crate::services::{RECEIVE_BYTES_MAX, Service};
use crate::{Bell, Client, Pause, Received, Setup};

/// Receives from one client in a row. A client that sends faster than it is read never says "would block" and would
/// keep the loop to itself. No edge reports the bytes that are left then, so the loop rings its own bell.
const RECEIVES_MAX: usize = 16;

pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let listener = setup.listener();
    Server::new(listener, setup.service, setup.end.bell()?)?.run()
}

pub(super) struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    bell: Arc<Bell>,
    service: Arc<Service>,
    clients: Slots<Client>,
    buffer: Vec<u8>,
    pause: Pause,
}

impl Server {
    pub(super) fn new(listener: OwnedFd, service: Arc<Service>, bell: Arc<Bell>) -> io::Result<Server> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, data(LISTENER), EventFlags::IN | EventFlags::ET)?;
        epoll::add(&epoll, &bell, data(BELL), EventFlags::IN)?;
        let (clients, buffer) = (Slots::new(), vec![0; RECEIVE_BYTES_MAX]);
        Ok(Server { epoll, listener, bell, service, clients, buffer, pause: Pause::default() })
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while !self.bell.has_ended() {
            let timeout = self.pause.left().map(timespec);
            retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()))?;
            self.service.stats.count_events(events.len());
            if self.pause.is_over() {
                self.accept();
            }
            for event in events.drain(..) {
                let token = Token::from_u64(event.data.u64());
                match token {
                    LISTENER => self.accept(),
                    BELL => self.on_bell(),
                    _ => self.on_event(token, event.flags),
                }
            }
        }
        Ok(())
    }

    /// An error makes a socket both readable and writable; the next call returns it.
    fn on_event(&mut self, token: Token, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.on_writable(token);
        }
        if flags.contains(EventFlags::IN) {
            self.on_readable(token);
        }
    }

    /// Clients have work that no edge reports.
    fn on_bell(&mut self) {
        for token in self.bell.answer() {
            self.on_event(token, EventFlags::IN | EventFlags::OUT);
        }
    }

    /// Accepts until nobody is waiting: the listener is edge-triggered, too.
    fn accept(&mut self) {
        self.pause.end();
        loop {
            match socket::accept(&self.listener, SocketFlags::NONBLOCK, false) {
                Ok((socket, _)) => self.on_accept(socket),
                Err(AcceptError::Connection) => {}
                Err(AcceptError::Empty) => return,
                Err(AcceptError::Exhausted) => return self.pause.begin(),
            }
        }
    }

    fn on_accept(&mut self, socket: OwnedFd) {
        let token = self.clients.insert(Client { socket, connection: self.service.connect() });
        let Some(client) = self.clients.get_mut(token) else { return };
        client.connection.wake_with(self.bell.waker(token));
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        if epoll::add(&self.epoll, &client.socket, data(token), flags).is_err() {
            self.close(token);
        }
    }

    /// Receives until the socket would block or the connection is full; then the event for room continues.
    fn on_readable(&mut self, token: Token) {
        for _ in 0..RECEIVES_MAX {
            let Some(client) = self.clients.get_mut(token) else { return };
            match client.receive(&mut self.buffer) {
                Received::Some => self.on_writable(token),
                Received::Nothing => return,
                Received::Broken => return self.close(token),
            }
        }
        self.bell.ring(token);
    }

    /// Sends until nothing is left or the socket would block; then the edge for room continues (C18).
    fn on_writable(&mut self, token: Token) {
        if self.clients.get_mut(token).is_some_and(|client| !client.send()) {
            self.close(token);
        }
    }

    /// Closing the socket removes it from epoll.
    fn close(&mut self, token: Token) {
        let Some(client) = self.clients.remove(token) else { return };
        client.close();
        if self.pause.end() {
            self.accept();
        }
    }
}

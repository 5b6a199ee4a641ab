//! `epoll-level`: epoll(7), level-triggered, one thread.
//!
//! The kernel keeps the set, and every wait reports a socket that is readable or writable. So one receive per event
//! is enough. But a socket is writable nearly all the time, so the server must say when it wants to hear of it (C16).
//!
//! - Adds: idle connections cost nothing per wait, and adding one is a tree search (C15).
//! - Costs: an epoll_ctl(2) whenever a client starts or stops waiting for room.
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

use super::{ACCEPTS_MAX, BELL, EVENTS_MAX, LISTENER, data, timespec};
use crate::services::{RECEIVE_BYTES_MAX, Service};
use crate::{Bell, Client, Pause, Received, Setup};

pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let listener = setup.listener();
    Server::new(listener, setup.service, setup.end.bell()?)?.run()
}

struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    bell: Arc<Bell>,
    service: Arc<Service>,
    /// Each with the events that epoll watches it for.
    clients: Slots<(Client, EventFlags)>,
    buffer: Vec<u8>,
    /// While there is one, the listener isn't watched.
    pause: Pause,
}

impl Server {
    fn new(listener: OwnedFd, service: Arc<Service>, bell: Arc<Bell>) -> io::Result<Server> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, data(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &bell, data(BELL), EventFlags::IN)?;
        let (clients, buffer) = (Slots::new(), vec![0; RECEIVE_BYTES_MAX]);
        Ok(Server { epoll, listener, bell, service, clients, buffer, pause: Pause::default() })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while !self.bell.has_ended() {
            let timeout = self.pause.left().map(timespec);
            retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()))?;
            self.service.stats.count_events(events.len());
            if self.pause.is_over() {
                self.watch_listener(EventFlags::IN);
            }
            for event in events.drain(..) {
                let (token, flags) = (Token::from_u64(event.data.u64()), event.flags);
                match token {
                    LISTENER => self.accept(),
                    BELL => self.bell.answer().into_iter().for_each(|token| self.on_writable(token)),
                    // Errors are reported whether watched for or not; the next call on the socket returns them.
                    _ if flags.contains(EventFlags::OUT) => self.on_writable(token),
                    _ => self.on_readable(token),
                }
            }
        }
        Ok(())
    }

    /// Accepts a batch. If more are waiting, the listener stays readable.
    fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            match socket::accept(&self.listener, SocketFlags::NONBLOCK, false) {
                Ok((socket, _)) => self.on_accept(socket),
                Err(AcceptError::Connection) => {}
                Err(AcceptError::Empty) => return,
                Err(AcceptError::Exhausted) => return self.pause_accepting(),
            }
        }
    }

    fn on_accept(&mut self, socket: OwnedFd) {
        let client = Client { socket, connection: self.service.connect() };
        let token = self.clients.insert((client, EventFlags::IN));
        let Some((client, flags)) = self.clients.get_mut(token) else { return };
        client.connection.wake_with(self.bell.waker(token));
        if epoll::add(&self.epoll, &client.socket, data(token), *flags).is_err() {
            self.close(token);
        }
    }

    /// The listener stays readable while connections wait, so every wait would report it.
    fn pause_accepting(&mut self) {
        self.pause.begin();
        self.watch_listener(EventFlags::empty());
    }

    fn watch_listener(&self, flags: EventFlags) {
        let watched = epoll::modify(&self.epoll, &self.listener, data(LISTENER), flags);
        watched.expect("the listener is registered");
    }

    /// Receives once. If more is waiting, the socket stays readable.
    fn on_readable(&mut self, token: Token) {
        let Some((client, _)) = self.clients.get_mut(token) else { return };
        match client.receive(&mut self.buffer) {
            Received::Some => self.on_writable(token),
            Received::Nothing => {}
            Received::Broken => self.close(token),
        }
    }

    /// Sends until nothing is left or the socket would block; then it is watched for room (C18).
    fn on_writable(&mut self, token: Token) {
        let Some((client, _)) = self.clients.get_mut(token) else { return };
        if client.send() { self.watch(token) } else { self.close(token) }
    }

    /// Updates what epoll watches the client for, if that has changed.
    fn watch(&mut self, token: Token) {
        let Some((client, watched)) = self.clients.get_mut(token) else { return };
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, client.connection.wants_bytes());
        flags.set(EventFlags::OUT, client.connection.has_output());
        if flags != *watched {
            *watched = flags;
            if epoll::modify(&self.epoll, &client.socket, data(token), flags).is_err() {
                self.close(token);
            }
        }
    }

    /// Closing the socket removes it from epoll.
    fn close(&mut self, token: Token) {
        let Some((client, _)) = self.clients.remove(token) else { return };
        client.close();
        if self.pause.end() {
            self.watch_listener(EventFlags::IN);
        }
    }
}

//! `epoll-level`: epoll(7), level-triggered, one thread.
//!
//! The kernel keeps the set, and tells of a socket for as long as it is readable, or writable. So one receive for each
//! event is enough; but a socket is nearly always writable, so the server has to say when it wants to know (C16).
//!
//! - Adds: idle connections cost nothing per wait, and adding one takes a search in a tree (C15).
//! - Costs: an epoll_ctl(2) whenever a client begins or stops to wait for room.
//! - Its limit: the limit of descriptors.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use common::service::socket::{self, ACCEPT_PAUSE, AcceptError};
use common::{Slots, Token};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::retry_on_intr;
use rustix::net::SocketFlags;

use crate::services::{RECEIVE_BYTES_MAX, Service};
use crate::{Bell, Client, Limit, Received, Setup};

/// Tokens that no client has.
const LISTENER: Token = Token { slot: u32::MAX, generation: 0 };
const BELL: Token = Token { slot: u32::MAX, generation: 1 };

/// Events that one wait brings, at most.
const EVENTS_MAX: usize = 1024;

pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let listener = setup.listener();
    Server::new(listener, setup.service, setup.end.bell()?)?.run()
}

struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    bell: Arc<Bell>,
    service: Arc<Service>,
    /// Each with what epoll watches it for.
    clients: Slots<(Client, EventFlags)>,
    buffer: Vec<u8>,
    /// Descriptors have run out, so the listener isn't watched.
    is_exhausted: bool,
}

impl Server {
    fn new(listener: OwnedFd, service: Arc<Service>, bell: Arc<Bell>) -> io::Result<Server> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER.to_u64()), EventFlags::IN)?;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL.to_u64()), EventFlags::IN)?;
        let (clients, buffer) = (Slots::new(), vec![0; RECEIVE_BYTES_MAX]);
        Ok(Server { epoll, listener, bell, service, clients, buffer, is_exhausted: false })
    }

    fn run(mut self) -> io::Result<()> {
        let pause = Timespec::try_from(ACCEPT_PAUSE).map_err(io::Error::other)?;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while !self.bell.has_ended() {
            let timeout = self.is_exhausted.then_some(&pause);
            retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), timeout))?;
            self.service.stats.count_events(events.len());
            if events.is_empty() {
                self.watch_listener(true);
            }
            for event in events.drain(..) {
                let (token, flags) = (Token::from_u64(event.data.u64()), event.flags);
                match token {
                    LISTENER => self.accept(),
                    BELL => self.bell.answer().into_iter().for_each(|token| self.on_writable(token)),
                    // An error is reported whatever is watched for; the call that is due meets it.
                    _ if flags.contains(EventFlags::OUT) => self.on_writable(token),
                    _ => self.on_readable(token),
                }
            }
        }
        Ok(())
    }

    /// Accepts one connection: if there are more, the listener stays readable.
    fn accept(&mut self) {
        let socket = match socket::accept(&self.listener, SocketFlags::NONBLOCK, false) {
            Ok((socket, _)) => socket,
            Err(AcceptError::Connection | AcceptError::Empty) => return,
            Err(AcceptError::Exhausted) => {
                self.watch_listener(false);
                return Limit::Descriptors.mention();
            }
        };
        let client = Client { socket, connection: self.service.connect() };
        let token = self.clients.insert((client, EventFlags::IN));
        let Some((client, flags)) = self.clients.get_mut(token) else { return };
        client.connection.wake_with(self.bell.waker(token));
        if epoll::add(&self.epoll, &client.socket, EventData::new_u64(token.to_u64()), *flags).is_err() {
            self.close(token);
        }
    }

    /// A listener that stays readable while nobody can be accepted would be told of again and again.
    fn watch_listener(&mut self, watches: bool) {
        let flags = if watches { EventFlags::IN } else { EventFlags::empty() };
        let watched =
            epoll::modify(&self.epoll, &self.listener, EventData::new_u64(LISTENER.to_u64()), flags);
        watched.expect("the listener is registered");
        self.is_exhausted = !watches;
    }

    /// Receives once: if there is more, the socket stays readable.
    fn on_readable(&mut self, token: Token) {
        let Some((client, _)) = self.clients.get_mut(token) else { return };
        match client.receive(&mut self.buffer) {
            Received::Some => self.on_writable(token),
            Received::Nothing => {}
            Received::Broken => self.close(token),
        }
    }

    /// Sends until there is nothing left, or the socket would block: then it is watched for room (C18).
    fn on_writable(&mut self, token: Token) {
        let Some((client, _)) = self.clients.get_mut(token) else { return };
        if client.send() { self.watch(token) } else { self.close(token) }
    }

    /// Tells epoll what the client waits for, if that has changed.
    fn watch(&mut self, token: Token) {
        let Some((client, watched)) = self.clients.get_mut(token) else { return };
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, client.connection.wants_bytes());
        flags.set(EventFlags::OUT, client.connection.has_output());
        if flags != *watched {
            *watched = flags;
            let data = EventData::new_u64(token.to_u64());
            if epoll::modify(&self.epoll, &client.socket, data, flags).is_err() {
                self.close(token);
            }
        }
    }

    /// Closing the socket takes it out of epoll.
    fn close(&mut self, token: Token) {
        let Some((client, _)) = self.clients.remove(token) else { return };
        client.close();
        if self.is_exhausted {
            self.watch_listener(true);
        }
    }
}

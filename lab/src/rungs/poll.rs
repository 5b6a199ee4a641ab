//! `poll`: poll(2) and its array.
//!
//! Like select(2), with an entry per socket instead of a bit: what to wait for, and the answer beside it. Any
//! descriptor fits, but the whole array is still copied to the kernel and scanned on every call (C14).
//!
//! - Adds: no limit except that of descriptors.
//! - Costs: time for every connection on every call, idle or not. A C server keeps the array between calls; here the
//!   entries borrow the sockets, so it is rebuilt each time.
//! - Limit: the descriptor limit.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use common::service::socket::{self, AcceptError};
use common::{Slots, Token};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::net::SocketFlags;

use super::{ACCEPTS_MAX, timespec};
use crate::services::{RECEIVE_BYTES_MAX, Service};
use crate::{Bell, Client, Pause, Received, Setup};

/// Errors are reported whether asked for or not; the next call on the socket returns them.
const READABLE: PollFlags = PollFlags::IN.union(PollFlags::HUP).union(PollFlags::ERR);
const WRITABLE: PollFlags = PollFlags::OUT.union(PollFlags::HUP).union(PollFlags::ERR);

pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let (listener, bell) = (setup.listener(), setup.end.bell()?);
    let (clients, buffer) = (Slots::new(), vec![0; RECEIVE_BYTES_MAX]);
    let mut server =
        Server { listener, bell, service: setup.service, clients, buffer, pause: Pause::default() };
    while !server.bell.has_ended() {
        server.wait()?;
    }
    Ok(())
}

struct Server {
    listener: OwnedFd,
    bell: Arc<Bell>,
    service: Arc<Service>,
    clients: Slots<Client>,
    buffer: Vec<u8>,
    /// While there is one, nothing is waited for on the listener.
    pause: Pause,
}

impl Server {
    /// Fills in the array, waits, and acts on the entries with an answer.
    fn wait(&mut self) -> io::Result<()> {
        let listens = if self.pause.is_on() { PollFlags::empty() } else { PollFlags::IN };
        let mut entries = vec![PollFd::new(&self.bell, PollFlags::IN), PollFd::new(&self.listener, listens)];
        let mut tokens = Vec::with_capacity(self.clients.len());
        for token in self.clients.tokens() {
            let Some(client) = self.clients.get(token) else { continue };
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, client.connection.wants_bytes());
            flags.set(PollFlags::OUT, client.connection.has_output());
            entries.push(PollFd::new(&client.socket, flags));
            tokens.push(token);
        }
        let timeout = self.pause.left().map(timespec);
        let count = retry_on_intr(|| poll(&mut entries, timeout.as_ref()))?;
        let [has_rung, is_acceptable] = [0, 1].map(|index: usize| !entries[index].revents().is_empty());
        let answers = tokens.into_iter().zip(entries[2..].iter().map(PollFd::revents));
        let ready: Vec<_> = answers.filter(|(_, answer)| !answer.is_empty()).collect();
        self.service.stats.count_events(count);
        self.pause.is_over();
        if is_acceptable {
            self.accept();
        }
        if has_rung {
            self.bell.answer().into_iter().for_each(|token| self.on_writable(token));
        }
        for (token, answer) in ready {
            if answer.intersects(WRITABLE) {
                self.on_writable(token);
            }
            if answer.intersects(READABLE) {
                self.on_readable(token);
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
                Err(AcceptError::Exhausted) => return self.pause.begin(),
            }
        }
    }

    fn on_accept(&mut self, socket: OwnedFd) {
        let token = self.clients.insert(Client { socket, connection: self.service.connect() });
        if let Some(client) = self.clients.get_mut(token) {
            client.connection.wake_with(self.bell.waker(token));
        }
    }

    /// Receives once. If more is waiting, the socket stays readable.
    fn on_readable(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match client.receive(&mut self.buffer) {
            Received::Some => self.on_writable(token),
            Received::Nothing => {}
            Received::Broken => self.close(token),
        }
    }

    /// Sends until nothing is left or the socket would block; then it is polled for room (C18).
    fn on_writable(&mut self, token: Token) {
        if self.clients.get_mut(token).is_some_and(|client| !client.send()) {
            self.close(token);
        }
    }

    fn close(&mut self, token: Token) {
        if let Some(client) = self.clients.remove(token) {
            client.close();
            self.pause.end();
        }
    }
}

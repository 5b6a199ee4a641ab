//! `select`: select(2) and its bitmaps.
//!
//! One call waits for all sockets. They are bits in bitmaps, which the server fills in before each call and the
//! kernel overwrites with its answer, so both scan the whole set every time (C14).
//!
//! - Adds: an idle server uses no CPU.
//! - Costs: time for every connection on every call, idle or not.
//! - Limit: `FD_SETSIZE`, 1024. A bitmap has no room for higher descriptors; such connections are closed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use common::service::socket::{self, AcceptError};
use common::{Slots, Token};
use nix::errno::Errno;
use nix::sys::select::{FD_SETSIZE, FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike};
use rustix::net::SocketFlags;

use super::ACCEPTS_MAX;
use crate::services::{RECEIVE_BYTES_MAX, Service};
use crate::{Bell, Client, Limit, Pause, Received, Setup};

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

/// What a socket is ready for.
struct Ready {
    token: Token,
    readable: bool,
    writable: bool,
}

struct Server {
    listener: OwnedFd,
    bell: Arc<Bell>,
    service: Arc<Service>,
    clients: Slots<Client>,
    buffer: Vec<u8>,
    /// While there is one, the listener isn't in the set.
    pause: Pause,
}

impl Server {
    /// Fills in the sets, waits, and acts on what is left in them.
    fn wait(&mut self) -> io::Result<()> {
        let (mut reads, mut writes) = (FdSet::new(), FdSet::new());
        reads.insert(self.bell.as_fd());
        if !self.pause.is_on() {
            reads.insert(self.listener.as_fd());
        }
        let clients = || self.clients.tokens().filter_map(|token| Some((token, self.clients.get(token)?)));
        for (_, client) in clients() {
            if client.connection.wants_bytes() {
                reads.insert(client.socket.as_fd());
            }
            if client.connection.has_output() {
                writes.insert(client.socket.as_fd());
            }
        }
        let mut timeout = self
            .pause
            .left()
            .map(|left| TimeVal::microseconds(i64::try_from(left.as_micros()).unwrap_or(i64::MAX)));
        let count = match select(None, Some(&mut reads), Some(&mut writes), None, timeout.as_mut()) {
            Err(Errno::EINTR) => return Ok(()),
            count => usize::try_from(count?).unwrap_or(0),
        };
        let has_rung = reads.contains(self.bell.as_fd());
        let is_acceptable = reads.contains(self.listener.as_fd());
        let mut ready = Vec::new();
        for (token, client) in clients() {
            let (readable, writable) =
                (reads.contains(client.socket.as_fd()), writes.contains(client.socket.as_fd()));
            if readable || writable {
                ready.push(Ready { token, readable, writable });
            }
        }
        self.service.stats.count_events(count);
        self.pause.is_over();
        if is_acceptable {
            self.accept();
        }
        if has_rung {
            self.bell.answer().into_iter().for_each(|token| self.on_writable(token));
        }
        for Ready { token, readable, writable } in ready {
            if writable {
                self.on_writable(token);
            }
            if readable {
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
        if usize::try_from(socket.as_raw_fd()).is_ok_and(|number| number >= FD_SETSIZE) {
            return Limit::FdSet.mention();
        }
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

    /// Sends until nothing is left or the socket would block; then it joins the set of writes (C18).
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

//! `busy`: non-blocking sockets, asked round and round.
//!
//! No call waits, so one thread serves everybody. But nothing reports where bytes have arrived, so it asks every
//! socket in turn, and an idle one always answers "would block" (C13).
//!
//! - Adds: many connections on one thread, with nothing but accept(2), recv(2) and send(2).
//! - Costs: a system call per connection and round, and a whole CPU, even when nothing happens.
//! - Limit: patience. A round takes time in proportion to the number of connections.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

use common::service::socket::{self, AcceptError};
use common::{Slots, Token};
use rustix::net::SocketFlags;

use super::ACCEPTS_MAX;
use crate::services::{RECEIVE_BYTES_MAX, Service};
use crate::{Client, Limit, Received, Setup};

pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let (listener, bell) = (setup.listener(), setup.end.bell()?);
    let (clients, buffer) = (Slots::new(), vec![0; RECEIVE_BYTES_MAX]);
    let mut server = Server { listener, service: setup.service, clients, buffer };
    let mut tokens = Vec::new();
    while !bell.has_ended() {
        server.accept();
        tokens.clear();
        tokens.extend(server.clients.tokens());
        for token in &tokens {
            server.on_readable(*token);
            server.on_writable(*token);
        }
    }
    Ok(())
}

struct Server {
    listener: OwnedFd,
    service: Arc<Service>,
    clients: Slots<Client>,
    buffer: Vec<u8>,
}

impl Server {
    /// Asks for connections.
    fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            match socket::accept(&self.listener, SocketFlags::NONBLOCK, false) {
                Ok((socket, _)) => self.on_accept(socket),
                Err(AcceptError::Connection) => {}
                Err(AcceptError::Empty) => return,
                // The next round tries again, as always.
                Err(AcceptError::Exhausted) => return Limit::Descriptors.mention(),
            }
        }
    }

    fn on_accept(&mut self, socket: OwnedFd) {
        self.service.stats.count_events(1);
        let mut client = Client { socket, connection: self.service.connect() };
        // Every round looks at all clients, so there is nobody to wake.
        client.connection.wake_with(Waker::noop().clone());
        self.clients.insert(client);
    }

    /// Asks for bytes.
    fn on_readable(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match client.receive(&mut self.buffer) {
            Received::Some => self.service.stats.count_events(1),
            Received::Nothing => {}
            Received::Broken => self.close(token),
        }
    }

    /// Sends until nothing is left or the socket would block; then the next round continues (C18).
    fn on_writable(&mut self, token: Token) {
        if self.clients.get_mut(token).is_some_and(|client| !client.send()) {
            self.close(token);
        }
    }

    fn close(&mut self, token: Token) {
        if let Some(client) = self.clients.remove(token) {
            client.close();
        }
    }
}

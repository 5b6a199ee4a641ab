//! `uring-single`: io_uring, one operation at a time.
//!
//! The kernel is told what to do instead of asked what could be done: an accept, a receive, a send are submitted, each
//! with a call of its own, and complete when they are done. Nothing would block, and nothing is told to be ready (C5).
//!
//! - Adds: completion instead of readiness, in its simplest form.
//! - Costs: a call for each operation, and a buffer for each receive, however long the client is silent.
//! - Its limit: the limit of descriptors. A full queue isn't one: what doesn't fit waits in [`Ring`] (C9).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::service::socket::AcceptError;
use common::{SharedPiece, Slots, Token, Tune};
use uring::buffers::Received;
use uring::ring::{Completion, Flight, Options, Ring, Socket};

use super::{BELL, LISTENER, accept_error};
use crate::client::end;
use crate::services::{Connection, Service};
use crate::{Bell, Pause, Setup};

/// How long the end waits for operations in flight.
const END_WAIT: Duration = Duration::from_secs(1);

pub(super) fn serve(mut setup: Setup) -> io::Result<()> {
    let (listener, bell) = (Rc::new(setup.listener()), setup.end.bell()?);
    let without = vec![Tune::SingleAccept, Tune::SingleReceive, Tune::Unbatched];
    let ring = Ring::new(&Options { without, ..Options::default() })?;
    let clients = Slots::new();
    Server { ring, listener, bell, service: setup.service, clients, pause: Pause::default() }.run()
}

struct Client {
    socket: Socket,
    connection: Connection,
    /// The receive in flight.
    receiving: Option<Flight>,
}

struct Server {
    ring: Ring,
    listener: Rc<OwnedFd>,
    bell: Arc<Bell>,
    service: Arc<Service>,
    clients: Slots<Client>,
    /// While it is on, no accept is in flight.
    pause: Pause,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        let bell = Rc::new(self.bell.as_fd().try_clone_to_owned()?);
        self.ring.poll_readable(BELL, &bell);
        self.accept();
        while !self.bell.has_ended() {
            self.ring.submit_and_wait(self.pause.left())?;
            let mut count = 0;
            while let Some(completion) = self.ring.completion() {
                count += 1;
                match completion {
                    Completion::Accepted { result, .. } => self.on_accept(result),
                    Completion::Received { token, result, .. } => self.on_received(token, result),
                    Completion::Sent { token, result, armed } => self.on_sent(token, result, armed),
                    Completion::Polled { .. } => {
                        self.bell.answer().into_iter().for_each(|token| self.send(token));
                        self.ring.poll_readable(BELL, &bell);
                    }
                    // What is never submitted here: files.
                    Completion::Read { .. } | Completion::ReadShort { .. } | Completion::Opened { .. } => {}
                }
            }
            self.service.stats.count_events(count);
            if self.pause.is_over() {
                self.accept();
            }
        }
        self.ring.finish(END_WAIT);
        Ok(())
    }

    fn accept(&mut self) {
        self.pause.end();
        self.ring.arm_accept(LISTENER, &self.listener);
    }

    fn on_accept(&mut self, result: io::Result<OwnedFd>) {
        match result {
            Ok(socket) => {
                let (socket, connection) = (Rc::new(socket), self.service.connect());
                let client = Client { socket, connection, receiving: None };
                let token = self.clients.insert(client);
                if let Some(client) = self.clients.get_mut(token) {
                    client.connection.wake_with(self.bell.waker(token));
                }
                self.receive(token);
            }
            Err(error) if accept_error(&error) == AcceptError::Exhausted => return self.pause.begin(),
            Err(_of_one_connection) => {}
        }
        self.accept();
    }

    /// Has the kernel receive, if the connection wants bytes.
    fn receive(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if client.connection.wants_bytes() && client.receiving.is_none() {
            client.receiving = Some(self.ring.recv(token, &client.socket));
        }
    }

    fn on_received(&mut self, token: Token, result: io::Result<Option<Received>>) {
        let Some(client) = self.clients.get_mut(token) else { return };
        client.receiving = None;
        match result {
            Ok(Some(received)) => client.connection.received(received.bytes()),
            Ok(None) => client.connection.ended(),
            Err(_broken) => return self.close(token),
        }
        self.send(token);
        self.receive(token);
    }

    /// Has the kernel send what there is. It completes as there is room (C18); meanwhile, more may gather.
    fn send(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        let output = client.connection.take_output();
        let whole = 0..output.len();
        if !output.is_empty() {
            let output = SharedPiece::Output(Rc::new(output), whole);
            self.ring.send(token, &client.socket, [output], false);
        } else if client.connection.is_over() {
            self.close(token);
        }
    }

    fn on_sent(&mut self, token: Token, result: io::Result<usize>, armed: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match result {
            Ok(count) => client.connection.sent(count),
            Err(_broken) => return self.close(token),
        }
        if !armed {
            self.send(token);
        }
        self.receive(token);
    }

    /// Operations in flight share the socket: it is closed when they have ended.
    fn close(&mut self, token: Token) {
        let Some(client) = self.clients.remove(token) else { return };
        end(&*client.socket, &client.connection);
        if let Some(flight) = client.receiving {
            self.ring.cancel(flight);
        }
        if self.pause.end() {
            self.accept();
        }
    }
}

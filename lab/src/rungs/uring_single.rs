//! `uring-single`: io_uring, one operation at a time.
//!
//! The server doesn't ask what could be done; it tells the kernel what to do. Accept, receive and send are submitted,
//! each with its own call, and complete when they are done (C5).
//!
//! - Adds: completion in place of readiness, in its simplest form.
//! - Costs: a call per operation, and a buffer per receive for as long as the client is silent.
//! - Limit: the descriptor limit. A full submission queue is none: operations wait in a second queue in [`Ring`]
//!   (C9).

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
    /// While there is one, no accept is in flight.
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
                    // Operations on files: none is submitted here.
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

    /// Submits a receive, if the connection wants bytes.
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

    /// Submits a send of all output. Short writes are completed by the ring (C18); new output waits for the next
    /// send.
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

    /// Operations in flight share the socket, which is closed when the last of them has ended.
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

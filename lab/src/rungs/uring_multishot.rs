//! `uring-multishot`: io_uring, one submission for many completions.
//!
//! One accept keeps yielding connections, and one receive keeps yielding bytes, for as long as the completions carry
//! `F_MORE` (C8). The kernel takes a buffer from a shared ring only when bytes arrive, so a silent client holds none.
//! The call that waits also submits everything that is pending (C5).
//!
//! - Adds: one submission per message, the send, and a share of one call.
//! - Costs: bytes arrive unasked. Stopping them takes a cancel, and whatever is in flight still arrives.
//! - Limit: the descriptor limit. A receive that finds no buffer ends, and is armed again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::service::socket::AcceptError;
use common::{SharedPiece, Slots, Token};
use rustix::io::Errno;
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
    let ring = Ring::new(&Options::default())?;
    let clients = Slots::new();
    Server { ring, listener, bell, service: setup.service, clients, pause: Pause::default() }.run()
}

struct Client {
    socket: Socket,
    connection: Connection,
    /// The receive in flight, and whether it was cancelled.
    receiving: Option<(Flight, bool)>,
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
                    Completion::Accepted { result, armed, .. } => self.on_accept(result, armed),
                    Completion::Received { token, result, armed } => self.on_received(token, result, armed),
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

    fn on_accept(&mut self, result: io::Result<OwnedFd>, armed: bool) {
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
        if !armed {
            self.accept();
        }
    }

    /// Arms the receive while the connection wants bytes, and cancels it when it doesn't.
    fn receive(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        match (client.receiving, client.connection.wants_bytes()) {
            (None, true) => client.receiving = Some((self.ring.arm_recv(token, &client.socket), false)),
            (Some((flight, false)), false) => {
                self.ring.cancel(flight);
                client.receiving = Some((flight, true));
            }
            (None, false) | (Some(_), _) => {}
        }
    }

    fn on_received(&mut self, token: Token, result: io::Result<Option<Received>>, armed: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if !armed {
            client.receiving = None;
        }
        match result {
            Ok(Some(received)) => client.connection.received(received.bytes()),
            Ok(None) => client.connection.ended(),
            // Cancelled, or there was no buffer; by now there is.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::CANCELED | Errno::NOBUFS)) => {}
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
        if let Some((flight, _)) = client.receiving {
            self.ring.cancel(flight);
        }
        if self.pause.end() {
            self.accept();
        }
    }
}

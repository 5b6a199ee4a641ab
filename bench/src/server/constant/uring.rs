//! The null server over io_uring, with the operations of the real server for connections that are kept: a
//! multishot accept, a multishot receive per connection into provided buffers, and a send.

use super::RequestEnd;
use common::{SharedPiece, Slots, Token};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::io;
use std::rc::Rc;
use uring::buffers::Received;
use uring::ring::{Completion, Flight, Options, Ring, Socket};

struct Client {
    socket: Socket,
    request: RequestEnd,
    /// The receive in flight.
    receiving: Option<Flight>,
    sending: bool,
    ending: bool,
}

struct NullServer {
    ring: Ring,
    listener: Rc<OwnedFd>,
    answer: Rc<Vec<u8>>,
    clients: Slots<Client>,
}

/// The accept's token. No client can be mistaken for it: only accepts complete as [`Completion::Accepted`].
const LISTENER: Token = Token { slot: 0, generation: 0 };

pub(super) fn serve(listener: OwnedFd, answer: Vec<u8>) -> io::Result<()> {
    let ring = Ring::new(&Options::default()).map_err(|refusal| io::Error::other(refusal.to_string()))?;
    let (listener, answer) = (Rc::new(listener), Rc::new(answer));
    let mut server = NullServer { ring, listener, answer, clients: Slots::new() };
    server.arm_accept();
    loop {
        server.ring.submit_and_wait(None)?;
        while let Some(completion) = server.ring.completion() {
            server.on(completion);
        }
    }
}

impl NullServer {
    fn on(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { result, armed, .. } => self.on_accept(result, armed),
            Completion::Received { token, result, armed } => self.on_recv(token, result, armed),
            Completion::Sent { token, result, armed } => self.on_send(token, result.is_ok(), armed),
            _ => unreachable!("only accepts, receives and sends were started"),
        }
    }

    fn arm_accept(&mut self) {
        let _lasts_as_long_as_the_server = self.ring.arm_accept(LISTENER, &self.listener);
    }

    fn on_accept(&mut self, result: io::Result<OwnedFd>, armed: bool) {
        if let Ok(socket) = result {
            let (socket, request) = (Rc::new(socket), RequestEnd::default());
            let client = Client { socket, request, receiving: None, sending: false, ending: false };
            let token = self.clients.insert(client);
            self.arm_recv(token);
        }
        if !armed {
            self.arm_accept();
        }
    }

    fn arm_recv(&mut self, token: Token) {
        if let Some(client) = self.clients.get_mut(token) {
            client.receiving = Some(self.ring.arm_recv(token, &client.socket));
        }
    }

    fn on_recv(&mut self, token: Token, result: io::Result<Option<Received>>, armed: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if !armed {
            client.receiving = None;
        }
        let goes_on = match result {
            Ok(Some(bytes)) => {
                if !client.sending && !client.ending && client.request.comes_with(bytes.bytes()) {
                    client.sending = true;
                    let whole = SharedPiece::Output(Rc::clone(&self.answer), 0..self.answer.len());
                    let _never_cancelled = self.ring.send(token, &client.socket, [whole], false);
                }
                true
            }
            // The buffers had run out; the ring has made more.
            Err(error) => error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()),
            Ok(None) => false,
        };
        if client.ending || !goes_on {
            self.end(token);
        } else if !armed {
            self.arm_recv(token);
        }
    }

    fn on_send(&mut self, token: Token, succeeded: bool, armed: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        client.sending = armed;
        if !succeeded || client.ending {
            self.end(token);
        }
    }

    /// Closes the connection as soon as nothing is in flight on it.
    fn end(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if let Some(receive) = client.receiving
            && !client.ending
        {
            self.ring.cancel(receive);
        }
        client.ending = true;
        if client.sending || client.receiving.is_some() {
            return;
        }
        if let Some(client) = self.clients.remove(token)
            && let Ok(socket) = Rc::try_unwrap(client.socket)
        {
            self.ring.close(socket);
        }
    }
}

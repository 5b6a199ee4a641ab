//! A server of a constant, for measuring: what the ring and the kernel cost when nobody parses, opens or decides.
//!
//! It serves no files and no HTTP: whatever is asked, the same bytes are sent. That makes it the floor under
//! the real server's cost, as the operations are those of the real server for connections that are kept: one
//! multishot accept, a multishot receive for each connection into provided buffers, and a send.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use common::slots::{Slots, Token};

use crate::buffers::RecvBuffer;
use crate::ring::{Completion, Flight, Options, Ring, Socket};

/// What a request ends with: the empty line behind its head.
const EMPTY_LINE: [u8; 4] = *b"\r\n\r\n";

/// Sees a request's end, without a look at what is in front of it.
///
/// That is right for clients that ask again only when they are answered, and send no content.
#[derive(Clone, Copy, Debug, Default)]
pub struct End {
    last: [u8; EMPTY_LINE.len()],
}

impl End {
    /// Whether a request is complete with these bytes.
    pub fn comes_with(&mut self, bytes: &[u8]) -> bool {
        if let Some(last) = bytes.last_chunk() {
            self.last = *last;
        } else {
            self.last.rotate_left(bytes.len());
            let kept = self.last.len() - bytes.len();
            self.last[kept..].copy_from_slice(bytes);
        }
        self.last == EMPTY_LINE
    }
}

struct Client {
    socket: Socket,
    request: End,
    /// The receive in flight.
    receiving: Option<Flight>,
    sending: bool,
    ending: bool,
}

struct Server {
    ring: Ring,
    listener: Rc<OwnedFd>,
    answer: Rc<Vec<u8>>,
    clients: Slots<Client>,
}

/// The accept's token; nobody else is told by an [`Completion::Accepted`].
const LISTENER: Token = Token { slot: 0, generation: 0 };

/// Sends `answer` to every request on the connections of `listener`, until the process ends.
///
/// # Errors
/// When io_uring can't be used here, or the ring can't go on.
pub fn serve(listener: OwnedFd, answer: Vec<u8>) -> io::Result<()> {
    let ring = Ring::new(&Options::default()).map_err(|refusal| io::Error::other(refusal.to_string()))?;
    let (listener, answer) = (Rc::new(listener), Rc::new(answer));
    let mut server = Server { ring, listener, answer, clients: Slots::new() };
    server.arm_accept();
    loop {
        server.ring.submit_and_wait(None)?;
        while let Some(completion) = server.ring.completion() {
            server.on(completion);
        }
    }
}

impl Server {
    fn on(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { result, armed, .. } => self.on_accept(result, armed),
            Completion::Received { token, result, armed } => self.on_recv(token, result, armed),
            Completion::Sent { token, result, armed } => self.on_send(token, result.is_ok(), armed),
            Completion::ReceivedOnce { .. }
            | Completion::FileRead { .. }
            | Completion::FileSent { .. }
            | Completion::Opened { .. }
            | Completion::Loaded { .. }
            | Completion::Polled { .. } => unreachable!("only accepts, receives and sends were started"),
        }
    }

    fn arm_accept(&mut self) {
        let _lasts_as_long_as_the_server = self.ring.arm_accept(LISTENER, &self.listener);
    }

    fn on_accept(&mut self, result: io::Result<OwnedFd>, armed: bool) {
        if let Ok(socket) = result {
            let (socket, request) = (Rc::new(socket), End::default());
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

    fn on_recv(&mut self, token: Token, result: io::Result<Option<RecvBuffer>>, armed: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if !armed {
            client.receiving = None;
        }
        let goes_on = match result {
            Ok(Some(bytes)) => {
                if !client.sending && !client.ending && client.request.comes_with(bytes.bytes()) {
                    client.sending = true;
                    let (answer, whole) = (Rc::clone(&self.answer), 0..self.answer.len());
                    let _never_cancelled = self.ring.send(token, &client.socket, answer, whole, false);
                }
                true
            }
            // The ring has made more buffers meanwhile.
            Err(error) => error.raw_os_error() == Some(libc::ENOBUFS),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_however_it_is_cut() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..=request.len() {
            let mut end = End::default();
            let (first, second) = request.split_at(cut);
            assert_eq!(end.comes_with(first), cut == request.len(), "cut at {cut}");
            assert!(end.comes_with(second), "cut at {cut}");
        }
        let mut end = End::default();
        let ends = request.iter().filter(|byte| end.comes_with(&[**byte])).count();
        assert_eq!(ends, 1);
    }
}

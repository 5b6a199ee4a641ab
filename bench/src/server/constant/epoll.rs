//! The null server over edge-triggered epoll.

use super::RequestEnd;
use common::service::slots::{Slots, Token};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use std::io;

const EVENTS_MAX: usize = 256;
/// No event follows these: the client has to read until the end of the stream.
const ENDS: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
/// No token has this value: its generation would have had to wrap around.
const LISTENER: u64 = u64::MAX;

pub(super) fn serve(listener: OwnedFd, answer: Vec<u8>) -> io::Result<()> {
    NullServer::new(listener, answer)?.run()
}

struct Client {
    socket: OwnedFd,
    request: RequestEnd,
    /// Bytes of the answer sent; all of them while a request is awaited.
    sent: usize,
}

/// What to do with a client after an event.
#[derive(PartialEq, Eq)]
enum Next {
    Keep,
    Close,
}

struct NullServer {
    poller: OwnedFd,
    listener: OwnedFd,
    answer: Vec<u8>,
    clients: Slots<Client>,
}

impl NullServer {
    fn new(listener: OwnedFd, answer: Vec<u8>) -> io::Result<NullServer> {
        let poller = epoll::create(CreateFlags::CLOEXEC)?;
        let arrival = EventFlags::IN | EventFlags::ET;
        epoll::add(&poller, &listener, EventData::new_u64(LISTENER), arrival)?;
        Ok(NullServer { poller, listener, answer, clients: Slots::new() })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            match epoll::wait(&self.poller, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for &Event { data, flags } in &events {
                match data.u64() {
                    LISTENER => self.accept()?,
                    token => self.on_ready(Token::from_u64(token), flags.intersects(ENDS)),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => self.admit(socket)?,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn admit(&mut self, socket: OwnedFd) -> io::Result<()> {
        let client = Client { socket, request: RequestEnd::default(), sent: self.answer.len() };
        let token = self.clients.insert(client);
        let Some(client) = self.clients.get(token) else { return Ok(()) };
        let news = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.poller, &client.socket, EventData::new_u64(token.to_u64()), news)?;
        Ok(())
    }

    /// A stale token belongs to a client that was closed earlier in the same batch. `hung_up`: there will be no
    /// further edge for the end of the stream.
    fn on_ready(&mut self, token: Token, hung_up: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if client.exchange(&self.answer, hung_up) == Next::Close {
            drop(self.clients.remove(token));
        }
    }
}

impl Client {
    /// Sends and receives in turn until the socket would block.
    fn exchange(&mut self, answer: &[u8], hung_up: bool) -> Next {
        let mut buffer = [0; 4096];
        let mut drained = false;
        loop {
            if self.sent < answer.len() {
                match send(self.socket.as_fd(), &answer[self.sent..], SendFlags::NOSIGNAL) {
                    Ok(count) => self.sent += count,
                    Err(Errno::AGAIN) => return Next::Keep,
                    Err(Errno::INTR) => {}
                    Err(_) => return Next::Close,
                }
                continue;
            }
            if drained && !hung_up {
                return Next::Keep;
            }
            match recv(self.socket.as_fd(), &mut buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Next::Close,
                Ok((count, _)) => {
                    drained = count < buffer.len();
                    if self.request.comes_with(&buffer[..count]) {
                        self.sent = 0;
                    }
                }
                Err(Errno::AGAIN) => return Next::Keep,
                Err(Errno::INTR) => {}
                Err(_) => return Next::Close,
            }
        }
    }
}

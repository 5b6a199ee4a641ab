//! The null servers: a constant from memory for every request, nothing parsed, no file, no log, no limit.
//!
//! What they cost is what the client, the kernel and the mechanism cost, and no server of that mechanism can
//! cost less. A request ends where what has arrived ends with an empty line, which is right as long as no
//! client sends a second request before it has the answer to the first.

use crate::server::target::Mechanism;
use common::slots::{Slots, Token};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use std::io;
use std::net::TcpListener;

const EVENTS_MAX: usize = 256;
/// Nothing comes after it, so only the end itself proves that all was read.
const ENDS: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
/// No token has this value: its generation would have to have wrapped around.
const LISTENER: u64 = u64::MAX;

/// Sends `answer` to every request for as long as the process lives.
pub(crate) fn serve(mechanism: Mechanism, listener: TcpListener, answer: Vec<u8>) -> io::Result<()> {
    match mechanism {
        Mechanism::Uring => uring::constant::serve(listener.into(), answer),
        Mechanism::Epoll => Null::new(listener.into(), answer)?.run(),
    }
}

struct Client {
    socket: OwnedFd,
    request: uring::constant::End,
    /// How much of the answer has left; all of it while a request is awaited.
    sent: usize,
}

/// What becomes of a client.
#[derive(PartialEq, Eq)]
enum Then {
    Keep,
    Close,
}

struct Null {
    poller: OwnedFd,
    listener: OwnedFd,
    answer: Vec<u8>,
    clients: Slots<Client>,
}

impl Null {
    fn new(listener: OwnedFd, answer: Vec<u8>) -> io::Result<Null> {
        let poller = epoll::create(CreateFlags::CLOEXEC)?;
        let arrival = EventFlags::IN | EventFlags::ET;
        epoll::add(&poller, &listener, EventData::new_u64(LISTENER), arrival)?;
        Ok(Null { poller, listener, answer, clients: Slots::new() })
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
                    token => self.turn(Token::from_u64(token), flags.intersects(ENDS)),
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
        let client = Client { socket, request: uring::constant::End::default(), sent: self.answer.len() };
        let token = self.clients.insert(client);
        let Some(client) = self.clients.get(token) else { return Ok(()) };
        let news = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.poller, &client.socket, EventData::new_u64(token.to_u64()), news)?;
        Ok(())
    }

    /// A client whose token is out of date has ended in an earlier event of the same batch. `hung_up`: no
    /// further edge will tell of the end of the stream.
    fn turn(&mut self, token: Token, hung_up: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if client.converse(&self.answer, hung_up) == Then::Close {
            drop(self.clients.remove(token));
        }
    }
}

impl Client {
    /// Sends what is left of an answer, then receives, in turn, until the kernel's buffers were seen empty or full.
    fn converse(&mut self, answer: &[u8], hung_up: bool) -> Then {
        let mut buffer = [0; 4096];
        let mut drained = false;
        loop {
            if self.sent < answer.len() {
                match send(self.socket.as_fd(), &answer[self.sent..], SendFlags::NOSIGNAL) {
                    Ok(count) => self.sent += count,
                    Err(Errno::AGAIN) => return Then::Keep,
                    Err(Errno::INTR) => {}
                    Err(_) => return Then::Close,
                }
                continue;
            }
            if drained && !hung_up {
                return Then::Keep;
            }
            match recv(self.socket.as_fd(), &mut buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Then::Close,
                Ok((count, _)) => {
                    drained = count < buffer.len();
                    if self.request.comes_with(&buffer[..count]) {
                        self.sent = 0;
                    }
                }
                Err(Errno::AGAIN) => return Then::Keep,
                Err(Errno::INTR) => {}
                Err(_) => return Then::Close,
            }
        }
    }
}

//! A visitor of the admin listener: one request, one answer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::http::request::{Parsed, parse_http_get};
use crate::service::admin::answer::{answer, refuse};
use crate::service::admin::metrics::Source;

/// Received by one call.
const RECEIVE_BYTES: usize = 4 * 1024;
/// A visitor may send so much behind its request; then it is dropped.
const LEFT_BYTES_MAX: usize = 64 * 1024;

/// A connection, from the accept to the close.
#[derive(Debug)]
pub(super) struct Visitor {
    socket: OwnedFd,
    state: State,
    until: Instant,
}

/// What a visitor is waited for.
#[derive(Debug)]
enum State {
    /// To send its request. The parser bounds what there is of it.
    Asking(Vec<u8>),
    /// To take the rest of its answer.
    Taking { answer: Vec<u8>, sent: usize },
    /// To close, too: what it still sends would turn a close into a reset, and destroy the answer on its way.
    Leaving { bytes: usize },
}

impl Visitor {
    /// Who has come; it may stay until then.
    pub(super) fn new(socket: OwnedFd, until: Instant) -> Visitor {
        Visitor { socket, state: State::Asking(Vec::new()), until }
    }

    /// When the visit is over.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// What is to be polled for.
    pub(super) fn awaits(&self) -> PollFlags {
        match self.state {
            State::Asking(_) | State::Leaving { .. } => PollFlags::IN,
            State::Taking { .. } => PollFlags::OUT,
        }
    }

    /// Does what can be done at once. False: the visit is over.
    pub(super) fn proceed(&mut self, source: &Source) -> bool {
        let went_on = match &mut self.state {
            State::Asking(_) => self.receive(source),
            State::Taking { .. } => self.send(),
            State::Leaving { .. } => self.leave(),
        };
        match went_on {
            Ok(goes_on) => goes_on,
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_broken) => false,
        }
    }

    fn receive(&mut self, source: &Source) -> rustix::io::Result<bool> {
        let State::Asking(head) = &mut self.state else { return Ok(true) };
        let mut buffer = [0; RECEIVE_BYTES];
        let (received, _) = recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT)?;
        if received == 0 {
            return Ok(false);
        }
        head.extend_from_slice(&buffer[..received]);
        let answer = match parse_http_get(head) {
            Parsed::Incomplete => return Ok(true),
            Parsed::Refused(status) => refuse(status),
            Parsed::Complete(request, _) => answer(&request, head, source),
        };
        self.state = State::Taking { answer, sent: 0 };
        self.send()
    }

    fn send(&mut self) -> rustix::io::Result<bool> {
        let State::Taking { answer, sent } = &mut self.state else { return Ok(true) };
        *sent += send(&self.socket, &answer[*sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        if *sent == answer.len() {
            shutdown(&self.socket, Shutdown::Write)?;
            self.state = State::Leaving { bytes: 0 };
        }
        Ok(true)
    }

    fn leave(&mut self) -> rustix::io::Result<bool> {
        let State::Leaving { bytes } = &mut self.state else { return Ok(true) };
        let (received, _) = recv(&self.socket, &mut [0; RECEIVE_BYTES], RecvFlags::DONTWAIT)?;
        *bytes += received;
        Ok(received > 0 && *bytes < LEFT_BYTES_MAX)
    }
}

impl AsFd for Visitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

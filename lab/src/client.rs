//! A client of the rungs that wait for readiness: a non-blocking socket and its connection.

use std::os::fd::{AsFd, OwnedFd};

use common::service::socket;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::services::Connection;

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Non-blocking.
    pub socket: OwnedFd,
    /// What is said to it.
    pub connection: Connection,
}

/// What a receive has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes, or their end.
    Some,
    /// Nothing: there is nothing in the socket, or the connection wants nothing now.
    Nothing,
    /// The connection is broken.
    Broken,
}

impl Client {
    /// Receives once, if the connection wants bytes.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        if !self.connection.wants_bytes() {
            return Received::Nothing;
        }
        match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => self.connection.ended(),
            Ok((count, _)) => self.connection.received(&buffer[..count]),
            Err(Errno::AGAIN) => return Received::Nothing,
            Err(Errno::INTR) => {}
            Err(_broken) => return Received::Broken,
        }
        Received::Some
    }

    /// Sends until there is no more to send, or the socket takes no more: then the rest stays where it is, and is sent
    /// when there is room. False if the connection is over or broken.
    pub fn send(&mut self) -> bool {
        loop {
            let output = self.connection.output();
            if output.is_empty() {
                return !self.connection.is_over();
            }
            match send(&self.socket, output, SendFlags::NOSIGNAL) {
                Ok(count) => self.connection.sent(count),
                Err(Errno::AGAIN) => return !self.connection.is_dropped(),
                Err(Errno::INTR) => {}
                Err(_broken) => return false,
            }
        }
    }

    /// Closes the connection.
    pub fn close(self) {
        end(&self.socket, &self.connection);
    }
}

/// Prepares a socket for its close. What a client may still be sending would turn the close into a reset, which could
/// overtake the last answer, so some of it is read. A client that doesn't read is reset: an orderly close would leave
/// what it hasn't read in the kernel, for as long as the client likes.
pub(crate) fn end(socket: impl AsFd, connection: &Connection) {
    if connection.is_dropped() {
        socket::reset(socket);
    } else if connection.has_refused() {
        socket::end(socket);
    }
}

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
    /// What the service says to it.
    pub connection: Connection,
}

/// The result of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes, or the end of them.
    Some,
    /// Nothing has arrived, or the connection wants no bytes now.
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

    /// Sends until nothing is left or the socket would block; the rest stays in the connection. False if the
    /// connection is over or broken.
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

/// Prepares a socket for its close. Unread bytes would turn the close into a reset, which could destroy the last
/// answer, so some of what the client may still be sending is read. A client that doesn't read is reset: after an
/// orderly close, the kernel would hold its unread bytes for as long as it likes.
pub(crate) fn end(socket: impl AsFd, connection: &Connection) {
    if connection.is_dropped() {
        socket::reset(socket);
    } else if connection.has_refused() {
        socket::end(socket);
    }
}

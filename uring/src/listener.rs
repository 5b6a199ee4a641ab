//! A listener: a socket that connections come from, and what its accept is doing.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use common::Token;
use common::service::socket::{ACCEPT_PAUSE, AcceptError, accept};
use rustix::net::SocketFlags;

use crate::ring::{Flight, Ring};

/// A socket that connections come from.
pub(crate) struct Listener {
    socket: Rc<OwnedFd>,
    accepting: Accepting,
}

/// What the accept of a listener is doing.
#[derive(Clone, Copy)]
enum Accepting {
    /// It is in flight.
    Armed(Flight),
    /// It was cancelled, and has not ended yet.
    Ending,
    /// It is not in flight: there are as many connections as there may be. It goes on when one is closed.
    Off,
    /// Descriptors have run out. It goes on when one is closed, or at this moment.
    Paused(Instant),
}

impl Listener {
    /// A listener that accepts nobody yet.
    pub(crate) fn new(socket: OwnedFd) -> Listener {
        Listener { socket: Rc::new(socket), accepting: Accepting::Off }
    }

    /// Accepts, unless it does so already, or pauses.
    pub(crate) fn accept(&mut self, ring: &mut Ring, token: Token, now: Instant) {
        let is_due = match self.accepting {
            Accepting::Off => true,
            Accepting::Paused(until) => until <= now,
            Accepting::Armed(_) | Accepting::Ending => false,
        };
        if is_due {
            self.accepting = Accepting::Armed(ring.arm_accept(token, &self.socket));
        }
    }

    /// Asks for the end of the accept.
    pub(crate) fn cancel(&mut self, ring: &mut Ring) {
        if let Accepting::Armed(flight) = self.accepting {
            ring.cancel(flight);
            self.accepting = Accepting::Ending;
        }
    }

    /// The accept has ended.
    pub(crate) fn on_end(&mut self) {
        self.accepting = Accepting::Off;
    }

    /// The accept has ended because something has run out. Armed again at once it would fail again at once.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.accepting = Accepting::Paused(now + ACCEPT_PAUSE);
    }

    /// Until when it pauses, if it does.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        match self.accepting {
            Accepting::Paused(until) => Some(until),
            Accepting::Armed(_) | Accepting::Ending | Accepting::Off => None,
        }
    }

    /// There is a descriptor again.
    pub(crate) fn end_pause(&mut self) {
        if self.paused_until().is_some() {
            self.accepting = Accepting::Off;
        }
    }

    /// Whether its accept is not in flight.
    pub(crate) fn has_ended(&self) -> bool {
        match self.accepting {
            Accepting::Off | Accepting::Paused(_) => true,
            Accepting::Armed(_) | Accepting::Ending => false,
        }
    }

    /// The first connection in the kernel's queue, at once: for the end of a listener.
    pub(crate) fn accept_now(&self) -> Option<OwnedFd> {
        loop {
            match accept(&self.socket, SocketFlags::empty(), false) {
                Ok((socket, _)) => return Some(socket),
                Err(AcceptError::Connection) => {}
                Err(AcceptError::Empty | AcceptError::Exhausted) => return None,
            }
        }
    }
}

//! A listener: a listening socket and the state of its accept.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use common::Token;
use common::service::socket::{ACCEPT_PAUSE, AcceptError, accept};
use rustix::net::SocketFlags;

use crate::ring::{Flight, Ring};

/// A listening socket.
pub(crate) struct Listener {
    socket: Rc<OwnedFd>,
    accepting: Accepting,
}

/// The state of a listener's accept.
#[derive(Clone, Copy)]
enum Accepting {
    /// In flight.
    Armed(Flight),
    /// Cancelled, but not ended yet.
    Ending,
    /// Not in flight, because the connection limit is reached. Re-armed when a connection closes.
    Off,
    /// Out of descriptors. Re-armed when a connection closes, or at this time.
    Paused(Instant),
}

impl Listener {
    /// A listener that doesn't accept yet.
    pub(crate) fn new(socket: OwnedFd) -> Listener {
        Listener { socket: Rc::new(socket), accepting: Accepting::Off }
    }

    /// Arms the accept, unless it is armed already or paused.
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

    /// Cancels the accept.
    pub(crate) fn cancel(&mut self, ring: &mut Ring) {
        if let Accepting::Armed(flight) = self.accepting {
            ring.cancel(flight);
            self.accepting = Accepting::Ending;
        }
    }

    /// Call when the accept has ended.
    pub(crate) fn on_end(&mut self) {
        self.accepting = Accepting::Off;
    }

    /// Call when the accept has ended for lack of a resource. Re-arming it at once would only fail again.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.accepting = Accepting::Paused(now + ACCEPT_PAUSE);
    }

    /// When the pause ends, if there is one.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        match self.accepting {
            Accepting::Paused(until) => Some(until),
            Accepting::Armed(_) | Accepting::Ending | Accepting::Off => None,
        }
    }

    /// Call when a descriptor has become free.
    pub(crate) fn end_pause(&mut self) {
        if self.paused_until().is_some() {
            self.accepting = Accepting::Off;
        }
    }

    /// Whether the accept isn't in flight.
    pub(crate) fn has_ended(&self) -> bool {
        match self.accepting {
            Accepting::Off | Accepting::Paused(_) => true,
            Accepting::Armed(_) | Accepting::Ending => false,
        }
    }

    /// Accepts the next connection of the backlog without waiting; used when a listener closes.
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

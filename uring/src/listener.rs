//! A listener: a listening socket and the state of its accept.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use common::Token;
use common::service::socket::{ACCEPT_PAUSE, AcceptError, accept, has_connection};
use rustix::net::SocketFlags;

use crate::ring::{Flight, Ring};

/// What the polls of listeners report: tokens of a slot that no client has, from this generation on.
const POLLS: Token = Token { slot: u32::MAX, generation: 1 << 16 };

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
    /// Not in flight, because few places are left: a multishot accept would take connections that there are none for.
    /// A poll tells when one waits.
    Polled(Flight),
    /// Cancelled, but not ended yet.
    Ending,
    /// Not in flight. A connection may be waiting.
    Off,
    /// Out of descriptors. Re-armed when a connection closes, or at this time.
    Paused(Instant),
}

impl Listener {
    /// A listener that doesn't accept yet.
    pub(crate) fn new(socket: OwnedFd) -> Listener {
        Listener { socket: Rc::new(socket), accepting: Accepting::Off }
    }

    /// Arms the accept.
    pub(crate) fn accept(&mut self, ring: &mut Ring, token: Token) {
        self.accepting = Accepting::Armed(ring.arm_accept(token, &self.socket));
    }

    /// Asks to be told of the next connection, which [`accept_now`](Self::accept_now) then takes.
    pub(crate) fn poll(&mut self, ring: &mut Ring, slot: u32) {
        let token = Token { generation: POLLS.generation + slot, ..POLLS };
        self.accepting = Accepting::Polled(ring.poll_readable(token, &self.socket));
    }

    /// The slot of the listener whose poll reports with this token.
    pub(crate) fn polled(token: Token) -> Option<u32> {
        if token.slot == POLLS.slot { token.generation.checked_sub(POLLS.generation) } else { None }
    }

    /// Whether nothing is in flight, and it doesn't pause.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        match self.accepting {
            Accepting::Off => true,
            Accepting::Paused(until) => until <= now,
            Accepting::Armed(_) | Accepting::Polled(_) | Accepting::Ending => false,
        }
    }

    /// Whether connections are accepted as they come.
    pub(crate) fn is_armed(&self) -> bool {
        matches!(self.accepting, Accepting::Armed(_))
    }

    /// Cancels the accept.
    pub(crate) fn cancel(&mut self, ring: &mut Ring) {
        if let Accepting::Armed(flight) | Accepting::Polled(flight) = self.accepting {
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
            Accepting::Armed(_) | Accepting::Polled(_) | Accepting::Ending | Accepting::Off => None,
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
            Accepting::Armed(_) | Accepting::Polled(_) | Accepting::Ending => false,
        }
    }

    /// Accepts the next connection of the backlog without waiting.
    pub(crate) fn accept_now(&self) -> Result<OwnedFd, AcceptError> {
        accept(&self.socket, SocketFlags::empty(), false).map(|(socket, _)| socket)
    }

    /// Whether a connection waits in the backlog.
    pub(crate) fn has_connection(&self) -> bool {
        has_connection(&self.socket)
    }
}

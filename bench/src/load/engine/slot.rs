//! A connection's place in the engine, which outlives the connection.

use crate::load::connection::{Connection, PeerState};
use crate::load::group::InFlight;
use std::time::Instant;

#[derive(Clone, Copy)]
pub(super) enum Timer {
    Read,
    Reopen,
}

/// A slot for a connection. It outlives the connection, because another one follows.
pub(super) struct Slot {
    pub(super) group: usize,
    pub(super) connection: Option<Connection>,
    pub(super) ask: Option<InFlight>,
    pub(super) asked: u32,
    pub(super) timer: Option<Timer>,
    /// Kept for slow readers, which check it later.
    pub(super) peer: PeerState,
    /// When the last bytes came, or the request left.
    pub(super) progress: Instant,
}

impl Slot {
    pub(super) fn new(group: usize, now: Instant) -> Slot {
        Slot {
            group,
            connection: None,
            ask: None,
            asked: 0,
            timer: None,
            peer: PeerState::Open,
            progress: now,
        }
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::is_connecting)
    }

    /// Whether it can send: no request in flight, no reopening pending.
    pub(super) fn is_idle(&self) -> bool {
        self.ask.is_none() && self.timer.is_none()
    }
}

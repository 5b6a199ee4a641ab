//! A connection's place in the engine, which outlives the connection.

use crate::load::connection::{Connection, PeerState};
use crate::load::group::Ask;
use std::time::Instant;

#[derive(Clone, Copy)]
pub(super) enum Timer {
    Read,
    Reopen,
}

/// A connection's place. It outlives the connection, since another one follows.
pub(super) struct Slot {
    pub(super) group: usize,
    pub(super) connection: Option<Connection>,
    pub(super) ask: Option<Ask>,
    pub(super) asked: u32,
    pub(super) timer: Option<Timer>,
    /// For slow readers, who look at it later.
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

    /// Whether it could ask: nothing is under way, and no error keeps it back.
    pub(super) fn is_idle(&self) -> bool {
        self.ask.is_none() && self.timer.is_none()
    }
}

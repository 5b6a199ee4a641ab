//! How the kernel tells that a client can go on: by edges, or by levels.
//!
//! The loop is made for one of the two when it starts: [`Edges`] are all calls that do nothing, and leave nothing
//! behind in its code. [`Levels`] are there for comparison (`--tune=level-triggered`).

use std::io;
use std::os::fd::OwnedFd;

use crate::poller::{Interest, Key, Poller};

/// What a client is registered for, and when that changes.
pub(crate) trait Trigger {
    /// Of a client that has just been accepted, and waits for bytes.
    const FRESH: Self;

    /// Whether a client may take a turn before it is registered.
    const EARLY: bool;

    /// What it is registered for.
    fn interest(&self) -> Interest;

    /// The client waits for `wanted`, from now on.
    fn want(&mut self, wanted: Interest, poller: &Poller, socket: &OwnedFd, key: Key) -> io::Result<()>;
}

/// Registered once for everything; an edge that nobody waits for is remembered by the client.
pub(crate) struct Edges;

impl Trigger for Edges {
    const FRESH: Edges = Edges;
    const EARLY: bool = true;

    fn interest(&self) -> Interest {
        Interest::Stream
    }

    fn want(&mut self, _: Interest, _: &Poller, _: &OwnedFd, _: Key) -> io::Result<()> {
        Ok(())
    }
}

/// Registered for what the client waits for. A level that nobody waits for would end every wait of the loop, so
/// the first time that it does the client is registered for nothing, until it wants something again.
pub(crate) struct Levels {
    registered: Interest,
}

impl Trigger for Levels {
    const FRESH: Levels = Levels { registered: Interest::Bytes };
    const EARLY: bool = false;

    fn interest(&self) -> Interest {
        self.registered
    }

    fn want(&mut self, wanted: Interest, poller: &Poller, socket: &OwnedFd, key: Key) -> io::Result<()> {
        if self.registered != wanted {
            poller.modify(socket, key, wanted)?;
            self.registered = wanted;
        }
        Ok(())
    }
}

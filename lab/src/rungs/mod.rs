//! The rungs of the ladder, in the order in which servers learned them.

mod busy;
mod epoll_edge;
mod epoll_level;
mod futures;
mod poll;
mod queues;
mod reuseport;
mod select;
mod thread;
mod tokio;
mod uring_multishot;
mod uring_single;

use std::io;
use std::time::Duration;

use common::Token;
use common::service::socket::AcceptError;
use rustix::event::Timespec;
use rustix::event::epoll::EventData;
use rustix::io::Errno;

use crate::setup::Setup;

/// Tokens that no client has.
const LISTENER: Token = Token { slot: u32::MAX, generation: 0 };
const BELL: Token = Token { slot: u32::MAX, generation: 1 };

/// Events reported by one wait, at most.
const EVENTS_MAX: usize = 1024;

/// Connections accepted in one turn, at most, if the next wait reports the rest.
const ACCEPTS_MAX: usize = 64;

/// What epoll(7) stores with a socket: its token.
fn data(token: Token) -> EventData {
    EventData::new_u64(token.to_u64())
}

/// What the error of an accept means.
fn accept_error(error: &io::Error) -> AcceptError {
    Errno::from_io_error(error).map_or(AcceptError::Exhausted, AcceptError::from)
}

/// A timeout as system calls take it.
fn timespec(timeout: Duration) -> Timespec {
    Timespec::try_from(timeout).expect("a timeout of less than 2^63 seconds")
}

/// One way to wait.
#[derive(Debug)]
pub struct Rung {
    /// Its name on the command line.
    pub name: &'static str,
    /// How it waits, in a few words.
    pub waits: &'static str,
    /// The claims it helps to judge.
    pub claims: &'static str,
    /// What it does with `--workers`.
    pub workers: Workers,
    /// Why it can't be used here.
    pub available: fn() -> Result<(), String>,
    /// Serves until the end.
    pub serve: fn(Setup) -> io::Result<()>,
}

/// What a rung does with workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// It has none.
    None,
    /// They share a listener.
    Serve,
    /// Each has a listener.
    Accept,
}

/// All rungs.
pub const RUNGS: [Rung; 12] = [
    rung("thread", "a thread for each connection", "C1, C2", thread::serve),
    rung("busy", "asking every socket, round and round", "C13", busy::serve),
    rung("select", "select(2) and its bitmaps", "C14", select::serve),
    rung("poll", "poll(2) and its array", "C14", poll::serve),
    rung("epoll-level", "level-triggered", "C15, C16", epoll_level::serve),
    rung("epoll-edge", "edge-triggered", "C15, C16, C18, C22", epoll_edge::serve),
    Rung {
        workers: Workers::Accept,
        ..rung("reuseport", "edge-triggered, a listener for each thread", "C17", reuseport::serve)
    },
    Rung {
        workers: Workers::Serve,
        ..rung("queues", "two queues of events, threads on both", "C20", queues::serve)
    },
    rung("futures", "a reactor and an executor", "C19", futures::serve),
    rung("tokio", "an async runtime", "C19", tokio::serve),
    Rung {
        available: uring::available,
        ..rung("uring-single", "one operation at a time", "C5, C9", uring_single::serve)
    },
    Rung {
        available: uring::available,
        ..rung("uring-multishot", "multishot, provided buffers", "C5, C8", uring_multishot::serve)
    },
];

const fn rung(
    name: &'static str,
    waits: &'static str,
    claims: &'static str,
    serve: fn(Setup) -> io::Result<()>,
) -> Rung {
    Rung { name, waits, claims, workers: Workers::None, available: || Ok(()), serve }
}

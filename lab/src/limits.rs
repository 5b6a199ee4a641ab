//! Limits of the process, and what is said when one is reached.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A limit on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No descriptor is left, or no memory for one (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`).
    Descriptors,
    /// No thread can be started (`EAGAIN` of pthread_create(3)).
    Threads,
    /// A descriptor doesn't fit into the set of select(2).
    FdSet,
}

/// Which limits have been mentioned.
static MENTIONED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

impl Limit {
    /// Says on standard error that the limit has been reached, the first time.
    pub fn mention(self) {
        if !MENTIONED[self as usize].swap(true, Relaxed) {
            say(&self);
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Descriptors => write!(
                f,
                "descriptors have run out (`ulimit -n` is {}): new connections wait until others close",
                descriptors_max().map_or_else(|| "unlimited".to_owned(), |max| max.to_string())
            ),
            Limit::Threads => {
                write!(f, "no more threads can be started: connections that need one are closed")
            }
            Limit::FdSet => write!(
                f,
                "select(2) takes only descriptors below {}: connections with higher ones are closed",
                nix::sys::select::FD_SETSIZE
            ),
        }
    }
}

/// Writes a line to standard error. If that fails there is nobody to tell.
pub(crate) fn say(line: &dyn fmt::Display) {
    let _written = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// How many descriptors the process may have.
pub(crate) fn descriptors_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the limit of descriptors as far as the process may.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Where it fails, the limit is what it was.
    let _raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

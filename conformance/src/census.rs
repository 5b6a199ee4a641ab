//! What a test may not leave behind: descriptors, threads, connections.

use std::fs;
use std::io;
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::deadline;
use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(10);

/// The descriptors that a process has open.
///
/// # Errors
/// When the process is gone.
pub fn descriptors(process: impl std::fmt::Display) -> io::Result<usize> {
    count(&format!("/proc/{process}/fd"))
}

/// The threads that a process has.
///
/// # Errors
/// When the process is gone.
pub fn threads(process: impl std::fmt::Display) -> io::Result<usize> {
    count(&format!("/proc/{process}/task"))
}

fn count(folder: &str) -> io::Result<usize> {
    Ok(fs::read_dir(folder)?.count())
}

/// What this process held at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Census {
    descriptors: usize,
    threads: usize,
}

impl Census {
    /// Counts.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn take() -> io::Result<Census> {
        Ok(Census { descriptors: descriptors("self")?, threads: threads("self")? })
    }

    /// Waits until everything that came since has gone: for after a server has ended.
    ///
    /// # Errors
    /// When something stays.
    pub fn returns(self) -> Result<(), Failed> {
        self.descriptors_return()?;
        deadline::within(PATIENCE, "the threads to end", || {
            threads("self").is_ok_and(|now| now <= self.threads)
        })
    }

    /// Waits until no more descriptors are open than then.
    ///
    /// # Errors
    /// When some stay open: how many, and what they are.
    pub fn descriptors_return(self) -> Result<(), Failed> {
        let gone = || descriptors("self").is_ok_and(|now| now <= self.descriptors);
        deadline::within(PATIENCE, "the descriptors to be closed", gone).map_err(|_late| {
            format!("{} descriptors were open, now: {}", self.descriptors, list_descriptors()).into()
        })
    }
}

fn list_descriptors() -> String {
    let Ok(folder) = fs::read_dir("/proc/self/fd") else { return "unknown".to_owned() };
    let targets = folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut targets: Vec<_> = targets.map(|target| target.display().to_string()).collect();
    targets.sort();
    format!("{}: {}", targets.len(), targets.join(", "))
}

/// Waits until a server has counted so many connections since it began. A loop counts at the end of a turn, so a
/// client may have its answer before.
///
/// # Errors
/// When there are fewer.
pub fn connections_begin(server: &Server, count: u64) -> Result<(), Failed> {
    let stats = &server.service().stats;
    deadline::within(PATIENCE, "the connections to begin", || stats.totals().accepted >= count)
}

/// Waits until a server has no connection left.
///
/// # Errors
/// When one stays.
pub fn connections_end(server: &Server) -> Result<(), Failed> {
    let stats = &server.service().stats;
    deadline::within(PATIENCE, "the connections to end", || stats.active() == 0)
        .map_err(|_late| format!("{} connections are still open", stats.active()).into())
}

/// Raises the soft limit of descriptors to the hard one: client and server share a process in most tests.
///
/// # Errors
/// What setrlimit(2) reports.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

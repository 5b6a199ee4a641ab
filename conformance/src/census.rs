//! Leak checks: descriptors, threads and connections that a test must not leave behind.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use common::{Site, SiteOptions};
use libtest_mimic::Failed;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::deadline;
use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(10);

/// The number of descriptors a process has open.
///
/// # Errors
/// If the process is gone.
pub fn descriptors(process: impl std::fmt::Display) -> io::Result<usize> {
    count(&format!("/proc/{process}/fd"))
}

/// The number of threads of a process.
///
/// # Errors
/// If the process is gone.
pub fn threads(process: impl std::fmt::Display) -> io::Result<usize> {
    count(&format!("/proc/{process}/task"))
}

fn count(folder: &str) -> io::Result<usize> {
    Ok(fs::read_dir(folder)?.count())
}

/// The resources this process held at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Census {
    descriptors: usize,
    threads: usize,
}

impl Census {
    /// Counts the resources.
    ///
    /// # Errors
    /// If /proc can't be read.
    pub fn take() -> io::Result<Census> {
        // The list of mounts is opened with the first site, and stays.
        drop(Site::open_root(Path::new("."), SiteOptions::default()).map_err(io::Error::other)?);
        Ok(Census { descriptors: descriptors("self")?, threads: threads("self")? })
    }

    /// Waits until the counts are back to these; call it after a server has ended.
    ///
    /// # Errors
    /// If something remains.
    pub fn returns(self) -> Result<(), Failed> {
        self.descriptors_return()?;
        deadline::within(PATIENCE, "the threads to end", || {
            threads("self").is_ok_and(|now| now <= self.threads)
        })
    }

    /// Waits until no more descriptors are open than at the time of the count.
    ///
    /// # Errors
    /// If some stay open: how many, and which.
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

/// Waits until a server has counted this many connections since it started. An event loop counts at the end of a turn,
/// so a client may get its response earlier.
///
/// # Errors
/// If there are fewer.
pub fn connections_begin(server: &Server, count: u64) -> Result<(), Failed> {
    let stats = &server.service().stats;
    deadline::within(PATIENCE, "the connections to begin", || stats.totals().accepted >= count)
}

/// Waits until a server has no connection left.
///
/// # Errors
/// If one remains.
pub fn connections_end(server: &Server) -> Result<(), Failed> {
    let stats = &server.service().stats;
    deadline::within(PATIENCE, "the connections to end", || stats.active() == 0)
        .map_err(|_late| format!("{} connections are still open", stats.active()).into())
}

/// Raises the soft descriptor limit to the hard limit: in most tests, client and server share a process.
///
/// # Errors
/// Those of setrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

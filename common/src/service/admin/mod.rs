//! The admin listener: whether the server lives (`/healthz`), whether it wants clients (`/readyz`), and what it counts
//! (`/metrics`).
//!
//! One thread answers it, beside the workers and without any of what they use for clients. It never waits for one
//! visitor: sockets are non-blocking, a visit has [`VISIT_MAX`] in all, the oldest visitor leaves for a newcomer where
//! there are [`VISITORS_MAX`], and beyond [`BURST_MAX`] one comes in each [`ACCEPT_INTERVAL`]. Nobody waits for the thread:
//! it answers until the process is gone.

mod answer;
mod exposition;
mod metrics;
mod visitor;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, SocketFlags};

use crate::service::admin::metrics::{Process, Source};
use crate::service::admin::visitor::Visitor;
use crate::service::listen::bind_socket;
use crate::service::shared::Service;
use crate::service::socket::{ACCEPT_PAUSE, AcceptError, accept};
use crate::service::start::{StartError, out_of_descriptors};

/// Visitors at once.
pub const VISITORS_MAX: usize = 8;
/// How long a visit takes, from the accept to the close.
pub const VISIT_MAX: Duration = Duration::from_secs(5);
/// One visitor is let in each time this has passed: who asks all the time shouldn't have a core for that.
pub const ACCEPT_INTERVAL: Duration = Duration::from_millis(10);
/// So many visitors may come at once, if there were fewer before.
pub const BURST_MAX: u32 = 50;
/// Visitors that may wait to be let in. Few: whoever is behind a long queue has given up long before it is over.
const BACKLOG: i32 = 16;
/// Neither the poll nor a visit recurses, and the pages are on the heap.
const STACK_BYTES: usize = 128 * 1024;

/// What the admin listener holds open: its socket, its visitors', and the list of all descriptors.
pub const DESCRIPTORS: u64 = 1 + VISITORS_MAX as u64 + 1;

/// Binds the admin listener: the address with its actual port, and a socket that listens.
///
/// # Errors
/// One line with the address, the reason and a remedy.
pub fn bind(address: SocketAddr) -> Result<(SocketAddr, OwnedFd), StartError> {
    let listen = || -> io::Result<(SocketAddr, OwnedFd)> {
        let socket = bind_socket(address, false)?;
        net::listen(&socket, BACKLOG)?;
        Ok((net::getsockname(&socket)?.try_into()?, socket))
    };
    listen().map_err(|error| {
        if let Some(line) = out_of_descriptors(&error) {
            return StartError::new(format!("admin on {address}: {line}"));
        }
        let what = match Errno::from_io_error(&error) {
            Some(Errno::ADDRINUSE) => "address in use".to_owned(),
            Some(Errno::ACCESS) => "permission denied".to_owned(),
            Some(Errno::ADDRNOTAVAIL) => "no such address on this machine".to_owned(),
            _ => error.to_string(),
        };
        StartError::new(format!("admin on {address}: {what}; choose another address with --admin"))
    })
}

/// Whether the server wants clients: all workers are set up, and no drain has begun.
#[must_use]
pub fn is_ready(service: &Service) -> bool {
    service.is_set_up() && !service.shutdown.is_ending()
}

/// The admin listener, before it answers.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    socket: OwnedFd,
    model: &'static str,
    process: Process,
}

/// The thread that answers.
#[derive(Debug)]
struct Porter {
    socket: OwnedFd,
    source: Source,
    visitors: Vec<Visitor>,
    /// When those that were let in would all have come, had they come one in each interval.
    due: Instant,
    /// Descriptors or memory have run out: nobody is let in before this moment.
    pause: Option<Instant>,
}

impl Admin {
    /// What [`bind`] has given; `model` is the name of the I/O model. What it needs of the system is opened here, while
    /// this process may still open anything.
    #[must_use]
    pub fn new(address: SocketAddr, socket: OwnedFd, model: &'static str) -> Admin {
        Admin { address, socket, model, process: Process::new() }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers in a thread of its own, until the process ends, or another one has taken over. Whoever comes before this
    /// waits: of two processes on this socket, the one that serves is to answer.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(self, service: Arc<Service>) -> io::Result<()> {
        let porter = Porter {
            socket: self.socket,
            source: Source::new(service, self.model, self.process),
            visitors: Vec::with_capacity(VISITORS_MAX),
            due: Instant::now(),
            pause: None,
        };
        let thread = thread::Builder::new().name("admin".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || porter.run()).map(drop)
    }
}

impl Porter {
    fn run(mut self) {
        loop {
            let ready = self.wait();
            let now = Instant::now();
            let mut ready = ready.into_iter();
            let has_newcomer = ready.next().unwrap_or(false);
            let _drain = ready.next();
            let source = &self.source;
            self.visitors.retain_mut(|visitor| {
                let is_ready = ready.next().unwrap_or(false);
                (!is_ready || visitor.proceed(source)) && visitor.until() > now
            });
            if has_newcomer && !self.source.service().shutdown.has_handed_over() {
                self.accept(now);
            }
        }
    }

    /// Waits for whoever comes or goes on. For the listener, the drain, then for each visitor: whether there is something
    /// to do.
    fn wait(&self) -> Vec<bool> {
        let now = Instant::now();
        let closed_until = self.closed_until(now);
        let shutdown = &self.source.service().shutdown;
        let is_closed = closed_until.is_some() || shutdown.has_handed_over();
        let of_listener = if is_closed { PollFlags::empty() } else { PollFlags::IN };
        // With a drain it stays readable.
        let of_drain = if shutdown.draining() { PollFlags::empty() } else { PollFlags::IN };
        let mut events = vec![PollFd::new(&self.socket, of_listener), PollFd::new(shutdown, of_drain)];
        events.extend(self.visitors.iter().map(|visitor| PollFd::new(visitor, visitor.awaits())));
        let due = self.visitors.iter().map(Visitor::until).chain(closed_until).min();
        let timeout = due.map(|due| due.saturating_duration_since(now));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut events, timeout.as_ref()) {
            Ok(_) => events.iter().map(|event| !event.revents().is_empty()).collect(),
            Err(Errno::INTR) => Vec::new(),
            // For want of memory: it doesn't spin.
            Err(_) => {
                thread::sleep(ACCEPT_PAUSE);
                Vec::new()
            }
        }
    }

    /// Until when nobody is let in, if that is so.
    fn closed_until(&self, now: Instant) -> Option<Instant> {
        let until = self.pause.max(self.due.checked_sub(ACCEPT_INTERVAL * BURST_MAX));
        until.filter(|until| *until > now)
    }

    /// Lets one visitor in. Where there are as many as may be, the one that has been here longest leaves.
    fn accept(&mut self, now: Instant) {
        self.pause = None;
        match accept(&self.socket, SocketFlags::NONBLOCK, false) {
            Ok((socket, _)) => {
                self.due = self.due.max(now) + ACCEPT_INTERVAL;
                if self.visitors.len() >= VISITORS_MAX {
                    drop(self.visitors.remove(0));
                }
                self.visitors.push(Visitor::new(socket, now + VISIT_MAX));
            }
            Err(AcceptError::Empty | AcceptError::Connection) => {}
            Err(AcceptError::Exhausted) => self.pause = Some(now + ACCEPT_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests;

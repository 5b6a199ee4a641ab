//! The lister: one thread for what the ring has no operation for.
//!
//! A listing reads a directory (getdents64(2)), which may wait for the disk. The thread is started with the first
//! listing. It returns results through a queue and an eventfd that the ring polls, and never touches a socket.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use common::{OpenRequest, Opened, Token};
use rustix::event::{EventfdFlags, eventfd};

type Job = (Token, Arc<OpenRequest>);
type Outcome = (Token, io::Result<Opened>);

/// The thread, and the queues to it and back. A client has at most one open in flight, which bounds the queues.
pub(crate) struct Lister {
    /// `None` only during drop; closing it ends the thread.
    jobs: Option<mpsc::Sender<Job>>,
    outcomes: mpsc::Receiver<Outcome>,
    event: Rc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Lister {
    /// Starts the thread.
    ///
    /// # Errors
    /// If a thread or a descriptor isn't available.
    pub(crate) fn start() -> io::Result<Lister> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (jobs, todo) = mpsc::channel::<Job>();
        let (done, outcomes) = mpsc::channel();
        let wake = event.try_clone()?;
        let body = move || {
            for (token, request) in todo {
                let outcome = request.open();
                // Release the request before sending the outcome: the connection needs sole ownership to reuse it.
                drop(request);
                if done.send((token, outcome)).is_err() {
                    return;
                }
                // Fails only if the counter is full, and then the loop has been woken anyway.
                let _woken = rustix::io::write(&wake, &1u64.to_ne_bytes());
            }
        };
        let thread = thread::Builder::new().name("lister".to_owned()).spawn(body)?;
        Ok(Lister { jobs: Some(jobs), outcomes, event: Rc::new(event), thread: Some(thread) })
    }

    /// Opens for a client. Fails if the thread has died.
    pub(crate) fn open(&self, token: Token, request: &Arc<OpenRequest>) -> io::Result<()> {
        let jobs = self.jobs.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        jobs.send((token, Arc::clone(request))).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Readable when outcomes are ready.
    pub(crate) fn event(&self) -> &Rc<OwnedFd> {
        &self.event
    }

    /// Clears the event. Call it before taking outcomes, so that none is left without an event.
    pub(crate) fn clear(&self) {
        // Would block if the event is already clear, which is fine.
        let _cleared = rustix::io::read(&*self.event, &mut [0; 8]);
    }

    /// The next outcome.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }
}

impl Drop for Lister {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // The thread ends after its current open.
            let _ended = thread.join();
        }
    }
}

//! The lister: one thread that does what the ring has no operation for.
//!
//! A listing reads a directory (getdents64(2)), which may wait for the disk. The thread is started with the
//! first one. It opens, and hands the result back through a queue and an eventfd that the ring polls; it
//! never touches a socket.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use common::{OpenRequest, Opened, Token};
use rustix::event::{EventfdFlags, eventfd};

type Job = (Token, Arc<OpenRequest>);
type Outcome = (Token, io::Result<Opened>);

/// The thread, and the way there and back. A client has at most one open under way, which bounds the queues.
pub(crate) struct Lister {
    /// `None` only while the lister is dropped: that ends the thread.
    jobs: Option<mpsc::Sender<Job>>,
    outcomes: mpsc::Receiver<Outcome>,
    event: Rc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Lister {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no thread or no descriptor to be had.
    pub(crate) fn start() -> io::Result<Lister> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (jobs, todo) = mpsc::channel::<Job>();
        let (done, outcomes) = mpsc::channel();
        let wake = event.try_clone()?;
        let body = move || {
            for (token, request) in todo {
                let outcome = request.open();
                // The request goes before the answer: the connection wants it for itself again.
                drop(request);
                if done.send((token, outcome)).is_err() {
                    return;
                }
                // It fails only if the counter is at its end, and then the loop has been woken often enough.
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

    /// Readable when there are outcomes.
    pub(crate) fn event(&self) -> &Rc<OwnedFd> {
        &self.event
    }

    /// Clears the event. Before the outcomes are taken, so that none is left without one.
    pub(crate) fn clear(&self) {
        // It would block, which is as good, when the event is clear.
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
            // It ends with the open that it is at.
            let _ended = thread.join();
        }
    }
}

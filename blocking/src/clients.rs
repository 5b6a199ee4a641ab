//! The connections that have a thread: counted, waited for, and within reach of a drain.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::service::socket::reset;
use common::{Slots, Token};
use rustix::net::{Shutdown, shutdown};

/// A socket, and whether its thread waits for the first byte of a request.
pub(crate) struct Socket {
    pub(crate) descriptor: OwnedFd,
    pub(crate) is_idle: AtomicBool,
}

impl Socket {
    pub(crate) fn new(descriptor: OwnedFd) -> Arc<Socket> {
        Arc::new(Socket { descriptor, is_idle: AtomicBool::new(false) })
    }
}

/// The sockets of one worker's connections. A socket stays here as long as its thread runs, so none of these
/// descriptors has been closed and given to someone else.
#[derive(Default)]
pub(crate) struct Clients {
    sockets: Mutex<Slots<Arc<Socket>>>,
    ended: Condvar,
}

impl Clients {
    /// Takes a connection in, until its membership is dropped.
    pub(crate) fn join(self: &Arc<Self>, socket: &Arc<Socket>) -> Arc<Membership> {
        let token = self.lock().insert(Arc::clone(socket));
        Arc::new(Membership { clients: Arc::clone(self), token })
    }

    /// Waits until fewer than `count` connections are left: true. Or the time is over: false.
    pub(crate) fn wait_below(&self, count: usize, timeout: Duration) -> bool {
        let (sockets, _timeout) = self
            .ended
            .wait_timeout_while(self.lock(), timeout, |sockets| sockets.len() >= count)
            .unwrap_or_else(PoisonError::into_inner);
        sockets.len() < count
    }

    /// Waits until one more connection has ended, or the time is over.
    pub(crate) fn wait_for_end(&self, timeout: Duration) {
        let count = self.lock().len();
        self.wait_below(count, timeout);
    }

    /// Wakes the threads that wait for a request, as if their clients had closed. A request or an answer under way goes
    /// on.
    pub(crate) fn wake_idle(&self) {
        self.each(|socket| {
            if socket.is_idle.load(SeqCst) {
                let _gone_already = shutdown(&socket.descriptor, Shutdown::Read);
            }
        });
    }

    /// Resets every connection, whatever its thread is doing.
    pub(crate) fn reset(&self) {
        self.each(|socket| reset(&socket.descriptor));
    }

    fn each(&self, act: impl Fn(&Socket)) {
        let sockets = self.lock();
        for socket in sockets.tokens().filter_map(|token| sockets.get(token)) {
            act(socket);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots<Arc<Socket>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the others; its thread holds it to the end.
pub(crate) struct Membership {
    clients: Arc<Clients>,
    token: Token,
}

impl Drop for Membership {
    fn drop(&mut self) {
        drop(self.clients.lock().remove(self.token));
        self.clients.ended.notify_all();
    }
}

//! The connections that have a thread: counted, waited for, and reachable by the one who drains.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Slots, Token};
use rustix::net::{Shutdown, shutdown, sockopt};

/// The sockets of one worker's connections. A socket stays here as long as its thread runs, so none of these
/// descriptors has been closed and given to someone else.
#[derive(Default)]
pub(crate) struct Clients {
    sockets: Mutex<Slots<Arc<OwnedFd>>>,
    ended: Condvar,
}

impl Clients {
    /// Takes a connection in, until its place is dropped.
    pub(crate) fn begin(self: &Arc<Self>, socket: &Arc<OwnedFd>) -> Arc<Place> {
        let token = self.lock().insert(Arc::clone(socket));
        Arc::new(Place { clients: Arc::clone(self), token })
    }

    /// Waits until fewer than `count` connections are left, or the time is over. Says which.
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

    /// Ends all receiving: a thread that waits for a request wakes, and one that sends an answer goes on.
    pub(crate) fn stop_receiving(&self) {
        self.each(|socket| {
            let _gone_already = shutdown(socket, Shutdown::Read);
        });
    }

    /// Cuts every connection, whatever its thread is doing.
    pub(crate) fn reset(&self) {
        self.each(|socket| {
            let _gone_already = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
            let _gone_already = shutdown(socket, Shutdown::Both);
        });
    }

    fn each(&self, act: impl Fn(&OwnedFd)) {
        let sockets = self.lock();
        for socket in sockets.tokens().filter_map(|token| sockets.get(token)) {
            act(socket);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots<Arc<OwnedFd>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the others. Whoever runs the connection holds it to the end.
pub(crate) struct Place {
    clients: Arc<Clients>,
    token: Token,
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.clients.lock().remove(self.token));
        self.clients.ended.notify_all();
    }
}

//! The connections that have a thread: counted, waited for, and reachable by the one who drains.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Slots, Token};
use rustix::net::{Shutdown, shutdown, sockopt};

/// A socket, and whether its thread waits for a request of which nothing has come.
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
    /// Takes a connection in, until its place is dropped.
    pub(crate) fn begin(self: &Arc<Self>, socket: &Arc<Socket>) -> Arc<Place> {
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

    /// Wakes the threads that wait for a request: for them, the connection has ended. Whoever is in the middle
    /// of a request or an answer goes on.
    pub(crate) fn wake_idle(&self) {
        self.each(|socket| {
            if socket.is_idle.load(SeqCst) {
                let _gone_already = shutdown(&socket.descriptor, Shutdown::Read);
            }
        });
    }

    /// Cuts every connection, whatever its thread is doing.
    pub(crate) fn reset(&self) {
        self.each(|socket| {
            let _gone_already = sockopt::set_socket_linger(&socket.descriptor, Some(Duration::ZERO));
            let _gone_already = shutdown(&socket.descriptor, Shutdown::Both);
        });
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

//! The connections that have a thread: counted, waited for, and within reach of a drain and of newcomers.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::service::socket::{is_silent, reset};
use common::{Seat, Slots, Token};
use rustix::net::{Shutdown, shutdown};

/// A socket, and whether its thread waits for the first byte of a request.
pub(crate) struct Socket {
    pub(crate) descriptor: OwnedFd,
    accepted: Instant,
    /// When the connection expires if it stays idle, in microseconds since it was accepted; 0 if it isn't idle.
    idle_until: AtomicU64,
}

impl Socket {
    pub(crate) fn new(descriptor: OwnedFd, now: Instant) -> Arc<Socket> {
        Arc::new(Socket { descriptor, accepted: now, idle_until: AtomicU64::new(0) })
    }

    /// The thread is about to wait for the first byte of a request, until this moment; or for something else.
    pub(crate) fn set_idle(&self, until: Option<Instant>) {
        let micros = until.map_or(0, |until| until.saturating_duration_since(self.accepted).as_micros());
        self.idle_until.store(u64::try_from(micros).unwrap_or(u64::MAX), SeqCst);
    }

    /// The thread has received something, or waited in vain.
    pub(crate) fn set_busy(&self) {
        self.idle_until.store(0, Relaxed);
    }

    /// Wakes the thread as if the client had closed its side. If bytes have come in this moment, it sees those first.
    fn wake(&self) {
        let _gone_already = shutdown(&self.descriptor, Shutdown::Read);
    }

    fn idle_until(&self) -> Option<Instant> {
        match self.idle_until.load(SeqCst) {
            0 => None,
            micros => Some(self.accepted + Duration::from_micros(micros)),
        }
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
    /// Takes a connection in, until its membership is dropped. It has taken a place at this seat.
    pub(crate) fn join(self: &Arc<Self>, socket: &Arc<Socket>, seat: Seat) -> Arc<Membership> {
        let token = self.lock().insert(Arc::clone(socket));
        Arc::new(Membership { clients: Arc::clone(self), token, seat })
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
            if socket.idle_until().is_some() {
                socket.wake();
            }
        });
    }

    /// Lists those that wait for a request, and until when.
    pub(crate) fn list_idle(&self, idles: &mut Vec<(Instant, Token)>) {
        let sockets = self.lock();
        let idle_until = |token| sockets.get(token)?.idle_until();
        idles.extend(sockets.tokens().filter_map(|token| Some((idle_until(token)?, token))));
    }

    /// Whether this one waits for a request until that moment, and nothing of it has come.
    pub(crate) fn is_idle(&self, token: Token, until: Instant) -> bool {
        let sockets = self.lock();
        sockets
            .get(token)
            .is_some_and(|socket| socket.idle_until() == Some(until) && is_silent(&socket.descriptor))
    }

    /// Wakes the thread of one that waits for a request.
    pub(crate) fn wake(&self, token: Token) {
        if let Some(socket) = self.lock().get(token) {
            socket.wake();
        }
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
    seat: Seat,
}

impl Drop for Membership {
    fn drop(&mut self) {
        drop(self.clients.lock().remove(self.token));
        self.seat.free();
        self.clients.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use common::Places;

    #[test]
    fn who_has_just_sent_a_request_is_not_idle() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("a name")).expect("connected");
        let (theirs, _) = listener.accept().expect("accepted");
        let (clients, now) = (Arc::<Clients>::default(), Instant::now());
        let socket = Socket::new(theirs.into(), now);
        let seat = Arc::new(Places::new(1, 1).expect("an eventfd")).seat(0);
        assert!(seat.take());
        let membership = clients.join(&socket, seat.clone());
        let list = || {
            let mut idles = Vec::new();
            clients.list_idle(&mut idles);
            idles
        };
        assert_eq!(list(), [], "its thread is at something else");
        let until = now + Duration::from_secs(60);
        socket.set_idle(Some(until));
        let [(listed, token)] = list()[..] else { panic!("one is idle") };
        assert!(listed <= until && listed + Duration::from_micros(1) > until);
        assert!(clients.is_idle(token, listed));
        assert!(!clients.is_idle(token, listed + Duration::from_micros(1)), "idle since another moment");
        client.write_all(b"GET").expect("written");
        while is_silent(&socket.descriptor) {
            assert!(now.elapsed() < Duration::from_secs(10), "nothing comes");
        }
        assert!(!clients.is_idle(token, listed));
        socket.set_busy();
        assert_eq!(list(), []);
        assert_eq!(seat.left(), 0);
        drop(membership);
        assert_eq!(seat.left(), 1, "its place is free");
    }
}

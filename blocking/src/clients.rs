//! The connections that have a thread: counted, waited for, and within reach of a drain and of newcomers.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::service::socket::{end, is_silent};
use common::{Rank, Seat, Slots, Standing, Token};
use rustix::net::{Shutdown, shutdown};

/// A socket, and whether its thread waits for something that others needn't wait for.
pub(crate) struct Socket {
    pub(crate) descriptor: OwnedFd,
    accepted: Instant,
    /// How the connection stands: above its lowest [`RANK_SHIFT`] bits 1 and the rank, in these since when it does, in
    /// microseconds since it was accepted. 0 if it doesn't give way, [`GIVES_WAY`] once it is to.
    standing: AtomicU64,
}

const GIVES_WAY: u64 = u64::MAX;
const RANK_SHIFT: u32 = 60;
const MICROS_MAX: u64 = (1 << RANK_SHIFT) - 1;

impl Socket {
    pub(crate) fn new(descriptor: OwnedFd, now: Instant) -> Arc<Socket> {
        Arc::new(Socket { descriptor, accepted: now, standing: AtomicU64::new(0) })
    }

    /// The thread is about to wait for bytes, and its connection stands like this.
    pub(crate) fn set_standing(&self, standing: Option<Standing>) {
        self.standing.store(standing.map_or(0, |standing| self.word(standing)), SeqCst);
    }

    /// The thread has received something, or waited in vain. Whether its connection is to give way: then what it has
    /// received came in this very moment, and nothing will come after it.
    pub(crate) fn set_busy(&self) -> bool {
        self.standing.swap(0, Relaxed) == GIVES_WAY
    }

    /// Wakes the thread if it still waits, and its connection stands like this.
    fn give_way(&self, standing: Standing) {
        if self.standing.compare_exchange(self.word(standing), GIVES_WAY, SeqCst, Relaxed).is_ok() {
            self.wake();
        }
    }

    /// Wakes the thread as if the client had closed its side. If bytes have come in this moment, it sees those first.
    fn wake(&self) {
        let _gone_already = shutdown(&self.descriptor, Shutdown::Read);
    }

    fn word(&self, Standing { rank, since }: Standing) -> u64 {
        let micros = since.saturating_duration_since(self.accepted).as_micros();
        (rank as u64 + 1) << RANK_SHIFT | u64::try_from(micros).unwrap_or(u64::MAX).min(MICROS_MAX)
    }

    fn standing(&self) -> Option<Standing> {
        let word = self.standing.load(SeqCst);
        let rank = match word >> RANK_SHIFT {
            1 => Rank::Idle,
            2 => Rank::Lingering,
            3 => Rank::Reading,
            _ => return None,
        };
        Some(Standing { rank, since: self.accepted + Duration::from_micros(word & MICROS_MAX) })
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
            if socket.standing().is_some_and(|standing| standing.rank == Rank::Idle) {
                socket.wake();
            }
        });
    }

    /// Lists those that may give way, and how they stand.
    pub(crate) fn list(&self, list: &mut Vec<(Standing, Token)>) {
        let sockets = self.lock();
        let standing = |token| sockets.get(token)?.standing();
        list.extend(sockets.tokens().filter_map(|token| Some((standing(token)?, token))));
    }

    /// Whether this one still stands like that, and nothing of it has come.
    pub(crate) fn stands(&self, token: Token, standing: Standing) -> bool {
        let sockets = self.lock();
        sockets
            .get(token)
            .is_some_and(|socket| socket.standing() == Some(standing) && is_silent(&socket.descriptor))
    }

    /// Wakes the thread of one that gives way, if it still stands like that.
    pub(crate) fn give_way(&self, token: Token, standing: Standing) {
        if let Some(socket) = self.lock().get(token) {
            socket.give_way(standing);
        }
    }

    /// Ends every connection, whatever its thread is doing: how many there are.
    pub(crate) fn end(&self) -> usize {
        self.each(|socket| end(&socket.descriptor));
        self.lock().len()
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
    fn who_has_just_sent_a_request_does_not_give_way() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("a name")).expect("connected");
        let (theirs, _) = listener.accept().expect("accepted");
        let (clients, now) = (Arc::<Clients>::default(), Instant::now());
        let socket = Socket::new(theirs.into(), now);
        let seat = Arc::new(Places::new(1, 1).expect("an eventfd")).seat(0);
        assert!(seat.take());
        let membership = clients.join(&socket, seat.clone());
        let list = || {
            let mut list = Vec::new();
            clients.list(&mut list);
            list
        };
        assert_eq!(list(), [], "its thread is at something else");
        for (rank, since) in [(Rank::Reading, 60), (Rank::Lingering, 0), (Rank::Idle, 0), (Rank::Idle, 60)] {
            let standing = Standing { rank, since: now + Duration::from_secs(since) };
            socket.set_standing(Some(standing));
            let [(listed, token)] = list()[..] else { panic!("one may give way") };
            assert_eq!(listed, standing);
            assert!(clients.stands(token, listed));
            let later = Standing { since: listed.since + Duration::from_micros(1), ..listed };
            assert!(!clients.stands(token, later), "since another moment");
        }
        client.write_all(b"GET").expect("written");
        while is_silent(&socket.descriptor) {
            assert!(now.elapsed() < Duration::from_secs(10), "nothing comes");
        }
        let [(listed, token)] = list()[..] else { panic!("one may give way") };
        assert!(!clients.stands(token, listed));
        assert!(!socket.set_busy());
        assert_eq!(list(), []);
        clients.give_way(token, listed);
        assert!(!socket.set_busy(), "too late: its thread has taken the request");
        let later = Standing { since: listed.since + Duration::from_micros(1), ..listed };
        socket.set_standing(Some(later));
        clients.give_way(token, listed);
        assert!(!socket.set_busy(), "it stands otherwise by now");
        socket.set_standing(Some(later));
        clients.give_way(token, later);
        assert!(socket.set_busy(), "in time: the request that its thread has taken is the last");
        assert_eq!(seat.left(), 0);
        drop(membership);
        assert_eq!(seat.left(), 1, "its place is free");
    }
}

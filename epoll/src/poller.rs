//! The poller: epoll(7), edge-triggered, every source registered once at most and never modified. For comparison, clients
//! may be level-triggered.
//!
//! # The contract of edges
//!
//! 1. **An edge tells news, not state.** It is told once. Whoever owns the source remembers `readable` and
//!    `writable` until it has proof of the contrary.
//! 2. **The proof** is `EAGAIN`, or a transfer shorter than was asked for: epoll(7) allows stopping there on
//!    a stream, because the kernel has then seen the buffer empty (or full), and the next byte (or the next
//!    free space) makes a new edge.
//! 3. **After a hang-up there is no such proof but the end itself.** When the peer has shut down its side, the
//!    bytes before it and the end after it may have been told by one edge, so a short read proves nothing:
//!    read until the end. For this [`Event::hung_up`] is told apart (`EPOLLRDHUP`, since 2.6.17).
//! 4. **A handler that stops before `EAGAIN` must requeue its client.** A client that used up its share of a turn goes
//!    to a run queue; no edge will come for it.
//! 5. **An error is both.** `EPOLLERR` and `EPOLLHUP` count as readable and writable: the next system call on
//!    the socket reports what happened, in the place that handles it anyway.
//! 6. **Events may be stale.** Earlier events of the same batch may have ended the client that a later one is
//!    for. Its source names slot and generation, so that a stale event finds nobody.
//! 7. **Closing the descriptor unregisters it**, as long as it was never duplicated (epoll(7), question 6).
//!
//! A [`Waker`] is an eventfd under the same contract. Nobody reads it: each write is an edge of its own.
//!
//! # The contract of levels
//!
//! A level tells state, in every wait, whether anybody asked or not. So a source is registered for what its owner
//! waits for ([`Interest::Bytes`] or [`Interest::Space`]), and [modified](Poller::modify) when that changes: a
//! system call each time. Who waits for neither must not be told, or the loop never sleeps:
//! [`Interest::Nothing`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use common::Token;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSource {
    /// A client, or whoever was one under this token.
    Client(Token),
    /// A listening socket, by its index.
    Listener(u32),
    /// The pool has results.
    Pool,
    /// The drain has begun.
    Shutdown,
    /// Cached files have changed.
    Cache,
}

/// The kind of a source lies above the 56 bits of a token.
const KIND_SHIFT: u32 = 56;
const CLIENT: u64 = 0;
const LISTENER: u64 = 1;
const POOL: u64 = 2;
const SHUTDOWN: u64 = 3;
const CACHE: u64 = 4;

impl EventSource {
    fn to_u64(self) -> u64 {
        match self {
            EventSource::Client(token) => CLIENT << KIND_SHIFT | token.to_u64(),
            EventSource::Listener(index) => LISTENER << KIND_SHIFT | u64::from(index),
            EventSource::Pool => POOL << KIND_SHIFT,
            EventSource::Shutdown => SHUTDOWN << KIND_SHIFT,
            EventSource::Cache => CACHE << KIND_SHIFT,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "an index was put into the low 32 bits")]
    fn from_u64(value: u64) -> EventSource {
        match value >> KIND_SHIFT {
            CLIENT => EventSource::Client(Token::from_u64(value)),
            LISTENER => EventSource::Listener(value as u32),
            POOL => EventSource::Pool,
            SHUTDOWN => EventSource::Shutdown,
            CACHE => EventSource::Cache,
            kind => unreachable!("no source was registered as kind {kind}"),
        }
    }
}

/// What a source is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, free space and the peer's end, for a connected socket.
    Stream,
    /// Something to take: a connection from a listening socket, a count from an eventfd.
    Arrival,
    /// Bytes and the peer's end, for a connected socket, as long as they are there: a level.
    Bytes,
    /// Free space, for a connected socket, as long as it is there: a level.
    Space,
    /// Nothing. Errors and hang-ups can't be declined (`epoll_ctl(2)`), so these are told once: an edge.
    Nothing,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Interest::Stream => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            Interest::Arrival => EventFlags::IN | EventFlags::ET,
            Interest::Bytes => EventFlags::IN | EventFlags::RDHUP,
            Interest::Space => EventFlags::OUT,
            Interest::Nothing => EventFlags::ET,
        }
    }
}

/// News of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whom it is for.
    pub source: EventSource,
    flags: EventFlags,
}

impl Event {
    /// A read may find bytes, the end, or an error.
    #[must_use]
    pub fn readable(self) -> bool {
        self.flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }

    /// A write may find space, or an error.
    #[must_use]
    pub fn writable(self) -> bool {
        self.flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR)
    }

    /// The peer has sent its last byte: from now on only the end of the stream proves that all was read.
    #[must_use]
    pub fn hung_up(self) -> bool {
        self.flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }
}

/// Room for the events of one wait. It belongs to the loop, so that handling an event may use the poller.
pub struct Events {
    list: Vec<epoll::Event>,
}

impl Events {
    /// Room for up to `events_max` events a wait; what doesn't fit comes with the next.
    ///
    /// # Panics
    /// With room for nothing.
    #[must_use]
    pub fn with_capacity(events_max: usize) -> Events {
        assert!(events_max > 0, "epoll_wait(2) wants room for an event");
        Events { list: Vec::with_capacity(events_max) }
    }

    /// How many events the last wait brought.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether the last wait brought nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.list
            .iter()
            .map(|event| Event { source: EventSource::from_u64(event.data.u64()), flags: event.flags })
    }
}

/// An epoll instance.
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// A poller without sources.
    ///
    /// # Errors
    /// When the process is out of descriptors or memory (`epoll_create1(2)`).
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Registers a source for as long as its descriptor is open. If it is ready already, that is the first edge.
    ///
    /// # Errors
    /// When a limit of memory or of watches is reached (`epoll_ctl(2)`).
    pub fn register(&self, descriptor: impl AsFd, source: EventSource, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(source.to_u64()), interest.flags())?)
    }

    /// Changes what a registered source is watched for.
    ///
    /// # Errors
    /// None that a correct program can meet (`epoll_ctl(2)`).
    pub fn modify(&self, descriptor: impl AsFd, source: EventSource, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, descriptor, EventData::new_u64(source.to_u64()), interest.flags())?)
    }

    /// Waits for events, at most `timeout`; without one, for as long as it takes. A signal ends the wait too,
    /// without events.
    ///
    /// # Errors
    /// None that a correct program can meet (`epoll_wait(2)`).
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.list.clear();
        // A timeout that doesn't fit is longer than any machine runs.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match epoll::wait(&self.epoll, spare_capacity(&mut events.list), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A new waker whose events carry `source`.
    ///
    /// # Errors
    /// When the process is out of descriptors or memory (`eventfd(2)`, `epoll_ctl(2)`).
    pub fn waker(&self, source: EventSource) -> io::Result<Waker> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        self.register(&eventfd, source, Interest::Arrival)?;
        Ok(Waker { eventfd })
    }
}

/// Makes a poller's wait return, from any thread.
#[derive(Debug)]
pub struct Waker {
    eventfd: OwnedFd,
}

impl Waker {
    /// Makes an edge. A wake before the wait is not lost.
    pub fn wake(&self) {
        // The one possible failure is a full counter, after 2^64 - 2 wakes.
        let _written = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    const NOW: Option<Duration> = Some(Duration::ZERO);
    /// Long enough for any machine; a test that is right never waits it out.
    const SOON: Option<Duration> = Some(Duration::from_secs(10));
    const CLIENT: EventSource = EventSource::Client(Token { slot: 7, generation: 3 });

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let ours = TcpStream::connect(listener.local_addr().expect("a name")).expect("connected");
        let (theirs, _) = listener.accept().expect("accepted");
        ours.set_nonblocking(true).expect("non-blocking");
        theirs.set_nodelay(true).expect("no delay");
        (ours, theirs)
    }

    fn wait(poller: &Poller, timeout: Option<Duration>) -> Vec<Event> {
        let mut events = Events::with_capacity(8);
        poller.wait(&mut events, timeout).expect("waited");
        assert_eq!(events.len(), events.iter().count());
        assert_eq!(events.is_empty(), events.iter().next().is_none());
        events.iter().collect()
    }

    #[test]
    fn keys_survive_the_way_through_the_kernel() {
        for key in [
            CLIENT,
            EventSource::Client(Token {
                slot: u32::MAX,
                generation: common::service::slots::GENERATIONS - 1,
            }),
            EventSource::Listener(0),
            EventSource::Listener(u32::MAX),
            EventSource::Pool,
            EventSource::Shutdown,
            EventSource::Cache,
        ] {
            assert_eq!(EventSource::from_u64(key.to_u64()), key);
        }
    }

    #[test]
    fn a_fresh_socket_is_writable_and_says_so_once() {
        let poller = Poller::new().expect("a poller");
        let (ours, _theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Stream).expect("registered");
        let events = wait(&poller, SOON);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].source, CLIENT);
        assert!(events[0].writable() && !events[0].readable() && !events[0].hung_up());
        assert_eq!(wait(&poller, NOW), [], "an edge is told once");
    }

    #[test]
    fn bytes_left_unread_make_no_second_edge_but_new_ones_do() {
        let poller = Poller::new().expect("a poller");
        let (mut ours, mut theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Stream).expect("registered");
        theirs.write_all(b"one").expect("written");
        while !wait(&poller, SOON).iter().any(|event| event.readable()) {}
        assert_eq!(wait(&poller, NOW), [], "told once, though unread");
        theirs.write_all(b"two").expect("written");
        assert!(wait(&poller, SOON)[0].readable());
        let mut bytes = [0; 16];
        let read = ours.read(&mut bytes).expect("bytes");
        assert!(read < bytes.len(), "a short read is the proof");
        theirs.write_all(b"three").expect("written");
        assert!(wait(&poller, SOON)[0].readable(), "so the next byte makes an edge");
    }

    #[test]
    fn bytes_and_the_end_may_share_an_edge() {
        let poller = Poller::new().expect("a poller");
        let (mut ours, mut theirs) = connected();
        theirs.write_all(b"last words").expect("written");
        theirs.shutdown(Shutdown::Write).expect("shut down");
        // Registered when both have arrived: one edge for both. A blocking peek sees to it.
        ours.set_nonblocking(false).expect("blocking");
        let mut bytes = [0; 64];
        assert_eq!(ours.peek(&mut bytes).expect("bytes"), 10);
        poller.register(&ours, CLIENT, Interest::Stream).expect("registered");
        while !wait(&poller, SOON).iter().any(|event| event.hung_up()) {}
        assert_eq!(ours.read(&mut bytes).expect("bytes"), 10);
        assert_eq!(wait(&poller, NOW), [], "no edge for the end alone");
        assert_eq!(ours.read(&mut bytes).expect("the end"), 0);
    }

    #[test]
    fn a_reset_is_both_readable_and_writable() {
        let poller = Poller::new().expect("a poller");
        let (ours, theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Stream).expect("registered");
        assert!(!wait(&poller, SOON)[0].hung_up());
        rustix::net::sockopt::set_socket_linger(&theirs, Some(Duration::ZERO)).expect("set");
        drop(theirs);
        let events = wait(&poller, SOON);
        assert!(events[0].readable() && events[0].writable() && events[0].hung_up());
    }

    #[test]
    fn a_level_is_told_until_nobody_asks() {
        let poller = Poller::new().expect("a poller");
        let (mut ours, mut theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Bytes).expect("registered");
        assert_eq!(wait(&poller, NOW), [], "space wasn't asked for");
        theirs.write_all(b"one").expect("written");
        for _ in 0..2 {
            let events = wait(&poller, SOON);
            assert!(events[0].readable() && !events[0].writable() && !events[0].hung_up());
        }
        poller.modify(&ours, CLIENT, Interest::Space).expect("modified");
        for _ in 0..2 {
            let events = wait(&poller, SOON);
            assert!(events[0].writable() && !events[0].readable());
        }
        poller.modify(&ours, CLIENT, Interest::Nothing).expect("modified");
        assert_eq!(wait(&poller, NOW), [], "neither was asked for");
        poller.modify(&ours, CLIENT, Interest::Bytes).expect("modified");
        assert!(wait(&poller, SOON)[0].readable(), "the bytes are still there");
        assert_eq!(ours.read(&mut [0; 16]).expect("bytes"), 3);
        assert_eq!(wait(&poller, NOW), []);
    }

    #[test]
    fn a_reset_can_not_be_declined_but_is_told_once() {
        let poller = Poller::new().expect("a poller");
        let (ours, theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Nothing).expect("registered");
        assert_eq!(wait(&poller, NOW), []);
        rustix::net::sockopt::set_socket_linger(&theirs, Some(Duration::ZERO)).expect("set");
        drop(theirs);
        assert!(wait(&poller, SOON)[0].hung_up());
        assert_eq!(wait(&poller, NOW), [], "told once");
        poller.modify(&ours, CLIENT, Interest::Bytes).expect("modified");
        assert!(wait(&poller, SOON)[0].hung_up(), "and again when bytes are asked for");
    }

    #[test]
    fn free_space_after_a_short_write_makes_an_edge() {
        let poller = Poller::new().expect("a poller");
        let (mut ours, mut theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Stream).expect("registered");
        let chunk = vec![b'x'; 1 << 20];
        let mut sent = 0;
        loop {
            match ours.write(&chunk) {
                Ok(n) => {
                    sent += n;
                    if n < chunk.len() {
                        break;
                    }
                }
                Err(error) => panic!("a short write comes first: {error}"),
            }
        }
        // Whatever was told before the buffer was full is old news.
        let _old = wait(&poller, NOW);
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 20];
            let mut left = sent;
            while left > 0 {
                left -= theirs.read(&mut bytes).expect("bytes").min(left);
            }
        });
        while !wait(&poller, SOON).iter().any(|event| event.writable()) {}
        assert!(ours.write(b"more").is_ok());
        reader.join().expect("read");
    }

    #[test]
    fn a_closed_source_is_forgotten() {
        let poller = Poller::new().expect("a poller");
        let (ours, mut theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Stream).expect("registered");
        theirs.write_all(b"late").expect("written");
        drop(ours);
        assert_eq!(wait(&poller, NOW), []);
    }

    #[test]
    fn a_wake_before_the_wait_is_not_lost_and_each_is_an_edge() {
        let poller = Poller::new().expect("a poller");
        let waker = poller.waker(EventSource::Pool).expect("a waker");
        assert_eq!(wait(&poller, NOW), []);
        for _ in 0..3 {
            waker.wake();
            let events = wait(&poller, SOON);
            assert_eq!(events.len(), 1);
            assert!(events[0].source == EventSource::Pool && events[0].readable());
            assert_eq!(wait(&poller, NOW), []);
        }
        std::thread::spawn(move || waker.wake()).join().expect("woken");
        // The thread took the waker with it: closed, so there is nothing left to tell.
        assert_eq!(wait(&poller, NOW), []);
    }

    #[test]
    fn another_thread_ends_a_wait_without_timeout() {
        let poller = Poller::new().expect("a poller");
        let waker = poller.waker(EventSource::Pool).expect("a waker");
        let thread = std::thread::spawn(move || {
            waker.wake();
            waker
        });
        assert_eq!(wait(&poller, None)[0].source, EventSource::Pool);
        thread.join().expect("woken");
    }

    #[test]
    fn what_does_not_fit_comes_with_the_next_wait() {
        let poller = Poller::new().expect("a poller");
        let wakers: Vec<_> =
            (0..3).map(|n| poller.waker(EventSource::Listener(n)).expect("a waker")).collect();
        wakers.iter().for_each(Waker::wake);
        let mut events = Events::with_capacity(2);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            poller.wait(&mut events, SOON).expect("waited");
            assert!(!events.is_empty() && events.len() <= 2);
            seen.extend(events.iter().map(|event| match event.source {
                EventSource::Listener(index) => index,
                other => panic!("nobody registered {other:?}"),
            }));
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    }
}

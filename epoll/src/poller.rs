//! The poller: epoll(7), edge-triggered. Every source is registered at most once and never modified. For comparison,
//! clients can be level-triggered instead.
//!
//! # The edge-triggered contract
//!
//! 1. **An edge reports a change, not a state,** and it is reported once. The owner of a source remembers `readable`
//!    and `writable` until it has proof of the opposite.
//! 2. **The proof** is `EAGAIN`, or a transfer shorter than requested. On a stream, epoll(7) allows stopping there: the
//!    kernel has seen the buffer empty (or full), so the next byte (or the next free space) makes a new edge.
//! 3. **After a hang-up, only end of file is proof.** When the peer has shut down its side, one edge may have reported
//!    both the last bytes and the end, so a short read proves nothing: read until the end. For this, [`Event::hung_up`]
//!    is reported separately (`EPOLLRDHUP`, since 2.6.17).
//! 4. **A handler that stops before `EAGAIN` must requeue its client.** A client that has used up its share of a turn
//!    goes to the run queue; no edge will come for it.
//! 5. **An error is both.** `EPOLLERR` and `EPOLLHUP` count as readable and writable: the next system call on the
//!    socket reports the error where it is handled anyway.
//! 6. **Events may be stale.** An earlier event of the same batch may have closed the client of a later one. A source
//!    contains slot and generation, so a stale event finds no client.
//! 7. **Closing the descriptor unregisters it** once no duplicate is left, such as a job of the pool may hold (epoll(7),
//!    question 6). Until then, there may be stale events.
//!
//! An eventfd under this contract is never read: each write makes a new edge.
//!
//! # The level-triggered contract
//!
//! A level reports the state on every wait, wanted or not. So a source is registered for what its owner waits for
//! ([`Interest::Bytes`] or [`Interest::Space`]) and [modified](Poller::modify) when that changes, at one system call
//! each time. A source that waits for neither must be set to [`Interest::Nothing`], or the loop would never sleep.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use common::Token;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// What an event refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventSource {
    /// The client with this token, which may be gone.
    Client(Token),
    /// A listening socket, by its index.
    Listener(u32),
    /// The pool has results.
    Pool,
    /// The drain has begun.
    Shutdown,
    /// Cached files have changed.
    Cache,
    /// There may be a place for a connection, or one is sought.
    Places,
}

/// The kind of source is stored above the 56 bits of a token.
const KIND_SHIFT: u32 = 56;
const CLIENT: u64 = 0;
const LISTENER: u64 = 1;
const POOL: u64 = 2;
const SHUTDOWN: u64 = 3;
const CACHE: u64 = 4;
const PLACES: u64 = 5;

impl EventSource {
    fn to_u64(self) -> u64 {
        match self {
            EventSource::Client(token) => CLIENT << KIND_SHIFT | token.to_u64(),
            EventSource::Listener(index) => LISTENER << KIND_SHIFT | u64::from(index),
            EventSource::Pool => POOL << KIND_SHIFT,
            EventSource::Shutdown => SHUTDOWN << KIND_SHIFT,
            EventSource::Cache => CACHE << KIND_SHIFT,
            EventSource::Places => PLACES << KIND_SHIFT,
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
            PLACES => EventSource::Places,
            kind => unreachable!("no source is registered as kind {kind}"),
        }
    }
}

/// The events to watch a source for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Bytes, free space and the peer's end of a connected socket. Edge-triggered.
    Stream,
    /// A connection on a listening socket, or a count in an eventfd.
    Arrival,
    /// Bytes and the peer's end of a connected socket. Level-triggered.
    Bytes,
    /// Free space of a connected socket. Level-triggered.
    Space,
    /// Nothing. Errors and hang-ups can't be masked (`epoll_ctl(2)`), so they are reported once, edge-triggered.
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

/// An event of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The source.
    pub(crate) source: EventSource,
    flags: EventFlags,
}

impl Event {
    /// A read may return bytes, the end, or an error.
    #[must_use]
    pub(crate) fn readable(self) -> bool {
        self.flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }

    /// A write may succeed, or return an error.
    #[must_use]
    pub(crate) fn writable(self) -> bool {
        self.flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR)
    }

    /// The peer has shut down its side: from now on, only end of file proves that everything was read.
    #[must_use]
    pub(crate) fn hung_up(self) -> bool {
        self.flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
    }

    /// The connection is gone in both directions: nothing that is sent will arrive.
    #[must_use]
    pub(crate) fn is_broken(self) -> bool {
        self.flags.intersects(EventFlags::HUP | EventFlags::ERR)
    }
}

/// A buffer for the events of one wait. Owned by the loop, so that event handlers may use the poller.
pub(crate) struct Events {
    list: Vec<epoll::Event>,
}

impl Events {
    /// A buffer for up to `events_max` events per wait; further events come with the next wait.
    ///
    /// # Panics
    /// If `events_max` is 0.
    #[must_use]
    pub(crate) fn with_capacity(events_max: usize) -> Events {
        assert!(events_max > 0, "epoll_wait(2) needs room for at least one event");
        Events { list: Vec::with_capacity(events_max) }
    }

    /// The number of events of the last wait.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The events of the last wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.list
            .iter()
            .map(|event| Event { source: EventSource::from_u64(event.data.u64()), flags: event.flags })
    }
}

/// An epoll instance.
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// A poller with no sources.
    ///
    /// # Errors
    /// If the process is out of descriptors or memory (`epoll_create1(2)`).
    pub(crate) fn new() -> io::Result<Poller> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Registers a source until its descriptor is closed. If it is ready already, that makes the first edge.
    ///
    /// # Errors
    /// If a limit on memory or watches is reached (`epoll_ctl(2)`).
    pub(crate) fn register(
        &self,
        descriptor: impl AsFd,
        source: EventSource,
        interest: Interest,
    ) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(source.to_u64()), interest.flags())?)
    }

    /// Changes the events a registered source is watched for.
    ///
    /// # Errors
    /// None in a correct program (`epoll_ctl(2)`).
    pub(crate) fn modify(
        &self,
        descriptor: impl AsFd,
        source: EventSource,
        interest: Interest,
    ) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, descriptor, EventData::new_u64(source.to_u64()), interest.flags())?)
    }

    /// Waits for events, at most for `timeout` (`None`: indefinitely). A signal also ends the wait, without events.
    ///
    /// # Errors
    /// None in a correct program (`epoll_wait(2)`).
    pub(crate) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.list.clear();
        // A timeout too long for a `Timespec` is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match epoll::wait(&self.epoll, spare_capacity(&mut events.list), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    /// An eventfd that wakes a poller.
    struct Waker(OwnedFd);

    impl Waker {
        fn new(poller: &Poller, source: EventSource) -> Waker {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd");
            poller.register(&event, source, Interest::Arrival).expect("registered");
            Waker(event)
        }

        fn wake(&self) {
            rustix::io::write(&self.0, &1u64.to_ne_bytes()).expect("written");
        }
    }

    const NOW: Option<Duration> = Some(Duration::ZERO);
    /// Long enough for any machine; a passing test never waits this long.
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
        assert_eq!(events.len() == 0, events.iter().next().is_none());
        events.iter().collect()
    }

    #[test]
    fn keys_round_trip_through_the_kernel() {
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
    fn a_new_socket_reports_writable_once() {
        let poller = Poller::new().expect("a poller");
        let (ours, _theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Stream).expect("registered");
        let events = wait(&poller, SOON);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].source, CLIENT);
        assert!(events[0].writable() && !events[0].readable() && !events[0].hung_up());
        assert_eq!(wait(&poller, NOW), [], "an edge is reported once");
    }

    #[test]
    fn unread_bytes_make_no_second_edge_but_new_bytes_do() {
        let poller = Poller::new().expect("a poller");
        let (mut ours, mut theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Stream).expect("registered");
        theirs.write_all(b"one").expect("written");
        while !wait(&poller, SOON).iter().any(|event| event.readable()) {}
        assert_eq!(wait(&poller, NOW), [], "reported once, though unread");
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
        // The blocking peek makes sure that both have arrived before the registration: one edge for both.
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
    fn a_level_is_reported_until_masked() {
        let poller = Poller::new().expect("a poller");
        let (mut ours, mut theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Bytes).expect("registered");
        assert_eq!(wait(&poller, NOW), [], "space was not requested");
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
        assert_eq!(wait(&poller, NOW), [], "neither was requested");
        poller.modify(&ours, CLIENT, Interest::Bytes).expect("modified");
        assert!(wait(&poller, SOON)[0].readable(), "the bytes are still there");
        assert_eq!(ours.read(&mut [0; 16]).expect("bytes"), 3);
        assert_eq!(wait(&poller, NOW), []);
    }

    #[test]
    fn a_reset_cannot_be_masked_but_is_reported_once() {
        let poller = Poller::new().expect("a poller");
        let (ours, theirs) = connected();
        poller.register(&ours, CLIENT, Interest::Nothing).expect("registered");
        assert_eq!(wait(&poller, NOW), []);
        rustix::net::sockopt::set_socket_linger(&theirs, Some(Duration::ZERO)).expect("set");
        drop(theirs);
        assert!(wait(&poller, SOON)[0].hung_up());
        assert_eq!(wait(&poller, NOW), [], "told once");
        poller.modify(&ours, CLIENT, Interest::Bytes).expect("modified");
        assert!(wait(&poller, SOON)[0].hung_up(), "reported again once bytes are requested");
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
        // Discard everything reported before the buffer was full.
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
    fn closing_the_descriptor_unregisters_it() {
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
        let waker = Waker::new(&poller, EventSource::Pool);
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
        let waker = Waker::new(&poller, EventSource::Pool);
        let thread = std::thread::spawn(move || {
            waker.wake();
            waker
        });
        assert_eq!(wait(&poller, None)[0].source, EventSource::Pool);
        thread.join().expect("woken");
    }

    #[test]
    fn excess_events_come_with_the_next_wait() {
        let poller = Poller::new().expect("a poller");
        let wakers: Vec<_> = (0..3).map(|n| Waker::new(&poller, EventSource::Listener(n))).collect();
        wakers.iter().for_each(Waker::wake);
        let mut events = Events::with_capacity(2);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            poller.wait(&mut events, SOON).expect("waited");
            assert!((1..=2).contains(&events.len()));
            seen.extend(events.iter().map(|event| match event.source {
                EventSource::Listener(index) => index,
                other => panic!("{other:?} is not registered"),
            }));
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    }
}

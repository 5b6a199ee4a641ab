//! The load engine: one thread, edge-triggered epoll, a closed loop.
//!
//! Each connection has one request under way. The next one leaves in the same turn that completes the last
//! one's answer, so a slow server is asked less often: what this measures is **service time** and
//! **capacity**, never the response time that somebody arriving at a time of his own would see.
//!
//! On loopback, a server that sends to a sleeping client pays for waking it, which no server does across a
//! network: there, the card raises an interrupt on the other machine, and moderates how often. So a client
//! with many connections does as a card does and rests (`Rest`) between two looks at its sockets, as long as
//! the server has enough to do. Throughput doesn't fall by it; the wake-ups leave the server's bill, and the
//! context switches the client's.
//!
//! Every answer is checked: its status, its Content-Length and the number of bytes that came. Bodies are
//! dropped in the kernel (`MSG_TRUNC`), except in [`Client::verify`], which hashes what it receives and
//! isn't part of any measurement.

use crate::load::connection::{Advance, Bodies, Buffers, Connection, Peer};
use crate::load::fault::Fault;
use crate::load::request::{Persistence, Request};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// SHA-256 of a file or a body.
pub type Sha256Bytes = [u8; 32];

const EVENTS_MAX: usize = 256;
/// A server that owes an answer and sends nothing for so long has hung.
pub const STALL: Duration = Duration::from_secs(10);
/// One turn of the loop waits at most so long, then looks at the time.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

const TIMER_SLACK: NonZeroU64 = NonZeroU64::MIN;

/// Fewer connections than this are looked at as soon as the kernel says so.
const RESTED_CONNECTIONS_MIN: usize = 16;
/// How long a client rests, by the number of its connections; from 64 of them on as long as common cards
/// hold an interrupt back.
const REST_PER_CONNECTION: Duration = Duration::from_nanos(1_500);
const REST_MAX: Duration = Duration::from_micros(96);

/// The histogram's range: below a tenth of a microsecond nothing is answered, and [`STALL`] ends what takes
/// longer. Three digits: quantiles are true to 0.1 %.
const SERVICE_NS_MIN: u64 = 100;
const SERVICE_NS_MAX: u64 = 60_000_000_000;
const SERVICE_DIGITS: u8 = 3;

/// What one stretch of load has shown.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Answers that came, each of them right.
    pub answers: u64,
    /// Bytes of those answers, heads included.
    pub wire_bytes: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// CPU time of the client's thread meanwhile.
    pub client_cpu: Duration,
    /// From the moment a request leaves (with a connection of its own: from the connect) to the last byte
    /// of its answer, in nanoseconds.
    pub service: Histogram<u64>,
}

/// When connections stop asking.
#[derive(Clone, Copy)]
enum Until {
    Time(Instant),
    FirstAnswer,
}

/// The pause between two turns of a client with many connections.
///
/// It never starves the server: it is taken only after a turn that found less than half of the connections
/// ready, so more than half of them have a request at the server, and no server answers one in less than
/// twice [`REST_PER_CONNECTION`].
#[derive(Clone, Copy)]
struct Rest {
    pause: Duration,
    ready_below: usize,
}

impl Rest {
    fn between(connections: usize) -> Rest {
        if connections < RESTED_CONNECTIONS_MIN {
            return Rest { pause: Duration::ZERO, ready_below: 0 };
        }
        let factor = u32::try_from(connections).unwrap_or(u32::MAX);
        let pause = REST_PER_CONNECTION.saturating_mul(factor).min(REST_MAX);
        Rest { pause, ready_below: connections / 2 }
    }

    fn after(self, ready: usize) {
        if ready < self.ready_below {
            std::thread::sleep(self.pause);
        }
    }
}

struct Tally {
    answers: u64,
    wire_bytes: u64,
    service: Histogram<u64>,
    last_answer: Instant,
    /// Connections with an answer, or an end, still to come.
    busy: usize,
}

/// A client and its connections to one server.
pub struct Client {
    poller: OwnedFd,
    address: SocketAddr,
    request: Request,
    connections: Vec<Option<Connection>>,
    buffers: Buffers,
    events: Vec<Event>,
    stall: Duration,
}

impl Client {
    /// A client with so many connections. Those that live long are opened here.
    ///
    /// # Errors
    ///
    /// The server refuses a connection, or the limit of descriptors is too low for them.
    pub fn connect(address: SocketAddr, request: Request, connections: usize) -> Result<Client, Fault> {
        let poller = epoll::create(CreateFlags::CLOEXEC).map_err(Fault::system("make an epoll instance"))?;
        let mut client = Client {
            poller,
            address,
            request,
            connections: (0..connections).map(|_| None).collect(),
            buffers: Buffers::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            stall: STALL,
        };
        if client.request.persistence() == Persistence::KeepAlive {
            let now = Instant::now();
            for index in 0..connections {
                let connection = Connection::open(address, now)?;
                client.register(index, &connection, EventFlags::OUT)?;
                client.connections[index] = Some(connection);
            }
        }
        Ok(client)
    }

    /// Gives a silent server less time than [`STALL`] before it is given up.
    #[must_use]
    pub fn with_stall(mut self, stall: Duration) -> Client {
        self.stall = stall;
        self
    }

    /// Asks on all connections for as long as `window`, then waits for the answers that are still owed.
    ///
    /// # Errors
    ///
    /// The first answer that isn't what was expected.
    pub fn load(&mut self, window: Duration) -> Result<Outcome, Fault> {
        self.buffers.bodies = Bodies::Discarded;
        let service = Histogram::new_with_bounds(SERVICE_NS_MIN, SERVICE_NS_MAX, SERVICE_DIGITS)
            .expect("the bounds are constants that the histogram accepts");
        // The default slack of 50 µs would stretch every rest (prctl(2), PR_SET_TIMERSLACK).
        set_current_timer_slack(Some(TIMER_SLACK)).map_err(Fault::system("set the timer slack"))?;
        let cpu_before = thread_cpu();
        let start = Instant::now();
        let tally = self.run(self.connections.len(), Until::Time(start + window), service)?;
        Ok(Outcome {
            answers: tally.answers,
            wire_bytes: tally.wire_bytes,
            elapsed: tally.last_answer - start,
            client_cpu: thread_cpu().saturating_sub(cpu_before),
            service: tally.service,
        })
    }

    /// Asks once on each of the first `connections`, all at the same time, and compares the SHA-256 of each
    /// body as received with `content`.
    ///
    /// # Errors
    ///
    /// An answer that isn't what was expected, [`Fault::Content`] among them.
    pub fn verify(&mut self, connections: usize, content: &Sha256Bytes) -> Result<(), Fault> {
        let connections = connections.min(self.connections.len());
        self.buffers.bodies = Bodies::Hashed(vec![Sha256::new(); connections]);
        let service = Histogram::new(SERVICE_DIGITS).expect("three digits are a valid precision");
        self.run(connections, Until::FirstAnswer, service)?;
        match std::mem::replace(&mut self.buffers.bodies, Bodies::Discarded) {
            Bodies::Discarded => Ok(()),
            Bodies::Hashed(digests) => {
                let right = digests.into_iter().all(|digest| digest.finalize()[..] == content[..]);
                if right { Ok(()) } else { Err(Fault::Content) }
            }
        }
    }

    fn run(&mut self, connections: usize, until: Until, service: Histogram<u64>) -> Result<Tally, Fault> {
        let now = Instant::now();
        let mut tally = Tally { answers: 0, wire_bytes: 0, service, last_answer: now, busy: connections };
        for index in 0..connections {
            self.start(index, Instant::now())?;
        }
        let rest = Rest::between(connections);
        let mut last_event = now;
        while tally.busy > 0 {
            if self.wait()? {
                last_event = Instant::now();
            } else if last_event.elapsed() > self.stall {
                return Err(Fault::Stalled { waited: self.stall, owed: tally.busy });
            }
            // The list leaves `self` for the turn: what an event starts may touch every connection.
            let events = std::mem::take(&mut self.events);
            for event in &events {
                self.on_ready(event, until, &mut tally)?;
            }
            self.events = events;
            rest.after(self.events.len());
        }
        Ok(tally)
    }

    /// Waits for events; false when there were none within a turn.
    fn wait(&mut self) -> Result<bool, Fault> {
        self.events.clear();
        match epoll::wait(&self.poller, spare_capacity(&mut self.events), Some(&TURN)) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(Fault::System { doing: "wait for events", errno }),
        }
    }

    fn on_ready(&mut self, event: &Event, until: Until, tally: &mut Tally) -> Result<(), Fault> {
        let index = usize::try_from(event.data.u64()).expect("an index of ours");
        let gone = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let flags = event.flags;
        let peer = if flags.intersects(gone) { Peer::Gone } else { Peer::Open };
        loop {
            let Some(connection) = &mut self.connections[index] else {
                unreachable!("a closed socket has left the epoll instance");
            };
            match connection.advance(index, &self.request, &mut self.buffers, peer)? {
                Advance::Waiting => return Ok(()),
                Advance::Answered(wire_bytes) => {
                    let now = Instant::now();
                    let service = now - connection.started();
                    tally.note(wire_bytes, service, now);
                    match self.request.persistence() {
                        Persistence::KeepAlive if peer == Peer::Gone => return Err(Fault::Closed),
                        Persistence::KeepAlive => return self.next(index, until, tally, now),
                        Persistence::PerRequest => connection.await_end(),
                    }
                }
                Advance::Ended => {
                    self.connections[index] = None;
                    return self.next(index, until, tally, Instant::now());
                }
            }
        }
    }

    /// Asks again, or leaves the connection alone.
    fn next(&mut self, index: usize, until: Until, tally: &mut Tally, now: Instant) -> Result<(), Fault> {
        let again = match until {
            Until::Time(end) => now < end,
            Until::FirstAnswer => false,
        };
        if again {
            return self.start(index, now);
        }
        tally.busy -= 1;
        Ok(())
    }

    fn start(&mut self, index: usize, now: Instant) -> Result<(), Fault> {
        if let Some(connection) = &mut self.connections[index] {
            return connection.start(&self.request, now);
        }
        let mut connection = Connection::open(self.address, now)?;
        connection.start(&self.request, now)?;
        // Registered after the send, so that a request that has left whole costs no event of its own.
        let room = if connection.has_sent() { EventFlags::empty() } else { EventFlags::OUT };
        self.register(index, &connection, room)?;
        self.connections[index] = Some(connection);
        Ok(())
    }

    /// Once per connection. No generation beside the index: a batch holds at most one event per socket, and
    /// closing a socket takes it out of the epoll instance, so no event can outlive its connection.
    fn register(&self, index: usize, connection: &Connection, room: EventFlags) -> Result<(), Fault> {
        let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET | room;
        epoll::add(&self.poller, connection.socket(), EventData::new_u64(index as u64), interest)
            .map_err(Fault::system("register a socket"))
    }
}

impl Tally {
    fn note(&mut self, wire_bytes: u64, service: Duration, now: Instant) {
        self.answers += 1;
        self.wire_bytes += wire_bytes;
        self.last_answer = now;
        let nanoseconds = u64::try_from(service.as_nanos()).unwrap_or(SERVICE_NS_MAX);
        self.service.saturating_record(nanoseconds);
    }
}

/// CPU time of the calling thread, user and system.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

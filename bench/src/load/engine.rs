//! The loop: one thread, edge-triggered epoll.
//!
//! In a **closed** loop each connection has one request in flight, and sends the next one as soon as it is
//! answered. A slow server gets fewer requests, so this measures *service time* and *capacity*. In an
//! **open** loop a schedule decides beforehand when requests are due, and *response time* counts from then,
//! whatever the client or the server did in between (no coordinated omission). The client's own lag is
//! recorded separately.
//!
//! Every answer is checked: status, Content-Length and the number of bytes. Bodies are dropped in the kernel
//! (`MSG_TRUNC`), except in [`Engine::verify`] and [`Engine::fetch`], which look at them and aren't part of any
//! measurement, and bodies in chunks, which have to be read to be counted. Errors
//! on a connection are counted, and the connection is reopened.
//!
//! A turn sends what is due, serves the timers, waits for events, and handles them.

mod check;
mod slot;
mod slow_reader;

use crate::load::class::{Class, Life, Pacing, ReadPace};
use crate::load::connection::{Advance, Bodies, Buffers, Connection, PeerState, Visit};
use crate::load::descriptors;
use crate::load::engine::slot::{Slot, Timer};
use crate::load::error::LoadError;
use crate::load::group::{Group, InFlight, Streams};
use crate::load::outcome::Outcome;
use crate::load::poll_pause::PollPause;
use crate::load::poller::{AHEAD, Poller, thread_cpu};
use crate::load::timers::Timers;
use crate::load::traffic::Answer;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A server that owes an answer and sends nothing for this long hangs.
pub(crate) const STALL: Duration = Duration::from_secs(10);

const EVENTS_MAX: usize = 256;
/// The longest wait of one turn.
const TURN: Duration = Duration::from_millis(250);
const TIMER_SLACK: NonZeroU64 = NonZeroU64::MIN;
/// Connections opened at once: fewer than the backlog of any server.
const OPENED_AT_ONCE: usize = 64;
/// The pause before a connection is reopened after an error.
const REOPEN_PAUSE: Duration = Duration::from_millis(5);
/// After this many failed connects in a row the server counts as gone.
pub const REFUSALS_MAX: u32 = 256;

/// How long the connections go on asking.
#[derive(Clone, Copy)]
enum Stage {
    /// All classes ask, until then.
    Until(Instant),
    /// This class asks once, and the first error of it ends the stage.
    Once(usize),
}

/// A client and its connections to one server.
pub struct Engine {
    poller: Poller,
    address: SocketAddr,
    groups: Vec<Group>,
    slots: Vec<Slot>,
    buffers: Buffers,
    timers: Timers,
    pause: Option<PollPause>,
    seed: u64,
    runs: u64,
    stage: Stage,
    next_due: Option<Instant>,
    /// Connections with an answer, or an end of stream, still to come.
    owed: usize,
    /// Events in this turn of the class that the pause depends on.
    ready: usize,
    refusals: u32,
    stall: Duration,
    /// Whether it busy-polls while an open loop runs.
    busy_polls: bool,
    /// Set from elsewhere when nobody wants to know any more.
    stop: Option<Arc<AtomicBool>>,
    last_event: Instant,
    last_answer: Instant,
    next_sweep: Instant,
}

impl Engine {
    /// An engine with these classes. Connections that live as long as it are opened here, and those of idle
    /// classes ask. Everything random is drawn from `seed`.
    ///
    /// # Errors
    ///
    /// The server refuses a connection or doesn't answer an idle one, or the limit of descriptors is too low.
    pub fn connect(address: SocketAddr, classes: Vec<Class>, seed: u64) -> Result<Engine, LoadError> {
        descriptors::provide(classes.iter().map(|class| class.connections).sum())?;
        let poller = Poller::new()?;
        let now = Instant::now();
        let mut engine = Engine {
            poller,
            address,
            groups: Vec::new(),
            slots: Vec::new(),
            buffers: Buffers::new(),
            timers: Timers::new(),
            pause: PollPause::for_classes(&classes),
            seed,
            runs: 0,
            stage: Stage::Once(0),
            next_due: None,
            owed: 0,
            ready: 0,
            refusals: 0,
            stall: STALL,
            busy_polls: false,
            stop: None,
            last_event: now,
            last_answer: now,
            next_sweep: now,
        };
        for class in classes {
            engine.add(class, now)?;
        }
        Ok(engine)
    }

    fn add(&mut self, class: Class, now: Instant) -> Result<(), LoadError> {
        let group = self.groups.len();
        let slots = self.slots.len()..self.slots.len() + class.connections;
        let idle = class.pacing == Pacing::Idle;
        let kept = class.life == Life::KeepAlive;
        assert!(kept || !idle, "an idle class keeps its connections");
        self.slots.extend(slots.clone().map(|_| Slot::new(group, now)));
        self.groups.push(Group::new(class, slots.clone()));
        self.stage = Stage::Once(group);
        if !kept {
            return Ok(());
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        for first in slots.clone().step_by(OPENED_AT_ONCE) {
            let batch = first..slots.end.min(first + OPENED_AT_ONCE);
            for index in batch.clone() {
                self.open(index)?;
            }
            self.last_event = Instant::now();
            while batch.clone().any(|index| self.slots[index].is_connecting()) {
                self.turn(&mut events)?;
            }
            if idle {
                for index in batch {
                    self.ask_next(index, None, Instant::now())?;
                }
                self.turns()?;
            }
        }
        Ok(())
    }

    /// A shorter time than `STALL` before a silent server or connection is given up.
    #[must_use]
    pub fn with_stall(mut self, stall: Duration) -> Engine {
        self.stall = stall;
        self
    }

    /// Polls without pauses, as other load generators do.
    #[must_use]
    pub(crate) fn without_pause(mut self) -> Engine {
        self.pause = None;
        self
    }

    /// Busy-polls while an open loop has requests in flight or due soon, so that they leave on time and answers
    /// are seen at once. Needs a core of its own: on a shared one it would slow the server down. Polls that find
    /// nothing are counted in [`Outcome::client_spun`].
    #[must_use]
    pub fn with_busy_polling(mut self) -> Engine {
        self.busy_polls = true;
        self
    }

    /// Ends a run with [`LoadError::Stopped`] soon after this has been set.
    #[must_use]
    pub(crate) fn with_stop(mut self, stop: Arc<AtomicBool>) -> Engine {
        self.stop = Some(stop);
        self
    }

    /// One of several engines with constant arrivals: its requests are due this share of a gap earlier, 0 to 1, so that they
    /// fall between the others'.
    #[must_use]
    pub(crate) fn with_phase(mut self, phase: f64) -> Engine {
        self.groups.iter_mut().for_each(|group| group.phase = phase);
        self
    }

    /// Whether class number `class`, an open loop, keeps still in the runs that follow.
    pub fn hold_back(&mut self, class: usize, is_held_back: bool) {
        let group = &mut self.groups[class];
        assert!(matches!(group.class.pacing, Pacing::Open { .. }), "only a schedule is held back");
        group.is_held_back = is_held_back;
    }

    /// Lets all classes ask for as long as `window`, then waits for the answers that are still owed; slow
    /// readers' aren't waited for, but go on in the next run. `timeline` is the length of the slices in which
    /// answers are counted, too. Called again, it goes on with the same connections, and with the next of the
    /// schedules that the seed decides.
    ///
    /// # Errors
    ///
    /// What makes going on pointless: [`LoadError::Stalled`], [`LoadError::Refused`], a machine at its limits. All
    /// else that goes wrong is counted in the outcome.
    pub fn run(&mut self, window: Duration, timeline: Option<Duration>) -> Result<Outcome, LoadError> {
        self.buffers.bodies = Bodies::Discarded;
        // The default slack of 50 µs would stretch every pause (prctl(2), PR_SET_TIMERSLACK).
        set_current_timer_slack(Some(TIMER_SLACK)).map_err(LoadError::system("set the timer slack"))?;
        self.poller.take_spun();
        let cpu_before = thread_cpu();
        let start = Instant::now();
        let end = start + window;
        self.stage = Stage::Until(end);
        self.last_answer = start;
        for (number, group) in self.groups.iter_mut().enumerate() {
            group.begin(start, window, timeline, Streams::of(self.seed, self.runs, number));
        }
        self.runs += 1;
        self.start_all()?;
        self.turns()?;
        let stopped = Instant::now();
        let until = if stopped < end { self.last_answer } else { self.last_answer.max(end) };
        self.next_due = None;
        Ok(Outcome {
            elapsed: until - start,
            client_cpu: thread_cpu().saturating_sub(cpu_before),
            client_spun: self.poller.take_spun(),
            classes: self.groups.iter_mut().map(|group| group.finish(end)).collect(),
            skew: Duration::ZERO,
            bound: None,
        })
    }

    /// The first requests of the closed loops.
    fn start_all(&mut self) -> Result<(), LoadError> {
        for number in 0..self.groups.len() {
            let slots = self.groups[number].slots.clone();
            match self.groups[number].class.pacing {
                Pacing::Closed => {
                    for index in slots {
                        if self.slots[index].is_idle() {
                            self.ask_next(index, None, Instant::now())?;
                        }
                    }
                }
                Pacing::Open { .. } => {
                    let idle = slots.filter(|index| self.slots[*index].is_idle());
                    self.groups[number].free.extend(idle);
                }
                Pacing::Idle => {}
            }
        }
        self.note_next_due();
        Ok(())
    }

    fn turns(&mut self) -> Result<(), LoadError> {
        self.last_event = Instant::now();
        self.next_sweep = self.last_event + self.stall / 4;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = Instant::now();
            if self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(LoadError::Stopped);
            }
            if self.next_due.is_some_and(|due| due <= now) {
                self.release(now)?;
            }
            while let Some(index) = self.timers.take_due(now) {
                self.on_timer(index)?;
            }
            if now >= self.next_sweep {
                self.sweep(now)?;
            }
            if self.is_over(now) {
                return Ok(());
            }
            self.turn(&mut events)?;
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.owed == 0
            && match self.stage {
                Stage::Once(_) => true,
                Stage::Until(end) => now >= end || self.is_used_up(),
            }
    }

    /// Whether every foreground class has used up its requests.
    fn is_used_up(&self) -> bool {
        let mut foreground = self.groups.iter().filter(|group| group.is_foreground()).peekable();
        foreground.peek().is_some() && foreground.all(|group| group.shown.used_up && group.waiting.is_empty())
    }

    /// Waits for events or the next timer, and handles the events, for which there is room in `events`.
    fn turn(&mut self, events: &mut Vec<Event>) -> Result<(), LoadError> {
        let before = Instant::now();
        let wake = self.next_wake(before);
        let awake = self.awake_from(before, wake);
        let woken = self.poller.until(wake, awake, events)?;
        let now = Instant::now();
        if woken {
            self.last_event = now;
        } else if now.saturating_duration_since(self.last_event) > self.stall && self.is_waiting() {
            return Err(LoadError::Stalled { waited: self.stall, owed: self.owed });
        }
        self.ready = 0;
        for event in &*events {
            self.on_ready(event)?;
        }
        if let Some(pause) = self.pause {
            pause.after(self.ready);
        }
        Ok(())
    }

    /// Whether an answer or a handshake is outstanding.
    fn is_waiting(&self) -> bool {
        self.owed > 0 || self.slots.iter().any(Slot::is_connecting)
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let mut wake = now + TURN.min(self.stall);
        if let Stage::Until(end) = self.stage
            && now < end
        {
            wake = wake.min(end);
        }
        for due in [self.next_due, self.timers.next()].into_iter().flatten() {
            wake = wake.min(due);
        }
        wake
    }

    /// When to start busy-polling; `None` to sleep until `wake`.
    fn awake_from(&self, now: Instant, wake: Instant) -> Option<Instant> {
        let is_open = |group: &Group| matches!(group.class.pacing, Pacing::Open { .. });
        let times_count = matches!(self.stage, Stage::Until(_)) && self.groups.iter().any(is_open);
        (self.busy_polls && times_count).then(|| if self.owed > 0 { now } else { wake - AHEAD })
    }

    fn note_next_due(&mut self) {
        self.next_due = self.groups.iter().filter_map(Group::next_due).min();
    }

    fn release(&mut self, now: Instant) -> Result<(), LoadError> {
        for number in 0..self.groups.len() {
            while let Some(due) = self.groups[number].take_due(now) {
                let group = &mut self.groups[number];
                match group.free.pop_front() {
                    Some(index) => self.ask_next(index, Some((due, due)), Instant::now())?,
                    None => group.waiting.push_back(due),
                }
            }
        }
        self.note_next_due();
        Ok(())
    }

    /// Sends the class's next request. `due`, in an open loop: its intended start, and when a connection was
    /// free for it.
    fn ask_next(
        &mut self,
        index: usize,
        due: Option<(Instant, Instant)>,
        now: Instant,
    ) -> Result<(), LoadError> {
        let group = &mut self.groups[self.slots[index].group];
        match group.pick() {
            Some(request) => {
                let is_conditional = group.is_conditional(request);
                self.ask(index, request, is_conditional, due, now)
            }
            None => Ok(()),
        }
    }

    fn ask(
        &mut self,
        index: usize,
        request: usize,
        is_conditional: bool,
        due: Option<(Instant, Instant)>,
        now: Instant,
    ) -> Result<(), LoadError> {
        let slot = &mut self.slots[index];
        let group = &mut self.groups[slot.group];
        slot.asked += 1;
        let closing = group.class.life.ends_with(slot.asked);
        let (intended, ready) = due.unwrap_or((now, now));
        let is_conditional = is_conditional && !closing;
        let ask = InFlight { request, closing, is_conditional, intended, sent: now, answered: false };
        slot.ask = Some(ask);
        slot.progress = now;
        group.note_sent(now.saturating_duration_since(ready));
        if group.slow_read.is_none() {
            if self.owed == 0 {
                self.last_event = self.last_event.max(now);
            }
            self.owed += 1;
        }
        let begun = match &mut slot.connection {
            Some(connection) => connection.start(group.bytes(&ask)),
            None => self.open_asking(index, &ask),
        };
        match begun {
            Ok(()) => {
                self.start_slow_read(index, now);
                Ok(())
            }
            Err(error) => self.fail(index, error),
        }
    }

    fn open_asking(&mut self, index: usize, ask: &InFlight) -> Result<(), LoadError> {
        let slot = &self.slots[index];
        let group = &self.groups[slot.group];
        let receive_buffer = group.slow_read.map(|slow_read| slow_read.receive_buffer());
        let mut connection = Connection::open(self.address, receive_buffer)?;
        connection.start(group.bytes(ask))?;
        // Registered after the send, so that a request that has left whole costs no event of its own.
        let room = if connection.has_sent() { EventFlags::empty() } else { EventFlags::OUT };
        self.register(index, connection, room)
    }

    fn open(&mut self, index: usize) -> Result<(), LoadError> {
        let receive_buffer =
            self.groups[self.slots[index].group].slow_read.map(|slow_read| slow_read.receive_buffer());
        let connection = Connection::open(self.address, receive_buffer)?;
        self.register(index, connection, EventFlags::OUT)
    }

    /// Once per connection. No generation beside the index: a batch holds at most one event per socket,
    /// closing a socket takes it out of the epoll instance, and one that is opened while a batch is gone
    /// through takes the place only of a connection whose event is the one at hand.
    fn register(&mut self, index: usize, connection: Connection, room: EventFlags) -> Result<(), LoadError> {
        let slot = &mut self.slots[index];
        // A slow reader looks by the clock; that there is something to read mustn't wake it.
        let input = match self.groups[slot.group].class.reading {
            ReadPace::AtOnce => EventFlags::IN,
            ReadPace::Slow { .. } => EventFlags::empty(),
        };
        let interest = input | EventFlags::RDHUP | EventFlags::ET | room;
        epoll::add(self.poller.epoll(), connection.socket(), EventData::new_u64(index as u64), interest)
            .map_err(LoadError::system("register a socket"))?;
        slot.peer = PeerState::Open;
        slot.connection = Some(connection);
        Ok(())
    }

    fn on_ready(&mut self, event: &Event) -> Result<(), LoadError> {
        let index = usize::try_from(event.data.u64()).expect("an index of ours");
        let gone = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let flags = event.flags;
        let peer = if flags.intersects(gone) { PeerState::Gone } else { PeerState::Open };
        let slot = &mut self.slots[index];
        // It failed earlier in this batch.
        let Some(connection) = &slot.connection else {
            return Ok(());
        };
        if self.pause.is_some_and(|pause| pause.group() == slot.group) {
            self.ready += 1;
        }
        slot.peer = peer;
        if self.groups[slot.group].slow_read.is_some() && connection.has_sent() {
            return Ok(());
        }
        self.visit(index, peer, usize::MAX)
    }

    /// Reads at most `budget` bytes from a connection and acts on what came.
    fn visit(&mut self, index: usize, peer: PeerState, budget: usize) -> Result<(), LoadError> {
        let mut left = budget;
        loop {
            match self.advance(index, peer, &mut left) {
                Ok(Advance::Waiting) => {
                    if left < budget {
                        self.slots[index].progress = Instant::now();
                    }
                    return Ok(());
                }
                Ok(Advance::Answered(answer)) => {
                    if !self.on_answer(index, answer)? {
                        return Ok(());
                    }
                }
                Ok(Advance::Ended) => return self.on_end(index),
                Err(error) => return self.fail(index, error),
            }
        }
    }

    fn advance(&mut self, index: usize, peer: PeerState, budget: &mut usize) -> Result<Advance, LoadError> {
        let slot = &mut self.slots[index];
        let group = &mut self.groups[slot.group];
        let (number, is_conditional) =
            slot.ask.as_ref().map_or((0, false), |ask| (ask.request, ask.is_conditional));
        let place = match self.stage {
            Stage::Once(asking) if asking == slot.group => Some(index - group.slots.start),
            Stage::Once(_) | Stage::Until(_) => None,
        };
        let Some(connection) = &mut slot.connection else {
            unreachable!("a place without a connection isn't visited");
        };
        let (request, remembered) = group.request_with_memory(number);
        let buffers = &mut self.buffers;
        let mut visit = Visit { request, is_conditional, remembered, buffers, place, peer, budget: *budget };
        let advance = connection.advance(&mut visit);
        *budget = visit.budget;
        advance
    }

    /// Returns whether the end of the connection is still to come.
    fn on_answer(&mut self, index: usize, answer: Answer) -> Result<bool, LoadError> {
        let now = Instant::now();
        let slot = &mut self.slots[index];
        let (Some(ask), Some(connection)) = (&mut slot.ask, &mut slot.connection) else {
            unreachable!("an answer has a request and a connection");
        };
        self.groups[slot.group].note_answer(ask, answer, now);
        self.last_answer = now;
        self.refusals = 0;
        slot.progress = now;
        if ask.closing || connection.closes() {
            ask.answered = true;
            connection.await_end();
            return Ok(true);
        }
        self.finish_ask(index);
        if self.slots[index].peer == PeerState::Gone {
            self.fail(index, LoadError::Closed)?;
        } else {
            self.next(index, now)?;
        }
        Ok(false)
    }

    /// The server has closed after the connection's last answer.
    fn on_end(&mut self, index: usize) -> Result<(), LoadError> {
        let slot = &mut self.slots[index];
        slot.connection = None;
        slot.asked = 0;
        if slot.ask.is_some_and(|ask| !ask.closing) {
            self.groups[slot.group].shown.reopened += 1;
        }
        self.finish_ask(index);
        self.next(index, Instant::now())
    }

    fn finish_ask(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.ask.take().is_some() && self.groups[slot.group].slow_read.is_none() {
            self.owed -= 1;
        }
    }

    /// What an idle slot does next.
    fn next(&mut self, index: usize, now: Instant) -> Result<(), LoadError> {
        let Stage::Until(end) = self.stage else {
            return Ok(());
        };
        let group = &mut self.groups[self.slots[index].group];
        match group.class.pacing {
            Pacing::Closed if now < end => self.ask_next(index, None, now),
            Pacing::Closed | Pacing::Idle => Ok(()),
            Pacing::Open { .. } => {
                match if now < end { group.waiting.pop_front() } else { None } {
                    Some(due) => self.ask_next(index, Some((due, now)), now)?,
                    None => group.free.push_back(index),
                }
                if self.next_due.is_some_and(|due| due <= now) { self.release(now) } else { Ok(()) }
            }
        }
    }

    /// Counts an error, closes the connection, and schedules its reopening.
    fn fail(&mut self, index: usize, error: LoadError) -> Result<(), LoadError> {
        let now = Instant::now();
        let slot = &mut self.slots[index];
        if error.is_ours() || matches!(self.stage, Stage::Once(asking) if asking == slot.group) {
            return Err(error);
        }
        if let LoadError::System { doing: "connect", errno }
        | LoadError::System { errno: errno @ Errno::CONNREFUSED, .. } = error
        {
            self.refusals += 1;
            if self.refusals > REFUSALS_MAX {
                return Err(LoadError::Refused { attempts: self.refusals, errno });
            }
        }
        self.groups[slot.group].note_error(slot.ask.as_ref(), error, now);
        slot.connection = None;
        slot.asked = 0;
        if slot.ask.is_none() {
            self.groups[slot.group].free.retain(|free| *free != index);
        }
        if slot.timer.replace(Timer::Reopen).is_none() {
            self.timers.set(now + REOPEN_PAUSE, index);
        }
        self.finish_ask(index);
        Ok(())
    }

    fn on_timer(&mut self, index: usize) -> Result<(), LoadError> {
        let now = Instant::now();
        match self.slots[index].timer.take() {
            None => Ok(()),
            Some(Timer::Read) => self.read_slowly(index, now),
            // A check of the content has been quicker.
            Some(Timer::Reopen) if self.slots[index].ask.is_some() => Ok(()),
            Some(Timer::Reopen) => match self.groups[self.slots[index].group].class.pacing {
                Pacing::Idle => self.ask_next(index, None, now),
                Pacing::Closed | Pacing::Open { .. } => self.next(index, now),
            },
        }
    }

    /// Gives up connections that received nothing for too long while others did.
    fn sweep(&mut self, now: Instant) -> Result<(), LoadError> {
        self.next_sweep = now + self.stall / 4;
        // If no connection gets anything, the server has stalled.
        if now.saturating_duration_since(self.last_event) > self.stall {
            return Ok(());
        }
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.ask.is_some() && now.saturating_duration_since(slot.progress) > self.stall {
                self.fail(index, LoadError::Timeout { waited: self.stall })?;
            }
        }
        Ok(())
    }
}

//! A class at work: what it asks next and when, and what it has shown so far.

use crate::load::class::{Class, Pacing, Picker, ReadPace};
use crate::load::error::LoadError;
use crate::load::introduction::Introductions;
use crate::load::outcome::{ClassOutcome, record};
use crate::load::remembered::Remembered;
use crate::load::request::Request;
use crate::load::schedule::Schedule;
use crate::load::traffic::{Answer, Traffic};
use crate::random::Random;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How much a slow reader takes at once, if its rate allows that.
const READ_BYTES: u64 = 16 * 1024;
/// Two reads of a connection are at least this far apart.
const READ_PERIOD_MIN: Duration = Duration::from_millis(20);

#[derive(Clone, Copy)]
pub(crate) struct InFlight {
    pub(crate) request: usize,
    /// Whether it is the last one of its connection.
    pub(crate) closing: bool,
    /// Whether it asks if the file is still the same.
    pub(crate) is_conditional: bool,
    /// When it was due; in a closed loop, when it left.
    pub(crate) intended: Instant,
    pub(crate) sent: Instant,
    /// Whether only the end of the connection is still owed.
    pub(crate) answered: bool,
}

/// How much a slow reader takes, and how often.
#[derive(Clone, Copy)]
pub(crate) struct SlowRead {
    pub(crate) bytes: usize,
    pub(crate) period: Duration,
}

impl SlowRead {
    fn at(bytes_per_second: u64) -> SlowRead {
        assert!(bytes_per_second > 0, "a slow reader reads");
        let period = Duration::from_secs_f64(READ_BYTES as f64 / bytes_per_second as f64);
        if period >= READ_PERIOD_MIN {
            return SlowRead { bytes: usize::try_from(READ_BYTES).unwrap_or(usize::MAX), period };
        }
        let bytes = u128::from(bytes_per_second) * READ_PERIOD_MIN.as_micros() / 1_000_000;
        SlowRead { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), period: READ_PERIOD_MIN }
    }

    /// Room for two reads: one is taken while the other arrives.
    pub(crate) fn receive_buffer(self) -> usize {
        2 * self.bytes
    }
}

/// The random streams of a class in one run. They depend only on these numbers, so every server gets the
/// same.
pub(crate) struct Streams {
    pub(crate) times: Random,
    pub(crate) picks: Random,
}

impl Streams {
    /// Those of the `run`-th run of an engine with this seed, for its class number `class`; both from 0.
    pub(crate) fn of(seed: u64, run: u64, class: usize) -> Streams {
        let seed = Random::stream(Random::stream(seed, run).draw(), class as u64).draw();
        Streams { times: Random::stream(seed, 0), picks: Random::stream(seed, 1) }
    }
}

pub(crate) struct Group {
    pub(crate) class: Class,
    pub(crate) slots: Range<usize>,
    pub(crate) slow_read: Option<SlowRead>,
    picker: Picker,
    /// One per request where some are conditional; else none.
    remembered: Vec<Remembered>,
    schedule: Option<Schedule>,
    /// Open loop: idle connections, the longest idle first.
    pub(crate) free: VecDeque<usize>,
    /// Open loop: intended starts of requests that wait for a free connection.
    pub(crate) waiting: VecDeque<Instant>,
    start: Instant,
    slice: Option<Duration>,
    /// Constant arrivals are this share of a gap earlier.
    pub(crate) phase: f64,
    /// Whether it keeps still, whatever the others do.
    pub(crate) is_held_back: bool,
    /// Of a class that introduces what it asks for.
    introductions: Option<Introductions>,
    pub(crate) shown: ClassOutcome,
}

impl Group {
    pub(crate) fn new(class: Class, slots: Range<usize>) -> Group {
        let slow_read = match class.reading {
            ReadPace::AtOnce => None,
            ReadPace::Slow { bytes_per_second } => Some(SlowRead::at(bytes_per_second)),
        };
        let count = if class.asks.has_conditions() { class.asks.requests().len() } else { 0 };
        Group {
            picker: Picker::new(class.asks.clone()),
            remembered: (0..count).map(|_| Remembered::default()).collect(),
            shown: ClassOutcome::new(&class.name, false),
            class,
            slots,
            slow_read,
            schedule: None,
            free: VecDeque::new(),
            waiting: VecDeque::new(),
            start: Instant::now(),
            slice: None,
            phase: 0.0,
            is_held_back: false,
            introductions: None,
        }
    }

    /// Begins a run: `streams` decide when it asks, and for what.
    pub(crate) fn begin(
        &mut self,
        start: Instant,
        window: Duration,
        slice: Option<Duration>,
        Streams { times, picks }: Streams,
    ) {
        self.picker.begin(picks);
        self.schedule = match &self.class.pacing {
            Pacing::Open { per_second, arrivals, steps } if !self.is_held_back => {
                Some(Schedule::new(*per_second, *arrivals, steps, window, times).earlier(self.phase))
            }
            Pacing::Open { .. } | Pacing::Closed | Pacing::Idle => None,
        };
        self.free.clear();
        self.waiting.clear();
        self.start = start;
        self.slice = slice;
        self.shown = ClassOutcome::new(&self.class.name, self.schedule.is_some());
        let is_negotiated = self.class.asks.requests()[0].choice().is_some();
        self.shown.traffic = is_negotiated.then(Traffic::default);
        let asks = &self.class.asks;
        self.introductions = asks.introduces().then(|| Introductions::new(asks.requests().len()));
        self.note_used_up();
    }

    /// Whether a run lasts until this class is done: idle and slow classes don't count.
    pub(crate) fn is_foreground(&self) -> bool {
        self.class.pacing != Pacing::Idle && self.slow_read.is_none()
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.schedule.as_ref()?.next().map(|due| self.start + due)
    }

    /// Takes the next request that is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next_due().filter(|due| *due <= now)?;
        self.shown.offered += 1;
        if let Some(schedule) = &mut self.schedule {
            schedule.advance();
        }
        Some(due)
    }

    /// The number of the next request; `None` when none is left.
    pub(crate) fn pick(&mut self) -> Option<usize> {
        let picked = self.picker.pick();
        self.note_used_up();
        picked
    }

    /// When the requests are used up, those that still wait for a connection never existed.
    fn note_used_up(&mut self) {
        if self.picker.is_used_up() {
            self.shown.used_up = true;
            self.shown.offered -= self.waiting.len() as u64;
            self.waiting.clear();
            self.schedule = None;
        }
    }

    /// Whether the request with this number is to ask with validators, and can.
    pub(crate) fn is_conditional(&mut self, number: usize) -> bool {
        self.picker.is_conditional() && self.remembered[number].again().is_some()
    }

    /// The bytes of a request.
    pub(crate) fn bytes(&self, ask: &InFlight) -> &[u8] {
        let again = self.remembered.get(ask.request).and_then(Remembered::again);
        match again.filter(|_| ask.is_conditional) {
            Some(again) => again,
            None => self.request(ask.request).bytes(ask.closing),
        }
    }

    pub(crate) fn request(&self, number: usize) -> &Request {
        &self.picker.asks().requests()[number]
    }

    /// A request, and where its file's validators are kept.
    pub(crate) fn request_with_memory(&mut self, number: usize) -> (&Request, Option<&mut Remembered>) {
        (&self.picker.asks().requests()[number], self.remembered.get_mut(number))
    }

    pub(crate) fn note_sent(&mut self, late: Duration) {
        match &mut self.shown.lag {
            Some(lag) => record(lag, late),
            None => self.shown.offered += 1,
        }
    }

    pub(crate) fn note_answer(&mut self, ask: &InFlight, answer: Answer, now: Instant) {
        self.shown.answers += 1;
        self.shown.wire_bytes += answer.wire_bytes();
        if let Some(traffic) = &mut self.shown.traffic {
            let is_text =
                self.picker.asks().requests()[ask.request].choice().is_some_and(|choice| choice.is_text);
            traffic.note(answer, is_text);
        }
        if let Some(introductions) = &mut self.introductions {
            introductions.note(ask.request, answer, now.saturating_duration_since(self.start));
        }
        self.note_time(ask, now);
        if let Some(slice) = self.slice {
            let number = (now - self.start).as_nanos() / slice.as_nanos().max(1);
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            if number >= self.shown.timeline.len() {
                self.shown.timeline.resize(number + 1, 0);
            }
            self.shown.timeline[number] += 1;
        }
    }

    /// A failed request stays in the record with the time until its failure. After the answer, an error is
    /// only counted.
    pub(crate) fn note_error(&mut self, ask: Option<&InFlight>, error: LoadError, now: Instant) {
        self.shown.note_error(error);
        if let Some(ask) = ask.filter(|ask| !ask.answered) {
            self.note_time(ask, now);
        }
    }

    fn note_time(&mut self, ask: &InFlight, now: Instant) {
        record(&mut self.shown.service, now.saturating_duration_since(ask.sent));
        if let Some(response) = &mut self.shown.response {
            record(response, now.saturating_duration_since(ask.intended));
        }
    }

    /// Ends a run. Requests that still wait for a connection count as unanswered, with a wait until `end`.
    pub(crate) fn finish(&mut self, end: Instant) -> ClassOutcome {
        self.schedule = None;
        for intended in self.waiting.drain(..) {
            self.shown.unanswered += 1;
            if let Some(response) = &mut self.shown.response {
                record(response, end.saturating_duration_since(intended));
            }
        }
        self.shown.introduction = self.introductions.take().map(Introductions::shown);
        std::mem::replace(&mut self.shown, ClassOutcome::new(&self.class.name, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_reads_make_the_rate() {
        for rate in [1_000, 16_384, 65_536, 10_000_000] {
            let slow_read = SlowRead::at(rate);
            let made = slow_read.bytes as f64 / slow_read.period.as_secs_f64();
            assert!((made / rate as f64 - 1.0).abs() < 1e-3, "{rate}: {made}");
            assert!(slow_read.period >= READ_PERIOD_MIN);
        }
    }
}

//! Progress: whether a client takes what it is sent.
//!
//! What the kernel takes from a server says little of the client. Buffers grow to megabytes, and room in one is only
//! told of when a third of it is free. So, where an answer takes its time, the socket is asked what the client's kernel
//! has acknowledged: [`LOOKS`] times in every send timeout.

use std::time::{Duration, Instant};

use crate::machine::context::Timeouts;

/// So many looks are taken at a slow client in every send timeout. The client is given up when none of so many in a row
/// has seen progress: at least a send timeout after the last, and an eighth of it later at most.
pub const LOOKS: u32 = 8;

/// A look that comes late counts for no more than so many: if the server itself stood still for an hour, that isn't the
/// client's fault.
const LATE_LOOKS_MAX: u32 = 3;

/// A client that takes fewer bytes per second than this is given up, unless
/// [`Config::send_rate_min`](crate::Config::send_rate_min) says something else. It is a twentieth of what a modem gave:
/// who takes less isn't reading, but holding a connection. (IIS has 240, `minBytesPerSecond`; Apache asks 500 of those
/// who send, `RequestReadTimeout`.)
pub const SEND_RATE_MIN: u64 = 256;

/// The rate is an average over so many send timeouts.
pub const RATE_TIMEOUTS: u32 = 4;

/// What a socket knows of the bytes that it was given to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// So many bytes has the client's kernel acknowledged since the connection began.
    pub acknowledged: u64,
    /// All of them: nothing waits to be sent or acknowledged.
    pub is_complete: bool,
}

/// What the looks at one client have seen.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When the last look was taken.
    looked: Instant,
    /// Bytes that the kernel has taken since the first look.
    taken: u64,
    taken_before: u64,
    delivered_before: u64,
    /// For how long the looks have seen nothing move.
    still: Duration,
    /// For how long the client had something to take since the rate was last judged, and what it had taken by then.
    rated: Duration,
    rate_from: u64,
}

impl Progress {
    /// Begins with a first look. There is nothing to compare it with, so the client is believed.
    pub(crate) fn begin(now: Instant, delivery: Option<Delivery>) -> Progress {
        let delivered = delivery.map_or(0, |delivery| delivery.acknowledged);
        Progress {
            looked: now,
            taken: 0,
            taken_before: 0,
            delivered_before: delivered,
            still: Duration::ZERO,
            rated: Duration::ZERO,
            rate_from: delivered,
        }
    }

    /// The kernel has taken so many bytes.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.taken += bytes;
    }

    /// One more look. False if the client is given up. Of a socket that can't tell, what it takes is all that is known.
    pub(crate) fn look(&mut self, now: Instant, delivery: Option<Delivery>, timeouts: &Timeouts) -> bool {
        let since = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        let since = since.min(timeouts.look() * LATE_LOOKS_MAX);
        let delivered = delivery.map_or(self.taken, |delivery| delivery.acknowledged);
        let has_moved = self.taken != self.taken_before || delivered != self.delivered_before;
        (self.taken_before, self.delivered_before) = (self.taken, delivered);
        self.still = if has_moved { Duration::ZERO } else { self.still + since };
        // A client that has taken everything waits for the server.
        if delivery.is_none_or(|delivery| !delivery.is_complete) {
            self.rated += since;
        }
        self.still < timeouts.look() * LOOKS && self.is_fast_enough(delivered, timeouts)
    }

    /// Judges the rate, if it is time to.
    fn is_fast_enough(&mut self, delivered: u64, timeouts: &Timeouts) -> bool {
        if self.rated < timeouts.look() * LOOKS * RATE_TIMEOUTS {
            return true;
        }
        let required = u128::from(timeouts.send_rate_min) * self.rated.as_millis() / 1000;
        let taken = u128::from(delivered - self.rate_from);
        (self.rated, self.rate_from) = (Duration::ZERO, delivered);
        taken >= required
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        send: Duration::from_secs(30),
        send_rate_min: SEND_RATE_MIN,
        linger: Duration::from_secs(30),
    };
    /// What the least rate comes to between two looks.
    const LOOK_BYTES: u64 = SEND_RATE_MIN * TIMEOUTS.send.as_secs() / LOOKS as u64;

    fn owing(acknowledged: u64) -> Option<Delivery> {
        Some(Delivery { acknowledged, is_complete: false })
    }

    fn begin(delivery: Option<Delivery>) -> Progress {
        Progress::begin(Instant::now(), delivery)
    }

    /// How many looks a client survives of which each sees this much more, at most a thousand.
    fn looks(progress: &mut Progress, mut each: impl FnMut(u32, &mut Progress) -> Option<Delivery>) -> u32 {
        let survived = |look: &u32| {
            let delivery = each(*look, progress);
            progress.look(progress.looked + TIMEOUTS.look(), delivery, &TIMEOUTS)
        };
        u32::try_from((1..=1000).take_while(survived).count()).expect("a thousand")
    }

    #[test]
    fn who_takes_nothing_is_given_up_after_a_timeout() {
        for delivery in [owing(0), owing(70_000), None, Some(Delivery { acknowledged: 9, is_complete: true })]
        {
            assert_eq!(looks(&mut begin(delivery), |_, _| delivery), LOOKS - 1, "{delivery:?}");
        }
    }

    #[test]
    fn each_progress_starts_the_timeout_again() {
        let moved = |look: u32| u64::from(look / (LOOKS - 1)) * 100_000;
        assert_eq!(looks(&mut begin(owing(0)), |look, _| owing(moved(look))), 1000);
        // Bytes that the kernel takes are progress, too, whatever the socket can tell.
        for delivery in [None, owing(0)] {
            let mut progress = begin(delivery);
            let survived = looks(&mut progress, |look, progress| {
                progress.sent(u64::from(look == 5));
                delivery
            });
            assert_eq!(survived, 5 + LOOKS - 1, "{delivery:?}");
        }
    }

    #[test]
    fn less_than_the_least_rate_is_no_progress() {
        let window = LOOKS * RATE_TIMEOUTS;
        let steady = |bytes: u64| looks(&mut begin(owing(7)), |look, _| owing(7 + u64::from(look) * bytes));
        assert_eq!(steady(1), window - 1);
        assert_eq!(steady(LOOK_BYTES - 1), window - 1);
        assert_eq!(steady(LOOK_BYTES), 1000);
        // The same of a socket that can't tell.
        let untold = |bytes: u64| {
            looks(&mut begin(None), |_, progress| {
                progress.sent(bytes);
                None
            })
        };
        assert_eq!(untold(LOOK_BYTES - 1), window - 1);
        assert_eq!(untold(LOOK_BYTES), 1000);
    }

    #[test]
    fn the_rate_is_an_average() {
        let burst = LOOK_BYTES * u64::from(LOOKS);
        let every = LOOKS - 1;
        let bursts = |look: u32| u64::from(look / every) * burst;
        assert_eq!(looks(&mut begin(owing(0)), |look, _| owing(bursts(look))), 1000);
    }

    /// What was taken before is no credit for later.
    #[test]
    fn each_average_begins_anew() {
        let window = LOOKS * RATE_TIMEOUTS;
        let taken = |look: u32| u64::from(look.min(window)) * LOOK_BYTES * 2 + u64::from(look);
        assert_eq!(looks(&mut begin(owing(7)), |look, _| owing(7 + taken(look))), 2 * window - 1);
    }

    #[test]
    fn what_is_owed_by_the_server_does_not_count() {
        let mut progress = begin(owing(0));
        let survived = looks(&mut progress, |look, _| {
            Some(Delivery { acknowledged: u64::from(look), is_complete: true })
        });
        assert_eq!(survived, 1000);
    }

    /// How many looks that come so late a client survives that takes nothing.
    #[test]
    fn a_late_look_counts_for_its_time_but_a_pause_does_not() {
        let survives = |quarters: u32| {
            let mut progress = begin(owing(0));
            (1..)
                .take_while(|_| {
                    progress.look(progress.looked + TIMEOUTS.look() / 4 * quarters, owing(0), &TIMEOUTS)
                })
                .count()
        };
        for (quarters, survived) in
            [(1, 31), (4, 7), (5, 6), (6, 5), (8, 3), (11, 2), (12, 2), (1_000_000, 2)]
        {
            assert_eq!(survives(quarters), survived, "{quarters} quarters of the time between two looks");
        }
    }
}

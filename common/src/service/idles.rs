//! Which of a worker's connections gives way when no place is left and a new one waits: the one idle longest.
//!
//! Nothing is kept in order while there is room: that would cost every request. A connection's deadline says how long
//! it has been idle. Only when a place is sought are all connections looked at, once, and those that have been idle
//! longest are noted. Whoever isn't among them becomes idle later than they did, so the note stays right: of its
//! connections those drop out that have had a request since, and what is left is still in order.

use std::time::{Duration, Instant};

use crate::service::places::Seat;
use crate::service::slots::Token;
use crate::service::socket::ACCEPT_PAUSE;

/// A connection that hasn't been idle for so long doesn't give way: its next request may be on its way, and so may the
/// first one of a connection that was just accepted.
pub const IDLE_MIN: Duration = Duration::from_millis(250);
/// Connections noted by one look at all of them.
const NOTED_MAX: usize = 1024;
/// The least time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The connections of one worker that have been idle longest.
#[derive(Debug)]
pub struct Idles {
    idle_timeout: Duration,
    /// When they expire, latest first.
    noted: Vec<(Instant, Token)>,
    /// None expires as idle before this moment.
    until: Instant,
    looked: Option<Instant>,
    /// Whether the worker has said that it seeks a place.
    seeks: bool,
    /// It is of no use to look again before this moment, or before the bell rings.
    pause: Option<Instant>,
}

impl Idles {
    /// For connections that expire when they have been idle for `idle_timeout`.
    #[must_use]
    pub fn new(idle_timeout: Duration, now: Instant) -> Idles {
        Idles { idle_timeout, noted: Vec::new(), until: now, looked: None, seeks: false, pause: None }
    }

    /// Whether it is of no use to look now.
    #[must_use]
    pub fn pauses(&self, now: Instant) -> bool {
        self.pause.is_some_and(|pause| pause > now)
    }

    /// How long to wait before looking again; `None` if no place is sought.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.pause.map(|pause| pause.saturating_duration_since(now))
    }

    /// The bell has rung.
    pub fn wake(&mut self, seat: &Seat) {
        seat.answer();
        self.pause = None;
    }

    /// Says whether a connection waits here for a place; or, if that `is_exhausted`, for something else that one which
    /// closes sets free.
    pub fn seek(&mut self, seat: &Seat, seeks: bool, is_exhausted: bool) {
        if seeks || self.seeks {
            seat.seek(seeks);
        }
        self.seeks = seeks;
        if seeks && !is_exhausted && seat.left() > 0 {
            // It became free before it was sought.
            self.seek(seat, false, false);
        }
    }

    /// Whether a connection waits here for a place.
    #[must_use]
    pub fn seeks(&self) -> bool {
        self.seeks
    }

    /// The connection that is to give way to one that waits in any worker. `None` if that isn't for this worker to do:
    /// then the right one has been asked, or nobody has been idle long enough. `all` lists the worker's idle
    /// connections and when they expire; `is_idle` says whether one still is idle, and expires at the same moment.
    pub fn give_way(
        &mut self,
        seat: &Seat,
        now: Instant,
        all: impl FnOnce(&mut Vec<(Instant, Token)>),
        is_idle: impl Fn(Token, Instant) -> bool,
    ) -> Option<Token> {
        self.pause = None;
        if !seat.is_sought() {
            return None;
        }
        let own = self.longest(now, all, is_idle);
        seat.say_idle_until(self.until);
        let (worker, until) = seat.longest_idle();
        let mature = until + IDLE_MIN;
        let is_mature = mature <= now + self.idle_timeout;
        let given = own.filter(|_| is_mature && worker == seat.worker());
        // Whatever happens next rings the bell; the pause is for what doesn't happen.
        self.pause = Some(now + ACCEPT_PAUSE);
        if given.is_some() {
            self.noted.pop();
        } else if !is_mature {
            self.pause = self.pause.min(mature.checked_sub(self.idle_timeout));
        } else if worker == seat.worker() {
            self.pause = Some(now + LOOK_INTERVAL);
        } else {
            seat.ask(worker);
        }
        given
    }

    /// The connection that has been idle longest, if one is noted or it is time to look.
    fn longest(
        &mut self,
        now: Instant,
        all: impl FnOnce(&mut Vec<(Instant, Token)>),
        is_idle: impl Fn(Token, Instant) -> bool,
    ) -> Option<Token> {
        if let Some(token) = self.first_noted(&is_idle) {
            return Some(token);
        }
        if self.looked.is_some_and(|looked| now < looked + LOOK_INTERVAL) {
            return None;
        }
        self.looked = Some(now);
        all(&mut self.noted);
        if self.noted.len() > NOTED_MAX {
            self.noted.select_nth_unstable_by_key(NOTED_MAX, |(until, _)| *until);
            self.noted.truncate(NOTED_MAX);
        }
        // Those of one turn of a loop have the same deadline; the lower slot is as a rule the older connection.
        self.noted.sort_unstable_by_key(|(until, token)| std::cmp::Reverse((*until, token.slot)));
        // Whoever becomes idle from now on expires later than that.
        self.until = now + self.idle_timeout;
        self.first_noted(&is_idle)
    }

    fn first_noted(&mut self, is_idle: impl Fn(Token, Instant) -> bool) -> Option<Token> {
        while let Some((until, token)) = self.noted.last().copied() {
            self.until = until;
            if is_idle(token, until) {
                return Some(token);
            }
            self.noted.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::service::places::Places;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

    fn token(slot: u32) -> Token {
        Token { slot, generation: 0 }
    }

    /// A worker, and since when its connections have been idle; by their slots.
    struct Bench {
        seat: Seat,
        idles: Idles,
        since: HashMap<u32, Instant>,
    }

    impl Bench {
        fn new(places: &Arc<Places>, worker: usize, now: Instant) -> Bench {
            let (seat, idles) = (places.seat(worker), Idles::new(IDLE_TIMEOUT, now));
            Bench { seat, idles, since: HashMap::new() }
        }

        fn give_way(&mut self, now: Instant) -> Option<u32> {
            let since = &self.since;
            let all = |noted: &mut Vec<_>| {
                noted.extend(since.iter().map(|(slot, since)| (*since + IDLE_TIMEOUT, token(*slot))));
            };
            let is_idle = |token: Token, until| {
                since.get(&token.slot).is_some_and(|since| *since + IDLE_TIMEOUT == until)
            };
            let given = self.idles.give_way(&self.seat, now, all, is_idle)?.slot;
            self.since.remove(&given);
            Some(given)
        }
    }

    fn full(workers: usize) -> (Arc<Places>, Instant) {
        let places = Arc::new(Places::new(1, workers).expect("eventfds"));
        assert!(places.seat(0).take());
        (places, Instant::now())
    }

    #[test]
    fn nobody_gives_way_unless_somebody_waits() {
        let (places, start) = full(1);
        let mut worker = Bench::new(&places, 0, start);
        worker.since.insert(1, start);
        let now = start + IDLE_MIN * 2;
        assert_eq!(worker.give_way(now), None);
        assert_eq!(worker.idles.wait(now), None, "there is nothing to wait for");
        worker.idles.seek(&worker.seat, true, false);
        assert_eq!(worker.give_way(now), Some(1));
        assert!(worker.idles.pauses(now), "until its place is free");
    }

    #[test]
    fn a_place_that_is_free_already_is_not_sought() {
        let (places, start) = full(1);
        let mut worker = Bench::new(&places, 0, start);
        worker.seat.free();
        worker.idles.seek(&worker.seat, true, false);
        assert!(!worker.idles.seeks() && !worker.seat.is_sought());
        worker.idles.seek(&worker.seat, true, true);
        assert!(worker.idles.seeks() && worker.seat.is_sought(), "a place alone isn't enough");
    }

    #[test]
    fn the_longest_idle_go_first_however_many_there_are() {
        let (places, start) = full(1);
        let mut worker = Bench::new(&places, 0, start);
        let count = u32::try_from(NOTED_MAX).expect("small") * 3;
        // In no order of slots.
        let nth = |n: u32| n * 1_000_003 % count;
        worker.since.extend((0..count).map(|n| (nth(n), start + Duration::from_micros(u64::from(n)))));
        worker.idles.seek(&worker.seat, true, false);
        let mut now = start + Duration::from_secs(1);
        // Some have a request meanwhile, noted or not, and become the last.
        for n in (0..count).filter(|n| n % 3 == 1) {
            worker.since.insert(nth(n), now + Duration::from_micros(u64::from(n)));
            if n == 1 {
                assert_eq!(worker.give_way(now), Some(nth(0)));
            }
        }
        for n in (2..count).filter(|n| n % 3 != 1) {
            now += LOOK_INTERVAL;
            assert_eq!(worker.give_way(now), Some(nth(n)), "the {n}th");
        }
        now += IDLE_MIN * 2 + LOOK_INTERVAL;
        assert_eq!(worker.give_way(now), Some(nth(1)));
    }

    #[test]
    fn who_has_just_become_idle_stays() {
        let (places, start) = full(1);
        let mut worker = Bench::new(&places, 0, start);
        worker.since.insert(1, start);
        worker.idles.seek(&worker.seat, true, false);
        let early = start + IDLE_MIN - Duration::from_millis(10);
        assert_eq!(worker.give_way(early), None);
        let wait = worker.idles.wait(early).expect("a moment to look again");
        assert!(wait <= Duration::from_millis(11), "{wait:?}");
        assert_eq!(worker.give_way(early + wait), Some(1));
    }

    #[test]
    fn all_connections_are_not_looked_at_all_the_time() {
        let (places, start) = full(1);
        let mut worker = Bench::new(&places, 0, start);
        worker.idles.seek(&worker.seat, true, false);
        let now = start + Duration::from_secs(1);
        assert_eq!(worker.give_way(now), None, "all are busy");
        worker.since.insert(1, start);
        let soon = now + LOOK_INTERVAL / 2;
        assert_eq!(worker.give_way(soon), None);
        let wait = worker.idles.wait(soon).expect("a moment to look again");
        assert!(wait > Duration::ZERO && wait <= ACCEPT_PAUSE);
        assert_eq!(worker.give_way(now + ACCEPT_PAUSE), Some(1));
    }

    #[test]
    fn the_longest_idle_of_all_workers_goes_first() {
        let (places, start) = full(2);
        let (mut one, mut two) = (Bench::new(&places, 0, start), Bench::new(&places, 1, start));
        let at = |millis| start + Duration::from_millis(millis);
        one.since.extend([(1, at(1)), (4, at(4)), (5, at(5))]);
        two.since.extend([(2, at(2)), (3, at(3))]);
        let mut now = at(1000);
        let mut gone = Vec::new();
        one.idles.seek(&one.seat, true, false);
        for _ in 0..20 {
            now += LOOK_INTERVAL;
            gone.extend(one.give_way(now));
            gone.extend(two.give_way(now));
        }
        assert_eq!(gone, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn two_workers_without_idle_connections_leave_each_other_alone() {
        let (places, start) = full(2);
        let (mut one, mut two) = (Bench::new(&places, 0, start), Bench::new(&places, 1, start));
        one.idles.seek(&one.seat, true, false);
        let mut rung = 0;
        for turn in 0..1000 {
            let now = start + Duration::from_secs(1) + Duration::from_millis(turn);
            for worker in [&mut one, &mut two] {
                assert_eq!(worker.give_way(now), None);
                rung += u32::from(rustix::io::read(worker.seat.bell(), &mut [0; 8]).is_ok());
            }
        }
        assert!(rung <= 10, "{rung} times in a second");
    }
}

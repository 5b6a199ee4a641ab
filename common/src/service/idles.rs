//! Which of a worker's connections gives way when no place is left and a new one waits: the one idle longest; if none is,
//! one that lingers; else one whose request isn't whole. Never one whose answer is under way.
//!
//! Nothing is kept in order while there is room: that would cost every request. A connection's deadline says how long
//! it has been waiting. Only when a place is sought are all connections looked at, once, and those that come first are
//! noted. Whoever isn't among them becomes idle later than they did, so the note of idle ones stays right: of its
//! connections those drop out that have had a request since, and what is left is still in order. The note of others is
//! right until somebody may have been idle for long enough since.

use std::time::{Duration, Instant};

use crate::machine::connection::{Rank, Standing};
use crate::service::places::Seat;
use crate::service::slots::Token;
use crate::service::socket::ACCEPT_PAUSE;

/// A connection that hasn't been idle for so long doesn't give way: its next request may be on its way, and so may the
/// first one of a connection that was just accepted.
pub const IDLE_MIN: Duration = Duration::from_millis(250);
/// A connection that lingers gives way when it has for so long: its client has had time to take the answer.
pub const LINGERING_MIN: Duration = Duration::from_secs(1);
/// A request head that isn't whole gives way when this part of the time for it (`--head-timeout`) is over.
pub const HEAD_SHARE: u32 = 10;
/// Connections noted by one look at all of them.
const NOTED_MAX: usize = 1024;
/// The least time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The connections of one worker that are the first to give way.
#[derive(Debug)]
pub struct Idles {
    /// How long a request head that isn't whole has.
    reading_min: Duration,
    /// The first to give way are the last.
    noted: Vec<(Standing, Token)>,
    /// None stood before this when they were last looked at, and no idle one will.
    first: Standing,
    looked: Instant,
    /// It is of no use to look at all of them before this moment.
    look_at: Instant,
    /// Whether the worker has said that it seeks a place.
    seeks: bool,
    /// It is of no use to look for a place before this moment, or before the bell rings.
    pause: Option<Instant>,
}

impl Idles {
    /// For connections with so much time for a request head.
    #[must_use]
    pub fn new(head_timeout: Duration, now: Instant) -> Idles {
        Idles {
            reading_min: head_timeout / HEAD_SHARE,
            noted: Vec::new(),
            first: Standing { rank: Rank::Idle, since: now },
            looked: now,
            look_at: now,
            seeks: false,
            pause: None,
        }
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
    /// closes sets free. Returns whether there may be a place after all: then nobody will tell of it, so look again.
    pub fn seek(&mut self, seat: &Seat, has_newcomer: bool, is_exhausted: bool) -> bool {
        let seeks = has_newcomer && (is_exhausted || seat.left() == 0);
        if seeks || self.seeks {
            seat.seek(seeks);
        }
        self.seeks = seeks;
        let has_place = has_newcomer && !is_exhausted && seat.left() > 0;
        if has_place && seeks {
            // It became free before it was sought.
            seat.seek(false);
            self.seeks = false;
        }
        has_place
    }

    /// Whether a connection waits here for a place.
    #[must_use]
    pub fn seeks(&self) -> bool {
        self.seeks
    }

    /// The connection that is to give way to one that waits in any worker. `None` if that isn't for this worker to do:
    /// then the right one has been asked, or none has had its time. With it, how it stands. `all` lists the worker's connections that may give way
    /// and how they stand; `stands` says whether one still does.
    pub fn give_way(
        &mut self,
        seat: &Seat,
        now: Instant,
        all: impl FnOnce(&mut Vec<(Standing, Token)>),
        stands: impl Fn(Token, Standing) -> bool,
    ) -> Option<(Standing, Token)> {
        self.pause = None;
        if !seat.is_sought() {
            return None;
        }
        let own = self.first(now, all, stands);
        seat.say_first(self.first, self.looked);
        let mut pause = now + ACCEPT_PAUSE;
        let mut next: Option<(Standing, usize)> = None;
        for (first, worker) in seat.firsts(now, IDLE_MIN) {
            // What others see of it is rounded.
            let first = if worker == seat.worker() { self.first } else { first };
            let ripe_at = ripe_at(first, self.reading_min);
            if ripe_at > now {
                pause = pause.min(ripe_at);
            } else if next.is_none_or(|next| (first, worker) < next) {
                next = Some((first, worker));
            }
        }
        // Whatever happens next rings the bell; the pause is for what doesn't happen.
        let given = match next {
            Some((_, worker)) if worker == seat.worker() => {
                if own.is_none() {
                    pause = pause.min(now + LOOK_INTERVAL);
                }
                own
            }
            Some((_, worker)) => {
                seat.ask(worker);
                pause = now + ACCEPT_PAUSE;
                None
            }
            None => {
                pause = pause.min(self.look_at);
                None
            }
        };
        self.pause = Some(pause);
        given?;
        self.pause = Some(now + ACCEPT_PAUSE);
        self.noted.pop()
    }

    /// The connection that is the first to give way, if one is noted or it is time to look.
    fn first(
        &mut self,
        now: Instant,
        all: impl FnOnce(&mut Vec<(Standing, Token)>),
        stands: impl Fn(Token, Standing) -> bool,
    ) -> Option<Token> {
        if let Some(token) = self.first_noted(now, &stands) {
            return Some(token);
        }
        if now < self.look_at {
            return None;
        }
        self.looked = now;
        self.first = Standing { rank: Rank::Idle, since: now };
        self.look_at = now + IDLE_MIN;
        let mut noted = std::mem::take(&mut self.noted);
        all(&mut noted);
        noted.retain(|(standing, _)| {
            let ripe_at = ripe_at(*standing, self.reading_min);
            if ripe_at > now {
                self.first = self.first.min(*standing);
                self.look_at = self.look_at.min(ripe_at);
            }
            ripe_at <= now
        });
        if !noted.is_empty() {
            // One that doesn't now, because bytes have come from it, may soon.
            self.look_at = now;
        }
        self.look_at = self.look_at.max(now + LOOK_INTERVAL);
        if noted.len() > NOTED_MAX {
            noted.select_nth_unstable_by_key(NOTED_MAX, |(standing, _)| *standing);
            noted.truncate(NOTED_MAX);
        }
        // Those of one turn of a loop have the same deadline; the lower slot is as a rule the older connection.
        noted.sort_unstable_by_key(|(standing, token)| std::cmp::Reverse((*standing, token.slot)));
        self.noted = noted;
        self.first_noted(now, &stands)
    }

    fn first_noted(&mut self, now: Instant, stands: impl Fn(Token, Standing) -> bool) -> Option<Token> {
        while let Some((standing, token)) = self.noted.last().copied() {
            if standing.rank > Rank::Idle && self.looked + IDLE_MIN <= now {
                self.noted.clear();
                return None;
            }
            if stands(token, standing) {
                self.first = standing;
                return Some(token);
            }
            self.noted.pop();
        }
        None
    }
}

/// When a connection that stands like this may give way, if a request has at least `reading_min`.
fn ripe_at(standing: Standing, reading_min: Duration) -> Instant {
    let min = match standing.rank {
        Rank::Idle => IDLE_MIN,
        Rank::Lingering => LINGERING_MIN,
        Rank::Reading => reading_min,
    };
    standing.since + min
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::service::places::Places;

    const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
    const READING_MIN: Duration = Duration::from_millis(1500);

    fn token(slot: u32) -> Token {
        Token { slot, generation: 0 }
    }

    fn idle(since: Instant) -> Standing {
        Standing { rank: Rank::Idle, since }
    }

    /// A worker, and how its connections stand; by their slots.
    struct Bench {
        seat: Seat,
        idles: Idles,
        standings: HashMap<u32, Standing>,
    }

    impl Bench {
        fn new(places: &Arc<Places>, worker: usize, now: Instant) -> Bench {
            let (seat, idles) = (places.seat(worker), Idles::new(HEAD_TIMEOUT, now));
            Bench { seat, idles, standings: HashMap::new() }
        }

        fn insert(&mut self, slot: u32, standing: Standing) {
            self.standings.insert(slot, standing);
        }

        fn give_way(&mut self, now: Instant) -> Option<u32> {
            let standings = &self.standings;
            let all = |noted: &mut Vec<_>| {
                noted.extend(standings.iter().map(|(slot, standing)| (*standing, token(*slot))));
            };
            let stands = |token: Token, standing| standings.get(&token.slot) == Some(&standing);
            let given = self.idles.give_way(&self.seat, now, all, stands)?.1.slot;
            self.standings.remove(&given);
            Some(given)
        }

        /// Who gives way from now on, one after the other, and when.
        fn give_way_from(&mut self, start: Instant, time: Duration) -> Vec<(u32, Duration)> {
            let mut given = Vec::new();
            let mut now = start;
            while now < start + time {
                given.extend(self.give_way(now).map(|slot| (slot, now - start)));
                now += LOOK_INTERVAL / 2;
            }
            given
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
        worker.insert(1, idle(start));
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
        assert!(worker.idles.seek(&worker.seat, true, false), "look again");
        assert!(!worker.idles.seeks() && !worker.seat.is_sought());
        assert!(!worker.idles.seek(&worker.seat, true, true));
        assert!(worker.idles.seeks() && worker.seat.is_sought(), "a place alone isn't enough");
    }

    #[test]
    fn the_longest_idle_go_first_however_many_there_are() {
        let (places, start) = full(1);
        let mut worker = Bench::new(&places, 0, start);
        let count = u32::try_from(NOTED_MAX).expect("small") * 3;
        // In no order of slots.
        let nth = |n: u32| n * 1_000_003 % count;
        let after = |start: Instant, n: u32| idle(start + Duration::from_micros(u64::from(n)));
        worker.standings.extend((0..count).map(|n| (nth(n), after(start, n))));
        worker.idles.seek(&worker.seat, true, false);
        let mut now = start + Duration::from_secs(1);
        // Some have a request meanwhile, noted or not, and become the last.
        for n in (0..count).filter(|n| n % 3 == 1) {
            worker.insert(nth(n), after(now, n));
            if n == 1 {
                assert_eq!(worker.give_way(now), Some(nth(0)));
            }
        }
        for n in (2..count).filter(|n| n % 3 != 1) {
            now += LOOK_INTERVAL;
            assert_eq!(worker.give_way(now), Some(nth(n)), "the {n}th");
        }
        now += IDLE_MIN * 2;
        assert_eq!(worker.give_way(now), Some(nth(1)));
    }

    #[test]
    fn who_has_just_become_idle_stays() {
        let (places, start) = full(1);
        let mut worker = Bench::new(&places, 0, start);
        worker.insert(1, idle(start));
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
        worker.insert(1, idle(now));
        let soon = now + LOOK_INTERVAL / 2;
        assert_eq!(worker.give_way(soon), None);
        let wait = worker.idles.wait(soon).expect("a moment to look again");
        assert!(wait > Duration::ZERO && wait <= ACCEPT_PAUSE);
        let looked = Cell::new(0);
        let all = |_: &mut Vec<_>| looked.set(looked.get() + 1);
        for micros in (0..250_000).step_by(100) {
            let at = now + Duration::from_micros(micros);
            assert_eq!(worker.idles.give_way(&worker.seat, at, all, |_, _| true), None);
        }
        assert_eq!(looked.get(), 0, "nobody can have been idle for long enough");
        assert_eq!(worker.give_way(now + IDLE_MIN), Some(1));
    }

    #[test]
    fn the_longest_idle_of_all_workers_goes_first() {
        let (places, start) = full(2);
        let (mut one, mut two) = (Bench::new(&places, 0, start), Bench::new(&places, 1, start));
        let at = |millis| start + Duration::from_millis(millis);
        one.standings.extend([(1, idle(at(1))), (4, idle(at(4))), (5, idle(at(5)))]);
        two.standings.extend([(2, idle(at(2))), (3, idle(at(3)))]);
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
    fn first_the_idle_then_the_lingering_then_half_requests() {
        for workers in [1, 2] {
            let (places, start) = full(workers);
            let mut benches: Vec<_> = (0..workers).map(|worker| Bench::new(&places, worker, start)).collect();
            let at = |millis| start + Duration::from_millis(millis);
            // Those that go last are there first, in turn with one worker and the other.
            let ranks =
                [Rank::Reading, Rank::Reading, Rank::Lingering, Rank::Lingering, Rank::Idle, Rank::Idle];
            for ((rank, slot), millis) in ranks.into_iter().zip(0..).zip(0..) {
                benches[slot as usize % workers].insert(slot, Standing { rank, since: at(millis) });
            }
            let seeking = &mut benches[0];
            seeking.idles.seek(&seeking.seat, true, false);
            let (mut now, mut gone) = (at(3000), Vec::new());
            while now < at(6000) {
                now += LOOK_INTERVAL;
                gone.extend(benches.iter_mut().filter_map(|bench| bench.give_way(now)));
            }
            assert_eq!(gone, [4, 5, 2, 3, 0, 1], "{workers} workers");
        }
    }

    #[test]
    fn each_has_its_time() {
        for (rank, min) in
            [(Rank::Idle, IDLE_MIN), (Rank::Lingering, LINGERING_MIN), (Rank::Reading, READING_MIN)]
        {
            let (places, start) = full(1);
            let mut worker = Bench::new(&places, 0, start);
            worker.insert(1, Standing { rank, since: start });
            worker.idles.seek(&worker.seat, true, false);
            let given = worker.give_way_from(start, min * 2);
            let [(1, after)] = given[..] else { panic!("{given:?}") };
            assert!(after >= min && after <= min + LOOK_INTERVAL, "{rank:?} after {after:?}");
        }
    }

    /// Who becomes idle while others are noted that linger or read goes before those, when it has been for long enough.
    #[test]
    fn who_becomes_idle_later_goes_first_all_the_same() {
        let (places, start) = full(2);
        let (mut one, mut two) = (Bench::new(&places, 0, start), Bench::new(&places, 1, start));
        for slot in 0..40 {
            one.insert(slot, Standing { rank: Rank::Lingering, since: start + LOOK_INTERVAL * slot });
        }
        one.idles.seek(&one.seat, true, false);
        let mut now = start + LINGERING_MIN * 2;
        assert_eq!(one.give_way(now), None, "the other has to look first");
        assert_eq!(two.give_way(now), None);
        assert_eq!(one.give_way(now), Some(0));
        let (ours, theirs) = (now, now + LOOK_INTERVAL);
        one.insert(100, idle(ours));
        two.insert(101, idle(theirs));
        let mut gone = Vec::new();
        for _ in 0..35 {
            now += LOOK_INTERVAL;
            gone.extend([one.give_way(now), two.give_way(now)].into_iter().flatten().map(|slot| (slot, now)));
        }
        let idle_at: Vec<_> = gone.iter().filter(|(slot, _)| *slot >= 100).copied().collect();
        let [(first, first_at), (second, second_at)] = idle_at[..] else { panic!("{idle_at:?}") };
        assert_eq!((first.min(second), first.max(second)), (100, 101));
        let late = IDLE_MIN * 2 + LOOK_INTERVAL * 2;
        assert!(first_at >= ours + IDLE_MIN && second_at <= theirs + late, "{idle_at:?} since {ours:?}");
        let lingering: Vec<_> = gone.iter().map(|(slot, _)| *slot).filter(|slot| *slot < 100).collect();
        assert!(lingering.len() > 10 && lingering.is_sorted(), "{lingering:?}");
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

    #[test]
    fn a_pause_ends_with_its_time_or_with_the_bell() {
        let (places, start) = full(1);
        let mut worker = Bench::new(&places, 0, start);
        worker.idles.seek(&worker.seat, true, false);
        worker.insert(1, idle(start));
        let now = start + IDLE_MIN;
        assert_eq!(worker.give_way(now), Some(1), "it has just been idle for long enough");
        assert_eq!(worker.idles.wait(now), Some(ACCEPT_PAUSE));
        assert!(worker.idles.pauses(now + ACCEPT_PAUSE - Duration::from_nanos(1)));
        assert!(!worker.idles.pauses(now + ACCEPT_PAUSE));
        worker.seat.ask(0);
        worker.idles.wake(&worker.seat);
        assert!(!worker.idles.pauses(now), "something has changed");
        assert!(rustix::io::read(worker.seat.bell(), &mut [0; 8]).is_err(), "the bell is silent again");
    }

    /// Those that were noted have had a request since, and it isn't time to look at all again.
    #[test]
    fn the_next_look_comes_after_an_interval() {
        let (places, start) = full(1);
        let mut worker = Bench::new(&places, 0, start);
        worker.idles.seek(&worker.seat, true, false);
        worker.standings.extend([(1, idle(start)), (2, idle(start))]);
        let now = start + IDLE_MIN;
        assert_eq!(worker.give_way(now), Some(1));
        worker.standings.clear();
        worker.insert(3, idle(start));
        assert_eq!(worker.give_way(now + LOOK_INTERVAL - Duration::from_nanos(1)), None);
        let wait = worker.idles.wait(now + LOOK_INTERVAL - Duration::from_nanos(1));
        assert_eq!(wait, Some(LOOK_INTERVAL));
        assert_eq!(worker.give_way(now + LOOK_INTERVAL), Some(3));
    }

    #[test]
    fn the_note_is_bounded() {
        for (count, noted) in [(NOTED_MAX, NOTED_MAX), (NOTED_MAX + 1, NOTED_MAX), (3, 3)] {
            let (places, start) = full(1);
            let mut worker = Bench::new(&places, 0, start);
            worker.idles.seek(&worker.seat, true, false);
            worker.standings.extend((0..).map(|slot| (slot, idle(start))).take(count));
            assert_eq!(worker.give_way(start + IDLE_MIN), Some(0));
            assert_eq!(worker.idles.noted.len(), noted - 1, "the one that gave way is gone");
        }
    }
}

//! Places: how many connections there may be at once, over all workers.
//!
//! A worker takes a place before it accepts, and frees it when the connection's descriptor is closed. So the bound is
//! one of the process: whichever worker the kernel hands a connection to, it is accepted if there is a place at all.
//!
//! When none is left, a connection gives way, in whichever worker it is: the one that has been idle longest, say. A worker
//! knows the order of its own only ([`idles`](crate::service::idles)), so each says what all of its connections stand
//! behind, and the one that may have the first is asked to look.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::machine::connection::{Rank, Standing};

/// Where the rank is in what a worker says of its connections.
const RANK_SHIFT: u32 = 60;
const MICROS_MAX: u64 = (1 << RANK_SHIFT) - 1;

/// The places of a server, shared by its workers.
pub struct Places {
    max: usize,
    taken: AtomicUsize,
    /// Whether a worker may be seeking a place: so that freeing one costs a look at this alone.
    sought: AtomicBool,
    /// Accepts in flight that take connections without taking places first.
    unasked: AtomicUsize,
    desks: Box<[Desk]>,
    origin: Instant,
}

/// What the others see of a worker.
struct Desk {
    /// An eventfd: a place is free, or the worker is asked to look at its idle connections.
    bell: OwnedFd,
    /// Whether a connection waits in its queue for a place.
    seeks: AtomicBool,
    /// No connection of the worker stood before this when it last looked: the rank above the lowest [`RANK_SHIFT`] bits,
    /// which are microseconds since the origin. Idle ones don't later, either.
    first: AtomicU64,
    /// When it last looked, in microseconds since the origin.
    looked: AtomicU64,
}

impl Places {
    /// So many places, for so many workers.
    ///
    /// # Errors
    /// If the process is out of descriptors (`eventfd(2)`).
    pub fn new(max: usize, workers: usize) -> io::Result<Places> {
        let desk = || -> io::Result<Desk> {
            let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            Ok(Desk {
                bell,
                seeks: AtomicBool::new(false),
                first: AtomicU64::new(0),
                looked: AtomicU64::new(0),
            })
        };
        let desks = (0..workers).map(|_| desk()).collect::<io::Result<_>>()?;
        Ok(Places {
            max,
            taken: AtomicUsize::new(0),
            sought: AtomicBool::new(false),
            unasked: AtomicUsize::new(0),
            desks,
            origin: Instant::now(),
        })
    }

    /// Wakes every worker that waits for events.
    pub(crate) fn ring_all(&self) {
        self.desks.iter().for_each(Desk::ring);
    }

    fn micros(&self, at: Instant) -> u64 {
        let micros = at.saturating_duration_since(self.origin).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX).min(MICROS_MAX)
    }

    fn at(&self, micros: u64) -> Instant {
        self.origin + Duration::from_micros(micros)
    }

    /// The seat of the worker with this index.
    #[must_use]
    pub fn seat(self: &Arc<Self>, worker: usize) -> Seat {
        Seat { places: Arc::clone(self), worker }
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Places({} of {})", self.taken.load(SeqCst), self.max)
    }
}

/// One worker's access to the places.
#[derive(Clone, Debug)]
pub struct Seat {
    places: Arc<Places>,
    worker: usize,
}

impl Seat {
    /// Takes a place for a connection: false if there is none.
    #[must_use]
    pub fn take(&self) -> bool {
        let Places { max, taken, .. } = &*self.places;
        taken.fetch_update(SeqCst, SeqCst, |taken| (taken < *max).then_some(taken + 1)).is_ok()
    }

    /// Frees a place, and tells those that seek one.
    pub fn free(&self) {
        let Places { taken, sought, desks, .. } = &*self.places;
        taken.fetch_sub(1, SeqCst);
        // Who seeks says so first and then looks for a place once more, so one of the two sees the other.
        if sought.load(SeqCst) && sought.swap(false, SeqCst) {
            desks.iter().filter(|desk| desk.seeks.swap(false, SeqCst)).for_each(Desk::ring);
        }
    }

    /// Gives a place back that was taken in vain, for want of a descriptor. Nobody is told: they would want for one, too.
    pub fn give_back(&self) {
        self.places.taken.fetch_sub(1, SeqCst);
    }

    /// How many places are free.
    #[must_use]
    pub fn left(&self) -> usize {
        self.places.max.saturating_sub(self.places.taken.load(SeqCst))
    }

    /// An accept begins that takes connections without taking places first. It has to end when few are left: the bell
    /// tells of that.
    pub fn begin_unasked(&self) {
        self.places.unasked.fetch_add(1, SeqCst);
    }

    /// Such an accept has ended.
    pub fn end_unasked(&self) {
        self.places.unasked.fetch_sub(1, SeqCst);
    }

    /// Tells all workers that few places are left, if one of them accepts unasked.
    pub fn warn(&self) {
        if self.places.unasked.load(SeqCst) > 0 {
            self.places.ring_all();
        }
    }

    /// Readable when there may be a place, or when this worker is to look at its idle connections.
    #[must_use]
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.desk().bell.as_fd()
    }

    /// Makes the bell silent again. Call it before acting on it.
    pub fn answer(&self) {
        // Would block if nobody has rung.
        let _count = rustix::io::read(&self.desk().bell, &mut [0; 8]);
    }

    /// Says whether a connection waits here for a place. When one becomes free, the bell rings, once. Look for one after
    /// saying so: it may have become free before.
    pub(crate) fn seek(&self, seeks: bool) {
        self.desk().seeks.store(seeks, SeqCst);
        if seeks {
            self.places.sought.store(true, SeqCst);
        }
    }

    /// Whether any worker seeks a place.
    pub(crate) fn is_sought(&self) -> bool {
        self.places.desks.iter().any(|desk| desk.seeks.load(SeqCst))
    }

    /// Says that no connection of this worker stands before this one, as it was seen at `looked`.
    pub(crate) fn say_first(&self, first: Standing, looked: Instant) {
        let rank = (first.rank as u64) << RANK_SHIFT;
        self.desk().first.store(rank | self.places.micros(first.since), SeqCst);
        self.desk().looked.store(self.places.micros(looked), SeqCst);
    }

    /// What each worker's connections stand behind. Who said `fresh` ago or earlier that none is idle has to look again:
    /// one may be by now.
    pub(crate) fn firsts(&self, now: Instant, fresh: Duration) -> impl Iterator<Item = (Standing, usize)> {
        let first = move |desk: &Desk| {
            let (first, looked) = (desk.first.load(SeqCst), self.places.at(desk.looked.load(SeqCst)));
            let rank = match first >> RANK_SHIFT {
                0 => Rank::Idle,
                1 => Rank::Lingering,
                _ => Rank::Reading,
            };
            if rank > Rank::Idle && looked + fresh <= now {
                return Standing { rank: Rank::Idle, since: looked };
            }
            Standing { rank, since: self.places.at(first & MICROS_MAX) }
        };
        self.places.desks.iter().map(first).zip(0..)
    }

    /// Asks another worker to look at its connections.
    pub(crate) fn ask(&self, worker: usize) {
        self.places.desks[worker].ring();
    }

    /// The index of the worker.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    fn desk(&self) -> &Desk {
        &self.places.desks[self.worker]
    }
}

impl Desk {
    fn ring(&self) {
        // Fails only if the counter is full, and then the bell has been ringing all the time.
        let _rung = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(max: usize) -> (Seat, Seat) {
        let places = Arc::new(Places::new(max, 2).expect("two eventfds"));
        (places.seat(0), places.seat(1))
    }

    /// Whether the bell has rung since it was last answered.
    fn has_rung(seat: &Seat) -> bool {
        rustix::io::read(&seat.desk().bell, &mut [0; 8]).is_ok()
    }

    #[test]
    fn the_bound_is_for_all_workers_together() {
        let (one, two) = seats(3);
        assert!(one.take() && one.take() && two.take(), "any worker may have any of them");
        assert!(!one.take() && !two.take());
        assert_eq!(two.left(), 0);
        one.free();
        assert!(two.take() && !one.take());
    }

    #[test]
    fn who_seeks_is_told_once() {
        let (one, two) = seats(1);
        assert!(one.take());
        one.free();
        assert!(!has_rung(&one) && !has_rung(&two), "nobody seeks");
        assert!(one.take());
        two.seek(true);
        assert!(two.is_sought() && one.is_sought() && !has_rung(&two));
        one.free();
        assert!(has_rung(&two) && !has_rung(&one));
        assert!(one.take());
        one.free();
        assert!(!has_rung(&two), "it hasn't said again that it seeks");
        assert!(one.take());
        two.seek(true);
        two.seek(false);
        one.free();
        assert!(!has_rung(&two), "it seeks no more");
    }

    /// Or two workers without descriptors would wake each other, and themselves, all the time.
    #[test]
    fn nobody_is_told_of_a_place_that_was_taken_in_vain() {
        let (one, two) = seats(1);
        assert!(one.take());
        one.seek(true);
        two.seek(true);
        one.give_back();
        assert!(!has_rung(&one) && !has_rung(&two));
        assert!(two.take());
        two.free();
        assert!(has_rung(&one) && has_rung(&two));
    }

    #[test]
    fn who_accepts_unasked_is_warned() {
        let (one, two) = seats(1);
        one.warn();
        assert!(!has_rung(&two));
        two.begin_unasked();
        one.warn();
        assert!(has_rung(&two));
        two.end_unasked();
        one.warn();
        assert!(!has_rung(&two));
    }

    #[test]
    fn what_a_worker_has_said_is_known_to_all() {
        const FRESH: Duration = Duration::from_secs(1);
        let (one, two) = seats(1);
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let firsts = |at| {
            let firsts = two.firsts(at, FRESH).map(|(first, _)| (first.rank, first.since));
            firsts.collect::<Vec<_>>()
        };
        let near =
            |at: Instant, expected: Instant| at <= expected && at + Duration::from_micros(2) > expected;
        for (rank, since) in [(Rank::Idle, 2), (Rank::Lingering, 1), (Rank::Reading, 3)] {
            one.say_first(Standing { rank, since: after(since) }, after(4));
            let [(said, at), (silent, origin)] = firsts(after(4))[..] else { panic!("two workers") };
            assert!(said == rank && near(at, after(since)), "{said:?}");
            assert!(silent == Rank::Idle && origin <= now, "who has said nothing has to look first");
            let (later, at) = firsts(after(6))[0];
            assert_eq!(later, Rank::Idle, "another one may be idle by now");
            assert!(near(at, after(if rank == Rank::Idle { since } else { 4 })));
        }
    }

    #[test]
    fn a_bell_rings_until_it_is_answered() {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let (one, two) = seats(3);
        let rings = |seat: &Seat| {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(&seat.bell(), PollFlags::IN)], Some(&now)) == Ok(1)
        };
        one.ask(two.worker());
        assert!(rings(&two) && rings(&two) && !rings(&one));
        two.answer();
        assert!(!rings(&two));
        two.answer();
        assert!(one.take());
        assert_eq!(format!("{:?}", one.places), "Places(1 of 3)");
    }
}

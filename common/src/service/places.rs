//! Places: how many connections there may be at once, over all workers.
//!
//! A worker takes a place before it accepts, and frees it when the connection's descriptor is closed. So the bound is
//! one of the process: whichever worker the kernel hands a connection to, it is accepted if there is a place at all.
//!
//! When none is left, the connection that has been idle longest gives way, in whichever worker it is. A worker knows
//! the order of its own only ([`idles`](crate::service::idles)), so each says how long its connections have been idle at
//! most, and the one that may have the longest is asked to look.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

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
    /// Microseconds since the origin. No connection of the worker will expire as idle before this moment, so none has
    /// been idle longer than that says: all have the same timeout.
    idle_until: AtomicU64,
}

impl Places {
    /// So many places, for so many workers.
    ///
    /// # Errors
    /// If the process is out of descriptors (`eventfd(2)`).
    pub fn new(max: usize, workers: usize) -> io::Result<Places> {
        let desk = || -> io::Result<Desk> {
            let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            Ok(Desk { bell, seeks: AtomicBool::new(false), idle_until: AtomicU64::new(0) })
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
            self.places.desks.iter().for_each(Desk::ring);
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

    /// Says that no connection of this worker expires as idle before this moment.
    pub(crate) fn say_idle_until(&self, until: Instant) {
        let micros = until.saturating_duration_since(self.places.origin).as_micros();
        self.desk().idle_until.store(u64::try_from(micros).unwrap_or(u64::MAX), SeqCst);
    }

    /// The worker whose connection may have been idle longest, and until when that may be.
    pub(crate) fn longest_idle(&self) -> (usize, Instant) {
        let untils = self.places.desks.iter().map(|desk| desk.idle_until.load(SeqCst));
        let (until, worker) = untils.zip(0..).min().expect("there is this worker");
        (worker, self.places.origin + Duration::from_micros(until))
    }

    /// Asks another worker to look at its idle connections.
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
    fn the_longest_idle_is_known_by_its_worker() {
        let (one, two) = seats(1);
        let now = Instant::now();
        one.say_idle_until(now + Duration::from_secs(2));
        assert_eq!(one.longest_idle().0, 1, "a worker that has said nothing has to look first");
        two.say_idle_until(now + Duration::from_secs(3));
        let (worker, until) = two.longest_idle();
        assert_eq!(worker, 0);
        assert!(until.abs_diff_from(now + Duration::from_secs(2)) < Duration::from_micros(2));
    }

    trait AbsDiff {
        fn abs_diff_from(self, other: Instant) -> Duration;
    }

    impl AbsDiff for Instant {
        fn abs_diff_from(self, other: Instant) -> Duration {
            self.max(other) - self.min(other)
        }
    }
}

//! How the client waits for its next turn.
//!
//! **Asleep**, in `epoll_pwait2(2)`, it costs nothing, but has to be woken. An idle virtual CPU takes up to
//! half a millisecond for that: requests leave late, answers are seen late, and the server pays for the
//! wake-up. **Busy-polling**, it sends within a microsecond or two and sees answers at once. A closed loop sleeps,
//! because its next answer is never far; an open loop with a core of its own busy-polls.
//!
//! Polls that find nothing burn CPU time, but aren't work. They are counted separately, so that a
//! busy-polling client doesn't look busy; one that really is busy never polls in vain.

use crate::load::error::LoadError;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Busy-polling starts this long before a request is due: several times what the slowest virtual CPU takes to
/// wake.
pub(crate) const AHEAD: Duration = Duration::from_millis(2);

/// The epoll instance, and the CPU time spent polling it in vain.
pub(crate) struct Poller {
    epoll: OwnedFd,
    spun: Duration,
}

impl Poller {
    pub(crate) fn new() -> Result<Poller, LoadError> {
        let epoll =
            epoll::create(CreateFlags::CLOEXEC).map_err(LoadError::system("make an epoll instance"))?;
        Ok(Poller { epoll, spun: Duration::ZERO })
    }

    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// CPU time of polls in vain since the last call.
    pub(crate) fn take_spun(&mut self) -> Duration {
        std::mem::take(&mut self.spun)
    }

    /// Waits for events until `wake`, busy-polling from `awake` on. False when there were none. Polls at
    /// least once.
    pub(crate) fn until(
        &mut self,
        wake: Instant,
        awake: Option<Instant>,
        events: &mut Vec<Event>,
    ) -> Result<bool, LoadError> {
        let asleep = awake.map_or(wake, |awake| awake.min(wake));
        let nap = asleep.saturating_duration_since(Instant::now());
        if self.look(nap, events)? {
            return Ok(true);
        }
        if awake.is_some() && Instant::now() < wake { self.spin(wake, events) } else { Ok(false) }
    }

    fn spin(&mut self, wake: Instant, events: &mut Vec<Event>) -> Result<bool, LoadError> {
        let before = thread_cpu();
        let mut looks = 0;
        let found = loop {
            looks += 1;
            if self.look(Duration::ZERO, events)? {
                break true;
            }
            if Instant::now() >= wake {
                break false;
            }
        };
        // The look that finds something is work.
        let in_vain = looks - u32::from(found);
        self.spun += thread_cpu().saturating_sub(before) * in_vain / looks;
        Ok(found)
    }

    /// One `epoll_pwait2(2)`; false when there were no events.
    fn look(&self, timeout: Duration, events: &mut Vec<Event>) -> Result<bool, LoadError> {
        let timeout = Timespec::try_from(timeout).expect("a turn's length is a valid timespec");
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(LoadError::System { doing: "wait for events", errno }),
        }
    }
}

/// CPU time of the calling thread, user and system.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::epoll::{EventData, EventFlags};
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::{read, write};
    use std::sync::mpsc;
    use std::thread;

    const LONG: Duration = Duration::from_secs(30);
    const WAIT: Duration = Duration::from_millis(30);

    /// A poller that watches one counter, level-triggered.
    fn watching() -> (Poller, OwnedFd, Vec<Event>) {
        let poller = Poller::new().unwrap();
        let counter = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        epoll::add(poller.epoll(), &counter, EventData::new_u64(0), EventFlags::IN).unwrap();
        (poller, counter, Vec::with_capacity(4))
    }

    /// CPU time that a call takes, and that of it which was spent in vain.
    fn cost(poller: &mut Poller, wait: impl FnOnce(&mut Poller)) -> (Duration, Duration) {
        let before = thread_cpu();
        wait(poller);
        (thread_cpu() - before, poller.take_spun())
    }

    #[test]
    fn looking_in_vain_is_not_work() {
        let (mut poller, _counter, mut events) = watching();
        let now = Instant::now();
        let (cpu, spun) = cost(&mut poller, |poller| {
            assert!(!poller.until(now + WAIT, Some(now), &mut events).unwrap());
        });
        assert!(now.elapsed() >= WAIT);
        // Nearly all of it; a machine that is busy elsewhere gives it less of both.
        assert!(spun > Duration::ZERO && spun <= cpu && spun >= cpu.mul_f64(0.8), "{spun:?} of {cpu:?}");
        assert_eq!(poller.take_spun(), Duration::ZERO, "it is told once");
    }

    #[test]
    fn a_client_that_always_finds_something_never_looks_in_vain() {
        let (mut poller, counter, mut events) = watching();
        write(&counter, &1_u64.to_ne_bytes()).unwrap();
        let now = Instant::now();
        let (cpu, spun) = cost(&mut poller, |poller| {
            for _ in 0..1_000 {
                assert!(poller.until(now + LONG, Some(now), &mut events).unwrap());
                assert_eq!(events.len(), 1);
            }
        });
        assert!(cpu > Duration::ZERO && spun == Duration::ZERO, "{spun:?} of {cpu:?}");
        assert!(now.elapsed() < LONG);
    }

    #[test]
    fn what_is_overdue_is_not_waited_for() {
        let (mut poller, counter, mut events) = watching();
        let now = Instant::now();
        for awake in [None, Some(now)] {
            let (_, spun) = cost(&mut poller, |poller| {
                assert!(!poller.until(now, awake, &mut events).unwrap());
            });
            assert_eq!(spun, Duration::ZERO);
        }
        write(&counter, &1_u64.to_ne_bytes()).unwrap();
        for awake in [None, Some(now)] {
            assert!(poller.until(now, awake, &mut events).unwrap(), "but events are seen");
        }
    }

    #[test]
    fn asleep_until_it_has_to_be_awake() {
        let (mut poller, _counter, mut events) = watching();
        for awake in [None, Some(LONG)] {
            let now = Instant::now();
            let (_, spun) = cost(&mut poller, |poller| {
                let awake = awake.map(|later| now + later);
                assert!(!poller.until(now + WAIT, awake, &mut events).unwrap());
            });
            assert!(now.elapsed() >= WAIT && spun == Duration::ZERO, "{spun:?}");
        }
        // Half of it asleep.
        let now = Instant::now();
        let (cpu, _) = cost(&mut poller, |poller| {
            assert!(!poller.until(now + WAIT, Some(now + WAIT / 2), &mut events).unwrap());
        });
        assert!(cpu <= now.elapsed() - WAIT / 2, "{cpu:?}");
    }

    /// Asleep or awake, an event ends the wait, and is work.
    #[test]
    fn an_event_ends_the_wait() {
        for awake in [None, Some(Duration::ZERO)] {
            let (mut poller, counter, mut events) = watching();
            let ours = counter.try_clone().unwrap();
            let (begin, begun) = mpsc::channel::<()>();
            let writer = thread::spawn(move || {
                begun.recv().unwrap();
                write(&counter, &1_u64.to_ne_bytes()).unwrap();
            });
            let now = Instant::now();
            begin.send(()).unwrap();
            assert!(poller.until(now + LONG, awake.map(|after| now + after), &mut events).unwrap());
            assert!(now.elapsed() < LONG && events.len() == 1);
            let mut value = [0; 8];
            read(&ours, &mut value).unwrap();
            assert_eq!(u64::from_ne_bytes(value), 1);
            writer.join().unwrap();
        }
    }
}

//! A fixed piece of work, to see whether the CPU is as fast as it was.

use crate::failure::{Failure, Result};
use crate::machine::placement::pin;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

/// About a millisecond on a machine of 2020.
const STEPS: u64 = 1_000_000;
/// The fastest try counts: interrupts can only slow one down.
const TRIES: u32 = 5;
/// A larger change of pace voids a trial. On a shared host the pace wanders by a tenth between trials; a
/// narrower bound would void most of them, and the random order within a round averages it out anyway.
pub(crate) const SPIN_OFF_MAX: f64 = 0.15;

/// How long the work takes on `cpu`.
pub(crate) fn spin(cpu: usize) -> Result<Duration> {
    let measure = || {
        pin(cpu)?;
        (0..TRIES).map(|_| work()).min().ok_or_else(|| Failure::new("no try"))
    };
    thread::scope(|scope| scope.spawn(measure).join().expect("the measurement doesn't panic"))
}

/// A chain of multiplications, each of which needs the one before: nothing but the clock rate matters.
fn work() -> Duration {
    let begun = Instant::now();
    let mut value = black_box(0x9E37_79B9_u64);
    for _ in 0..STEPS {
        value = black_box(value.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1));
    }
    black_box(value);
    begun.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::placement::Placement;

    #[test]
    fn takes_some_time_and_leaves_the_caller_where_it_was() {
        let placement = Placement::choose().unwrap();
        let before = rustix::thread::sched_getaffinity(None).unwrap();
        let took = spin(placement.server.first()).unwrap();
        assert!(took > Duration::from_micros(100) && took < Duration::from_secs(1), "{took:?}");
        assert_eq!(before, rustix::thread::sched_getaffinity(None).unwrap());
        assert!(spin(1_000).is_err());
    }
}

//! Waits for something done by another thread or by the kernel, by polling until a deadline.

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

/// A server on another core is usually fast, so yield first; a sleep would take longer.
const YIELDS: u32 = 50;
/// The poll interval: short compared with any deadline, long compared with a check.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);

/// Waits until the condition holds.
///
/// # Errors
/// If it doesn't within `patience`.
pub fn within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failed> {
    let deadline = Instant::now() + patience;
    for _ in 0..YIELDS {
        if holds() {
            return Ok(());
        }
        thread::yield_now();
    }
    while !holds() {
        if Instant::now() >= deadline {
            return Err(format!("waited {patience:?} in vain for {what}").into());
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

/// Tries something that depends on the time it takes up to three times: a busy machine may delay it once, a defect always.
///
/// # Errors
/// The last failure.
pub fn in_one_of_three(mut attempt: impl FnMut() -> Result<(), Failed>) -> Result<(), Failed> {
    attempt().or_else(|_| attempt()).or_else(|_| attempt())
}

//! Waiting for what another thread or the kernel brings about: by looking, up to a deadline.

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

/// What a server on another core does at once is awaited by yielding; sleeping would take longer.
const YIELDS: u32 = 50;
/// How long to wait before looking again: short against any deadline, long against a look.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);

/// Waits until the condition holds.
///
/// # Errors
/// When it still doesn't after `patience`.
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

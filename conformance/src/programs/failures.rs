//! Failures of the server itself: it says so, ends what it can, and leaves with an exit code that a supervisor sees.

use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::Needs::Server;
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::backend::Backend;
use crate::client::Client;
use crate::deadline;
use crate::ending;
use crate::program::Ended;

pub(super) const TESTS: &[(&str, Needs, Test)] =
    &[("a_worker_that_cannot_wait_ends_it", Server, a_worker_that_cannot_wait_ends_it)];

/// A test of the program around a server, whichever it is.
pub(super) type TestOfTheProgram = fn() -> Outcome;

pub(super) const TESTS_OF_THE_PROGRAM: &[(&str, TestOfTheProgram)] = &[
    ("a_worker_that_fails_ends_it", a_worker_that_fails_ends_it),
    ("a_worker_that_panics_ends_it", a_worker_that_panics_ends_it),
    ("a_panic_of_any_thread_ends_it", a_panic_of_any_thread_ends_it),
    ("a_worker_that_hangs_does_not_outlast_the_grace_period", a_worker_that_hangs),
];

/// Far less than the default of `--grace`.
const SOON: Duration = Duration::from_secs(5);

fn expect_failure(ended: &Ended, words: &[&str]) -> Outcome {
    if ended.status.code() == Some(1) && words.iter().all(|word| ended.errors.contains(word)) {
        return DONE;
    }
    Err(format!("it should say {words:?}: {ended:?}").into())
}

fn a_worker_that_fails_ends_it() -> Outcome {
    let ended = ending::start("worker-fails", &[])?.wait(SOON)?;
    expect_failure(&ended, &["worker-fails: error: worker-0 has failed: no more"])
}

fn a_worker_that_panics_ends_it() -> Outcome {
    let ended = ending::start("worker-panics", &[])?.wait(SOON)?;
    expect_failure(
        &ended,
        &["worker-panics: error: thread worker-0 has panicked", "of this worker", "ending.rs"],
    )
}

fn a_panic_of_any_thread_ends_it() -> Outcome {
    let ended = ending::start("thread-panics", &[])?.wait(SOON)?;
    expect_failure(&ended, &["thread-panics: error: thread other has panicked", "of another thread"])
}

fn a_worker_that_hangs() -> Outcome {
    for (grace, bound) in [("600ms", 600), ("0s", 100)] {
        deadline::in_one_of_three(|| hang(grace, Duration::from_millis(bound)))?;
    }
    DONE
}

fn hang(grace: &str, bound: Duration) -> Result<(), Failed> {
    let mut running = ending::start("worker-hangs", &["--grace", grace])?;
    running.addresses(1)?;
    running.signal(Signal::TERM)?;
    let begun = Instant::now();
    let ended = running.wait(SOON)?;
    let elapsed = begun.elapsed();
    if !(bound - Duration::from_millis(20)..bound + Duration::from_millis(200)).contains(&elapsed) {
        return Err(format!("it ended after {elapsed:?}, with {grace} of grace").into());
    }
    expect_failure(&ended, &["when --grace was over"]).map(drop)
}

/// poll(2) refuses to watch more descriptors than a process may have, so a limit set from outside stops the workers of
/// `blocking`. The others' calls have no such limit.
fn a_worker_that_cannot_wait_ends_it(ground: Ground<'_>) -> Outcome {
    if ground.program.backend() != Backend::Blocking {
        return Ok(Completion::ignored_with("nothing makes its wait fail from outside"));
    }
    let mut running = ground.serve(&["--workers", "2"])?;
    let address = running.addresses(1)?[0];
    Client::connect(address)?.get("/digits.txt")?;
    let pid = Pid::from_raw(running.id().cast_signed());
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(1), maximum: Some(1) })?;
    // A worker looks when it is woken: each has its queue, and one of them will be.
    let ended: Result<(), Failed> = deadline::within(SOON, "the program to end", || {
        let _refused = Client::connect(address);
        running.has_ended()
    });
    ended?;
    expect_failure(&running.wait(SOON)?, &["blocking: error: worker-", "Invalid argument"])
}

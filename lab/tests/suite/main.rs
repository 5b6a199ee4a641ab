//! One suite for all rungs: bytes over sockets, to a server in a process of its own.

mod chat;
mod cli;
mod client;
mod crowd;
mod echo;
mod ending;
mod http;
mod limits;
mod readme;
mod server;

use std::process::ExitCode;

use lab::rungs::{RUNGS, Rung};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

type Outcome = Result<(), Failed>;

/// The name of a test, and its function.
type Test = (&'static str, fn(&'static Rung) -> Outcome);

/// A test of one rung, or of none.
type Case = (&'static str, fn() -> Outcome);

/// What every rung must do.
const TESTS: [&[Test]; 5] = [echo::TESTS, chat::TESTS, http::TESTS, limits::TESTS, ending::TESTS];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for rung in &RUNGS {
        for (name, test) in TESTS.into_iter().flatten() {
            trials.push(trial(rung, name, move || test(rung).map(|()| Completion::Completed)));
        }
        for (name, test) in chat::OF_BOUNDED.iter().filter(|_| chat::needs_a_bound(rung)) {
            trials.push(trial(rung, name, move || test(rung).map(|()| Completion::Completed)));
        }
        let crowd = move || crowd::every_connection_is_served(rung);
        trials.push(trial(rung, "crowd::every_connection_is_served", crowd));
    }
    for (name, test) in [limits::OF_ONE_RUNG, cli::TESTS, readme::TESTS].into_iter().flatten() {
        trials.push(Trial::test(*name, test));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test of a rung, which is ignored where the rung can't be used.
fn trial(
    rung: &'static Rung,
    name: &str,
    test: impl FnOnce() -> Result<Completion, Failed> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(format!("{}::{name}", rung.name), move || match (rung.available)() {
        Ok(()) => test(),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    })
}

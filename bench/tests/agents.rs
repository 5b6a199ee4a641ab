//! Load from other machines: agents as processes of their own, on the loopback, and in a network namespace that only a
//! pair of virtual interfaces joins with the server's.

#[path = "agents/agent.rs"]
mod agent;
#[path = "agents/counted.rs"]
mod counted;
#[path = "agents/loads.rs"]
mod loads;
#[path = "agents/namespaces.rs"]
mod namespaces;
#[path = "agents/runs.rs"]
mod runs;
#[path = "agents/troubles.rs"]
mod troubles;

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;

/// What a test says.
type Outcome = Result<(), Failed>;

/// A test and its name.
type Test = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    if let Some(code) = namespaces::play_a_part() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // They share few CPUs, and some watch the clock.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, tests()).exit_code()
}

fn tests() -> Vec<Trial> {
    let all: Vec<Test> = [loads::TESTS, troubles::TESTS, runs::TESTS].concat();
    let mut tests: Vec<Trial> = all.into_iter().map(|(name, test)| Trial::test(name, test)).collect();
    // Where the machine has no namespaces for us, they show as ignored, with the reason as their kind.
    let missing = namespaces::missing();
    for (name, test) in namespaces::TESTS {
        let trial = Trial::test(*name, *test).with_ignored_flag(missing.is_some());
        tests.push(trial.with_kind(missing.clone().unwrap_or_default()));
    }
    tests
}

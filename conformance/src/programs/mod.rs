//! The programs from the operator's view: flags, errors, signals, logs.

mod admin;
mod command_line;
mod delays;
mod deploys;
mod descriptors;
mod endings;
mod failures;
mod faults;
mod generated;
mod inherited;
mod listings;
mod logs;
mod outputs;
mod pauses;
mod proxies;
mod serving;
mod signals;
mod unix_sockets;

use std::process::Command;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Completion, Failed, Trial};

use crate::program::{Program, Programs, Running};
use crate::robustness::Outcome;
use crate::site::Sites;

/// What a test works with.
#[derive(Clone, Copy, Debug)]
struct Ground<'a> {
    program: Program,
    sites: &'a Sites,
    programs: &'a Programs,
}

type Test = fn(Ground<'_>) -> Outcome;

const DONE: Outcome = Ok(Completion::Completed);

impl Ground<'_> {
    /// The program with these arguments.
    fn command(self, arguments: &[&str]) -> Result<Command, Failed> {
        let mut command = Command::new(self.programs.path(self.program)?);
        command.args(arguments);
        Ok(command)
    }

    /// The program serving the main site on a free port, with additional arguments.
    fn serve(self, arguments: &[&str]) -> Result<Running, Failed> {
        let mut command = self.command(&["--listen", "127.0.0.1:0"])?;
        Running::start(command.args(arguments).arg(self.sites.main()))
    }
}

/// All tests for all programs. The programs are built when the first test needs them.
#[must_use]
pub fn trials(sites: &Arc<Sites>) -> Vec<Trial> {
    let programs: Arc<OnceLock<Result<Programs, String>>> = Arc::default();
    let groups = [
        ("command_line", command_line::TESTS),
        ("serving", serving::TESTS),
        ("unix_sockets", unix_sockets::TESTS),
        ("inherited", inherited::TESTS),
        ("deploys", deploys::TESTS),
        ("generated", generated::TESTS),
        ("descriptors", descriptors::TESTS),
        ("admin", admin::TESTS),
        ("listings", listings::TESTS),
        ("signals", signals::TESTS),
        ("endings", endings::TESTS),
        ("delays", delays::TESTS),
        ("logs", logs::TESTS),
        ("proxies", proxies::TESTS),
        ("outputs", outputs::TESTS),
        ("failures", failures::TESTS),
        ("faults", faults::TESTS),
        ("pauses", pauses::TESTS),
    ];
    let mut trials = Vec::new();
    for program in Program::ALL {
        for (group, tests) in groups {
            for (name, needs, test) in tests {
                let (sites, programs) = (Arc::clone(sites), Arc::clone(&programs));
                let run = move || run(program, &sites, &programs, *needs, *test);
                trials.push(Trial::ignorable_test(format!("{program}::{group}::{name}"), run));
            }
        }
    }
    for (name, test) in failures::TESTS_OF_THE_PROGRAM {
        trials.push(Trial::ignorable_test(format!("program::failures::{name}"), *test));
    }
    trials
}

/// Whether a test needs a running server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// It does: ignored if the backend can't run here.
    Server,
    /// It doesn't: it tests only the command line, which works everywhere.
    Nothing,
}

fn run(
    program: Program,
    sites: &Sites,
    programs: &OnceLock<Result<Programs, String>>,
    needs: Needs,
    test: Test,
) -> Outcome {
    if let (Needs::Server, Some(reason)) = (needs, program.backend().missing()) {
        return Ok(Completion::ignored_with(reason));
    }
    let build = || Programs::build().map_err(|failed| failed.message().unwrap_or("cargo failed").to_owned());
    let programs = programs.get_or_init(build).as_ref()?;
    test(Ground { program, sites, programs })
}

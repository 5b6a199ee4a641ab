//! The ruler's self-tests that need no other program. One at a time: they watch the clock.

use bench::selftest::{CHECKS, Check, CheckResult};
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let checks = CHECKS.iter().filter(|check| check.is_self_contained);
    let test = |check: &'static Check| {
        let test = Trial::test(check.name, || passes(check));
        test.with_ignored_flag(check.impossible().is_some())
    };
    let tests = checks.map(test).collect();
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn passes(check: &Check) -> Result<(), Failed> {
    let CheckResult::Made(readings) = check.run()? else {
        return Err("a check that needs nothing is made".into());
    };
    let wrong: Vec<String> =
        readings.iter().filter(|reading| !reading.is_right()).map(ToString::to_string).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

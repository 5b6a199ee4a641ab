//! Mixed load on changing files, for any length of time:
//! `cargo run --release -p conformance --example soak -- --minutes 30`.

use std::process::ExitCode;
use std::time::Duration;

use conformance::backend::Backend;
use conformance::soak::{self, Options};

const USAGE: &str = "usage: soak [--minutes N] [--backend blocking|epoll|uring]... \
                     [--cache off|descriptors|contents] [--seed N]";

/// When the reference level of memory use is measured.
const FIRST: Duration = Duration::from_secs(60);

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut total = Duration::from_secs(30 * 60);
    let mut options = Options {
        backends: Vec::new(),
        cache: None,
        seed: 1,
        first: FIRST,
        rest: Duration::ZERO,
        news: true,
    };
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--minutes" => {
                let minutes: f64 = value.parse().map_err(|_| format!("--minutes {value}: not a number"))?;
                total = Duration::try_from_secs_f64(minutes * 60.0).map_err(|error| error.to_string())?;
            }
            "--backend" => options.backends.push(value.parse()?),
            "--cache" => options.cache = Some(value),
            "--seed" => options.seed = value.parse().map_err(|_| format!("--seed {value}: not a number"))?,
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    if options.backends.is_empty() {
        options.backends = Backend::ALL.into_iter().filter(|backend| backend.missing().is_none()).collect();
    }
    options.first = FIRST.min(total / 2);
    options.rest = total.saturating_sub(options.first);
    Ok(options)
}

#[expect(clippy::print_stdout, reason = "the result")]
fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = match soak::run(&options) {
        Ok(outcome) => outcome,
        Err(failed) => {
            eprintln!("error: {}", failed.message().unwrap_or("the soak could not be run"));
            return ExitCode::FAILURE;
        }
    };
    println!("{} changes", outcome.changes);
    let mut code = ExitCode::SUCCESS;
    for verdict in &outcome.verdicts {
        println!("{verdict}");
        for violation in verdict.violations() {
            println!("  {violation}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

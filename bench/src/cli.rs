//! The command line: `cargo run --release -p bench -- COMMAND`.

use crate::analysis::compare;
use crate::claims;
use crate::claims::command::ClaimsOptions;
use crate::failure::{Failure, Result};
use crate::load_cli::{self, LoadArguments};
use crate::machine::doctor::{self, Weight};
use crate::race::{self, RaceArguments};
use crate::report::{self, readme};
use crate::run::options::{Options, repository};
use crate::run::plan::Plan;
use crate::run::scenario::{self, Scenario};
use crate::run::{Finish, Run};
use crate::selftest;
use crate::server::catalogue;
use crate::website::{self, SiteArguments};
use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Compares file servers, and tells the truth about how.
#[derive(Debug, Parser)]
#[command(name = "bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures, and writes a report
    Run(Options),
    /// Holds the claims about I/O models against this machine: a verdict and a number for each
    Claims(ClaimsOptions),
    /// Loads any HTTP server and says how long each answer took
    Load(LoadArguments),
    /// Shows servers side by side under the same load, live on a page of its own
    Race(RaceArguments),
    /// Lists what can be put under test here, and how to install the rest
    Targets,
    /// Says what will bias the numbers of this machine, and what to do about it
    Doctor(DoctorArguments),
    /// Tests the ruler against servers whose times are known
    Selftest,
    /// Draws the report of a run anew, without running anything
    Report {
        /// The run's folder
        folder: PathBuf,
    },
    /// Says what changed between two runs; exits with 1 on a regression beyond noise
    Compare {
        /// The run before
        before: PathBuf,
        /// The run after
        after: PathBuf,
    },
    /// Puts a run's table and picture into README.md, between its markers
    Readme(ReadmeArguments),
    /// Puts verdicts on claims, and a run's findings, into the pages of www
    Site(SiteArguments),
}

#[derive(Debug, clap::Args)]
struct DoctorArguments {
    /// Where the files to serve are written: a folder on a disk [default: target/bench]
    #[arg(long, value_name = "DIR", env = "TRIPTYCH_BENCH_CORPUS")]
    corpus: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ReadmeArguments {
    /// The run's folder [default: results/reference]
    folder: Option<PathBuf>,
    /// Changes nothing; exits with 1 if it would
    #[arg(long)]
    check: bool,
}

/// Does what the command line asks for. Exit codes: 0, 1 for a failure, 2 for a command line that isn't one.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => run(options, "cargo run --release -p bench --"),
        Command::Claims(options) => claims::command::run(&options, "cargo run --release -p bench --"),
        Command::Load(arguments) => {
            load_cli::run(&arguments, &mut std::io::stdout()).map(|()| ExitCode::SUCCESS)
        }
        Command::Race(arguments) => race::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Targets => say(&catalogue::report()),
        Command::Doctor(arguments) => examine(&arguments),
        Command::Selftest => selftest::run(&mut std::io::stdout()).map(|()| ExitCode::SUCCESS),
        Command::Report { folder } => {
            report::redraw(&folder).and_then(|report| say(&format!("{}\n{}\n", report.table, report.closing)))
        }
        Command::Compare { before, after } => compare_runs(&before, &after),
        Command::Readme(arguments) => splice(&arguments),
        Command::Site(arguments) => website::run(&arguments).and_then(|said| say(&said)),
    };
    done.unwrap_or_else(|failure| fail(&failure))
}

/// Tells a failure.
pub fn fail(failure: &Failure) -> ExitCode {
    eprintln!("error: {failure}");
    ExitCode::FAILURE
}

/// The command line that repeats this run. `program` is what it began with.
pub(crate) fn command_line(program: &str) -> String {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    format!("{program} {}", arguments.join(" ")).trim_end().trim_end_matches(" --").to_owned()
}

/// Measures, and says what it found. `program` is what the command line began with.
pub fn run(options: Options, program: &str) -> Result<ExitCode> {
    let command = command_line(program);
    let plan = Plan::of(&options)?;
    let run = Run::prepare(options, plan, command)?;
    eprintln!("{}", run.announcement());
    let finish = run.finish()?;
    conclude(&finish)
}

fn conclude(finish: &Finish) -> Result<ExitCode> {
    if finish.interrupted {
        return Err(Failure::new(format!(
            "interrupted; to go on: cargo run --release -p bench -- run --resume {}",
            finish.report.folder.display()
        )));
    }
    say(&format!("{}\n{}\n", finish.report.table, finish.report.closing))?;
    if !finish.disturbed.is_empty() {
        eprintln!(
            "note: disturbed too often: {}; to measure that again when the machine is quiet: \
             cargo run --release -p bench -- run --resume {}",
            finish.disturbed.join(", "),
            finish.report.folder.display()
        );
    }
    match finish.failed.first() {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => {
            let more = finish.failed.len() - 1;
            let others = if more == 0 { String::new() } else { format!(" (and {more} more)") };
            Err(Failure::new(format!("{first}{others}")))
        }
    }
}

fn examine(arguments: &DoctorArguments) -> Result<ExitCode> {
    let corpus = arguments.corpus.clone().unwrap_or_else(|| repository().join("target"));
    let findings = doctor::examine(&corpus, repository())?;
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    say(&format!("{}\n", lines.join("\n")))?;
    let biased = findings.iter().filter(|finding| finding.weight == Weight::Bias).count();
    say(&match biased {
        0 => "nothing here will bias the numbers\n".to_owned(),
        1 => "one thing here will bias the numbers\n".to_owned(),
        count => format!("{count} things here will bias the numbers\n"),
    })
}

fn compare_runs(before: &std::path::Path, after: &std::path::Path) -> Result<ExitCode> {
    let comparison = compare::run(before, after)?;
    say(&comparison.to_string())?;
    Ok(if comparison.regressions().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn splice(arguments: &ReadmeArguments) -> Result<ExitCode> {
    let folder = arguments.folder.clone().unwrap_or_else(|| repository().join("results/reference"));
    let readme = repository().join("README.md");
    if arguments.check {
        let changes = readme::would_change(&readme, &folder)?;
        return Ok(if changes { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    readme::splice(&readme, &folder)?;
    Ok(ExitCode::SUCCESS)
}

/// The scenarios, a line each.
pub fn list() -> Result<ExitCode> {
    let line = |scenario: &Scenario| format!("{}: {}\n", scenario.name, scenario.question);
    say(&scenario::all()?.iter().map(line).collect::<String>())
}

/// Writes to the standard output; a reader that is gone (`| head`) is no failure.
pub(crate) fn say(text: &str) -> Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::new(format!("write to the standard output: {error}"))),
    }
}

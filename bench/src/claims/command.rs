//! `bench claims`: scenes, a run of the harness, and a line for each claim.

use crate::claims::book::{Book, Claim, Takes};
use crate::claims::chapter::Chapter;
use crate::claims::evidence::is_of_the_machine;
use crate::claims::verdict::Judged;
use crate::cli;
use crate::failure::{Failure, Result};
use crate::run::Run;
use crate::run::options::Options;
use crate::run::plan::Plan;
use crate::run::scenario::Tier;
use crate::terminal::{self, say};
use clap::Args;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// The options of `bench claims`.
#[derive(Clone, Debug, Args)]
pub struct ClaimsOptions {
    /// Only these claims (C1 to C22) [default: all]
    #[arg(value_name = "CLAIM")]
    pub claims: Vec<String>,
    /// How much of everything: quick takes about 10 minutes for all claims, standard 25
    #[arg(long, value_enum, default_value = "standard")]
    tier: ClaimsTier,
    /// Time for what is measured ("25m"): the number of rounds follows from it
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    budget: Option<Duration>,
    /// Exactly so many rounds of every comparison
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// The length of a window, in milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    window_ms: Option<u64>,
    /// Where the results go [default: results]
    #[arg(long, value_name = "DIR", env = "TRIPTYCH_BENCH_RESULTS")]
    results: Option<PathBuf>,
    /// Where the files to serve are written: a folder on a disk [default: target/bench]
    #[arg(long, value_name = "DIR", env = "TRIPTYCH_BENCH_CORPUS")]
    corpus: Option<PathBuf>,
    /// Goes on with an interrupted run: its folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["claims", "tier", "rounds", "window_ms"])]
    resume: Option<PathBuf>,
}

/// The tiers of the claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ClaimsTier {
    Quick,
    Standard,
}

impl ClaimsOptions {
    fn options(&self) -> Options {
        let (tier, budget) = match self.tier {
            ClaimsTier::Quick => (Tier::Quick, 10 * MINUTE),
            ClaimsTier::Standard => (Tier::Standard, 25 * MINUTE),
        };
        Options {
            tier,
            only: Vec::new(),
            targets: Vec::new(),
            rounds: self.rounds,
            window_ms: self.window_ms,
            budget: Some(self.budget.unwrap_or(budget)),
            seed: crate::run::options::SEED,
            resume: self.resume.clone(),
            corpus: self.corpus.clone(),
            results: self.results.clone(),
            agents: Vec::new(),
            server_address: Ipv4Addr::LOCALHOST,
            share_cpus: false,
        }
    }
}

/// Asks about claims, and says what became of each. `program` is what the command line began with.
///
/// # Errors
///
/// An unknown claim, or what ends any run.
pub fn run(options: &ClaimsOptions, program: &str) -> Result<ExitCode> {
    let command = cli::command_line(program);
    if let Some(folder) = &options.resume {
        if Chapter::read(folder)?.is_none() {
            return Err(Failure::new(format!("the run in {} asks about no claims", folder.display())));
        }
        return measure(options, Plan::default(), command);
    }
    let chapter = Chapter::open(&options.claims)?;
    let shown = chapter.judge(None);
    let plan = Plan::of_claims(chapter, &options.options());
    if plan.scenarios.is_empty() {
        return say(&lines(&shown));
    }
    measure(options, plan, command)
}

fn measure(options: &ClaimsOptions, plan: Plan, command: String) -> Result<ExitCode> {
    let run = Run::prepare(options.options(), plan, command)?;
    eprintln!("{}", run.announcement());
    terminal::warn(run.warnings());
    let finish = run.finish()?;
    terminal::warn(&finish.warnings);
    let folder = finish.report.folder.display();
    say(&format!(
        "{}\nIn {folder}: claims.json, SUMMARY.md and report.html.\n",
        lines(&finish.report.claims)
    ))?;
    if finish.interrupted {
        return Err(Failure::new(format!(
            "interrupted; to go on: cargo run --release -p bench -- claims --resume {folder}"
        )));
    }
    // What the machine's limits forbid is said in the verdicts.
    match finish.failed.iter().find(|line| !is_of_the_machine(line)) {
        None => Ok(ExitCode::SUCCESS),
        Some(first) => Err(Failure::new(first.clone())),
    }
}

/// A line for each claim: its name, its verdict, its number, and what was found.
fn lines(claims: &[Judged]) -> String {
    let width =
        |of: fn(&Judged) -> String| claims.iter().map(|claim| of(claim).chars().count()).max().unwrap_or(0);
    let verdicts = width(|claim| claim.verdict.to_string());
    let figures = width(|claim| claim.figure.clone());
    let line = |claim: &Judged| {
        format!(
            "{:<4} {:<verdicts$}  {:<figures$}  {}\n",
            claim.id,
            claim.verdict.to_string(),
            claim.figure,
            claim.sentence
        )
    };
    claims.iter().map(line).collect()
}

/// The claims whose experiments take seconds, for `cargo bench`.
///
/// # Errors
///
/// The book can't be read, or the standard output can't be written to.
pub fn run_short() -> Result<ExitCode> {
    let is_short = |claim: &&Claim| claim.tier == Takes::Seconds;
    let names: Vec<String> =
        Book::read()?.claims.iter().filter(is_short).map(|claim| claim.id.clone()).collect();
    say(&lines(&Chapter::open(&names)?.judge(None)))
}

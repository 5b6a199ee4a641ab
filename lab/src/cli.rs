//! The command line: `lab serve RUNG`, `lab rungs`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::{Args, Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::bell::End;
use crate::limits::{descriptors_max, raise_descriptors, say};
use crate::rungs::{RUNGS, Rung, Workers};
use crate::services::{Kind, Service};
use crate::setup::{Setup, explain, listen_on};
use crate::show::{Outcome, SCENES, Shown};
use crate::stats::print_every_second;

/// The fewest descriptors to start with. A rung uses about a dozen besides its connections.
const DESCRIPTORS_MIN: u64 = 32;

/// The most workers.
const WORKERS_MAX: usize = 256;

/// How many names are suggested for a mistyped one.
const NEAREST: usize = 3;

/// Twelve ways to wait for many connections.
#[derive(Debug, Parser)]
#[command(name = "lab", version, propagate_version = true)]
struct Command {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Serve in one of the ways, until SIGINT or SIGTERM
    Serve(Serve),
    /// List the ways to wait
    Rungs,
    /// Show a claim by the system calls themselves: `lab show C16`; without a claim, list those that can be shown
    Show {
        /// The claim
        claim: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// How to wait: `lab rungs` lists the choices
    rung: String,
    /// What to do with bytes: echo (they come back), chat (each line goes to everybody else), http (one answer to
    /// all)
    #[arg(long, default_value = "echo")]
    service: String,
    /// Address to listen on; port 0 is any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Threads that serve, for `reuseport` and `queues` [default: one for each CPU]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Print a line a second: connections, bytes in and out, events
    #[arg(long)]
    stats: bool,
}

/// Why the program ends with an error.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// Bad arguments.
    Usage(String),
    /// The server can't start, or can't go on.
    Start(String),
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    let outcome = match Command::parse().command {
        Subcommands::Rungs => {
            // Fails only if nobody reads.
            let _written = io::stdout().write_all(list().as_bytes());
            return ExitCode::SUCCESS;
        }
        Subcommands::Show { claim: None } => {
            let rows = SCENES.iter().map(|scene| format!("{:<4} {}\n", scene.claim, scene.title));
            let _written = io::stdout().write_all(rows.collect::<String>().as_bytes());
            return ExitCode::SUCCESS;
        }
        Subcommands::Show { claim: Some(claim) } => show(&claim),
        Subcommands::Serve(flags) => serve(&flags),
    };
    let (line, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(line)) => (line, 2),
        Err(Failure::Start(line)) => (line, 1),
    };
    say(&format_args!("error: {line}"));
    ExitCode::from(code)
}

fn list() -> String {
    let row = |name: &str, waits: &str, claims: &str| format!("{name:<16} {waits:<44} {claims}\n");
    let rungs = RUNGS.iter().map(|rung| row(rung.name, rung.waits, rung.claims));
    row("rung", "waits by", "claims") + &rungs.collect::<String>()
}

fn serve(flags: &Serve) -> Result<(), Failure> {
    let rung = named("rung", &flags.rung, &RUNGS, |rung| rung.name)?;
    let kind = *named("service", &flags.service, &Kind::ALL, |kind| kind.name())?;
    let workers = workers(rung, flags.workers)?;
    (rung.available)().map_err(Failure::Start)?;
    raise_descriptors();
    if let Some(max) = descriptors_max().filter(|max| *max < DESCRIPTORS_MIN) {
        let line = format!("at most {max} descriptors; `ulimit -n` must allow {DESCRIPTORS_MIN}");
        return Err(Failure::Start(line));
    }
    let sockets = if rung.workers == Workers::Accept { workers } else { 1 };
    let (listeners, bound) =
        listen_on(flags.listen, sockets).map_err(|error| Failure::Start(explain(flags.listen, &error)))?;
    let (service, end) = (Service::new(kind), Arc::new(End::default()));
    let begin = || {
        end_with_signals(&end)?;
        if flags.stats { print_every_second(Arc::clone(&service)) } else { Ok(()) }
    };
    begin().map_err(|error| Failure::Start(format!("start a thread: {error}")))?;
    say(&format_args!("{}: {} on {bound} ({})", rung.name, kind.name(), rung.waits));
    let setup = Setup { listeners, workers, service, end };
    (rung.serve)(setup).map_err(|error| Failure::Start(format!("{}: {error}", rung.name)))
}

/// Prints the calls of a scene. It fails if they didn't come out as the claim says.
fn show(claim: &str) -> Result<(), Failure> {
    let scene = named("scene of", &claim.to_uppercase(), &SCENES, |scene| scene.claim)?;
    let Shown { outcome, lines } = scene.show();
    let text = format!("{}: {}\n\n{}\n\n{}\n", scene.claim, scene.title, lines.join("\n"), scene.explanation);
    let _written = io::stdout().write_all(text.as_bytes());
    match outcome {
        Outcome::AsClaimed => {
            let _written = writeln!(io::stdout(), "\n{}: it came out as the claim says", scene.claim);
            Ok(())
        }
        Outcome::Otherwise => Err(Failure::Start(format!("{}: it came out otherwise", scene.claim))),
        Outcome::Impossible(reason) => {
            Err(Failure::Start(format!("{} can't be shown here: {reason}", scene.claim)))
        }
    }
}

/// The number of workers.
fn workers(rung: &Rung, wanted: Option<usize>) -> Result<usize, Failure> {
    if rung.workers == Workers::None {
        return match wanted {
            None | Some(1) => Ok(1),
            Some(_) => {
                let line = format!("--workers is for reuseport and queues; {} has no workers", rung.name);
                Err(Failure::Usage(line))
            }
        };
    }
    match wanted.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)) {
        workers @ 1..=WORKERS_MAX => Ok(workers),
        workers => Err(Failure::Usage(format!("--workers takes 1 to {WORKERS_MAX}, not {workers}"))),
    }
}

/// The item with this name; if there is none, an error with the nearest names.
fn named<'a, T>(
    what: &str,
    name: &str,
    all: &'a [T],
    name_of: impl Fn(&T) -> &'static str,
) -> Result<&'a T, Failure> {
    if let Some(found) = all.iter().find(|one| name_of(one) == name) {
        return Ok(found);
    }
    let mut names: Vec<_> = all.iter().map(name_of).collect();
    names.sort_by(|one, other| {
        let likeness = |candidate| strsim::jaro_winkler(name, candidate);
        likeness(other).total_cmp(&likeness(one))
    });
    names.truncate(NEAREST);
    Err(Failure::Usage(format!("there is no {what} {name:?}; the nearest are {}", names.join(", "))))
}

/// Lets SIGINT and SIGTERM end the server.
fn end_with_signals(end: &Arc<End>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let end = Arc::clone(end);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        signals.forever().for_each(|_signal| end.begin());
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_answered_with_the_nearest() {
        for (name, first) in [("epol-edge", "epoll-edge"), ("treads", "thread"), ("uring", "uring-single")] {
            let failure = named("rung", name, &RUNGS, |rung| rung.name).err();
            let Some(Failure::Usage(line)) = failure else { panic!("{name} is no rung") };
            let expected = format!("there is no rung {name:?}; the nearest are {first}, ");
            assert!(line.starts_with(&expected), "{line}");
        }
        assert!(named("service", "chat", &Kind::ALL, |kind| kind.name()) == Ok(&Kind::Chat));
    }

    #[test]
    fn workers_are_for_rungs_that_have_them() {
        for rung in &RUNGS {
            let takes_them = ["reuseport", "queues"].contains(&rung.name);
            assert_eq!(workers(rung, Some(2)).is_ok(), takes_them, "{}", rung.name);
            assert!(workers(rung, None).is_ok() && workers(rung, Some(1)).is_ok());
            assert!(workers(rung, Some(0)).is_err() && workers(rung, Some(WORKERS_MAX + 1)).is_err());
        }
    }

    #[test]
    fn the_list_has_a_row_for_each_rung() {
        let list = list();
        assert_eq!(list.lines().count(), RUNGS.len() + 1);
        assert!(list.lines().all(|line| line.len() <= 80), "{list}");
    }
}

//! The comparison: `cargo bench --bench servers`.
//!
//! The quick tier over everything that this machine has, in interleaved rounds ([`bench::run`]). Names of
//! scenarios choose some (`cargo bench --bench servers -- hot-small churn`); `--test` runs each scenario for a
//! moment, to see whether everything works, and keeps nothing. What else there is to set are options of the
//! harness as a program: `cargo run --release -p bench -- run --help`.

use bench::cli;
use bench::failure::{Failure, Result};
use bench::run::options::Options;
use bench::server::serve::serve_if_asked;
use clap::Parser;
use std::process::ExitCode;

/// What cargo and the user say.
#[derive(Debug, Parser)]
#[command(name = "servers")]
struct Arguments {
    /// Only these scenarios
    scenarios: Vec<String>,
    /// Runs each scenario for a moment and keeps nothing
    #[arg(long)]
    test: bool,
    /// Lists the scenarios
    #[arg(long)]
    list: bool,
    /// Cargo's own
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    if let Some(code) = serve_if_asked() {
        return code;
    }
    let arguments = Arguments::parse();
    compare(arguments).unwrap_or_else(|failure| cli::fail(&failure))
}

fn compare(arguments: Arguments) -> Result<ExitCode> {
    if arguments.list {
        return cli::list();
    }
    let mut options = arguments.options;
    options.only.extend(arguments.scenarios);
    if !arguments.test {
        return cli::run(options, "cargo bench --bench servers --");
    }
    let results = tempfile::tempdir().map_err(Failure::context("make a folder for results"))?;
    options.results = Some(results.path().to_owned());
    options.rounds = Some(1);
    options.window_ms = Some(50);
    if options.targets.is_empty() {
        // Whether the others work on this machine is their own business.
        let own = ["blocking", "epoll", "uring", "triptych", "epoll-twin", "null-epoll", "null-uring"];
        options.targets = own.map(str::to_owned).to_vec();
    }
    cli::run(options, "cargo bench --bench servers --")
}

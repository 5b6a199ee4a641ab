//! The claims whose experiments take seconds: `cargo bench --bench claims`.
//!
//! A line for each: its verdict, and what was shown. The others need a run: `cargo run --release -p bench -- claims`.

use bench::claims::command;
use bench::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    command::run_short().unwrap_or_else(|failure| cli::fail(&failure))
}

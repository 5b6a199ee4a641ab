//! How often the rules that judge a run are right and wrong, on synthetic runs of known truth. Prints all cases, in per
//! cent, and writes the table into `METHODOLOGY.md`. With a number: that many reports a case, and nothing is written.
//!
//!     cargo run --release -p bench --example rules

use bench::analysis::simulation::{self, REPORTS};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cases = simulation::cases();
    let reports = std::env::args().nth(1).and_then(|count| count.parse().ok());
    let tallies = simulation::run(&cases, reports.unwrap_or(REPORTS));
    print!("{}", simulation::long_table(&cases, &tallies));
    if reports.is_some() {
        return ExitCode::SUCCESS;
    }
    let written = simulation::methodology(&simulation::table(&cases, &tallies)).and_then(|(path, _, new)| {
        std::fs::write(path, new).map_err(bench::failure::Failure::context("write METHODOLOGY.md"))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => bench::cli::fail(&failure),
    }
}

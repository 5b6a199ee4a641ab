//! How often the rules that judge a run are right and wrong, on synthetic runs of known truth. Prints all cases, in per
//! cent, and writes the table into `METHODOLOGY.md`. With a number: that many reports a case, and nothing is written.
//!
//!     cargo run --release -p bench --example rules

use bench::analysis::simulation::{self, REPORTS};
use std::error::Error;
use std::fs;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match rules() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn rules() -> Result<(), Box<dyn Error>> {
    let asked = std::env::args().nth(1).map(|count| count.parse()).transpose()?;
    let cases = simulation::cases();
    let tallies = simulation::run(&cases, asked.unwrap_or(REPORTS));
    std::io::stdout().write_all(simulation::long_table(&cases, &tallies).as_bytes())?;
    if asked.is_none() {
        let (path, _, new) = simulation::methodology(&simulation::table(&cases, &tallies))?;
        fs::write(path, new)?;
    }
    Ok(())
}

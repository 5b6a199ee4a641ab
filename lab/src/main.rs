//! `lab serve RUNG`: serves in one of twelve ways. `lab rungs` lists them.

use std::process::ExitCode;

fn main() -> ExitCode {
    lab::cli::run()
}

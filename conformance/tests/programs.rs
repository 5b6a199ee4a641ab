//! The three programs: command line, signals, logs.

use std::process::ExitCode;
use std::sync::Arc;

use conformance::{programs, site::Sites};

fn main() -> ExitCode {
    conformance::main(|| Ok(programs::trials(&Arc::new(Sites::build()?))))
}

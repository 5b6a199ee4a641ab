//! Runs the table against every backend.

use std::process::ExitCode;
use std::sync::Arc;

use conformance::suite::{self, Suite};

fn main() -> ExitCode {
    conformance::main(|| Ok(suite::trials(&Arc::new(Suite::new()?))))
}

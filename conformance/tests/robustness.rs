//! Time limits, load, vanishing clients, changing files, draining: on every backend.

use std::process::ExitCode;
use std::sync::Arc;

use conformance::{robustness, site::Sites};

fn main() -> ExitCode {
    conformance::main(|| Ok(robustness::trials(&Arc::new(Sites::build()?))))
}

//! The soak test for a few seconds, and a check that it would detect faults.

use std::process::ExitCode;

use conformance::soak;

fn main() -> ExitCode {
    conformance::main(|| Ok(soak::trials()))
}

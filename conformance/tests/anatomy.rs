//! `www/anatomy` shows what the servers do.

use std::process::ExitCode;

use conformance::anatomy;

fn main() -> ExitCode {
    conformance::main(|| Ok(anatomy::trials()))
}

//! Every manner of client on files that change, for seconds; and whether it would show if something was wrong.

use std::process::ExitCode;

use conformance::soak;

fn main() -> ExitCode {
    conformance::main(|| Ok(soak::trials()))
}

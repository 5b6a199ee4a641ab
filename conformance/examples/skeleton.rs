//! Updates the side-by-side list of the three servers' functions in `ARCHITECTURE.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let written = conformance::skeleton::architecture()
        .and_then(|(path, _, new)| std::fs::write(&path, new).map_err(|error| error.to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

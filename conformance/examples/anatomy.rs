//! Records what each server does for a request, and writes `www/anatomy/index.html`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = conformance::child::run_if_child() {
        return code;
    }
    match conformance::anatomy::update() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("error: {}", failed.message().unwrap_or("nothing was recorded"));
            ExitCode::FAILURE
        }
    }
}

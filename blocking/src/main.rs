//! `blocking [OPTIONS] [ROOT]`: serves a directory with a thread per connection.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::cli::run("blocking", |listeners, service, ready| blocking::serve(listeners, service, ready))
}

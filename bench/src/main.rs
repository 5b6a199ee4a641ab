//! `bench`: the harness as a program; `cargo run --release -p bench -- --help`.

use bench::server::serve::serve_if_asked;
use std::process::ExitCode;

fn main() -> ExitCode {
    serve_if_asked().unwrap_or_else(bench::cli::main)
}

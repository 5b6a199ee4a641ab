//! `epoll [OPTIONS] [ROOT]`: serves a directory with an edge-triggered event loop per core.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::cli::run("epoll", |listeners, service, ready| epoll::serve(listeners, service, ready))
}

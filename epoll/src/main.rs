//! `epoll [OPTIONS] [ROOT]`: serves a directory with an edge-triggered event loop per core.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// One heap for all threads: see `blocking`'s. Workers allocate when a connection begins and when a file is let into the
/// cache, not to answer.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    common::cli::run("epoll", |listeners, service, ready| epoll::serve(listeners, service, ready))
}

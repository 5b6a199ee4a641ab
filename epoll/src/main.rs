//! `epoll [OPTIONS] [ROOT]`: serves a directory with an edge-triggered event loop per core.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// One heap for all threads, as in `blocking`.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    common::service::cli::run("epoll", &[epoll::MODEL])
}

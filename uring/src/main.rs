//! `uring`: serves a directory through io_uring.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// One heap for all threads: see `blocking`'s. Workers allocate when a connection begins and when a file is let into the
/// cache, not to answer.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    common::cli::run("uring", |listeners, service, ready| uring::serve(listeners, service, ready))
}

//! `uring`: serves a directory through io_uring.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// One heap for all threads, as in `blocking`.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    common::service::cli::run("uring", &[uring::MODEL])
}

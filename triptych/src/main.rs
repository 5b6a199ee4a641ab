//! `triptych [OPTIONS] [ROOT]`: serves a directory with the best I/O model that the kernel allows.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// One heap for all threads, as in `blocking`.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    triptych::run()
}

//! `triptych [OPTIONS] [ROOT]`: serves a directory with the best I/O model that the kernel allows.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use common::service::cli::{Model, run};
use dlmalloc::GlobalDlmalloc;

/// One heap for all threads, as in `blocking`.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

/// The best one first.
const MODELS: [Model; 3] = [uring::MODEL, epoll::MODEL, blocking::MODEL];

fn main() -> ExitCode {
    run("triptych", &MODELS)
}

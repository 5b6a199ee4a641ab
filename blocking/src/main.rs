//! `blocking [OPTIONS] [ROOT]`: serves a directory with a thread per connection.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// One heap for all threads. malloc(3) gives threads up to eight per core (`M_ARENA_MAX`, mallopt(3)), and each keeps what
/// its own busiest moment took. That suits threads that allocate all the time; these only do when a connection begins and
/// when a file is admitted to the cache.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    common::service::cli::run("blocking", &[blocking::MODEL])
}

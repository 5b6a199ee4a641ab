//! One test suite for three servers.
//!
//! A backend is correct if a client can't tell it from the others. So there is one table of exchanges ([`table`]): the
//! bytes a client sends, and everything it must receive. Every row runs
//!
//! - against every backend, over real sockets: `uring::range::suffix`;
//! - with the request split in two at every byte, and sent byte by byte: `uring::split::range`;
//! - against all backends, whose responses must be identical except for the Date: `transcript::range`;
//! - against every backend with optimizations disabled, each alone and all at once: `epoll::always-pool::range`.
//!
//! Tests that don't fit a table of exchanges are in [`robustness`]: time limits, clients that vanish or never read,
//! files that change while they are sent, draining, running out of descriptors, ten thousand idle connections.
//! `tests/programs.rs` runs the three programs themselves. [`soak`] is for hours: mixed load on changing files, with
//! every response checked. `tests/soak.rs` runs seconds of it, `examples/soak.rs` as long as you like.
//!
//! Servers run in the test's own process, on a free port. After each test, the open descriptors and connections must be
//! back to their previous numbers, so the tests of one executable run one after the other. If the kernel has no
//! io_uring, that backend's tests are *ignored*, with the reason; so are those that mount something, where that isn't
//! allowed.
//!
//! | module | |
//! |---|---|
//! | [`row`], [`table`] | the table |
//! | [`exchange`] | executes a row, whole or split |
//! | [`client`], [`response`] | a raw-byte client with a strict parser |
//! | [`site`], [`pattern`] | the served sites |
//! | [`backend`], [`server`], [`child`], [`program`] | servers: in this process, in another one, the real programs |
//! | [`confined`], [`lesser`] | servers without io_uring, or with optimizations disabled |
//! | [`ending`] | programs whose server fails |
//! | [`mounts`], [`fuse`] | volumes unlike the build directory's: layers, memory, slow and dead ones in user space |
//! | [`soak`] | all kinds of clients and changes at once, for any length of time |
//! | [`skeleton`] | the names of the functions in the three `server.rs`, side by side |
//! | [`anatomy`] | what each server does for one request, recorded for the page of that name |
//! | [`census`], [`process`], [`trace`], [`deadline`] | leaks, resource use, system calls, waiting |

#![forbid(unsafe_code)]

pub mod anatomy;
pub mod backend;
pub mod census;
pub mod child;
pub mod client;
pub mod confined;
pub mod deadline;
pub mod ending;
pub mod exchange;
pub mod exposition;
pub mod fuse;
pub mod lesser;
pub mod load;
pub mod mounts;
pub mod pattern;
pub mod process;
pub mod program;
pub mod programs;
pub mod response;
pub mod robustness;
pub mod row;
pub mod server;
pub mod site;
pub mod skeleton;
pub mod soak;
pub mod suite;
pub mod table;
pub mod trace;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// The `main` of the test executables: runs the child's server if this process is one, otherwise the tests, one at a
/// time.
///
/// Descriptors are counted per process, so `--test-threads` is ignored.
pub fn main(trials: impl FnOnce() -> Result<Vec<Trial>, Failed>) -> ExitCode {
    if let Some(code) =
        confined::become_if_asked().or_else(child::run_if_child).or_else(ending::become_if_asked)
    {
        return code;
    }
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let prepared = census::raise_descriptor_limit().map_err(Failed::from).and_then(|()| trials());
    match prepared {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(failed) => {
            eprintln!("error: {}", failed.message().unwrap_or("the tests could not be prepared"));
            ExitCode::FAILURE
        }
    }
}

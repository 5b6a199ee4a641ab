//! The program that people install: it serves with the best I/O model that the kernel allows, in a sandbox, and is
//! upgraded without losing a connection.
//!
//! It is two processes. The keeper (`keeper.rs`) holds what is outside the root; the serving process, which it starts, serves
//! as `blocking`, `epoll` or `uring` do, in its sandbox (`sandbox/`).

#![forbid(unsafe_code)]

mod channel;
mod keeper;
mod kept;
mod pid_file;
mod sandbox;
mod user;

use std::ffi::OsString;
use std::process::ExitCode;

use common::service::cli::{Model, Program};

use crate::keeper::Keeper;
use crate::kept::Kept;

/// The best one first.
const MODELS: [Model; 3] = [uring::MODEL, epoll::MODEL, blocking::MODEL];

/// Runs the program: as the keeper, or as what a keeper has started. The exit code is that of a server by itself.
#[must_use]
pub fn run() -> ExitCode {
    run_with(|| {})
}

/// As [`run`], for tests: the serving process does this once it serves, inside its sandbox.
#[must_use]
pub fn run_with(inside: fn()) -> ExitCode {
    let program: Program<'static> = Program { name: "triptych", models: &MODELS };
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let flags = match program.parse(&arguments) {
        Ok(flags) => flags,
        Err(error) => return program.answer(&error),
    };
    if let Some(code) = program.instead(&flags) {
        return code;
    }
    let role = std::env::var_os(keeper::ROLE);
    if role.as_deref().is_some_and(|role| role == keeper::SERVER) {
        return match Kept::new(program, flags.sandbox(), inside) {
            Ok(mut kept) => program.serve(&flags, &mut kept),
            Err(error) => program.fail(&error.into()),
        };
    }
    let takes_over = role.is_some_and(|role| role == keeper::KEEPER);
    match Keeper::new(program, &flags, arguments, takes_over) {
        Ok(keeper) => keeper.run(),
        Err(error) => program.fail(&error),
    }
}

//! Runs a program without some system calls, like a container with a strict seccomp policy.
//!
//! The test executable restarts itself with hidden arguments, installs a system call filter (seccomp(2)), and executes
//! the program: filters survive execve(2).

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// The first argument of the restarted executable.
const HIDDEN: &str = "--become-without";

/// The command, with `io_uring_setup(2)` failing with this errno.
///
/// # Errors
/// If this executable can't be found.
pub fn without_io_uring(command: &Command, errno: i32) -> io::Result<Command> {
    without(libc::SYS_io_uring_setup, command, errno)
}

/// The command, with `landlock_create_ruleset(2)` failing with this errno.
///
/// # Errors
/// If this executable can't be found.
pub fn without_landlock(command: &Command, errno: i32) -> io::Result<Command> {
    without(libc::SYS_landlock_create_ruleset, command, errno)
}

fn without(call: libc::c_long, command: &Command, errno: i32) -> io::Result<Command> {
    let mut confined = Command::new(std::env::current_exe()?);
    confined.arg(HIDDEN).arg(call.to_string()).arg(errno.to_string());
    confined.arg(command.get_program()).args(command.get_args());
    Ok(confined)
}

/// Executes the program, if this process was restarted for that.
#[must_use]
pub fn become_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != HIDDEN {
        return None;
    }
    let call = arguments.next()?.to_str()?.parse().ok()?;
    let errno = arguments.next()?.to_str()?.parse().ok()?;
    let mut command = Command::new(arguments.next()?);
    let error = match confine(call, errno) {
        Ok(()) => command.args(arguments).exec().into(),
        Err(error) => error,
    };
    eprintln!("confined: {error}");
    Some(ExitCode::FAILURE)
}

fn confine(call: libc::c_long, errno: u32) -> Result<(), Box<dyn Error>> {
    let forbidden = BTreeMap::from([(call, Vec::new())]);
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter =
        SeccompFilter::new(forbidden, SeccompAction::Allow, SeccompAction::Errno(errno), architecture)?;
    apply_filter(&BpfProgram::try_from(filter)?)?;
    Ok(())
}

//! The sandbox of the serving process: what somebody who has taken it over could still do.
//!
//! | part | since | what is left |
//! |---|---|---|
//! | no new privileges (prctl(2)) | 3.5 | programs that are set-user-ID give none |
//! | landlock(7) | 5.13 | files: to read what is beneath the root; from 6.7 on: no connects, no binds; from 6.12 on: no signals to others, no abstract sockets of theirs |
//! | seccomp(2) | 3.17 | the system calls that serve ([`syscalls`]) |
//! | restrictions of the rings | 5.10 | the operations that serve (`uring`) |
//!
//! Landlock comes once the root is open, before there is another thread: threads inherit it. The system calls come last,
//! when the workers have made their rings, for all threads at once.

mod syscalls;

use std::os::fd::BorrowedFd;

use common::StartError;
use common::service::cli::Io;
use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, PathBeneath, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

pub(crate) use common::service::cli::SandboxMode as Mode;

/// The newest rights that are known here; a kernel that knows fewer enforces those.
const RIGHTS: ABI = ABI::V7;

/// The sandbox, as far as it is in force.
#[derive(Debug)]
pub(crate) struct Sandbox {
    mode: Mode,
    in_force: Vec<&'static str>,
    missing: Vec<String>,
}

impl Sandbox {
    pub(crate) fn new(mode: Mode) -> Sandbox {
        Sandbox { mode, in_force: Vec::new(), missing: Vec::new() }
    }

    /// From now on, this thread and those that it starts reach no files but what is beneath the root, to read it.
    pub(crate) fn confine(&mut self, root: BorrowedFd<'_>) -> Result<(), StartError> {
        if self.mode == Mode::Off {
            return Ok(());
        }
        match restrict_files(root) {
            Ok(status) => match (status.ruleset, status.landlock) {
                (RulesetStatus::FullyEnforced, _) => self.in_force.push("landlock"),
                (RulesetStatus::PartiallyEnforced, _) => self.in_force.push("landlock in part"),
                (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
                    self.missing.push("landlock is off (boot with lsm=landlock,…)".to_owned());
                }
                (RulesetStatus::NotEnforced, _) => {
                    self.missing.push("this kernel has no landlock (Linux 5.13)".to_owned());
                }
            },
            Err(error) => self.missing.push(format!("landlock: {error}")),
        }
        self.check()
    }

    /// From now on, no thread makes other system calls than those that serve. Returns what the start line is to say.
    pub(crate) fn seal(&mut self, io: Io) -> Result<String, StartError> {
        if self.mode == Mode::Off {
            return Ok("; no sandbox".to_owned());
        }
        match syscalls::restrict() {
            Ok(()) => self.in_force.push("seccomp"),
            Err(error) => self.missing.push(error),
        }
        self.check()?;
        if io == Io::Uring {
            self.in_force.push("ring restrictions");
        }
        let missing: String = self.missing.iter().map(|missing| format!("; {missing}")).collect();
        if self.in_force.is_empty() {
            return Ok(format!("; no sandbox{missing}"));
        }
        Ok(format!("; sandboxed: {}{missing}", self.in_force.join(", ")))
    }

    fn check(&self) -> Result<(), StartError> {
        match self.missing.first() {
            Some(missing) if self.mode == Mode::Require => Err(StartError::new(format!(
                "--sandbox=require, but {missing}; use a newer kernel, or --sandbox=auto for what there is"
            ))),
            _ => Ok(()),
        }
    }
}

fn restrict_files(root: BorrowedFd<'_>) -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(RIGHTS))?
        .handle_access(AccessNet::from_all(RIGHTS))?
        .scope(Scope::from_all(RIGHTS))?
        .create()?
        .add_rule(PathBeneath::new(root, AccessFs::ReadFile | AccessFs::ReadDir))?
        .restrict_self()
}

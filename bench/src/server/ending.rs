//! The end of a server: asked for, waited for, and where it doesn't come, brought about; of the whole tree.
//!
//! Processes are held by pidfds, taken while they live, so nobody else is ever meant by a number that is used again.

use crate::server::tree;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ExitStatus};
use std::time::{Duration, Instant};

/// From the request to the end of the last process.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// From SIGKILL to the end. The kernel may have memory to take back.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How a server is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// By the end of its input, upon which it has to end with success.
    Input,
    /// By this signal, upon which it has to end with success.
    Drain(Signal),
    /// By this signal, of which it may die, or upon which it ends with whatever code it has for that: lighttpd's is 1
    /// when clients were still there.
    Signal(Signal),
}

/// The child and its descendants, the child first.
pub(crate) fn hold(child: &Child) -> Vec<OwnedFd> {
    let open = |pid| pidfd_open(pid, PidfdFlags::empty()).ok();
    tree::of(Pid::from_child(child)).into_iter().filter_map(open).collect()
}

/// Asks the server to end, and waits until the whole tree is gone, and those who were `held` before. The first process
/// gets the signal; its `input` is closed in any case.
///
/// # Errors
///
/// What it did instead, to be read after its name. Nothing of it lives on.
pub(crate) fn end(
    child: &mut Child,
    held: &[OwnedFd],
    farewell: Farewell,
    input: Option<ChildStdin>,
) -> Result<(), String> {
    let tree = hold(child);
    let deadline = Instant::now() + STOP_TIMEOUT;
    if let (Farewell::Drain(signal) | Farewell::Signal(signal), Some(root)) = (farewell, tree.first()) {
        let _ended_just_now = pidfd_send_signal(root, signal);
    }
    drop(input);
    let left = tree.iter().filter(|process| !ends_by(process, deadline)).count();
    let orphans = held.iter().filter(|process| !ends_by(process, deadline)).count();
    if left.max(orphans) > 0 {
        kill_all(&tree);
        kill_all(held);
        let _status = child.wait();
        let seconds = STOP_TIMEOUT.as_secs();
        return Err(format!(
            "didn't end within {seconds} s ({left} of {} processes left), and was killed",
            tree.len()
        ));
    }
    let status = child.wait().map_err(|error| format!("can't be waited for: {error}"))?;
    if ended_well(status, farewell) { Ok(()) } else { Err(format!("ended badly: {status}")) }
}

fn ended_well(status: ExitStatus, farewell: Farewell) -> bool {
    match farewell {
        Farewell::Input | Farewell::Drain(_) => status.success(),
        Farewell::Signal(signal) => status.code().is_some() || status.signal() == Some(signal.as_raw()),
    }
}

/// Kills the whole tree and reaps the child; does nothing to a child that has been waited for.
pub(crate) fn kill(child: &mut Child) {
    if let Ok(None) = child.try_wait() {
        kill_all(&hold(child));
    }
    let _already_reaped = child.wait();
}

/// Kills these, and waits until they are gone.
pub(crate) fn kill_all(tree: &[OwnedFd]) {
    for process in tree {
        let _already_gone = pidfd_send_signal(process, Signal::KILL);
    }
    let deadline = Instant::now() + KILL_TIMEOUT;
    for process in tree {
        let _in_time = ends_by(process, deadline);
    }
}

fn ends_by(process: &OwnedFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    wait_readable(process, left).unwrap_or(false)
}

/// Waits until the descriptor is readable: a pipe with bytes or at its end, a process that has ended.
pub(crate) fn wait_readable(fd: impl AsFd, timeout: Duration) -> rustix::io::Result<bool> {
    let timeout = Timespec::try_from(timeout).expect("a few seconds are a valid timespec");
    loop {
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            ready => return ready.map(|count| count > 0),
        }
    }
}

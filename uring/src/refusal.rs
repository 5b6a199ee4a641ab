//! Why io_uring can't be used here, as one line for the operator.

use std::fmt;
use std::fs;
use std::io;

use common::service::start::out_of_descriptors;

/// The kernel refused. Displayed as one line: what forbids it, how to allow it, and which server works meanwhile.
#[derive(Debug)]
pub enum Refusal {
    /// The ring itself: `io_uring_setup(2)`, or one of its limits.
    Setup(io::Error),
    /// The ring of provided buffers (Linux 5.19).
    Buffers(io::Error),
    /// The multishot receive (Linux 6.0).
    Receive(io::Error),
}

impl Refusal {
    fn error(&self) -> &io::Error {
        match self {
            Refusal::Setup(error) | Refusal::Buffers(error) | Refusal::Receive(error) => error,
        }
    }

    /// The reason, and the remedy.
    fn reason(&self, disabled: Option<&str>) -> String {
        let error = self.error();
        if let Some(line) = out_of_descriptors(error) {
            return line.to_owned();
        }
        let reason = match (self, error.raw_os_error()) {
            (_, Some(libc::EPERM | libc::EACCES)) => forbidden(disabled),
            (_, Some(libc::ENOSYS)) => {
                "this kernel has no io_uring, or a seccomp profile hides it; run Linux 6.0 or newer, \
                 or allow io_uring_setup, io_uring_enter and io_uring_register in the profile"
            }
            (_, Some(libc::ENOMEM)) => {
                "no memory may be locked for the ring; raise `ulimit -l`, or start fewer --workers"
            }
            (Refusal::Setup(_), Some(libc::EINVAL)) => {
                "this kernel's io_uring is too old; run Linux 6.0 or newer"
            }
            (Refusal::Buffers(_), Some(libc::EINVAL)) => {
                "this kernel has no rings of provided buffers; run Linux 6.0 or newer"
            }
            (Refusal::Receive(_), Some(libc::EINVAL)) => {
                "this kernel has no multishot receive; run Linux 6.0 or newer"
            }
            (_, _) => return error.to_string(),
        };
        reason.to_owned()
    }
}

/// Explains `EPERM`. `disabled` is the value of the sysctl.
fn forbidden(disabled: Option<&str>) -> &'static str {
    match disabled {
        Some("2") => "kernel.io_uring_disabled is 2; `sysctl kernel.io_uring_disabled=0` allows it",
        Some("1") => {
            "kernel.io_uring_disabled is 1; `sysctl kernel.io_uring_disabled=0` allows it to everyone, \
             membership in the group of kernel.io_uring_group to this user"
        }
        Some(_) | None => {
            "a seccomp profile or security module forbids it (containers often do); allow io_uring_setup, \
             io_uring_enter and io_uring_register there"
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        let reason = self.reason(disabled.as_deref().map(str::trim));
        write!(f, "io_uring can't be used: {reason}; `epoll` serves the same site without it")
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        io::Error::new(refusal.error().kind(), refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_what_forbids_it() {
        let setup = |errno| Refusal::Setup(io::Error::from_raw_os_error(errno));
        let buffers = Refusal::Buffers(io::Error::from_raw_os_error(libc::EINVAL));
        let receive = Refusal::Receive(io::Error::from_raw_os_error(libc::EINVAL));
        for (refusal, disabled, expected) in [
            (setup(libc::EPERM), Some("2"), "kernel.io_uring_disabled is 2"),
            (setup(libc::EPERM), Some("1"), "kernel.io_uring_group"),
            (setup(libc::EPERM), Some("0"), "seccomp"),
            (setup(libc::EPERM), None, "seccomp"),
            (setup(libc::ENOSYS), Some("0"), "no io_uring"),
            (setup(libc::EINVAL), Some("0"), "too old"),
            (setup(libc::ENOMEM), Some("0"), "ulimit -l"),
            (setup(libc::EMFILE), Some("0"), "ulimit -n"),
            (setup(libc::EIO), Some("0"), "os error 5"),
            (buffers, Some("0"), "provided buffers"),
            (receive, Some("0"), "multishot receive"),
        ] {
            let reason = refusal.reason(disabled);
            assert!(reason.contains(expected), "{refusal:?}: {reason}");
            assert!(!reason.contains('\n'));
        }
        let line = io::Error::from(setup(libc::ENOSYS)).to_string();
        assert!(
            line.starts_with("io_uring can't be used: ")
                && line.ends_with("`epoll` serves the same site without it")
        );
    }
}

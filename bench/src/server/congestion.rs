//! One congestion control for all servers.
//!
//! Loopback has no congestion, but BBR paces each connection by a model of a path that isn't there and cuts
//! large sends into small segments, which decides the cost of a 10 MiB answer more than the server does. Reno
//! is always built in, always allowed (tcp(7)), and never paces.
//!
//! It is set from outside, on the listening sockets (connections inherit it), so it works for every server.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_congestion, socket_acceptconn};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::fs;

/// What all sockets of a measurement use.
pub(crate) const CONTROL: &str = "reno";

/// Whose congestion control a server's connections have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// [`CONTROL`].
    Ours,
    /// The machine's default: another process's sockets may not be touched here (ptrace(2), "Ptrace access
    /// mode checking"; containers often forbid it).
    Default,
}

/// Gives every listening socket of these processes [`CONTROL`]; one of them has to listen.
pub(crate) fn set_for_listeners(tree: &[Pid]) -> rustix::io::Result<Control> {
    let mut listeners = 0;
    for pid in tree {
        match set_for_listeners_of(*pid) {
            Ok(Some(count)) => listeners += count,
            Ok(None) => return Ok(Control::Default),
            // A child that has ended meanwhile.
            Err(Errno::SRCH) if Some(pid) != tree.first() => {}
            Err(errno) => return Err(errno),
        }
    }
    if listeners == 0 { Err(Errno::NOTCONN) } else { Ok(Control::Ours) }
}

/// How many sockets listen in process `pid`; `None` if they may not be touched.
fn set_for_listeners_of(pid: Pid) -> rustix::io::Result<Option<usize>> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let mut listeners = 0;
    for number in sockets_of(pid) {
        let socket: OwnedFd = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(socket) => socket,
            Err(Errno::PERM | Errno::NOSYS) => return Ok(None),
            // Closed since the folder was read.
            Err(Errno::BADF) => continue,
            Err(errno) => return Err(errno),
        };
        if socket_acceptconn(&socket).unwrap_or(false) {
            set_tcp_congestion(&socket, CONTROL)?;
            listeners += 1;
        }
    }
    Ok(Some(listeners))
}

/// The numbers of the process's descriptors that are sockets.
fn sockets_of(pid: Pid) -> Vec<i32> {
    let folder = format!("/proc/{}/fd", pid.as_raw_nonzero());
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let number = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let is_socket = target.to_str().is_some_and(|target| target.starts_with("socket:"));
        if is_socket { entry.file_name().to_str()?.parse().ok() } else { None }
    };
    entries.flatten().filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::tcp_congestion;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    #[test]
    fn somebody_has_to_listen() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let found = set_for_listeners(&[Pid::from_child(&child)]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Err(Errno::NOTCONN));
    }

    /// The first process of a server may leave the listening to another.
    #[test]
    fn any_process_of_the_tree_may_listen() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = set_for_listeners(&[Pid::from_child(&child), rustix::process::getpid()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.is_ok(), "{found:?}");
    }

    #[test]
    fn connections_inherit_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        match set_for_listeners(&[rustix::process::getpid()]).unwrap() {
            Control::Default => {}
            Control::Ours => {
                let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (accepted, _) = listener.accept().unwrap();
                assert_eq!(tcp_congestion(&accepted).unwrap().trim_end_matches('\0'), CONTROL);
            }
        }
    }
}

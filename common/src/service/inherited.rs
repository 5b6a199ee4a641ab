//! Listening sockets that whoever started the process has opened: socket activation, as systemd does it
//! (sd_listen_fds(3)).

use std::env;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use listenfd::ListenFd;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{SocketAddrUnix, getsockname, sockopt};

use crate::service::endpoint::Endpoint;
use crate::service::listen::Bound;
use crate::service::start::{StartError, out_of_descriptors};

/// The variables that tell of such sockets, which are for one process alone: whoever starts another one removes them.
pub const VARIABLES: [&str; 3] = [PID, COUNT, NAMES];

/// More sockets than this are a mistake.
pub const INHERITED_MAX: usize = 128;

const PID: &str = "LISTEN_PID";
const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";

/// The first of the descriptors (sd_listen_fds(3), `SD_LISTEN_FDS_START`).
const FIRST: usize = 3;
/// An invention of the crate's, by which it would take others.
const FOREIGN: &str = "LISTEN_FDS_FIRST_FD";

/// How many sockets the environment offers to this process: none, if it names another one. Without a process, it is for
/// whoever sees it, since a program that starts this one can't know its number beforehand.
///
/// # Errors
/// One line, if it can't be understood.
pub fn offered() -> Result<usize, StartError> {
    count(&|name| Some(env::var_os(name)?.to_string_lossy().into_owned()), std::process::id())
}

fn count(variable: &dyn Fn(&str) -> Option<String>, own: u32) -> Result<usize, StartError> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let Some(count) = variable(COUNT) else { return Ok(0) };
    if let Some(pid) = variable(PID) {
        match pid.parse::<u32>() {
            Ok(pid) if pid == own => {}
            Ok(_) => return Ok(0),
            Err(_) => {
                return Err(StartError::new(format!(
                    "{PID}={pid} is no process; whoever starts this one sets it"
                )));
            }
        }
    }
    if variable(FOREIGN).is_some_and(|first| first != FIRST.to_string()) {
        return Err(StartError::new(format!(
            "{FOREIGN} isn't followed: sockets begin at descriptor {FIRST}"
        )));
    }
    match count.parse() {
        Ok(count @ 0..=INHERITED_MAX) => Ok(count),
        _ => Err(StartError::new(format!(
            "{COUNT}={count} is no number of sockets; it is at most {INHERITED_MAX}, set by whoever has opened them"
        ))),
    }
}

/// Takes the sockets that are offered, before the process has opened anything of its own; those of one address together.
/// Afterwards the environment tells of none.
///
/// # Errors
/// One line that names the descriptor that isn't a listening socket.
pub fn take() -> Result<Vec<Bound>, StartError> {
    let count = offered()?;
    let names = env::var_os(NAMES).unwrap_or_default();
    let mut names = names.to_string_lossy().split(':').map(str::to_owned).collect::<Vec<_>>().into_iter();
    let mut sockets = ListenFd::from_env();
    let mut all: Vec<Bound> = Vec::new();
    for index in 0..count {
        let name = names.next().filter(|name| !name.is_empty());
        let socket = one(&mut sockets, index).map_err(|problem| {
            let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
            StartError::new(format!("{COUNT}={count}: descriptor {}{name} {problem}", FIRST + index))
        });
        let (endpoint, socket) = socket?;
        match all.iter_mut().find(|bound| bound.endpoint == endpoint) {
            Some(bound) => bound.sockets.push(socket),
            None => all.push(Bound { endpoint, sockets: vec![socket] }),
        }
    }
    Ok(all)
}

fn one(sockets: &mut ListenFd, index: usize) -> Result<(Endpoint, OwnedFd), String> {
    const WRONG: &str = "is no listening stream socket of TCP or unix";
    let tcp = sockets.take_tcp_listener(index).ok().flatten().map(OwnedFd::from);
    let is_tcp = tcp.is_some();
    let of_unix = || sockets.take_unix_listener(index).ok().flatten().map(OwnedFd::from);
    let socket = tcp.or_else(of_unix).ok_or(WRONG)?;
    let failed = |error: rustix::io::Errno| {
        let error = error.into();
        out_of_descriptors(&error).map_or_else(|| error.to_string(), str::to_owned)
    };
    if !sockopt::socket_acceptconn(&socket).map_err(failed)? {
        return Err(WRONG.to_owned());
    }
    fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(failed)?;
    fcntl_setfl(&socket, fcntl_getfl(&socket).map_err(failed)? | OFlags::NONBLOCK).map_err(failed)?;
    if is_tcp {
        // Accepted connections inherit it. There are protocols without.
        let _without = sockopt::set_tcp_nodelay(&socket, true);
    }
    let name = getsockname(&socket).map_err(failed)?;
    let endpoint = match SocketAddr::try_from(name.clone()) {
        Ok(address) => Endpoint::Tcp(address),
        Err(_) => Endpoint::Unix(path_of(&SocketAddrUnix::try_from(name).map_err(failed)?)),
    };
    Ok((endpoint, socket))
}

/// Where a socket without a path is, in the way that others write it.
fn path_of(name: &SocketAddrUnix) -> PathBuf {
    let text = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    match (name.path(), name.abstract_name()) {
        (Some(path), _) => text(path.to_bytes()),
        (None, Some(name)) => text(&[b"@", name].concat()),
        (None, None) => text(b"@"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(variables: &[(&str, &str)]) -> Result<usize, String> {
        let variable = |name: &str| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        count(&variable, 42).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_says_how_many() {
        for (variables, expected) in [
            (&[][..], 0),
            (&[(COUNT, ""), (PID, "42")], 0),
            (&[(COUNT, "0"), (PID, "42")], 0),
            (&[(COUNT, "2"), (PID, "42")], 2),
            (&[(COUNT, "128"), (PID, "42")], 128),
            (&[(COUNT, "2")], 2),
            (&[(COUNT, "2"), (PID, "")], 2),
            (&[(COUNT, "2"), (PID, "43")], 0),
            (&[(COUNT, "many"), (PID, "43")], 0),
            (&[(PID, "42")], 0),
            (&[(COUNT, "1"), (FOREIGN, "3")], 1),
        ] {
            assert_eq!(counted(variables), Ok(expected), "{variables:?}");
        }
    }

    #[test]
    fn a_lie_is_told_as_one() {
        for (variables, expected) in [
            (&[(COUNT, "many")][..], "LISTEN_FDS=many is no number of sockets"),
            (&[(COUNT, "-1")], "LISTEN_FDS=-1 is no number"),
            (&[(COUNT, "1.5"), (PID, "42")], "LISTEN_FDS=1.5 is no number"),
            (&[(COUNT, "129")], "at most 128"),
            (&[(COUNT, "4000000000")], "at most 128"),
            (&[(COUNT, "99999999999999999999999")], "at most 128"),
            (&[(COUNT, "1"), (PID, "me")], "LISTEN_PID=me is no process"),
            (&[(COUNT, "1"), (PID, "-1")], "LISTEN_PID=-1 is no process"),
            (&[(COUNT, "1"), (FOREIGN, "0")], "sockets begin at descriptor 3"),
        ] {
            let error = counted(variables).expect_err("refused");
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}

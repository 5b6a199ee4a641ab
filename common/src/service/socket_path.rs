//! The path of a unix socket: taken when a server starts, given back when it ends.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, Stat, chmod, flock, statat, unlink};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, test_kill_process};

use crate::service::listen::{BACKLOG, RELEASE_INTERVAL, RELEASE_MAX};
use crate::service::start::{StartError, out_of_descriptors};

/// Bytes of a path, behind which `sun_path` has room for the end (unix(7)).
pub const PATH_BYTES_MAX: usize = 107;

/// Who may connect, unless somebody says otherwise: the owner and the group, which a proxy joins (unix(7): to connect,
/// one must be allowed to write).
pub const SOCKET_MODE: u32 = 0o660;

/// A path that a listening socket was bound to. Removed when this is dropped, if it is still the same.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// The file system, the inode, and the time when it was made: the number of an inode is used again.
    identity: (u64, u64, i64, u64),
}

impl SocketPath {
    /// For another process, or another program in this one: what [`from_parts`](Self::from_parts) takes.
    #[must_use]
    pub fn parts(&self) -> (&Path, (u64, u64, i64, u64)) {
        (&self.path, self.identity)
    }

    /// The one that another process has bound.
    #[must_use]
    pub fn from_parts(path: PathBuf, identity: (u64, u64, i64, u64)) -> SocketPath {
        SocketPath { path, identity }
    }

    /// Of what is there now.
    fn of(path: &Path) -> rustix::io::Result<SocketPath> {
        // Where it leads must not depend on the working directory at the end.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let identity = identity(&look(&path)?);
        Ok(SocketPath { path, identity })
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Another server may have taken the path over, which is then its own.
        if look(&self.path).is_ok_and(|there| identity(&there) == self.identity) {
            // What stays is replaced by the next start.
            let _removed = unlink(&self.path);
        }
    }
}

fn look(path: &Path) -> rustix::io::Result<Stat> {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
}

fn identity(stat: &Stat) -> (u64, u64, i64, u64) {
    // Nobody writes to a socket's inode, so its modification time is that of its making.
    (stat.st_dev, stat.st_ino, stat.st_mtime, stat.st_mtime_nsec)
}

/// A non-blocking socket that listens at this path, to which those may connect whom `mode` allows to write. What was
/// left behind there by a server that is gone is replaced.
///
/// # Errors
/// One line: if somebody listens there, if something else is there, or if the path can't be one.
pub(crate) fn listen_at(path: &Path, mode: u32) -> Result<(OwnedFd, SocketPath), StartError> {
    let name = match SocketAddrUnix::new(path) {
        Ok(name) if path.as_os_str().len() <= PATH_BYTES_MAX => name,
        _ => {
            let bytes = path.as_os_str().len();
            let what = format!("the path has {bytes} bytes, and {PATH_BYTES_MAX} is the most");
            return Err(refusal(path, &what, "choose a shorter one"));
        }
    };
    // Of several servers that are started in the same moment, one finds what the other has left behind. Where there is
    // no such lock, or somebody holds it for good, they go on without.
    let _turn = take_turn(path);
    make_way(path, &name)?;
    let bind = || -> io::Result<(OwnedFd, SocketPath)> {
        let socket = stream_socket()?;
        net::bind(&socket, &name)?;
        let owned = SocketPath::of(path)?;
        // Before it listens, nobody can connect.
        chmod(path, Mode::from_raw_mode(mode))?;
        net::listen(&socket, BACKLOG)?;
        Ok((socket, owned))
    };
    bind().map_err(|error| explain(path, &error))
}

fn stream_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// A lock on the folder, for as long as it is held: flock(2).
fn take_turn(path: &Path) -> Option<File> {
    let absolute = std::path::absolute(path).ok()?;
    let folder = File::open(absolute.parent()?).ok()?;
    let deadline = Instant::now() + RELEASE_MAX;
    while flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(RELEASE_INTERVAL);
    }
    Some(folder)
}

/// What is at the other end of a path.
enum Listening {
    /// Nobody accepts any more.
    Nobody,
    /// The process that has said so, where it can be seen from here.
    Somebody(Option<Pid>),
}

/// Removes a socket where nobody listens. A socket may outlive its process for a moment: the kernel tears a ring down, and
/// what an accept in it refers to, some time later.
fn make_way(path: &Path, name: &SocketAddrUnix) -> Result<(), StartError> {
    let deadline = Instant::now() + RELEASE_MAX;
    loop {
        match look(path) {
            Ok(there) if FileType::from_raw_mode(there.st_mode) == FileType::Socket => {}
            Ok(_) => return Err(refusal(path, "something is there that isn't a socket", CHOOSE)),
            // Whatever is wrong with the path, the bind will say so.
            Err(_) => return Ok(()),
        }
        match listening(name) {
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(explain(path, &error.into())),
            Ok(Listening::Nobody) => match unlink(path) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(error) => {
                    let what = format!("a server that is gone has left its socket there ({error})");
                    return Err(refusal(path, &what, "remove it, or choose another path"));
                }
            },
            Ok(Listening::Somebody(pid)) => {
                let is_gone = pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
                if !is_gone || Instant::now() >= deadline {
                    let who =
                        pid.map(|pid| format!(" by process {}", pid.as_raw_nonzero())).unwrap_or_default();
                    return Err(refusal(
                        path,
                        &format!("in use{who}"),
                        "stop that server, or choose another path",
                    ));
                }
                thread::sleep(RELEASE_INTERVAL);
            }
        }
    }
}

const CHOOSE: &str = "remove it, or choose another path";

fn listening(name: &SocketAddrUnix) -> rustix::io::Result<Listening> {
    let socket = stream_socket()?;
    match net::connect(&socket, name) {
        Ok(()) => {
            // The number is 0 where the process is out of sight (pid_namespaces(7)).
            let peer = getsockopt(&socket, sockopt::PeerCredentials).ok();
            Ok(Listening::Somebody(peer.and_then(|peer| Pid::from_raw(peer.pid()))))
        }
        // Its queue is full, or it is a socket of another type.
        Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(Listening::Somebody(None)),
        Err(Errno::CONNREFUSED) => Ok(Listening::Nobody),
        Err(error) => Err(error),
    }
}

fn refusal(path: &Path, what: &str, todo: &str) -> StartError {
    StartError::new(format!("listen on unix:{}: {what}; {todo}", path.display()))
}

fn explain(path: &Path, error: &io::Error) -> StartError {
    if let Some(line) = out_of_descriptors(error) {
        return StartError::new(format!("listen on unix:{}: {line}", path.display()));
    }
    let (what, todo) = match Errno::from_io_error(error) {
        Some(Errno::NOENT) => ("there is no such folder".to_owned(), "make it first, or choose another path"),
        Some(Errno::NOTDIR) => ("a part of the path is a file".to_owned(), "choose another path"),
        Some(Errno::ADDRINUSE) => ("in use".to_owned(), "stop that server, or choose another path"),
        Some(Errno::ACCESS | Errno::PERM) => (
            "permission denied".to_owned(),
            "choose a folder that this user may write to (systemd: RuntimeDirectory=)",
        ),
        Some(Errno::ROFS) => ("the file system is read-only".to_owned(), "choose a folder on another one"),
        _ => (error.to_string(), "choose another path"),
    };
    refusal(path, &what, todo)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn refused(path: &Path) -> String {
        listen_at(path, SOCKET_MODE).expect_err("refused").to_string()
    }

    #[test]
    fn a_path_is_taken_and_given_back() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.sock");
        for mode in [SOCKET_MODE, 0o600, 0o666] {
            let (socket, owned) = listen_at(&path, mode).expect("listening");
            let is_there = fs::symlink_metadata(&path).expect("there");
            assert_eq!(is_there.permissions().mode() & 0o7777, mode);
            let client = UnixStream::connect(&path).expect("connected");
            assert!(net::accept(&socket).is_ok());
            assert!(net::accept(&socket).is_err_and(|error| error == Errno::AGAIN), "non-blocking");
            let flags = rustix::io::fcntl_getfd(&socket).expect("flags");
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            drop((client, socket, owned));
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_nobody_listens_at_is_replaced() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.sock");
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "left behind");
        let (_socket, _owned) = listen_at(&path, SOCKET_MODE).expect("replaced");
        UnixStream::connect(&path).expect("somebody listens");
    }

    #[test]
    fn a_path_in_use_is_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.sock");
        let (_socket, _owned) = listen_at(&path, SOCKET_MODE).expect("listening");
        let pid = std::process::id();
        assert!(refused(&path).contains(&format!(": in use by process {pid}; stop that server")));
        assert!(UnixStream::connect(&path).is_ok(), "it still is");
        let other = folder.path().join("b.sock");
        let _datagrams = UnixDatagram::bind(&other).expect("bound");
        assert!(refused(&other).contains(": in use; stop that server"));
    }

    #[test]
    fn what_cannot_be_a_socket_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().expect("a directory");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "content").expect("written");
        symlink("a.sock", at("link")).expect("linked");
        for (path, expected) in [
            (at("file"), "something is there that isn't a socket; remove it"),
            (folder.path().to_owned(), "something is there that isn't a socket"),
            (at("link"), "something is there that isn't a socket"),
            (at("none/a.sock"), "there is no such folder; make it first"),
            (at("file/a.sock"), "a part of the path is a file"),
            (at(&"x".repeat(200)), "bytes, and 107 is the most; choose a shorter one"),
        ] {
            let line = refused(&path);
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
            assert!(line.starts_with(&format!("listen on unix:{}: ", path.display())), "{line}");
        }
        assert_eq!(fs::read(at("file")).expect("still there"), b"content");
    }

    /// The longest path that there is, and one byte more.
    #[test]
    fn a_path_has_a_longest_length() {
        let folder = tempfile::tempdir().expect("a directory");
        let rest = PATH_BYTES_MAX - folder.path().as_os_str().len() - 1;
        let longest = folder.path().join("x".repeat(rest));
        let (_socket, _owned) = listen_at(&longest, SOCKET_MODE).expect("listening");
        UnixStream::connect(&longest).expect("connected");
        assert!(refused(&folder.path().join("x".repeat(rest + 1))).contains("the path has 108 bytes"));
    }

    #[test]
    fn what_another_server_has_taken_over_stays() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.sock");
        let (socket, owned) = listen_at(&path, SOCKET_MODE).expect("listening");
        let before = fs::symlink_metadata(&path).expect("there").ino();
        drop(socket); // as in a drain, while answers go on
        let (_socket, theirs) = listen_at(&path, SOCKET_MODE).expect("taken over");
        drop(owned);
        UnixStream::connect(&path).expect("theirs, whatever its inode is");
        drop(theirs);
        assert!(!path.exists(), "the number was {before}");
    }

    /// Whoever comes second sees that the first one listens.
    #[test]
    fn of_several_at_once_one_listens() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.sock");
        for _ in 0..20 {
            drop(UnixListener::bind(&path).expect("bound"));
            let outcomes: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| listen_at(&path, SOCKET_MODE))).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
            UnixStream::connect(&path).expect("connected");
        }
    }
}

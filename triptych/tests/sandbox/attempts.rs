//! What somebody who has taken over the serving process would try. `TRIPTYCH_ATTEMPT` names an attempt; its result is
//! said on standard error, unless it was the end of the process.

use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::process::{Pid, Signal, kill_process};

/// Names the attempt, and what it is made on.
pub(crate) const ATTEMPT: &str = "TRIPTYCH_ATTEMPT";
pub(crate) const ON: &str = "TRIPTYCH_ATTEMPT_ON";

/// Carries out the attempt that was asked for.
pub(crate) fn make() {
    let Some(name) = std::env::var_os(ATTEMPT) else { return };
    let target = std::env::var_os(ON).unwrap_or_default();
    let name = name.to_string_lossy();
    let result = match attempt(&name, Path::new(&target)) {
        Ok(()) => "it worked".to_owned(),
        Err(error) => error.to_string(),
    };
    // In one piece: another thread says something in the same moment.
    let line = format!("attempt {name}: {result}\n");
    io::stderr().write_all(line.as_bytes()).expect("somebody listens");
}

fn attempt(name: &str, target: &Path) -> io::Result<()> {
    let text = target.to_string_lossy();
    let open2 = |flags, mode| openat2(CWD, target, flags, Mode::from_raw_mode(mode), ResolveFlags::empty());
    match name {
        "read" => fs::read(target).map(drop),
        "list" => fs::read_dir(target).map(drop),
        "write" => fs::write(target, "x"),
        "write-openat2" => Ok(open2(OFlags::WRONLY, 0).map(drop)?),
        "create-openat2" => Ok(open2(OFlags::WRONLY | OFlags::CREATE, 0o600).map(drop)?),
        "remove" => fs::remove_file(target),
        "rename" => fs::rename(target, target.with_extension("moved")),
        "make-directory" => fs::create_dir(target),
        "permit" => fs::set_permissions(target, std::os::unix::fs::PermissionsExt::from_mode(0o777)),
        "connect" => TcpStream::connect(&*text).map(drop),
        "listen" => TcpListener::bind(&*text).map(drop),
        "udp" => UdpSocket::bind(&*text).map(drop),
        "abstract" => UnixStream::connect_addr(&SocketAddr::from_abstract_name(&*text)?).map(drop),
        "signal" => {
            let process = text.parse().ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
            Ok(kill_process(process, Signal::WINCH)?)
        }
        "spawn" => Command::new("/bin/true").status().map(drop),
        "execute" => Err(Command::new("/bin/true").exec()),
        "unshare" => Ok(nix::sched::unshare(CloneFlags::CLONE_NEWUSER)?),
        "mount" => {
            Ok(rustix::mount::mount("none", target, "tmpfs", rustix::mount::MountFlags::empty(), None)?)
        }
        "ring" => uring::available().map_err(io::Error::other),
        _ => Err(io::Error::other("no such attempt")),
    }
}

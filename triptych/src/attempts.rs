//! For the tests: what somebody who has taken over the serving process would try. `TRIPTYCH_ATTEMPT` names an attempt;
//! its result is said on standard error, unless it was the end of the process.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::process::{Signal, getppid, kill_process, test_kill_process};

/// Carries out the attempt that was asked for.
pub(crate) fn make() {
    let Some(name) = std::env::var_os("TRIPTYCH_ATTEMPT") else { return };
    let target = std::env::var_os("TRIPTYCH_ATTEMPT_ON").unwrap_or_default();
    let name = name.to_string_lossy();
    let result = match attempt(&name, Path::new(&target)) {
        Ok(()) => "it worked".to_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("attempt {name}: {result}");
}

fn attempt(name: &str, target: &Path) -> io::Result<()> {
    let text = target.to_string_lossy();
    let open2 = |flags| openat2(CWD, target, flags, Mode::from_raw_mode(0o600), ResolveFlags::empty());
    match name {
        "read" => fs::read(target).map(drop),
        "list" => fs::read_dir(target).map(drop),
        "write" => fs::write(target, "x"),
        "write-openat2" => Ok(open2(OFlags::WRONLY).map(drop)?),
        "create-openat2" => Ok(open2(OFlags::WRONLY | OFlags::CREATE).map(drop)?),
        "truncate" => File::open(target)?.set_len(0),
        "remove" => fs::remove_file(target),
        "rename" => fs::rename(target, target.with_extension("moved")),
        "make-directory" => fs::create_dir(target),
        "permit" => fs::set_permissions(target, std::os::unix::fs::PermissionsExt::from_mode(0o777)),
        "connect" => TcpStream::connect(&*text).map(drop),
        "listen" => TcpListener::bind(&*text).map(drop),
        "udp" => UdpSocket::bind(&*text).map(drop),
        "abstract" => UnixStream::connect_addr(&SocketAddr::from_abstract_name(&*text)?).map(drop),
        "find-keeper" => Ok(test_kill_process(keeper()?)?),
        "kill-keeper" => Ok(kill_process(keeper()?, Signal::KILL)?),
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

fn keeper() -> io::Result<rustix::process::Pid> {
    getppid().ok_or_else(|| io::ErrorKind::NotFound.into())
}

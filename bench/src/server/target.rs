//! A server under test: a process of its own, started, watched and stopped from outside.
//!
//! Our backends need nothing built beside the harness: the process is this very executable, called with the
//! hidden subcommand of [`serve`](crate::server::serve). It says in one line on its standard output that it accepts
//! ("listening 127.0.0.1:40123"), and goes on until its standard input ends. Should the harness die, the
//! kernel kills it.

use crate::failure::{Failure, Result};
use crate::machine::placement::{Placement, Thread, threads_of};
use crate::server::congestion::{Control, set_for_listeners};
use crate::server::cpu_time::CpuClock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

/// From the start of the process to its first accept.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of its input to the end of the process.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// One of the three servers of this project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A thread per connection.
    Blocking,
    /// An edge-triggered event loop.
    Epoll,
    /// An io_uring pipeline.
    Uring,
}

impl Backend {
    /// All of them, in the order in which they are always shown.
    pub const ALL: [Backend; 3] = [Backend::Blocking, Backend::Epoll, Backend::Uring];

    /// The crate's name.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Blocking => "blocking",
            Backend::Epoll => "epoll",
            Backend::Uring => "uring",
        }
    }

    /// The backend of that name.
    pub fn from_name(name: &str) -> Option<Backend> {
        Backend::ALL.into_iter().find(|backend| backend.name() == name)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the first line of a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// It accepts connections there.
    Listening(SocketAddr),
    /// This machine can't run it, for this reason; nobody's fault.
    Unavailable(String),
    /// It failed.
    Failed(String),
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Announcement::Listening(address) => write!(f, "listening {address}"),
            Announcement::Unavailable(reason) => write!(f, "unavailable {reason}"),
            Announcement::Failed(reason) => write!(f, "failed {reason}"),
        }
    }
}

impl Announcement {
    fn parse(line: &str) -> Announcement {
        let line = line.trim_end();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, rest.parse()) {
            ("listening", Ok(address)) => Announcement::Listening(address),
            ("unavailable", _) => Announcement::Unavailable(rest.to_owned()),
            ("failed", _) => Announcement::Failed(rest.to_owned()),
            _ => Announcement::Failed(format!("it said {line:?} instead of where it listens")),
        }
    }
}

/// What came of a start.
pub enum Start {
    /// The server runs.
    Running(Server),
    /// This machine can't run it, for this reason.
    Unavailable(String),
}

/// A running server. Dropped, it is killed.
pub struct Server {
    backend: Backend,
    child: Child,
    input: Option<ChildStdin>,
    address: SocketAddr,
    clock: CpuClock,
    control: Control,
}

impl Server {
    /// Starts `backend` over the files below `root` on its CPU, and waits until it accepts.
    ///
    /// # Errors
    ///
    /// It doesn't start.
    pub fn start(backend: Backend, root: &Path, placement: Placement) -> Result<Start> {
        let program = std::env::current_exe().map_err(Failure::context("find this executable"))?;
        let mut command = Command::new(program);
        command
            .args(["serve", backend.name(), "--root"])
            .arg(root)
            .args(["--cpu", &placement.server.to_string()])
            .args(["--parent", &std::process::id().to_string()]);
        let mut start = Server::spawn(backend, command)?;
        if let Start::Running(server) = &mut start {
            server.control = set_for_listeners(Pid::from_child(&server.child))
                .map_err(Failure::context(format!("set the congestion control of {backend}")))?;
        }
        Ok(start)
    }

    fn spawn(backend: Backend, mut command: Command) -> Result<Start> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::context(format!("start {backend}")))?;
        match announcement(&mut child) {
            Announcement::Listening(address) => {
                let pid = Pid::from_child(&child);
                let clock = CpuClock::of(pid)?;
                let input = child.stdin.take();
                let control = Control::Default;
                Ok(Start::Running(Server { backend, child, input, address, clock, control }))
            }
            Announcement::Unavailable(reason) => {
                end(&mut child);
                Ok(Start::Unavailable(reason))
            }
            Announcement::Failed(reason) => {
                end(&mut child);
                Err(Failure::new(format!("start {backend}: {reason}")))
            }
        }
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whose congestion control its connections have.
    pub fn control(&self) -> Control {
        self.control
    }

    /// Its CPU clock.
    pub fn clock(&self) -> CpuClock {
        self.clock
    }

    /// Its threads now.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn threads(&self) -> Result<Vec<Thread>> {
        threads_of(Pid::from_child(&self.child))
    }

    /// Ends it, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// It didn't end by itself (then it has been killed), or not well, or had ended before.
    pub fn stop(mut self) -> Result<()> {
        let backend = self.backend;
        if let Some(status) = self.child.try_wait().map_err(Failure::context("wait for a server"))? {
            return Err(Failure::new(format!("{backend} ended by itself: {status}")));
        }
        drop(self.input.take());
        match wait_for_exit(&mut self.child, STOP_TIMEOUT)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::new(format!("{backend} ended badly: {status}"))),
            None => {
                let seconds = STOP_TIMEOUT.as_secs();
                Err(Failure::new(format!("{backend} didn't end within {seconds} s, and was killed")))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills and reaps; both do nothing to a child that has been waited for.
fn end(child: &mut Child) {
    let _already_gone = child.kill();
    let _already_reaped = child.wait();
}

/// The first line of the child's output.
fn announcement(child: &mut Child) -> Announcement {
    let Some(output) = child.stdout.take() else {
        return Announcement::Failed("its output isn't a pipe".to_owned());
    };
    match wait_readable(&output, START_TIMEOUT) {
        Ok(true) => {}
        Ok(false) => {
            let seconds = START_TIMEOUT.as_secs();
            return Announcement::Failed(format!("it didn't accept connections within {seconds} s"));
        }
        Err(errno) => return Announcement::Failed(errno.to_string()),
    }
    // The child writes the line whole, in one write that a pipe doesn't split (pipe(7), PIPE_BUF).
    let mut line = String::new();
    match BufReader::new(output).read_line(&mut line) {
        Ok(0) => match child.wait() {
            Ok(status) => Announcement::Failed(format!("it ended before it accepted: {status}")),
            Err(error) => Announcement::Failed(error.to_string()),
        },
        Ok(_) => Announcement::parse(&line),
        Err(error) => Announcement::Failed(error.to_string()),
    }
}

/// Waits for the child's end; `None` when it still lives after `timeout`.
fn wait_for_exit(child: &mut Child, timeout: Duration) -> Result<Option<ExitStatus>> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())
        .map_err(Failure::context("watch a server's end"))?;
    match wait_readable(&pidfd, timeout) {
        Ok(true) => child.wait().map(Some).map_err(Failure::context("wait for a server")),
        Ok(false) => Ok(None),
        Err(errno) => Err(Failure::new(format!("watch a server's end: {errno}"))),
    }
}

fn wait_readable(fd: impl AsFd, timeout: Duration) -> rustix::io::Result<bool> {
    let timeout = Timespec::try_from(timeout).expect("a few seconds are a valid timespec");
    loop {
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            ready => return ready.map(|count| count > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Start> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Server::spawn(Backend::Epoll, command)
    }

    fn running(script: &str) -> Server {
        match shell(script) {
            Ok(Start::Running(server)) => server,
            Ok(Start::Unavailable(reason)) => panic!("unavailable: {reason}"),
            Err(failure) => panic!("{failure}"),
        }
    }

    fn failure(script: &str) -> String {
        match shell(script) {
            Ok(_) => panic!("started: {script}"),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn announcements_round_trip() {
        for announcement in [
            Announcement::Listening("127.0.0.1:80".parse().unwrap()),
            Announcement::Listening("[::1]:80".parse().unwrap()),
            Announcement::Unavailable("no io_uring here".to_owned()),
            Announcement::Failed("no such folder".to_owned()),
        ] {
            assert_eq!(Announcement::parse(&format!("{announcement}\n")), announcement);
        }
    }

    #[test]
    fn a_server_that_does_not_start_is_one_line() {
        let table = [
            ("echo failed no such folder", "start epoll: no such folder"),
            ("exit 3", "start epoll: it ended before it accepted: exit status: 3"),
            ("echo hello", "start epoll: it said \"hello\" instead of where it listens"),
            ("echo listening here", "start epoll: it said \"listening here\" instead of where it listens"),
        ];
        for (script, line) in table {
            assert_eq!(failure(script), line, "{script}");
        }
    }

    #[test]
    fn an_impossible_server_is_no_failure() {
        match shell("echo unavailable the kernel forbids it; cat") {
            Ok(Start::Unavailable(reason)) => assert_eq!(reason, "the kernel forbids it"),
            Ok(Start::Running(_)) => panic!("it runs"),
            Err(failure) => panic!("{failure}"),
        }
    }

    #[test]
    fn stops_at_the_end_of_its_input() {
        let server = running("echo listening 127.0.0.1:1; cat");
        assert_eq!(server.address().port(), 1);
        assert!(!server.threads().unwrap().is_empty());
        assert_eq!(server.stop(), Ok(()));
    }

    #[test]
    fn ends_that_are_wrong_are_told() {
        let bad = running("echo listening 127.0.0.1:1; cat; exit 7").stop().unwrap_err().to_string();
        assert_eq!(bad, "epoll ended badly: exit status: 7");
        let early = running("echo listening 127.0.0.1:1; exit 0");
        let mut watched = pidfd_open(Pid::from_child(&early.child), PidfdFlags::empty()).unwrap();
        assert!(wait_readable(&mut watched, Duration::from_secs(5)).unwrap());
        let early = early.stop().unwrap_err().to_string();
        assert_eq!(early, "epoll ended by itself: exit status: 0");
    }

    #[test]
    fn dropped_it_is_killed() {
        let server = running("echo listening 127.0.0.1:1; exec sleep 60");
        let watched = pidfd_open(Pid::from_child(&server.child), PidfdFlags::empty()).unwrap();
        drop(server);
        assert!(wait_readable(&watched, Duration::from_secs(5)).unwrap());
    }
}

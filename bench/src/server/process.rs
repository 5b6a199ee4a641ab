//! A server under test: a process that is started, watched and stopped from outside.
//!
//! Every server begins as this executable with the hidden subcommand of [`serve`](crate::server::serve), so
//! nothing has to be built beside the harness. The process pins itself and waits; the harness attaches its
//! counters and releases it; it serves, or becomes the peer. If the harness dies, the kernel ends it. For
//! that, the thread that starts a server has to live as long as the server (prctl(2), `PR_SET_PDEATHSIG`).

use crate::failure::{Failure, Result};
use crate::machine::placement::{Thread, threads_of};
use crate::server::availability::Availability;
use crate::server::built::Told;
use crate::server::calls::{Calls, Counters, Counting};
use crate::server::congestion::{Control, set_for_listeners};
use crate::server::cost::Cost;
use crate::server::ending::{self, Farewell, wait_readable};
use crate::server::memory::{self, Memory};
use crate::server::order::{Announcement, LaunchOrder, SUBCOMMAND, Work};
use crate::server::peer::{Instance, Peer};
use crate::server::seat::Seat;
use crate::server::serve::RELEASE;
use crate::server::target::{Runs, Target};
use crate::server::tree;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// From the start of the process to its first accept, or a peer's first answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts to be answered by a peer that has just been started.
const KNOCK_INTERVAL: Duration = Duration::from_millis(2);
/// A peer's port is free when it is chosen, and may be gone when the peer asks for it.
const PORTS_MAX: usize = 5;
/// How much of a peer's last line is quoted.
const LAST_WORDS_CHARS_MAX: usize = 300;

/// What came of a start.
#[expect(clippy::large_enum_variant, reason = "there is one for each start of a process")]
pub enum Start {
    /// The server runs.
    Running(Server),
    /// This machine can't run it, for this reason.
    Unavailable(String),
}

/// A running server. Dropped, it is killed, with all that descends from it.
pub struct Server {
    name: String,
    child: Child,
    watched: OwnedFd,
    input: Option<ChildStdin>,
    /// What ends it.
    farewell: Farewell,
    address: SocketAddr,
    control: Control,
    counters: RefCell<Counters>,
    /// The whole tree as it was when it began to answer: a child can't be found any more when its parent is gone.
    held: Vec<OwnedFd>,
    before: memory::Machine,
    run: TempDir,
}

impl Server {
    /// Starts `target` over the files below `root` on its CPUs, and waits until it accepts. A null server has to
    /// know its [`Constant`](crate::server::target::Constant), and looks at no file.
    ///
    /// # Errors
    ///
    /// It doesn't start, or ends before it accepts.
    pub fn start(target: &Target, root: &Path, seat: impl Into<Seat>, counting: Counting) -> Result<Start> {
        let seat = seat.into();
        let name = target.id();
        let run = tempfile::Builder::new()
            .prefix("triptych-")
            .tempdir()
            .map_err(Failure::context(format!("make a folder for {name}")))?;
        let root = root.to_owned();
        let work = match target.runs.clone() {
            Runs::Backend(backend, settings) => Work::Backend { backend, settings, root },
            #[cfg(feature = "hyper")]
            Runs::Hyper { sends_sidecars } => Work::Hyper { root, sends_sidecars },
            Runs::Constant(mechanism) => {
                if let Availability::Unavailable { reason } = target.find() {
                    return Ok(Start::Unavailable(reason));
                }
                let constant = target
                    .constant
                    .as_ref()
                    .ok_or_else(|| Failure::new(format!("start {name}: it has no answer to send")))?;
                let answer = run.path().join("answer");
                fs::write(&answer, &constant.answer)
                    .map_err(Failure::context(format!("write the answer of {name}")))?;
                Work::Constant { mechanism, answer }
            }
            Runs::Rung(name) => Work::Rung { rung: name.to_owned() },
            Runs::Program(peer) => return start_peer(peer, &root, run, seat, counting),
        };
        match Started::spawn(name, stub(seat, work)?, counting)?.announced(run)? {
            Start::Running(server) => server.controlled().map(Start::Running),
            unavailable @ Start::Unavailable(_) => Ok(unavailable),
        }
    }

    /// [`Server::start`], where a machine that can't run it is an error.
    pub(crate) fn running(
        target: &Target,
        root: &Path,
        seat: impl Into<Seat>,
        counting: Counting,
    ) -> Result<Server> {
        match Server::start(target, root, seat, counting)? {
            Start::Running(server) => Ok(server),
            Start::Unavailable(reason) => Err(Failure::new(reason)),
        }
    }

    /// The same server, whose connections have the congestion control of all.
    fn controlled(mut self) -> Result<Server> {
        match set_for_listeners(&tree::of(self.pid())) {
            Ok(control) => {
                self.control = control;
                Ok(self)
            }
            Err(errno) => {
                let error = format!("set the congestion control of {}: {errno}", self.name);
                // If it has died, its end says more than the sockets that are gone.
                Err(match self.stop() {
                    Ok(()) => Failure::new(error),
                    Err(end) => Failure::new(format!("{end} ({error})")),
                })
            }
        }
    }

    /// The number of the process that was started.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The numbers of all its processes now, that one first.
    pub fn processes(&self) -> Vec<u32> {
        let numbers = tree::of(self.pid()).into_iter();
        numbers.map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).collect()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whose congestion control its connections have.
    pub(crate) fn control(&self) -> Control {
        self.control
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The threads of all its processes now, the kernel's workers among them.
    pub fn threads(&self) -> Result<Vec<Thread>> {
        let tree = tree::of(self.pid());
        let mut threads = threads_of(tree[0])?;
        for child in &tree[1..] {
            // One that has ended meanwhile has no threads.
            threads.extend(threads_of(*child).unwrap_or_default());
        }
        Ok(threads)
    }

    /// What the whole tree has used, as soon as it rests.
    pub fn cost(&self) -> Result<Cost> {
        Cost::settled(self.pid())
    }

    /// What the whole tree has asked of the kernel; needs [`Counting::Calls`].
    pub fn calls(&self) -> Calls {
        self.counters.borrow_mut().read()
    }

    /// What memory the whole tree takes.
    pub fn memory(&self) -> Memory {
        Memory::of(self.pid(), &self.before)
    }

    /// Bytes that the whole tree has had read from block devices (`read_bytes`, proc_pid_io(5)); `None` where
    /// that may not be known.
    pub fn device_reads(&self) -> Option<u64> {
        tree::of(self.pid()).into_iter().map(tree::device_reads).sum()
    }

    /// What this project's program says of itself.
    pub(crate) fn told(&self) -> Option<Told> {
        Told::among(&fs::read_to_string(self.run.path().join(LOG)).ok()?)
    }

    /// Why it has ended, if it has.
    pub fn ended(&self) -> Option<String> {
        match wait_readable(&self.watched, Duration::ZERO) {
            Ok(true) => Some(format!("{} ended by itself{}", self.name, self.last_words())),
            _ => None,
        }
    }

    /// ": " and the last line that it wrote, or nothing.
    fn last_words(&self) -> String {
        last_words(self.run.path())
    }

    /// Ends it, and waits until it is gone, with all that descends from it.
    ///
    /// # Errors
    ///
    /// It didn't end by itself (then it has been killed), or not well, or had ended before.
    pub fn stop(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().map_err(Failure::context("wait for a server"))? {
            ending::kill_all(&self.held);
            return Err(Failure::new(format!(
                "{} ended by itself: {status}{}",
                self.name,
                self.last_words()
            )));
        }
        let input = self.input.take();
        let ended = ending::end(&mut self.child, &self.held, self.farewell, input);
        ended.map_err(|reason| Failure::new(format!("{} {reason}{}", self.name, self.last_words())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        ending::kill(&mut self.child);
        ending::kill_all(&self.held);
    }
}

/// The command that becomes the server.
fn stub(seat: Seat, work: Work) -> Result<Command> {
    let program = std::env::current_exe().map_err(Failure::context("find this executable"))?;
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    let order = LaunchOrder { cpus: seat.placement.server, address: seat.address, parent, work };
    let order = serde_json::to_string(&order).map_err(Failure::context("tell the server its folders"))?;
    let mut command = Command::new(program);
    command.args([SUBCOMMAND, &order]);
    Ok(command)
}

/// Starts a peer on a free port; on another one if it was taken meanwhile.
fn start_peer(
    peer: &'static Peer,
    root: &Path,
    run: TempDir,
    seat: Seat,
    counting: Counting,
) -> Result<Start> {
    let name = peer.id;
    let Some(program) = peer.locate() else {
        let Availability::Missing { install } = peer.find() else {
            return Ok(Start::Unavailable("it was there a moment ago".to_owned()));
        };
        return Ok(Start::Unavailable(format!("not installed; to install: {install}")));
    };
    let root = fs::canonicalize(root)
        .map_err(Failure::context(format!("start {name}: open the root {}", root.display())))?;
    let log = run.path().join(LOG);
    for _ in 0..PORTS_MAX {
        let address = free_address(seat).map_err(Failure::context("find a free port"))?;
        let instance = Instance { root: &root, run: run.path(), seat, port: address.port() };
        let call = peer.prepare(program.clone(), &instance)?;
        let work = Work::Program {
            program: call.program,
            arguments: call.arguments,
            variables: call.variables,
            log: log.clone(),
        };
        let started = Started::spawn(name, stub(seat, work)?, counting)?;
        if let Some(started) = started.answered(address, run.path())? {
            let mut server = started.into_server(address, run);
            server.farewell = peer.farewell;
            return server.controlled().map(Start::Running);
        }
    }
    Err(Failure::new(format!("start {name}: {PORTS_MAX} ports were taken as soon as they were free")))
}

/// The file in the run folder that gets a peer's output.
const LOG: &str = "log";

fn free_address(seat: Seat) -> std::io::Result<SocketAddr> {
    TcpListener::bind(seat.any_port())?.local_addr()
}

/// ": " and the last line of a peer's output, or nothing.
fn last_words(run: &Path) -> String {
    let log = fs::read(run.join(LOG)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let last = log.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.map(|line| format!(": {}", line.chars().take(LAST_WORDS_CHARS_MAX).collect::<String>()))
        .unwrap_or_default()
}

/// A process that has been released.
struct Started {
    name: String,
    child: Child,
    watched: OwnedFd,
    output: BufReader<ChildStdout>,
    counters: Counters,
    before: memory::Machine,
}

impl Started {
    /// Starts the process, waits for it, attaches its counters and releases it.
    fn spawn(name: &str, mut command: Command, counting: Counting) -> Result<Started> {
        let before = memory::Machine::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::context(format!("start {name}")))?;
        let pid = Pid::from_child(&child);
        let watched = pidfd_open(pid, PidfdFlags::empty());
        let (Ok(watched), Some(output)) = (watched, child.stdout.take()) else {
            ending::kill(&mut child);
            return Err(Failure::new(format!("start {name}: it can't be watched")));
        };
        let (output, counters) = (BufReader::new(output), Counters::none());
        let mut started = Started { name: name.to_owned(), child, watched, output, counters, before };
        match started.announcement() {
            Announcement::Ready => {}
            other => return Err(started.failed(&other)),
        }
        if counting == Counting::Calls {
            started.counters = Counters::attach(pid);
        }
        // A process that has ended already says so in its next announcement, or in the lack of one.
        if let Some(input) = &mut started.child.stdin {
            let _ended = input.write_all(RELEASE);
        }
        Ok(started)
    }

    /// What a server of this executable has come to.
    fn announced(mut self, run: TempDir) -> Result<Start> {
        match self.announcement() {
            Announcement::Listening(address) => Ok(Start::Running(self.into_server(address, run))),
            Announcement::Unavailable(reason) => {
                ending::kill(&mut self.child);
                Ok(Start::Unavailable(reason))
            }
            other => Err(self.failed(&other)),
        }
    }

    /// Waits until a program answers at `address`; `None` if its port was taken.
    fn answered(mut self, address: SocketAddr, run: &Path) -> Result<Option<Started>> {
        // The pipe ends as the program takes the instance of the stub, which says nothing unless that fails.
        let mut line = String::new();
        match wait_readable(self.output.get_ref(), START_TIMEOUT) {
            Ok(true) => {
                let _end = self.output.read_line(&mut line);
            }
            _ => return Err(self.failed(&late())),
        }
        if !line.is_empty() {
            return Err(self.failed(&Announcement::parse(&line)));
        }
        let deadline = Instant::now() + START_TIMEOUT;
        while !answers(address) {
            if let Ok(true) = wait_readable(&self.watched, KNOCK_INTERVAL) {
                let words = last_words(run);
                if words.to_lowercase().contains("in use") {
                    ending::kill(&mut self.child);
                    return Ok(None);
                }
                let status =
                    self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                return Err(self
                    .failed(&Announcement::Failed(format!("it ended before it answered: {status}{words}"))));
            }
            if Instant::now() > deadline {
                return Err(self.failed(&late()));
            }
        }
        Ok(Some(self))
    }

    fn into_server(mut self, address: SocketAddr, run: TempDir) -> Server {
        Server {
            name: self.name,
            input: self.child.stdin.take(),
            held: ending::hold(&self.child),
            child: self.child,
            watched: self.watched,
            farewell: Farewell::Input,
            address,
            control: Control::Default,
            counters: RefCell::new(self.counters),
            before: self.before,
            run,
        }
    }

    fn failed(&mut self, announcement: &Announcement) -> Failure {
        ending::kill(&mut self.child);
        let reason = match announcement {
            Announcement::Failed(reason) | Announcement::Unavailable(reason) => reason.clone(),
            other => format!("it said {:?} out of turn", other.to_string()),
        };
        Failure::new(format!("start {}: {reason}", self.name))
    }

    /// The next line of the child's output.
    fn announcement(&mut self) -> Announcement {
        if self.output.buffer().is_empty() {
            match wait_readable(self.output.get_ref(), START_TIMEOUT) {
                Ok(true) => {}
                Ok(false) => return late(),
                Err(errno) => return Announcement::Failed(errno.to_string()),
            }
        }
        // The child writes each line whole, in one write that a pipe doesn't split (pipe(7), PIPE_BUF).
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(0) => match self.child.wait() {
                Ok(status) => Announcement::Failed(format!("it ended before it accepted: {status}")),
                Err(error) => Announcement::Failed(error.to_string()),
            },
            Ok(_) => Announcement::parse(&line),
            Err(error) => Announcement::Failed(error.to_string()),
        }
    }
}

fn late() -> Announcement {
    Announcement::Failed(format!("it didn't accept connections within {} s", START_TIMEOUT.as_secs()))
}

/// Whether somebody there answers a request, with whatever it be: then a process is there that serves, not
/// just a socket that listens.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect_timeout(&address, START_TIMEOUT)?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        stream.read(&mut [0; 16])
    };
    ask().is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Signal;

    /// A process that has been released, and then does what the script says.
    fn shell(script: &str) -> Result<Started> {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo ready; read go; {script}")]);
        Started::spawn("sh", command, Counting::Cost)
    }

    fn announced(script: &str) -> Result<Start> {
        shell(script)?.announced(TempDir::new().unwrap())
    }

    fn running(script: &str) -> Server {
        match announced(script) {
            Ok(Start::Running(server)) => server,
            Ok(Start::Unavailable(reason)) => panic!("unavailable: {reason}"),
            Err(failure) => panic!("{failure}"),
        }
    }

    #[test]
    fn a_server_that_does_not_start_is_one_line() {
        let table = [
            ("echo failed no such folder", "start sh: no such folder"),
            ("exit 3", "start sh: it ended before it accepted: exit status: 3"),
            ("echo ready", "start sh: it said \"ready\" out of turn"),
            ("echo hello", "start sh: it said \"hello\" instead of where it listens"),
        ];
        for (script, line) in table {
            let failure = announced(script).err().map(|failure| failure.to_string());
            assert_eq!(failure.as_deref(), Some(line), "{script}");
        }
    }

    #[test]
    fn an_impossible_server_is_no_failure() {
        match announced("echo unavailable the kernel forbids it; cat") {
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
        assert_eq!(server.ended(), None);
        assert_eq!(server.stop(), Ok(()));
    }

    #[test]
    fn ends_that_are_wrong_are_told() {
        let bad = running("echo listening 127.0.0.1:1; cat; exit 7").stop().unwrap_err().to_string();
        assert_eq!(bad, "sh ended badly: exit status: 7");
        let early = running("echo listening 127.0.0.1:1; exit 0");
        assert!(wait_readable(&early.watched, Duration::from_secs(5)).unwrap());
        assert_eq!(early.ended().unwrap(), "sh ended by itself");
        assert_eq!(early.stop().unwrap_err().to_string(), "sh ended by itself: exit status: 0");
    }

    #[test]
    fn who_is_to_drain_has_to_succeed() {
        let end = |code: u8| {
            let script =
                format!("trap 'exit {code}' TERM; echo listening 127.0.0.1:1; while :; do sleep 0.01; done");
            let mut server = running(&script);
            server.farewell = Farewell::Drain(Signal::TERM);
            server.stop()
        };
        assert_eq!(end(0), Ok(()));
        assert_eq!(end(1).unwrap_err().to_string(), "sh ended badly: exit status: 1");
    }

    /// The script's child has to go with it.
    #[test]
    fn dropped_it_is_killed() {
        let server = running("sleep 60 & echo listening 127.0.0.1:1; wait");
        assert_eq!(server.held.len(), 2);
        let watched = ending::hold(&server.child);
        drop(server);
        for process in watched {
            assert!(wait_readable(&process, Duration::from_secs(5)).unwrap());
        }
    }

    #[test]
    fn who_ignores_the_signal_is_killed_in_time() {
        let mut server = running("trap '' TERM; sleep 60 & echo listening 127.0.0.1:1; wait; wait");
        server.farewell = Farewell::Signal(Signal::TERM);
        let watched = ending::hold(&server.child);
        let begun = Instant::now();
        let failure = server.stop().unwrap_err().to_string();
        assert!(
            failure.starts_with("sh didn't end within 5 s (2 of 2 processes left), and was killed"),
            "{failure}"
        );
        assert!(begun.elapsed() < Duration::from_secs(8));
        for process in watched {
            assert!(wait_readable(&process, Duration::ZERO).unwrap());
        }
    }

    #[test]
    fn a_server_that_dies_as_soon_as_it_listens_is_told_by_its_end() {
        let dead = running("echo listening 127.0.0.1:1; kill -9 $$");
        let failure = dead.controlled().err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(failure.contains("signal: 9") && failure.contains("congestion control"), "{failure}");
    }

    /// nginx's worker outlives a master that is killed.
    #[test]
    fn orphans_are_found() {
        let server = running("sleep 60 & echo listening 127.0.0.1:1; wait");
        let watched = ending::hold(&server.child);
        rustix::process::kill_process(server.pid(), Signal::KILL).unwrap();
        assert!(wait_readable(&server.watched, Duration::from_secs(5)).unwrap());
        assert!(server.stop().unwrap_err().to_string().starts_with("sh ended by itself: signal: 9"));
        for process in watched {
            assert!(wait_readable(&process, Duration::from_secs(5)).unwrap());
        }
    }

    #[test]
    fn the_last_words_are_quoted() {
        let run = TempDir::new().unwrap();
        assert_eq!(last_words(run.path()), "");
        fs::write(run.path().join(LOG), "first\n  bind: Address already in use \n\n").unwrap();
        assert_eq!(last_words(run.path()), ": bind: Address already in use");
    }
}

//! A server under test: `lab serve` as a process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use lab::rungs::Rung;
use libtest_mimic::Failed;
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, PATIENCE};

/// How often something is looked at that tells nobody when it changes.
const INTERVAL: Duration = Duration::from_millis(10);

/// A server, killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it says on standard error after its first line.
    said: Receiver<String>,
}

impl Server {
    pub(crate) fn start(rung: &Rung, service: &str) -> Result<Server, Failed> {
        Server::start_limited(rung, service, "true")
    }

    /// Starts a server after a command of the shell that sets limits.
    pub(crate) fn start_limited(rung: &Rung, service: &str, limits: &str) -> Result<Server, Failed> {
        Server::start_by(lab_limited(limits), rung, service)
    }

    /// Starts a server by a command that becomes the program.
    pub(crate) fn start_by(mut command: Command, rung: &Rung, service: &str) -> Result<Server, Failed> {
        let mut child = command
            .args(["serve", rung.name, "--service", service, "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or("standard error is piped")?;
        let (sender, said) = channel();
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut server = Server { child, address: SocketAddr::from(([0; 4], 0)), said };
        let line = server.said.recv_timeout(PATIENCE)?;
        let address = line
            .strip_prefix(&format!("{}: {service} on ", rung.name))
            .and_then(|rest| rest.strip_suffix(&format!(" ({})", rung.waits)));
        server.address = address.and_then(|address| address.parse().ok()).ok_or(line)?;
        Ok(server)
    }

    pub(crate) fn connect(&self) -> Result<Client, Failed> {
        Client::connect(self.address)
    }

    /// A client, once the server has served it: what came before it was accepted, too.
    pub(crate) fn connect_served(&self) -> Result<Client, Failed> {
        let mut client = self.connect()?;
        client.echo(b"served")?;
        Ok(client)
    }

    /// The next line on standard error.
    pub(crate) fn next_line(&self) -> Result<String, Failed> {
        Ok(self.said.recv_timeout(PATIENCE)?)
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(mut self, signal: Signal) -> Result<ExitStatus, Failed> {
        kill_process(self.pid()?, signal)?;
        within(PATIENCE, "the end of the server", || self.child.try_wait().ok().flatten())
    }

    /// Ends the server, which must have said nothing but these lines.
    pub(crate) fn end_having_said(self, lines: &[&str]) -> Result<(), Failed> {
        kill_process(self.pid()?, Signal::TERM)?;
        let mut said = Vec::new();
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err("it doesn't end".into()),
            }
        }
        let matches =
            said.len() == lines.len() && said.iter().zip(lines).all(|(said, line)| said.contains(line));
        if matches { Ok(()) } else { Err(format!("it has said {said:?}, not {lines:?}").into()) }
    }

    /// Stops the server, does something, and lets it go on: it finds the results of all that at once.
    pub(crate) fn while_stopped<T>(&self, what: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
        kill_process(self.pid()?, Signal::STOP)?;
        let outcome = what();
        kill_process(self.pid()?, Signal::CONT)?;
        outcome
    }

    fn pid(&self) -> Result<Pid, Failed> {
        let id = i32::try_from(self.child.id())?;
        Ok(Pid::from_raw(id).ok_or("a process has an id")?)
    }

    /// Bytes of memory that the server has.
    pub(crate) fn memory(&self) -> Result<u64, Failed> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("a line for VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// Time on a processor that the server has used.
    pub(crate) fn cpu_time(&self) -> Result<Duration, Failed> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("a name in parentheses")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.collect::<Result<Vec<_>, _>>()?.iter().sum();
        Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// The program.
pub(crate) fn lab() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lab"))
}

/// The program, after a command of the shell that sets limits.
pub(crate) fn lab_limited(limits: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limits} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_lab")]);
    shell
}

/// The program, which may have so many threads; not as root, for whom that limit doesn't hold (setrlimit(2),
/// RLIMIT_NPROC).
pub(crate) fn lab_with_threads(count: usize) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nproc={count}:{count}"));
    if rustix::process::getuid().is_root() {
        command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    command.arg(env!("CARGO_BIN_EXE_lab"));
    command
}

/// Waits until something has come about.
pub(crate) fn within<T>(
    bound: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, Failed> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("waited {bound:?} for {what}").into());
        }
        thread::sleep(INTERVAL);
    }
}

//! The programs: built by the cargo that runs the tests, started, and stopped.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::process::{Pid, Signal, kill_process};

use crate::backend::Backend;
use crate::deadline;

const PATIENCE: Duration = Duration::from_secs(20);

/// One of the programs that serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// A backend by itself.
    Of(Backend),
    /// The one that chooses among them, and is kept by another process.
    Triptych,
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 4] = [
        Program::Of(Backend::Blocking),
        Program::Of(Backend::Epoll),
        Program::Of(Backend::Uring),
        Program::Triptych,
    ];

    /// The crate's name, and the binary's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Program::Of(backend) => backend.name(),
            Program::Triptych => "triptych",
        }
    }

    /// What it serves with here.
    #[must_use]
    pub fn backend(self) -> Backend {
        match self {
            Program::Of(backend) => backend,
            Program::Triptych if Backend::Uring.missing().is_none() => Backend::Uring,
            Program::Triptych => Backend::Epoll,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The paths of the programs.
#[derive(Debug)]
pub struct Programs {
    paths: BTreeMap<Program, PathBuf>,
}

impl Programs {
    /// Builds all programs in the profile and the build directory of the running test.
    ///
    /// `CARGO_BIN_EXE_*` covers only programs of the same package, and the programs may not have been built at all. If
    /// they have been, this is quick.
    ///
    /// # Errors
    /// The output of cargo.
    pub fn build() -> Result<Programs, Failed> {
        // target/debug/deps/programs-0123456789abcdef
        let executable = std::env::current_exe()?;
        let mut above = executable.ancestors().skip(2);
        let (profile, target) = above.next().zip(above.next()).ok_or("the test has no build directory")?;
        let profile = match profile.file_name().and_then(OsStr::to_str) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
        let mut command = Command::new(cargo);
        command.args([
            "build",
            "--quiet",
            "--message-format",
            "json-render-diagnostics",
            "--profile",
            profile,
        ]);
        command.arg("--target-dir").arg(target);
        command.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
        for program in Program::ALL {
            command.args(["--package", program.name(), "--bin", program.name()]);
        }
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            return Err(format!("cargo: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let paths = Program::ALL.into_iter().filter_map(|program| {
            let messages = output.stdout.split(|byte| *byte == b'\n');
            messages
                .filter_map(|message| executable_of(program, message))
                .next_back()
                .map(|path| (program, path))
        });
        Ok(Programs { paths: paths.collect() })
    }

    /// Where this program is.
    ///
    /// # Errors
    /// If cargo didn't report it.
    pub fn path(&self, program: Program) -> Result<&Path, Failed> {
        Ok(self.paths.get(&program).ok_or_else(|| format!("cargo has built no program {program}"))?)
    }
}

/// The path of the program, if this cargo message reports it as built.
fn executable_of(program: Program, message: &[u8]) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_slice(message).ok()?;
    let is_program = message["target"]["name"] == program.name() && message["target"]["kind"][0] == "bin";
    is_program.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
}

/// The outcome of a program that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

/// A running program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: Captured,
    errors: Captured,
}

/// A program's output, collected by a thread so that the program never blocks on it.
#[derive(Debug)]
struct Captured {
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Captured {
    fn begin(stream: Option<impl Read + Send + 'static>) -> Captured {
        let text = Arc::new(Mutex::new(String::new()));
        let theirs = Arc::clone(&text);
        let thread = stream.map(|stream| {
            thread::spawn(move || {
                let mut lines = BufReader::new(stream);
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                    theirs.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
                    line.clear();
                }
            })
        });
        Captured { text, thread }
    }

    fn so_far(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, the text is incomplete and the test fails on that.
            let _ended = thread.join();
        }
        self.so_far()
    }
}

impl Running {
    /// Starts a program without this server's settings from the test's environment.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(command: &mut Command) -> Result<Running, Failed> {
        Running::start_writing_to(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// As [`start`](Self::start), with the outputs that the command has been given: those are nobody's here.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start_writing_to(command: &mut Command) -> Result<Running, Failed> {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRIPTYCH_") {
                command.env_remove(name);
            }
        }
        let mut child = command.stdin(Stdio::null()).spawn()?;
        let (output, errors) = (Captured::begin(child.stdout.take()), Captured::begin(child.stderr.take()));
        Ok(Running { child, output, errors })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process that serves: the one that it has started, if it has, else itself.
    ///
    /// # Errors
    /// Those of reading `/proc`.
    pub fn server_id(&self) -> Result<u32, Failed> {
        let id = self.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let newest = children.split_ascii_whitespace().filter_map(|child| child.parse().ok()).max();
        Ok(newest.unwrap_or(id))
    }

    /// Its standard error so far.
    #[must_use]
    pub fn errors(&self) -> String {
        self.errors.so_far()
    }

    /// Its standard output so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.so_far()
    }

    /// Waits until it reports where it serves, and returns this many addresses.
    ///
    /// # Errors
    /// If it doesn't report them, or ends.
    pub fn addresses(&mut self, count: usize) -> Result<Vec<SocketAddr>, Failed> {
        let mut addresses = Vec::new();
        let mut ended = false;
        deadline::within(PATIENCE, "the program to say where it serves", || {
            addresses = self.errors.so_far().lines().filter_map(address_in).collect();
            // A server that takes over says so once more.
            let mut said = HashSet::new();
            addresses.retain(|address| said.insert(*address));
            ended = self.has_ended();
            addresses.len() >= count || ended
        })?;
        if addresses.len() == count {
            Ok(addresses)
        } else {
            Err(format!("it said: {}", self.errors.so_far()).into())
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Asks it to end, and expects it to do so in good order.
    ///
    /// # Errors
    /// If it doesn't end, or with a status other than 0.
    pub fn end(self) -> Result<(), Failed> {
        self.signal(Signal::TERM)?;
        let ended = self.wait(PATIENCE)?;
        if ended.status.success() { Ok(()) } else { Err(format!("{ended:?}").into()) }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<(), Failed> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for the program to end.
    ///
    /// # Errors
    /// If it doesn't end in time.
    pub fn wait(mut self, patience: Duration) -> Result<Ended, Failed> {
        let mut status = None;
        deadline::within(patience, "the program to end", || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })?;
        let status = status.ok_or("the program has no status")?;
        Ok(Ended { status, output: self.output.end(), errors: self.errors.end() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail harmlessly after `wait`.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// `epoll: serving www on http://127.0.0.1:8080/ (2 workers)`
pub(crate) fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(" on http://")?;
    rest.split_once("/ ")?.0.parse().ok()
}

//! A server in its own process, for tests that exhaust a process's limits or measure its cost.
//!
//! The child is the test executable, restarted with hidden arguments. It serves until its standard input ends, at the
//! latest when the test's process does.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::time::Duration;

use common::{CacheConfig, Config, CopyMode, SiteOptions};
use libtest_mimic::Failed;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::backend::Backend;
use crate::deadline;
use crate::process::Process;
use crate::server::Server;

/// The first argument of a child process.
const HIDDEN: &str = "--serve-in-a-child";

const PATIENCE: Duration = Duration::from_secs(30);

/// The settings of a child's server.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `Config::connections_max`
    pub connections_max: usize,
    /// A lower descriptor limit for the child.
    pub descriptors_max: Option<u64>,
    /// The user to switch to, if permitted.
    pub user: Option<u32>,
    /// Whether files are copied: [`CopyMode::Read`].
    pub copies: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let connections_max = Config::default().connections_max;
        Settings { connections_max, descriptors_max: None, user: None, copies: false }
    }
}

/// A server in another process, with one worker. Dropping it ends the process.
#[derive(Debug)]
pub struct ChildServer {
    /// The address it listens on.
    pub address: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
}

impl ChildServer {
    /// Starts a child and waits until it accepts connections.
    ///
    /// # Errors
    /// If the process or the server can't be started.
    pub fn start(backend: Backend, root: &Path, settings: &Settings) -> Result<ChildServer, Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(HIDDEN).arg(backend.name()).arg(root).arg(settings.connections_max.to_string());
        command.arg(settings.copies.to_string());
        command.arg(settings.descriptors_max.map_or_else(String::new, |max| max.to_string()));
        if let Some(user) = settings.user {
            command.uid(user).gid(user);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            // An early end of file means the child has ended; it reports why on standard error.
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = line.trim_end().parse().map_err(|_| format!("{backend} didn't start in a child"))?;
        Ok(ChildServer { address, child, input })
    }

    /// The child's process.
    #[must_use]
    pub fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    /// Drains the server and waits for the child to end.
    ///
    /// # Errors
    /// If the child doesn't end, or fails.
    pub fn stop(mut self) -> Result<(), Failed> {
        drop(self.input.take());
        let mut status = None;
        deadline::within(PATIENCE, "the child to end", || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })?;
        match status {
            Some(status) if status.success() => Ok(()),
            other => Err(format!("the child ended with {other:?}").into()),
        }
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        // Both fail harmlessly after `stop`.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Runs the server if this process is a child.
#[must_use]
pub fn run_if_child() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(HIDDEN) {
        return None;
    }
    Some(match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("child: {}", failed.message().unwrap_or("failed"));
            ExitCode::FAILURE
        }
    })
}

#[expect(clippy::print_stdout, reason = "the child reports its address on standard output")]
fn serve(mut arguments: impl Iterator<Item = String>) -> Result<(), Failed> {
    let backend: Backend = parse(arguments.next())?;
    let root = arguments.next().ok_or("no root")?;
    let connections_max = parse(arguments.next())?;
    let copy = if parse(arguments.next())? { CopyMode::Read } else { CopyMode::Sendfile };
    let mut cache = CacheConfig::default();
    if let Some(descriptors) = arguments.next().filter(|argument| !argument.is_empty()) {
        let limit = parse(Some(descriptors))?;
        // With a cached file, running out of descriptors wouldn't show.
        cache = CacheConfig::OFF;
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    } else {
        crate::census::raise_descriptor_limit()?;
    }
    let config = Config { connections_max, grace: Duration::from_secs(5), cache, copy, ..Config::default() };
    let server = Server::start(backend, Path::new(&root), SiteOptions::default(), config)?;
    println!("{}", server.address);
    let mut until_the_end = Vec::new();
    std::io::stdin().read_to_end(&mut until_the_end)?;
    server.stop()
}

fn parse<T: FromStr<Err: Display>>(argument: Option<String>) -> Result<T, Failed> {
    argument.ok_or("an argument is missing")?.parse().map_err(|error: T::Err| error.to_string().into())
}

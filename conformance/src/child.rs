//! A server in a process of its own: for tests that take a process to its limits, or look at what it costs.
//!
//! The child is the test executable again, with hidden arguments. It serves until its standard input ends,
//! which it does at the latest when the test's own process does.

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

/// The first argument of a child.
const HIDDEN: &str = "--serve-in-a-child";

const PATIENCE: Duration = Duration::from_secs(30);

/// What a child's server is set to.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `Config::connections_max`
    pub connections_max: usize,
    /// The limit of descriptors, if the child shall have a lower one than the test.
    pub descriptors_max: Option<u64>,
    /// The user to become, if the test may.
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

/// A server in another process, with one worker. It ends when this is dropped.
#[derive(Debug)]
pub struct ChildServer {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    input: Option<ChildStdin>,
}

impl ChildServer {
    /// Starts a child and waits until it accepts.
    ///
    /// # Errors
    /// When the process or the server can't be started.
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
            // Ends without a line when the child does: it has said why on standard error.
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = line.trim_end().parse().map_err(|_| format!("{backend} didn't start in a child"))?;
        Ok(ChildServer { address, child, input })
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    /// Drains it and waits for the end.
    ///
    /// # Errors
    /// When it doesn't end, or not well.
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
        // After `stop` both find that it is gone.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Does the work of a child, if this process is one.
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

#[expect(clippy::print_stdout, reason = "standard output is how the child tells its address")]
fn serve(mut arguments: impl Iterator<Item = String>) -> Result<(), Failed> {
    let backend: Backend = parse(arguments.next())?;
    let root = arguments.next().ok_or("no root")?;
    let connections_max = parse(arguments.next())?;
    let copy = if parse(arguments.next())? { CopyMode::Read } else { CopyMode::Sendfile };
    let mut cache = CacheConfig::default();
    if let Some(descriptors) = arguments.next().filter(|argument| !argument.is_empty()) {
        let limit = parse(Some(descriptors))?;
        // Who has a file in the cache doesn't notice that it couldn't be opened.
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

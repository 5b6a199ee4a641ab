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

use common::{CacheConfig, CacheLevel, Config, CopyMode, SiteOptions};
use libtest_mimic::Failed;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

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
    /// `Config::head_timeout`, in whole milliseconds.
    pub head_timeout: Duration,
    /// `Config::send_timeout`, in whole milliseconds.
    pub send_timeout: Duration,
    /// `Config::grace`, in whole milliseconds.
    pub grace: Duration,
    /// What is cached.
    pub cache: CacheLevel,
    /// Whether files are copied: [`CopyMode::Read`].
    pub copies: bool,
    /// Whether directories are listed.
    pub listing: bool,
    /// A lower descriptor limit for the child.
    pub descriptors_max: Option<u64>,
    /// The user to switch to, if permitted.
    pub user: Option<u32>,
    /// How many processes and threads its user may have (`RLIMIT_NPROC`), where that isn't root.
    pub threads_max: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        let Config { connections_max, head_timeout, send_timeout, .. } = Config::default();
        Settings {
            connections_max,
            head_timeout,
            send_timeout,
            grace: Duration::from_secs(5),
            cache: CacheLevel::default(),
            copies: false,
            listing: false,
            descriptors_max: None,
            threads_max: None,
            user: None,
        }
    }
}

impl Settings {
    /// The arguments that tell a child of them, but for the user, whom it is started as.
    fn to_arguments(self) -> [String; 9] {
        [
            self.connections_max.to_string(),
            self.head_timeout.as_millis().to_string(),
            self.send_timeout.as_millis().to_string(),
            self.grace.as_millis().to_string(),
            format!("{:?}", self.cache),
            self.copies.to_string(),
            self.listing.to_string(),
            self.descriptors_max.map_or_else(String::new, |max| max.to_string()),
            self.threads_max.map_or_else(String::new, |max| max.to_string()),
        ]
    }

    fn from_arguments(arguments: &mut impl Iterator<Item = String>) -> Result<Settings, Failed> {
        let connections_max = parse(arguments.next())?;
        let head_timeout = Duration::from_millis(parse(arguments.next())?);
        let send_timeout = Duration::from_millis(parse(arguments.next())?);
        let grace = Duration::from_millis(parse(arguments.next())?);
        let cache = arguments.next().unwrap_or_default();
        let levels = [CacheLevel::Off, CacheLevel::Descriptors, CacheLevel::Contents];
        let cache =
            levels.into_iter().find(|level| format!("{level:?}") == cache).ok_or("an unknown level")?;
        let (copies, listing) = (parse(arguments.next())?, parse(arguments.next())?);
        let mut limit = || {
            let limit = arguments.next().filter(|argument| !argument.is_empty());
            limit.map(|limit| parse(Some(limit))).transpose()
        };
        let (descriptors_max, threads_max) = (limit()?, limit()?);
        Ok(Settings {
            connections_max,
            head_timeout,
            send_timeout,
            grace,
            cache,
            copies,
            listing,
            descriptors_max,
            threads_max,
            user: None,
        })
    }

    fn config(&self) -> Config {
        Config {
            connections_max: self.connections_max,
            head_timeout: self.head_timeout,
            send_timeout: self.send_timeout,
            grace: self.grace,
            copy: if self.copies { CopyMode::Read } else { CopyMode::Sendfile },
            cache: match self.cache {
                CacheLevel::Off => CacheConfig::OFF,
                level => CacheConfig { level, ..CacheConfig::default() },
            },
            ..Config::default()
        }
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
        command.arg(HIDDEN).arg(backend.name()).arg(root).args(settings.to_arguments());
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

    /// Sends a signal to the child: SIGSTOP and SIGCONT, so that much happens to it at once.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<(), Failed> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Begins the drain.
    pub fn drain(&mut self) {
        drop(self.input.take());
    }

    /// Drains the server and waits for the child to end.
    ///
    /// # Errors
    /// If the child doesn't end, or fails.
    pub fn stop(self) -> Result<(), Failed> {
        self.stop_within(PATIENCE)
    }

    /// As [`stop`](Self::stop), if the child ends in this time.
    ///
    /// # Errors
    /// If the child doesn't end, or fails.
    pub fn stop_within(mut self, patience: Duration) -> Result<(), Failed> {
        self.drain();
        let mut status = None;
        deadline::within(patience, "the child to end", || {
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
    let settings = Settings::from_arguments(&mut arguments)?;
    if let Some(limit) = settings.descriptors_max {
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    } else {
        crate::census::raise_descriptor_limit()?;
    }
    if let Some(limit) = settings.threads_max {
        setrlimit(Resource::Nproc, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    let options = SiteOptions { listing: settings.listing, ..SiteOptions::default() };
    let server = Server::start(backend, Path::new(&root), options, settings.config())?;
    println!("{}", server.address);
    let mut until_the_end = Vec::new();
    std::io::stdin().read_to_end(&mut until_the_end)?;
    server.stop()
}

fn parse<T: FromStr<Err: Display>>(argument: Option<String>) -> Result<T, Failed> {
    argument.ok_or("an argument is missing")?.parse().map_err(|error: T::Err| error.to_string().into())
}

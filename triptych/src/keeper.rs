//! The keeper: the first process. It binds the sockets, opens the log, starts the serving process inside its sandbox, and
//! starts another one when that is wanted; it touches no client's byte.
//!
//! Servers come and go on the same listening sockets, which the keeper holds. Once a new server is ready, the old one stops
//! accepting and lets its clients finish; then the new one accepts. Meanwhile connections wait in the sockets' queues: none is
//! refused, reset or cut, and nobody who has come to the new server finds the old one again.
//!
//! | what happens | what the keeper does |
//! |---|---|
//! | SIGUSR2 | starts the program that is at its path now; once that serves, becomes that program itself (execve(2), same process) |
//! | SIGHUP, SIGUSR1 | opens the log again and hands it over; a switch of the root that has failed is tried again |
//! | the root's path leads elsewhere | starts another server, since the sandbox of the one that serves is bound to the old root |
//! | SIGTERM, SIGINT, SIGQUIT | lets the servers drain, and kills what is left when `--grace` is over; a second one ends them at once |
//! | a server ends by itself | starts another one, at growing intervals if that keeps happening |
//! | a new server doesn't start | the old one serves on |

use std::ffi::{CString, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use common::service::cli::{Flags, Outside, Program};
use common::service::shutdown::HURRY_MAX;
use common::service::socket_path::SocketPath;
use common::{Bound, Names, StartError};
use nix::sys::signal::{SigSet, Signal as Blocked};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::channel::{Channel, Counts, Message};
use crate::kept::CLOSE_MAX;
use crate::pid_file::PidFile;
use crate::user::{self, Identity};

/// Says to a process of this program what it is to be. Its channel is its standard input.
pub(crate) const ROLE: &str = "TRIPTYCH_ROLE";
/// A server of this keeper.
pub(crate) const SERVER: &str = "server";
/// The keeper itself, with a new program.
pub(crate) const KEEPER: &str = "keeper";

/// So long may a server take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// The interval between two starts after a server has ended by itself, and what it may grow to.
const RESTART_MIN: Duration = Duration::from_millis(500);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// What a server has beyond its own bounds before it is killed.
const KILL_DELAY: Duration = Duration::from_millis(500);
/// A server that has served for so long starts anew with the least interval.
const STEADY: Duration = Duration::from_secs(60);

/// The signals that are for the keeper.
const SIGNALS: [i32; 7] = [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// Why a server was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// There was none.
    Start,
    /// It is to replace one.
    Moved,
    Upgrade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting(Cause),
    Serving,
    /// Another one has taken over.
    Leaving,
}

/// A server, while its process lives.
struct Server {
    pid: Pid,
    channel: Channel,
    /// Whether the channel has another end.
    is_open: bool,
    stage: Stage,
    since: Instant,
    /// When it is killed if it is still there.
    kill_at: Option<Instant>,
}

/// What a keeper holds.
pub(crate) struct Keeper<'a> {
    program: Program<'a>,
    flags: &'a Flags,
    arguments: Vec<OsString>,
    /// Where the program is, as it was called.
    path: PathBuf,
    identity: Option<Identity>,
    /// Says to others which process this is, once a server serves.
    pid_file: Option<PidFile>,
    outside: Outside,
    /// What other servers see while this one lives.
    names: Names,
    servers: Vec<Server>,
    /// What has been done so far, for those who look after the server.
    counts: Counts,
    signals: UnixStream,
    /// When the new server accepts, whether or not the one before has said that it doesn't any more.
    accepts_at: Option<Instant>,
    /// A signal has asked for the end.
    is_ending: bool,
    has_served: bool,
    restart_at: Option<Instant>,
    restart_interval: Duration,
    /// Until then no server is started because the root's path leads elsewhere, and for how long the next time.
    moves_after: Instant,
    moves_interval: Duration,
    /// With which the keeper is to end.
    code: u8,
}

impl<'a> Keeper<'a> {
    /// Opens what is outside the root, or takes over from the program that this process was before.
    pub(crate) fn new(
        program: Program<'a>,
        flags: &'a Flags,
        arguments: Vec<OsString>,
        takes_over: bool,
    ) -> Result<Keeper<'a>, StartError> {
        let identity = flags.user().map(user::look_up).transpose()?;
        let path = program_path(&arguments)?;
        let pid_file = flags.pid_file().map(PidFile::prepare).transpose()?;
        let (outside, names) = if takes_over {
            (Outside { bound: Vec::new(), log: None, admin: None }, Names::default())
        } else {
            program.open_outside(flags)?
        };
        if let Some(identity) = identity.filter(|_| !takes_over) {
            own(&names, identity)?;
        }
        let signals = signals()?;
        let mut keeper = Keeper {
            program,
            flags,
            arguments,
            path,
            identity,
            pid_file,
            outside,
            names,
            servers: Vec::new(),
            counts: Counts::default(),
            signals,
            accepts_at: takes_over.then(|| Instant::now() + CLOSE_MAX + KILL_DELAY),
            is_ending: false,
            has_served: takes_over,
            restart_at: None,
            restart_interval: RESTART_MIN,
            moves_after: Instant::now(),
            moves_interval: RESTART_MIN,
            code: 0,
        };
        if takes_over {
            keeper.take_over()?;
            keeper.publish_id();
        } else {
            keeper.start(Cause::Start).map_err(|error| cannot_start(&keeper.path, &error))?;
        }
        Ok(keeper)
    }

    /// Keeps servers until the end is asked for, and none is left.
    pub(crate) fn run(mut self) -> ExitCode {
        // One may have ended while this process was another program.
        self.reap();
        while !self.is_over() {
            if let Err(error) = self.wait() {
                return self.program.fail(&error.into());
            }
            self.check_times();
        }
        self.program.finish_saying();
        ExitCode::from(self.code)
    }

    fn is_over(&self) -> bool {
        self.servers.is_empty() && (self.is_ending || !self.has_served)
    }

    // ---- wait

    fn wait(&mut self) -> io::Result<()> {
        let timeout = self.next_time().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        let watched = std::iter::once(self.signals.as_fd());
        let open: Vec<&Server> = self.servers.iter().filter(|server| server.is_open).collect();
        let watched = watched.chain(open.iter().map(|server| server.channel.as_fd()));
        let mut events: Vec<_> = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match poll(&mut events, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            other => other?,
        };
        let ready: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
        drop(events);
        let talking = open.iter().zip(&ready[1..]).filter(|(_, ready)| **ready);
        let talking: Vec<Pid> = talking.map(|(server, _)| server.pid).collect();
        for pid in talking {
            self.listen_to(pid);
        }
        if ready[0] {
            self.on_signals()?;
        }
        Ok(())
    }

    /// When something is due.
    fn next_time(&self) -> Option<Instant> {
        let of_servers = self.servers.iter().filter_map(|server| server.kill_at);
        of_servers.chain(self.restart_at).chain(self.accepts_at).min()
    }

    fn check_times(&mut self) {
        let now = Instant::now();
        for server in &mut self.servers {
            if server.kill_at.is_some_and(|at| now >= at) {
                server.kill_at = None;
                match server.stage {
                    Stage::Starting(_) if !self.is_ending => self
                        .program
                        .say(format_args!("error: a server hasn't started within {} s", START_MAX.as_secs())),
                    _ => self
                        .program
                        .say(format_args!("error: the server hasn't ended in time, and is killed")),
                }
                let _gone = kill_process(server.pid, Signal::KILL);
            }
        }
        if self.accepts_at.is_some_and(|at| now >= at) {
            self.let_accept();
        }
        if self.restart_at.is_some_and(|at| now >= at) {
            self.restart_at = None;
            self.counts.restarts += 1;
            if let Err(error) = self.start(Cause::Start) {
                self.program.say(format_args!("error: {}", cannot_start(&self.path, &error)));
                self.start_later();
            }
        }
    }

    // ---- servers

    /// Starts a server, hands it what it needs, and doesn't wait for it.
    fn start(&mut self, cause: Cause) -> io::Result<()> {
        let (channel, theirs) = Channel::pair()?;
        let mut command = Command::new(&self.path);
        command.arg0(&self.arguments[0]).args(&self.arguments[1..]).env(ROLE, SERVER);
        for variable in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            command.env_remove(variable);
        }
        // Ctrl-C is for the keeper, which passes it on.
        command.stdin(theirs).process_group(0);
        if let Some(Identity { user, group }) = self.identity {
            command.uid(user).gid(group);
        }
        let child = command.spawn()?;
        drop(command);
        self.counts.starts += 1;
        self.tell_counts();
        let pid = Pid::from_child(&child);
        // One that ends at once is told apart by its exit, not by a broken channel.
        let _sent = self.hand_outside(&channel);
        let since = Instant::now();
        let (stage, kill_at) = (Stage::Starting(cause), Some(since + START_MAX));
        self.servers.push(Server { pid, channel, is_open: true, stage, since, kill_at });
        Ok(())
    }

    fn hand_outside(&self, channel: &Channel) -> io::Result<()> {
        self.hand_sockets(channel)?;
        channel.send(&Message::Counts(self.counts.as_own()), &[])?;
        channel.send(&Message::Serve, &[])
    }

    /// Tells whoever answers the admin listener what has been done by now.
    fn tell_counts(&self) {
        let message = Message::Counts(self.counts.as_own());
        for server in self.servers.iter().filter(|server| server.stage != Stage::Leaving) {
            let _gone = server.channel.send(&message, &[]);
        }
    }

    fn hand_sockets(&self, channel: &Channel) -> io::Result<()> {
        for Bound { endpoint, sockets } in &self.outside.bound {
            let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
            channel.send(&Message::Listen(endpoint.to_string()), &sockets)?;
        }
        if let Some(log) = &self.outside.log {
            channel.send(&Message::Log, &[log.as_fd()])?;
        }
        if let Some((address, socket)) = &self.outside.admin {
            channel.send(&Message::Admin(address.to_string()), &[socket.as_fd()])?;
        }
        Ok(())
    }

    fn listen_to(&mut self, pid: Pid) {
        let Some(server) = self.servers.iter_mut().find(|server| server.pid == pid) else { return };
        let (messages, open) = server.channel.pending().unwrap_or_default();
        let stage = server.stage;
        if !open {
            // With the end of the channel comes the end of the process, or it is none of ours.
            server.is_open = false;
            let kill_at = Instant::now() + HURRY_MAX + KILL_DELAY;
            server.kill_at = Some(server.kill_at.map_or(kill_at, |at| at.min(kill_at)));
        }
        for message in messages {
            match (message, stage) {
                (Message::Ready, Stage::Starting(cause)) => self.on_ready(pid, cause),
                (Message::Closed, Stage::Leaving) => self.let_accept(),
                (Message::Moved, Stage::Serving) => self.on_moved(),
                _ => {}
            }
        }
    }

    fn on_ready(&mut self, pid: Pid, cause: Cause) {
        let now = Instant::now();
        let mut is_first = true;
        for server in &mut self.servers {
            if server.pid == pid {
                (server.stage, server.since) = (Stage::Serving, now);
                // If the end has been asked for, it has its bounds.
                if !self.is_ending {
                    server.kill_at = None;
                }
            } else if server.stage == Stage::Serving {
                is_first &= server.channel.send(&Message::HandOver, &[]).is_err();
                server.stage = Stage::Leaving;
            }
        }
        if is_first {
            self.let_accept();
        } else {
            self.accepts_at = Some(now + CLOSE_MAX + KILL_DELAY);
        }
        if !std::mem::replace(&mut self.has_served, true) {
            self.publish_id();
        }
        self.moves_interval = RESTART_MIN;
        notify(&[NotifyState::Ready]);
        if cause == Cause::Upgrade {
            self.become_new_program();
        }
    }

    fn publish_id(&self) {
        if let Some(Err(error)) = self.pid_file.as_ref().map(PidFile::publish) {
            self.program.say(format_args!("error: {error}"));
        }
    }

    /// No other server accepts connections.
    fn let_accept(&mut self) {
        self.accepts_at = None;
        for server in self.servers.iter().filter(|server| server.stage == Stage::Serving) {
            let _gone = server.channel.send(&Message::Accept, &[]);
        }
    }

    fn on_moved(&mut self) {
        if self.is_ending || self.is_starting() || Instant::now() < self.moves_after {
            return;
        }
        self.program.say(format_args!("{} leads to another directory now", self.flags.root().display()));
        self.replace(Cause::Moved);
    }

    /// Starts another server; if that can't be, the one that serves goes on.
    fn replace(&mut self, cause: Cause) {
        match cause {
            Cause::Start => {}
            Cause::Moved => self.counts.switches += 1,
            Cause::Upgrade => self.counts.upgrades += 1,
        }
        if let Err(error) = self.start(cause) {
            let error = cannot_start(&self.path, &error);
            self.program.say(format_args!("error: {error}; the old server goes on"));
            self.count_failed(cause);
            self.move_later();
        }
    }

    /// What was tried has failed.
    fn count_failed(&mut self, cause: Cause) {
        match cause {
            Cause::Start => {}
            Cause::Moved => self.counts.failed_switches += 1,
            Cause::Upgrade => self.counts.failed_upgrades += 1,
        }
        self.tell_counts();
    }

    fn is_starting(&self) -> bool {
        self.servers.iter().any(|server| matches!(server.stage, Stage::Starting(_)))
    }

    /// Tried again while the root's path leads elsewhere, but not all the time.
    fn move_later(&mut self) {
        self.moves_after = Instant::now() + self.moves_interval;
        self.moves_interval = (self.moves_interval * 2).min(RESTART_MAX);
    }

    fn start_later(&mut self) {
        self.restart_at = Some(Instant::now() + self.restart_interval);
        self.restart_interval = (self.restart_interval * 2).min(RESTART_MAX);
    }

    // ---- the end of a server

    /// Takes notice of every process that has ended: as the first process of a container, of strangers, too.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if status.exited() || status.signaled() {
                self.on_end(pid, ExitStatus::from_raw(status.as_raw()));
            }
        }
    }

    fn on_end(&mut self, pid: Pid, status: ExitStatus) {
        let Some(at) = self.servers.iter().position(|server| server.pid == pid) else { return };
        let Server { stage, since, .. } = self.servers.swap_remove(at);
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        match stage {
            Stage::Leaving => self.let_accept(),
            Stage::Starting(_) if self.is_ending => {}
            _ if self.is_ending => self.code = self.code.max(code.unwrap_or(1)),
            // It has said why.
            Stage::Starting(Cause::Start) if !self.has_served => self.code = code.unwrap_or(1).max(1),
            Stage::Starting(Cause::Start) => {
                self.program.say(format_args!("error: no server has started: {status}"));
                self.start_later();
            }
            Stage::Starting(cause @ (Cause::Moved | Cause::Upgrade)) => {
                self.count_failed(cause);
                self.program.say(format_args!(
                    "error: the new server has not started ({status}); the old server goes on"
                ));
                notify(&[NotifyState::Ready]);
                self.move_later();
            }
            Stage::Serving => {
                if since.elapsed() >= STEADY {
                    self.restart_interval = RESTART_MIN;
                }
                self.program
                    .say(format_args!("error: the server has ended by itself ({status}); starting another"));
                self.start_later();
            }
        }
    }
}

// ---- signals

impl Keeper<'_> {
    fn on_signals(&mut self) -> io::Result<()> {
        let mut numbers = [0; 64];
        let count = match self.signals.read(&mut numbers) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            count => count?,
        };
        for number in &numbers[..count] {
            match i32::from(*number) {
                SIGCHLD => self.reap(),
                SIGHUP | SIGUSR1 => self.reload(),
                SIGUSR2 => self.upgrade(),
                signal => self.end(signal),
            }
        }
        Ok(())
    }

    /// The first time: drains. The second time: at once. Whoever doesn't obey is killed.
    fn end(&mut self, signal: i32) {
        let is_first = !std::mem::replace(&mut self.is_ending, true);
        if is_first {
            notify(&[NotifyState::Stopping]);
        }
        self.restart_at = None;
        // Who comes from now on is refused, as soon as the server doesn't accept any more either.
        self.outside.bound.clear();
        let kill_at = Instant::now() + KILL_DELAY + if is_first { self.flags.end_max() } else { HURRY_MAX };
        for server in &mut self.servers {
            let _gone = server.channel.send(&Message::End(signal), &[]);
            if let Stage::Starting(_) = server.stage {
                // It may be no server at all. One that is does what its channel says.
                let _gone = kill_process(server.pid, Signal::TERM);
            }
            server.kill_at = Some(kill_at);
        }
    }

    fn reload(&mut self) {
        let file = match self.flags.log_path().and_then(|_| self.flags.open_log().transpose()) {
            Some(Ok(file)) => Some(file),
            Some(Err(error)) => {
                self.program.say(format_args!("{error}; the file that is open stays in use"));
                None
            }
            None => None,
        };
        self.moves_after = Instant::now();
        for server in &self.servers {
            let descriptors: Vec<BorrowedFd<'_>> = file.iter().map(AsFd::as_fd).collect();
            let _gone = server.channel.send(&Message::Reload, &descriptors);
        }
        if file.is_some() {
            self.outside.log = file;
        }
    }

    fn upgrade(&mut self) {
        if self.is_ending {
            self.program.say(format_args!("no upgrade: the server is shutting down"));
        } else if self.is_starting() {
            self.program.say(format_args!("no upgrade yet: another server is starting"));
        } else {
            self.program.say(format_args!("upgrading to {}", self.path.display()));
            self.replace(Cause::Upgrade);
        }
    }
}

// ---- the keeper's own upgrade

impl Keeper<'_> {
    /// Becomes the program that the new server is: the same process, so whoever looks after it needn't know. What is held
    /// waits in a channel that is the new program's standard input.
    fn become_new_program(&mut self) {
        let error = match self.hand_everything() {
            Ok(channel) => self.execute(channel),
            Err(error) => error,
        };
        self.program.say(format_args!("the new server serves, but the keeper stays as it was: {error}"));
        self.count_failed(Cause::Upgrade);
    }

    fn hand_everything(&self) -> io::Result<OwnedFd> {
        let (channel, theirs) = Channel::pair()?;
        self.hand_sockets(&channel)?;
        let names: Vec<BorrowedFd<'_>> = self.names.sockets().iter().map(AsFd::as_fd).collect();
        let paths = self.names.paths().iter().map(SocketPath::parts);
        let paths = paths.map(|(path, identity)| (path.to_owned(), identity)).collect();
        channel.send(&Message::Names(paths), &names)?;
        channel.send(&Message::Counts(self.counts.as_own()), &[])?;
        for server in &self.servers {
            let pid = server.pid.as_raw_pid();
            let serves = server.stage == Stage::Serving;
            channel.send(&Message::Server { pid, serves }, &[server.channel.as_fd()])?;
        }
        channel.send(&Message::Serve, &[])?;
        Ok(theirs)
    }

    /// Returns only if that fails. Signals that come meanwhile wait until the new program handles them.
    fn execute(&self, channel: OwnedFd) -> io::Error {
        self.program.finish_saying();
        let mask: SigSet = SIGNALS.iter().filter_map(|signal| Blocked::try_from(*signal).ok()).collect();
        if let Err(errno) = mask.thread_block() {
            return errno.into();
        }
        let error = self.replace_program(&channel);
        let _unblocked = mask.thread_unblock();
        error
    }

    fn replace_program(&self, channel: &OwnedFd) -> io::Error {
        let text = |text: &[u8]| CString::new(text);
        let prepared = || -> io::Result<(CString, Vec<CString>, Vec<CString>)> {
            let path = text(self.path.as_os_str().as_bytes())?;
            let arguments: Result<Vec<_>, _> =
                self.arguments.iter().map(|argument| text(argument.as_bytes())).collect();
            let variables = std::env::vars_os().filter(|(name, _)| name != ROLE);
            let role = std::iter::once((ROLE.into(), KEEPER.into()));
            let variables = variables.chain(role).map(|(name, value): (OsString, OsString)| {
                text(&[name.as_bytes(), b"=", value.as_bytes()].concat())
            });
            Ok((path, arguments?, variables.collect::<Result<_, _>>()?))
        };
        let (path, arguments, variables) = match prepared() {
            Ok(prepared) => prepared,
            Err(error) => return error,
        };
        if let Err(errno) = rustix::stdio::dup2_stdin(channel) {
            return errno.into();
        }
        match nix::unistd::execve(&path, &arguments, &variables) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        }
    }

    /// Takes what the program before held.
    fn take_over(&mut self) -> Result<(), StartError> {
        let lost = |error: io::Error| StartError::new(format!("the keeper before said nothing: {error}"));
        let mut channel = Channel::over(io::stdin().as_fd().try_clone_to_owned()?);
        loop {
            let message = channel.receive().map_err(lost)?;
            let (message, mut descriptors) =
                message.ok_or_else(|| lost(io::ErrorKind::UnexpectedEof.into()))?;
            match message {
                Message::Listen(address) => {
                    let endpoint = address.parse().map_err(StartError::new)?;
                    match self.outside.bound.iter_mut().find(|bound| bound.endpoint == endpoint) {
                        Some(bound) => bound.sockets.extend(descriptors),
                        None => self.outside.bound.push(Bound { endpoint, sockets: descriptors }),
                    }
                }
                Message::Log => self.outside.log = descriptors.pop().map(Into::into),
                Message::Names(paths) => {
                    let paths =
                        paths.into_iter().map(|(path, identity)| SocketPath::from_parts(path, identity));
                    self.names = Names::new(descriptors, paths.collect());
                }
                Message::Admin(address) => {
                    self.outside.admin = address.parse().ok().zip(descriptors.pop());
                }
                Message::Server { pid, serves } => {
                    let stage = if serves { Stage::Serving } else { Stage::Leaving };
                    let (Some(pid), Some(socket)) = (Pid::from_raw(pid), descriptors.pop()) else { continue };
                    let channel = Channel::over(socket);
                    let since = Instant::now();
                    self.servers.push(Server { pid, channel, is_open: true, stage, since, kill_at: None });
                }
                Message::Counts(counts) => self.counts = counts,
                Message::Serve => break,
                _ => {}
            }
        }
        // The version is another one.
        self.tell_counts();
        self.program.say(format_args!("upgraded"));
        Ok(())
    }
}

/// Gives the unix sockets to who serves: a proxy's user joins that group.
fn own(names: &Names, Identity { user, group }: Identity) -> Result<(), StartError> {
    for path in names.paths() {
        let (path, _) = path.parts();
        std::os::unix::fs::lchown(path, Some(user), Some(group))
            .map_err(|error| StartError::new(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// One byte for each signal that comes: its number.
fn signals() -> io::Result<UnixStream> {
    let mut signals = Signals::new(SIGNALS)?;
    let mask: SigSet = SIGNALS.iter().filter_map(|signal| Blocked::try_from(*signal).ok()).collect();
    // The program before has blocked them.
    mask.thread_unblock()?;
    let (ours, mut theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let number = u8::try_from(signal).unwrap_or_default();
            if io::Write::write_all(&mut theirs, &[number]).is_err() {
                return;
            }
        }
    })?;
    Ok(ours)
}

/// Where this program was started from, so that another one may be there later. As the shell found it: a link on the way may
/// lead elsewhere by then.
fn program_path(arguments: &[OsString]) -> Result<PathBuf, StartError> {
    let here = || Ok(std::env::current_exe()?);
    let Some(name) = arguments.first().filter(|name| !name.is_empty()) else { return here() };
    if name.as_bytes().contains(&b'/') {
        return Ok(std::path::absolute(name)?);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.map_or_else(here, Ok)
}

fn cannot_start(path: &std::path::Path, error: &io::Error) -> StartError {
    StartError::new(format!("{} can't be started: {error}", path.display()))
}

/// Tells systemd, where it asks for that (sd_notify(3)).
fn notify(states: &[NotifyState<'_>]) {
    let _nobody_listens = sd_notify::notify(false, states);
}

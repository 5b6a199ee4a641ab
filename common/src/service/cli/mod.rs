//! The command line: the flags, and the program around a server.

mod address;
mod beside;
mod check;
mod descriptors;
mod door;
mod flags;
mod generate;
mod health;
mod hints;
mod model;
mod network;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::machine::notice::Notice;
use crate::service::admin::{self, Admin};
use crate::service::cli::descriptors::Descriptors;
use crate::service::cli::door::Door;
use crate::service::cli::flags::{command, parse};
use crate::service::cli::model::Choice;
use crate::service::config::Config;
use crate::service::endpoint::Endpoint;
use crate::service::listen::{Bound, Listeners, Names};
use crate::service::log::{AccessLog, CLOSE_MAX};
use crate::service::say::{self, say};
use crate::service::shared::Service;
use crate::service::start::StartError;
use crate::site::root::Site;

pub use flags::{Flags, SandboxMode};
pub use model::{Io, Model, Serve};

/// A program that serves: what it is called, and the models that it can serve with, the best one first.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// With which every line begins that it says, once it has parsed its flags.
    pub name: &'static str,
    /// One, or several to choose from.
    pub models: &'a [Model],
}

/// What a server needs from outside its root; it is opened before anything is served.
#[derive(Debug)]
pub struct Outside {
    /// The sockets that listen.
    pub bound: Vec<Bound>,
    /// The access log's file, if there is one.
    pub log: Option<File>,
    /// Where the admin listener is, and its socket, if there is to be one.
    pub admin: Option<(SocketAddr, OwnedFd)>,
}

/// What is around a serving process: signals and nothing else ([`Alone`]), or another process that keeps it.
pub trait Around {
    /// Finds out where to listen, before anything is opened: at how many addresses.
    ///
    /// # Errors
    /// One line for the operator.
    fn addresses(&mut self, flags: &Flags) -> Result<u64, StartError>;

    /// Opens what is outside the root, or takes what was opened for it.
    ///
    /// # Errors
    /// One line for the operator.
    fn outside(&mut self, flags: &Flags) -> Result<Outside, StartError>;

    /// The root is open, and this process has no other thread yet.
    ///
    /// # Errors
    /// One line for the operator.
    fn confine(&mut self, root: BorrowedFd<'_>) -> Result<(), StartError>;

    /// From now on the service can be told to drain, to open its log again.
    ///
    /// # Errors
    /// If a thread can't be started.
    fn follow(&mut self, service: &Arc<Service>) -> io::Result<()>;

    /// What to do where the root's path leads elsewhere, if it isn't to be followed in this process.
    fn on_moved(&self) -> Option<Box<dyn Fn() + Send>>;

    /// All workers are set up, but none runs yet. Returns what the start line is to say of what is around.
    ///
    /// # Errors
    /// One line for the operator: nothing is served.
    fn ready(&mut self, io: Io) -> Result<String, StartError>;

    /// The server serves, and has said so.
    fn serving(&mut self);
}

/// A process that nobody keeps.
#[derive(Debug, Default)]
pub struct Alone {
    signals: Option<Signals>,
    door: Option<Door>,
    _names: Option<Names>,
}

impl Around for Alone {
    fn addresses(&mut self, flags: &Flags) -> Result<u64, StartError> {
        Ok(self.door.insert(Door::of(flags)?).addresses())
    }

    fn outside(&mut self, flags: &Flags) -> Result<Outside, StartError> {
        // From here on no signal ends the process; those that come early are followed once it serves.
        self.signals = Some(Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])?);
        let door = self.door.take().map_or_else(|| Door::of(flags), Ok)?;
        let (outside, names) = open_outside(flags, door)?;
        self._names = Some(names);
        Ok(outside)
    }

    fn confine(&mut self, _root: BorrowedFd<'_>) -> Result<(), StartError> {
        Ok(())
    }

    fn follow(&mut self, service: &Arc<Service>) -> io::Result<()> {
        self.signals.take().map_or(Ok(()), |signals| beside::follow_signals(signals, service))
    }

    fn on_moved(&self) -> Option<Box<dyn Fn() + Send>> {
        None
    }

    fn ready(&mut self, _io: Io) -> Result<String, StartError> {
        Ok(String::new())
    }

    fn serving(&mut self) {}
}

/// Listens, and opens the log.
fn open_outside(flags: &Flags, door: Door) -> Result<(Outside, Names), StartError> {
    if let Some(warning) = &door.warning {
        say(format_args!("warning: {warning}"));
    }
    let mut listeners = door.open(&flags.listening())?;
    let names = listeners.take_names();
    let admin = flags.admin.map(|address| bind_admin(address, &listeners)).transpose()?;
    Ok((Outside { bound: listeners.into_bound(), log: flags.open_log()?, admin }, names))
}

/// Binds the admin listener, which has an address of its own.
fn bind_admin(address: SocketAddr, listeners: &Listeners) -> Result<(SocketAddr, OwnedFd), StartError> {
    if listeners.endpoints().iter().any(|endpoint| endpoint.overlaps(&address.into())) {
        return Err(StartError::new(format!(
            "admin on {address}: --listen has this address; choose another one with --admin"
        )));
    }
    admin::bind(address)
}

/// Runs a server as a program: flags, signals, one line per address once it accepts connections, exit code.
///
/// The exit code is 0 after a drain, 1 if the server can't start or has failed, or if answers were cut off, 2 for bad
/// usage. After a second signal it is 128 and the signal's number.
pub fn run(name: &'static str, models: &[Model]) -> ExitCode {
    run_with(name, models, std::env::args_os())
}

/// As [`run`], with these arguments, of which the first one is the program's name.
pub fn run_with<T: Into<OsString> + Clone>(
    name: &'static str,
    models: &[Model],
    arguments: impl IntoIterator<Item = T>,
) -> ExitCode {
    let program = Program { name, models };
    let flags = match program.parse(arguments) {
        Ok(flags) => flags,
        Err(error) => return program.answer(&error),
    };
    if let Some(code) = program.instead(&flags) {
        return code;
    }
    program.serve(&flags, &mut Alone::default())
}

impl Program<'_> {
    /// The flags in these arguments, of which the first one is the program's name, and in the environment.
    ///
    /// # Errors
    /// What clap says, or one line about a variable.
    pub fn parse<T: Into<OsString> + Clone>(
        &self,
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<Flags, clap::Error> {
        say::speak_as(self.name);
        parse(self.name, self.models, arguments)
    }

    /// Says what parsing has come to, where that isn't flags: help or the version, on standard output, or what is wrong with
    /// the command line. The exit code.
    pub fn answer(&self, outcome: &clap::Error) -> ExitCode {
        if !outcome.use_stderr() {
            let written = printed(outcome.print().and_then(|()| io::stdout().flush()));
            return written.map_or_else(|error| self.fail(&error), |()| ExitCode::SUCCESS);
        }
        // As every line begins. A standard error that is broken has nobody who would be told.
        let _broken = write!(io::stderr(), "{}: ", self.name).and_then(|()| outcome.print());
        ExitCode::from(u8::try_from(outcome.exit_code()).unwrap_or(2))
    }

    /// Does what is to be done instead of serving, if something is: the exit code.
    #[must_use]
    pub fn instead(&self, flags: &Flags) -> Option<ExitCode> {
        let outcome = if flags.check {
            check::check(flags)
        } else if flags.check_health {
            health::check(flags.admin?)
        } else {
            printed(flags.generate?.write(self.name, command(self.name, self.models)))
        };
        let code = outcome.map_or_else(|error| self.fail(&error), |()| ExitCode::SUCCESS);
        say::finish(say::FINISH_MAX);
        Some(code)
    }

    /// Opens what a server needs from outside its root, for another process that serves. With it come names, to be held
    /// for as long as a server listens there.
    ///
    /// # Errors
    /// One line for the operator, also if that process wouldn't have enough descriptors.
    pub fn open_outside(&self, flags: &Flags) -> Result<(Outside, Names), StartError> {
        let open = descriptors::open();
        let door = Door::of(flags)?;
        let possible = self.models.iter().filter(|model| flags.io == Io::Auto || model.io == flags.io);
        let worker = possible.map(|model| model.worker_descriptors).max().unwrap_or_default();
        flags.check(&Descriptors::new(open, worker, door.addresses()))?;
        open_outside(flags, door)
    }

    /// Serves until the end, and says whatever there is to be said.
    pub fn serve(&self, flags: &Flags, around: &mut dyn Around) -> ExitCode {
        let mut end_wait = say::FINISH_MAX;
        let code = match start(self.models, flags, around, &mut end_wait) {
            Ok(code) => code,
            Err(error) => {
                say(format_args!("error: {error}"));
                ExitCode::FAILURE
            }
        };
        say::finish(end_wait);
        code
    }

    /// Does what SIGINT or SIGTERM ask for: the first one starts the drain, at once or after `--drain-delay`; a second one
    /// ends the process, within a second.
    pub fn end(&self, service: &Arc<Service>, signal: i32) {
        beside::end(service, signal);
    }

    /// Says why the program can't go on.
    pub fn fail(&self, error: &StartError) -> ExitCode {
        self.say(format_args!("error: {error}"));
        say::finish(say::FINISH_MAX);
        ExitCode::FAILURE
    }

    /// Says a line on standard error, at some time soon. This never waits and never fails.
    pub fn say(&self, line: fmt::Arguments<'_>) {
        say(line);
    }

    /// Waits until all has been said, for a second at most.
    pub fn finish_saying(&self) {
        say::finish(say::FINISH_MAX);
    }
}

/// What has become of what was written to standard output. A reader that has gone has had enough.
fn printed(written: io::Result<()>) -> Result<(), StartError> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(StartError::new(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A log that reaches a size limit (setrlimit(2), `RLIMIT_FSIZE`) is a log that can't be written, and no reason to end:
/// with a handler for SIGXFSZ the write fails with `EFBIG` instead. Nobody asks whether it has run.
fn outlive_size_limits() -> Result<(), StartError> {
    let registered = signal_hook::flag::register(SIGXFSZ, Arc::default());
    Ok(registered.map(drop)?)
}

/// Serves until the end. Notes how long what was said may then be waited for.
fn start(
    models: &[Model],
    flags: &Flags,
    around: &mut dyn Around,
    end_wait: &mut Duration,
) -> Result<ExitCode, StartError> {
    let open = descriptors::open();
    let addresses = around.addresses(flags)?;
    let choice = Choice::of(models, flags.io);
    let descriptors = Descriptors::new(open, choice.model.worker_descriptors, addresses);
    flags.check(&descriptors)?;
    outlive_size_limits()?;
    let site = flags.open_site()?;
    let config = flags.config(&descriptors);
    let warning = flags.warning(descriptors.limit, config.connections_max);
    let outside = around.outside(flags)?;
    let model = choice.model.io.name();
    let mut admin = outside.admin.map(|(address, socket)| Admin::new(address, socket, model));
    around.confine(site.root())?;
    let listeners = Listeners::of(outside.bound, config.workers)?;
    let service = service(flags, site, config, outside.log)?;
    beside::tell_faults(&service);
    let service = Arc::new(service);
    beside::end_with_panics(&service);
    beside::enforce_grace(&service)?;
    around.follow(&service)?;
    beside::follow_root(&service, around.on_moved())?;
    if let Some(interval) = flags.stats {
        beside::report_stats(&service, interval)?;
    }
    let places = places(&listeners.endpoints());
    let (root, how, workers) = (flags.root.display(), choice.text(), workers(service.config.workers));
    let served = (choice.model.serve)(listeners, &service, &mut || {
        let started = start_admin(admin.take(), &service).map_err(StartError::from);
        let around_text = match started.and_then(|()| around.ready(choice.model.io)) {
            Ok(text) => text,
            Err(error) => return service.shutdown.fail(error.to_string()),
        };
        if let Some(reason) = choice.reason() {
            say(format_args!("without io_uring: {reason}"));
        }
        if let Some(warning) = &warning {
            say(format_args!("warning: {warning}"));
        }
        for (url, in_network) in &places {
            say(format_args!("serving {root} on {url}{how} ({workers}{around_text})"));
            for url in in_network {
                say(format_args!("  in this network: {url}"));
            }
        }
        around.serving();
    });
    let outcome = finish(flags, &service, served);
    *end_wait = service.end_wait(say::FINISH_MAX);
    outcome
}

/// The addresses as they are said, and those that others in the same network use. Looked up before, because whoever
/// serves may no longer ask the system.
fn places(endpoints: &[Endpoint]) -> Vec<(String, Vec<String>)> {
    endpoints.iter().map(|endpoint| (endpoint.url(), network::urls(endpoint))).collect()
}

/// What is shared by the workers, and tells the operator what he should know.
fn service(flags: &Flags, site: Site, config: Config, log: Option<File>) -> Result<Service, StartError> {
    let index = site.options().index.clone();
    let mut service = Service::new(site, config)?;
    let log = log.map(|file| AccessLog::start(file, flags.log_path())).transpose()?;
    service.log = log.map(|log| log.in_format(flags.access_log_format));
    service.unlisted = Some(Arc::new(Notice::new(move |folder| {
        let index = index.as_str();
        say(format_args!("{folder} has no {index}; with --listing it would be listed"));
    })));
    service.unintroduced = Some(Arc::new(Notice::new(move |peer| {
        say(format_args!(
            "the trusted proxy {peer} has begun a connection without the header of --proxy-protocol, so it was closed"
        ));
    })));
    Ok(service)
}

/// Closes the log, and says how it has ended.
fn finish(flags: &Flags, service: &Service, served: io::Result<()>) -> Result<ExitCode, StartError> {
    if let Some(log) = &service.log {
        log.close(service.end_wait(CLOSE_MAX));
    }
    let cut_off = cut_off(service);
    if let Some(reason) = service.shutdown.failure() {
        if let Some(cut_off) = cut_off {
            say(format_args!("{cut_off}"));
        }
        return Err(StartError::new(reason));
    }
    served?;
    if flags.stats.is_some() {
        say(format_args!("total {}, {}", service.stats.totals(), service.stats.cached()));
    }
    match (service.shutdown.hurried_by(), cut_off) {
        (None, None) => Ok(ExitCode::SUCCESS),
        (None, Some(cut_off)) => Err(StartError::new(cut_off)),
        (Some(signal), cut_off) => {
            if let Some(cut_off) = cut_off {
                say(format_args!("{cut_off}"));
            }
            Ok(u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from))
        }
    }
}

/// Lets the admin listener answer, and says where.
fn start_admin(admin: Option<Admin>, service: &Arc<Service>) -> io::Result<()> {
    let Some(admin) = admin else { return Ok(()) };
    let address = admin.address();
    admin.start(Arc::clone(service))?;
    say(format_args!("admin on http://{address}/"));
    Ok(())
}

/// How many clients have been cut off in an answer by the end, and why, if there are any.
fn cut_off(service: &Service) -> Option<String> {
    let connections = match service.stats.totals().cut_off {
        0 => return None,
        1 => "1 connection was".to_owned(),
        more => format!("{more} connections were"),
    };
    Some(match service.shutdown.hurried_by() {
        Some(_) => format!("{connections} cut off in an answer by a second signal"),
        None => {
            let grace = humantime::format_duration(service.config.grace);
            format!("{connections} cut off in an answer when --grace ({grace}) was over")
        }
    })
}

fn workers(count: usize) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
}

//! The hidden subcommand: this executable as a server under test.
//!
//! The process pins itself first, so that every thread and child inherits its CPUs. It raises its limit of
//! descriptors, asks the kernel to end it when the harness dies, and waits until the harness has attached its
//! counters. Then it serves, or becomes another program (execve(2) keeps all of this).
//!
//! Servers of this executable announce where they listen, and end with their standard input.

use crate::machine::placement::confine;
use crate::server::constant;
#[cfg(feature = "hyper")]
use crate::server::hyper;
use crate::server::order::{Announcement, LaunchOrder, Work};
use crate::server::target::{Backend, Cache, Settings, rung};
use common::{CacheConfig, Compress, Config, Listeners, Service, Site, SiteOptions};
use lab::rungs::Workers;
use lab::services::Kind;
use lab::{End, Setup};
use rustix::process::{Resource, Rlimit, Signal};
use rustix::process::{getppid, getrlimit, set_parent_process_death_signal, setrlimit};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What the harness writes to let the process go on.
pub(crate) const RELEASE: &[u8] = b"go\n";

/// Serves, if that is what this process was started for; `None` when it is the harness.
pub fn serve_if_asked() -> Option<ExitCode> {
    let order = LaunchOrder::parse(std::env::args_os().skip(1))?;
    Some(match obey(order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(announcement) => {
            announce(&announcement);
            ExitCode::FAILURE
        }
    })
}

fn obey(LaunchOrder { cpus, address, parent, work }: LaunchOrder) -> Result<(), Announcement> {
    confine(cpus).map_err(failed)?;
    let (workers, address) = (cpus.count(), SocketAddr::from((address, 0)));
    raise_descriptor_limit()?;
    // The main process of a peer passes SIGTERM on to its workers, which SIGKILL would leave behind.
    die_with(parent, if let Work::Program { .. } = work { Signal::TERM } else { Signal::KILL })?;
    announce(&Announcement::Ready);
    await_release()?;
    match work {
        Work::Backend { backend, settings, root } => serve(backend, &settings, &root, workers, address),
        Work::Constant { mechanism, answer } => {
            let answer = std::fs::read(answer).map_err(failed)?;
            let listener = listen(address)?;
            exit_at_end_of_input()?;
            constant::serve(mechanism, listener, answer).map_err(failed)
        }
        Work::Rung { rung } => climb(&rung, address),
        #[cfg(feature = "hyper")]
        Work::Hyper { root, sends_sidecars } => {
            let listener = listen(address)?;
            exit_at_end_of_input()?;
            hyper::serve(listener, &root, sends_sidecars).map_err(failed)
        }
        #[cfg(not(feature = "hyper"))]
        Work::Hyper { .. } => Err(Announcement::Unavailable("built without the feature hyper".to_owned())),
        Work::Program { program, arguments, variables, log } => {
            Err(become_program(&program, arguments, variables, &log))
        }
    }
}

/// Serves with so many workers until the standard input ends.
fn serve(
    backend: Backend,
    settings: &Settings,
    root: &Path,
    workers: usize,
    address: SocketAddr,
) -> Result<(), Announcement> {
    if let (Backend::Uring, Err(reason)) = (backend, uring::available()) {
        return Err(Announcement::Unavailable(reason));
    }
    let cache = match settings.cache {
        Cache::Off => CacheConfig::OFF,
        level => CacheConfig { level: level.into(), ..CacheConfig::default() },
    };
    let copy = if settings.copies { common::CopyMode::Read } else { common::CopyMode::Sendfile };
    // Without a grace period a drain drops what is left at once: the client has let go of its connections.
    let grace = Duration::ZERO;
    let config = Config { workers, grace, cache, copy, tune: settings.tune(), ..Config::default() };
    let compress = if settings.is_uncompressed { Compress::Off } else { Compress::default() };
    let site = Site::open_root(root, SiteOptions { compress, ..SiteOptions::default() }).map_err(failed)?;
    let listeners = Listeners::bind(&[address.into()], &config).map_err(failed)?;
    let address = listeners.endpoints()[0].address().ok_or_else(|| failed("not a TCP address"))?;
    let service = Arc::new(Service::new(site, config).map_err(failed)?);
    let draining = Arc::clone(&service);
    at_end_of_input(move || draining.shutdown.drain())?;
    let ready = || announce(&Announcement::Listening(address));
    match backend {
        Backend::Blocking => blocking::serve(listeners, &service, ready),
        Backend::Epoll => epoll::serve(listeners, &service, ready),
        Backend::Uring => uring::serve(listeners, &service, ready),
    }
    .map_err(failed)
}

/// Serves as a rung of the lab does, until the standard input ends. Where workers are the point it has two.
fn climb(name: &str, address: SocketAddr) -> Result<(), Announcement> {
    const WORKERS: usize = 2;
    let rung = rung(name).ok_or_else(|| failed("no such rung"))?;
    (rung.available)().map_err(Announcement::Unavailable)?;
    let (workers, sockets) = match rung.workers {
        Workers::None => (1, 1),
        Workers::Serve => (WORKERS, 1),
        Workers::Accept => (WORKERS, WORKERS),
    };
    let (listeners, address) = lab::listen_on(address, sockets).map_err(failed)?;
    let end = Arc::new(End::default());
    let ending = Arc::clone(&end);
    at_end_of_input(move || ending.begin())?;
    announce(&Announcement::Listening(address));
    let service = lab::services::Service::new(Kind::Http);
    (rung.serve)(Setup { listeners, workers, service, end }).map_err(failed)
}

/// Listens, and says where: from here on connections wait until they are accepted.
fn listen(address: SocketAddr) -> Result<TcpListener, Announcement> {
    let socket = common::service::listen::listen_socket(address, None).map_err(failed)?;
    let listener = TcpListener::from(socket);
    announce(&Announcement::Listening(listener.local_addr().map_err(failed)?));
    Ok(listener)
}

/// Only returns when it fails.
fn become_program(
    program: &Path,
    arguments: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    log: &Path,
) -> Announcement {
    let outputs = File::create(log).and_then(|output| Ok((output.try_clone()?, output)));
    let (output, errors) = match outputs {
        Ok(outputs) => outputs,
        Err(error) => return failed(error),
    };
    let mut command = Command::new(program);
    // What the user has set for a server of his own is no part of a comparison.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    failed(command.args(arguments).envs(variables).stdin(Stdio::null()).stdout(output).stderr(errors).exec())
}

fn is_setting(variable: &OsStr) -> bool {
    variable.as_encoded_bytes().starts_with(b"TRIPTYCH_")
}

pub(crate) fn failed(error: impl ToString) -> Announcement {
    Announcement::Failed(error.to_string())
}

/// As many descriptors as the administrator allows: thousands of connections have to fit.
fn raise_descriptor_limit() -> Result<(), Announcement> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(failed)
}

/// Asks for a signal when the harness ends (prctl(2), PR_SET_PDEATHSIG), however it ends.
fn die_with(parent: i32, signal: Signal) -> Result<(), Announcement> {
    set_parent_process_death_signal(Some(signal)).map_err(failed)?;
    // It may have ended before the call; then another process has adopted this one.
    let adopted = getppid().is_none_or(|now| now.as_raw_nonzero().get() != parent);
    if adopted { Err(failed("the harness is gone")) } else { Ok(()) }
}

/// Waits until the harness has attached its counters.
fn await_release() -> Result<(), Announcement> {
    let mut line = Vec::new();
    std::io::stdin().lock().read_until(b'\n', &mut line).map_err(failed)?;
    if line == RELEASE { Ok(()) } else { Err(failed("the harness let go of it before it was released")) }
}

/// The harness closes the pipe to end the server in good order.
fn at_end_of_input(end: impl FnOnce() + Send + 'static) -> Result<(), Announcement> {
    let wait = move || {
        let _end_or_error = std::io::stdin().read_to_end(&mut Vec::new());
        end();
    };
    thread::Builder::new().name("end-of-input".to_owned()).spawn(wait).map(drop).map_err(failed)
}

/// For servers that have nothing to finish.
fn exit_at_end_of_input() -> Result<(), Announcement> {
    at_end_of_input(|| std::process::exit(0))
}

/// One line, one write. A harness that is gone doesn't read it.
pub(crate) fn announce(announcement: &Announcement) {
    let line = format!("{announcement}\n");
    let _unread = std::io::stdout().write_all(line.as_bytes());
}

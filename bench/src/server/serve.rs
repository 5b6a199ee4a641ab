//! The hidden subcommand: this executable as a server under test.
//!
//! `serve BACKEND --root DIR --cpu N --parent PID` pins itself first, so that every thread it starts inherits
//! the place; asks the kernel to be killed when the harness dies; announces where it listens; and serves with
//! one worker until its standard input ends.

use crate::machine::placement::pin;
use crate::server::target::{Announcement, Backend};
use common::{Config, Listeners, Service, Site, SiteOptions};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
struct Task {
    backend: Backend,
    root: PathBuf,
    cpu: usize,
    parent: i32,
}

/// Serves, if that is what this process was started for; `None` when it is the harness.
pub fn serve_if_asked() -> Option<ExitCode> {
    let task = parse(std::env::args_os().skip(1))?;
    Some(match serve(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(announcement) => {
            announce(&announcement);
            ExitCode::FAILURE
        }
    })
}

/// `None` for everything that isn't the harness's own call: "serve" alone may be somebody's filter.
fn parse(arguments: impl Iterator<Item = OsString>) -> Option<Task> {
    let arguments: Vec<OsString> = arguments.collect();
    let [serve, backend, root_flag, root, cpu_flag, cpu, parent_flag, parent] = &arguments[..] else {
        return None;
    };
    let flags = [(serve, "serve"), (root_flag, "--root"), (cpu_flag, "--cpu"), (parent_flag, "--parent")];
    if flags.iter().any(|(found, name)| found.as_os_str() != *name) {
        return None;
    }
    Some(Task {
        backend: Backend::from_name(backend.to_str()?)?,
        root: PathBuf::from(root),
        cpu: cpu.to_str()?.parse().ok()?,
        parent: parent.to_str()?.parse().ok()?,
    })
}

fn serve(task: Task) -> Result<(), Announcement> {
    pin(task.cpu).map_err(failed)?;
    die_with(task.parent)?;
    if let (Backend::Uring, Err(reason)) = (task.backend, uring::available()) {
        return Err(Announcement::Unavailable(reason));
    }
    // Without a grace period a drain drops what is left at once: the client has let go of its connections.
    let config = Config { workers: 1, grace: Duration::ZERO, ..Config::default() };
    let site = Site::open_root(&task.root, SiteOptions::default()).map_err(failed)?;
    let loopback = ([127, 0, 0, 1], 0).into();
    let listeners = Listeners::bind(&[loopback], &config).map_err(failed)?;
    let address = listeners.addresses()[0];
    let service = Arc::new(Service::new(site, config).map_err(failed)?);
    drain_at_end_of_input(Arc::clone(&service))?;
    let ready = || announce(&Announcement::Listening(address));
    match task.backend {
        Backend::Blocking => blocking::serve(listeners, &service, ready),
        Backend::Epoll => epoll::serve(listeners, &service, ready),
        Backend::Uring => uring::serve(listeners, &service, ready),
    }
    .map_err(failed)
}

fn failed(error: impl ToString) -> Announcement {
    Announcement::Failed(error.to_string())
}

/// Asks for SIGKILL when the harness ends (prctl(2), PR_SET_PDEATHSIG), however it ends.
fn die_with(parent: i32) -> Result<(), Announcement> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    // It may have ended before the call; then another process has adopted this one.
    let adopted = getppid().is_none_or(|now| now.as_raw_nonzero().get() != parent);
    if adopted { Err(failed("the harness is gone")) } else { Ok(()) }
}

/// The harness closes the pipe to end the server in good order.
fn drain_at_end_of_input(service: Arc<Service>) -> Result<(), Announcement> {
    let wait = move || {
        let _end_or_error = std::io::stdin().read_to_end(&mut Vec::new());
        service.shutdown.drain();
    };
    thread::Builder::new().name("end-of-input".to_owned()).spawn(wait).map(drop).map_err(failed)
}

/// One line, one write. A harness that is gone doesn't read it.
fn announce(announcement: &Announcement) {
    let line = format!("{announcement}\n");
    let _unread = std::io::stdout().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<Task> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn only_the_harness_s_own_call() {
        let task = parsed("serve uring --root /srv --cpu 1 --parent 77").unwrap();
        let expected = Task { backend: Backend::Uring, root: PathBuf::from("/srv"), cpu: 1, parent: 77 };
        assert_eq!(task, expected);
        for line in [
            "--bench",
            "serve --bench",
            "serve nginx --root /srv --cpu 1 --parent 77",
            "serve uring --root /srv --cpu one --parent 77",
            "serve uring --root /srv --cpu 1",
            "bench uring --root /srv --cpu 1 --parent 77",
        ] {
            assert_eq!(parsed(line), None, "{line}");
        }
    }
}

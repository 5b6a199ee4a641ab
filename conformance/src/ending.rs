//! Programs that come to a bad end: the program around a server, with servers that fail.
//!
//! The child is the test executable, restarted with hidden arguments.

use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;

use common::service::cli::{Io, Model, Serve, run_with};
use common::{Listeners, Service, Worker, run_workers};
use libtest_mimic::Failed;
use rustix::event::{PollFd, PollFlags, poll};

use crate::program::Running;

/// A bell, and events of files.
const WORKER_DESCRIPTORS: u64 = 2;

/// The first argument of a child process.
const HIDDEN: &str = "--come-to-a-bad-end";

/// What a server does that fails, by name. Each has two workers; the second one is well.
const ENDS: [(&str, Serve); 4] = [
    ("worker-fails", |listeners, service, ready| {
        serve(listeners, service, ready, || Err(io::Error::other("no more")))
    }),
    ("worker-panics", |listeners, service, ready| {
        serve(listeners, service, ready, || panic!("of this worker"))
    }),
    ("thread-panics", |listeners, service, ready| {
        serve(listeners, service, ready, || {
            thread::Builder::new().name("other".to_owned()).spawn(|| panic!("of another thread")).map(drop)
        })
    }),
    ("worker-hangs", |listeners, service, ready| {
        serve(listeners, service, ready, || {
            loop {
                thread::park();
            }
        })
    }),
];

/// Two workers that serve nobody: the first one does this, then both wait for the drain.
fn serve(
    listeners: Listeners,
    service: &Arc<Service>,
    ready: &mut dyn FnMut(),
    act: fn() -> io::Result<()>,
) -> io::Result<()> {
    let run = |worker: Worker| {
        if thread::current().name() == Some("worker-0") {
            act()?;
        }
        poll(&mut [PollFd::new(&worker.service().shutdown, PollFlags::IN)], None)?;
        Ok(())
    };
    run_workers(listeners, service, |worker, _sockets| Ok(worker), run, ready)
}

/// Starts a program that ends like this, with these arguments.
///
/// # Errors
/// If it can't be started.
pub fn start(end: &str, arguments: &[&str]) -> Result<Running, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([HIDDEN, end, "--listen", "127.0.0.1:0", "--workers", "2"]).args(arguments);
    Running::start(command.stdin(Stdio::null()))
}

/// Runs the program if this process is one.
#[must_use]
pub fn become_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(HIDDEN) {
        return None;
    }
    let end = arguments.next().unwrap_or_default();
    let Some((name, serve)) = ENDS.into_iter().find(|(name, _)| *name == end) else {
        return Some(ExitCode::FAILURE);
    };
    let model =
        Model { io: Io::Blocking, worker_descriptors: WORKER_DESCRIPTORS, available: || Ok(()), serve };
    Some(run_with(name, &[model], [name.to_owned()].into_iter().chain(arguments)))
}

//! The worker threads of a server: set up together, ended together.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread;

use crate::service::listen::Listeners;
use crate::service::shared::Service;
use crate::service::worker::Worker;

/// Runs one thread per worker and returns when all of them have ended.
///
/// `setup` builds the worker's server on the thread that will run it, because a ring belongs to the thread that created
/// it. `ready` is called once every worker is set up; then `run` starts in each. If a setup fails, no worker runs and
/// its error is returned.
///
/// # Errors
/// The first error of a `setup` or `run`, or the failure to start a thread.
pub fn run_workers<S>(
    listeners: Listeners,
    service: &Arc<Service>,
    setup: impl Fn(Worker, Vec<OwnedFd>) -> io::Result<S> + Sync,
    run: impl Fn(S) -> io::Result<()> + Sync,
    ready: impl FnOnce(),
) -> io::Result<()> {
    thread::scope(|scope| {
        let (setup, run) = (&setup, &run);
        let (report, reports) = mpsc::channel();
        let mut starts = Vec::new();
        let mut threads = Vec::new();
        for (index, sockets) in listeners.into_workers().into_iter().enumerate() {
            let (start, started) = mpsc::channel::<()>();
            let (report, service) = (report.clone(), Arc::clone(service));
            let body = move || {
                let server = setup(Worker::new(service, index), sockets);
                match server {
                    Ok(server) => {
                        // A failed send means that another worker's setup failed; `started` then ends this one, too.
                        let _delivered = report.send(Ok(()));
                        drop(report);
                        if started.recv().is_err() { Ok(()) } else { run(server) }
                    }
                    Err(error) => {
                        let _delivered = report.send(Err(error));
                        Ok(())
                    }
                }
            };
            threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn_scoped(scope, body)?);
            starts.push(start);
        }
        drop(report);
        reports.iter().collect::<io::Result<()>>()?;
        ready();
        for start in starts {
            let _delivered = start.send(());
        }
        let mut outcome = Ok(());
        for thread in threads {
            outcome = outcome.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        outcome
    })
}

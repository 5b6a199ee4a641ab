//! The threads of a server: one for each worker, set up and ended together.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread;

use crate::service::listen::Listeners;
use crate::service::shared::Service;
use crate::service::worker::Worker;

/// Runs one thread for each worker and returns when all of them have ended.
///
/// `setup` makes the worker's server in the thread that will run it (a ring belongs to the thread that made
/// it). When every worker is set up `ready` is called, and `run` begins in each. When a setup fails, no worker
/// runs and its error is returned.
///
/// # Errors
/// The first error of a `setup` or a `run`, or that a thread can't be started.
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
                        // The other ends live until every report is in and every start is given or given up.
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

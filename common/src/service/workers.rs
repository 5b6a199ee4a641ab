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
/// its error is returned. A worker that ends with an error, or in a panic, has lost its clients: the others drain, so that
/// whoever looks after the process can start it again.
///
/// # Errors
/// The first error of a `setup` or `run`, a panic in one, or the failure to start a thread.
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
                let alarm = Alarm { service: Arc::clone(&service), worker: index };
                let server = setup(Worker::new(service, index), sockets);
                match server {
                    Ok(server) => {
                        // A failed send means that another worker's setup failed; `started` then ends this one, too.
                        let _delivered = report.send(Ok(()));
                        drop(report);
                        let outcome = if started.recv().is_err() { Ok(()) } else { run(server) };
                        alarm.end(outcome)
                    }
                    Err(error) => {
                        let _delivered = report.send(Err(error));
                        alarm.end(Ok(()))
                    }
                }
            };
            threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn_scoped(scope, body)?);
            starts.push(start);
        }
        drop(report);
        reports.iter().collect::<io::Result<()>>()?;
        service.set_up();
        ready();
        for start in starts {
            let _delivered = start.send(());
        }
        let mut outcome = Ok(());
        for thread in threads {
            let panicked = |_| Err(io::Error::other("a worker has panicked"));
            outcome = outcome.and(thread.join().unwrap_or_else(panicked));
        }
        outcome
    })
}

/// Tells of a worker that ends other than well: dropped by a panic, too.
struct Alarm {
    service: Arc<Service>,
    worker: usize,
}

impl Alarm {
    fn end(self, outcome: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &outcome {
            self.service.shutdown.fail(format!("worker-{} has failed: {error}", self.worker));
        }
        outcome
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.service.shutdown.fail(format!("worker-{} has panicked", self.worker));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::service::config::Config;
    use crate::site::root::{Site, SiteOptions};
    use rustix::event::{PollFd, PollFlags, poll};

    /// Three workers, of which the second one ends like this, and the others with the drain.
    fn run(end: fn() -> io::Result<()>) -> (io::Result<()>, Option<String>) {
        let config = Config { workers: 3, ..Config::default() };
        let listeners =
            Listeners::bind(&["127.0.0.1:0".parse().expect("an address")], &config).expect("bound");
        let site = Site::open_root(Path::new("."), SiteOptions::default()).expect("opened");
        let service = Arc::new(Service::new(site, config).expect("a service"));
        let (report, outcome) = channel();
        let theirs = Arc::clone(&service);
        thread::spawn(move || {
            let run = |worker: Worker| {
                if thread::current().name() == Some("worker-1") {
                    return end();
                }
                let shutdown = &worker.service().shutdown;
                poll(&mut [PollFd::new(shutdown, PollFlags::IN)], None).map(drop).map_err(io::Error::from)
            };
            report.send(run_workers(listeners, &theirs, |worker, _| Ok(worker), run, || {}))
        });
        let outcome = outcome.recv_timeout(Duration::from_secs(10)).expect("the others end, too");
        (outcome, service.shutdown.failure().map(str::to_owned))
    }

    #[test]
    fn a_worker_that_fails_ends_all() {
        let (outcome, failure) = run(|| Err(io::Error::other("no more")));
        assert_eq!(outcome.expect_err("failed").to_string(), "no more");
        assert_eq!(failure.as_deref(), Some("worker-1 has failed: no more"));
    }

    #[test]
    fn a_worker_that_panics_ends_all() {
        let (outcome, failure) = run(|| panic!("as the test wants it"));
        assert_eq!(outcome.expect_err("failed").to_string(), "a worker has panicked");
        assert_eq!(failure.as_deref(), Some("worker-1 has panicked"));
    }
}

//! A server in this process, on a free port.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::{Config, Listeners, Service, Site, SiteOptions};
use libtest_mimic::Failed;

use crate::backend::Backend;
use crate::deadline;

/// How long a server may take to start, and to end after draining.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// A running server. Dropping it drains and joins it; [`Server::stop`] also returns the result.
#[derive(Debug)]
pub struct Server {
    /// The address it listens on.
    pub address: SocketAddr,
    service: Arc<Service>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    ///
    /// # Errors
    /// The reason why it didn't start.
    pub fn start(
        backend: Backend,
        root: &Path,
        options: SiteOptions,
        config: Config,
    ) -> Result<Server, Failed> {
        let service = Arc::new(Service::new(Site::open_root(root, options)?, config)?);
        let listeners =
            Listeners::bind(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()], &service.config)?;
        let address = listeners.endpoints()[0].address().ok_or("a TCP address")?;
        let (report, accepts) = mpsc::channel();
        let theirs = Arc::clone(&service);
        let run = move || {
            backend.serve(listeners, &theirs, || {
                // The starting thread may have given up waiting.
                let _delivered = report.send(());
            })
        };
        let thread = thread::Builder::new().name(format!("{backend}-server")).spawn(run)?;
        let mut server = Server { address, service, thread: Some(thread) };
        if accepts.recv_timeout(START_PATIENCE).is_err() {
            server.join()?;
            return Err(format!("{backend} ended before it accepted connections").into());
        }
        Ok(server)
    }

    /// The state shared by its workers.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Begins the drain.
    pub fn drain(&self) {
        self.service.shutdown.drain();
    }

    /// Whether `serve` has returned.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Drains the server and waits for it to end.
    ///
    /// # Errors
    /// The error from `serve`, or that it didn't return in time.
    pub fn stop(mut self) -> Result<(), Failed> {
        self.drain();
        self.join()
    }

    /// Waits for a draining server to end.
    fn join(&mut self) -> Result<(), Failed> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let patience = START_PATIENCE + self.service.config.grace;
        deadline::within(patience, "serve() to return", || thread.is_finished())?;
        match thread.join() {
            Ok(ended) => ended.map_err(Failed::from),
            Err(_panic) => Err("serve() panicked".into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain();
        if let (Err(failed), false) = (self.join(), thread::panicking()) {
            eprintln!("{}: {}", self.address, failed.message().unwrap_or_default());
        }
    }
}

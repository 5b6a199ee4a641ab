//! One worker: what its connections live on, and its share of the service.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::machine::connection::Host;
use crate::machine::context::{Context, Timeouts};
use crate::machine::drain::{Drain, DrainFlag};
use crate::machine::record::LogBuffer;
use crate::service::config::Config;
use crate::service::log::AccessLog;
use crate::service::places::Seat;
use crate::service::shared::Service;
use crate::service::stats::WorkerStats;
use crate::site::files::{Files, FilesSeed};

/// One worker's own state: a [`Host`] of connections, with the clock, the counts and the drain of the service behind it.
/// Where every connection has a thread, each thread has a worker of its own that counts, logs and caches with the first.
#[derive(Debug)]
pub struct Worker {
    host: Host,
    service: Arc<Service>,
    seat: Seat,
    stats: Arc<WorkerStats>,
    /// Calls that wait for events, so far.
    waits: u64,
    is_closed: bool,
}

impl Worker {
    /// The worker with this index, counted from 0.
    #[must_use]
    pub fn new(service: Arc<Service>, index: usize) -> Worker {
        let stats = service.stats.register();
        let files = Files::new(
            service.site.get(),
            service.config.cache_of_worker(),
            Arc::clone(stats.cache()),
            service.compressor.clone(),
        );
        let timeouts = service.config.timeouts();
        let log = service.log.as_ref().map(AccessLog::buffer);
        let draining = Arc::clone(service.shutdown.flag());
        let mut context = Context::new(files, timeouts, log, draining);
        share(&mut context, &service);
        let mut worker = Worker {
            host: Host::new(context),
            seat: service.places.seat(index),
            service,
            stats,
            waits: 0,
            is_closed: false,
        };
        worker.tick();
        worker
    }

    /// What one more thread of this worker makes its own of.
    #[must_use]
    pub fn for_thread(&self) -> WorkerSeed {
        let context = &self.host.context;
        WorkerSeed {
            service: Arc::clone(&self.service),
            seat: self.seat.clone(),
            stats: Arc::clone(&self.stats),
            files: context.files.for_thread(),
            timeouts: context.timeouts,
            log: context.log.clone(),
            draining: Arc::clone(self.service.shutdown.flag()),
        }
    }

    /// Reads the clock, renews the date, follows the site and a drain: once in every turn of a loop.
    pub fn tick(&mut self) {
        self.host.tick();
        if self.service.site.version() != self.host.context.files.version() {
            self.host.context.files.follow(self.service.site.get());
        }
        let shutdown = &self.service.shutdown;
        if shutdown.draining() {
            self.host.context.drain = shutdown.phase(self.host.context.now(), self.service.config.grace);
        }
    }

    /// Publishes the counts: once in every turn, before the loop goes to sleep.
    pub fn flush(&mut self) {
        self.stats.add(&mut self.host.context.counts);
        if let Some(latencies) = &mut self.host.context.latencies {
            self.stats.add_latencies(latencies);
        }
    }

    /// Its listeners are closed: it accepts nobody any more. Further calls have no effect.
    pub fn closed_listeners(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.service.note_closed();
        }
    }

    /// The time of the last tick.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.host.context.now()
    }

    /// The files of this worker.
    pub fn files(&mut self) -> &mut Files {
        &mut self.host.context.files
    }

    /// What all workers share.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.service.config
    }

    /// Its access to the places for connections.
    #[must_use]
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Whether it matters who a connection's peer is: for the access log, or because it may be a proxy.
    #[must_use]
    pub fn wants_peer(&self) -> bool {
        let context = &self.host.context;
        context.log.is_some() || context.proxies.send_header
    }

    /// How far a drain has come, as of the last tick.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.host.context.drain
    }

    /// How long until the drain's next phase; `None` while there is no drain.
    #[must_use]
    pub fn drain_wait(&self) -> Option<Duration> {
        self.service.shutdown.wait(self.now(), self.service.config.grace)
    }

    /// Lets every answer from now on say that its connection ends: the only connection of this worker's thread gives way
    /// to another one, and its request came in that moment.
    pub fn keep_no_connection(&mut self) {
        self.host.context.keep_no_connection();
    }

    /// Counts a connection that was accepted.
    pub fn count_accepted(&mut self) {
        self.host.context.counts.accepted += 1;
    }

    /// Counts a connection that was closed.
    pub fn count_closed(&mut self) {
        self.host.context.counts.closed += 1;
    }

    /// Counts connections that are cut off in an answer and can't say so themselves.
    pub fn count_cut_off(&mut self, connections: u64) {
        self.host.context.counts.cut_off += connections;
    }

    /// Counts an accept that failed.
    pub fn count_error(&mut self) {
        self.host.context.count_error();
    }

    /// Counts events of epoll, or completions of a ring.
    pub fn count_events(&mut self, events: u64) {
        self.host.context.counts.events += events;
    }

    /// Counts a call that waits for them.
    pub fn count_wait(&mut self) {
        self.host.context.counts.waits += 1;
    }

    /// As [`count_wait`](Self::count_wait), where there have been so many of them in all by now.
    pub fn count_waits_to(&mut self, total: u64) {
        self.host.context.counts.waits += total - self.waits;
        self.waits = total;
    }
}

/// So that a worker can be handed to its connections as it is.
impl Deref for Worker {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl DerefMut for Worker {
    fn deref_mut(&mut self) -> &mut Host {
        &mut self.host
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What another thread makes its worker of.
#[derive(Debug)]
pub struct WorkerSeed {
    service: Arc<Service>,
    seat: Seat,
    stats: Arc<WorkerStats>,
    files: FilesSeed,
    timeouts: Timeouts,
    log: Option<LogBuffer>,
    draining: Arc<DrainFlag>,
}

impl WorkerSeed {
    /// The worker, in the thread that will own it.
    #[must_use]
    pub fn grow(self) -> Worker {
        let mut context = Context::new(self.files.grow(), self.timeouts, self.log, self.draining);
        share(&mut context, &self.service);
        let mut worker = Worker {
            host: Host::new(context),
            service: self.service,
            seat: self.seat,
            stats: self.stats,
            waits: 0,
            is_closed: false,
        };
        worker.tick();
        worker
    }
}

/// What a worker's connections look up in its service.
fn share(context: &mut Context, service: &Service) {
    context.unlisted.clone_from(&service.unlisted);
    context.unintroduced.clone_from(&service.unintroduced);
    context.proxies.clone_from(&service.config.proxies);
    context.latencies = service.config.measures_latencies.then(Box::default);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::site::root::{Site, SiteOptions};

    fn worker(log: Option<AccessLog>) -> Worker {
        let site = Site::open_root(Path::new("."), SiteOptions::default()).expect("opened");
        let mut service = Service::new(site, Config::default()).expect("made");
        service.log = log;
        Worker::new(Arc::new(service), 0)
    }

    /// A thread's worker counts with the one that it comes from.
    #[test]
    fn what_was_counted_is_published() {
        let mut first = worker(None);
        let mut second = first.for_thread().grow();
        for worker in [&mut first, &mut second] {
            for _ in 0..2 {
                worker.count_accepted();
                worker.count_closed();
                worker.count_cut_off(3);
                worker.count_error();
                worker.count_events(5);
                worker.count_wait();
                worker.count_waits_to(7);
                worker.count_waits_to(7);
            }
        }
        assert_eq!(first.service().stats.totals().accepted, 0, "not yet");
        first.flush();
        drop(second);
        let totals = first.service().stats.totals();
        assert_eq!((totals.accepted, totals.closed, totals.errors, totals.events), (4, 4, 4, 20));
        assert_eq!(totals.cut_off, 4 * 3);
        assert_eq!(totals.waits, 2 * (2 + 7));
    }

    #[test]
    fn a_turn_follows_the_site_and_the_drain() {
        let mut worker = worker(None);
        let (site, before) = (Arc::clone(worker.files().site()), worker.now());
        assert_eq!((worker.drain(), worker.drain_wait(), worker.wants_peer()), (Drain::Serving, None, false));
        worker.service().site.renew();
        worker.service().shutdown.drain();
        assert_eq!(worker.drain(), Drain::Serving, "not before the next turn");
        worker.tick();
        assert!(worker.now() > before && worker.drain() == Drain::Quiet);
        assert!(worker.drain_wait().is_some_and(|wait| wait <= crate::service::shutdown::QUIET));
        assert!(!Arc::ptr_eq(&site, worker.files().site()) && worker.files().version() == 1);
    }

    #[test]
    fn a_worker_that_logs_wants_to_know_its_peers() {
        let null = std::fs::File::options().write(true).open("/dev/null").expect("opened");
        assert!(worker(Some(AccessLog::over(null).expect("started"))).wants_peer());
    }
}

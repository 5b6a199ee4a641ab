//! What one worker owns: its clock, its counters, its file cache, its memory for exchanges. Workers share
//! nothing of it; where every connection has a thread, the threads of one worker share its cache.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::cache::{Cache, Candidate, Entry, Moment, Source};
use crate::config::Config;
use crate::date::{Date, unix_seconds};
use crate::exchange::Exchange;
use crate::file_bytes::FileBytes;
use crate::log::LogBuffer;
use crate::mime::RecentTypes;
use crate::service::Service;
use crate::shutdown::Drain;
use crate::site::{Metadata, SharedFile, Site};
use crate::spares::{Round, Spares};
use crate::stats::{Counts, WorkerStats};

/// Exchanges, and shares of files, that are kept for the next request; beyond that they are freed.
const SPARES_MAX: usize = 1024;

/// So many of them stay, however little there is to do.
const SPARES_MIN: usize = 2;

/// One worker's own state. Connections are handed it with every report.
pub struct Worker {
    service: Arc<Service>,
    connections_max: usize,
    now: Instant,
    /// When `date` ceases to be the current second's.
    next_second: Instant,
    unix_seconds: i64,
    date: Date,
    stats: Arc<WorkerStats>,
    pub(crate) counts: Counts,
    pub(crate) log: Option<LogBuffer>,
    /// Contended only where threads share it; a lock that nobody else wants costs two atomic operations.
    cache: Option<Arc<Mutex<Cache>>>,
    /// Nobody tells of changes: this worker looks for them itself, now and then.
    looks_for_changes: bool,
    drain: Drain,
    spare: Spares<Box<Exchange>>,
    /// Empty, for the next files.
    spare_files: Spares<Arc<SharedFile>>,
    round: Round,
    pub(crate) media_types: RecentTypes,
}

impl Worker {
    /// The worker with this index, counted from 0.
    #[must_use]
    pub fn new(service: Arc<Service>, index: usize) -> Worker {
        let connections_max = service.config.connections_max_of(index);
        let stats = service.stats.register();
        let log = service.log.as_ref().map(crate::log::AccessLog::buffer);
        let cache = Cache::new(service.config.cache_of_worker(), Arc::clone(&stats));
        Worker::with(service, connections_max, stats, log, cache.map(|cache| Arc::new(Mutex::new(cache))))
    }

    /// A worker for one more thread that counts and logs as this one: where every connection has a thread.
    #[must_use]
    pub fn for_thread(&self) -> WorkerSeed {
        WorkerSeed {
            service: Arc::clone(&self.service),
            connections_max: self.connections_max,
            stats: Arc::clone(&self.stats),
            log: self.log.clone(),
            cache: self.cache.clone(),
        }
    }

    fn with(
        service: Arc<Service>,
        connections_max: usize,
        stats: Arc<WorkerStats>,
        log: Option<LogBuffer>,
        cache: Option<Arc<Mutex<Cache>>>,
    ) -> Worker {
        let now = Instant::now();
        let mut worker = Worker {
            service,
            connections_max,
            now,
            next_second: now,
            unix_seconds: 0,
            date: Date::EPOCH,
            stats,
            counts: Counts::default(),
            log,
            cache,
            looks_for_changes: false,
            drain: Drain::Serving,
            spare: Spares::new(SPARES_MIN, SPARES_MAX),
            spare_files: Spares::new(SPARES_MIN, SPARES_MAX),
            round: Round::new(now),
            media_types: RecentTypes::default(),
        };
        worker.tick();
        worker
    }

    /// Reads the clock, renews the date, follows a drain: once in every turn of a loop.
    pub fn tick(&mut self) {
        self.now = Instant::now();
        if self.now >= self.next_second {
            self.on_second();
        }
        if self.service.shutdown.draining() {
            self.drain = self.service.shutdown.phase(self.now, self.service.config.grace);
        }
    }

    /// Hands the counters over: once in every turn, before the loop goes to sleep for nobody knows how long.
    pub fn flush(&mut self) {
        self.stats.add(&mut self.counts);
    }

    /// What is due once a second.
    fn on_second(&mut self) {
        let time = SystemTime::now();
        self.unix_seconds = unix_seconds(time).unwrap_or(0);
        self.date = Date::from_unix(self.unix_seconds);
        let into_second = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        self.next_second = self.now + Duration::from_nanos(1_000_000_000 - u64::from(into_second));
        if self.round.is_over(self.now) {
            self.spare.give_up_unwanted();
            self.spare_files.give_up_unwanted();
        }
    }

    /// The time of the last tick.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The current second, since the Unix epoch.
    pub(crate) fn unix_seconds(&self) -> i64 {
        self.unix_seconds
    }

    /// The current second, for a header field.
    pub(crate) fn date(&self) -> Date {
        self.date
    }

    /// What all workers share.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// What is served.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.service.site
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.service.config
    }

    /// How many connections this worker holds at once, at most.
    #[must_use]
    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Whether an access log is kept, and so the peer's address wanted.
    #[must_use]
    pub fn logs(&self) -> bool {
        self.log.is_some()
    }

    /// How far a drain has come, as of the last tick.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain
    }

    /// How long until the drain's next phase; `None` while there is no drain.
    #[must_use]
    pub fn drain_wait(&self) -> Option<Duration> {
        self.service.shutdown.wait(self.now, self.service.config.grace)
    }

    /// Counts a connection that was accepted.
    pub fn count_accepted(&mut self) {
        self.counts.accepted += 1;
    }

    /// Counts a connection that was closed.
    pub fn count_closed(&mut self) {
        self.counts.closed += 1;
    }

    /// Counts something that went wrong: an accept that failed, a connection that broke.
    pub fn count_error(&mut self) {
        self.counts.errors += 1;
    }

    /// Counts events of epoll, or completions of a ring.
    pub fn count_events(&mut self, events: u64) {
        self.counts.events += events;
    }

    /// What tells of changes to cached files: when it is readable, [`refresh_cache`](Self::refresh_cache) is due.
    /// None without a cache, or where there is no inotify to be had.
    #[must_use]
    pub fn cache_events(&self) -> Option<Arc<OwnedFd>> {
        self.lock_cache()?.events().cloned()
    }

    /// Drops what has changed from the cache. Takes all events that there are.
    pub fn refresh_cache(&self) {
        if let Some(mut cache) = self.lock_cache() {
            cache.refresh();
        }
    }

    /// Descriptors have run out: gives back those that the cache holds.
    pub fn shed_descriptors(&self) {
        if let Some(mut cache) = self.lock_cache() {
            cache.shed_descriptors();
        }
    }

    /// A panic leaves the cache whole enough: at worst it keeps a watch that nobody needs.
    fn lock_cache(&self) -> Option<MutexGuard<'_, Cache>> {
        self.cache.as_ref().map(|cache| cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The file under a path, if it is cached.
    pub(crate) fn cached(&mut self, path: &[u8]) -> Option<Arc<Entry>> {
        let mut cache = self.lock_cache()?;
        if self.looks_for_changes {
            cache.refresh_now_and_then(self.now);
        }
        let found = cache.get(path, self.now);
        drop(cache);
        match found {
            Some(_) => self.counts.cache_hits += 1,
            None => self.counts.cache_misses += 1,
        }
        found
    }

    /// Keeps a file that was opened, if it is worth it.
    pub(crate) fn admit(
        &mut self,
        path: &[u8],
        file: &Arc<SharedFile>,
        metadata: Metadata,
    ) -> Option<Arc<Entry>> {
        let moment = Moment { now: self.now, unix_seconds: self.unix_seconds };
        self.lock_cache()?.admit(&self.service.site, &Candidate { path, file, metadata }, moment)
    }

    /// The bytes of a cached file were read: keeps them, too.
    pub(crate) fn keep_bytes(&self, path: &[u8], entry: &Arc<Entry>, bytes: FileBytes) -> Arc<FileBytes> {
        match self.lock_cache() {
            Some(mut cache) => cache.keep_bytes(path, entry, bytes),
            None => Arc::new(bytes),
        }
    }

    /// A cached file can't be read as it promised.
    pub(crate) fn forget(&self, path: &[u8]) {
        if let Some(mut cache) = self.lock_cache() {
            cache.forget(path);
        }
    }

    /// A file to be shared, in memory that was used before, or new.
    pub(crate) fn share(&mut self, file: OwnedFd, device: u64) -> Arc<SharedFile> {
        match self.spare_files.take() {
            Some(mut spare) => {
                Arc::get_mut(&mut spare).expect("a spare one is held by nobody else").put(file, device);
                spare
            }
            None => Arc::new(SharedFile::new(file, device)),
        }
    }

    /// Gives a share of a file back. The last one gets the file, to close it as it likes.
    pub fn release(&mut self, mut file: Arc<SharedFile>) -> Option<OwnedFd> {
        let released = Arc::get_mut(&mut file)?.take();
        self.spare_files.keep(file);
        released
    }

    /// Gives a body's source back.
    pub(crate) fn release_source(&mut self, source: Source) {
        match source {
            Source::File(file) => drop(self.release(file)),
            Source::Memory(bytes) => drop(bytes),
        }
    }

    /// Memory for an exchange: used before, or new.
    pub(crate) fn exchange(&mut self, peer: Option<IpAddr>) -> Box<Exchange> {
        let mut exchange = self.spare.take().unwrap_or_default();
        exchange.begin(self.now, peer);
        exchange
    }

    /// Takes the memory of an exchange back.
    pub(crate) fn keep(&mut self, mut exchange: Box<Exchange>) {
        exchange.release_body(self);
        exchange.reset();
        self.spare.keep(exchange);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stats.add(&mut self.counts);
    }
}

/// What another thread makes its worker of.
#[derive(Debug)]
pub struct WorkerSeed {
    service: Arc<Service>,
    connections_max: usize,
    stats: Arc<WorkerStats>,
    log: Option<LogBuffer>,
    cache: Option<Arc<Mutex<Cache>>>,
}

impl WorkerSeed {
    /// The worker, in the thread that will own it.
    #[must_use]
    pub fn grow(self) -> Worker {
        let mut worker = Worker::with(self.service, self.connections_max, self.stats, self.log, self.cache);
        worker.looks_for_changes = true;
        worker
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::site::SiteOptions;
    use crate::spares::UNWANTED_AFTER;

    #[test]
    fn exchanges_that_nobody_wants_are_freed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let site = Site::open_root(root, SiteOptions::default()).expect("opened");
        let service = Service::new(site, Config::default()).expect("made");
        let mut worker = Worker::new(Arc::new(service), 0);
        let burst: Vec<_> = (0..10).map(|_| worker.exchange(None)).collect();
        burst.into_iter().for_each(|exchange| worker.keep(exchange));
        for left in [10, SPARES_MIN, SPARES_MIN] {
            worker.now += UNWANTED_AFTER;
            worker.on_second();
            assert_eq!(worker.spare.len(), left);
        }
    }
}

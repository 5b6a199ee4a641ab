//! What all workers of one server share. It is hardly ever written, and not used on the hot path.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::machine::notice::Notice;
use crate::service::config::Config;
use crate::service::current_site::CurrentSite;
use crate::service::keeper_counts::KeeperCounts;
use crate::service::log::AccessLog;
use crate::service::places::Places;
use crate::service::pool::{Pool, PoolGauge};
use crate::service::shutdown::Shutdown;
use crate::service::stats::Stats;
use crate::site::cache::{CacheConfig, CacheLevel};
use crate::site::root::Site;
use crate::site::variants::{Compress, Compressor};

/// What is compressed may take this part of what the cache may, on top of it.
const COMPRESSED_SHARE: u64 = 2;

/// One server: what it serves, how, and what it counts.
#[derive(Debug)]
pub struct Service {
    /// What is served.
    pub site: CurrentSite,
    /// How.
    pub config: Config,
    /// The switch that starts the drain.
    pub shutdown: Shutdown,
    /// What bounds the connections of all workers.
    pub places: Arc<Places>,
    /// The counters.
    pub stats: Stats,
    /// Compresses cached files, where that is wanted.
    pub(crate) compressor: Option<Arc<Compressor>>,
    /// The access log, where one is wanted.
    pub log: Option<AccessLog>,
    /// To be given about the first folder that has no index and isn't listed, where the operator is to be told.
    pub unlisted: Option<Arc<Notice>>,
    /// To be given about the first trusted proxy whose connection doesn't begin as `--proxy-protocol` has it.
    pub unintroduced: Option<Arc<Notice>>,
    /// What its keeper has said last, where it has one.
    keeper: Mutex<Option<KeeperCounts>>,
    pool: OnceLock<PoolGauge>,
    is_set_up: AtomicBool,
    /// How many workers have closed their listeners.
    closed: Mutex<usize>,
    all_closed: Condvar,
}

impl Service {
    /// A server without an access log and without notices.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new(site: Site, config: Config) -> io::Result<Service> {
        let places = Arc::new(Places::new(config.connections_max, config.workers)?);
        let CacheConfig { level, bytes, .. } = config.cache;
        let compresses = site.options().compress == Compress::Auto && level == CacheLevel::Contents;
        Ok(Service {
            site: CurrentSite::new(site),
            config,
            places,
            shutdown: Shutdown::new()?,
            stats: Stats::default(),
            compressor: compresses.then(|| Arc::new(Compressor::new(bytes / COMPRESSED_SHARE))),
            log: None,
            unlisted: None,
            unintroduced: None,
            keeper: Mutex::default(),
            pool: OnceLock::new(),
            is_set_up: AtomicBool::new(false),
            closed: Mutex::default(),
            all_closed: Condvar::new(),
        })
    }

    /// Lets this pool be told of.
    pub fn watch_pool(&self, pool: &Pool) {
        let _another = self.pool.set(pool.gauge());
    }

    /// The pool, where there is one.
    #[must_use]
    pub fn pool(&self) -> Option<&PoolGauge> {
        self.pool.get()
    }

    /// Lets this be told of the process that keeps this one.
    pub fn set_keeper(&self, counts: KeeperCounts) {
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(counts);
    }

    /// What that has done so far; `None` if there is no such process.
    #[must_use]
    pub fn keeper(&self) -> Option<KeeperCounts> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All workers are set up.
    pub(crate) fn set_up(&self) {
        self.is_set_up.store(true, SeqCst);
    }

    /// Whether all workers are set up, so that connections are accepted.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.is_set_up.load(SeqCst)
    }

    /// A worker has closed its listeners.
    pub(crate) fn note_closed(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.all_closed.notify_all();
    }

    /// Waits until no worker accepts connections any more, at most so long.
    pub fn wait_until_closed(&self, max: Duration) {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let some_accept = |closed: &mut usize| *closed < self.config.workers;
        let _late = self.all_closed.wait_timeout_while(closed, max, some_accept);
    }

    /// Starts the drain, and the grace period. Whichever worker waits for answers without an end, because another process
    /// has taken over, is woken.
    pub fn drain(&self) {
        self.shutdown.drain();
        self.places.ring_all();
    }

    /// Ends the drain at once, because this signal has come a second time. Whichever worker waits for it to go on is
    /// woken.
    pub fn hurry(&self, signal: i32) {
        self.shutdown.hurry(signal);
        self.places.ring_all();
    }

    /// Says whether the root's path leads elsewhere. Where another process serves that already, whichever worker keeps
    /// idle connections here is woken, to close them.
    pub(crate) fn set_outdated(&self, is_outdated: bool) {
        if self.shutdown.set_outdated(is_outdated) {
            self.places.ring_all();
        }
    }

    /// How long a part of the end may wait, at most `max`: half of what is left, so that others have their time, too.
    #[must_use]
    pub fn end_wait(&self, max: Duration) -> Duration {
        let left = self.shutdown.left(Instant::now(), self.config.grace);
        left.map_or(max, |left| max.min(left / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::worker::Worker;
    use crate::site::root::SiteOptions;

    #[test]
    fn all_workers_close_their_listeners() {
        let site = Site::open_root(std::path::Path::new("."), SiteOptions::default()).expect("opened");
        let config = Config { workers: 2, ..Config::default() };
        let service = Arc::new(Service::new(site, config).expect("made"));
        let worker = |index| Worker::new(Arc::clone(&service), index);
        let mut one = worker(0);
        let waits = |max| {
            let begun = Instant::now();
            service.wait_until_closed(max);
            begun.elapsed() >= max
        };
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(20));
        one.closed_listeners();
        one.closed_listeners();
        assert!(waits(short), "the other one accepts");
        std::thread::scope(|scope| {
            scope.spawn(|| worker(1).closed_listeners());
            assert!(!waits(long));
        });
    }

    #[test]
    fn a_part_of_the_end_has_half_of_what_is_left() {
        let [second, grace] = [Duration::from_secs(1), Duration::from_secs(1000)];
        let site = Site::open_root(std::path::Path::new("."), SiteOptions::default()).expect("opened");
        let service = Service::new(site, Config { grace, ..Config::default() }).expect("made");
        assert_eq!(service.end_wait(grace), grace, "there is no end");
        service.shutdown.drain();
        assert_eq!(service.end_wait(second), second);
        let most = service.end_wait(grace);
        assert!(most <= grace / 2 && most > grace / 4, "{most:?}");
    }
}

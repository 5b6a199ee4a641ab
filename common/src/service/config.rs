//! The settings that all three servers share.

use std::sync::Arc;
use std::time::Duration;

use crate::machine::connection::{LINGER_TIME, LINGER_TIMEOUT};
use crate::machine::context::Timeouts;
use crate::machine::progress::SEND_RATE_MIN;
use crate::machine::proxies::Proxies;
use crate::service::socket_path::SOCKET_MODE;
use crate::service::tune::{CopyMode, Tune};
use crate::site::cache::CacheConfig;

/// The settings of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Worker threads, each with its own listeners; at least 1. For `blocking`: accepting threads.
    pub workers: usize,
    /// Maximum number of connections of all workers together.
    pub connections_max: usize,
    /// Time to receive a request head, from its first byte; again for the content that follows it.
    pub head_timeout: Duration,
    /// Idle time between requests.
    pub idle_timeout: Duration,
    /// Time without progress while sending a response.
    pub send_timeout: Duration,
    /// Bytes per second that a client takes of its response, averaged over
    /// [`RATE_TIMEOUTS`](crate::machine::progress::RATE_TIMEOUTS) send timeouts: with fewer there is no progress.
    pub send_rate_min: u64,
    /// How long the end of a connection waits for a client that goes on sending behind its last answer, at most.
    pub linger_time: Duration,
    /// From the beginning of the drain to the exit of the process, at most. Its last part, an eighth or a second, isn't for clients.
    pub grace: Duration,
    /// After the first signal, the server goes on as before for so long. Then the drain begins.
    pub drain_delay: Duration,
    /// The proxies that are trusted.
    pub proxies: Arc<Proxies>,
    /// Whether it is measured how long answers take. Only the admin listener tells.
    pub measures_latencies: bool,
    /// How a file gets to a socket.
    pub copy: CopyMode,
    /// Disabled optimizations.
    pub tune: Vec<Tune>,
    /// The file cache.
    pub cache: CacheConfig,
    /// Who may connect to unix sockets: the permissions of their paths.
    pub socket_mode: u32,
    /// `SO_SNDBUF` of every connection; `None` keeps the kernel's auto-tuning.
    pub send_buffer_bytes: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            workers: 1,
            connections_max: 10_000,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(30),
            send_rate_min: SEND_RATE_MIN,
            linger_time: LINGER_TIME,
            grace: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            proxies: Arc::default(),
            measures_latencies: false,
            copy: CopyMode::default(),
            tune: Vec::new(),
            cache: CacheConfig::default(),
            socket_mode: SOCKET_MODE,
            send_buffer_bytes: None,
        }
    }
}

impl Config {
    /// The shortest time ahead that any connection deadline is set; sizes the timer wheel.
    #[must_use]
    pub fn shortest_timeout(&self) -> Duration {
        let timeouts = self.timeouts();
        let Timeouts { head, idle, linger, .. } = timeouts;
        head.min(idle).min(timeouts.look()).min(linger).min(LINGER_TIMEOUT)
    }

    /// The timeouts of a connection.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        Timeouts {
            head: self.head_timeout,
            idle: self.idle_timeout,
            send: self.send_timeout,
            send_rate_min: self.send_rate_min,
            linger: self.linger_time,
        }
    }

    /// Whether this optimization is disabled.
    #[must_use]
    pub fn tuned(&self, switch: Tune) -> bool {
        self.tune.contains(&switch)
    }

    /// One worker's share of the cache limits.
    #[must_use]
    pub fn cache_of_worker(&self) -> CacheConfig {
        let CacheConfig { level, bytes, entries, descriptors } = self.cache;
        CacheConfig {
            level,
            bytes: bytes / self.workers as u64,
            entries: (entries / self.workers).max(1),
            descriptors: (descriptors / self.workers).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::progress::LOOKS;

    /// A wheel that is too coarse would be late.
    #[test]
    fn no_deadline_is_nearer_than_the_shortest_timeout() {
        let [short, long] = [Duration::from_millis(80), Duration::from_secs(80)];
        let base = Config { head_timeout: long, idle_timeout: long, send_timeout: long, ..Config::default() };
        assert_eq!(base.shortest_timeout(), LINGER_TIMEOUT);
        for (config, shortest) in [
            (Config { head_timeout: short, ..base.clone() }, short),
            (Config { idle_timeout: short, ..base.clone() }, short),
            (Config { linger_time: short, ..base.clone() }, short),
            (Config { send_timeout: short, ..base.clone() }, short / LOOKS),
        ] {
            assert_eq!(config.shortest_timeout(), shortest, "{config:?}");
        }
    }

    #[test]
    fn every_worker_has_its_share_of_the_cache() {
        let cache = CacheConfig { bytes: 1000, entries: 100, descriptors: 10, ..CacheConfig::default() };
        let share = |workers| Config { workers, cache, ..Config::default() }.cache_of_worker();
        let expected = CacheConfig { bytes: 250, entries: 25, descriptors: 2, ..cache };
        assert_eq!((share(1), share(4)), (cache, expected));
        let least = CacheConfig { bytes: 1, entries: 1, descriptors: 1, ..cache };
        assert_eq!(share(1000), least, "room for one of each");
    }

    #[test]
    fn only_what_is_named_is_disabled() {
        let config = Config { tune: vec![Tune::Unbatched], ..Config::default() };
        assert!(config.tuned(Tune::Unbatched) && !config.tuned(Tune::AlwaysPool));
    }
}

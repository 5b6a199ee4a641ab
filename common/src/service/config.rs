//! What the operator decides: the settings that all three servers share.

use std::time::Duration;

use crate::machine::connection::LINGER_TIMEOUT;
use crate::machine::context::Timeouts;
use crate::service::tune::{CopyMode, Tune};
use crate::site::cache::CacheConfig;

/// The settings of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Worker threads, each with listeners of its own; at least 1. (`blocking`: threads that accept.)
    pub workers: usize,
    /// Connections at once, over all workers; at least as many as workers.
    pub connections_max: usize,
    /// For a whole request head, from its first byte; again for the content that follows it.
    pub head_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// Without any progress while an answer is sent.
    pub send_timeout: Duration,
    /// From the signal to the end of the process.
    pub grace: Duration,
    /// How a file moves to a socket.
    pub copy: CopyMode,
    /// Optimizations that are disabled.
    pub tune: Vec<Tune>,
    /// The file cache.
    pub cache: CacheConfig,
    /// `SO_SNDBUF` of every connection; `None` leaves it to the kernel's own tuning.
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
            grace: Duration::from_secs(30),
            copy: CopyMode::default(),
            tune: Vec::new(),
            cache: CacheConfig::default(),
            send_buffer_bytes: None,
        }
    }
}

impl Config {
    /// The shortest time ahead that a deadline of a connection can be set: what a timer wheel turns on.
    #[must_use]
    pub fn shortest_timeout(&self) -> Duration {
        self.head_timeout.min(self.idle_timeout).min(self.send_timeout).min(LINGER_TIMEOUT)
    }

    /// The timeouts of a connection.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        Timeouts { head: self.head_timeout, idle: self.idle_timeout, send: self.send_timeout }
    }

    /// Whether this optimization is disabled.
    #[must_use]
    pub fn tuned(&self, switch: Tune) -> bool {
        self.tune.contains(&switch)
    }

    /// The share of the cache's bounds that falls to one worker.
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

    /// The share of `connections_max` that falls to one worker. The shares add up to the whole.
    #[must_use]
    pub fn connections_max_of(&self, worker: usize) -> usize {
        let remainder = usize::from(worker < self.connections_max % self.workers);
        (self.connections_max / self.workers + remainder).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_add_up() {
        for (workers, connections_max) in [(1, 1), (2, 7), (3, 10_000), (4, 4)] {
            let config = Config { workers, connections_max, ..Config::default() };
            let shares: usize = (0..workers).map(|worker| config.connections_max_of(worker)).sum();
            assert_eq!(shares, connections_max, "{workers} workers");
        }
    }
}

//! What the operator decides: the settings that all three servers share.

use std::time::Duration;

use crate::tune::Tune;

/// How long the server goes on reading and dropping what a client still sends after its last answer.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// How a file moves to a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Copy {
    /// `sendfile(2)`, without a copy: in the loops of `epoll` and `uring` what is large and in the page cache.
    #[default]
    Sendfile,
    /// Read into a buffer and sent from there, always: as in the textbook, or by the ring alone.
    Read,
}

/// What the file cache keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CacheLevel {
    /// Nothing: every request opens its file, looks at it, reads it and closes it.
    Off,
    /// Open files, what they are, and their heads.
    Descriptors,
    /// Small files' bytes, too.
    #[default]
    Contents,
}

/// The bounds of the file cache, over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// What is kept.
    pub level: CacheLevel,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Files; a worker has at least one.
    pub entries: usize,
    /// Open descriptors, for files that are not kept as bytes; a worker has at least one.
    pub descriptors: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        CacheConfig { level: CacheLevel::default(), bytes: 64 << 20, entries: 16_384, descriptors: 1024 }
    }
}

impl CacheConfig {
    /// No cache.
    pub const OFF: CacheConfig = CacheConfig { level: CacheLevel::Off, bytes: 0, entries: 0, descriptors: 0 };
}

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
    pub copy: Copy,
    /// What the server does without.
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
            copy: Copy::default(),
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

    /// Whether the server does without this technique.
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

//! Descriptors: how many there are, and what they are for.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::service::admin;
use crate::service::cli::flags::Flags;
use crate::service::cli::workers;
use crate::service::start::StartError;
use crate::site::cache::{CacheConfig, CacheLevel};

/// Descriptors reserved, where there are enough, for everything that isn't a connection: so many,
const RESERVED_DESCRIPTORS: u64 = 64;
/// and so many for each worker besides its listeners.
const RESERVED_WORKER_DESCRIPTORS: u64 = 8;
/// What the process holds besides its workers: two ends of what signals come through, the root, the switch that starts
/// the drain, and the list of mounts;
const PROCESS_DESCRIPTORS: u64 = 5;
/// and, now and then, for a moment: two for a look at where the root's path leads, one for the rules in it, a client's
/// socket once more while the pool sends to it, a folder on the way to an error's page, and what is beside a file.
const SPARE_DESCRIPTORS: u64 = 6;
/// A connection's socket, and the file that it is sent.
const CONNECTION_DESCRIPTORS: u64 = 2;
/// Standard input, output and error; for where /proc can't tell what whoever started the process has left open.
const STANDARD_DESCRIPTORS: u64 = 3;
/// With fewer descriptors than this, a server says how many connections they allow.
const FEW_DESCRIPTORS: u64 = 256;
/// The default of `--connections-max`, if the descriptor limit allows it.
const CONNECTIONS_MAX_DEFAULT: usize = 65_536;

/// The cache may use at most one in this many descriptors; the others are for connections.
const CACHE_SHARE: u64 = 8;

impl Flags {
    /// What the server needs of descriptors besides those for connections.
    fn held(&self, descriptors: &Descriptors) -> u64 {
        let addresses = descriptors.addresses;
        // Each address has a name, too.
        let of_process = PROCESS_DESCRIPTORS + addresses + u64::from(self.access_log.is_some());
        let of_admin = if self.admin.is_some() { admin::DESCRIPTORS } else { 0 };
        let of_workers = self.worker_count() as u64 * (descriptors.worker + addresses);
        descriptors.inherited + of_process + of_admin + of_workers + SPARE_DESCRIPTORS
    }

    /// Whether there are enough descriptors for this server to serve at all.
    pub(super) fn check(&self, descriptors: &Descriptors) -> Result<(), StartError> {
        let (limit, needed) = (descriptors.limit, self.held(descriptors) + CONNECTION_DESCRIPTORS);
        if needed <= limit {
            return Ok(());
        }
        let workers = workers(self.worker_count());
        Err(StartError::new(format!(
            "this process may have {limit} descriptors, but needs at least {needed} for {workers} and a connection; \
             raise the limit (`ulimit -n`, LimitNOFILE=), or start fewer --workers"
        )))
    }

    /// The requested cache limits, with the descriptors capped at the cache's share. Where there are few, connections have
    /// them.
    pub(super) fn cache(&self, descriptors: &Descriptors) -> CacheConfig {
        let left = descriptors.limit.saturating_sub(self.held(descriptors) + CONNECTION_DESCRIPTORS);
        let share = (descriptors.limit / CACHE_SHARE).min(left / 2);
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        if self.cache == CacheLevel::Off || share < self.worker_count() {
            return CacheConfig::OFF;
        }
        CacheConfig {
            level: self.cache,
            bytes: self.cache_bytes,
            entries: self.cache_entries as usize,
            descriptors: (self.cache_descriptors as usize).min(share).max(1),
        }
    }

    /// The requested maximum, as far as the descriptor limit allows besides the cache.
    pub(super) fn connections_max(&self, descriptors: &Descriptors, cached: u64) -> usize {
        let asked = self.connections_max.map_or(CONNECTIONS_MAX_DEFAULT, |max| max as usize);
        // Where there are few, a part of the reserve is of more use to clients: what finds none waits for another.
        let of_worker = RESERVED_WORKER_DESCRIPTORS + descriptors.addresses;
        let reserved = RESERVED_DESCRIPTORS + self.worker_count() as u64 * of_worker;
        let reserved = reserved.min(descriptors.limit / 2).max(self.held(descriptors));
        let allowed = descriptors.limit.saturating_sub(reserved + cached) / CONNECTION_DESCRIPTORS;
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        asked.min(allowed).max(1)
    }

    /// What the operator should know about connections that the descriptors don't allow.
    pub(super) fn warning(&self, descriptors: u64, connections_max: usize) -> Option<String> {
        let allowed = match self.connections_max {
            Some(asked) if connections_max < asked as usize => format!("{connections_max} of {asked}"),
            None if descriptors < FEW_DESCRIPTORS => format!("only {connections_max}"),
            _ => return None,
        };
        Some(format!(
            "{descriptors} descriptors allow {allowed} connections; raise the hard limit (`ulimit -Hn`, LimitNOFILE=)"
        ))
    }
}

/// What there is of descriptors, and what takes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors {
    /// How many the process may have.
    pub(super) limit: u64,
    /// Whoever started it has left so many open.
    inherited: u64,
    /// A worker holds so many, besides its listeners.
    worker: u64,
    /// The addresses that are listened on.
    addresses: u64,
}

impl Descriptors {
    /// For a process that had so many open, and workers that need so many. Raises the limit as far as that is allowed.
    pub(super) fn new(open: u64, worker: u64, addresses: u64) -> Descriptors {
        Descriptors { limit: raise_descriptor_limit(), inherited: open, worker, addresses }
    }
}

/// How many are open: to be asked before anything is opened here.
pub(super) fn open() -> u64 {
    // One of them is the list itself.
    let open = fs::read_dir("/proc/self/fd").map(|open| (open.count() as u64).saturating_sub(1));
    open.unwrap_or(STANDARD_DESCRIPTORS)
}

/// Raises the soft limit to the hard limit and returns it.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::service::cli::flags::tests::flags;

    pub(in super::super) fn descriptors(limit: u64) -> Descriptors {
        Descriptors { limit, inherited: 3, worker: 4, addresses: 1 }
    }

    #[test]
    fn the_cache_leaves_descriptors_for_connections() {
        let parsed = flags(&["--cache-bytes=1.5MiB", "--cache-entries=7"]).expect("good flags");
        let cache = parsed.cache(&descriptors(800));
        assert_eq!((cache.bytes, cache.entries, cache.descriptors), (3 << 19, 7, 100));
        let off = flags(&["--cache=off"]).expect("good flags");
        assert_eq!(off.cache(&descriptors(800)), CacheConfig::OFF);
    }

    #[test]
    fn as_many_connections_as_descriptors_allow() {
        let with = |arguments: &[&str]| flags(arguments).expect("good flags");
        let one = with(&["--workers=1"]);
        // 64 are reserved, 9 are the worker's; what is left is for sockets and files.
        assert_eq!(one.connections_max(&descriptors(800), 100), 313);
        assert_eq!(with(&["--workers=10"]).connections_max(&descriptors(800), 100), 273);
        assert_eq!(one.connections_max(&descriptors(64), 8), 12, "half of what there is, at least");
        let asked = with(&["--workers=9", "--connections-max=7"]);
        assert_eq!(asked.connections_max(&descriptors(800), 100), 7, "places are of all workers together");
        // 3 are inherited, 5 and a name are the process's, 5 the worker's, 6 to spare, and 2 a connection's.
        for (limit, connections) in [(22, 1), (24, 1), (26, 2), (32, 4)] {
            let descriptors = descriptors(limit);
            one.check(&descriptors).expect("enough");
            let cached = one.cache(&descriptors).descriptors as u64;
            assert_eq!(
                one.connections_max(&descriptors, cached),
                connections,
                "{limit}, {cached} are cached"
            );
        }
        let refused = one.check(&descriptors(21)).expect_err("too few").to_string();
        assert!(
            refused.contains("may have 21 ") && refused.contains("needs at least 22 for 1 worker "),
            "{refused}"
        );
        let more = with(&["--workers=4", "-l", "127.0.0.1:0", "-l", "[::1]:0", "--access-log"]);
        let two = |limit| Descriptors { addresses: 2, ..descriptors(limit) };
        assert!(more.check(&two(3 + 5 + 2 + 1 + 4 * 6 + 6 + 2)).is_ok());
        assert!(more.check(&two(3 + 5 + 2 + 1 + 4 * 6 + 6 + 1)).is_err());
        let admin = with(&["--workers=1", "--admin=127.0.0.1:0"]);
        assert!(admin.check(&descriptors(22 + admin::DESCRIPTORS)).is_ok());
        assert!(admin.check(&descriptors(22 + admin::DESCRIPTORS - 1)).is_err());
    }
}

//! What all workers of one server share: read-mostly, and nothing of it on the hot path.

use std::io;

use crate::config::Config;
use crate::log::AccessLog;
use crate::shutdown::Shutdown;
use crate::site::Site;
use crate::stats::Stats;

/// One server: what it serves, how, and what it counts.
#[derive(Debug)]
pub struct Service {
    /// What is served.
    pub site: Site,
    /// How.
    pub config: Config,
    /// The switch that starts the drain.
    pub shutdown: Shutdown,
    /// The counters.
    pub stats: Stats,
    /// The access log, where one is wanted.
    pub log: Option<AccessLog>,
}

impl Service {
    /// A server without an access log.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new(site: Site, config: Config) -> io::Result<Service> {
        Ok(Service { site, config, shutdown: Shutdown::new()?, stats: Stats::default(), log: None })
    }
}

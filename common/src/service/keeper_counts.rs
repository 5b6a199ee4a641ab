//! What the process that keeps a server has done so far, to be told by the server's admin listener: the keeper itself
//! answers nobody.

/// The counts, since the keeper was started; they outlast its servers and its own upgrades.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeeperCounts {
    /// The version of the keeper's program.
    pub version: String,
    /// Processes that were started to serve.
    pub starts: u64,
    /// Of these, those in the place of one that had ended by itself, or hadn't started.
    pub restarts: u64,
    /// Upgrades that were asked for and tried.
    pub upgrades: u64,
    /// Of these, those that have failed.
    pub failed_upgrades: u64,
    /// Switches to another directory that were tried, because the root's path led there.
    pub switches: u64,
    /// Of these, those that have failed; they are tried again.
    pub failed_switches: u64,
}

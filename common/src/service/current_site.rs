//! The site that is served now: deployments switch a root to the next release, or put a new directory in its place.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::site::root::Site;

/// The current site. Workers compare versions once a turn; requests under way keep the site that they began with.
#[derive(Debug)]
pub struct CurrentSite {
    site: Mutex<Arc<Site>>,
    version: AtomicU64,
}

impl CurrentSite {
    pub(crate) fn new(site: Site) -> CurrentSite {
        CurrentSite { site: Mutex::new(Arc::new(site)), version: AtomicU64::new(0) }
    }

    /// Grows with every change.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// The site and its version.
    pub(crate) fn get(&self) -> (Arc<Site>, u64) {
        let site = self.lock();
        (Arc::clone(&site), self.version())
    }

    /// Looks where the root's path leads now, and switches if that is another directory. This may wait for a disk. A path
    /// that leads nowhere just now changes nothing.
    pub(crate) fn follow(&self) {
        let (site, _) = self.get();
        if let Some(moved) = site.moved() {
            self.set(moved);
        }
    }

    /// Something was mounted or unmounted: paths may lead elsewhere, and into other volumes. This may wait for a disk.
    pub(crate) fn renew(&self) {
        let (site, _) = self.get();
        match site.renewed() {
            Some(renewed) => self.set(renewed),
            // The path leads nowhere just now. What is cached of it may be hidden.
            None => self.count_version(),
        }
    }

    fn set(&self, site: Site) {
        *self.lock() = Arc::new(site);
        self.count_version();
    }

    fn count_version(&self) {
        self.version.fetch_add(1, Release);
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Site>> {
        self.site.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::root::SiteOptions;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_root_that_moves_is_followed() {
        let outer = tempfile::tempdir().expect("a directory");
        let at = |name: &str| outer.path().join(name);
        fs::create_dir(at("one")).expect("made");
        fs::create_dir(at("two")).expect("made");
        symlink("one", at("root")).expect("linked");
        let current = CurrentSite::new(Site::open_root(&at("root"), SiteOptions::default()).expect("opened"));
        current.follow();
        assert_eq!(current.version(), 0, "nothing has changed");
        fs::remove_file(at("root")).expect("removed");
        current.follow();
        assert_eq!(current.version(), 0, "it leads nowhere");
        symlink("two", at("root")).expect("linked");
        current.follow();
        assert_eq!(current.version(), 1, "it leads elsewhere");
        fs::write(at("two/file"), "new").expect("written");
        assert!(current.get().0.open(c"file").is_ok(), "the new root is served");
        current.follow();
        assert_eq!(current.version(), 1, "and stays");
    }
}

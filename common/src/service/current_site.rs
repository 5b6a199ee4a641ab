//! The site that is served now: deployments switch a root to the next release, or put a new directory in its place.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::site::root::Site;

/// The current site. Workers compare versions once a turn; requests under way keep the site that they began with.
#[derive(Debug)]
pub struct CurrentSite {
    site: Mutex<Arc<Site>>,
    version: AtomicU64,
    /// What is wrong with its rules and hasn't been told yet.
    faults: Mutex<Vec<String>>,
}

impl CurrentSite {
    pub(crate) fn new(site: Site) -> CurrentSite {
        let faults = Mutex::new(site.faults_since(None));
        CurrentSite { site: Mutex::new(Arc::new(site)), version: AtomicU64::new(0), faults }
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

    /// Looks where the root's path leads now, and switches if that is another directory, or if the rules in it have
    /// changed. This may wait for a disk. A path that leads nowhere just now changes nothing.
    pub(crate) fn follow(&self) {
        let (site, _) = self.get();
        if let Some(other) = site.moved().or_else(|| site.revised()) {
            self.set(other);
        }
    }

    /// As [`follow`](Self::follow), but stays where it is: whether the root's path leads elsewhere. This may wait for a
    /// disk.
    pub(crate) fn stay(&self, mounted: bool) -> bool {
        let (site, _) = self.get();
        if site.has_moved() {
            return true;
        }
        if mounted {
            self.renew();
        } else if let Some(other) = site.revised() {
            self.set(other);
        }
        false
    }

    /// What is wrong with the rules that are in force now, where that hasn't been told yet: a line for each fault.
    pub(crate) fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut *self.faults.lock().unwrap_or_else(PoisonError::into_inner))
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
        let (before, _) = self.get();
        let faults = site.faults_since(Some(&before));
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
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

    /// Each load is told once, and what is mounted somewhere doesn't change the rules.
    #[test]
    fn rules_that_change_are_followed() {
        let outer = tempfile::tempdir().expect("a directory");
        fs::write(outer.path().join("_headers"), "A: b\n/*\n C: d").expect("written");
        let site = Site::open_root(outer.path(), SiteOptions::default()).expect("opened");
        let current = CurrentSite::new(site);
        let begun = current.get().0;
        let told = current.take_faults();
        let start = format!("{}/_headers: line 1: ", outer.path().display());
        assert!(told.len() == 1 && told[0].starts_with(&start), "{told:?}");
        current.follow();
        current.renew();
        assert_eq!((current.version(), current.take_faults().len()), (1, 0), "renewed, and nothing else");
        fs::write(outer.path().join("_headers"), "/*\n E: f").expect("written");
        current.follow();
        assert_eq!((current.version(), current.take_faults().len()), (2, 0));
        let lines = |site: &Site| {
            site.rules().and_then(|rules| rules.additions(b"x")).map(|additions| additions.lines.clone())
        };
        assert_eq!(lines(&current.get().0).as_deref(), Some(&b"E: f\r\n"[..]));
        assert_eq!(lines(&begun).as_deref(), Some(&b"C: d\r\n"[..]), "who has begun goes on");
        fs::remove_file(outer.path().join("_headers")).expect("removed");
        current.follow();
        assert_eq!((current.version(), lines(&current.get().0)), (3, None));
    }

    /// What is cached may be hidden by what was mounted, wherever the path leads.
    #[test]
    fn a_mount_makes_a_new_version() {
        let outer = tempfile::tempdir().expect("a directory");
        let root = outer.path().join("root");
        fs::create_dir(&root).expect("made");
        let current = CurrentSite::new(Site::open_root(&root, SiteOptions::default()).expect("opened"));
        let (before, _) = current.get();
        current.renew();
        let (after, version) = current.get();
        assert!(version == 1 && !Arc::ptr_eq(&before, &after), "it is opened anew");
        fs::remove_dir(&root).expect("removed");
        current.renew();
        assert_eq!(current.version(), 2, "it leads nowhere");
    }
}

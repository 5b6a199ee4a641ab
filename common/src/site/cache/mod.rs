//! The file cache: files that are requested often are opened, examined and read once.
//!
//! Each worker has its own (the threads of a `blocking` worker share one). An entry is immutable and shared: a send
//! in flight holds it, so eviction never frees bytes in flight. Small files are kept as bytes, larger ones as open
//! descriptors (`cache/shelves.rs`).
//!
//! **Freshness.** An entry is kept only while every change to its file is certain to produce an event
//! (`cache/watches.rs`), otherwise for [`UNSEEN_TTL`]. Bytes are read after the watches are in place, so a write that
//! tears them is followed by an event that drops them. One kind of change produces no event: stores through a shared
//! memory mapping. Because of those, no entry lives longer than [`WATCHED_TTL`].
//!
//! **Admission.** Most files of a large site are requested only once, and caching one costs watches and a copy. So a
//! path is admitted on its second request. Where other entries must leave for it, it must be requested more often than
//! all of them together (`cache/frequencies.rs`), unless their time is over. This is decided before anything is paid.
//! So a cache that is too small for its site costs little more than none.

mod entry;
mod frequencies;
mod gauge;
mod shelves;
#[cfg(test)]
mod trials;
mod watches;

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use rustix::fs::inotify::{Event, ReadFlags, Reader};
use rustix::io::Errno;

use crate::http::accept_encoding::Coding;
use crate::http::head::Form;
use crate::site::addresses::PAGE_EXTENSION;
use crate::site::file_bytes::FileBytes;
use crate::site::root::{Site, SiteOptions};
use crate::site::sendfile::SENDFILE_BYTES_MIN;

pub(crate) use entry::{CachedFile, Candidate, Kind, Moment, Source, representation};
use frequencies::{Frequencies, Tally, is_more};
pub use gauge::{CacheGauge, CacheUse};
use shelves::{Kept, Shelves, VICTIMS_MAX};
use watches::{FilePath, Subject, Visibility, Watches};

/// Files up to this size are cached as bytes.
pub const BODY_BYTES_MAX: u64 = 64 * 1024;

/// How long an entry is trusted if not every change to its file produces an event.
pub const UNSEEN_TTL: Duration = Duration::from_secs(1);

/// How long any other entry is trusted: stores through a memory mapping produce no event (inotify(7), "Limitations and
/// caveats").
pub const WATCHED_TTL: Duration = Duration::from_secs(10);

/// A path is admitted on its second request, if there is room.
const REQUESTS_MIN: u8 = 2;

/// How often threads without an event loop check for events.
const REFRESH_INTERVAL: Duration = Duration::from_millis(5);

/// Bytes of events read per call.
const EVENT_BYTES: usize = 4096;

/// What the file cache keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CacheLevel {
    /// Nothing: every request opens, examines, reads and closes its file.
    Off,
    /// Open files, their metadata, and their heads.
    Descriptors,
    /// Also the bytes of small files.
    #[default]
    Contents,
}

/// The limits of the file cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// What to cache.
    pub level: CacheLevel,
    /// Total bytes of cached bodies.
    pub bytes: u64,
    /// Number of files; at least one per worker.
    pub entries: usize,
    /// Open descriptors, for files not cached as bytes; at least one per worker.
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

/// The cache of one worker.
#[derive(Debug)]
pub(crate) struct Cache {
    level: CacheLevel,
    /// Files up to this size are cached as bytes.
    body_bytes_max: u64,
    shelves: Shelves,
    frequencies: Frequencies,
    watches: Watches,
    gauge: Arc<CacheGauge>,
    /// The version of the site that the entries are of.
    version: u64,
    /// When events were last checked for.
    refreshed: Instant,
}

impl Cache {
    /// A cache with these limits, with room for at least one entry and one descriptor; `None` if caching is off.
    pub(crate) fn new(bounds: CacheConfig, gauge: Arc<CacheGauge>) -> Option<Cache> {
        if bounds.level == CacheLevel::Off {
            return None;
        }
        Some(Cache {
            level: bounds.level,
            body_bytes_max: BODY_BYTES_MAX.min(bounds.bytes),
            shelves: Shelves::new(bounds),
            frequencies: Frequencies::new(bounds.entries),
            watches: Watches::new(),
            gauge,
            version: 0,
            refreshed: Instant::now(),
        })
    }

    /// The version of the site that the entries are of.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Drops what is cached of earlier versions of the site.
    pub(crate) fn follow(&mut self, version: u64) {
        if version > self.version {
            self.version = version;
            self.remove_below(b"");
            self.publish();
        }
    }

    /// Readable when files have changed; then call [`refresh`](Self::refresh).
    pub(crate) fn events(&self) -> Option<&Arc<OwnedFd>> {
        self.watches.inotify()
    }

    /// The entry for a path, unless it has expired.
    #[inline]
    pub(crate) fn get(&mut self, path: &[u8], now: Instant) -> Option<Arc<CachedFile>> {
        let kept = self.shelves.get_mut(path)?;
        if kept.file.expires <= now {
            self.forget(path);
            return None;
        }
        self.frequencies.hit(&mut kept.tally);
        Some(Arc::clone(&kept.file))
    }

    /// Admits a file if it qualifies and its state is certain.
    pub(crate) fn admit(
        &mut self,
        site: &Site,
        candidate: &Candidate<'_>,
        moment: Moment,
    ) -> Option<Arc<CachedFile>> {
        let Candidate { path, file, metadata, examined } = candidate;
        // Another client was faster.
        if let Some(entry) = self.get(path, moment.now) {
            return Some(entry);
        }
        if metadata.state().date_follows(moment.unix_time()) {
            return None;
        }
        let wants_bytes = self.level == CacheLevel::Contents && metadata.size <= self.body_bytes_max;
        let tally = self.frequencies.miss(path);
        let victims = self.outdone(tally, metadata.size, wants_bytes, moment.now)?;
        let path = FilePath::from(*path);
        let (watch, expires) = match self.watches.watch(site, &path, file, metadata) {
            Visibility::Watched(watch) => (Some(watch), moment.now + WATCHED_TTL),
            Visibility::Partly(watch) => (Some(watch), moment.now + UNSEEN_TTL),
            // Check again: the open may have waited for a disk since.
            Visibility::Unseen if file.volume().opens_at_once() => match site.reopen(&path) {
                Ok(now) if now == *metadata => (None, moment.now + UNSEEN_TTL),
                Ok(_) | Err(_) => return None,
            },
            // To check again would be to wait.
            Visibility::Unseen => (None, *examined + UNSEEN_TTL),
            Visibility::Unsettled => return None,
        };
        if !wants_bytes && metadata.size >= SENDFILE_BYTES_MIN as u64 {
            file.remember_residency(metadata.size);
        }
        let source = Source::File(Arc::clone(file));
        let new =
            |kind| CachedFile::new(source.clone(), *metadata, kind, &moment, wants_bytes, watch, expires);
        let mut entry = new(kind(site, &path));
        entry.as_variant = variant_kind(site, &path).map(|kind| Arc::new(new(kind)));
        let entry = Arc::new(entry);
        victims.iter().for_each(|victim| self.evict(victim));
        self.shelves.put(path, Kept { file: Arc::clone(&entry), tally });
        // Where more small files are on their way than descriptors are left to them.
        while self.shelves.has_too_many_open() && self.evict_open() {}
        self.publish();
        Some(entry)
    }

    /// Who must leave for a file that was requested as often as this and has this size; `None` if it isn't worth it.
    fn outdone(
        &mut self,
        tally: Tally,
        size: u64,
        wants_bytes: bool,
        now: Instant,
    ) -> Option<ArrayVec<FilePath, VICTIMS_MAX>> {
        if self.frequencies.count(tally) < REQUESTS_MIN {
            return None;
        }
        let victims = self.shelves.victims(size, wants_bytes)?;
        if !victims.is_empty() {
            self.frequencies.age(self.shelves.len());
        }
        // An expired entry is of no use.
        let useful = || victims.iter().filter(|(_, kept)| kept.file.expires > now);
        let requests = |tally| u32::from(self.frequencies.count(tally));
        let is_worth_it = useful().next().is_none()
            || is_more(requests(tally), useful().map(|(_, kept)| requests(kept.tally)).sum());
        is_worth_it.then(|| victims.iter().map(|(path, _)| Arc::clone(path)).collect())
    }

    /// Stores the bytes read for an entry, if the entry is still cached.
    pub(crate) fn keep_bytes(
        &mut self,
        path: &[u8],
        entry: &Arc<CachedFile>,
        bytes: FileBytes,
    ) -> Arc<FileBytes> {
        let bytes = Arc::new(bytes);
        self.shelves.put_bytes(path, entry, &bytes);
        self.publish();
        bytes
    }

    /// Drops an entry whose file has changed, or may have.
    #[cold]
    pub(crate) fn forget(&mut self, path: &[u8]) {
        self.remove(path);
        self.publish();
    }

    /// Closes all cached descriptors, because the process has run out.
    pub(crate) fn shed_descriptors(&mut self) {
        while self.evict_open() {}
        self.publish();
    }

    /// Drops entries whose files have changed. Call it when [`events`](Self::events) is readable; it reads all events.
    pub(crate) fn refresh(&mut self) {
        let Some(inotify) = self.watches.inotify().cloned() else { return };
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut events = Reader::new(&*inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => self.on_event(&event),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // Events were lost.
                Err(_) => {
                    self.remove_below(b"");
                    break;
                }
            }
        }
        self.publish();
    }

    /// Checks for events, but at most once per interval. For threads that wait for clients rather than for events.
    pub(crate) fn refresh_now_and_then(&mut self, now: Instant) {
        if now.saturating_duration_since(self.refreshed) >= REFRESH_INTERVAL {
            self.refreshed = now;
            self.refresh();
        }
    }

    fn on_event(&mut self, event: &Event<'_>) {
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.remove_below(b"");
        }
        match self.watches.subject(event.wd()) {
            None => {}
            Some(Subject::Files(paths)) => paths.iter().for_each(|path| self.remove(path)),
            Some(Subject::Directory(directory)) => match event.file_name() {
                None => self.remove_below(&directory),
                Some(name) => {
                    let mut path = directory.to_vec();
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(name.to_bytes());
                    self.remove(&path);
                    // Its entry may note that there is no such variant.
                    if let Some((whole, _)) = Coding::of_sidecar(&path) {
                        self.remove(whole);
                    }
                    if self.watches.has_directory(&path) {
                        self.remove_below(&path);
                    }
                    // That of a page may note that no file has its clean address.
                    path.extend_from_slice(PAGE_EXTENSION.as_bytes());
                    self.remove(&path);
                }
            },
        }
    }

    /// Drops every entry below a directory; the root is the empty path.
    fn remove_below(&mut self, directory: &[u8]) {
        let is_below = |path: &[u8]| match path.strip_prefix(directory) {
            Some(rest) => directory.is_empty() || rest.first() == Some(&b'/'),
            None => false,
        };
        let below = self.shelves.paths().filter(|path| is_below(path));
        let paths: Vec<FilePath> = below.map(Arc::clone).collect();
        paths.iter().for_each(|path| self.remove(path));
    }

    fn remove(&mut self, path: &[u8]) {
        if let Some((path, kept)) = self.shelves.remove(path) {
            self.on_removed(&path, &kept);
        }
    }

    /// Drops an entry that must make room.
    fn evict(&mut self, path: &[u8]) {
        self.remove(path);
        self.gauge.count_eviction();
    }

    /// Closes the least recently used file; false if none is open.
    fn evict_open(&mut self) -> bool {
        let Some((path, kept)) = self.shelves.pop_open() else { return false };
        self.on_removed(&path, &kept);
        self.gauge.count_eviction();
        true
    }

    fn on_removed(&mut self, path: &FilePath, kept: &Kept) {
        self.frequencies.remember(path, kept.tally);
        if let Some(watch) = kept.file.watch {
            self.watches.unwatch(path, watch);
        }
    }

    fn publish(&self) {
        self.shelves.publish(&self.gauge);
    }
}

/// What the file at this path is.
fn kind(site: &Site, path: &[u8]) -> Kind {
    let SiteOptions { etag, compress, media_types, .. } = site.options();
    let (etag, media_type) = (*etag, media_types.mime_for(path));
    let form = Form { media_type, coding: None, varies: compress.applies_to(media_type) };
    Kind { form, etag, rules: site.file_rules(path) }
}

/// What the file at this path is in place of the one that it is a variant of, by its name.
fn variant_kind(site: &Site, path: &[u8]) -> Option<Kind> {
    let (whole, coding) = Coding::of_sidecar(path)?;
    let kind = kind(site, whole);
    kind.form.varies.then_some(Kind { form: Form { coding: Some(coding), ..kind.form }, ..kind })
}

/// A file as the cache keeps it: large and open, or small and about to be read.
#[cfg(test)]
fn test_file(size: u64, wants_bytes: bool) -> CachedFile {
    use crate::http::conditional::EtagPolicy;
    use crate::site::file::{Metadata, OpenFile, SharedFile};
    use crate::site::rule_files::FileRules;
    use crate::site::volume::Volume;

    let file = OwnedFd::from(std::fs::File::open("/dev/null").expect("a file that every system has"));
    let metadata = Metadata { size, modified_seconds: 0, ..Metadata::of(&file).expect("its state") };
    let file = Arc::new(SharedFile::new(OpenFile::new(file, Volume::Local, 0)));
    let now = Instant::now();
    let moment = Moment { now, unix_seconds: i64::MAX, next_second: now };
    let form = Form { media_type: crate::http::mime::mime_for(b"a.txt"), coding: None, varies: true };
    let kind = Kind { form, etag: EtagPolicy::Off, rules: FileRules::default() };
    CachedFile::new(Source::File(file), metadata, kind, &moment, wants_bytes, Some(7), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::file::{Metadata, OpenFile, SharedFile};
    use crate::site::open::OpenRequest;
    use crate::site::root::SiteOptions;
    use crate::site::volume::Volume;

    /// A site with one file, and a cache.
    fn kept(name: &str) -> (tempfile::TempDir, Cache, Moment) {
        let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        std::fs::write(root.path().join("file"), "content").expect("written");
        std::os::unix::fs::symlink("file", root.path().join("link")).expect("linked");
        std::os::unix::fs::symlink(".", root.path().join("dirlink")).expect("linked");
        let site = Arc::new(Site::open_root(root.path(), SiteOptions::default()).expect("opened"));
        let mut cache = Cache::new(CacheConfig::default(), Arc::default()).expect("a cache");
        let now = Instant::now();
        let moment = Moment { now, unix_seconds: i64::MAX, next_second: now + Duration::from_secs(1) };
        assert!(!try_admit(&mut cache, &site, name, moment), "once is not enough");
        admit_eventually(&mut cache, &site, name, moment);
        (root, cache, moment)
    }

    /// Opens a file as a request would; returns whether it is cached afterwards.
    fn try_admit(cache: &mut Cache, site: &Arc<Site>, name: &str, moment: Moment) -> bool {
        let mut request = OpenRequest::new(Arc::clone(site));
        request.set_file(site, name.as_bytes(), b"");
        let opened = request.open().expect("opened");
        let file = Arc::new(SharedFile::new(opened.file));
        let (path, metadata) = (name.as_bytes(), opened.metadata);
        let candidate = Candidate { path, file: &file, metadata, examined: moment.now };
        cache.admit(site, &candidate, moment).is_some()
    }

    /// Requests the file until it is cached. That may take several tries: the lookup that doesn't block (openat2(2),
    /// `RESOLVE_CACHED`) fails while something is being mounted, and at a link whose access time must be written: a new
    /// link that is followed one clock tick later.
    fn admit_eventually(cache: &mut Cache, site: &Arc<Site>, name: &str, moment: Moment) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !try_admit(cache, site, name, moment) {
            assert!(Instant::now() < deadline, "{name} is never kept");
            std::thread::yield_now();
        }
    }

    #[test]
    fn entries_expire() {
        for (name, ttl) in [("file", WATCHED_TTL), ("link", UNSEEN_TTL), ("dirlink/file", UNSEEN_TTL)] {
            let (_root, mut cache, moment) = kept(name);
            let almost = moment.now + ttl - Duration::from_millis(1);
            assert!(cache.get(name.as_bytes(), almost).is_some(), "{name}");
            assert!(cache.get(name.as_bytes(), moment.now + ttl).is_none(), "{name}");
            assert!(cache.get(name.as_bytes(), almost).is_none(), "{name}: must have expired");
        }
    }

    /// A file reached through a link is dropped on the link's first change, wherever in the path the link is.
    #[test]
    fn a_link_is_watched() {
        for (name, link, other) in [("link", "link", "other"), ("dirlink/file", "dirlink", "..")] {
            let (root, mut cache, moment) = kept(name);
            cache.refresh();
            assert!(cache.get(name.as_bytes(), moment.now).is_some(), "{name}: nothing has changed");
            std::os::unix::fs::symlink(other, root.path().join("next")).expect("linked");
            std::fs::rename(root.path().join("next"), root.path().join(link)).expect("renamed");
            cache.refresh();
            assert!(cache.get(name.as_bytes(), moment.now).is_none(), "{name}: {link} leads elsewhere");
            assert!(!cache.watches.has_directory(b""), "{name}: no watch may be left");
        }
    }

    /// The link has been replaced, and the event of that hasn't been read yet.
    #[test]
    fn a_directory_that_was_a_link_is_not_watched() {
        let (root, mut cache, moment) = kept("dirlink/file");
        let site = Arc::new(Site::open_root(root.path(), SiteOptions::default()).expect("opened"));
        std::fs::remove_file(root.path().join("dirlink")).expect("removed");
        std::fs::create_dir(root.path().join("dirlink")).expect("made");
        std::fs::write(root.path().join("dirlink/other"), "other").expect("written");
        admit_eventually(&mut cache, &site, "dirlink/other", moment);
        let entry = cache.get(b"dirlink/other", moment.now).expect("it is kept");
        assert_eq!(entry.expires, moment.now + UNSEEN_TTL);
    }

    /// A file behind a link has its own watch.
    #[test]
    fn a_file_behind_a_link_is_watched() {
        for name in ["link", "dirlink/file"] {
            let (root, mut cache, moment) = kept(name);
            std::fs::write(root.path().join("file"), "changed").expect("written");
            cache.refresh();
            assert!(cache.get(name.as_bytes(), moment.now).is_none(), "{name}");
        }
    }

    /// However often a file was requested: once its entry has expired, it makes room for any other.
    #[test]
    fn expired_entries_make_room() {
        let (root, mut cache, moment) = kept("file");
        cache.shelves.set_entries(1);
        let site = Arc::new(Site::open_root(root.path(), SiteOptions::default()).expect("opened"));
        std::fs::write(root.path().join("new"), "new").expect("written");
        (0..20).for_each(|_| drop(cache.get(b"file", moment.now)));
        for _ in 0..20 {
            assert!(!try_admit(&mut cache, &site, "new", moment), "it isn't asked for more often");
        }
        let tally = cache.frequencies.miss(b"new");
        let expires = moment.now + WATCHED_TTL;
        assert!(cache.outdone(tally, 3, true, expires - Duration::from_nanos(1)).is_none());
        assert!(cache.outdone(tally, 3, true, expires).is_some());
        admit_eventually(&mut cache, &site, "new", Moment { now: moment.now + WATCHED_TTL, ..moment });
        assert!(cache.get(b"file", moment.now).is_none());
    }

    #[test]
    fn removed_entries_release_their_watches() {
        let (_root, mut cache, _) = kept("file");
        assert!(cache.watches.has_directory(b""));
        cache.forget(b"file");
        assert!(!cache.watches.has_directory(b""));
        // Only the removals of the watches are left to read; they refer to nothing.
        cache.refresh();
        assert_eq!(cache.shelves.len(), 0);
    }

    /// A cache with these files of a new site, and the site.
    fn several(names: &[&str]) -> (tempfile::TempDir, Arc<Site>, Cache, Moment) {
        let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        for name in names {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(&path, "content").expect("written");
        }
        let site = Arc::new(Site::open_root(root.path(), SiteOptions::default()).expect("opened"));
        let mut cache = Cache::new(CacheConfig::default(), Arc::default()).expect("a cache");
        let moment = Moment { now: Instant::now(), unix_seconds: i64::MAX, next_second: Instant::now() };
        names.iter().for_each(|name| admit_eventually(&mut cache, &site, name, moment));
        (root, site, cache, moment)
    }

    fn is_kept(cache: &mut Cache, name: &str, moment: Moment) -> bool {
        cache.get(name.as_bytes(), moment.now).is_some()
    }

    /// A directory is watched until the last of its files has left.
    #[test]
    fn a_directory_stays_watched_for_the_other_files_in_it() {
        for name in ["dir/sub/left", "dir/left"] {
            let (root, _site, mut cache, moment) = several(&["dir/sub/first", name]);
            cache.forget(b"dir/sub/first");
            cache.refresh();
            assert!(is_kept(&mut cache, name, moment), "{name}");
            std::fs::rename(root.path().join("dir"), root.path().join("gone")).expect("renamed");
            cache.refresh();
            assert!(!is_kept(&mut cache, name, moment), "{name}: its directory has another name");
            assert!(!cache.watches.has_directory(b"") && !cache.watches.has_directory(b"dir"));
        }
        let (root, _site, mut cache, moment) = several(&["dir/first", "dir/left"]);
        cache.forget(b"dir/first");
        std::fs::write(root.path().join("new"), "new").expect("written");
        std::fs::rename(root.path().join("new"), root.path().join("dir/left")).expect("renamed");
        cache.refresh();
        assert!(!is_kept(&mut cache, "dir/left", moment), "it is another file");
    }

    /// Two names of one file share its watch.
    #[test]
    fn a_file_stays_watched_for_its_other_name() {
        let (root, site, mut cache, moment) = several(&["file"]);
        std::fs::hard_link(root.path().join("file"), root.path().join("link")).expect("linked");
        cache.refresh();
        for name in ["file", "link"] {
            admit_eventually(&mut cache, &site, name, moment);
        }
        cache.forget(b"file");
        std::fs::write(root.path().join("file"), "changed").expect("written");
        cache.refresh();
        assert!(!is_kept(&mut cache, "link", moment));
    }

    /// An event of one file leaves the others alone, whatever their names begin with.
    #[test]
    fn only_what_has_changed_is_dropped() {
        let others = ["file2", "fil", "dir2/file", "dir/sub2/file", "dir/file"];
        let names: Vec<&str> = ["file", "dir/sub/file"].into_iter().chain(others).collect();
        let (root, _site, mut cache, moment) = several(&names);
        std::fs::write(root.path().join("file"), "changed").expect("written");
        std::fs::rename(root.path().join("dir/sub"), root.path().join("dir/gone")).expect("renamed");
        cache.refresh();
        assert!(!is_kept(&mut cache, "file", moment) && !is_kept(&mut cache, "dir/sub/file", moment));
        for name in others {
            assert!(is_kept(&mut cache, name, moment), "{name}");
        }
        cache.follow(cache.version());
        assert!(others.iter().all(|name| is_kept(&mut cache, name, moment)), "it is the same site");
        cache.follow(1);
        assert_eq!((cache.shelves.len(), cache.gauge.read().entries, cache.version()), (0, 0, 1));
        cache.follow(0);
        assert_eq!(cache.version(), 1, "an earlier version than the cache's is late news");
        assert!(cache.events().is_some());
    }

    /// Where changes produce no events, files are kept for a second from when they were examined, and no watch is set for
    /// them. Nor are they examined again, since that may wait.
    #[test]
    fn files_of_a_foreign_file_system_are_kept_for_a_second() {
        for volume in [Volume::Other, Volume::Layered] {
            let (root, site, mut cache, moment) = several(&[]);
            let path = root.path().join("file");
            std::fs::write(&path, "content").expect("written");
            let opened = std::fs::File::open(&path).expect("opened").into();
            let metadata = Metadata::of(&opened).expect("examined");
            let file = Arc::new(SharedFile::new(OpenFile::new(opened, volume, 5)));
            let examined = moment.now - UNSEEN_TTL / 4;
            let candidate = Candidate { path: b"file", file: &file, metadata, examined };
            std::fs::remove_file(&path).expect("removed");
            assert!(cache.admit(&site, &candidate, moment).is_none(), "once is not enough");
            let entry = cache.admit(&site, &candidate, moment).expect("it is kept");
            assert_eq!((entry.watch, entry.expires), (None, examined + UNSEEN_TTL));
            assert!(!cache.watches.has_directory(b""));
        }
    }

    /// A local file is looked at once more, as the open may have waited for a disk for long.
    #[test]
    fn an_unseen_file_that_has_changed_is_not_kept() {
        let (root, site, mut cache, moment) = several(&[]);
        cache.watches.blind();
        std::fs::write(root.path().join("file"), "content").expect("written");
        let mut request = OpenRequest::new(Arc::clone(&site));
        request.set_file(&site, b"file", b"");
        let opened = request.open().expect("opened");
        let file = Arc::new(SharedFile::new(opened.file));
        let metadata = opened.metadata;
        let candidate = Candidate { path: b"file", file: &file, metadata, examined: moment.now };
        std::fs::write(root.path().join("file"), "longer than before").expect("written");
        assert!((0..10).all(|_| cache.admit(&site, &candidate, moment).is_none()));
        admit_eventually(&mut cache, &site, "file", moment);
        let entry = cache.get(b"file", moment.now).expect("it is kept");
        assert_eq!((entry.watch, entry.expires), (None, moment.now + UNSEEN_TTL));
    }

    /// A file is kept for as long as its changes can be seen.
    #[test]
    fn watched_files_have_a_watch() {
        for (name, ttl) in [("file", WATCHED_TTL), ("link", UNSEEN_TTL), ("dirlink/file", UNSEEN_TTL)] {
            let (_root, mut cache, moment) = kept(name);
            let entry = cache.get(name.as_bytes(), moment.now).expect("it is kept");
            assert!(entry.watch.is_some(), "{name}");
            assert_eq!(entry.expires, moment.now + ttl, "{name}");
        }
    }

    /// What was opened isn't what the path leads to any more: it isn't kept, and nothing stays watched.
    #[test]
    fn a_file_that_changes_while_it_is_let_in_is_not_kept() {
        let (root, site, mut cache, moment) = several(&["dir/file"]);
        cache.forget(b"dir/file");
        let changes: [fn(&std::path::Path); 3] = [
            |path| std::fs::write(path, "changed").expect("written"),
            |path| std::fs::remove_file(path).expect("removed"),
            |path| {
                std::fs::write(path.with_extension("new"), "content").expect("written");
                std::fs::rename(path.with_extension("new"), path).expect("renamed");
            },
        ];
        for change in changes {
            let path = root.path().join("dir/file");
            std::fs::write(&path, "content").expect("written");
            for _ in 0..3 {
                let mut request = OpenRequest::new(Arc::clone(&site));
                request.set_file(&site, b"dir/file", b"");
                let opened = request.open().expect("opened");
                let file = Arc::new(SharedFile::new(opened.file));
                let candidate = Candidate {
                    path: b"dir/file",
                    file: &file,
                    metadata: opened.metadata,
                    examined: moment.now,
                };
                change(&path);
                assert!(cache.admit(&site, &candidate, moment).is_none());
                std::fs::write(&path, "content").expect("written");
            }
            assert!(!cache.watches.has_directory(b"") && !cache.watches.has_directory(b"dir"));
        }
    }

    /// Its Last-Modified would follow the clock.
    #[test]
    fn a_file_from_the_future_is_not_kept() {
        let (root, site, mut cache, moment) = several(&[]);
        std::fs::write(root.path().join("file"), "content").expect("written");
        let written = std::fs::metadata(root.path().join("file")).expect("its state");
        let modified = std::os::unix::fs::MetadataExt::mtime(&written);
        let before = Moment { unix_seconds: modified - 1, ..moment };
        assert!((0..10).all(|_| !try_admit(&mut cache, &site, "file", before)));
        admit_eventually(&mut cache, &site, "file", Moment { unix_seconds: modified, ..moment });
    }

    /// What is kept as bytes, what as an open file, and which of these remember what of them is in memory.
    #[test]
    fn small_files_are_kept_as_bytes() {
        let sizes = [(0, true), (64 * 1024, true), (64 * 1024 + 1, false), (10 << 20, false)];
        for level in [CacheLevel::Contents, CacheLevel::Descriptors] {
            let (root, site, _, moment) = several(&[]);
            let mut cache =
                Cache::new(CacheConfig { level, ..CacheConfig::default() }, Arc::default()).expect("a cache");
            for (size, is_small) in sizes {
                let file = std::fs::File::create(root.path().join(size.to_string())).expect("made");
                file.set_len(size).expect("grown");
                admit_eventually(&mut cache, &site, &size.to_string(), moment);
                let entry = cache.get(size.to_string().as_bytes(), moment.now).expect("it is kept");
                assert_eq!(entry.wants_bytes, is_small && level == CacheLevel::Contents, "{size}");
                let Source::File(file) = &entry.source else { panic!("nobody has read it") };
                let is_sent_as_a_file = !entry.wants_bytes && size >= SENDFILE_BYTES_MIN as u64;
                assert_eq!(file.residency().is_some(), is_sent_as_a_file, "{size}");
            }
        }
        assert!(Cache::new(CacheConfig::OFF, Arc::default()).is_none());
    }

    /// Without descriptors for the connections nothing else matters; bytes in memory take none.
    #[test]
    fn open_files_are_closed_when_descriptors_run_out() {
        let (_root, _site, mut cache, moment) = several(&["small", "large"]);
        let entry = cache.get(b"small", moment.now).expect("it is kept");
        cache.keep_bytes(b"small", &entry, FileBytes::from(&b"content"[..]));
        assert_eq!(cache.gauge.read().descriptors, 1);
        cache.shed_descriptors();
        let left = cache.gauge.read();
        assert_eq!((left.entries, left.descriptors, left.bytes, left.evictions), (1, 0, 7, 1));
        assert!(is_kept(&mut cache, "small", moment));
        cache.forget(b"small");
        assert_eq!(cache.gauge.read().entries, 0);
    }

    /// Small files on their way may not hold more descriptors than there are.
    #[test]
    fn files_on_their_way_hold_a_bounded_number_of_descriptors() {
        let names: Vec<String> = (0..6).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (_root, site, _, moment) = several(&names);
        let bounds = CacheConfig { descriptors: 4, ..CacheConfig::default() };
        let mut cache = Cache::new(bounds, Arc::default()).expect("a cache");
        names.iter().for_each(|name| admit_eventually(&mut cache, &site, name, moment));
        let left = cache.gauge.read();
        assert_eq!((left.entries, left.descriptors, left.evictions), (4, 4, 2));
        assert!(!is_kept(&mut cache, "0", moment) && is_kept(&mut cache, "5", moment));
    }

    /// A large newcomer must be more popular than all small files that leave for it.
    #[test]
    fn several_victims_count_together() {
        let (root, site, mut cache, moment) = several(&[]);
        let bounds = CacheConfig { bytes: 30, ..CacheConfig::default() };
        cache.shelves = Shelves::new(bounds);
        std::fs::write(root.path().join("large"), [0; 30]).expect("written");
        for name in ["a", "b", "c"] {
            std::fs::write(root.path().join(name), [0; 10]).expect("written");
            admit_eventually(&mut cache, &site, name, moment);
            let entry = cache.get(name.as_bytes(), moment.now).expect("it is kept");
            cache.keep_bytes(name.as_bytes(), &entry, FileBytes::from(&[0; 10][..]));
            (0..10).for_each(|_| drop(cache.get(name.as_bytes(), moment.now)));
        }
        let requests = (1..1000).find(|_| try_admit(&mut cache, &site, "large", moment));
        let requests = requests.expect("it is let in some time");
        assert!((50..80).contains(&requests), "after {requests} requests, where the others had about 40");
        assert_eq!(cache.shelves.len(), 1);
        assert_eq!(cache.gauge.read().evictions, 3);
    }

    /// Threads that don't wait for events look for them now and then.
    #[test]
    fn events_are_looked_for_now_and_then() {
        let (root, _site, mut cache, moment) = several(&["file"]);
        let now = cache.refreshed + REFRESH_INTERVAL;
        cache.refresh_now_and_then(now);
        std::fs::write(root.path().join("file"), "changed").expect("written");
        cache.refresh_now_and_then(now + REFRESH_INTERVAL - Duration::from_nanos(1));
        assert!(is_kept(&mut cache, "file", moment), "nobody has looked");
        cache.refresh_now_and_then(now + REFRESH_INTERVAL);
        assert!(!is_kept(&mut cache, "file", moment));
    }
}

//! What one worker uses of a site: the site itself, its cache, and memory for open files.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::http::accept_encoding::Coding;
use crate::http::mime::{MediaType, RecentTypes};
use crate::site::cache::{Cache, CacheConfig, CacheGauge, CachedFile, Candidate, Moment, Source};
use crate::site::file::{Metadata, OpenFile, SharedFile};
use crate::site::file_bytes::FileBytes;
use crate::site::free_list::FreeList;
use crate::site::root::Site;
use crate::site::variants::Compressor;

/// [`SharedFile`]s that are kept for the next files; beyond that they are freed.
const SPARE_FILES_MAX: usize = 1024;
/// So many of them stay, however little there is to do.
const SPARE_FILES_MIN: usize = 2;

/// A cache, shared by the threads of one worker. The lock is contended only in `blocking`.
type SharedCache = Arc<Mutex<Cache>>;

/// One worker's files.
#[derive(Debug)]
pub struct Files {
    site: Arc<Site>,
    version: u64,
    cache: Option<SharedCache>,
    /// No loop watches for events: this thread looks for them itself, now and then.
    polls_for_events: bool,
    compressor: Option<Arc<Compressor>>,
    /// Empty, for the next files.
    spare: FreeList<Arc<SharedFile>>,
    media_types: RecentTypes,
}

impl Files {
    /// The files of a worker, with a cache of its own within these bounds, and what compresses those in it.
    pub(crate) fn new(
        site: (Arc<Site>, u64),
        bounds: CacheConfig,
        gauge: Arc<CacheGauge>,
        compressor: Option<Arc<Compressor>>,
    ) -> Files {
        let cache = Cache::new(bounds, gauge).map(|cache| Arc::new(Mutex::new(cache)));
        let mut files = Files::with(FilesSeed { site: site.clone(), cache, compressor }, false);
        files.follow(site);
        files
    }

    /// For one more thread of the worker that these belong to: the same cache, memory of its own.
    pub(crate) fn for_thread(&self) -> FilesSeed {
        FilesSeed {
            site: (Arc::clone(&self.site), self.version),
            cache: self.cache.clone(),
            compressor: self.compressor.clone(),
        }
    }

    fn with(seed: FilesSeed, polls_for_events: bool) -> Files {
        let FilesSeed { site: (site, version), cache, compressor } = seed;
        let spare = FreeList::new(SPARE_FILES_MIN, SPARE_FILES_MAX);
        let media_types = RecentTypes::default();
        Files { site, version, cache, polls_for_events, compressor, spare, media_types }
    }

    /// What is served.
    #[must_use]
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// The version of the site.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// From now on files of this site, in this version; nothing that is cached of an earlier one is used again.
    pub(crate) fn follow(&mut self, (site, version): (Arc<Site>, u64)) {
        self.site = site;
        self.version = version;
        if let Some(mut cache) = self.lock_cache() {
            cache.follow(version);
        }
    }

    /// Readable when cached files have changed: then [`refresh_cache`](Self::refresh_cache) is due. `None` without a
    /// cache, or where the system has no inotify instance left.
    #[must_use]
    pub fn cache_events(&self) -> Option<Arc<OwnedFd>> {
        self.lock_cache()?.events().cloned()
    }

    /// Drops entries whose files have changed. Reads all events.
    pub fn refresh_cache(&self) {
        if let Some(mut cache) = self.lock_cache() {
            cache.refresh();
        }
    }

    /// The process has run out of descriptors: closes those that the cache holds.
    pub fn shed_descriptors(&self) {
        if let Some(mut cache) = self.lock_cache() {
            cache.shed_descriptors();
        }
    }

    /// The last share of a file gets the file, to close it in its own way; any other is dropped.
    #[inline]
    pub fn release(&mut self, mut file: Arc<SharedFile>) -> Option<OwnedFd> {
        let released = Arc::get_mut(&mut file)?.take();
        self.spare.put(file);
        released
    }

    /// Gives a body's source back.
    #[inline]
    pub(crate) fn release_source(&mut self, source: Source) {
        match source {
            Source::File(file) => drop(self.release(file)),
            Source::Memory(bytes) => drop(bytes),
        }
    }

    /// A file to be shared, in memory that was used before, or new.
    #[inline]
    pub(crate) fn share(&mut self, file: OpenFile) -> Arc<SharedFile> {
        match self.spare.take() {
            Some(mut spare) => {
                let place = Arc::get_mut(&mut spare).expect("a spare one has one owner");
                *place = SharedFile::new(file);
                spare
            }
            None => Arc::new(SharedFile::new(file)),
        }
    }

    /// Whether there is a cache, and the file under this path in it.
    #[inline]
    pub(crate) fn cached(&mut self, path: &[u8], now: Instant) -> Lookup {
        let Some(mut cache) = self.lock_cache() else { return Lookup::NoCache };
        if self.polls_for_events {
            cache.refresh_now_and_then(now);
        }
        cache.get(path, now).map_or(Lookup::Miss, Lookup::Hit)
    }

    /// Lets a file that was opened into the cache, if it is worth it.
    #[inline]
    pub(crate) fn admit(
        &self,
        path: &[u8],
        file: &Arc<SharedFile>,
        metadata: Metadata,
        examined: Instant,
        moment: Moment,
    ) -> Option<Arc<CachedFile>> {
        let mut cache = self.lock_cache()?;
        // Another thread of this worker may be ahead of this one, or behind.
        if cache.version() != self.version {
            return None;
        }
        cache.admit(&self.site, &Candidate { path, file, metadata, examined }, moment)
    }

    /// The bytes of a cached file were read: keeps them, too.
    pub(crate) fn keep_bytes(
        &self,
        path: &[u8],
        cached: &Arc<CachedFile>,
        bytes: FileBytes,
    ) -> Arc<FileBytes> {
        match self.lock_cache() {
            Some(mut cache) => cache.keep_bytes(path, cached, bytes),
            None => Arc::new(bytes),
        }
    }

    /// What a cached file was compressed to in this coding, if it was. If it wasn't, it will be soon, where it is worth it.
    pub(crate) fn compressed(
        &self,
        path: &[u8],
        cached: &CachedFile,
        coding: Coding,
        moment: &Moment,
    ) -> Option<Arc<CachedFile>> {
        let compressor = self.compressor.as_ref()?;
        let request = || match cached.wants_bytes {
            true => None,
            false => compressor.request(path, &cached.metadata, &cached.source),
        };
        let etag = self.site.options().etag;
        let entry = |bytes: &Arc<FileBytes>| cached.compressed(bytes, coding, etag, moment);
        cached.variants.as_ref()?.compressed(coding, request, entry)
    }

    /// A cached file isn't what it was.
    pub(crate) fn forget(&self, path: &[u8]) {
        if let Some(mut cache) = self.lock_cache() {
            cache.forget(path);
        }
    }

    /// The media type for a path.
    pub(crate) fn media_type(&mut self, path: &[u8]) -> MediaType {
        self.media_types.mime_for(path, &self.site.options().media_types)
    }

    /// Frees memory that has gone unneeded since the last call.
    pub(crate) fn trim(&mut self) {
        self.spare.trim();
    }

    /// A panic leaves the cache whole enough: at worst it keeps a watch that nobody needs.
    fn lock_cache(&self) -> Option<MutexGuard<'_, Cache>> {
        self.cache.as_ref().map(|cache| cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a look into the cache has found.
pub(crate) enum Lookup {
    /// There is no cache.
    NoCache,
    /// The file isn't cached.
    Miss,
    /// The file.
    Hit(Arc<CachedFile>),
}

/// What another thread makes its [`Files`] of.
#[derive(Debug)]
pub(crate) struct FilesSeed {
    site: (Arc<Site>, u64),
    cache: Option<SharedCache>,
    compressor: Option<Arc<Compressor>>,
}

impl FilesSeed {
    /// The files, in the thread that will own them.
    pub(crate) fn grow(self) -> Files {
        Files::with(self, true)
    }
}

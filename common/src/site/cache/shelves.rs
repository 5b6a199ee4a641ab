//! The shelves: the files in the cache, in the order of their last use, within bounds.
//!
//! There are two, one for files cached as bytes and one for open files, because each has a bound of its own besides the
//! common one. A file whose bytes are still being read is an open file that has its bytes' room reserved. An eighth of
//! the descriptors is left to such files, so that small files on their way don't close large ones.

use std::sync::Arc;

use arrayvec::ArrayVec;
use lru::LruCache;

use super::entry::{CachedFile, Source};
use super::frequencies::Tally;
use super::watches::FilePath;
use super::{CacheConfig, CacheGauge};
use crate::site::file_bytes::FileBytes;

/// A file for which more would have to leave isn't let in: each takes a system call.
pub(crate) const VICTIMS_MAX: usize = 64;

/// A file in the cache.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) file: Arc<CachedFile>,
    pub(crate) tally: Tally,
}

/// A file that may have to leave, and its path.
pub(crate) type Victim<'a> = (&'a FilePath, &'a Kept);

/// What is missing before a file fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lack {
    entries: usize,
    descriptors: usize,
    bytes: u64,
}

/// All files in the cache.
#[derive(Debug)]
pub(crate) struct Shelves {
    bounds: CacheConfig,
    /// Files cached as bytes.
    bodies: LruCache<FilePath, Kept>,
    /// Files cached as open descriptors.
    files: LruCache<FilePath, Kept>,
    /// Total bytes of all bodies, also of those that are being read.
    bytes: u64,
}

impl Shelves {
    /// Empty, with room for at least one file.
    pub(crate) fn new(bounds: CacheConfig) -> Shelves {
        Shelves { bounds, bodies: LruCache::unbounded(), files: LruCache::unbounded(), bytes: 0 }
    }

    /// The number of files.
    pub(crate) fn len(&self) -> usize {
        self.bodies.len() + self.files.len()
    }

    /// A file, which becomes the most recently used one.
    #[inline]
    pub(crate) fn get_mut(&mut self, path: &[u8]) -> Option<&mut Kept> {
        if let Some(kept) = self.bodies.get_mut(path) {
            return Some(kept);
        }
        self.files.get_mut(path)
    }

    /// Adds a file.
    pub(crate) fn put(&mut self, path: FilePath, kept: Kept) {
        self.bytes += kept.file.body_bytes();
        let shelf = match kept.file.source {
            Source::Memory(_) => &mut self.bodies,
            Source::File(_) => &mut self.files,
        };
        shelf.put(path, kept);
    }

    /// Adds the bytes that were read of an open file, unless that has left meanwhile.
    pub(crate) fn put_bytes(&mut self, path: &[u8], file: &Arc<CachedFile>, bytes: &Arc<FileBytes>) {
        let is_kept = self.files.peek(path).is_some_and(|kept| Arc::ptr_eq(&kept.file, file));
        if is_kept && let Some((path, kept)) = self.remove(path) {
            let file = Arc::new(kept.file.with_bytes(Arc::clone(bytes)));
            self.put(path, Kept { file, ..kept });
        }
    }

    /// Takes a file out.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Option<(FilePath, Kept)> {
        let removed = self.bodies.pop_entry(path).or_else(|| self.files.pop_entry(path))?;
        self.bytes -= removed.1.file.body_bytes();
        Some(removed)
    }

    /// Takes the least recently used open file out.
    pub(crate) fn pop_open(&mut self) -> Option<(FilePath, Kept)> {
        let (path, _) = self.files.peek_lru()?;
        let path = Arc::clone(path);
        self.remove(&path)
    }

    /// Whether more files are open than may be.
    pub(crate) fn has_too_many_open(&self) -> bool {
        self.files.len() > self.bounds.descriptors
    }

    /// All paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.bodies.iter().chain(self.files.iter()).map(|(path, _)| path)
    }

    /// Who must leave before a file of this size fits: the least recently used. `None` if that isn't enough, or too
    /// many.
    pub(crate) fn victims(&self, size: u64, wants_bytes: bool) -> Option<ArrayVec<Victim<'_>, VICTIMS_MAX>> {
        let mut lack = self.lack(size, wants_bytes);
        let (mut bodies, mut files) = (self.bodies.iter().rev(), self.files.iter().rev());
        let mut victims = ArrayVec::new();
        while lack != (Lack { entries: 0, descriptors: 0, bytes: 0 }) {
            let victim = if lack.descriptors > 0 {
                files.next()
            } else if lack.bytes > 0 {
                bodies.next()
            } else {
                bodies.next().or_else(|| files.next())
            };
            let file = &victim?.1.file;
            lack.entries = lack.entries.saturating_sub(1);
            lack.bytes = lack.bytes.saturating_sub(file.body_bytes());
            if let Source::File(_) = file.source {
                lack.descriptors = lack.descriptors.saturating_sub(1);
            }
            victims.try_push(victim?).ok()?;
        }
        Some(victims)
    }

    fn lack(&self, size: u64, wants_bytes: bool) -> Lack {
        let CacheConfig { entries, descriptors, bytes, .. } = self.bounds;
        let open_max = descriptors - descriptors / 8;
        Lack {
            entries: (self.len() + 1).saturating_sub(entries),
            descriptors: if wants_bytes { 0 } else { (self.files.len() + 1).saturating_sub(open_max) },
            bytes: if wants_bytes { (self.bytes + size).saturating_sub(bytes) } else { 0 },
        }
    }

    /// From now on no more than so many files.
    #[cfg(test)]
    pub(crate) fn set_entries(&mut self, entries: usize) {
        self.bounds.entries = entries;
    }

    /// Tells what there is.
    pub(crate) fn publish(&self, gauge: &CacheGauge) {
        gauge.set(self.len(), self.files.len(), self.bytes);
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::cache::frequencies::Frequencies;
    use crate::site::cache::{CacheLevel, test_file};

    const BOUNDS: CacheConfig =
        CacheConfig { level: CacheLevel::Contents, bytes: 1000, entries: 20, descriptors: 8 };

    fn shelves(bounds: CacheConfig) -> Shelves {
        Shelves::new(bounds)
    }

    /// Adds a large file, which stays open, or a small one with its bytes.
    fn put(shelves: &mut Shelves, name: &str, size: u64, is_small: bool) {
        let path = FilePath::from(name.as_bytes());
        let file = Arc::new(test_file(size, is_small));
        let tally = Frequencies::new(1).miss(b"");
        shelves.put(path, Kept { file: Arc::clone(&file), tally });
        if is_small {
            let content = vec![0; usize::try_from(size).expect("a small file")];
            shelves.put_bytes(name.as_bytes(), &file, &Arc::new(FileBytes::from(&content[..])));
        }
    }

    /// The names of those who must leave for another file.
    fn victims(shelves: &Shelves, size: u64, is_small: bool) -> Option<Vec<String>> {
        let victims = shelves.victims(size, is_small)?;
        Some(victims.iter().map(|(path, _)| path.escape_ascii().to_string()).collect())
    }

    fn names(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn nobody_leaves_before_the_entries_are_full() {
        let mut shelves = shelves(CacheConfig { entries: 3, ..BOUNDS });
        for name in ["a", "b", "c"] {
            assert_eq!(victims(&shelves, 1, true), names(&[]), "{name} fits");
            put(&mut shelves, name, 1, name != "b");
        }
        assert_eq!(shelves.len(), 3);
        // Of those in memory first, since they have less to lose.
        assert_eq!(victims(&shelves, 1, true), names(&["a"]));
        assert_eq!(victims(&shelves, 1, false), names(&["a"]));
        assert!(shelves.get_mut(b"a").is_some());
        assert_eq!(victims(&shelves, 1, true), names(&["c"]));
        shelves.remove(b"a").expect("it is there");
        assert_eq!(victims(&shelves, 1, true), names(&[]));
        put(&mut shelves, "d", 1, false);
        shelves.remove(b"c").expect("it is there");
        put(&mut shelves, "e", 1, false);
        assert_eq!(victims(&shelves, 1, true), names(&["b"]), "all that are left are open");
    }

    #[test]
    fn nobody_leaves_before_the_bytes_are_full() {
        let mut shelves = shelves(BOUNDS);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(victims(&shelves, 250, true), names(&[]), "{name} fits");
            put(&mut shelves, name, 250, true);
        }
        assert_eq!(victims(&shelves, 0, true), names(&[]));
        assert_eq!(victims(&shelves, 1, true), names(&["a"]));
        assert_eq!(victims(&shelves, 251, true), names(&["a", "b"]));
        assert_eq!(victims(&shelves, 1000, true), names(&["a", "b", "c", "d"]));
        assert_eq!(victims(&shelves, 1001, true), None, "it would not fit even then");
        assert_eq!(victims(&shelves, 1_000_000, false), names(&[]), "an open file takes no bytes");
        shelves.remove(b"c").expect("it is there");
        assert_eq!(victims(&shelves, 250, true), names(&[]));
    }

    /// Bytes that are being read take room already.
    #[test]
    fn room_is_reserved() {
        let mut shelves = shelves(BOUNDS);
        let file = Arc::new(test_file(900, true));
        let tally = Frequencies::new(1).miss(b"");
        shelves.put(FilePath::from(&b"a"[..]), Kept { file: Arc::clone(&file), tally });
        assert_eq!(victims(&shelves, 100, true), names(&[]));
        assert_eq!(victims(&shelves, 101, true), None, "what is being read stays");
        let other = Arc::new(test_file(900, true));
        let bytes = Arc::new(FileBytes::from(&[0; 900][..]));
        shelves.put_bytes(b"a", &other, &bytes);
        assert_eq!(shelves.files.len(), 1, "they are of a file that has left");
        shelves.put_bytes(b"a", &file, &bytes);
        assert_eq!((shelves.files.len(), shelves.bodies.len(), shelves.bytes), (0, 1, 900));
        assert_eq!(victims(&shelves, 101, true), names(&["a"]));
        shelves.put_bytes(b"a", &file, &bytes);
        assert_eq!((shelves.len(), shelves.bytes), (1, 900), "once is enough");
    }

    #[test]
    fn an_eighth_of_the_descriptors_is_for_files_that_are_being_read() {
        let mut shelves = shelves(BOUNDS);
        // It has no descriptor to give.
        put(&mut shelves, "small", 1, true);
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            assert_eq!(victims(&shelves, 1, false), names(&[]), "{name} fits");
            put(&mut shelves, name, 1, false);
        }
        assert_eq!(victims(&shelves, 1, false), names(&["a"]));
        assert_eq!(victims(&shelves, 1, true), names(&[]));
        assert!(!shelves.has_too_many_open());
        put(&mut shelves, "h", 1, false);
        assert!(!shelves.has_too_many_open());
        put(&mut shelves, "i", 1, false);
        assert!(shelves.has_too_many_open());
        let (path, _) = shelves.pop_open().expect("the oldest");
        assert_eq!(&path[..], b"a");
        assert!(!shelves.has_too_many_open());
    }

    /// One that leaves for its descriptor also leaves its entry.
    #[test]
    fn one_victim_may_be_enough_for_two_reasons() {
        let mut shelves = shelves(CacheConfig { entries: 7, ..BOUNDS });
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            put(&mut shelves, name, 1, false);
        }
        assert_eq!(victims(&shelves, 1, false), names(&["a"]));
        assert_eq!(victims(&shelves, 1, true), names(&["a"]));
        shelves.set_entries(5);
        assert_eq!(victims(&shelves, 1, true), names(&["a", "b", "c"]));
        let open: Vec<_> = std::iter::from_fn(|| shelves.pop_open()).collect();
        assert_eq!((open.len(), shelves.len()), (7, 0));
    }

    #[test]
    fn too_many_victims_are_none() {
        let many = VICTIMS_MAX as u64;
        let mut shelves = shelves(CacheConfig { bytes: many + 1, entries: 1000, ..BOUNDS });
        for number in 0..=many {
            put(&mut shelves, &number.to_string(), 1, true);
        }
        assert_eq!(victims(&shelves, many, true).map(|victims| victims.len()), Some(VICTIMS_MAX));
        assert_eq!(victims(&shelves, many + 1, true), None);
    }

    #[test]
    fn the_gauge_shows_what_there_is() {
        let (mut shelves, gauge) = (shelves(BOUNDS), CacheGauge::default());
        put(&mut shelves, "a", 5, true);
        put(&mut shelves, "b", 7, false);
        put(&mut shelves, "c", 11, true);
        shelves.publish(&gauge);
        let found = gauge.read();
        assert_eq!((found.entries, found.descriptors, found.bytes, found.evictions), (3, 1, 16, 0));
        let mut paths: Vec<_> = shelves.paths().map(|path| path.to_vec()).collect();
        paths.sort();
        assert_eq!(paths, [b"a", b"b", b"c"]);
    }
}

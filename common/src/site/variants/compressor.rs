//! The compressor: one thread of lowest priority for all workers, and what it has made.
//!
//! What it has made is known by its content: workers that hold the same bytes share it, and a file that leaves the cache and
//! returns unchanged isn't compressed again. Files that are too large to be held in memory are known by what
//! fstat(2) says of them, if that tells every later version from this one, and looked at again each time.

use std::hash::Hasher;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::UNIX_EPOCH;

use lru::LruCache;
use rustix::process::setpriority_process;
use siphasher::sip::SipHasher13;

use crate::http::accept_encoding::Coding;
use crate::http::conditional::{EtagPolicy, Timestamp};
use crate::site::cache::Source;
use crate::site::file::{FileRange, Metadata, SharedFile};
use crate::site::file_bytes::FileBytes;
use crate::site::variants::encode;
use crate::site::variants::jobs::{Content, Job, Jobs};
use crate::site::volume::Volume;

/// Smaller files fit one packet anyway, larger ones take seconds.
pub(crate) const FILE_BYTES_MIN: u64 = 1024;
pub(crate) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The lowest priority that there is (setpriority(2)).
const NICE: i32 = 19;

/// Brotli's tables are on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// What a file was compressed to, or will be.
#[derive(Debug)]
pub(crate) struct Compressed {
    /// Of a file that isn't held in memory.
    origin: Option<Metadata>,
    /// The origin tells this content from any other that the file may ever have.
    is_certain: AtomicBool,
    /// The content is another than the origin's.
    is_stale: AtomicBool,
    digest: OnceLock<u64>,
    /// `None` if it is hardly smaller than the file.
    gzip: OnceLock<Option<Arc<FileBytes>>>,
    brotli: OnceLock<Option<Arc<FileBytes>>>,
}

/// Compresses files.
#[derive(Debug)]
pub(crate) struct Compressor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    jobs: Jobs,
    kept: LruCache<Box<[u8]>, Kept>,
    bytes: u64,
    bytes_max: u64,
    has_thread: bool,
    is_over: bool,
}

#[derive(Debug)]
struct Kept {
    compressed: Arc<Compressed>,
    /// What it counts for.
    bytes: u64,
}

impl Compressed {
    pub(super) fn new(origin: Option<Metadata>) -> Compressed {
        Compressed {
            origin,
            is_certain: AtomicBool::new(false),
            is_stale: AtomicBool::new(false),
            digest: OnceLock::new(),
            gzip: OnceLock::new(),
            brotli: OnceLock::new(),
        }
    }

    /// The file in this coding, if it has been made and is worth it.
    pub(crate) fn bytes(&self, coding: Coding) -> Option<&Arc<FileBytes>> {
        match coding {
            Coding::Gzip => self.gzip.get()?.as_ref(),
            Coding::Brotli => self.brotli.get()?.as_ref(),
            Coding::Zstd => None,
        }
    }

    /// It isn't what the file is now.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale.load(Relaxed)
    }

    /// Makes the file in this coding, unless it is made already.
    pub(super) fn make(&self, coding: Coding, bytes: &[u8], earlier: Option<&Compressed>) {
        type Encode = fn(&[u8]) -> io::Result<Vec<u8>>;
        let (place, encode) = match coding {
            Coding::Gzip => (&self.gzip, encode::gzip as Encode),
            Coding::Brotli => (&self.brotli, encode::brotli as Encode),
            Coding::Zstd => return,
        };
        let earlier = earlier.filter(|earlier| earlier.digest.get() == self.digest.get());
        place.get_or_init(|| {
            let known = earlier.and_then(|earlier| earlier.bytes(coding));
            known.cloned().or_else(|| made(bytes, encode).map(Arc::new))
        });
    }

    /// Whether it was made in this coding, worth it or not.
    pub(super) fn is_made(&self, coding: Coding) -> bool {
        match coding {
            Coding::Gzip => self.gzip.get().is_some(),
            Coding::Brotli => self.brotli.get().is_some(),
            Coding::Zstd => false,
        }
    }

    fn total_bytes(&self) -> u64 {
        let bytes = |coding| self.bytes(coding).map_or(0, |bytes| bytes.len() as u64);
        bytes(Coding::Gzip) + bytes(Coding::Brotli)
    }
}

/// `None` if it is hardly smaller, or the encoder fails: the server goes on with the file as it is.
fn made(bytes: &[u8], encode: fn(&[u8]) -> io::Result<Vec<u8>>) -> Option<FileBytes> {
    let coded = catch_unwind(AssertUnwindSafe(|| encode(bytes))).ok()?.ok()?;
    (coded.len() <= bytes.len() - bytes.len() / 10).then(|| FileBytes::from(coded.as_slice()))
}

impl Compressor {
    /// A compressor that keeps about so many bytes of what it makes.
    pub(crate) fn new(bytes_max: u64) -> Compressor {
        let state = State {
            jobs: Jobs::default(),
            kept: LruCache::unbounded(),
            bytes: 0,
            bytes_max,
            has_thread: false,
            is_over: false,
        };
        Compressor { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// What it has made takes so many bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.lock().bytes
    }

    /// What the file at this path is compressed to, or will be; `None` if that can't be now, or isn't worth it. This
    /// doesn't wait.
    pub(crate) fn request(
        &self,
        path: &[u8],
        metadata: &Metadata,
        source: &Source,
    ) -> Option<Arc<Compressed>> {
        if !(FILE_BYTES_MIN..=FILE_BYTES_MAX).contains(&metadata.size) {
            return None;
        }
        let mut state = self.shared.lock();
        let kept = state.kept.get(path).map(|kept| Arc::clone(&kept.compressed));
        match source {
            Source::Memory(bytes) => {
                let digest = digest(bytes);
                if let Some(kept) = kept.filter(|kept| kept.digest.get() == Some(&digest)) {
                    return Some(kept);
                }
                let target = Compressed::new(None);
                target.digest.get_or_init(|| digest);
                self.begin(state, path, Content::Memory(Arc::clone(bytes)), target, None)
            }
            Source::File(file) => {
                // Behind a server or a program the thread might wait for ever.
                if file.volume() == Volume::Other || !state.jobs.has_room_for_open() {
                    return None;
                }
                let content = Content::File(Arc::clone(file), *metadata);
                match kept {
                    Some(kept) if kept.is_certainly(metadata) => {
                        self.enqueue(state, path, content, Arc::clone(&kept), None).then_some(kept)
                    }
                    kept => self.begin(state, path, content, Compressed::new(Some(*metadata)), kept),
                }
            }
        }
    }

    fn begin(
        &self,
        mut state: MutexGuard<'_, State>,
        path: &[u8],
        content: Content,
        target: Compressed,
        earlier: Option<Arc<Compressed>>,
    ) -> Option<Arc<Compressed>> {
        if !state.jobs.has_room() {
            return None;
        }
        let target = Arc::new(target);
        state.keep(path, Arc::clone(&target));
        self.enqueue(state, path, content, Arc::clone(&target), earlier).then_some(target)
    }

    /// Whether there was room.
    fn enqueue(
        &self,
        mut state: MutexGuard<'_, State>,
        path: &[u8],
        content: Content,
        target: Arc<Compressed>,
        earlier: Option<Arc<Compressed>>,
    ) -> bool {
        if !state.jobs.has_room() {
            return false;
        }
        if !state.has_thread {
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("compressor".to_owned()).stack_size(STACK_BYTES);
            state.has_thread = thread.spawn(move || shared.run()).is_ok();
        }
        state.jobs.push(Job { path: path.into(), content, target, earlier });
        self.shared.changed.notify_one();
        true
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_one();
    }
}

impl Compressed {
    /// Whether this is certain to be what a file is compressed to that is in this state.
    fn is_certainly(&self, metadata: &Metadata) -> bool {
        !self.is_stale() && self.is_certain.load(Relaxed) && self.origin.as_ref() == Some(metadata)
    }
}

impl Shared {
    fn run(&self) {
        // Of this thread alone. Where it isn't allowed, the thread competes with the workers.
        let _refused = setpriority_process(None, NICE);
        while let Some((coding, job)) = self.next_job() {
            let (path, target) = (job.path.clone(), Arc::clone(&job.target));
            let is_wanted = self.lock().wants(&path, &target);
            let next = if is_wanted { job.carry_out(coding) } else { None };
            let mut state = self.lock();
            state.count(&path, &target);
            if let Some(next) = next {
                state.jobs.push_brotli(next);
            }
        }
    }

    /// Waits for a job; `None` when there will be no more.
    fn next_job(&self) -> Option<(Coding, Job)> {
        let is_idle = |state: &mut State| state.jobs.is_empty() && !state.is_over;
        let mut state = self.changed.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
        if state.is_over { None } else { state.jobs.pop() }
    }

    /// No panic leaves the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, path: &[u8], compressed: Arc<Compressed>) {
        if let Some((_, before)) = self.kept.push(path.into(), Kept { compressed, bytes: 0 }) {
            self.bytes -= before.bytes;
        }
    }

    /// Whether the file at this path hasn't changed since, as far as is known.
    fn wants(&self, path: &[u8], target: &Arc<Compressed>) -> bool {
        self.kept.peek(path).is_some_and(|kept| Arc::ptr_eq(&kept.compressed, target)) && !self.is_over
    }

    /// Counts what has been made, and lets go of what was used least recently where that is too much.
    fn count(&mut self, path: &[u8], target: &Arc<Compressed>) {
        if let Some(kept) = self.kept.peek_mut(path)
            && Arc::ptr_eq(&kept.compressed, target)
        {
            // What takes no bytes takes an entry.
            let bytes = target.total_bytes() + path.len() as u64 + 256;
            self.bytes = self.bytes - kept.bytes + bytes;
            kept.bytes = bytes;
        }
        while self.bytes > self.bytes_max
            && let Some((_, kept)) = self.kept.pop_lru()
        {
            self.bytes -= kept.bytes;
        }
    }
}

impl Compressed {
    /// Reads the file, if it is still what this is to be made of.
    pub(super) fn verify(&self, file: &Arc<SharedFile>, metadata: &Metadata) -> Option<FileBytes> {
        let since = UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = Timestamp { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() };
        let bytes = FileRange { file, offset: 0, length: metadata.size }.read().ok()?;
        // It has changed while it was read: its entry is about to leave the cache.
        if bytes.len() as u64 != metadata.size || !is_still(file, metadata) {
            return None;
        }
        let digest = digest(&bytes);
        if *self.digest.get_or_init(|| digest) != digest {
            self.is_stale.store(true, Relaxed);
            return None;
        }
        let is_settled = metadata.state().settles_in(EtagPolicy::Strict, now).is_zero();
        self.is_certain.fetch_or(is_settled, Relaxed);
        Some(bytes)
    }
}

/// Whether a file is as it was.
fn is_still(file: &SharedFile, metadata: &Metadata) -> bool {
    Metadata::of(file).is_ok_and(|now| now == *metadata)
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, bytes.len() as u64);
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::file::OpenFile;
    use crate::site::variants::jobs::{JOBS_MAX, OPEN_JOBS_MAX};
    use std::fs::{self, File};
    use std::io::{Seek, Write};
    use std::os::unix::fs::FileExt;
    use std::time::{Duration, Instant};

    fn text(number: usize) -> Vec<u8> {
        format!("{number} ").repeat(2_000).into_bytes()[..4_000].to_vec()
    }

    fn memory(bytes: &[u8]) -> (Metadata, Source) {
        let file = tempfile::tempfile().expect("a file");
        let metadata = Metadata { size: bytes.len() as u64, ..Metadata::of(&file).expect("examined") };
        (metadata, Source::Memory(Arc::new(FileBytes::from(bytes))))
    }

    fn source(file: &File, volume: Volume) -> (Metadata, Source) {
        let metadata = Metadata::of(file).expect("examined");
        let file = OpenFile::new(file.try_clone().expect("opened twice").into(), volume, 0);
        (metadata, Source::File(Arc::new(SharedFile::new(file))))
    }

    fn wait_for(what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_done(compressed: &Compressed) -> bool {
        compressed.is_made(Coding::Brotli)
    }

    #[test]
    fn the_same_bytes_are_compressed_once() {
        let compressor = Compressor::new(1 << 20);
        let (metadata, first) = memory(&text(1));
        let made = compressor.request(b"a", &metadata, &first).expect("room");
        let again = compressor.request(b"a", &metadata, &memory(&text(1)).1).expect("room");
        assert!(Arc::ptr_eq(&made, &again), "while it waits");
        wait_for("it is made", || is_done(&made));
        let later = compressor.request(b"a", &metadata, &memory(&text(1)).1).expect("room");
        assert!(Arc::ptr_eq(&made, &later), "afterwards");
        let other = compressor.request(b"a", &metadata, &memory(&text(2)).1).expect("room");
        assert!(!Arc::ptr_eq(&made, &other), "other bytes of the same size and state");
        wait_for("it is made", || is_done(&other));
        let [gzip, brotli] =
            [Coding::Gzip, Coding::Brotli].map(|coding| made.bytes(coding).expect("smaller"));
        assert!(gzip.len() < 200 && brotli.len() < 200);
        assert!(made.bytes(Coding::Zstd).is_none());
    }

    #[test]
    fn sizes_that_are_not_worth_it() {
        let compressor = Compressor::new(1 << 20);
        for (size, is_worth_it) in
            [(0, false), (1023, false), (1024, true), (1 << 20, true), ((1 << 20) + 1, false)]
        {
            let metadata = Metadata { size, ..memory(b"").0 };
            let path = size.to_string();
            let made = compressor.request(path.as_bytes(), &metadata, &memory(&text(1)).1);
            assert_eq!(made.is_some(), is_worth_it, "{size}");
        }
    }

    /// A tenth is what it must gain.
    #[test]
    fn what_hardly_shrinks_is_not_kept() {
        let bytes = [b'x'; 1000];
        for (coded, is_kept) in [(900, true), (901, false), (1000, false), (2000, false)] {
            let encode: fn(&[u8]) -> std::io::Result<Vec<u8>> = match coded {
                900 => |_| Ok(vec![0; 900]),
                901 => |_| Ok(vec![0; 901]),
                1000 => |_| Ok(vec![0; 1000]),
                _ => |_| Ok(vec![0; 2000]),
            };
            assert_eq!(made(&bytes, encode).is_some(), is_kept, "{coded}");
        }
        assert!(made(&bytes, |_| Err(std::io::ErrorKind::Other.into())).is_none());
        assert!(made(&bytes, |_| panic!("an encoder that can't")).is_none());
    }

    /// A file whose state tells it from any later one is known by that; what was made is looked at once more.
    #[test]
    fn files_are_known_by_their_state() {
        let compressor = Compressor::new(1 << 20);
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&text(1)).expect("written");
        let (metadata, opened) = source(&file, Volume::Local);
        let young = compressor.request(b"a", &metadata, &opened).expect("room");
        wait_for("it is made", || is_done(&young));
        let again = compressor.request(b"a", &metadata, &opened).expect("room");
        assert!(!Arc::ptr_eq(&young, &again), "another write could have left the same state");
        wait_for("it is made", || is_done(&again));
        assert!(Arc::ptr_eq(
            young.bytes(Coding::Gzip).expect("made"),
            again.bytes(Coding::Gzip).expect("made")
        ));
        let settled = || {
            let since = UNIX_EPOCH.elapsed().expect("a clock");
            let now = Timestamp { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() };
            metadata.state().settles_in(EtagPolicy::Strict, now).is_zero()
        };
        wait_for("it is old enough", settled);
        let old = compressor.request(b"a", &metadata, &opened).expect("room");
        wait_for("it is made", || is_done(&old));
        let known = compressor.request(b"a", &metadata, &opened).expect("room");
        assert!(Arc::ptr_eq(&old, &known));
        // As stores through a memory mapping may: other content, and the same state.
        file.write_all_at(&text(2), 0).expect("written");
        let (changed, opened) = source(&file, Volume::Local);
        assert_ne!(changed, metadata);
        let lie = Compressed::new(Some(changed));
        lie.digest.get_or_init(|| digest(&text(1)));
        lie.is_certain.store(true, Relaxed);
        compressor.shared.lock().keep(b"a", Arc::new(lie));
        let stale = compressor.request(b"a", &changed, &opened).expect("room");
        wait_for("it is found out", || stale.is_stale());
        let right = compressor.request(b"a", &changed, &opened).expect("room");
        assert!(!Arc::ptr_eq(&stale, &right));
        wait_for("it is made", || is_done(&right));
        assert_eq!(right.digest.get(), Some(&digest(&text(2))));
    }

    /// Bytes that were read while they changed are of no state that there ever was.
    #[test]
    fn a_file_that_changes_meanwhile_is_not_compressed() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&text(1)).expect("written");
        let (metadata, opened) = source(&file, Volume::Local);
        file.rewind().and_then(|()| file.write_all(b"other")).expect("written");
        let Source::File(shared) = opened else { panic!("a file") };
        let target = Arc::new(Compressed::new(Some(metadata)));
        let content = Content::File(shared, metadata);
        let job = Job { path: b"a"[..].into(), content, target: Arc::clone(&target), earlier: None };
        assert!(
            job.carry_out(Coding::Gzip)
                .is_none_or(|_brotli| Metadata::of(&file).is_ok_and(|now| now == metadata))
        );
        let now = Metadata::of(&file).expect("examined");
        assert_eq!(
            target.gzip.get().is_some(),
            now == metadata,
            "unless it was all within one tick of the clock"
        );
    }

    /// A thread that waited for a server would compress nothing any more.
    #[test]
    fn no_file_is_read_where_that_may_wait_for_ever() {
        let compressor = Compressor::new(1 << 20);
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&text(1)).expect("written");
        for (volume, is_read) in
            [(Volume::Memory, true), (Volume::Local, true), (Volume::Layered, true), (Volume::Other, false)]
        {
            let (metadata, opened) = source(&file, volume);
            let path = format!("{volume:?}");
            assert_eq!(compressor.request(path.as_bytes(), &metadata, &opened).is_some(), is_read, "{path}");
        }
    }

    /// Nothing is begun that nobody wants any more, and what is finished counts until others take its place.
    #[test]
    fn memory_is_bounded() {
        let compressor = Compressor::new(2_000);
        let mut made = Vec::new();
        for number in 0..20 {
            let (metadata, source) = memory(&text(number));
            let path = number.to_string();
            let compressed = compressor.request(path.as_bytes(), &metadata, &source).expect("room");
            wait_for("it is made", || is_done(&compressed));
            made.push(compressed);
        }
        let shared = &compressor.shared;
        wait_for("it is counted", || shared.lock().kept.peek(&b"19"[..]).is_none_or(|kept| kept.bytes > 0));
        let state = shared.lock();
        assert!(state.bytes <= 2_000 && (1..10).contains(&state.kept.len()), "{} files", state.kept.len());
        assert_eq!(state.bytes, state.kept.iter().map(|(_, kept)| kept.bytes).sum::<u64>());
        assert!(state.kept.peek(&b"0"[..]).is_none(), "the oldest leaves first");
    }

    #[test]
    fn the_queue_is_bounded() {
        let compressor = Compressor::new(1 << 20);
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&text(1)).expect("written");
        let (metadata, opened) = source(&file, Volume::Local);
        // As if the thread were busy.
        compressor.shared.lock().has_thread = true;
        for number in 0..2 * JOBS_MAX {
            let is_file = number % 2 == 0;
            let (metadata, source) = if is_file { (metadata, opened.clone()) } else { memory(&text(number)) };
            compressor.request(number.to_string().as_bytes(), &metadata, &source);
        }
        let mut waiting = 0;
        let mut open = 0;
        {
            let jobs = &mut compressor.shared.lock().jobs;
            assert!(!jobs.has_room() && !jobs.has_room_for_open());
            while let Some((_, job)) = jobs.pop() {
                waiting += 1;
                open += usize::from(matches!(job.content, Content::File(..)));
            }
            assert!(jobs.has_room() && jobs.has_room_for_open());
        }
        assert_eq!((waiting, open), (JOBS_MAX, OPEN_JOBS_MAX));
        let wanted = |path: &[u8], target: &Arc<Compressed>| compressor.shared.lock().wants(path, target);
        let (metadata, source) = memory(&text(1));
        let before = Arc::clone(&compressor.shared.lock().kept.peek(&b"1"[..]).expect("it waits").compressed);
        assert!(wanted(b"1", &before));
        assert!(compressor.request(b"1", &metadata, &source).is_some_and(|now| Arc::ptr_eq(&now, &before)));
        compressor.shared.lock().keep(b"1", Arc::new(Compressed::new(None)));
        assert!(!wanted(b"1", &before), "the file has changed");
    }

    #[test]
    fn the_thread_ends_with_the_compressor() {
        let compressor = Compressor::new(1 << 20);
        let (metadata, source) = memory(&text(1));
        let made = compressor.request(b"a", &metadata, &source).expect("room");
        wait_for("it is made", || is_done(&made));
        let shared = Arc::downgrade(&compressor.shared);
        drop(compressor);
        wait_for("the thread has ended", || shared.upgrade().is_none());
    }

    /// The thread doesn't compete with the workers.
    #[test]
    fn the_thread_has_the_lowest_priority() {
        let compressor = Compressor::new(1 << 20);
        let (metadata, source) = memory(&text(1));
        let made = compressor.request(b"a", &metadata, &source).expect("room");
        wait_for("it is made", || is_done(&made));
        let nice = |task: &str| -> Option<i32> {
            let stat = fs::read_to_string(format!("/proc/self/task/{task}/stat")).ok()?;
            let (name, rest) = stat.rsplit_once(')')?;
            // The nineteenth field (proc_pid_stat(5)); the third comes behind the name.
            name.ends_with("compressor").then(|| rest.split_whitespace().nth(16)?.parse().ok()).flatten()
        };
        let tasks = fs::read_dir("/proc/self/task").expect("threads");
        let tasks =
            tasks.filter_map(|task| nice(&task.ok()?.file_name().to_string_lossy())).collect::<Vec<_>>();
        assert!(tasks.contains(&NICE), "{tasks:?}");
    }
}

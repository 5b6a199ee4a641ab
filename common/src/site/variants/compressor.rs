//! The compressor: one thread of lowest priority for all workers, and what it has made.
//!
//! What it has made is known by its content: workers that hold the same bytes share it, and a file that leaves the cache and
//! returns unchanged isn't compressed again. Files that are too large to be held in memory are known by what
//! fstat(2) says of them, if that tells every later version from this one, and looked at again each time.

use std::collections::VecDeque;
use std::hash::Hasher;
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
use crate::site::volume::Volume;

/// Smaller files fit one packet anyway, larger ones take seconds.
pub(crate) const FILE_BYTES_MIN: u64 = 1024;
pub(crate) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Files that wait; any other is compressed when it is asked for again. Each holds its bytes, at most 64 KiB,
const JOBS_MAX: usize = 256;

/// or a descriptor.
const OPEN_JOBS_MAX: usize = 16;

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
    jobs: VecDeque<Job>,
    /// How many of the jobs hold a descriptor.
    open_jobs: usize,
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

#[derive(Debug)]
struct Job {
    path: Box<[u8]>,
    content: Content,
    target: Arc<Compressed>,
    /// What was made of an earlier state of the file, perhaps with the same content.
    earlier: Option<Arc<Compressed>>,
}

#[derive(Debug)]
enum Content {
    Memory(Arc<FileBytes>),
    File(Arc<SharedFile>, Metadata),
}

impl Compressed {
    fn new(origin: Option<Metadata>) -> Compressed {
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

    /// Makes what isn't there yet, as long as it is wanted; gzip first: it is there in a moment, and every client takes it.
    fn fill(&self, bytes: &[u8], earlier: Option<&Compressed>, is_wanted: impl Fn() -> bool) {
        type Encode = fn(&[u8]) -> std::io::Result<Vec<u8>>;
        let earlier = earlier.filter(|earlier| earlier.digest.get() == self.digest.get());
        let codings: [(Coding, &OnceLock<_>, Encode); 2] =
            [(Coding::Gzip, &self.gzip, encode::gzip), (Coding::Brotli, &self.brotli, encode::brotli)];
        for (coding, place, encode) in codings {
            if !is_wanted() {
                return;
            }
            place.get_or_init(|| {
                let known = earlier.and_then(|earlier| earlier.bytes(coding));
                known.cloned().or_else(|| made(bytes, encode).map(Arc::new))
            });
        }
    }

    fn total_bytes(&self) -> u64 {
        let bytes = |coding| self.bytes(coding).map_or(0, |bytes| bytes.len() as u64);
        bytes(Coding::Gzip) + bytes(Coding::Brotli)
    }
}

/// `None` if it is hardly smaller, or the encoder fails: the server goes on with the file as it is.
fn made(bytes: &[u8], encode: fn(&[u8]) -> std::io::Result<Vec<u8>>) -> Option<FileBytes> {
    let coded = catch_unwind(AssertUnwindSafe(|| encode(bytes))).ok()?.ok()?;
    (coded.len() <= bytes.len() - bytes.len() / 10).then(|| FileBytes::from(coded.as_slice()))
}

impl Compressor {
    /// A compressor that keeps about so many bytes of what it makes.
    pub(crate) fn new(bytes_max: u64) -> Compressor {
        let state = State {
            jobs: VecDeque::new(),
            open_jobs: 0,
            kept: LruCache::unbounded(),
            bytes: 0,
            bytes_max,
            has_thread: false,
            is_over: false,
        };
        Compressor { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) }
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
                if file.volume() == Volume::Other || state.open_jobs == OPEN_JOBS_MAX {
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
        if state.jobs.len() == JOBS_MAX {
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
        if state.jobs.len() == JOBS_MAX {
            return false;
        }
        if !state.has_thread {
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("compressor".to_owned()).stack_size(STACK_BYTES);
            state.has_thread = thread.spawn(move || shared.run()).is_ok();
        }
        state.open_jobs += usize::from(matches!(content, Content::File(..)));
        state.jobs.push_back(Job { path: path.into(), content, target, earlier });
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
        while let Some(job) = self.next_job() {
            job.carry_out(|| self.lock().wants(&job));
            self.lock().count(&job);
        }
    }

    /// Waits for a job; `None` when there will be no more.
    fn next_job(&self) -> Option<Job> {
        let is_idle = |state: &mut State| state.jobs.is_empty() && !state.is_over;
        let mut state = self.changed.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
        if state.is_over {
            return None;
        }
        let job = state.jobs.pop_front()?;
        state.open_jobs -= usize::from(matches!(job.content, Content::File(..)));
        Some(job)
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

    /// Whether the file hasn't changed since, as far as is known.
    fn wants(&self, job: &Job) -> bool {
        self.kept.peek(&job.path).is_some_and(|kept| Arc::ptr_eq(&kept.compressed, &job.target))
            && !self.is_over
    }

    /// Counts what a job has made, and lets go of what was used least recently where that is too much.
    fn count(&mut self, job: &Job) {
        if let Some(kept) = self.kept.peek_mut(&job.path)
            && Arc::ptr_eq(&kept.compressed, &job.target)
        {
            // What takes no bytes takes an entry.
            let bytes = job.target.total_bytes() + job.path.len() as u64 + 256;
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

impl Job {
    fn carry_out(&self, is_wanted: impl Fn() -> bool) {
        match &self.content {
            Content::Memory(bytes) => self.target.fill(bytes, None, is_wanted),
            Content::File(file, metadata) => {
                let since = UNIX_EPOCH.elapsed().unwrap_or_default();
                let now =
                    Timestamp { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() };
                if !is_wanted() {
                    return;
                }
                let range = FileRange { file, offset: 0, length: metadata.size };
                let Ok(bytes) = range.read() else { return };
                // It has changed while it was read: its entry is about to leave the cache.
                if bytes.len() as u64 != metadata.size || !is_still(file, metadata) {
                    return;
                }
                let digest = digest(&bytes);
                if *self.target.digest.get_or_init(|| digest) != digest {
                    self.target.is_stale.store(true, Relaxed);
                    return;
                }
                let is_settled = metadata.state().settles_in(EtagPolicy::Strict, now).is_zero();
                self.target.is_certain.fetch_or(is_settled, Relaxed);
                self.target.fill(&bytes, self.earlier.as_deref(), is_wanted);
            }
        }
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

//! The pool: threads that block on the disk so that the event loops don't have to.
//!
//! One pool serves all workers of a server. It opens and reads files and never touches a socket. A worker submits a job
//! through its [`Submitter`] and goes on. The result comes back through the submitter's queue, and the waker makes the
//! worker's poller return.
//!
//! # The life of a buffer
//!
//! 1. A [`Submitter`] owns its worker's buffers. A read job takes one.
//! 2. The pool thread fills it. Only that thread can access it.
//! 3. It comes back in the [`Outcome`], and the loop sends from it.
//! 4. The loop puts it back in the same turn, sent completely or not. Slow readers hold no buffers: the unsent rest is
//!    read again, by then from the page cache.
//!
//! So there are never more buffers than jobs in flight plus the one being sent.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use common::site::file::read_full;
use common::{FileRange, OpenRequest, Opened, SharedFile, Token};
use rustix::fs::{Advice, fadvise};

use crate::poller::Waker;

/// Maximum number of threads, that is, of concurrent disk reads.
pub(crate) const THREADS_MAX: usize = 32;

/// Maximum number of jobs per worker, from submission until the result has been handled.
pub(crate) const JOBS_MAX: usize = 64;

/// Size of a read, and of a buffer, in bytes.
pub(crate) const READ_BYTES_MAX: usize = 256 * 1024;

/// Read-ahead beyond a read, in bytes, if more of the file will be sent.
pub(crate) const READ_AHEAD_BYTES_MAX: u64 = 1024 * 1024;

/// A job opens, reads or lists, without recursion.
const STACK_BYTES: usize = 128 * 1024;

/// How long closing the pool waits for running jobs. A thread stuck on a dead disk is abandoned.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A job that may block on the disk.
#[derive(Debug)]
pub(crate) enum Job {
    /// Open beneath the root, stat, or list.
    Open(Arc<OpenRequest>),
    /// Read the file from `offset`.
    Read {
        /// The job keeps the file open even if its client is gone.
        file: Arc<SharedFile>,
        /// Where the unsent part of the response begins.
        offset: u64,
        /// Its length; the job reads up to [`READ_BYTES_MAX`] of it and prefetches part of the rest.
        length: u64,
    },
    /// Block until a number of jobs like this one are running.
    #[cfg(test)]
    Meet(Arc<std::sync::Barrier>),
}

impl Job {
    /// A read of this range.
    pub(crate) fn read(range: &FileRange<'_>) -> Job {
        Job::Read { file: Arc::clone(range.file), offset: range.offset, length: range.length }
    }
}

/// The result of a job.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The result of an open.
    Opened(io::Result<Opened>),
    /// The result of a read. The buffer must be [put back](Submitter::put_back).
    Read(io::Result<Buffer>),
}

/// The result of a job, with the client it belongs to.
#[derive(Debug)]
pub(crate) struct Done {
    /// The client that submitted the job; it may be gone.
    pub(crate) token: Token,
    /// The result.
    pub(crate) outcome: Outcome,
}

/// A submitter's buffer, filled by a read.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    filled: usize,
}

impl Buffer {
    /// The bytes read; shorter than requested if the file ends, empty at its end.
    #[must_use]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

/// The worker has [`JOBS_MAX`] jobs in flight: retry after the next result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[cfg(test)]
/// The number of jobs accepted by a pool since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobCounts {
    /// Opens.
    pub(crate) opens: u64,
    /// Reads.
    pub(crate) reads: u64,
}

/// A job with everything a thread needs to run it.
struct Task {
    token: Token,
    job: Job,
    /// The buffer of a read; empty for an open.
    memory: Box<[u8]>,
    results: Arc<Results>,
}

/// The results of one worker's jobs.
struct Results {
    done: Mutex<Vec<Done>>,
    waker: Waker,
}

impl Results {
    fn push(&self, done: Done) {
        let mut list = lock(&self.done);
        list.push(done);
        let first = list.len() == 1;
        drop(list);
        // The worker takes all results at once, so only the first one after that needs to wake it.
        if first {
            self.waker.wake();
        }
    }
}

struct Queue {
    tasks: VecDeque<Task>,
    /// Threads waiting for a task.
    idle: usize,
    /// Running threads, idle ones included.
    threads: usize,
    closed: bool,
}

struct Shared {
    threads_max: usize,
    queue: Mutex<Queue>,
    /// Signalled when there is a task, or when the pool closes.
    task: Condvar,
    /// Signalled when a thread ends.
    ended: Condvar,
    #[cfg(test)]
    opens: AtomicU64,
    #[cfg(test)]
    reads: AtomicU64,
}

/// Ignores poisoning: every change to the lists is a single push or pop, so a panic can't leave them inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads. Dropping it ends them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// A pool of one thread that grows to at most `threads_max` while jobs are waiting.
    ///
    /// # Errors
    /// If the first thread can't be started.
    pub(crate) fn start(threads_max: usize) -> io::Result<Pool> {
        let queue = Queue { tasks: VecDeque::new(), idle: 0, threads: 1, closed: false };
        let pool = Pool {
            shared: Arc::new(Shared {
                threads_max: threads_max.max(1),
                queue: Mutex::new(queue),
                task: Condvar::new(),
                ended: Condvar::new(),
                #[cfg(test)]
                opens: AtomicU64::new(0),
                #[cfg(test)]
                reads: AtomicU64::new(0),
            }),
        };
        spawn(&pool.shared)?;
        Ok(pool)
    }

    /// A submitter for one worker; `waker` notifies it of results.
    #[must_use]
    pub(crate) fn submitter(&self, waker: Waker) -> Submitter {
        let results = Results { done: Mutex::new(Vec::with_capacity(JOBS_MAX)), waker };
        Submitter {
            shared: Arc::clone(&self.shared),
            results: Arc::new(results),
            collected: Vec::with_capacity(JOBS_MAX),
            in_flight: 0,
            buffers: Vec::new(),
        }
    }

    #[cfg(test)]
    /// The number of jobs accepted so far.
    #[must_use]
    pub(crate) fn counts(&self) -> JobCounts {
        JobCounts { opens: self.shared.opens.load(Relaxed), reads: self.shared.reads.load(Relaxed) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.closed = true;
        let dropped = std::mem::take(&mut queue.tasks);
        self.shared.task.notify_all();
        let ended = self.shared.ended.wait_timeout_while(queue, CLOSE_TIMEOUT, |queue| queue.threads > 0);
        drop(ended);
        drop(dropped);
    }
}

/// Starts a thread; the caller has already counted it in `queue.threads`.
fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let counted = Counted { shared: Arc::clone(shared) };
    let body = move || {
        while let Some(task) = counted.shared.next_task() {
            counted.shared.carry_out(task);
        }
    };
    // If the thread doesn't start, dropping `body` uncounts it.
    thread::Builder::new().name("pool".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
    Ok(())
}

/// Counts a running thread; uncounts it on drop, however the thread ends.
struct Counted {
    shared: Arc<Shared>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        lock(&self.shared.queue).threads -= 1;
        self.shared.ended.notify_all();
    }
}

impl Shared {
    /// Waits for a task; `None` when the pool closes. Before running a task, a thread makes sure that another one waits
    /// for the next, so a blocking task holds up nothing until every thread is blocked.
    fn next_task(self: &Arc<Shared>) -> Option<Task> {
        let mut queue = lock(&self.queue);
        queue.idle += 1;
        let mut queue = self
            .task
            .wait_while(queue, |queue| queue.tasks.is_empty() && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        queue.idle -= 1;
        if queue.closed {
            return None;
        }
        let task = queue.tasks.pop_front();
        let grow = queue.idle == 0 && queue.threads < self.threads_max;
        if grow {
            queue.threads += 1;
        }
        drop(queue);
        if grow {
            // If this fails, the existing threads go on, and the next task tries again.
            let _started = spawn(self);
        }
        task
    }

    fn carry_out(&self, task: Task) {
        let outcome = match task.job {
            Job::Open(request) => {
                #[cfg(test)]
                self.opens.fetch_add(1, Relaxed);
                Outcome::Opened(request.open())
            }
            Job::Read { file, offset, length } => {
                #[cfg(test)]
                self.reads.fetch_add(1, Relaxed);
                Outcome::Read(read(&file, offset, length, task.memory))
            }
            #[cfg(test)]
            Job::Meet(barrier) => {
                barrier.wait();
                Outcome::Opened(Err(io::Error::other("they met")))
            }
        };
        task.results.push(Done { token: task.token, outcome });
    }
}

/// Reads as much as fits into the memory, and prefetches for the reads that will follow.
fn read(file: &SharedFile, offset: u64, length: u64, mut memory: Box<[u8]>) -> io::Result<Buffer> {
    let wanted = usize::try_from(length).map_or(memory.len(), |length| length.min(memory.len()));
    let beyond = length - wanted as u64;
    if beyond > 0 {
        let ahead = NonZeroU64::new(wanted as u64 + beyond.min(READ_AHEAD_BYTES_MAX));
        // Only advice: without it, reads are slower but still correct.
        let _advised = fadvise(file, offset, ahead, Advice::WillNeed);
    }
    let filled = read_full(file, &mut memory[..wanted], offset)?;
    Ok(Buffer { memory, filled })
}

/// One worker's side of the pool.
pub(crate) struct Submitter {
    shared: Arc<Shared>,
    results: Arc<Results>,
    /// Results collected but not yet handled, last one first.
    collected: Vec<Done>,
    in_flight: usize,
    /// Free buffers, the most recently used last. Their number is the highest number of reads ever in flight.
    buffers: Vec<Box<[u8]>>,
}

impl Submitter {
    /// Whether the pool accepts another job from this worker.
    #[must_use]
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight < JOBS_MAX
    }

    /// Queues a job; its result carries `token`.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub(crate) fn submit(&mut self, token: Token, job: Job) -> Result<(), Full> {
        if !self.has_room() {
            return Err(Full);
        }
        self.in_flight += 1;
        let memory = match job {
            Job::Read { .. } => self.buffer(),
            Job::Open(_) => Box::default(),
            #[cfg(test)]
            Job::Meet(_) => Box::default(),
        };
        let task = Task { token, job, memory, results: Arc::clone(&self.results) };
        lock(&self.shared.queue).tasks.push_back(task);
        self.shared.task.notify_one();
        Ok(())
    }

    /// Collects all results that are ready. Call it after an edge of the waker.
    pub(crate) fn collect(&mut self) {
        assert!(self.collected.is_empty(), "the previously collected results must be handled first");
        std::mem::swap(&mut *lock(&self.results.done), &mut self.collected);
        self.collected.reverse();
    }

    /// The next collected result, in order of arrival.
    pub(crate) fn next_done(&mut self) -> Option<Done> {
        let done = self.collected.pop()?;
        self.in_flight -= 1;
        Some(done)
    }

    /// Whether no job is in flight.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Puts a buffer back for reuse.
    pub(crate) fn put_back(&mut self, buffer: Buffer) {
        self.buffers.push(buffer.memory);
    }

    fn buffer(&mut self) -> Box<[u8]> {
        // Zeroed memory of this size comes as fresh pages, which take up memory only when written.
        self.buffers.pop().unwrap_or_else(|| vec![0; READ_BYTES_MAX].into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::{EventSource, Events, Poller};
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::sync::Barrier;
    use tempfile::TempDir;

    const TOKEN: Token = Token { slot: 5, generation: 2 };

    struct Bench {
        root: TempDir,
        poller: Poller,
        submitter: Submitter,
        pool: Pool,
    }

    fn bench(threads_max: usize) -> Bench {
        let root = TempDir::new().expect("a folder");
        let poller = Poller::new().expect("a poller");
        let pool = Pool::start(threads_max).expect("a thread");
        let submitter = pool.submitter(poller.waker(EventSource::Pool).expect("a waker"));
        Bench { root, poller, submitter, pool }
    }

    impl Bench {
        fn file(&self, bytes: &[u8]) -> Arc<SharedFile> {
            let path = self.root.path().join("file");
            File::create(&path).expect("created").write_all(bytes).expect("written");
            Arc::new(SharedFile::new(OwnedFd::from(File::open(path).expect("opened")), 0))
        }

        fn submit(&mut self, job: Job) -> Result<(), Full> {
            self.submitter.submit(TOKEN, job)
        }

        /// Waits for edges until `count` results have arrived.
        fn results(&mut self, count: usize) -> Vec<Done> {
            let mut events = Events::with_capacity(4);
            let mut results = Vec::new();
            while results.len() < count {
                self.poller.wait(&mut events, Some(Duration::from_secs(10))).expect("waited");
                assert_eq!(events.iter().map(|event| event.source).collect::<Vec<_>>(), [EventSource::Pool]);
                self.submitter.collect();
                results.extend(std::iter::from_fn(|| self.submitter.next_done()));
            }
            results
        }

        fn read(&mut self, file: &Arc<SharedFile>, offset: u64, length: u64) -> io::Result<Buffer> {
            self.submit(Job::Read { file: Arc::clone(file), offset, length }).expect("room");
            match self.results(1).pop() {
                Some(Done { token: TOKEN, outcome: Outcome::Read(result) }) => result,
                other => panic!("not the result of a read: {other:?}"),
            }
        }
    }

    #[test]
    fn a_read_returns_the_content_of_the_file() {
        let mut bench = bench(2);
        let content: Vec<u8> = (0..700_000u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        let file = bench.file(&content);
        for (name, offset, length, expected) in [
            ("whole, longer than a buffer", 0, 700_000, &content[..READ_BYTES_MAX]),
            ("in the middle", 1000, 24, &content[1000..1024]),
            ("the tail", 699_999, 1, &content[699_999..]),
            ("planned longer than the file is now", 699_000, 5000, &content[699_000..]),
            ("beyond the end", 700_000, 1, &[]),
        ] {
            let buffer = bench.read(&file, offset, length).expect(name);
            assert!(buffer.bytes() == expected, "{name}");
            bench.submitter.put_back(buffer);
        }
        assert_eq!(bench.pool.counts(), JobCounts { opens: 0, reads: 5 });
        assert_eq!(bench.submitter.buffers.len(), 1, "one buffer served them all");
    }

    #[test]
    fn a_failed_read_reports_its_error() {
        let mut bench = bench(1);
        let folder =
            Arc::new(SharedFile::new(OwnedFd::from(File::open(bench.root.path()).expect("opened")), 0));
        let error = bench.read(&folder, 0, 10).expect_err("a folder can't be read");
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn one_edge_may_bring_many_results() {
        let mut bench = bench(4);
        let file = bench.file(b"bytes");
        for _ in 0..JOBS_MAX {
            bench.submit(Job::Read { file: Arc::clone(&file), offset: 0, length: 5 }).expect("room");
        }
        for done in bench.results(JOBS_MAX) {
            let Outcome::Read(Ok(buffer)) = done.outcome else { panic!("a read: {done:?}") };
            assert_eq!(buffer.bytes(), b"bytes");
            bench.submitter.put_back(buffer);
        }
        assert!(lock(&bench.pool.shared.queue).threads <= 4);
        assert_eq!(bench.submitter.buffers.len(), JOBS_MAX, "there are never more buffers than jobs");
        for _ in 0..JOBS_MAX {
            bench.submit(Job::Read { file: Arc::clone(&file), offset: 0, length: 5 }).expect("room");
        }
        assert!(bench.submitter.buffers.is_empty(), "they are reused");
    }

    #[test]
    fn jobs_are_bounded_until_their_results_are_handled() {
        let mut bench = bench(2);
        let file = bench.file(b"bytes");
        let job = || Job::Read { file: Arc::clone(&file), offset: 0, length: 5 };
        for _ in 0..JOBS_MAX {
            assert_eq!(bench.submit(job()), Ok(()));
        }
        assert_eq!(bench.submit(job()), Err(Full));
        let mut events = Events::with_capacity(4);
        bench.poller.wait(&mut events, Some(Duration::from_secs(10))).expect("waited");
        bench.submitter.collect();
        assert_eq!(bench.submit(job()), Err(Full), "the result is not yet handled");
        assert!(bench.submitter.next_done().is_some());
        assert_eq!(bench.submit(job()), Ok(()));
        assert_eq!(bench.submit(job()), Err(Full));
    }

    #[test]
    fn a_blocked_job_does_not_hold_up_others() {
        const THREADS: usize = 4;
        let mut bench = bench(THREADS);
        let barrier = Arc::new(Barrier::new(THREADS));
        // They can meet only if each has its own thread.
        for _ in 0..THREADS {
            bench.submit(Job::Meet(Arc::clone(&barrier))).expect("room");
        }
        let met = bench.results(THREADS);
        assert!(met.iter().all(|done| matches!(done.outcome, Outcome::Opened(Err(_)))));
        assert_eq!(lock(&bench.pool.shared.queue).threads, THREADS);
    }

    #[test]
    fn closing_the_pool_drops_queued_jobs_and_waits_for_running_ones() {
        let mut bench = bench(1);
        let barrier = Arc::new(Barrier::new(2));
        bench.submit(Job::Meet(Arc::clone(&barrier))).expect("room");
        while !lock(&bench.pool.shared.queue).tasks.is_empty() {
            thread::yield_now();
        }
        let file = bench.file(b"never read");
        bench.submit(Job::Read { file: Arc::clone(&file), offset: 0, length: 5 }).expect("room");
        let shared = Arc::clone(&bench.pool.shared);
        let helper = thread::spawn(move || {
            // The drop below closes the queue; only then may the job finish.
            while !lock(&shared.queue).closed {
                thread::yield_now();
            }
            barrier.wait();
        });
        let shared = Arc::clone(&bench.pool.shared);
        drop(bench.pool);
        helper.join().expect("met");
        assert_eq!(lock(&shared.queue).threads, 0);
        assert_eq!(shared.reads.load(Relaxed), 0);
        assert_eq!(Arc::strong_count(&file), 1, "the dropped job released its file");
    }

    #[test]
    fn results_for_a_dropped_worker_are_discarded() {
        let mut bench = bench(1);
        let barrier = Arc::new(Barrier::new(2));
        bench.submit(Job::Meet(Arc::clone(&barrier))).expect("room");
        let results = Arc::downgrade(&bench.submitter.results);
        drop(bench.submitter);
        drop(bench.poller);
        barrier.wait();
        drop(bench.pool);
        assert_eq!(results.strong_count(), 0, "the last job freed the queue");
    }
}

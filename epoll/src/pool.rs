//! The pool: threads that wait for the disk, so that no loop does.
//!
//! One pool serves all workers of a server. It opens and reads files and never touches a socket. A worker submits a job
//! through its [`Submitter`] and goes on; the result comes back through the submitter's queue, and its waker makes the
//! worker's poller return.
//!
//! # The life of a buffer
//!
//! 1. A [`Submitter`] owns the buffers of its worker. A read takes one along.
//! 2. The thread that carries out the job fills it; nobody else can reach it.
//! 3. It comes back in the [`Outcome`], and the loop sends from it.
//! 4. The loop puts it back in the same turn, sent or not: a slow reader holds no buffer, what didn't fit is
//!    read again, from the page cache by then.
//!
//! So there are never more buffers than jobs in flight and the one in hand.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use common::site::file::read_full;
use common::{FileRange, OpenRequest, Opened, SharedFile, Token};
use rustix::fs::{Advice, fadvise};

use crate::poller::Waker;

/// Threads of a pool: reads that a disk is asked for at once.
pub const THREADS_MAX: usize = 32;

/// Jobs of one worker that are queued, under way or done and not yet looked at.
pub const JOBS_MAX: usize = 64;

/// Bytes of one read, and of a buffer.
pub const READ_BYTES_MAX: usize = 256 * 1024;

/// Bytes beyond a read that the kernel is told to fetch when the answer goes on.
pub const READ_AHEAD_BYTES_MAX: u64 = 1024 * 1024;

/// A job opens, reads or lists; none of it recurses.
const STACK_BYTES: usize = 128 * 1024;

/// How long the end of a pool waits for jobs under way. A thread that hangs on a dead disk is left behind.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What may have to wait for the disk.
#[derive(Debug)]
pub enum Job {
    /// Open beneath the root, stat, list.
    Open(Arc<OpenRequest>),
    /// Read the file from `offset` on.
    Read {
        /// Kept open by the job, whatever becomes of its client.
        file: Arc<SharedFile>,
        /// Where the unsent part of the answer begins.
        offset: u64,
        /// How long it is; the job reads up to [`READ_BYTES_MAX`] of it, and has some of the rest fetched.
        length: u64,
    },
    /// Wait for a number of other jobs like this one to be under way.
    #[cfg(test)]
    Meet(Arc<std::sync::Barrier>),
}

impl Job {
    /// A read of this range.
    pub(crate) fn read(range: &FileRange<'_>) -> Job {
        Job::Read { file: Arc::clone(range.file), offset: range.offset, length: range.length }
    }
}

/// What came of a job.
#[derive(Debug)]
pub enum Outcome {
    /// Of an open.
    Opened(io::Result<Opened>),
    /// Of a read. The buffer is to be [put back](Submitter::put_back).
    Read(io::Result<Buffer>),
}

/// What came of a job, and whose job it was.
#[derive(Debug)]
pub struct Done {
    /// The client that asked; it may be gone.
    pub token: Token,
    /// What came of it.
    pub outcome: Outcome,
}

/// Memory of a submitter, filled by a read.
#[derive(Debug)]
pub struct Buffer {
    memory: Box<[u8]>,
    filled: usize,
}

impl Buffer {
    /// What was read; empty at the end of the file, short before it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

/// A worker has [`JOBS_MAX`] jobs in flight: come back after the next result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// How many jobs a pool has taken on since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Opens.
    pub opens: u64,
    /// Reads.
    pub reads: u64,
}

/// A job as a thread takes it: with everything that it needs.
struct Task {
    token: Token,
    job: Job,
    /// A buffer for a read; nothing for an open.
    memory: Box<[u8]>,
    results: Arc<Results>,
}

/// The results of one worker's jobs, on their way back.
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
        // Who takes results takes them all: only the first after that has to make an edge.
        if first {
            self.waker.wake();
        }
    }
}

struct Queue {
    tasks: VecDeque<Task>,
    /// Threads that wait for a task.
    idle: usize,
    /// Threads that run.
    threads: usize,
    closed: bool,
}

struct Shared {
    threads_max: usize,
    queue: Mutex<Queue>,
    /// There is a task, or the pool is closed.
    task: Condvar,
    /// A thread has ended.
    ended: Condvar,
    opens: AtomicU64,
    reads: AtomicU64,
}

/// A panic in a job leaves the lists whole: they are only touched by one push or pop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads. They end with this value.
pub struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// A pool that grows from one thread to at most `threads_max` as jobs have to wait.
    ///
    /// # Errors
    /// When the first thread can't be started.
    pub fn start(threads_max: usize) -> io::Result<Pool> {
        let queue = Queue { tasks: VecDeque::new(), idle: 0, threads: 1, closed: false };
        let pool = Pool {
            shared: Arc::new(Shared {
                threads_max: threads_max.max(1),
                queue: Mutex::new(queue),
                task: Condvar::new(),
                ended: Condvar::new(),
                opens: AtomicU64::new(0),
                reads: AtomicU64::new(0),
            }),
        };
        spawn(&pool.shared)?;
        Ok(pool)
    }

    /// What one worker hands in jobs with; `waker` is how it learns of results.
    #[must_use]
    pub fn submitter(&self, waker: Waker) -> Submitter {
        let results = Results { done: Mutex::new(Vec::with_capacity(JOBS_MAX)), waker };
        Submitter {
            shared: Arc::clone(&self.shared),
            results: Arc::new(results),
            collected: Vec::with_capacity(JOBS_MAX),
            in_flight: 0,
            buffers: Vec::new(),
        }
    }

    /// How many jobs there were.
    #[must_use]
    pub fn counts(&self) -> JobCounts {
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

/// Starts a thread that `queue.threads` already counts.
fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let counted = Counted { shared: Arc::clone(shared) };
    let body = move || {
        while let Some(task) = counted.shared.next_task() {
            counted.shared.carry_out(task);
        }
    };
    // A thread that doesn't start drops its body, and is counted no longer.
    thread::Builder::new().name("pool".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
    Ok(())
}

/// A thread's part in the count of threads, given up however the thread ends.
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
    /// Waits for a task; `None` when the pool is closed. Before the thread turns to a task it sees to it that
    /// another waits for the next: whatever the task waits for, it holds up nobody until all threads wait.
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
            // Without another thread the pool goes on with those it has, and tries again with the next task.
            let _started = spawn(self);
        }
        task
    }

    fn carry_out(&self, task: Task) {
        let outcome = match task.job {
            Job::Open(request) => {
                self.opens.fetch_add(1, Relaxed);
                Outcome::Opened(request.open())
            }
            Job::Read { file, offset, length } => {
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

/// Reads what fits into the memory, and has the kernel fetch what the next reads will want.
fn read(file: &SharedFile, offset: u64, length: u64, mut memory: Box<[u8]>) -> io::Result<Buffer> {
    let wanted = usize::try_from(length).map_or(memory.len(), |length| length.min(memory.len()));
    let beyond = length - wanted as u64;
    if beyond > 0 {
        let ahead = NonZeroU64::new(wanted as u64 + beyond.min(READ_AHEAD_BYTES_MAX));
        // Advice: without it the reads are slower, not wrong.
        let _advised = fadvise(file, offset, ahead, Advice::WillNeed);
    }
    let filled = read_full(file, &mut memory[..wanted], offset)?;
    Ok(Buffer { memory, filled })
}

/// One worker's side of the pool.
pub struct Submitter {
    shared: Arc<Shared>,
    results: Arc<Results>,
    /// Results that were collected and not yet looked at, last one first.
    collected: Vec<Done>,
    in_flight: usize,
    /// Free buffers, the one that was used last on top. As many are made as jobs were ever in flight at once.
    buffers: Vec<Box<[u8]>>,
}

impl Submitter {
    /// Whether the pool takes another job of this worker.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_flight < JOBS_MAX
    }

    /// Queues a job; its result will carry `token`.
    ///
    /// # Errors
    /// [`Full`] when there is no room.
    pub fn submit(&mut self, token: Token, job: Job) -> Result<(), Full> {
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

    /// Takes in all results that there are: what follows an edge of the waker.
    pub fn collect(&mut self) {
        assert!(self.collected.is_empty(), "the results of the last edge were looked at");
        std::mem::swap(&mut *lock(&self.results.done), &mut self.collected);
        self.collected.reverse();
    }

    /// The next of the collected results, in the order in which they came.
    pub fn next_done(&mut self) -> Option<Done> {
        let done = self.collected.pop()?;
        self.in_flight -= 1;
        Some(done)
    }

    /// Whether no job is in flight.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Gives a buffer back to be filled again.
    pub fn put_back(&mut self, buffer: Buffer) {
        self.buffers.push(buffer.memory);
    }

    fn buffer(&mut self) -> Box<[u8]> {
        // Zeroed memory this large comes as fresh pages, which take up room only where they are written.
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

        /// Waits for edges until `count` results are there.
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
                other => panic!("a read answers as a read: {other:?}"),
            }
        }
    }

    #[test]
    fn a_read_brings_what_the_file_holds() {
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
    fn a_failed_read_says_so() {
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
        assert!(bench.submitter.buffers.is_empty(), "they are used again");
    }

    #[test]
    fn jobs_in_flight_are_bounded_until_their_results_are_looked_at() {
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
        assert_eq!(bench.submit(job()), Err(Full), "done is not yet looked at");
        assert!(bench.submitter.next_done().is_some());
        assert_eq!(bench.submit(job()), Ok(()));
        assert_eq!(bench.submit(job()), Err(Full));
    }

    #[test]
    fn a_job_that_waits_holds_up_nobody() {
        const THREADS: usize = 4;
        let mut bench = bench(THREADS);
        let barrier = Arc::new(Barrier::new(THREADS));
        // They meet only if each has a thread of its own.
        for _ in 0..THREADS {
            bench.submit(Job::Meet(Arc::clone(&barrier))).expect("room");
        }
        let met = bench.results(THREADS);
        assert!(met.iter().all(|done| matches!(done.outcome, Outcome::Opened(Err(_)))));
        assert_eq!(lock(&bench.pool.shared.queue).threads, THREADS);
    }

    #[test]
    fn the_end_of_the_pool_drops_what_is_queued_and_waits_for_what_is_under_way() {
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
            // Closed by the drop below; only then does the job get to its end.
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
        assert_eq!(Arc::strong_count(&file), 1, "the dropped job let go of its file");
    }

    #[test]
    fn results_for_a_worker_that_is_gone_go_nowhere() {
        let mut bench = bench(1);
        let barrier = Arc::new(Barrier::new(2));
        bench.submit(Job::Meet(Arc::clone(&barrier))).expect("room");
        let results = Arc::downgrade(&bench.submitter.results);
        drop(bench.submitter);
        drop(bench.poller);
        barrier.wait();
        drop(bench.pool);
        assert_eq!(results.strong_count(), 0, "the last job took the queue with it");
    }
}

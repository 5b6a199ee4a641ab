//! The pool: threads that wait for files so that the event loops don't have to.
//!
//! One pool serves all workers of a server. A worker submits a [`Job`] through its [`Submitter`] and goes on. The result
//! comes back through the submitter's queue, and its event makes the worker's loop look for it.
//!
//! A job may wait for ever: a server on the network is gone, a program that plays file system hangs. Its thread can't
//! be freed, so no mount may have them all. Jobs queue by the mount that they are for, and a mount gets another thread
//! only while it has fewer than are free: one that is dead keeps half of them, a second one half of the rest.
//!
//! There are never more jobs than clients, since a client waits for its job.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Advice, fadvise, sendfile};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::service::slots::Token;
use crate::service::tune::CopyMode;
use crate::site::file::{FileRange, SharedFile, read_full};
use crate::site::file_bytes::FileBytes;
use crate::site::mounts::MountId;
use crate::site::open::{OpenRequest, Opened};
use crate::site::sendfile::SENDFILE_BYTES_MAX;
use crate::site::volume::{Pages, Volume};

/// How many threads there are at most: so many files can be waited for at once.
pub const THREADS_MAX: usize = 64;

/// Bytes that a job reads ahead beyond those that it sends, where more of the file will be sent.
const READ_AHEAD_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes that a job copies at a time, where it can't send without a copy.
const COPY_BYTES: usize = 256 * 1024;

/// A job opens, lists, reads or sends, without recursion.
const STACK_BYTES: usize = 128 * 1024;

/// What may wait.
#[derive(Debug)]
pub enum Job {
    /// Open beneath the root, examine, or list.
    Open(Arc<OpenRequest>),
    /// Read a range of a file, for the cache.
    Read {
        /// The job keeps the file open even if its client is gone.
        file: Arc<SharedFile>,
        /// The position of the first byte.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// Send a head and some of a file.
    Send {
        /// The client's socket, in non-blocking mode. It stays open until the job is done.
        socket: OwnedFd,
        /// Bytes in front of the file's.
        head: Box<[u8]>,
        /// The file.
        file: Arc<SharedFile>,
        /// The position of the first byte.
        offset: u64,
        /// How many bytes; the job sends at most [`SENDFILE_BYTES_MAX`] of them.
        length: u64,
        /// How.
        copy: CopyMode,
    },
    /// Wait for the others.
    #[cfg(test)]
    Meet(Arc<std::sync::Barrier>, MountId),
}

impl Job {
    /// A read of this range.
    #[must_use]
    pub fn read(range: &FileRange<'_>) -> Job {
        Job::Read { file: Arc::clone(range.file), offset: range.offset, length: range.length }
    }

    /// Sends a head and this range.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn send(socket: impl AsFd, head: &[u8], range: &FileRange<'_>, copy: CopyMode) -> io::Result<Job> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let FileRange { file, offset, length } = *range;
        Ok(Job::Send { socket, head: head.into(), file: Arc::clone(file), offset, length, copy })
    }

    /// The mount that it may have to wait for.
    fn mount(&self) -> MountId {
        match self {
            Job::Open(request) => request.likely_mount(),
            Job::Read { file, .. } | Job::Send { file, .. } => file.mount(),
            #[cfg(test)]
            Job::Meet(_, mount) => *mount,
        }
    }

    fn carry_out(self) -> Outcome {
        match self {
            Job::Open(request) => Outcome::Opened(request.open()),
            Job::Read { file, offset, length } => {
                Outcome::Read(FileRange { file: &file, offset, length }.read())
            }
            Job::Send { socket, head, file, offset, length, copy } => {
                Outcome::Sent(send_range(&socket, &head, &FileRange { file: &file, offset, length }, copy))
            }
            #[cfg(test)]
            Job::Meet(barrier, _) => {
                barrier.wait();
                Outcome::Sent(Ok(0))
            }
        }
    }
}

/// The result of a job.
#[derive(Debug)]
pub enum Outcome {
    /// Of an open.
    Opened(io::Result<Opened>),
    /// Of a read: all bytes, or as many as the file has.
    Read(io::Result<FileBytes>),
    /// Of a send: how many bytes have left, the head's first. None: the file is shorter than it was, or can't be read.
    /// `EAGAIN`: the socket has no room.
    Sent(rustix::io::Result<usize>),
}

/// The result of a job, with the client that it belongs to.
#[derive(Debug)]
pub struct Done {
    /// The client that submitted the job; it may be gone.
    pub token: Token,
    /// The result.
    pub outcome: Outcome,
}

/// Sends the head, then some of the range, while it has the socket's room. Bytes of the file that aren't in memory are
/// waited for; the client isn't.
fn send_range(
    socket: &OwnedFd,
    head: &[u8],
    range: &FileRange<'_>,
    copy: CopyMode,
) -> rustix::io::Result<usize> {
    let length =
        usize::try_from(range.length).map_or(SENDFILE_BYTES_MAX, |length| length.min(SENDFILE_BYTES_MAX));
    if range.file.volume() == Volume::Local {
        let ahead = length as u64 + (range.length - length as u64).min(READ_AHEAD_BYTES_MAX);
        // Only advice: without it, reads are slower but still correct.
        let _advised = fadvise(range.file, range.offset, NonZeroU64::new(ahead), Advice::WillNeed);
    }
    if !head.is_empty() {
        let sent = send(socket, head, SendFlags::NOSIGNAL | SendFlags::MORE)?;
        if sent < head.len() {
            return Ok(sent);
        }
    }
    let sent = match copy {
        CopyMode::Read => send_copy(socket, range, length),
        CopyMode::Sendfile => match sendfile(socket, range.file, Some(&mut { range.offset }), length) {
            // Some file systems can't (sendfile(2), "Notes").
            Err(Errno::INVAL | Errno::NOSYS) => send_copy(socket, range, length),
            sent => sent,
        },
    };
    match sent {
        Ok(sent) => {
            if let (Pages::Remembered, Some(memory)) = (range.file.volume().pages(), range.file.residency()) {
                memory.sent(range.offset, sent as u64, Instant::now());
            }
            Ok(head.len() + sent)
        }
        // The next job has no head to send, and meets the error again.
        Err(_) if !head.is_empty() => Ok(head.len()),
        Err(Errno::IO) => Ok(0),
        Err(errno) => Err(errno),
    }
}

/// Reads some of a file and sends it. What doesn't leave is read again: nothing but a position is remembered.
fn send_copy(socket: &OwnedFd, range: &FileRange<'_>, length: usize) -> rustix::io::Result<usize> {
    let mut bytes = vec![0; length.min(COPY_BYTES)];
    let read = read_full(range.file, &mut bytes, range.offset)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if read == 0 {
        return Ok(0);
    }
    let more = if range.length > read as u64 { SendFlags::MORE } else { SendFlags::empty() };
    send(socket, &bytes[..read], SendFlags::NOSIGNAL | more)
}

/// A job with everything that a thread needs for it.
struct Task {
    token: Token,
    job: Job,
    results: Arc<Results>,
}

/// The results of one worker's jobs.
struct Results {
    done: Mutex<Vec<Done>>,
    event: OwnedFd,
}

impl Results {
    fn push(&self, done: Done) {
        let mut list = lock(&self.done);
        list.push(done);
        let first = list.len() == 1;
        drop(list);
        // The worker takes all results at once, so only the first one after that needs to wake it.
        if first {
            // Fails only if the counter is full, and then the loop has been woken anyway.
            let _written = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

/// The jobs for one mount.
struct Lane {
    mount: MountId,
    /// Threads that work for it.
    running: usize,
    tasks: VecDeque<Task>,
}

struct Queue {
    /// The mounts that have jobs, queued or running. The one that was served last is at the end.
    lanes: VecDeque<Lane>,
    /// Threads that have a job.
    running: usize,
    /// Threads that wait for one.
    idle: usize,
    closed: bool,
}

impl Queue {
    fn push(&mut self, task: Task) {
        let mount = task.job.mount();
        match self.lanes.iter_mut().find(|lane| lane.mount == mount) {
            Some(lane) => lane.tasks.push_back(task),
            None => self.lanes.push_back(Lane { mount, running: 0, tasks: VecDeque::from([task]) }),
        }
    }

    /// The next task, of a mount that may have another of so many threads.
    fn pop(&mut self, threads_max: usize) -> Option<(MountId, Task)> {
        let free = threads_max.saturating_sub(self.running);
        let may_start = |lane: &Lane| lane.running < free && !lane.tasks.is_empty();
        let mut lane = self.lanes.remove(self.lanes.iter().position(may_start)?)?;
        let (mount, task) = (lane.mount, lane.tasks.pop_front()?);
        lane.running += 1;
        self.running += 1;
        self.lanes.push_back(lane);
        Some((mount, task))
    }

    /// A thread has ended its job.
    fn end(&mut self, mount: MountId) {
        self.running -= 1;
        let Some(index) = self.lanes.iter().position(|lane| lane.mount == mount) else { return };
        self.lanes[index].running -= 1;
        if self.lanes[index].running == 0 && self.lanes[index].tasks.is_empty() {
            self.lanes.remove(index);
        }
    }

    fn cancel(&mut self, token: Token, results: &Arc<Results>) -> Option<Task> {
        let is_its = |task: &Task| task.token == token && Arc::ptr_eq(&task.results, results);
        let (lane, index) = self
            .lanes
            .iter_mut()
            .find_map(|lane| lane.tasks.iter().position(is_its).map(|index| (lane, index)))?;
        lane.tasks.remove(index)
    }
}

struct Shared {
    threads_max: usize,
    queue: Mutex<Queue>,
    /// Signalled when there is a task, or when the pool closes.
    task: Condvar,
}

/// Ignores poisoning: every change to the lists is a single push or pop, so a panic can't leave them inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads. Dropping it ends them, each after the job that it has: nobody waits for one that is stuck.
pub struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// A pool of one thread, that grows to at most so many while jobs wait.
    ///
    /// # Errors
    /// When the first thread can't be started.
    pub fn start(threads_max: usize) -> io::Result<Pool> {
        let queue = Queue { lanes: VecDeque::new(), running: 0, idle: 1, closed: false };
        let shared =
            Shared { threads_max: threads_max.max(1), queue: Mutex::new(queue), task: Condvar::new() };
        let pool = Pool { shared: Arc::new(shared) };
        spawn(&pool.shared)?;
        Ok(pool)
    }

    /// What tells of this pool.
    #[must_use]
    pub fn gauge(&self) -> PoolGauge {
        PoolGauge(Arc::clone(&self.shared))
    }

    /// A submitter for one worker.
    ///
    /// # Errors
    /// When the process is out of descriptors (eventfd(2)).
    pub fn submitter(&self) -> io::Result<Submitter> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let results = Results { done: Mutex::default(), event };
        Ok(Submitter { shared: Arc::clone(&self.shared), results: Arc::new(results), collected: Vec::new() })
    }
}

/// What the pool is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Jobs that no thread has begun.
    pub waiting: usize,
    /// Threads that have a job.
    pub busy: usize,
    /// Threads that wait for one.
    pub idle: usize,
}

/// Tells what a pool is about, for whoever counts.
#[derive(Clone)]
pub struct PoolGauge(Arc<Shared>);

impl PoolGauge {
    /// What it is about now.
    #[must_use]
    pub fn read(&self) -> PoolUse {
        let queue = lock(&self.0.queue);
        let waiting = queue.lanes.iter().map(|lane| lane.tasks.len()).sum();
        PoolUse { waiting, busy: queue.running, idle: queue.idle }
    }
}

impl fmt::Debug for PoolGauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.closed = true;
        let dropped: Vec<_> = queue.lanes.iter_mut().flat_map(|lane| lane.tasks.drain(..)).collect();
        drop(queue);
        self.shared.task.notify_all();
        drop(dropped);
    }
}

/// One worker's side of the pool.
pub struct Submitter {
    shared: Arc<Shared>,
    results: Arc<Results>,
    /// Results that were collected and have not been handled, the last one first.
    collected: Vec<Done>,
}

impl Submitter {
    /// An eventfd(2) that is readable when there may be results.
    #[must_use]
    pub fn event(&self) -> &OwnedFd {
        &self.results.event
    }

    /// Queues a job of this client, which must have no other.
    pub fn submit(&self, token: Token, job: Job) {
        let task = Task { token, job, results: Arc::clone(&self.results) };
        lock(&self.shared.queue).push(task);
        self.shared.task.notify_one();
    }

    /// The client is gone, or no longer waits: its job isn't begun, if it wasn't yet.
    pub fn cancel(&self, token: Token) {
        let cancelled = lock(&self.shared.queue).cancel(token, &self.results);
        drop(cancelled);
    }

    /// Collects all results that are there.
    ///
    /// # Panics
    /// If some were collected that [`next_done`](Self::next_done) has not returned.
    pub fn collect(&mut self) {
        assert!(self.collected.is_empty(), "the previously collected results must be handled first");
        std::mem::swap(&mut *lock(&self.results.done), &mut self.collected);
        self.collected.reverse();
    }

    /// The next result that was collected, in order of arrival.
    pub fn next_done(&mut self) -> Option<Done> {
        self.collected.pop()
    }
}

/// Starts a thread; the caller has counted it as idle already.
fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let counted = Counted { shared: Arc::clone(shared) };
    let body = move || {
        while let Some((mount, task)) = counted.shared.next_task() {
            let Task { token, job, results } = task;
            let busy = Busy { shared: &counted.shared, mount };
            let outcome = job.carry_out();
            drop(busy);
            results.push(Done { token, outcome });
        }
    };
    // If the thread doesn't start, dropping `body` uncounts it.
    thread::Builder::new().name("pool".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
    Ok(())
}

/// Counts an idle thread; uncounts it on drop, however the thread ends.
struct Counted {
    shared: Arc<Shared>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        lock(&self.shared.queue).idle -= 1;
    }
}

/// A thread at work for a mount; idle again on drop.
struct Busy<'a> {
    shared: &'a Shared,
    mount: MountId,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.end(self.mount);
        queue.idle += 1;
    }
}

impl Shared {
    /// Waits for a task that may be begun; `None` when the pool closes. Before it begins, there is another thread for the
    /// next one, so a task that waits holds up nothing while there may be more threads.
    fn next_task(self: &Arc<Shared>) -> Option<(MountId, Task)> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return None;
            }
            if let Some(next) = queue.pop(self.threads_max) {
                queue.idle -= 1;
                if queue.idle == 0 && queue.running < self.threads_max {
                    queue.idle += 1;
                    drop(queue);
                    // If this fails, the threads that there are go on, and the next task tries again.
                    let _started = spawn(self);
                }
                return Some(next);
            }
            queue = self.task.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::file::OpenFile;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Barrier;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn token(slot: u32) -> Token {
        Token { slot, generation: 2 }
    }

    struct Bench {
        submitter: Submitter,
        pool: Pool,
    }

    fn bench(threads_max: usize) -> Bench {
        let pool = Pool::start(threads_max).expect("a thread");
        Bench { submitter: pool.submitter().expect("an eventfd"), pool }
    }

    impl Bench {
        fn submit(&self, slot: u32, job: Job) {
            self.submitter.submit(token(slot), job);
        }

        /// Waits until so many results have arrived; returns their slots in order.
        fn results(&mut self, count: usize) -> Vec<u32> {
            let mut slots = Vec::new();
            let timeout = Timespec::try_from(PATIENCE).expect("seconds");
            while slots.len() < count {
                let mut events = [PollFd::new(self.submitter.event(), PollFlags::IN)];
                assert_eq!(poll(&mut events, Some(&timeout)), Ok(1), "only {slots:?} of {count} results");
                let _cleared = rustix::io::read(self.submitter.event(), &mut [0; 8]);
                self.submitter.collect();
                slots.extend(std::iter::from_fn(|| self.submitter.next_done()).map(|done| done.token.slot));
            }
            slots
        }

        /// Waits until the mount has so many threads.
        fn running(&self, mount: MountId, count: usize) {
            let begun = Instant::now();
            let running = || {
                let queue = lock(&self.pool.shared.queue);
                queue.lanes.iter().find(|lane| lane.mount == mount).map_or(0, |lane| lane.running)
            };
            while running() != count {
                assert!(begun.elapsed() < PATIENCE, "{} threads for mount {mount}", running());
                thread::yield_now();
            }
        }
    }

    #[test]
    fn jobs_that_wait_do_not_hold_up_others() {
        let mut bench = bench(8);
        // They can meet only if each has a thread of its own.
        let mounts = [1, 1, 1, 2, 3];
        let barrier = Arc::new(Barrier::new(mounts.len()));
        for mount in mounts {
            bench.submit(0, Job::Meet(Arc::clone(&barrier), mount));
        }
        assert_eq!(bench.results(mounts.len()).len(), mounts.len());
    }

    #[test]
    fn a_dead_mount_leaves_threads_to_others() {
        let mut bench = bench(8);
        let never = Arc::new(Barrier::new(100));
        for (mount, threads) in [(1, 4), (2, 2), (3, 1)] {
            for _ in 0..10 {
                bench.submit(0, Job::Meet(Arc::clone(&never), mount));
            }
            bench.running(mount, threads);
            bench.submit(7, Job::Meet(Arc::new(Barrier::new(1)), 9));
            assert_eq!(bench.results(1), [7], "mount {mount} is dead, another is not");
        }
        let queue = lock(&bench.pool.shared.queue);
        assert_eq!((queue.running, queue.idle), (7, 1), "no more than eight threads");
    }

    #[test]
    fn jobs_of_one_mount_are_begun_in_order() {
        let mut bench = bench(1);
        let barrier = Arc::new(Barrier::new(2));
        bench.submit(0, Job::Meet(Arc::clone(&barrier), 1));
        bench.running(1, 1);
        for slot in 1..20 {
            bench.submit(slot, Job::Meet(Arc::new(Barrier::new(1)), 1));
        }
        assert_eq!(bench.pool.gauge().read(), PoolUse { waiting: 19, busy: 1, idle: 0 }, "one thread is all");
        bench.submitter.cancel(token(7));
        bench.submitter.cancel(token(77));
        barrier.wait();
        let expected: Vec<_> = (0..20).filter(|slot| *slot != 7).collect();
        assert_eq!(bench.results(19), expected, "all but the cancelled one");
        assert!(lock(&bench.pool.shared.queue).lanes.is_empty(), "nothing is kept of a mount without jobs");
    }

    #[test]
    fn looking_for_results_never_waits() {
        let bench = bench(1);
        let flags = rustix::fs::fcntl_getfl(bench.submitter.event()).expect("its flags");
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
    }

    #[test]
    fn a_worker_cancels_none_but_its_own() {
        let mut bench = bench(1);
        let other = bench.pool.submitter().expect("an eventfd");
        let barrier = Arc::new(Barrier::new(2));
        bench.submit(0, Job::Meet(Arc::clone(&barrier), 1));
        bench.running(1, 1);
        bench.submit(5, Job::Meet(Arc::new(Barrier::new(1)), 1));
        other.cancel(token(5));
        barrier.wait();
        assert_eq!(bench.results(2), [0, 5]);
    }

    #[test]
    fn closing_the_pool_drops_queued_jobs_and_does_not_wait_for_stuck_ones() {
        let bench = bench(1);
        let barrier = Arc::new(Barrier::new(2));
        bench.submit(0, Job::Meet(Arc::clone(&barrier), 1));
        bench.running(1, 1);
        bench.submit(1, Job::Meet(Arc::clone(&barrier), 1));
        let (begun, shared) = (Instant::now(), Arc::clone(&bench.pool.shared));
        drop(bench);
        assert!(begun.elapsed() < PATIENCE / 2);
        assert_eq!(Arc::strong_count(&barrier), 2, "the queued job is gone, the other isn't");
        barrier.wait();
        let has_threads = || {
            let queue = lock(&shared.queue);
            queue.running + queue.idle > 0
        };
        while has_threads() {
            assert!(begun.elapsed() < PATIENCE, "its thread doesn't end with it");
            thread::yield_now();
        }
    }

    /// A file of these bytes.
    fn file(bytes: &[u8]) -> (File, Arc<SharedFile>) {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
        file.write_all(bytes).expect("written");
        let shared = OpenFile::new(file.try_clone().expect("a descriptor").into(), Volume::Other, 5);
        (file, Arc::new(SharedFile::new(shared)))
    }

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let ours = TcpStream::connect(listener.local_addr().expect("a name")).expect("connected");
        let (theirs, _) = listener.accept().expect("accepted");
        ours.set_nonblocking(true).expect("non-blocking");
        theirs.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        (ours, theirs)
    }

    fn send(socket: &TcpStream, head: &[u8], range: &FileRange<'_>, copy: CopyMode) -> Outcome {
        Job::send(socket, head, range, copy).expect("a descriptor").carry_out()
    }

    #[test]
    fn a_head_and_a_range_are_sent() {
        let (_file, shared) = file(b"0123456789");
        for copy in [CopyMode::Sendfile, CopyMode::Read] {
            let (ours, mut theirs) = connected();
            let range = FileRange { file: &shared, offset: 2, length: 5 };
            assert!(matches!(send(&ours, b"head ", &range, copy), Outcome::Sent(Ok(10))));
            assert!(matches!(send(&ours, b"", &range, copy), Outcome::Sent(Ok(5))));
            drop(ours);
            let mut received = String::new();
            theirs.read_to_string(&mut received).expect("received");
            assert_eq!(received, "head 2345623456", "{copy:?}");
        }
    }

    #[test]
    fn a_full_socket_and_the_end_of_a_file_are_told_apart() {
        let (file, shared) = file(&vec![7; SENDFILE_BYTES_MAX]);
        for copy in [CopyMode::Sendfile, CopyMode::Read] {
            let (ours, _theirs) = connected();
            let range = FileRange { file: &shared, offset: 0, length: 10 * SENDFILE_BYTES_MAX as u64 };
            let sent: usize = std::iter::from_fn(|| match send(&ours, b"head", &range, copy) {
                Outcome::Sent(Ok(sent)) => Some(sent),
                Outcome::Sent(Err(Errno::AGAIN)) => None,
                other => panic!("{other:?}"),
            })
            .inspect(|sent| assert!(*sent > 0 && *sent <= 4 + SENDFILE_BYTES_MAX))
            .sum();
            assert!(sent > SENDFILE_BYTES_MAX / 8, "{sent} bytes in all");
        }
        file.set_len(5).expect("cut");
        for copy in [CopyMode::Sendfile, CopyMode::Read] {
            let (ours, _theirs) = connected();
            let range = FileRange { file: &shared, offset: 5, length: 10 };
            assert!(matches!(send(&ours, b"head", &range, copy), Outcome::Sent(Ok(4))), "only the head");
            assert!(matches!(send(&ours, b"", &range, copy), Outcome::Sent(Ok(0))), "nothing is left");
        }
    }

    #[test]
    fn what_has_no_sendfile_is_copied() {
        let opened = File::open("/proc/self/status").expect("opened");
        let shared = Arc::new(SharedFile::new(OpenFile::new(opened.into(), Volume::Other, 5)));
        let (ours, mut theirs) = connected();
        let range = FileRange { file: &shared, offset: 0, length: 5 };
        let sent = send(&ours, b"", &range, CopyMode::Sendfile);
        assert!(matches!(sent, Outcome::Sent(Ok(5))), "{sent:?}");
        let mut received = [0; 5];
        theirs.read_exact(&mut received).expect("received");
        assert_eq!(&received, b"Name:");
    }

    #[test]
    fn a_read_is_as_long_as_the_file() {
        let (_file, shared) = file(b"0123456789");
        let read = |offset, length| match Job::read(&FileRange { file: &shared, offset, length }).carry_out()
        {
            Outcome::Read(result) => result.map(|bytes| bytes.to_vec()),
            other => panic!("{other:?}"),
        };
        for (offset, length, expected) in
            [(0, 10, &b"0123456789"[..]), (3, 4, b"3456"), (8, 9, b"89"), (20, 1, b"")]
        {
            assert_eq!(read(offset, length).expect("read"), expected);
        }
        let folder = File::open(env!("CARGO_MANIFEST_DIR")).expect("opened");
        let folder = Arc::new(SharedFile::new(OpenFile::new(folder.into(), Volume::Local, 0)));
        let failed = Job::read(&FileRange { file: &folder, offset: 0, length: 1 }).carry_out();
        assert!(matches!(failed, Outcome::Read(Err(_))), "{failed:?}");
    }

    /// A head that doesn't fit is sent in part, and nothing of the file behind it.
    #[test]
    fn a_head_that_does_not_fit_is_sent_in_part() {
        let (_file, shared) = file(b"0123456789");
        let head: Vec<u8> = (0..=250).cycle().take(64 << 20).collect();
        for copy in [CopyMode::Sendfile, CopyMode::Read] {
            let (ours, mut theirs) = connected();
            let range = FileRange { file: &shared, offset: 0, length: 10 };
            let sent = send(&ours, &head, &range, copy);
            let Outcome::Sent(Ok(count)) = sent else { panic!("{sent:?}") };
            assert!(count > 0 && count < head.len(), "{count} bytes");
            drop(ours);
            let mut received = Vec::new();
            theirs.read_to_end(&mut received).expect("received");
            assert!(received == head[..count], "{} of {count} bytes", received.len());
        }
    }

    /// What has left is told before what is wrong with the file.
    #[test]
    fn an_error_is_told_when_nothing_has_left() {
        let opened = |path: &str| {
            let opened = File::open(path).expect("opened");
            Arc::new(SharedFile::new(OpenFile::new(opened.into(), Volume::Other, 5)))
        };
        for (path, expected) in [
            (env!("CARGO_MANIFEST_DIR"), Err(Errno::ISDIR)),
            // At 0 no process has memory: EIO, as of a broken disk.
            ("/proc/self/mem", Ok(0)),
        ] {
            for copy in [CopyMode::Sendfile, CopyMode::Read] {
                let (ours, _theirs) = connected();
                let shared = opened(path);
                let range = FileRange { file: &shared, offset: 0, length: 10 };
                for (head, expected) in [(&b"head"[..], Ok(4)), (b"", expected)] {
                    let Outcome::Sent(sent) = send(&ours, head, &range, copy) else { panic!("a send") };
                    assert_eq!(sent, expected, "{path}, {copy:?}");
                }
            }
        }
    }

    #[test]
    fn a_full_socket_is_no_end_of_the_file() {
        let (_file, shared) = file(&vec![7; SENDFILE_BYTES_MAX]);
        for copy in [CopyMode::Sendfile, CopyMode::Read] {
            let (ours, _theirs) = connected();
            let range = FileRange { file: &shared, offset: 0, length: SENDFILE_BYTES_MAX as u64 };
            let full = std::iter::repeat_with(|| send(&ours, b"", &range, copy))
                .find(|sent| !matches!(sent, Outcome::Sent(Ok(1..))));
            assert!(matches!(full, Some(Outcome::Sent(Err(Errno::AGAIN)))), "{full:?}");
        }
    }

    /// The loop may send again what was sent a moment ago, where nobody can ask the page cache.
    #[test]
    fn what_was_sent_is_remembered_where_it_cannot_be_asked_for() {
        for (volume, is_remembered) in [(Volume::Layered, true), (Volume::Other, false)] {
            let (opened, _) = file(b"0123456789");
            let shared = Arc::new(SharedFile::new(OpenFile::new(opened.into(), volume, 5)));
            shared.remember_residency(10);
            let (ours, _theirs) = connected();
            let range = FileRange { file: &shared, offset: 0, length: 10 };
            assert!(matches!(send(&ours, b"head", &range, CopyMode::Sendfile), Outcome::Sent(Ok(14))));
            let memory = shared.residency().expect("a memory");
            assert_eq!(memory.recalls(0, Instant::now()), is_remembered, "{volume:?}");
        }
    }
}

//! Follows all threads of a server that take part in serving: what they call, in which order, and in which calls they
//! sleep (ptrace(2)).
//!
//! A thread that is stopped at the beginning or the end of a call has been switched out once for the stop. If it was
//! switched out more often between the two, it has slept in the call (`voluntary_ctxt_switches`, proc(5)).

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::call::{Call, call_of};
use super::ring::Ring;

/// How long the tracer rests when no thread has stopped.
const REST: Duration = Duration::from_micros(100);
/// The server has settled when all its threads sleep and nothing has happened for so long.
const SETTLED_AFTER: Duration = Duration::from_millis(30);
/// It must do so before this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that has happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A client did this.
    Client { client: usize, did: Did },
    /// A thread of the server has begun a call.
    Begun { thread: Thread, call: Call },
    /// It has ended.
    Ended { thread: Thread, call: Call, result: i64, slept: bool },
    /// The ring was given an operation.
    Submitted(super::ring::Submission),
    /// The ring has completed one.
    Completed(super::ring::Completion),
}

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    Connect,
    Ask,
    Read,
    Close,
}

/// A thread, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Thread {
    /// It accepts, or runs the loop.
    Worker,
    /// It serves one connection, or jobs of the pool: the number says which of them it is.
    Other(u32),
}

/// A trace in progress.
pub(super) struct Tracer {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), String>>,
}

struct Shared {
    log: Mutex<Vec<Event>>,
    over: AtomicBool,
    /// The worker is to be held when it next comes out of a call in which it has slept.
    hold: AtomicBool,
    held: AtomicBool,
    /// How many threads run, rather than wait in a call.
    running: Mutex<(usize, Instant)>,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Vec<Event>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracer {
    /// Begins with the threads whose name says that they serve; those that they start are followed as well.
    ///
    /// # Errors
    /// The reason, if the machine doesn't allow it.
    pub(super) fn begin(process: u32) -> Result<Tracer, String> {
        let shared = Arc::new(Shared {
            log: Mutex::default(),
            over: AtomicBool::new(false),
            hold: AtomicBool::new(false),
            held: AtomicBool::new(false),
            running: Mutex::new((0, Instant::now())),
        });
        let (begun, beginning) = mpsc::channel();
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let follower = Follower::begin(process, &theirs);
            let told = follower.as_ref().map(drop).map_err(Clone::clone);
            let _heard = begun.send(told);
            follower?.follow()
        });
        match beginning.recv() {
            Ok(Ok(())) => Ok(Tracer { shared, thread }),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err("the tracer has ended".to_owned()),
        }
    }

    /// Notes what a client does.
    pub(super) fn note(&self, client: usize, did: Did) {
        self.shared.log().push(Event::Client { client, did });
    }

    /// Waits until every thread sleeps.
    pub(super) fn settle(&self) -> Result<(), Failed> {
        let begun = Instant::now();
        let deadline = begun + PATIENCE;
        loop {
            let (running, since) = *self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
            if running == 0 && since.max(begun).elapsed() >= SETTLED_AFTER {
                return Ok(());
            }
            if self.thread.is_finished() || Instant::now() > deadline {
                return Err(format!("{running} threads of the server don't come to rest").into());
            }
            thread::sleep(REST);
        }
    }

    /// Holds the worker when it next wakes, until `meanwhile` has run.
    pub(super) fn hold(
        &self,
        wake: impl FnOnce() -> Result<(), Failed>,
        meanwhile: impl FnOnce() -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        self.shared.hold.store(true, Ordering::Release);
        wake()?;
        let held = crate::deadline::within(PATIENCE, "the worker to wake", || {
            self.shared.held.load(Ordering::Acquire)
        });
        let done = held.and_then(|()| meanwhile());
        self.shared.hold.store(false, Ordering::Release);
        done
    }

    /// Ends the trace; the threads go on.
    pub(super) fn end(self) -> Result<Vec<Event>, Failed> {
        self.shared.over.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(ended) => ended?,
            Err(_) => return Err("the tracer has panicked".into()),
        }
        let events = std::mem::take(&mut *self.shared.log());
        Ok(events)
    }
}

/// A thread that is followed.
struct Followed {
    thread: Thread,
    /// The call that it is in, and its switches when it began.
    inside: Option<(Call, u64)>,
}

struct Follower<'a> {
    process: u32,
    shared: &'a Shared,
    threads: BTreeMap<i32, Followed>,
    others: u32,
    ring: Ring,
}

impl<'a> Follower<'a> {
    fn begin(process: u32, shared: &'a Shared) -> Result<Follower<'a>, String> {
        let mut follower =
            Follower { process, shared, threads: BTreeMap::new(), others: 0, ring: Ring::of(process) };
        let entries = fs::read_dir(format!("/proc/{process}/task")).map_err(|error| error.to_string())?;
        for entry in entries.flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let thread = match name.trim() {
                "worker-0" => Thread::Worker,
                "pool" => follower.other(),
                _ => continue,
            };
            follower
                .seize(id)
                .map_err(|errno| format!("a process can't be traced here (ptrace(2): {errno})"))?;
            follower.threads.insert(id, Followed { thread, inside: None });
            // A thread that waits in a call is stopped in its midst: when it goes on, it begins the call anew.
        }
        Ok(follower)
    }

    fn other(&mut self) -> Thread {
        self.others += 1;
        Thread::Other(self.others)
    }

    fn seize(&self, id: i32) -> nix::Result<()> {
        let thread = Pid::from_raw(id);
        ptrace::seize(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_TRACECLONE)?;
        ptrace::interrupt(thread)?;
        loop {
            match waitpid(thread, Some(WaitPidFlag::__WALL)) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
                Ok(_stopped) => return ptrace::syscall(thread, None),
            }
        }
    }

    fn follow(mut self) -> Result<(), String> {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
        // When this thread ends, all that it follows goes on by itself.
        while !self.shared.over.load(Ordering::Acquire) {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) => {
                    self.count_running();
                    thread::sleep(REST);
                }
                Ok(status) => {
                    self.on_stop(&status).map_err(|errno| format!("the trace was lost: {errno}"))?
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(format!("the trace was lost: {errno}")),
            }
        }
        Ok(())
    }

    /// A thread that is in a call may still be about to leave it: asleep is who says so.
    fn count_running(&self) {
        let is_asleep = |id: &i32, followed: &Followed| {
            followed.inside.is_some()
                && fs::read_to_string(format!("/proc/{}/task/{id}/stat", self.process))
                    .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
        };
        let running = self.threads.iter().filter(|(id, followed)| !is_asleep(id, followed)).count();
        self.set_running(running);
    }

    fn set_running(&self, running: usize) {
        let mut shared = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.0 != running || running > 0 {
            *shared = (running, Instant::now());
        }
    }

    fn on_stop(&mut self, status: &WaitStatus) -> nix::Result<()> {
        self.set_running(1);
        let pass = |id: Pid, signal: Option<Signal>| match ptrace::syscall(id, signal) {
            // It was killed meanwhile.
            Err(Errno::ESRCH) => Ok(()),
            passed => passed,
        };
        match *status {
            WaitStatus::PtraceSyscall(id) => {
                self.on_call(id)?;
                pass(id, None)
            }
            WaitStatus::Exited(id, _) | WaitStatus::Signaled(id, ..) => {
                self.threads.remove(&id.as_raw());
                Ok(())
            }
            WaitStatus::Stopped(id, signal) => pass(id, Some(signal)),
            WaitStatus::PtraceEvent(id, _, event) => {
                // It was switched out for this stop, too.
                if let Some(Followed { inside: Some((_, before)), .. }) = self.threads.get_mut(&id.as_raw()) {
                    *before += 1;
                }
                if !self.threads.contains_key(&id.as_raw()) && event != 0 {
                    let thread = self.other();
                    self.threads.insert(id.as_raw(), Followed { thread, inside: None });
                }
                pass(id, None)
            }
            _ => Ok(()),
        }
    }

    /// A call begins or ends.
    fn on_call(&mut self, id: Pid) -> nix::Result<()> {
        if !self.threads.contains_key(&id.as_raw()) {
            let thread = self.other();
            self.threads.insert(id.as_raw(), Followed { thread, inside: None });
        }
        let info = ptrace::syscall_info(id)?;
        let Some(followed) = self.threads.get_mut(&id.as_raw()) else { return Ok(()) };
        // PTRACE_SYSCALL_INFO_ENTRY is 1, _EXIT is 2 (ptrace(2)).
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            let Some(call) = call_of(id, self.process) else { return Ok(()) };
            if call.number == libc::SYS_io_uring_enter {
                let submissions = self.ring.look_before();
                self.shared.log().extend(submissions.into_iter().map(Event::Submitted));
            }
            self.shared.log().push(Event::Begun { thread: followed.thread, call: call.clone() });
            followed.inside = Some((call, switches(self.process, id)));
            return Ok(());
        }
        let Some((mut call, before)) = followed.inside.take() else { return Ok(()) };
        let result = result_of(id).unwrap_or_default();
        call.resolve(self.process, result);
        let slept = switches(self.process, id) > before + 1;
        let thread = followed.thread;
        self.shared.log().push(Event::Ended { thread, call: call.clone(), result, slept });
        if call.number == libc::SYS_io_uring_enter {
            let completions = self.ring.look_behind();
            self.shared.log().extend(completions.into_iter().map(Event::Completed));
        }
        if thread == Thread::Worker && slept && self.shared.hold.load(Ordering::Acquire) {
            self.shared.held.store(true, Ordering::Release);
            let deadline = Instant::now() + PATIENCE;
            while self.shared.hold.load(Ordering::Acquire) && Instant::now() < deadline {
                thread::sleep(REST);
            }
            self.shared.held.store(false, Ordering::Release);
        }
        Ok(())
    }
}

fn switches(process: u32, thread: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/task/{thread}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

#[cfg(target_arch = "x86_64")]
fn result_of(thread: Pid) -> Option<i64> {
    ptrace::getregs(thread).ok().map(|registers| registers.rax.cast_signed())
}

#[cfg(not(target_arch = "x86_64"))]
fn result_of(_thread: Pid) -> Option<i64> {
    None
}

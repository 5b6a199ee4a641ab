//! Traces the system calls of one thread in another process, with their arguments (ptrace(2)).
//!
//! The thread stops at the start and the end of every call. While it is stopped, proc(5) describes the call:
//! `/proc/PID/syscall` has the number and the arguments, `/proc/PID/fd` what a descriptor refers to, `/proc/PID/mem`
//! what an argument points to.

use std::fmt::Display;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use libc::c_long;
use libtest_mimic::Failed;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The offset of the field `resolve` in `struct open_how` (openat2(2)).
const RESOLVE_OFFSET: u64 = 16;

/// One system call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The system call number.
    pub number: c_long,
    /// Its arguments, as registers.
    pub arguments: [u64; 6],
    /// For calls that read from a descriptor, examine or close it, what it refers to: a path, or a name such as
    /// `anon_inode:[eventfd]`. Nothing for a close of what stands for a path only (`O_PATH`): that closes no file.
    pub source: Option<PathBuf>,
    /// What a call has opened, unless it stands for a path only, on architectures whose registers are supported.
    pub opened: Option<PathBuf>,
    /// The pointed-to value of an argument: `open_how.resolve` of openat2(2), the offset of sendfile(2).
    pub pointed: Option<u64>,
    /// When it began.
    pub at: Instant,
    /// The result, on architectures whose registers are supported.
    pub result: Option<i64>,
}

/// A trace in progress.
#[derive(Debug)]
pub struct Trace {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Call>, String>>,
}

/// Why tracing isn't possible here.
#[derive(Clone, Debug)]
pub struct Forbidden(pub String);

impl Trace {
    /// Starts tracing a thread of another process of the same user.
    ///
    /// # Errors
    /// If the machine doesn't allow it.
    pub fn begin(process: u32, thread: u32) -> Result<Trace, Forbidden> {
        let over = Arc::new(AtomicBool::new(false));
        let (begun, beginning) = mpsc::channel();
        // ptrace requires that one thread makes all requests.
        let tracer = {
            let over = Arc::clone(&over);
            thread::spawn(move || trace(Pid::from_raw(thread.cast_signed()), process, &begun, &over))
        };
        match beginning.recv() {
            Ok(Ok(())) => Ok(Trace { over, thread: tracer }),
            Ok(Err(reason)) => Err(Forbidden(reason)),
            Err(_) => Err(Forbidden("the tracer has ended".to_owned())),
        }
    }

    /// Ends the trace. `nudge` must make the thread start one more call.
    ///
    /// # Errors
    /// If the thread was lost meanwhile, or `nudge` fails.
    pub fn end(self, nudge: impl FnOnce() -> Result<(), Failed>) -> Result<Vec<Call>, Failed> {
        self.over.store(true, Ordering::Release);
        nudge()?;
        match self.thread.join() {
            Ok(calls) => Ok(calls?),
            Err(_) => Err("the tracer has panicked".into()),
        }
    }
}

fn trace(
    thread: Pid,
    process: u32,
    begun: &Sender<Result<(), String>>,
    over: &AtomicBool,
) -> Result<Vec<Call>, String> {
    let stopped = ptrace::seize(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD)
        .and_then(|()| ptrace::interrupt(thread))
        .and_then(|()| wait(thread))
        .and_then(|_stopped| ptrace::syscall(thread, None))
        .map_err(|errno| format!("a process can't be traced here (ptrace(2): {errno})"));
    let may_go_on = stopped.is_ok();
    // If the test has given up, nobody waits for this.
    let _told = begun.send(stopped);
    let mut calls = Vec::new();
    if may_go_on {
        follow(thread, process, over, &mut calls).map_err(|failed| lost(&failed, calls.len()))?;
    }
    Ok(calls)
}

fn lost(failed: &Failed, calls: usize) -> String {
    format!("the trace was lost after {calls} calls: {}", failed.message().unwrap_or("no reason"))
}

fn follow(thread: Pid, process: u32, over: &AtomicBool, calls: &mut Vec<Call>) -> Result<(), Failed> {
    let mut is_inside = false;
    loop {
        match wait(thread)? {
            WaitStatus::PtraceSyscall(_) => {
                // PTRACE_SYSCALL_INFO_ENTRY is 1, _EXIT is 2 (ptrace(2)).
                let begins = ptrace::syscall_info(thread)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
                if begins {
                    calls.push(call_of(thread, process)?);
                } else if is_inside && let Some(call) = calls.last_mut() {
                    call.result = result_of(thread);
                    if matches!(call.number, libc::SYS_openat | libc::SYS_openat2) {
                        call.opened = call.result.and_then(|number| file_of(process, number));
                    }
                }
                is_inside = begins;
                if over.load(Ordering::Acquire) && !is_inside {
                    return Ok(ptrace::detach(thread, None)?);
                }
                ptrace::syscall(thread, None)?;
            }
            WaitStatus::Stopped(_, signal) => ptrace::syscall(thread, signal)?,
            WaitStatus::PtraceEvent(..) => ptrace::syscall(thread, None)?,
            other => return Err(format!("{other:?}").into()),
        }
    }
}

fn wait(thread: Pid) -> nix::Result<WaitStatus> {
    loop {
        match waitpid(thread, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// The call the thread is about to make.
fn call_of(thread: Pid, process: u32) -> Result<Call, Failed> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/syscall"))?;
    let mut words = text.split_whitespace();
    let number = words.next().ok_or("no call")?.parse()?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        let word = words.next().ok_or("an argument is missing")?;
        *argument = u64::from_str_radix(word.trim_start_matches("0x"), 16)?;
    }
    let source = match number {
        libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 | libc::SYS_preadv | libc::SYS_preadv2 => {
            Some(arguments[0])
        }
        libc::SYS_fstat
        | libc::SYS_fstatfs
        | libc::SYS_newfstatat
        | libc::SYS_statx
        | libc::SYS_fadvise64
        | libc::SYS_getdents64 => Some(arguments[0]),
        libc::SYS_sendfile => Some(arguments[1]),
        _ => None,
    };
    let source = match (number, source) {
        (libc::SYS_close, _) => file_of(process, arguments[0]),
        (_, source) => source.and_then(|number| referent_of(process, number)),
    };
    let pointed = match number {
        libc::SYS_openat2 => Some(arguments[2] + RESOLVE_OFFSET),
        libc::SYS_sendfile if arguments[2] != 0 => Some(arguments[2]),
        _ => None,
    };
    let pointed = pointed.map(|address| peek(process, address)).transpose()?;
    Ok(Call { number, arguments, source, opened: None, pointed, at: Instant::now(), result: None })
}

/// What a descriptor refers to.
fn referent_of(process: u32, number: impl Display) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/fd/{number}")).ok()
}

/// The same, unless it stands for a path only. The flags are octal (`proc_pid_fdinfo(5)`).
fn file_of(process: u32, number: impl Display) -> Option<PathBuf> {
    let info = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    (flags & libc::O_PATH == 0).then(|| referent_of(process, number)).flatten()
}

/// Reads a number from the process's memory.
fn peek(process: u32, address: u64) -> Result<u64, Failed> {
    let mut bytes = [0; 8];
    File::open(format!("/proc/{process}/mem"))?.read_exact_at(&mut bytes, address)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(target_arch = "x86_64")]
fn result_of(thread: Pid) -> Option<i64> {
    ptrace::getregs(thread).ok().map(|registers| registers.rax.cast_signed())
}

#[cfg(not(target_arch = "x86_64"))]
fn result_of(_thread: Pid) -> Option<i64> {
    None
}

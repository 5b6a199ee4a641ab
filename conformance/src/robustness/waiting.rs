//! The event loop never waits for a disk: checks every system call its thread makes while cold files are read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use libc::c_long;
use libtest_mimic::{Completion, Failed};

use super::{DONE, Ground, Outcome, Test};
use crate::backend::Backend;
use crate::child::{ChildServer, Settings};
use crate::client::Client;
use crate::response::Framing;
use crate::row::get;
use crate::site::{DIGITS, cool, pattern_of, write, write_pattern};
use crate::trace::{Call, Forbidden, Trace};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("no_call_waits_for_a_disk", no_call_waits_for_a_disk),
    ("large_cached_files_follow_the_copy_mode", large_cached_files_follow_the_copy_mode),
    ("a_popular_file_is_not_looked_for_again", a_popular_file_is_not_looked_for_again),
];

/// A file that is admitted to the cache, one that is sent from a buffer, and one that is sent in pieces.
const SIZES: [u64; 3] = [1_000, 100_000, 1_500_001];

/// Often enough for the smallest to be cached.
const ROUNDS: usize = 4;

/// At least this much must be read from disk, or the files weren't cold: the largest file in every round.
const COLD_BYTES_MIN: u64 = ROUNDS as u64 * SIZES[2];

/// For so long a server takes for granted that what it found in the page cache is there.
const RESIDENT_FOR: Duration = Duration::from_millis(50);

/// A byte tells about so many: the rest of its stretch.
const STRETCH_BYTES: u64 = 128 * 1024;

/// A large file that is requested again and again, and how often it may be looked for in one of its answers, which are
/// 32 stretches.
const POPULAR_BYTES: u64 = 4 << 20;
const LOOKS_MAX: usize = 4;
/// Requests in one go. Tracing is slow and memories are short, so one that isn't disturbed counts,
const REQUESTS: usize = 10;
/// and there are several goes.
const GOES: usize = 20;

/// `RWF_NOWAIT` (preadv2(2)).
const NOWAIT: u64 = 8;

/// `RESOLVE_CACHED` (openat2(2)).
const CACHED: u64 = 0x20;

/// `FIONBIO` (ioctl(2)).
const FIONBIO: u64 = libc::FIONBIO;

/// Calls that don't access file contents: sockets (all non-blocking), polls, timers, memory, locks held only for a push
/// or a pop, watches set on open descriptors, and the two calls that wait for all clients together.
const FREE: &[c_long] = &[
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_ctl,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fcntl,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_getrandom,
    libc::SYS_restart_syscall,
];

/// Older calls that exist only on some architectures.
#[cfg(target_arch = "x86_64")]
const FREE_HERE: &[c_long] = &[libc::SYS_epoll_wait];

#[cfg(not(target_arch = "x86_64"))]
const FREE_HERE: &[c_long] = &[];

fn no_call_waits_for_a_disk(ground: Ground<'_>) -> Outcome {
    let (folder, files) = make_folder(ground)?;
    let server = ChildServer::start(ground.backend, &folder, &Settings::default())?;
    let mut client = Client::connect(server.address)?;
    client.get("/warm.txt")?;
    let process = server.process();
    let Some(before) = process.disk_bytes_read() else {
        return Ok(Completion::ignored_with("the kernel doesn't report a process's disk reads"));
    };
    let trace = match Trace::begin(process.id(), process.thread("worker-0")?) {
        Ok(trace) => trace,
        Err(Forbidden(reason)) => return Ok(Completion::ignored_with(reason)),
    };
    let asked = ask(&mut client, &files);
    let calls = trace.end(|| client.get("/warm.txt").map(drop))?;
    judge(ground.backend, &calls, &asked?)?;
    let read = process.disk_bytes_read().unwrap_or(0).saturating_sub(before);
    if read < COLD_BYTES_MIN {
        return Ok(Completion::ignored_with(format!(
            "only {read} bytes were read from a disk: files stay in memory here"
        )));
    }
    drop(client);
    server.stop()?;
    DONE
}

/// `--copy`: large files in the page cache are sent with `sendfile`, or never.
fn large_cached_files_follow_the_copy_mode(ground: Ground<'_>) -> Outcome {
    let (folder, _) = make_folder(ground)?;
    let target = format!("/{}.bin", SIZES[2]);
    for copies in [false, true] {
        let server =
            ChildServer::start(ground.backend, &folder, &Settings { copies, ..Settings::default() })?;
        let mut client = Client::connect(server.address)?;
        client.get(&target)?;
        let process = server.process();
        let trace = match Trace::begin(process.id(), process.thread("worker-0")?) {
            Ok(trace) => trace,
            Err(Forbidden(reason)) => return Ok(Completion::ignored_with(reason)),
        };
        let answer = client.get(&target);
        let calls = trace.end(|| client.get("/warm.txt").map(drop))?;
        pattern_of(SIZES[2]).check(0, &answer?.content)?;
        let sent = calls.iter().filter(|call| call.number == libc::SYS_sendfile).count();
        if (sent == 0) != copies {
            return Err(format!("{sent} calls of sendfile where files are copied: {copies}").into());
        }
        drop(client);
        server.stop()?;
    }
    DONE
}

/// A large file that was sent a moment ago is in memory.
fn a_popular_file_is_not_looked_for_again(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("waiting")?;
    write(&folder.join("warm.txt"), DIGITS)?;
    write_pattern(&folder.join("popular.bin"), POPULAR_BYTES)?;
    let server = ChildServer::start(ground.backend, &folder, &Settings::default())?;
    let mut client = Client::connect(server.address)?;
    // The first two let it into the cache.
    for _ in 0..3 {
        pattern_of(POPULAR_BYTES).check(0, &client.get("/popular.bin")?.content)?;
    }
    let process = server.process();
    let mut least = usize::MAX;
    for _ in 0..GOES {
        let trace = match Trace::begin(process.id(), process.thread("worker-0")?) {
            Ok(trace) => trace,
            Err(Forbidden(reason)) => return Ok(Completion::ignored_with(reason)),
        };
        client.send(&get("/popular.bin", &[]).repeat(REQUESTS))?;
        let answers: Result<Vec<_>, _> = (0..REQUESTS).map(|_| client.response(Framing::Content)).collect();
        let calls = trace.end(|| client.get("/warm.txt").map(drop))?;
        if answers?.iter().any(|answer| answer.content.len() as u64 != POPULAR_BYTES) {
            return Err("an answer isn't complete".into());
        }
        least = least.min(least_looks(&calls));
        if least <= LOOKS_MAX {
            drop(client);
            server.stop()?;
            return DONE;
        }
    }
    Err(format!("at least {least} looks for {POPULAR_BYTES} bytes").into())
}

/// How often the page cache was asked between the beginnings of two answers, but for one look after each `sendfile`: it
/// tells a full socket from the end of the file.
fn least_looks(calls: &[Call]) -> usize {
    let begins = |call: &Call| call.number == libc::SYS_sendfile && call.pointed == Some(0);
    let looks = |calls: &[Call]| {
        let count = |number| calls.iter().filter(|call| call.number == number).count();
        count(libc::SYS_preadv2).saturating_sub(count(libc::SYS_sendfile))
    };
    let beginnings: Vec<usize> = (0..calls.len()).filter(|index| begins(&calls[*index])).collect();
    beginnings.windows(2).map(|pair| looks(&calls[pair[0]..pair[1]])).min().unwrap_or(usize::MAX)
}

fn make_folder(ground: Ground<'_>) -> Result<(PathBuf, Vec<PathBuf>), Failed> {
    let folder = ground.sites.scratch("waiting")?;
    write(&folder.join("warm.txt"), DIGITS)?;
    let files: Vec<_> = SIZES.iter().map(|size| folder.join(format!("{size}.bin"))).collect();
    for (file, size) in files.iter().zip(SIZES) {
        write_pattern(file, size)?;
    }
    Ok((folder, files))
}

/// Files that were evicted from the page cache, and when.
type Cooled = Vec<(PathBuf, Instant)>;

/// Requests every cold file several times, whole and from the middle, and names that were never looked up.
fn ask(client: &mut Client, files: &[PathBuf]) -> Result<Cooled, Failed> {
    let mut cooled = Vec::new();
    for round in 0..ROUNDS {
        for (file, size) in files.iter().zip(SIZES) {
            for first in [0, size / 2] {
                // It is sent once from memory, so that the server has a reason to believe that it is still there.
                client.get(&format!("/{size}.bin"))?;
                client.get(&format!("/{size}.bin"))?;
                cool(file)?;
                cooled.push((file.clone(), Instant::now()));
                // What the server has seen just before may be gone by now. After this it must look again.
                thread::sleep(RESIDENT_FOR);
                let range = format!("Range: bytes={first}-");
                let fields = [range.as_str()];
                let fields = if first == 0 { &[] } else { &fields[..] };
                client.send(&get(&format!("/{size}.bin"), fields))?;
                pattern_of(size).check(first, &client.response(Framing::Content)?.content)?;
            }
        }
        client.send(&get(&format!("/nobody-has-asked-{round}.bin"), &[]))?;
        client.response(Framing::Content)?;
    }
    Ok(cooled)
}

/// What was seen of files in the page cache.
struct Seen<'a> {
    cooled: &'a Cooled,
    /// The last byte seen of each stretch, and when.
    bytes: HashMap<(PathBuf, u64), (u64, Instant)>,
}

impl Seen<'_> {
    fn see(&mut self, path: PathBuf, position: u64, at: Instant) {
        self.bytes.insert((path, position / STRETCH_BYTES), (position, at));
    }

    /// Whether every stretch of these bytes was seen, and the file not evicted since.
    fn covers(&self, path: &Path, offset: u64, end: u64, at: Instant) -> bool {
        let evictions = self.cooled.iter().filter(|(cooled, evicted)| cooled == path && *evicted < at);
        let evicted = evictions.map(|(_, evicted)| *evicted).max();
        (offset / STRETCH_BYTES..=(end - 1) / STRETCH_BYTES).all(|stretch| {
            let last = ((stretch + 1) * STRETCH_BYTES).min(end) - 1;
            let seen = self.bytes.get(&(path.to_owned(), stretch));
            seen.is_some_and(|(position, seen)| *position >= last && evicted.is_none_or(|at| at < *seen))
        })
    }
}

/// Checks that no call could wait for a disk, and that the expected calls were made.
fn judge(backend: Backend, calls: &[Call], cooled: &Cooled) -> Result<(), Failed> {
    let mut seen = Seen { cooled, bytes: HashMap::new() };
    for (index, call) in calls.iter().enumerate() {
        let waits = || format!("call {} of {} may wait for a disk: {call:?}", index + 1, calls.len());
        match call.number {
            libc::SYS_preadv2 if call.arguments[5] & NOWAIT != 0 => {
                if call.result.is_none_or(|result| result > 0) {
                    seen.see(call.source.clone().ok_or_else(waits)?, call.arguments[3], call.at);
                }
            }
            libc::SYS_sendfile => {
                let (path, offset) =
                    (call.source.as_deref().ok_or_else(waits)?, call.pointed.ok_or_else(waits)?);
                if !seen.covers(path, offset, offset + call.arguments[3], call.at) {
                    return Err(waits().into());
                }
            }
            libc::SYS_openat2 if call.pointed.is_some_and(|resolve| resolve & CACHED != 0) => {}
            // Makes a socket non-blocking.
            libc::SYS_ioctl if call.arguments[1] == FIONBIO => {}
            // An eventfd or the inotify descriptor, never a file.
            libc::SYS_read if !call.source.as_deref().is_none_or(Path::is_absolute) => {}
            number if FREE.contains(&number) || FREE_HERE.contains(&number) => {}
            _ => return Err(waits().into()),
        }
    }
    // A trace that saw nothing proves nothing.
    let expected: &[(&str, c_long)] = match backend {
        Backend::Epoll => &[
            ("preadv2", libc::SYS_preadv2),
            ("openat2", libc::SYS_openat2),
            ("sendfile", libc::SYS_sendfile),
            ("sendto", libc::SYS_sendto),
        ],
        Backend::Uring => &[("io_uring_enter", libc::SYS_io_uring_enter)],
        Backend::Blocking => &[],
    };
    for (name, number) in expected {
        if !calls.iter().any(|call| call.number == *number) {
            return Err(format!("none of {} calls is a {name}", calls.len()).into());
        }
    }
    Ok(())
}

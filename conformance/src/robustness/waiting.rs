//! The event loop never waits for a disk: checks every system call its thread makes while cold files are read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

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
];

/// A file that is admitted to the cache, one that is sent from a buffer, and one that is sent in pieces.
const SIZES: [u64; 3] = [1_000, 100_000, 1_500_001];

/// Often enough for the smallest to be cached.
const ROUNDS: usize = 4;

/// At least this much must be read from disk, or the files weren't cold: the largest file in every round.
const COLD_BYTES_MIN: u64 = ROUNDS as u64 * SIZES[2];

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
    asked?;
    judge(ground.backend, &calls)?;
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

fn make_folder(ground: Ground<'_>) -> Result<(PathBuf, Vec<PathBuf>), Failed> {
    let folder = ground.sites.scratch("waiting")?;
    write(&folder.join("warm.txt"), DIGITS)?;
    let files: Vec<_> = SIZES.iter().map(|size| folder.join(format!("{size}.bin"))).collect();
    for (file, size) in files.iter().zip(SIZES) {
        write_pattern(file, size)?;
    }
    Ok((folder, files))
}

/// Requests every cold file several times, whole and from the middle, and names that were never looked up.
fn ask(client: &mut Client, files: &[PathBuf]) -> Result<(), Failed> {
    for round in 0..ROUNDS {
        for (file, size) in files.iter().zip(SIZES) {
            for first in [0, size / 2] {
                cool(file)?;
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
    Ok(())
}

/// Checks that no call could wait for a disk, and that the expected calls were made.
fn judge(backend: Backend, calls: &[Call]) -> Result<(), Failed> {
    // For each descriptor, how far the page cache was seen to hold the file.
    let mut resident = HashMap::new();
    for (index, call) in calls.iter().enumerate() {
        let waits = || format!("call {} of {} may wait for a disk: {call:?}", index + 1, calls.len());
        match call.number {
            libc::SYS_preadv2 if call.arguments[5] & NOWAIT != 0 => {
                if call.result.is_none_or(|result| result > 0) {
                    resident.insert(call.arguments[0], call.arguments[3] + 1);
                }
            }
            libc::SYS_sendfile => {
                let end = call.pointed.ok_or_else(waits)? + call.arguments[3];
                // By the next call, the descriptor may refer to another file.
                if resident.remove(&call.arguments[1]).is_none_or(|resident| resident < end) {
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

//! A system call: its name, and what it is about.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use libc::c_long;
use nix::unistd::Pid;

/// How long a path may be that a call points to.
const PATH_BYTES_MAX: usize = 256;
/// `RESOLVE_CACHED` (openat2(2)), and where `resolve` is in `struct open_how`.
const CACHED: u64 = 0x20;
const RESOLVE_OFFSET: u64 = 16;
/// `RWF_NOWAIT` (preadv2(2)).
const NOWAIT: u64 = 8;

/// What a call is made with: a descriptor in one of its arguments, or none.
#[derive(Clone, Copy)]
enum On {
    Nothing,
    Descriptor(usize),
    /// The socket, and the file that is sent into it.
    SocketAndFile,
    /// The path in this argument.
    Path(usize),
}

/// The calls that a request is made of. Whatever else a thread calls is memory, locks, clocks and signals.
const CALLS: [(c_long, &str, On); 29] = [
    (libc::SYS_accept4, "accept4", On::Descriptor(0)),
    (libc::SYS_clone3, "clone3", On::Nothing),
    (libc::SYS_close, "close", On::Descriptor(0)),
    (libc::SYS_connect, "connect", On::Descriptor(0)),
    (libc::SYS_epoll_ctl, "epoll_ctl", On::Descriptor(2)),
    (libc::SYS_epoll_pwait, "epoll_pwait", On::Nothing),
    (libc::SYS_epoll_pwait2, "epoll_pwait2", On::Nothing),
    (libc::SYS_fadvise64, "fadvise64", On::Descriptor(0)),
    (libc::SYS_fstat, "fstat", On::Descriptor(0)),
    (libc::SYS_fstatfs, "fstatfs", On::Descriptor(0)),
    (libc::SYS_getsockopt, "getsockopt", On::Descriptor(0)),
    (libc::SYS_inotify_add_watch, "inotify_add_watch", On::Descriptor(0)),
    (libc::SYS_io_uring_enter, "io_uring_enter", On::Nothing),
    (libc::SYS_ioctl, "ioctl", On::Descriptor(0)),
    (libc::SYS_openat2, "openat2", On::Path(1)),
    (libc::SYS_ppoll, "ppoll", On::Nothing),
    (libc::SYS_pread64, "pread64", On::Descriptor(0)),
    (libc::SYS_preadv2, "preadv2", On::Descriptor(0)),
    (libc::SYS_read, "read", On::Descriptor(0)),
    (libc::SYS_recvfrom, "recv", On::Descriptor(0)),
    (libc::SYS_sendfile, "sendfile", On::SocketAndFile),
    (libc::SYS_sendmsg, "sendmsg", On::Descriptor(0)),
    (libc::SYS_sendto, "send", On::Descriptor(0)),
    (libc::SYS_setsockopt, "setsockopt", On::Descriptor(0)),
    (libc::SYS_shutdown, "shutdown", On::Descriptor(0)),
    (libc::SYS_statx, "statx", On::Descriptor(0)),
    (libc::SYS_write, "write", On::Descriptor(0)),
    (libc::SYS_fcntl, "fcntl", On::Descriptor(0)),
    (libc::SYS_newfstatat, "newfstatat", On::Descriptor(0)),
];

/// Older calls that exist only on some architectures.
#[cfg(target_arch = "x86_64")]
const OLDER: [(c_long, &str, On); 3] = [
    (libc::SYS_poll, "poll", On::Nothing),
    (libc::SYS_epoll_wait, "epoll_wait", On::Nothing),
    (libc::SYS_clone, "clone", On::Nothing),
];

#[cfg(not(target_arch = "x86_64"))]
const OLDER: [(c_long, &str, On); 0] = [];

/// One system call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The system call number.
    pub(super) number: c_long,
    /// Its name; none if it is none of those that a request is made of.
    pub(super) name: Option<&'static str>,
    /// What its descriptors refer to, or its path.
    pub(super) about: Vec<String>,
    /// It doesn't wait for a disk (`RESOLVE_CACHED`, `RWF_NOWAIT`).
    pub(super) only_memory: bool,
}

/// The call that a stopped thread is about to make.
pub(super) fn call_of(thread: Pid, process: u32) -> Option<Call> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/syscall")).ok()?;
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok()?;
    }
    // Only a second descriptor for the same socket matters; others are checks of a debug build.
    let is_check = number == libc::SYS_fcntl && arguments[1] != libc::F_DUPFD_CLOEXEC as u64;
    let known = CALLS.iter().chain(&OLDER).find(|(known, ..)| *known == number && !is_check);
    let about = match known.map_or(On::Nothing, |(_, _, on)| *on) {
        On::Nothing => Vec::new(),
        On::Descriptor(argument) => vec![referent_of(process, arguments[argument])],
        On::SocketAndFile => vec![referent_of(process, arguments[0]), referent_of(process, arguments[1])],
        On::Path(argument) => vec![path_at(process, arguments[argument])],
    };
    let only_memory = match number {
        libc::SYS_openat2 => number_at(process, arguments[2] + RESOLVE_OFFSET) & CACHED != 0,
        libc::SYS_preadv2 => arguments[5] & NOWAIT != 0,
        _ => false,
    };
    Some(Call { number, name: known.map(|(_, name, _)| *name), about, only_memory })
}

impl Call {
    /// It has returned: what it has made is now known.
    pub(super) fn resolve(&mut self, process: u32, result: i64) {
        if self.number == libc::SYS_accept4 && result >= 0 {
            self.about.push(referent_of(process, result.unsigned_abs()));
        }
    }
}

/// What a descriptor refers to.
pub(super) fn referent_of(process: u32, number: u64) -> String {
    let link = fs::read_link(format!("/proc/{process}/fd/{number}")).unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// What is in the process's memory there; nothing if it can't be read.
pub(super) fn memory_at<const N: usize>(process: u32, address: u64) -> [u8; N] {
    let mut bytes = [0; N];
    match File::open(format!("/proc/{process}/mem"))
        .and_then(|memory| memory.read_exact_at(&mut bytes, address))
    {
        Ok(()) => bytes,
        Err(_gone) => [0; N],
    }
}

/// The path that an argument points to.
pub(super) fn path_at(process: u32, address: u64) -> String {
    let mut bytes = [0; PATH_BYTES_MAX];
    let read =
        File::open(format!("/proc/{process}/mem")).and_then(|memory| memory.read_at(&mut bytes, address));
    let bytes = &bytes[..read.unwrap_or(0)];
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn number_at(process: u32, address: u64) -> u64 {
    u64::from_ne_bytes(memory_at(process, address))
}

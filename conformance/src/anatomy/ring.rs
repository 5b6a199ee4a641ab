//! What a ring holds while the thread that owns it is stopped, for whoever may trace the process. The kernel tells how
//! far the two queues are, and lists the completions (`/proc/PID/fdinfo`, Linux 5.16). The submissions are read from the
//! memory that the process shares with it (io_uring_enter(2) has their layout), since those of a ring without an index
//! array aren't listed.

use std::collections::HashMap;
use std::fs;

use io_uring::opcode;

use super::call::{memory_at, path_at, referent_of};

/// `IORING_OFF_SQES`: where the entries are mapped, as `/proc/PID/maps` tells it.
const ENTRIES_OFFSET: &str = "10000000";
/// The size of an entry.
const ENTRY_BYTES: usize = 64;
/// `IOSQE_IO_LINK` (io_uring_enter(2)).
const LINKED: u8 = 1 << 2;
/// `IORING_RECV_MULTISHOT` and `IORING_ACCEPT_MULTISHOT`.
const RECV_MULTISHOT: u16 = 1 << 1;
const ACCEPT_MULTISHOT: u16 = 1 << 0;
/// The operations that the server uses.
const OPERATIONS: [(u8, &str); 10] = [
    (opcode::AcceptMulti::CODE, "ACCEPT"),
    (opcode::AsyncCancel2::CODE, "ASYNC_CANCEL"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::OpenAt2::CODE, "OPENAT2"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::Read::CODE, "READ"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::Send::CODE, "SEND"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::Shutdown::CODE, "SHUTDOWN"),
];
/// `IORING_CQE_F_MORE`.
const MORE: u32 = 1 << 1;

/// An operation that the thread has put into the ring.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    /// Its name.
    pub(super) name: String,
    /// What its descriptor refers to, or its path.
    pub(super) about: String,
    /// The next one begins when this one has succeeded.
    pub(super) linked: bool,
    /// It may complete any number of times.
    pub(super) multishot: bool,
}

/// What the kernel has put into the ring.
#[derive(Clone, Debug)]
pub(super) struct Completion {
    /// The name of the operation.
    pub(super) name: String,
    /// What it is about; for an accept, the new socket.
    pub(super) about: String,
    /// The operation's result.
    pub(super) result: i64,
    /// Others will follow of the same operation.
    pub(super) more: bool,
}

/// The ring of a process.
pub(super) struct Ring {
    process: u32,
    /// What each number stands for that an operation was given.
    given: HashMap<u64, (String, String)>,
    /// The completions that were looked at: the ring counts them.
    seen: Option<u64>,
}

impl Ring {
    pub(super) fn of(process: u32) -> Ring {
        Ring { process, given: HashMap::new(), seen: None }
    }

    /// What a call that begins will submit.
    pub(super) fn look_before(&mut self) -> Vec<Submission> {
        let Some(info) = self.info() else { return Vec::new() };
        self.seen.get_or_insert_with(|| number(&info, "CqTail:").unwrap_or(0));
        let place = |name| number(&info, name).unwrap_or(0);
        let (Some(entries), Some(mask)) = (self.entries(), hexadecimal(&info, "SqMask:")) else {
            return Vec::new();
        };
        (place("SqHead:")..place("SqTail:"))
            .map(|index| {
                self.submission(memory_at(self.process, entries + (index & mask) * ENTRY_BYTES as u64))
            })
            .collect()
    }

    /// Where the entries of the submission queue are in the process's memory.
    fn entries(&self) -> Option<u64> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.process)).ok()?;
        let line = maps.lines().find(|line| {
            line.ends_with("anon_inode:[io_uring]") && line.split(' ').nth(2) == Some(ENTRIES_OFFSET)
        })?;
        u64::from_str_radix(line.split('-').next()?, 16).ok()
    }

    fn submission(&mut self, entry: [u8; ENTRY_BYTES]) -> Submission {
        let [operation, flags, ..] = entry;
        let priority = u16::from_ne_bytes([entry[2], entry[3]]);
        let descriptor = u32::from_ne_bytes(entry[4..8].try_into().unwrap_or_default());
        let long = |at: usize| u64::from_ne_bytes(entry[at..at + 8].try_into().unwrap_or_default());
        let (address, user_data) = (long(16), long(32));
        let name = OPERATIONS.iter().find(|(code, _)| *code == operation).map_or("", |(_, name)| name);
        let about = match name {
            "OPENAT2" => path_at(self.process, address),
            _ => referent_of(self.process, u64::from(descriptor)),
        };
        // A chain is one operation to the thread that submits it, and its end is what completes.
        self.given.insert(user_data, (name.to_owned(), about.clone()));
        let multishot = match name {
            "RECV" => priority & RECV_MULTISHOT != 0,
            "ACCEPT" => priority & ACCEPT_MULTISHOT != 0,
            _ => false,
        };
        Submission { name: name.to_owned(), about, linked: flags & LINKED != 0, multishot }
    }

    /// What has completed when a call ends.
    pub(super) fn look_behind(&mut self) -> Vec<Completion> {
        let Some(info) = self.info() else { return Vec::new() };
        let (Some(head), Some(tail)) = (number(&info, "CqHead:"), number(&info, "CqTail:")) else {
            return Vec::new();
        };
        let seen = self.seen.replace(tail).unwrap_or(head);
        let lines = info.lines().filter(|line| line.contains("res:") && line.contains("user_data:"));
        let fresh = (head..).zip(lines).filter(|(index, _)| *index >= seen);
        fresh.map(|(_, line)| self.completion(line)).collect()
    }

    fn completion(&self, line: &str) -> Completion {
        let user_data = field(line, "user_data:").and_then(|word| word.parse().ok()).unwrap_or(0);
        let result = field(line, "res:").and_then(|word| word.parse().ok()).unwrap_or(0);
        let flags = field(line, "flags:").and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or(0);
        // The accept was submitted before anybody looked: it makes sockets.
        let made = || referent_of(self.process, u64::try_from(result).unwrap_or(u64::MAX));
        let (name, about) = match self.given.get(&user_data) {
            Some((name, _)) if name == "ACCEPT" => (name.clone(), made()),
            Some((name, about)) => (name.clone(), about.clone()),
            None if made().starts_with("socket:") => ("ACCEPT".to_owned(), made()),
            None => (String::new(), String::new()),
        };
        Completion { name, about, result, more: flags & MORE != 0 }
    }

    /// The call names the ring by an index of its own, so the descriptor is looked for.
    fn info(&self) -> Option<String> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.process)).ok()?.flatten();
        let is_ring = |entry: &fs::DirEntry| {
            fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == "anon_inode:[io_uring]")
        };
        let ring = descriptors.into_iter().find(is_ring)?;
        let number = ring.file_name();
        fs::read_to_string(format!("/proc/{}/fdinfo/{}", self.process, number.to_string_lossy())).ok()
    }

    /// Whether the kernel tells what is in a ring.
    pub(super) fn is_told(&self) -> bool {
        self.entries().is_some_and(|entries| memory_at::<1>(self.process, entries).len() == 1)
            && self.info().is_some_and(|info| number(&info, "CqTail:").is_some() && info.contains("CQEs:"))
    }
}

/// The word behind a name, up to the next comma or space.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    // `off:` must not be found in `foff:`, nor `flags:` in `rw_flags:`.
    let mut from = 0;
    let start = loop {
        let at = from + line[from..].find(name)?;
        if at == 0 || line.as_bytes()[at - 1] == b' ' {
            break at + name.len();
        }
        from = at + name.len();
    };
    line[start..].trim_start().split([',', ' ']).next()
}

fn hexadecimal(info: &str, name: &str) -> Option<u64> {
    let word = info.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(word.trim().trim_start_matches("0x"), 16).ok()
}

fn number(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

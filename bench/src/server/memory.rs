//! The memory a server takes: its own, and what the kernel holds for it.
//!
//! PSS is what a process adds to the machine in user memory. It misses what connections cost in the kernel:
//! stacks, page tables, sockets. Stacks and page tables are known per process. Socket buffers and slabs are
//! known only for the machine, so these are differences to the moment before the start, and include the
//! client's side and other processes.

use crate::server::calls::Measurement;
use crate::server::tree::{self, ProcessStat};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::fs;

/// A kernel stack (`THREAD_SIZE`), where it is known.
const KERNEL_STACK_BYTES: Option<u64> =
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) { Some(16 * 1024) } else { None };

/// The memory of a server now, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// User memory of the tree, shared pages in proportion (PSS, `/proc/PID/smaps_rollup`).
    pub user: Measurement<u64>,
    /// What of it lies in no file (`Pss_Anon` there, Linux 5.4): what a server adds to as it works. The rest moves
    /// with the number of processes that happen to run the same program, the harness itself among them.
    pub(crate) anonymous: Measurement<u64>,
    /// The stacks of its threads in the kernel: a fixed size each.
    pub kernel_stacks: Measurement<u64>,
    /// Its page tables (`VmPTE`).
    pub page_tables: Measurement<u64>,
    /// Buffers of TCP sockets, of the whole machine, since before the start (`/proc/net/sockstat`).
    pub socket_buffers: Measurement<i64>,
    /// The kernel's objects that can't be reclaimed, sockets among them, of the whole machine, since before
    /// the start (`SUnreclaim`).
    pub slabs: Measurement<i64>,
}

/// What is only known for the whole machine, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    socket_buffers: Measurement<u64>,
    slabs: Measurement<u64>,
}

impl Machine {
    pub(crate) fn now() -> Machine {
        let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let sockets = file("/proc/net/sockstat").and_then(|text| {
            let pages = tcp_pages(&text).ok_or("/proc/net/sockstat doesn't tell the memory of TCP")?;
            Ok(pages * page_bytes)
        });
        let slabs = file("/proc/meminfo").and_then(|text| kibibytes(&text, "SUnreclaim:"));
        Machine { socket_buffers: sockets, slabs }
    }
}

impl Memory {
    /// Of `root` and all that descend from it; `before` was read before it was started.
    pub(crate) fn of(root: Pid, before: &Machine) -> Memory {
        let now = Machine::now();
        let tree = tree::of(root);
        let sum = |what: &str, field: &str| -> Measurement<u64> {
            let one = |pid: &Pid| file(&format!("/proc/{}/{what}", pid.as_raw_nonzero()));
            tree.iter().map(|pid| kibibytes(&one(pid)?, field)).sum()
        };
        let threads: u64 =
            tree.iter().filter_map(|pid| ProcessStat::of(*pid)).map(|account| account.threads).sum();
        let stack = KERNEL_STACK_BYTES.ok_or("the size of a kernel stack isn't known for this processor");
        Memory {
            user: sum("smaps_rollup", "Pss:"),
            anonymous: sum("smaps_rollup", "Pss_Anon:"),
            kernel_stacks: stack.map(|bytes| threads * bytes).map_err(str::to_owned),
            page_tables: sum("status", "VmPTE:"),
            socket_buffers: difference(&now.socket_buffers, &before.socket_buffers),
            slabs: difference(&now.slabs, &before.slabs),
        }
    }
}

fn difference(now: &Measurement<u64>, before: &Measurement<u64>) -> Measurement<i64> {
    let (now, before) = (now.clone()?, before.clone()?);
    i64::try_from(i128::from(now) - i128::from(before)).map_err(|error| error.to_string())
}

fn file(path: &str) -> Measurement<String> {
    fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"))
}

/// The field of a line "Name:   12 kB", in bytes.
fn kibibytes(text: &str, name: &str) -> Measurement<u64> {
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok());
    value.map(|kibibytes: u64| kibibytes * 1024).ok_or_else(|| format!("the kernel doesn't tell {name}"))
}

/// "TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 1": pages.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_formats() {
        assert_eq!(kibibytes("Rss:  9 kB\nPss:    12 kB\n", "Pss:"), Ok(12 * 1024));
        assert!(kibibytes("Pss_Anon: 1 kB\n", "Pss:").is_err());
        assert_eq!(
            tcp_pages("sockets: used 1\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 13\nUDP: mem 2\n"),
            Some(13)
        );
        assert_eq!(tcp_pages("UDP: inuse 0 mem 2\n"), None);
    }

    #[test]
    fn this_process_takes_some() {
        let memory = Memory::of(rustix::process::getpid(), &Machine::now());
        let user = memory.user.unwrap();
        assert!(user > 100 * 1024);
        assert!(memory.anonymous.is_ok_and(|anonymous| (1..=user).contains(&anonymous)));
        assert!(memory.page_tables.unwrap() > 0);
        assert!(memory.kernel_stacks.is_ok_and(|bytes| bytes >= 16 * 1024) || KERNEL_STACK_BYTES.is_none());
    }
}

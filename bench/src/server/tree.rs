//! The processes of a server: the one that was started, its children, and theirs.
//!
//! Read from `/proc/PID/stat` (proc_pid_stat(5)): the parent's number there is the only link that needs
//! neither permission nor a configured kernel.

use crate::failure::{Failure, Result};
use crate::server::cpu_time::CpuClock;
use rustix::process::Pid;
use std::fs;
use std::time::Duration;

/// What the kernel has on account for a process, threads that have ended included, and for its children that
/// have ended and were waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    pub(crate) parent: i32,
    /// User and system time, in clock ticks; divided by where the timer interrupt found the process.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    /// Children that are gone, user and system.
    pub(crate) gone_ticks: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) gone_minor_faults: u64,
    pub(crate) gone_major_faults: u64,
    pub(crate) threads: u64,
}

impl ProcessStat {
    /// Of process `pid`; `None` when it is gone.
    pub(crate) fn of(pid: Pid) -> Option<ProcessStat> {
        parse(&fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
    }
}

fn parse(stat: &str) -> Option<ProcessStat> {
    // The name is in parentheses, and may contain more of them.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // The manual counts from 1, and the field behind the name is its third.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(ProcessStat {
        parent: fields.get(1)?.parse().ok()?,
        minor_faults: field(10)?,
        gone_minor_faults: field(11)?,
        major_faults: field(12)?,
        gone_major_faults: field(13)?,
        user_ticks: field(14)?,
        system_ticks: field(15)?,
        gone_ticks: field(16)? + field(17)?,
        threads: field(20)?,
    })
}

/// The process `root` and all that descend from it, parents before their children.
pub(crate) fn of(root: Pid) -> Vec<Pid> {
    let mut links = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| Pid::from_raw(name.parse().ok()?));
        if let Some(pid) = pid
            && let Some(account) = ProcessStat::of(pid)
        {
            links.push((account.parent, pid));
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(parent) = tree.get(next).copied() {
        next += 1;
        let children = links.iter().filter(|(link, _)| *link == parent.as_raw_nonzero().get());
        tree.extend(children.map(|(_, child)| *child));
    }
    tree
}

/// Bytes that process `pid` has had read from block devices; `None` where that may not be known.
pub(crate) fn device_reads(pid: Pid) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{}/io", pid.as_raw_nonzero())).ok()?;
    io.lines().find_map(|line| line.strip_prefix("read_bytes:"))?.trim().parse().ok()
}

/// The CPU time of processes that live, to the nanosecond, at a moment at which none of them does anything:
/// waits until two readings of all their clocks agree. A child that ends meanwhile is left out.
pub(crate) fn settled_cpu(tree: &[Pid]) -> Result<Duration> {
    let root = tree.first().ok_or_else(|| Failure::new("a server without a process"))?;
    let root = CpuClock::of(*root)?;
    let children: Vec<CpuClock> = tree[1..].iter().filter_map(|child| CpuClock::of(*child).ok()).collect();
    CpuClock::settle(|| {
        let children: Duration = children.iter().filter_map(|child| child.now().ok()).sum();
        Ok(root.now()? + children)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn the_fields_are_where_the_manual_says() {
        let stat = "7 (a) b) S 3 7 7 0 -1 4194304 11 12 13 14 15 16 17 18 20 0 5 0 99 1000 10 0";
        let expected = ProcessStat {
            parent: 3,
            minor_faults: 11,
            gone_minor_faults: 12,
            major_faults: 13,
            gone_major_faults: 14,
            user_ticks: 15,
            system_ticks: 16,
            gone_ticks: 17 + 18,
            threads: 5,
        };
        assert_eq!(parse(stat), Some(expected));
        assert_eq!(parse("7 (a) S 3"), None);
        assert!(ProcessStat::of(rustix::process::getpid()).unwrap().threads >= 1);
    }

    #[test]
    fn grandchildren_belong_to_it() {
        let mut child = Command::new("sh")
            .args(["-c", "sh -c 'sleep 60 & echo $!; wait' & wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let tree = of(Pid::from_child(&child));
        assert_eq!(tree[0], Pid::from_child(&child));
        assert!(tree.contains(&grandchild), "{tree:?}");
        for pid in tree.into_iter().rev() {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        child.wait().unwrap();
    }
}

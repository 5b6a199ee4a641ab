//! Which CPU does what: server and client apart, and the proof of it.

use crate::failure::{Failure, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Where the two sides of a measurement run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The one CPU of the server, all its threads and kernel workers.
    pub server: usize,
    /// The one CPU of the client and of the rest of the harness.
    pub client: usize,
    pub(crate) distance: Distance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Distance {
    /// Cores of their own, below one last-level cache.
    Cores,
    /// Cores of their own, nothing in common.
    Packages,
    /// Two hyper-threads of one core: each slows the other down.
    HyperThreads,
    /// The same CPU, because there is no other: the client's work delays the server's.
    Same,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.distance {
            Distance::Same => write!(f, "server and client share CPU {}", self.server),
            Distance::HyperThreads | Distance::Cores | Distance::Packages => {
                write!(f, "server on CPU {}, client on CPU {}", self.server, self.client)
            }
        }
    }
}

/// A thread of a process, a kernel worker among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its name (`comm`).
    pub(crate) name: String,
    /// Where it may run, as the kernel writes it ("1", "0-3").
    pub(crate) cpus: String,
}

impl Placement {
    /// Chooses from the CPUs that this process may use: the server gets the last one, because interrupts
    /// prefer the first; the client the nearest that is a core of its own.
    pub fn choose() -> Result<Placement> {
        let topology = Path::new("/sys/devices/system/cpu");
        choose_among(&allowed_cpus()?, |a, b| distance(topology, a, b))
            .ok_or_else(|| Failure::new("this process may run on no CPU"))
    }

    /// Whether server and client share nothing that makes one slow the other down.
    pub(crate) fn is_apart(self) -> bool {
        self.distance <= Distance::Packages
    }
}

/// The last CPU for the server, the nearest other one for the client.
fn choose_among(cpus: &[usize], distance: impl Fn(usize, usize) -> Distance) -> Option<Placement> {
    let server = *cpus.last()?;
    let client = cpus.iter().copied().min_by_key(|cpu| distance(server, *cpu))?;
    Some(Placement { server, client, distance: distance(server, client) })
}

fn distance(topology: &Path, a: usize, b: usize) -> Distance {
    let shares = |list: &str| {
        let path = topology.join(format!("cpu{a}")).join(list);
        fs::read_to_string(path).is_ok_and(|list| parse_cpus(&list).contains(&b))
    };
    if a == b {
        Distance::Same
    } else if shares("topology/thread_siblings_list") {
        Distance::HyperThreads
    } else if shares("cache/index3/shared_cpu_list") {
        Distance::Cores
    } else {
        Distance::Packages
    }
}

/// The CPUs that this thread may use, lowest first.
pub(crate) fn allowed_cpus() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None).map_err(Failure::context("read the CPU affinity"))?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect())
}

/// How many CPUs the machine has running, whether or not this process may use them; 1 where the kernel
/// doesn't say.
pub(crate) fn online() -> usize {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    count_cpus(&list)
}

/// How many CPUs a list in the kernel's format names; 1 where it is empty.
pub(crate) fn count_cpus(list: &str) -> usize {
    parse_cpus(list).len().max(1)
}

/// Reads the kernel's list format: "0-2,5".
fn parse_cpus(list: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend(first..=last);
        }
    }
    cpus
}

/// Where this process might run before it was pinned.
static BEFORE: OnceLock<CpuSet> = OnceLock::new();

/// Lets this thread, and those that it will start, run on `cpu` alone.
pub fn pin(cpu: usize) -> Result<()> {
    if let Ok(before) = sched_getaffinity(None) {
        BEFORE.get_or_init(|| before);
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(Failure::context(format!("pin to CPU {cpu}")))
}

/// Lets the calling thread run where this process might before it was pinned, and says on how many CPUs that is.
pub(crate) fn unpin() -> Result<usize> {
    let set = match BEFORE.get() {
        Some(before) => {
            sched_setaffinity(None, before).map_err(Failure::context("let a thread leave its CPU"))?;
            *before
        }
        None => sched_getaffinity(None).map_err(Failure::context("ask for the CPUs of this process"))?,
    };
    Ok(usize::try_from(set.count()).unwrap_or(1))
}

/// The threads of a process now, in the order of their numbers. `iou-wrk-*` are threads of the process that
/// owns the ring.
pub(crate) fn threads_of(pid: Pid) -> Result<Vec<Thread>> {
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    let entries = fs::read_dir(&tasks).map_err(Failure::context(format!("read {tasks}")))?;
    let mut threads = Vec::new();
    for entry in entries.flatten() {
        // A thread that ends meanwhile has no status any more; it isn't there now.
        if let Ok(status) = fs::read_to_string(entry.path().join("status")) {
            threads.push(parse_thread(&status));
        }
    }
    Ok(threads)
}

fn parse_thread(status: &str) -> Thread {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    Thread { name: field("Name:"), cpus: field("Cpus_allowed_list:") }
}

impl Thread {
    /// Whether it can run nowhere but on `cpu`.
    pub fn is_pinned_to(&self, cpu: usize) -> bool {
        parse_cpus(&self.cpus) == [cpu]
    }

    /// Whether it is a worker of the kernel for ring operations that block.
    pub(crate) fn is_ring_worker(&self) -> bool {
        self.name.starts_with("iou-wrk")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Distance::{Cores, HyperThreads, Packages, Same};

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse_cpus("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(parse_cpus("1"), [1]);
        assert_eq!(parse_cpus(""), Vec::<usize>::new());
    }

    #[test]
    fn nearest_core_of_its_own() {
        // Eight CPUs: siblings are n and n + 4; two packages of two cores.
        let near = |a: usize, b: usize| match (a == b, a % 4 == b % 4, a % 4 / 2 == b % 4 / 2) {
            (true, _, _) => Same,
            (_, true, _) => HyperThreads,
            (_, _, true) => Cores,
            _ => Packages,
        };
        let whole: Vec<usize> = (0..8).collect();
        let table: [(&[usize], usize, usize, Distance); 4] = [
            (&whole, 7, 2, Cores),
            (&[0, 3, 7], 7, 0, Packages),
            (&[3, 7], 7, 3, HyperThreads),
            (&[5], 5, 5, Same),
        ];
        for (cpus, server, client, distance) in table {
            assert_eq!(choose_among(cpus, near), Some(Placement { server, client, distance }));
        }
        assert_eq!(choose_among(&[], near), None);
    }

    #[test]
    fn as_many_cpus_as_this_process_may_use_are_online() {
        let allowed = sched_getaffinity(None).unwrap();
        assert!(online() >= usize::try_from(allowed.count()).unwrap());
    }

    #[test]
    fn threads_of_this_process() {
        let threads = threads_of(rustix::process::getpid()).unwrap();
        assert!(!threads.is_empty());
        assert!(threads.iter().all(|thread| !thread.name.is_empty() && !thread.cpus.is_empty()));
    }

    #[test]
    fn a_pinned_thread_shows_it() {
        let status = "Name:\tiou-wrk-7\nUmask:\t0022\nCpus_allowed:\t2\nCpus_allowed_list:\t1\n";
        let thread = parse_thread(status);
        assert!(thread.is_ring_worker() && thread.is_pinned_to(1) && !thread.is_pinned_to(0));
    }
}

//! Which CPU does what: server and client apart, and the proof of it.
//!
//! A server gets a CPU for each of its workers, mostly one, and its client as many, if there are so many; CPUs of one
//! core are on one side. Where the load comes from other machines, all CPUs can be the server's.

use crate::failure::{Failure, Result};
use crate::machine::cpus::{Cpus, parse_list};
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
    /// The CPUs of the server, all its threads and kernel workers: one for each of its workers.
    pub server: Cpus,
    /// The CPUs of the client, one for each of its threads. The rest of the harness is on the first of them.
    pub client: Cpus,
    pub(crate) distance: Distance,
}

/// What server and client have in common, where they are nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Distance {
    /// The client is on other machines; here is only the rest of the harness, which sleeps meanwhile.
    Machines,
    /// Cores of their own, below one last-level cache.
    Cores,
    /// Cores of their own, nothing in common.
    Packages,
    /// Two hyper-threads of one core: each slows the other down.
    HyperThreads,
    /// The same CPU: the client's work delays the server's.
    Same,
}

/// Where the load comes from, as far as it decides what a server can get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadFrom {
    /// This machine, on CPUs that the server doesn't have.
    Here,
    /// This machine. A server with more workers than that leaves CPUs for shares them with the client.
    HereShared,
    /// Other machines.
    Elsewhere,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, client) = (self.server.named(), self.client.named());
        match self.distance {
            Distance::Machines => write!(f, "server on {server}, load from other machines"),
            Distance::Same if self.server == self.client => write!(f, "server and client share {server}"),
            Distance::Same => write!(f, "server on {server}, and the client shares {client}"),
            Distance::HyperThreads | Distance::Cores | Distance::Packages => {
                write!(f, "server on {server}, client on {client}")
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
    /// Chooses from the CPUs that this process may use, for a server with one worker: it gets the last one, because
    /// interrupts prefer the first; the client the nearest that is a core of its own.
    ///
    /// # Errors
    ///
    /// The kernel doesn't say which CPUs this process may use.
    pub fn choose() -> Result<Placement> {
        Topology::look()?
            .place(1, LoadFrom::Here)
            .ok_or_else(|| Failure::new("this process may run on no CPU"))
    }

    /// Whether server and client share nothing that makes one slow the other down.
    pub(crate) fn is_apart(self) -> bool {
        self.distance <= Distance::Packages
    }

    /// The CPUs whose time a measurement accounts for.
    pub(crate) fn measured(self) -> Cpus {
        if self.distance == Distance::Machines { self.server } else { self.server.and(self.client) }
    }
}

/// The CPUs that there are to give.
#[derive(Clone, Debug)]
pub struct Topology {
    /// By core, and in it the threads by their numbers; the cores by the highest of these.
    cores: Vec<Vec<usize>>,
    /// How near two cores are, by the first thread of each, in the same order.
    distances: Vec<Vec<Distance>>,
}

impl Topology {
    /// What this process may use.
    ///
    /// # Errors
    ///
    /// The kernel doesn't say.
    pub fn look() -> Result<Topology> {
        let topology = Path::new("/sys/devices/system/cpu");
        Ok(Topology::new(&allowed_cpus()?, |a, b| distance(topology, a, b)))
    }

    fn new(cpus: &[usize], distance: impl Fn(usize, usize) -> Distance) -> Topology {
        let mut cores: Vec<Vec<usize>> = Vec::new();
        for cpu in cpus {
            match cores.iter_mut().find(|core| distance(core[0], *cpu) == Distance::HyperThreads) {
                Some(core) => core.push(*cpu),
                None => cores.push(vec![*cpu]),
            }
        }
        cores.sort_by_key(|core| core.last().copied());
        let row = |a: &Vec<usize>| cores.iter().map(|b| distance(a[0], b[0])).collect();
        let distances = cores.iter().map(row).collect();
        Topology { cores, distances }
    }

    fn count(&self) -> usize {
        self.cores.iter().map(Vec::len).sum()
    }

    /// The most workers that a server can have here.
    pub fn workers_max(&self, load: LoadFrom) -> usize {
        match load {
            LoadFrom::Here => self.count().saturating_sub(1).max(1),
            LoadFrom::HereShared | LoadFrom::Elsewhere => self.count().max(1),
        }
    }

    /// CPUs for a server with so many workers and for its client; `None` if there aren't so many.
    pub fn place(&self, workers: usize, load: LoadFrom) -> Option<Placement> {
        if workers == 0 || workers > self.workers_max(load) {
            return None;
        }
        // The client keeps a core, if there are two.
        let kept = usize::from(load != LoadFrom::Elsewhere).min(self.cores.len().saturating_sub(1));
        let order: Vec<usize> = self.server_order(kept).take(workers).collect();
        let server = Cpus::of(order)?;
        if load == LoadFrom::Elsewhere {
            let free = self.cores.iter().flatten().find(|cpu| !server.contains(**cpu));
            let client = Cpus::one(free.copied().unwrap_or(server.first()));
            return Some(Placement { server, client, distance: Distance::Machines });
        }
        let client = self.clients_of(server, workers)?;
        Some(Placement { server, client, distance: self.nearest(server, client) })
    }

    /// The CPUs as a server gets them: from the last core down, leaving out the first `kept` ones, a thread of each, then
    /// another thread of each; what is left comes last, from the other end, where the client would begin.
    fn server_order(&self, kept: usize) -> impl Iterator<Item = usize> {
        let of_layer = |cores: &[Vec<usize>], layer: usize| {
            let nth = |core: &Vec<usize>| core.len().checked_sub(layer + 1).map(|nth| core[nth]);
            cores.iter().rev().filter_map(nth).collect::<Vec<_>>()
        };
        let layers = self.cores.iter().map(Vec::len).max().unwrap_or_default();
        let (client, server) = self.cores.split_at(kept);
        let cpus =
            |cores: &[Vec<usize>]| (0..layers).flat_map(|layer| of_layer(cores, layer)).collect::<Vec<_>>();
        cpus(server).into_iter().chain(cpus(client))
    }

    /// As many CPUs as the server has, if there are, on cores that it has none of, the nearest first, a thread of each
    /// before another of any. Without such a core one CPU: a free one, or else the first of all, which is then shared.
    fn clients_of(&self, server: Cpus, workers: usize) -> Option<Cpus> {
        let is_servers = |core: &Vec<usize>| core.iter().any(|cpu| server.contains(*cpu));
        let first = self.cores.iter().rposition(is_servers)?;
        let mut free: Vec<(usize, Distance, usize)> = Vec::new();
        for (number, core) in self.cores.iter().enumerate().filter(|(_, core)| !is_servers(core)) {
            let near = self.distances[first][number];
            free.extend(core.iter().enumerate().map(|(layer, cpu)| (layer, near, *cpu)));
        }
        free.sort_unstable();
        let apart = Cpus::of(free.into_iter().map(|(_, _, cpu)| cpu).take(workers));
        let mut all: Vec<usize> = self.cores.iter().flatten().copied().collect();
        all.sort_unstable();
        let beside = all.iter().copied().find(|cpu| !server.contains(*cpu)).or(all.first().copied());
        apart.or(beside.map(Cpus::one))
    }

    fn nearest(&self, server: Cpus, client: Cpus) -> Distance {
        let core_of = |cpu: usize| self.cores.iter().position(|core| core.contains(&cpu));
        let between = |a: usize, b: usize| match (core_of(a), core_of(b)) {
            _ if a == b => Distance::Same,
            (Some(a), Some(b)) if a == b => Distance::HyperThreads,
            (Some(a), Some(b)) => self.distances[a][b],
            _ => Distance::Packages,
        };
        let pairs = server.iter().flat_map(|a| client.iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| between(a, b)).max().unwrap_or(Distance::Same)
    }
}

fn distance(topology: &Path, a: usize, b: usize) -> Distance {
    let shares = |list: &str| {
        let path = topology.join(format!("cpu{a}")).join(list);
        fs::read_to_string(path).is_ok_and(|list| parse_list(&list).contains(&b))
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
    parse_list(list).len().max(1)
}

/// Where this process might run before it was pinned.
static BEFORE: OnceLock<CpuSet> = OnceLock::new();

/// Lets this thread, and those that it will start, run on `cpu` alone.
///
/// # Errors
///
/// This process may not use it.
pub fn pin(cpu: usize) -> Result<()> {
    confine(Cpus::of([cpu]).ok_or_else(|| Failure::new(format!("pin to CPU {cpu}: no CPU has this number")))?)
}

/// Lets this thread, and those that it will start, run on these CPUs alone.
pub(crate) fn confine(cpus: Cpus) -> Result<()> {
    if let Ok(before) = sched_getaffinity(None) {
        BEFORE.get_or_init(|| before);
    }
    sched_setaffinity(None, &cpus.set()).map_err(Failure::context(format!("pin to {}", cpus.named())))
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
    /// Whether it can run nowhere but on these CPUs. A thread may be bound to some of them.
    pub fn is_pinned_to(&self, cpus: Cpus) -> bool {
        Cpus::of(parse_list(&self.cpus)).is_some_and(|its| its.iter().all(|cpu| cpus.contains(cpu)))
    }

    /// Whether it is a worker of the kernel for ring operations that block.
    pub(crate) fn is_ring_worker(&self) -> bool {
        self.name.starts_with("iou-wrk")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Distance::{Cores, HyperThreads, Machines, Packages, Same};

    /// So many cores with so many threads each, numbered as Linux does, siblings far apart, below two caches.
    fn machine(cores: usize, threads: usize) -> Topology {
        let near = move |a: usize, b: usize| match (a == b, a % cores == b % cores) {
            (true, _) => Same,
            (_, true) => HyperThreads,
            _ if (a % cores < cores / 2) == (b % cores < cores / 2) => Cores,
            _ => Packages,
        };
        Topology::new(&(0..cores * threads).collect::<Vec<_>>(), near)
    }

    fn placed(topology: &Topology, workers: usize, load: LoadFrom) -> Option<(String, String, Distance)> {
        let Placement { server, client, distance } = topology.place(workers, load)?;
        assert_eq!(server.count(), workers, "a CPU for each worker");
        Some((server.to_string(), client.to_string(), distance))
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
            let placement = Topology::new(cpus, near).place(1, LoadFrom::Here);
            let (server, client) = (Cpus::one(server), Cpus::one(client));
            assert_eq!(placement, Some(Placement { server, client, distance }));
        }
        assert_eq!(Topology::new(&[], near).place(1, LoadFrom::Here), None);
    }

    #[test]
    fn a_server_gets_a_cpu_for_each_worker_and_the_client_the_rest() {
        use LoadFrom::{Elsewhere, Here, HereShared};
        type Sides = Option<(&'static str, &'static str, Distance)>;
        let (one, two, four, many) = (machine(1, 1), machine(2, 1), machine(4, 1), machine(32, 2));
        let table: [(&str, &Topology, usize, LoadFrom, Sides); 19] = [
            ("1 CPU", &one, 1, Here, Some(("0", "0", Same))),
            ("1 CPU", &one, 2, Here, None),
            ("1 CPU", &one, 2, HereShared, None),
            ("1 CPU", &one, 1, Elsewhere, Some(("0", "0", Machines))),
            ("2 CPUs", &two, 1, Here, Some(("1", "0", Packages))),
            ("2 CPUs", &two, 2, Here, None),
            ("2 CPUs", &two, 1, HereShared, Some(("1", "0", Packages))),
            ("2 CPUs", &two, 2, HereShared, Some(("0-1", "0", Same))),
            ("2 CPUs", &two, 2, Elsewhere, Some(("0-1", "0", Machines))),
            ("4 CPUs", &four, 1, Here, Some(("3", "2", Cores))),
            ("4 CPUs", &four, 2, Here, Some(("2-3", "0-1", Packages))),
            ("4 CPUs", &four, 3, Here, Some(("1-3", "0", Packages))),
            ("4 CPUs", &four, 3, Elsewhere, Some(("1-3", "0", Machines))),
            ("4 CPUs", &four, 4, HereShared, Some(("0-3", "0", Same))),
            ("64 CPUs", &many, 1, Here, Some(("63", "16", Cores))),
            ("64 CPUs", &many, 16, Here, Some(("48-63", "0-15", Packages))),
            // More than half of the cores: what is left is the client's.
            ("64 CPUs", &many, 31, Here, Some(("33-63", "0,32", Packages))),
            ("64 CPUs", &many, 62, Here, Some(("1-31,33-63", "0,32", Packages))),
            ("64 CPUs", &many, 63, Here, Some(("1-63", "0", HyperThreads))),
        ];
        for (name, topology, workers, load, expected) in table {
            let expected =
                expected.map(|(server, client, distance)| (server.to_owned(), client.to_owned(), distance));
            assert_eq!(placed(topology, workers, load), expected, "{name}, {workers} workers, {load:?}");
        }
        let most = |topology: &Topology| [Here, HereShared, Elsewhere].map(|load| topology.workers_max(load));
        assert_eq!([most(&one), most(&two), most(&four)], [[1, 1, 1], [1, 2, 2], [3, 4, 4]]);
        assert_eq!(most(&many), [63, 64, 64]);
    }

    /// Whatever the machine: no CPU on both sides, no core on both sides as long as there is another.
    #[test]
    fn both_sides_are_apart_as_long_as_the_machine_allows() {
        for (cores, threads) in [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (3, 4), (32, 2), (64, 1)] {
            let topology = machine(cores, threads);
            for workers in 1..=topology.workers_max(LoadFrom::Here) {
                let placement = topology.place(workers, LoadFrom::Here).unwrap();
                let is_shared = placement.server.iter().any(|cpu| placement.client.contains(cpu));
                assert_eq!(is_shared, cores * threads == 1, "{cores}×{threads}, {workers}: {placement}");
                let fits = workers <= (cores - 1) * threads;
                assert_eq!(placement.is_apart(), fits, "{cores}×{threads}, {workers}: {placement}");
                assert!(placement.client.count() <= workers, "{placement}");
            }
        }
    }

    #[test]
    fn placements_are_told_and_records_of_one_cpu_read_on() {
        let told = |workers, load| machine(4, 1).place(workers, load).unwrap().to_string();
        assert_eq!(told(1, LoadFrom::Here), "server on CPU 3, client on CPU 2");
        assert_eq!(told(2, LoadFrom::Here), "server on CPUs 2-3, client on CPUs 0-1");
        assert_eq!(told(4, LoadFrom::HereShared), "server on CPUs 0-3, and the client shares CPU 0");
        assert_eq!(told(4, LoadFrom::Elsewhere), "server on CPUs 0-3, load from other machines");
        let alone = machine(1, 1).place(1, LoadFrom::Here).unwrap();
        assert_eq!(alone.to_string(), "server and client share CPU 0");
        let older = r#"{"server":1,"client":0,"distance":"cores"}"#;
        let placement: Placement = serde_json::from_str(older).unwrap();
        assert_eq!(placement, Placement { server: Cpus::one(1), client: Cpus::one(0), distance: Cores });
        assert_eq!(serde_json::to_string(&placement).unwrap(), older);
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
        assert!(thread.is_ring_worker());
        assert!(thread.is_pinned_to(Cpus::one(1)) && !thread.is_pinned_to(Cpus::one(0)));
        let several = Cpus::of([1, 2]).unwrap();
        assert!(thread.is_pinned_to(several), "bound to one of them");
        let wide = Thread { cpus: "1-3".to_owned(), ..thread.clone() };
        let lost = Thread { cpus: String::new(), ..thread };
        assert!(!wide.is_pinned_to(several) && !lost.is_pinned_to(several));
    }
}

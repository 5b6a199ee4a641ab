//! What a server's process tree asks of the kernel: system calls by name, ring operations, context switches.
//!
//! The counters are those of perf_event_open(2), attached before the server begins and inherited by threads
//! and children. They cost time whenever they count and at each context switch, so they have a pass of their
//! own ([`Counting::Calls`]). It needs `CAP_PERFMON` or a low `kernel.perf_event_paranoid`, and a readable
//! tracefs for tracepoints.
//!
//! Every thread has a copy of every counter, about 1 KiB each: a thousand threads take 50 MB of kernel
//! memory.

use perf_event::events::{Event, Software, Tracepoint};
use perf_event::{Builder, Counter};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What was read, or why it can't be on this machine.
pub(crate) type Measurement<T> = Result<T, String>;

/// What is counted while a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    /// Nothing that the kernel doesn't count anyway: for every trial whose times matter.
    Cost,
    /// System calls, ring operations, switches: a pass of its own, because it taxes what it counts.
    Calls,
}

/// System calls that file servers make. All others are counted together.
const NAMES: &str = "\
    accept accept4 clone clone3 close epoll_ctl epoll_pwait epoll_pwait2 epoll_wait fadvise64 fcntl fstat futex \
    getdents64 getsockname io_getevents io_submit io_uring_enter lseek madvise mmap munmap nanosleep \
    newfstatat openat openat2 poll ppoll pread64 preadv2 pselect6 read readlink readv recvfrom recvmsg select \
    sendfile64 sendmsg sendto setsockopt shutdown splice statx tgkill write writev";

/// Where tracefs is mounted, by itself or below debugfs.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// What the whole tree has asked for since it was started; by subtraction, between two readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// System calls by name, without those that were never made; those that have no counter of their own are "other".
    pub by_name: Measurement<BTreeMap<String, u64>>,
    /// All system calls.
    pub total: Measurement<u64>,
    /// Entries that rings have taken (`io_uring_submit_req`).
    pub ring_submissions: Measurement<u64>,
    /// Completions that rings have posted (`io_uring_complete`).
    pub ring_completions: Measurement<u64>,
    /// Ring operations that went to a kernel worker, because they would have had to wait (`io_uring_queue_async_work`).
    pub ring_punts: Measurement<u64>,
    /// Context switches away from a thread of the tree, voluntary or not.
    pub context_switches: Measurement<u64>,
    /// CPU time by these counters. Above the clocks of `Cost` by what the counters
    /// themselves cost at each context switch, which the clocks put down to nobody: the size of the tax.
    pub task_clock: Measurement<Duration>,
}

/// Whether this machine counts everything that [`Calls`] has.
///
/// # Errors
///
/// What is missing, and what to do about it.
pub fn available() -> Measurement<()> {
    let Calls {
        by_name,
        total,
        ring_submissions,
        ring_completions,
        ring_punts,
        context_switches,
        task_clock,
    } = Counters::attach(rustix::process::getpid()).read();
    context_switches.and(total).and(ring_submissions).and(ring_completions).and(ring_punts)?;
    by_name.and(task_clock).map(drop)
}

/// The counters, attached to a process and all that will descend from it.
pub(crate) struct Counters {
    by_name: Measurement<Vec<(&'static str, Counter)>>,
    total: Measurement<Counter>,
    ring_submissions: Measurement<Counter>,
    ring_completions: Measurement<Counter>,
    ring_punts: Measurement<Counter>,
    context_switches: Measurement<Counter>,
    task_clock: Measurement<Counter>,
}

impl Counters {
    /// Attaches all that this machine has to process `pid`, which has one thread yet.
    pub(crate) fn attach(pid: Pid) -> Counters {
        let ring = |name: &str| tracepoint(pid, &format!("io_uring/{name}"));
        Counters {
            by_name: named(pid),
            total: tracepoint(pid, "raw_syscalls/sys_enter"),
            ring_submissions: ring("io_uring_submit_req"),
            ring_completions: ring("io_uring_complete"),
            ring_punts: ring("io_uring_queue_async_work"),
            context_switches: counter(pid, Software::CONTEXT_SWITCHES),
            task_clock: counter(pid, Software::TASK_CLOCK),
        }
    }

    /// Attaches nothing: every reading says why.
    pub(crate) fn none() -> Counters {
        fn off<T>() -> Measurement<T> {
            Err("not counted beside a measurement of cost: it would tax it".to_owned())
        }
        Counters {
            by_name: off(),
            total: off(),
            ring_submissions: off(),
            ring_completions: off(),
            ring_punts: off(),
            context_switches: off(),
            task_clock: off(),
        }
    }

    pub(crate) fn read(&mut self) -> Calls {
        let counts = self.by_name.as_mut().map_err(|reason| reason.clone()).and_then(|counters| {
            let mut counts = BTreeMap::new();
            for (name, counter) in counters {
                counts.insert((*name).to_owned(), counter.read().map_err(|error| error.to_string())?);
            }
            Ok(counts)
        });
        // Last, since calls go on meanwhile: what has a name is then never more than all there are.
        let total = read(&mut self.total);
        let by_name = counts.and_then(|mut counts| {
            let known: u64 = counts.values().sum();
            counts.insert("other".to_owned(), total.clone()?.saturating_sub(known));
            counts.retain(|_, count| *count > 0);
            Ok(counts)
        });
        Calls {
            by_name,
            total,
            ring_submissions: read(&mut self.ring_submissions),
            ring_completions: read(&mut self.ring_completions),
            ring_punts: read(&mut self.ring_punts),
            context_switches: read(&mut self.context_switches),
            task_clock: read(&mut self.task_clock).map(Duration::from_nanos),
        }
    }
}

/// The tracepoints of a counting pass, which stay in place from one server to the next. When the last counter of a
/// tracepoint is closed the kernel waits until no CPU can be in it any more, for one after the other: nearly two
/// seconds for all of them. While they stay, every system call of the machine pays for them, so nothing may be timed.
pub(crate) struct Tracepoints {
    _counters: Vec<Counter>,
}

impl Tracepoints {
    /// Puts those in place that this machine has: by counters of this very process, which are off and aren't inherited.
    pub(crate) fn keep() -> Tracepoints {
        let rings = ["io_uring_submit_req", "io_uring_complete", "io_uring_queue_async_work"];
        let rings = rings.into_iter().map(|name| format!("io_uring/{name}"));
        let calls = names().map(tracepoint_of);
        let names = rings.chain(calls).chain(["raw_syscalls/sys_enter".to_owned()]);
        let counter = |name: String| {
            let event = Tracepoint::with_id(tracepoint_id(&name).ok()?);
            Builder::new(event).observe_self().any_cpu().include_kernel().enabled(false).build().ok()
        };
        Tracepoints { _counters: names.filter_map(counter).collect() }
    }
}

fn read(counter: &mut Measurement<Counter>) -> Measurement<u64> {
    counter.as_mut().map_err(|reason| reason.clone())?.read().map_err(|error| error.to_string())
}

fn counter(pid: Pid, event: impl Event) -> Measurement<Counter> {
    Builder::new(event)
        .observe_pid(pid.as_raw_nonzero().get())
        .any_cpu()
        .inherit(true)
        .include_kernel()
        .include_hv()
        .enabled(true)
        .build()
        .map_err(|error| refused(&error))
}

fn refused(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "perf_event_open(2) is forbidden; run as root, or set kernel.perf_event_paranoid to -1".to_owned()
        }
        _ => format!("perf_event_open(2): {error}"),
    }
}

fn tracepoint(pid: Pid, name: &str) -> Measurement<Counter> {
    counter(pid, Tracepoint::with_id(tracepoint_id(name)?))
}

fn tracepoint_id(name: &str) -> Measurement<u64> {
    let folders = TRACEFS.map(|folder| Path::new(folder).join("events"));
    let Some(events) = folders.iter().find(|events| events.is_dir()) else {
        return Err(format!(
            "tracefs isn't mounted, or can't be read; as root: mount -t tracefs tracefs {}",
            TRACEFS[0]
        ));
    };
    let id = fs::read_to_string(events.join(name).join("id"));
    let id = id.map_err(|error| format!("the tracepoint {name}: {error}"))?;
    id.trim().parse().map_err(|_| format!("the tracepoint {name} has no number"))
}

fn names() -> impl Iterator<Item = &'static str> {
    NAMES.split_ascii_whitespace()
}

/// A counter for each of [`NAMES`] that this kernel and this processor have.
fn named(pid: Pid) -> Measurement<Vec<(&'static str, Counter)>> {
    // Without it there are none, and the reason should say so.
    tracepoint_id("raw_syscalls/sys_enter")?;
    let mut counters = Vec::new();
    for name in names() {
        if let Ok(id) = tracepoint_id(&tracepoint_of(name)) {
            counters.push((name, counter(pid, Tracepoint::with_id(id))?));
        }
    }
    if counters.is_empty() {
        return Err("this kernel has no tracepoints for system calls".to_owned());
    }
    Ok(counters)
}

/// Where a system call is entered. Some tracepoints are named after the kernel's function.
fn tracepoint_of(call: &str) -> String {
    let name = match call {
        "fstat" => "newfstat",
        _ => call,
    };
    format!("syscalls/sys_enter_{name}")
}

impl std::ops::Sub<&Calls> for Calls {
    type Output = Calls;

    /// What came between an earlier reading and this one.
    fn sub(self, earlier: &Calls) -> Calls {
        let between = |later: Measurement<u64>, earlier: &Measurement<u64>| {
            Ok(later?.saturating_sub(*earlier.as_ref().map_err(String::clone)?))
        };
        let by_name = self.by_name.and_then(|mut counts| {
            for (name, count) in earlier.by_name.as_ref().map_err(String::clone)? {
                counts.entry(name.clone()).and_modify(|later| *later = later.saturating_sub(*count));
            }
            counts.retain(|_, count| *count > 0);
            Ok(counts)
        });
        Calls {
            by_name,
            total: between(self.total, &earlier.total),
            ring_submissions: between(self.ring_submissions, &earlier.ring_submissions),
            ring_completions: between(self.ring_completions, &earlier.ring_completions),
            ring_punts: between(self.ring_punts, &earlier.ring_punts),
            context_switches: between(self.context_switches, &earlier.context_switches),
            task_clock: self.task_clock.and_then(|later| {
                Ok(later.saturating_sub(*earlier.task_clock.as_ref().map_err(String::clone)?))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_counters_every_reading_has_its_reason() {
        let calls = Counters::none().read();
        let again = Counters::none().read();
        let between = again - &calls;
        assert!(between.total.unwrap_err().contains("tax"));
        assert!(between.by_name.is_err() && between.ring_punts.is_err() && between.task_clock.is_err());
    }

    #[test]
    fn differences_are_by_name() {
        let off: Measurement<u64> = Err("no".to_owned());
        let calls = |read: u64, total: u64| Calls {
            by_name: Ok(BTreeMap::from([("read".to_owned(), read), ("write".to_owned(), 3)])),
            total: Ok(total),
            ring_submissions: off.clone(),
            ring_completions: off.clone(),
            ring_punts: off.clone(),
            context_switches: Ok(total),
            task_clock: Ok(Duration::from_nanos(total)),
        };
        let between = calls(7, 30) - &calls(5, 10);
        assert_eq!(between.by_name, Ok(BTreeMap::from([("read".to_owned(), 2)])));
        assert_eq!((between.total, between.ring_punts), (Ok(20), off.clone()));
    }
}

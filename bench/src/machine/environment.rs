//! Where a run took place: without it the numbers mean nothing.
//!
//! What this machine doesn't tell is `None` (null in the JSON), never left out and never made up.

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub(crate) host: String,
    /// `uname -r` and `-v`.
    pub(crate) kernel: Option<String>,
    pub(crate) cpu: Cpu,
    /// What the kernel does against each processor flaw.
    pub(crate) mitigations: BTreeMap<String, String>,
    /// Settings that change what the servers can do, by their sysctl names.
    pub(crate) sysctls: BTreeMap<String, Option<String>>,
    pub(crate) limits: Limits,
    pub(crate) memory_kib: Option<u64>,
    pub(crate) filesystem: Option<Filesystem>,
    /// The load average over the last minute, at the start.
    pub(crate) load_average: Option<String>,
    pub(crate) build: Build,
    pub(crate) source: Option<Source>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cpu {
    pub(crate) model: Option<String>,
    pub(crate) online: Option<String>,
    /// The frequency governor of CPU 0; none on most virtual machines.
    pub(crate) governor: Option<String>,
    /// Whether a hypervisor says that it is there.
    pub(crate) virtualised: bool,
    /// What the kernel tells the time by: other than tsc, each look at the clock costs more.
    pub(crate) clock_source: Option<String>,
}

/// Soft limits; `None` is unlimited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) descriptors: Option<u64>,
    pub(crate) processes: Option<u64>,
    pub(crate) locked_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Filesystem {
    /// Its type: "ext4".
    pub(crate) kind: String,
    pub(crate) options: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Build {
    pub(crate) rustc: String,
    pub(crate) target: String,
    /// The optimisation level; below 3 the numbers aren't for publication.
    pub(crate) opt_level: String,
}

/// The commit that was built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) commit: String,
    /// Whether tracked files differed from it.
    pub(crate) dirty: bool,
}

const SYSCTLS: [&str; 12] = [
    "kernel.io_uring_disabled",
    "kernel.perf_event_paranoid",
    "kernel.randomize_va_space",
    "net.core.default_qdisc",
    "net.core.netdev_max_backlog",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "vm.swappiness",
];

impl Environment {
    /// Looks around. `corpus` is the folder that is served, `repository` the checkout.
    pub(crate) fn look(corpus: &Path, repository: &Path) -> Environment {
        Environment {
            host: name(),
            kernel: kernel(),
            cpu: Cpu::look(),
            mitigations: mitigations(),
            sysctls: SYSCTLS.iter().map(|name| ((*name).to_owned(), sysctl(name))).collect(),
            limits: Limits::look(),
            memory_kib: read("/proc/meminfo").and_then(|text| {
                text.lines()
                    .find_map(|line| line.strip_prefix("MemTotal:"))?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            }),
            filesystem: Filesystem::of(corpus),
            load_average: read("/proc/loadavg").and_then(|text| text.split(' ').next().map(str::to_owned)),
            build: Build {
                rustc: env!("BENCH_RUSTC").to_owned(),
                target: env!("BENCH_TARGET").to_owned(),
                opt_level: env!("BENCH_OPT_LEVEL").to_owned(),
            },
            source: Source::look(repository),
        }
    }
}

fn sysctl(name: &str) -> Option<String> {
    read(&format!("/proc/sys/{}", name.replace('.', "/")))
}

/// The machine's name in the network.
pub(crate) fn name() -> String {
    sysctl("kernel.hostname").unwrap_or_else(|| "unknown".to_owned())
}

/// `uname -r` and `-v`.
pub(crate) fn kernel() -> Option<String> {
    let (release, version) = (sysctl("kernel.osrelease"), sysctl("kernel.version"));
    release.zip(version).map(|(release, version)| format!("{release} {version}"))
}

impl Cpu {
    pub(crate) fn look() -> Cpu {
        let info = read("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            info.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let flags = field("flags").unwrap_or_default();
        Cpu {
            model: field("model name"),
            online: read("/sys/devices/system/cpu/online"),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            virtualised: flags.split(' ').any(|flag| flag == "hypervisor"),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        }
    }
}

impl Limits {
    fn look() -> Limits {
        Limits {
            descriptors: getrlimit(Resource::Nofile).current,
            processes: getrlimit(Resource::Nproc).current,
            locked_bytes: getrlimit(Resource::Memlock).current,
        }
    }
}

impl Filesystem {
    /// The file system of `path`, by the mount table.
    pub(crate) fn of(path: &Path) -> Option<Filesystem> {
        let path = path.canonicalize().ok()?;
        let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
        // Later mounts lie over earlier ones at the same point.
        let mount = table
            .lines()
            .filter_map(parse_mount)
            .filter(|(point, _)| path.starts_with(point))
            .max_by_key(|(point, _)| Path::new(point).components().count());
        mount.map(|(_, filesystem)| filesystem)
    }

    /// Whether its files live in memory alone. There, a ring hands every read to a kernel worker, and what
    /// is measured isn't what a server on a disk does.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.kind.as_str(), "tmpfs" | "ramfs")
    }
}

/// A line of mountinfo (proc_pid_mountinfo(5)): the mount point, and what is mounted there.
fn parse_mount(line: &str) -> Option<(String, Filesystem)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(4);
    let point = left.next()?.replace("\\040", " ");
    let options = left.next()?.to_owned();
    let kind = right.split(' ').next()?.to_owned();
    Some((point, Filesystem { kind, options }))
}

impl Source {
    fn look(repository: &Path) -> Option<Source> {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").arg("-C").arg(repository).args(arguments).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            output.status.success().then(|| text.trim().to_owned())
        };
        let commit = git(&["rev-parse", "--short", "HEAD"])?;
        let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
        Some(Source { commit, dirty: !changes.is_empty() })
    }
}

fn mitigations() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return BTreeMap::new();
    };
    let pair = |entry: fs::DirEntry| {
        let state = fs::read_to_string(entry.path()).ok()?.trim().to_owned();
        Some((entry.file_name().into_string().ok()?, state))
    };
    entries.flatten().filter_map(pair).collect()
}

fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim().replace('\t', " ");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_mount_table() {
        let line =
            "36 35 98:0 /mnt1 /mnt/with\\040blank rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let (point, filesystem) = parse_mount(line).unwrap();
        assert_eq!(point, "/mnt/with blank");
        assert_eq!((filesystem.kind.as_str(), filesystem.options.as_str()), ("ext3", "rw,noatime"));
        assert_eq!(parse_mount("garbage"), None);
    }

    #[test]
    fn the_file_system_of_proc() {
        assert_eq!(Filesystem::of(Path::new("/proc/self")).unwrap().kind, "proc");
    }

    #[test]
    fn this_machine_and_no_paths() {
        let environment = Environment::look(Path::new("/"), Path::new("/"));
        assert!(environment.kernel.is_some() && environment.limits.descriptors.is_some());
        assert_eq!(environment.source, None);
        assert_eq!(environment.sysctls.len(), SYSCTLS.len());
    }
}

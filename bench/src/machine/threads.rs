//! How many threads a server may have on this machine.

use rustix::process::{Resource, getrlimit, getuid};
use std::fs;
use std::path::Path;

/// What a server with a thread for each connection has besides: its workers, and those that wait for signals and its end.
/// The harness and its other processes count as well.
const OTHERS_MAX: u64 = 32;

/// Why so many threads can't be had here; `None` if nothing that is known forbids them.
pub(crate) fn shortage(connections: usize) -> Option<String> {
    let needed = connections as u64 + OTHERS_MAX;
    let (allowed, by) = limits().into_iter().min()?;
    (needed > allowed).then(|| format!("{needed} threads are needed, and {allowed} allowed ({by})"))
}

/// The bounds on the threads of this user or of this control group, and who sets them.
fn limits() -> Vec<(u64, &'static str)> {
    let mut limits = Vec::new();
    // It doesn't hold for root (setrlimit(2), RLIMIT_NPROC).
    if !getuid().is_root() {
        limits.extend(getrlimit(Resource::Nproc).current.map(|limit| (limit, "ulimit -u")));
    }
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = groups.lines().filter_map(|line| pids_max(line, Path::new("/sys/fs/cgroup")));
    limits.extend(of_groups.map(|limit| (limit, "pids.max of the control group")));
    limits
}

/// The bound of a control group, given its line in `/proc/self/cgroup`: "0::/user.slice", "8:pids:/docker".
fn pids_max(line: &str, mounted: &Path) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
    let folder = match controllers {
        "" => mounted.join(path),
        _ if controllers.split(',').any(|name| name == "pids") => mounted.join(controllers).join(path),
        _ => return None,
    };
    fs::read_to_string(folder.join("pids.max")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_of_both_versions_are_read() {
        let mounted = tempfile::tempdir().unwrap();
        for (folder, content) in [("user.slice", "500\n"), ("pids/docker", "max\n"), ("pids/box", "70\n")] {
            let folder = mounted.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("pids.max"), content).unwrap();
        }
        let table = [
            ("0::/user.slice", Some(500)),
            ("8:pids:/docker", None),
            ("8:pids:/box", Some(70)),
            ("3:cpu,cpuacct:/box", None),
            ("0::/elsewhere", None),
            ("what?", None),
        ];
        for (line, expected) in table {
            assert_eq!(pids_max(line, mounted.path()), expected, "{line}");
        }
    }

    #[test]
    fn nobody_has_room_for_everybody() {
        assert_eq!(shortage(0), None);
        if let Some((least, _)) = limits().into_iter().min() {
            let line = shortage(usize::try_from(least).unwrap()).unwrap();
            assert!(line.contains(&format!("threads are needed, and {least} allowed (")), "{line}");
        }
    }
}

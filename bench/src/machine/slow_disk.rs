//! A slow disk, equally slow in every trial: the kernel's throttle for block reads, on a control group that
//! the server under test joins (cgroups(7): `io.max` in version 2, `blkio.throttle` in version 1). Reads that
//! the page cache answers aren't throttled.

use crate::failure::{Failure, Result};
use crate::record::SlowDiskRecord;
use rustix::fs::{major, minor, stat};
use std::fs;
use std::path::{Path, PathBuf};

/// As fast as a spinning disk, or a throttled cloud volume.
pub(crate) const READS_PER_SECOND: u64 = 400;

const PREFIX: &str = "triptych-bench-";

#[derive(Debug)]
pub(crate) struct SlowDisk {
    /// The control group; none where the machine doesn't allow one.
    group: Option<PathBuf>,
}

impl SlowDisk {
    /// Prepares a throttle on the device that `folder` lies on. Where there is none to be had the disk stays
    /// as fast as it is, and the record says why.
    pub(crate) fn prepare(folder: &Path) -> (SlowDisk, SlowDiskRecord) {
        SlowDisk::prepare_one_of(folder, "")
    }

    /// The same for one of several servers at a time: each has reads of its own. Admit a process before the next one is
    /// prepared, since a group without processes counts as left over.
    pub(crate) fn prepare_one_of(folder: &Path, suffix: &str) -> (SlowDisk, SlowDiskRecord) {
        match throttle(folder, suffix) {
            Ok((group, means)) => {
                let record = SlowDiskRecord { means, reads_per_second: Some(READS_PER_SECOND) };
                (SlowDisk { group: Some(group) }, record)
            }
            Err(failure) => {
                let means = format!("the plain disk, files evicted from the page cache before ({failure})");
                (SlowDisk { group: None }, SlowDiskRecord { means, reads_per_second: None })
            }
        }
    }

    /// Slows down these processes and their later children.
    pub(crate) fn admit(&self, processes: &[u32]) -> Result<()> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        for pid in processes {
            let number = pid.to_string();
            let joined = fs::write(group.join("cgroup.procs"), &number);
            if joined.is_err() && Path::new("/proc").join(&number).exists() {
                joined.map_err(Failure::context("move the server into the slow control group"))?;
            }
        }
        Ok(())
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            // It is empty: the servers are gone.
            let _stays_until_the_next_run = fs::remove_dir(group);
        }
    }
}

/// A control group with the limit set, and its description.
fn throttle(folder: &Path, suffix: &str) -> Result<(PathBuf, String)> {
    let device = device(folder)?;
    let (parent, version) = hierarchy()?;
    remove_leftovers(&parent);
    let group = parent.join(format!("{PREFIX}{}{suffix}", std::process::id()));
    fs::create_dir(&group).map_err(Failure::context("no control group of its own"))?;
    let (file, line) = match version {
        1 => ("blkio.throttle.read_iops_device", format!("{device} {READS_PER_SECOND}")),
        _ => ("io.max", format!("{device} riops={READS_PER_SECOND}")),
    };
    if let Err(error) = fs::write(group.join(file), line) {
        let _stays_until_the_next_run = fs::remove_dir(&group);
        return Err(Failure::new(format!("no throttle on device {device}: {error}")));
    }
    let means =
        format!("control group throttle (version {version}): {READS_PER_SECOND} reads/s on device {device}");
    Ok((group, means))
}

/// Where groups with a throttle can be made, and the version of its files.
fn hierarchy() -> Result<(PathBuf, u32)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(Failure::context("read the mounts"))?;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4) else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
        if kind == "cgroup" && options.split(',').any(|option| option == "blkio") {
            return Ok((PathBuf::from(point), 1));
        }
        let enabled = Path::new(point).join("cgroup.subtree_control");
        let has_io =
            || fs::read_to_string(&enabled).is_ok_and(|list| list.split_whitespace().any(|it| it == "io"));
        if kind == "cgroup2" && (has_io() || fs::write(&enabled, "+io").is_ok()) {
            return Ok((PathBuf::from(point), 2));
        }
    }
    Err(Failure::new("no control group for block devices that this user may write"))
}

/// Groups of runs that were killed. Those of a run under way hold processes, and stay.
fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _in_use = fs::remove_dir(entry.path());
        }
    }
}

/// The whole disk below a folder, as "major:minor": a throttle doesn't take partitions.
fn device(folder: &Path) -> Result<String> {
    let found = stat(folder).map_err(Failure::context("ask for the disk of the corpus"))?;
    let number = format!("{}:{}", major(found.st_dev), minor(found.st_dev));
    let entry = PathBuf::from(format!("/sys/dev/block/{number}"));
    if !entry.exists() {
        return Err(Failure::new(format!("device {number} is no block device")));
    }
    if !entry.join("partition").exists() {
        return Ok(number);
    }
    let whole = fs::canonicalize(&entry)
        .and_then(|path| fs::read_to_string(path.join("../dev")))
        .map_err(Failure::context("find the disk of a partition"))?;
    Ok(whole.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn who_joins_is_in_the_group_and_children_follow() {
        let (slow, record) = SlowDisk::prepare(Path::new(env!("CARGO_MANIFEST_DIR")));
        let Some(group) = slow.group.clone() else {
            assert_eq!(record.reads_per_second, None);
            assert!(record.means.contains("plain disk"), "{}", record.means);
            return;
        };
        assert_eq!(record.reads_per_second, Some(READS_PER_SECOND));
        let mut child = Command::new("sh")
            .args(["-c", "read line; sleep 60 & wait"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        slow.admit(&[child.id()]).unwrap();
        let members = fs::read_to_string(group.join("cgroup.procs")).unwrap();
        assert!(members.lines().any(|line| line == child.id().to_string()), "{members}");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(slow);
        assert!(!group.exists());
    }
}

//! A process seen from outside: its resources and costs according to proc(5).

use std::fs;
use std::io;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::census;

/// Another process, or this one.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    id: u32,
}

impl Process {
    /// The process with this id.
    #[must_use]
    pub fn new(id: u32) -> Process {
        Process { id }
    }

    /// This process.
    #[must_use]
    pub fn this() -> Process {
        Process::new(std::process::id())
    }

    /// Its id.
    #[must_use]
    pub fn id(self) -> u32 {
        self.id
    }

    /// The number of open descriptors.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn descriptors(self) -> io::Result<usize> {
        census::descriptors(self.id)
    }

    /// The names of its threads, including the kernel's threads for it.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn thread_names(self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.id))? {
            // A thread may end between the two reads.
            if let Ok(name) = fs::read_to_string(entry?.path().join("comm")) {
                names.push(name.trim_end().to_owned());
            }
        }
        Ok(names)
    }

    /// The id of the thread with this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn thread(self, name: &str) -> Result<u32, Failed> {
        for entry in fs::read_dir(format!("/proc/{}/task", self.id))? {
            let path = entry?.path();
            if fs::read_to_string(path.join("comm")).is_ok_and(|found| found.trim_end() == name) {
                let id = path.file_name().and_then(|id| id.to_str()).ok_or("a thread without an id")?;
                return Ok(id.parse()?);
            }
        }
        Err(format!("no thread {name}").into())
    }

    /// Bytes read from disk for it so far (`read_bytes` of `/proc/PID/io`); `None` if the kernel doesn't report it.
    #[must_use]
    pub fn disk_bytes_read(self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.id)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("read_bytes:")?.trim().parse().ok())
    }

    /// CPU time of all its threads so far, user and system, in hundredths of a second.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn processor_time(self) -> Result<Duration, Failed> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id))?;
        // The name in parentheses may contain anything, so parse the fields after it.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/*/stat")?;
        let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
        let total = ticks
            .next()
            .zip(ticks.next())
            .map(|(user, system)| user + system)
            .ok_or("no times in /proc/*/stat")?;
        Ok(Duration::from_millis(total * 1000 / rustix::param::clock_ticks_per_second()))
    }

    /// Its resident memory in bytes.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn resident_bytes(self) -> Result<u64, Failed> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .ok_or("no VmRSS in /proc/*/status")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }
}

//! What a server holds, from the outside, and whether that has grown.

use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::process::Process;

/// Growth of memory that is none: buffers that a rare coincidence made necessary stay.
pub const GROWTH_BYTES_MAX: u64 = 1 << 20;
/// The same, in percent of what there was.
pub const GROWTH_PERCENT_MAX: u64 = 5;
/// Descriptors by which two times of rest may differ: what the cache holds is a matter of luck, too.
pub const DESCRIPTORS_MORE_MAX: u64 = 8;

/// How long a server is given to close what its last clients left, and to give back what it can.
const REST_PATIENCE: Duration = Duration::from_secs(3);

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Memory that is its own, and its share of what is others' too: `Pss` of smaps_rollup (proc(5)). The
    /// rings of io_uring and their buffers are mapped, so they are in it.
    pub memory_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Sample {
    /// Looks.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn take(id: u32) -> Result<Sample, Failed> {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let line =
            rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss in smaps_rollup")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        let descriptors = Process::new(id).descriptors()? as u64;
        Ok(Sample { memory_bytes: kibibytes * 1024, descriptors })
    }

    /// The least of what it holds while nobody asks it anything.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn take_at_rest(id: u32) -> Result<Sample, Failed> {
        let deadline = Instant::now() + REST_PATIENCE;
        let mut least = Sample::take(id)?;
        while Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
            let now = Sample::take(id)?;
            least.memory_bytes = least.memory_bytes.min(now.memory_bytes);
            least.descriptors = least.descriptors.min(now.descriptors);
        }
        Ok(least)
    }
}

/// What is compared: before and after hours, or minutes, of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// At rest after the first phase.
    pub rest: [Sample; 2],
    /// The median under load, in the second half of the first phase and in the last minute.
    pub load: [Sample; 2],
}

impl Levels {
    /// What has grown, in words.
    #[must_use]
    pub fn growth(&self) -> Vec<String> {
        let mut grown = Vec::new();
        for (when, [first, end]) in [("at rest", self.rest), ("under load", self.load)] {
            let allowed = GROWTH_BYTES_MAX.max(first.memory_bytes * GROWTH_PERCENT_MAX / 100);
            if end.memory_bytes > first.memory_bytes + allowed {
                grown.push(format!(
                    "memory {when}: from {} KiB to {} KiB, {} KiB are allowed",
                    first.memory_bytes / 1024,
                    end.memory_bytes / 1024,
                    allowed / 1024
                ));
            }
        }
        grown.extend(self.more_descriptors());
        grown
    }

    /// Descriptors that have stayed open, in words.
    #[must_use]
    pub fn more_descriptors(&self) -> Option<String> {
        let [first, end] = self.rest.map(|sample| sample.descriptors);
        (end > first + DESCRIPTORS_MORE_MAX).then(|| {
            format!("descriptors at rest: from {first} to {end}, {DESCRIPTORS_MORE_MAX} more are allowed")
        })
    }
}

/// The median of each number.
#[must_use]
pub fn median(samples: &[Sample]) -> Option<Sample> {
    let of = |number: fn(&Sample) -> u64| {
        let mut numbers: Vec<_> = samples.iter().map(number).collect();
        numbers.sort_unstable();
        numbers.get(numbers.len() / 2).copied()
    };
    Some(Sample {
        memory_bytes: of(|sample| sample.memory_bytes)?,
        descriptors: of(|sample| sample.descriptors)?,
    })
}

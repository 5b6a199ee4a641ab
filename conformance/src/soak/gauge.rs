//! Measures a server's resources from outside, and whether they have grown.

use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::process::Process;

/// Tolerated growth of memory: buffers that a rare coincidence required are kept.
pub const GROWTH_BYTES_MAX: u64 = 1 << 20;
/// The same, as a percentage.
pub const GROWTH_PERCENT_MAX: u64 = 5;
/// Tolerated growth of descriptors between two measurements at rest: what the cache holds is partly random.
pub const DESCRIPTORS_MORE_MAX: u64 = 8;

/// How long a server may take to close its last connections and to free what it can.
const REST_PATIENCE: Duration = Duration::from_secs(3);

/// The resources of a process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its memory, including its share of shared memory: `Pss` of smaps_rollup (proc(5)). This counts io_uring's rings
    /// and buffers, which are mapped.
    pub memory_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Sample {
    /// Takes a sample.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn take(id: u32) -> Result<Sample, Failed> {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let line =
            rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss in smaps_rollup")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        let descriptors = Process::new(id).descriptors()? as u64;
        Ok(Sample { memory_bytes: kibibytes * 1024, descriptors })
    }

    /// The minimum of each number while the server is idle.
    ///
    /// # Errors
    /// If the process is gone.
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

/// The measurements that are compared: early and late in the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// At rest, after the first phase and at the end.
    pub rest: [Sample; 2],
    /// The median under load, in the second half of the first phase and in the last minute.
    pub load: [Sample; 2],
}

impl Levels {
    /// Describes what has grown.
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

    /// Describes leaked descriptors.
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

//! What was measured so far, and what is switched on: shared by the race, its loads and its page.

use crate::race::footage::Meta;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What can be made slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// Others ask for files that the disk has to be asked for.
    Disk,
    /// Others read large files slowly.
    Readers,
}

/// A moment of a race.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Since the start.
    #[serde(rename = "t")]
    pub(super) seconds: f64,
    #[serde(rename = "disk")]
    pub(super) is_disk_slow: bool,
    #[serde(rename = "readers")]
    pub(super) are_readers_slow: bool,
    /// One for each racer.
    pub(super) rows: Vec<Row>,
}

/// What a server did since the last sample: answers per second, CPU time per answer and the 99th percentile of the
/// response time, both in microseconds, and failed requests. `None` where nothing was answered, or too little to tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row(pub(super) f64, pub(super) Option<f64>, pub(super) Option<f64>, pub(super) u64);

/// What everybody shares.
#[derive(Debug)]
pub(super) struct Board {
    meta: String,
    disk_is_throttled: bool,
    disk: AtomicBool,
    readers: AtomicBool,
    told: Mutex<Told>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    samples: Vec<Sample>,
    is_over: bool,
}

impl Board {
    pub(super) fn new(meta: &Meta) -> Board {
        Board {
            meta: meta.json(),
            disk_is_throttled: meta.without_throttle.is_none(),
            disk: AtomicBool::new(false),
            readers: AtomicBool::new(false),
            told: Mutex::default(),
            news: Condvar::new(),
        }
    }

    /// Who races, as JSON.
    pub(super) fn meta(&self) -> &str {
        &self.meta
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn switch(&self, switch: Switch) -> &AtomicBool {
        match switch {
            Switch::Disk => &self.disk,
            Switch::Readers => &self.readers,
        }
    }

    /// Turns something slow, or fast again. A disk that can't be made slow stays as it is.
    pub(super) fn turn(&self, switch: Switch, on: bool) {
        if switch == Switch::Readers || self.disk_is_throttled {
            self.switch(switch).store(on, Ordering::Relaxed);
        }
    }

    pub(super) fn is_on(&self, switch: Switch) -> bool {
        self.switch(switch).load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, sample: Sample) {
        self.told().samples.push(sample);
        self.news.notify_all();
    }

    /// The race is over.
    pub(super) fn end(&self) {
        self.told().is_over = true;
        self.news.notify_all();
    }

    pub(super) fn is_over(&self) -> bool {
        self.told().is_over
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        self.told().samples.clone()
    }

    /// Waits for samples after the first `known`, at most so long. Says whether the race is over.
    pub(super) fn after(&self, known: usize, patience: Duration) -> (Vec<Sample>, bool) {
        let has_none = |told: &mut Told| told.samples.len() <= known && !told.is_over;
        let waited = self.news.wait_timeout_while(self.told(), patience, has_none);
        let (told, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (told.samples.get(known..).unwrap_or_default().to_vec(), told.is_over)
    }
}

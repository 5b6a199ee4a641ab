//! What every file was, and from when to when: what answers are judged by.
//!
//! A change is written down by who makes it, with the moment before it began and the moment after it had been
//! completed, both of the monotonic clock. A client notes the moment before its request was sent and the one
//! after its answer had come. So whatever the scheduler does to either of them only widens the time in which
//! an answer may be old: a verdict of staleness never comes from a thread that had to wait for a processor.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::pattern::Pattern;

/// How long after a change an answer may still be the old one.
pub const STALE_MAX: Duration = Duration::from_millis(50);

/// What is over for so long no answer that is still on its way can show. Longer than a client waits.
const KEPT: Duration = Duration::from_secs(120);

/// How large a file is, and so how it is sent and cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Cached with its bytes.
    Small,
    /// Cached as a descriptor, read in pieces.
    Medium,
    /// More than all buffers between the two ends hold.
    Large,
}

/// One state of a file that is there, as its entity tag names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The inode's number.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last modified, in nanoseconds since the epoch.
    pub modified: u64,
    /// Which content it has.
    pub version: u32,
}

impl State {
    /// What fstat(2) says of a file that has this version's content.
    #[must_use]
    pub fn new(metadata: &Metadata, version: u32) -> State {
        // Files of this test are younger than the epoch.
        let seconds = metadata.mtime().unsigned_abs();
        let modified = seconds * 1_000_000_000 + metadata.mtime_nsec().unsigned_abs();
        State { inode: metadata.ino(), size: metadata.len(), modified, version }
    }

    /// Its entity tag.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("\"{:x}-{:x}-{:x}\"", self.inode, self.size, self.modified)
    }

    /// When it was last modified.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.modified)
    }
}

/// What a request for the file finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The file.
    File(State),
    /// Nothing: it, or its directory, is deleted or elsewhere.
    Absent,
    /// A file that the server may not read.
    Forbidden,
}

/// One change, and what was there from then on.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was done.
    pub change: &'static str,
    /// What was there afterwards.
    pub what: What,
    /// Just before the change.
    pub begun: Instant,
    /// Just after it had been completed.
    pub settled: Instant,
    /// Whether the change took several steps, so that whoever looked in between saw another size or date.
    pub gradual: bool,
    /// How much was left when the file was cut, if it was.
    pub cut: Option<u64>,
    /// When the next change had been completed.
    pub superseded: Option<Instant>,
}

/// The time of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Just before the request was sent.
    pub sent: Instant,
    /// Just after the answer had been received.
    pub received: Instant,
}

impl Entry {
    /// Whether an answer within this time may show what was there between this change and the next.
    #[must_use]
    pub fn is_visible(&self, window: Window) -> bool {
        self.begun <= window.received && self.superseded.is_none_or(|at| at + STALE_MAX >= window.sent)
    }

    /// Whether an answer within this time may show the change half done.
    #[must_use]
    pub fn is_under_way(&self, window: Window) -> bool {
        self.begun <= window.received && self.settled + STALE_MAX >= window.sent
    }

    /// How long this had been over when the request was sent.
    #[must_use]
    pub fn age(&self, window: Window) -> Option<Duration> {
        window.sent.checked_duration_since(self.superseded?)
    }

    /// The state, if the file was there.
    #[must_use]
    pub fn state(&self) -> Option<&State> {
        match &self.what {
            What::File(state) => Some(state),
            What::Absent | What::Forbidden => None,
        }
    }
}

/// Everything that one file was, the oldest first.
#[derive(Debug, Default)]
pub struct History {
    entries: VecDeque<Entry>,
    versions: u32,
}

impl History {
    /// The number of a new version.
    pub fn next_version(&mut self) -> u32 {
        self.versions += 1;
        self.versions
    }

    /// Writes down a change that has been completed, and forgets what is over for long.
    pub fn push(&mut self, entry: Entry) {
        let now = entry.settled;
        if let Some(last) = self.entries.back_mut() {
            last.superseded = Some(now);
        }
        self.entries.push_back(entry);
        while self.entries.front().and_then(|first| first.superseded).is_some_and(|at| at + KEPT < now) {
            self.entries.pop_front();
        }
    }

    /// What is there now.
    #[must_use]
    pub fn now(&self) -> Option<&What> {
        self.entries.back().map(|entry| &entry.what)
    }

    /// All that is remembered.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }
}

/// A file that is served and changed.
#[derive(Debug)]
pub struct Subject {
    /// Which of them it is.
    pub id: u32,
    /// Where it is.
    pub path: PathBuf,
    /// What it is asked for by.
    pub target: String,
    /// How large it is about.
    pub size: Size,
    history: Mutex<History>,
}

impl Subject {
    /// A file that isn't there yet.
    #[must_use]
    pub fn new(id: u32, path: PathBuf, target: String, size: Size) -> Subject {
        Subject { id, path, target, size, history: Mutex::default() }
    }

    /// What it was. Who changes the file holds this meanwhile, so who judges waits until it is written down.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content of a version.
    #[must_use]
    pub fn pattern(&self, version: u32) -> Pattern {
        Pattern::new((u64::from(self.id) << 32) | u64::from(version))
    }
}

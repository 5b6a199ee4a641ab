//! The history of every file with timestamps, used to judge responses.
//!
//! The thread that makes a change records it with the times just before it began and just after it was completed, on
//! the monotonic clock. A client records the times just before it sent the request and just after it received the
//! response. Scheduling delays therefore only widen the window in which an old response is accepted: a response is
//! never judged stale because a thread had to wait for a CPU.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::http::conditional::{EtagPolicy, FileState, Timestamp, Validators};

use crate::pattern::Pattern;

/// How long after a change a response may still be stale.
pub const STALE_MAX: Duration = Duration::from_millis(50);

/// States obsolete for this long are forgotten. Longer than any client waits for a response.
const KEPT: Duration = Duration::from_secs(120);

/// The size class of a file, which determines how it is sent and cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Cached as bytes.
    Small,
    /// Cached as a descriptor and read in pieces.
    Medium,
    /// Larger than all buffers between server and client.
    Large,
}

/// One state of an existing file, as identified by its entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The inode number.
    pub inode: u64,
    /// The size in bytes.
    pub size: u64,
    /// The modification time.
    pub modified: Timestamp,
    /// The change time.
    pub changed: Timestamp,
    /// The version of the content.
    pub version: u32,
}

impl State {
    /// The state of a file with this version's content, from fstat(2).
    #[must_use]
    pub fn new(metadata: &Metadata, version: u32) -> State {
        let time = |seconds, nanoseconds| Timestamp {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
        };
        let modified = time(metadata.mtime(), metadata.mtime_nsec());
        let changed = time(metadata.ctime(), metadata.ctime_nsec());
        State { inode: metadata.ino(), size: metadata.len(), modified, changed, version }
    }

    /// Its entity tag, once it is old enough for a strong one.
    #[must_use]
    pub fn etag(&self) -> String {
        self.etag_at(Timestamp { seconds: i64::MAX, nanoseconds: 0 })
    }

    /// Whether this is its entity tag, or was as long as it was too young for a strong one.
    #[must_use]
    pub fn has_etag(&self, tag: &str) -> bool {
        tag == self.etag() || tag == self.etag_at(self.changed)
    }

    fn etag_at(&self, now: Timestamp) -> String {
        let State { inode, size, modified, changed, .. } = *self;
        let validators =
            Validators::new(EtagPolicy::Strict, &FileState { inode, size, modified, changed }, now);
        let text = validators.etag().map(|etag| etag.text()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The modification time.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        // The files are newer than the epoch.
        let Timestamp { seconds, nanoseconds } = self.modified;
        UNIX_EPOCH + Duration::new(seconds.unsigned_abs(), nanoseconds)
    }
}

/// What a request for the file finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The file.
    File(State),
    /// Nothing: the file or its directory is deleted or renamed.
    Absent,
    /// A file the server may not read.
    Forbidden,
}

/// A change and the resulting state.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The kind of change.
    pub change: &'static str,
    /// The resulting state.
    pub what: What,
    /// Just before the change.
    pub begun: Instant,
    /// Just after the change was completed.
    pub settled: Instant,
    /// Whether the change took several steps, with other sizes or dates visible in between.
    pub gradual: bool,
    /// The remaining size, if the file was truncated.
    pub cut: Option<u64>,
    /// When the next change was completed.
    pub superseded: Option<Instant>,
}

/// The time of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Just before the request was sent.
    pub sent: Instant,
    /// Just after the response was received.
    pub received: Instant,
}

impl Entry {
    /// Whether a response in this window may show the state between this change and the next.
    #[must_use]
    pub fn is_visible(&self, window: Window) -> bool {
        self.begun <= window.received && self.superseded.is_none_or(|at| at + STALE_MAX >= window.sent)
    }

    /// Whether a response in this window may show the change half done.
    #[must_use]
    pub fn is_under_way(&self, window: Window) -> bool {
        self.begun <= window.received && self.settled + STALE_MAX >= window.sent
    }

    /// How long this state had been obsolete when the request was sent.
    #[must_use]
    pub fn age(&self, window: Window) -> Option<Duration> {
        window.sent.checked_duration_since(self.superseded?)
    }

    /// The state, if the file existed.
    #[must_use]
    pub fn state(&self) -> Option<&State> {
        match &self.what {
            What::File(state) => Some(state),
            What::Absent | What::Forbidden => None,
        }
    }
}

/// All states of one file, oldest first.
#[derive(Debug, Default)]
pub struct History {
    entries: VecDeque<Entry>,
    versions: u32,
}

impl History {
    /// The number for a new version.
    pub fn next_version(&mut self) -> u32 {
        self.versions += 1;
        self.versions
    }

    /// Records a completed change and forgets states that are long obsolete.
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

    /// The current state.
    #[must_use]
    pub fn now(&self) -> Option<&What> {
        self.entries.back().map(|entry| &entry.what)
    }

    /// All remembered entries.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }
}

/// A served file that changes.
#[derive(Debug)]
pub struct Subject {
    /// Its number.
    pub id: u32,
    /// Its path.
    pub path: PathBuf,
    /// Its request target.
    pub target: String,
    /// Its size class.
    pub size: Size,
    history: Mutex<History>,
}

impl Subject {
    /// A file that doesn't exist yet.
    #[must_use]
    pub fn new(id: u32, path: PathBuf, target: String, size: Size) -> Subject {
        Subject { id, path, target, size, history: Mutex::default() }
    }

    /// Its history. The lock is held during a change, so judging waits until the change is recorded.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content of a version.
    #[must_use]
    pub fn pattern(&self, version: u32) -> Pattern {
        Pattern::new((u64::from(self.id) << 32) | u64::from(version))
    }
}

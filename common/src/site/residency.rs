//! What of a file the page cache held a moment ago.
//!
//! Asking the page cache about each stretch of a large file costs a system call each, eighty for 10 MiB, and a popular
//! file is sent many times before anything about it changes. So a cached file remembers which of its stretches were
//! found, for a short while. Pages that have just been sent are the last that the kernel gives up (they are at the
//! young end of its lists), but it may do so: then `sendfile` waits for the disk, and with it all clients of the
//! loop. No such call begins later than [`RESIDENT_FOR`] after the last look, and the first look that finds a stretch
//! missing forgets all of the file.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a stretch counts as present. A file that is sent once in this time pays for looking as if nothing was
/// remembered, one that is sent a hundred times pays a hundredth.
pub const RESIDENT_FOR: Duration = Duration::from_millis(50);

/// Bytes that one look tells about: the usual read-ahead of a disk.
pub const STRETCH_BYTES: u64 = 128 * 1024;

/// Only so many stretches at the beginning of a file are remembered: 128 MiB of it, in 4 KiB.
const STRETCHES_MAX: u64 = 1024;

/// The memory of one file. Threads may share it; what one of them overlooks is only looked at once more.
#[derive(Debug)]
pub(crate) struct Residency {
    born: Instant,
    size: u64,
    /// When each stretch was last found, in milliseconds since `born`, plus one. 0: it wasn't.
    found: Box<[AtomicU32]>,
}

impl Residency {
    /// For a file of this size, of which nothing is known.
    pub(crate) fn new(size: u64) -> Residency {
        let stretches = size.div_ceil(STRETCH_BYTES).min(STRETCHES_MAX);
        Residency { born: Instant::now(), size, found: (0..stretches).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Whether all of the stretch with this position was present a moment ago.
    pub(crate) fn recalls(&self, position: u64, now: Instant) -> bool {
        let (Some(found), Some(now)) = (self.stretch(position), self.time(now)) else { return false };
        let found = found.load(Relaxed);
        found > 0 && u128::from(now.saturating_sub(found)) < RESIDENT_FOR.as_millis()
    }

    /// Everything up to `end` of the stretch that `end` concludes is present.
    pub(crate) fn found(&self, end: u64, now: Instant) {
        let is_whole = end.is_multiple_of(STRETCH_BYTES) || end == self.size;
        if is_whole && let Some(found) = self.stretch(end - 1) {
            found.store(self.time(now).unwrap_or(0), Relaxed);
        }
    }

    /// So many bytes from this position on were sent, and so they are present.
    pub(crate) fn sent(&self, offset: u64, bytes: u64, now: Instant) {
        let end = offset + bytes;
        let mut stretch_end = (offset.next_multiple_of(STRETCH_BYTES) + STRETCH_BYTES).min(self.size);
        while stretch_end <= end && stretch_end > offset {
            self.found(stretch_end, now);
            if stretch_end == self.size {
                break;
            }
            stretch_end = (stretch_end + STRETCH_BYTES).min(self.size);
        }
    }

    /// Something is missing, so the rest may go, too.
    pub(crate) fn forget(&self) {
        self.found.iter().for_each(|found| found.store(0, Relaxed));
    }

    fn stretch(&self, position: u64) -> Option<&AtomicU32> {
        self.found.get(usize::try_from(position / STRETCH_BYTES).ok()?)
    }

    /// `None` after 49 days: what is sent for so long has to be looked at every time.
    fn time(&self, now: Instant) -> Option<u32> {
        u32::try_from(now.saturating_duration_since(self.born).as_millis() + 1).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 10 * STRETCH_BYTES + 1;

    #[test]
    fn a_stretch_is_remembered_for_a_while() {
        let residency = Residency::new(SIZE);
        let now = residency.born + Duration::from_secs(1);
        for (end, first, last) in [
            (STRETCH_BYTES, 0, STRETCH_BYTES - 1),
            (3 * STRETCH_BYTES, 2 * STRETCH_BYTES, 3 * STRETCH_BYTES - 1),
            (SIZE, SIZE - 1, SIZE - 1),
        ] {
            assert!(!residency.recalls(first, now));
            residency.found(end, now);
            for position in [first, last] {
                assert!(residency.recalls(position, now));
                assert!(residency.recalls(position, now + RESIDENT_FOR - Duration::from_millis(1)));
                assert!(!residency.recalls(position, now + RESIDENT_FOR));
            }
        }
        assert!(!residency.recalls(STRETCH_BYTES, now), "only its neighbours are known");
        residency.forget();
        assert!((0..SIZE).step_by(1000).all(|position| !residency.recalls(position, now)));
    }

    #[test]
    fn what_was_sent_is_present_stretch_by_stretch() {
        let now = Instant::now() + Duration::from_secs(1);
        for (name, offset, bytes, expected) in [
            ("nothing", 0, 0, 0..0),
            ("a part of a stretch", 0, STRETCH_BYTES - 1, 0..0),
            ("a stretch", 0, STRETCH_BYTES, 0..1),
            ("from the middle of one", 1, 2 * STRETCH_BYTES, 1..2),
            ("all but a byte", 0, SIZE - 1, 0..10),
            ("everything", 0, SIZE, 0..11),
            ("the end", 9 * STRETCH_BYTES, STRETCH_BYTES + 1, 9..11),
            ("the last byte", SIZE - 1, 1, 10..11),
            ("behind the end", SIZE, 5, 0..0),
        ] {
            let residency = Residency::new(SIZE);
            residency.sent(offset, bytes, now);
            for stretch in 0..11 {
                let recalled = residency.recalls(stretch * STRETCH_BYTES, now);
                assert_eq!(recalled, expected.contains(&stretch), "{name}: {stretch}");
            }
        }
    }

    /// The rest of the stretch may be missing.
    #[test]
    fn a_part_of_a_stretch_is_not_the_stretch() {
        let residency = Residency::new(SIZE);
        let now = residency.born;
        for end in [1, STRETCH_BYTES - 1, STRETCH_BYTES + 1, SIZE + 1] {
            residency.found(end, now);
            assert!(!residency.recalls(end - 1, now), "{end}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        for (size, stretches) in [(0, 0), (1, 1), (STRETCH_BYTES, 1), (SIZE, 11), (u64::MAX, STRETCHES_MAX)] {
            assert_eq!(Residency::new(size).found.len() as u64, stretches, "{size}");
        }
        let residency = Residency::new(u64::MAX);
        let now = residency.born;
        for (stretches, is_remembered) in [(STRETCHES_MAX, true), (STRETCHES_MAX + 1, false)] {
            residency.found(stretches * STRETCH_BYTES, now);
            assert_eq!(residency.recalls(stretches * STRETCH_BYTES - 1, now), is_remembered);
        }
    }

    /// A file that has been open for longer than its time can tell.
    #[test]
    fn an_old_file_remembers_nothing() {
        let residency = Residency::new(SIZE);
        let last = residency.born + Duration::from_millis(u64::from(u32::MAX) - 1);
        residency.found(STRETCH_BYTES, last);
        assert!(residency.recalls(0, last));
        let over = last + Duration::from_millis(1);
        residency.found(STRETCH_BYTES, over);
        assert!(!residency.recalls(0, over));
    }
}

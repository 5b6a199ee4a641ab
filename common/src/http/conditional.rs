//! Validators and preconditions (RFC 9110 §8.8, §13).
//!
//! A strong tag promises that whoever has it has these very bytes. What a file system says of a file proves that only
//! under two conditions. The times must not be set back with the old ones: nobody can do that to the change time
//! (inode(7)), while `cp -p`, `tar` and `rsync -t` do it to the modification time. And the last change must be older
//! than the file system's clock is coarse, or else another change may follow that leaves the same times. Until then
//! the tag is weak, and another than the strong one that follows, so that what was fetched early is fetched again.

use std::hash::Hasher;
use std::time::Duration;

use arrayvec::ArrayVec;
use siphasher::sip::SipHasher13;

use crate::http::accept_encoding::Coding;
use crate::http::date::parse_date;
use crate::http::digits::hex;

/// What entity tags are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EtagPolicy {
    /// Of what proves a change on this machine: inode, size, modification time and change time.
    #[default]
    Strict,
    /// Of what copies on several machines have in common: size and modification time.
    Replica,
    /// There are none.
    Off,
}

/// A moment, in seconds since the Unix epoch and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Less than a second.
    pub nanoseconds: u32,
}

const NANOSECONDS: u32 = 1_000_000_000;

/// How long another change may leave the same time behind. Kernels stamp with the time of their last tick, up to 16 ms
/// ago, and a throttled write(2) goes on for up to 200 ms after its stamp (`MAX_PAUSE`, mm/page-writeback.c).
const TICK: Duration = Duration::from_millis(250);

/// The same where times have no nanoseconds: FAT counts in steps of two seconds, others in seconds.
const COARSE_TICK: Duration = Duration::from_millis(2250);

/// Modification times up to this one mean "unknown": build tools write 0 or 1 to make archives reproducible.
const UNKNOWN_SECONDS_MAX: i64 = 1;

/// Clocks and time zones (FAT stores local time) may be wrong by this much. A date further ahead means nothing.
const AHEAD_SECONDS_MAX: i64 = 24 * 3600;

impl Timestamp {
    /// This moment, and so much later.
    pub(crate) fn after(self, duration: Duration) -> Timestamp {
        let seconds = self.seconds.saturating_add_unsigned(duration.as_secs());
        match self.nanoseconds + duration.subsec_nanos() {
            nanoseconds @ ..NANOSECONDS => Timestamp { seconds, nanoseconds },
            more => Timestamp { seconds: seconds.saturating_add(1), nanoseconds: more - NANOSECONDS },
        }
    }

    /// How long it is from `earlier` to this one; zero if that is the later one.
    fn since(self, earlier: Timestamp) -> Duration {
        let Ok(seconds) = u64::try_from(self.seconds.saturating_sub(earlier.seconds)) else {
            return Duration::ZERO;
        };
        (Duration::from_secs(seconds) + Duration::from_nanos(self.nanoseconds.into()))
            .saturating_sub(Duration::from_nanos(earlier.nanoseconds.into()))
    }

    /// When no other change can leave this time behind any more.
    fn settles(self) -> Timestamp {
        self.after(if self.nanoseconds == 0 { COARSE_TICK } else { TICK })
    }
}

/// What a file system says of a file (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// The inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// When the content was changed, or what somebody has set in place of that.
    pub modified: Timestamp,
    /// When the content, the name, the owner or the permissions were changed.
    pub changed: Timestamp,
}

impl FileState {
    /// How long it takes until the tag is a strong one.
    #[must_use]
    pub fn settles_in(&self, policy: EtagPolicy, now: Timestamp) -> Duration {
        self.settles(policy, now).map_or(Duration::ZERO, |settles| settles.since(now))
    }

    /// When the tag becomes a strong one; `None` where there is none.
    fn settles(&self, policy: EtagPolicy, now: Timestamp) -> Option<Timestamp> {
        match policy {
            // Some file systems in user space know no change time.
            EtagPolicy::Strict if self.modified <= now => {
                Some(self.changed.settles().max(self.modified.settles()))
            }
            EtagPolicy::Strict => Some(self.changed.settles()),
            EtagPolicy::Replica => Some(self.modified.settles()),
            EtagPolicy::Off => None,
        }
    }

    /// A number that tells this version from others, and from the same in another coding, and nothing else to whoever
    /// sees it.
    fn version(&self, policy: EtagPolicy, is_settled: bool, coding: Option<Coding>) -> u64 {
        let FileState { inode, size, modified, changed } = *self;
        let seconds = modified.seconds.cast_unsigned();
        let nanoseconds = u64::from(modified.nanoseconds) << 32;
        match policy {
            EtagPolicy::Strict => {
                let nanoseconds = nanoseconds | u64::from(changed.nanoseconds);
                hash([inode, size, seconds, changed.seconds.cast_unsigned(), nanoseconds], is_settled, coding)
            }
            EtagPolicy::Replica | EtagPolicy::Off => hash([size, seconds, nanoseconds], is_settled, coding),
        }
    }

    /// The date for `Last-Modified`, in seconds since the Unix epoch: none if it is unknown or makes no sense, and
    /// never one after `now` (RFC 9110 §8.8.2.1).
    fn date(&self, now: Timestamp) -> Option<i64> {
        let date = self.modified.seconds.min(now.seconds);
        let makes_sense = self.modified.seconds <= now.seconds.saturating_add(AHEAD_SECONDS_MAX);
        (makes_sense && date > UNKNOWN_SECONDS_MAX).then_some(date)
    }

    /// Whether the date follows the clock, because the file's own is ahead of it.
    pub(crate) fn date_follows(&self, now: Timestamp) -> bool {
        self.modified.seconds > now.seconds && self.date(now).is_some()
    }

    /// Whether the date can't be that of two contents (§8.8.2.2): its second is over, and it is not one that was set.
    fn has_strong_date(&self, policy: EtagPolicy, now: Timestamp) -> bool {
        // A date has no nanoseconds: the last moment of its second counts.
        let last = Timestamp {
            nanoseconds: if self.modified.nanoseconds == 0 { 0 } else { 999_999_999 },
            ..self.modified
        };
        let is_original = policy != EtagPolicy::Strict || self.modified.seconds == self.changed.seconds;
        is_original && last.settles() <= now
    }
}

/// SipHash-1-3 is specified to the bit, so servers of any version and machine agree.
fn hash<const COUNT: usize>(words: [u64; COUNT], is_settled: bool, coding: Option<Coding>) -> u64 {
    let coding = match coding {
        None => 0,
        Some(Coding::Brotli) => 1,
        Some(Coding::Zstd) => 2,
        Some(Coding::Gzip) => 3,
    };
    let mut hasher = SipHasher13::new_with_keys(coding, u64::from(is_settled));
    hasher.write(words.map(u64::to_le_bytes).as_flattened());
    hasher.finish()
}

/// Identifies one version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validators {
    etag: Option<ETag>,
    /// The same for all parts of one answer.
    version: u64,
    last_modified: Option<i64>,
    file: FileState,
    policy: EtagPolicy,
    now: Timestamp,
}

/// The longest ETag: the mark of a weak one, a 64-bit hexadecimal number, two quotes.
const ETAG_BYTES_MAX: usize = 2 + 16 + 2;

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag {
    version: u64,
    is_weak: bool,
}

impl ETag {
    /// The tag as written in the field.
    #[must_use]
    pub fn text(&self) -> ArrayVec<u8, ETAG_BYTES_MAX> {
        let mut text = ArrayVec::new();
        if self.is_weak {
            text.extend(*b"W/");
        }
        let mut quoted = [b'"'; 18];
        quoted[1..17].copy_from_slice(&hex(self.version));
        text.try_extend_from_slice(&quoted).expect("there is room for the longest");
        text
    }

    /// The tag without the mark of a weak one, for comparisons.
    fn quoted(&self) -> ArrayVec<u8, ETAG_BYTES_MAX> {
        ETag { is_weak: false, ..*self }.text()
    }
}

impl Validators {
    /// A file's validators at this moment.
    #[must_use]
    pub fn new(policy: EtagPolicy, file: &FileState, now: Timestamp) -> Validators {
        Validators::coded(policy, file, None, now)
    }

    /// The same for the coding that the file is sent in.
    #[must_use]
    pub fn coded(policy: EtagPolicy, file: &FileState, coding: Option<Coding>, now: Timestamp) -> Validators {
        let is_settled = file.settles(policy, now).is_none_or(|settles| settles <= now);
        let version = file.version(policy, is_settled, coding);
        let etag = (policy != EtagPolicy::Off).then_some(ETag { version, is_weak: !is_settled });
        Validators { etag, version, last_modified: file.date(now), file: *file, policy, now }
    }

    /// The entity tag, if there is one.
    #[must_use]
    pub fn etag(&self) -> Option<ETag> {
        self.etag
    }

    /// `Last-Modified`, in seconds since the Unix epoch, if the date is known.
    #[must_use]
    pub fn last_modified(&self) -> Option<i64> {
        self.last_modified
    }

    /// Tells the parts of this version from those of others: hexadecimal digits.
    pub(crate) fn boundary(&self) -> [u8; 16] {
        hex(self.version)
    }
}

/// The request fields that can change the response. List fields may span several lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the header fields")]
pub enum Condition {
    IfMatch,
    IfUnmodifiedSince,
    IfNoneMatch,
    IfModifiedSince,
    IfRange,
    Range,
}

/// A request with more condition lines than this is refused with 431.
pub const CONDITIONS_MAX: usize = 8;

/// The condition fields of one request with their values, in line order.
#[derive(Clone, Debug, Default)]
pub struct Conditions<'a>(pub ArrayVec<(Condition, &'a [u8]), CONDITIONS_MAX>);

impl<'a> Conditions<'a> {
    /// The values of every line of a field.
    pub fn values(&self, condition: Condition) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(name, _)| *name == condition).map(|(_, value)| *value)
    }

    /// The value of a field that may occur only once; `None` if it is missing or repeated.
    #[must_use]
    pub fn single(&self, condition: Condition) -> Option<&'a [u8]> {
        let mut values = self.values(condition);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }
}

/// The outcome of the preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as usual.
    Proceed {
        /// Whether to honour a `Range` field.
        range: bool,
    },
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110 §13.2.2. Without a tag no list of tags matches,
/// and without a date those that compare dates are ignored (§13.1.3, §13.1.4).
#[must_use]
pub fn evaluate(conditions: &Conditions<'_>, validators: &Validators) -> Verdict {
    let matches = |condition, strength| {
        let mut lists = conditions.values(condition).peekable();
        lists.peek()?;
        Some(lists.any(|list| list_matches(list, validators.etag, strength)))
    };
    let dates =
        |condition| Some((validators.last_modified?, conditions.single(condition).and_then(parse_date)?));

    let is_met = matches(Condition::IfMatch, Strength::Strong).unwrap_or_else(|| {
        dates(Condition::IfUnmodifiedSince).is_none_or(|(modified, date)| modified <= date)
    });
    if !is_met {
        return Verdict::PreconditionFailed;
    }
    let is_known = matches(Condition::IfNoneMatch, Strength::Weak).unwrap_or_else(|| {
        dates(Condition::IfModifiedSince).is_some_and(|(modified, date)| modified <= date)
    });
    if is_known {
        return Verdict::NotModified;
    }
    Verdict::Proceed { range: range_holds(conditions, validators) }
}

/// If-Range: the range is honoured only for exactly this version of the file (§13.1.5).
fn range_holds(conditions: &Conditions<'_>, validators: &Validators) -> bool {
    let mut values = conditions.values(Condition::IfRange);
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(_), Some(_)) => false,
        (Some(value), None) if value.first() == Some(&b'"') => {
            validators.etag.is_some_and(|etag| !etag.is_weak && value == etag.quoted().as_slice())
        }
        (Some(value), None) => {
            parse_date(value).is_some_and(|date| validators.last_modified == Some(date))
                && validators.file.has_strong_date(validators.policy, validators.now)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strength {
    Strong,
    Weak,
}

/// Whether the list contains `*` or a matching tag (§8.8.3.2). Anything that isn't an entity tag matches nothing.
fn list_matches(list: &[u8], etag: Option<ETag>, strength: Strength) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let Some(etag) = etag.filter(|etag| !(etag.is_weak && strength == Strength::Strong)) else {
        return false;
    };
    let etag = etag.quoted();
    let mut rest = after_separators(list);
    while !rest.is_empty() {
        let (weak, tag) = match rest.strip_prefix(b"W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        // A tag may contain commas, so it ends at its closing quote.
        let Some(close) = tag.strip_prefix(b"\"").and_then(|opaque| memchr::memchr(b'"', opaque)) else {
            return false;
        };
        let (tag, after) = tag.split_at(close + 2);
        if tag == etag.as_slice() && !(weak && strength == Strength::Strong) {
            return true;
        }
        let next = after_separators(after);
        if !next.is_empty() && !after[..after.len() - next.len()].contains(&b',') {
            return false;
        }
        rest = next;
    }
    false
}

/// Skips blanks and commas: a list may have empty elements (RFC 9110 §5.6.1.2).
fn after_separators(list: &[u8]) -> &[u8] {
    let blank = list.iter().take_while(|byte| b", \t".contains(byte)).count();
    &list[blank..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp { seconds: 784_111_800, nanoseconds: 0 };
    const MODIFIED: Timestamp = Timestamp { seconds: 784_111_777, nanoseconds: 5 };
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const ETAG: &str = "\"TAG\"";

    const FILE: FileState = FileState { inode: 10, size: 100, modified: MODIFIED, changed: MODIFIED };

    fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp { seconds, nanoseconds }
    }

    fn tag(policy: EtagPolicy, file: &FileState, now: Timestamp) -> String {
        let text = Validators::new(policy, file, now).etag().expect("a tag").text();
        String::from_utf8(text.to_vec()).expect("ASCII")
    }

    fn judged(lines: &[(Condition, &str)], validators: &Validators) -> Verdict {
        let own = validators.etag.map(|etag| String::from_utf8_lossy(&etag.quoted()).into_owned());
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| (*name, value.replace(ETAG, own.as_deref().unwrap_or(ETAG))))
            .collect();
        let conditions = lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        evaluate(&Conditions(conditions), validators)
    }

    /// The tags of a release are those of the next: clients keep what they have.
    #[test]
    fn tags_are_the_same_for_ever() {
        for (policy, now, expected) in [
            (EtagPolicy::Strict, NOW, "\"18a1a41110a690d0\""),
            (EtagPolicy::Strict, MODIFIED, "W/\"e6c55e4ff461a9ef\""),
            (EtagPolicy::Replica, NOW, "\"3cfd7ef647c749a6\""),
        ] {
            assert_eq!(tag(policy, &FILE, now), expected, "{policy:?}");
        }
    }

    #[test]
    fn a_tag_follows_what_its_policy_looks_at() {
        let original = FILE;
        for (name, file, strict, replica) in [
            ("the same", FileState { ..FILE }, false, false),
            ("another inode", FileState { inode: 11, ..FILE }, true, false),
            ("another size", FileState { size: 101, ..FILE }, true, true),
            ("a second later", FileState { modified: at(784_111_778, 5), ..FILE }, true, true),
            ("a nanosecond later", FileState { modified: at(784_111_777, 6), ..FILE }, true, true),
            ("restored a second later", FileState { changed: at(784_111_778, 5), ..FILE }, true, false),
            ("restored a nanosecond later", FileState { changed: at(784_111_777, 6), ..FILE }, true, false),
            ("before the epoch", FileState { modified: at(-784_111_777, 5), ..FILE }, true, true),
        ] {
            for (policy, differs) in [(EtagPolicy::Strict, strict), (EtagPolicy::Replica, replica)] {
                let tags = [original, file].map(|file| tag(policy, &file, NOW));
                assert_eq!(tags[0] != tags[1], differs, "{name}, {policy:?}");
            }
        }
        assert_eq!(Validators::new(EtagPolicy::Off, &FILE, NOW).etag(), None);
    }

    /// What decides is when the file was changed and how finely its file system counts.
    #[test]
    fn a_young_file_has_a_weak_tag() {
        let (fine, coarse) = (MODIFIED, at(784_111_777, 0));
        let restored = at(1_000_000, 5);
        for (name, modified, changed, now, strict, replica) in [
            ("at once", fine, fine, fine, true, true),
            ("249 ms later", fine, fine, at(784_111_777, 249_000_005), true, true),
            ("250 ms later", fine, fine, at(784_111_777, 250_000_005), false, false),
            ("coarse, at once", coarse, coarse, coarse, true, true),
            ("coarse, 2 s later", coarse, coarse, at(784_111_779, 0), true, true),
            ("coarse, 2249 ms later", coarse, coarse, at(784_111_779, 249_999_999), true, true),
            ("coarse, 2250 ms later", coarse, coarse, at(784_111_779, 250_000_000), false, false),
            ("restored, at once", restored, fine, fine, true, false),
            ("restored, later", restored, fine, NOW, false, false),
            ("restored to the future", at(i64::MAX, 5), fine, NOW, false, true),
            ("changed in the future", restored, at(784_111_801, 5), NOW, true, false),
            ("changed at the end of time", restored, at(i64::MAX, 999_999_999), NOW, true, false),
            ("without a change time, at once", fine, at(0, 0), fine, true, true),
            ("before time", at(i64::MIN, 5), at(i64::MIN, 5), NOW, false, false),
        ] {
            let file = FileState { modified, changed, ..FILE };
            for (policy, is_weak) in [(EtagPolicy::Strict, strict), (EtagPolicy::Replica, replica)] {
                assert_eq!(tag(policy, &file, now).starts_with("W/"), is_weak, "{name}, {policy:?}");
            }
        }
    }

    /// Otherwise a client that has an early version would be told that the late one is the same.
    #[test]
    fn a_weak_tag_is_another_than_the_strong_one_that_follows() {
        for policy in [EtagPolicy::Strict, EtagPolicy::Replica] {
            let early = tag(policy, &FILE, MODIFIED);
            let late = Validators::new(policy, &FILE, NOW);
            let verdict = judged(&[(Condition::IfNoneMatch, &early)], &late);
            assert_eq!(verdict, Verdict::Proceed { range: true }, "{policy:?}");
        }
    }

    #[test]
    fn a_date_that_says_nothing_is_none() {
        let ahead = NOW.seconds + 86_400;
        for (name, seconds, expected) in [
            ("a date", 784_111_777, Some(784_111_777)),
            ("the second after the unknown ones", 2, Some(2)),
            ("one", 1, None),
            ("zero", 0, None),
            ("before the epoch", -1, None),
            ("the least", i64::MIN, None),
            ("now", NOW.seconds, Some(NOW.seconds)),
            ("an hour ahead is now", NOW.seconds + 3600, Some(NOW.seconds)),
            ("a day ahead is now", ahead, Some(NOW.seconds)),
            ("more than that makes no sense", ahead + 1, None),
            ("nor does the greatest", i64::MAX, None),
        ] {
            let file = FileState { modified: at(seconds, 5), ..FILE };
            for policy in [EtagPolicy::Strict, EtagPolicy::Replica, EtagPolicy::Off] {
                let validators = Validators::new(policy, &file, NOW);
                assert_eq!(validators.last_modified(), expected, "{name}, {policy:?}");
            }
            let follows = expected == Some(NOW.seconds) && seconds != NOW.seconds;
            assert_eq!(file.date_follows(NOW), follows, "{name}: whether it is another date a second later");
        }
        let unset = Validators::new(EtagPolicy::Strict, &FILE, at(5, 0));
        assert_eq!(unset.last_modified(), None, "a clock that was never set");
    }

    #[test]
    fn verdicts_in_the_order_of_the_rfc() {
        use Condition::{IfMatch, IfModifiedSince, IfNoneMatch, IfRange, IfUnmodifiedSince, Range};
        const GO: Verdict = Verdict::Proceed { range: true };
        const NO_RANGE: Verdict = Verdict::Proceed { range: false };
        const FAILED: Verdict = Verdict::PreconditionFailed;
        const SAME: Verdict = Verdict::NotModified;
        let weak = format!("W/{ETAG}");
        let listed = format!(", ,\"x,y\" , W/\"z\",, {ETAG}");
        // With a strong tag and a date, with a weak tag, without a tag, without a date.
        let kinds = [
            Validators::new(EtagPolicy::Strict, &FILE, NOW),
            Validators::new(EtagPolicy::Strict, &FileState { changed: NOW, ..FILE }, NOW),
            Validators::new(EtagPolicy::Off, &FILE, NOW),
            Validators::new(EtagPolicy::Strict, &FileState { modified: at(1, 0), ..FILE }, NOW),
        ];
        type Lines<'a> = &'a [(Condition, &'a str)];
        let rows: &[(Lines<'_>, [Verdict; 4])] = &[
            (&[], [GO, GO, GO, GO]),
            (&[(IfMatch, ETAG)], [GO, FAILED, FAILED, GO]),
            (&[(IfMatch, "*")], [GO, GO, GO, GO]),
            (&[(IfMatch, " * ")], [GO, GO, GO, GO]),
            (&[(IfMatch, "")], [FAILED, FAILED, FAILED, FAILED]),
            (&[(IfMatch, &listed)], [GO, FAILED, FAILED, GO]),
            (&[(IfMatch, "\"x\""), (IfMatch, ETAG)], [GO, FAILED, FAILED, GO]),
            (&[(IfMatch, &weak)], [FAILED, FAILED, FAILED, FAILED]),
            (&[(IfMatch, "\"x\"")], [FAILED, FAILED, FAILED, FAILED]),
            (&[(IfMatch, "nonsense")], [FAILED, FAILED, FAILED, FAILED]),
            (&[(IfMatch, "\"x\" \"TAG\"")], [FAILED, FAILED, FAILED, FAILED]),
            (&[(IfMatch, ETAG), (IfUnmodifiedSince, EARLIER)], [GO, FAILED, FAILED, GO]),
            (&[(IfMatch, "*"), (IfUnmodifiedSince, EARLIER)], [GO, GO, GO, GO]),
            (&[(IfUnmodifiedSince, DATE)], [GO, GO, GO, GO]),
            (&[(IfUnmodifiedSince, LATER)], [GO, GO, GO, GO]),
            (&[(IfUnmodifiedSince, EARLIER)], [FAILED, FAILED, FAILED, GO]),
            (&[(IfUnmodifiedSince, "never")], [GO, GO, GO, GO]),
            (&[(IfNoneMatch, ETAG)], [SAME, SAME, GO, SAME]),
            (&[(IfNoneMatch, &weak)], [SAME, SAME, GO, SAME]),
            (&[(IfNoneMatch, "*")], [SAME, SAME, SAME, SAME]),
            (&[(IfNoneMatch, &listed)], [SAME, SAME, GO, SAME]),
            (&[(IfNoneMatch, "\"x\""), (IfNoneMatch, ETAG)], [SAME, SAME, GO, SAME]),
            (&[(IfNoneMatch, "\"x\"")], [GO, GO, GO, GO]),
            (&[(IfNoneMatch, "nonsense")], [GO, GO, GO, GO]),
            (&[(IfNoneMatch, "\"x\""), (IfModifiedSince, LATER)], [GO, GO, GO, GO]),
            (&[(IfModifiedSince, DATE)], [SAME, SAME, SAME, GO]),
            (&[(IfModifiedSince, LATER)], [SAME, SAME, SAME, GO]),
            (&[(IfModifiedSince, EARLIER)], [GO, GO, GO, GO]),
            (&[(IfModifiedSince, "never")], [GO, GO, GO, GO]),
            (&[(IfModifiedSince, DATE), (IfModifiedSince, DATE)], [GO, GO, GO, GO]),
            (&[(IfMatch, "\"x\""), (IfNoneMatch, ETAG)], [FAILED, FAILED, FAILED, FAILED]),
            (&[(IfMatch, ETAG), (IfNoneMatch, ETAG)], [SAME, FAILED, FAILED, SAME]),
            (&[(Range, "bytes=0-1"), (IfRange, ETAG)], [GO, NO_RANGE, NO_RANGE, GO]),
            (&[(Range, "bytes=0-1"), (IfRange, &weak)], [NO_RANGE, NO_RANGE, NO_RANGE, NO_RANGE]),
            (&[(Range, "bytes=0-1"), (IfRange, "\"x\"")], [NO_RANGE, NO_RANGE, NO_RANGE, NO_RANGE]),
            // The second kind was changed after that date, which may have been set.
            (&[(Range, "bytes=0-1"), (IfRange, DATE)], [GO, NO_RANGE, GO, NO_RANGE]),
            (&[(Range, "bytes=0-1"), (IfRange, LATER)], [NO_RANGE, NO_RANGE, NO_RANGE, NO_RANGE]),
            (&[(Range, "bytes=0-1"), (IfRange, EARLIER)], [NO_RANGE, NO_RANGE, NO_RANGE, NO_RANGE]),
            (&[(Range, "bytes=0-1"), (IfRange, "never")], [NO_RANGE, NO_RANGE, NO_RANGE, NO_RANGE]),
            (&[(IfRange, ETAG), (IfRange, ETAG)], [NO_RANGE, NO_RANGE, NO_RANGE, NO_RANGE]),
            (&[(IfNoneMatch, ETAG), (IfRange, ETAG)], [SAME, SAME, NO_RANGE, SAME]),
        ];
        for (lines, expected) in rows {
            let verdicts = kinds.map(|validators| judged(lines, &validators));
            assert_eq!(verdicts, *expected, "{lines:?}");
        }
    }

    /// A date stands for one content alone: nobody has set it, and its second is over.
    #[test]
    fn a_date_is_a_strong_validator_only_if_nothing_else_can_have_it() {
        use EtagPolicy::{Off, Replica, Strict};
        let in_its_second = at(784_111_777, 900_000_000);
        let just_after = at(784_111_778, 249_999_998);
        let over = at(784_111_778, 249_999_999);
        let (fine, coarse, set) = (MODIFIED, at(784_111_777, 0), at(784_111_779, 5));
        for (name, modified, changed, now, expected) in [
            ("in its second", fine, fine, in_its_second, [false, false, false]),
            ("a tick later", fine, fine, just_after, [false, false, false]),
            ("over", fine, fine, over, [true, true, true]),
            (
                "coarse, in its two seconds",
                coarse,
                coarse,
                at(784_111_779, 249_999_999),
                [false, false, false],
            ),
            ("coarse, over", coarse, coarse, at(784_111_779, 250_000_000), [true, true, true]),
            ("set", fine, set, NOW, [false, true, true]),
            ("set within its second", fine, at(784_111_777, 6), NOW, [true, true, true]),
        ] {
            let file = FileState { modified, changed, ..FILE };
            let verdicts = [Strict, Replica, Off]
                .map(|policy| judged(&[(Condition::IfRange, DATE)], &Validators::new(policy, &file, now)));
            assert_eq!(verdicts, expected.map(|range| Verdict::Proceed { range }), "{name}");
        }
    }

    fn moments() -> impl Strategy<Value = Timestamp> {
        let seconds = prop_oneof![0..4_i64, 784_111_770..784_111_800_i64, -(1_i64 << 60)..1 << 60];
        let nanoseconds = prop_oneof![Just(0_u32), 0..1_000_000_000_u32];
        (seconds, nanoseconds).prop_map(|(seconds, nanoseconds)| at(seconds, nanoseconds))
    }

    fn files() -> impl Strategy<Value = FileState> {
        (1..3_u64, 0..3_u64, moments(), moments()).prop_map(|(inode, size, modified, changed)| FileState {
            inode,
            size,
            modified,
            changed,
        })
    }

    proptest! {
        /// Strong tags are equal exactly where what they are made of is, and so are weak ones.
        #[test]
        fn equal_tags_mean_equal_files(one in files(), other in files(), now in moments(), then in moments()) {
            let tags = [tag(EtagPolicy::Strict, &one, now), tag(EtagPolicy::Strict, &other, then)];
            let kinds = [0, 1].map(|index: usize| tags[index].starts_with('W'));
            prop_assert_eq!(tags[0] == tags[1], one == other && kinds[0] == kinds[1]);
            let copy = FileState { inode: 7, changed: then, ..one };
            prop_assert_eq!(tag(EtagPolicy::Replica, &one, now), tag(EtagPolicy::Replica, &copy, now));
        }

        /// Time only ever makes a tag strong, exactly when it was said to.
        #[test]
        fn a_tag_settles_once(file in files(), now in moments(), policy in prop_oneof![Just(EtagPolicy::Strict), Just(EtagPolicy::Replica)]) {
            let left = file.settles_in(policy, now);
            prop_assert_eq!(tag(policy, &file, now).starts_with('W'), !left.is_zero());
            let settled = now.after(left);
            if file.modified <= now {
                prop_assert!(!tag(policy, &file, settled).starts_with('W'));
                if left > Duration::from_nanos(1) {
                    let before = now.after(left - Duration::from_nanos(1));
                    prop_assert!(tag(policy, &file, before).starts_with('W'));
                }
            }
        }

        /// A date is never in the future, and only one that is sent decides anything.
        #[test]
        fn dates_are_of_the_past(file in files(), now in moments()) {
            let validators = Validators::new(EtagPolicy::Off, &file, now);
            match validators.last_modified() {
                Some(date) => prop_assert!(date > 1 && date <= now.seconds && date <= file.modified.seconds),
                None => for condition in [Condition::IfModifiedSince, Condition::IfUnmodifiedSince] {
                    let verdict = judged(&[(condition, DATE)], &validators);
                    prop_assert_eq!(verdict, Verdict::Proceed { range: true });
                },
            }
        }
    }
}

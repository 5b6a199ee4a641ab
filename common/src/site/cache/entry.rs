//! An entry of the cache: one file as it was found, ready to be sent.

use std::sync::Arc;
use std::time::Instant;

use crate::http::accept_encoding::Coding;
use crate::http::additions::Additions;
use crate::http::conditional::{EtagPolicy, Timestamp, Validators};
use crate::http::date::Date;
use crate::http::head::{self, Form, General, Persistence, Representation};
use crate::http::status::Status;
use crate::site::file::{Metadata, SharedFile};
use crate::site::file_bytes::FileBytes;
use crate::site::rule_files::FileRules;
use crate::site::variants::Variants;

/// Where the bytes of a body come from. It is a share: neither is freed while it is being sent.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// An open file.
    File(Arc<SharedFile>),
    /// The whole file, in memory.
    Memory(Arc<FileBytes>),
}

/// An opened file that may be admitted.
pub(crate) struct Candidate<'a> {
    /// Relative to the root.
    pub(crate) path: &'a [u8],
    pub(crate) file: &'a Arc<SharedFile>,
    pub(crate) metadata: Metadata,
    /// When it was found to be that.
    pub(crate) examined: Instant,
}

/// What is known of a file without a look into it.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) form: Form,
    pub(crate) etag: EtagPolicy,
    pub(crate) rules: FileRules,
}

/// The current time, by both of a worker's clocks.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) unix_seconds: i64,
    /// When `unix_seconds` ceases to be the current second.
    pub(crate) next_second: Instant,
}

impl Moment {
    /// The time of day.
    pub(crate) fn unix_time(&self) -> Timestamp {
        let left = self.next_second.saturating_duration_since(self.now).as_nanos();
        let nanoseconds = u32::try_from(left).map_or(0, |left| 1_000_000_000_u32.saturating_sub(left));
        Timestamp { seconds: self.unix_seconds, nanoseconds: nanoseconds.min(999_999_999) }
    }
}

/// A file in the cache. It never changes: a file that does gets another entry.
#[derive(Debug)]
pub(crate) struct CachedFile {
    pub(crate) metadata: Metadata,
    pub(crate) form: Form,
    /// What else there is of the file, where that may be. Its next entry goes on with it.
    pub(crate) variants: Option<Arc<Variants>>,
    /// The same as a variant of the file that it is beside of.
    pub(crate) as_variant: Option<Arc<CachedFile>>,
    pub(crate) rules: FileRules,
    /// The head of a 200 on a kept HTTP/1.1 connection, from when the file has settled; its date is replaced.
    head: Box<[u8]>,
    /// Until this moment the tag is weak.
    settles: Instant,
    pub(crate) source: Source,
    /// The bytes belong in memory and are not there yet.
    pub(crate) wants_bytes: bool,
    /// The watch of the file's inode, where changes produce events.
    pub(crate) watch: Option<i32>,
    /// The entry isn't trusted from this moment on.
    pub(crate) expires: Instant,
}

impl CachedFile {
    /// An entry of a file that was found to be this.
    pub(crate) fn new(
        source: Source,
        metadata: Metadata,
        kind: Kind,
        moment: &Moment,
        wants_bytes: bool,
        watch: Option<i32>,
        expires: Instant,
    ) -> CachedFile {
        let Kind { form, etag, rules } = kind;
        let settles_in = metadata.state().settles_in(etag, moment.unix_time());
        // Far in the future if the change time is: the tag stays weak as long as there is the entry.
        let settles = moment.now.checked_add(settles_in).unwrap_or(expires);
        let mut head = Vec::with_capacity(512);
        let general =
            General { date: Date::EPOCH, persistence: Persistence::Kept, cors: None, is_negotiated: false };
        let settled = moment.unix_time().after(settles_in);
        let additions = rules.additions.as_deref();
        let representation = representation_at(settled, &metadata, form, additions, etag);
        head::build_ok_headers(&mut head, &general, &representation);
        // Where changes can't be seen, these bytes may not be those that the strong tag will stand for.
        let expires = if watch.is_none() && !settles_in.is_zero() { expires.min(settles) } else { expires };
        CachedFile {
            metadata,
            form,
            variants: (form.varies && form.coding.is_none()).then(Arc::default),
            as_variant: None,
            rules,
            head: head.into(),
            settles,
            source,
            wants_bytes,
            watch,
            expires,
        }
    }

    /// The same file in a coding that it was compressed in.
    pub(crate) fn compressed(
        &self,
        bytes: &Arc<FileBytes>,
        coding: Coding,
        etag: EtagPolicy,
        moment: &Moment,
    ) -> CachedFile {
        let metadata = Metadata { size: bytes.len() as u64, ..self.metadata };
        let form = Form { coding: Some(coding), ..self.form };
        let kind = Kind { form, etag, rules: self.rules.clone() };
        let source = Source::Memory(Arc::clone(bytes));
        CachedFile::new(source, metadata, kind, moment, false, self.watch, self.expires)
    }

    /// The same with its bytes in memory.
    pub(crate) fn with_bytes(&self, bytes: Arc<FileBytes>) -> CachedFile {
        CachedFile {
            metadata: self.metadata,
            form: self.form,
            variants: self.variants.clone(),
            as_variant: self.as_variant.as_ref().map(|entry| Arc::new(entry.with_bytes(Arc::clone(&bytes)))),
            rules: self.rules.clone(),
            head: self.head.clone(),
            settles: self.settles,
            source: Source::Memory(bytes),
            wants_bytes: false,
            watch: self.watch,
            expires: self.expires,
        }
    }

    /// Appends the head of a 200: the prepared one, or where it doesn't fit, a new one.
    #[inline]
    pub(crate) fn push_head(&self, out: &mut Vec<u8>, general: &General, etag: EtagPolicy, moment: &Moment) {
        if general.persistence != Persistence::Kept || moment.now < self.settles {
            return self.push_new_head(out, general, etag, moment);
        }
        let start = out.len();
        out.extend_from_slice(&self.head);
        let date = head::date_range(Status::Ok);
        out[start..][date].copy_from_slice(general.date.as_bytes());
    }

    #[cold]
    fn push_new_head(&self, out: &mut Vec<u8>, general: &General, etag: EtagPolicy, moment: &Moment) {
        let additions = self.rules.additions.as_deref();
        let representation = representation(&self.metadata, self.form, additions, etag, moment);
        head::build_ok_headers(out, general, &representation);
    }

    /// Bytes of memory that the body takes, or will take.
    pub(crate) fn body_bytes(&self) -> u64 {
        match &self.source {
            Source::File(_) if self.wants_bytes => self.metadata.size,
            Source::File(_) => 0,
            Source::Memory(bytes) => bytes.len() as u64,
        }
    }
}

/// What is sent of a file, at this moment: how strong its validators are depends on the time.
pub(crate) fn representation<'a>(
    metadata: &Metadata,
    form: Form,
    additions: Option<&'a Additions>,
    etag: EtagPolicy,
    moment: &Moment,
) -> Representation<'a> {
    representation_at(moment.unix_time(), metadata, form, additions, etag)
}

fn representation_at<'a>(
    now: Timestamp,
    metadata: &Metadata,
    form: Form,
    additions: Option<&'a Additions>,
    etag: EtagPolicy,
) -> Representation<'a> {
    let validators = Validators::coded(etag, &metadata.state(), form.coding, now);
    Representation { form, size: metadata.size, validators, additions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::mime::mime_for;
    use crate::site::cache::test_file;
    use crate::site::file::OpenFile;
    use crate::site::volume::Volume;
    use std::time::Duration;

    const UNIX_SECONDS: i64 = 784_111_777;

    /// An entry whose file was changed half a second into this second.
    fn entry(now: Instant, etag: EtagPolicy, watch: Option<i32>) -> CachedFile {
        let opened = tempfile::tempfile().expect("a file");
        let changed = (UNIX_SECONDS, 500_000_000);
        let found = Metadata::of(&opened).expect("examined");
        let metadata = Metadata { modified_seconds: 1_000_000, modified_nanoseconds: 5, changed, ..found };
        let file = tempfile::tempfile().expect("a file");
        let file = Arc::new(SharedFile::new(OpenFile::new(file.into(), Volume::Local, 0)));
        let expires = now + Duration::from_secs(10);
        let lines = b"Cache-Control: public\r\n"[..].into();
        let additions = Some(Arc::new(Additions { lines, ..Additions::default() }));
        let rules = FileRules { additions, ..FileRules::default() };
        let form = Form { media_type: mime_for(b"a.html"), coding: None, varies: true };
        let kind = Kind { form, etag, rules };
        CachedFile::new(Source::File(file), metadata, kind, &moment(now, 0), true, watch, expires)
    }

    /// So many milliseconds after `now`, which is in the middle of the second.
    fn moment(now: Instant, milliseconds: u64) -> Moment {
        let later = 500 + milliseconds;
        let left = Duration::from_millis(1000 - later % 1000);
        let now = now + Duration::from_millis(milliseconds);
        let seconds = i64::try_from(later / 1000).expect("soon");
        Moment { now, unix_seconds: UNIX_SECONDS + seconds, next_second: now + left }
    }

    /// The prepared head is the one that would be built, whatever the connection and however old the file.
    #[test]
    fn a_prepared_head_is_as_good_as_a_new_one() {
        let now = Instant::now();
        for etag in [EtagPolicy::Strict, EtagPolicy::Replica, EtagPolicy::Off] {
            let entry = entry(now, etag, Some(1));
            for persistence in [Persistence::Kept, Persistence::KeptExplicitly, Persistence::Closing] {
                for (milliseconds, is_young) in [(0, true), (249, true), (250, false), (9_000, false)] {
                    let moment = moment(now, milliseconds);
                    let date = Date::from_unix(moment.unix_seconds);
                    let general = General { date, persistence, cors: None, is_negotiated: false };
                    let (mut pushed, mut built) = (b"before".to_vec(), b"before".to_vec());
                    entry.push_head(&mut pushed, &general, etag, &moment);
                    let additions = entry.rules.additions.as_deref();
                    let new = representation(&entry.metadata, entry.form, additions, etag, &moment);
                    head::build_ok_headers(&mut built, &general, &new);
                    let text = String::from_utf8_lossy(&pushed);
                    assert!(text.contains("\r\nCache-Control: public\r\n"), "{text}");
                    assert_eq!(text, String::from_utf8_lossy(&built), "{etag:?}, after {milliseconds} ms");
                    let is_weak = text.contains("ETag: W/");
                    assert_eq!(is_weak, is_young && etag == EtagPolicy::Strict, "{etag:?}: {text}");
                }
            }
        }
    }

    /// Bytes whose changes can't be seen aren't kept until the file has a strong tag: they may be older than that.
    #[test]
    fn an_entry_without_a_watch_ends_when_its_file_settles() {
        let now = Instant::now();
        for (etag, watch, milliseconds) in [
            (EtagPolicy::Strict, None, 250),
            (EtagPolicy::Strict, Some(1), 10_000),
            (EtagPolicy::Replica, None, 10_000),
            (EtagPolicy::Off, None, 10_000),
        ] {
            let expires = entry(now, etag, watch).expires;
            assert_eq!(expires, now + Duration::from_millis(milliseconds), "{etag:?}, {watch:?}");
        }
    }

    #[test]
    fn the_time_of_day_is_between_two_seconds() {
        let now = Instant::now();
        for (left, nanoseconds) in [(1_000_000_000, 0), (999_999_999, 1), (1, 999_999_999), (0, 999_999_999)]
        {
            let next_second = now + Duration::from_nanos(left);
            let moment = Moment { now, unix_seconds: 7, next_second };
            assert_eq!(moment.unix_time(), Timestamp { seconds: 7, nanoseconds });
        }
        let late = Moment { now: now + Duration::from_secs(9), unix_seconds: 7, next_second: now };
        assert_eq!(late.unix_time(), Timestamp { seconds: 7, nanoseconds: 999_999_999 });
        let early = Moment { now, unix_seconds: 7, next_second: now + Duration::from_secs(9) };
        assert_eq!(early.unix_time(), Timestamp { seconds: 7, nanoseconds: 0 });
    }

    #[test]
    fn a_body_takes_its_bytes_from_the_beginning() {
        assert_eq!(test_file(7, false).body_bytes(), 0);
        let wanting = test_file(7, true);
        assert_eq!(wanting.body_bytes(), 7);
        let complete = wanting.with_bytes(Arc::new(FileBytes::from(&b"1234567"[..])));
        assert_eq!(complete.body_bytes(), 7);
        assert!(!complete.wants_bytes);
        let (expires, watch) = (complete.expires, complete.watch);
        assert_eq!((expires, watch), (wanting.expires, wanting.watch));
    }
}

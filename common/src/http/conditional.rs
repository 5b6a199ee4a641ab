//! Validators and preconditions (RFC 9110 §8.8, §13).

use arrayvec::ArrayVec;

use crate::http::date::parse_date;
use crate::http::digits::push_hex;

/// Identifies one version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validators {
    etag: ETag,
    /// `Last-Modified`, in seconds since the Unix epoch; never later than the response's `Date`.
    pub last_modified: i64,
    /// Whether `last_modified` is a strong validator: old enough to rule out a second change in the same second
    /// (§8.8.2.2).
    last_modified_is_strong: bool,
}

/// The longest ETag: three 64-bit hexadecimal numbers, two dashes, two quotes.
const ETAG_BYTES_MAX: usize = 3 * 16 + 2 + 2;

/// A strong entity tag from inode, size and modification time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag {
    inode: u64,
    size: u64,
    modified_nanoseconds: u64,
}

impl ETag {
    /// The tag with its quotes, as written in the field.
    #[must_use]
    pub fn text(&self) -> ArrayVec<u8, ETAG_BYTES_MAX> {
        let mut text = ArrayVec::new();
        text.push(b'"');
        push_hex(&mut text, self.inode);
        text.push(b'-');
        push_hex(&mut text, self.size);
        text.push(b'-');
        push_hex(&mut text, self.modified_nanoseconds);
        text.push(b'"');
        text
    }

    /// The tag without its quotes. Needs no escaping in a multipart boundary.
    #[must_use]
    pub fn opaque(&self) -> ArrayVec<u8, ETAG_BYTES_MAX> {
        self.text().into_iter().filter(|byte| *byte != b'"').collect()
    }
}

impl Validators {
    /// Builds a file's validators; `now` is in seconds since the Unix epoch.
    #[must_use]
    pub fn new(
        inode: u64,
        size: u64,
        modified_seconds: i64,
        modified_nanoseconds: u32,
        now: i64,
    ) -> Validators {
        // Wraps modulo 2⁶⁴ on purpose: tags are only compared for equality.
        let nanoseconds = modified_seconds
            .cast_unsigned()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(u64::from(modified_nanoseconds));
        let last_modified = modified_seconds.clamp(0, now.max(0));
        Validators {
            etag: ETag { inode, size, modified_nanoseconds: nanoseconds },
            last_modified,
            last_modified_is_strong: last_modified < now,
        }
    }

    /// The entity tag.
    #[must_use]
    pub fn etag(&self) -> ETag {
        self.etag
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

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110 §13.2.2.
#[must_use]
pub fn evaluate(conditions: &Conditions<'_>, validators: &Validators) -> Verdict {
    let etag = validators.etag.text();
    let dated = |condition| conditions.single(condition).and_then(parse_date);

    if conditions.values(Condition::IfMatch).next().is_some() {
        if !conditions.values(Condition::IfMatch).any(|list| list_matches(list, &etag, Strength::Strong)) {
            return Verdict::PreconditionFailed;
        }
    } else if dated(Condition::IfUnmodifiedSince).is_some_and(|date| validators.last_modified > date) {
        return Verdict::PreconditionFailed;
    }
    if conditions.values(Condition::IfNoneMatch).next().is_some() {
        if conditions.values(Condition::IfNoneMatch).any(|list| list_matches(list, &etag, Strength::Weak)) {
            return Verdict::NotModified;
        }
    } else if dated(Condition::IfModifiedSince).is_some_and(|date| validators.last_modified <= date) {
        return Verdict::NotModified;
    }
    Verdict::Proceed { range: range_holds(conditions, validators, &etag) }
}

/// If-Range: the range is honoured only for exactly this version of the file (§13.1.5).
fn range_holds(conditions: &Conditions<'_>, validators: &Validators, etag: &[u8]) -> bool {
    let mut values = conditions.values(Condition::IfRange);
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(_), Some(_)) => false,
        (Some(value), None) if value.first() == Some(&b'"') => value == etag,
        (Some(value), None) => {
            validators.last_modified_is_strong && parse_date(value) == Some(validators.last_modified)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strength {
    Strong,
    Weak,
}

/// Whether the list contains `*` or a matching tag. Anything that isn't an entity tag matches nothing.
fn list_matches(list: &[u8], etag: &[u8], strength: Strength) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
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
        if tag == etag && !(weak && strength == Strength::Strong) {
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

    const NOW: i64 = 784_111_800;
    const MODIFIED: i64 = 784_111_777;
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const ETAG: &str = "\"a-64-ae1b981bc490a05\"";

    fn validators() -> Validators {
        Validators::new(10, 100, MODIFIED, 5, NOW)
    }

    #[test]
    fn the_etag_names_inode_size_and_time() {
        assert_eq!(String::from_utf8_lossy(&validators().etag().text()), ETAG);
        let widest = Validators::new(u64::MAX, u64::MAX, -1, 0, NOW);
        assert!(widest.etag().text().len() <= ETAG_BYTES_MAX);
        assert_eq!(widest.last_modified, 0);
    }

    #[test]
    fn a_change_in_the_future_is_dated_now() {
        assert_eq!(Validators::new(1, 1, NOW + 1000, 0, NOW).last_modified, NOW);
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
        let rows: &[(&[(Condition, &str)], Verdict)] = &[
            (&[], GO),
            (&[(IfMatch, ETAG)], GO),
            (&[(IfMatch, "*")], GO),
            (&[(IfMatch, &listed)], GO),
            (&[(IfMatch, "\"x\""), (IfMatch, ETAG)], GO),
            (&[(IfMatch, &weak)], FAILED),
            (&[(IfMatch, "\"x\"")], FAILED),
            (&[(IfMatch, "nonsense")], FAILED),
            (&[(IfMatch, ETAG), (IfUnmodifiedSince, EARLIER)], GO),
            (&[(IfUnmodifiedSince, DATE)], GO),
            (&[(IfUnmodifiedSince, LATER)], GO),
            (&[(IfUnmodifiedSince, EARLIER)], FAILED),
            (&[(IfUnmodifiedSince, "never")], GO),
            (&[(IfNoneMatch, ETAG)], SAME),
            (&[(IfNoneMatch, &weak)], SAME),
            (&[(IfNoneMatch, "*")], SAME),
            (&[(IfNoneMatch, &listed)], SAME),
            (&[(IfNoneMatch, "\"x\""), (IfNoneMatch, ETAG)], SAME),
            (&[(IfNoneMatch, "\"x\"")], GO),
            (&[(IfNoneMatch, "nonsense")], GO),
            (&[(IfNoneMatch, "\"x\""), (IfModifiedSince, LATER)], GO),
            (&[(IfModifiedSince, DATE)], SAME),
            (&[(IfModifiedSince, LATER)], SAME),
            (&[(IfModifiedSince, EARLIER)], GO),
            (&[(IfModifiedSince, "never")], GO),
            (&[(IfModifiedSince, DATE), (IfModifiedSince, DATE)], GO),
            (&[(IfMatch, "\"x\""), (IfNoneMatch, ETAG)], FAILED),
            (&[(IfMatch, ETAG), (IfNoneMatch, ETAG)], SAME),
            (&[(Range, "bytes=0-1"), (IfRange, ETAG)], GO),
            (&[(Range, "bytes=0-1"), (IfRange, &weak)], NO_RANGE),
            (&[(Range, "bytes=0-1"), (IfRange, "\"x\"")], NO_RANGE),
            (&[(Range, "bytes=0-1"), (IfRange, DATE)], GO),
            (&[(Range, "bytes=0-1"), (IfRange, LATER)], NO_RANGE),
            (&[(Range, "bytes=0-1"), (IfRange, EARLIER)], NO_RANGE),
            (&[(IfNoneMatch, ETAG), (IfRange, ETAG)], SAME),
        ];
        for (lines, expected) in rows {
            let conditions =
                Conditions(lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect());
            assert_eq!(evaluate(&conditions, &validators()), *expected, "{conditions:?}");
        }
    }

    #[test]
    fn a_date_is_no_strong_validator_within_its_second() {
        let conditions = Conditions([(Condition::IfRange, DATE.as_bytes())].into_iter().collect());
        let fresh = Validators::new(10, 100, MODIFIED, 5, MODIFIED);
        assert_eq!(evaluate(&conditions, &fresh), Verdict::Proceed { range: false });
    }
}

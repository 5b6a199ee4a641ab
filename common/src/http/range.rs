//! Byte ranges (RFC 9110 §14): evaluates a `Range` field against a file of known size.

use arrayvec::ArrayVec;

/// If a request has more ranges than this, the `Range` field is ignored and the whole file is sent (RFC 9110 §14.2
/// allows it).
pub const RANGES_MAX: usize = 32;

/// Ranges with a smaller gap than this are merged: a separate part header costs about as much (RFC 9110 §15.3.7.2).
pub const GAP_BYTES_MIN: u64 = 80;

/// A non-empty range of bytes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

impl ByteRange {
    fn end(self) -> u64 {
        self.start + self.length
    }

    fn is_near(self, other: ByteRange) -> bool {
        self.start < other.end().saturating_add(GAP_BYTES_MIN)
            && other.start < self.end().saturating_add(GAP_BYTES_MIN)
    }

    fn union(self, other: ByteRange) -> ByteRange {
        let start = self.start.min(other.start);
        ByteRange { start, length: self.end().max(other.end()) - start }
    }
}

/// Up to [`RANGES_MAX`] ranges, in request order.
pub type Ranges = ArrayVec<ByteRange, RANGES_MAX>;

/// The outcome of a `Range` field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "short-lived on the stack; boxing would allocate")]
pub enum Selection {
    /// Ignore the field and send the whole file.
    Whole,
    /// No range overlaps the file: 416.
    Unsatisfiable,
    /// Send these ranges. None is empty, and no two are close enough to merge.
    Ranges(Ranges),
}

/// Evaluates a `Range` field against a file of `size` bytes.
///
/// The field is ignored if the unit is unknown, the set is malformed, there are more than [`RANGES_MAX`] ranges, the
/// ranges add up to more bytes than the file has, or the file is empty.
#[must_use]
pub fn select(value: &[u8], size: u64) -> Selection {
    let Some(set) = byte_range_set(value) else {
        return Selection::Whole;
    };
    if size == 0 {
        return Selection::Whole;
    }
    let mut ranges = Ranges::new();
    let mut specs = 0;
    let mut sum: u64 = 0;
    for spec in set.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty()) {
        specs += 1;
        let Some(spec) = parse_spec(spec).filter(|_| specs <= RANGES_MAX) else {
            return Selection::Whole;
        };
        if let Some(range) = spec.within(size) {
            sum = sum.saturating_add(range.length);
            merge(&mut ranges, range);
        }
    }
    if specs == 0 || sum > size {
        Selection::Whole
    } else if ranges.is_empty() {
        Selection::Unsatisfiable
    } else {
        Selection::Ranges(ranges)
    }
}

fn byte_range_set(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let equals = memchr::memchr(b'=', value)?;
    value[..equals].eq_ignore_ascii_case(b"bytes").then_some(&value[equals + 1..])
}

#[derive(Clone, Copy)]
enum Spec {
    From { first: u64, last: u64 },
    Suffix(u64),
}

impl Spec {
    fn within(self, size: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Spec::From { first, last } => (first, last.saturating_add(1).min(size)),
            Spec::Suffix(length) => (size.saturating_sub(length), size),
        };
        (start < end).then(|| ByteRange { start, length: end - start })
    }
}

/// Parses `first-last`, `first-` or `-length`. Numbers that overflow saturate: they are past the end of any file.
fn parse_spec(spec: &[u8]) -> Option<Spec> {
    let dash = memchr::memchr(b'-', spec)?;
    match (&spec[..dash], &spec[dash + 1..]) {
        (b"", suffix) => Some(Spec::Suffix(number(suffix)?)),
        (first, b"") => Some(Spec::From { first: number(first)?, last: u64::MAX }),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From { first, last })
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
    )
}

/// Adds a range. Ranges that overlap it or are near it are merged into one, at the position of the earliest.
fn merge(ranges: &mut Ranges, mut range: ByteRange) {
    let mut place = ranges.len();
    while let Some(near) = ranges.iter().position(|other| other.is_near(range)) {
        range = range.union(ranges.remove(near));
        place = place.min(near);
    }
    ranges.insert(place.min(ranges.len()), range);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges(list: &[(u64, u64)]) -> Selection {
        Selection::Ranges(
            list.iter().map(|(start, length)| ByteRange { start: *start, length: *length }).collect(),
        )
    }

    #[test]
    fn fields_select() {
        for (value, expected) in [
            ("bytes=0-0", ranges(&[(0, 1)])),
            ("bytes=0-499", ranges(&[(0, 500)])),
            ("bytes=500-", ranges(&[(500, 500)])),
            ("bytes=-1", ranges(&[(999, 1)])),
            ("bytes=-5000", ranges(&[(0, 1000)])),
            ("bytes=999-5000", ranges(&[(999, 1)])),
            ("BYTES = 0-0", Selection::Whole),
            ("Bytes=0-0", ranges(&[(0, 1)])),
            (" bytes= 0-0 , , 200-200 ", ranges(&[(0, 1), (200, 1)])),
            ("bytes=200-200,0-0", ranges(&[(200, 1), (0, 1)])),
            ("bytes=0-9,5-19", ranges(&[(0, 20)])),
            ("bytes=0-9,89-90", ranges(&[(0, 91)])),
            ("bytes=0-9,90-90", ranges(&[(0, 10), (90, 1)])),
            ("bytes=90-90,0-9", ranges(&[(90, 1), (0, 10)])),
            ("bytes=89-90,0-9", ranges(&[(0, 91)])),
            ("bytes=100-109,110-119", ranges(&[(100, 20)])),
            ("bytes=500-509,400-450", ranges(&[(400, 110)])),
            ("bytes=0-9,300-309,150-159,80-149", ranges(&[(0, 160), (300, 10)])),
            ("bytes=0-0,1000-", ranges(&[(0, 1)])),
            ("bytes=18446744073709551616-", Selection::Unsatisfiable),
            ("bytes=0-18446744073709551616", ranges(&[(0, 1000)])),
            ("bytes=1000-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=1000-1001,2000-", Selection::Unsatisfiable),
            ("bytes=0-,0-", Selection::Whole),
            ("bytes=0-999,500-500", Selection::Whole),
            ("bytes=2-1", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes=,", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=1", Selection::Whole),
            ("bytes=0-0,x", Selection::Whole),
            ("bytes=--1", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("lines=0-0", Selection::Whole),
            ("bytes", Selection::Whole),
            ("", Selection::Whole),
        ] {
            assert_eq!(select(value.as_bytes(), 1000), expected, "{value}");
        }
    }

    #[test]
    fn the_number_of_ranges_is_bounded() {
        let set = |count: u64| {
            let specs: Vec<_> = (0..count).map(|n| format!("{}-{}", n * 100, n * 100)).collect();
            format!("bytes={}", specs.join(","))
        };
        let Selection::Ranges(most) = select(set(32).as_bytes(), 10_000) else {
            panic!("32 ranges must be served")
        };
        assert_eq!(most.len(), RANGES_MAX);
        assert_eq!(select(set(33).as_bytes(), 10_000), Selection::Whole);
    }

    #[test]
    fn an_empty_file_has_no_ranges() {
        for value in ["bytes=0-", "bytes=-1", "bytes=5-6"] {
            assert_eq!(select(value.as_bytes(), 0), Selection::Whole);
        }
    }

    proptest! {
        /// Each requested byte is sent exactly once, and nothing else is except gaps below the bound.
        #[test]
        fn merging_keeps_every_byte(specs in proptest::collection::vec((0u64..2000, 1u64..200), 1..10)) {
            let set: Vec<_> = specs.iter().map(|(start, length)| format!("{start}-{}", start + length - 1)).collect();
            let size = 100_000;
            let Selection::Ranges(ranges) = select(format!("bytes={}", set.join(",")).as_bytes(), size) else {
                return Err(TestCaseError::fail("satisfiable ranges are served"));
            };
            for (start, length) in specs {
                let covering = ranges.iter().filter(|range| range.start <= start && start + length <= range.end());
                prop_assert_eq!(covering.count(), 1);
            }
            for (index, one) in ranges.iter().enumerate() {
                for other in &ranges[index + 1..] {
                    prop_assert!(!one.is_near(*other));
                }
            }
        }

        #[test]
        fn arbitrary_bytes(value in proptest::collection::vec(any::<u8>(), 0..80), size in any::<u64>()) {
            if let Selection::Ranges(ranges) = select(&value, size) {
                for range in ranges {
                    prop_assert!(range.length > 0 && range.end() <= size);
                }
            }
        }
    }
}

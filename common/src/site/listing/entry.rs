//! An entry of a listing, and the order of entries.

use std::cmp::Ordering;

use rustix::fs::{FileType, Stat};

use crate::http::view::{Order, Sort, View};

/// A file or a directory that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Box<[u8]>,
    pub(super) is_file: bool,
    /// Bytes; only files have a size, and only where it can be told without a wait for another volume.
    pub(super) size: Option<u64>,
    /// Modification time, seconds since the Unix epoch and nanoseconds.
    pub(super) modified: Option<(i64, i64)>,
}

/// Build tools write 0 or 1 where the time isn't to be known.
const TIMES_UNKNOWN: std::ops::RangeInclusive<i64> = 0..=1;

impl Entry {
    /// An entry that is this; `None` if such things aren't served.
    pub(super) fn new(name: &[u8], kind: FileType, stat: Option<&Stat>) -> Option<Entry> {
        let is_file = match kind {
            FileType::RegularFile => true,
            FileType::Directory => false,
            _ => return None,
        };
        let size = stat.filter(|_| is_file).map(|stat| stat.st_size.max(0).unsigned_abs());
        let modified = stat.map(|stat| (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)));
        let modified = modified.filter(|(seconds, _)| !TIMES_UNKNOWN.contains(seconds));
        Some(Entry { name: name.into(), is_file, size, modified })
    }

    /// Directories first; then as asked for, and by name what is equal. No two entries of a directory are.
    pub(super) fn compare(&self, other: &Entry, view: View) -> Ordering {
        let by_name = || natural(&self.name, &other.name).then_with(|| self.name.cmp(&other.name));
        let asked = match view.sort {
            Sort::Name => by_name(),
            Sort::Size => self.size.cmp(&other.size),
            Sort::Time => self.modified.cmp(&other.modified),
        };
        let asked = match view.order {
            Order::Ascending => asked,
            Order::Descending => asked.reverse(),
        };
        self.is_file.cmp(&other.is_file).then(asked).then_with(by_name)
    }
}

/// Compares names as people do: `file9` comes before `file10`, and `a` with `A`.
fn natural(mut one: &[u8], mut other: &[u8]) -> Ordering {
    while let ([a, ..], [b, ..]) = (one, other) {
        let compared = if a.is_ascii_digit() && b.is_ascii_digit() {
            let (first, second) = (take_number(&mut one), take_number(&mut other));
            first.len().cmp(&second.len()).then_with(|| first.cmp(second))
        } else {
            (one, other) = (&one[1..], &other[1..]);
            a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase())
        };
        if compared.is_ne() {
            return compared;
        }
    }
    one.len().cmp(&other.len())
}

/// Takes the digits at the start; returns them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    &digits[digits.iter().position(|digit| *digit != b'0').unwrap_or(end)..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::view::Format;
    use proptest::prelude::*;

    fn entry(name: &str, size: Option<u64>, seconds: i64) -> Entry {
        let name = name.as_bytes().into();
        Entry { name, is_file: size.is_some(), size, modified: Some((seconds, 0)) }
    }

    fn sorted(sort: Sort, order: Order) -> Vec<String> {
        let mut entries = [
            entry("b10", Some(5), 3),
            entry("B9", Some(7), 1),
            entry("a", Some(5), 2),
            entry("_", Some(5), 2),
            entry("z", None, 9),
            entry("Y", None, 10),
        ];
        let view = View { sort, order, format: Format::Html };
        entries.sort_unstable_by(|one, other| one.compare(other, view));
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
    }

    #[test]
    fn orders() {
        use Order::{Ascending, Descending};
        for (sort, order, expected) in [
            (Sort::Name, Ascending, ["Y", "z", "_", "a", "B9", "b10"]),
            (Sort::Name, Descending, ["z", "Y", "b10", "B9", "a", "_"]),
            (Sort::Size, Ascending, ["Y", "z", "_", "a", "b10", "B9"]),
            (Sort::Size, Descending, ["Y", "z", "B9", "_", "a", "b10"]),
            (Sort::Time, Ascending, ["z", "Y", "B9", "_", "a", "b10"]),
            (Sort::Time, Descending, ["Y", "z", "b10", "_", "a", "B9"]),
        ] {
            assert_eq!(sorted(sort, order), expected, "{sort:?} {order:?}");
        }
    }

    #[test]
    fn names_are_compared_as_people_do() {
        for (one, other, expected) in [
            ("file9", "file10", Ordering::Less),
            ("v1.9.1", "v1.10", Ordering::Less),
            ("A", "a", Ordering::Equal),
            ("A1", "a01", Ordering::Equal),
            ("a", "B", Ordering::Less),
            ("a", "ab", Ordering::Less),
            ("a1", "ab", Ordering::Less),
            ("a0", "a", Ordering::Greater),
            ("0", "00", Ordering::Equal),
            ("99999999999999999999999", "100000000000000000000000", Ordering::Less),
        ] {
            assert_eq!(natural(one.as_bytes(), other.as_bytes()), expected, "{one} {other}");
            assert_eq!(natural(other.as_bytes(), one.as_bytes()), expected.reverse(), "{other} {one}");
        }
    }

    proptest! {
        /// Sorting needs a total order.
        #[test]
        fn the_order_is_total(names in proptest::collection::vec("[aAbB019._-]{1,5}", 3), sort in 0..3usize, is_down: bool) {
            let view = View {
                sort: [Sort::Name, Sort::Size, Sort::Time][sort],
                order: if is_down { Order::Descending } else { Order::Ascending },
                format: Format::Html,
            };
            let [a, b, c] = [0, 1, 2].map(|at| entry(&names[at], Some(names[at].len() as u64 / 2), 5));
            prop_assert_eq!(a.compare(&b, view), b.compare(&a, view).reverse());
            prop_assert_eq!(a.compare(&b, view).is_eq(), a.name == b.name);
            if a.compare(&b, view).is_le() && b.compare(&c, view).is_le() {
                prop_assert!(a.compare(&c, view).is_le());
            }
        }
    }
}

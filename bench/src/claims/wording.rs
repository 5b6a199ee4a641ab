//! Numbers and findings in words.

use crate::analysis::reading::{Reading, TOO_NOISY};
use crate::analysis::stats::{Estimate, Interval};
use crate::claims::judge::{Finding, Number, Outcome};
use crate::claims::quantity::Unit;
use crate::report::wording;

/// What joins a number to its unit: a space that doesn't break.
const SPACE: char = '\u{a0}';

/// A number with its interval: "31.2 ns [29.8, 32.6]"; "too noisy" where the interval spans too much.
pub(crate) fn number(number: &Number) -> String {
    if is_too_noisy(number) { TOO_NOISY.to_owned() } else { whole(number) }
}

/// The same of a number that is surely on one side of a bound: where it is too noisy, the end of its interval that lies
/// there is still told, "over 600×".
pub(crate) fn beyond(found: &Number, bound: f64) -> String {
    let Some(Interval { low, high }) = found.interval.filter(|_| is_too_noisy(found)) else {
        return whole(found);
    };
    let end = |value: f64| whole(&Number { value, interval: None, unit: found.unit });
    if found.value > bound { format!("over {}", end(low)) } else { format!("under {}", end(high)) }
}

/// What was counted alike in each round isn't; nor is what has no interval, such as a bound.
fn is_too_noisy(Number { value, interval, .. }: &Number) -> bool {
    interval.is_some() && Reading::of(Some(&Estimate { value: *value, interval: *interval })).is_too_noisy()
}

fn whole(number: &Number) -> String {
    let (scale, unit) = scale(number);
    let write = |value: f64| digits(value / scale);
    let bounds = number
        .interval
        .filter(|found| found.low < found.high)
        .map_or_else(String::new, |found| format!(" [{}, {}]", write(found.low), write(found.high)));
    format!("{}{unit}{bounds}", write(number.value))
}

/// What the number is divided by, and what its unit is called then.
fn scale(number: &Number) -> (f64, String) {
    let size = number.value.abs();
    let named = |scale: f64, name: &str| (scale, format!("{SPACE}{name}"));
    match number.unit {
        Unit::Nanoseconds if size < 999.5 => named(1.0, "ns"),
        Unit::Nanoseconds if size < 999_500.0 => named(1e3, "µs"),
        Unit::Nanoseconds => named(1e6, "ms"),
        Unit::Bytes if size < 1_023.5 => named(1.0, "B"),
        Unit::Bytes if size < 1_048_064.0 => named(1_024.0, "KiB"),
        Unit::Bytes => named(1_048_576.0, "MiB"),
        Unit::Share => named(0.01, "%"),
        Unit::Times => (1.0, "×".to_owned()),
        Unit::PerSecond => named(1.0, "per second"),
        Unit::Count => (1.0, String::new()),
    }
}

/// Three significant digits, whole numbers as they are.
fn digits(value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "" };
    let size = value.abs();
    let text =
        if (size - size.round()).abs() < 1e-9 { wording::thousands(size) } else { wording::factor(size) };
    if size < 0.000_5 { "0".to_owned() } else { format!("{sign}{text}") }
}

/// A count: "10,000".
pub(crate) fn count(value: f64) -> String {
    digits(value)
}

/// A count of what an axis counts: "10,000 idle connections", "1 reader of cold files".
pub(crate) fn counted(value: f64, axis: &str) -> String {
    let plural = axis.split(' ').find(|word| word.ends_with('s'));
    let one = plural.map(|word| axis.replacen(word, word.trim_end_matches('s'), 1));
    let axis = one.filter(|_| value == 1.0).unwrap_or_else(|| axis.to_owned());
    format!("{} {axis}", count(value))
}

/// What a claim's rules found, in one sentence. What is only told besides isn't in it.
pub(crate) fn sentence(findings: &[Finding]) -> String {
    let decides = |finding: &&Finding| finding.outcome != Outcome::Told;
    let mut texts: Vec<&str> = Vec::new();
    // Rules that ask one scene have the same to say where it wasn't measured.
    for text in findings.iter().filter(decides).map(|finding| finding.text.as_str()) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let text = texts.join("; ");
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    // Names begin as they are written.
    let begins_with_name = ["epoll", "io_uring", "select", "poll", "lab-", "uring", "blocking"];
    if begins_with_name.iter().any(|name| text.starts_with(name)) {
        return format!("{text}.");
    }
    format!("{first}{}.", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_several() {
        assert_eq!(counted(1.0, "readers of cold files"), "1 reader of cold files");
        assert_eq!(counted(1.0, "idle connections"), "1 idle connection");
        assert_eq!(counted(10_000.0, "idle connections"), "10,000 idle connections");
    }

    #[test]
    fn numbers_have_their_units() {
        let table = [
            (Unit::Nanoseconds, 31.24, Some((29.81, 32.6)), "31.2\u{a0}ns [29.8, 32.6]"),
            (Unit::Nanoseconds, -0.123, Some((-0.4, 0.15)), "too noisy"),
            (Unit::Times, 1_327.0, Some((600.0, 2_900.0)), "too noisy"),
            (Unit::Count, 0.0, Some((0.0, 0.0)), "0"),
            (Unit::Nanoseconds, 1_250_000.0, None, "1.25\u{a0}ms"),
            (Unit::Nanoseconds, 9_340.0, Some((9_100.0, 9_600.0)), "9.34\u{a0}µs [9.10, 9.60]"),
            (Unit::Bytes, 28_672.0, None, "28\u{a0}KiB"),
            (Unit::Share, 0.273, Some((0.27, 0.28)), "27.3\u{a0}% [27, 28]"),
            (Unit::Times, 40.04, None, "40.0×"),
            (Unit::Count, 10_000.0, None, "10,000"),
            (Unit::Count, 2.0, Some((2.0, 2.0)), "2"),
            (Unit::PerSecond, 121_204.3, None, "121,204\u{a0}per second"),
            (Unit::Nanoseconds, 0.000_01, None, "0\u{a0}ns"),
        ];
        for (unit, value, interval, expected) in table {
            let interval = interval.map(|(low, high)| Interval { low, high });
            assert_eq!(number(&Number { value, interval, unit }), expected);
        }
    }

    #[test]
    fn of_what_is_too_noisy_the_side_is_told() {
        let table = [
            (Unit::Times, 1_327.0, (600.0, 2_900.0), 5.0, "over 600×"),
            (Unit::Times, 0.2, (0.1, 0.4), 1.0, "under 0.40×"),
            (Unit::Nanoseconds, -0.1, (-0.4, 0.2), 1.0, "under 0.20\u{a0}ns"),
            (Unit::Times, 40.0, (30.0, 53.0), 5.0, "40× [30, 53]"),
        ];
        for (unit, value, (low, high), bound, expected) in table {
            assert_eq!(
                beyond(&Number { value, interval: Some(Interval { low, high }), unit }, bound),
                expected
            );
        }
    }

    #[test]
    fn a_sentence_says_nothing_twice() {
        let finding = |text: &str| Finding {
            text: text.to_owned(),
            outcome: Outcome::Holds,
            number: None,
            bound: None,
            points: Vec::new(),
            scenario: None,
            field: None,
        };
        let findings =
            ["waiting wasn't measured", "load wasn't measured", "waiting wasn't measured"].map(finding);
        assert_eq!(sentence(&findings), "Waiting wasn't measured; load wasn't measured.");
    }
}

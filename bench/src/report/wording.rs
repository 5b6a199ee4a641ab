//! Numbers and results in words.

use crate::analysis::stats::{Estimate, Interval};
use crate::analysis::verdict::{Ratio, Verdict};

/// What joins a number to its unit: a space that doesn't break.
const SPACE: char = '\u{a0}';

/// A whole number with its thousands apart: "121,204".
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits: "6.91", "24.3", "121", "1,204".
pub fn three_digits(value: f64) -> String {
    // What rounds up to 10 or to 100 has one digit fewer after the point.
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        thousands(value)
    }
}

/// A duration: "6.91 µs", "1.20 ms".
pub fn duration(nanoseconds: f64) -> String {
    let (unit, name) = time_unit(nanoseconds);
    format!("{}{SPACE}{name}", three_digits(nanoseconds / unit))
}

/// The unit that a duration is told in, in nanoseconds and by name.
fn time_unit(nanoseconds: f64) -> (f64, &'static str) {
    if nanoseconds < 999_500.0 { (1e3, "µs") } else { (1e6, "ms") }
}

/// A duration with its interval in the same unit: "6.91 µs [6.88, 6.95]".
pub fn duration_with_interval(estimate: &Estimate) -> String {
    let (unit, _) = time_unit(estimate.value);
    format!("{}{}", duration(estimate.value), bounds(estimate, |value| three_digits(value / unit)))
}

/// A rate with its interval: "121,204 [120,883, 121,466]".
pub fn rate_with_interval(estimate: &Estimate) -> String {
    format!("{}{}", rate(estimate.value), bounds(estimate, rate))
}

fn bounds(estimate: &Estimate, write: impl Fn(f64) -> String) -> String {
    estimate
        .interval
        .map_or_else(String::new, |found| format!(" [{}, {}]", write(found.low), write(found.high)))
}

/// A rate: whole from 100 on.
pub fn rate(per_second: f64) -> String {
    if per_second < 99.95 { three_digits(per_second) } else { thousands(per_second) }
}

/// A ratio with its interval: "0.85× [0.84, 0.86]".
pub fn ratio(estimate: &Estimate) -> String {
    format!("{:.2}×{}", estimate.value, bounds(estimate, |value| format!("{value:.2}")))
}

/// What an interval of a ratio allows to say.
enum Claim {
    /// It leaves out 1.
    Difference,
    /// It contains 1 and little else.
    Alike,
    /// It contains 1 and much else, or there was a single round.
    Nothing,
}

/// Two servers are alike when the interval of their ratio lies within so much of 1.
const ALIKE: f64 = 0.05;

impl Claim {
    /// By the interval as it is printed, so that words and numbers agree.
    fn of(estimate: &Estimate) -> Claim {
        let printed = |value: f64| (value * 100.0).round() / 100.0;
        match estimate.interval {
            None => Claim::Nothing,
            Some(Interval { low, high }) if printed(high) < 1.0 || printed(low) > 1.0 => Claim::Difference,
            Some(Interval { low, high }) if low > 1.0 - ALIKE && high < 1.0 + ALIKE => Claim::Alike,
            Some(_) => Claim::Nothing,
        }
    }
}

/// What a ratio of rates says: "uring answers 1.17× [1.15, 1.19] as many requests per second as epoll".
pub fn rate_sentence(ratio_of: &Ratio) -> String {
    let Ratio { above, below, requests_per_second, .. } = ratio_of;
    let figures = ratio(requests_per_second);
    match Claim::of(requests_per_second) {
        Claim::Difference => {
            format!("{above} answers {figures} as many requests per second as {below}")
        }
        Claim::Alike => format!("{above} and {below} answer alike many requests per second ({figures})"),
        Claim::Nothing => format!("{above} or {below}: no verdict on requests per second ({figures})"),
    }
}

/// What a ratio of CPU times says: "uring uses 0.85× [0.84, 0.86] of epoll's CPU time per request".
pub fn cpu_sentence(ratio_of: &Ratio) -> String {
    let Ratio { above, below, cpu_per_request, .. } = ratio_of;
    let figures = ratio(cpu_per_request);
    match Claim::of(cpu_per_request) {
        Claim::Difference => format!("{above} uses {figures} of {below}'s CPU time per request"),
        Claim::Alike => format!("{above} and {below} use the same CPU time per request ({figures})"),
        Claim::Nothing => format!("{above} or {below}: no verdict on CPU time per request ({figures})"),
    }
}

/// The sentences of a cell: each server against epoll.
pub fn cell_sentences(verdict: &Verdict) -> Vec<String> {
    let against_epoll = verdict.ratios.iter().filter(|ratio| ratio.below.name() == "epoll");
    against_epoll.map(cpu_sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::target::Backend;

    #[test]
    fn numbers() {
        let table = [
            (0.0, "0.00", "0"),
            (6.914, "6.91", "7"),
            (9.996, "10.0", "10"),
            (24.36, "24.4", "24"),
            (99.96, "100", "100"),
            (1_204.4, "1,204", "1,204"),
            (1_234_567.0, "1,234,567", "1,234,567"),
        ];
        for (value, digits, whole) in table {
            assert_eq!((three_digits(value).as_str(), thousands(value).as_str()), (digits, whole));
        }
        assert_eq!(duration(6_914.0), "6.91\u{a0}µs");
        assert_eq!(duration(999_499.0), "999\u{a0}µs");
        assert_eq!(duration(999_501.0), "1.00\u{a0}ms");
        assert_eq!(
            (rate(12.34), rate(99.96), rate(121_204.2)),
            ("12.3".into(), "100".into(), "121,204".into())
        );
    }

    #[test]
    fn intervals_share_the_unit() {
        let interval = Some(Interval { low: 613_000.0, high: 4_480_000.0 });
        let estimate = Estimate { value: 1_320_000.0, interval };
        assert_eq!(duration_with_interval(&estimate), "1.32\u{a0}ms [0.61, 4.48]");
        assert_eq!(rate_with_interval(&estimate), "1,320,000 [613,000, 4,480,000]");
        assert_eq!(ratio(&Estimate { value: 0.846, interval: None }), "0.85×");
    }

    fn sentence(value: f64, interval: Option<(f64, f64)>) -> String {
        let interval = interval.map(|(low, high)| Interval { low, high });
        let estimate = Estimate { value, interval };
        cpu_sentence(&Ratio {
            above: Backend::Uring,
            below: Backend::Epoll,
            cpu_per_request: estimate,
            requests_per_second: estimate,
        })
    }

    #[test]
    fn sentences_claim_no_more_than_the_interval() {
        let table = [
            (0.85, Some((0.84, 0.86)), "uring uses 0.85× [0.84, 0.86] of epoll's CPU time per request"),
            (
                1.0,
                Some((0.98, 1.03)),
                "uring and epoll use the same CPU time per request (1.00× [0.98, 1.03])",
            ),
            (
                0.97,
                Some((0.92, 0.998)),
                "uring or epoll: no verdict on CPU time per request (0.97× [0.92, 1.00])",
            ),
            (
                0.79,
                Some((0.01, 119.2)),
                "uring or epoll: no verdict on CPU time per request (0.79× [0.01, 119.20])",
            ),
            (0.85, None, "uring or epoll: no verdict on CPU time per request (0.85×)"),
        ];
        for (value, interval, expected) in table {
            assert_eq!(sentence(value, interval), expected);
        }
    }
}

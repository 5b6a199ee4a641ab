//! Numbers and results in words.

use crate::analysis::measure::Measure;
use crate::analysis::stats::Estimate;
use crate::analysis::verdict::{ALIKE, Band, Claim, Ratio};
use crate::record::trial::Limiter;

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

/// A duration that may be much shorter: "24 ns", "6.91 µs".
pub fn nanoseconds(nanoseconds: f64) -> String {
    if nanoseconds < 999.5 { format!("{nanoseconds:.0}{SPACE}ns") } else { duration(nanoseconds) }
}

/// A round duration, without the zeros behind the point: "50 µs".
pub fn round_duration(nanoseconds: f64) -> String {
    let text = duration(nanoseconds);
    let (number, unit) = text.split_once(SPACE).unwrap_or((&text, ""));
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number}{SPACE}{unit}")
}

/// The unit that a duration is told in, in nanoseconds and by name.
fn time_unit(nanoseconds: f64) -> (f64, &'static str) {
    if nanoseconds < 999_500.0 {
        (1e3, "µs")
    } else if nanoseconds < 999_500_000.0 {
        (1e6, "ms")
    } else {
        (1e9, "s")
    }
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

/// A ratio: two decimals, and as many as two digits need where these would say too little.
pub fn factor(ratio: f64) -> String {
    const DECIMALS_MAX: usize = 9;
    if ratio < 0.0995 {
        let is_enough = |decimals: &usize| ratio * 10_f64.powf(*decimals as f64) >= 9.95;
        let decimals = (3..DECIMALS_MAX).find(is_enough).unwrap_or(DECIMALS_MAX);
        format!("{ratio:.decimals$}")
    } else if ratio < 9.995 {
        format!("{ratio:.2}")
    } else {
        three_digits(ratio)
    }
}

/// A ratio with its interval: "0.85× [0.84, 0.86]".
pub fn ratio(estimate: &Estimate) -> String {
    format!("{}×{}", factor(estimate.value), bounds(estimate, factor))
}

/// The unit that a size is told in, in bytes and by name.
fn size_unit(bytes: f64) -> (f64, &'static str) {
    if bytes < 1_023.5 {
        (1.0, "B")
    } else if bytes < 1_048_064.0 {
        (1_024.0, "KiB")
    } else {
        (1_048_576.0, "MiB")
    }
}

/// A size: "184 B", "1.20 KiB".
pub fn size(bytes: f64) -> String {
    let (unit, name) = size_unit(bytes);
    let number = if unit > 1.0 { three_digits(bytes / unit) } else { thousands(bytes) };
    format!("{number}{SPACE}{name}")
}

/// A share: "12 %", "0.03 %".
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let number = match percent {
        0.0 => "0".to_owned(),
        small if small < 0.995 => format!("{small:.2}"),
        percent => format!("{percent:.0}"),
    };
    format!("{number}{SPACE}%")
}

/// Whether a measure is a time, a rate or a size, in its own words: "6.91 µs".
pub fn value(measure: Measure, value: f64) -> String {
    match measure {
        Measure::CpuPerRequest | Measure::P50 | Measure::P99 | Measure::P999 => duration(value),
        Measure::Rate => rate(value),
        Measure::MemoryPerConnection => size(value),
    }
}

/// The same in a sentence, where no heading says that a rate is one: "121,204/s".
pub fn spoken(measure: Measure, number: f64) -> String {
    let per_second = if measure == Measure::Rate { "/s" } else { "" };
    format!("{}{per_second}", value(measure, number))
}

/// The same with its interval: "6.91 µs [6.88, 6.95]".
pub fn value_with_interval(measure: Measure, estimate: &Estimate) -> String {
    match measure {
        Measure::CpuPerRequest | Measure::P50 | Measure::P99 | Measure::P999 => {
            duration_with_interval(estimate)
        }
        Measure::Rate => rate_with_interval(estimate),
        Measure::MemoryPerConnection => {
            let (unit, _) = size_unit(estimate.value);
            let write = |bytes: f64| if unit > 1.0 { three_digits(bytes / unit) } else { thousands(bytes) };
            format!("{}{}", size(estimate.value), bounds(estimate, write))
        }
    }
}

/// What a report knows of a ratio besides the ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    /// What stands beside all other comparisons of the report.
    pub(crate) claim: Claim,
    /// How many these are, this one included.
    pub(crate) comparisons: usize,
    /// What two copies of one server were seen to differ by in its cell.
    pub(crate) band: Band,
}

/// What a ratio says, and no more than its interval does: "uring uses 0.85× [0.84, 0.86] of epoll's CPU time
/// per request". `above` and `below` are the targets' labels. Nothing of what is too noisy.
pub(crate) fn sentence(ratio_of: &Ratio, above: &str, below: &str, beside: Beside) -> Option<String> {
    let told = ratio_of.reading().told()?;
    let (figures, label) = (ratio(&told), ratio_of.measure.label());
    Some(match (beside.claim, ratio_of.measure) {
        (Claim::Difference, Measure::Rate) => {
            format!("{above} answers {figures} as many requests per second as {below}")
        }
        (Claim::Difference, Measure::P50 | Measure::P99 | Measure::P999) => {
            format!("the {label} of {above} is {figures} that of {below}")
        }
        (Claim::Difference, Measure::CpuPerRequest | Measure::MemoryPerConnection) => {
            format!("{above} uses {figures} the {label} of {below}")
        }
        (Claim::Alike, _) => {
            format!("{above} and {below} are alike in {label}: within {}", percent(ALIKE))
        }
        (Claim::NoVerdict, _) => match &ratio_of.because {
            Some(why) => format!("{above} and {below} aren't compared in {label}: {why}"),
            None => untold(ratio_of, &told, (above, below), beside),
        },
    })
}

/// Why a lead isn't one: two copies of one server differ by as much, there are too few rounds, or there are so many
/// comparisons that one of them looks like this by chance.
fn untold(ratio_of: &Ratio, told: &Estimate, (above, below): (&str, &str), beside: Beside) -> String {
    let (label, figures) = (ratio_of.measure.label(), ratio(told));
    let leads = (told.value < 1.0) == ratio_of.measure.lower_is_better();
    let (first, second) = if leads { (above, below) } else { (below, above) };
    let ahead = if leads { told.value } else { 1.0 / told.value };
    let lead = (ahead - 1.0).abs();
    if lead < LEAD_MIN {
        return format!("{above} and {below} can't be told apart in {label} here ({figures})");
    }
    let lead = format!("the lead of {first} over {second} in {label}, {},", percent(lead));
    if ratio_of.claim == Claim::Difference {
        return format!("{lead} may be chance among {} comparisons ({figures})", beside.comparisons);
    }
    let twins = beside.band.twin.filter(|_| beside.band.interval().contains(told.value));
    match twins {
        Some(_) => {
            format!(
                "{lead} is within what two copies of one server differ by here (±{})",
                percent(beside.band.margin)
            )
        }
        None => format!("{lead} can't be told from chance in {} rounds ({figures})", ratio_of.rounds),
    }
}

/// A smaller lead is printed as 0 %.
const LEAD_MIN: f64 = 0.005;

/// "1 change", "1,204 changes".
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", thousands(count as f64), if count == 1 { one } else { many })
}

/// The same text, to begin a sentence with.
pub fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// What bounded a rate.
pub const fn limiter(limiter: Limiter) -> &'static str {
    match limiter {
        Limiter::ServerCpu => "server CPU",
        Limiter::ClientCpu => "client CPU",
        Limiter::Disk => "disk",
        Limiter::OfferedRate => "offered rate",
        Limiter::Connections => "connections",
        Limiter::Errors => "errors",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::stats::Interval;

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
        assert_eq!((nanoseconds(23.6), nanoseconds(999.6)), ("24\u{a0}ns".into(), "1.00\u{a0}µs".into()));
        assert_eq!((round_duration(1e5), round_duration(2e6)), ("100\u{a0}µs".into(), "2\u{a0}ms".into()));
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

    #[test]
    fn sizes_shares_and_factors() {
        let table = [(0.4, "0"), (184.2, "184"), (1_023.4, "1,023")];
        for (bytes, number) in table {
            assert_eq!(size(bytes), format!("{number}\u{a0}B"));
        }
        assert_eq!(size(1_229.0), "1.20\u{a0}KiB");
        assert_eq!(size(5_500_000.0), "5.25\u{a0}MiB");
        assert_eq!(
            (percent(0.0), percent(0.0003), percent(0.12)),
            ("0\u{a0}%".into(), "0.03\u{a0}%".into(), "12\u{a0}%".into())
        );
        assert_eq!(
            (factor(0.000_073_3), factor(0.0123), factor(0.85), factor(45.67)),
            ("0.000073".into(), "0.012".into(), "0.85".into(), "45.7".into())
        );
    }

    fn say(ratio: &Ratio, claim: Claim, margin: f64) -> Option<String> {
        let (low, high) = (1.0 / (1.0 + margin), 1.0 + margin);
        let twin = Estimate { value: 1.0, interval: Some(Interval { low, high }) };
        sentence(ratio, "uring", "epoll", Beside { claim, comparisons: 24, band: Band::of(Some(twin)) })
    }

    #[test]
    fn sentences_claim_no_more_than_the_interval() {
        let both = ("uring", "epoll");
        let figures = (0.85, 0.84, 0.86);
        let sure = |measure| {
            let ratio = Ratio::sample(both, measure, figures, Claim::Difference);
            say(&ratio, Claim::Difference, 0.03).unwrap()
        };
        assert_eq!(
            sure(Measure::CpuPerRequest),
            "uring uses 0.85× [0.84, 0.86] the CPU time per request of epoll"
        );
        assert_eq!(sure(Measure::P99), "the p99 latency of uring is 0.85× [0.84, 0.86] that of epoll");
        let alike = Ratio::sample(both, Measure::P99, (1.01, 0.99, 1.03), Claim::Alike);
        let expected = "uring and epoll are alike in p99 latency: within 5\u{a0}%";
        assert_eq!(say(&alike, Claim::Alike, 0.12).unwrap(), expected);
        let mut silent = Ratio::sample(both, Measure::Rate, figures, Claim::NoVerdict);
        silent.because = Some("uring: the client was the limit".to_owned());
        assert_eq!(
            say(&silent, Claim::NoVerdict, 0.03).unwrap(),
            "uring and epoll aren't compared in requests per second: uring: the client was the limit"
        );
        let noisy = Ratio::sample(both, Measure::P99, (0.5, 0.2, 1.2), Claim::NoVerdict);
        assert_eq!(say(&noisy, Claim::NoVerdict, 0.03), None);
    }

    #[test]
    fn what_is_no_verdict_says_why() {
        let both = ("uring", "epoll");
        let cpu = Measure::CpuPerRequest;
        let told = |measure, figures, claim, margin| {
            say(&Ratio::sample(both, measure, figures, claim), Claim::NoVerdict, margin).unwrap()
        };
        let open = Claim::NoVerdict;
        let table = [
            (
                told(cpu, (0.91, 0.85, 0.97), open, 0.12),
                "the lead of uring over epoll in CPU time per request, 9\u{a0}%, is within what two copies of one server \
                 differ by here (±12\u{a0}%)",
            ),
            (
                told(cpu, (1.10, 0.95, 1.27), open, 0.12),
                "the lead of epoll over uring in CPU time per request, 9\u{a0}%, is within what two copies of one server \
                 differ by here (±12\u{a0}%)",
            ),
            (
                told(Measure::Rate, (1.10, 0.95, 1.27), open, 0.03),
                "the lead of uring over epoll in requests per second, 10\u{a0}%, can't be told from chance in 12 rounds \
                 (1.10× [0.95, 1.27])",
            ),
            (
                told(Measure::Rate, (0.80, 0.70, 0.91), Claim::Difference, 0.30),
                "the lead of epoll over uring in requests per second, 25\u{a0}%, may be chance among 24 comparisons \
                 (0.80× [0.70, 0.91])",
            ),
            (
                told(cpu, (1.002, 0.93, 1.08), open, 0.12),
                "uring and epoll can't be told apart in CPU time per request here (1.00× [0.93, 1.08])",
            ),
        ];
        for (said, expected) in table {
            assert_eq!(said, expected);
        }
    }
}

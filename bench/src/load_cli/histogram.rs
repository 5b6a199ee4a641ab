//! A histogram of latencies in a few lines of text.

use crate::report::wording;
use hdrhistogram::Histogram;
use std::fmt;

/// The most rows.
const ROWS_MAX: usize = 12;
/// The columns of the longest bar. With it, a row has 74.
const BAR_COLUMNS: u64 = 40;
/// A column's eighths, from one on.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// Where rows may begin, within a power of ten: the coarser one by one, as long as they give too many rows. The finest are
/// the preferred numbers of IEC 60063, E24 and E12.
const SERIES: [&[u64]; 5] = [
    &[10, 11, 12, 13, 15, 16, 18, 20, 22, 24, 27, 30, 33, 36, 39, 43, 47, 51, 56, 62, 68, 75, 82, 91],
    &[10, 12, 15, 18, 22, 27, 33, 39, 47, 56, 68, 82],
    &[10, 15, 20, 30, 50, 70],
    &[10, 20, 50],
    &[10],
];

/// How many samples there are from one time to the next, on a logarithmic scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    /// Where each begins, in nanoseconds, and its samples.
    rows: Vec<(u64, u64)>,
}

impl Rows {
    /// Of times in nanoseconds; `None` if there are none.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Rows> {
        if histogram.is_empty() {
            return None;
        }
        let (least, most) = (histogram.min(), histogram.lowest_equivalent(histogram.max()));
        let mut choices = SERIES.map(|series| edges(series, least, most)).into_iter();
        let edges =
            choices.find(|edges| edges.len() <= ROWS_MAX).unwrap_or_else(|| edges(&[10], least, most));
        let mut rows: Vec<(u64, u64)> = edges.into_iter().map(|edge| (edge, 0)).collect();
        for value in histogram.iter_recorded() {
            // A step of the histogram is far narrower than a row. The first row has what is below it, too.
            let step = histogram.lowest_equivalent(value.value_iterated_to());
            let row = rows.partition_point(|(edge, _)| *edge <= step).saturating_sub(1);
            rows[row].1 += value.count_since_last_iteration();
        }
        Some(Rows { rows })
    }
}

/// The steps of the series from the last one that isn't above `least` to the last one that isn't above `most`.
fn edges(series: &[u64], least: u64, most: u64) -> Vec<u64> {
    const POWERS: u32 = 13;
    let steps = (0..POWERS).flat_map(|power| series.iter().map(move |step| step * 10_u64.pow(power)));
    let all: Vec<u64> = steps.take_while(|step| *step <= most.max(10)).collect();
    let first = all.partition_point(|step| *step <= least).saturating_sub(1);
    all[first..].to_vec()
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.rows.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let all: u64 = self.rows.iter().map(|(_, count)| count).sum();
        for (edge, count) in &self.rows {
            let share = *count as f64 / all.max(1) as f64 * 100.0;
            let columns = usize::try_from(BAR_COLUMNS).unwrap_or(usize::MAX);
            let count_text = wording::thousands(*count as f64);
            writeln!(
                f,
                "  {:>7} {:columns$} {count_text:>13} {share:>5.1} %",
                from(*edge),
                bar(*count, most)
            )?;
        }
        Ok(())
    }
}

/// As many eighths of a column as are due; one for what is there at all.
fn bar(count: u64, most: u64) -> String {
    let eighths = u128::from(count) * u128::from(BAR_COLUMNS) * 8 / u128::from(most.max(1));
    let eighths = usize::try_from(eighths).unwrap_or(0).max(usize::from(count > 0));
    let (whole, rest) = (eighths / 8, eighths % 8);
    let end = rest.checked_sub(1).map(|eighth| EIGHTHS[eighth]);
    std::iter::repeat_n(EIGHTHS[7], whole).chain(end).collect()
}

/// "1.5 ms": a step of a series has two digits.
fn from(nanoseconds: u64) -> String {
    let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000), ("ns", 1)];
    let (unit, one) = units.into_iter().find(|(_, one)| nanoseconds >= *one).unwrap_or(("ns", 1));
    let tenths = nanoseconds * 10 / one;
    let (whole, tenth) = (tenths / 10, tenths % 10);
    if tenth == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::outcome::histogram;

    fn rows(times: &[(u64, u64)]) -> Rows {
        let mut all = histogram();
        for (nanoseconds, count) in times {
            all.record_n(*nanoseconds, *count).unwrap();
        }
        Rows::of(&all).unwrap()
    }

    #[test]
    fn every_sample_is_in_a_row_and_the_rows_are_few() {
        assert_eq!(Rows::of(&histogram()), None);
        let table: [&[(u64, u64)]; 5] = [
            &[(150, 1)],
            &[(80_000, 10), (81_000, 90), (120_000, 7)],
            &[(100, 5), (599_000_000_000, 1)],
            &[(1_000_000, 3), (9_999_999, 2)],
            &[(999_999, 1), (1_000_001, 1)],
        ];
        for times in table {
            let rows = rows(times);
            assert!(rows.rows.len() <= ROWS_MAX, "{rows:?}");
            let sum: u64 = rows.rows.iter().map(|(_, count)| count).sum();
            assert_eq!(sum, times.iter().map(|(_, count)| count).sum::<u64>(), "{rows:?}");
            assert!(
                rows.rows[0].1 > 0 && rows.rows.last().unwrap().1 > 0,
                "none is empty at an end: {rows:?}"
            );
        }
    }

    #[test]
    fn rows_are_as_fine_as_they_can_be() {
        let edges = |times| rows(times).rows.iter().map(|(edge, _)| from(*edge)).collect::<Vec<_>>();
        assert_eq!(edges(&[(80_500, 1), (101_000, 1)]), ["75 µs", "82 µs", "91 µs", "100 µs"]);
        assert_eq!(edges(&[(100_500, 1), (900_000, 1)])[..3], ["100 µs", "120 µs", "150 µs"]);
        assert_eq!(edges(&[(1_500, 1), (2_000_000_000, 1)]).first().unwrap(), "1 µs");
    }

    #[test]
    fn lines_fit_a_terminal() {
        let text = rows(&[(80_500, 1), (101_000, 123_456_789), (110_500, 61_728_395)]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
        assert!(lines[0].contains(" ▏ "), "one of millions is seen: {text}");
        let full = lines.iter().filter(|line| line.contains(&"█".repeat(40))).count();
        assert_eq!(full, 1, "{text}");
        assert!(lines.last().unwrap().contains(&format!("{} ", "█".repeat(20))), "{text}");
        assert!(text.contains("123,456,789  66.7 %"), "{text}");
    }
}

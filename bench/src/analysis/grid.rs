//! What some servers showed in the same rounds, and what that says of two of them.
//!
//! With few rounds the spread of one server is hardly known: a spread of 10 % seen in four rounds may be one of 6 or of
//! 37. The spread of all servers together is known much better, and mostly they spread alike, since it is the machine
//! that disturbs them. So a comparison uses both (as Smyth, 2004, does for genes):
//!
//! - a comparison's own variance s² is that of its differences of logarithms, a round each (n − 1 degrees of freedom);
//! - the **shared** variance s₀² is the median of the other servers' variances, after what a server and what a round have
//!   in common was taken out. It counts like [`SHARED_DEGREES`] degrees of freedom, or fewer where few others ran;
//! - the comparison is judged by their weighted mean, with Student's t of all degrees of freedom. If its own variance is
//!   more than [`OUTLIER`] times the shared one, it is judged by its own alone.
//!
//! A server that ran twice, under another name (the A/A twin), is compared by the mean of both. That is why variances
//! carry a weight: c = 2 for a difference of two servers, 1.5 where one of them ran twice.

use crate::analysis::contrast::Contrast;
use crate::analysis::stats::{mean, median, variance};
use std::collections::{BTreeMap, BTreeSet};

/// How many degrees of freedom the shared variance counts for.
///
/// Chosen, with [`OUTLIER`], from 4, 5, 6, 8, 10 and 2, 2.5, 3 on [`simulation`](crate::analysis::simulation): the most
/// that keeps its limits. Where all servers vary alike, more is better: at a confidence of 99 %, with 4 rounds of 10 %
/// noise, 4, 6, 8, 10 degrees find 32, 37, 40, 43 % of the differences of 20 %. Where servers vary differently, as in real
/// runs (half of them by less than 0.8 or more than 1.25 times the median), those tell a difference in 4.4, 5.8, 7.2, 8.4 %
/// of the reports on equal servers.
const SHARED_DEGREES: usize = 6;

/// A comparison with so many times the shared variance is judged by its own. 3 instead of 2 finds 3 % more in few rounds,
/// and errs a fifth more often where servers vary differently.
const OUTLIER: f64 = 2.0;

/// Sweeps over a grid with gaps: after so many the means of servers and rounds don't move any more.
const SWEEPS: usize = 12;

/// Logarithms of a measure: a row for each server, a column for each round, gaps where a trial is missing.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    rows: Vec<Vec<Option<f64>>>,
    /// Each server's variance, without what its rounds had in common; `None` where that can't be told.
    variances: Vec<Option<f64>>,
}

impl Grid {
    /// A row for each server: its positive values by their rounds.
    pub(crate) fn of(servers: &[BTreeMap<usize, f64>]) -> Grid {
        let rounds: BTreeSet<usize> = servers.iter().flat_map(BTreeMap::keys).copied().collect();
        let row = |values: &BTreeMap<usize, f64>| {
            rounds.iter().map(|round| values.get(round).map(|value| value.ln())).collect()
        };
        Grid::of_logs(servers.iter().map(row).collect())
    }

    /// From logarithms.
    pub(crate) fn of_logs(rows: Vec<Vec<Option<f64>>>) -> Grid {
        Grid { variances: variances(&rows), rows }
    }

    /// Compares a server with another; each is one row, or the rows of its copies. `None` if no round has both.
    pub(crate) fn contrast(&self, above: &[usize], below: &[usize]) -> Option<Contrast> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let mut differences = Vec::with_capacity(columns);
        let mut weights = 0.0;
        for column in 0..columns {
            if let (Some(one), Some(other)) = (self.side(above, column), self.side(below, column)) {
                differences.push(one.0 - other.0);
                weights += one.1 + other.1;
            }
        }
        let rounds = differences.len();
        let difference = mean(&differences)?;
        if rounds < 2 {
            return Some(Contrast { difference, error: f64::INFINITY, degrees: 1 });
        }
        let own = variance(&differences);
        let (shared, extra) = self.shared(above, below, rounds);
        let shared = shared * weights / rounds as f64;
        let (variance, degrees) = if extra == 0 || own > OUTLIER * shared {
            (own, rounds - 1)
        } else {
            let degrees = rounds - 1 + extra;
            (((rounds - 1) as f64 * own + extra as f64 * shared) / degrees as f64, degrees)
        };
        Some(Contrast { difference, error: (variance / rounds as f64).sqrt(), degrees })
    }

    /// The mean of a server's copies in a round, and the variance of that mean, in variances of one.
    fn side(&self, copies: &[usize], column: usize) -> Option<(f64, f64)> {
        let (mut sum, mut count) = (0.0, 0.0);
        for log in copies.iter().filter_map(|row| self.rows[*row][column]) {
            sum += log;
            count += 1.0;
        }
        (count > 0.0).then(|| (sum / count, 1.0 / count))
    }

    /// The variance of one server as all but these two show it, and how many degrees of freedom that is worth.
    fn shared(&self, above: &[usize], below: &[usize], rounds: usize) -> (f64, usize) {
        let is_other = |row: &usize| !above.contains(row) && !below.contains(row);
        let others: Vec<f64> =
            (0..self.rows.len()).filter(is_other).filter_map(|row| self.variances[row]).collect();
        let Some(middle) = median(&others) else {
            return (0.0, 0);
        };
        // Every second server's variance lies below the median, but a sample's variance is skewed: most lie below
        // their mean. Wilson and Hilferty's approximation of the chi-squared distribution says by how much.
        let degrees = (rounds - 1) as f64;
        let skew = (1.0 - 2.0 / (9.0 * degrees)).powi(3);
        let known = (others.len() - 1) * (rounds - 1) / 2;
        (middle / skew, known.min(SHARED_DEGREES))
    }
}

/// The servers' variances after the means of servers and rounds were taken out of a grid.
fn variances(rows: &[Vec<Option<f64>>]) -> Vec<Option<f64>> {
    let mut left: Vec<Vec<Option<f64>>> = rows.to_vec();
    for row in left.iter_mut().filter(|row| row.iter().flatten().count() < 2) {
        row.fill(None);
    }
    let columns = rows.first().map_or(0, Vec::len);
    let mut counts = vec![0.0; columns];
    for row in &left {
        for (count, log) in counts.iter_mut().zip(row) {
            *count += f64::from(u8::from(log.is_some()));
        }
    }
    let is_whole = left.iter().flatten().all(Option::is_some);
    for _ in 0..if is_whole { 1 } else { SWEEPS } {
        for row in &mut left {
            centre(row);
        }
        for (column, count) in counts.iter().enumerate() {
            let sum: f64 = left.iter().filter_map(|row| row[column]).sum();
            for log in left.iter_mut().filter_map(|row| row[column].as_mut()) {
                *log -= sum / count;
            }
        }
    }
    left.iter().map(|row| spread(row, &counts)).collect()
}

fn centre(row: &mut [Option<f64>]) {
    let (sum, count) = row.iter().flatten().fold((0.0, 0.0), |(sum, count), log| (sum + log, count + 1.0));
    for log in row.iter_mut().flatten() {
        *log -= sum / count;
    }
}

/// The variance of one server's residuals. `counts` says how many servers each round has: a round's mean, and the
/// server's own, take their share of the degrees of freedom.
fn spread(row: &[Option<f64>], counts: &[f64]) -> Option<f64> {
    let (mut squares, mut degrees, mut rounds) = (0.0, 0.0, 0.0);
    for (log, count) in row.iter().zip(counts) {
        if let Some(log) = log {
            squares += log * log;
            degrees += 1.0 - 1.0 / count;
            rounds += 1.0;
        }
    }
    let degrees = degrees * (rounds - 1.0) / rounds;
    (degrees > 0.0).then(|| squares / degrees)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Twelve servers, the same but for what `spread` makes of each.
    fn grid(rounds: usize, spread: impl Fn(usize) -> f64, seed: u64) -> Grid {
        let mut random = Random::new(seed);
        let drift: Vec<f64> = (0..rounds).map(|_| 0.3 * random.normal()).collect();
        let mut row =
            |server| drift.iter().map(|drift| Some(drift + spread(server) * random.normal())).collect();
        Grid::of_logs((0..12).map(&mut row).collect())
    }

    #[test]
    fn what_a_round_has_in_common_is_no_spread() {
        let grid = grid(400, |server| if server == 3 { 0.2 } else { 0.05 }, 1);
        for (server, variance) in grid.variances.iter().enumerate() {
            let wanted: f64 = if server == 3 { 0.2 } else { 0.05 };
            let found = variance.unwrap().sqrt();
            assert!((found / wanted - 1.0).abs() < 0.15, "{server}: {found}");
        }
    }

    #[test]
    fn gaps_change_little() {
        let whole = grid(40, |_| 0.05, 2);
        let mut rows = whole.rows.clone();
        for (index, row) in rows.iter_mut().enumerate() {
            row[index] = None;
            row[(7 * index + 3) % 40] = None;
        }
        rows.push(vec![None; 40]);
        let gappy = Grid::of_logs(rows);
        for (one, other) in whole.variances.iter().zip(&gappy.variances) {
            let ratio = one.unwrap() / other.unwrap();
            assert!((0.8..1.25).contains(&ratio), "{ratio}");
        }
        assert_eq!(gappy.variances[12], None);
        assert!(gappy.contrast(&[12], &[0]).is_none(), "no round has both");
    }

    #[test]
    fn few_rounds_borrow_from_the_others() {
        let grid = grid(4, |server| if server == 0 { 0.5 } else { 0.05 }, 3);
        let quiet = grid.contrast(&[1], &[2]).unwrap();
        assert_eq!(quiet.degrees, 3 + SHARED_DEGREES);
        let loud = grid.contrast(&[0], &[1]).unwrap();
        assert_eq!(loud.degrees, 3, "its own spread is too far from that of the others");
        let own = variance(&differences(&grid, 0, 1));
        assert!((loud.error - (own / 4.0).sqrt()).abs() < 1e-12);
        let both = grid.contrast(&[3], &[1, 2]).unwrap();
        assert!(both.error < 1.3 * quiet.error, "{both:?} {quiet:?}");
    }

    fn differences(grid: &Grid, above: usize, below: usize) -> Vec<f64> {
        let pairs = grid.rows[above].iter().zip(&grid.rows[below]);
        pairs.map(|(above, below)| above.unwrap() - below.unwrap()).collect()
    }

    #[test]
    fn two_servers_have_nobody_to_borrow_from() {
        let rows = grid(5, |_| 0.05, 4).rows[..2].to_vec();
        let contrast = Grid::of_logs(rows).contrast(&[0], &[1]).unwrap();
        assert_eq!(contrast.degrees, 4);
        let rows = grid(5, |_| 0.05, 4).rows[..3].to_vec();
        assert_eq!(Grid::of_logs(rows).contrast(&[0], &[1]).unwrap().degrees, 4, "one other isn't all");
        let rows = grid(5, |_| 0.05, 4).rows[..4].to_vec();
        assert_eq!(Grid::of_logs(rows).contrast(&[0], &[1]).unwrap().degrees, 6);
    }
}

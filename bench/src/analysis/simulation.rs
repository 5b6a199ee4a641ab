//! Synthetic runs of known truth, judged by the very rules that judge real ones.
//!
//! A rule about noise can only be trusted where the truth is known. Here it is: a report compares twelve servers with
//! `epoll` and its A/A twin, whose trials are random by a known law. How often the rules call equal servers different,
//! and how often they find a true difference, stands in METHODOLOGY.md; tests hold the first to 1 % of the comparisons
//! and 5 % of the reports, and see that the table is true.
//!
//! Everything follows from the seed. `cargo run --release -p bench --example rules` prints all cases and writes the table.

use crate::analysis::grid::Grid;
use crate::analysis::verdict::{Claim, Compared, sure};
use crate::failure::{Failure, Result};
use crate::random::Random;
use crate::report::readme;
use crate::run::options::repository;
use crate::run::rounds;
use std::fmt::{self, Write};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Compared with `epoll` in each report.
const SERVERS: usize = 12;
/// The rows of `epoll` and its twin; the servers follow.
const ORIGINAL: usize = 0;
const TWIN: usize = 1;
const ROWS: usize = SERVERS + 2;
/// What the differing servers cost, as ratios: as many servers of each.
pub const TRUTHS: [f64; 4] = [1.03, 1.05, 1.10, 1.20];

/// How trials of one server vary. All have the same standard deviation of their logarithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// Normal logarithms.
    LogNormal,
    /// Student's t with three degrees of freedom: a few trials are far off.
    HeavyTailed,
    /// The machine wanders: half of the variance lasts for about half a round, and over the run it gets slower by three
    /// standard deviations. Within a round the order of the servers is random.
    Drifting,
    /// Normal logarithms; of every three servers one varies half as much and one twice as much as `epoll`.
    Uneven,
}

impl Noise {
    /// Every kind.
    pub const ALL: [Noise; 4] = [Noise::LogNormal, Noise::HeavyTailed, Noise::Drifting, Noise::Uneven];
}

/// How many rounds a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// So many.
    Fixed(usize),
    /// At least and at most so many: until the intervals are narrow, as a real run decides it.
    UntilNarrow(usize, usize),
}

/// What a synthetic report is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// The law of its noise.
    pub noise: Noise,
    /// The standard deviation of a trial's logarithm: 0.1 is about 10 %.
    pub deviation: f64,
    /// Its length.
    pub rounds: Rounds,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { noise, deviation, rounds } = self;
        let noise = match noise {
            Noise::LogNormal => "lognormal",
            Noise::HeavyTailed => "heavy tails",
            Noise::Drifting => "drifting",
            Noise::Uneven => "uneven",
        };
        match rounds {
            Rounds::Fixed(rounds) => write!(f, "{noise}, {:.0} %, {rounds} rounds", deviation * 100.0),
            Rounds::UntilNarrow(least, most) => {
                write!(f, "{noise}, {:.0} %, {least} to {most} rounds", deviation * 100.0)
            }
        }
    }
}

/// How often the rules were right and wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Of equal servers and of differing ones, so many reports each.
    pub reports: usize,
    /// Comparisons of equal servers that were called different.
    pub false_differences: usize,
    /// Reports on equal servers with a difference in their sentences.
    pub false_reports: usize,
    /// Comparisons of equal servers that were called alike.
    pub alike: usize,
    /// Comparisons that were called different, for each of [`TRUTHS`].
    pub found: [usize; TRUTHS.len()],
    /// Of those of [`TRUTHS`] that differ by more than 5 %: called alike.
    pub false_alike: usize,
}

impl Tally {
    /// The share of the comparisons of equal servers that were called different.
    pub fn false_share(&self) -> f64 {
        self.false_differences as f64 / (self.reports * SERVERS) as f64
    }

    /// The share of the reports on equal servers that tell a difference.
    pub fn false_report_share(&self) -> f64 {
        self.false_reports as f64 / self.reports as f64
    }

    /// The share of the equal servers that were called alike.
    pub fn alike_share(&self) -> f64 {
        self.alike as f64 / (self.reports * SERVERS) as f64
    }

    /// The share of the comparisons that were called different, for each of [`TRUTHS`].
    pub fn found_shares(&self) -> [f64; TRUTHS.len()] {
        let each = (self.reports * SERVERS / TRUTHS.len()) as f64;
        self.found.map(|count| count as f64 / each)
    }

    /// The share of those that differ by 10 or 20 % that were called alike.
    pub fn false_alike_share(&self) -> f64 {
        self.false_alike as f64 / (self.reports * SERVERS / 2) as f64
    }
}

/// A server's place among [`TRUTHS`].
fn truth_of(row: usize) -> usize {
    row % TRUTHS.len()
}

impl Case {
    /// Makes so many reports on equal servers, and so many on differing ones, and judges them.
    pub fn run(self, reports: usize, seed: u64) -> Tally {
        let mut random = Random::new(seed);
        let mut tally = Tally { reports, ..Tally::default() };
        for _ in 0..reports {
            let claims = self.report(&mut random, false);
            let count = |wanted| claims.iter().filter(|(claim, _)| *claim == wanted).count();
            tally.false_differences += count(Claim::Difference);
            tally.alike += count(Claim::Alike);
            tally.false_reports += usize::from(sure(&claims).contains(&true));
            for (index, (claim, _)) in self.report(&mut random, true).into_iter().enumerate() {
                let truth = truth_of(index + TWIN + 1);
                tally.found[truth] += usize::from(claim == Claim::Difference);
                tally.false_alike += usize::from(claim == Claim::Alike && TRUTHS[truth] > 1.05);
            }
        }
        tally
    }

    /// What the rules claim of each server beside `epoll`, and the chance that it is nothing.
    fn report(self, random: &mut Random, differ: bool) -> Vec<(Claim, f64)> {
        let (least, most) = match self.rounds {
            Rounds::Fixed(rounds) => (rounds, rounds),
            Rounds::UntilNarrow(least, most) => (least, most),
        };
        let rows = self.trials(random, most, differ);
        let pairs: Vec<(usize, usize)> = (TWIN..ROWS).map(|row| (row, ORIGINAL)).collect();
        let first = |rounds: usize| Grid::of_logs(rows.iter().map(|row| row[..rounds].to_vec()).collect());
        let ended = (least..most).map(first).find(|grid| rounds::are_narrow(grid, &pairs));
        let compared = Compared::new(ended.unwrap_or_else(|| first(most)), Some((TWIN, ORIGINAL)));
        let servers = (TWIN + 1..ROWS).filter_map(|row| compared.pair(row, ORIGINAL));
        servers.map(|(contrast, claim)| (claim, contrast.chance())).collect()
    }

    /// Logarithms of a row per server.
    fn trials(self, random: &mut Random, rounds: usize, differ: bool) -> Vec<Vec<Option<f64>>> {
        let mut rows: Vec<Vec<Option<f64>>> = vec![Vec::new(); ROWS];
        let mut order: Vec<usize> = (0..ROWS).collect();
        let mut wandering = random.normal();
        for round in 0..rounds {
            let common = random.normal();
            random.shuffle(&mut order);
            for (position, row) in order.iter().enumerate() {
                let truth = if differ && *row > TWIN { TRUTHS[truth_of(*row)].ln() } else { 0.0 };
                let noise = match self.noise {
                    Noise::LogNormal => random.normal(),
                    Noise::HeavyTailed => heavy_tailed(random),
                    Noise::Drifting => {
                        let kept = (-2.0 / ROWS as f64).exp();
                        wandering = kept * wandering + (1.0 - kept * kept).sqrt() * random.normal();
                        let done = (round * ROWS + position) as f64 / (rounds * ROWS) as f64;
                        0.5_f64.sqrt() * (wandering + random.normal()) + 3.0 * done
                    }
                    Noise::Uneven => random.normal() * [1.0, 0.5, 2.0][row.saturating_sub(TWIN) % 3],
                };
                rows[*row].push(Some(truth + self.deviation * (common + noise)));
            }
        }
        rows
    }
}

/// With a standard deviation of 1.
fn heavy_tailed(random: &mut Random) -> f64 {
    let squares: f64 = (0..3).map(|_| random.normal().powi(2)).sum();
    // Divided by its own standard deviation, √3.
    random.normal() / squares.sqrt()
}

/// The standard deviations of the table in METHODOLOGY.md.
const DEVIATIONS: [f64; 4] = [0.03, 0.10, 0.15, 0.40];
const LENGTHS: [usize; 4] = [4, 8, 12, 24];

/// All cases: each kind of noise and standard deviation with each number of rounds, and with runs that end early.
pub fn cases() -> Vec<Case> {
    let lengths = LENGTHS.map(Rounds::Fixed).into_iter();
    let lengths: Vec<Rounds> =
        lengths.chain([Rounds::UntilNarrow(4, 10), Rounds::UntilNarrow(12, 24)]).collect();
    let of = |noise: Noise| {
        let lengths = lengths.clone();
        DEVIATIONS.into_iter().flat_map(move |deviation| {
            lengths.clone().into_iter().map(move |rounds| Case { noise, deviation, rounds })
        })
    };
    Noise::ALL.into_iter().flat_map(of).collect()
}

/// Runs all of these cases, on all of the machine's CPUs.
pub fn run(cases: &[Case], reports: usize) -> Vec<Tally> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else {
                return done;
            };
            done.push((index, case.run(reports, index as u64)));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut tallies = vec![Tally::default(); cases.len()];
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for (index, tally) in running.into_iter().flat_map(|worker| worker.join().unwrap_or_default()) {
            tallies[index] = tally;
        }
    });
    tallies
}

/// Reports of each kind in each case.
pub const REPORTS: usize = 1_000;

/// The table of METHODOLOGY.md, in Markdown: how often a true 10 % and 20 % are found under lognormal noise.
pub fn table(cases: &[Case], tallies: &[Tally]) -> String {
    let heads = LENGTHS.map(|rounds| rounds.to_string()).join(" | ");
    let mut text = format!("| noise | {heads} rounds |\n|---:|{}\n", "---:|".repeat(LENGTHS.len()));
    for deviation in DEVIATIONS {
        let cells = LENGTHS.map(|rounds| {
            let wanted = Case { noise: Noise::LogNormal, deviation, rounds: Rounds::Fixed(rounds) };
            let index = cases.iter().position(|case| *case == wanted);
            let found = index.map(|index| tallies[index].found_shares()).unwrap_or_default();
            let [_, _, ten, twenty] = found.map(|share| share * 100.0);
            format!("{ten:.0}/{twenty:.0}%")
        });
        let _infallible = writeln!(text, "| {:.0}% | {} |", deviation * 100.0, cells.join(" | "));
    }
    text
}

/// METHODOLOGY.md: its path, its text, and its text with this table.
///
/// # Errors
///
/// It can't be read, or lacks the markers that the table stands between.
pub fn methodology(table: &str) -> Result<(PathBuf, String, String)> {
    let path = repository().join("METHODOLOGY.md");
    let doing = format!("read {}", path.display());
    let old = fs::read_to_string(&path).map_err(Failure::context(&doing))?;
    let markers = ("<!-- rules:begin -->", "<!-- rules:end -->");
    let new =
        readme::replace(&old, markers, &format!("\n{table}\n")).map_err(Failure::context(path.display()))?;
    Ok((path, old, new))
}

/// Every case in full, for people who change the rules.
pub fn long_table(cases: &[Case], tallies: &[Tally]) -> String {
    let mut text = format!(
        "{:<36} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}\n",
        "", "false", "reports", "3 %", "5 %", "10 %", "20 %", "alike", "wrongly"
    );
    for (case, tally) in cases.iter().zip(tallies) {
        let [three, five, ten, twenty] = tally.found_shares().map(|share| share * 100.0);
        let _infallible = writeln!(
            text,
            "{:<36} {:>7.2} {:>7.1} {three:>7.1} {five:>7.1} {ten:>7.1} {twenty:>7.1} {:>7.1} {:>7.1}",
            case.to_string(),
            tally.false_share() * 100.0,
            tally.false_report_share() * 100.0,
            tally.alike_share() * 100.0,
            tally.false_alike_share() * 100.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_servers_are_not_called_different_and_the_table_is_true() {
        let cases = cases();
        let tallies = run(&cases, REPORTS);
        let all = long_table(&cases, &tallies);
        for (case, tally) in cases.iter().zip(&tallies) {
            assert!(tally.false_share() <= 0.01, "{case}:\n{all}");
            assert!(tally.false_report_share() <= 0.05, "{case}:\n{all}");
            assert!(tally.false_alike_share() <= 0.01, "{case}:\n{all}");
        }
        let (path, old, new) = methodology(&table(&cases, &tallies)).unwrap();
        let hint = "cargo run --release -p bench --example rules writes it";
        assert!(old == new, "{} has another table; {hint}:\n{new}", path.display());
    }

    #[test]
    fn the_same_seed_makes_the_same_reports() {
        let case = Case { noise: Noise::Drifting, deviation: 0.1, rounds: Rounds::UntilNarrow(4, 10) };
        assert_eq!(case.run(20, 3), case.run(20, 3));
        assert_ne!(case.run(20, 3), case.run(20, 4));
    }
}

//! How many rounds: until the intervals are narrow, or the time is spent.

use crate::analysis::grid::Grid;
use crate::analysis::measure::Measure;
use crate::analysis::stats::CONFIDENCE;
use crate::record::trial::{CellId, Trial};
use crate::run::scenario::Metric;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Fewer rounds than this show no interval worth the name.
pub(crate) const LEAST: usize = 3;
/// An interval is narrow when it reaches no further than this from its ratio.
const NARROW: f64 = 0.015;
/// What ratios relate to while a run goes on; any target would do that takes part everywhere.
const REFERENCE: &str = "epoll";

/// Servers that are compared with another one than the reference: those without a technique with their backend, those
/// that do something besides with themselves without it.
pub(crate) type Originals = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    end: Instant,
}

impl Budget {
    pub(crate) fn new(budget: Duration) -> Budget {
        Budget { end: Instant::now() + budget }
    }

    pub(crate) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_short(&self, wanted: Duration) -> bool {
        self.left().is_zero() || self.share(wanted) < 1.0
    }

    /// The share of `wanted` that can be afforded, up to 1.
    pub(crate) fn share(&self, wanted: Duration) -> f64 {
        let left = self.left();
        if wanted <= left { 1.0 } else { left.as_secs_f64() / wanted.as_secs_f64() }
    }
}

/// Whether every target's ratio to its original, or else to the reference, is known well enough in this comparison.
pub(crate) fn enough(cell: &CellId, metric: Metric, trials: &[Trial], originals: &Originals) -> bool {
    let mine: Vec<&Trial> = trials.iter().filter(|trial| trial.cell == *cell && trial.counts()).collect();
    let values = |target: &str| -> BTreeMap<usize, f64> {
        let of = mine.iter().filter(|trial| trial.target == target);
        of.filter_map(|trial| Some((trial.place.round, value(metric, trial)?))).collect()
    };
    let targets: BTreeSet<&str> = mine.iter().map(|trial| trial.target.as_str()).collect();
    let targets: Vec<&str> = targets.into_iter().collect();
    let row = |id: &str| targets.iter().position(|target| *target == id);
    let compared = targets.iter().enumerate().filter(|(_, target)| **target != REFERENCE);
    let pairs: Option<Vec<(usize, usize)>> = compared
        .map(|(index, target)| Some((index, row(originals.get(*target).map_or(REFERENCE, String::as_str))?)))
        .collect();
    let grid = Grid::of(&targets.iter().map(|target| values(target)).collect::<Vec<_>>());
    pairs.is_some_and(|pairs| are_narrow(&grid, &pairs))
}

/// Whether the intervals of all these pairs of rows are narrow.
pub(crate) fn are_narrow(grid: &Grid, pairs: &[(usize, usize)]) -> bool {
    pairs.iter().filter(|(above, below)| above != below).all(|(above, below)| {
        let contrast = grid.contrast(&[*above], &[*below]);
        contrast.is_some_and(|contrast| contrast.confidence(NARROW.ln_1p()) >= CONFIDENCE)
    })
}

fn value(metric: Metric, trial: &Trial) -> Option<f64> {
    let measure = match metric {
        Metric::MemoryPerConnection => Measure::CpuPerRequest,
        metric => Measure::of(metric),
    };
    measure.of_trial(trial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::trial::tests::trial;

    fn enough(cell: &CellId, metric: Metric, trials: &[Trial]) -> bool {
        super::enough(cell, metric, trials, &Originals::new())
    }

    /// Servers of another backend wander together: what counts is how they differ from each other.
    #[test]
    fn a_server_without_a_technique_is_compared_with_its_own_backend() {
        let mut trials = rounds(0.05);
        let cell = trials[0].cell.clone();
        trials.retain(|trial| trial.target == "uring");
        let lesser = trials.iter().map(|trial| Trial { target: "uring-plain".to_owned(), ..trial.clone() });
        let both: Vec<Trial> = lesser.chain(trials.clone()).collect();
        let originals = |original: &str| {
            let of = |id: &str, original: &str| (id.to_owned(), original.to_owned());
            Originals::from([of("uring-plain", original), of("uring", "uring")])
        };
        let metric = Metric::CpuPerRequest;
        assert!(super::enough(&cell, metric, &both, &originals("uring")));
        let epoll = rounds(0.05).into_iter().filter(|trial| trial.target == "epoll");
        let all: Vec<Trial> = both.into_iter().chain(epoll).collect();
        assert!(super::enough(&cell, metric, &all, &originals("uring")));
        assert!(!super::enough(&cell, metric, &all, &originals("epoll")));
    }

    fn rounds(spread: f64) -> Vec<Trial> {
        let pair = |round: usize| {
            let noise = if round.is_multiple_of(2) { 1.0 + spread } else { 1.0 - spread };
            [trial("epoll", round, 8_000.0), trial("uring", round, 7_000.0 * noise)]
        };
        (0..8).flat_map(pair).collect()
    }

    #[test]
    fn narrow_is_enough_and_wide_is_not() {
        let quiet = rounds(0.004);
        let cell = quiet[0].cell.clone();
        assert!(enough(&cell, Metric::CpuPerRequest, &quiet));
        assert!(!enough(&cell, Metric::CpuPerRequest, &rounds(0.05)));
        let alone: Vec<Trial> = quiet.iter().filter(|trial| trial.place.round == 0).cloned().collect();
        assert!(!enough(&cell, Metric::CpuPerRequest, &alone), "one round has no interval");
    }

    #[test]
    fn void_trials_are_no_rounds() {
        let mut trials = rounds(0.004);
        let cell = trials[0].cell.clone();
        for trial in trials.iter_mut().filter(|trial| trial.target == "uring") {
            trial.void = Some("disturbed".to_owned());
        }
        assert!(enough(&cell, Metric::CpuPerRequest, &trials), "nothing is left to be unsure of");
        let place = |trial: &&mut Trial| trial.target == "uring" && trial.place.round == 3;
        trials.iter_mut().find(place).unwrap().void = None;
        assert!(!enough(&cell, Metric::CpuPerRequest, &trials));
    }

    #[test]
    fn a_budget_is_shared_out() {
        let seconds = Duration::from_secs;
        let budget = Budget::new(seconds(100));
        assert!(!budget.is_short(seconds(90)) && budget.is_short(seconds(110)));
        assert!(
            Budget::new(Duration::ZERO).is_short(Duration::ZERO),
            "nothing is left, not even for the last"
        );
        let share = budget.share(seconds(200));
        assert!((0.4..=0.5).contains(&share), "{share}");
    }
}

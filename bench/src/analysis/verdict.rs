//! Verdicts: what a cell's trials allow to be said about its targets.
//!
//! **The rule**, for two targets in one cell and measure:
//!
//! 1. No claim where one side isn't ranked: over 0.01 % of its requests failed (rule 5), the client was the limit and the
//!    measure is a rate or a time (rule 3), or the measure isn't known. Nor with fewer than
//!    [`LEAST`](crate::run::rounds::LEAST) rounds, nor where the ratio is [too noisy](Reading::TooNoisy).
//! 2. **Difference**: with a confidence of over 99 % the ratio isn't 1, and it is further from 1 than [`MARGIN`], for what
//!    differs from one build or boot to the next. A [`Grid`] knows how sure a ratio is.
//! 3. **Alike**: the 90 % interval lies within [`ALIKE`].
//! 4. Everything else **can't be told apart here**.
//!
//! The A/A twin, one server under two names, checks this. It is *declared different* from its original only beyond
//! [`MARGIN`] at 99.9 %, because it is asked in every cell of every run: at 99 %, a few of some hundred honest twins would
//! be accused. If it is, something in the cell isn't noise of its rounds, and nothing that lies closer together than the
//! twin's interval reaches is called different there. Else its interval is information: the **band** that two copies of
//! one server were seen to differ by.
//!
//! The rules were chosen, and are tested, with [`simulation`](crate::analysis::simulation).

use crate::analysis::contrast::Contrast;
use crate::analysis::figures::Figures;
use crate::analysis::grid::Grid;
use crate::analysis::measure::Measure;
use crate::analysis::reading::{Reading, SPAN_MAX};
use crate::analysis::stats::{CONFIDENCE, Estimate, Interval, holm};
use crate::record::Record;
use crate::record::trial::{CellId, Trial};
use crate::run::rounds::LEAST;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Ratios nearer to 1 than this are never called a difference.
pub(crate) const MARGIN: f64 = 0.02;
/// Ratios that are surely nearer to 1 than this are called alike.
pub(crate) const ALIKE: f64 = 0.05;
/// How sure a difference is: a little more than 99 %, so that under no kind of noise in the simulation more than 1 % are
/// wrong.
pub(crate) const DIFFERENT_CONFIDENCE: f64 = 0.991;
/// How sure a twin's difference is.
const TWIN_CONFIDENCE: f64 = 0.999;
/// Of the interval that has to lie within [`ALIKE`].
const ALIKE_CONFIDENCE: f64 = 0.90;
/// Of all reports, so many may tell a difference in one of their sentences that is none: less than 5 %, for the same
/// reason.
pub(crate) const FALSE_REPORTS_MAX: f64 = 0.035;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    #[serde(flatten)]
    pub(crate) cell: CellId,
    /// The axis's value; null for a scenario of one point.
    pub(crate) value: Option<f64>,
    pub(crate) measure: Measure,
    /// Rounds in which at least one trial counts.
    pub(crate) rounds: usize,
    pub(crate) targets: Vec<Figures>,
    /// What two copies of one server were seen to differ by, per measure.
    pub(crate) bands: BTreeMap<Measure, Band>,
    /// Each pair of targets once, for the scenario's measure and those of [`COMPARED`]; the one that the
    /// record names first is above the line. [`Verdict::ratio`] finds both directions.
    pub(crate) ratios: Vec<Ratio>,
}

/// What is compared in every cell besides the scenario's own measure.
pub(crate) const COMPARED: [Measure; 3] = [Measure::CpuPerRequest, Measure::Rate, Measure::P99];

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Band {
    /// It is [1 / (1 + margin), 1 + margin]: as far as the twin's 95 % interval reaches, and at least [`MARGIN`].
    pub(crate) margin: f64,
    /// The twin's ratio to its original; null where no twin ran.
    pub(crate) twin: Option<Estimate>,
}

/// Two targets, compared round by round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// Above the line.
    pub(crate) above: String,
    /// Below the line.
    pub(crate) below: String,
    pub(crate) measure: Measure,
    /// Rounds in which both have a trial that counts.
    pub(crate) rounds: usize,
    /// As measured; [`Ratio::reading`] says whether it may be told.
    estimate: Estimate,
    /// How probable it is that noise alone makes them differ as much.
    pub(crate) chance: f64,
    pub(crate) claim: Claim,
    /// Why there is no verdict, where it isn't the interval.
    pub(crate) because: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Claim {
    Difference,
    /// They differ by less than [`ALIKE`].
    Alike,
    /// They can't be told apart here.
    NoVerdict,
}

/// Why a ratio that is too noisy gets no verdict.
const NOISE: &str = "too noisy here";

impl Band {
    /// From the twin's ratio, where there is one.
    pub(crate) fn of(twin: Option<Estimate>) -> Band {
        let reach = twin.and_then(|twin| twin.interval).map_or(0.0, reach);
        Band { margin: reach.max(MARGIN), twin }
    }

    pub(crate) fn interval(self) -> Interval {
        Interval { low: 1.0 / (1.0 + self.margin), high: 1.0 + self.margin }
    }
}

/// How far an interval reaches from 1 on its farther side, as a factor less 1.
fn reach(interval: Interval) -> f64 {
    interval.high.max(1.0 / interval.low) - 1.0
}

/// Rules 2 to 4. Nothing that lies closer together than `closest` is different: a ratio less 1, as for a [`Band`].
pub(crate) fn claim(contrast: &Contrast, closest: f64) -> Claim {
    let distance = contrast.difference.abs();
    if is_beyond(contrast, closest) {
        Claim::Difference
    } else if contrast.confidence(ALIKE.ln_1p() - distance) >= ALIKE_CONFIDENCE {
        Claim::Alike
    } else {
        Claim::NoVerdict
    }
}

/// Whether a difference is sure, and more than a ratio of `1 + closest` or [`MARGIN`].
pub(crate) fn is_beyond(contrast: &Contrast, closest: f64) -> bool {
    let distance = contrast.difference.abs();
    distance > closest.max(MARGIN).ln_1p() && contrast.confidence(distance) >= DIFFERENT_CONFIDENCE
}

/// The twin's own rule.
pub(crate) fn claim_of_twin(contrast: &Contrast) -> Claim {
    let beyond = contrast.difference.abs() - MARGIN.ln_1p();
    if contrast.confidence(beyond) >= TWIN_CONFIDENCE { Claim::Difference } else { claim(contrast, f64::MAX) }
}

pub(crate) fn judge(record: &Record, trials: &[Trial]) -> Vec<Verdict> {
    record.cells.iter().filter_map(|cell| Verdict::of(record, &cell.id, trials)).collect()
}

/// Which of a report's ratios may be told as differences in its sentences: those that stand beside all the others. Each
/// is its own claim, and the chance that noise alone makes as large a difference.
pub(crate) fn sure(ratios: &[(Claim, f64)]) -> Vec<bool> {
    let chances: Vec<f64> = ratios.iter().map(|(_, chance)| *chance).collect();
    let picked = holm(&chances, FALSE_REPORTS_MAX).into_iter();
    picked.zip(ratios).map(|(picked, (claim, _))| picked && *claim == Claim::Difference).collect()
}

/// A cell's values of one measure, and who in it ran twice.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    grid: Grid,
    /// The rows of a twin and its original.
    twins: Option<(usize, usize)>,
    /// What the twin was found to be.
    found: Option<(Contrast, Claim)>,
}

impl Compared {
    pub(crate) fn new(grid: Grid, twins: Option<(usize, usize)>) -> Compared {
        let found = twins.and_then(|(twin, original)| {
            let contrast = grid.contrast(&[twin], &[original])?;
            Some((contrast, claim_of_twin(&contrast)))
        });
        Compared { grid, twins, found }
    }

    /// What was measured of these targets.
    fn of(record: &Record, ids: &[&str], counted: &[&Trial], measure: Measure) -> Compared {
        let values: Vec<BTreeMap<usize, f64>> = ids.iter().map(|id| values(counted, id, measure)).collect();
        let row = |id: &str| ids.iter().position(|other| *other == id);
        let twins = ids.iter().enumerate().find_map(|(twin, id)| Some((twin, row(original(record, id)?)?)));
        Compared::new(Grid::of(&values), twins)
    }

    fn band(&self) -> Band {
        Band::of(self.found.map(|(contrast, _)| contrast.estimate()))
    }

    fn is_twin_different(&self) -> bool {
        self.found.is_some_and(|(_, claim)| claim == Claim::Difference)
    }

    /// The rows of a server: with its twin's, unless that differs from it.
    fn copies(&self, row: usize) -> Vec<usize> {
        match self.twins {
            Some((twin, original)) if original == row && !self.is_twin_different() => vec![original, twin],
            _ => vec![row],
        }
    }

    /// Two servers: what is known of their difference, and what that allows to claim. `None` if no round has both.
    pub(crate) fn pair(&self, above: usize, below: usize) -> Option<(Contrast, Claim)> {
        if self.twins.is_some_and(|twins| twins == (above, below) || twins == (below, above)) {
            let contrast = self.grid.contrast(&[above], &[below])?;
            return Some((contrast, claim_of_twin(&contrast)));
        }
        let contrast = self.grid.contrast(&self.copies(above), &self.copies(below))?;
        // As long as the twin is what it should be, the band is information.
        let closest = if self.is_twin_different() { self.band().margin } else { 0.0 };
        let claim = if is_told(&contrast) { claim(&contrast, closest) } else { Claim::NoVerdict };
        Some((contrast, claim))
    }
}

/// Whether [`Reading::of`] its ratio is a number.
fn is_told(contrast: &Contrast) -> bool {
    contrast.confidence(SPAN_MAX.ln() / 2.0) >= CONFIDENCE
}

impl Verdict {
    /// Judges one cell; trials of others don't count. `None` without a trial that counts, or for a cell that
    /// the record doesn't know.
    pub(crate) fn of(record: &Record, id: &CellId, trials: &[Trial]) -> Option<Verdict> {
        let (mut verdict, counted) = Verdict::without_ratios(record, id, trials)?;
        let mut measures = COMPARED.to_vec();
        measures.push(verdict.measure);
        measures.sort();
        measures.dedup();
        for measure in measures {
            verdict.compare(record, measure, &counted);
        }
        Some(verdict)
    }

    /// The figures and bands of a cell alone, and its trials that count: ratios of all pairs take longer.
    pub(crate) fn without_ratios<'a>(
        record: &Record,
        id: &CellId,
        trials: &'a [Trial],
    ) -> Option<(Verdict, Vec<&'a Trial>)> {
        let cell = record.cells.iter().find(|cell| cell.id == *id)?;
        let scenario = record.scenarios.iter().find(|scenario| scenario.name == id.scenario)?;
        let measure = Measure::of(scenario.metric);
        let mine: Vec<&Trial> = trials.iter().filter(|trial| trial.cell == *id).collect();
        let targets: Vec<Figures> =
            record.targets.iter().filter_map(|target| Figures::of(&target.id, &mine)).collect();
        if targets.is_empty() {
            return None;
        }
        let counted: Vec<&Trial> = mine.into_iter().filter(|trial| trial.counts()).collect();
        let rounds: BTreeSet<usize> = counted.iter().map(|trial| trial.place.round).collect();
        let mut verdict = Verdict {
            cell: id.clone(),
            value: cell.value,
            measure,
            rounds: rounds.len(),
            targets,
            bands: BTreeMap::new(),
            ratios: Vec::new(),
        };
        for measure in Measure::ALL {
            verdict.bands.insert(measure, verdict.compared(record, measure, &counted).band());
        }
        Some((verdict, counted))
    }

    fn compared(&self, record: &Record, measure: Measure, counted: &[&Trial]) -> Compared {
        let ids: Vec<&str> = self.targets.iter().map(|figures| figures.target.as_str()).collect();
        Compared::of(record, &ids, counted, measure)
    }

    fn compare(&mut self, record: &Record, measure: Measure, counted: &[&Trial]) {
        let compared = self.compared(record, measure, counted);
        let rounds: Vec<BTreeSet<usize>> = self
            .targets
            .iter()
            .map(|figures| values(counted, &figures.target, measure).into_keys().collect())
            .collect();
        let mut ratios = Vec::new();
        for (first, above) in self.targets.iter().enumerate() {
            for (second, below) in self.targets.iter().enumerate().skip(first + 1) {
                let rounds = rounds[first].intersection(&rounds[second]).count();
                let Some((contrast, claim)) = compared.pair(first, second).filter(|_| rounds > 0) else {
                    continue;
                };
                let estimate = contrast.estimate();
                let because = reason(above, below, measure, rounds).or_else(|| noise(&estimate));
                ratios.push(Ratio {
                    above: above.target.clone(),
                    below: below.target.clone(),
                    measure,
                    rounds,
                    estimate,
                    chance: contrast.chance(),
                    claim: if because.is_some() { Claim::NoVerdict } else { claim },
                    because,
                });
            }
        }
        self.ratios.extend(ratios);
    }

    pub(crate) fn figures(&self, target: &str) -> Option<&Figures> {
        self.targets.iter().find(|figures| figures.target == target)
    }

    /// The ratio of two targets, whichever way round it is stored.
    pub(crate) fn ratio(&self, above: &str, below: &str, measure: Measure) -> Option<Ratio> {
        let same = |ratio: &&Ratio| ratio.measure == measure;
        let mut candidates = self.ratios.iter().filter(same);
        let found = candidates.find(|ratio| {
            (ratio.above == above && ratio.below == below) || (ratio.above == below && ratio.below == above)
        })?;
        if found.above == above {
            return Some(found.clone());
        }
        Some(Ratio {
            above: above.to_owned(),
            below: below.to_owned(),
            estimate: found.estimate.inverted(),
            ..found.clone()
        })
    }

    pub(crate) fn band(&self, measure: Measure) -> Band {
        self.bands.get(&measure).copied().unwrap_or_else(|| Band::of(None))
    }
}

fn original<'a>(record: &'a Record, id: &str) -> Option<&'a str> {
    record.targets.iter().find(|target| target.id == id)?.twin_of.as_deref()
}

fn values(counted: &[&Trial], id: &str, measure: Measure) -> BTreeMap<usize, f64> {
    let mine = counted.iter().filter(|trial| trial.target == id);
    mine.filter_map(|trial| Some((trial.place.round, measure.of_trial(trial)?))).collect()
}

fn reason(above: &Figures, below: &Figures, measure: Measure, rounds: usize) -> Option<String> {
    let of =
        |figures: &Figures| figures.unranked(measure).map(|reason| format!("{}: {reason}", figures.target));
    let few = || match rounds {
        1 => Some("a single round".to_owned()),
        few if few < LEAST => Some(format!("{few} rounds")),
        _ => None,
    };
    of(above).or_else(|| of(below)).or_else(few)
}

fn noise(estimate: &Estimate) -> Option<String> {
    Reading::of(Some(estimate)).told().is_none().then(|| NOISE.to_owned())
}

impl Ratio {
    /// The ratio, if it may be told.
    pub(crate) fn reading(&self) -> Reading {
        Reading::of(Some(&self.estimate))
    }

    /// One for tests of what is told.
    #[cfg(test)]
    pub(crate) fn sample(
        (above, below): (&str, &str),
        measure: Measure,
        (value, low, high): (f64, f64, f64),
        claim: Claim,
    ) -> Ratio {
        Ratio {
            above: above.to_owned(),
            below: below.to_owned(),
            measure,
            rounds: 12,
            estimate: Estimate { value, interval: Some(Interval { low, high }) },
            chance: 0.001,
            claim,
            because: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;
    use crate::record::trial::tests::trial;

    fn cell() -> CellId {
        CellId { scenario: "hot-small".to_owned(), point: String::new() }
    }

    /// Twelve rounds with drift; each target's CPU time is the drift times its own factor, give or take.
    fn trials(targets: &[(&str, f64)], noise: f64) -> Vec<Trial> {
        let mut trials = Vec::new();
        let mut random = crate::random::Random::new(5);
        for round in 0..12 {
            let drift = 8_000.0 * 1.03_f64.powi(i32::try_from(round).unwrap());
            for (target, factor) in targets {
                let wiggle = 1.0 + noise * (random.below(2_001) as f64 / 1_000.0 - 1.0);
                trials.push(trial(target, round, drift * factor * wiggle));
            }
        }
        trials
    }

    fn contrast(ratio: f64, error: f64) -> Contrast {
        Contrast { difference: ratio.ln(), error, degrees: 9 }
    }

    #[test]
    fn claims_follow_the_difference_and_how_sure_it_is() {
        // Student's t of 9 degrees is 3.322 at 99.1 %, 1.833 at 90 %.
        let table = [
            ("sure", contrast(0.85, 0.04), 0.0, Claim::Difference),
            ("just sure", contrast(1.10, 0.0285), 0.0, Claim::Difference),
            ("just not sure", contrast(1.10, 0.0289), 0.0, Claim::NoVerdict),
            ("surely not 1, but too near", contrast(1.015, 0.001), 0.0, Claim::Alike),
            ("near, and beyond the margin", contrast(1.03, 0.001), 0.0, Claim::Difference),
            ("around 1", contrast(1.0, 0.0265), 0.0, Claim::Alike),
            ("around 1, but wide", contrast(1.0, 0.0268), 0.0, Claim::NoVerdict),
            ("a twin strays as much", contrast(1.10, 0.01), 0.12, Claim::NoVerdict),
            ("more than the twin strays", contrast(1.14, 0.01), 0.12, Claim::Difference),
            ("a single round", contrast(0.5, f64::INFINITY), 0.0, Claim::NoVerdict),
        ];
        for (name, found, closest, expected) in table {
            assert_eq!(claim(&found, closest), expected, "{name}");
            let inverse = Contrast { difference: -found.difference, ..found };
            assert_eq!(claim(&inverse, closest), expected, "{name}, the other way round");
        }
    }

    #[test]
    fn the_band_is_what_the_twin_shows() {
        let of = |low, high| Band::of(Some(Estimate { value: 1.0, interval: Some(Interval { low, high }) }));
        assert!((of(0.995, 1.005).margin - MARGIN).abs() < 1e-12);
        assert!((of(0.9, 1.01).margin - (1.0 / 0.9 - 1.0)).abs() < 1e-12, "the farther side counts");
        assert!((of(0.1, 5.0).margin - 9.0).abs() < 1e-12, "however far that is");
        assert!((Band::of(None).margin - MARGIN).abs() < 1e-12);
    }

    #[test]
    fn a_report_tells_what_stands_beside_its_other_comparisons() {
        let (yes, no) = (Claim::Difference, Claim::NoVerdict);
        assert_eq!(sure(&[(yes, 0.009)]), [true]);
        let twelve: Vec<(Claim, f64)> = (0..12).map(|_| (yes, 0.009)).collect();
        assert_eq!(sure(&twelve), [false; 12]);
        assert_eq!(sure(&[(no, 0.001), (yes, 0.001)]), [false, true]);
    }

    #[test]
    fn the_twin_is_judged_by_the_margin_alone() {
        // 4.781 at 99.9 %.
        let table = [
            (contrast(1.05, 0.006), Claim::Difference),
            (contrast(0.95, 0.006), Claim::Difference),
            (contrast(1.05, 0.0065), Claim::NoVerdict),
            (contrast(1.0, 0.01), Claim::Alike),
        ];
        for (contrast, expected) in table {
            assert_eq!(claim_of_twin(&contrast), expected, "{contrast:?}");
        }
        // A twin that strays can't be hidden: others that lie as close together aren't told apart.
        let trials = trials(&[("epoll", 1.0), ("epoll-twin", 1.06), ("uring", 1.05), ("nginx", 1.2)], 0.002);
        let verdict = Verdict::of(&record(), &cell(), &trials).unwrap();
        let claim = |id| verdict.ratio(id, "epoll", Measure::CpuPerRequest).unwrap().claim;
        assert_eq!((claim("epoll-twin"), claim("uring")), (Claim::Difference, Claim::NoVerdict));
        assert_eq!(claim("nginx"), Claim::Difference);
        let uring = verdict.ratio("uring", "epoll", Measure::CpuPerRequest).unwrap();
        assert!((uring.estimate.value - 1.05).abs() < 0.002, "compared with the original alone: {uring:?}");
    }

    #[test]
    fn what_ran_twice_is_compared_by_both() {
        let trials = trials(&[("epoll", 1.01), ("epoll-twin", 0.99), ("uring", 0.9), ("nginx", 1.0)], 0.005);
        let verdict = Verdict::of(&record(), &cell(), &trials).unwrap();
        let ratio =
            |above, below| verdict.ratio(above, below, Measure::CpuPerRequest).unwrap().estimate.value;
        assert!((ratio("uring", "epoll") - 0.9).abs() < 0.003, "{}", ratio("uring", "epoll"));
        assert!((ratio("uring", "epoll-twin") - 0.909).abs() < 0.004, "{}", ratio("uring", "epoll-twin"));
    }

    #[test]
    fn a_ratio_that_is_too_noisy_gets_no_verdict_and_no_number() {
        let mut trials = trials(&[("epoll", 1.0), ("epoll-twin", 1.0), ("uring", 50.0)], 0.005);
        for trial in trials.iter_mut().filter(|trial| trial.target == "uring") {
            trial.cost.cpu_ns *= [1, 40][trial.place.round % 2];
        }
        let verdict = Verdict::of(&record(), &cell(), &trials).unwrap();
        let ratio = verdict.ratio("uring", "epoll", Measure::CpuPerRequest).unwrap();
        assert!(ratio.chance < 0.001, "it differs, but nobody can say by how much");
        assert_eq!((ratio.claim, ratio.reading().is_too_noisy()), (Claim::NoVerdict, true));
        assert_eq!(ratio.because.as_deref(), Some("too noisy here"));
    }

    #[test]
    fn two_rounds_are_no_verdict() {
        let mut trials = trials(&[("epoll", 1.0), ("uring", 0.5)], 0.001);
        trials.retain(|trial| trial.place.round < 2);
        let verdict = Verdict::of(&record(), &cell(), &trials).unwrap();
        let ratio = verdict.ratio("uring", "epoll", Measure::CpuPerRequest).unwrap();
        assert_eq!((ratio.claim, ratio.because.as_deref()), (Claim::NoVerdict, Some("2 rounds")));
    }

    #[test]
    fn drift_hits_all_alike() {
        let trials = trials(&[("epoll", 1.0), ("epoll-twin", 1.0), ("uring", 0.9), ("nginx", 1.0)], 0.005);
        let verdict = Verdict::of(&record(), &cell(), &trials).unwrap();
        let ratio = verdict.ratio("uring", "epoll", Measure::CpuPerRequest).unwrap();
        assert!((ratio.estimate.value - 0.9).abs() < 0.01, "{ratio:?}");
        assert_eq!((ratio.claim, ratio.rounds), (Claim::Difference, 12));
        let inverse = verdict.ratio("epoll", "uring", Measure::CpuPerRequest).unwrap();
        assert!((inverse.estimate.value * ratio.estimate.value - 1.0).abs() < 1e-12);
        let claim = |one, other| verdict.ratio(one, other, Measure::CpuPerRequest).unwrap().claim;
        assert_eq!(claim("epoll", "nginx"), Claim::Alike);
        assert_eq!(claim("epoll-twin", "epoll"), Claim::Alike);
        assert!(verdict.ratio("h2o", "epoll", Measure::CpuPerRequest).is_none(), "it didn't run");
        assert_eq!(verdict.rounds, 12);
    }

    #[test]
    fn a_round_without_a_partner_is_no_pair() {
        let mut trials = trials(&[("epoll", 1.0), ("uring", 0.5)], 0.001);
        trials.push(trial("uring", 12, 1.0));
        let mut void = trial("epoll", 12, 1.0);
        void.void = Some("other processes".to_owned());
        trials.push(void);
        let verdict = Verdict::of(&record(), &cell(), &trials).unwrap();
        let ratio = verdict.ratio("uring", "epoll", Measure::CpuPerRequest).unwrap();
        assert_eq!(ratio.rounds, 12);
        assert!((ratio.estimate.value - 0.5).abs() < 0.01);
    }

    #[test]
    fn who_is_not_ranked_gets_no_claim() {
        let mut trials = trials(&[("epoll", 1.0), ("uring", 0.5)], 0.001);
        for trial in trials.iter_mut().filter(|trial| trial.target == "uring") {
            trial.limiter = crate::record::trial::Limiter::ClientCpu;
        }
        let verdict = Verdict::of(&record(), &cell(), &trials).unwrap();
        let rate = verdict.ratio("uring", "epoll", Measure::Rate).unwrap();
        assert_eq!(rate.claim, Claim::NoVerdict);
        assert_eq!(rate.because.as_deref(), Some("uring: the client was the limit"));
        let cpu = verdict.ratio("uring", "epoll", Measure::CpuPerRequest).unwrap();
        assert_eq!(cpu.claim, Claim::Difference, "the server's CPU time is its own");
        for trial in trials.iter_mut().filter(|trial| trial.target == "epoll") {
            trial.classes[0].errors.insert("reset".to_owned(), 100);
        }
        let verdict = Verdict::of(&record(), &cell(), &trials).unwrap();
        let cpu = verdict.ratio("uring", "epoll", Measure::CpuPerRequest).unwrap();
        assert_eq!(cpu.because.as_deref(), Some("epoll: 0.20 % of its requests failed"));
    }
}

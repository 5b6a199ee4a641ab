//! Verdicts: what a cell's trials allow to be said about its targets.
//!
//! **The rule**, for a ratio of two targets in one cell and measure:
//!
//! 1. No claim where one side isn't ranked: over 0.01 % of its requests failed (rule 5), the client was the
//!    limit and the measure is a rate or a time (rule 3), or the measure isn't known.
//! 2. The **band** is what can't be told from noise here: the A/A twin's ratio to its original is 1 in truth,
//!    so the band reaches as far from 1 as the twin's 95 % interval does; at least [`MARGIN`], for what differs
//!    from one build or boot to the next; at most [`BAND_MAX`], for the interval of three rounds reaches
//!    further than any twin ever strays, and the claim's own interval says so anyway.
//! 3. **Difference**: the interval as printed leaves out 1, and the ratio lies outside the band.
//! 4. **Alike**: the whole interval lies within the band.
//! 5. Everything else is **no verdict**.
//!
//! The twin itself is judged without its own help: it is *alike* when its interval lies within [`MARGIN`], and
//! *declared different* when its whole interval lies beyond, at a confidence of 99.9 %, because it is asked in
//! every cell of every run: at 95 %, a few of a hundred honest twins would be accused. That no twin is ever
//! declared different is therefore a test of the harness and not true by construction.

use crate::analysis::figures::Figures;
use crate::analysis::measure::Measure;
use crate::analysis::stats::{Estimate, Interval, ratio_estimate, strict_ratio_interval};
use crate::record::Record;
use crate::record::trial::{CellId, Trial};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Ratios nearer to 1 than this are never called a difference.
pub(crate) const MARGIN: f64 = 0.02;
/// The widest A/A band.
pub(crate) const BAND_MAX: f64 = 0.25;

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
    /// What can't be told from noise, per measure.
    pub(crate) bands: BTreeMap<Measure, Band>,
    /// Each pair of targets once, for the scenario's measure and those of [`COMPARED`]; the one that the
    /// record names first is above the line. [`Verdict::ratio`] finds both directions.
    pub(crate) ratios: Vec<Ratio>,
}

/// What is compared in every cell besides the scenario's own measure.
pub(crate) const COMPARED: [Measure; 3] = [Measure::CpuPerRequest, Measure::Rate, Measure::P99];

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Band {
    /// It is [1 / (1 + margin), 1 + margin].
    pub(crate) margin: f64,
    /// The twin's ratio to its original; null where no twin ran.
    pub(crate) twin: Option<Estimate>,
}

/// Two targets, compared round by round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Above the line.
    pub(crate) above: String,
    /// Below the line.
    pub(crate) below: String,
    pub(crate) measure: Measure,
    /// Rounds in which both have a trial that counts.
    pub(crate) rounds: usize,
    pub(crate) estimate: Estimate,
    pub(crate) claim: Claim,
    /// Why there is no verdict, where it isn't the interval.
    pub(crate) because: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Claim {
    Difference,
    /// They don't differ by more than noise.
    Alike,
    NoVerdict,
}

impl Band {
    /// From the twin's ratio, where there is one.
    pub(crate) fn of(twin: Option<Estimate>) -> Band {
        let reach = twin.and_then(|twin| twin.interval).map_or(0.0, reach);
        Band { margin: reach.clamp(MARGIN, BAND_MAX), twin }
    }

    pub(crate) fn interval(self) -> Interval {
        band(self.margin)
    }
}

/// How far an interval reaches from 1 on its farther side, as a factor less 1.
fn reach(interval: Interval) -> f64 {
    interval.high.max(1.0 / interval.low) - 1.0
}

fn band(margin: f64) -> Interval {
    Interval { low: 1.0 / (1.0 + margin), high: 1.0 + margin }
}

fn is_within(inner: Interval, outer: Interval) -> bool {
    outer.low <= inner.low && inner.high <= outer.high
}

/// A ratio as printed: a claim must not rest on digits that aren't shown.
pub(crate) fn printed(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

/// Rules 3 to 5.
pub(crate) fn claim(estimate: &Estimate, band: Band) -> Claim {
    let Some(interval) = estimate.interval else {
        return Claim::NoVerdict;
    };
    let leaves_out_one = printed(interval.high) < 1.0 || printed(interval.low) > 1.0;
    if leaves_out_one && !band.interval().contains(estimate.value) {
        Claim::Difference
    } else if is_within(interval, band.interval()) {
        Claim::Alike
    } else {
        Claim::NoVerdict
    }
}

/// The twin's own rule. `strict` is the interval at 99.9 %.
pub(crate) fn claim_of_twin(estimate: &Estimate, strict: Option<Interval>) -> Claim {
    let margin = band(MARGIN);
    match (strict, estimate.interval) {
        (Some(strict), _) if strict.low > margin.high || strict.high < margin.low => Claim::Difference,
        (_, Some(interval)) if is_within(interval, margin) => Claim::Alike,
        _ => Claim::NoVerdict,
    }
}

pub(crate) fn judge(record: &Record, trials: &[Trial]) -> Vec<Verdict> {
    record.cells.iter().filter_map(|cell| Verdict::of(record, &cell.id, trials)).collect()
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
            verdict.bands.insert(measure, Band::of(verdict.twin(record, measure, &counted)));
        }
        Some((verdict, counted))
    }

    fn twin(&self, record: &Record, measure: Measure, counted: &[&Trial]) -> Option<Estimate> {
        self.targets.iter().find_map(|figures| {
            let original = original(record, &figures.target)?;
            let of = |id: &str| values(counted, id, measure);
            ratio_estimate(&paired(&of(&figures.target), &of(original)))
        })
    }

    fn compare(&mut self, record: &Record, measure: Measure, counted: &[&Trial]) {
        let rounds: Vec<BTreeMap<usize, f64>> =
            self.targets.iter().map(|figures| values(counted, &figures.target, measure)).collect();
        let band = self.band(measure);
        for (first, above) in self.targets.iter().enumerate() {
            for (second, below) in self.targets.iter().enumerate().skip(first + 1) {
                let pairs = paired(&rounds[first], &rounds[second]);
                let Some(estimate) = ratio_estimate(&pairs) else {
                    continue;
                };
                let are_twins = original(record, &above.target) == Some(below.target.as_str())
                    || original(record, &below.target) == Some(above.target.as_str());
                let because = reason(above, below, measure, pairs.len());
                let claim = match &because {
                    Some(_) => Claim::NoVerdict,
                    None if are_twins => claim_of_twin(&estimate, strict_ratio_interval(&pairs)),
                    None => claim(&estimate, band),
                };
                self.ratios.push(Ratio {
                    above: above.target.clone(),
                    below: below.target.clone(),
                    measure,
                    rounds: pairs.len(),
                    estimate,
                    claim,
                    because,
                });
            }
        }
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

/// The values of the rounds that both have.
fn paired(above: &BTreeMap<usize, f64>, below: &BTreeMap<usize, f64>) -> Vec<(f64, f64)> {
    above.iter().filter_map(|(round, value)| Some((*value, *below.get(round)?))).collect()
}

fn reason(above: &Figures, below: &Figures, measure: Measure, rounds: usize) -> Option<String> {
    let of =
        |figures: &Figures| figures.unranked(measure).map(|reason| format!("{}: {reason}", figures.target));
    let single = || (rounds < 2).then(|| "a single round".to_owned());
    of(above).or_else(|| of(below)).or_else(single)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;
    use crate::record::trial::tests::trial;

    fn cell() -> CellId {
        CellId { scenario: "hot-small".to_owned(), point: String::new() }
    }

    fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, interval: Some(Interval { low, high }) }
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

    #[test]
    fn claims_follow_the_interval_and_the_band() {
        let narrow = Band::of(Some(estimate(1.0, 0.995, 1.005)));
        assert!((narrow.margin - MARGIN).abs() < 1e-12);
        let wide = Band::of(Some(estimate(1.01, 0.96, 1.08)));
        assert!((wide.margin - 0.08).abs() < 1e-9);
        let table = [
            ("beyond", narrow, estimate(0.85, 0.84, 0.86), Claim::Difference),
            ("beyond, above", narrow, estimate(1.10, 1.05, 1.15), Claim::Difference),
            ("surely not 1, but too near", narrow, estimate(1.015, 1.011, 1.019), Claim::Alike),
            ("around 1", narrow, estimate(1.0, 0.99, 1.01), Claim::Alike),
            ("wide", narrow, estimate(0.97, 0.90, 1.04), Claim::NoVerdict),
            ("printed as 1.00", narrow, estimate(0.96, 0.92, 0.9961), Claim::NoVerdict),
            ("noise has done as much", wide, estimate(1.05, 1.03, 1.07), Claim::Alike),
            ("noise has done nearly as much", wide, estimate(1.07, 1.03, 1.11), Claim::NoVerdict),
            ("more than noise", wide, estimate(1.12, 1.03, 1.20), Claim::Difference),
            ("a single round", narrow, Estimate { value: 0.5, interval: None }, Claim::NoVerdict),
        ];
        for (name, band, estimate, expected) in table {
            assert_eq!(claim(&estimate, band), expected, "{name}");
            assert_eq!(claim(&estimate.inverted(), band), expected, "{name}, the other way round");
        }
    }

    #[test]
    fn the_band_is_bounded() {
        let of = |low, high| Band::of(Some(estimate(1.0, low, high))).margin;
        assert!((of(0.1, 9.0) - BAND_MAX).abs() < 1e-12);
        assert!((of(0.9, 1.01) - (1.0 / 0.9 - 1.0)).abs() < 1e-12, "the farther side counts");
        assert!((Band::of(None).margin - MARGIN).abs() < 1e-12);
    }

    #[test]
    fn the_twin_is_judged_by_the_margin_alone() {
        let table = [
            (estimate(1.05, 1.04, 1.06), (1.03, 1.07), Claim::Difference),
            (estimate(0.95, 0.94, 0.96), (0.93, 0.97), Claim::Difference),
            (estimate(1.05, 1.03, 1.07), (1.01, 1.09), Claim::NoVerdict),
            (estimate(1.0, 0.99, 1.01), (0.97, 1.03), Claim::Alike),
        ];
        for (estimate, (low, high), expected) in table {
            assert_eq!(claim_of_twin(&estimate, Some(Interval { low, high })), expected);
        }
        // A twin that strays widens the band of the others, and can't hide itself behind it.
        let trials = trials(&[("epoll", 1.0), ("epoll-twin", 1.06), ("uring", 1.05)], 0.002);
        let verdict = Verdict::of(&record(), &cell(), &trials).unwrap();
        let claim = |id| verdict.ratio(id, "epoll", Measure::CpuPerRequest).unwrap().claim;
        assert_eq!((claim("epoll-twin"), claim("uring")), (Claim::Difference, Claim::Alike));
    }

    /// Ten quick runs ask for the twin about seventy times. Here it is asked two thousand times, among few
    /// rounds of much noise.
    #[test]
    fn equals_are_not_declared_different() {
        let mut random = crate::random::Random::new(11);
        let mut accused = 0;
        for case in 0..2_000 {
            let mut value = || {
                let sum: f64 = (0..12).map(|_| random.below(1_000_000) as f64 / 1e6).sum();
                (0.08 * (sum - 6.0)).exp()
            };
            let pairs: Vec<(f64, f64)> = (0..[3, 5, 7, 12][case % 4]).map(|_| (value(), value())).collect();
            let estimate = Estimate { value: 1.0, interval: None };
            let claim = claim_of_twin(&estimate, strict_ratio_interval(&pairs));
            accused += usize::from(claim == Claim::Difference);
        }
        assert!(accused <= 4, "{accused} of 2,000");
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

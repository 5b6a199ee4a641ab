//! What changed between two runs.
//!
//! Two runs never happen at the same time, so their rounds can't be paired, and the machine itself may have
//! changed. **Controls** show by how much: peers in the same version and configuration, and the null servers.
//! A target's ratio to the controls within each round is compared, not its raw value. The drift is the change
//! of the controls' own values, and is shown. Where the controls disagree on it, the disagreement widens the
//! interval.
//!
//! **The rule**: a target *changed* when its mean logarithm did, at a confidence of 99 % (Welch's test), by more than
//! [`MARGIN`](crate::analysis::verdict::MARGIN), and when that stands beside all other comparisons of the two runs
//! ([`FALSE_REPORTS_MAX`]). It is a *regression* when the target is one of this project's and got worse.

use crate::analysis::contrast::Contrast;
use crate::analysis::figures::{ERROR_SHARE_MAX, Figures};
use crate::analysis::measure::Measure;
use crate::analysis::reading::Reading;
use crate::analysis::stats::{Estimate, holm, mean, median, median_estimate, squared_error};
use crate::analysis::student;
use crate::analysis::verdict::{DIFFERENT_CONFIDENCE, FALSE_REPORTS_MAX, MARGIN, Verdict, is_beyond};
use crate::failure::{Failure, Result};
use crate::record::trial::{CellId, Trial};
use crate::record::{Family, Record, TargetRecord, read_record, read_trials};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// The earlier run: its start and commit.
    pub(crate) before: String,
    /// The later run.
    pub(crate) after: String,
    /// What makes the runs hard to compare: another machine, another effort, missing targets.
    pub(crate) notes: Vec<String>,
    /// What couldn't be compared, with the reason.
    pub(crate) omitted: Vec<String>,
    /// In the order of the cells, a change for each target that is neither a control nor a
    /// twin.
    pub(crate) changes: Vec<Change>,
    pub(crate) drifts: Vec<Drift>,
}

/// One target in one cell and measure.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) cell: CellId,
    pub(crate) measure: Measure,
    pub(crate) target: String,
    pub(crate) ours: bool,
    /// In the earlier run, as measured.
    pub(crate) before: Reading,
    /// In the later run, as measured.
    pub(crate) after: Reading,
    /// After divided by before, drift taken out.
    pub(crate) ratio: Estimate,
    /// How probable it is that noise alone makes as large a change.
    pub(crate) chance: f64,
    /// Smaller changes couldn't have been seen here, as a ratio less 1; infinite with a single round.
    pub(crate) visible: f64,
    pub(crate) kind: ChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Better,
    Worse,
    WithinNoise,
}

#[derive(Clone, Debug)]
pub(crate) struct Drift {
    pub(crate) cell: CellId,
    pub(crate) measure: Measure,
    pub(crate) controls: Vec<String>,
    pub(crate) ratio: Estimate,
}

#[derive(Clone, Debug)]
pub(crate) struct RecordedRun {
    pub(crate) record: Record,
    pub(crate) trials: Vec<Trial>,
}

impl RecordedRun {
    pub(crate) fn read(folder: &Path) -> Result<RecordedRun> {
        Ok(RecordedRun { record: read_record(folder)?, trials: read_trials(folder)? })
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let verdict = |id| Some(Verdict::without_ratios(&self.record, id, &self.trials)?.0);
        self.record.cells.iter().filter_map(|cell| verdict(&cell.id)).collect()
    }

    fn name(&self) -> String {
        let source = &self.record.environment.source;
        let commit = source.as_ref().map_or_else(
            || "no commit".to_owned(),
            |source| format!("{}{}", source.commit, if source.dirty { " with changes" } else { "" }),
        );
        format!("{} ({commit})", self.record.started)
    }

    /// The logarithm of the measure, per target and round.
    fn logs(&self, cell: &CellId, measure: Measure) -> BTreeMap<&str, BTreeMap<usize, f64>> {
        let mut logs: BTreeMap<&str, BTreeMap<usize, f64>> = BTreeMap::new();
        for trial in self.trials.iter().filter(|trial| trial.counts() && trial.cell == *cell) {
            if let Some(value) = measure.of_trial(trial) {
                logs.entry(&trial.target).or_default().insert(trial.place.round, value.ln());
            }
        }
        logs
    }
}

pub(crate) fn run(before: &Path, after: &Path) -> Result<Comparison> {
    compare(&RecordedRun::read(before)?, &RecordedRun::read(after)?)
}

pub(crate) fn compare(before: &RecordedRun, after: &RecordedRun) -> Result<Comparison> {
    let (mut changes, mut drifts, mut omitted) = (Vec::new(), Vec::new(), Vec::new());
    let mut notes = notes(before, after);
    let (earlier, later) = (before.verdicts(), after.verdicts());
    for first in &earlier {
        let Some(second) = later.iter().find(|verdict| verdict.cell == first.cell) else {
            notes.push(format!("{} ran only before", first.cell));
            continue;
        };
        let mut measures = vec![first.measure, Measure::CpuPerRequest];
        measures.dedup();
        for measure in measures {
            let cell = CellPair { before, after, first, second, measure };
            cell.compare(&mut changes, &mut drifts, &mut omitted);
        }
    }
    let new = later.iter().filter(|verdict| earlier.iter().all(|first| first.cell != verdict.cell));
    notes.extend(new.map(|verdict| format!("{} ran only after", verdict.cell)));
    if changes.is_empty() {
        return Err(Failure::new("compare: no target ran in the same comparison of both runs"));
    }
    judge_together(&mut changes);
    Ok(Comparison { before: before.name(), after: after.name(), notes, omitted, changes, drifts })
}

/// Takes back what doesn't stand beside all other comparisons: of many, some look like changes by chance. Failures aren't
/// due to chance.
fn judge_together(changes: &mut [Change]) {
    let chances: Vec<f64> = changes.iter().map(|change| change.chance).collect();
    for (change, stands) in changes.iter_mut().zip(holm(&chances, FALSE_REPORTS_MAX)) {
        if !stands {
            change.kind = ChangeKind::WithinNoise;
        }
    }
}

struct CellPair<'a> {
    before: &'a RecordedRun,
    after: &'a RecordedRun,
    first: &'a Verdict,
    second: &'a Verdict,
    measure: Measure,
}

/// The mean logarithm of the controls, per round.
type Levels = BTreeMap<usize, f64>;

impl CellPair<'_> {
    fn compare(&self, changes: &mut Vec<Change>, drifts: &mut Vec<Drift>, omitted: &mut Vec<String>) {
        let logs = [self.before, self.after].map(|run| run.logs(&self.first.cell, self.measure));
        let controls = self.controls();
        let levels = [levels(&logs[0], &controls), levels(&logs[1], &controls)];
        let usable = levels.iter().all(|levels| levels.len() >= 2);
        let excess = if usable { disagreement(&logs, &controls) } else { 0.0 };
        if usable {
            let [one, other] = levels.each_ref().map(|levels| levels.values().copied().collect::<Vec<_>>());
            drifts.extend(Contrast::unpaired(&one, &other, excess).map(|moved| Drift {
                cell: self.first.cell.clone(),
                measure: self.measure,
                controls: controls.clone(),
                ratio: moved.estimate(),
            }));
        }
        for target in &self.before.record.targets {
            // The twin is its original once more: to count both would double the chance of a false alarm.
            if controls.contains(&target.id) || target.twin_of.is_some() {
                continue;
            }
            match self.change(target, &logs, usable.then_some(&levels), excess) {
                Ok(change) => changes.extend(change),
                Err(reason) => omitted.push(format!(
                    "{}, {}, {}: {reason}",
                    self.first.cell,
                    target.id,
                    self.measure.label()
                )),
            }
        }
    }

    /// Targets that no change of this project can have affected, and that are ranked in both runs.
    fn controls(&self) -> Vec<String> {
        let unchanged = |target: &&TargetRecord| {
            target.family != Family::Ours
                && self.after.record.targets.iter().any(|other| {
                    (&other.id, &other.version, &other.configuration)
                        == (&target.id, &target.version, &target.configuration)
                })
                && [self.first, self.second].iter().all(|verdict| {
                    verdict
                        .figures(&target.id)
                        .is_some_and(|figures| figures.unranked(self.measure).is_none())
                })
        };
        self.before.record.targets.iter().filter(unchanged).map(|target| target.id.clone()).collect()
    }

    /// `Ok(None)` for a target that didn't run in both; `Err` with the reason why it can't be compared.
    fn change(
        &self,
        target: &TargetRecord,
        logs: &[BTreeMap<&str, BTreeMap<usize, f64>>; 2],
        levels: Option<&[Levels; 2]>,
        excess: f64,
    ) -> std::result::Result<Option<Change>, String> {
        let id = target.id.as_str();
        let (Some(first), Some(second)) = (self.first.figures(id), self.second.figures(id)) else {
            return Ok(None);
        };
        self.rankable(first, "before")?;
        let ours = target.family == Family::Ours;
        let fails = second.error_share > ERROR_SHARE_MAX && ours;
        if !fails {
            self.rankable(second, "after")?;
        }
        let against = |index: usize| -> Vec<f64> {
            let rounds = logs[index].get(id).into_iter().flatten();
            match levels {
                None => rounds.map(|(_, log)| *log).collect(),
                Some(levels) => {
                    rounds.filter_map(|(round, log)| Some(log - levels[index].get(round)?)).collect()
                }
            }
        };
        let raw = |index: usize| -> Option<Estimate> {
            let values: Vec<f64> = logs[index].get(id)?.values().map(|log| log.exp()).collect();
            median_estimate(&values)
        };
        let too_few = || "too few rounds".to_owned();
        let moved = Contrast::unpaired(&against(0), &against(1), excess).ok_or_else(too_few)?;
        let (before, after) = raw(0).zip(raw(1)).ok_or_else(too_few)?;
        Ok(Some(Change {
            cell: self.first.cell.clone(),
            measure: self.measure,
            target: target.id.clone(),
            ours,
            before: Reading::of(Some(&before)),
            after: Reading::of(Some(&after)),
            ratio: moved.estimate(),
            chance: if fails { 0.0 } else { moved.chance() },
            visible: visible(&moved),
            kind: if fails { ChangeKind::Worse } else { kind(self.measure, &moved) },
        }))
    }

    fn rankable(&self, figures: &Figures, when: &str) -> std::result::Result<(), String> {
        figures.unranked(self.measure).map_or(Ok(()), |reason| Err(format!("{reason} ({when})")))
    }
}

/// The controls' mean in each round in which all of them have a trial that counts.
fn levels(logs: &BTreeMap<&str, BTreeMap<usize, f64>>, controls: &[String]) -> Levels {
    let series: Option<Vec<&BTreeMap<usize, f64>>> =
        controls.iter().map(|control| logs.get(control.as_str())).collect();
    let Some((first, rest)) = series.as_deref().and_then(<[_]>::split_first) else {
        return Levels::new();
    };
    let all = first.iter().filter_map(|(round, log)| {
        let others: Option<Vec<f64>> = rest.iter().map(|series| series.get(round).copied()).collect();
        let mut values = others?;
        values.push(*log);
        Some((*round, mean(&values)?))
    });
    all.collect()
}

/// The standard error of the drift by which the controls disagree, beyond what their own noise explains (as
/// DerSimonian and Laird estimate the variance between studies).
fn disagreement(logs: &[BTreeMap<&str, BTreeMap<usize, f64>>; 2], controls: &[String]) -> f64 {
    let values = |index: usize, control: &String| -> Vec<f64> {
        logs[index].get(control.as_str()).map(|rounds| rounds.values().copied().collect()).unwrap_or_default()
    };
    let mut moved = Vec::new();
    let mut noise = Vec::new();
    for control in controls {
        let (one, other) = (values(0, control), values(1, control));
        if let (Some(first), Some(second)) = (mean(&one), mean(&other)) {
            moved.push(second - first);
            noise.push(squared_error(&one) + squared_error(&other));
        }
    }
    if moved.len() < 2 {
        return 0.0;
    }
    let own = mean(&noise).unwrap_or_default() / moved.len() as f64;
    (squared_error(&moved) - own).max(0.0).sqrt()
}

fn kind(measure: Measure, moved: &Contrast) -> ChangeKind {
    let is_more = moved.difference > 0.0;
    match is_beyond(moved, 0.0) {
        false => ChangeKind::WithinNoise,
        true if is_more == measure.lower_is_better() => ChangeKind::Worse,
        true => ChangeKind::Better,
    }
}

/// What [`is_beyond`] would call a change.
fn visible(moved: &Contrast) -> f64 {
    (student::reach(DIFFERENT_CONFIDENCE, moved.degrees) * moved.error).exp_m1().max(MARGIN)
}

fn notes(before: &RecordedRun, after: &RecordedRun) -> Vec<String> {
    let (one, other) = (&before.record, &after.record);
    let mut notes = Vec::new();
    let mut differ = |what: &str, first: String, second: String| {
        if first != second {
            notes.push(format!("{what} differs: {first} before, {second} after"));
        }
    };
    let plain = |text: Option<&String>| text.cloned().unwrap_or_else(|| "unknown".to_owned());
    differ("the machine", one.environment.host.clone(), other.environment.host.clone());
    let (first, second) = (&one.environment.cpu.model, &other.environment.cpu.model);
    differ("the processor", plain(first.as_ref()), plain(second.as_ref()));
    let (first, second) = (&one.environment.kernel, &other.environment.kernel);
    differ("the kernel", plain(first.as_ref()), plain(second.as_ref()));
    differ("the compiler", one.environment.build.rustc.clone(), other.environment.build.rustc.clone());
    differ("the tier", format!("{:?}", one.tier).to_lowercase(), format!("{:?}", other.tier).to_lowercase());
    for target in &one.targets {
        let other = other.targets.iter().find(|candidate| candidate.id == target.id);
        if let (None, Some(other)) = (&target.unavailable, other)
            && let Some(reason) = &other.unavailable
        {
            notes.push(format!("{} ran only before: {reason}", target.id));
        }
    }
    notes
}

impl Comparison {
    pub(crate) fn regressions(&self) -> Vec<&Change> {
        self.changes.iter().filter(|change| change.ours && change.kind == ChangeKind::Worse).collect()
    }

    pub(crate) fn changed(&self) -> Vec<&Change> {
        self.changes.iter().filter(|change| change.kind != ChangeKind::WithinNoise).collect()
    }

    /// Comparisons that stay within noise.
    pub(crate) fn unchanged(&self) -> Vec<&Change> {
        self.changes.iter().filter(|change| change.kind == ChangeKind::WithinNoise).collect()
    }

    /// In half of the comparisons a smaller change couldn't have been seen, as a ratio less 1.
    pub(crate) fn visible(&self) -> f64 {
        let each: Vec<f64> = self.changes.iter().map(|change| change.visible).collect();
        median(&each).unwrap_or(f64::INFINITY)
    }

    /// How much slower the machine was, by the controls' values: the median over the cells, and who they are.
    pub(crate) fn drift(&self) -> Option<(f64, Vec<&str>)> {
        let names: BTreeSet<&str> =
            self.drifts.iter().flat_map(|drift| &drift.controls).map(String::as_str).collect();
        let costs = self.drifts.iter().filter(|drift| drift.measure == Measure::CpuPerRequest);
        let ratios: Vec<f64> = costs.map(|drift| drift.ratio.value).collect();
        Some((median(&ratios)?, names.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{Plan, sample};
    use crate::run::scenario::Tier;

    fn run_of(plan: Plan) -> RecordedRun {
        let sample = sample(plan);
        RecordedRun { record: sample.record, trials: sample.trials }
    }

    /// Two cells, to keep the test short.
    fn small(plan: Plan) -> RecordedRun {
        let mut run = run_of(Plan { tier: Tier::Quick, only: &["hot-small", "hot-under-cold"], ..plan });
        let keep = ["blocking", "epoll", "uring", "epoll-twin", "null-epoll", "nginx", "h2o"];
        run.trials.retain(|trial| keep.contains(&trial.target.as_str()));
        run
    }

    #[test]
    fn drift_of_the_machine_is_taken_out_and_shown() {
        let (before, after) =
            (small(Plan::default()), small(Plan { seed: 2, drift: 1.3, ..Plan::default() }));
        let comparison = compare(&before, &after).unwrap();
        assert!(comparison.changed().is_empty(), "{comparison:?}");
        let drift = comparison.drifts.iter().find(|drift| drift.measure == Measure::CpuPerRequest).unwrap();
        assert_eq!(drift.controls, ["null-epoll", "nginx", "h2o"]);
        assert!(drift.ratio.interval.unwrap().contains(1.3), "{drift:?}");
        let raw = &comparison.changes[0];
        assert!(raw.after.told().unwrap().value / raw.before.told().unwrap().value > 1.25, "{raw:?}");
        let (slower, controls) = comparison.drift().unwrap();
        assert!(
            (slower - 1.3).abs() < 0.03 && controls == ["h2o", "nginx", "null-epoll"],
            "{slower} {controls:?}"
        );
    }

    #[test]
    fn a_regression_is_found_and_an_improvement_is_none() {
        let before = small(Plan::default());
        let worse =
            compare(&before, &small(Plan { seed: 3, uring_factor: 1.15, ..Plan::default() })).unwrap();
        let regressions = worse.regressions();
        assert!(!regressions.is_empty());
        assert!(regressions.iter().all(|change| change.target == "uring"), "{worse:?}");
        let ratio = regressions[0].ratio;
        assert!(ratio.interval.unwrap().contains(1.15), "{ratio:?}");
        let better =
            compare(&before, &small(Plan { seed: 3, uring_factor: 0.85, ..Plan::default() })).unwrap();
        assert!(better.regressions().is_empty());
        assert!(better.changed().iter().any(|change| change.kind == ChangeKind::Better), "{better:?}");
    }

    #[test]
    fn without_controls_it_says_so() {
        let ours = Plan { tier: Tier::Quick, everybody: false, ..Plan::default() };
        let comparison = compare(&run_of(ours), &run_of(Plan { seed: 2, ..ours })).unwrap();
        assert!(comparison.drifts.is_empty() && comparison.drift().is_none());
    }

    #[test]
    fn a_peer_in_another_version_is_no_control() {
        let (before, mut after) = (small(Plan::default()), small(Plan { seed: 2, ..Plan::default() }));
        for target in after.record.targets.iter_mut().filter(|target| target.id == "nginx") {
            target.version = Some("1.28".to_owned());
        }
        let comparison = compare(&before, &after).unwrap();
        assert_eq!(comparison.drifts[0].controls, ["null-epoll", "h2o"]);
        assert!(comparison.changes.iter().any(|change| change.target == "nginx" && !change.ours));
    }

    #[test]
    fn one_of_ours_that_begins_to_fail_is_a_regression() {
        let (before, mut after) = (small(Plan::default()), small(Plan { seed: 2, ..Plan::default() }));
        for trial in after.trials.iter_mut().filter(|trial| trial.target == "epoll") {
            trial.classes[0].errors.insert("reset".to_owned(), 1_000);
        }
        let comparison = compare(&before, &after).unwrap();
        assert!(comparison.regressions().iter().any(|change| change.target == "epoll"));
    }

    #[test]
    fn nothing_in_common_is_one_line() {
        let (before, mut after) = (small(Plan::default()), small(Plan::default()));
        after.record.cells.clear();
        let failure = compare(&before, &after).unwrap_err().to_string();
        assert!(failure.starts_with("compare: no target ran in the same comparison"), "{failure}");
    }

    /// How many of 200 pairs of runs report anything at all.
    fn alarms(noise: f64, uring_factor: f64, tier: Tier) -> usize {
        let ours = Plan {
            tier,
            everybody: false,
            only: &["hot-small", "hot-medium", "hot-under-cold"],
            noise,
            histograms: false,
            ..Plan::default()
        };
        let changed = |seed: u64| {
            let before = run_of(Plan { seed: 2 * seed + 10, ..ours });
            let after = run_of(Plan { seed: 2 * seed + 11, uring_factor, ..ours });
            !compare(&before, &after).unwrap().changed().is_empty()
        };
        (0..200).filter(|seed| changed(*seed)).count()
    }

    #[test]
    fn equal_runs_are_called_equal() {
        for noise in [0.03, 0.15] {
            let found = alarms(noise, 1.0, Tier::Quick);
            assert!(found <= 10, "at most 5 % of the pairs: {found} of 200");
        }
    }

    #[test]
    fn a_true_change_is_found() {
        let found = alarms(0.03, 1.10, Tier::Standard);
        assert!(found >= 190, "10 % in 12 rounds with 3 % noise: {found} of 200");
        let found = alarms(0.10, 1.20, Tier::Standard);
        assert!(found >= 100, "20 % in 12 rounds with 10 % noise: {found} of 200");
    }
}

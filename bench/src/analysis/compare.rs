//! What changed between two runs.
//!
//! Two runs never happen at the same time, so their rounds can't be paired, and the machine itself may have
//! changed. **Controls** show by how much: peers in the same version and configuration, and the null servers.
//! A target's ratio to the controls within each round is compared, not its raw value. The drift is the change
//! of the controls' own values, and is shown. Where the controls disagree on it, the disagreement widens the
//! interval.
//!
//! **The rule**: a target *changed* when the whole interval lies beyond the A/A band
//! ([`Band`](crate::analysis::verdict::Band)) of both runs. It is a *regression* when the target is one of
//! this project's and got worse.

use crate::analysis::figures::{ERROR_SHARE_MAX, Figures};
use crate::analysis::measure::Measure;
use crate::analysis::stats::{Estimate, mean, median_estimate, squared_error, unpaired_estimate};
use crate::analysis::verdict::Verdict;
use crate::failure::{Failure, Result};
use crate::record::trial::{CellId, Trial};
use crate::record::{Family, Record, TargetRecord, read_record, read_trials};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    /// The earlier run: its start and commit.
    pub(crate) before: String,
    /// The later run.
    pub(crate) after: String,
    /// What makes the runs hard to compare: another machine, another effort, missing targets.
    pub(crate) notes: Vec<String>,
    /// In the order of the cells, a change for each target that is neither a control nor a
    /// twin.
    pub(crate) changes: Vec<Change>,
    pub(crate) drifts: Vec<Drift>,
}

/// One target in one cell and measure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Change {
    pub(crate) cell: CellId,
    pub(crate) measure: Measure,
    pub(crate) target: String,
    pub(crate) ours: bool,
    /// In the earlier run, as measured.
    pub(crate) before: Estimate,
    /// In the later run, as measured.
    pub(crate) after: Estimate,
    /// After divided by before, drift taken out.
    pub(crate) ratio: Estimate,
    /// How far from 1 a ratio may lie and still be noise.
    pub(crate) margin: f64,
    pub(crate) kind: ChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChangeKind {
    Better,
    Worse,
    WithinNoise,
}

#[derive(Clone, Debug, Serialize)]
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
    let (mut changes, mut drifts) = (Vec::new(), Vec::new());
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
            cell.compare(&mut changes, &mut drifts, &mut notes);
        }
    }
    let new = later.iter().filter(|verdict| earlier.iter().all(|first| first.cell != verdict.cell));
    notes.extend(new.map(|verdict| format!("{} ran only after", verdict.cell)));
    if changes.is_empty() {
        return Err(Failure::new("compare: no target ran in the same comparison of both runs"));
    }
    Ok(Comparison { before: before.name(), after: after.name(), notes, changes, drifts })
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
    fn compare(&self, changes: &mut Vec<Change>, drifts: &mut Vec<Drift>, notes: &mut Vec<String>) {
        let logs = [self.before, self.after].map(|run| run.logs(&self.first.cell, self.measure));
        let controls = self.controls();
        let levels = [levels(&logs[0], &controls), levels(&logs[1], &controls)];
        let usable = levels.iter().all(|levels| levels.len() >= 2);
        let excess = if usable { disagreement(&logs, &controls) } else { 0.0 };
        if usable {
            let [one, other] = levels.each_ref().map(|levels| levels.values().copied().collect::<Vec<_>>());
            drifts.extend(unpaired_estimate(&one, &other, excess).map(|ratio| Drift {
                cell: self.first.cell.clone(),
                measure: self.measure,
                controls: controls.clone(),
                ratio,
            }));
        }
        for target in &self.before.record.targets {
            // The twin is its original once more: to count both would double the chance of a false alarm.
            if controls.contains(&target.id) || target.twin_of.is_some() {
                continue;
            }
            match self.change(target, &logs, usable.then_some(&levels), excess) {
                Ok(change) => changes.extend(change),
                Err(reason) => notes.push(format!(
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
        let ratio = unpaired_estimate(&against(0), &against(1), excess).ok_or_else(too_few)?;
        let (before, after) = raw(0).zip(raw(1)).ok_or_else(too_few)?;
        let margin = self.first.band(self.measure).margin.max(self.second.band(self.measure).margin);
        let kind = if fails { ChangeKind::Worse } else { kind(self.measure, &ratio, margin) };
        let (cell, measure) = (self.first.cell.clone(), self.measure);
        Ok(Some(Change {
            cell,
            measure,
            target: target.id.clone(),
            ours,
            before,
            after,
            ratio,
            margin,
            kind,
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

fn kind(measure: Measure, ratio: &Estimate, margin: f64) -> ChangeKind {
    let Some(interval) = ratio.interval else {
        return ChangeKind::WithinNoise;
    };
    let (more, less) = (interval.low > 1.0 + margin, interval.high < 1.0 / (1.0 + margin));
    match (more, less, measure.lower_is_better()) {
        (true, _, true) | (_, true, false) => ChangeKind::Worse,
        (true, _, false) | (_, true, true) => ChangeKind::Better,
        _ => ChangeKind::WithinNoise,
    }
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

    /// Comparisons of this project's servers that stay within noise.
    pub(crate) fn undecided(&self) -> Vec<&Change> {
        self.changes.iter().filter(|change| change.ours && change.kind == ChangeKind::WithinNoise).collect()
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
        assert!(comparison.changed().is_empty(), "{comparison}");
        let drift = comparison.drifts.iter().find(|drift| drift.measure == Measure::CpuPerRequest).unwrap();
        assert_eq!(drift.controls, ["null-epoll", "nginx", "h2o"]);
        assert!(drift.ratio.interval.unwrap().contains(1.3), "{drift:?}");
        let raw = &comparison.changes[0];
        assert!(raw.after.value / raw.before.value > 1.25, "{raw:?}");
        assert!(comparison.to_string().contains("no difference beyond noise in "));
        assert!(
            comparison.to_string().contains("within noise:\n  hot-small, blocking: CPU time per request ")
        );
        assert!(comparison.to_string().contains("drift of the machine"));
    }

    #[test]
    fn a_regression_is_found_and_an_improvement_is_none() {
        let before = small(Plan::default());
        let worse =
            compare(&before, &small(Plan { seed: 3, uring_factor: 1.15, ..Plan::default() })).unwrap();
        let regressions = worse.regressions();
        assert!(!regressions.is_empty());
        assert!(regressions.iter().all(|change| change.target == "uring"), "{worse}");
        let ratio = regressions[0].ratio;
        assert!(ratio.interval.unwrap().contains(1.15), "{ratio:?}");
        assert!(worse.to_string().contains("uring: CPU time per request worse, "), "{worse}");
        let better =
            compare(&before, &small(Plan { seed: 3, uring_factor: 0.85, ..Plan::default() })).unwrap();
        assert!(better.regressions().is_empty());
        assert!(better.changed().iter().any(|change| change.kind == ChangeKind::Better), "{better}");
        assert!(better.to_string().ends_with("no regression\n"));
    }

    #[test]
    fn without_controls_it_says_so() {
        let ours = Plan { tier: Tier::Quick, everybody: false, ..Plan::default() };
        let comparison = compare(&run_of(ours), &run_of(Plan { seed: 2, ..ours })).unwrap();
        assert!(comparison.drifts.is_empty());
        assert!(comparison.to_string().contains("drift: unknown"), "{comparison}");
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

    /// Two runs of the same servers, 200 times: at most 5 % of the pairs report anything at all.
    #[test]
    fn equal_runs_are_called_equal() {
        let ours = Plan {
            tier: Tier::Quick,
            everybody: false,
            only: &["hot-small", "hot-medium", "hot-under-cold"],
            noise: 0.03,
            histograms: false,
            ..Plan::default()
        };
        let mut alarms = 0;
        for seed in 0..200 {
            let pair = [2 * seed + 10, 2 * seed + 11].map(|seed| run_of(Plan { seed, ..ours }));
            alarms += usize::from(!compare(&pair[0], &pair[1]).unwrap().changed().is_empty());
        }
        assert!(alarms <= 10, "{alarms} of 200");
    }
}

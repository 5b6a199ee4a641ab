//! What a run has measured, as rules ask for it: values round by round, or the reason why there are none.

use crate::analysis::figures::{ERROR_SHARE_MAX, is_client_bound};
use crate::analysis::stats::ratio_estimate;
use crate::analysis::verdict::Band;
use crate::claims::chapter::Loads;
use crate::claims::quantity::Quantity;
use crate::record::trial::{Pass, Trial};
use crate::record::{CellRecord, Record};
use crate::run::rounds::LEAST;
use crate::run::scenario::Scenario;
use crate::run::trial::FORGOTTEN_NAMES;
use std::collections::BTreeMap;

/// Values of one server in one cell, by their rounds.
pub(crate) type Rounds = BTreeMap<usize, f64>;

/// Why something can't be told, in a few words.
pub(crate) type Reason = String;

/// A run's record and trials. Without a run nothing was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) run: Option<(&'a Record, &'a [Trial])>,
    /// What wrk found, or why it didn't.
    pub(crate) wrk: Option<&'a Result<Loads, Reason>>,
}

/// Whether a server served a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    Yes,
    /// For this reason.
    No(Reason),
    /// It wasn't tried, or failed for a reason that isn't its own.
    Unknown(Reason),
}

impl<'a> Evidence<'a> {
    fn run(&self) -> Result<(&'a Record, &'a [Trial]), Reason> {
        self.run.ok_or_else(|| "nothing was measured".to_owned())
    }

    pub(crate) fn scenario(&self, name: &str) -> Result<&'a Scenario, Reason> {
        let (record, _) = self.run()?;
        let found = record.scenarios.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| format!("{name} wasn't measured"))
    }

    /// The cells of a scenario, in the order of its axis.
    pub(crate) fn cells(&self, scenario: &str) -> Result<Vec<&'a CellRecord>, Reason> {
        self.scenario(scenario)?;
        let (record, _) = self.run()?;
        Ok(record.cells.iter().filter(|cell| cell.id.scenario == scenario).collect())
    }

    /// The cell at a point of the axis, or the only one.
    pub(crate) fn cell(&self, scenario: &str, at: Option<f64>) -> Result<&'a CellRecord, Reason> {
        let found = self.cells(scenario)?.into_iter().find(|cell| at.is_none() || cell.value == at);
        let point = || at.map_or_else(String::new, |value| format!(" at {value}"));
        found.ok_or_else(|| format!("{scenario} wasn't measured{}", point()))
    }

    /// A server's values in a cell, by round.
    ///
    /// # Errors
    ///
    /// Why they don't count.
    pub(crate) fn rounds(
        &self,
        cell: &CellRecord,
        target: &str,
        quantity: Quantity,
    ) -> Result<Rounds, Reason> {
        let (record, _) = self.run()?;
        self.unavailable(target)?;
        if let Some(line) = cell.failures.get(target) {
            return Err(format!("{target} failed in {}: {line}", cell.id));
        }
        self.disk(cell)?;
        let trials = self.trials(cell, target, quantity.pass());
        if trials.is_empty() {
            return Err(self.not_counted(target, cell, quantity));
        }
        let remembered = trials.iter().find_map(|trial| trial.unmeasured.get(FORGOTTEN_NAMES));
        if let Some(reason) = remembered {
            return Err(reason.clone());
        }
        if let Some(share) = error_share(&trials) {
            return Err(format!("{:.2} % of {target}'s requests failed in {}", share * 100.0, cell.id));
        }
        let bound = trials.iter().filter(|trial| is_client_bound(trial)).count();
        if quantity.is_spoilt_by_the_client() && 2 * bound >= trials.len() {
            return Err(format!("the client was the limit in {}", cell.id));
        }
        let value = |trial: &&Trial| quantity.of_trial(trial).map(|value| (trial.place.round, value));
        let Some(values) = trials.iter().map(value).collect::<Option<Rounds>>() else {
            let reasons = trials.iter().flat_map(|trial| &trial.unmeasured).chain(&record.unmeasured);
            let mut its = reasons.filter(|(field, _)| quantity.fields().contains(&field.as_str()));
            let reason = its.next().map_or("too few answers for it", |(_, reason)| reason);
            return Err(format!("not every trial of {target} in {} has it: {reason}", cell.id));
        };
        if values.len() < LEAST {
            let count =
                if values.len() == 1 { "one round".to_owned() } else { format!("{} rounds", values.len()) };
            return Err(format!("{count} of {target} in {}, where {LEAST} are needed", cell.id));
        }
        Ok(values)
    }

    fn not_counted(&self, target: &str, cell: &CellRecord, quantity: Quantity) -> Reason {
        match quantity.pass() {
            Pass::Counting => format!("nothing was counted of {target} in {}", cell.id),
            Pass::Timing => format!("{target} wasn't measured in {}", cell.id),
        }
    }

    /// The trials that count.
    fn trials(&self, cell: &CellRecord, target: &str, pass: Pass) -> Vec<&'a Trial> {
        let all = self.run.map_or(&[][..], |(_, trials)| trials);
        let counts = |trial: &&Trial| {
            trial.cell == cell.id
                && trial.target == target
                && trial.pass == pass
                && trial.void.is_none()
                && (trial.place.number >= cell.trials_from || pass == Pass::Counting)
        };
        all.iter().filter(counts).collect()
    }

    /// Whether this machine has the server.
    fn unavailable(&self, target: &str) -> Result<(), Reason> {
        let (record, _) = self.run()?;
        let found = record.targets.iter().find(|one| one.id == target);
        match found.map(|target| target.unavailable.as_deref()) {
            Some(None) => Ok(()),
            Some(Some(reason)) => Err(format!("{target} can't run here: {reason}")),
            None => Err(format!("{target} took no part")),
        }
    }

    /// Whether the disk was as slow as the cell wants it.
    fn disk(&self, cell: &CellRecord) -> Result<(), Reason> {
        let (record, _) = self.run()?;
        let wants = self.scenario(&cell.id.scenario)?.slow_disk;
        match &record.slow_disk {
            Some(disk) if wants && disk.reads_per_second.is_none() => {
                Err(format!("the disk can't be slowed down: {}", disk.means))
            }
            _ => Ok(()),
        }
    }

    /// What can't be told from noise in a cell, as a share: what its twin shows.
    pub(crate) fn band(&self, cell: &CellRecord, quantity: Quantity) -> f64 {
        let twins = self.run.into_iter().flat_map(|(record, _)| &record.targets);
        let twins = twins.filter_map(|target| Some((target.id.as_str(), target.twin_of.as_deref()?)));
        let mut found = twins.filter_map(|(twin, original)| {
            let rounds = |target| self.rounds(cell, target, quantity).ok();
            ratio_estimate(&paired(&rounds(twin)?, &rounds(original)?))
        });
        let is_timed = quantity.measure().is_some();
        Band::of(found.next().filter(|_| is_timed)).margin
    }

    /// Whether a server answered everybody in a cell.
    pub(crate) fn served(&self, cell: &CellRecord, target: &str) -> Served {
        if let Err(reason) = self.unavailable(target) {
            return Served::Unknown(reason);
        }
        if let Some(line) = cell.failures.get(target) {
            return if is_of_the_machine(line) {
                Served::Unknown(line.clone())
            } else {
                Served::No(line.clone())
            };
        }
        let trials = self.trials(cell, target, Pass::Timing);
        match error_share(&trials) {
            _ if trials.is_empty() => Served::Unknown(self.not_counted(target, cell, Quantity::Rate)),
            Some(share) => Served::No(format!("{:.2} % of the requests failed", share * 100.0)),
            None => Served::Yes,
        }
    }
}

/// Whether what a server failed for is a limit of this machine or user: both sides of each connection are of this machine.
pub(crate) fn is_of_the_machine(line: &str) -> bool {
    line.contains(" are needed, and ")
}

/// The share of the requests that failed, if it is too large.
fn error_share(trials: &[&Trial]) -> Option<f64> {
    let errors: u64 = trials.iter().map(|trial| trial.errors()).sum();
    let answers: u64 = trials.iter().map(|trial| trial.answers()).sum();
    let share = errors as f64 / (errors + answers).max(1) as f64;
    (share > ERROR_SHARE_MAX).then_some(share)
}

/// The values of the rounds that both have.
pub(crate) fn paired(above: &Rounds, below: &Rounds) -> Vec<(f64, f64)> {
    above.iter().filter_map(|(round, value)| Some((*value, *below.get(round)?))).collect()
}

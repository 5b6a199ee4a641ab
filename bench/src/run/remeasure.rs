//! Measuring scenarios of a finished run again that were disturbed too often.
//!
//! They are chosen by the disturbances alone, never by their results, so nobody can repeat a scenario until
//! they like the result.

use crate::record::Record;
use crate::record::trial::Trial;
use std::collections::BTreeSet;

/// The share of a scenario's trials that may stand disturbed.
pub(crate) const DISTURBED_MAX: f64 = 0.1;

/// Why the first trials of such a scenario are void.
const REASON: &str = "too many trials of its scenario were disturbed: measured again";

/// The scenarios with too many disturbed trials, in the order of the run.
pub(crate) fn disturbed<'a>(record: &'a Record, trials: &[Trial]) -> Vec<&'a str> {
    let is_disturbed = |scenario: &&str| {
        let standing = || trials.iter().filter(|trial| trial.cell.scenario == **scenario && trial.counts());
        let disturbed = standing().filter(|trial| trial.disturbance.is_some_and(|found| found.is_large()));
        disturbed.count() as f64 > standing().count() as f64 * DISTURBED_MAX
    };
    record.scenarios.iter().map(|scenario| scenario.name.as_str()).filter(is_disturbed).collect()
}

/// Opens these scenarios again, all of their points, since their rates relate to what the servers could do at the
/// time. [`supersede`] does the rest.
pub(crate) fn reopen(record: &mut Record, scenarios: &BTreeSet<String>, trials_from: usize) {
    for cell in record.cells.iter_mut().filter(|cell| scenarios.contains(&cell.id.scenario)) {
        cell.ended = None;
        cell.failures.clear();
        cell.trials_from = trials_from;
    }
    record.capacities.retain(|scenario, _| !scenarios.contains(scenario));
    record.finished = None;
}

/// Voids what was measured before a comparison was opened again; counting passes keep what they counted. Returns
/// whether there was anything to void.
pub(crate) fn supersede(record: &Record, trials: &mut [Trial]) -> bool {
    let mut any = false;
    for trial in trials.iter_mut().filter(|trial| trial.counts()) {
        let cell = record.cells.iter().find(|cell| cell.id == trial.cell);
        if cell.is_some_and(|cell| trial.place.number < cell.trials_from) {
            trial.void = Some(REASON.to_owned());
            any = true;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::disturbance::Disturbance;
    use crate::record::Ended;
    use crate::record::tests::record;
    use crate::record::trial::Pass;
    use crate::record::trial::tests::trial;

    /// Ten rounds of two servers; the first trials were disturbed.
    fn trials(disturbed: usize) -> Vec<Trial> {
        let mut trials: Vec<Trial> = Vec::new();
        for round in 0..10 {
            for target in ["epoll", "uring"] {
                let mut one = trial(target, round, 5_000.0);
                one.place.number = trials.len();
                let stolen = if trials.len() < disturbed { 0.5 } else { 0.0 };
                one.disturbance = Some(Disturbance { others: 0.0, stolen });
                trials.push(one);
            }
        }
        trials
    }

    #[test]
    fn a_tenth_may_be_disturbed() {
        let record = record();
        assert!(disturbed(&record, &trials(2)).is_empty());
        assert_eq!(disturbed(&record, &trials(3)), ["hot-small"]);
        let mut void = trials(3);
        void[0].void = Some("repeated".to_owned());
        void[0].place.attempt = 0;
        assert_eq!(disturbed(&record, &void), ["hot-small"], "two of nineteen are more than a tenth");
        void[1].void = Some("repeated".to_owned());
        assert!(disturbed(&record, &void).is_empty(), "what was void was repeated");
    }

    #[test]
    fn a_scenario_is_opened_again_as_a_whole() {
        let (mut record, mut trials) = (record(), trials(20));
        trials[4].void = Some("the CPU was off its usual pace".to_owned());
        trials[5].pass = Pass::Counting;
        let scenarios: BTreeSet<String> = ["hot-small".to_owned()].into();
        record.capacities.insert("hot-small".to_owned(), Default::default());
        record.cells[0].failures.insert("nginx".to_owned(), "it hangs".to_owned());
        reopen(&mut record, &scenarios, trials.len());
        assert_eq!((record.finished.as_deref(), record.cells[0].ended), (None::<&str>, None::<Ended>));
        assert!(record.cells[0].failures.is_empty());
        assert_eq!(record.capacities.keys().collect::<Vec<_>>(), ["common-rate"]);
        assert!(supersede(&record, &mut trials));
        assert!(trials.iter().all(|trial| !trial.counts()));
        assert_eq!(trials[4].void.as_deref(), Some("the CPU was off its usual pace"));
        assert_eq!(trials[5].void, None, "what was counted stays");
        assert!(!supersede(&record, &mut trials), "once is enough");
        let mut new = trial("epoll", 0, 5_000.0);
        new.place.number = trials.len();
        trials.push(new);
        assert!(!supersede(&record, &mut trials), "what comes after it counts");
    }
}

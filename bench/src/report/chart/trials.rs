//! All trials in run order: drift and outliers for everybody to see.

use crate::analysis::measure::Measure;
use crate::record::trial::{Pass, Trial};
use crate::report::chart::{Picture, rounded, spec};
use crate::report::overview::{NOTHING, Table};
use crate::report::results::Results;
use crate::report::wording;
use serde_json::json;

/// Trials further from the median are drawn at the edge.
const REACH: f64 = 1.5;
/// What counts as near the median.
const NEAR: f64 = 1.05;

/// Every timed trial by its CPU time per request against the median of its target and cell.
pub(super) fn in_order(results: &Results<'_>) -> Result<Picture, String> {
    let timed: Vec<&Trial> = results.trials.iter().filter(|trial| trial.pass == Pass::Timing).collect();
    if timed.is_empty() {
        return Err("there are none".to_owned());
    }
    let ratios: Vec<Option<f64>> = timed.iter().map(|trial| ratio(results, trial)).collect();
    let mut begins: Vec<(usize, &str)> = Vec::new();
    for (index, trial) in timed.iter().enumerate() {
        if begins.last().is_none_or(|(_, name)| *name != trial.cell.scenario) {
            begins.push((index, &trial.cell.scenario));
        }
    }
    let reasons = results.void_reasons();
    let reason = |trial: &Trial| {
        let found = trial.void.as_ref().and_then(|why| reasons.iter().position(|(reason, _)| reason == why));
        found.map_or(json!(-1), |index| json!(index))
    };
    let shown =
        |ratio: &Option<f64>| ratio.map(|ratio| (ratio.clamp(1.0 / REACH, REACH) * 1e3).round() / 1e3);
    let rest = json!({
        "axis": "CPU time per request ÷ its median, logarithmic",
        "reach": REACH,
        "begins": begins,
        "reasons": reasons.iter().map(|(reason, _)| reason).collect::<Vec<_>>(),
        "columns": {
            "t": timed.iter().map(|trial| results.index(&trial.target)).collect::<Vec<_>>(),
            "ratio": ratios.iter().map(shown).collect::<Vec<_>>(),
            "reason": timed.iter().map(|trial| reason(trial)).collect::<Vec<_>>(),
        },
    });
    let voids = timed.iter().filter(|trial| trial.void.is_some()).count();
    let counted: Vec<f64> = timed
        .iter()
        .zip(&ratios)
        .filter(|(trial, _)| trial.void.is_none())
        .filter_map(|(_, ratio)| *ratio)
        .collect();
    let near = counted.iter().filter(|ratio| (1.0 / NEAR..=NEAR).contains(*ratio)).count();
    let share = wording::percent(near as f64 / counted.len().max(1) as f64);
    Ok(Picture {
        name: "trials".to_owned(),
        title: "Did the machine keep still?".to_owned(),
        scenario: None,
        answer: format!(
            "{share} of the trials lie within 5\u{a0}% of their server’s median; {voids} of {} were void and \
             repeated.",
            wording::thousands(timed.len() as f64)
        ),
        reading: "All timed trials in the order in which they ran: CPU time per request against the median of the \
                  same server in the same comparison, at 1. Crosses are void trials. A slope is drift, and hits all \
                  servers of a round alike."
            .to_owned(),
        spec: spec(results, "trials", true, timed.iter().map(|trial| trial.target.as_str()), rest),
        tables: vec![("By scenario".to_owned(), table(&begins, &timed, &ratios))],
        still: None,
    })
}

fn table(begins: &[(usize, &str)], timed: &[&Trial], ratios: &[Option<f64>]) -> Table {
    let row = |(index, (begin, name)): (usize, &(usize, &str))| {
        let end = begins.get(index + 1).map_or(timed.len(), |(next, _)| *next);
        let voids = timed[*begin..end].iter().filter(|trial| trial.void.is_some()).count();
        let known = || ratios[*begin..end].iter().flatten().copied();
        let told = |ratio: Option<f64>| {
            ratio.map_or_else(|| NOTHING.to_owned(), |ratio| format!("{}×", wording::factor(ratio)))
        };
        let cells = vec![
            (end - begin).to_string(),
            voids.to_string(),
            told(known().reduce(f64::min)),
            told(known().reduce(f64::max)),
        ];
        ((*name).to_owned(), cells)
    };
    let heads = ["trials", "void", "least ÷ median", "most ÷ median"];
    Table {
        corner: String::new(),
        heads: heads.map(str::to_owned).to_vec(),
        rows: begins.iter().enumerate().map(row).collect(),
    }
}

/// Against the median of the target in the cell.
fn ratio(results: &Results<'_>, trial: &Trial) -> Option<f64> {
    let verdict = results.verdicts.iter().find(|verdict| verdict.cell == trial.cell)?;
    let median = results.estimate(verdict, &trial.target, Measure::CpuPerRequest)?.value;
    Some(rounded(Measure::CpuPerRequest.of_trial(trial)? / median))
}

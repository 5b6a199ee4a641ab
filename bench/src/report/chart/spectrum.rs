//! The percentile spectrum: the tail of the response times.

use crate::analysis::figures::is_client_bound;
use crate::analysis::measure::{Measure, latency};
use crate::analysis::verdict::Verdict;
use crate::record::trial::Trial;
use crate::report::chart::{Picture, answer, rounded, spec};
use crate::report::overview::{NOTHING, Table};
use crate::report::results::Results;
use crate::report::wording;
use crate::run::scenario::Scenario;
use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::{Value, json};

/// A quantile needs this many samples above and below it: requests due last had hardly waited at the end.
const SAMPLES_BEYOND_MIN: f64 = 20.0;
/// Points per factor of ten in 1 − quantile.
const POINTS_PER_DECADE: i32 = 8;
/// Where the axis has numbers.
const TICKS: [(f64, &str); 7] = [
    (0.0, "0"),
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
];
/// The columns of the table.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Of the first class in the scenario's main cell, all trials together.
pub(super) fn of(results: &Results<'_>, scenario: &Scenario) -> Result<Picture, String> {
    let verdict = results.main_cell(scenario).ok_or("no trial counts")?;
    let targets = results.record.targets.iter().map(|target| target.id.as_str());
    let found: Vec<(&str, Histogram<u64>)> =
        targets.filter_map(|id| Some((id, all_trials(results, verdict, id)?))).collect();
    let series: Vec<Value> = found.iter().filter_map(|(id, all)| line(results, id, all)).collect();
    if series.is_empty() {
        return Err("no histogram could be read".to_owned());
    }
    let count = found.iter().map(|(_, all)| all.len()).max().unwrap_or(1) as f64;
    let end = (count / SAMPLES_BEYOND_MIN).log10();
    let ticks: Vec<Value> = TICKS
        .into_iter()
        .map(|(quantile, text)| (nines(quantile), text))
        .filter(|(x, _)| *x <= end)
        .map(|(x, text)| json!([rounded(x), format!("{text}\u{a0}%")]))
        .collect();
    let rest = json!({
        "x": {"name": "share of requests that took at most this long", "ticks": ticks, "ends": [0, rounded(end)],
              "log": false},
        "views": [{"label": "", "unit": "time", "series": series,
                   "axis": "response time, logarithmic; less is better"}],
        "values": false,
    });
    let cell = |all: &Histogram<u64>, quantile: f64| {
        if is_known(all, quantile) { wording::duration(at(all, quantile)) } else { NOTHING.to_owned() }
    };
    let row = |(id, all): &(&str, Histogram<u64>)| {
        (results.name(id), QUANTILES.iter().map(|(_, quantile)| cell(all, *quantile)).collect())
    };
    let heads = QUANTILES.map(|(name, _)| name.to_owned()).to_vec();
    let table = Table { corner: String::new(), heads, rows: found.iter().map(row).collect() };
    let subject = match scenario.classes.as_slice() {
        [first, _, ..] => format!("{} requests", first.name),
        _ => "requests".to_owned(),
    };
    Ok(Picture {
        name: format!("spectrum-{}", scenario.name),
        title: format!("How long do the unluckiest {subject} wait?"),
        scenario: Some(scenario.name.clone()),
        answer: answer::of_cell(results, verdict, Measure::P99, !scenario.servers.is_empty()),
        reading: format!(
            "{} Response time from the moment at which a request was due, all trials of {} together, so without \
             intervals. A line begins and ends where 20 samples lie beyond it; the answer is about p99, by rounds.",
            scenario.about, verdict.cell
        ),
        spec: spec(results, "lines", !scenario.servers.is_empty(), found.iter().map(|(id, _)| *id), rest),
        tables: vec![(format!("Response time, all trials of {} together", verdict.cell), table)],
        still: None,
    })
}

fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn is_known(all: &Histogram<u64>, quantile: f64) -> bool {
    all.len() as f64 * (1.0 - quantile) >= SAMPLES_BEYOND_MIN
}

fn line(results: &Results<'_>, id: &str, all: &Histogram<u64>) -> Option<Value> {
    let count = all.len() as f64;
    let name = results.name(id);
    let points: Vec<Value> = (0..)
        .map(|step| f64::from(step) / f64::from(POINTS_PER_DECADE))
        .take_while(|nines| count * 10.0_f64.powf(-nines) >= SAMPLES_BEYOND_MIN)
        .map(|nines| {
            let quantile = (1.0 - 10.0_f64.powf(-nines)).max(SAMPLES_BEYOND_MIN / count);
            let says = format!("{name}, {:.3} %: {}", quantile * 100.0, wording::duration(at(all, quantile)));
            json!([rounded(nines), rounded(at(all, quantile)), null, null, 0, says])
        })
        .collect();
    (!points.is_empty()).then(|| json!({"t": results.index(id), "points": points}))
}

fn at(all: &Histogram<u64>, quantile: f64) -> f64 {
    all.value_at_quantile(quantile).max(1) as f64
}

/// One histogram of a target's trials; `None` without one that can be read.
fn all_trials(results: &Results<'_>, verdict: &Verdict, id: &str) -> Option<Histogram<u64>> {
    let is_mine = |trial: &&Trial| {
        trial.counts() && trial.cell == verdict.cell && trial.target == id && !is_client_bound(trial)
    };
    let mut deserializer = Deserializer::new();
    let mut sum: Option<Histogram<u64>> = None;
    for trial in results.trials.iter().filter(is_mine) {
        let text = latency(trial.main_class()?)?.histogram.as_ref()?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        let one: Histogram<u64> = deserializer.deserialize(&mut bytes.as_slice()).ok()?;
        match &mut sum {
            None => sum = Some(one),
            Some(sum) => sum.add(one).ok()?,
        }
    }
    sum.filter(|sum| !sum.is_empty())
}

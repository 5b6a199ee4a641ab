//! Memory by the number of connections.

use crate::analysis::figures::{Figures, MemorySummary};
use crate::analysis::verdict::Verdict;
use crate::report::chart::measured::{axis_name, is_logarithmic, point};
use crate::report::chart::{Picture, rounded, spec};
use crate::report::overview::{NOTHING, Table};
use crate::report::results::Results;
use crate::report::wording;
use crate::run::scenario::Scenario;
use serde_json::{Value, json};

type Kind = fn(&MemorySummary) -> Option<f64>;
const KINDS: [(&str, Kind); 2] = [
    ("user memory (proportional set size)", |memory| memory.loaded_user),
    ("in the kernel: stacks of its threads, page tables", |memory| memory.loaded_kernel),
];

/// User memory, and the kernel's for the server's threads.
pub(super) fn by_connections(results: &Results<'_>, scenario: &Scenario) -> Result<Picture, String> {
    let verdicts: Vec<&Verdict> = results.of_scenario(scenario).collect();
    let (mut views, mut tables) = (Vec::new(), Vec::new());
    for (label, kind) in KINDS {
        let series = series(results, &verdicts, kind);
        if !series.is_empty() {
            views.push(json!({"label": label, "unit": "size", "axis": "memory, logarithmic; less is better",
                              "series": series}));
            tables.push((wording::capitalised(label), table(results, scenario, &verdicts, kind)));
        }
    }
    if views.is_empty() {
        let reason = results.record.unmeasured.get("memory");
        return Err(reason.cloned().unwrap_or_else(|| "memory wasn't measured".to_owned()));
    }
    let axis = axis_name(scenario);
    let ticks: Vec<Value> = verdicts.iter().map(|verdict| json!([verdict.value, point(verdict)])).collect();
    let rest = json!({
        "x": {"name": axis, "ticks": ticks, "log": is_logarithmic(&verdicts)},
        "views": views,
        "values": true,
    });
    let ids = verdicts.iter().flat_map(|verdict| &verdict.targets).map(|figures| figures.target.as_str());
    Ok(Picture {
        name: format!("memory-{}", scenario.name),
        title: format!("How much memory do {axis} take?"),
        scenario: Some(scenario.name.clone()),
        answer: said(results, verdicts.last().copied().ok_or("no trial counts")?, &axis),
        reading: format!("{} All of the server’s processes together; medians.", scenario.about),
        spec: spec(results, "lines", !scenario.servers.is_empty(), ids, rest),
        tables,
        still: None,
    })
}

fn bytes(figures: &Figures, kind: Kind) -> Option<f64> {
    kind(figures.memory.as_ref()?).filter(|bytes| *bytes > 0.0)
}

fn series(results: &Results<'_>, verdicts: &[&Verdict], kind: Kind) -> Vec<Value> {
    let targets = results.record.targets.iter().enumerate();
    let series = targets.filter_map(|(index, target)| {
        let points: Vec<Value> = verdicts
            .iter()
            .filter_map(|verdict| {
                let bytes = bytes(verdict.figures(&target.id)?, kind)?;
                let says =
                    format!("{} at {}: {}", results.name(&target.id), point(verdict), wording::size(bytes));
                Some(json!([verdict.value, rounded(bytes), null, null, 0, says]))
            })
            .collect();
        (!points.is_empty()).then(|| json!({"t": index, "points": points}))
    });
    series.collect()
}

fn table(results: &Results<'_>, scenario: &Scenario, verdicts: &[&Verdict], kind: Kind) -> Table {
    let rows = results.record.targets.iter().filter_map(|target| {
        let number =
            |verdict: &&Verdict| verdict.figures(&target.id).and_then(|figures| bytes(figures, kind));
        let numbers: Vec<Option<f64>> = verdicts.iter().map(number).collect();
        let cells =
            numbers.iter().map(|bytes| bytes.map_or_else(|| NOTHING.to_owned(), wording::size)).collect();
        numbers.iter().any(Option::is_some).then(|| (results.name(&target.id), cells))
    });
    Table {
        corner: axis_name(scenario),
        heads: verdicts.iter().map(|verdict| point(verdict)).collect(),
        rows: rows.collect(),
    }
}

/// The least and the most at the far end.
fn said(results: &Results<'_>, verdict: &Verdict, axis: &str) -> String {
    let all =
        |figures: &Figures| Some(bytes(figures, KINDS[0].1)? + bytes(figures, KINDS[1].1).unwrap_or(0.0));
    let shown = verdict.targets.iter().filter(|figures| results.is_shown(&figures.target));
    let mut found: Vec<(&str, f64)> =
        shown.filter_map(|figures| Some((figures.target.as_str(), all(figures)?))).collect();
    found.sort_by(|one, other| one.1.total_cmp(&other.1));
    let told = |(id, bytes): &(&str, f64)| format!("{} in {}", wording::size(*bytes), results.name(id));
    match found.as_slice() {
        [] => "Nothing can be told here.".to_owned(),
        [only] => format!("{} {axis} take {}, user and kernel together.", point(verdict), told(only)),
        [least, .., most] => format!(
            "{} {axis} take {} and {}, user and kernel together.",
            point(verdict),
            told(least),
            told(most)
        ),
    }
}

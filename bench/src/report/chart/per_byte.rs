//! What a KiB costs, by file size.

use crate::analysis::measure::Measure;
use crate::analysis::reading::Reading;
use crate::analysis::verdict::Verdict;
use crate::report::chart::{INTERVALS, Picture, answer, number, spec};
use crate::report::overview::{NOTHING, Table};
use crate::report::results::Results;
use crate::report::wording;
use serde_json::{Value, json};

/// The scenarios of a single file, what they ask for in KiB, and how that is written.
const SIZES: [(&str, f64, &str); 3] =
    [("hot-small", 1.0, "1 KiB"), ("hot-medium", 100.0, "100 KiB"), ("hot-large", 10_240.0, "10 MiB")];

struct Size<'b> {
    verdict: &'b Verdict,
    kib: f64,
    label: &'static str,
}

impl Size<'_> {
    /// Nanoseconds per KiB.
    fn cost(&self, id: &str) -> Option<Reading> {
        let reading = self.verdict.figures(id)?.reading(Measure::CpuPerRequest).divided_by(self.kib);
        (reading != Reading::Unmeasured).then_some(reading)
    }
}

/// Of those who were measured at every size.
pub(super) fn of(results: &Results<'_>) -> Result<Picture, String> {
    let find = |(name, kib, label)| {
        let verdict = results.verdicts.iter().find(|verdict| verdict.cell.scenario == name)?;
        Some(Size { verdict, kib, label })
    };
    let sizes: Vec<Size<'_>> = SIZES.into_iter().filter_map(find).collect();
    if sizes.len() < 2 {
        return Err("it needs two of hot-small, hot-medium and hot-large".to_owned());
    }
    let ids: Vec<&str> = results.record.targets.iter().map(|target| target.id.as_str()).collect();
    let costs = |id: &str| sizes.iter().map(|size| size.cost(id)).collect::<Option<Vec<Reading>>>();
    let found: Vec<(&str, Vec<Reading>)> = ids.into_iter().filter_map(|id| Some((id, costs(id)?))).collect();
    if found.is_empty() {
        return Err("no target was measured at every size".to_owned());
    }
    let series: Vec<Value> = found.iter().map(|(id, costs)| line(results, &sizes, id, costs)).collect();
    let ticks: Vec<Value> = sizes.iter().map(|size| json!([size.kib, size.label])).collect();
    let rest = json!({
        "x": {"name": "file size", "ticks": ticks, "log": true},
        "views": [{"label": "", "unit": "time", "series": series,
                   "axis": "CPU time per KiB, logarithmic; less is better"}],
        "values": true,
    });
    let rows = found.iter().map(|(id, costs)| (results.name(id), costs.iter().map(told).collect()));
    let heads = sizes.iter().map(|size| size.label.to_owned()).collect();
    let table = Table { corner: "file size".to_owned(), heads, rows: rows.collect() };
    Ok(Picture {
        name: "cost-per-byte".to_owned(),
        title: "What does a KiB cost, as files grow?".to_owned(),
        scenario: None,
        answer: said(results, &sizes, &found),
        reading: format!(
            "Server CPU time per KiB of file, 64 kept connections. Small files pay for the request, large ones for \
             the bytes. {INTERVALS}"
        ),
        spec: spec(results, "lines", false, found.iter().map(|(id, _)| *id), rest),
        tables: vec![("CPU time per KiB".to_owned(), table)],
        still: None,
    })
}

fn told(cost: &Reading) -> String {
    cost.text(NOTHING, |cost| wording::nanoseconds(cost.value))
}

fn line(results: &Results<'_>, sizes: &[Size<'_>], id: &str, costs: &[Reading]) -> Value {
    let points: Vec<Value> = sizes
        .iter()
        .zip(costs)
        .filter_map(|(size, cost)| {
            let says = format!("{}, a file of {}: {} per KiB", results.name(id), size.label, told(cost));
            let [value, low, high, flag] = number(*cost, None)?;
            Some(json!([size.kib, value, low, high, flag, says]))
        })
        .collect();
    json!({"t": results.index(id), "points": points})
}

/// Who is cheapest at the largest size, and how much cheaper than at the smallest.
fn said(results: &Results<'_>, sizes: &[Size<'_>], found: &[(&str, Vec<Reading>)]) -> String {
    let shown = found.iter().filter(|(id, _)| results.is_shown(id));
    let ends = shown.filter_map(|(id, costs)| {
        let told: Vec<f64> = costs.iter().map(|cost| Some(cost.told()?.value)).collect::<Option<_>>()?;
        Some((*id, *told.first()?, *told.last()?))
    });
    let cheapest = ends.min_by(|one, other| one.2.total_cmp(&other.2));
    let labels = [sizes.first(), sizes.last()].map(|size| size.map_or(NOTHING, |size| size.label));
    match cheapest {
        None => "Too noisy to say here.".to_owned(),
        Some((id, small, large)) => format!(
            "From {} to {}, a KiB gets {} times cheaper in {}: {} to {}, {}.",
            labels[0],
            labels[1],
            wording::three_digits(small / large),
            results.name(id),
            wording::nanoseconds(small),
            wording::nanoseconds(large),
            least(results, sizes, found, id)
        ),
    }
}

/// How the cheapest at the largest size compares with the others there.
fn least(results: &Results<'_>, sizes: &[Size<'_>], found: &[(&str, Vec<Reading>)], id: &str) -> String {
    let Some(Size { verdict, .. }) = sizes.last() else {
        return NOTHING.to_owned();
    };
    let is_tied = |other: &&str| {
        *other != id
            && results.is_shown(other)
            && !answer::differ(results, verdict, Measure::CpuPerRequest, [other, id])
    };
    let ties: Vec<&str> = found.iter().map(|(other, _)| *other).filter(is_tied).collect();
    match ties.as_slice() {
        [] => "the least of all".to_owned(),
        ties => format!("from which {} can’t be told apart", answer::names(results, ties)),
    }
}

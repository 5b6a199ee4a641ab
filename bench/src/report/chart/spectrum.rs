//! The percentile spectrum: the tail of the response times.

use crate::analysis::figures::is_client_bound;
use crate::analysis::measure::latency;
use crate::analysis::verdict::Verdict;
use crate::record::TargetRecord;
use crate::record::trial::Trial;
use crate::report::chart::Sketch;
use crate::report::chart::axis::Tick;
use crate::report::chart::lines::drawing_order;
use crate::report::chart::plot::{self, Plot, Series};
use crate::report::results::Results;
use crate::report::wording;
use crate::run::scenario::Scenario;
use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

/// A quantile needs this many samples above and below it: requests due last had hardly waited at the end.
const SAMPLES_BEYOND_MIN: f64 = 20.0;
/// Points per factor of ten in 1 − quantile.
const POINTS_PER_DECADE: i32 = 12;

/// Of the first class in the scenario's main cell, all trials together.
pub(crate) fn of<'a>(results: &'a Results<'a>, scenario: &'a Scenario) -> Result<Sketch<'a>, String> {
    let verdict = results.main_cell(scenario).ok_or("no trial counts")?;
    let series: Vec<Series> =
        drawing_order(results).into_iter().filter_map(|target| line(results, verdict, target)).collect();
    if series.is_empty() {
        return Err("no histogram could be read".to_owned());
    }
    let end = series.iter().filter_map(|series| series.points.last()).map(|(x, _)| *x).fold(1.0, f64::max);
    let ticks: Vec<Tick> = [
        (0.0, "0"),
        (0.5, "50"),
        (0.9, "90"),
        (0.99, "99"),
        (0.999, "99.9"),
        (0.9999, "99.99"),
        (0.99999, "99.999"),
    ]
    .into_iter()
    .map(|(quantile, text)| (nines(quantile), format!("{text}\u{a0}%")))
    .filter(|(x, _)| *x <= end * 1.001)
    .collect();
    let plot = Plot {
        series,
        x_name: "share of requests that took at most this long".to_owned(),
        x_ticks: ticks,
        x_range: (0.0, end, false),
        y_label: Box::new(plot::time),
        y_unit: 1_000.0,
        height: 420.0,
    };
    let subject = match scenario.classes.as_slice() {
        [_] => "requests".to_owned(),
        [first, ..] => format!("{} requests", first.name),
        [] => String::new(),
    };
    Ok(Sketch::new(
        format!("spectrum-{}", scenario.name),
        format!("How long do the unluckiest {subject} wait?"),
        format!(
            "{} Response time from the moment at which a request was due, all trials of {} together. A line \
             begins and ends where 20 samples lie beyond it.",
            scenario.about, verdict.cell
        ),
        move |canvas| plot.draw(canvas),
    )
    .within(scenario))
}

fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn line(results: &Results<'_>, verdict: &Verdict, target: &TargetRecord) -> Option<Series> {
    let mine = results.trials.iter().filter(|trial| {
        trial.counts() && trial.cell == verdict.cell && trial.target == target.id && !is_client_bound(trial)
    });
    let histogram = merged(mine)?;
    let count = histogram.len() as f64;
    let points: Vec<(f64, f64)> = (0..)
        .map(|step| f64::from(step) / f64::from(POINTS_PER_DECADE))
        .take_while(|nines| count * 10.0_f64.powf(-nines) >= SAMPLES_BEYOND_MIN)
        .map(|nines| (nines, at(&histogram, (1.0 - 10.0_f64.powf(-nines)).max(SAMPLES_BEYOND_MIN / count))))
        .collect();
    let (_, last) = points.last()?;
    let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
    let lines: Vec<String> = quantiles
        .iter()
        .filter(|(_, quantile)| count * (1.0 - quantile) >= SAMPLES_BEYOND_MIN)
        .map(|(name, quantile)| format!("{name}: {}", wording::duration(at(&histogram, *quantile))))
        .collect();
    Some(Series {
        target: target.id.clone(),
        value: wording::duration(*last),
        tip: format!("{}\n{}", target.label, lines.join("\n")),
        points: points.clone(),
    })
}

fn at(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile).max(1) as f64
}

/// One histogram of all trials; `None` without one that can be read.
fn merged<'a>(trials: impl Iterator<Item = &'a Trial>) -> Option<Histogram<u64>> {
    let mut deserializer = Deserializer::new();
    let mut sum: Option<Histogram<u64>> = None;
    for trial in trials {
        let text = &latency(trial.main_class()?)?.histogram;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        let one: Histogram<u64> = deserializer.deserialize(&mut bytes.as_slice()).ok()?;
        match &mut sum {
            None => sum = Some(one),
            Some(sum) => sum.add(one).ok()?,
        }
    }
    sum.filter(|sum| !sum.is_empty())
}

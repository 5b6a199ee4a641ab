//! A measure along the axis of a scenario, a line per target.

use crate::analysis::measure::Measure;
use crate::analysis::verdict::Verdict;
use crate::record::{Family, TargetRecord};
use crate::report::chart::Sketch;
use crate::report::chart::axis::Tick;
use crate::report::chart::plot::{self, Plot, Series};
use crate::report::results::Results;
use crate::report::wording;
use crate::run::scenario::{Axis, Scenario};

/// From this ratio of its values on, an x axis is logarithmic.
const LOGARITHMIC_FROM: f64 = 20.0;

pub(crate) fn along_the_axis<'a>(
    results: &'a Results<'a>,
    scenario: &'a Scenario,
) -> Result<Sketch<'a>, String> {
    let measure = Measure::of(scenario.metric);
    let reading = format!(
        "{} Shown is {} (medians); {} is better.",
        scenario.about,
        measure.label(),
        if measure.lower_is_better() { "less" } else { "more" }
    );
    let plot = of_measure(results, scenario, measure, 420.0)?;
    Ok(Sketch::of_scenario(scenario, reading, move |canvas| plot.draw(canvas)))
}

/// The quantiles of the response time against the offered rate.
pub(crate) fn load_curve<'a>(results: &'a Results<'a>, scenario: &'a Scenario) -> Result<Sketch<'a>, String> {
    let mut plots = Vec::new();
    for (name, measure) in [
        ("p99: 99 in 100 requests take at most this long", Measure::P99),
        ("p50: half of the requests take at most this long", Measure::P50),
        ("p99.9: 999 in 1,000 requests take at most this long", Measure::P999),
    ] {
        if let Ok(plot) = of_measure(results, scenario, measure, 330.0) {
            plots.push((name, plot));
        }
    }
    if plots.is_empty() {
        return Err("no quantile has enough samples above it".to_owned());
    }
    Ok(Sketch::of_scenario(
        scenario,
        format!(
            "{} Time is counted from the moment at which a request was due, whether or not the server was ready \
             for it. A line ends where its server can't tell any more.",
            scenario.about
        ),
        move |canvas| {
            for (name, plot) in &plots {
                canvas.heading(name);
                plot.draw(canvas);
            }
        },
    ))
}

/// Lines of a measure; those of this project are drawn last, on top.
fn of_measure(
    results: &Results<'_>,
    scenario: &Scenario,
    measure: Measure,
    height: f64,
) -> Result<Plot, String> {
    let axis = scenario.axis.as_ref().ok_or("it has no axis")?;
    let verdicts: Vec<&Verdict> = results.of_scenario(scenario).collect();
    let xs = x_positions(&verdicts);
    let series = |target: &TargetRecord| {
        let found: Vec<(&Verdict, (f64, f64))> = verdicts
            .iter()
            .zip(&xs.values)
            .filter_map(|(verdict, x)| {
                let estimate = results.estimate(verdict, &target.id, measure)?;
                Some((*verdict, (*x, estimate.value)))
            })
            .collect();
        let lines: Vec<String> = found
            .iter()
            .filter_map(|(verdict, _)| {
                let estimate = results.estimate(verdict, &target.id, measure)?;
                Some(format!("{}: {}", verdict.cell.point, wording::value_with_interval(measure, &estimate)))
            })
            .collect();
        let points: Vec<(f64, f64)> = found.into_iter().map(|(_, point)| point).collect();
        let (_, last) = points.last()?;
        Some(Series {
            target: target.id.clone(),
            value: wording::value(measure, *last),
            tip: format!("{}\n{}", target.label, lines.join("\n")),
            points,
        })
    };
    let series: Vec<Series> = drawing_order(results).into_iter().filter_map(series).collect();
    if series.is_empty() {
        return Err(results.unmeasured(measure));
    }
    Ok(Plot {
        series,
        x_name: axis_name(axis),
        x_ticks: xs.values.iter().zip(&verdicts).map(|(x, verdict)| (*x, point(verdict))).collect(),
        x_range: xs.range,
        y_label: Box::new(move |value| plot::tick(measure, value)),
        y_unit: plot::unit(measure),
        height,
    })
}

fn point(verdict: &Verdict) -> String {
    match verdict.value {
        Some(value) if value >= 1_000.0 => wording::thousands(value),
        _ => verdict.cell.point.clone(),
    }
}

fn axis_name(axis: &Axis) -> String {
    match (axis.unit.as_str(), axis.name.as_str()) {
        ("%", name) => format!("{name}, in % of what the fastest server can do"),
        (_, name) => name.to_owned(),
    }
}

/// Peers first, this project's plain servers last.
pub(crate) fn drawing_order<'a>(results: &Results<'a>) -> Vec<&'a TargetRecord> {
    let rank = |target: &TargetRecord| match target.family {
        Family::Peer | Family::Lab => 0,
        Family::Null => 1,
        Family::Ours if results.is_variant(&target.id) => 2,
        Family::Ours => 3,
    };
    let mut targets: Vec<&TargetRecord> = results.record.targets.iter().collect();
    targets.sort_by_key(|target| rank(target));
    targets
}

pub(crate) struct XPositions {
    pub(crate) values: Vec<f64>,
    /// The axis's ends, and whether it is logarithmic.
    pub(crate) range: (f64, f64, bool),
}

/// Logarithmic where the values span more than a decade. Zero, which has no logarithm, stands half a decade
/// left of the least.
pub(crate) fn x_positions(verdicts: &[&Verdict]) -> XPositions {
    let raw: Vec<f64> = verdicts.iter().map(|verdict| verdict.value.unwrap_or(0.0)).collect();
    let largest = raw.iter().copied().fold(0.0, f64::max);
    let least = raw.iter().copied().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    if largest / least > LOGARITHMIC_FROM {
        let zero = least / 10.0_f64.sqrt();
        let values: Vec<f64> = raw.iter().map(|value| value.max(zero)).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        return XPositions { values, range: (low, largest, true) };
    }
    let low = raw.iter().copied().fold(f64::INFINITY, f64::min);
    let high = if largest > low { largest } else { low + 1.0 };
    XPositions { values: raw, range: (low, high, false) }
}

/// What a KiB costs, by file size, from the scenarios of a single file; of those who were measured at every size.
pub(crate) fn cost_per_byte<'a>(results: &'a Results<'a>) -> Result<Sketch<'a>, String> {
    let sizes = ["hot-small", "hot-medium", "hot-large"];
    let verdicts: Vec<&Verdict> = sizes
        .iter()
        .filter_map(|name| results.verdicts.iter().find(|verdict| verdict.cell.scenario == *name))
        .collect();
    if verdicts.len() < 2 {
        return Err("it needs two of hot-small, hot-medium and hot-large".to_owned());
    }
    let cost = |verdict: &Verdict, id: &str| -> Option<(f64, f64)> {
        let figures = verdict.figures(id)?;
        let kib = nominal_kib(&verdict.cell.scenario);
        Some((kib, figures.estimate(Measure::CpuPerRequest)?.value / kib))
    };
    let series = |target: &TargetRecord| {
        let points: Vec<(f64, f64)> =
            verdicts.iter().filter_map(|verdict| cost(verdict, &target.id)).collect();
        let (_, last) = points.last()?;
        let lines: Vec<String> = points
            .iter()
            .map(|(kib, cost)| format!("{}: {} per KiB", plot::bytes(kib * 1_024.0), plot::time(*cost)))
            .collect();
        (points.len() == verdicts.len()).then(|| Series {
            target: target.id.clone(),
            value: plot::time(*last),
            tip: format!("{}\n{}", target.label, lines.join("\n")),
            points: points.clone(),
        })
    };
    let series: Vec<Series> = drawing_order(results).into_iter().filter_map(series).collect();
    let ticks: Vec<Tick> = verdicts
        .iter()
        .map(|verdict| nominal_kib(&verdict.cell.scenario))
        .map(|kib| (kib, plot::bytes(kib * 1_024.0)))
        .collect();
    let range = (ticks[0].0, ticks[ticks.len() - 1].0, true);
    if series.is_empty() {
        return Err("no target was measured at every size".to_owned());
    }
    let plot = Plot {
        series,
        x_name: "file size".to_owned(),
        x_ticks: ticks,
        x_range: range,
        y_label: Box::new(plot::time),
        y_unit: 1.0,
        height: 420.0,
    };
    Ok(Sketch::new(
        "cost-per-byte",
        "What does a KiB cost, as files grow?",
        "Server CPU time per KiB of file, 64 kept connections; less is better. Small files pay for the \
                  request, large ones for the bytes."
            .to_owned(),
        move |canvas| plot.draw(canvas),
    ))
}

/// What the scenarios of a single file ask for.
fn nominal_kib(scenario: &str) -> f64 {
    match scenario {
        "hot-medium" => 100.0,
        "hot-large" => 10_240.0,
        _ => 1.0,
    }
}

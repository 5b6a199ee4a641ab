//! Goodput over time, against what was offered: a small panel per target.

use crate::analysis::verdict::Verdict;
use crate::record::trial::Trial;
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, Sketch, classes};
use crate::report::results::Results;
use crate::report::svg::{Anchor, Font, number, shortened};
use crate::report::wording;
use crate::run::scenario::{Phase, Scenario, whole};

struct Panel {
    target: String,
    /// Right answers per second, the median over the trials.
    goodput: Vec<f64>,
    /// What was asked for per second, by the schedule.
    offered: Vec<f64>,
    slice_ms: f64,
}

pub(crate) fn goodput<'a>(results: &'a Results<'a>, scenario: &'a Scenario) -> Result<Sketch<'a>, String> {
    let verdict = results.main_cell(scenario).ok_or("no trial counts")?;
    let panels: Vec<Panel> = results
        .record
        .targets
        .iter()
        .filter_map(|target| panel(results, scenario, verdict, &target.id))
        .collect();
    if panels.is_empty() {
        return Err("no timeline was recorded".to_owned());
    }
    Ok(Sketch::of_scenario(
        scenario,
        format!(
            "{} Grey is what was offered, in colour what was answered right: medians over the trials. A server \
             that keeps its head stays at the top of what it can do, and is back on the grey soon after.",
            scenario.about
        ),
        move |canvas| grid(canvas, verdict, &panels),
    ))
}

fn panel(results: &Results<'_>, scenario: &Scenario, verdict: &Verdict, id: &str) -> Option<Panel> {
    let trials: Vec<&Trial> = results
        .trials
        .iter()
        .filter(|trial| trial.counts() && trial.cell == verdict.cell && trial.target == id)
        .filter(|trial| trial.main_class().is_some_and(|class| !class.timeline.is_empty()))
        .collect();
    let first = trials.first()?.main_class()?;
    let slice_ns = first.slice_ns? as f64;
    let slices = trials.iter().filter_map(|trial| Some(trial.main_class()?.timeline.len())).min()?;
    // What was still owed at the window's end comes in a slice that isn't a whole one.
    let window_ms: u64 = scenario.phases.iter().map(|phase| phase.ms).sum();
    let slices = slices.min(whole(window_ms as f64 * 1e6 / slice_ns));
    let goodput = (0..slices).filter_map(|slice| {
        let values: Vec<f64> = trials
            .iter()
            .filter_map(|trial| trial.main_class()?.timeline.get(slice).map(|count| *count as f64))
            .collect();
        Some(crate::analysis::stats::median(&values)? * 1e9 / slice_ns)
    });
    let goodput: Vec<f64> = goodput.collect();
    let base = verdict.figures(id)?.classes.first()?.offered_per_second?;
    let slice_ms = slice_ns / 1e6;
    let offered =
        (0..slices).map(|slice| base * factor(&scenario.phases, (slice as f64 + 0.5) * slice_ms)).collect();
    Some(Panel { target: id.to_owned(), goodput, offered, slice_ms })
}

fn factor(phases: &[Phase], at_ms: f64) -> f64 {
    let mut end = 0.0;
    for phase in phases {
        end += phase.ms as f64;
        if at_ms < end {
            return phase.factor;
        }
    }
    phases.last().map_or(1.0, |phase| phase.factor)
}

fn grid(canvas: &mut Canvas<'_>, verdict: &Verdict, panels: &[Panel]) {
    let frame = canvas.frame;
    let columns: usize = if frame.narrow { 1 } else { 3 };
    let gap = 26.0;
    let width = (frame.inner() - gap * (columns - 1) as f64) / columns as f64;
    let height = if frame.narrow { 84.0 } else { 120.0 };
    let top = canvas.y;
    let step = height + frame.label.size * 1.6 + frame.axis.size * 2.4;
    for (index, panel) in panels.iter().enumerate() {
        let left = frame.margin + (width + gap) * (index % columns) as f64;
        canvas.y = top + step * (index / columns) as f64;
        draw(canvas, verdict, panel, (left, width, height));
    }
    canvas.y = top + step * panels.len().div_ceil(columns) as f64;
}

fn draw(canvas: &mut Canvas<'_>, verdict: &Verdict, panel: &Panel, (left, width, height): (f64, f64, f64)) {
    let frame = canvas.frame;
    let label = canvas.results.label(&panel.target);
    let class = classes(canvas.results, &panel.target);
    let largest = panel.offered.iter().chain(&panel.goodput).copied().fold(1.0, f64::max);
    let bold = Font { bold: true, ..frame.label };
    let failing = verdict
        .figures(&panel.target)
        .filter(|figures| figures.error_share > 0.0)
        .map(|figures| format!("{} failed", wording::percent(figures.error_share)));
    let tip = format!(
        "{label}: at most {} answers per second{}",
        wording::rate(panel.goodput.iter().copied().fold(0.0, f64::max)),
        failing.as_ref().map_or_else(String::new, |text| format!(", {text}"))
    );
    canvas.svg.begin(&panel.target, &tip);
    canvas.y += frame.label.size * 1.2;
    let name = failing.map_or_else(|| label.to_owned(), |text| format!("{label}, {text}"));
    canvas.svg.text(left, canvas.y, bold, Anchor::Start, "ink", &shortened(&name, bold, width));
    let top = canvas.y + 8.0;
    let y = Scale::linear(0.0, largest * 1.05, top + height, top);
    let seconds = panel.offered.len() as f64 * panel.slice_ms / 1e3;
    let x = Scale::linear(0.0, seconds, left, left + width);
    let steps = |values: &[f64]| {
        let mut points = Vec::new();
        for (slice, value) in values.iter().enumerate() {
            let begin = slice as f64 * panel.slice_ms / 1e3;
            points.push((x.at(begin), y.at(*value)));
            points.push((x.at(begin + panel.slice_ms / 1e3), y.at(*value)));
        }
        points
    };
    let closed = |mut points: Vec<(f64, f64)>| {
        points.push((left + width, top + height));
        points.push((left, top + height));
        points
    };
    canvas.svg.polygon(&closed(steps(&panel.offered)), "offered");
    canvas.svg.polygon(&closed(steps(&panel.goodput)), &format!("{class} area"));
    canvas.svg.polyline(&steps(&panel.goodput), &format!("line {class} main"));
    canvas.svg.line((left, top + height), (left + width, top + height), "axis");
    let base = top + height + frame.axis.size * 1.3;
    let seconds_text = format!("{}\u{a0}s", number(seconds));
    canvas.svg.text(left, base, frame.axis, Anchor::Start, "muted", "0");
    canvas.svg.text(left + width, base, frame.axis, Anchor::End, "muted", &seconds_text);
    let peak =
        format!("offered: up to {}/s", wording::rate(panel.offered.iter().copied().fold(0.0, f64::max)));
    canvas.svg.text(left + width / 2.0, base, frame.axis, Anchor::Middle, "muted", &peak);
    canvas.svg.end();
}

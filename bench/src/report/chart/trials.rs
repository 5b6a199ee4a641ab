//! All trials in the order in which they ran: what drifted, and what was void.

use crate::analysis::measure::Measure;
use crate::record::trial::{Pass, Trial};
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, Sketch};
use crate::report::results::Results;
use crate::report::svg::{Anchor, number, text_width};
use std::collections::BTreeMap;

/// Trials further from the median are drawn at the edge.
const REACH: f64 = 1.5;

/// Every timed trial by its CPU time per request against the median of its target and cell.
pub(crate) fn in_order<'a>(results: &'a Results<'a>) -> Result<Sketch<'a>, String> {
    let timed: Vec<&Trial> = results.trials.iter().filter(|trial| trial.pass == Pass::Timing).collect();
    if timed.is_empty() {
        return Err("there are none".to_owned());
    }
    let (count, voids) = (timed.len(), timed.iter().filter(|trial| trial.void.is_some()).count());
    Ok(Sketch::new(
        "trials",
        "Did the machine keep still?",
        format!(
            "All {count} timed trials in the order in which they ran: CPU time per request against the median of \
             the same target in the same comparison, at 1. Crosses: the {voids} void trials, which were repeated. \
             A slope is drift, and hits all targets of a round alike."
        ),
        move |canvas| draw(canvas, &timed),
    ))
}

fn draw(canvas: &mut Canvas<'_>, timed: &[&Trial]) {
    let frame = canvas.frame;
    let height = if frame.narrow { 240.0 } else { 340.0 };
    let (top, bottom) = (canvas.y + 6.0, canvas.y + 6.0 + height);
    let y = Scale::logarithmic(1.0 / REACH, REACH, bottom, top);
    let left = frame.margin + 8.0 + text_width("0.67×", frame.axis);
    let right = frame.width - frame.margin;
    for tick in [1.0 / 1.5, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5] {
        let place = y.at(tick);
        canvas.svg.line((left, place), (right, place), if tick == 1.0 { "axis" } else { "rule" });
        let text = format!("{tick:.2}×");
        canvas.svg.text(left - 8.0, place + frame.axis.size * 0.35, frame.axis, Anchor::End, "muted", &text);
    }
    let last = timed.iter().map(|trial| trial.place.number).max().unwrap_or(0).max(1);
    let x = Scale::linear(0.0, last as f64, left + 4.0, right - 4.0);
    scenarios(canvas, timed, x, (top, bottom));
    let mut dots: BTreeMap<&str, String> = BTreeMap::new();
    let mut crosses = String::new();
    for trial in timed {
        let Some(ratio) = ratio(canvas.results, trial) else {
            continue;
        };
        let (across, up) = (x.at(trial.place.number as f64), y.at(ratio));
        if trial.void.is_some() {
            let (west, east, north, south) = (across - 3.5, across + 3.5, up - 3.5, up + 3.5);
            let [west, east, north, south] = [west, east, north, south].map(number);
            crosses.push_str(&format!("M{west} {north}L{east} {south}M{west} {south}L{east} {north}"));
        } else {
            let path = dots.entry(trial.target.as_str()).or_default();
            path.push_str(&format!("M{} {}h0", number(across), number(up)));
        }
    }
    for (target, path) in &dots {
        let label = canvas.results.label(target).to_owned();
        canvas.svg.begin(target, &label);
        let class = canvas.results.class(target);
        canvas.svg.path(path, &format!("{class} points"));
        canvas.svg.end();
    }
    if !crosses.is_empty() {
        canvas.svg.path(&crosses, "void");
    }
    canvas.y = bottom + frame.axis.size * 1.5;
    let middle = f64::midpoint(left, right);
    canvas.y += frame.axis.size * 1.4;
    canvas.svg.text(middle, canvas.y, frame.axis, Anchor::Middle, "muted", "trial, in run order");
}

/// A line where a scenario begins, with its name where there is room.
fn scenarios(canvas: &mut Canvas<'_>, timed: &[&Trial], x: Scale, (top, bottom): (f64, f64)) {
    let font = canvas.frame.axis;
    let mut before = "";
    let mut begins: Vec<(f64, &str)> = Vec::new();
    for trial in timed {
        if trial.cell.scenario != before {
            before = &trial.cell.scenario;
            begins.push((x.at(trial.place.number as f64), before));
        }
    }
    for (index, (begin, name)) in begins.iter().enumerate() {
        canvas.svg.line((*begin, top), (*begin, bottom + 5.0), "rule");
        let end = begins.get(index + 1).map_or(canvas.frame.width - canvas.frame.margin, |(next, _)| *next);
        if text_width(name, font) < end - begin - 4.0 {
            let base = bottom + font.size * 1.4;
            canvas.svg.text(f64::midpoint(*begin, end), base, font, Anchor::Middle, "muted", name);
        }
    }
}

/// Against the median of the target in the cell.
fn ratio(results: &Results<'_>, trial: &Trial) -> Option<f64> {
    let verdict = results.verdicts.iter().find(|verdict| verdict.cell == trial.cell)?;
    let median = results.estimate(verdict, &trial.target, Measure::CpuPerRequest)?.value;
    Some((Measure::CpuPerRequest.of_trial(trial)? / median).clamp(1.0 / REACH, REACH))
}

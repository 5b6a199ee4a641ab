//! A dot and an interval per target, the best at the top.

use crate::analysis::stats::Estimate;
use crate::analysis::verdict::Verdict;
use crate::record::Family;
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, Sketch, classes};
use crate::report::results::Results;
use crate::report::svg::{Anchor, Font, shortened, text_width};
use crate::report::wording;
use crate::run::scenario::Scenario;

pub(crate) fn sorted<'a>(results: &'a Results<'a>, scenario: &'a Scenario) -> Result<Sketch<'a>, String> {
    let verdict = results.main_cell(scenario).ok_or("no trial counts")?;
    let measure = verdict.measure;
    let mut rows: Vec<(&str, Estimate)> = verdict
        .targets
        .iter()
        .filter_map(|figures| Some((figures.target.as_str(), *figures.estimate(measure)?)))
        .collect();
    if rows.is_empty() {
        let reason = results.record.unmeasured.get(measure.name());
        return Err(reason.cloned().unwrap_or_else(|| format!("{} wasn't measured", measure.label())));
    }
    rows.sort_by(|one, other| one.1.value.total_cmp(&other.1.value));
    if !measure.lower_is_better() {
        rows.reverse();
    }
    let better = if measure.lower_is_better() { "Less is better" } else { "More is better" };
    let point = if verdict.cell.point.is_empty() { String::new() } else { format!(" ({})", verdict.cell) };
    let scale =
        if Scale::of(&values(&rows), 0.0, 1.0).is_logarithmic() { " The scale is logarithmic." } else { "" };
    let reading = format!(
        "{} Shown is {}{point}: dots are medians of {} rounds, lines 95 % intervals. {better}.{scale}",
        scenario.about,
        measure.label(),
        verdict.rounds
    );
    Ok(Sketch {
        name: scenario.name.clone(),
        title: scenario.question.clone(),
        reading,
        scenario: Some(scenario.name.clone()),
        draw: Box::new(move |canvas| rows_of(canvas, verdict, &rows)),
    })
}

fn values(rows: &[(&str, Estimate)]) -> Vec<f64> {
    rows.iter().map(|(_, estimate)| estimate.value).collect()
}

const DOT: f64 = 5.5;

fn rows_of(canvas: &mut Canvas<'_>, verdict: &Verdict, rows: &[(&str, Estimate)]) {
    let (frame, results, measure) = (canvas.frame, canvas.results, verdict.measure);
    let name_width = rows
        .iter()
        .map(|(id, _)| text_width(results.label(id), Font { bold: true, ..frame.label }))
        .fold(0.0, f64::max)
        .min(frame.inner() * if frame.narrow { 0.46 } else { 0.42 });
    let bold = Font { bold: true, ..frame.label };
    let texts: Vec<String> = rows
        .iter()
        .map(|(id, estimate)| {
            let text = wording::spoken(measure, estimate.value);
            let ranked = verdict.figures(id).is_some_and(|figures| figures.unranked(measure).is_none());
            if ranked { text } else { format!("({text})") }
        })
        .collect();
    let value_width = texts.iter().map(|text| text_width(text, bold)).fold(0.0, f64::max);
    let left = frame.margin + name_width + 12.0;
    let right = frame.width - frame.margin - value_width - 12.0;
    let scale = Scale::of(&values(rows), left, right);
    let top = canvas.y + frame.axis.size * 1.5;
    let bottom = top + frame.row() * rows.len() as f64;
    background(canvas, verdict, scale, (top, bottom));
    for (row, ((id, estimate), text)) in rows.iter().zip(&texts).enumerate() {
        let middle = top + frame.row() * (row as f64 + 0.5);
        let baseline = middle + frame.label.size * 0.35;
        let label = results.label(id);
        let tip = format!("{label}: {}", wording::value_with_interval(measure, estimate));
        canvas.svg.begin(id, &tip);
        let class = classes(results, id);
        let is_main = class.ends_with("main");
        let font = if is_main { bold } else { frame.label };
        let shown = shortened(label, font, name_width);
        canvas.svg.text(left - 12.0, baseline, font, Anchor::End, "ink", &shown);
        mark(canvas, scale, estimate, middle, &class);
        canvas.svg.text(frame.width - frame.margin, baseline, font, Anchor::End, "ink", text);
        canvas.svg.end();
    }
    canvas.y = bottom;
    ticks(canvas, verdict, scale, bottom);
    let notes = notes(results, verdict, rows);
    if !notes.is_empty() {
        canvas.y += 4.0;
        canvas.paragraph(&notes.join(" "), frame.axis, "muted");
    }
}

/// The A/A band around the baseline, and the null servers' floor.
fn background(canvas: &mut Canvas<'_>, verdict: &Verdict, scale: Scale, (top, bottom): (f64, f64)) {
    let (results, measure, font) = (canvas.results, verdict.measure, canvas.frame.axis);
    let mut taken = f64::INFINITY;
    let estimate = |id: &str| verdict.figures(id)?.estimate(measure).map(|estimate| estimate.value);
    if let Some((id, value)) = results.baseline(verdict).and_then(|id| Some((id, estimate(id)?))) {
        let band = verdict.band(measure).interval();
        let (low, high) = (scale.at(value * band.low), scale.at(value * band.high));
        canvas.svg.rectangle((low, top), ((high - low).max(1.0), bottom - top), 0.0, "band");
        let text = if canvas.frame.narrow { "A/A band".to_owned() } else { format!("A/A band around {id}") };
        let width = text_width(&text, font);
        let begin = low.min(canvas.frame.width - canvas.frame.margin - width).max(canvas.frame.margin);
        canvas.svg.text(begin, top - 5.0, font, Anchor::Start, "muted", &text);
        taken = begin;
    }
    let nulls = verdict.targets.iter().filter(|figures| {
        results.target(&figures.target).is_some_and(|target| target.family == Family::Null)
    });
    let floors: Vec<f64> =
        nulls.filter_map(|figures| estimate(&figures.target)).map(|floor| scale.at(floor)).collect();
    for floor in &floors {
        canvas.svg.line((*floor, top), (*floor, bottom), "floor");
    }
    // Left of the band's name, where that is near enough to be understood.
    const FAR: f64 = 60.0;
    if let Some(last) = floors.iter().copied().reduce(f64::max) {
        let end = last.min(taken - 8.0);
        if last - end < FAR && end - text_width("floor", font) > canvas.frame.margin {
            canvas.svg.text(end, top - 5.0, font, Anchor::End, "muted", "floor");
        }
    }
}

pub(crate) fn mark(canvas: &mut Canvas<'_>, scale: Scale, estimate: &Estimate, middle: f64, class: &str) {
    if let Some(interval) = estimate.interval {
        let (low, high) = (scale.at(interval.low), scale.at(interval.high));
        let class = format!("interval {class}");
        canvas.svg.line((low, middle), (high, middle), &class);
        let cap = DOT * 0.9;
        let ends = [(low, -1.0, scale.is_below(interval.low)), (high, 1.0, scale.is_beyond(interval.high))];
        for (x, outwards, goes_on) in ends {
            if goes_on {
                let foot = x - 5.0 * outwards;
                let points = [(foot, middle - 4.0), (x + 2.0 * outwards, middle), (foot, middle + 4.0)];
                canvas.svg.polygon(&points, &class);
            } else {
                canvas.svg.line((x, middle - cap), (x, middle + cap), &class);
            }
        }
    }
    let (x, y) = (scale.at(estimate.value), middle);
    let hollow = if class.contains("variant") || class.contains("dash3") && !class.contains("peer") {
        " hollow"
    } else {
        ""
    };
    let class = format!("dot {class}{hollow}");
    if class.contains("blocking") {
        canvas.svg.circle((x, y), DOT, &class);
    } else if class.contains("epoll") {
        let half = DOT * 0.86;
        canvas.svg.rectangle((x - half, y - half), (2.0 * half, 2.0 * half), 1.0, &class);
    } else if class.contains("uring") {
        let reach = DOT * 1.22;
        canvas.svg.polygon(&[(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)], &class);
    } else {
        canvas.svg.circle((x, y), DOT * 0.72, &class);
    }
}

fn ticks(canvas: &mut Canvas<'_>, verdict: &Verdict, scale: Scale, bottom: f64) {
    let font = canvas.frame.axis;
    canvas.y = bottom + font.size * 1.4;
    let mut free_from = 0.0;
    for tick in scale.ticks(if canvas.frame.narrow { 3 } else { 6 }, super::plot::unit(verdict.measure)) {
        let x = scale.at(tick);
        canvas.svg.line((x, bottom), (x, bottom + 5.0), "axis");
        let text = super::plot::tick(verdict.measure, tick);
        let half = text_width(&text, font) / 2.0;
        if x - half > free_from && x + half < canvas.frame.width - canvas.frame.margin * 0.5 {
            canvas.svg.text(x, canvas.y, font, Anchor::Middle, "muted", &text);
            free_from = x + half + 6.0;
        }
    }
}

fn notes(results: &Results<'_>, verdict: &Verdict, rows: &[(&str, Estimate)]) -> Vec<String> {
    let unranked = rows.iter().filter_map(|(id, _)| {
        let why = verdict.figures(id)?.unranked(verdict.measure)?;
        Some(format!("In parentheses, not ranked: {} ({why}).", results.label(id)))
    });
    unranked.collect()
}

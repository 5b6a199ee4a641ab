//! A dot and an interval per target, the best at the top.

use crate::analysis::stats::Estimate;
use crate::analysis::verdict::Verdict;
use crate::record::Family;
use crate::report::chart::rows::{self, Columns, Row};
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, Sketch, axis, classes, plot};
use crate::report::results::Results;
use crate::report::svg::{Anchor, text_width};
use crate::report::wording;
use crate::run::scenario::Scenario;

pub(crate) fn sorted<'a>(results: &'a Results<'a>, scenario: &'a Scenario) -> Result<Sketch<'a>, String> {
    let verdict = results.main_cell(scenario).ok_or("no trial counts")?;
    let measure = verdict.measure;
    let mut rows: Vec<(&str, Estimate)> = verdict
        .targets
        .iter()
        .filter_map(|figures| Some((figures.target.as_str(), figures.estimate(measure)?)))
        .collect();
    if rows.is_empty() {
        return Err(results.unmeasured(measure));
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
    Ok(Sketch::of_scenario(scenario, reading, move |canvas| rows_of(canvas, verdict, &rows)))
}

fn values(rows: &[(&str, Estimate)]) -> Vec<f64> {
    rows.iter().map(|(_, estimate)| estimate.value).collect()
}

fn rows_of(canvas: &mut Canvas<'_>, verdict: &Verdict, rows: &[(&str, Estimate)]) {
    let (frame, results, measure) = (canvas.frame, canvas.results, verdict.measure);
    let row = |(id, estimate): &(&'_ str, Estimate)| {
        let text = wording::spoken(measure, estimate.value);
        let ranked = verdict.figures(id).is_some_and(|figures| figures.unranked(measure).is_none());
        let is_main = classes(results, id).ends_with("main");
        Row {
            target: verdict.figures(id).map_or("", |figures| &figures.target),
            estimate: *estimate,
            number: if ranked { text } else { format!("({text})") },
            tip: format!("{}: {}", results.label(id), wording::value_with_interval(measure, estimate)),
            is_name_bold: is_main,
            is_number_bold: is_main,
            number_class: "ink",
        }
    };
    let marks: Vec<Row<'_>> = rows.iter().map(row).collect();
    let columns = Columns::of(canvas, marks.iter(), if frame.narrow { 0.46 } else { 0.42 });
    let scale = Scale::of(&values(rows), columns.left, columns.right);
    let top = canvas.y + frame.axis.size * 1.5;
    let bottom = top + rows::height(canvas, marks.len());
    background(canvas, verdict, scale, (top, bottom));
    rows::draw(canvas, &marks, &columns, scale, top);
    axis::below_rows(canvas, scale, plot::unit(measure), |tick| plot::tick(measure, tick), bottom);
    let notes = notes(results, verdict, rows);
    if !notes.is_empty() {
        canvas.y += 4.0;
        canvas.paragraph(&notes.join(" "), frame.axis, "muted");
    }
}

/// The A/A band around the baseline, and the null servers' floor.
pub(super) fn background(
    canvas: &mut Canvas<'_>,
    verdict: &Verdict,
    scale: Scale,
    (top, bottom): (f64, f64),
) {
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

pub(super) fn notes(results: &Results<'_>, verdict: &Verdict, rows: &[(&str, Estimate)]) -> Vec<String> {
    let unranked = rows.iter().filter_map(|(id, _)| {
        let why = verdict.figures(id)?.unranked(verdict.measure)?;
        Some(format!("In parentheses, not ranked: {} ({why}).", results.label(id)))
    });
    unranked.collect()
}

//! What each technique buys: a server without it, divided by the same server with it.

use crate::analysis::measure::Measure;
use crate::analysis::verdict::{Claim, Ratio, Verdict};
use crate::report::chart::rows::{self, Columns, Row};
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, Sketch, axis};
use crate::report::results::Results;
use crate::report::wording;
use crate::run::scenario::Scenario;

/// From this ratio of the largest to the smallest on, equal steps are equal ratios.
const LOGARITHMIC_FROM: f64 = 4.0;

/// A scenario: its load in words, and a row for each server.
struct Section<'a> {
    load: &'a str,
    verdict: &'a Verdict,
    rows: Vec<Ratio>,
}

/// All scenarios that ask for servers without a technique, one below the other on one scale.
pub(crate) fn of<'a>(results: &'a Results<'a>) -> Result<Sketch<'a>, String> {
    let scenarios = results.scenarios().filter(|scenario| !scenario.lesser.is_empty());
    let section = |scenario: &'a Scenario| {
        let verdict = results.main_cell(scenario)?;
        let told = |ratio: &Ratio| ratio.reading().told().is_some();
        let rows: Vec<Ratio> = results.lesser(verdict, Measure::CpuPerRequest).filter(told).collect();
        (!rows.is_empty()).then_some(Section { load: &scenario.about, verdict, rows })
    };
    let sections: Vec<Section<'_>> = scenarios.filter_map(section).collect();
    if sections.is_empty() {
        return Err("no server ran both with a technique and without it".to_owned());
    }
    Ok(Sketch::new(
        "ablation",
        "What does each technique buy?",
        format!(
            "{} of a server without the technique, divided by that of the same server with it: dots are medians, \
             lines 95 % intervals. Right of 1, the technique pays. The band is what can’t be told from noise.",
            wording::capitalised(Measure::CpuPerRequest.label())
        ),
        move |canvas| draw(canvas, &sections),
    ))
}

fn draw(canvas: &mut Canvas<'_>, sections: &[Section<'_>]) {
    let (frame, results) = (canvas.frame, canvas.results);
    let row = |ratio: &'_ Ratio| {
        let (differs, estimate) = (ratio.claim == Claim::Difference, ratio.reading().told()?);
        Some(Row {
            target: results.target(&ratio.above).map_or("", |target| &target.id),
            estimate,
            number: format!("{}×", wording::factor(estimate.value)),
            tip: format!("{}: {}", results.label(&ratio.above), wording::ratio(&estimate)),
            is_name_bold: false,
            is_number_bold: differs,
            number_class: if differs { "ink" } else { "muted" },
        })
    };
    let marks: Vec<Vec<Row<'_>>> =
        sections.iter().map(|section| section.rows.iter().filter_map(row).collect()).collect();
    let columns = Columns::of(canvas, marks.iter().flatten(), if frame.narrow { 0.44 } else { 0.36 });
    let scale = scale(marks.iter().flatten(), columns.left, columns.right);
    for (section, marks) in sections.iter().zip(&marks) {
        canvas.heading(section.load);
        let top = canvas.y + 4.0;
        let bottom = top + rows::height(canvas, marks.len());
        let band = section.verdict.band(Measure::CpuPerRequest).interval();
        let (low, high) = (scale.at(band.low), scale.at(band.high));
        canvas.svg.rectangle((low, top), ((high - low).max(1.0), bottom - top), 0.0, "band");
        canvas.svg.line((scale.at(1.0), top), (scale.at(1.0), bottom), "axis");
        rows::draw(canvas, marks, &columns, scale, top);
        axis::below_rows(canvas, scale, 1.0, |tick| format!("{}×", wording::factor(tick)), bottom);
        canvas.y += 8.0;
    }
}

/// One scale for all sections; 1 is on it.
fn scale<'a>(rows: impl Iterator<Item = &'a Row<'a>>, from: f64, to: f64) -> Scale {
    let (mut low, mut high) = (0.9_f64, 1.1_f64);
    for row in rows {
        let value = row.estimate.value;
        // An interval of few rounds may reach anywhere; the mark shows that it goes on.
        let interval = row.estimate.interval.map_or((value, value), |found| (found.low, found.high));
        low = low.min(interval.0.max(value * 0.8));
        high = high.max(interval.1.min(value * 1.25));
    }
    if high / low > LOGARITHMIC_FROM {
        Scale::logarithmic(low / 1.05, high * 1.05, from, to)
    } else {
        Scale::linear(low - 0.02, high + 0.02, from, to)
    }
}

//! What each technique buys, as rows: one scale for all loads.

use crate::analysis::measure::Measure;
use crate::analysis::stats::Estimate;
use crate::analysis::verdict::{Claim, Ratio, Verdict};
use crate::report::overview::NOTHING;
use crate::report::results::Results;
use crate::report::still::rows::{self, Columns, Row};
use crate::report::still::scale::Scale;
use crate::report::still::{Canvas, Heading, axis};
use crate::report::wording;

/// From this ratio of the largest to the smallest on, equal steps are equal ratios.
const LOGARITHMIC_FROM: f64 = 4.0;

/// A scenario: its load in words, and a row for each server.
pub(crate) struct Section<'a> {
    pub(crate) load: String,
    pub(crate) verdict: &'a Verdict,
    pub(crate) rows: Vec<Ratio>,
}

pub(crate) fn draw(results: &Results<'_>, heading: Heading<'_>, sections: &[Section<'_>]) -> String {
    super::picture(results, heading, |canvas| sections_of(canvas, sections))
}

fn sections_of(canvas: &mut Canvas<'_>, sections: &[Section<'_>]) {
    let results = canvas.results;
    let row = |ratio: &'_ Ratio| {
        let (differs, reading) = (ratio.claim == Claim::Difference, ratio.reading());
        Some(Row {
            target: results.target(&ratio.above).map_or("", |target| &target.id),
            estimate: reading.place()?,
            number: reading.text(NOTHING, |ratio| format!("{}×", wording::factor(ratio.value))),
            tip: format!("{}: {}", results.label(&ratio.above), reading.text(NOTHING, wording::ratio)),
            is_number_bold: differs,
        })
    };
    let marks: Vec<Vec<Row<'_>>> =
        sections.iter().map(|section| section.rows.iter().filter_map(row).collect()).collect();
    let columns = Columns::of(canvas, marks.iter().flatten(), 0.36);
    let ratios = sections.iter().flat_map(|section| &section.rows);
    let scale = scale(ratios.filter_map(|ratio| ratio.reading().place()), columns.left, columns.right);
    for (section, marks) in sections.iter().zip(&marks) {
        canvas.heading(&section.load);
        let top = canvas.y + 4.0;
        let bottom = top + rows::height(marks.len());
        let band = section.verdict.band(Measure::CpuPerRequest).interval();
        let (low, high) = (scale.at(band.low), scale.at(band.high));
        canvas.svg.rectangle((low, top), ((high - low).max(1.0), bottom - top), 0.0, "band");
        canvas.svg.line((scale.at(1.0), top), (scale.at(1.0), bottom), "axis");
        rows::draw(canvas, marks, &columns, scale, top);
        let ticks = scale.ticks(6).into_iter().map(|tick| (tick, format!("{}×", wording::factor(tick))));
        axis::numbers(canvas, scale, &ticks.collect::<Vec<_>>(), bottom);
        canvas.y += 8.0;
    }
}

/// One scale for all sections; 1 is on it.
fn scale(rows: impl Iterator<Item = Estimate>, from: f64, to: f64) -> Scale {
    let (mut low, mut high) = (0.9_f64, 1.1_f64);
    for row in rows {
        let value = row.value;
        // An interval of few rounds may reach anywhere; the mark shows that it goes on.
        let interval = row.interval.map_or((value, value), |found| (found.low, found.high));
        low = low.min(interval.0.max(value * 0.8));
        high = high.max(interval.1.min(value * 1.25));
    }
    if high / low > LOGARITHMIC_FROM {
        Scale::logarithmic(low / 1.05, high * 1.05, from, to)
    } else {
        Scale::linear(low - 0.02, high + 0.02, from, to)
    }
}

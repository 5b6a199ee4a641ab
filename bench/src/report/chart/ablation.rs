//! What each technique buys: a server without it, divided by the same server with it.

use crate::analysis::measure::Measure;
use crate::analysis::verdict::{Claim, Ratio, Verdict};
use crate::report::chart::forest::mark;
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, Sketch, classes};
use crate::report::results::Results;
use crate::report::svg::{Anchor, Font, shortened, text_width};
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
        let rows: Vec<Ratio> = results.lesser(verdict, Measure::CpuPerRequest).collect();
        (!rows.is_empty()).then_some(Section { load: &scenario.about, verdict, rows })
    };
    let sections: Vec<Section<'_>> = scenarios.filter_map(section).collect();
    if sections.is_empty() {
        return Err("no server ran both with a technique and without it".to_owned());
    }
    Ok(Sketch {
        name: "ablation".to_owned(),
        title: "What does each technique buy?".to_owned(),
        reading: format!(
            "{} of a server without the technique, divided by that of the same server as it comes: dots are medians, \
             lines 95 % intervals. Right of 1, the technique pays. The band is what can’t be told from noise.",
            wording::capitalised(Measure::CpuPerRequest.label())
        ),
        scenario: None,
        draw: Box::new(move |canvas| draw(canvas, &sections)),
    })
}

fn draw(canvas: &mut Canvas<'_>, sections: &[Section<'_>]) {
    let (frame, results) = (canvas.frame, canvas.results);
    let rows = || sections.iter().flat_map(|section| &section.rows);
    let name_width = rows()
        .map(|row| text_width(results.label(&row.above), frame.label))
        .fold(0.0, f64::max)
        .min(frame.inner() * if frame.narrow { 0.44 } else { 0.36 });
    let bold = Font { bold: true, ..frame.label };
    let value_width = rows().map(|row| text_width(&text(row), bold)).fold(0.0, f64::max);
    let left = frame.margin + name_width + 12.0;
    let scale = scale(rows(), left, frame.width - frame.margin - value_width - 12.0);
    for section in sections {
        canvas.heading(section.load);
        let top = canvas.y + 4.0;
        let bottom = top + frame.row() * section.rows.len() as f64;
        let band = section.verdict.band(Measure::CpuPerRequest).interval();
        let (low, high) = (scale.at(band.low), scale.at(band.high));
        canvas.svg.rectangle((low, top), ((high - low).max(1.0), bottom - top), 0.0, "band");
        canvas.svg.line((scale.at(1.0), top), (scale.at(1.0), bottom), "axis");
        for (index, row) in section.rows.iter().enumerate() {
            let middle = top + frame.row() * (index as f64 + 0.5);
            let baseline = middle + frame.label.size * 0.35;
            let label = results.label(&row.above);
            canvas.svg.begin(&row.above, &format!("{label}: {}", wording::ratio(&row.estimate)));
            let name = shortened(label, frame.label, name_width);
            canvas.svg.text(left - 12.0, baseline, frame.label, Anchor::End, "ink", &name);
            mark(canvas, scale, &row.estimate, middle, &classes(results, &row.above));
            let differs = row.claim == Claim::Difference;
            let (font, class) = if differs { (bold, "ink") } else { (frame.label, "muted") };
            canvas.svg.text(frame.width - frame.margin, baseline, font, Anchor::End, class, &text(row));
            canvas.svg.end();
        }
        canvas.y = bottom;
        ticks(canvas, scale, bottom);
        canvas.y += 8.0;
    }
}

fn text(row: &Ratio) -> String {
    format!("{}×", wording::factor(row.estimate.value))
}

/// One scale for all sections; 1 is on it.
fn scale<'a>(rows: impl Iterator<Item = &'a Ratio>, from: f64, to: f64) -> Scale {
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

fn ticks(canvas: &mut Canvas<'_>, scale: Scale, bottom: f64) {
    let font = canvas.frame.axis;
    canvas.y = bottom + font.size * 1.4;
    let mut free_from = 0.0;
    for tick in scale.ticks(if canvas.frame.narrow { 3 } else { 6 }, 1.0) {
        let x = scale.at(tick);
        canvas.svg.line((x, bottom), (x, bottom + 5.0), "axis");
        let text = format!("{}×", wording::factor(tick));
        let half = text_width(&text, font) / 2.0;
        if x - half > free_from && x + half < canvas.frame.width - canvas.frame.margin * 0.5 {
            canvas.svg.text(x, canvas.y, font, Anchor::Middle, "muted", &text);
            free_from = x + half + 6.0;
        }
    }
}

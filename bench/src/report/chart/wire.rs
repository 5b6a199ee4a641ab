//! What a server's answers cost it, beside what they put on the wire.

use crate::analysis::figures::TrafficSummary;
use crate::analysis::measure::Measure;
use crate::analysis::stats::Estimate;
use crate::analysis::verdict::Verdict;
use crate::load::coding::Coding;
use crate::report::chart::forest::{background, notes};
use crate::report::chart::rows::{self, Columns, Row};
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, Sketch, axis, classes, plot};
use crate::report::results::Results;
use crate::report::svg::{Anchor, Font, shortened, text_width};
use crate::report::wording;
use crate::run::scenario::Scenario;

/// What bytes on the wire are, from the left to the right of a bar: first what is the same for all servers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Pictures,
    Text(Coding),
    Heads,
}

const PARTS: [Part; 7] = [
    Part::Pictures,
    Part::Text(Coding::Zstd),
    Part::Text(Coding::Br),
    Part::Text(Coding::Gzip),
    Part::Text(Coding::Deflate),
    Part::Text(Coding::Identity),
    Part::Heads,
];

impl Part {
    const fn class(self) -> &'static str {
        match self {
            Part::Pictures => "rest",
            Part::Text(Coding::Zstd) => "system",
            Part::Text(Coding::Br) => "user",
            Part::Text(Coding::Gzip) => "file",
            Part::Text(Coding::Deflate) => "ring",
            Part::Text(Coding::Identity) => "send",
            Part::Heads => "wait",
        }
    }

    fn label(self) -> String {
        match self {
            Part::Pictures => "pictures, fonts".to_owned(),
            Part::Text(Coding::Identity) => "text as it is".to_owned(),
            Part::Text(coding) => format!("text as {coding}"),
            Part::Heads => "heads".to_owned(),
        }
    }

    fn bytes(self, traffic: &TrafficSummary) -> f64 {
        match self {
            Part::Pictures => traffic.picture_bytes,
            Part::Text(coding) => traffic.text_bytes.get(&coding).copied().unwrap_or(0.0),
            Part::Heads => traffic.head_bytes,
        }
    }
}

/// A server, by both measures.
struct Bar<'a> {
    target: &'a str,
    cost: Estimate,
    traffic: &'a TrafficSummary,
}

pub(crate) fn beside_cost<'a>(
    results: &'a Results<'a>,
    scenario: &'a Scenario,
) -> Result<Sketch<'a>, String> {
    let verdict = results.main_cell(scenario).ok_or("no trial counts")?;
    let mut bars: Vec<Bar<'_>> = verdict
        .targets
        .iter()
        .filter_map(|figures| {
            let cost = figures.estimate(verdict.measure)?;
            Some(Bar { target: &figures.target, cost, traffic: figures.traffic.as_ref()? })
        })
        .collect();
    if bars.is_empty() {
        return Err(results.unmeasured(verdict.measure));
    }
    bars.sort_by(|one, other| one.cost.value.total_cmp(&other.cost.value));
    let reading = format!(
        "{} Shown is {}, dots are medians of {} rounds, lines 95 % intervals; and what an answer puts on the wire, \
         304s among them. Less is better in both.",
        scenario.about,
        verdict.measure.label(),
        verdict.rounds
    );
    Ok(Sketch::of_scenario(scenario, reading, move |canvas| draw(canvas, verdict, &bars)))
}

const COST: &str = "CPU time per request";
const WIRE: &str = "Bytes on the wire per answer";

fn draw(canvas: &mut Canvas<'_>, verdict: &Verdict, bars: &[Bar<'_>]) {
    let (frame, results) = (canvas.frame, canvas.results);
    let rows: Vec<Row<'_>> = bars.iter().map(|bar| row(results, verdict, bar)).collect();
    let bold = Font { bold: true, ..frame.label };
    let gap = frame.margin;
    let costs: Vec<f64> = bars.iter().map(|bar| bar.cost.value).collect();
    if frame.narrow {
        canvas.heading(COST);
        let columns = Columns::of(canvas, rows.iter(), 0.46);
        let top = canvas.y + frame.axis.size * 1.5;
        costs_of(canvas, verdict, &rows, &costs, &columns, top);
        canvas.heading(WIRE);
        legend(canvas, bars, frame.margin, frame.width - frame.margin);
        let names = Columns::of(canvas, rows.iter(), 0.46);
        let top = canvas.y + 4.0;
        let font = |is_bold| Font { bold: is_bold, ..frame.label };
        for (index, row) in rows.iter().enumerate() {
            let baseline = top + frame.row() * (index as f64 + 0.5) + frame.label.size * 0.35;
            let name = shortened(
                results.label(row.target),
                font(row.is_name_bold),
                names.left - frame.margin - 12.0,
            );
            canvas.svg.text(names.left - 12.0, baseline, font(row.is_name_bold), Anchor::End, "ink", &name);
        }
        let below = wire_of(canvas, bars, names.left, top);
        canvas.y = below;
    } else {
        let middle = frame.margin + frame.inner() * 0.6;
        let columns = Columns::within(canvas, rows.iter(), 0.26, middle);
        canvas.y += frame.label.size;
        let heading = canvas.y;
        canvas.svg.text(columns.left, heading, bold, Anchor::Start, "ink", COST);
        canvas.svg.text(middle + gap, heading, bold, Anchor::Start, "ink", WIRE);
        canvas.y += 6.0;
        legend(canvas, bars, middle + gap, frame.width - frame.margin);
        let top = canvas.y + frame.axis.size * 1.7;
        let after_costs = costs_of(canvas, verdict, &rows, &costs, &columns, top);
        let after_wire = wire_of(canvas, bars, middle + gap, top);
        canvas.y = after_costs.max(after_wire);
    }
    let ranked: Vec<(&str, Estimate)> = bars.iter().map(|bar| (bar.target, bar.cost)).collect();
    let notes = notes(results, verdict, &ranked);
    if !notes.is_empty() {
        canvas.y += 4.0;
        canvas.paragraph(&notes.join(" "), frame.axis, "muted");
    }
}

fn row<'a>(results: &Results<'_>, verdict: &Verdict, bar: &Bar<'a>) -> Row<'a> {
    let is_main = classes(results, bar.target).ends_with("main");
    let text = wording::spoken(verdict.measure, bar.cost.value);
    let is_ranked =
        verdict.figures(bar.target).is_some_and(|figures| figures.unranked(verdict.measure).is_none());
    Row {
        target: bar.target,
        estimate: bar.cost,
        number: if is_ranked { text } else { format!("({text})") },
        tip: format!(
            "{}: {}",
            results.label(bar.target),
            wording::value_with_interval(verdict.measure, &bar.cost)
        ),
        is_name_bold: is_main,
        is_number_bold: is_main,
        number_class: "ink",
    }
}

/// Names, dots, intervals and numbers; returns where they end.
fn costs_of(
    canvas: &mut Canvas<'_>,
    verdict: &Verdict,
    rows: &[Row<'_>],
    costs: &[f64],
    columns: &Columns,
    top: f64,
) -> f64 {
    let measure: Measure = verdict.measure;
    let scale = Scale::of(costs, columns.left, columns.right);
    let bottom = top + rows::height(canvas, rows.len());
    background(canvas, verdict, scale, (top, bottom));
    rows::draw(canvas, rows, columns, scale, top);
    axis::below_rows(canvas, scale, plot::unit(measure), |tick| plot::tick(measure, tick), bottom);
    canvas.y
}

/// What the colours of the bars mean, as far as they occur.
fn legend(canvas: &mut Canvas<'_>, bars: &[Bar<'_>], left: f64, right: f64) {
    let font = canvas.frame.axis;
    let side = font.size * 0.8;
    let (mut x, mut baseline) = (left, canvas.y + font.size * 1.3);
    let occurs = |part: &&Part| bars.iter().any(|bar| part.bytes(bar.traffic) > 0.0);
    for part in PARTS.iter().filter(occurs) {
        let label = part.label();
        let width = side + 5.0 + text_width(&label, font);
        if x + width > right && x > left {
            (x, baseline) = (left, baseline + font.size * 1.4);
        }
        canvas.svg.rectangle((x, baseline - side), (side, side), 2.0, part.class());
        canvas.svg.text(x + side + 5.0, baseline, font, Anchor::Start, "muted", &label);
        x += width + 14.0;
    }
    canvas.y = baseline + font.size * 0.4;
}

/// Bars and their numbers; returns where they end.
fn wire_of(canvas: &mut Canvas<'_>, bars: &[Bar<'_>], left: f64, top: f64) -> f64 {
    let (frame, results) = (canvas.frame, canvas.results);
    let total = |bar: &Bar<'_>| PARTS.iter().map(|part| part.bytes(bar.traffic)).sum::<f64>();
    let bold = Font { bold: true, ..frame.label };
    let numbers: Vec<String> = bars.iter().map(|bar| wording::size(total(bar))).collect();
    let number_width = numbers.iter().map(|number| text_width(number, bold)).fold(0.0, f64::max);
    let right = frame.width - frame.margin - number_width - 12.0;
    let largest = bars.iter().map(total).fold(f64::MIN_POSITIVE, f64::max);
    let scale = Scale::linear(0.0, largest, left, right);
    let thickness = frame.row() * 0.58;
    for (index, (bar, number)) in bars.iter().zip(&numbers).enumerate() {
        let middle = top + frame.row() * (index as f64 + 0.5);
        canvas.svg.begin(bar.target, &tip(results.label(bar.target), number, bar.traffic));
        let mut sum = 0.0;
        for part in PARTS {
            let bytes = part.bytes(bar.traffic);
            if bytes > 0.0 {
                let (from, to) = (scale.at(sum), scale.at(sum + bytes));
                canvas.svg.rectangle(
                    (from, middle - thickness / 2.0),
                    (to - from, thickness),
                    0.0,
                    part.class(),
                );
                sum += bytes;
            }
        }
        let font = Font { bold: classes(results, bar.target).ends_with("main"), ..frame.label };
        let baseline = middle + frame.label.size * 0.35;
        canvas.svg.text(frame.width - frame.margin, baseline, font, Anchor::End, "ink", number);
        canvas.svg.end();
    }
    let bottom = top + rows::height(canvas, bars.len());
    axis::below_rows(canvas, scale, 1_024.0, plot::bytes, bottom);
    canvas.y
}

fn tip(label: &str, number: &str, traffic: &TrafficSummary) -> String {
    let parts = PARTS.iter().filter(|part| part.bytes(traffic) > 0.0);
    let parts: Vec<String> =
        parts.map(|part| format!("{} {}", part.label(), wording::size(part.bytes(traffic)))).collect();
    let share = traffic.not_modified_share * 100.0;
    format!("{label}: {number} per answer\n{}\n{share:.0} % of the answers are 304", parts.join(", "))
}

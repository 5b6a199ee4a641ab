//! Rows of a chart: a name, a dot with its interval, a number.

use crate::analysis::stats::Estimate;
use crate::report::still::scale::Scale;
use crate::report::still::{BOLD, Canvas, INNER, LABEL, MARGIN, ROW, WIDTH, classes};
use crate::report::svg::{Anchor, shortened, text_width};

pub(crate) struct Row<'a> {
    pub(crate) target: &'a str,
    pub(crate) estimate: Estimate,
    /// The number at the right.
    pub(crate) number: String,
    /// What a reader sees who points at it.
    pub(crate) tip: String,
    /// Whether the number is bold and black, or plain and grey.
    pub(crate) is_number_bold: bool,
}

/// Where names end and marks begin and end.
pub(crate) struct Columns {
    name_width: f64,
    pub(crate) left: f64,
    pub(crate) right: f64,
}

impl Columns {
    /// For these rows. Names take at most this share of the width.
    pub(super) fn of<'a>(
        canvas: &Canvas<'_>,
        rows: impl Iterator<Item = &'a Row<'a>> + Clone,
        share: f64,
    ) -> Columns {
        let name = |row: &Row<'_>| text_width(&canvas.results.name(row.target), LABEL);
        let name_width = rows.clone().map(name).fold(0.0, f64::max).min(INNER * share);
        let number_width = rows.map(|row| text_width(&row.number, BOLD)).fold(0.0, f64::max);
        Columns { name_width, left: MARGIN + name_width + 12.0, right: WIDTH - MARGIN - number_width - 12.0 }
    }
}

/// The height of this many rows.
pub(crate) fn height(count: usize) -> f64 {
    ROW * count as f64
}

pub(super) fn draw(canvas: &mut Canvas<'_>, rows: &[Row<'_>], columns: &Columns, scale: Scale, top: f64) {
    for (index, row) in rows.iter().enumerate() {
        let middle = top + ROW * (index as f64 + 0.5);
        let baseline = middle + LABEL.size * 0.35;
        canvas.svg.begin(row.target, &row.tip);
        let name = shortened(&canvas.results.name(row.target), LABEL, columns.name_width);
        canvas.svg.text(columns.left - 12.0, baseline, LABEL, Anchor::End, "ink", &name);
        mark(canvas, scale, &row.estimate, middle, &classes(canvas.results, row.target));
        let (font, class) = if row.is_number_bold { (BOLD, "ink") } else { (LABEL, "muted") };
        canvas.svg.text(WIDTH - MARGIN, baseline, font, Anchor::End, class, &row.number);
        canvas.svg.end();
    }
}

const DOT: f64 = 5.5;

/// The dot with its interval. An interval that goes on beyond the scale ends in an arrow.
fn mark(canvas: &mut Canvas<'_>, scale: Scale, estimate: &Estimate, middle: f64, class: &str) {
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

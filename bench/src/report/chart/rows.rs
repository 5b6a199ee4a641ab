//! Rows of a chart: a name, a dot with its interval, a number.

use crate::analysis::stats::Estimate;
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, classes};
use crate::report::svg::{Anchor, Font, shortened, text_width};

pub(crate) struct Row<'a> {
    pub(crate) target: &'a str,
    pub(crate) estimate: Estimate,
    /// The number at the right.
    pub(crate) number: String,
    /// What a reader sees who points at it.
    pub(crate) tip: String,
    pub(crate) is_name_bold: bool,
    /// Whether the number is bold and black, or plain and grey.
    pub(crate) is_number_bold: bool,
    pub(crate) number_class: &'static str,
}

/// Where names end and marks begin and end.
pub(crate) struct Columns {
    name_width: f64,
    pub(crate) left: f64,
    pub(crate) right: f64,
    /// Where numbers end.
    end: f64,
}

impl Columns {
    /// For these rows. Names take at most this share of the width.
    pub(crate) fn of<'a>(
        canvas: &Canvas<'_>,
        rows: impl Iterator<Item = &'a Row<'a>> + Clone,
        share: f64,
    ) -> Columns {
        Columns::within(canvas, rows, share, canvas.frame.width - canvas.frame.margin)
    }

    /// The same where something else stands right of `end`.
    pub(crate) fn within<'a>(
        canvas: &Canvas<'_>,
        rows: impl Iterator<Item = &'a Row<'a>> + Clone,
        share: f64,
        end: f64,
    ) -> Columns {
        let frame = canvas.frame;
        let bold = Font { bold: true, ..frame.label };
        let name = |row: &Row<'_>| {
            let font = if rows.clone().any(|row| row.is_name_bold) { bold } else { frame.label };
            text_width(canvas.results.label(row.target), font)
        };
        let name_width = rows.clone().map(name).fold(0.0, f64::max).min(frame.inner() * share);
        let number_width = rows.clone().map(|row| text_width(&row.number, bold)).fold(0.0, f64::max);
        Columns { name_width, left: frame.margin + name_width + 12.0, right: end - number_width - 12.0, end }
    }
}

/// The height of this many rows.
pub(crate) fn height(canvas: &Canvas<'_>, count: usize) -> f64 {
    canvas.frame.row() * count as f64
}

pub(crate) fn draw(canvas: &mut Canvas<'_>, rows: &[Row<'_>], columns: &Columns, scale: Scale, top: f64) {
    let (frame, results) = (canvas.frame, canvas.results);
    let font = |bold| Font { bold, ..frame.label };
    for (index, row) in rows.iter().enumerate() {
        let middle = top + frame.row() * (index as f64 + 0.5);
        let baseline = middle + frame.label.size * 0.35;
        canvas.svg.begin(row.target, &row.tip);
        let name = shortened(results.label(row.target), font(row.is_name_bold), columns.name_width);
        let (x, name_font) = (columns.left - 12.0, font(row.is_name_bold));
        canvas.svg.text(x, baseline, name_font, Anchor::End, "ink", &name);
        mark(canvas, scale, &row.estimate, middle, &classes(results, row.target));
        let number_font = font(row.is_number_bold);
        canvas.svg.text(columns.end, baseline, number_font, Anchor::End, row.number_class, &row.number);
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

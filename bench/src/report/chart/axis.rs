//! Axes: rules at round numbers, the numbers, and the axis's name.

use crate::report::chart::Canvas;
use crate::report::chart::scale::Scale;
use crate::report::svg::{Anchor, text_width};

/// A value on an axis, and its text.
pub(crate) type Tick = (f64, String);

/// Where a plot begins that has these numbers at its left.
pub(crate) fn left_of_plot(canvas: &Canvas<'_>, ticks: &[Tick]) -> f64 {
    let frame = canvas.frame;
    let widest = ticks.iter().map(|(_, text)| text_width(text, frame.axis)).fold(0.0, f64::max);
    frame.margin + widest + 8.0
}

/// Rules across a plot, each with its number at the left.
pub(crate) fn rules(canvas: &mut Canvas<'_>, y: Scale, ticks: &[Tick], (left, right): (f64, f64)) {
    let font = canvas.frame.axis;
    for (tick, text) in ticks {
        let place = y.at(*tick);
        canvas.svg.line((left, place), (right, place), "rule");
        canvas.svg.text(left - 8.0, place + font.size * 0.35, font, Anchor::End, "muted", text);
    }
}

/// The x axis of a plot and its name. Numbers are drawn from the right, so that the far end keeps its own: it is
/// what most lines are about.
pub(crate) fn below_plot(
    canvas: &mut Canvas<'_>,
    x: Scale,
    ticks: &[Tick],
    name: &str,
    (left, right): (f64, f64),
    bottom: f64,
) {
    let frame = canvas.frame;
    canvas.svg.line((left, bottom), (right, bottom), "axis");
    let base = bottom + frame.axis.size * 1.5;
    let mut free_to = f64::INFINITY;
    for (value, text) in ticks.iter().rev() {
        let place = x.at(*value);
        canvas.svg.line((place, bottom), (place, bottom + 5.0), "axis");
        let half = text_width(text, frame.axis) / 2.0;
        if place + half < free_to.min(frame.width) && place - half > 0.0 {
            canvas.svg.text(place, base, frame.axis, Anchor::Middle, "muted", text);
            free_to = place - half - 5.0;
        }
    }
    let name_y = base + frame.axis.size * 1.4;
    let half = text_width(name, frame.axis) / 2.0;
    let middle = f64::midpoint(left, right).max(frame.margin + half);
    canvas.svg.text(middle, name_y, frame.axis, Anchor::Middle, "muted", name);
    canvas.y = name_y + 4.0;
}

/// Numbers below rows of marks, as many as fit.
pub(crate) fn below_rows(
    canvas: &mut Canvas<'_>,
    scale: Scale,
    unit: f64,
    text: impl Fn(f64) -> String,
    bottom: f64,
) {
    let font = canvas.frame.axis;
    canvas.y = bottom + font.size * 1.4;
    let mut free_from = 0.0;
    for tick in scale.ticks(if canvas.frame.narrow { 3 } else { 6 }, unit) {
        let x = scale.at(tick);
        canvas.svg.line((x, bottom), (x, bottom + 5.0), "axis");
        let text = text(tick);
        let half = text_width(&text, font) / 2.0;
        if x - half > free_from && x + half < canvas.frame.width - canvas.frame.margin * 0.5 {
            canvas.svg.text(x, canvas.y, font, Anchor::Middle, "muted", &text);
            free_from = x + half + 6.0;
        }
    }
}

//! Axes: rules at round numbers, the numbers, and the axis's name.

use crate::report::still::scale::Scale;
use crate::report::still::{AXIS, Canvas, MARGIN, WIDTH};
use crate::report::svg::{Anchor, text_width};

/// A value on an axis, and its text.
pub(crate) type Tick = (f64, String);

/// Where a plot begins that has these numbers at its left.
pub(crate) fn left_of_plot(ticks: &[Tick]) -> f64 {
    let widest = ticks.iter().map(|(_, text)| text_width(text, AXIS)).fold(0.0, f64::max);
    MARGIN + widest + 8.0
}

/// Rules across a plot, each with its number at the left.
pub(super) fn rules(canvas: &mut Canvas<'_>, y: Scale, ticks: &[Tick], (left, right): (f64, f64)) {
    for (tick, text) in ticks {
        let place = y.at(*tick);
        canvas.svg.line((left, place), (right, place), "rule");
        canvas.svg.text(left - 8.0, place + AXIS.size * 0.35, AXIS, Anchor::End, "muted", text);
    }
}

/// The x axis of a plot, and its name below.
pub(super) fn below_plot(
    canvas: &mut Canvas<'_>,
    x: Scale,
    ticks: &[Tick],
    name: &str,
    (left, right): (f64, f64),
    bottom: f64,
) {
    canvas.svg.line((left, bottom), (right, bottom), "axis");
    numbers(canvas, x, ticks, bottom);
    let middle = f64::midpoint(left, right);
    canvas.y += AXIS.size * 1.5;
    canvas.svg.text(middle, canvas.y, AXIS, Anchor::Middle, "muted", name);
}

/// Numbers below an axis, as many as fit.
pub(super) fn numbers(canvas: &mut Canvas<'_>, scale: Scale, ticks: &[Tick], bottom: f64) {
    canvas.y = bottom + AXIS.size * 1.4;
    let mut free_from = 0.0;
    for (tick, text) in ticks {
        let x = scale.at(*tick);
        canvas.svg.line((x, bottom), (x, bottom + 5.0), "axis");
        let half = text_width(text, AXIS) / 2.0;
        if x - half > free_from && x + half < WIDTH - MARGIN * 0.5 {
            canvas.svg.text(x, canvas.y, AXIS, Anchor::Middle, "muted", text);
            free_from = x + half + 6.0;
        }
    }
}

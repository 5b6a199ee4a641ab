//! Lines over two axes, each named at its end.

use crate::analysis::measure::Measure;
use crate::report::chart::axis::{self, Tick};
use crate::report::chart::labels::spread;
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, classes};
use crate::report::svg::{Anchor, Font, shortened, text_width};
use crate::report::wording;

pub(crate) struct Series {
    pub(crate) target: String,
    pub(crate) value: String,
    /// What a reader sees who points at it.
    pub(crate) tip: String,
    pub(crate) points: Vec<(f64, f64)>,
}

pub(crate) struct Plot {
    /// Lines, in the order in which they are drawn: the last lies on top.
    pub(crate) series: Vec<Series>,
    pub(crate) x_name: String,
    pub(crate) x_ticks: Vec<Tick>,
    /// From the least to the largest x, and whether equal steps are equal ratios.
    pub(crate) x_range: (f64, f64, bool),
    /// How a number on the y axis is written.
    pub(crate) y_label: Box<dyn Fn(f64) -> String>,
    /// The unit in which numbers on the y axis should be round.
    pub(crate) y_unit: f64,
    /// How high it is on a wide page.
    pub(crate) height: f64,
}

impl Plot {
    pub(crate) fn draw(&self, canvas: &mut Canvas<'_>) {
        let frame = canvas.frame;
        let bold = Font { bold: true, ..frame.label };
        let names: Vec<(String, f64)> = self
            .series
            .iter()
            .map(|series| {
                let label = canvas.results.label(&series.target);
                let room = frame.inner() * if frame.narrow { 0.5 } else { 0.44 };
                // Half a number would be a wrong one: where both don't fit, the name stands alone.
                let with_value = format!("{label} {}", series.value);
                let fits = !series.value.is_empty() && text_width(&with_value, bold) <= room;
                let text = if fits { with_value } else { shortened(label, bold, room) };
                let width = text_width(&text, bold);
                (text, width)
            })
            .collect();
        let names_width = names.iter().map(|(_, width)| *width).fold(0.0, f64::max);
        let values: Vec<f64> =
            self.series.iter().flat_map(|series| series.points.iter().map(|(_, y)| *y)).collect();
        let gap = frame.label.size * 1.12;
        let height =
            self.height.max(gap * (self.series.len() + 1) as f64) * if frame.narrow { 0.86 } else { 1.0 };
        let height = height.max(gap * (self.series.len() + 1) as f64);
        let (top, bottom) = (canvas.y + 8.0, canvas.y + 8.0 + height);
        let y = Scale::of(&values, bottom, top);
        let tick_texts: Vec<Tick> = y
            .ticks(if frame.narrow { 5 } else { 7 }, self.y_unit)
            .into_iter()
            .map(|tick| (tick, (self.y_label)(tick)))
            .collect();
        let left = axis::left_of_plot(canvas, &tick_texts);
        let right = frame.width - frame.margin - names_width - 22.0;
        axis::rules(canvas, y, &tick_texts, (left, right));
        let x = self.x_scale(left + 6.0, right - 4.0);
        axis::below_plot(canvas, x, &self.x_ticks, &self.x_name, (left, right), bottom);
        self.lines(canvas, x, y, &names, (top, bottom, right));
    }

    fn x_scale(&self, from: f64, to: f64) -> Scale {
        let (low, high, logarithmic) = self.x_range;
        if logarithmic { Scale::logarithmic(low, high, from, to) } else { Scale::linear(low, high, from, to) }
    }

    fn lines(
        &self,
        canvas: &mut Canvas<'_>,
        x: Scale,
        y: Scale,
        names: &[(String, f64)],
        (top, bottom, right): (f64, f64, f64),
    ) {
        let frame = canvas.frame;
        let ends: Vec<f64> = self
            .series
            .iter()
            .map(|series| series.points.last().map_or(bottom, |(_, value)| y.at(*value)))
            .collect();
        let places = spread(&ends, frame.label.size * 1.12, top, bottom - 2.0);
        for (index, series) in self.series.iter().enumerate() {
            let class = classes(canvas.results, &series.target);
            let points: Vec<(f64, f64)> =
                series.points.iter().map(|(across, up)| (x.at(*across), y.at(*up))).collect();
            canvas.svg.begin(&series.target, &series.tip);
            canvas.svg.polyline(&points, &format!("line {class}"));
            if points.len() <= 12 {
                let radius = if class.ends_with("main") { 4.0 } else { 2.6 };
                for point in &points {
                    canvas.svg.circle(*point, radius, &format!("dot {class}"));
                }
            }
            if let Some((end_x, end_y)) = points.last() {
                let place = places[index];
                let leader = [
                    (end_x + 5.0, *end_y),
                    (right + 4.0, *end_y),
                    (right + 14.0, place),
                    (right + 18.0, place),
                ];
                canvas.svg.polyline(&leader, "leader");
            }
            let font = Font { bold: class.ends_with("main"), ..frame.label };
            let baseline = places[index] + frame.label.size * 0.35;
            canvas.svg.text(right + 22.0, baseline, font, Anchor::Start, "ink", &names[index].0);
            canvas.svg.end();
        }
    }
}

/// The unit in which numbers on an axis of a measure should be round.
pub(crate) fn unit(measure: Measure) -> f64 {
    match measure {
        Measure::CpuPerRequest | Measure::P50 | Measure::P99 | Measure::P999 => 1_000.0,
        Measure::Rate => 1.0,
        Measure::MemoryPerConnection => 1_024.0,
    }
}

/// A number on an axis of a measure: no more digits than it needs.
pub(crate) fn tick(measure: Measure, value: f64) -> String {
    match measure {
        Measure::CpuPerRequest | Measure::P50 | Measure::P99 | Measure::P999 => time(value),
        Measure::Rate => wording::thousands(value),
        Measure::MemoryPerConnection => bytes(value),
    }
}

/// A round duration in nanoseconds.
pub(crate) fn time(nanoseconds: f64) -> String {
    if nanoseconds < 999.5 {
        return if nanoseconds == 0.0 { "0".to_owned() } else { format!("{}\u{a0}ns", short(nanoseconds)) };
    }
    let (unit, name) = match nanoseconds {
        micro if micro < 999_500.0 => (1e3, "µs"),
        milli if milli < 999_500_000.0 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    format!("{}\u{a0}{name}", short(nanoseconds / unit))
}

pub(crate) fn bytes(value: f64) -> String {
    let (unit, name) = match value {
        0.0 => return "0".to_owned(),
        plain if plain < 1_024.0 => (1.0, "B"),
        kilo if kilo < 1_048_576.0 => (1_024.0, "KiB"),
        mega if mega < 1_073_741_824.0 => (1_048_576.0, "MiB"),
        _ => (1_073_741_824.0, "GiB"),
    };
    format!("{}\u{a0}{name}", short(value / unit))
}

/// At most two significant digits behind the point, and no zeros at the end.
pub(crate) fn short(value: f64) -> String {
    let decimals = if value < 0.995 {
        2
    } else if value < 9.95 {
        1
    } else {
        0
    };
    let text = format!("{value:.decimals$}");
    if decimals == 0 {
        return wording::thousands(value);
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

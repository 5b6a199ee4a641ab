//! All servers by cost and by tail latency, as dots with their names.

use crate::analysis::reading::Reading;
use crate::report::overview::NOTHING;
use crate::report::results::Results;
use crate::report::still::axis::{self, Tick};
use crate::report::still::labels::Area;
use crate::report::still::scale::Scale;
use crate::report::still::{AXIS, BOLD, Canvas, Heading, LABEL, MARGIN, WIDTH, classes};
use crate::report::svg::{Anchor, text_width};
use crate::report::wording;

pub(crate) struct Dot {
    pub(crate) target: String,
    pub(crate) cost: Reading,
    pub(crate) tail: Reading,
    place: (f64, f64),
}

impl Dot {
    /// `None` if one of both wasn't measured.
    pub(crate) fn new(target: &str, cost: Reading, tail: Reading) -> Option<Dot> {
        let place = (cost.place()?.value, tail.place()?.value);
        Some(Dot { target: target.to_owned(), cost, tail, place })
    }

    /// Cost and tail, in nanoseconds.
    pub(crate) fn place(&self) -> (f64, f64) {
        self.place
    }

    /// What is too noisy is drawn as a ring, and named as such.
    pub(crate) fn is_too_noisy(&self) -> bool {
        self.cost.is_too_noisy() || self.tail.is_too_noisy()
    }
}

const HEIGHT: f64 = 520.0;
const RADIUS: f64 = 7.0;

pub(crate) fn draw(results: &Results<'_>, heading: Heading<'_>, dots: &[Dot]) -> String {
    super::picture(results, heading, |canvas| plot(canvas, dots))
}

/// The ends of an axis: `room` is how many times further than all values it goes on.
fn ends(values: impl Iterator<Item = f64>, room: f64) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    (low / room, high * room)
}

fn plot(canvas: &mut Canvas<'_>, dots: &[Dot]) {
    let (low, high) = ends(dots.iter().map(|dot| dot.place.1), 2.0); // for names above and below, too
    canvas.y += AXIS.size;
    canvas.svg.text(MARGIN, canvas.y, AXIS, Anchor::Start, "muted", "p99 latency");
    canvas.y += 8.0;
    let (top, bottom) = (canvas.y, canvas.y + HEIGHT);
    let y = Scale::logarithmic(low, high, bottom, top);
    let ticks = |scale: Scale| -> Vec<Tick> {
        scale.ticks(8).into_iter().map(|tick| (tick, wording::round_duration(tick))).collect()
    };
    let left = axis::left_of_plot(&ticks(y));
    let right = WIDTH - MARGIN;
    let (low, high) = ends(dots.iter().map(|dot| dot.place.0), 1.35);
    let x = Scale::logarithmic(low, high, left, right);
    axis::rules(canvas, y, &ticks(y), (left, right));
    axis::below_plot(canvas, x, &ticks(x), "CPU time per request", (left, right), bottom);
    let page = Area { left: left + 2.0, top, width: right - left, height: HEIGHT - 2.0 };
    let below = canvas.y;
    dots_with_names(canvas, dots, (x, y), page);
    canvas.y = below;
}

fn dots_with_names(canvas: &mut Canvas<'_>, dots: &[Dot], (x, y): (Scale, Scale), page: Area) {
    let around = |dot: &Dot| Area {
        left: x.at(dot.place.0) - RADIUS - BESIDE,
        top: y.at(dot.place.1) - RADIUS - 1.0,
        width: 2.0 * (RADIUS + BESIDE),
        height: 2.0 * RADIUS + 2.0,
    };
    // Beside a dot there is only its own name, or it would be taken for it.
    let kept_free = |whose: &Dot| -> Vec<Area> {
        dots.iter().filter(|dot| dot.target != whose.target).map(around).collect()
    };
    let mut order: Vec<&Dot> = dots.iter().collect();
    // This project's names first: they get the best places.
    let is_main = |dot: &Dot| classes(canvas.results, &dot.target).ends_with("main");
    order.sort_by_key(|dot| !is_main(dot));
    // With the lines to them.
    let mut names: Vec<Area> = Vec::new();
    for dot in order {
        let taken = [kept_free(dot), names.clone()].concat();
        names.extend(dot_with_name(
            canvas,
            dot,
            (x.at(dot.place.0), y.at(dot.place.1)),
            &taken,
            &names,
            page,
        ));
    }
}

/// Returns what its name takes, with the line to it.
fn dot_with_name(
    canvas: &mut Canvas<'_>,
    dot: &Dot,
    centre: (f64, f64),
    taken: &[Area],
    names: &[Area],
    page: Area,
) -> Vec<Area> {
    let class = classes(canvas.results, &dot.target);
    let font = if class.ends_with("main") { BOLD } else { LABEL };
    let name = canvas.results.name(&dot.target);
    let tip = format!(
        "{name}: {} per request, p99 {}",
        dot.cost.text(NOTHING, wording::duration_with_interval),
        dot.tail.text(NOTHING, wording::duration_with_interval)
    );
    let (shown, kind) = if dot.is_too_noisy() {
        (format!("{name} (too noisy)"), "dot hollow")
    } else {
        (name, if canvas.results.is_variant(&dot.target) { "dot hollow" } else { "dot" })
    };
    canvas.svg.begin(&dot.target, &tip);
    canvas.svg.circle(centre, RADIUS, &format!("{class} {kind}"));
    let candidates = candidates(centre, text_width(&shown, font), font.size, RADIUS);
    let end = |area: Area| (centre.0.clamp(area.left, area.left + area.width), area.top + area.height * 0.5);
    let leader = |place: usize| {
        if place < NEAR { Vec::new() } else { beads(centre, end(candidates[place]), RADIUS) }
    };
    let free = || (0..candidates.len()).filter(|place| candidates[*place].is_free(taken, page));
    let crosses = |bead: &Area| names.iter().any(|name| name.overlaps(*bead));
    let clear = free().find(|place| !leader(*place).iter().any(crosses));
    let mut found = Vec::new();
    // Rather across another name than without its own.
    if let Some(place) = clear.or_else(|| free().next()) {
        let area = candidates[place];
        if place >= NEAR {
            canvas.svg.line(centre, end(area), "leader");
        }
        canvas.svg.text(area.left, area.top + font.size * 0.86, font, Anchor::Start, "ink", &shown);
        found.push(area);
        found.extend(leader(place));
    }
    canvas.svg.end();
    found
}

/// The distance that other dots' names keep from a dot, left and right.
const BESIDE: f64 = 8.0;

/// A line as small areas, from `start` away from its beginning: no name should lie on it.
fn beads(from: (f64, f64), to: (f64, f64), start: f64) -> Vec<Area> {
    const STEP: f64 = 3.0;
    let (across, down) = (to.0 - from.0, to.1 - from.1);
    let length = across.hypot(down);
    let steps = (0..).map(|step| start + f64::from(step) * STEP).take_while(|reach| *reach < length);
    let bead = |reach: f64| {
        let (x, y) = (from.0 + across * reach / length, from.1 + down * reach / length);
        Area { left: x - STEP / 2.0, top: y - STEP / 2.0, width: STEP, height: STEP }
    };
    steps.map(bead).collect()
}

/// The first candidates touch their dot and need no line to it.
const NEAR: usize = 4;

/// Right, left, above, below; then further and further away.
fn candidates((x, y): (f64, f64), width: f64, size: f64, radius: f64) -> Vec<Area> {
    let height = size * 1.12;
    let area = |left: f64, top: f64| Area { left, top, width, height };
    let away = radius + 4.0;
    let mut candidates = vec![
        area(x + away, y - height / 2.0),
        area(x - away - width, y - height / 2.0),
        area(x - width / 2.0, y - away - height),
        area(x - width / 2.0, y + away),
    ];
    for step in 1..=9 {
        let reach = f64::from(step) * height;
        for vertical in [-reach, reach] {
            for left in [x + away + 6.0, x - away - width - 6.0, x - width / 2.0] {
                candidates.push(area(left, y + vertical - height / 2.0));
            }
        }
    }
    candidates
}

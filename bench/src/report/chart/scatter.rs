//! All servers by cost and by tail latency.

use crate::analysis::measure::Measure;
use crate::analysis::verdict::Verdict;
use crate::report::chart::axis::{self, Tick};
use crate::report::chart::labels::Area;
use crate::report::chart::lines::drawing_order;
use crate::report::chart::plot;
use crate::report::chart::scale::Scale;
use crate::report::chart::{Canvas, Sketch, classes};
use crate::report::results::Results;
use crate::report::svg::{Anchor, Font, text_width};
use crate::report::wording;
use crate::server::built;

const COST: &str = "hot-small";
const TAIL: &str = "hot-under-cold";

struct Dot {
    target: String,
    cost: f64,
    tail: f64,
}

/// The cost of a small file against the tail beside a slow disk.
pub(crate) fn cost_and_tail<'a>(results: &'a Results<'a>) -> Result<Sketch<'a>, String> {
    let find = |name: &str| -> Result<&Verdict, String> {
        let found = results.verdicts.iter().find(|verdict| verdict.cell.scenario == name);
        found.ok_or_else(|| format!("{name} didn't run"))
    };
    let (cost, tail) = (find(COST)?, find(TAIL)?);
    let dots: Vec<Dot> = drawing_order(results)
        .into_iter()
        // The program's dot would lie on that of its backend.
        .filter(|target| target.id != built::NAME)
        .filter_map(|target| {
            Some(Dot {
                target: target.id.clone(),
                cost: results.estimate(cost, &target.id, Measure::CpuPerRequest)?.value,
                tail: results.estimate(tail, &target.id, Measure::P99)?.value,
            })
        })
        .collect();
    if dots.len() < 2 {
        return Err(format!("fewer than two targets ran in both {COST} and {TAIL}"));
    }
    Ok(Sketch::new(
        "cost-and-tail",
        "Which servers are cheap, and which stay fast beside a slow disk?",
        format!(
            "Across: server CPU time per request ({COST}). Up: p99 of cached files while others are read from a \
             slow disk ({TAIL}). Both scales are logarithmic; the best place is the lower left."
        ),
        move |canvas| draw(canvas, &dots),
    ))
}

/// The ends of an axis: `room` is how many times further than all values it goes on.
fn ends(values: impl Iterator<Item = f64>, room: f64) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    (low / room, high * room)
}

fn draw(canvas: &mut Canvas<'_>, dots: &[Dot]) {
    let frame = canvas.frame;
    let height = if frame.narrow { 400.0 } else { 520.0 };
    let (low, high) = ends(dots.iter().map(|dot| dot.tail), 2.0); // for names above and below, too
    let (top, bottom) = (canvas.y, canvas.y + height);
    let y = Scale::logarithmic(low, high, bottom, top);
    let ticks: Vec<Tick> = y.ticks(8, 1.0).into_iter().map(|tick| (tick, plot::time(tick))).collect();
    let left = axis::left_of_plot(canvas, &ticks);
    let right = frame.width - frame.margin;
    let (low, high) = ends(dots.iter().map(|dot| dot.cost), 1.35);
    let x = Scale::logarithmic(low, high, left, right);
    axis::rules(canvas, y, &ticks, (left, right));
    let ticks: Vec<Tick> = x.ticks(8, 1.0).into_iter().map(|tick| (tick, plot::time(tick))).collect();
    axis::below_plot(canvas, x, &ticks, "CPU time per request", (left, right), bottom);
    let below = canvas.y;
    let page = Area { left: left + 2.0, top, width: right - left, height: height - 2.0 };
    dots_with_names(canvas, dots, (x, y), page);
    canvas.y = below;
}

fn dots_with_names(canvas: &mut Canvas<'_>, dots: &[Dot], (x, y): (Scale, Scale), page: Area) {
    let frame = canvas.frame;
    let radius = if frame.narrow { 5.0 } else { 7.0 };
    let around = |dot: &Dot| Area {
        left: x.at(dot.cost) - radius - BESIDE,
        top: y.at(dot.tail) - radius - 1.0,
        width: 2.0 * (radius + BESIDE),
        height: 2.0 * radius + 2.0,
    };
    // Beside a dot there is only its own name, or it would be taken for it.
    let kept_free = |whose: &Dot| -> Vec<Area> {
        dots.iter().filter(|dot| dot.target != whose.target).map(around).collect()
    };
    // With the lines to them.
    let mut names: Vec<Area> = Vec::new();
    // This project's names first: they get the best places.
    for dot in dots.iter().rev() {
        let class = classes(canvas.results, &dot.target);
        let font = Font { bold: class.ends_with("main"), ..frame.label };
        let label = canvas.results.label(&dot.target);
        let centre = (x.at(dot.cost), y.at(dot.tail));
        let tip = format!(
            "{label}: {} per request, p99 {}",
            wording::duration(dot.cost),
            wording::duration(dot.tail)
        );
        canvas.svg.begin(&dot.target, &tip);
        let hollow = if canvas.results.is_variant(&dot.target) { " hollow" } else { "" };
        canvas.svg.circle(centre, radius, &format!("dot {class}{hollow}"));
        let candidates = candidates(centre, text_width(label, font), font.size, radius);
        let end =
            |area: Area| (centre.0.clamp(area.left, area.left + area.width), area.top + area.height * 0.5);
        let leader = |place: usize| {
            if place < NEAR { Vec::new() } else { beads(centre, end(candidates[place]), radius) }
        };
        let taken = [kept_free(dot), names.clone()].concat();
        let free = || (0..candidates.len()).filter(|place| candidates[*place].is_free(&taken, page));
        let crosses = |bead: &Area| names.iter().any(|name| name.overlaps(*bead));
        let clear = free().find(|place| !leader(*place).iter().any(crosses));
        // Rather across another name than without its own.
        if let Some(place) = clear.or_else(|| free().next()) {
            let area = candidates[place];
            if place >= NEAR {
                canvas.svg.line(centre, end(area), "leader");
            }
            canvas.svg.text(area.left, area.top + font.size * 0.86, font, Anchor::Start, "ink", label);
            names.push(area);
            names.extend(leader(place));
        }
        canvas.svg.end();
    }
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

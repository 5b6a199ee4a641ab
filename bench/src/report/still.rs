//! Pictures that are files: for a README, a poster, a page without scripts.
//!
//! Each model has one colour everywhere (Okabe and Ito's palette, safe for all colour vision), peers are grey, and rows
//! and dots are labelled directly. They are drawn here and not by a library of charts: none of those that were tried
//! places names beside dots so that they keep apart, or makes one file that is both light and dark.

pub(super) mod ablation;
pub(crate) mod axis;
pub(crate) mod labels;
pub(crate) mod rows;
pub(crate) mod scale;
pub(crate) mod scatter;

use crate::record::Family;
use crate::report::results::Results;
use crate::report::svg::{Anchor, Font, Svg, wrap};

const STYLE: &str = include_str!("../../assets/chart.css");
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 36.0;
const INNER: f64 = WIDTH - 2.0 * MARGIN;
const TITLE: Font = Font { size: 32.0, bold: true };
const LABEL: Font = Font { size: 16.0, bold: false };
const BOLD: Font = Font { bold: true, ..LABEL };
const AXIS: Font = Font { size: 14.0, bold: false };
const ROW: f64 = LABEL.size * 1.6;

/// A picture under construction: everything goes below what is there already.
struct Canvas<'a> {
    results: &'a Results<'a>,
    svg: Svg,
    y: f64,
}

impl Canvas<'_> {
    fn paragraph(&mut self, text: &str, font: Font, class: &str) {
        let text = text.replace('\'', "’").replace(" %", "\u{a0}%");
        for line in wrap(&text, font, INNER) {
            self.y += font.size * 1.32;
            self.svg.text(MARGIN, self.y, font, Anchor::Start, class, &line);
        }
    }

    fn heading(&mut self, text: &str) {
        self.y += LABEL.size;
        self.paragraph(text, Font { bold: true, size: LABEL.size * 1.1 }, "ink");
        self.y += 6.0;
    }
}

/// What stands above a picture.
#[derive(Clone, Copy)]
pub(crate) struct Heading<'a> {
    pub(crate) title: &'a str,
    pub(crate) answer: &'a str,
    pub(crate) reading: &'a str,
}

/// The whole file: the heading, what `draw` adds, and where it comes from.
fn picture(results: &Results<'_>, heading: Heading<'_>, draw: impl Fn(&mut Canvas<'_>)) -> String {
    let svg = Svg::new(WIDTH, heading.title, heading.answer, STYLE);
    let mut canvas = Canvas { results, svg, y: MARGIN * 0.5 };
    canvas.paragraph(heading.title, TITLE, "ink");
    canvas.y += 4.0;
    canvas.paragraph(heading.answer, BOLD, "ink");
    canvas.y += 4.0;
    canvas.paragraph(heading.reading, AXIS, "muted");
    canvas.y += 14.0;
    draw(&mut canvas);
    canvas.y += 10.0;
    canvas.paragraph(&origin(results), AXIS, "muted");
    let height = canvas.y + MARGIN * 0.8;
    canvas.svg.finish(height)
}

fn origin(results: &Results<'_>) -> String {
    let environment = &results.record.environment;
    let mut origin: Vec<String> = environment.cpu.model.iter().cloned().collect();
    if let Some(release) = environment.kernel.as_ref().and_then(|kernel| kernel.split(' ').next()) {
        origin.push(format!("Linux {release}"));
    }
    origin.push("one worker on one CPU, the client on another, loopback".to_owned());
    origin.push(results.record.started.split('T').next().unwrap_or_default().to_owned());
    origin.push(format!("Triptych, {}", results.source()));
    format!("{}.", origin.join("; "))
}

/// The classes of a target's marks: its colour, and what tells it from others of the same colour.
pub(crate) fn classes(results: &Results<'_>, id: &str) -> String {
    let class = results.class(id);
    let position = |family: Family| {
        let same = results.record.targets.iter().filter(move |target| target.family == family);
        same.map(|target| target.id.as_str()).position(|other| other == id).unwrap_or(0)
    };
    match results.target(id).map(|target| target.family) {
        Some(Family::Peer) => {
            let index = position(Family::Peer);
            format!("{class} grey{} dash{}", index % 3, index % 4)
        }
        Some(Family::Null) => format!("{class} dash1"),
        _ if results.target(id).is_some_and(|target| target.twin_of.is_some()) => format!("{class} dash3"),
        _ if results.is_variant(id) => {
            format!("{class} dash{} variant", if id.contains("off") { 1 } else { 2 })
        }
        _ => format!("{class} main"),
    }
}

//! The charts: each asks a question in its title and answers it.
//!
//! Each chart is drawn twice, wide for a screen and narrow for a phone, because scaled-down text can't be
//! read. Each model has one colour everywhere (Okabe and Ito's palette, safe for all colour vision), peers
//! are grey, and lines and dots are labelled directly.

pub(crate) mod ablation;
pub(crate) mod anatomy;
pub(crate) mod axis;
pub(crate) mod forest;
pub(crate) mod labels;
pub(crate) mod lines;
pub(crate) mod memory;
pub(crate) mod plot;
pub(crate) mod rows;
pub(crate) mod scale;
pub(crate) mod scatter;
pub(crate) mod spectrum;
pub(crate) mod timeline;
pub(crate) mod trials;
pub(crate) mod wire;

use crate::record::Family;
use crate::report::results::Results;
use crate::report::svg::{Anchor, Font, Svg, wrap};
use crate::run::scenario::{self, Scenario};

#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) scenario: Option<String>,
    pub(crate) file: String,
    /// Wide, for a page that has [`STYLE`].
    pub(crate) wide: String,
    pub(crate) narrow: String,
}

impl Picture {
    /// The name of the file with the wide version.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.svg", self.name)
    }
}

/// The pictures of a run, and what couldn't be drawn, with the reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gallery {
    /// In the order of the scenarios, those of the whole run at the end.
    pub(crate) pictures: Vec<Picture>,
    pub(crate) undrawn: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) width: f64,
    pub(crate) margin: f64,
    pub(crate) title: Font,
    pub(crate) note: Font,
    pub(crate) label: Font,
    pub(crate) axis: Font,
    pub(crate) narrow: bool,
}

impl Frame {
    const WIDE: Frame = Frame {
        width: 960.0,
        margin: 36.0,
        title: Font { size: 32.0, bold: true },
        note: Font { size: 16.0, bold: false },
        label: Font { size: 16.0, bold: false },
        axis: Font { size: 14.0, bold: false },
        narrow: false,
    };
    const NARROW: Frame = Frame {
        width: 400.0,
        margin: 14.0,
        title: Font { size: 21.0, bold: true },
        note: Font { size: 13.0, bold: false },
        label: Font { size: 13.0, bold: false },
        axis: Font { size: 12.0, bold: false },
        narrow: true,
    };

    pub(crate) fn inner(self) -> f64 {
        self.width - 2.0 * self.margin
    }

    pub(crate) fn row(self) -> f64 {
        self.label.size * 1.6
    }
}

/// A picture under construction: everything goes below what is there already.
pub(crate) struct Canvas<'a> {
    pub(crate) results: &'a Results<'a>,
    pub(crate) frame: Frame,
    pub(crate) svg: Svg,
    pub(crate) y: f64,
}

impl Canvas<'_> {
    pub(crate) fn paragraph(&mut self, text: &str, font: Font, class: &str) {
        let text = text.replace('\'', "’").replace(" %", "\u{a0}%");
        for line in wrap(&text, font, self.frame.inner()) {
            self.y += font.size * 1.32;
            self.svg.text(self.frame.margin, self.y, font, Anchor::Start, class, &line);
        }
    }

    pub(crate) fn heading(&mut self, text: &str) {
        self.y += self.frame.label.size;
        let font = Font { bold: true, size: self.frame.label.size * 1.1 };
        self.paragraph(text, font, "ink");
        self.y += 6.0;
    }
}

/// What a picture is, before it is drawn in both widths.
pub(crate) struct Sketch<'a> {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) reading: String,
    pub(crate) scenario: Option<String>,
    /// Draws what stands between the reading and the footer.
    pub(crate) draw: Box<dyn Fn(&mut Canvas<'_>) + 'a>,
}

impl<'a> Sketch<'a> {
    /// A picture of the whole run.
    fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        reading: impl Into<String>,
        draw: impl Fn(&mut Canvas<'_>) + 'a,
    ) -> Sketch<'a> {
        let (name, title, reading) = (name.into(), title.into(), reading.into());
        Sketch { name, title, reading, scenario: None, draw: Box::new(draw) }
    }

    /// A picture that belongs to a scenario.
    fn within(mut self, scenario: &Scenario) -> Sketch<'a> {
        self.scenario = Some(scenario.name.clone());
        self
    }

    /// The main picture of a scenario.
    fn of_scenario(
        scenario: &Scenario,
        reading: impl Into<String>,
        draw: impl Fn(&mut Canvas<'_>) + 'a,
    ) -> Sketch<'a> {
        Sketch::new(&scenario.name, &scenario.question, reading, draw).within(scenario)
    }

    fn picture(&self, results: &Results<'_>) -> Picture {
        let canvas = |frame: Frame| {
            let svg = Svg::new(frame.width, &self.title, &self.reading, STYLE);
            let mut canvas = Canvas { results, frame, svg, y: frame.margin * 0.5 };
            canvas.paragraph(&self.title, frame.title, "ink");
            canvas.y += 6.0;
            canvas.paragraph(&self.reading, frame.note, "muted");
            canvas.y += 14.0;
            (self.draw)(&mut canvas);
            canvas.y += 10.0;
            canvas.paragraph(&origin(results), frame.axis, "muted");
            let height = canvas.y + frame.margin * 0.8;
            (canvas.svg, height)
        };
        let (file, height) = canvas(Frame::WIDE);
        let (wide, _) = canvas(Frame::WIDE);
        let (narrow, narrow_height) = canvas(Frame::NARROW);
        Picture {
            name: self.name.clone(),
            title: self.title.clone(),
            scenario: self.scenario.clone(),
            file: file.finish(height),
            wide: wide.finish_inline(height, &format!("{}-wide", self.name)),
            narrow: narrow.finish_inline(narrow_height, &format!("{}-narrow", self.name)),
        }
    }
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

/// Draws everything that the trials of a run allow.
pub(crate) fn draw(results: &Results<'_>) -> Gallery {
    let mut gallery = Gallery::default();
    let mut add = |what: &str, sketch: Result<Sketch<'_>, String>| match sketch {
        Ok(sketch) => gallery.pictures.push(sketch.picture(results)),
        Err(reason) => gallery.undrawn.push(format!("{what}: {reason}")),
    };
    for scenario in results.scenarios() {
        let points = results.of_scenario(scenario).count();
        let main = match scenario.picture {
            scenario::Picture::LoadCurve if points > 1 => lines::load_curve(results, scenario),
            scenario::Picture::Lines if points > 1 => lines::along_the_axis(results, scenario),
            scenario::Picture::Timeline => timeline::goodput(results, scenario),
            scenario::Picture::Wire => wire::beside_cost(results, scenario),
            _ => forest::sorted(results, scenario),
        };
        add(&scenario.question, main);
        if scenario.memory && points > 1 {
            add(&format!("memory in {}", scenario.name), memory::by_connections(results, scenario));
        }
        if scenario.phases.is_empty()
            && scenario.classes.first().is_some_and(|class| class.rate.is_some())
            && scenario.picture != scenario::Picture::LoadCurve
        {
            add(&format!("percentile spectrum of {}", scenario.name), spectrum::of(results, scenario));
        }
        if scenario.count_calls {
            add(&format!("anatomy of a request in {}", scenario.name), anatomy::of(results, scenario));
        }
    }
    if results.scenarios().any(|scenario| !scenario.lesser.is_empty()) {
        add("what each technique buys", ablation::of(results));
    }
    add("cost per byte by file size", lines::cost_per_byte(results));
    add("peers by cost and tail", scatter::cost_and_tail(results));
    add("trials in run order", trials::in_order(results));
    gallery
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

pub(crate) const STYLE: &str = include_str!("../../assets/chart.css");

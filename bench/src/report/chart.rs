//! The pictures: each asks a question in its title and answers it panel by panel.
//!
//! A panel is a cell; its scale begins at zero and ends at the panel's largest value, so equal lengths mean
//! equal ratios, in every panel. Each server has one colour everywhere (from Okabe and Ito's palette, told
//! apart with any colour vision, on light and dark paper) and a shape besides. A dot is the median over the
//! rounds, the line through it its 95 % interval, the number beside it the median.

use crate::analysis::stats::{Estimate, Interval};
use crate::analysis::verdict::{Figures, Verdict};
use crate::load::request::Persistence;
use crate::record::Record;
use crate::report::svg::{Anchor, Font, Svg, wrap};
use crate::report::wording;
use crate::run::cell::{CONNECTIONS, Cell};
use crate::run::corpus::Size;
use crate::server::target::Backend;

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The server's CPU time per request.
    CpuPerRequest,
    /// Answers per second.
    RequestsPerSecond,
}

impl Metric {
    /// Both pictures, the one to look at first ahead.
    pub const ALL: [Metric; 2] = [Metric::CpuPerRequest, Metric::RequestsPerSecond];

    /// The picture's file name.
    pub fn file_name(self) -> &'static str {
        match self {
            Metric::CpuPerRequest => "cpu-per-request.svg",
            Metric::RequestsPerSecond => "requests-per-second.svg",
        }
    }

    /// What it asks.
    pub fn question(self) -> &'static str {
        match self {
            Metric::CpuPerRequest => "How much CPU time does one request cost the server?",
            Metric::RequestsPerSecond => "How many requests does the server answer in a second?",
        }
    }

    fn how_to_read(self) -> &'static str {
        match self {
            Metric::CpuPerRequest => {
                "User and system time of the server's whole process, per request. Shorter is cheaper."
            }
            Metric::RequestsPerSecond => {
                "Answers per second; each connection asks again as soon as it is answered. Longer is faster."
            }
        }
    }

    fn estimate(self, figures: &Figures) -> Estimate {
        match self {
            Metric::CpuPerRequest => figures.cpu_per_request_ns,
            Metric::RequestsPerSecond => figures.requests_per_second,
        }
    }

    fn label(self, value: f64) -> String {
        match self {
            Metric::CpuPerRequest => wording::duration(value),
            Metric::RequestsPerSecond => wording::rate(value),
        }
    }

    /// Whether the number isn't the server's alone. Its CPU time always is.
    fn is_client_bound(self, figures: &Figures) -> bool {
        match self {
            Metric::CpuPerRequest => false,
            Metric::RequestsPerSecond => figures.is_client_bound(),
        }
    }
}

const PAGE: f64 = 800.0;
const MARGIN: f64 = 36.0;
const COLUMN_GAP: f64 = 28.0;
const COLUMN: f64 = (PAGE - 2.0 * MARGIN - COLUMN_GAP) / 2.0;
const NAME: f64 = 88.0;
const LABEL: f64 = 96.0;
const ROW: f64 = 31.0;
const DOT: f64 = 7.0;
const CAP: f64 = 11.0;

const TITLE: Font = Font { size: 38.0, bold: true };
const ANSWER: Font = Font { size: 22.0, bold: false };
const SIZE: Font = Font { size: 28.0, bold: true };
const PANEL: Font = Font { size: 19.0, bold: false };
const ROW_NAME: Font = Font { size: 20.0, bold: false };
const ROW_VALUE: Font = Font { size: 20.0, bold: true };
const NOTE: Font = Font { size: 17.0, bold: false };

const STYLE: &str = "\
text { font-family: 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif; font-variant-numeric: tabular-nums; }
.paper { fill: #ffffff; }
.ink { fill: #1b1f24; }
.muted { fill: #57606a; }
.rule { stroke: #d0d7de; stroke-width: 1.5; }
.stem { stroke-width: 7; stroke-opacity: 0.22; }
.interval { stroke-width: 2.5; }
.dot { stroke-width: 2.5; }
.blocking { fill: #d55e00; stroke: #d55e00; }
.epoll { fill: #0072b2; stroke: #0072b2; }
.uring { fill: #009e73; stroke: #009e73; }
.hollow { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; }
  .ink { fill: #e6edf3; }
  .muted { fill: #9198a1; }
  .rule { stroke: #3d444d; }
  .stem { stroke-opacity: 0.4; }
  .blocking { fill: #ff9147; stroke: #ff9147; }
  .epoll { fill: #5cb6ee; stroke: #5cb6ee; }
  .uring { fill: #3ccb9f; stroke: #3ccb9f; }
  .hollow { fill: #0d1117; }
}
";

/// Draws one picture of a run.
pub fn draw(metric: Metric, record: &Record) -> String {
    let description = format!("{} {}", metric.how_to_read(), answer(metric, record).unwrap_or_default());
    let svg = Svg::new(PAGE, metric.question(), &description, STYLE);
    let mut page = Page { svg, metric, y: MARGIN };
    page.lay_out(record);
    page.svg.finish(page.y + MARGIN - 10.0)
}

/// The sentence that answers the question where it matters most: the first cell.
fn answer(metric: Metric, record: &Record) -> Option<String> {
    let first = record.verdicts.first()?;
    if first.servers.values().flatten().any(|figures| metric.is_client_bound(figures)) {
        return None;
    }
    let ratio = first.ratios.first()?;
    let sentence = match metric {
        Metric::CpuPerRequest => wording::cpu_sentence(ratio),
        Metric::RequestsPerSecond => wording::rate_sentence(ratio),
    };
    Some(format!("{}: {sentence}.", first.cell))
}

struct Page {
    svg: Svg,
    metric: Metric,
    y: f64,
}

impl Page {
    fn lay_out(&mut self, record: &Record) {
        self.paragraph(self.metric.question(), TITLE, "ink", 44.0);
        self.y += 8.0;
        if let Some(answer) = answer(self.metric, record) {
            self.paragraph(&answer, ANSWER, "ink", 29.0);
            self.y += 4.0;
        }
        let reading = format!(
            "{} Dots are medians, lines 95 % intervals. Each panel has its own scale, from zero.",
            self.metric.how_to_read()
        );
        self.paragraph(&reading, ANSWER, "muted", 29.0);
        for size in Size::ALL {
            self.size(record, size);
        }
        self.footer(record);
    }

    /// Text over the whole width, broken as needed.
    fn paragraph(&mut self, text: &str, font: Font, class: &str, leading: f64) {
        let text = text.replace('\'', "’").replace(" %", "\u{a0}%");
        for line in wrap(&text, font, PAGE - 2.0 * MARGIN) {
            self.svg.text(MARGIN, self.y + font.size * 0.8, font, Anchor::Start, class, &line);
            self.y += leading;
        }
    }

    /// The panels of a file size: a row for each number of connections, kept connections left. What wasn't
    /// run at all takes no place.
    fn size(&mut self, record: &Record, size: Size) {
        let columns = [Persistence::KeepAlive, Persistence::PerRequest];
        let rows: Vec<[Option<&Verdict>; 2]> = CONNECTIONS
            .into_iter()
            .rev()
            .map(|connections| {
                columns.map(|persistence| {
                    let cell = Cell { size, persistence, connections };
                    record.verdicts.iter().find(|known| known.cell == cell)
                })
            })
            .filter(|row| row.iter().any(Option::is_some))
            .collect();
        if rows.is_empty() {
            return;
        }
        self.y += 24.0;
        self.svg.line((MARGIN, self.y), (PAGE - MARGIN, self.y), "rule");
        self.y += 36.0;
        self.svg.text(MARGIN, self.y, SIZE, Anchor::Start, "ink", size.label());
        self.y += 10.0;
        for row in rows {
            let top = self.y;
            for (index, verdict) in row.into_iter().enumerate() {
                if let Some(verdict) = verdict {
                    self.y = top;
                    self.panel(MARGIN + (COLUMN + COLUMN_GAP) * index as f64, verdict);
                }
            }
        }
    }

    fn panel(&mut self, left: f64, verdict: &Verdict) {
        self.y += 28.0;
        self.svg.text(left, self.y, PANEL, Anchor::Start, "muted", &panel_title(verdict.cell));
        self.y += 6.0;
        let estimates = Backend::ALL.into_iter().filter_map(|backend| verdict.figures(backend));
        let estimates: Vec<Estimate> = estimates.map(|figures| self.metric.estimate(figures)).collect();
        let scale = Scale::of(left + NAME, &estimates);
        for backend in Backend::ALL {
            self.y += ROW;
            self.svg.text(left, self.y - 1.5, ROW_NAME, Anchor::Start, "ink", backend.name());
            match verdict.figures(backend) {
                Some(figures) => self.figures(scale, backend, figures),
                None => {
                    let x = left + NAME;
                    self.svg.text(x, self.y - 1.5, NOTE, Anchor::Start, "muted", "not measured");
                }
            }
        }
        self.y += 8.0;
    }

    fn figures(&mut self, scale: Scale, backend: Backend, figures: &Figures) {
        let middle = self.y - ROW * 0.25;
        let (name, metric) = (backend.name(), self.metric);
        let estimate = metric.estimate(figures);
        let value = scale.x(estimate.value);
        self.svg.line((scale.zero, middle), (value, middle), &format!("stem {name}"));
        if let Some(interval) = estimate.interval {
            self.interval(scale, interval, middle, name);
        }
        let hollow = if metric.is_client_bound(figures) { " hollow" } else { "" };
        self.dot(backend, (value, middle), &format!("dot {name}{hollow}"));
        let label = metric.label(estimate.value);
        let beside = scale.x(reach(&estimate)).max(value + DOT) + 9.0;
        self.svg.text(beside, self.y - 1.5, ROW_VALUE, Anchor::Start, "ink", &label);
    }

    /// A line with caps that stand out above and below the dot, so that a narrow interval shows as well; an
    /// arrow where it goes on beyond the scale.
    fn interval(&mut self, scale: Scale, interval: Interval, middle: f64, name: &str) {
        let class = format!("interval {name}");
        let (low, high) = (scale.x(interval.low), scale.x(interval.high));
        self.svg.line((low, middle), (high, middle), &class);
        self.svg.line((low, middle - CAP), (low, middle + CAP), &class);
        if interval.high > scale.end {
            let points = [(high - 8.0, middle - 6.0), (high + 3.0, middle), (high - 8.0, middle + 6.0)];
            self.svg.polygon(&points, &class);
        } else {
            self.svg.line((high, middle - CAP), (high, middle + CAP), &class);
        }
    }

    /// A shape of its own for each server.
    fn dot(&mut self, backend: Backend, (x, y): (f64, f64), class: &str) {
        match backend {
            Backend::Blocking => self.svg.circle((x, y), DOT, class),
            Backend::Epoll => {
                let half = DOT * 0.86;
                self.svg.rectangle((x - half, y - half), (2.0 * half, 2.0 * half), 1.0, class);
            }
            Backend::Uring => {
                let reach = DOT * 1.22;
                let points = [(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)];
                self.svg.polygon(&points, class);
            }
        }
    }

    fn footer(&mut self, record: &Record) {
        self.y += 24.0;
        self.svg.line((MARGIN, self.y), (PAGE - MARGIN, self.y), "rule");
        self.y += 14.0;
        for note in notes(self.metric, record) {
            self.paragraph(&note, NOTE, "muted", 23.0);
        }
    }
}

fn panel_title(cell: Cell) -> String {
    match (cell.persistence, cell.connections) {
        (Persistence::KeepAlive, 1) => "keep-alive, 1 connection".to_owned(),
        (Persistence::KeepAlive, many) => format!("keep-alive, {many} connections"),
        (Persistence::PerRequest, many) => format!("a connection per request, {many} at once"),
    }
}

/// How far to the right an estimate reaches.
fn reach(estimate: &Estimate) -> f64 {
    estimate.interval.map_or(estimate.value, |interval| interval.high.max(estimate.value))
}

/// From values to places.
#[derive(Clone, Copy)]
struct Scale {
    /// Where zero is.
    zero: f64,
    /// The value at the right end.
    end: f64,
}

/// Intervals end a scale beyond its largest value, but not further than this, or a few bad trials would press
/// everything else against zero.
const SCALE_BEYOND_MAX: f64 = 1.6;

impl Scale {
    fn of(zero: f64, estimates: &[Estimate]) -> Scale {
        let largest = estimates.iter().map(|estimate| estimate.value).fold(0.0, f64::max);
        let reach = estimates.iter().map(reach).fold(0.0, f64::max);
        Scale { zero, end: reach.min(largest * SCALE_BEYOND_MAX) }
    }

    /// What lies beyond the end is put there.
    fn x(self, value: f64) -> f64 {
        self.zero + (value / self.end).min(1.0) * (COLUMN - NAME - LABEL)
    }
}

/// What has to be said below the panels.
fn notes(metric: Metric, record: &Record) -> Vec<String> {
    let mut notes = Vec::new();
    let figures = || record.verdicts.iter().flat_map(|verdict| verdict.servers.values().flatten());
    if figures().any(|figures| metric.is_client_bound(figures)) {
        notes.push("Hollow: the client may have been the limit, not the server.".to_owned());
    }
    for (backend, reason) in &record.unavailable {
        if let Some(reason) = reason {
            notes.push(format!("{backend} wasn't measured: {reason}."));
        }
    }
    notes.extend(record.warnings.iter().map(|warning| format!("Warning: {warning}.")));
    notes.extend(setting(record));
    notes
}

/// Where the numbers come from.
fn setting(record: &Record) -> [String; 3] {
    let environment = &record.environment;
    let placement = if record.placement.is_apart() {
        "One worker on one CPU, the client on another; loopback; files in the page cache."
    } else {
        "One worker; server and client share a core, so read these numbers as rough."
    };
    let rounds = record.plan.rounds;
    let plural = if rounds == 1 { "" } else { "s" };
    let mut origin: Vec<String> = environment.cpu.model.iter().cloned().collect();
    if let Some(release) = environment.kernel.as_ref().and_then(|kernel| kernel.split(' ').next()) {
        origin.push(format!("Linux {release}"));
    }
    origin.push(record.started.split('T').next().unwrap_or_default().to_owned());
    origin.extend(environment.source.as_ref().map(|source| {
        let dirty = if source.dirty { " with changes" } else { "" };
        format!("Triptych at commit {}{dirty}", source.commit)
    }));
    [
        placement.to_owned(),
        format!("{rounds} interleaved round{plural}, a fresh server process for each trial."),
        format!("{}.", origin.join(", ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::verdict::tests::trial;
    use crate::record::tests::record;
    use crate::report::svg::tests::assert_well_formed;
    use crate::report::svg::text_width;

    fn drawn(backends: &[Backend], rounds: usize) -> Vec<String> {
        let mut trials = Vec::new();
        for (index, cell) in Cell::all().into_iter().enumerate() {
            for round in 0..rounds {
                for (place, backend) in backends.iter().enumerate() {
                    let cpu = (6_000 + 2_000 * place + 37 * round) as f64 * f64::from(1_u32 << index);
                    trials.push(trial(*backend, cell, round, cpu));
                }
            }
        }
        let mut record = record(&trials);
        record.verdicts = Cell::all().into_iter().map(|cell| Verdict::of(cell, &trials)).collect();
        Metric::ALL.into_iter().map(|metric| draw(metric, &record)).collect()
    }

    #[test]
    fn pictures_are_well_formed() {
        for picture in [drawn(&Backend::ALL, 3), drawn(&Backend::ALL[..2], 1), drawn(&[], 0)].concat() {
            assert_well_formed(&picture);
            assert!(!picture.contains("NaN") && !picture.contains("inf"));
        }
    }

    #[test]
    fn a_server_that_did_not_run_says_so() {
        for picture in drawn(&Backend::ALL[..2], 2) {
            assert_eq!(picture.matches("not measured").count(), 12);
            assert!(picture.contains("uring wasn’t measured: the kernel forbids it."));
        }
    }

    #[test]
    fn what_was_not_run_takes_no_place() {
        let cell = Cell { size: Size::Medium, persistence: Persistence::KeepAlive, connections: 64 };
        let trials = Backend::ALL.map(|backend| trial(backend, cell, 0, 20_000.0));
        let mut record = record(&trials);
        record.verdicts = vec![Verdict::of(cell, &trials)];
        let picture = draw(Metric::CpuPerRequest, &record);
        assert!(picture.contains(">100 KiB</text>") && !picture.contains(">1 KiB</text>"));
        assert!(!picture.contains("a connection per request"));
    }

    #[test]
    fn a_wild_interval_does_not_press_the_rest_against_zero() {
        let estimate = |value, high| Estimate { value, interval: Some(Interval { low: 1.0, high }) };
        let scale = Scale::of(100.0, &[estimate(10.0, 5_000.0), estimate(8.0, 9.0)]);
        assert!((scale.end - 16.0).abs() < 1e-9);
        assert!((scale.x(5_000.0) - scale.x(16.0)).abs() < 1e-9);
        assert!(scale.x(8.0) > 100.0 + (COLUMN - NAME - LABEL) * 0.45);
    }

    #[test]
    fn nothing_leaves_the_page() {
        for picture in drawn(&Backend::ALL, 3) {
            let limits = picture.matches("<text x=").count();
            assert!(limits > 80, "{limits}");
            for text in picture.split("<text x=\"").skip(1) {
                let x: f64 = text.split('"').next().unwrap().parse().unwrap();
                let size: f64 =
                    text.split("font-size=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
                let bold = text.split('>').next().unwrap().contains("700");
                let content = text.split('>').nth(1).unwrap().split('<').next().unwrap();
                let right = x + text_width(content, Font { size, bold });
                assert!(x >= MARGIN - 0.01 && right <= PAGE - MARGIN + 0.5, "{content}: {right}");
            }
        }
    }
}

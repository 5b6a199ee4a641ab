//! A page of SVG: shapes, text, and the width of text.
//!
//! The files stand alone: no script, no font, no external style sheet. `prefers-color-scheme` works within an
//! image, too; viewers without media queries get the light version. Colours are classes with plain fills,
//! because not every renderer knows variables.

use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Font {
    pub(crate) size: f64,
    pub(crate) bold: bool,
}

pub(crate) struct Svg {
    width: f64,
    title: String,
    description: String,
    style: String,
    body: String,
}

impl Svg {
    /// An empty page. `title` and `description` are what a screen reader says; `style` is CSS.
    pub(crate) fn new(width: f64, title: &str, description: &str, style: &str) -> Svg {
        Svg {
            width,
            title: title.to_owned(),
            description: description.to_owned(),
            style: style.to_owned(),
            body: String::new(),
        }
    }

    /// A line of text, its baseline at `y`.
    pub(crate) fn text(&mut self, x: f64, y: f64, font: Font, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if font.bold { " font-weight=\"700\"" } else { "" };
        let (x, y, size, text) = (number(x), number(y), number(font.size), escape(text));
        self.element(&format!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{weight}{anchor} class=\"{class}\">{text}</text>"
        ));
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let (x1, y1, x2, y2) = (number(from.0), number(from.1), number(to.0), number(to.1));
        self.element(&format!("<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" class=\"{class}\"/>"));
    }

    pub(crate) fn rectangle(&mut self, corner: (f64, f64), size: (f64, f64), radius: f64, class: &str) {
        let (x, y, radius) = (number(corner.0), number(corner.1), number(radius));
        let (width, height) = (number(size.0), number(size.1));
        self.element(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{radius}\" class=\"{class}\"/>"
        ));
    }

    pub(crate) fn circle(&mut self, centre: (f64, f64), radius: f64, class: &str) {
        let (x, y, radius) = (number(centre.0), number(centre.1), number(radius));
        self.element(&format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" class=\"{class}\"/>"));
    }

    /// What belongs to a target: begins a group that ends with [`Svg::end`]. `tip` is what a reader sees who
    /// points at it.
    pub(crate) fn begin(&mut self, target: &str, tip: &str) {
        let (target, tip) = (escape(target), escape(tip));
        self.element(&format!("<g data-target=\"{target}\" class=\"mark\"><title>{tip}</title>"));
    }

    pub(crate) fn end(&mut self) {
        self.element("</g>");
    }

    pub(crate) fn polygon(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<String> =
            points.iter().map(|(x, y)| format!("{},{}", number(*x), number(*y))).collect();
        self.element(&format!("<polygon points=\"{}\" class=\"{class}\"/>", points.join(" ")));
    }

    fn element(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    /// The whole document, `height` pixels high, on paper of its own (class "paper").
    pub(crate) fn finish(self, height: f64) -> String {
        let (width, height) = (number(self.width), number(height));
        let mut document = String::new();
        let _infallible = write!(
            document,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-labelledby=\"title description\">\n\
             <title id=\"title\">{}</title>\n<desc id=\"description\">{}</desc>\n<style>\n{}</style>\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"14\" class=\"paper\"/>\n{}</svg>\n",
            escape(&self.title),
            escape(&self.description),
            self.style,
            self.body,
        );
        document
    }
}

/// Two decimals at most, and no trailing zeros.
pub(crate) fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Advance widths of Helvetica in thousandths of an em, from space to tilde (Adobe's font metrics; Arial,
/// Liberation Sans and Nimbus Sans have the same).
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556,
    556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278,
    500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469,
    556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500,
    278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];
/// A space that doesn't break is as wide as one that does.
const WIDTH_SPACE: u16 = 278;
/// For the few characters beyond ASCII that the pictures use (µ, ×, –, …): wide enough for each.
const WIDTH_OTHER: u16 = 620;
/// How much wider bold is on average, and DejaVu Sans, which some viewers use instead.
const BOLD_FACTOR: f64 = 1.16;
const SLACK_FACTOR: f64 = 1.14;

pub(crate) fn text_width(text: &str, font: Font) -> f64 {
    let thousandths: u32 = text
        .chars()
        .map(|c| match c {
            '\u{a0}' => WIDTH_SPACE,
            _ => (c as usize)
                .checked_sub(usize::from(b' '))
                .and_then(|index| WIDTHS.get(index).copied())
                .unwrap_or(WIDTH_OTHER),
        })
        .map(u32::from)
        .sum();
    let bold = if font.bold { BOLD_FACTOR } else { 1.0 };
    f64::from(thousandths) / 1_000.0 * font.size * bold * SLACK_FACTOR
}

/// The text, cut with an ellipsis where it is wider than `width`.
pub(crate) fn shortened(text: &str, font: Font, width: f64) -> String {
    let mut shown = text.to_owned();
    while text_width(&shown, font) > width && shown.chars().count() > 2 {
        let keep = shown.chars().count() - 2;
        shown = shown.chars().take(keep).chain(std::iter::once('…')).collect();
    }
    shown
}

/// Breaks text at blanks into lines that fit into `width`.
pub(crate) fn wrap(text: &str, font: Font, width: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if text_width(&longer, font) <= width || line.is_empty() {
            line = longer;
        } else {
            lines.push(std::mem::replace(&mut line, word.to_owned()));
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const FONT: Font = Font { size: 10.0, bold: false };

    #[test]
    fn a_page_with_everything_is_well_formed() {
        let mut svg = Svg::new(100.0, "a < b & \"c\"", "d > e", ".ink { fill: black }\n");
        svg.text(1.0, 2.0, FONT, Anchor::End, "ink", "1 < 2 & 3");
        svg.line((0.0, 0.0), (1.5, 2.25), "ink");
        svg.rectangle((0.0, 0.0), (10.0, 10.0), 2.0, "ink");
        svg.circle((5.0, 5.0), 1.0 / 3.0, "ink");
        svg.polygon(&[(0.0, 0.0), (1.0, 0.0), (0.0, -0.001)], "ink");
        let document = svg.finish(50.0);
        roxmltree::Document::parse(&document).unwrap();
        assert!(document.contains("r=\"0.33\"") && document.contains("1 &lt; 2 &amp; 3"));
        assert!(document.contains("points=\"0,0 1,0 0,0\""));
    }

    #[test]
    fn widths_are_those_of_the_metrics() {
        let width = |text| text_width(text, FONT) / SLACK_FACTOR;
        assert!((width("Hi!") - 12.22).abs() < 1e-9, "{}", width("Hi!"));
        assert!((width("00") - width("42")).abs() < 1e-9);
        assert!(text_width("m", Font { bold: true, ..FONT }) > text_width("m", FONT));
    }

    #[test]
    fn text_wraps_at_blanks() {
        let text = "one two three four";
        let lines = wrap(text, FONT, text_width("three four", FONT));
        assert_eq!(lines, ["one two", "three four"]);
        assert_eq!(wrap("unbreakable", FONT, 1.0), ["unbreakable"]);
        assert!(wrap("  ", FONT, 10.0).is_empty());
    }
}

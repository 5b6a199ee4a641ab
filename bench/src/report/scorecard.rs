//! The scorecard: a row for each claim, with its verdict, what that rests on, and a small picture. Below it, the matrix of
//! a claim that gives advice: which server is the cheapest where.

use crate::claims::field::{Answer, Field};
use crate::claims::judge::{Finding, Outcome, Point};
use crate::claims::quantity::Unit;
use crate::claims::verdict::{Judged, Verdict};
use crate::claims::wording;
use crate::report::chart::Gallery;
use crate::report::results::Results;
use crate::report::svg::escape;
use crate::report::wording as report;
use std::fmt::Write;

const WIDTH: f64 = 132.0;
const HEIGHT: f64 = 38.0;
/// Of the shapes; below them are words.
const SHAPES: f64 = 24.0;
/// A square at least so wide has its value below it; of narrower ones the first and the last have.
const VALUE_MIN: f64 = 30.0;
/// From the middle of a gauge to its end: so many times the bound, or one so many-th of it.
const REACH: f64 = 100.0;

/// For people who read files.
pub(crate) fn markdown(results: &Results<'_>) -> String {
    if results.claims.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n## What is claimed, and what this machine says\n\n{}\n\n| claim | verdict | by | what was found |\n|---|---|---|---|\n",
        summary(&results.claims)
    );
    let cell = |text: &str| text.replace('|', "\\|");
    for claim in &results.claims {
        let _infallible = writeln!(
            text,
            "| **{}** {} | {} | {} | {} |",
            claim.id,
            cell(&claim.says),
            claim.verdict,
            cell(&claim.figure),
            cell(&claim.sentence)
        );
    }
    results.claims.iter().filter_map(Matrix::of).for_each(|matrix| text.push_str(&matrix.markdown()));
    text
}

/// How many claims got which verdict.
fn summary(claims: &[Judged]) -> String {
    format!("{} Their rules were written down before the run.", counts(claims))
}

/// "Of 22 claims 10 hold, 1 doesn't hold, 11 can't be told here."
pub(crate) fn counts(claims: &[Judged]) -> String {
    let kinds = [Verdict::Holds, Verdict::DoesNotHold, Verdict::HoldsUnderACondition, Verdict::CannotBeTold];
    let counts = kinds.map(|kind| (kind, claims.iter().filter(|claim| claim.verdict == kind).count()));
    let texts: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| match (kind, count) {
            (Verdict::Holds, 1) => "1 holds".to_owned(),
            (Verdict::Holds, count) => format!("{count} hold"),
            (Verdict::DoesNotHold, 1) => "1 doesn't hold".to_owned(),
            (Verdict::DoesNotHold, count) => format!("{count} don't hold"),
            (Verdict::HoldsUnderACondition, 1) => "1 holds under a condition".to_owned(),
            (Verdict::HoldsUnderACondition, count) => format!("{count} hold under a condition"),
            (Verdict::CannotBeTold, count) => format!("{count} can't be told here"),
        })
        .collect();
    format!("Of {} claims {}.", claims.len(), texts.join(", "))
}

/// For the report's first screen. Each row leads to the chart that it rests on, and opens to what was expected.
pub(crate) fn html(results: &Results<'_>, gallery: &Gallery) -> String {
    if results.claims.is_empty() {
        return String::new();
    }
    // On a phone the rows become blocks; the roles keep them a table.
    let mut page = format!(
        "<h2 id=\"claims\">What is claimed, and what this machine says</h2>\n<p>{}</p>\n\
         <table class=\"scorecard\" role=\"table\" aria-labelledby=\"claims\">\n\
         <thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">claim</th>\
         <th role=\"columnheader\" scope=\"col\">verdict</th><th role=\"columnheader\" scope=\"col\">by</th>\
         <th role=\"columnheader\" scope=\"col\">what was found</th></tr></thead>\n<tbody role=\"rowgroup\">\n",
        escape(&summary(&results.claims))
    );
    results.claims.iter().for_each(|claim| page.push_str(&row(claim, gallery)));
    page.push_str("</tbody></table>\n");
    results.claims.iter().filter_map(Matrix::of).for_each(|matrix| page.push_str(&matrix.html()));
    page
}

/// What a claim's rules say of each field.
struct Matrix<'a> {
    id: &'a str,
    rows: Vec<&'a str>,
    columns: Vec<&'a str>,
    fields: Vec<&'a Field>,
}

const MATRIX_READING: &str = "Which server needs the least CPU time per request. A difference counts if it is larger than \
     noise; where all differ by less than 10 %, there is none.";

impl<'a> Matrix<'a> {
    /// None for claims without fields.
    fn of(claim: &'a Judged) -> Option<Matrix<'a>> {
        let fields: Vec<&Field> =
            claim.findings.iter().filter_map(|finding| finding.field.as_ref()).collect();
        let distinct = |of: fn(&Field) -> &str| {
            let mut names: Vec<&str> = Vec::new();
            for name in fields.iter().map(|field| of(field)) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        };
        let (rows, columns) = (distinct(|field| &field.row), distinct(|field| &field.column));
        (!fields.is_empty()).then_some(Matrix { id: &claim.id, rows, columns, fields })
    }

    fn answer(&self, row: &str, column: &str) -> Option<&'a Answer> {
        let field = self.fields.iter().find(|field| field.row == row && field.column == column);
        field.map(|field| &field.answer)
    }

    fn markdown(&self) -> String {
        let id = self.id;
        let mut text = format!("\n### {id}, field by field\n\n{MATRIX_READING}\n\n| load |");
        self.columns.iter().for_each(|column| text.push_str(&format!(" {column} |")));
        text.push_str(&format!("\n|---|{}\n", "---|".repeat(self.columns.len())));
        for row in &self.rows {
            text.push_str(&format!("| {row} |"));
            for column in &self.columns {
                let (what, remark) = self.answer(row, column).map(words).unwrap_or_default();
                let remark = if remark.is_empty() { remark } else { format!("<br>{remark}") };
                text.push_str(&format!(" **{what}**{} |", remark.replace('|', "\\|")));
            }
            text.push('\n');
        }
        text
    }

    fn html(&self) -> String {
        let id = escape(self.id);
        let mut page = format!(
            "<h3 id=\"matrix-{id}\">{id}, field by field</h3>\n<p class=\"muted\">{MATRIX_READING}</p>\n\
             <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{id}, field by field\">\
             <table class=\"matrix\">\n<thead><tr><th>load</th>"
        );
        self.columns
            .iter()
            .for_each(|column| page.push_str(&format!("<th scope=\"col\">{}</th>", escape(column))));
        page.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            page.push_str(&format!("<tr><th scope=\"row\">{}</th>", escape(row)));
            for column in &self.columns {
                let answer = self.answer(row, column);
                let (what, remark) = answer.map(words).unwrap_or_default();
                let class = match answer {
                    Some(Answer::Cheapest { server, .. }) => server.as_str(),
                    Some(Answer::Alike(_)) => "alike",
                    Some(Answer::Open(_) | Answer::Unknown(_)) | None => "open",
                };
                page.push_str(&format!(
                    "<td class=\"{}\"><strong>{}</strong><br><span class=\"muted\">{}</span></td>",
                    escape(class),
                    escape(&what),
                    escape(&remark)
                ));
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table></div>\n");
        page
    }
}

/// What stands in a field, and below it.
fn words(answer: &Answer) -> (String, String) {
    match answer {
        Answer::Cheapest { server, share, next } => {
            (server.clone(), format!("{} of {next}", wording::beyond(share, 1.0)))
        }
        Answer::Alike(servers) => ("no difference".to_owned(), servers.join(", ")),
        Answer::Open(servers) => ("can't be told".to_owned(), servers.join(" or ")),
        Answer::Unknown(reason) => ("can't be told".to_owned(), reason.clone()),
    }
}

fn row(claim: &Judged, gallery: &Gallery) -> String {
    let finding = claim.main_finding();
    let chart = finding.and_then(|finding| {
        let scenario = finding.scenario.as_deref()?;
        gallery.pictures.iter().find(|picture| picture.scenario.as_deref() == Some(scenario))
    });
    let figure = match chart {
        Some(chart) => {
            format!("<a href=\"#picture-{}\">{}</a>", escape(&chart.name), escape(&claim.figure))
        }
        None => escape(&claim.figure),
    };
    format!(
        "<tr class=\"{}\" role=\"row\"><th role=\"rowheader\" scope=\"row\"><strong>{}</strong> {}</th>\
         <td role=\"cell\">{}</td><td role=\"cell\">{figure}{}</td><td role=\"cell\"><details><summary>{}</summary>\
         Expected: {}<br>Refuted by: {}{}</details></td></tr>\n",
        class(claim.verdict),
        escape(&claim.id),
        code(&claim.says),
        claim.verdict,
        finding.map(picture).unwrap_or_default(),
        code(&claim.sentence),
        code(&claim.hypothesis),
        code(&claim.refuted),
        besides(claim)
    )
}

/// Text as it is written in the book, where code stands between backticks.
fn code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(
            |(index, part)| {
                if index % 2 == 0 { escape(part) } else { format!("<code>{}</code>", escape(part)) }
            },
        )
        .collect()
}

/// What was told besides, a line each; what stands in a matrix by a link to it.
fn besides(claim: &Judged) -> String {
    let told =
        claim.findings.iter().filter(|finding| finding.outcome == Outcome::Told && finding.field.is_none());
    let mut text: String = told.map(|finding| format!("<br>{}.", escape(&finding.text))).collect();
    if Matrix::of(claim).is_some() {
        let id = escape(&claim.id);
        text.push_str(&format!("<br><a href=\"#matrix-{id}\">Field by field</a>"));
    }
    text
}

const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::DoesNotHold => "fails",
        Verdict::HoldsUnderACondition => "turns",
        Verdict::CannotBeTold => "open",
    }
}

/// A square for each value of the axis; or a number between its bound, in the middle, and a hundred times that. What was
/// shown has no picture.
fn picture(finding: &Finding) -> String {
    let (body, says) = if !finding.points.is_empty() {
        strip(&finding.points)
    } else if let Some(gauge) = gauge(finding) {
        gauge
    } else {
        return String::new();
    };
    format!(
        "<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">{body}</svg>",
        escape(&says)
    )
}

fn strip(points: &[Point]) -> (String, String) {
    let step = WIDTH / points.len() as f64;
    let last = points.len() - 1;
    let value = |index: usize, point: &Point| {
        let (x, anchor) = match index {
            _ if step >= VALUE_MIN => ((index as f64 + 0.5) * step, "middle"),
            0 => (0.0, "start"),
            index if index == last => (WIDTH, "end"),
            _ => return String::new(),
        };
        label(x, anchor, &report::thousands(point.value))
    };
    let square = |(index, point): (usize, &Point)| {
        let class = match point.kept {
            Some(true) => "kept",
            Some(false) => "broken",
            None => "untold",
        };
        let x = index as f64 * step + 2.0;
        format!(
            "<rect x=\"{x:.1}\" y=\"5\" width=\"{:.1}\" height=\"14\" rx=\"2\" class=\"{class}\"/>{}",
            step - 4.0,
            value(index, point)
        )
    };
    let words: Vec<String> = points
        .iter()
        .map(|point| {
            let word = point.kept.map_or("can't be told", |kept| if kept { "yes" } else { "no" });
            format!("{}: {word}", point.value)
        })
        .collect();
    (points.iter().enumerate().map(square).collect(), words.join(", "))
}

fn label(x: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"34\" text-anchor=\"{anchor}\">{}</text>", escape(text))
}

fn gauge(finding: &Finding) -> Option<(String, String)> {
    let (number, bound) = (finding.number?, finding.bound?);
    let times = number.unit == Unit::Times;
    if bound <= 0.0 {
        return None;
    }
    // What is zero or less lies at the left end, like everything that is far below.
    let place = |value: f64| {
        let reach = (value.max(bound / REACH) / bound).ln() / REACH.ln();
        WIDTH / 2.0 + reach.clamp(-1.0, 1.0) * (WIDTH / 2.0 - 6.0)
    };
    let middle = SHAPES / 2.0;
    let mut body = format!(
        "<line x1=\"{0}\" y1=\"2\" x2=\"{0}\" y2=\"{1}\" class=\"bound\"/>{2}",
        WIDTH / 2.0,
        SHAPES - 2.0,
        label(WIDTH / 2.0, "middle", "bound")
    );
    if let Some(interval) = number.interval {
        let (low, high) = (place(interval.low), place(interval.high));
        let _infallible = write!(
            body,
            "<line x1=\"{low:.1}\" y1=\"{middle}\" x2=\"{high:.1}\" y2=\"{middle}\" class=\"whisker\"/>"
        );
    }
    let _infallible =
        write!(body, "<circle cx=\"{:.1}\" cy=\"{middle}\" r=\"4\" class=\"dot\"/>", place(number.value));
    let share = number.value / bound;
    let what = if times { "ratio" } else { "number" };
    Some((body, format!("the {what} is {share:.2} times its bound")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::stats::Interval;
    use crate::claims::chapter::Chapter;
    use crate::claims::judge::Number;
    use crate::record::tests::record;
    use crate::report::chart;

    fn finding(number: Option<Number>, bound: Option<f64>, points: Vec<Point>) -> Finding {
        Finding {
            text: "x".to_owned(),
            outcome: Outcome::Holds,
            number,
            bound,
            points,
            scenario: None,
            field: None,
        }
    }

    fn number(value: f64, low: f64, high: f64) -> Option<Number> {
        Some(Number { value, interval: Some(Interval { low, high }), unit: Unit::Nanoseconds })
    }

    #[test]
    fn pictures_are_well_formed_and_say_what_they_show() {
        let points = [(1.0, Some(false)), (8.0, None), (64.0, Some(true))];
        let points = points.map(|(value, kept)| Point { value, kept }).to_vec();
        let table = [
            (finding(None, None, points), "1: no, 8: can&#39;t be told, 64: yes"),
            (finding(number(30.0, 28.0, 33.0), Some(5.0), Vec::new()), "the number is 6.00 times its bound"),
            (finding(number(-0.1, -0.5, 0.3), Some(1.0), Vec::new()), "the number is -0.10 times its bound"),
        ];
        for (finding, says) in table {
            let picture = picture(&finding);
            let document = roxmltree::Document::parse(&picture).unwrap();
            let label = document.root_element().attribute("aria-label").unwrap();
            assert_eq!(label, says.replace("&#39;", "'"));
            // What a dot or square is measured by stands in sight.
            assert!(document.descendants().any(|node| node.has_tag_name("text")), "{picture}");
            for node in document.descendants() {
                for name in ["x", "x1", "x2", "cx"] {
                    let inside = node
                        .attribute(name)
                        .is_none_or(|text| (0.0..=WIDTH).contains(&text.parse().unwrap()));
                    assert!(inside, "{picture}");
                }
            }
        }
        assert_eq!(picture(&finding(None, None, Vec::new())), "");
    }

    #[test]
    fn code_is_set_as_code() {
        assert_eq!(code("`a < b` isn't `c`"), "<code>a &lt; b</code> isn&#39;t <code>c</code>");
        assert_eq!(code("no code"), "no code");
    }

    #[test]
    fn advice_is_a_matrix() {
        let record = record();
        let mut results = Results::of(&record, &[]);
        results.claims = Chapter::open(&["C11".to_owned(), "C16".to_owned()]).unwrap().judge(None);
        let share = Number { value: 0.81, interval: None, unit: Unit::Times };
        let cheapest = Answer::Cheapest { server: "uring".to_owned(), share, next: "epoll".to_owned() };
        let all = vec!["blocking".to_owned(), "epoll".to_owned(), "uring".to_owned()];
        let answers = [cheapest, Answer::Alike(all.clone()), Answer::Open(all)];
        let fields = results.claims[0].findings.iter_mut().filter_map(|finding| finding.field.as_mut());
        fields.zip(answers).for_each(|(field, answer)| field.answer = answer);
        let text = markdown(&results);
        assert_eq!(text.matches("field by field").count(), 1, "{text}");
        for line in [
            "\n| load | 8 connections | 1,000 connections |\n|---|---|---|\n",
            "\n| 500 requests a second, from memory | **uring**<br>0.81× of epoll | **no difference**<br>blocking, epoll, uring |\n",
            "\n| as many as there can be, from memory | **can't be told**<br>blocking or epoll or uring | **can't be told**<br>nothing was measured |\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let page = html(&results, &chart::draw(&results));
        assert!(
            page.contains("<a href=\"#matrix-C11\">") && page.contains("<h3 id=\"matrix-C11\">"),
            "{page}"
        );
        let matrix = &page[page.find("<table class=\"matrix\">").unwrap()..];
        assert_eq!(matrix.matches("<td class=").count(), 8, "{matrix}");
        assert!(matrix.contains("<td class=\"uring\"><strong>uring</strong>"), "{matrix}");
        assert!(matrix.contains("<td class=\"alike\"><strong>no difference</strong>"), "{matrix}");
    }

    #[test]
    fn every_claim_has_a_row() {
        let record = record();
        let mut results = Results::of(&record, &[]);
        assert!(markdown(&results).is_empty() && html(&results, &chart::draw(&results)).is_empty());
        results.claims = Chapter::open(&["C3".to_owned(), "C14".to_owned()]).unwrap().judge(None);
        let text = markdown(&results);
        assert!(text.contains("Of 2 claims 1 holds, 1 can't be told here."), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("| **C")).count(), 2);
        let page = html(&results, &chart::draw(&results));
        assert_eq!(page.matches("<tr class=").count(), 2, "{page}");
        assert!(
            page.contains("<tr class=\"holds\" role=\"row\">") && page.contains("Refuted by: "),
            "{page}"
        );
    }
}

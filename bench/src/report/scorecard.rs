//! The scorecard: a row for each claim, with its verdict, what that rests on, and a small picture.

use crate::claims::judge::{Finding, Outcome, Point};
use crate::claims::quantity::Unit;
use crate::claims::verdict::{Judged, Verdict};
use crate::report::chart::Gallery;
use crate::report::results::Results;
use crate::report::svg::escape;
use std::fmt::Write;

const WIDTH: f64 = 132.0;
const HEIGHT: f64 = 24.0;
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
    text
}

/// How many claims got which verdict.
fn summary(claims: &[Judged]) -> String {
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
    format!("Of {} claims {}. Their rules were written down before the run.", claims.len(), texts.join(", "))
}

/// For the report's first screen. Each row leads to the chart that it rests on, and opens to what was expected.
pub(crate) fn html(results: &Results<'_>, gallery: &Gallery) -> String {
    if results.claims.is_empty() {
        return String::new();
    }
    let mut page = format!(
        "<h2 id=\"claims\">What is claimed, and what this machine says</h2>\n<p>{}</p>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"the claims\"><table class=\"scorecard\">\n\
         <thead><tr><th>claim</th><th scope=\"col\">verdict</th><th scope=\"col\">by</th>\
         <th scope=\"col\">picture</th><th scope=\"col\">what was found</th></tr></thead>\n<tbody>\n",
        escape(&summary(&results.claims))
    );
    results.claims.iter().for_each(|claim| page.push_str(&row(claim, gallery)));
    page.push_str("</tbody></table></div>\n");
    page
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
        "<tr class=\"{}\"><th scope=\"row\"><details><summary>{}</summary>{}</details></th><td>{}</td><td>{figure}</td>\
         <td>{}</td><td><details><summary>{}</summary>Expected: {}<br>Refuted by: {}{}</details></td></tr>\n",
        class(claim.verdict),
        escape(&claim.id),
        escape(&claim.says),
        claim.verdict,
        finding.map(picture).unwrap_or_default(),
        escape(&claim.sentence),
        escape(&claim.hypothesis),
        escape(&claim.refuted),
        besides(claim)
    )
}

/// What was told besides, a line each.
fn besides(claim: &Judged) -> String {
    let told = claim.findings.iter().filter(|finding| finding.outcome == Outcome::Told);
    told.map(|finding| format!("<br>{}.", escape(&finding.text))).collect()
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
    let square = |(index, point): (usize, &Point)| {
        let class = match point.kept {
            Some(true) => "kept",
            Some(false) => "broken",
            None => "untold",
        };
        let x = index as f64 * step + 2.0;
        format!(
            "<rect x=\"{x:.1}\" y=\"5\" width=\"{:.1}\" height=\"14\" rx=\"2\" class=\"{class}\"/>",
            step - 4.0
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
    let middle = HEIGHT / 2.0;
    let mut body = format!(
        "<line x1=\"{0}\" y1=\"2\" x2=\"{0}\" y2=\"{1}\" class=\"bound\"/>",
        WIDTH / 2.0,
        HEIGHT - 2.0
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
        Finding { text: "x".to_owned(), outcome: Outcome::Holds, number, bound, points, scenario: None }
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
        assert!(page.contains("<tr class=\"holds\">") && page.contains("Refuted by: "), "{page}");
    }
}

//! The heat map: every question and every server, each cell as many times worse than the best.

use crate::analysis::reading::Reading;
use crate::analysis::verdict::Verdict;
use crate::record::{Family, TargetRecord};
use crate::report::overview;
use crate::report::results::Results;
use crate::report::svg::escape;
use crate::report::wording;
use crate::run::scenario::Scenario;
use std::fmt::Write;

/// Up to how many times the best value each colour reaches; what is beyond has the last.
const STEPS: [(f64, &str); 6] = [
    (1.02, "the best, or within 2\u{a0}%"),
    (1.25, "to 1.25×"),
    (1.6, "to 1.6×"),
    (2.5, "to 2.5×"),
    (5.0, "to 5×"),
    (20.0, "to 20×"),
];

#[derive(Clone, Debug, PartialEq)]
enum Cell {
    /// How many times worse than the best, and the value itself.
    Ratio(f64, String),
    TooNoisy,
    Unranked(String),
    NotMeasured,
}

/// As a table that is read without colours, too; the page's program sorts it.
pub(crate) fn html(results: &Results<'_>) -> String {
    let questions = overview::columns(results);
    if questions.is_empty() {
        return String::new();
    }
    let column = |target: &'_ TargetRecord| {
        let cells: Vec<Cell> =
            questions.iter().map(|question| cell(results, *question, &target.id)).collect();
        // Null servers parse nothing: they are the floor, and take part in no race.
        let is_in = target.family != Family::Null && cells.iter().any(|cell| *cell != Cell::NotMeasured);
        is_in.then_some(cells)
    };
    let targets = results.record.targets.iter().enumerate();
    let columns: Vec<(usize, &TargetRecord, Vec<Cell>)> =
        targets.filter_map(|(index, target)| Some((index, target, column(target)?))).collect();
    let mut page = String::from(
        "<div class=\"tools\" id=\"heat-tools\"></div>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"the heat map\">\n<table id=\"heat\"><caption class=\"unseen\">Each question by each server, as \
         many times worse than the best</caption>\n<thead><tr><th scope=\"col\">question</th>",
    );
    for (index, target, _) in &columns {
        let is_ours = target.family == Family::Ours && results.is_shown(&target.id);
        let class = if is_ours { " class=\"ours\"" } else { "" };
        let name = escape(&results.name(&target.id));
        let _infallible = write!(page, "<th scope=\"col\" data-t=\"{index}\"{class}>{name}</th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (row, (scenario, verdict)) in questions.iter().enumerate() {
        let _infallible = write!(
            page,
            "<tr><th scope=\"row\" aria-sort=\"none\">{} <small>{}, {}</small></th>",
            escape(&scenario.question),
            escape(&verdict.cell.to_string()),
            verdict.measure.label()
        );
        columns.iter().for_each(|(_, _, cells)| page.push_str(&cells[row].html()));
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
    page.push_str(&key());
    page
}

impl Cell {
    fn html(&self) -> String {
        match self {
            Cell::Ratio(ratio, value) => {
                let step = STEPS.iter().position(|(end, _)| ratio <= end).unwrap_or(STEPS.len());
                let text = if step == 0 { "1".to_owned() } else { format!("{}×", short(*ratio)) };
                format!(
                    "<td class=\"heat{step}\" data-v=\"{ratio:.4}\" title=\"{}\">{text}</td>",
                    escape(value)
                )
            }
            Cell::TooNoisy => {
                "<td class=\"heat-noisy\"><span class=\"unseen\">too noisy here</span></td>".to_owned()
            }
            Cell::Unranked(why) => {
                format!("<td class=\"heat-unranked\" title=\"{}\">not ranked</td>", escape(why))
            }
            Cell::NotMeasured => "<td></td>".to_owned(),
        }
    }
}

/// Two digits are enough for a colour.
fn short(ratio: f64) -> String {
    match ratio {
        near if near < 1.095 => format!("{near:.2}"),
        small if small < 9.95 => format!("{small:.1}").trim_end_matches(".0").to_owned(),
        large if large < 99.5 => format!("{large:.0}"),
        huge => {
            let step = 10_f64.powf(huge.log10().floor() - 1.0);
            wording::thousands((huge / step).round() * step)
        }
    }
}

fn cell(results: &Results<'_>, (_, verdict): (&Scenario, &Verdict), id: &str) -> Cell {
    let Some(figures) = verdict.figures(id) else {
        return Cell::NotMeasured;
    };
    let reading = figures.reading(verdict.measure);
    if reading == Reading::Unmeasured {
        return Cell::NotMeasured;
    }
    if let Some(why) = figures.unranked(verdict.measure) {
        return Cell::Unranked(why);
    }
    let Some(estimate) = reading.told() else {
        return Cell::TooNoisy;
    };
    let Some((best, value)) = best(results, verdict) else {
        return Cell::TooNoisy;
    };
    // Of the same rounds where there are such, as everywhere else: the medians' ratio is another one.
    let paired = verdict.ratio(id, best, verdict.measure).and_then(|ratio| ratio.reading().told());
    let ratio = paired.map_or(estimate.value / value, |ratio| ratio.value);
    let worse = if verdict.measure.lower_is_better() { ratio } else { 1.0 / ratio };
    Cell::Ratio(worse.max(1.0), wording::value_with_interval(verdict.measure, &estimate))
}

/// The best of those that are shown at first, are ranked and can be told, and its value; nobody is the best where most
/// are too noisy.
fn best<'b>(results: &Results<'_>, verdict: &'b Verdict) -> Option<(&'b str, f64)> {
    let measure = verdict.measure;
    let shown = verdict.targets.iter().filter(|figures| results.is_shown(&figures.target));
    let ranked: Vec<_> = shown.filter(|figures| figures.unranked(measure).is_none()).collect();
    let noisy = ranked.iter().filter(|figures| figures.reading(measure).is_too_noisy()).count();
    if noisy * 2 > ranked.len() {
        return None;
    }
    let told =
        ranked.iter().filter_map(|figures| Some((figures.target.as_str(), figures.estimate(measure)?.value)));
    let order = |one: &(&str, f64), other: &(&str, f64)| one.1.total_cmp(&other.1);
    if measure.lower_is_better() { told.min_by(order) } else { told.max_by(order) }
}

fn key() -> String {
    let mut key = String::from("<ul class=\"key\">\n");
    for (step, (_, text)) in STEPS.iter().enumerate() {
        let _infallible = writeln!(key, "<li><i class=\"heat{step}\"></i>{text}</li>");
    }
    let _infallible = writeln!(
        key,
        "<li><i class=\"heat{}\"></i>more</li>\n<li><i class=\"heat-noisy\"></i>too noisy here: the 95\u{a0}% interval \
         spans more than a factor of three, or most of the row’s do</li>\n<li>empty: not measured</li>\n</ul>",
        STEPS.len()
    );
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{Plan, sample};
    use crate::run::scenario::Tier;

    fn table(noise: f64) -> String {
        let only = &["hot-small", "common-rate"];
        html(
            &sample(Plan { tier: Tier::Standard, only, noise, histograms: false, ..Plan::default() })
                .results(),
        )
    }

    /// A server's cells, by question.
    fn column(page: &str, name: &str) -> Vec<String> {
        let heads: Vec<&str> = page.split("<th scope=\"col\"").skip(1).collect();
        let place = heads.iter().position(|head| head.contains(&format!(">{name}</th>"))).unwrap();
        let rows = page.split("<tbody>").nth(1).unwrap().split("<tr>").skip(1);
        rows.map(|row| row.split("<td").nth(place).unwrap().to_owned()).collect()
    }

    #[test]
    fn each_cell_is_so_many_times_worse_than_the_best() {
        let page = table(0.015);
        assert_eq!(page.matches("<tr>").count(), 3, "the servers, and two questions: {page}");
        assert!(column(&page, "uring")[0].contains("class=\"heat0\""), "{page}");
        assert!(column(&page, "nginx 1.22.1")[0].contains(">2×</td>"), "{page}");
        assert!(column(&page, "caddy 1.22.1")[0].contains("class=\"heat5\""), "{page}");
        assert!(column(&page, "triptych")[1].starts_with("></td>"), "not measured at the common rate");
        assert!(!page.contains("heat-noisy\"><span"), "{page}");
        assert!(!page.contains("null server"), "a floor is no contender");
    }

    #[test]
    fn a_cell_is_the_ratio_that_is_told_elsewhere() {
        let sample = sample(Plan { only: &["hot-small"], noise: 0.1, histograms: false, ..Plan::default() });
        let results = sample.results();
        let verdict = &results.verdicts[0];
        let (best, value) = best(&results, verdict).unwrap();
        let ratio = verdict.ratio("nginx", best, verdict.measure).unwrap().reading().told().unwrap().value;
        let medians = verdict.figures("nginx").unwrap().estimate(verdict.measure).unwrap().value / value;
        assert!((ratio / medians - 1.0).abs() > 0.000_2, "{ratio} and {medians} would look the same");
        let cell = &column(&html(&results), "nginx 1.22.1")[0];
        assert!(cell.contains(&format!("data-v=\"{ratio:.4}\"")), "{cell}");
    }

    #[test]
    fn nobody_is_the_best_where_most_are_too_noisy() {
        let only = &["hot-small"];
        let plan = Plan { tier: Tier::Standard, only, histograms: false, ..Plan::default() };
        let mut sample = sample(plan);
        let calm = ["caddy", "nginx"];
        for trial in sample.trials.iter_mut().filter(|trial| !calm.contains(&trial.target.as_str())) {
            trial.cost.cpu_ns = trial.cost.cpu_ns * [3, 300][trial.place.round % 2] / 100;
        }
        let page = html(&sample.results());
        for name in ["caddy 1.22.1", "nginx 1.22.1", "uring"] {
            assert!(column(&page, name)[0].contains("heat-noisy"), "{name}: {page}");
        }
    }

    #[test]
    fn noise_has_no_number() {
        let page = table(1.5);
        let cells: Vec<&str> =
            page.split("<td").skip(1).filter(|cell| cell.contains("heat-noisy\"")).collect();
        assert!(!cells.is_empty(), "{page}");
        for cell in cells {
            let text = cell.split("</td>").next().unwrap();
            assert!(!text.contains(|c: char| c.is_ascii_digit()), "{text}");
        }
    }

    #[test]
    fn ratios_are_short() {
        let table =
            [(1.04, "1.04"), (1.26, "1.3"), (9.96, "10"), (45.67, "46"), (1_234.0, "1,200"), (349.4, "350")];
        for (ratio, text) in table {
            assert_eq!(short(ratio), text);
        }
    }
}

//! The whole run in two tables of Markdown: everybody's numbers, and this project's servers against the peers.

use crate::analysis::measure::Measure;
use crate::analysis::reading::Reading;
use crate::analysis::stats::{Estimate, geometric_mean};
use crate::analysis::verdict::{Claim, Verdict};
use crate::record::Family;
use crate::report::results::Results;
use crate::report::wording;
use crate::run::scenario::Scenario;

/// What stands where nothing was measured.
pub(crate) const NOTHING: &str = "–";

/// The scenarios that ran, each with the cell that tells most; those about techniques only if there is nothing else,
/// because nobody else takes part in them.
pub(crate) fn columns<'b>(results: &'b Results<'_>) -> Vec<(&'b Scenario, &'b Verdict)> {
    let cell = |scenario| Some((scenario, results.main_cell(scenario)?));
    let all: Vec<(&Scenario, &Verdict)> = results.scenarios().filter_map(cell).collect();
    let plain: Vec<_> = all.iter().copied().filter(|(scenario, _)| scenario.lesser.is_empty()).collect();
    if plain.is_empty() { all } else { plain }
}

/// A table; its first column is text, the others are numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    /// Above the names of the rows.
    pub(crate) corner: String,
    /// Above the other columns.
    pub(crate) heads: Vec<String>,
    /// A name, and a cell for each head.
    pub(crate) rows: Vec<(String, Vec<String>)>,
}

impl Table {
    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let heads: Vec<String> = self.heads.iter().map(|head| escape_cell(head)).collect();
        let mut text = format!("| {} | {} |\n", escape_cell(&self.corner), heads.join(" | "));
        text.push_str(&format!("|---|{}\n", "---:|".repeat(heads.len())));
        for (name, cells) in &self.rows {
            let cells: Vec<String> = cells.iter().map(|cell| escape_cell(cell)).collect();
            text.push_str(&format!("| {} | {} |\n", escape_cell(name), cells.join(" | ")));
        }
        text
    }
}

/// A row per target, a column per scenario: the scenario's measure. The best of a column is bold, those that
/// aren't ranked are in parentheses, and what is too noisy is no number.
pub(crate) fn numbers(results: &Results<'_>) -> Table {
    let columns = columns(results);
    let heads: Vec<String> = columns
        .iter()
        .map(|(_, verdict)| format!("{}<br>{}", verdict.cell, verdict.measure.label()))
        .collect();
    let mut rows = Vec::new();
    for target in &results.record.targets {
        let cells: Vec<String> =
            columns.iter().map(|(_, verdict)| number(results, verdict, &target.id)).collect();
        if cells.iter().any(|cell| cell != NOTHING) {
            rows.push((target.label.clone(), cells));
        }
    }
    Table { corner: String::new(), heads, rows }
}

fn number(results: &Results<'_>, verdict: &Verdict, id: &str) -> String {
    let Some(figures) = verdict.figures(id) else {
        return NOTHING.to_owned();
    };
    let reading = figures.reading(verdict.measure);
    let text = reading.text(NOTHING, |estimate| wording::value(verdict.measure, estimate.value));
    if reading.told().is_none() {
        return text;
    }
    let best = [Family::Ours, Family::Peer]
        .into_iter()
        .filter_map(|family| results.best(verdict, family))
        .filter_map(|figures| Some((figures.target.as_str(), figures.estimate(verdict.measure)?.value)))
        .min_by(|one, other| {
            let order = one.1.total_cmp(&other.1);
            if verdict.measure.lower_is_better() { order } else { order.reverse() }
        });
    match best {
        _ if figures.unranked(verdict.measure).is_some() => format!("({text})"),
        Some((winner, _)) if winner == id => format!("**{text}**"),
        _ => text,
    }
}

/// A row per peer, a column per scenario: the ratio of `id` to it, with its interval. What isn't a difference
/// is marked. The last column is the geometric mean over the scenarios that are about CPU time.
pub(crate) fn against_peers(results: &Results<'_>, id: &str) -> Option<Table> {
    let columns = columns(results);
    let mut heads: Vec<String> = columns.iter().map(|(_, verdict)| verdict.cell.to_string()).collect();
    heads.push("CPU time, all".to_owned());
    let peers = results.record.targets.iter().filter(|target| target.family == Family::Peer);
    let mut rows = Vec::new();
    for peer in peers {
        let mut cells: Vec<String> = columns
            .iter()
            .map(|(_, verdict)| match verdict.ratio(id, &peer.id, verdict.measure) {
                None => NOTHING.to_owned(),
                Some(ratio) => ratio.reading().text(NOTHING, |estimate| {
                    let mark = match ratio.claim {
                        _ if ratio.because.is_some() => return "not ranked".to_owned(),
                        Claim::Difference => "",
                        Claim::Alike => " ≈",
                        Claim::NoVerdict => " ?",
                    };
                    format!("{}{mark}", wording::ratio(estimate))
                }),
            })
            .collect();
        cells.push(cpu_over_all(&columns, id, &peer.id));
        if cells.iter().any(|cell| cell != NOTHING) {
            rows.push((peer.label.clone(), cells));
        }
    }
    let corner = format!("{} ÷ …", results.label(id));
    (!rows.is_empty()).then_some(Table { corner, heads, rows })
}

/// The geometric mean of the ratios over the scenarios that are about CPU time.
fn cpu_over_all(columns: &[(&Scenario, &Verdict)], id: &str, peer: &str) -> String {
    let ratios: Vec<Estimate> = columns
        .iter()
        .filter(|(_, verdict)| verdict.measure == Measure::CpuPerRequest)
        .filter_map(|(_, verdict)| verdict.ratio(id, peer, verdict.measure))
        .filter(|ratio| ratio.because.is_none())
        .filter_map(|ratio| ratio.reading().told())
        .collect();
    Reading::of(geometric_mean(&ratios).as_ref()).text(NOTHING, wording::ratio)
}

fn escape_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

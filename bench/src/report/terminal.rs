//! What a run ends with on a terminal: a table, and three sentences.

use crate::analysis::verdict::{Claim, Ratio, Verdict};
use crate::record::Family;
use crate::report::results::Results;
use crate::report::wording;
use std::fmt::Write;
use std::path::Path;

/// The most columns of the table.
pub(crate) const WIDTH_MAX: usize = 100;
const NAME_MAX: usize = 30;

/// A block per scenario: each target's number and its ratio to the baseline.
pub(crate) fn table(results: &Results<'_>) -> String {
    let mut text = String::new();
    for scenario in results.scenarios() {
        let Some(verdict) = results.main_cell(scenario) else {
            continue;
        };
        let better = if verdict.measure.lower_is_better() { "less" } else { "more" };
        let heading = format!("{}: {} ({better} is better)", verdict.cell, verdict.measure.label());
        let _infallible = writeln!(text, "\n{}", cut(&heading, WIDTH_MAX));
        rows(&mut text, results, verdict);
    }
    text
}

fn rows(text: &mut String, results: &Results<'_>, verdict: &Verdict) {
    let baseline = results.baseline(verdict).unwrap_or_default();
    let mut lines = Vec::new();
    for figures in &verdict.targets {
        let measure = verdict.measure;
        let value =
            figures.reading(measure).text("n/a", |estimate| wording::value_with_interval(measure, estimate));
        let ratio = match verdict.ratio(&figures.target, baseline, measure) {
            _ if figures.target == baseline => format!("1 ({baseline})"),
            Some(ratio) if ratio.because.is_none() => ratio.reading().text("", wording::ratio),
            _ => String::new(),
        };
        let mark =
            figures.unranked(verdict.measure).map_or_else(String::new, |why| format!("not ranked: {why}"));
        lines.push([cut(results.label(&figures.target), NAME_MAX), value, ratio, mark]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let (name, value, ratio) = (width(0), width(1), width(2));
    for line in &lines {
        let text_line =
            format!("  {:<name$}  {:>value$}  {:>ratio$}  {}", line[0], line[1], line[2], line[3]);
        let _infallible = writeln!(text, "{}", cut(text_line.trim_end(), WIDTH_MAX));
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(std::iter::once('…')).collect()
}

/// What the run found, how far it can be trusted, and where the report lies.
pub(crate) fn closing(results: &Results<'_>, folder: &Path) -> String {
    let found = techniques(results)
        .or_else(|| first_finding(results))
        .unwrap_or_else(|| "No trial counts, so nothing was found.".to_owned());
    let (judged, different) = results.twins();
    let (trials, voids) = results.trial_counts();
    let twin = match (judged, different) {
        (0, _) => "No A/A twin ran".to_owned(),
        (judged, different) => {
            format!("The A/A twin was declared different in {different} of {judged} comparisons")
        }
    };
    let peers = results
        .record
        .targets
        .iter()
        .filter(|target| target.family == Family::Peer && target.unavailable.is_none());
    let warnings = match results.record.warnings.len() {
        0 => "nothing to warn of".to_owned(),
        1 => "a warning, which the report has".to_owned(),
        count => format!("{count} warnings, which the report has"),
    };
    let trust =
        format!("{twin}; {voids} of {trials} trials were void; peers: {}; {warnings}.", peers.count());
    format!("{found}\n{trust}\nThe report is {}.", folder.join("report.html").display())
}

/// The numbers of the first scenario, and one verdict: on the best peer, if there is one.
fn first_finding(results: &Results<'_>) -> Option<String> {
    let findings = results.findings();
    let finding = findings.first()?;
    let verdict = finding.sentences.last().map_or_else(String::new, |sentence| format!("; {sentence}"));
    Some(format!("{}: {}{verdict}.", finding.cell, finding.numbers))
}

/// Where all that ran was about techniques: how many of them show, and which most.
fn techniques(results: &Results<'_>) -> Option<String> {
    if results.scenarios().any(|scenario| scenario.lesser.is_empty()) {
        return None;
    }
    let chapter = results.scenarios().find_map(|scenario| scenario.chapter.as_deref())?;
    let compared: Vec<(&Verdict, Ratio)> = results
        .scenarios()
        .filter_map(|scenario| results.main_cell(scenario))
        .flat_map(|verdict| results.lesser(verdict, verdict.measure).map(move |ratio| (verdict, ratio)))
        .collect();
    let differ =
        compared.iter().filter(|(verdict, ratio)| results.claim(verdict, ratio) == Claim::Difference);
    let size = |ratio: &Ratio| ratio.reading().told().map_or(0.0, |told| told.value.ln().abs());
    let most = differ.clone().max_by(|one, other| size(&one.1).total_cmp(&size(&other.1)));
    let most = most.and_then(|(verdict, ratio)| {
        let sentence = results.sentence(verdict, &ratio.above, &ratio.below)?;
        Some(format!(", most of all in {}: {sentence}", verdict.cell))
    });
    Some(format!(
        "Chapter {chapter}: doing without techniques makes a difference in {} of {} comparisons{}.",
        differ.count(),
        compared.len(),
        most.unwrap_or_default()
    ))
}

//! What a run found, as a page of Markdown.

use crate::analysis::figures::Figures;
use crate::analysis::measure::Measure;
use crate::analysis::reading::{Reading, TOO_NOISY};
use crate::analysis::verdict::Verdict;
use crate::record::{CellRecord, Ended};
use crate::report::chart::Gallery;
use crate::report::overview::{self, NOTHING, Table};
use crate::report::results::Results;
use crate::report::scorecard;
use crate::report::wording;
use crate::run::scenario::Scenario;
use std::collections::BTreeMap;
use std::fmt::Write;

pub(crate) fn markdown(results: &Results<'_>, gallery: &Gallery) -> String {
    let undrawn = &gallery.undrawn;
    let record = results.record;
    let mut page = String::from("# Three I/O models, one HTTP core: a comparison\n\n");
    line(&mut page, &format!("`{}`, {}, {}.", record.command, record.started, results.source()));
    if record.finished.is_none() {
        line(&mut page, "\n> **Warning:** this run wasn't finished.");
    }
    page.push_str(&scorecard::markdown(results));
    findings(&mut page, results);
    trust(&mut page, results);
    line(&mut page, "\n## Everybody's numbers\n");
    page.push_str(&overview::numbers(results).markdown());
    line(
        &mut page,
        "\nMedians; the best of each column is bold; what isn't ranked is in parentheses; where the 95 % interval spans \
         more than a factor of three, the number is too noisy to be told.",
    );
    for id in ["uring", "epoll", "blocking"] {
        if let Some(table) = overview::against_peers(results, id) {
            line(&mut page, &format!("\n## {} against the peers\n", results.label(id)));
            page.push_str(&table.markdown());
        }
    }
    line(
        &mut page,
        "\nRatios with their 95 % intervals; ≈ alike (within 5 %), ? can't be told apart here, unmarked: a difference.",
    );
    for scenario in results.scenarios() {
        section(&mut page, results, scenario);
    }
    for (picture, _) in gallery.stills() {
        line(&mut page, &format!("\n![{}]({})", picture.title, picture.file_name()));
    }
    missing_list(&mut page, results, undrawn);
    environment(&mut page, results);
    page
}
fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn findings(page: &mut String, results: &Results<'_>) {
    line(page, "\n## What it found\n");
    for finding in results.findings() {
        line(page, &format!("- **{}** ({}) {}.", finding.scenario.question, finding.cell, finding.numbers));
        for sentence in &finding.sentences {
            line(page, &format!("  - {sentence}"));
        }
    }
}

fn trust(page: &mut String, results: &Results<'_>) {
    line(page, "\n## How far it can be trusted\n");
    for text in Reservations::of(results).lines() {
        line(page, &format!("- {text}"));
    }
    for warning in &results.record.warnings {
        line(page, &format!("- **Warning:** {warning}."));
    }
}

/// How far the run can be trusted, without its warnings.
pub(crate) struct Reservations {
    /// What everybody should know.
    pub(crate) facts: Vec<String>,
    /// What is looked up: a heading that counts, and its lines.
    pub(crate) lists: Vec<(String, Vec<String>)>,
}

impl Reservations {
    pub(crate) fn of(results: &Results<'_>) -> Reservations {
        let (judged, different) = results.twins();
        let (trials, voids) = results.trial_counts();
        let mut facts = vec![
            if judged == 0 {
                "No A/A twin ran: nothing shows what two copies of one server differ by.".to_owned()
            } else {
                format!(
                    "The A/A twin was declared different from its original in {different} of {judged} comparisons."
                )
            },
            format!(
                "{} of {} trials were void, and repeated.",
                wording::thousands(voids as f64),
                wording::thousands(trials as f64)
            ),
        ];
        if let Some(disk) = &results.record.slow_disk {
            facts.push(format!("The slow disk: {}.", disk.means));
        }
        let reasons = results.void_reasons();
        let reasons: Vec<String> =
            reasons.into_iter().map(|(reason, count)| format!("Void, {count} ×: {reason}.")).collect();
        let (unranked, failures, cut_short) = (unranked(results), failures(results), cut_short(results));
        let lists = [
            (wording::counted(reasons.len(), "reason for void trials", "reasons for void trials"), reasons),
            (wording::counted(unranked.len(), "reason not to rank", "reasons not to rank"), unranked),
            (wording::counted(failures.len(), "server left out", "servers left out"), failures),
            (
                wording::counted(cut_short.len(), "comparison cut short", "comparisons cut short"),
                if cut_short.is_empty() {
                    Vec::new()
                } else {
                    vec![format!("Ended by the budget of time: {}.", cut_short.join(", "))]
                },
            ),
        ];
        Reservations { facts, lists: lists.into_iter().filter(|(_, lines)| !lines.is_empty()).collect() }
    }

    /// All of them.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &String> {
        self.facts.iter().chain(self.lists.iter().flat_map(|(_, lines)| lines))
    }
}

fn failures(results: &Results<'_>) -> Vec<String> {
    let cells = results.record.cells.iter();
    let of_cell = |cell: &CellRecord| {
        let texts = cell.failures.iter().map(|(target, reason)| {
            format!("Left out of {} from its failure on: {}: {reason}.", cell.id, results.label(target))
        });
        texts.collect::<Vec<_>>()
    };
    cells.flat_map(of_cell).collect()
}

/// The cells that ended before their rounds did.
fn cut_short(results: &Results<'_>) -> Vec<String> {
    let cells = results.record.cells.iter();
    cells.filter(|cell| cell.ended == Some(Ended::Budget)).map(|cell| cell.id.to_string()).collect()
}

/// Targets that aren't ranked or told: a line per scenario and reason, with the points.
fn unranked(results: &Results<'_>) -> Vec<String> {
    let mut found: BTreeMap<(&str, String), BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for verdict in &results.verdicts {
        for figures in &verdict.targets {
            let is_noisy = figures.reading(verdict.measure).is_too_noisy();
            let noise = is_noisy.then(|| format!("the {} is {TOO_NOISY}", verdict.measure.label()));
            if let Some(why) = figures.unranked(verdict.measure).or(noise) {
                let mine = found.entry((verdict.cell.scenario.as_str(), why)).or_default();
                mine.entry(results.label(&figures.target)).or_default().push(&verdict.cell.point);
            }
        }
    }
    let who = |(label, points): (&str, Vec<&str>)| match points.join(", ").as_str() {
        "" => label.to_owned(),
        points => format!("{label} at {points}"),
    };
    let line = |((scenario, why), mine): ((&str, String), BTreeMap<&str, Vec<&str>>)| {
        format!(
            "Not ranked in {scenario}, {why}: {}.",
            mine.into_iter().map(who).collect::<Vec<_>>().join("; ")
        )
    };
    found.into_iter().map(line).collect()
}

fn section(page: &mut String, results: &Results<'_>, scenario: &Scenario) {
    line(page, &format!("\n## {}\n\n{}\n", scenario.question, scenario.about));
    for (heading, table) in tables(results, scenario) {
        line(page, &format!("**{heading}**\n"));
        page.push_str(&table.markdown());
        line(page, "");
    }
}

pub(crate) fn tables(results: &Results<'_>, scenario: &Scenario) -> Vec<(String, Table)> {
    let verdicts: Vec<&Verdict> = results.of_scenario(scenario).collect();
    if let [verdict] = verdicts.as_slice() {
        return vec![(format!("{}, {} rounds", verdict.cell, verdict.rounds), cell_table(results, verdict))];
    }
    let measure = Measure::of(scenario.metric);
    let mut measures = vec![measure];
    let others = [Measure::CpuPerRequest, Measure::P50, Measure::P99];
    measures.extend(others.iter().filter(|other| **other != measure));
    let known = |measure: &Measure| {
        let mut figures = verdicts.iter().flat_map(|verdict| &verdict.targets);
        figures.any(|figures| figures.reading(*measure) != Reading::Unmeasured)
    };
    measures
        .into_iter()
        .filter(known)
        .map(|measure| {
            (wording::capitalised(measure.label()), axis_table(results, scenario, &verdicts, measure))
        })
        .collect()
}

fn cell_table(results: &Results<'_>, verdict: &Verdict) -> Table {
    let baseline = results.baseline(verdict).unwrap_or_default();
    let mut heads: Vec<String> = vec!["CPU per request".to_owned()];
    if verdict.measure != Measure::CpuPerRequest {
        heads.push(verdict.measure.label().to_owned());
    }
    heads.push(format!("÷ {baseline}"));
    heads.extend(
        ["requests/s", "p50", "p99", "p99.9", "calls/request", "switches/request", "wire bytes", "limiter"]
            .map(str::to_owned),
    );
    let row = |figures: &Figures| {
        let estimate = |measure| {
            figures.reading(measure).text("n/a", |estimate| wording::value_with_interval(measure, estimate))
        };
        let median = |measure| {
            figures.reading(measure).text("n/a", |estimate| wording::value(measure, estimate.value))
        };
        let number = |value: Option<f64>| value.map_or_else(|| NOTHING.to_owned(), wording::three_digits);
        let mut cells = vec![estimate(Measure::CpuPerRequest)];
        if verdict.measure != Measure::CpuPerRequest {
            cells.push(estimate(verdict.measure));
        }
        cells.push(ratio(verdict, &figures.target, baseline));
        cells.extend([Measure::Rate, Measure::P50, Measure::P99, Measure::P999].map(median));
        cells.push(number(figures.calls.as_ref().and_then(|calls| calls.system_calls_sum())));
        cells.push(number(figures.context_switches));
        cells.push(figures.wire_bytes.map_or_else(|| NOTHING.to_owned(), wording::thousands));
        cells.push(figures.limiter.map_or(NOTHING, wording::limiter).to_owned());
        cells
    };
    let rows: Vec<(String, Vec<String>)> = verdict
        .targets
        .iter()
        .map(|figures| (results.label(&figures.target).to_owned(), row(figures)))
        .collect();
    Table { corner: String::new(), heads, rows }
}

fn ratio(verdict: &Verdict, target: &str, baseline: &str) -> String {
    if target == baseline {
        return "1".to_owned();
    }
    match verdict.ratio(target, baseline, verdict.measure) {
        None => NOTHING.to_owned(),
        Some(ratio) => ratio.reading().text(NOTHING, |estimate| match &ratio.because {
            None => wording::ratio(estimate),
            Some(why) => format!("not ranked: {why}"),
        }),
    }
}

fn axis_table(results: &Results<'_>, scenario: &Scenario, verdicts: &[&Verdict], measure: Measure) -> Table {
    let heads: Vec<String> = verdicts.iter().map(|verdict| verdict.cell.point.clone()).collect();
    let corner = scenario.axis.as_ref().map_or("", |axis| axis.name.as_str());
    let targets = results
        .record
        .targets
        .iter()
        .filter(|target| verdicts.iter().any(|verdict| verdict.figures(&target.id).is_some()));
    let rows: Vec<(String, Vec<String>)> = targets
        .map(|target| {
            let cells = verdicts.iter().map(|verdict| {
                verdict.figures(&target.id).map_or_else(
                    || NOTHING.to_owned(),
                    |figures| {
                        let write = |estimate: &_| wording::value_with_interval(measure, estimate);
                        figures.reading(measure).text(NOTHING, write)
                    },
                )
            });
            (target.label.clone(), cells.collect())
        })
        .collect();
    Table { corner: corner.to_owned(), heads, rows }
}

fn missing_list(page: &mut String, results: &Results<'_>, undrawn: &[String]) {
    let missing = missing(results, undrawn);
    if missing.is_empty() {
        return;
    }
    line(page, "\n## What is missing\n");
    for text in missing {
        line(page, &format!("- {text}"));
    }
}

/// Missing targets, measurements and charts, with the reasons.
pub(crate) fn missing(results: &Results<'_>, undrawn: &[String]) -> Vec<String> {
    let absent = results.absent().map(|(target, reason)| format!("{} took no part: {reason}.", target.label));
    let unmeasured = results.record.unmeasured.iter();
    absent
        .chain(unmeasured.map(|(what, reason)| format!("{what} couldn't be measured: {reason}.")))
        .chain(undrawn.iter().map(|what| format!("Not drawn: {what}.")))
        .collect()
}

fn environment(page: &mut String, results: &Results<'_>) {
    line(page, "\n## Where\n");
    for (name, value) in facts(results) {
        line(page, &format!("- {name}: {value}"));
    }
    line(page, "\nHow it was measured, and what is wrong with it: METHODOLOGY.md. All of it: `run.json`.");
}

pub(crate) fn facts(results: &Results<'_>) -> Vec<(String, String)> {
    let record = results.record;
    let environment = &record.environment;
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: Option<String>| {
        facts.push((name.to_owned(), value.unwrap_or_else(|| "unknown".to_owned())));
    };
    fact("kernel", environment.kernel.clone());
    let mut cpu = environment.cpu.model.clone().unwrap_or_else(|| "unknown".to_owned());
    if let Some(online) = &environment.cpu.online {
        let _infallible = write!(cpu, ", online {online}");
    }
    if environment.cpu.virtualised {
        cpu.push_str(", virtualised");
    }
    fact("processor", Some(cpu));
    fact("governor", Some(environment.cpu.governor.clone().unwrap_or_else(|| "none".to_owned())));
    fact("placement", Some(record.placement.to_string()));
    if !record.agents.is_empty() {
        let agents: Vec<String> = record.agents.iter().map(ToString::to_string).collect();
        fact("load from", Some(agents.join("; ")));
        let skews = results.trials.iter().filter_map(|trial| Some(trial.elsewhere.as_ref()?.skew_ns));
        let most = skews.max().map(|ns| format!("at most {} apart", wording::duration(ns as f64)));
        fact("beginnings of the agents", most);
        fact(
            "servers listen on",
            record.server_address.map(|address| address.to_string()).or(Some("the loopback".to_owned())),
        );
    }
    fact("memory", environment.memory_kib.map(|kib| wording::size(kib as f64 * 1024.0)));
    let filesystem = environment.filesystem.as_ref();
    fact("file system of the corpus", filesystem.map(|found| format!("{} ({})", found.kind, found.options)));
    fact(
        "congestion control",
        Some(record.congestion_control.clone().unwrap_or_else(|| "the machine's".to_owned())),
    );
    fact("compiler", Some(environment.build.rustc.clone()));
    fact("source", Some(results.source()));
    fact("seed", Some(record.seed.to_string()));
    let versions: Vec<String> = record
        .targets
        .iter()
        .filter(|target| target.unavailable.is_none())
        .filter_map(|target| {
            let version = target.version.as_ref()?;
            Some(if target.tells_version() {
                target.label.clone()
            } else {
                format!("{} {version}", target.label)
            })
        })
        .collect();
    if !versions.is_empty() {
        fact("versions", Some(versions.join("; ")));
    }
    facts
}

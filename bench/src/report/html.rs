//! `report.html`: the whole run in one file that loads nothing from elsewhere.
//!
//! Without JavaScript it shows verdicts, charts and tables. With it, each scenario has an explorer for other
//! measures, points, servers and baselines. Everything from outside (labels, versions, configurations,
//! reasons) is escaped.

use crate::analysis::measure::Measure;
use crate::analysis::verdict::{COMPARED, Verdict};
use crate::failure::{Failure, Result};
use crate::record::Family;
use crate::record::trial::Trial;
use crate::report::chart::{Gallery, Picture, STYLE};
use crate::report::overview::{self, Table};
use crate::report::results::Results;
use crate::report::scorecard;
use crate::report::summary;
use crate::report::svg::escape;
use crate::report::wording;
use crate::run::scenario::Scenario;
use serde_json::{Map, Value, json};

const CSS: &str = include_str!("../../assets/report.css");
const JS: &str = include_str!("../../assets/report.js");

pub(crate) fn page(results: &Results<'_>, gallery: &Gallery) -> Result<String> {
    let mut page = String::with_capacity(1 << 20);
    let title = "Three I/O models, one HTTP core: a comparison";
    page.push_str(&format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{CSS}{STYLE}</style>\n</head>\n<body>\n"
    ));
    head(&mut page, results, title);
    page.push_str("<main>\n");
    page.push_str(&scorecard::html(results, gallery));
    findings(&mut page, results);
    trust(&mut page, results);
    numbers(&mut page, results);
    page.push_str(
        "<div id=\"controls\" class=\"controls\" role=\"group\" aria-label=\"what is shown\" hidden></div>\n",
    );
    for scenario in results.scenarios() {
        section(&mut page, results, gallery, scenario);
    }
    let whole: Vec<&Picture> = gallery.pictures.iter().filter(|picture| picture.scenario.is_none()).collect();
    if !whole.is_empty() {
        page.push_str("<h2>The whole run</h2>\n");
        whole.iter().for_each(|picture| figure(&mut page, picture));
    }
    page.push_str(
        "<h2>All trials</h2>\n<p>Every trial with its histograms is a line of <code>trials.jsonl</code> beside \
         this page.</p>\n<details id=\"trials\"><summary>The raw numbers</summary></details>\n",
    );
    missing(&mut page, results, gallery);
    peers(&mut page, results);
    environment(&mut page, results)?;
    page.push_str("</main>\n");
    embed(&mut page, "data", &data(results))?;
    embed(&mut page, "raw", &raw(results))?;
    page.push_str(&format!("<script>\n{JS}</script>\n</body>\n</html>\n"));
    Ok(page)
}

/// JSON that is safe within HTML: `<` is escaped.
fn embed(page: &mut String, id: &str, value: &Value) -> Result<()> {
    let text = serde_json::to_string(value).map_err(Failure::context("write report.html"))?;
    let text = text.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    page.push_str(&format!("<script type=\"application/json\" id=\"{id}\">{text}</script>\n"));
    Ok(())
}

fn item(page: &mut String, text: &str) {
    page.push_str(&format!("<li>{}</li>\n", escape(text)));
}

fn head(page: &mut String, results: &Results<'_>, title: &str) {
    let record = results.record;
    let tier = format!("{:?}", record.tier).to_lowercase();
    page.push_str(&format!(
        "<header>\n<h1>{title}</h1>\n<p class=\"muted\">{} · {} · {tier} · repeat it: <code>{}</code></p>\n</header>\n",
        escape(&record.started),
        escape(&results.source()),
        escape(&record.command)
    ));
}

fn findings(page: &mut String, results: &Results<'_>) {
    page.push_str("<h2>What it found</h2>\n<ul class=\"verdicts\">\n");
    for finding in results.findings() {
        page.push_str(&format!(
            "<li><strong>{}</strong> <span class=\"muted\">({})</span> {}.",
            escape(&finding.scenario.question),
            escape(&finding.cell.to_string()),
            escape(&finding.numbers)
        ));
        if !finding.sentences.is_empty() {
            page.push_str("<ul>\n");
            finding.sentences.iter().for_each(|sentence| item(page, sentence));
            page.push_str("</ul>");
        }
        page.push_str("</li>\n");
    }
    page.push_str("</ul>\n");
}

fn trust(page: &mut String, results: &Results<'_>) {
    page.push_str("<h2>How far it can be trusted</h2>\n");
    for warning in &results.record.warnings {
        page.push_str(&format!("<p class=\"warning\"><strong>Warning:</strong> {}.</p>\n", escape(warning)));
    }
    page.push_str("<ul>\n");
    summary::reservations(results).iter().for_each(|text| item(page, text));
    page.push_str("</ul>\n");
}

fn table(page: &mut String, table: &Table, about: &str) {
    page.push_str(&format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table>\n<thead><tr><th>{}</th>",
        escape(about),
        rich(&table.corner)
    ));
    for head in &table.heads {
        page.push_str(&format!("<th scope=\"col\">{}</th>", rich(head)));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for (name, cells) in &table.rows {
        page.push_str(&format!("<tr><th scope=\"row\">{}</th>", rich(name)));
        cells.iter().for_each(|cell| page.push_str(&format!("<td>{}</td>", rich(cell))));
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

/// The two bits of Markdown that tables use: bold, and a line break.
fn rich(text: &str) -> String {
    let text = escape(text).replace("&lt;br&gt;", "<br>");
    match text.strip_prefix("**").and_then(|text| text.strip_suffix("**")) {
        Some(bold) => format!("<strong>{bold}</strong>"),
        None => text,
    }
}

fn numbers(page: &mut String, results: &Results<'_>) {
    page.push_str("<h2>Everybody's numbers</h2>\n");
    table(page, &overview::numbers(results), "everybody's numbers");
    page.push_str(
        "<p class=\"muted\">Medians; the best of each column is bold, what isn't ranked is in parentheses.</p>\n",
    );
    for id in ["uring", "epoll", "blocking"] {
        if let Some(against) = overview::against_peers(results, id) {
            let heading = format!("{} against the peers", results.label(id));
            page.push_str(&format!("<h3>{}</h3>\n", escape(&heading)));
            table(page, &against, &heading);
        }
    }
}

fn figure(page: &mut String, picture: &Picture) {
    page.push_str(&format!(
        "<figure id=\"picture-{}\"><div class=\"wide\">{}</div><div class=\"narrow\">{}</div></figure>\n",
        escape(&picture.name),
        picture.wide,
        picture.narrow
    ));
}

fn section(page: &mut String, results: &Results<'_>, gallery: &Gallery, scenario: &Scenario) {
    page.push_str(&format!(
        "<section aria-label=\"{}\">\n<h2>{}</h2>\n",
        escape(&scenario.question),
        escape(&scenario.name)
    ));
    let mine = |picture: &&Picture| picture.scenario.as_deref() == Some(scenario.name.as_str());
    gallery.pictures.iter().filter(mine).take(1).for_each(|picture| figure(page, picture));
    page.push_str(&format!(
        "<details class=\"explorer\" data-scenario=\"{}\" hidden><summary>Explore: other measures, ratios, other \
         servers</summary></details>\n",
        escape(&scenario.name)
    ));
    gallery.pictures.iter().filter(mine).skip(1).for_each(|picture| figure(page, picture));
    page.push_str("<details><summary>The numbers</summary>\n");
    for (heading, numbers) in summary::tables(results, scenario) {
        page.push_str(&format!("<h3>{}</h3>\n", escape(&heading)));
        table(page, &numbers, &heading);
    }
    page.push_str("</details>\n</section>\n");
}

fn missing(page: &mut String, results: &Results<'_>, gallery: &Gallery) {
    let missing = summary::missing(results, &gallery.undrawn);
    if missing.is_empty() {
        return;
    }
    page.push_str("<h2>What is missing</h2>\n<ul>\n");
    missing.iter().for_each(|text| item(page, text));
    page.push_str("</ul>\n");
}

fn peers(page: &mut String, results: &Results<'_>) {
    let configured: Vec<_> = results
        .record
        .targets
        .iter()
        .filter_map(|target| Some((target, target.configuration.as_ref()?)))
        .collect();
    if configured.is_empty() {
        return;
    }
    page.push_str("<h2>Configurations, as used</h2>\n");
    for (target, configuration) in configured {
        let version = target.version.as_ref().filter(|_| !target.tells_version());
        let version = version.map_or_else(String::new, |version| format!(", {version}"));
        page.push_str(&format!(
            "<details><summary>{}{}</summary>\n<pre tabindex=\"0\">{}</pre></details>\n",
            escape(&target.label),
            escape(&version),
            escape(configuration)
        ));
    }
}

fn environment(page: &mut String, results: &Results<'_>) -> Result<()> {
    page.push_str("<h2>Where</h2>\n<dl>\n");
    for (name, value) in summary::facts(results) {
        page.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", escape(&name), escape(&value)));
    }
    let all = serde_json::to_string_pretty(&results.record.environment)
        .map_err(Failure::context("write report.html"))?;
    page.push_str(&format!(
        "</dl>\n<details><summary>All of the environment</summary>\n<pre tabindex=\"0\">{}</pre></details>\n",
        escape(&all)
    ));
    Ok(())
}

fn data(results: &Results<'_>) -> Value {
    let targets: Vec<Value> = results
        .record
        .targets
        .iter()
        .map(|target| {
            json!({
                "id": target.id,
                "label": target.label,
                "class": results.class(&target.id),
                "variant": results.is_variant(&target.id),
                "main": target.family == Family::Ours && !results.is_variant(&target.id),
            })
        })
        .collect();
    let measures: Map<String, Value> = Measure::ALL
        .into_iter()
        .map(|measure| {
            let kind = match measure {
                Measure::Rate => "rate",
                Measure::MemoryPerConnection => "size",
                Measure::CpuPerRequest | Measure::P50 | Measure::P99 | Measure::P999 => "time",
            };
            let about = json!({"label": measure.label(), "lower": measure.lower_is_better(), "kind": kind});
            (measure.name().to_owned(), about)
        })
        .collect();
    let baseline = results.verdicts.first().and_then(|verdict| results.baseline(verdict));
    let cells: Vec<Value> = results.verdicts.iter().map(cell).collect();
    json!({"targets": targets, "measures": measures, "cells": cells, "baseline": baseline})
}

/// Five significant digits: more than any picture shows.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

fn ends(estimate: crate::analysis::stats::Estimate) -> [Option<f64>; 3] {
    let interval = estimate.interval;
    [Some(estimate.value), interval.map(|found| found.low), interval.map(|found| found.high)]
        .map(|number| number.map(rounded))
}

fn cell(verdict: &Verdict) -> Value {
    let (mut values, mut unranked) = (Map::new(), Map::new());
    for figures in &verdict.targets {
        let estimates: Map<String, Value> = Measure::ALL
            .into_iter()
            .filter_map(|measure| Some((measure.name().to_owned(), json!(ends(figures.estimate(measure)?)))))
            .collect();
        values.insert(figures.target.clone(), Value::Object(estimates));
        let reasons: Map<String, Value> = Measure::ALL
            .into_iter()
            .filter(|measure| figures.estimate(*measure).is_some())
            .filter_map(|measure| Some((measure.name().to_owned(), json!(figures.unranked(measure)?))))
            .collect();
        if !reasons.is_empty() {
            unranked.insert(figures.target.clone(), Value::Object(reasons));
        }
    }
    let bands: Map<String, Value> =
        verdict.bands.iter().map(|(measure, band)| (measure.name().to_owned(), json!(band.margin))).collect();
    let mut ratios: Map<String, Value> = Map::new();
    for measure in COMPARED.into_iter().chain([verdict.measure]) {
        let pairs: Vec<Value> = verdict
            .ratios
            .iter()
            .filter(|ratio| ratio.measure == measure)
            .filter_map(|ratio| {
                let [value, low, high] = ends(ratio.reading().told()?);
                Some(json!([ratio.above, ratio.below, value, low, high, ratio.claim, ratio.because]))
            })
            .collect();
        ratios.insert(measure.name().to_owned(), Value::Array(pairs));
    }
    json!({
        "scenario": verdict.cell.scenario,
        "point": verdict.cell.point,
        "measure": verdict.measure,
        "rounds": verdict.rounds,
        "values": values,
        "unranked": unranked,
        "bands": bands,
        "ratios": ratios,
    })
}

fn raw(results: &Results<'_>) -> Value {
    type Column = (&'static str, fn(&Trial) -> Value);
    fn measured(trial: &Trial, measure: Measure) -> Value {
        json!(measure.of_trial(trial).map(rounded))
    }
    let columns: [Column; 19] = [
        ("number", |trial| json!(trial.place.number)),
        ("started", |trial| json!(trial.started)),
        ("scenario", |trial| json!(trial.cell.scenario)),
        ("point", |trial| json!(trial.cell.point)),
        ("round", |trial| json!(trial.place.round)),
        ("position", |trial| json!(trial.place.position)),
        ("attempt", |trial| json!(trial.place.attempt)),
        ("pass", |trial| json!(trial.pass)),
        ("target", |trial| json!(trial.target)),
        ("void", |trial| json!(trial.void)),
        ("cpu_per_request_ns", |trial| measured(trial, Measure::CpuPerRequest)),
        ("answers_per_second", |trial| measured(trial, Measure::Rate)),
        ("p50_ns", |trial| measured(trial, Measure::P50)),
        ("p99_ns", |trial| measured(trial, Measure::P99)),
        ("p999_ns", |trial| measured(trial, Measure::P999)),
        ("answers", |trial| json!(trial.answers())),
        ("faults", |trial| json!(trial.errors())),
        ("limiter", |trial| json!(wording::limiter(trial.limiter))),
        ("client_busy", |trial| json!(rounded(trial.client_busy))),
    ];
    let row = |trial| -> Vec<Value> { columns.iter().map(|(_, of)| of(trial)).collect() };
    let trials: Vec<Vec<Value>> = results.trials.iter().map(row).collect();
    json!({"columns": columns.map(|(name, _)| name), "trials": trials})
}

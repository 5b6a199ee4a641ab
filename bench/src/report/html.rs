//! `report.html`: the whole run in one file that loads nothing from elsewhere.
//!
//! The page has its numbers once, as JSON, and a program that draws the charts from them. Without the program there are
//! the answers, the heat map and a table for each chart. Everything from outside (labels, versions, configurations,
//! reasons) is escaped.

use crate::analysis::measure::Measure;
use crate::failure::{Failure, Result};
use crate::record::Family;
use crate::report::chart::{Gallery, Picture};
use crate::report::overview::{self, Table};
use crate::report::results::{Finding, Results};
use crate::report::summary::Reservations;
use crate::report::svg::escape;
use crate::report::{heat, readme, scorecard, still, summary, wording};
use crate::run::scenario::Scenario;
use serde_json::{Map, Value, json};

const CSS: &str = include_str!("../../assets/report.css");
const JS: &str = include_str!("../../assets/report.js");
const TITLE: &str = "Three I/O models, one HTTP core: a comparison";
/// Sentences on the first screen.
const TOLD_MAX: usize = 3;

/// The links of the contents, as they are met: where to, and the text.
type Contents = Vec<(String, String)>;

pub(crate) fn page(results: &Results<'_>, gallery: &Gallery) -> Result<String> {
    let mut body = String::with_capacity(1 << 20);
    let mut contents = Contents::new();
    let mut charts: Vec<&Picture> = Vec::new();
    first_screen(&mut body, &mut contents, results, gallery);
    trust(&mut body, &mut contents, results);
    for scenario in results.scenarios() {
        question(&mut body, &mut contents, results, gallery, scenario, &mut charts);
    }
    let whole: Vec<&Picture> = gallery.pictures.iter().filter(|picture| picture.scenario.is_none()).collect();
    for picture in whole {
        begin(&mut body, &mut contents, &format!("run-{}", picture.name), &picture.title);
        figure(&mut body, picture, "h2", "", &mut charts);
        body.push_str("</section>\n");
    }
    numbers(&mut body, &mut contents, results);
    missing(&mut body, &mut contents, results, gallery);
    peers(&mut body, &mut contents, results);
    environment(&mut body, &mut contents, results)?;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{TITLE}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{CSS}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip the contents</a>\n"
    );
    navigation(&mut page, &contents);
    page.push_str(&format!("<main class=\"page\" id=\"main\">\n{body}</main>\n"));
    embed(&mut page, "data", &data(results, &charts))?;
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

fn list(page: &mut String, texts: &[String]) {
    page.push_str("<ul>\n");
    texts.iter().for_each(|text| page.push_str(&format!("<li>{}</li>\n", escape(text))));
    page.push_str("</ul>\n");
}

fn navigation(page: &mut String, contents: &Contents) {
    page.push_str(
        "<nav id=\"contents\" aria-label=\"Contents\"><details open><summary>Contents</summary>\n<ol>\n",
    );
    for (id, text) in contents {
        page.push_str(&format!("<li><a href=\"#{}\">{}</a></li>\n", escape(id), escape(text)));
    }
    page.push_str(
        "</ol>\n<details hidden><summary>Servers</summary><div id=\"servers\" role=\"group\" \
         aria-label=\"servers that are shown\"></div></details>\n</details></nav>\n",
    );
}

/// A section that the contents lead to.
fn begin(page: &mut String, contents: &mut Contents, id: &str, text: &str) {
    contents.push((id.to_owned(), text.to_owned()));
    page.push_str(&format!("<section id=\"{}\">\n", escape(id)));
}

fn first_screen(page: &mut String, contents: &mut Contents, results: &Results<'_>, gallery: &Gallery) {
    let record = results.record;
    let tier = format!("{:?}", record.tier).to_lowercase();
    begin(page, contents, "overview", "At a glance");
    page.push_str(&format!("<h1>{TITLE}</h1>\n<ul class=\"told\">\n"));
    for sentence in told(results, gallery) {
        page.push_str(&format!("<li>{}</li>\n", marked(&sentence)));
    }
    page.push_str(
        "</ul>\n<noscript><p class=\"warning\">The charts are drawn by JavaScript. Below each answer, the table has \
         the same numbers.</p></noscript>\n<div class=\"card\">\n<h2>How far is each server from the best?</h2>\n",
    );
    page.push_str(&heat::html(results));
    page.push_str(&format!(
        "</div>\n<p class=\"muted\"><small>{} · {} · {tier} · repeat it: <code>{}</code></small></p>\n</section>\n",
        escape(&record.started),
        escape(&results.source()),
        escape(&record.command)
    ));
    let claims = scorecard::html(results, gallery);
    if !claims.is_empty() {
        contents.push(("claims".to_owned(), "What is claimed".to_owned()));
        page.push_str(&format!("<div class=\"claims\">\n{claims}</div>\n"));
    }
}

/// What the README would say; else the first questions with their answers.
fn told(results: &Results<'_>, gallery: &Gallery) -> Vec<String> {
    let is_main = |picture: &&Picture| picture.scenario.as_ref() == Some(&picture.name);
    let answers = gallery.pictures.iter().filter(is_main);
    let answers = answers.map(|picture| format!("{} {}", picture.title, picture.answer));
    readme::findings(results).into_iter().chain(answers).take(TOLD_MAX).collect()
}

/// Text with Markdown's bold and code.
fn marked(text: &str) -> String {
    let between = |text: &str, mark: &str, tag: &str| {
        let parts = text.split(mark).enumerate();
        let part = |(index, part)| {
            if index % 2 == 1 { format!("<{tag}>{part}</{tag}>") } else { String::from(part) }
        };
        parts.map(part).collect::<String>()
    };
    between(&between(&escape(text), "**", "strong"), "`", "code")
}

fn trust(page: &mut String, contents: &mut Contents, results: &Results<'_>) {
    begin(page, contents, "trust", "How far it can be trusted");
    page.push_str("<h2>How far it can be trusted</h2>\n");
    for warning in &results.record.warnings {
        page.push_str(&format!("<p class=\"warning\"><strong>Warning:</strong> {}.</p>\n", escape(warning)));
    }
    let Reservations { facts, lists } = Reservations::of(results);
    list(page, &facts);
    if !lists.is_empty() {
        let heads: Vec<&str> = lists.iter().map(|(head, _)| head.as_str()).collect();
        page.push_str(&format!("<details><summary>More: {}</summary>\n", escape(&heads.join(", "))));
        for (head, lines) in &lists {
            page.push_str(&format!("<h3>{}</h3>\n", escape(&wording::capitalised(head))));
            list(page, lines);
        }
        page.push_str("</details>\n");
    }
    page.push_str("</section>\n");
}

fn table(page: &mut String, table: &Table, about: &str) {
    page.push_str(&format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table>\n<thead><tr>{}",
        escape(about),
        // A cell without text is no heading.
        if table.corner.is_empty() {
            "<td></td>".to_owned()
        } else {
            format!("<th>{}</th>", rich(&table.corner))
        }
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

fn numbers(page: &mut String, contents: &mut Contents, results: &Results<'_>) {
    begin(page, contents, "numbers", "Everybody’s numbers");
    page.push_str("<h2>Everybody’s numbers</h2>\n");
    table(page, &overview::numbers(results), "everybody’s numbers");
    page.push_str(
        "<p class=\"muted\">Medians; the best of each column is bold, what isn’t ranked is in parentheses.</p>\n",
    );
    for id in ["uring", "epoll", "blocking"] {
        if let Some(against) = overview::against_peers(results, id) {
            let heading = format!("{} against the peers", results.label(id));
            page.push_str(&format!("<h3>{}</h3>\n", escape(&heading)));
            table(page, &against, &heading);
        }
    }
    page.push_str("</section>\n");
}

/// Everything about one scenario; its question is the heading, and that of its first chart.
fn question<'g>(
    page: &mut String,
    contents: &mut Contents,
    results: &Results<'_>,
    gallery: &'g Gallery,
    scenario: &Scenario,
    charts: &mut Vec<&'g Picture>,
) {
    begin(page, contents, &format!("question-{}", scenario.name), &scenario.question);
    let is_mine = |picture: &&Picture| picture.scenario.as_deref() == Some(scenario.name.as_str());
    let mine: Vec<&Picture> = gallery.pictures.iter().filter(is_mine).collect();
    // The heading is the main chart's own, unless that couldn't be drawn.
    let is_main = |picture: &&Picture| picture.name == scenario.name;
    if !mine.first().is_some_and(is_main) {
        page.push_str(&format!("<h2>{}</h2>\n", escape(&scenario.question)));
    }
    let told = verdicts(&results.findings(), scenario);
    for picture in mine {
        let (heading, details) = if is_main(&picture) { ("h2", told.as_str()) } else { ("h3", "") };
        figure(page, picture, heading, details, charts);
    }
    page.push_str("</section>\n");
}

fn verdicts(findings: &[Finding<'_>], scenario: &Scenario) -> String {
    let mine = findings.iter().find(|finding| finding.scenario.name == scenario.name);
    let Some(finding) = mine.filter(|finding| !finding.sentences.is_empty()) else {
        return String::new();
    };
    let mut page = format!(
        "<details><summary>The verdicts</summary>\n<p>{}: {}.</p>\n",
        escape(&finding.cell.to_string()),
        escape(&finding.numbers)
    );
    list(&mut page, &finding.sentences);
    page.push_str("</details>\n");
    page
}

/// A chart with its question, its answer, what it shows, `details` besides, and its numbers.
fn figure<'g>(
    page: &mut String,
    picture: &'g Picture,
    heading: &str,
    details: &str,
    charts: &mut Vec<&'g Picture>,
) {
    let name = escape(&picture.name);
    page.push_str(&format!(
        "<figure id=\"picture-{name}\" aria-labelledby=\"title-{name}\">\n\
         <{heading} id=\"title-{name}\">{}</{heading}>\n<p class=\"answer\">{}</p>\n\
         <div class=\"chart\" data-title=\"title-{name}\"></div>\n<figcaption>{} <small>[{name}]</small></figcaption>\n{details}\
         <details class=\"numbers\"><summary>The numbers</summary>\n",
        escape(&picture.title),
        escape(&picture.answer),
        escape(&picture.reading)
    ));
    for (about, numbers) in &picture.tables {
        page.push_str(&format!("<p class=\"about\"><strong>{}</strong></p>\n", escape(about)));
        table(page, numbers, &format!("{about}: {name}"));
    }
    page.push_str("</details>\n</figure>\n");
    charts.push(picture);
}

fn missing(page: &mut String, contents: &mut Contents, results: &Results<'_>, gallery: &Gallery) {
    let missing = summary::missing(results, &gallery.undrawn);
    if missing.is_empty() {
        return;
    }
    begin(page, contents, "missing", "What is missing");
    page.push_str("<h2>What is missing</h2>\n");
    list(page, &missing);
    page.push_str("</section>\n");
}

fn peers(page: &mut String, contents: &mut Contents, results: &Results<'_>) {
    let configured: Vec<_> = results
        .record
        .targets
        .iter()
        .filter_map(|target| Some((target, target.configuration.as_ref()?)))
        .collect();
    if configured.is_empty() {
        return;
    }
    begin(page, contents, "configurations", "Configurations, as used");
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
    page.push_str("</section>\n");
}

fn environment(page: &mut String, contents: &mut Contents, results: &Results<'_>) -> Result<()> {
    begin(page, contents, "where", "Where");
    page.push_str("<h2>Where</h2>\n<dl>\n");
    for (name, value) in summary::facts(results) {
        page.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", escape(&name), escape(&value)));
    }
    let all = serde_json::to_string_pretty(&results.record.environment)
        .map_err(Failure::context("write report.html"))?;
    page.push_str(&format!(
        "</dl>\n<details><summary>All of the environment</summary>\n<pre tabindex=\"0\">{}</pre></details>\n\
         </section>\n",
        escape(&all)
    ));
    Ok(())
}

/// What the page's program knows: the targets, the measures, and a chart for each place that waits for one.
fn data(results: &Results<'_>, charts: &[&Picture]) -> Value {
    let target = |target: &crate::record::TargetRecord| {
        let ran = results.verdicts.iter().any(|verdict| verdict.figures(&target.id).is_some());
        // What is drawn last lies on top: peers below, then variants, then the three models.
        let rank = match target.family {
            Family::Ours if !results.is_variant(&target.id) => 2,
            Family::Ours | Family::Lab => 1,
            Family::Peer | Family::Null => 0,
        };
        json!({
            "id": target.id,
            "name": results.name(&target.id),
            "class": still::classes(results, &target.id),
            "shape": results.class(&target.id),
            "variant": results.is_variant(&target.id),
            "shown": results.is_shown(&target.id),
            "rank": rank,
            "took": ran,
        })
    };
    let measures: Map<String, Value> = Measure::ALL
        .into_iter()
        .map(|measure| {
            let unit = match measure {
                Measure::Rate => "rate",
                Measure::MemoryPerConnection => "size",
                Measure::CpuPerRequest | Measure::P50 | Measure::P99 | Measure::P999 => "time",
            };
            let better = if measure.lower_is_better() { "less" } else { "more" };
            (measure.name().to_owned(), json!({"label": measure.label(), "better": better, "unit": unit}))
        })
        .collect();
    json!({
        "targets": results.record.targets.iter().map(target).collect::<Vec<_>>(),
        "measures": measures,
        "charts": charts.iter().map(|picture| &picture.spec).collect::<Vec<_>>(),
    })
}

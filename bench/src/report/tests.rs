//! The report of a run, as files in a folder.

use crate::analysis::verdict::Claim;
use crate::record::{Family, Folder};
use crate::report::results::Results;
use crate::report::sample::{Plan, Sample, sample};
use crate::report::still::labels::Area;
use crate::report::summary::Reservations;
use crate::report::svg::{Font, text_width};
use crate::report::{chart, html, overview, readme, redraw, summary, terminal, write};
use crate::run::scenario::Tier;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Writes a run as the harness does.
fn folder(results: &Path, sample: &Sample) -> PathBuf {
    let record = &sample.record;
    let mut folder =
        Folder::create(results, &record.started, "host", record.environment.source.as_ref()).unwrap();
    folder.write_record(record).unwrap();
    for trial in &sample.trials {
        folder.append(trial).unwrap();
    }
    folder.path().to_owned()
}

fn quick() -> Plan {
    Plan { tier: Tier::Quick, ..Plan::default() }
}

/// Techniques by themselves, beside what else it takes to draw every picture.
fn ablation() -> Plan {
    let only =
        &["hot-small", "hot-medium", "hot-under-cold", "ablation-small", "ablation-large", "ablation-churn"];
    Plan { only, ..quick() }
}

#[test]
fn the_table_fits_a_terminal() {
    for plan in [quick(), ablation(), Plan { everybody: false, ..quick() }] {
        let sample = sample(plan);
        let table = terminal::table(&sample.results());
        assert!(table.contains("hot-small: CPU time per request (less is better)"), "{table}");
        for line in table.lines() {
            assert!(line.chars().count() <= terminal::WIDTH_MAX, "{line}");
            assert!(!line.contains('\u{1b}'), "no colours: it may be going to a file");
        }
    }
}

#[test]
fn the_closing_is_three_sentences() {
    let techniques = &["ablation-small", "ablation-medium", "ablation-large", "ablation-churn"];
    let plans = [
        (Plan { everybody: false, ..quick() }, "hot-small: blocking "),
        (quick(), "hot-small: blocking "),
        (ablation(), "hot-small: blocking "),
        (
            Plan { only: techniques, ..quick() },
            "Chapter ablation: doing without techniques makes a difference in ",
        ),
    ];
    for (plan, begin) in plans {
        let sample = sample(plan);
        let closing = terminal::closing(&sample.results(), Path::new("results/x"));
        assert_eq!(closing.lines().count(), 3, "{closing}");
        assert!(closing.starts_with(begin), "{closing}");
        for line in closing.lines() {
            assert!(line.ends_with('.') && line.chars().count() < 240, "{line}");
        }
        assert!(closing.ends_with("results/x/report.html."), "{closing}");
        // The verdicts of a chapter are many; the report has them all.
        assert!(closing.matches('×').count() <= 1, "{closing}");
    }
}

#[test]
fn the_readme_is_spliced_from_a_folder() {
    let home = tempfile::tempdir().unwrap();
    let folder = folder(&home.path().join("results"), &sample(quick()));
    let readme = home.path().join("README.md");
    fs::write(&readme, format!("# T\n\n{}\n{}\n\nrest\n", readme::BEGIN, readme::END)).unwrap();
    assert!(readme::would_change(&readme, &folder).unwrap());
    assert!(readme::splice(&readme, &folder).unwrap());
    let text = fs::read_to_string(&readme).unwrap();
    let wanted = [
        "- A small cached file takes **",
        "/cost-and-tail.svg)](",
        "| nginx 1.22.1 | ",
        "/SUMMARY.md)",
        "rest\n",
    ];
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!readme::would_change(&readme, &folder).unwrap());
    assert!(!readme::splice(&readme, &folder).unwrap(), "again changes nothing");
    fs::write(&readme, "nothing").unwrap();
    let failure = readme::splice(&readme, &folder).unwrap_err().to_string();
    assert!(failure.contains("README.md: it has no line <!-- bench:begin -->"), "{failure}");
}

/// Where a line of text lies. `text_width` allows for viewers with wider fonts.
fn box_of(text: roxmltree::Node<'_, '_>) -> Area {
    let number = |name: &str| text.attribute(name).unwrap().parse::<f64>().unwrap();
    let font = Font { size: number("font-size"), bold: text.attribute("font-weight").is_some() };
    let width = text_width(text.text().unwrap(), font) * 0.98;
    let left = match text.attribute("text-anchor") {
        Some("end") => number("x") - width,
        Some("middle") => number("x") - width / 2.0,
        _ => number("x"),
    };
    Area { left, top: number("y") - font.size * 0.75, width, height: font.size * 0.8 }
}

fn problems(name: &str, document: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let tree = roxmltree::Document::parse(document).unwrap_or_else(|error| panic!("{name}: {error}"));
    let root = tree.root_element();
    let number = |name: &str| root.attribute(name).unwrap().parse::<f64>().unwrap();
    let page = Area { left: 0.0, top: 0.0, width: number("width"), height: number("height") };
    let texts: Vec<(Area, &str)> = root
        .descendants()
        .filter(|node| node.has_tag_name("text"))
        .map(|node| (box_of(node), node.text().unwrap()))
        .collect();
    assert!(texts.len() > 3, "{name}");
    for (index, (area, text)) in texts.iter().enumerate() {
        if !area.is_within(page) {
            problems.push(format!("{name}: {text:?} leaves the page: {area:?}"));
        }
        for (other, beside) in &texts[index + 1..] {
            if area.overlaps(*other) {
                problems.push(format!("{name}: {text:?} over {beside:?}"));
            }
        }
    }
    for node in root.descendants().filter(roxmltree::Node::is_element) {
        for attribute in node.attributes() {
            let value = attribute.value();
            assert!(!value.contains("NaN") && !value.contains("inf"), "{name}: {value}");
        }
    }
    problems
}

/// Each dot has its name, and no line to a name runs through another one.
fn problems_of_names(name: &str, document: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let tree = roxmltree::Document::parse(document).unwrap();
    let with_tag = |tag: &'static str| tree.descendants().filter(move |node| node.has_tag_name(tag));
    for dot in with_tag("circle") {
        let group = dot.parent().unwrap();
        if !group.children().any(|node| node.has_tag_name("text")) {
            problems.push(format!("{name}: {:?} has no name", group.attribute("data-target")));
        }
    }
    for line in with_tag("line").filter(|line| line.attribute("class") == Some("leader")) {
        let number = |name: &str| line.attribute(name).unwrap().parse::<f64>().unwrap();
        let (from, to) = ((number("x1"), number("y1")), (number("x2"), number("y2")));
        for text in with_tag("text").filter(|text| text.parent() != line.parent()) {
            let area = box_of(text);
            let lies_on = |step: i32| {
                let part = f64::from(step) / 100.0;
                let at = (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
                Area { left: at.0, top: at.1, width: 0.1, height: 0.1 }.overlaps(area)
            };
            if (0..=100).any(lies_on) {
                problems.push(format!("{name}: a line through {:?}", text.text()));
            }
        }
    }
    problems
}

#[test]
fn every_still_is_well_formed_and_its_labels_keep_apart() {
    let mut found = Vec::new();
    let small = Plan { everybody: false, ..Plan::default() };
    for (plan, stills) in [(Plan::default(), 1), (small, 1), (quick(), 1), (ablation(), 2)] {
        let sample = sample(plan);
        let gallery = chart::draw(&sample.results());
        for (picture, still) in gallery.stills() {
            found.extend(problems(&picture.name, still));
            if picture.name == "cost-and-tail" {
                found.extend(problems_of_names(&picture.name, still));
            }
        }
        assert_eq!(gallery.stills().count(), stills);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What each axis of a chart says, as far as its data hold it.
fn axes(spec: &serde_json::Value) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let list = |name: &str| spec[name].as_array().cloned().unwrap_or_default();
    match spec["kind"].as_str().unwrap() {
        // The measure's own label and unit, which `data` has for all charts.
        "measured" => vec![text(&spec["start"]["measure"])],
        "lines" => {
            let views = list("views").into_iter().flat_map(|view| [text(&view["axis"]), text(&view["unit"])]);
            views.chain([text(&spec["x"]["name"])]).collect()
        }
        "bars" => {
            list("panels").iter().flat_map(|panel| [text(&panel["label"]), text(&panel["unit"])]).collect()
        }
        "rows" => vec![text(&spec["axis"]), text(&spec["unit"])],
        "scatter" => ["x", "y"]
            .iter()
            .flat_map(|axis| [text(&spec[axis]["axis"]), text(&spec[axis]["unit"])])
            .collect(),
        "time" | "trials" => vec![text(&spec["axis"])],
        other => panic!("a kind that nobody draws: {other}"),
    }
}

#[test]
fn every_chart_has_a_title_an_answer_units_and_a_table() {
    let compression = Plan { tier: Tier::Full, only: COMPRESSION, ..Plan::default() };
    let small = Plan { everybody: false, ..Plan::default() };
    for plan in [Plan::default(), small, quick(), ablation(), compression] {
        let sample = sample(plan);
        let results = sample.results();
        let gallery = chart::draw(&results);
        assert!(plan.only == COMPRESSION || gallery.undrawn.is_empty(), "{:?}", gallery.undrawn);
        let mut names: Vec<&str> = gallery.pictures.iter().map(|picture| picture.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), gallery.pictures.len(), "no name twice");
        for picture in &gallery.pictures {
            let name = &picture.name;
            assert!(picture.title.ends_with('?'), "{name}: {}", picture.title);
            assert!(picture.answer.ends_with('.') && picture.answer.len() > 20, "{name}: {}", picture.answer);
            assert!(picture.answer.chars().count() < 300, "{name}: one line, not {}", picture.answer);
            assert!(!picture.answer.contains("NaN") && !picture.answer.contains("inf"), "{}", picture.answer);
            let axes = axes(&picture.spec);
            assert!(!axes.is_empty() && axes.iter().all(|axis| !axis.is_empty()), "{name}: {axes:?}");
            let rows = picture.tables.iter().map(|(_, table)| table.rows.len()).sum::<usize>();
            assert!(rows > 0 && picture.tables.iter().all(|(about, _)| !about.is_empty()), "{name}: a table");
        }
    }
}

#[test]
fn noise_has_no_number_in_a_chart_and_no_name_in_an_answer() {
    let sample = sample(Plan { noise: 1.5, only: &["hot-small", "hot-under-cold"], ..quick() });
    let results = sample.results();
    let gallery = chart::draw(&results);
    let verdict = &results.verdicts[0];
    let noisy: Vec<&str> = verdict
        .targets
        .iter()
        .filter(|figures| figures.reading(verdict.measure).is_too_noisy())
        .map(|figures| figures.target.as_str())
        .collect();
    assert!(!noisy.is_empty());
    let picture = picture_of(&gallery, "hot-small");
    let rows = picture.spec["cells"][0]["values"][verdict.measure.name()].as_array().unwrap();
    for id in noisy {
        let row =
            rows.iter().find(|row| row[0].as_u64() == results.index(id).map(|index| index as u64)).unwrap();
        assert_eq!(row[4], 1, "{id} is marked: {row}");
        let ranking = picture.answer.rsplit("of the others, ").next().unwrap();
        let ranking = ranking.split("oo noisy to ").next().unwrap();
        assert!(!ranking.contains(&format!("{} ", results.name(id))), "{id}: {}", picture.answer);
    }
}

#[test]
fn before_the_overload_a_server_answers_what_is_offered() {
    let sample = sample(Plan { only: &["overload"], histograms: false, ..Plan::default() });
    let gallery = chart::draw(&sample.results());
    let spec = &gallery.pictures[0].spec;
    assert_eq!(spec["kind"], "time");
    for row in spec["rows"].as_array().unwrap() {
        let values: Vec<f64> =
            row["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        for slice in 0..10 {
            let offered = spec["offered"][slice].as_f64().unwrap();
            assert!((values[slice] - offered).abs() < 5.0, "{}: {values:?}", row["says"]);
        }
    }
    assert!(gallery.pictures[0].answer.starts_with("Offered 150\u{a0}% of its capacity, "));
}

#[test]
fn the_page_of_a_run_as_large_as_the_reference_is_small() {
    // The scenarios of the standard tier and every server: the reference run has as many trials.
    let sample = sample(Plan::default());
    assert!(sample.trials.len() > 1_800, "{}", sample.trials.len());
    let results = sample.results();
    let page = html::page(&results, &chart::draw(&results)).unwrap();
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
}

#[test]
fn techniques_are_compared_with_the_server_that_has_them() {
    let sample = sample(ablation());
    let results = sample.results();
    let verdict = results.verdicts.iter().find(|verdict| verdict.cell.scenario == "ablation-small").unwrap();
    let ratios: Vec<_> = results.lesser(verdict, verdict.measure).collect();
    for ratio in &ratios {
        assert!(ratio.above.starts_with(&format!("{}-", ratio.below)), "{ratio:?}");
    }
    let of = |id: &str| ratios.iter().find(|ratio| ratio.above == id).unwrap();
    assert!((of("uring-unbatched").reading().told().unwrap().value - 12_300.0 / 7_900.0).abs() < 0.05);
    assert_eq!(of("epoll-plain").claim, Claim::Difference);
    assert_ne!(of("epoll-level-triggered").claim, Claim::Difference);
    let findings = results.findings();
    let finding = findings.iter().find(|finding| finding.cell == &verdict.cell).unwrap();
    assert_eq!(finding.sentences.len(), ratios.len());
    assert!(finding.sentences.iter().any(|sentence| sentence.starts_with("uring, unbatched uses 1.5")));
    let gallery = chart::draw(&results);
    let picture = gallery.pictures.iter().find(|picture| picture.name == "ablation").unwrap();
    assert!(picture.still.as_ref().unwrap().contains("uring, plain"), "a row per server");
    assert!(picture.answer.contains("“uring, unbatched”, which takes 1.5"), "{}", picture.answer);
}

/// A report of many comparisons tells fewer of them as differences than their cells do, and says why.
#[test]
fn sentences_are_judged_together() {
    let mut met = 0;
    for seed in 0..20 {
        let only = &["hot-small", "hot-medium", "hot-large", "common-rate", "churn"];
        let sample = sample(Plan { seed, only, noise: 0.06, histograms: false, ..quick() });
        let results = sample.results();
        for finding in results.findings() {
            let verdict = results.main_cell(finding.scenario).unwrap();
            let ratio = verdict.ratio("uring", "epoll", verdict.measure).unwrap();
            let said = results.sentence(verdict, "uring", "epoll").unwrap();
            let chance = said.contains(" may be chance among ") && said.contains(" comparisons (");
            let taken_back =
                ratio.claim == Claim::Difference && results.claim(verdict, &ratio) == Claim::NoVerdict;
            assert_eq!(chance, taken_back, "{said}");
            assert!(finding.sentences.contains(&said), "{:?}", finding.sentences);
            met += usize::from(taken_back);
        }
    }
    assert!(met > 0, "none in 100");
}

/// An answer names the best alone only where the verdicts do, and names with it whom they don't call different.
#[test]
fn an_answer_tells_apart_whom_the_verdicts_tell_apart() {
    let (mut together, mut alone) = (0, 0);
    for seed in 0..20 {
        let only = &["hot-small", "hot-medium", "hot-large"];
        let noise = if seed < 10 { 0.06 } else { 0.01 };
        let sample = sample(Plan { seed, only, noise, histograms: false, ..quick() });
        let results = sample.results();
        let gallery = chart::draw(&results);
        for scenario in results.scenarios() {
            let verdict = results.main_cell(scenario).unwrap();
            let value = |id: &str| verdict.figures(id).unwrap().estimate(verdict.measure).unwrap().value;
            let shown = verdict.targets.iter().map(|figures| figures.target.as_str());
            let mut ids: Vec<&str> = shown.filter(|id| results.is_shown(id)).collect();
            ids.sort_by(|one, other| value(one).total_cmp(&value(other)));
            let answer = &picture_of(&gallery, &scenario.name).answer;
            let leaders = answer.split(';').next().unwrap();
            assert!(leaders.contains(&results.name(ids[0])), "{answer}");
            let ties: Vec<&&str> = ids[1..]
                .iter()
                .filter(|id| {
                    let ratio = verdict.ratio(id, ids[0], verdict.measure).unwrap();
                    results.claim(verdict, &ratio) != Claim::Difference
                })
                .collect();
            assert_eq!(leaders.contains("can’t be told"), !ties.is_empty(), "{answer}");
            // The fourth and later ones are counted.
            for id in ties.iter().take(2) {
                assert!(leaders.contains(&results.name(id)), "{id}: {answer}");
            }
            for id in ids[1..].iter().filter(|id| !ties.contains(id)) {
                assert!(!leaders.contains(&format!("{} ", results.name(id))), "{id}: {answer}");
            }
            if ties.is_empty() { alone += 1 } else { together += 1 }
        }
    }
    assert!(together > 5 && alone > 5, "{together}, {alone}");
}

/// The best isn't known where most may be better than it.
#[test]
fn an_answer_names_nobody_where_most_are_too_noisy() {
    let mut sample = sample(Plan { only: &["hot-small"], ..quick() });
    let calm = ["caddy", "nginx"];
    for trial in sample.trials.iter_mut().filter(|trial| !calm.contains(&trial.target.as_str())) {
        trial.cost.cpu_ns = trial.cost.cpu_ns * [3, 300][trial.place.round % 2] / 100;
    }
    let gallery = chart::draw(&sample.results());
    let answer = &picture_of(&gallery, "hot-small").answer;
    assert!(answer.starts_with("Too noisy to say here: blocking, epoll, uring and "), "{answer}");
    assert!(!answer.contains("least"), "{answer}");
}

/// A scenario whose peers all run in other settings shows them at once, and ranks them.
#[test]
fn peers_are_shown_where_none_runs_as_it_comes() {
    let sample = sample(Plan { tier: Tier::Full, only: &["site"], ..quick() });
    let results = sample.results();
    let gallery = chart::draw(&results);
    let [main, wire] = ["site", "wire-site"].map(|name| picture_of(&gallery, name));
    for picture in [main, wire] {
        assert_eq!(picture.spec["all"], true, "{}", picture.name);
        assert!(picture.answer.contains(" 1.22.1"), "{}", picture.answer);
    }
    let mut alone = results.record.clone();
    alone.targets.retain(|target| target.family == Family::Ours);
    let alone = Results::of(&alone, results.trials);
    let wire = chart::draw(&alone).pictures.into_iter().find(|picture| picture.name == "wire-site").unwrap();
    assert!(wire.answer.ends_with(" an answer in each of them."), "{}", wire.answer);
}

/// Where the README has nothing to say, questions have their answers on the first screen, without the names of cells.
#[test]
fn the_first_screen_answers_questions() {
    let sample = sample(Plan { only: &["ablation-small", "ablation-large", "ablation-churn"], ..quick() });
    let results = sample.results();
    let page = html::page(&results, &chart::draw(&results)).unwrap();
    let told = page.split("<ul class=\"told\">").nth(1).unwrap().split("</ul>").next().unwrap();
    assert_eq!(told.matches("<li>").count(), 3, "{told}");
    assert_eq!(told.matches("? ").count(), 3, "{told}");
    assert!(!told.contains("ablation-"), "{told}");
}

/// What everybody should know is short; the rest is folded, and counted.
#[test]
fn how_far_it_can_be_trusted_is_told_in_a_few_lines() {
    let sample = sample(Plan::default());
    let results = sample.results();
    let page = html::page(&results, &chart::draw(&results)).unwrap();
    let section = page.split("<section id=\"trust\">").nth(1).unwrap().split("</section>").next().unwrap();
    let (short, long) = section.split_once("<details><summary>More: ").unwrap();
    assert!((2..=4).contains(&short.matches("<li>").count()), "{short}");
    assert_eq!(section.matches("<details").count(), 1);
    assert!(long.starts_with("1 reason for void trials, "), "{long}");
    assert!(long.contains("1 comparison cut short</summary>"), "{long}");
    let reservations = Reservations::of(&results);
    assert_eq!(section.matches("<li>").count(), reservations.lines().count());
    for (head, lines) in &reservations.lists {
        assert!(!lines.is_empty() && head.starts_with(|first: char| first.is_ascii_digit()), "{head}");
    }
}

/// What is too noisy is a number nowhere, bold nowhere, and in no sentence.
#[test]
fn what_is_too_noisy_is_told_nowhere() {
    let mut sample = sample(Plan { only: &["hot-small", "churn"], ..quick() });
    for trial in sample.trials.iter_mut().filter(|trial| trial.target == "uring") {
        // From a third to three times as much: the cheapest by far in every second round.
        let factor = [3, 300][trial.place.round % 2];
        trial.cost.cpu_ns = trial.cost.cpu_ns * factor / 100;
    }
    let results = sample.results();
    let verdict = &results.verdicts[0];
    assert!(verdict.figures("uring").unwrap().reading(verdict.measure).is_too_noisy());
    for finding in results.findings() {
        assert!(finding.numbers.contains("uring too noisy"), "{}", finding.numbers);
        let about = |sentence: &&String| sentence.contains("uring");
        assert_eq!(finding.sentences.iter().find(about), None);
    }
    let reservations = Reservations::of(&results);
    for text in reservations.lines().filter(|text| text.contains("too noisy")) {
        assert!(text.ends_with(": uring.") || text.ends_with(": uring at 1."), "{text}");
    }
    let table = overview::numbers(&results);
    let row = |name: &str| &table.rows.iter().find(|(label, _)| label == name).unwrap().1;
    assert_eq!(row("uring"), &["too noisy", "too noisy"]);
    assert!(
        row("epoll").iter().all(|cell| cell.starts_with("**")),
        "the best of those that are told: {table:?}"
    );
    let against = overview::against_peers(&results, "uring").unwrap();
    assert!(against.rows.iter().flat_map(|(_, cells)| cells).all(|cell| cell == "too noisy" || cell == "–"));
    let said = terminal::table(&results);
    let line = said.lines().find(|line| line.trim_start().starts_with("uring ")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["uring", "too", "noisy"], "{said}");
    let gallery = chart::draw(&results);
    let page = summary::markdown(&results, &gallery);
    for line in page.lines().filter(|line| line.starts_with("| uring |")) {
        assert!(line.contains("too noisy"), "{line}");
    }
    let page = html::page(&results, &gallery).unwrap();
    let json = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(json).unwrap();
    // The page's program draws what is marked with 1 as a hatched interval without a number.
    let cell = &data["charts"][0]["cells"][0];
    let uring = results.index("uring").unwrap() as u64;
    let flag = |rows: &serde_json::Value| {
        let mine = rows.as_array().unwrap().iter().find(|row| row[0].as_u64() == Some(uring)).unwrap();
        mine[4].clone()
    };
    assert_eq!(
        (flag(&cell["values"]["cpu-per-request"]), flag(&cell["values"]["p50"])),
        (json!(1), json!(0))
    );
    for base in ["blocking", "epoll"] {
        assert_eq!(flag(&cell["ratios"]["cpu-per-request"][base]), 1, "{base}");
    }
    assert_eq!(picture_of(&gallery, "hot-small").answer.matches("uring").count(), 1, "as too noisy to rank");
}

fn picture_of<'a>(gallery: &'a chart::Gallery, name: &str) -> &'a chart::Picture {
    gallery.pictures.iter().find(|picture| picture.name == name).unwrap()
}

const COMPRESSION: &[&str] = &["compress", "compress-cold"];

/// A run of both scenarios about compression.
fn compression(noise: f64) -> Sample {
    sample(Plan { tier: Tier::Full, only: COMPRESSION, noise, ..Plan::default() })
}

#[test]
fn what_a_server_does_besides_is_compared_with_itself_without() {
    let sample = compression(0.015);
    let results = sample.results();
    let findings = results.findings();
    assert_eq!(findings.len(), 2);
    for finding in findings {
        let said = finding.sentences.join("\n");
        for pair in &finding.scenario.pairs {
            let (with, without) = (results.label(&pair.0), results.label(&pair.1));
            let is_theirs = |line: &&String| line.contains(with) && line.contains(without);
            assert!(finding.sentences.iter().any(|line| is_theirs(&line)), "{with}, {without}: {said}");
        }
        let answer = finding.sentences.last().unwrap();
        assert!(answer.contains("; on the request's way it grows in nginx, gzip "), "{answer}");
        assert!(!answer.contains("caddy"), "{answer}");
        assert!(said.contains("uring not yet (987 of 1,000); "), "{said}");
        assert!(said.contains("epoll, uncompressed never; "), "{said}");
        assert!(said.contains("nginx, gzip 7.61\u{a0}s"), "{said}");
        assert!(
            said.contains("blocking: first 38.1\u{a0}KiB, second 38.1\u{a0}KiB, third 10.7\u{a0}KiB"),
            "{said}"
        );
        assert!(!said.contains("best peer"), "{said}");
    }
}

#[test]
fn an_answer_claims_no_more_than_the_intervals_do() {
    let answer = |noise: f64, p99: &dyn Fn(&str, u64) -> u64| {
        let mut sample = compression(noise);
        for trial in &mut sample.trials {
            let latency = trial.classes[0].response.as_mut().unwrap();
            latency.p99_ns = latency.p99_ns.map(|measured| p99(&trial.target, measured));
        }
        sample.results().findings()[0].sentences.last().unwrap().clone()
    };
    let vague = answer(0.1, &|_, measured| measured);
    assert!(vague.starts_with("not that it shows: ") && vague.contains(" and none by more than "), "{vague}");
    // As if every other round of one of them were disturbed.
    let turn = std::cell::Cell::new(0);
    let partly = answer(0.1, &|target, measured| {
        turn.set(turn.get() + usize::from(target == "blocking"));
        if target == "blocking" { measured * [1, 40][turn.get() % 2] } else { measured }
    });
    assert!(partly.contains("; of blocking it can't be told: too noisy here"), "{partly}");
    let same = answer(0.015, &|_, _| 400_000);
    assert!(
        same.starts_with("no: the p99 latency stays within 5\u{a0}% of what it is without, in "),
        "{same}"
    );
    assert!(!same.contains("grows"), "{same}");
    let mut busy = compression(0.015);
    busy.trials.iter_mut().for_each(|trial| trial.client_busy = 0.99);
    let unknown = busy.results().findings()[0].sentences.last().unwrap().clone();
    assert_eq!(unknown, "it can't be told; blocking: the client was the limit");
    let noise = answer(1.5, &|_, measured| measured);
    assert_eq!(noise, "it can't be told; too noisy here");
    let stalls = answer(0.015, &|id, _| if id == "uring" { 1_200_000 } else { 400_000 });
    assert_eq!(stalls, "yes: the p99 latency grows in uring 3.00× [3.00, 3.00]");
}

#[test]
fn what_was_not_measured_is_not_drawn_and_the_reason_is_told() {
    let mut sample = sample(Plan { everybody: false, only: &["hot-small", "hot-under-cold"], ..quick() });
    for trial in &mut sample.trials {
        (trial.cost.user_ns, trial.cost.system_ns, trial.calls) = (None, None, None);
        for class in &mut trial.classes {
            class.response = None;
        }
    }
    sample.record.unmeasured.insert("user_ns".to_owned(), "no permission for perf events".to_owned());
    let results = sample.results();
    let gallery = chart::draw(&results);
    let names: Vec<&str> = gallery.pictures.iter().map(|picture| picture.name.as_str()).collect();
    assert_eq!(names, ["hot-small", "trials"]);
    let told = gallery.undrawn.join("\n");
    assert!(told.contains("anatomy of a request in hot-small: no permission for perf events"), "{told}");
    let page = html::page(&results, &gallery).unwrap();
    assert!(page.contains("no permission for perf events"));
}

#[test]
fn a_run_without_a_trial_is_still_a_page() {
    let mut sample = sample(Plan { everybody: false, only: &["hot-small"], ..quick() });
    sample.trials.clear();
    let home = tempfile::tempdir().unwrap();
    let report = write(home.path(), &sample.record, &sample.trials).unwrap();
    assert!(report.closing.starts_with("No trial counts"), "{}", report.closing);
    assert!(home.path().join("report.html").exists());
}

#[test]
fn the_page_asks_nobody_for_anything() {
    let sample = sample(quick());
    let results = sample.results();
    let page = html::page(&results, &chart::draw(&results)).unwrap();
    // A pattern of the same page isn't fetched either.
    let page = page.replace("url(#", "");
    for fetch in [
        "src=",
        "url(",
        "@import",
        "fetch(",
        "XMLHttpRequest",
        "<link rel=\"stylesheet",
        "<iframe",
        "import(",
    ] {
        assert!(!page.contains(fetch), "{fetch}");
    }
    // The name of a namespace isn't fetched.
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"));
    for (index, _) in page.match_indices("href=\"") {
        let inside = ["href=\"data:,\"", "href=\"#"].iter().any(|begin| page[index..].starts_with(begin));
        assert!(inside, "{}", &page[index..index + 60]);
    }
}

/// What [`inspect.js`](inspect.js) finds wrong with a page that is so many pixels wide.
fn faults(page: &str, width: usize) -> String {
    let home = tempfile::tempdir().unwrap();
    let inspected =
        page.replace("</body>", concat!("<script>", include_str!("inspect.js"), "</script></body>"));
    let file = home.path().join("report.html");
    fs::write(&file, inspected).unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", home.path().join("profile").display()))
        .arg(format!("--window-size={width},900"))
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let document = String::from_utf8(output.stdout).unwrap();
    let found = document.split("<pre id=\"found\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    found
        .unwrap_or_else(|| panic!("it wasn't inspected: {}", String::from_utf8_lossy(&output.stderr)))
        .to_owned()
}

#[test]
#[cfg_attr(not(has_chromium), ignore = "no chromium")]
fn a_browser_draws_every_chart() {
    for plan in [Plan { tier: Tier::Standard, ..quick() }, ablation()] {
        let sample = sample(plan);
        let results = sample.results();
        let page = html::page(&results, &chart::draw(&results)).unwrap();
        for width in [1280, 500] {
            assert_eq!(faults(&page, width), "", "{width} pixels");
        }
    }
}

#[test]
fn no_name_on_the_page_is_given_twice() {
    let sample = sample(quick());
    let results = sample.results();
    let page = html::page(&results, &chart::draw(&results)).unwrap();
    let mut ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    for wanted in ["contents", "data", "heat", "heat-tools", "servers"] {
        assert!(ids.contains(&wanted), "the program looks for {wanted}");
    }
    for link in page.split(" href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(ids.contains(&link), "{link} leads nowhere");
    }
}

#[test]
fn the_page_escapes_what_comes_from_outside() {
    let mut sample = sample(quick());
    let evil = "</script><script>alert('x')</script>\"&<b>";
    for target in &mut sample.record.targets {
        target.label.push_str(evil);
        target.configuration = Some(evil.to_owned());
        target.version = Some(evil.to_owned());
    }
    sample.record.command = evil.to_owned();
    sample.record.warnings.push(evil.to_owned());
    sample.trials[0].void = Some(evil.to_owned());
    let results = sample.results();
    let gallery = chart::draw(&results);
    let page = html::page(&results, &gallery).unwrap();
    assert!(!page.contains("<script>alert") && !page.contains("<b>"), "unescaped");
    assert_eq!(page.matches("<script").count(), 2, "the data and the program");
    assert_eq!(page.matches("</script").count(), 2);
    let json = page.split("id=\"data\">").nth(1).unwrap();
    let value: serde_json::Value = serde_json::from_str(json.split("</script>").next().unwrap()).unwrap();
    assert!(value.to_string().contains("alert('x')"), "it is all there");
    for (_, still) in gallery.stills() {
        roxmltree::Document::parse(still).unwrap();
    }
}

#[test]
fn a_report_is_drawn_again_from_its_folder() {
    let home = tempfile::tempdir().unwrap();
    let sample = sample(Plan { everybody: false, ..quick() });
    let folder = folder(home.path(), &sample);
    let drawn = || -> Vec<String> {
        let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        let mut drawn: Vec<String> =
            names.filter(|name| !["run.json", "trials.jsonl"].contains(&&**name)).collect();
        drawn.sort();
        drawn
    };
    write(&folder, &sample.record, &sample.trials).unwrap();
    let read = |name: &String| fs::read_to_string(folder.join(name)).unwrap();
    let (names, before) = (drawn(), drawn().iter().map(read).collect::<Vec<_>>());
    for name in &names {
        fs::remove_file(folder.join(name)).unwrap();
    }
    redraw(&folder).unwrap();
    assert_eq!(drawn(), names);
    assert_eq!(names.iter().map(read).collect::<Vec<_>>(), before);
    let summary = read(&"SUMMARY.md".to_owned());
    for name in names.iter().filter(|name| name.ends_with(".svg")) {
        assert!(summary.contains(&format!("({name})")), "{name} is linked");
    }
    fs::write(folder.join("run.json"), "{\"format\": 1}").unwrap();
    let failure = redraw(&folder).unwrap_err().to_string();
    assert!(failure.ends_with("its format is 1, this version reads 2"), "{failure}");
}

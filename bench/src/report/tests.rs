//! The report of a run, as files in a folder.

use crate::analysis::reading::Reading;
use crate::analysis::verdict::Claim;
use crate::record::Folder;
use crate::report::chart::labels::Area;
use crate::report::sample::{Plan, Sample, sample};
use crate::report::svg::{Font, text_width};
use crate::report::{chart, html, overview, readme, redraw, summary, terminal, write};
use crate::run::scenario::Tier;
use std::fs;
use std::path::{Path, PathBuf};

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
fn every_picture_is_well_formed_and_its_labels_keep_apart() {
    let mut found = Vec::new();
    let compression = Plan { tier: Tier::Full, only: COMPRESSION, ..Plan::default() };
    let small = Plan { everybody: false, ..Plan::default() };
    for plan in [Plan::default(), small, quick(), ablation(), compression] {
        let sample = sample(plan);
        let gallery = chart::draw(&sample.results());
        assert!(plan.only == COMPRESSION || gallery.undrawn.is_empty(), "{:?}", gallery.undrawn);
        let mut names: Vec<&str> = gallery.pictures.iter().map(|picture| picture.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), gallery.pictures.len(), "no name twice");
        for picture in &gallery.pictures {
            assert!(picture.title.ends_with('?'), "{}", picture.title);
            found.extend(problems(&picture.name, &picture.file));
            found.extend(problems(&picture.name, &picture.wide));
            found.extend(problems(&format!("{}, narrow", picture.name), &picture.narrow));
            if picture.name == "cost-and-tail" {
                found.extend(problems_of_names(&picture.name, &picture.wide));
                found.extend(problems_of_names(&format!("{}, narrow", picture.name), &picture.narrow));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
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
    assert!(picture.file.contains("uring, plain"), "a row per server");
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
    assert_eq!(verdict.figures("uring").unwrap().reading(verdict.measure), Reading::TooNoisy);
    for finding in results.findings() {
        assert!(finding.numbers.contains("uring too noisy"), "{}", finding.numbers);
        let about = |sentence: &&String| sentence.contains("uring");
        assert_eq!(finding.sentences.iter().find(about), None);
    }
    for text in summary::reservations(&results).iter().filter(|text| text.contains("too noisy")) {
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
    let cell = &data["cells"][0];
    assert!(
        cell["values"]["uring"]["cpu-per-request"].is_null() && !cell["values"]["uring"]["p50"].is_null()
    );
    for ratio in cell["ratios"]["cpu-per-request"].as_array().unwrap() {
        assert!(ratio[0] != "uring" && ratio[1] != "uring", "{ratio}");
    }
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
        assert!(page[index..].starts_with("href=\"data:,\""), "{}", &page[index..index + 60]);
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
    for wanted in ["controls", "data", "raw", "trials"] {
        assert!(ids.contains(&wanted), "the program looks for {wanted}");
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
    assert_eq!(page.matches("<script").count(), 3, "the data, the trials and the program");
    assert_eq!(page.matches("</script").count(), 3);
    for id in ["data", "raw"] {
        let begin = page.find(&format!("id=\"{id}\">")).unwrap();
        let json = &page[begin + id.len() + 6..];
        let json = &json[..json.find("</script>").unwrap()];
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert!(value.to_string().contains("alert('x')"), "it is all there: {id}");
    }
    for picture in &gallery.pictures {
        roxmltree::Document::parse(&picture.file).unwrap();
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

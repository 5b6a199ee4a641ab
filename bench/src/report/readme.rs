//! README's numbers: findings, a picture and a table of a run, between two markers, so that nobody types them.
//!
//! Nothing here may be noise: a finding is a difference that stands beside all others in the report, and what is
//! [too noisy](crate::analysis::reading::Reading) has no number.

use crate::analysis::verdict::{Claim, Verdict};
use crate::failure::{Failure, Result};
use crate::record::{Family, read_record, read_trials};
use crate::report::overview::{NOTHING, Table};
use crate::report::results::Results;
use crate::report::wording;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What is spliced begins behind this line.
pub(crate) const BEGIN: &str = "<!-- bench:begin -->";
/// It ends before this one.
pub(crate) const END: &str = "<!-- bench:end -->";

/// Puts the results in `folder` between the markers of `readme`, and says whether that changed it.
///
/// # Errors
///
/// The markers aren't there, the results can't be read, or `readme` can't be written.
pub(crate) fn splice(readme: &Path, folder: &Path) -> Result<bool> {
    let (old, new) = both(readme, folder)?;
    if old == new {
        return Ok(false);
    }
    fs::write(readme, new).map_err(Failure::context(format!("write {}", readme.display())))?;
    Ok(true)
}

/// Whether [`splice`] would change `readme`; writes nothing.
///
/// # Errors
///
/// As for [`splice`].
pub(crate) fn would_change(readme: &Path, folder: &Path) -> Result<bool> {
    let (old, new) = both(readme, folder)?;
    Ok(old != new)
}

/// The file as it is and as it should be.
fn both(readme: &Path, folder: &Path) -> Result<(String, String)> {
    let doing = format!("read {}", readme.display());
    let old = fs::read_to_string(readme).map_err(Failure::context(&doing))?;
    let record = read_record(folder)?;
    let trials = read_trials(folder)?;
    let block = block(&Results::of(&record, &trials), &link(readme, folder));
    let new = replace(&old, (BEGIN, END), &block).map_err(Failure::context(readme.display()))?;
    Ok((old, new))
}

/// Replaces what stands between two markers.
pub(crate) fn replace(text: &str, (begin, end): (&str, &str), block: &str) -> Result<String> {
    let find = |marker: &str| match text.matches(marker).count() {
        1 => Ok(text.find(marker).unwrap_or_default()),
        0 => Err(Failure::new(format!("it has no line {marker}; put it where the results belong"))),
        _ => Err(Failure::new(format!("it has {marker} more than once"))),
    };
    let (from, to) = (find(begin)? + begin.len(), find(end)?);
    if to < from {
        return Err(Failure::new(format!("{end} comes before {begin}")));
    }
    Ok(format!("{}\n{block}{}", &text[..from], &text[to..]))
}

const FINDINGS_MAX: usize = 3;
const WIDTH_MAX: usize = 120;
/// The rows of the table, if they ran.
const ROWS: [&str; 6] = ["uring", "epoll", "blocking", "nginx", "lighttpd", "h2o"];
/// The columns of the table: the scenario, the heading, and its unit in nanoseconds.
const COLUMNS: [(&str, &str, f64); 3] = [
    ("hot-small", "CPU per 1 KiB file, µs", 1e3),
    ("hot-medium", "CPU per 100 KiB file, µs", 1e3),
    ("hot-under-cold", "p99 beside a slow disk, ms", 1e6),
];

/// A comparison that can be told with one number: "`what` takes 28% less … in `above` than in `below`".
struct Telling {
    scenario: &'static str,
    what: &'static str,
    above: &'static str,
    /// `None`: the best peer.
    below: Option<&'static str>,
    words: Words,
    /// The end of the sentence, before its full stop.
    end: &'static str,
}

/// How an amount is compared.
struct Words {
    more: &'static str,
    less: &'static str,
    as_much: &'static str,
}

const CPU: Words = Words { more: "more CPU time", less: "less CPU time", as_much: "as much CPU time" };
const MEMORY: Words = Words { more: "more memory", less: "less memory", as_much: "as much memory" };
const WAIT: Words = Words { more: "more time", less: "less time", as_much: "as long" };

/// In order of preference.
const TELLINGS: [Telling; 5] = [
    Telling {
        scenario: "hot-small",
        what: "A small cached file",
        above: "uring",
        below: None,
        words: CPU,
        end: ", the cheapest other server",
    },
    Telling {
        scenario: "hot-under-cold",
        what: "While other clients wait for a slow disk, a cached file",
        above: "nginx",
        below: Some("epoll"),
        words: WAIT,
        end: " (99th percentile; nginx without `aio threads`)",
    },
    Telling {
        scenario: "idle",
        what: "An idle connection",
        above: "blocking",
        below: Some("epoll"),
        words: MEMORY,
        end: "",
    },
    Telling {
        scenario: "common-rate",
        what: "At a low request rate, a small file",
        above: "uring",
        below: Some("epoll"),
        words: CPU,
        end: "",
    },
    Telling {
        scenario: "churn",
        what: "A short connection",
        above: "blocking",
        below: Some("epoll"),
        words: CPU,
        end: "",
    },
];

/// The findings, the picture, the table, and where the rest is.
fn block(results: &Results<'_>, folder: &str) -> String {
    let record = results.record;
    let mut text = String::from("\n");
    for sentence in findings(results) {
        text.push_str(&item(&sentence));
    }
    if let Some((name, says)) = picture(results) {
        text.push_str(&format!("\n[![{says}]({folder}/{name}.svg)]({folder}/SUMMARY.md)\n"));
    }
    let table = table(results);
    if !table.rows.is_empty() {
        text.push_str(&format!("\n{}", table.markdown()));
    }
    let cpu = record.environment.cpu.model.as_deref().unwrap_or("an unknown processor");
    let day = record.started.split('T').next().unwrap_or_default();
    text.push_str(&format!(
        "\nTable: medians; sentences: mean ratios of rounds.\n\
         One worker on one CPU, over loopback. {cpu}, {day}, {}.\n\
         \"Too noisy\": the 95% interval spans more than a factor of three.\n\
         [Everything, with intervals]({folder}/SUMMARY.md).\n\n",
        results.source()
    ));
    text
}

/// An item of a list, in lines of at most [`WIDTH_MAX`] characters.
fn item(sentence: &str) -> String {
    let mut text = String::from("-");
    let mut width = text.len();
    for word in sentence.split(' ') {
        let length = word.chars().count();
        if width + 1 + length > WIDTH_MAX {
            text.push_str("\n ");
            width = 1;
        }
        text.push(' ');
        text.push_str(word);
        width += 1 + length;
    }
    text.push('\n');
    text
}

/// The first [`FINDINGS_MAX`] that the run shows clearly.
pub(crate) fn findings(results: &Results<'_>) -> Vec<String> {
    TELLINGS.iter().filter_map(|telling| telling.sentence(results)).take(FINDINGS_MAX).collect()
}

impl Telling {
    /// Where it is found, and the two that it compares.
    fn pair<'b>(&'b self, results: &'b Results<'_>) -> Option<(&'b Verdict, &'b str, &'b str)> {
        let verdict = main_cell(results, self.scenario)?;
        let below = match self.below {
            Some(id) => newest(results, id),
            None => results.best(verdict, Family::Peer)?.target.as_str(),
        };
        Some((verdict, newest(results, self.above), below))
    }

    /// `None` where the run doesn't show it clearly.
    fn sentence(&self, results: &Results<'_>) -> Option<String> {
        let (verdict, above, below) = self.pair(results)?;
        let ratio = verdict.ratio(above, below, verdict.measure)?;
        if results.claim(verdict, &ratio) != Claim::Difference {
            return None;
        }
        let (amount, than) = amount(ratio.reading().told()?.value, &self.words);
        let (above, below) = (name(results, above), name(results, below));
        Some(format!("{} takes **{amount}** in {above} {than} in {below}{}.", self.what, self.end))
    }
}

/// What the findings compare, whether or not the run shows it: they share in the report's confidence.
pub(crate) fn compared<'b>(results: &'b Results<'_>) -> Vec<(&'b Verdict, &'b str, &'b str)> {
    TELLINGS.iter().filter_map(|telling| telling.pair(results)).collect()
}

/// A ratio in words, and the word before what it is compared with: "28% less CPU time", "than".
fn amount(ratio: f64, words: &Words) -> (String, &'static str) {
    if !(0.5..2.0).contains(&ratio) {
        return (format!("{} times {}", times(ratio), words.as_much), "as");
    }
    let word = if ratio < 1.0 { words.less } else { words.more };
    (format!("{:.0}% {word}", (ratio - 1.0).abs() * 100.0), "than")
}

/// A factor; two digits of a large one, since nobody measures a third.
fn times(ratio: f64) -> String {
    if ratio < 100.0 {
        return wording::factor(ratio);
    }
    let step = 10_f64.powf(ratio.log10().floor() - 1.0);
    wording::thousands((ratio / step).round() * step)
}

/// The picture's name, and what it shows, if both of its measures are there.
fn picture(results: &Results<'_>) -> Option<(&'static str, &'static str)> {
    let is_there = ["hot-small", "hot-under-cold"].into_iter().all(|name| main_cell(results, name).is_some());
    is_there.then_some(("cost-and-tail", "CPU time against tail latency, of each server"))
}

/// A row for each of [`ROWS`], a column for each of [`COLUMNS`].
pub(crate) fn table(results: &Results<'_>) -> Table {
    let columns: Vec<(&Verdict, &str, f64)> = COLUMNS
        .into_iter()
        .filter_map(|(scenario, head, unit)| Some((main_cell(results, scenario)?, head, unit)))
        .collect();
    let mut rows = Vec::new();
    for id in ROWS.map(|id| newest(results, id)) {
        let cells: Vec<String> =
            columns.iter().map(|(verdict, _, unit)| number(results, verdict, id, *unit)).collect();
        if cells.iter().any(|cell| cell != NOTHING) {
            rows.push((name(results, id), cells));
        }
    }
    Table {
        corner: String::new(),
        heads: columns.iter().map(|(_, head, _)| (*head).to_owned()).collect(),
        rows,
    }
}

/// The newest copy of a server that ran in two, as the catalogue calls it.
fn newest<'b>(results: &'b Results<'_>, id: &'b str) -> &'b str {
    let latest = results.target(&format!("{id}-latest"));
    latest.filter(|target| target.unavailable.is_none()).map_or(id, |target| target.id.as_str())
}

fn number(results: &Results<'_>, verdict: &Verdict, id: &str, unit: f64) -> String {
    let Some(figures) = verdict.figures(id) else {
        return NOTHING.to_owned();
    };
    match figures.unranked(verdict.measure) {
        Some(_) if results.estimate(verdict, id, verdict.measure).is_some() => "not ranked".to_owned(),
        _ => figures
            .reading(verdict.measure)
            .text(NOTHING, |estimate| wording::three_digits(estimate.value / unit)),
    }
}

/// The cell that says most of a scenario, if it ran.
fn main_cell<'b>(results: &'b Results<'_>, name: &str) -> Option<&'b Verdict> {
    results.main_cell(results.scenarios().find(|scenario| scenario.name == name)?)
}

/// A server with its version: "`uring`", "nginx 1.22.1, aio threads".
fn name(results: &Results<'_>, id: &str) -> String {
    let Some(target) = results.target(id) else {
        return id.to_owned();
    };
    if target.family == Family::Peer { results.name(id) } else { format!("`{}`", target.label) }
}

/// The folder as a link in the readme: relative to the readme's own folder.
fn link(readme: &Path, folder: &Path) -> String {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let home = real(readme).parent().map(Path::to_owned).unwrap_or_default();
    let folder = real(folder);
    let mut from: Vec<Component<'_>> = home.components().collect();
    let mut to: Vec<Component<'_>> = folder.components().collect();
    let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    from.drain(..common);
    to.drain(..common);
    let up = from.iter().map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to).collect();
    path.display().to_string().replace(' ', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::reading::TOO_NOISY;
    use crate::report::sample::{Plan, Sample, sample};
    use crate::run::scenario::Tier;

    /// What every finding and the table ask for.
    fn asked(noise: f64) -> Sample {
        let only = &["hot-small", "hot-medium", "hot-under-cold", "common-rate", "idle", "churn"];
        sample(Plan { tier: Tier::Standard, only, noise, histograms: false, ..Plan::default() })
    }

    #[test]
    fn findings_are_clear_differences_with_one_number_each() {
        let sample = asked(0.015);
        let found = findings(&sample.results());
        assert_eq!(found.len(), FINDINGS_MAX, "{found:?}");
        assert!(found[0].starts_with("A small cached file takes **1"), "{found:?}");
        assert!(
            found[0].ends_with("less CPU time** in `uring` than in h2o 1.22.1, the cheapest other server."),
            "{found:?}"
        );
        let slow = "takes **110 times as long** in nginx 1.22.1 as in `epoll` (99th percentile;";
        assert!(found[1].contains(slow), "{found:?}");
        for sentence in &found {
            assert_eq!(sentence.matches("**").count(), 2, "{sentence}");
            assert!(!sentence.contains(['[', '×', '±']), "no interval: {sentence}");
        }
    }

    #[test]
    fn noise_is_neither_a_finding_nor_a_number() {
        let sample = asked(1.5);
        let results = sample.results();
        let table = table(&results);
        let cells: Vec<&String> = table.rows.iter().flat_map(|(_, cells)| cells).collect();
        assert!(cells.iter().any(|cell| *cell == TOO_NOISY), "{cells:?}");
        let mut clear = 0;
        for telling in &TELLINGS {
            // The best peer is one of those that are told.
            let Some((verdict, above, below)) = telling.pair(&results) else {
                assert_eq!(telling.sentence(&results), None, "{}", telling.what);
                continue;
            };
            let ratio = verdict.ratio(above, below, verdict.measure).unwrap();
            let is_clear = results.claim(verdict, &ratio) == Claim::Difference;
            assert_eq!(telling.sentence(&results).is_some(), is_clear, "{}", telling.what);
            assert!(!is_clear || ratio.reading().told().is_some(), "{ratio:?}");
            clear += usize::from(is_clear);
        }
        assert!(clear < TELLINGS.len(), "most of it is noise");
    }

    #[test]
    fn the_table_is_small() {
        let sample = asked(0.015);
        let table = table(&sample.results());
        let names: Vec<&str> = table.rows.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["`uring`", "`epoll`", "`blocking`", "nginx 1.22.1", "lighttpd 1.22.1", "h2o 1.22.1"];
        assert_eq!(names, expected);
        assert_eq!(table.heads.len(), 3);
        for cell in table.rows.iter().flat_map(|(_, cells)| cells) {
            assert!(cell.parse::<f64>().is_ok(), "a number and nothing else: {cell}");
        }
    }

    #[test]
    fn the_newest_copy_of_a_server_is_told_with_its_version_once() {
        let mut sample = asked(0.015);
        let target = sample.record.targets.iter_mut().find(|target| target.id == "nginx").unwrap();
        (target.id, target.label) = ("nginx-latest".to_owned(), "nginx 1.31.3".to_owned());
        target.version = Some("1.31.3".to_owned());
        sample.trials.iter_mut().filter(|trial| trial.target == "nginx").for_each(|trial| {
            trial.target = "nginx-latest".to_owned();
        });
        for cell in &mut sample.record.cells {
            cell.targets
                .iter_mut()
                .filter(|id| *id == "nginx")
                .for_each(|id| *id = "nginx-latest".to_owned());
        }
        let names: Vec<String> = table(&sample.results()).rows.into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"nginx 1.31.3".to_owned()), "{names:?}");
        let found = findings(&sample.results());
        assert!(found[1].contains("in nginx 1.31.3 as in `epoll`"), "{found:?}");
    }

    #[test]
    fn items_are_wrapped() {
        assert_eq!(item("A few words."), "- A few words.\n");
        let words = vec!["word"; 50].join(" ");
        let text = item(&words);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= WIDTH_MAX), "{text}");
        assert!(lines[1..].iter().all(|line| line.starts_with("  word")), "{text}");
        assert_eq!(text.split_whitespace().skip(1).collect::<Vec<_>>().join(" "), words);
    }

    #[test]
    fn amounts() {
        let table = [
            (0.719, "28% less CPU time", "than"),
            (1.261, "26% more CPU time", "than"),
            (0.312, "0.31 times as much CPU time", "as"),
            (2.0, "2.00 times as much CPU time", "as"),
            (349.4, "350 times as much CPU time", "as"),
            (3_096.7, "3,100 times as much CPU time", "as"),
        ];
        for (ratio, said, than) in table {
            assert_eq!(amount(ratio, &CPU), (said.to_owned(), than));
        }
    }

    #[test]
    fn only_what_lies_between_the_markers_changes() {
        let text = format!("# Title\n{BEGIN}\nold\n{END}\nrest\n");
        let new = replace(&text, (BEGIN, END), "new\n").unwrap();
        assert_eq!(new, format!("# Title\n{BEGIN}\nnew\n{END}\nrest\n"));
        assert_eq!(replace(&new, (BEGIN, END), "new\n").unwrap(), new, "again changes nothing");
    }

    #[test]
    fn markers_that_are_missing_are_one_line() {
        let table = [
            ("nothing".to_owned(), "it has no line <!-- bench:begin -->; put it where the results belong"),
            (format!("{BEGIN}\n"), "it has no line <!-- bench:end -->; put it where the results belong"),
            (format!("{END}\n{BEGIN}\n"), "<!-- bench:end --> comes before <!-- bench:begin -->"),
            (format!("{BEGIN}{BEGIN}{END}"), "it has <!-- bench:begin --> more than once"),
        ];
        for (text, expected) in table {
            assert_eq!(replace(&text, (BEGIN, END), "new").unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn links_are_relative_to_the_readme() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("results/a run");
        fs::create_dir_all(&folder).unwrap();
        let readme = home.path().join("README.md");
        fs::write(&readme, "").unwrap();
        assert_eq!(link(&readme, &folder), "results/a%20run");
        let below = home.path().join("docs");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("README.md"), "").unwrap();
        assert_eq!(link(&below.join("README.md"), &folder), "../results/a%20run");
    }
}

//! All servers by cost and by tail latency.

use crate::analysis::measure::Measure;
use crate::analysis::reading::Reading;
use crate::analysis::verdict::Verdict;
use crate::report::chart::{Picture, answer, number, spec};
use crate::report::overview::{NOTHING, Table};
use crate::report::results::Results;
use crate::report::still::scatter::Dot;
use crate::report::still::{self, Heading};
use crate::report::wording;
use crate::server::built;
use serde_json::{Value, json};

const COST: &str = "hot-small";
const TAIL: &str = "hot-under-cold";

/// The cost of a small file against the tail beside a slow disk.
pub(super) fn cost_and_tail(results: &Results<'_>) -> Result<Picture, String> {
    let find = |name: &str| -> Result<&Verdict, String> {
        let found = results.verdicts.iter().find(|verdict| verdict.cell.scenario == name);
        found.ok_or_else(|| format!("{name} didn't run"))
    };
    let (cost, tail) = (find(COST)?, find(TAIL)?);
    let dot = |id: &'_ str| {
        let (cost, tail) = (cost.figures(id)?, tail.figures(id)?);
        Dot::new(id, cost.reading(Measure::CpuPerRequest), tail.reading(Measure::P99))
    };
    let targets = results.record.targets.iter();
    // The program's dot would lie on that of its backend.
    let dots: Vec<Dot> =
        targets.filter(|target| target.id != built::NAME).filter_map(|target| dot(&target.id)).collect();
    if dots.len() < 2 {
        return Err(format!("fewer than two targets ran in both {COST} and {TAIL}"));
    }
    let title = "Which servers are cheap, and which stay fast beside a slow disk?";
    let reading = format!(
        "Across: server CPU time per request ({COST}). Up: p99 of cached files while others are read from a slow disk \
         ({TAIL}). Both scales are logarithmic; the best place is the lower left."
    );
    let answer = said(results, &dots);
    let rest = json!({
        "x": {"unit": "time", "axis": "CPU time per request, logarithmic; less is better"},
        "y": {"unit": "time", "axis": "p99 latency, logarithmic; less is better"},
        "dots": dots.iter().map(|dot| entry(results, dot)).collect::<Vec<_>>(),
    });
    Ok(Picture {
        name: "cost-and-tail".to_owned(),
        title: title.to_owned(),
        scenario: None,
        still: Some(still::scatter::draw(
            results,
            Heading { title, answer: &answer, reading: &reading },
            &dots,
        )),
        answer,
        reading: format!("{reading} Faint lines are 95 % intervals."),
        spec: spec(results, "scatter", false, dots.iter().map(|dot| dot.target.as_str()), rest),
        tables: vec![("Cost and tail".to_owned(), table(results, &dots))],
    })
}

fn told(reading: Reading) -> String {
    reading.text(NOTHING, wording::duration_with_interval)
}

fn entry(results: &Results<'_>, dot: &Dot) -> Value {
    let place = |reading: Reading| {
        number(reading, None).map(|[value, low, high, flag]| json!([0, value, low, high, flag]))
    };
    json!({
        "t": results.index(&dot.target),
        "x": place(dot.cost),
        "y": place(dot.tail),
        "says": format!(
            "{}: {} per request, p99 {}",
            results.name(&dot.target),
            told(dot.cost),
            told(dot.tail)
        ),
    })
}

fn table(results: &Results<'_>, dots: &[Dot]) -> Table {
    let row = |dot: &Dot| (results.name(&dot.target), vec![told(dot.cost), told(dot.tail)]);
    let heads = vec![format!("CPU time per request, {COST}"), format!("p99, {TAIL}")];
    Table { corner: String::new(), heads, rows: dots.iter().map(row).collect() }
}

/// Those that nobody beats in both.
fn said(results: &Results<'_>, dots: &[Dot]) -> String {
    let (noisy, sure): (Vec<&Dot>, Vec<&Dot>) =
        dots.iter().filter(|dot| results.is_shown(&dot.target)).partition(|dot| dot.is_too_noisy());
    let is_beaten = |dot: &Dot| {
        let ((cost, tail), mut others) = (dot.place(), sure.iter().map(|other| other.place()));
        others.any(|other| other.0 < cost && other.1 < tail)
    };
    let best: Vec<&str> = sure.iter().filter(|dot| !is_beaten(dot)).map(|dot| dot.target.as_str()).collect();
    let noisy: Vec<&str> = noisy.iter().map(|dot| dot.target.as_str()).collect();
    let mut text = if best.is_empty() {
        "Too noisy to say here.".to_owned()
    } else {
        format!(
            "No server is both cheaper and faster beside a slow disk than {}.",
            answer::names(results, &best)
        )
    };
    if !noisy.is_empty() {
        text.push_str(&format!(" Too noisy to place: {}.", answer::names(results, &noisy)));
    }
    text
}

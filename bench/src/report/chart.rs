//! The charts of the page: what each asks, its answer in one line, and the numbers that it is drawn from.
//!
//! The page draws them itself (`assets/report.js`), at the width that there is, from the numbers as JSON; a table has
//! the same numbers for whoever runs no script. The few that are pictures elsewhere, too, have a
//! [`still`](super::still).

mod ablation;
mod anatomy;
pub(crate) mod answer;
mod measured;
mod memory;
pub(crate) mod overload;
mod per_byte;
mod scatter;
mod spectrum;
mod trials;
mod wire;

use crate::analysis::reading::Reading;
use crate::analysis::stats::Interval;
use crate::report::overview::Table;
use crate::report::results::Results;
use crate::run::scenario;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
pub(crate) struct Picture {
    /// Unique in a report; a link's target on the page is `picture-` and this.
    pub(crate) name: String,
    /// A question.
    pub(crate) title: String,
    pub(crate) scenario: Option<String>,
    /// One line, which claims no more than the intervals do.
    pub(crate) answer: String,
    /// What is shown, and how.
    pub(crate) reading: String,
    /// What the page draws it from: `kind` chooses the way.
    pub(crate) spec: Value,
    /// The same numbers, each table with its heading.
    pub(crate) tables: Vec<(String, Table)>,
    /// The picture as a file, where there is one.
    pub(crate) still: Option<String>,
}

impl Picture {
    pub(crate) fn file_name(&self) -> String {
        format!("{}.svg", self.name)
    }
}

/// The charts of a run, and what couldn't be drawn, with the reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gallery {
    /// In the order of the scenarios, those of the whole run at the end.
    pub(crate) pictures: Vec<Picture>,
    pub(crate) undrawn: Vec<String>,
}

impl Gallery {
    /// Those that are files, too, with their contents.
    pub(crate) fn stills(&self) -> impl Iterator<Item = (&Picture, &str)> {
        self.pictures.iter().filter_map(|picture| Some((picture, picture.still.as_deref()?)))
    }
}

/// Collects everything that the trials of a run allow.
pub(crate) fn draw(results: &Results<'_>) -> Gallery {
    let mut gallery = Gallery::default();
    let mut add = |what: &str, picture: Result<Picture, String>| match picture {
        Ok(picture) => gallery.pictures.push(picture),
        Err(reason) => gallery.undrawn.push(format!("{what}: {reason}")),
    };
    for scenario in results.scenarios() {
        let main = match scenario.picture {
            scenario::Picture::Timeline => overload::goodput(results, scenario),
            _ => measured::of(results, scenario),
        };
        add(&scenario.question, main);
        if scenario.picture == scenario::Picture::Wire {
            add(&format!("bytes on the wire in {}", scenario.name), wire::of(results, scenario));
        }
        if scenario.memory && results.of_scenario(scenario).count() > 1 {
            add(&format!("memory in {}", scenario.name), memory::by_connections(results, scenario));
        }
        if scenario.phases.is_empty()
            && scenario.classes.first().is_some_and(|class| class.rate.is_some())
            && scenario.picture != scenario::Picture::LoadCurve
        {
            add(&format!("percentile spectrum of {}", scenario.name), spectrum::of(results, scenario));
        }
        if scenario.count_calls {
            add(&format!("anatomy of a request in {}", scenario.name), anatomy::of(results, scenario));
        }
    }
    if results.scenarios().any(|scenario| !scenario.lesser.is_empty()) {
        add("what each technique buys", ablation::of(results));
    }
    add("cost per byte by file size", per_byte::of(results));
    add("peers by cost and tail", scatter::cost_and_tail(results));
    add("trials in run order", trials::in_order(results));
    gallery
}

/// What the page draws a chart of this kind from. `ids` are the targets that occur; where those that are shown at first
/// make no chart or have no peer among them, or `all`, every one of them is shown.
fn spec<'b>(
    results: &Results<'_>,
    kind: &str,
    all: bool,
    ids: impl Iterator<Item = &'b str>,
    mut rest: Value,
) -> Value {
    let ids: BTreeSet<&str> = ids.collect();
    let shown = ids.iter().filter(|id| results.is_shown(id)).count();
    let others = results.has_other_peers(&ids.iter().copied().collect::<Vec<_>>());
    let indices: BTreeSet<usize> = ids.into_iter().filter_map(|id| results.index(id)).collect();
    rest["kind"] = json!(kind);
    rest["all"] = json!(all || others || shown < 2);
    rest["targets"] = json!(indices);
    rest
}

/// Five significant digits: more than any chart shows.
pub(crate) fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

/// A value and its interval; what follows is 0, or 1 where it is too noisy, or why it isn't ranked. `None` if it wasn't
/// measured.
fn number(reading: Reading, unranked: Option<String>) -> Option<[Value; 4]> {
    let estimate = reading.place()?;
    let end = |of: fn(&Interval) -> f64| {
        estimate.interval.as_ref().map_or(Value::Null, |interval| json!(rounded(of(interval))))
    };
    let flag = match unranked {
        _ if reading.is_too_noisy() => json!(1),
        Some(reason) => json!(reason),
        None => json!(0),
    };
    Some([json!(rounded(estimate.value)), end(|interval| interval.low), end(|interval| interval.high), flag])
}

/// A target, and its number.
fn row(results: &Results<'_>, id: &str, number: [Value; 4]) -> Option<Vec<Value>> {
    let mut row = vec![json!(results.index(id)?)];
    row.extend(number);
    Some(row)
}

/// How to read an interval, wherever there is one.
const INTERVALS: &str = "Intervals are at 95\u{a0}%. Where one spans more than a factor of three, it is hatched and \
                         has no number: too noisy here.";

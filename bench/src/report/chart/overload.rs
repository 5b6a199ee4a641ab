//! Goodput over time, against what was offered: a panel for each server, in shares of what it can do itself.

use crate::analysis::stats::median;
use crate::analysis::verdict::Verdict;
use crate::record::trial::Trial;
use crate::report::chart::{Picture, answer, rounded, spec};
use crate::report::overview::Table;
use crate::report::results::Results;
use crate::report::svg::number;
use crate::report::wording;
use crate::run::scenario::{Phase, Scenario, whole};
use serde_json::{Value, json};

/// A server is back to normal where so many slices together are answered as they are offered, give or take this share.
const CALM_SLICES: usize = 3;
const CALM_SHARE: f64 = 0.15;

struct Panel {
    target: String,
    /// Right answers in each slice, the median over the trials; 1 is what the server can do.
    goodput: Vec<f64>,
    slice_ms: f64,
    /// The mean of the goodput while most is offered.
    under_load: f64,
    /// From the end of that until the server is back to normal, in nanoseconds; `None` if it isn't in time.
    recovery_ns: Option<f64>,
    error_share: f64,
}

pub(super) fn goodput(results: &Results<'_>, scenario: &Scenario) -> Result<Picture, String> {
    let verdict = results.main_cell(scenario).ok_or("no trial counts")?;
    let targets = results.record.targets.iter();
    let panels: Vec<Panel> =
        targets.filter_map(|target| panel(results, scenario, verdict, &target.id)).collect();
    let first = panels.first().ok_or("no timeline was recorded")?;
    let offered: Vec<f64> = (0..first.goodput.len())
        .map(|slice| 100.0 * factor(&scenario.phases, (slice as f64 + 0.5) * first.slice_ms))
        .collect();
    let rows: Vec<Value> = panels.iter().map(|panel| row(results, panel)).collect();
    let most =
        panels.iter().flat_map(|panel| &panel.goodput).fold(0.0, |most: f64, share| most.max(share * 100.0));
    let rest = json!({
        "axis": "answers per second, in % of the server’s capacity",
        "slice": first.slice_ms / 1e3,
        "seconds": offered.len() as f64 * first.slice_ms / 1e3,
        "offered": offered,
        "most": rounded(most.clamp(100.0, 200.0)),
        "phases": boundaries(&scenario.phases),
        "rows": rows,
    });
    let ids = panels.iter().map(|panel| panel.target.as_str());
    Ok(Picture {
        name: scenario.name.clone(),
        title: scenario.question.clone(),
        scenario: Some(scenario.name.clone()),
        answer: said(results, scenario, &panels),
        reading: format!(
            "{} Grey is what was offered, in colour what was answered right: medians over the trials, in slices of \
             {} ms. 100 % is what the server answered just before, of 64 connections that wait for each answer. One that \
             keeps its head stays there, and is back on the grey soon after.",
            scenario.about,
            number(first.slice_ms)
        ),
        spec: spec(results, "time", false, ids, rest),
        tables: vec![("Under overload, and after it".to_owned(), table(results, &panels))],
        still: None,
    })
}

fn panel(results: &Results<'_>, scenario: &Scenario, verdict: &Verdict, id: &str) -> Option<Panel> {
    let is_mine = |trial: &&Trial| {
        trial.counts()
            && trial.cell == verdict.cell
            && trial.target == id
            && trial.main_class().is_some_and(|class| !class.timeline.is_empty())
    };
    let trials: Vec<&Trial> = results.trials.iter().filter(is_mine).collect();
    let slice_ns = trials.first()?.main_class()?.slice_ns? as f64;
    let slices = trials.iter().filter_map(|trial| Some(trial.main_class()?.timeline.len())).min()?;
    // What was still owed at the window's end comes in a slice that isn't a whole one.
    let window_ms: u64 = scenario.phases.iter().map(|phase| phase.ms).sum();
    let slices = slices.min(whole(window_ms as f64 * 1e6 / slice_ns));
    let figures = verdict.figures(id)?;
    // The record has the mean over the whole window; factor 1 is what the server can do.
    let mean_rate = figures.classes.first()?.offered_per_second.filter(|rate| *rate > 0.0)?;
    let can = mean_rate / mean_factor(&scenario.phases);
    let share = |slice: usize| {
        let counts = trials.iter().filter_map(|trial| Some(*trial.main_class()?.timeline.get(slice)? as f64));
        Some(median(&counts.collect::<Vec<_>>())? * 1e9 / slice_ns / can)
    };
    let goodput: Vec<f64> = (0..slices).filter_map(share).collect();
    let (begin, end, _) = heaviest(&scenario.phases)?;
    let slice_ms = slice_ns / 1e6;
    let [begin, end] = [begin, end].map(|ms| whole(ms / slice_ms).min(goodput.len()));
    let heavy = &goodput[begin..end];
    Some(Panel {
        target: id.to_owned(),
        under_load: heavy.iter().sum::<f64>() / heavy.len().max(1) as f64,
        recovery_ns: recovery(&scenario.phases, &goodput, end, slice_ms).map(|ms| ms * 1e6),
        error_share: figures.error_share,
        goodput,
        slice_ms,
    })
}

/// What is offered on average.
pub(crate) fn mean_factor(phases: &[Phase]) -> f64 {
    let ms: u64 = phases.iter().map(|phase| phase.ms).sum();
    if ms == 0 {
        return 1.0;
    }
    phases.iter().map(|phase| phase.ms as f64 * phase.factor).sum::<f64>() / ms as f64
}

/// When the phase with the most load begins and ends, in ms, and what is offered in it.
fn heaviest(phases: &[Phase]) -> Option<(f64, f64, f64)> {
    let mut begin = 0.0;
    let mut found: Option<(f64, f64, f64)> = None;
    for phase in phases {
        let end = begin + phase.ms as f64;
        if found.is_none_or(|(_, _, factor)| phase.factor > factor) {
            found = Some((begin, end, phase.factor));
        }
        begin = end;
    }
    found
}

/// Milliseconds from slice `end` until what is answered is what is offered.
fn recovery(phases: &[Phase], goodput: &[f64], end: usize, slice_ms: f64) -> Option<f64> {
    let is_calm = |slices: &[f64]| {
        let mean = slices.iter().sum::<f64>() / slices.len() as f64;
        let offered = factor(phases, (end as f64 + 0.5) * slice_ms);
        (mean / offered - 1.0).abs() < CALM_SHARE
    };
    let after = goodput.get(end..)?.windows(CALM_SLICES).position(is_calm)?;
    Some(after as f64 * slice_ms)
}

fn factor(phases: &[Phase], at_ms: f64) -> f64 {
    let mut end = 0.0;
    for phase in phases {
        end += phase.ms as f64;
        if at_ms < end {
            return phase.factor;
        }
    }
    phases.last().map_or(1.0, |phase| phase.factor)
}

/// The moments at which what is offered changes, in seconds, and how they are written.
fn boundaries(phases: &[Phase]) -> Vec<(f64, String)> {
    let mut at = 0.0;
    let mut found = vec![(0.0, "0".to_owned())];
    for phase in phases {
        at += phase.ms as f64 / 1e3;
        found.push((at, format!("{}\u{a0}s", number(at))));
    }
    found
}

fn back(panel: &Panel) -> String {
    panel.recovery_ns.map_or_else(|| "not in time".to_owned(), seconds)
}

fn seconds(nanoseconds: f64) -> String {
    format!("{:.1}\u{a0}s", nanoseconds / 1e9)
}

fn failed(panel: &Panel) -> Option<String> {
    (panel.error_share > 0.0).then(|| format!("{} failed", wording::percent(panel.error_share)))
}

fn row(results: &Results<'_>, panel: &Panel) -> Value {
    let failed = failed(panel);
    let says = format!(
        "{}: answers {} under overload; back to normal after: {}{}",
        results.name(&panel.target),
        wording::percent(panel.under_load),
        back(panel),
        failed.as_ref().map_or_else(String::new, |text| format!("; {text}"))
    );
    let values: Vec<f64> = panel.goodput.iter().map(|share| (share * 1_000.0).round() / 10.0).collect();
    json!({"t": results.index(&panel.target), "values": values, "note": failed, "says": says})
}

fn table(results: &Results<'_>, panels: &[Panel]) -> Table {
    let row = |panel: &Panel| {
        let cells = [
            wording::percent(panel.under_load),
            back(panel),
            failed(panel).unwrap_or_else(|| "none failed".to_owned()),
        ];
        (results.name(&panel.target), cells.to_vec())
    };
    Table {
        corner: String::new(),
        heads: ["answered under overload, of its capacity", "back to normal after", "failures"]
            .map(str::to_owned)
            .to_vec(),
        rows: panels.iter().map(row).collect(),
    }
}

fn said(results: &Results<'_>, scenario: &Scenario, panels: &[Panel]) -> String {
    let mut shown: Vec<&Panel> = panels.iter().filter(|panel| results.is_shown(&panel.target)).collect();
    if shown.is_empty() {
        shown = panels.iter().collect();
    }
    shown.sort_by(|one, other| other.under_load.total_cmp(&one.under_load));
    let (Some(most), Some(least)) = (shown.first(), shown.last()) else {
        return "Nothing can be told here.".to_owned();
    };
    let offered = heaviest(&scenario.phases).map_or(0.0, |(_, _, factor)| factor);
    let late = shown.iter().filter(|panel| panel.recovery_ns.is_none()).count();
    let slowest = shown.iter().filter_map(|panel| Some((panel, panel.recovery_ns?)));
    let slowest = slowest.max_by(|one, other| one.1.total_cmp(&other.1));
    let after = match (late, slowest) {
        (0, Some((panel, time))) => {
            format!(
                "afterwards all are back to normal within {}, {} last",
                seconds(time),
                results.name(&panel.target)
            )
        }
        (late, _) => {
            let never = shown.iter().filter(|panel| panel.recovery_ns.is_none());
            let ids: Vec<&str> = never.map(|panel| panel.target.as_str()).collect();
            let verb = if late == 1 { "isn’t" } else { "aren’t" };
            format!("{} {verb} back to normal before the end", answer::names(results, &ids))
        }
    };
    format!(
        "Offered {} of its capacity, {} answers {} of it and {} {}; {after}.",
        wording::percent(offered),
        results.name(&most.target),
        wording::percent(most.under_load),
        results.name(&least.target),
        wording::percent(least.under_load)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_back_when_it_answers_what_is_offered() {
        let phases = [(200, 0.5), (200, 1.5), (600, 0.5)].map(|(ms, factor)| Phase { ms, factor });
        assert_eq!(heaviest(&phases), Some((200.0, 400.0, 1.5)));
        assert!((mean_factor(&phases) - 0.7).abs() < 1e-9 && (mean_factor(&[]) - 1.0).abs() < 1e-9);
        let table: [(&[f64], Option<f64>); 4] = [
            (&[0.5, 0.5, 0.5, 0.5], Some(0.0)),
            (&[1.0, 1.0, 0.5, 0.5, 0.5], Some(200.0)),
            (&[1.0, 1.0, 1.0, 1.0, 1.0], None),
            (&[0.5, 0.5], None),
        ];
        for (after, expected) in table {
            let goodput = [&[0.5, 0.5, 1.0, 1.0], after].concat();
            assert_eq!(recovery(&phases, &goodput, 4, 100.0), expected, "{after:?}");
        }
    }
}

//! What changed between two runs, in words.

use crate::analysis::compare::{Change, ChangeKind, Comparison};
use crate::analysis::measure::Measure;
use crate::analysis::reading::{Reading, TOO_NOISY};
use crate::report::wording;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Fewer of them are all told; of more, the rest is told with `--verbose`.
const LINES_MAX: usize = 12;

/// What is compared, the verdict, what changed, and how far that can be trusted. `verbose`: also what didn't change, what
/// couldn't be compared, and each cell's drift.
pub(crate) fn text(comparison: &Comparison, verbose: bool) -> String {
    let mut lines = vec![heading(comparison), verdict(comparison)];
    let changed = comparison.changed();
    let most = if verbose { changed.len() } else { LINES_MAX };
    lines.extend(changed.iter().take(most).map(|change| format!("  {}", line(change))));
    if changed.len() > most {
        lines.push(format!("  and {} more", changed.len() - most));
    }
    lines.push(drift(comparison));
    lines.extend(comparison.notes.iter().map(|note| format!("note: {note}")));
    let (unchanged, omitted) = (comparison.unchanged(), &comparison.omitted);
    if verbose {
        details(&mut lines, comparison);
    } else if !unchanged.is_empty() || !omitted.is_empty() {
        let more = match omitted.len() {
            0 => String::new(),
            count => format!(" and {count} that couldn't be compared"),
        };
        lines.push(format!("with --verbose: {} within noise{more}", comparisons(unchanged.len())));
    }
    lines.iter().fold(String::new(), |mut text, line| {
        let _infallible = writeln!(text, "{line}");
        text
    })
}

fn details(lines: &mut Vec<String>, comparison: &Comparison) {
    lines.push("within noise:".to_owned());
    lines.extend(comparison.unchanged().iter().map(|change| format!("  {}", line(change))));
    if !comparison.omitted.is_empty() {
        lines.push("not compared:".to_owned());
        lines.extend(comparison.omitted.iter().map(|text| format!("  {text}")));
    }
    if !comparison.drifts.is_empty() {
        lines.push("the machine, after ÷ before, by the controls:".to_owned());
    }
    lines.extend(comparison.drifts.iter().map(|drift| {
        let controls = drift.controls.join(", ");
        format!("  {}, {}: {} ({controls})", drift.cell, drift.measure.label(), wording::ratio(&drift.ratio))
    }));
}

/// "before: X (abc1234), after: Y (def5678); 5 comparisons of 2 servers in 3 cells".
fn heading(comparison: &Comparison) -> String {
    let changes = &comparison.changes;
    let servers: BTreeSet<&str> = changes.iter().map(|change| change.target.as_str()).collect();
    let cells: BTreeSet<_> = changes.iter().map(|change| &change.cell).collect();
    format!(
        "before: {}, after: {}; {} of {} in {}",
        comparison.before,
        comparison.after,
        comparisons(changes.len()),
        counted(servers.len(), "server"),
        counted(cells.len(), "cell")
    )
}

fn comparisons(count: usize) -> String {
    counted(count, "comparison")
}

fn counted(count: usize, noun: &str) -> String {
    wording::counted(count, noun, &format!("{noun}s"))
}

fn verdict(comparison: &Comparison) -> String {
    let (changed, regressions) = (comparison.changed().len(), comparison.regressions().len());
    if changed == 0 {
        let visible = comparison.visible();
        let seen = if visible.is_finite() {
            format!("; half of the comparisons would have shown a change of {}", wording::percent(visible))
        } else {
            "; there are too few rounds to show any".to_owned()
        };
        return format!("no difference beyond noise{seen}");
    }
    let better = comparison.changed().iter().filter(|change| change.kind == ChangeKind::Better).count();
    let regressions = match regressions {
        0 => "no regression".to_owned(),
        count => counted(count, "regression"),
    };
    let all = counted(changed, "change");
    format!("{regressions}; {all} beyond noise, {better} for the better:")
}

/// "hot-small, uring: CPU time per request worse, 8.10 µs → 9.02 µs, 1.11× [1.09, 1.13] without the machine's drift".
fn line(change: &Change) -> String {
    let word = match change.kind {
        ChangeKind::Better => " better,",
        ChangeKind::Worse => " worse,",
        ChangeKind::WithinNoise => "",
    };
    let value =
        |reading: Reading| reading.text("", |estimate| wording::value(change.measure, estimate.value));
    format!(
        "{}, {}: {}{word} {} → {}, {}",
        change.cell,
        change.target,
        change.measure.label(),
        value(change.before),
        value(change.after),
        ratio(change),
    )
}

/// A change that is surely there is told even where its size isn't known.
fn ratio(change: &Change) -> String {
    match Reading::of(Some(&change.ratio)).told() {
        Some(ratio) => format!("{} without the machine's drift", wording::ratio(&ratio)),
        None if change.kind == ChangeKind::WithinNoise => TOO_NOISY.to_owned(),
        None => format!("by how much is {TOO_NOISY} to tell"),
    }
}

/// The machine's drift in a line, or that no controls ran.
fn drift(comparison: &Comparison) -> String {
    match comparison.drift() {
        None => "the machine's drift is unknown: no peer or null server of the same version ran in both, so a change of \
                 the machine looks like one of the servers"
            .to_owned(),
        Some((ratio, controls)) => {
            let word = if ratio < 1.0 { "less" } else { "more" };
            format!(
                "taken out: the machine's drift, {} {word} {} (by {})",
                wording::percent((ratio - 1.0).abs()),
                Measure::CpuPerRequest.label(),
                controls.join(", ")
            )
        }
    }
}

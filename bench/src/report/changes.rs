//! What changed between two runs, in words.

use crate::analysis::compare::{Change, ChangeKind, Comparison};
use crate::report::wording;
use std::collections::BTreeMap;
use std::fmt;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "before: {}", self.before)?;
        writeln!(f, "after:  {}", self.after)?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        drift(self, f)?;
        let (changed, compared) = (self.changed(), self.changes.len());
        match changed.len() {
            0 => writeln!(f, "no difference beyond noise in {compared} comparisons")?,
            count => writeln!(f, "{count} of {compared} comparisons changed beyond noise:")?,
        }
        for change in changed {
            writeln!(f, "  {}", line(change))?;
        }
        let undecided = self.undecided();
        if !undecided.is_empty() {
            writeln!(f, "within noise:")?;
        }
        for change in undecided {
            writeln!(f, "  {}", line(change))?;
        }
        match self.regressions().len() {
            0 => writeln!(f, "no regression"),
            1 => writeln!(f, "1 regression"),
            more => writeln!(f, "{more} regressions"),
        }
    }
}

/// "hot-small, uring: CPU time per request worse, 8.10 µs → 9.02 µs, 1.11× [1.09, 1.13]".
fn line(change: &Change) -> String {
    let word = match change.kind {
        ChangeKind::Better => " better,",
        ChangeKind::Worse => " worse,",
        ChangeKind::WithinNoise => "",
    };
    format!(
        "{}, {}: {}{word} {} → {}, {} without the machine's drift (noise: ±{})",
        change.cell,
        change.target,
        change.measure.label(),
        wording::value(change.measure, change.before.value),
        wording::value(change.measure, change.after.value),
        wording::ratio(&change.ratio),
        wording::percent(change.margin),
    )
}

/// The drift of the machine, or that no controls ran.
fn drift(comparison: &Comparison, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if comparison.drifts.is_empty() {
        return writeln!(
            f,
            "drift: unknown; no peer or null server in the same version ran in both, so a change of the \
             machine looks like a change of the servers"
        );
    }
    let mut by_controls: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for drift in &comparison.drifts {
        let text = format!("{} {} {}", drift.cell, drift.measure.name(), wording::ratio(&drift.ratio));
        by_controls.entry(drift.controls.join(", ")).or_default().push(text);
    }
    for (controls, drifts) in by_controls {
        writeln!(f, "drift of the machine, taken out, by {controls}:")?;
        for text in drifts {
            writeln!(f, "  {text}")?;
        }
    }
    Ok(())
}

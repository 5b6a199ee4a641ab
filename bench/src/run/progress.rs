//! A line that says how far a run is; silent when nobody watches (standard error isn't a terminal).

use crate::report::wording;
use crate::run::cell::Cell;
use crate::run::plan::Plan;
use crate::run::trial::Trial;
use crate::server::target::Backend;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;

const TEMPLATE: &str = "{bar:24} {pos}/{len} trials, {msg}";
/// Back to the beginning of the line, and empty it (ECMA-48, CR and EL).
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// How far a run is. Cells come in the order of the plan; some may be left out, so what is left to do is
/// known only at most.
pub struct Progress {
    trials_per_cell: usize,
    total: usize,
    position: usize,
    done: u32,
    spent: Duration,
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    /// Of a plan with so many servers.
    pub fn new(plan: &Plan, servers: usize) -> Progress {
        let trials_per_cell = plan.rounds * servers;
        Progress {
            trials_per_cell,
            total: plan.cells.len() * trials_per_cell,
            position: 0,
            done: 0,
            spent: Duration::ZERO,
            bar: None,
            last: String::new(),
        }
    }

    /// The cell with this index in the plan begins.
    pub fn enter(&mut self, index: usize) {
        self.position = index * self.trials_per_cell;
        if std::io::stderr().is_terminal() {
            // Criterion has left a line unfinished here.
            let _unseen = std::io::stderr().write_all(CLEAR_LINE);
        }
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is a constant");
        self.bar = Some(ProgressBar::new(self.total as u64).with_style(style));
    }

    /// A trial begins.
    pub fn begin(&mut self, backend: Backend, cell: &Cell) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}{cell}: {backend}{}", self.time_left(), self.last));
            bar.set_position(self.position as u64);
        }
    }

    /// A trial has ended, after `spent`.
    pub fn end(&mut self, trial: &Trial, spent: Duration) {
        self.position += 1;
        self.done += 1;
        self.spent += spent;
        let rate = wording::rate(trial.requests_per_second);
        self.last = format!(" (before: {} {rate}/s)", trial.backend);
    }

    /// Takes the line away, so that others can write.
    pub fn leave(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.last.clear();
    }

    fn time_left(&self) -> String {
        if self.done == 0 {
            return String::new();
        }
        let mean = self.spent.as_secs_f64() / f64::from(self.done);
        let seconds = mean * (self.total - self.position) as f64;
        if seconds < 60.0 {
            return format!("up to {seconds:.0} s left, ");
        }
        format!("up to {:.0} min {:.0} s left, ", (seconds / 60.0).floor(), (seconds % 60.0).floor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::verdict::tests::trial;
    use crate::run::plan::Effort;

    #[test]
    fn time_left_follows_the_trials() {
        let plan = Plan::new(Effort::Quick, |_| None).unwrap();
        let cell = plan.cells[0];
        let mut progress = Progress::new(&plan, 3);
        progress.enter(0);
        assert_eq!(progress.time_left(), "");
        progress.begin(Backend::Epoll, &cell);
        progress.end(&trial(Backend::Epoll, cell, 0, 8_000.0), Duration::from_secs(1));
        assert_eq!(progress.time_left(), "up to 1 min 47 s left, ");
        progress.leave();
        progress.enter(11);
        assert_eq!(progress.time_left(), "up to 9 s left, ", "cells that were left out cost nothing");
        progress.leave();
    }
}

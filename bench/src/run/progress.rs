//! A line that says how far a run is; silent when nobody watches (standard error isn't a terminal).

use crate::record::trial::{CellId, Trial};
use crate::report::wording;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

const TEMPLATE: &str = "{bar:24} {pos}/{len} trials, {msg}";

/// How far a run is.
pub struct Progress {
    done: u32,
    spent: Duration,
    left: usize,
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    /// Of so many trials, as far as they are known.
    pub fn new(trials: usize) -> Progress {
        let style = || ProgressStyle::with_template(TEMPLATE).expect("the template is a constant");
        let bar =
            std::io::stderr().is_terminal().then(|| ProgressBar::new(trials as u64).with_style(style()));
        Progress { done: 0, spent: Duration::ZERO, left: trials, bar, last: String::new() }
    }

    /// So many trials are left, as far as they are known.
    pub fn plan(&mut self, left: usize) {
        self.left = left;
        if let Some(bar) = &self.bar {
            bar.set_length(u64::from(self.done) + left as u64);
        }
    }

    /// A trial begins.
    pub fn begin(&mut self, target: &str, cell: &CellId) {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::from(self.done));
            bar.set_message(format!("{}{cell}: {target}{}", self.time_left(), self.last));
            bar.tick();
        }
    }

    /// A trial has ended, after `spent`.
    pub fn end(&mut self, trial: &Trial, spent: Duration) {
        self.done += 1;
        self.left = self.left.saturating_sub(1);
        self.spent += spent;
        let cpu = trial.cpu_per_request_ns().map_or_else(|| "no answer".to_owned(), wording::duration);
        let rate: f64 = trial.classes.iter().map(|class| class.answers_per_second).sum();
        self.last = format!(" (before: {} {}/s, {cpu} each)", trial.target, wording::rate(rate));
    }

    /// Takes the line away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Writes a line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// How long a trial has taken, in the mean.
    pub fn per_trial(&self) -> Option<Duration> {
        (self.done > 0).then(|| self.spent / self.done)
    }

    fn time_left(&self) -> String {
        let Some(mean) = self.per_trial() else {
            return String::new();
        };
        let seconds = mean.as_secs_f64() * self.left as f64;
        if seconds < 60.0 {
            return format!("about {seconds:.0} s left, ");
        }
        format!("about {:.0} min left, ", (seconds / 60.0).ceil())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::trial::tests::trial;

    #[test]
    fn time_left_follows_the_trials() {
        let mut progress = Progress::new(108);
        assert_eq!(progress.time_left(), "");
        progress.begin("epoll", &CellId { scenario: "hot-small".to_owned(), point: String::new() });
        progress.end(&trial("epoll", 0, 8_000.0), Duration::from_secs(1));
        assert_eq!(progress.time_left(), "about 2 min left, ");
        progress.plan(9);
        assert_eq!(progress.time_left(), "about 9 s left, ");
        assert_eq!(progress.last, " (before: epoll 125,000/s, 8.00\u{a0}µs each)");
    }
}

//! The progress line of a run. Where standard error isn't a terminal, nothing is said but why the run stands still, and
//! that once.

use crate::record::trial::{CellId, Trial};
use crate::report::wording;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

/// indicatif leaves the colours out where `NO_COLOR` is set.
const TEMPLATE: &str = "{bar:24.cyan/dim} {pos}/{len} trials, {wide_msg}";

/// The first estimate of what a trial takes besides warm-up and window; 30 to 140 ms were seen.
const BESIDES_AT_FIRST: Duration = Duration::from_millis(60);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) trials: usize,
    pub(crate) planned: Duration,
}

impl Left {
    /// This many trials, each with warm-up and window of this length together.
    pub(crate) fn of(trials: usize, each: Duration) -> Left {
        Left { trials, planned: each * u32::try_from(trials).unwrap_or(u32::MAX) }
    }

    #[must_use]
    pub(crate) fn and(self, other: Left) -> Left {
        Left { trials: self.trials + other.trials, planned: self.planned + other.planned }
    }
}

pub(crate) struct Progress {
    done: u32,
    /// What trials took besides their warm-ups and windows, the attempts that were void included.
    besides: Duration,
    left: Left,
    bar: Option<ProgressBar>,
    last: String,
    /// What it was said to wait for, where there is no bar.
    waited_for: BTreeSet<&'static str>,
}

impl Progress {
    /// With this much to do, as far as known.
    pub(crate) fn new(left: Left) -> Progress {
        let style = || ProgressStyle::with_template(TEMPLATE).expect("the template is a constant");
        let bar =
            std::io::stderr().is_terminal().then(|| ProgressBar::new(left.trials as u64).with_style(style()));
        Progress {
            done: 0,
            besides: Duration::ZERO,
            left,
            bar,
            last: String::new(),
            waited_for: BTreeSet::new(),
        }
    }

    /// This much is left, as far as known.
    pub(crate) fn plan(&mut self, left: Left) {
        self.left = left;
        if let Some(bar) = &self.bar {
            bar.set_length(u64::from(self.done) + left.trials as u64);
        }
    }

    pub(crate) fn begin(&mut self, target: &str, cell: &CellId) {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::from(self.done));
            bar.set_message(format!("{}{cell}: {target}{}", self.time_left(), self.last));
            bar.tick();
        }
    }

    /// The run stands still until the machine is quiet.
    pub(crate) fn wait(&mut self, cause: &'static str) {
        let waiting = format!("waiting for a quiet machine ({cause})");
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}{waiting}", self.time_left()));
            bar.tick();
        } else if self.waited_for.insert(cause) {
            eprintln!("{waiting}");
        }
    }

    /// A trial with warm-up and window of length `planned` has ended, after `spent`, a wait behind it included. One that
    /// is void leaves as much to do as before.
    pub(crate) fn end(&mut self, trial: &Trial, planned: Duration, spent: Duration) {
        if trial.void.is_some() {
            self.besides += spent;
        } else {
            self.done += 1;
            self.left.trials = self.left.trials.saturating_sub(1);
            self.left.planned = self.left.planned.saturating_sub(planned);
            self.besides += spent.saturating_sub(planned);
        }
        let cpu = trial.cpu_per_request_ns().map_or_else(|| "no answer".to_owned(), wording::duration);
        let rate: f64 = trial.classes.iter().map(|class| class.answers_per_second).sum();
        self.last = format!(" (before: {} {}/s, {cpu} each)", trial.target, wording::rate(rate));
    }

    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    pub(crate) fn time_for(&self, left: Left) -> Duration {
        let besides = if self.done > 0 { self.besides / self.done } else { BESIDES_AT_FIRST };
        Left::of(left.trials, besides).and(left).planned
    }

    fn time_left(&self) -> String {
        if self.done == 0 {
            return String::new();
        }
        let seconds = self.time_for(self.left).as_secs_f64();
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
        let second = Duration::from_secs(1);
        let mut progress = Progress::new(Left::of(54, second));
        assert_eq!(progress.time_left(), "");
        assert_eq!(
            progress.time_for(Left::of(2, second)),
            Duration::from_millis(2_120),
            "an estimate to begin with"
        );
        progress.begin("epoll", &CellId { scenario: "hot-small".to_owned(), point: String::new() });
        progress.end(&trial("epoll", 0, 8_000.0), second, second * 2);
        assert_eq!(progress.time_left(), "about 2 min left, ");
        progress.plan(Left::of(2, second * 4));
        assert_eq!(progress.time_left(), "about 10 s left, ", "long windows take long");
        assert_eq!(progress.last, " (before: epoll 125,000/s, 8.00\u{a0}µs each)");
        let mut again = trial("epoll", 1, 8_000.0);
        again.void = Some("disturbed".to_owned());
        progress.end(&again, second, second * 2);
        assert_eq!((progress.done, progress.left.trials), (1, 2));
        let expected = (second * 4 + second + second * 2) * 2;
        assert_eq!(progress.time_for(progress.left), expected, "as many will be made twice as were");
    }
}

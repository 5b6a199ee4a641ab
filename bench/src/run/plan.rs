//! How much is measured, and in which order.

use crate::failure::{Failure, Result};
use crate::random::Random;
use crate::run::cell::Cell;
use crate::server::target::Backend;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The default seed: of the corpus and of the order within each round.
const SEED: u64 = 20_777;
const ROUNDS: usize = 12;
const WARM_UP_MS: u64 = 100;
const WINDOW_MS: u64 = 600;

/// The plan of a run. With the environment, all it takes to repeat it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Of the corpus and of the order within each round.
    pub seed: u64,
    /// Rounds per cell; in each, every server has one trial.
    pub rounds: usize,
    /// Load before the window, in milliseconds; not measured.
    pub warm_up_ms: u64,
    /// Time in which new requests start, in milliseconds.
    pub window_ms: u64,
    /// The comparisons.
    pub cells: Vec<Cell>,
}

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// To be believed.
    Full,
    /// For a first look: fewer and shorter trials.
    Quick,
    /// To see that everything works: each cell once, nothing kept.
    Test,
}

impl Effort {
    /// What criterion's own arguments ask for, read as criterion reads them: without `--bench` (which cargo
    /// gives) or with `--test`, everything runs once.
    pub fn of(arguments: &[String]) -> Effort {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        if !has("--bench") || has("--test") {
            Effort::Test
        } else if has("--quick") {
            Effort::Quick
        } else {
            Effort::Full
        }
    }
}

impl Plan {
    /// The plan for an effort. `TRIPTYCH_BENCH_ROUNDS`, `TRIPTYCH_BENCH_WINDOW_MS` and
    /// `TRIPTYCH_BENCH_SEED`, as `variable` finds them, change it.
    ///
    /// # Errors
    ///
    /// A variable that isn't a number, or is 0.
    pub fn new(effort: Effort, variable: impl Fn(&str) -> Option<String>) -> Result<Plan> {
        let (rounds, warm_up_ms, window_ms) = match effort {
            Effort::Full => (ROUNDS, WARM_UP_MS, WINDOW_MS),
            Effort::Quick => (3, WARM_UP_MS, WINDOW_MS / 2),
            Effort::Test => (1, 5, 20),
        };
        let number = |name: &str, default: u64| match variable(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(Failure::new(format!("{name} is {text:?}; it has to be a number over 0"))),
            },
        };
        let rounds = number("TRIPTYCH_BENCH_ROUNDS", rounds as u64)?;
        Ok(Plan {
            seed: number("TRIPTYCH_BENCH_SEED", SEED)?,
            rounds: usize::try_from(rounds).map_err(Failure::context("TRIPTYCH_BENCH_ROUNDS"))?,
            warm_up_ms,
            window_ms: number("TRIPTYCH_BENCH_WINDOW_MS", window_ms)?,
            cells: Cell::all(),
        })
    }

    /// Load before the window.
    pub fn warm_up(&self) -> Duration {
        Duration::from_millis(self.warm_up_ms)
    }

    /// Time in which new requests start.
    pub fn window(&self) -> Duration {
        Duration::from_millis(self.window_ms)
    }

    /// The servers in the order in which they run in a round: random, but the same for the same seed.
    pub fn order(&self, cell: &Cell, round: usize, servers: &[Backend]) -> Vec<Backend> {
        let index = self.cells.iter().position(|known| known == cell).unwrap_or(self.cells.len());
        let stream = (index * self.rounds + round) as u64;
        let mut order = servers.to_vec();
        Random::stream(self.seed, stream).shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_as_criterion_reads_them() {
        let effort = |line: &str| Effort::of(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(effort("--bench"), Effort::Full);
        assert_eq!(effort("uring --bench --noplot"), Effort::Full);
        assert_eq!(effort("--quick --bench"), Effort::Quick);
        assert_eq!(effort("--test --bench"), Effort::Test);
        assert_eq!(effort(""), Effort::Test);
    }

    #[test]
    fn variables_change_the_plan() {
        let plan = Plan::new(Effort::Full, |name| (name == "TRIPTYCH_BENCH_ROUNDS").then(|| "25".to_owned()))
            .unwrap();
        assert_eq!((plan.rounds, plan.window_ms, plan.seed), (25, WINDOW_MS, SEED));
    }

    #[test]
    fn nonsense_is_one_line() {
        for text in ["0", "-1", "many", ""] {
            let failure =
                Plan::new(Effort::Full, |name| (name == "TRIPTYCH_BENCH_WINDOW_MS").then(|| text.to_owned()))
                    .unwrap_err()
                    .to_string();
            assert!(failure.starts_with("TRIPTYCH_BENCH_WINDOW_MS is"), "{failure}");
        }
    }

    #[test]
    fn orders_vary_and_repeat() {
        let plan = Plan::new(Effort::Full, |_| None).unwrap();
        let cell = plan.cells[3];
        let orders: Vec<Vec<Backend>> =
            (0..plan.rounds).map(|round| plan.order(&cell, round, &Backend::ALL)).collect();
        assert!(orders.windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(orders[4], plan.order(&cell, 4, &Backend::ALL));
    }
}

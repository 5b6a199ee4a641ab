//! What the user wants of a run.

use crate::failure::{Failure, Result};
use crate::run::scenario::Tier;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Any constant; the run's record says which it was.
const SEED: u64 = 20_260_101;

/// The options of `bench run`.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// How much of everything: quick takes about 5 minutes, standard 40, full hours
    #[arg(long, value_enum, default_value = "quick")]
    pub tier: Tier,
    /// Only these scenarios or chapters, from any tier (comma-separated)
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO")]
    pub only: Vec<String>,
    /// Only these targets (comma-separated; see `bench targets`)
    #[arg(long, value_delimiter = ',', value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Exactly so many rounds of every comparison
    #[arg(long, value_name = "N", env = "TRIPTYCH_BENCH_ROUNDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// The length of a window, in milliseconds
    #[arg(long, value_name = "MS", env = "TRIPTYCH_BENCH_WINDOW_MS", value_parser = clap::value_parser!(u64).range(1..))]
    pub window_ms: Option<u64>,
    /// Time for the whole run ("10m"): the number of rounds follows from it
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub budget: Option<Duration>,
    /// Where everything random follows from: order, arrivals, files
    #[arg(long, value_name = "N", env = "TRIPTYCH_BENCH_SEED", default_value_t = SEED)]
    pub seed: u64,
    /// Goes on with an interrupted run: its folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tier", "only", "targets", "rounds", "window_ms", "seed"])]
    pub resume: Option<PathBuf>,
    /// Where the files to serve are written: a folder on a disk [default: target/bench]
    #[arg(long, value_name = "DIR", env = "TRIPTYCH_BENCH_CORPUS")]
    pub corpus: Option<PathBuf>,
    /// Where the results go [default: results]
    #[arg(long, value_name = "DIR", env = "TRIPTYCH_BENCH_RESULTS")]
    pub results: Option<PathBuf>,
}

/// The checkout that the harness was built from.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

impl Options {
    /// The folder that the corpus goes below.
    pub fn corpus(&self) -> PathBuf {
        self.corpus.clone().unwrap_or_else(|| repository().join("target/bench"))
    }

    /// The folder that the results go below.
    pub fn results(&self) -> PathBuf {
        self.results.clone().unwrap_or_else(|| repository().join("results"))
    }

    /// Time for the whole run.
    pub fn budget(&self) -> Duration {
        const MINUTE: u64 = 60;
        self.budget.unwrap_or(Duration::from_secs(match self.tier {
            Tier::Quick => 6 * MINUTE,
            Tier::Standard => 45 * MINUTE,
            Tier::Full => 360 * MINUTE,
        }))
    }

    /// # Errors
    ///
    /// Names that no target has.
    pub fn check_targets<'a>(&self, known: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
        match self.targets.iter().find(|name| known.clone().all(|known| known != name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let known: Vec<&str> = known.collect();
                Err(Failure::new(format!("no target {name:?}; there are {}", known.join(", "))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn lists_and_times() {
        let cli = Cli::try_parse_from([
            "run",
            "--only",
            "hot-small,churn",
            "--targets=epoll,nginx",
            "--budget",
            "90s",
            "--tier",
            "standard",
        ]);
        let options = cli.unwrap().options;
        assert_eq!(options.only, ["hot-small", "churn"]);
        assert_eq!((options.tier, options.budget()), (Tier::Standard, Duration::from_secs(90)));
        assert_eq!(options.check_targets(["epoll", "nginx"].into_iter()), Ok(()));
        let failure = options.check_targets(["epoll", "h2o"].into_iter()).unwrap_err().to_string();
        assert_eq!(failure, "no target \"nginx\"; there are epoll, h2o");
    }

    #[test]
    fn nonsense_is_refused() {
        for line in
            ["--rounds 0", "--window-ms none", "--budget soon", "--tier huge", "--resume x --only churn"]
        {
            let arguments = ["run"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(arguments).is_err(), "{line}");
        }
    }
}

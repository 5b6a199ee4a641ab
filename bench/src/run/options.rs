//! What the user wants of a run.

use crate::failure::Result;
use crate::machine::placement::LoadFrom;
use crate::nearest;
use crate::run::scenario::Tier;
use clap::Args;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Any constant; the run's record says which it was.
pub(crate) const SEED: u64 = 20_260_101;

/// The options of `bench run`.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// How much of everything: quick takes about 5 minutes, standard 40, full hours
    #[arg(long, value_enum, default_value = "quick")]
    pub(crate) tier: Tier,
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
    pub(crate) budget: Option<Duration>,
    /// Where everything random follows from: order, arrivals, files
    #[arg(long, value_name = "N", env = "TRIPTYCH_BENCH_SEED", default_value_t = SEED)]
    pub(crate) seed: u64,
    /// Goes on with an interrupted run, or measures again what was disturbed in a finished one: its folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tier", "only", "targets", "rounds", "window_ms", "seed", "agents", "server_address", "share_cpus"])]
    pub(crate) resume: Option<PathBuf>,
    /// Where the files to serve are written: a folder on a disk [default: target/bench]
    #[arg(long, value_name = "DIR", env = "TRIPTYCH_BENCH_CORPUS")]
    pub(crate) corpus: Option<PathBuf>,
    /// Where the results go [default: results]
    #[arg(long, value_name = "DIR", env = "TRIPTYCH_BENCH_RESULTS")]
    pub results: Option<PathBuf>,
    /// Takes the load from this agent (`bench agent`), mostly on another machine; several share it
    #[arg(long = "agent", value_name = "HOST:PORT")]
    pub agents: Vec<String>,
    /// The IPv4 address of this machine on which the servers listen: one that the agents reach
    #[arg(long, value_name = "ADDR", default_value_t = Ipv4Addr::LOCALHOST)]
    pub server_address: Ipv4Addr,
    /// Lets a server with several workers share CPUs with the client where there are too few, and marks that
    #[arg(long, conflicts_with = "agents")]
    pub share_cpus: bool,
}

/// The checkout that the harness was built from.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

impl Options {
    /// The folder that the corpus goes below.
    pub(crate) fn corpus(&self) -> PathBuf {
        self.corpus.clone().unwrap_or_else(|| repository().join("target/bench"))
    }

    /// The folder that the results go below.
    pub(crate) fn results(&self) -> PathBuf {
        self.results.clone().unwrap_or_else(|| repository().join("results"))
    }

    /// Where the load comes from.
    pub(crate) fn load(&self) -> LoadFrom {
        match (self.agents.is_empty(), self.share_cpus) {
            (false, _) => LoadFrom::Elsewhere,
            (true, true) => LoadFrom::HereShared,
            (true, false) => LoadFrom::Here,
        }
    }

    /// Time for the whole run.
    pub(crate) fn budget(&self) -> Duration {
        const MINUTE: u64 = 60;
        self.budget.unwrap_or(Duration::from_secs(match self.tier {
            Tier::Quick => 5 * MINUTE + MINUTE / 2,
            Tier::Standard => 45 * MINUTE,
            Tier::Full => 360 * MINUTE,
        }))
    }

    pub(crate) fn check_targets<'a>(&self, known: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
        match self.targets.iter().find(|name| known.clone().all(|known| known != name.as_str())) {
            None => Ok(()),
            Some(name) => Err(nearest::unknown("target", name, known)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::admission::by_name_alone;
    use crate::run::group;
    use crate::run::rounds::LEAST;
    use crate::run::scenario::{self, Group, Scenario};
    use crate::server::catalogue::catalogue;
    use crate::server::target::Target;
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
        assert_eq!(failure, "no target \"nginx\"; the nearest are epoll, h2o");
    }

    /// How long a tier takes with every target of the catalogue, installed or not, when a comparison has so many rounds.
    fn length(tier: Tier, rounds: impl Fn(&Scenario) -> usize) -> Duration {
        // Measured on two virtual CPUs: 0.8 s at the gate, 30 to 140 ms, and one trial in ten.
        const GATE: Duration = Duration::from_millis(900);
        const BESIDES: Duration = Duration::from_millis(60);
        const VOID: f64 = 0.1;
        let times = |count: usize, each: Duration| each * u32::try_from(count).unwrap();
        let scenarios = scenario::select(tier, &[]).unwrap();
        let targets = catalogue();
        let left_out = by_name_alone(tier, &targets, |_| true);
        let group = |target: &Target| match left_out.contains(target.id()) {
            true => Group::ByNameAlone,
            false => group(target),
        };
        let mut groups: Vec<(Group, String)> =
            targets.iter().map(|target| (group(target), target.id().to_owned())).collect();
        groups.retain(|(group, id)| scenarios.iter().any(|scenario| scenario.asks_for(*group, id)));
        let trials: Duration = scenarios
            .iter()
            .map(|scenario| {
                let targets = groups.iter().filter(|(group, id)| scenario.asks_for(*group, id)).count();
                let rounds = rounds(scenario) + scenario.counting_passes();
                let window_ms = scenario.effort(tier).warm_up_ms + scenario.window_ms(tier);
                let each = Duration::from_millis(window_ms) + BESIDES;
                times(targets * scenario.points(tier).len() * rounds, each)
            })
            .sum();
        times(groups.len(), GATE) + trials.mul_f64(1.0 + VOID)
    }

    #[test]
    fn tiers_fit_their_budgets() {
        for tier in [Tier::Quick, Tier::Standard, Tier::Full] {
            let name = format!("{tier:?}").to_lowercase();
            let budget = Cli::try_parse_from(["run", "--tier", &name]).unwrap().options.budget();
            let least = length(tier, |_| LEAST);
            assert!(least < budget, "{name}: with {LEAST} rounds of each {least:.0?} of {budget:.0?}");
            let planned = length(tier, |scenario| scenario.effort(tier).rounds);
            // `cargo bench` should have what it asks for; the others have to share out their hours.
            assert!(tier != Tier::Quick || planned < budget, "{name}: {planned:.0?} of {budget:.0?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--rounds 0",
            "--window-ms none",
            "--budget soon",
            "--tier huge",
            "--resume x --only churn",
            "--agent a:1 --share-cpus",
        ] {
            let arguments = ["run"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(arguments).is_err(), "{line}");
        }
    }
}

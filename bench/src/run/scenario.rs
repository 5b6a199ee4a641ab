//! Scenarios: what is compared, as data in `bench/scenarios.toml`.
//!
//! A scenario asks one question. It has one point, or several along an axis. At each point, classes of
//! connections put the same load on every target.

use crate::failure::{Failure, Result};
use crate::nearest;
use crate::record::trial::CellId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The scenarios of this version.
const SCENARIOS: &str = include_str!("../../scenarios.toml");

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tier {
    /// About 5 minutes: what `cargo bench` runs.
    Quick,
    /// About 40 minutes.
    Standard,
    /// Hours.
    Full,
}

/// One question, and how it is put to every target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Scenario {
    /// For command lines: no blanks.
    pub(crate) name: String,
    /// Scenarios that belong together have a name together, for command lines, too.
    #[serde(default)]
    pub(crate) chapter: Option<String>,
    /// The title of its picture.
    pub(crate) question: String,
    /// One sentence on the load, for people.
    pub(crate) about: String,
    /// What the verdict is about.
    pub(crate) metric: Metric,
    /// How it is drawn.
    pub(crate) picture: Picture,
    /// Which targets take part.
    pub(crate) targets: Vec<Group>,
    /// Which take part besides, by their names; what they do without is what the scenario asks about.
    #[serde(default)]
    pub(crate) lesser: Vec<String>,
    /// Which take part besides, by their names, two by two: a server that does something beside answering, and the same
    /// server without that. The scenario asks whether anybody notices.
    #[serde(default)]
    pub(crate) pairs: Vec<(String, String)>,
    /// Which take part besides, by their names, for a scenario that is about them and not about a group.
    #[serde(default)]
    pub(crate) servers: Vec<String>,
    /// How many workers a server has, each with a CPU; one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) workers: Option<Number>,
    /// What varies; none for a scenario of a single point.
    #[serde(default)]
    pub(crate) axis: Option<Axis>,
    /// The load; the scenario is about the first class.
    #[serde(rename = "class")]
    pub(crate) classes: Vec<Class>,
    /// Rate over time, as factors of each open class's rate; empty for a constant rate.
    #[serde(default)]
    pub(crate) phases: Vec<Phase>,
    /// Whether reads from the device are slowed down.
    #[serde(default)]
    pub(crate) slow_disk: bool,
    /// Whether the kernel forgets the names of all files before each trial, so that each open has to look them up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) forgotten_names: bool,
    /// Whether the server's memory is read.
    #[serde(default)]
    pub(crate) memory: bool,
    /// Whether system calls are counted in a pass of their own.
    #[serde(default)]
    pub(crate) count_calls: bool,
    /// How many such passes; one without it, since counts hardly vary.
    #[serde(default)]
    pub(crate) counting_rounds: Option<usize>,
    /// How long and how often, per tier; it isn't part of a tier that is missing.
    pub(crate) tiers: BTreeMap<Tier, Effort>,
}

/// What a verdict is about. The first three are lower-is-better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Metric {
    /// Server CPU time per request.
    CpuPerRequest,
    /// The 99th percentile of the first class: response time in an open loop, service time in a closed one.
    P99,
    /// User memory per connection.
    MemoryPerConnection,
    /// Right answers of the first class per second.
    Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Picture {
    /// A dot and an interval per target.
    Forest,
    /// The metric along the axis, a line per target.
    Lines,
    /// Latency quantiles along the offered rate, a line per target.
    LoadCurve,
    /// Answers per second over the window's time.
    Timeline,
    /// A dot and an interval per target, and beside it what it sends over the wire.
    Wire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Group {
    Ours,
    /// This project's program, which chooses its backend itself: what people run.
    Program,
    Twin,
    /// The servers that parse nothing.
    Null,
    /// Everybody else's servers.
    Peers,
    /// The same, set up to send what was compressed beforehand.
    Sidecars,
    /// What the run's tier leaves out of its own group, as older copies of a program that is there twice; scenarios name
    /// them one by one.
    ByNameAlone,
    /// The rungs of the lab; scenarios name them one by one.
    Lab,
    /// The backends without a technique or with less of a cache, and peers that compress on the way; scenarios name them
    /// one by one. Older runs have the cache modes as a group.
    #[serde(alias = "cache-modes")]
    Lesser,
}

/// What varies over the points of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Axis {
    /// For the picture: "connections".
    pub(crate) name: String,
    /// "%", or nothing.
    #[serde(default)]
    pub(crate) unit: String,
    /// The points, ascending.
    pub(crate) values: Vec<f64>,
}

/// A number, or the axis's value at the point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Number {
    Fixed(f64),
    /// `"axis"`.
    Axis(AxisValue),
}

/// The word that stands for the axis's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AxisValue {
    Axis,
}

/// A group of connections that do the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Class {
    /// "hot", "cold", "slow", "churn", "idle".
    pub(crate) name: String,
    pub(crate) connections: Number,
    pub(crate) files: Files,
    /// When they ask; a closed loop without it.
    #[serde(default)]
    pub(crate) rate: Option<Rate>,
    /// Requests per connection; without it connections are kept.
    #[serde(default)]
    pub(crate) requests_per_connection: Option<Number>,
    /// How fast they drain answers, in bytes per second; at once without it.
    #[serde(default)]
    pub(crate) drain_bytes_per_second: Option<u64>,
    /// They ask once and then keep still.
    #[serde(default)]
    pub(crate) idle: bool,
}

/// When an open loop asks: a Poisson process of this rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Rate {
    /// Requests per second.
    PerSecond(Number),
    /// Percent of what the slowest target of the run can do with these files (closed loop, 64 connections).
    OfSlowest(Number),
    /// Percent of what the fastest can do.
    OfFastest(Number),
    /// Percent of what the target itself can do.
    OfOwn(Number),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Files {
    /// One file of 1 KiB.
    Small,
    /// One file of 100 KiB.
    Medium,
    /// One file of 10 MiB.
    Large,
    /// SPECweb's four classes of sizes, by Zipf's law.
    Mix,
    /// Many files of 16 KiB, evicted from the page cache before, each asked for once.
    Cold,
    /// The one answer of the lab, as a file.
    Constant,
    /// A thousand text files of 10 to 100 KiB that nobody has asked for before the window: one after another, three times
    /// each, in whatever coding; then in turn.
    New,
    /// A few text files of 4 KiB in turn, in whatever coding.
    Pages,
    /// The files of a site, by Zipf's law, as browsers ask for them: in any coding, and one time in three whether the
    /// file is still the same.
    Site,
}

impl Files {
    /// Whether they are asked for as browsers do, so that the server chooses a coding.
    pub(crate) const fn are_negotiated(self) -> bool {
        matches!(self, Files::New | Files::Pages | Files::Site)
    }
}

/// A stretch of the window with a rate of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Phase {
    pub(crate) ms: u64,
    /// Times the class's rate.
    pub(crate) factor: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Effort {
    /// The least rounds.
    pub(crate) rounds: usize,
    /// The most rounds, while the intervals are wide and there is time; `rounds` without it.
    #[serde(default)]
    pub(crate) rounds_max: Option<usize>,
    /// Load before the window.
    pub(crate) warm_up_ms: u64,
    /// Time in which new requests start. Scenarios with phases take their sum instead.
    pub(crate) window_ms: u64,
    /// Other points than the axis's.
    #[serde(default)]
    pub(crate) values: Option<Vec<f64>>,
}

/// All scenarios of this version, in the order of a run.
pub(crate) fn all() -> Result<Vec<Scenario>> {
    parse(SCENARIOS)
}

fn parse(text: &str) -> Result<Vec<Scenario>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Book {
        scenario: Vec<Scenario>,
    }
    let book: Book = toml::from_str(text).map_err(Failure::context("read the scenarios"))?;
    for scenario in &book.scenario {
        scenario
            .check()
            .map_err(|what| Failure::new(format!("read the scenarios: {}: {what}", scenario.name)))?;
    }
    Ok(book.scenario)
}

/// The scenarios of a tier; or those of any tier that are named, by themselves or by their chapter.
pub(crate) fn select(tier: Tier, only: &[String]) -> Result<Vec<Scenario>> {
    let all = all()?;
    if let Some(unknown) = only.iter().find(|name| !all.iter().any(|scenario| scenario.is_called(name))) {
        let names: BTreeSet<&str> = all
            .iter()
            .flat_map(|scenario| scenario.chapter.as_deref().into_iter().chain([scenario.name.as_str()]))
            .collect();
        return Err(nearest::unknown("scenario", unknown, names.into_iter()));
    }
    let wanted = |scenario: &Scenario| {
        if only.is_empty() {
            scenario.tiers.contains_key(&tier)
        } else {
            only.iter().any(|name| scenario.is_called(name))
        }
    };
    Ok(all.into_iter().filter(wanted).collect())
}

impl Scenario {
    /// The files of classes whose rates relate to what servers can do.
    pub(crate) fn relative_files(&self) -> BTreeSet<Files> {
        let is_relative =
            |rate: &Rate| matches!(rate, Rate::OfSlowest(_) | Rate::OfFastest(_) | Rate::OfOwn(_));
        let relative = self.classes.iter().filter(|class| class.rate.as_ref().is_some_and(is_relative));
        relative.map(|class| class.files).collect()
    }

    /// Whether its parts fit together.
    pub(crate) fn check(&self) -> std::result::Result<(), &'static str> {
        let is_axis = |number: Option<Number>| matches!(number, Some(Number::Axis(_)));
        let uses_axis = is_axis(self.workers)
            || self.classes.iter().any(|class| {
                let rate = class.rate.map(Rate::number);
                [Some(class.connections), class.requests_per_connection, rate].into_iter().any(is_axis)
            });
        let open = self.classes.first().is_some_and(|class| class.rate.is_some());
        if self.classes.is_empty() {
            Err("it has no class")
        } else if self.tiers.is_empty() {
            Err("it is in no tier")
        } else if uses_axis != self.axis.is_some() {
            Err("the axis and its use don't fit")
        } else if !self.phases.is_empty() && !open {
            Err("phases need a rate")
        } else {
            Ok(())
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.chapter.as_deref() == Some(name)
    }

    /// How many passes count system calls.
    pub(crate) fn counting_passes(&self) -> usize {
        if self.count_calls { self.counting_rounds.unwrap_or(1) } else { 0 }
    }

    pub(crate) fn asks_for(&self, group: Group, id: &str) -> bool {
        let is_in = |pair: &(String, String)| pair.0 == id || pair.1 == id;
        self.targets.contains(&group)
            || self.lesser.iter().chain(&self.servers).any(|name| name == id)
            || self.pairs.iter().any(is_in)
    }

    /// The effort in this tier: its own, or that of the nearest tier that has one. So `--only` finds every
    /// scenario in every tier.
    pub(crate) fn effort(&self, tier: Tier) -> &Effort {
        let above = self.tiers.range(tier..).next();
        let (_, effort) = above.or_else(|| self.tiers.iter().next_back()).expect("checked: it is in a tier");
        effort
    }

    /// The same with windows of so many milliseconds in all tiers. Phases keep their shares of it, but for the
    /// millisecond that each needs at least.
    pub(crate) fn with_window_ms(mut self, window_ms: u64) -> Scenario {
        let whole: u64 = self.phases.iter().map(|phase| phase.ms).sum();
        for phase in &mut self.phases {
            phase.ms = (phase.ms * window_ms / whole).max(1);
        }
        for effort in self.tiers.values_mut() {
            effort.window_ms = window_ms;
        }
        self
    }

    /// The same on a machine that has CPUs for at most so many workers: the points up to there, and this one.
    pub(crate) fn with_workers_max(mut self, most: usize) -> Scenario {
        if !matches!(self.workers, Some(Number::Axis(_))) {
            return self;
        }
        let most = most as f64;
        let fit = |values: &mut Vec<f64>| {
            values.retain(|value| *value < most);
            values.push(most);
        };
        self.axis.iter_mut().for_each(|axis| fit(&mut axis.values));
        self.tiers.values_mut().filter_map(|effort| effort.values.as_mut()).for_each(fit);
        self
    }

    /// Its comparisons in this tier, each with the axis's value.
    pub(crate) fn points(&self, tier: Tier) -> Vec<(CellId, Option<f64>)> {
        let cell = |point: String| CellId { scenario: self.name.clone(), point };
        let Some(axis) = &self.axis else {
            return vec![(cell(String::new()), None)];
        };
        let values = self.effort(tier).values.as_ref().unwrap_or(&axis.values);
        let label = |value: &f64| {
            let blank = if axis.unit.is_empty() { "" } else { " " };
            format!("{value}{blank}{}", axis.unit)
        };
        values.iter().map(|value| (cell(label(value)), Some(*value))).collect()
    }

    pub(crate) fn window_ms(&self, tier: Tier) -> u64 {
        if self.phases.is_empty() {
            return self.effort(tier).window_ms;
        }
        self.phases.iter().map(|phase| phase.ms).sum()
    }
}

impl Number {
    pub(crate) fn at(self, value: Option<f64>) -> f64 {
        match self {
            Number::Fixed(number) => number,
            Number::Axis(AxisValue::Axis) => value.expect("checked: who uses the axis has one"),
        }
    }
}

/// A count that was written as a number, or follows from one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and counts are small"
)]
pub(crate) fn whole(number: f64) -> usize {
    number.round() as usize
}

impl Rate {
    fn number(self) -> Number {
        match self {
            Rate::PerSecond(number)
            | Rate::OfSlowest(number)
            | Rate::OfFastest(number)
            | Rate::OfOwn(number) => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::book::Book;
    use crate::server::catalogue;
    use crate::server::target::Settings;
    use std::collections::BTreeSet;

    #[test]
    fn the_book_is_right() {
        let all = all().unwrap();
        let names: BTreeSet<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(names.len(), all.len(), "no name twice");
        for name in ["hot-small", "hot-under-cold", "slow-readers", "overload"] {
            assert!(names.contains(name), "{name}");
        }
        for scenario in &all {
            assert!(scenario.question.ends_with('?'), "{}", scenario.name);
            assert!(scenario.tiers.contains_key(&Tier::Full), "{}", scenario.name);
            let written = toml::to_string(scenario).unwrap();
            assert_eq!(toml::from_str::<Scenario>(&written).unwrap(), *scenario);
        }
    }

    /// A verdict without a twin has nothing to show that it isn't noise.
    #[test]
    fn every_scenario_has_a_twin_beside_its_original() {
        let twins: Vec<(String, String)> = catalogue::catalogue()
            .iter()
            .filter_map(|target| Some((target.id().to_owned(), target.twin_of()?.to_owned())))
            .collect();
        let has_twin = |servers: &BTreeSet<String>| {
            twins.iter().any(|(twin, original)| servers.contains(twin) && servers.contains(original))
        };
        for scenario in all().unwrap().into_iter().chain(Book::read().unwrap().scenarios) {
            let asked = catalogue::catalogue();
            let asked =
                asked.iter().filter(|target| scenario.asks_for(crate::run::group(target), target.id()));
            let servers: BTreeSet<String> = asked.map(|target| target.id().to_owned()).collect();
            assert!(has_twin(&servers), "{}: {servers:?}", scenario.name);
        }
    }

    #[test]
    fn every_technique_is_asked_about() {
        let asked: BTreeSet<String> =
            all().unwrap().into_iter().flat_map(|scenario| scenario.lesser).collect();
        for name in &asked {
            let target = catalogue::named(name).unwrap_or_else(|| panic!("no target {name}"));
            assert_ne!(target.settings(), Some(&Settings::default()), "{name}");
        }
        let pairs: Vec<(String, String)> =
            all().unwrap().into_iter().flat_map(|scenario| scenario.pairs).collect();
        for (with, without) in &pairs {
            assert!(
                catalogue::named(with).is_some() && catalogue::named(without).is_some(),
                "{with}, {without}"
            );
        }
        let of_claims = Book::read().unwrap().scenarios;
        let asked: BTreeSet<&str> = asked
            .iter()
            .chain(of_claims.iter().flat_map(|scenario| &scenario.servers))
            .chain(pairs.iter().flat_map(|(with, without)| [with, without]))
            .map(String::as_str)
            .collect();
        for target in catalogue::catalogue() {
            let is_lesser = crate::run::group(&target) == Group::Lesser && target.settings().is_some();
            assert!(!is_lesser || asked.contains(target.id()), "nobody asks about {target}");
        }
    }

    #[test]
    fn tiers_choose_points_and_efforts() {
        let find = |name: &str| all().unwrap().into_iter().find(|scenario| scenario.name == name).unwrap();
        let churn = find("churn");
        let points = |tier| {
            churn.points(tier).into_iter().map(|(cell, value)| (cell.to_string(), value)).collect::<Vec<_>>()
        };
        assert_eq!(points(Tier::Quick), [("churn@1".to_owned(), Some(1.0))]);
        assert_eq!(points(Tier::Full).len(), 2);
        let curve = find("load-curve");
        assert!(!curve.tiers.contains_key(&Tier::Quick));
        assert_eq!(curve.effort(Tier::Quick), &curve.tiers[&Tier::Standard], "the nearest above");
        assert_eq!(curve.points(Tier::Full)[0].0.point, "10 %");
        assert_eq!(find("overload").window_ms(Tier::Standard), 6_000);
    }

    #[test]
    fn another_window_holds_all_phases() {
        let find = |name: &str| all().unwrap().into_iter().find(|scenario| scenario.name == name).unwrap();
        let overload = find("overload").with_window_ms(600);
        let lengths: Vec<u64> = overload.phases.iter().map(|phase| phase.ms).collect();
        assert_eq!((lengths, overload.window_ms(Tier::Full)), (vec![100, 200, 300], 600));
        assert_eq!(find("overload").with_window_ms(1).window_ms(Tier::Full), 3, "each phase takes place");
        assert_eq!(find("mix").with_window_ms(30).window_ms(Tier::Standard), 30);
    }

    #[test]
    fn workers_are_as_many_as_the_machine_has_room_for() {
        let find = |name: &str| all().unwrap().into_iter().find(|scenario| scenario.name == name).unwrap();
        let points = |tier, most| {
            let fitted = find("scaling").with_workers_max(most);
            fitted.check().unwrap();
            fitted.points(tier).into_iter().filter_map(|(_, value)| value).map(whole).collect::<Vec<_>>()
        };
        assert_eq!(points(Tier::Full, 1), [1]);
        assert_eq!(points(Tier::Full, 2), [1, 2]);
        assert_eq!(points(Tier::Full, 3), [1, 2, 3]);
        assert_eq!(points(Tier::Full, 63), [1, 2, 4, 8, 16, 32, 63]);
        assert_eq!(points(Tier::Standard, 63), [1, 2, 4, 63]);
        assert_eq!(find("churn").with_workers_max(1), find("churn"));
    }

    #[test]
    fn unknown_names_are_one_line() {
        let failure = select(Tier::Quick, &["hot-smal".to_owned()]).unwrap_err().to_string();
        assert!(failure.starts_with("no scenario \"hot-smal\"; the nearest are hot-small, "), "{failure}");
        assert_eq!(failure.split(", ").count(), 3, "{failure}");
        let chosen = select(Tier::Quick, &["overload".to_owned()]).unwrap();
        assert_eq!(chosen.len(), 1, "named, it runs in any tier");
        let chapter = select(Tier::Quick, &["ablation".to_owned()]).unwrap();
        assert!(chapter.len() > 1 && chapter.iter().all(|scenario| !scenario.lesser.is_empty()));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let good = toml::to_string(&all().unwrap()[0]).unwrap();
        let scenario: Scenario = toml::from_str(&good).unwrap();
        let mut stray = scenario.clone();
        stray.axis = Some(Axis { name: "x".to_owned(), unit: String::new(), values: vec![1.0] });
        assert_eq!(stray.check(), Err("the axis and its use don't fit"));
        let mut phased = scenario;
        phased.phases = vec![Phase { ms: 1, factor: 2.0 }];
        assert_eq!(phased.check(), Err("phases need a rate"));
        assert!(parse("[[scenario]]\nname = \"x\"\nspeed = 3\n").is_err());
    }
}

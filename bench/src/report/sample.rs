//! A run that never took place: for tests, and for looking at pictures without waiting for a measurement.
//!
//! Everything follows from the seed. It has what real runs have: drift, noise, void trials, a target that
//! couldn't run, one that fails under load, values that the machine doesn't tell.

use crate::machine::disturbance::Disturbance;
use crate::machine::placement::{Distance, Placement};
use crate::random::Random;
use crate::record::trial::{
    CallsRecord, ClassFigures, CostRecord, Latency, Limiter, MemoryFigures, MemoryRecord, Pass, Trial,
    TrialPosition,
};
use crate::record::{CellRecord, Ended, Family, Record, SlowDiskRecord, TargetRecord};
use crate::report::results::Results;
use crate::run::scenario::{Class, Files, Group, Rate, Scenario, Tier, all};
use crate::server::target::Backend;
use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) tier: Tier,
    /// Whether peers, null servers and cache modes take part.
    pub(crate) everybody: bool,
    /// The machine's speed: CPU times are multiplied by it.
    pub(crate) drift: f64,
    /// What `uring` costs in addition.
    pub(crate) uring_factor: f64,
    /// Whether trials have histograms, which take most of the time to make.
    pub(crate) histograms: bool,
    /// Scenarios; all of the tier's if there are none.
    pub(crate) only: &'static [&'static str],
    /// The standard deviation of a trial, on a logarithmic scale.
    pub(crate) noise: f64,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            seed: 1,
            tier: Tier::Standard,
            everybody: true,
            drift: 1.0,
            uring_factor: 1.0,
            histograms: true,
            only: &[],
            noise: 0.015,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) record: Record,
    pub(crate) trials: Vec<Trial>,
}

impl Sample {
    pub(crate) fn results(&self) -> Results<'_> {
        Results::of(&self.record, &self.trials)
    }
}

/// Id, label, CPU time of a small request in ns, cost per KiB in ns, bytes per connection, p99 under cold reads
/// in ns.
type Model = (&'static str, &'static str, f64, f64, f64, f64);

const OURS: [Model; 4] = [
    ("blocking", "blocking", 11_700.0, 91.0, 12_500.0, 700_000.0),
    ("epoll", "epoll", 8_330.0, 102.0, 130.0, 820_000.0),
    ("uring", "uring", 7_900.0, 146.0, 190.0, 410_000.0),
    ("epoll-twin", "epoll (twin)", 8_330.0, 102.0, 130.0, 820_000.0),
];
const OTHERS: [Model; 24] = [
    ("blocking-cache-off", "blocking, no cache", 14_100.0, 93.0, 12_500.0, 700_000.0),
    ("blocking-cache-descriptors", "blocking, descriptors", 12_400.0, 92.0, 12_500.0, 700_000.0),
    ("epoll-cache-off", "epoll, no cache", 11_000.0, 104.0, 130.0, 820_000.0),
    ("epoll-cache-descriptors", "epoll, descriptors", 9_300.0, 103.0, 130.0, 820_000.0),
    ("uring-cache-off", "uring, no cache", 10_700.0, 148.0, 190.0, 410_000.0),
    ("uring-cache-descriptors", "uring, descriptors", 9_000.0, 147.0, 190.0, 410_000.0),
    ("blocking-copy-read", "blocking, copy read", 11_750.0, 140.0, 12_500.0, 700_000.0),
    ("epoll-level-triggered", "epoll, level triggered", 8_350.0, 104.0, 130.0, 820_000.0),
    ("epoll-copy-read", "epoll, copy read", 8_340.0, 150.0, 130.0, 820_000.0),
    ("epoll-plain", "epoll, plain", 21_000.0, 190.0, 130.0, 820_000.0),
    ("uring-single-accept", "uring, single accept", 7_900.0, 146.0, 190.0, 410_000.0),
    ("uring-unbatched", "uring, unbatched", 12_300.0, 160.0, 190.0, 410_000.0),
    ("uring-plain", "uring, plain", 16_800.0, 210.0, 190.0, 410_000.0),
    ("null-epoll", "null (epoll)", 6_100.0, 0.0, 80.0, 300_000.0),
    ("null-uring", "null (uring)", 5_700.0, 0.0, 80.0, 300_000.0),
    ("nginx", "nginx", 15_500.0, 101.0, 530.0, 92_000_000.0),
    ("nginx-open-file-cache", "nginx, open_file_cache", 11_300.0, 100.0, 530.0, 91_000_000.0),
    ("nginx-aio-threads", "nginx, aio threads", 33_000.0, 140.0, 560.0, 3_600_000.0),
    ("lighttpd", "lighttpd", 12_100.0, 108.0, 4_300.0, 88_000_000.0),
    ("h2o", "h2o", 9_450.0, 118.0, 3_100.0, 90_000_000.0),
    ("caddy", "caddy", 47_000.0, 111.0, 11_500.0, 9_000_000.0),
    ("static-web-server", "static-web-server", 24_500.0, 180.0, 4_800.0, 6_500_000.0),
    ("miniserve", "miniserve", 31_000.0, 200.0, 5_100.0, 7_700_000.0),
    ("hyper", "hyper + tower-http", 21_200.0, 230.0, 3_300.0, 5_300_000.0),
];

/// What the fastest of them answers of 100 KiB, in requests per second.
const FASTEST: f64 = 55_000.0;

fn models(everybody: bool) -> Vec<Model> {
    let mut models = OURS.to_vec();
    if everybody {
        models.extend(OTHERS);
    }
    models
}

fn target((id, label, ..): Model) -> TargetRecord {
    let family = match id {
        _ if id.starts_with("null") => Family::Null,
        _ if Backend::ALL.iter().any(|backend| id.starts_with(backend.name())) => Family::Ours,
        _ => Family::Peer,
    };
    let backend = id.split('-').find_map(Backend::from_name).filter(|_| family != Family::Peer);
    let peer = family == Family::Peer;
    TargetRecord {
        id: id.to_owned(),
        label: label.to_owned(),
        family,
        backend,
        twin_of: id.strip_suffix("-twin").map(str::to_owned),
        version: peer.then(|| "1.22.1 & <others>".to_owned()),
        configuration: peer.then(|| {
            "# one worker: the server has one CPU\nworker_processes 1;\n# </script> & <b>\naccess_log off;\n"
                .to_owned()
        }),
        unavailable: (id == "miniserve").then(|| "not installed: cargo install miniserve".to_owned()),
    }
}

pub(crate) fn sample(plan: Plan) -> Sample {
    let mut scenarios: Vec<Scenario> = all()
        .unwrap()
        .into_iter()
        .filter(|scenario| match plan.only {
            [] => scenario.tiers.contains_key(&plan.tier),
            only => only.contains(&scenario.name.as_str()),
        })
        .collect();
    for scenario in &mut scenarios {
        let effort = scenario.effort(plan.tier).clone();
        scenario.tiers.insert(plan.tier, effort);
    }
    let models = models(plan.everybody);
    let mut record = record(plan, &models, &scenarios);
    let mut maker = Maker { plan, random: Random::new(plan.seed), trials: Vec::new() };
    for cell in record.cells.clone() {
        let scenario = record.scenarios.iter().find(|scenario| scenario.name == cell.id.scenario).unwrap();
        maker.cell(scenario, &cell, &models);
    }
    if let Some(last) = record.cells.last_mut() {
        last.ended = Some(Ended::Budget);
    }
    Sample { record, trials: maker.trials }
}

fn takes_part(scenario: &Scenario, target: &TargetRecord) -> bool {
    let has_every_technique = target.twin_of.is_some() || target.id.contains("-cache-");
    let group = match target.family {
        Family::Peer => Group::Peers,
        Family::Null => Group::Null,
        Family::Ours if target.twin_of.is_some() => Group::Twin,
        Family::Ours if Backend::from_name(&target.id).is_some() => Group::Ours,
        Family::Ours if has_every_technique => Group::CacheModes,
        Family::Ours => Group::Lesser,
    };
    target.unavailable.is_none() && scenario.asks_for(group, &target.id)
}

fn record(plan: Plan, models: &[Model], scenarios: &[Scenario]) -> Record {
    let targets: Vec<TargetRecord> = models.iter().map(|model| target(*model)).collect();
    let cells = scenarios.iter().flat_map(|scenario| {
        let taking_part = targets.iter().filter(|target| takes_part(scenario, target));
        let ids: Vec<String> = taking_part.map(|target| target.id.clone()).collect();
        scenario.points(plan.tier).into_iter().map(move |(id, value)| CellRecord {
            id,
            value,
            targets: ids.clone(),
            failures: BTreeMap::new(),
            ended: Some(Ended::Rounds),
            trials_from: 0,
        })
    });
    Record {
        tier: plan.tier,
        seed: plan.seed,
        cells: cells.collect(),
        scenarios: scenarios.to_vec(),
        targets,
        placement: Placement { server: 1, client: 0, distance: Distance::Cores },
        slow_disk: Some(SlowDiskRecord {
            means: "cgroup blkio throttle, 400 reads/s on 254:0".to_owned(),
            reads_per_second: Some(400),
        }),
        unmeasured: BTreeMap::from([(
            "device_read_bytes".to_owned(),
            "/proc/PID/io isn't readable".to_owned(),
        )]),
        warnings: vec!["the hypervisor took CPU time in 3 % of the trials & <more>".to_owned()],
        ..crate::record::tests::record()
    }
}

struct Maker {
    plan: Plan,
    random: Random,
    trials: Vec<Trial>,
}

struct Load<'a> {
    scenario: &'a Scenario,
    cell: &'a CellRecord,
    model: Model,
}

impl Maker {
    /// Irwin and Hall's approximation of a normal distribution.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.random.below(1_000_000) as f64 / 1e6).sum::<f64>() - 6.0
    }

    fn cell(&mut self, scenario: &Scenario, cell: &CellRecord, models: &[Model]) {
        let rounds = scenario.effort(self.plan.tier).rounds;
        for round in 0..rounds {
            let weather = (0.01 * self.normal()).exp();
            let mut ids = cell.targets.clone();
            self.random.shuffle(&mut ids);
            for (position, id) in ids.iter().enumerate() {
                let model = *models.iter().find(|model| model.0 == id).unwrap();
                let load = Load { scenario, cell, model };
                let is_void = self.random.below(40) == 0;
                let attempts: &[Option<&str>] =
                    if is_void { &[Some("the hypervisor took 3 % of the CPUs"), None] } else { &[None] };
                for (attempt, void) in attempts.iter().enumerate() {
                    let place = TrialPosition { number: self.trials.len(), round, position, attempt };
                    let mut trial = self.trial(&load, place, weather);
                    trial.void = void.map(str::to_owned);
                    self.trials.push(trial);
                }
            }
        }
        if scenario.count_calls {
            for id in &cell.targets {
                let model = *models.iter().find(|model| model.0 == id).unwrap();
                let place =
                    TrialPosition { number: self.trials.len(), round: rounds, position: 0, attempt: 0 };
                let mut trial = self.trial(&Load { scenario, cell, model }, place, 1.5);
                trial.pass = Pass::Counting;
                trial.calls = Some(calls(id, trial.answers()));
                self.trials.push(trial);
            }
        }
    }

    fn trial(&mut self, load: &Load<'_>, place: TrialPosition, weather: f64) -> Trial {
        let (id, _, base, per_kib, per_connection, _) = load.model;
        let value = load.cell.value.unwrap_or(0.0);
        let kib = match load.scenario.classes[0].files {
            Files::Small | Files::Cold => 1.0,
            Files::Medium => 100.0,
            Files::Large => 10_240.0,
            Files::Mix => 14.0,
        };
        let mut cpu = (base + per_kib * (kib - 1.0))
            * weather
            * self.plan.drift
            * (self.plan.noise * self.normal()).exp();
        match load.scenario.name.as_str() {
            "churn" => cpu += 21_000.0 / value,
            "connections" => cpu *= 1.25 - 0.06 * value.ln() + 0.0005 * value.powf(0.8),
            _ => {}
        }
        if id.starts_with("uring") {
            cpu *= self.plan.uring_factor;
        }
        let window_ns = load.scenario.window_ms(self.plan.tier) * 1_000_000;
        let capacity = 1e9 / cpu;
        let classes: Vec<ClassFigures> = load
            .scenario
            .classes
            .iter()
            .enumerate()
            .map(|(index, class)| self.class(load, index, class, capacity, window_ns))
            .collect();
        let answers: u64 = classes.iter().map(|class| class.answers).sum();
        let is_fast = classes[0].offered_per_second.is_none();
        let cpu_ns = whole(cpu * answers as f64);
        let connections: usize = classes.iter().map(|class| class.connections).sum();
        Trial {
            cell: load.cell.id.clone(),
            place,
            elapsed_ns: window_ns,
            limiter: if is_fast { Limiter::ServerCpu } else { Limiter::OfferedRate },
            client_busy: if id == "null-uring" { 0.93 } else { 0.6 },
            cost: CostRecord {
                cpu_ns,
                user_ns: Some(cpu_ns / 7),
                system_ns: Some(cpu_ns - cpu_ns / 7),
                page_faults: Some(12),
            },
            memory: load.scenario.memory.then(|| memory(base, per_connection, connections)),
            device_read_bytes: None,
            disturbance: Some(Disturbance { others: 0.01, stolen: 0.0 }),
            classes,
            ..crate::record::trial::tests::trial(id, place.round, 8_000.0)
        }
    }

    fn class(
        &mut self,
        load: &Load<'_>,
        index: usize,
        class: &Class,
        capacity: f64,
        window_ns: u64,
    ) -> ClassFigures {
        let (id, _, base, _, _, under_cold) = load.model;
        let value = load.cell.value;
        let seconds = window_ns as f64 / 1e9;
        let connections = class.connections.at(value);
        let offered = class.rate.map(|rate| match rate {
            Rate::PerSecond(number) => number.at(value),
            Rate::OfSlowest(number) => 20_000.0 * number.at(value) / 100.0,
            Rate::OfFastest(number) => FASTEST * number.at(value) / 100.0,
            Rate::OfOwn(number) => capacity * number.at(value) / 100.0,
        });
        let rate = match (index, class.idle, offered) {
            (_, true, _) => 0.0,
            (0, _, Some(offered)) => offered.min(capacity),
            (0, _, None) => capacity,
            _ => 400.0,
        };
        let busy = offered.map_or(0.9, |offered| offered / capacity);
        let middle = match offered {
            None => connections / rate.max(1.0) * 1e9,
            Some(_) if busy >= 1.0 => 0.4 * seconds * 1e9 * (1.0 - 1.0 / busy) + 4e6,
            Some(_) => base * 4.0 * (1.0 + (busy / (1.0 - busy)).min(60.0)),
        };
        let p99 = match load.scenario.name.as_str() {
            "hot-under-cold" => under_cold,
            "slow-readers" if id == "blocking" => 600_000.0 + 300.0 * value.unwrap_or(0.0),
            _ => middle * 2.4,
        };
        let answers = whole(rate * seconds * (0.004 * self.normal()).exp());
        let latency = (answers > 0).then(|| {
            let wiggle = (2.0 * self.plan.noise * self.normal()).exp();
            latency(
                middle * wiggle,
                p99 * wiggle * (0.05 * self.normal()).exp(),
                answers,
                self.plan.histograms,
            )
        });
        let timeline = if load.scenario.phases.is_empty() {
            Vec::new()
        } else {
            self.timeline(load, offered.unwrap_or(0.0), capacity)
        };
        let fails = id == "caddy" && load.scenario.name == "overload";
        ClassFigures {
            name: class.name.clone(),
            connections: usize::try_from(whole(connections)).unwrap(),
            answers,
            errors: if fails { BTreeMap::from([("reset".to_owned(), 900)]) } else { BTreeMap::new() },
            unanswered: if busy >= 1.0 { 200 } else { 0 },
            offered_per_second: offered,
            answers_per_second: rate,
            wire_bytes_per_answer: Some(1_290.0),
            response: offered.and(latency.clone()),
            service: latency,
            lag_p99_ns: offered.map(|_| 9_000),
            slice_ns: (!timeline.is_empty()).then_some(100_000_000),
            timeline,
        }
    }

    fn timeline(&mut self, load: &Load<'_>, offered: f64, capacity: f64) -> Vec<u64> {
        let mut timeline = Vec::new();
        let mut owed = 0.0_f64;
        for phase in &load.scenario.phases {
            for _ in 0..phase.ms / 100 {
                let due = offered * phase.factor / 10.0 + owed;
                let can = capacity / 10.0 * if load.model.0 == "caddy" && owed > 0.0 { 0.7 } else { 0.98 };
                let done = due.min(can) * (0.02 * self.normal()).exp();
                owed = (due - done).max(0.0);
                timeline.push(whole(done));
            }
        }
        timeline
    }
}

fn whole(value: f64) -> u64 {
    format!("{:.0}", value.max(0.0)).parse().unwrap()
}

fn memory(base: f64, per_connection: f64, connections: usize) -> MemoryFigures {
    let user = 1_500_000.0 + base * 300.0;
    let at = |connections: f64| MemoryRecord {
        pss_bytes: Some(whole(user + per_connection * connections)),
        anonymous_bytes: Some(whole(base * 300.0 + per_connection * connections)),
        kernel_stack_bytes: Some(whole(
            16_384.0 * (2.0 + if per_connection > 12_000.0 { connections } else { 0.0 }),
        )),
        page_table_bytes: Some(whole(90_000.0 + per_connection * connections / 512.0)),
        socket_bytes: Some(whole(4_096.0 * connections).cast_signed()),
        slab_bytes: Some(whole(5_000.0 * connections).cast_signed()),
    };
    MemoryFigures { base: at(0.0), loaded: at(connections as f64) }
}

fn calls(id: &str, answers: u64) -> CallsRecord {
    let share = |factor: f64| whole(answers as f64 * factor);
    let names: &[(&str, f64)] = match id {
        _ if id.starts_with("blocking") => &[("recvfrom", 1.0), ("sendto", 1.0), ("openat2", 0.0)],
        _ if id.starts_with("uring") => &[("io_uring_enter", 0.031), ("fstat", 0.01)],
        _ if id.starts_with("epoll") => &[("recvfrom", 1.02), ("sendto", 1.0), ("epoll_wait", 0.03)],
        _ if id.starts_with("null") => &[("recvfrom", 1.0), ("sendto", 1.0)],
        _ => &[
            ("recvfrom", 1.0),
            ("openat", 1.0),
            ("fstat", 1.0),
            ("writev", 1.0),
            ("sendfile", 1.0),
            ("close", 1.0),
            ("epoll_wait", 0.3),
            ("setsockopt", 2.0),
        ],
    };
    let is_ring = id.contains("uring");
    CallsRecord {
        system_calls: Some(names.iter().map(|(name, factor)| ((*name).to_owned(), share(*factor))).collect()),
        ring_submissions: Some(if is_ring { share(1.03) } else { 0 }),
        ring_completions: Some(if is_ring { share(2.02) } else { 0 }),
        ring_punts: Some(0),
        context_switches: Some(answers / if id == "blocking" { 1 } else { 30 }),
    }
}

/// A distribution with this median and 99th percentile, log-normal between and beyond.
fn latency(p50: f64, p99: f64, answers: u64, histograms: bool) -> Latency {
    if !histograms {
        let (p50, p99) = (whole(p50), whole(p99));
        return Latency {
            p50_ns: Some(p50),
            p90_ns: None,
            p99_ns: (answers >= 2_000).then_some(p99),
            p999_ns: None,
            max_ns: p99 * 2,
            mean_ns: p50 as f64,
            histogram: String::new(),
        };
    }
    const STEPS: u64 = 2_000;
    let mut histogram: Histogram<u64> = Histogram::new(3).unwrap();
    let each = answers.max(STEPS) / STEPS;
    for step in 0..STEPS {
        let quantile = (step as f64 + 0.5) / STEPS as f64;
        // The logistic distribution's quantile function has a closed form, unlike the normal one's.
        let z = (quantile / (1.0 - quantile)).ln() / 99.0_f64.ln();
        let spread = if z > 0.0 { (p99 / p50).ln() } else { 0.4 };
        let value = p50 * (z * spread).exp();
        histogram.record_n(whole(value.clamp(1.0, 6e10)), each).unwrap();
    }
    let quantile = |quantile: f64| {
        let above = answers as f64 * (1.0 - quantile);
        (above >= 20.0).then(|| histogram.value_at_quantile(quantile))
    };
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&histogram, &mut bytes).unwrap();
    Latency {
        p50_ns: quantile(0.5),
        p90_ns: quantile(0.9),
        p99_ns: quantile(0.99),
        p999_ns: quantile(0.999),
        max_ns: histogram.max(),
        mean_ns: histogram.mean(),
        histogram: base64::engine::general_purpose::STANDARD.encode(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_run() {
        let plan = Plan { tier: Tier::Quick, only: &["hot-small"], ..Plan::default() };
        assert_eq!(sample(plan).trials, sample(plan).trials);
        assert_ne!(sample(plan).trials, sample(Plan { seed: 2, ..plan }).trials);
        assert!(sample(plan).trials.iter().any(|trial| trial.void.is_some()));
    }
}

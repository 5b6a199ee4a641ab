//! A run that never took place, for tests. Everything follows from the seed.
//!
//! It has what real runs have: drift, noise, void trials, a target that couldn't run, one that fails under load,
//! values that the machine can't measure.

use crate::load::coding::Coding;
use crate::load::introduction::Introduction;
use crate::load::outcome::histogram;
use crate::load::traffic::{Sent, Traffic};
use crate::machine::disturbance::Disturbance;
use crate::random::Random;
use crate::record::trial::{
    CallsRecord, ClassFigures, CostRecord, Latency, Limiter, MemoryFigures, MemoryRecord, Pass, Trial,
    TrialPosition,
};
use crate::record::{CellRecord, Ended, Family, Record, SlowDiskRecord};
use crate::report::chart::overload::mean_factor;
use crate::report::results::Results;
use crate::run::admission::{self, Admitted};
use crate::run::scenario::{self, Class, Files, Rate, Scenario, Tier, all};
use crate::run::{cells, group};
use crate::server::catalogue::catalogue;
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

/// CPU time of a small request in ns, cost per KiB in ns, bytes per connection, p99 beside cold reads in ns.
type Model = [f64; 4];

const MODELS: [(&str, Model); 15] = [
    ("blocking", [11_700.0, 91.0, 12_500.0, 700_000.0]),
    ("epoll", [8_330.0, 102.0, 130.0, 820_000.0]),
    ("uring", [7_900.0, 146.0, 190.0, 410_000.0]),
    ("triptych", [7_980.0, 146.0, 190.0, 415_000.0]),
    ("null-epoll", [6_100.0, 0.0, 80.0, 200_000.0]),
    ("null-uring", [5_700.0, 0.0, 80.0, 120_000.0]),
    ("nginx", [15_500.0, 101.0, 530.0, 92_000_000.0]),
    ("nginx-open-file-cache", [11_300.0, 100.0, 530.0, 91_000_000.0]),
    ("nginx-aio-threads", [33_000.0, 140.0, 560.0, 3_600_000.0]),
    ("lighttpd", [12_100.0, 108.0, 4_300.0, 88_000_000.0]),
    ("h2o", [9_450.0, 118.0, 3_100.0, 90_000_000.0]),
    ("caddy", [47_000.0, 111.0, 11_500.0, 9_000_000.0]),
    ("static-web-server", [24_500.0, 180.0, 4_800.0, 6_500_000.0]),
    ("miniserve", [31_000.0, 200.0, 5_100.0, 7_700_000.0]),
    ("hyper", [21_200.0, 230.0, 3_300.0, 5_300_000.0]),
];

/// A target's own model, or that of its backend with what its variant costs on top.
fn model(id: &str) -> Model {
    let known = |name: &str| MODELS.iter().find(|(known, _)| *known == name).map(|(_, model)| *model);
    let variants = ["-sidecars", "-deflate", "-gzip", "-encode"];
    let plain = variants.into_iter().find_map(|variant| id.strip_suffix(variant)).unwrap_or(id);
    if let Some(model) = known(plain) {
        return model;
    }
    let (backend, variant) = id.split_once('-').unwrap();
    let [cpu, per_kib, per_connection, under_cold] = known(backend).unwrap();
    let (factor, per_kib_factor, wait_factor) = match variant {
        "cache-off" => (1.25, 1.02, 2.5),
        "cache-descriptors" => (1.1, 1.01, 1.6),
        "unbatched" => (12_300.0 / 7_900.0, 1.1, 1.0),
        "plain" => (2.3, 1.6, 1.0),
        "copy-read" => (1.0, 1.47, 1.0),
        _ => (1.0, 1.0, 1.0),
    };
    [cpu * factor, per_kib * per_kib_factor, per_connection, under_cold * wait_factor]
}

/// What the fastest of them answers of 100 KiB, in requests per second.
const FASTEST: f64 = 55_000.0;

pub(crate) fn sample(plan: Plan) -> Sample {
    let mut scenarios = all().unwrap();
    scenarios.retain(|scenario| match plan.only {
        [] => scenario.tiers.contains_key(&plan.tier),
        only => only.contains(&scenario.name.as_str()),
    });
    let record = record(plan, &scenarios);
    let mut maker = Maker { plan, random: Random::new(plan.seed), trials: Vec::new() };
    for cell in &record.cells {
        let scenario = scenarios.iter().find(|scenario| scenario.name == cell.id.scenario).unwrap();
        maker.cell(scenario, cell);
    }
    Sample { record, trials: maker.trials }
}

fn record(plan: Plan, scenarios: &[Scenario]) -> Record {
    let mut targets = catalogue();
    // As on a machine whose servers are all from its distribution.
    targets.retain(|target| target.system_s().is_none() && target.id() != "httpsd");
    targets.retain(|target| {
        plan.everybody || target.twin_of().is_some() || MODELS[..3].iter().any(|(id, _)| *id == target.id())
    });
    let mut records: Vec<_> = targets.iter().map(admission::record).collect();
    for target in records.iter_mut().filter(|target| target.twin_of.is_some()) {
        target.label = "epoll (twin)".to_owned();
    }
    for target in records.iter_mut().filter(|target| target.family == Family::Peer) {
        target.version = Some("1.22.1 & <others>".to_owned());
        target.configuration = Some("# one worker\nworker_processes 1;\n# </script> & <b>\n".to_owned());
        target.unavailable =
            (target.id == "miniserve").then(|| "not installed: cargo install miniserve".to_owned());
    }
    targets.retain(|target| target.id() != "miniserve");
    let admitted: Vec<Admitted> =
        targets.into_iter().map(|target| Admitted { group: group(&target), target }).collect();
    let mut cells = cells(scenarios, plan.tier, &admitted);
    cells.iter_mut().for_each(|cell| cell.ended = Some(Ended::Rounds));
    if let Some(last) = cells.last_mut() {
        last.ended = Some(Ended::Budget);
    }
    Record {
        tier: plan.tier,
        seed: plan.seed,
        cells,
        scenarios: scenarios.to_vec(),
        targets: records,
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
    id: &'a str,
}

impl Maker {
    /// Irwin and Hall's approximation of a normal distribution.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.random.below(1_000_000) as f64 / 1e6).sum::<f64>() - 6.0
    }

    fn cell(&mut self, scenario: &Scenario, cell: &CellRecord) {
        let rounds = scenario.effort(self.plan.tier).rounds;
        for round in 0..rounds {
            let drift = (0.01 * self.normal()).exp();
            let mut ids = cell.targets.clone();
            self.random.shuffle(&mut ids);
            for (position, id) in ids.iter().enumerate() {
                let is_void = self.random.below(40) == 0;
                for attempt in 0..=usize::from(is_void) {
                    let place = TrialPosition { number: self.trials.len(), round, position, attempt };
                    let mut trial = self.trial(&Load { scenario, cell, id }, place, drift);
                    let is_void = is_void && attempt == 0;
                    trial.void = is_void.then(|| "the hypervisor took 3 % of the CPUs".to_owned());
                    self.trials.push(trial);
                }
            }
        }
        for id in cell.targets.iter().filter(|_| scenario.count_calls) {
            let number = self.trials.len();
            let place = TrialPosition { number, round: rounds, position: 0, attempt: 0 };
            let mut trial = self.trial(&Load { scenario, cell, id }, place, 1.5);
            trial.pass = Pass::Counting;
            trial.calls = Some(calls(id, trial.answers()));
            self.trials.push(trial);
        }
    }

    fn trial(&mut self, load: &Load<'_>, place: TrialPosition, drift: f64) -> Trial {
        let (id, [base, per_kib, per_connection, _]) = (load.id, model(load.id));
        let value = load.cell.value.unwrap_or(0.0);
        let kib = match load.scenario.classes[0].files {
            Files::Small | Files::Cold | Files::Constant => 1.0,
            Files::Medium => 100.0,
            Files::Large => 10_240.0,
            Files::Mix => 14.0,
            Files::Site => 12.0,
            Files::New => 39.0,
            Files::Pages => 4.0,
        };
        let mut cpu = (base + per_kib * (kib - 1.0))
            * drift
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
        let (id, [base, _, _, under_cold]) = (load.id, model(load.id));
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
            "compress" | "compress-cold" if id == "nginx-gzip" => middle * 20.0,
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
        let traffic = class.files.are_negotiated().then(|| traffic(id, answers));
        let introduction = (class.files == Files::New).then(|| introduction(id));
        let wire_bytes =
            traffic.as_ref().map_or(1_290.0 * answers as f64, |traffic| traffic.wire_bytes() as f64);
        let fails = id == "caddy" && load.scenario.name == "overload";
        ClassFigures {
            name: class.name.clone(),
            connections: scenario::whole(connections),
            answers,
            errors: if fails { BTreeMap::from([("reset".to_owned(), 900)]) } else { BTreeMap::new() },
            unanswered: if busy >= 1.0 { 200 } else { 0 },
            offered_per_second: offered.map(|rate| rate * mean_factor(&load.scenario.phases)),
            answers_per_second: rate,
            wire_bytes_per_answer: (answers > 0).then(|| wire_bytes / answers as f64),
            traffic,
            introduction,
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
                let can = capacity / 10.0 * if load.id == "caddy" && owed > 0.0 { 0.7 } else { 0.98 };
                let done = due.min(can) * (0.02 * self.normal()).exp();
                owed = (due - done).max(0.0);
                timeline.push(whole(done));
            }
        }
        timeline
    }
}

/// Some compress a file on its way, some after two visits, some never.
fn introduction(id: &str) -> Introduction {
    let (files, small, large) = (1_000, 11_000, 39_000);
    let all = |bytes: u64| Sent { answers: files, body_bytes: files * bytes };
    let (coded, visits) = match id {
        "nginx-gzip" | "caddy-encode" => (files, [small, small, small, small]),
        _ if id.contains("off") || !id.starts_with(['b', 'e', 'u']) => (0, [large, large, large, large]),
        "uring" => (files - 13, [large, large, small, small]),
        _ => (files, [large, large, small, small]),
    };
    let all_coded_ns = (coded == files).then_some(7_610_000_000);
    Introduction { files, coded, all_coded_ns, visits: visits.map(all).to_vec() }
}

/// A third of the answers are 304; of the rest six in ten are text.
fn traffic(id: &str, answers: u64) -> Traffic {
    let coding = match id {
        _ if id.starts_with("nginx") => Coding::Gzip,
        _ if id.starts_with("caddy") || id.starts_with("hyper") => Coding::Zstd,
        _ if id.starts_with("static") => Coding::Identity,
        _ => Coding::Br,
    };
    let text_bytes = match coding {
        Coding::Br => 7_900,
        Coding::Zstd => 8_400,
        Coding::Gzip | Coding::Deflate => 9_100,
        Coding::Identity => 31_000,
    };
    let (not_modified, texts) = (answers / 3, answers * 2 / 5);
    let pictures = answers - not_modified - texts;
    Traffic {
        not_modified,
        head_bytes: answers * 260,
        pictures: Sent { answers: pictures, body_bytes: pictures * 21_000 },
        text: BTreeMap::from([(coding, Sent { answers: texts, body_bytes: texts * text_bytes })]),
    }
}

fn whole(value: f64) -> u64 {
    scenario::whole(value) as u64
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

/// A distribution with this median and 99th percentile, about log-normal.
fn latency(p50: f64, p99: f64, answers: u64, histograms: bool) -> Latency {
    if !histograms {
        let (p50, p99) = (whole(p50), whole(p99));
        let p99_ns = (answers >= 2_000).then_some(p99);
        let (p90_ns, p999_ns, histogram) = (None, None, None);
        return Latency {
            p50_ns: Some(p50),
            p90_ns,
            p99_ns,
            p999_ns,
            max_ns: p99 * 2,
            mean_ns: p50 as f64,
            histogram,
        };
    }
    const STEPS: u64 = 2_000;
    let mut histogram = histogram();
    for step in 0..STEPS {
        let quantile = (step as f64 + 0.5) / STEPS as f64;
        // The logistic distribution's quantile function has a closed form, unlike the normal one's.
        let z = (quantile / (1.0 - quantile)).ln() / 99.0_f64.ln();
        let spread = if z > 0.0 { (p99 / p50).ln() } else { 0.4 };
        let value = whole((p50 * (z * spread).exp()).clamp(1.0, 6e10));
        histogram.record_n(value, answers.max(STEPS) / STEPS).unwrap();
    }
    crate::run::trial::latency(&histogram).unwrap()
}

#[test]
fn the_same_seed_makes_the_same_run() {
    let plan = Plan { tier: Tier::Quick, only: &["hot-small"], ..Plan::default() };
    assert_eq!(sample(plan).trials, sample(plan).trials);
    assert_ne!(sample(plan).trials, sample(Plan { seed: 2, ..plan }).trials);
    assert!(sample(plan).trials.iter().any(|trial| trial.void.is_some()));
}

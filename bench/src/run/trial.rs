//! One trial: a fresh server, a warm-up, a window.

use crate::agent::fleet::{Elsewhere, Fleet, Trouble};
use crate::agent::outcome::encoded;
use crate::analysis::figures::ERROR_SHARE_MAX;
use crate::failure::{Failure, Result};
use crate::load::class::{Arrivals, Asks, Class, Life, Order, Pacing, ReadPace};
use crate::load::engine::Engine;
use crate::load::outcome::{BUSY_MAX, ClassOutcome, LAG_MAX, LAG_SHARE_MAX, Outcome, quantile};
use crate::load::request::{Expected, Request};
use crate::machine::disturbance::{CpuAccount, Disturbance};
use crate::machine::placement::Thread;
use crate::machine::slow_disk::SlowDisk;
use crate::machine::spin::{SPIN_OFF_MAX, spin};
use crate::machine::threads;
use crate::record::Capacities;
use crate::record::trial::{
    CallsRecord, CellId, ClassFigures, CostRecord, Latency, Limiter, MemoryFigures, Pass, Trial,
    TrialPosition,
};
use crate::run::corpus::{Corpus, CorpusFile};
use crate::run::load::{Load, Shown};
use crate::run::readings;
use crate::run::scenario::{self, Files, Rate, Scenario, Tier, whole};
use crate::server::calls::Counting;
use crate::server::process::{Server, Start};
use crate::server::seat::Seat;
use crate::server::target::{Family, Target};
use hdrhistogram::Histogram;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

const SLICE: Duration = Duration::from_millis(100);
/// A counting pass needs no narrow intervals: counts hardly vary.
const COUNTING_WINDOW_MAX: Duration = Duration::from_millis(300);
/// From these shares of a CPU on, server or client had no time to spare.
const BUSY_MIN: f64 = 0.9;
/// A disturbed trial is repeated; the last attempt stands.
pub(crate) const ATTEMPTS_MAX: usize = 3;
/// Of the requests for the site, so many ask whether the file is still the same, as browsers do after a while.
const CONDITIONAL_SHARE: f64 = 1.0 / 3.0;
/// Where the server chooses a coding, so many of the most popular files, and one in so many of all, are looked at after each window.
const LOOKED_AT: usize = 32;
const LOOKED_AT_ONE_IN: usize = 50;
/// Each new file is asked for so often before it counts as known: what a server keeps of a file that is asked for twice
/// shows in the third answer.
const VISITS: usize = 3;
/// So many others begin meanwhile.
const APART: usize = 16;
/// What `Trial::unmeasured` calls the cost of names that the kernel should have forgotten, and hasn't.
pub(crate) const FORGOTTEN_NAMES: &str = "forgotten_names";
/// Files that were cold have to come from the device; some of them may share a read.
const DEVICE_SHARE_MIN: f64 = 0.5;

pub(crate) struct Setting<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) tier: Tier,
    pub(crate) cell: &'a CellId,
    pub(crate) value: Option<f64>,
    pub(crate) corpus: &'a Corpus,
    pub(crate) seat: Seat,
    /// What slows reads down, if the scenario wants it.
    pub(crate) slow_disk: Option<&'a SlowDisk>,
    /// Requests per second that each target can do, where the scenario's rates relate to them.
    pub(crate) capacities: Option<&'a Capacities>,
    /// Everything random follows from it.
    pub(crate) seed: u64,
    /// How long the spin usually takes on this machine, in nanoseconds, where that is known.
    pub(crate) spin_ns: Option<f64>,
}

/// Why there is no trial.
#[derive(Debug)]
pub(crate) enum Broken {
    /// An agent on another machine failed; this says nothing about the server.
    Agent(Failure),
    /// The server, or this machine.
    Server(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Broken {
        Broken::Server(failure)
    }
}

/// What trouble with the load of `target` means.
fn broken(target: &Target) -> impl Fn(Trouble) -> Broken {
    move |trouble| match trouble {
        Trouble::Agent(failure) => Broken::Agent(failure),
        Trouble::Server(error) => Broken::Server(Failure::context(target)(error)),
    }
}

/// Runs one trial of `target`, with load from the agents, if there are any. If one of them fails the trial is void.
pub(crate) fn run(
    setting: &Setting<'_>,
    fleet: Option<&mut Fleet>,
    target: &Target,
    pass: Pass,
    place: TrialPosition,
) -> Result<Trial> {
    if target.has_a_thread_per_connection()
        && let Some(shortage) = threads::shortage(setting.all_connections())
    {
        return Err(Failure::new(format!("{target}: {shortage}")));
    }
    let started = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let spun = spin(setting.seat.placement.server.first()).ok();
    for files in setting.cold() {
        setting.corpus.evict(files)?;
    }
    let names = if setting.scenario.forgotten_names { forget_names() } else { Ok(()) };
    let counting = match pass {
        Pass::Timing => Counting::Cost,
        Pass::Counting => Counting::Calls,
    };
    let server = match Server::start(target, setting.corpus.root(), setting.seat, counting)? {
        Start::Running(server) => server,
        Start::Unavailable(reason) => {
            return Err(Failure::new(format!("{target} started before, and doesn't now: {reason}")));
        }
    };
    let measured = measure(setting, fleet, target, pass, &server);
    let stopped = server.stop();
    // If the server died in mid-load, its end says more than the reset that the client saw.
    let mut measured = match (measured, stopped) {
        (Ok(measured), Ok(())) => measured,
        (Err(Broken::Agent(lost)), Ok(())) => Measured::lost(&lost),
        (Err(Broken::Server(error)), Ok(())) => return Err(Failure::new(format!("{target}: {error}"))),
        (Ok(_), Err(end)) => return Err(end),
        (Err(Broken::Agent(error) | Broken::Server(error)), Err(end)) => {
            return Err(Failure::new(format!("{end} ({error})")));
        }
    };
    measured.unmeasured.extend(names.err().map(|reason| (FORGOTTEN_NAMES.to_owned(), reason)));
    Ok(measured.into_trial(setting, target, pass, place, started, spun))
}

/// Takes the names of files that nobody has open out of the kernel's caches, as if they hadn't been asked for since it
/// started: the machine's, not only those of the corpus, since Linux forgets all or none (drop_caches, proc_sys_vm(5)).
fn forget_names() -> std::result::Result<(), String> {
    const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
    fs::write(DROP_CACHES, "2").map_err(|error| {
        format!("the names of files stay in the kernel's caches: write {DROP_CACHES}: {error}")
    })
}

struct Measured {
    outcome: Outcome,
    offered: Vec<Option<f64>>,
    cost: CostRecord,
    calls: Option<CallsRecord>,
    memory: Option<MemoryFigures>,
    device_read_bytes: Option<u64>,
    threads: Vec<Thread>,
    disturbance: Option<Disturbance>,
    unmeasured: BTreeMap<String, String>,
    elsewhere: Option<Elsewhere>,
}

fn measure(
    setting: &Setting<'_>,
    fleet: Option<&mut Fleet>,
    target: &Target,
    pass: Pass,
    server: &Server,
) -> std::result::Result<Measured, Broken> {
    let scenario = setting.scenario;
    let effort = scenario.effort(setting.tier);
    if scenario.slow_disk
        && let Some(slow_disk) = setting.slow_disk
    {
        slow_disk.admit(&server.processes())?;
    }
    let base = scenario.memory.then(|| server.memory());
    let classes = setting.classes(target, server.address())?;
    let offered = classes.iter().map(|class| class.pacing.mean_rate()).collect();
    let (placement, broken) = (setting.seat.placement, broken(target));
    let mut load =
        Load::connect(fleet, placement, server.address(), classes, setting.seed).map_err(&broken)?;
    if let Some((class, entries)) = setting.class_of(Files::Site) {
        // From here on the client has seen every file once, as a browser that returns.
        load.visit_all(class, entries.len()).map_err(&broken)?;
    }
    let warm_up = Duration::from_millis(effort.warm_up_ms);
    let window = Duration::from_millis(scenario.window_ms(setting.tier));
    let window = if pass == Pass::Counting { window.min(COUNTING_WINDOW_MAX) } else { window };
    let new = setting.class_of(Files::New).map(|(class, _)| class);
    new.into_iter().try_for_each(|class| load.hold_back(class, true)).map_err(&broken)?;
    load.run(warm_up, None).map_err(&broken)?;
    new.into_iter().try_for_each(|class| load.hold_back(class, false)).map_err(&broken)?;
    let reads_before = server.device_reads();
    let calls_before = (pass == Pass::Counting).then(|| server.calls());
    let before = server.cost()?;
    let account = CpuAccount::read(placement);
    let slice = (!scenario.phases.is_empty()).then_some(SLICE);
    let Shown { outcome, cpu_here, mut elsewhere } = load.run(window, slice).map_err(&broken)?;
    let later = CpuAccount::read(placement);
    let cost = server.cost()? - before;
    let calls = calls_before.map(|before| server.calls() - &before);
    let device_read_bytes =
        reads_before.zip(server.device_reads()).map(|(before, later)| later.saturating_sub(before));
    let accounts = account.zip(later);
    let mut busy = cost.cpu + cpu_here;
    if let (Some(elsewhere), Some((account, later))) = (&mut elsewhere, accounts) {
        // The network's interrupts on the server's CPUs are its clients' doing, and nobody else's.
        let interrupts = account.interrupts_until(later);
        elsewhere.interrupts_ns = Some(nanoseconds(interrupts));
        busy += interrupts;
    }
    let disturbance = accounts.and_then(|(account, later)| account.until(later, busy));
    look_at_bodies(setting, target, server, &mut load)?;
    let mut unmeasured = BTreeMap::new();
    let mut memory = |memory| readings::memory(memory, &mut unmeasured);
    let memory = base.map(|base| MemoryFigures { base: memory(base), loaded: memory(server.memory()) });
    let calls = calls.map(|calls| readings::calls(calls, &mut unmeasured));
    let threads = server.threads()?;
    load.close().map_err(&broken)?;
    Ok(Measured {
        outcome,
        offered,
        cost: readings::cost(cost),
        calls,
        memory,
        device_read_bytes,
        threads,
        disturbance,
        unmeasured,
        elsewhere,
    })
}

/// Looks at bodies where the server chooses their coding: over the client's connections, or over some of its own where the
/// client isn't a single one here.
fn look_at_bodies(
    setting: &Setting<'_>,
    target: &Target,
    server: &Server,
    load: &mut Load<'_>,
) -> std::result::Result<(), Broken> {
    for (class, entries) in setting.negotiated() {
        let popular = 0..LOOKED_AT.min(entries.len());
        let others = (popular.end..entries.len()).step_by(LOOKED_AT_ONE_IN);
        let numbers: Vec<usize> = popular.chain(others).collect();
        let looked = if let Load::One(engine) = load {
            check_bodies(engine, class, entries, &numbers)
        } else {
            let files = setting.present().find(|(number, _)| *number == class);
            let files = files.map_or(Files::Site, |(_, files)| files);
            let asks = asks(entries, files, server.address());
            let class = Class::closed("look", LOOKED_AT, asks);
            let mut engine = Engine::connect(server.address(), vec![class], setting.seed)
                .map_err(Failure::context(target))?;
            check_bodies(&mut engine, 0, entries, &numbers)
        };
        looked.map_err(Failure::context(target))?;
    }
    Ok(())
}

impl Setting<'_> {
    fn uses(&self, files: Files) -> bool {
        self.scenario.classes.iter().any(|class| class.files == files)
    }

    /// The sets that have to be read from the device.
    fn cold(&self) -> impl Iterator<Item = Files> {
        let is_cold = |files: &Files| match files {
            Files::Cold => self.uses(Files::Cold),
            Files::New => self.uses(Files::New) && self.scenario.slow_disk,
            _ => false,
        };
        [Files::Cold, Files::New].into_iter().filter(is_cold)
    }

    /// What each class asks for, by its number in the engine.
    fn present(&self) -> impl Iterator<Item = (usize, Files)> {
        let present =
            self.scenario.classes.iter().filter(|class| whole(class.connections.at(self.value)) > 0);
        present.map(|class| class.files).enumerate()
    }

    /// The number of the class that asks for these files, and they.
    fn class_of(&self, files: Files) -> Option<(usize, &[CorpusFile])> {
        let (class, _) = self.present().find(|(_, asked)| *asked == files)?;
        Some((class, self.corpus.entries(files)))
    }

    /// The numbers of the classes that leave the coding to the server, and their files.
    fn negotiated(&self) -> impl Iterator<Item = (usize, &[CorpusFile])> {
        let negotiated = self.present().filter(|(_, files)| files.are_negotiated());
        negotiated.map(|(class, files)| (class, self.corpus.entries(files)))
    }

    /// The scenario's classes for this target, those without a connection left out.
    fn classes(&self, target: &Target, address: SocketAddr) -> Result<Vec<Class>> {
        let classes = self.scenario.classes.iter().map(|class| self.class(class, target, address));
        let classes: Vec<Class> = classes.collect::<Result<_>>()?;
        Ok(classes.into_iter().filter(|class| class.connections > 0).collect())
    }

    fn class(&self, class: &scenario::Class, target: &Target, address: SocketAddr) -> Result<Class> {
        let pacing = match class.rate {
            _ if class.idle => Pacing::Idle,
            None => Pacing::Closed,
            Some(rate) => {
                let per_second = self.per_second(rate, class.files, target)?;
                let steps = self.scenario.phases.iter();
                let steps = steps.map(|phase| (Duration::from_millis(phase.ms), phase.factor)).collect();
                Pacing::Open { per_second, arrivals: Arrivals::Poisson, steps }
            }
        };
        let life = match class.requests_per_connection {
            None => Life::KeepAlive,
            Some(number) => Life::Requests(u32::try_from(whole(number.at(self.value))).unwrap_or(u32::MAX)),
        };
        let reading = match class.drain_bytes_per_second {
            None => ReadPace::AtOnce,
            Some(bytes_per_second) => ReadPace::Slow { bytes_per_second },
        };
        Ok(Class {
            name: class.name.clone(),
            connections: whole(class.connections.at(self.value)),
            pacing,
            life,
            reading,
            asks: asks(self.corpus.entries(class.files), class.files, address),
        })
    }

    fn per_second(&self, rate: Rate, files: Files, target: &Target) -> Result<f64> {
        let known = |capacity: Option<f64>| {
            capacity.ok_or_else(|| Failure::new(format!("{target}: its capacity wasn't measured")))
        };
        // The null servers and the twin don't set the pace.
        let of_all = self.capacities.and_then(|capacities| capacities.get(&files));
        let all = of_all.into_iter().flat_map(BTreeMap::values).copied();
        Ok(match rate {
            Rate::PerSecond(number) => number.at(self.value),
            Rate::OfSlowest(percent) => known(all.reduce(f64::min))? * percent.at(self.value) / 100.0,
            Rate::OfFastest(percent) => known(all.reduce(f64::max))? * percent.at(self.value) / 100.0,
            Rate::OfOwn(percent) => {
                // One server under two names is offered one rate.
                let id = target.twin_of().unwrap_or(target.id());
                let own = of_all.and_then(|capacities| capacities.get(id));
                known(own.copied())? * percent.at(self.value) / 100.0
            }
        })
    }
}

/// What a class asks for: one of each file of its set.
pub fn asks(entries: &[CorpusFile], files: Files, address: SocketAddr) -> Asks {
    let requests: Vec<Request> = entries.iter().map(|entry| request_for(entry, address)).collect();
    let order = match files {
        Files::Small | Files::Medium | Files::Large | Files::Constant | Files::Pages => Order::InTurn,
        Files::New => Order::Introduced { visits: VISITS, apart: APART },
        Files::Mix | Files::Site => Order::Weighted(entries.iter().map(|entry| entry.weight).collect()),
        Files::Cold => Order::Once,
    };
    let asks = Asks::new(requests, order);
    if files == Files::Site { asks.with_conditions(CONDITIONAL_SHARE) } else { asks }
}

/// A GET for a file of the corpus, and what the answer has to be.
pub(crate) fn request_for(entry: &CorpusFile, address: SocketAddr) -> Request {
    let expected = Expected { status: 200, body_bytes: entry.bytes };
    let path = format!("/{}", entry.path);
    match entry.kind {
        None => Request::new(address, &path, expected),
        Some(kind) => Request::negotiated(address, &path, &kind.fields(), kind.is_text(), expected),
    }
}

/// Asks for files of the site once, over the connections of class number `class`, and looks at what their bodies say,
/// however they are coded. `entries` is what the class asks for, `numbers` which of it.
pub(crate) fn check_bodies(
    engine: &mut Engine,
    class: usize,
    entries: &[CorpusFile],
    numbers: &[usize],
) -> std::result::Result<(), Failure> {
    /// Bodies that are in memory at once.
    const BODIES_MAX: usize = 64;
    for numbers in numbers.chunks(BODIES_MAX) {
        let fetched = engine.fetch(class, numbers).map_err(|error| Failure::new(error.to_string()))?;
        for (number, received) in numbers.iter().zip(fetched) {
            let entry = &entries[*number];
            let says = received.coding.decode(&received.body, entry.bytes);
            let is_right = says.is_ok_and(|says| Sha256::digest(&says)[..] == entry.digest[..]);
            if !is_right {
                let coding = received.coding;
                return Err(Failure::new(format!(
                    "/{}: the body, coded as {coding}, doesn't say what the file does",
                    entry.path
                )));
            }
        }
    }
    Ok(())
}

impl Measured {
    /// Nothing, because of an agent.
    fn lost(agent: &Failure) -> Measured {
        let outcome = Outcome {
            elapsed: Duration::ZERO,
            client_cpu: Duration::ZERO,
            client_spun: Duration::ZERO,
            classes: Vec::new(),
            skew: Duration::ZERO,
            bound: None,
        };
        Measured {
            outcome,
            offered: Vec::new(),
            cost: CostRecord { cpu_ns: 0, user_ns: None, system_ns: None, page_faults: None },
            calls: None,
            memory: None,
            device_read_bytes: None,
            threads: Vec::new(),
            disturbance: None,
            unmeasured: BTreeMap::new(),
            elsewhere: Some(Elsewhere { lost: Some(agent.to_string()), ..Elsewhere::default() }),
        }
    }

    fn into_trial(
        self,
        setting: &Setting<'_>,
        target: &Target,
        pass: Pass,
        place: TrialPosition,
        started: String,
        spun: Option<Duration>,
    ) -> Trial {
        let elapsed = self.outcome.elapsed;
        let client_busy = self.outcome.client_busy();
        let slice_ns = (!setting.scenario.phases.is_empty()).then(|| nanoseconds(SLICE));
        let figures = |(class, offered): (&ClassOutcome, &Option<f64>)| {
            let connections = setting.connections(&class.name);
            figures(class, *offered, connections, elapsed, slice_ns)
        };
        let classes: Vec<ClassFigures> =
            self.outcome.classes.iter().zip(&self.offered).map(figures).collect();
        let cpus = setting.seat.placement.server;
        let misplaced = |thread: &&Thread| !thread.is_pinned_to(cpus);
        let mut trial = Trial {
            started,
            target: target.id().to_owned(),
            cell: setting.cell.clone(),
            pass,
            place,
            void: None,
            elapsed_ns: nanoseconds(elapsed),
            classes,
            cost: self.cost,
            client_cpu_ns: nanoseconds(self.outcome.client_cpu),
            client_busy,
            limiter: Limiter::Connections,
            memory: self.memory,
            device_read_bytes: self.device_read_bytes,
            calls: self.calls,
            server_threads: self.threads.len(),
            ring_workers: self.threads.iter().filter(|thread| thread.is_ring_worker()).count(),
            misplaced: self.threads.iter().filter(misplaced).cloned().collect(),
            disturbance: self.disturbance,
            spin_ns: spun.map(nanoseconds),
            unmeasured: self.unmeasured,
            elsewhere: self.elsewhere,
        };
        trial.limiter = limiter(&trial, cpus.count(), &self.outcome);
        if let Some(lost) = trial.lost_agent() {
            trial.void = Some(lost.to_owned());
            return trial;
        }
        // Counts don't depend on how quiet the machine is.
        if pass == Pass::Timing {
            let last = place.attempt + 1 == ATTEMPTS_MAX;
            // A machine that is never quiet still gets its numbers, with a warning.
            let disturbed = setting.disturbed(&trial).filter(|_| !last);
            trial.void = setting.warm(&trial, &self.outcome).or(disturbed).map(str::to_owned);
        }
        trial
    }
}

impl Setting<'_> {
    fn all_connections(&self) -> usize {
        self.scenario.classes.iter().map(|class| whole(class.connections.at(self.value))).sum()
    }

    fn connections(&self, name: &str) -> usize {
        let class = self.scenario.classes.iter().find(|class| class.name == name);
        class.map_or(0, |class| whole(class.connections.at(self.value)))
    }

    /// Rule 12: what disturbed a trial, by what can be known without looking at its result.
    fn disturbed(&self, trial: &Trial) -> Option<&'static str> {
        if trial.disturbance.is_some_and(|found| found.is_large()) {
            return Some("other work or the hypervisor took too much of a CPU");
        }
        let (usual, spun) = (self.spin_ns?, trial.spin_ns? as f64);
        ((spun / usual - 1.0).abs() > SPIN_OFF_MAX).then_some("the CPU was off its usual pace")
    }

    /// Rule 17: why cold files weren't cold.
    fn warm(&self, trial: &Trial, outcome: &Outcome) -> Option<&'static str> {
        let mut wanted = 0;
        for files in self.cold() {
            let (number, entries) = self.class_of(files)?;
            let class = outcome.classes.get(number)?;
            if class.used_up {
                return Some("all cold files were read before the window was over");
            }
            wanted += match &class.introduction {
                None => entries.first()?.bytes * class.answers,
                Some(introduction) => {
                    let all: u64 = entries.iter().map(|entry| entry.bytes).sum();
                    all * introduction.visits.first()?.answers / introduction.files.max(1)
                }
            };
        }
        if wanted == 0 {
            return None;
        }
        let read = trial.device_read_bytes?;
        let few = (read as f64) < DEVICE_SHARE_MIN * wanted as f64;
        few.then_some("the cold files weren't cold: too few bytes came from the device")
    }
}

/// What bounded the rate of a trial on so many CPUs.
fn limiter(trial: &Trial, cpus: usize, outcome: &Outcome) -> Limiter {
    let main = trial.main_class();
    let answers = trial.answers().max(1) as f64;
    let late = main.and_then(|class| {
        let lag = class.lag_p99_ns? as f64 + outcome.skew.as_nanos() as f64;
        let response = class.response.as_ref()?.p99_ns? as f64;
        Some(lag > (LAG_MAX.as_nanos() as f64).max(LAG_SHARE_MAX * response))
    });
    let server_busy = trial.cost.cpu_ns as f64 / (trial.elapsed_ns.max(1) as f64 * cpus as f64);
    let one_was_the_limit = outcome.bound.is_some();
    let is_open = main.is_some_and(|class| class.offered_per_second.is_some());
    if trial.errors() as f64 > ERROR_SHARE_MAX * answers {
        Limiter::Errors
    } else if trial.client_busy > BUSY_MAX || late == Some(true) || one_was_the_limit {
        Limiter::ClientCpu
    } else if server_busy > BUSY_MIN {
        Limiter::ServerCpu
    } else if trial.device_read_bytes.is_some_and(|bytes| bytes > 0) {
        Limiter::Disk
    } else if is_open {
        Limiter::OfferedRate
    } else {
        Limiter::Connections
    }
}

fn figures(
    class: &ClassOutcome,
    offered: Option<f64>,
    connections: usize,
    elapsed: Duration,
    slice_ns: Option<u64>,
) -> ClassFigures {
    let answers = class.answers as f64;
    ClassFigures {
        name: class.name.clone(),
        connections,
        answers: class.answers,
        errors: class.errors.iter().map(|(kind, errors)| ((*kind).to_owned(), errors.count)).collect(),
        unanswered: class.unanswered,
        offered_per_second: offered,
        answers_per_second: answers / elapsed.as_secs_f64(),
        wire_bytes_per_answer: (class.answers > 0).then(|| class.wire_bytes as f64 / answers),
        traffic: class.traffic.clone(),
        introduction: class.introduction.clone(),
        service: latency(&class.service),
        response: class.response.as_ref().and_then(latency),
        lag_p99_ns: class.lag.as_ref().and_then(|lag| quantile(lag, 0.99)),
        timeline: class.timeline.clone(),
        slice_ns: slice_ns.filter(|_| !class.timeline.is_empty()),
    }
}

/// `None` for a histogram of nothing.
pub(crate) fn latency(histogram: &Histogram<u64>) -> Option<Latency> {
    (!histogram.is_empty()).then(|| Latency {
        p50_ns: quantile(histogram, 0.5),
        p90_ns: quantile(histogram, 0.9),
        p99_ns: quantile(histogram, 0.99),
        p999_ns: quantile(histogram, 0.999),
        max_ns: histogram.max(),
        mean_ns: histogram.mean(),
        histogram: Some(encoded(&coarse(histogram))),
    })
}

/// What stands in a record has two digits, a hundredth of each value: noise is wider, and three need three times the
/// space. The quantiles beside it are those of the whole histogram.
const RECORDED_DIGITS: u8 = 2;

fn coarse(histogram: &Histogram<u64>) -> Histogram<u64> {
    let mut coarse = Histogram::<u64>::new_with_bounds(histogram.low(), histogram.high(), RECORDED_DIGITS)
        .expect("bounds that a histogram already has");
    for step in histogram.iter_recorded() {
        // A value that was recorded lies within the bounds.
        coarse.saturating_record_n(step.value_iterated_to(), step.count_since_last_iteration());
    }
    coarse
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How many requests for `files` per second `target` answers (closed loop, 64 connections).
pub(crate) fn capacity(
    target: &Target,
    fleet: Option<&mut Fleet>,
    corpus: &Corpus,
    seat: Seat,
    files: Files,
    seed: u64,
) -> std::result::Result<f64, Broken> {
    const CONNECTIONS: usize = 64;
    let server = Server::running(target, corpus.root(), seat, Counting::Cost)?;
    let address = server.address();
    let class = Class::closed("hot", CONNECTIONS, asks(corpus.entries(files), files, address));
    let answered = Load::connect(fleet, seat.placement, address, vec![class], seed)
        .and_then(answers_per_second)
        .map_err(broken(target));
    server.stop()?;
    answered
}

fn answers_per_second(mut load: Load<'_>) -> std::result::Result<f64, Trouble> {
    const WARM_UP: Duration = Duration::from_millis(100);
    const WINDOW: Duration = Duration::from_millis(300);
    load.run(WARM_UP, None)?;
    let outcome = load.run(WINDOW, None)?.outcome;
    load.close()?;
    let answers: u64 = outcome.classes.iter().map(|class| class.answers).sum();
    Ok(answers as f64 / outcome.elapsed.as_secs_f64())
}

/// Whether a target's capacity takes part in what rates relate to: the null servers do less than a server,
/// and the twin is there twice.
pub(crate) fn sets_the_pace(target: &Target) -> bool {
    !matches!(target.family(), Family::Null(_)) && target.twin_of().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::coding::Coding;
    use crate::run::site::Kind;
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use hdrhistogram::serialization::Deserializer;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    /// Answers every request with this.
    fn server(fields: &str, body: &[u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        let answer = [head.as_bytes(), body].concat();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(std::result::Result::ok) {
                let answer = answer.clone();
                thread::spawn(move || {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).is_ok_and(|count| count > 0) {
                        let _client_gone = stream.write_all(&answer);
                    }
                });
            }
        });
        address
    }

    #[test]
    fn a_recorded_histogram_is_within_a_hundredth_of_the_whole_one() {
        let mut whole = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        let mut value: u64 = 900;
        while value < 2_000_000_000 {
            whole.record_n(value, 1 + value % 7).unwrap();
            value += value / 331 + 1;
        }
        let recorded = latency(&whole).unwrap();
        let text = recorded.histogram.unwrap();
        let bytes = BASE64_STANDARD.decode(&text).unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(read.len(), whole.len());
        for quantile in [0.1, 0.5, 0.9, 0.99, 0.999] {
            let (near, exact) = (read.value_at_quantile(quantile), whole.value_at_quantile(quantile));
            assert!((near as f64 / exact as f64 - 1.0).abs() < 0.01, "{quantile}: {near} for {exact}");
        }
        assert_eq!(recorded.p99_ns, quantile(&whole, 0.99), "what stands beside it is exact");
        let as_it_was = encoded(&whole);
        assert!(2 * text.len() < as_it_was.len(), "{}", text.len());
    }

    /// Whatever a head says, the body has to say what the file does.
    #[test]
    fn a_server_that_lies_about_a_coding_is_found_out() {
        let page = "What the page says. ".repeat(80);
        let other = page.replace("says", "lies");
        let coded = |coding, text: &str| crate::run::site::sidecars::coded(coding, text.as_bytes()).unwrap();
        let (gzip, br) = (coded(Coding::Gzip, &page), coded(Coding::Br, &page));
        let table: [(&str, &str, &[u8], bool); 7] = [
            ("gzip", "Content-Encoding: gzip\r\n", &gzip, true),
            ("br", "Content-Encoding: br\r\n", &br, true),
            ("identity", "", page.as_bytes(), true),
            ("gzip called br", "Content-Encoding: br\r\n", &gzip, false),
            ("not coded at all", "Content-Encoding: gzip\r\n", page.as_bytes(), false),
            ("cut short", "Content-Encoding: gzip\r\n", &gzip[..gzip.len() - 9], false),
            ("another file", "Content-Encoding: br\r\n", &coded(Coding::Br, &other), false),
        ];
        let digest = Sha256::digest(page.as_bytes()).into();
        let path = "site/page.html".to_owned();
        let entry =
            CorpusFile { path, bytes: page.len() as u64, weight: 1.0, digest, kind: Some(Kind::Html) };
        for (name, fields, body, is_right) in table {
            let address = server(fields, body);
            let entries = [entry.clone()];
            let class = Class::closed("hot", 2, asks(&entries, Files::Site, address));
            let mut engine = Engine::connect(address, vec![class], 1).unwrap();
            let found = check_bodies(&mut engine, 0, &entries, &[0, 0, 0]);
            assert_eq!(found.is_ok(), is_right, "{name}: {found:?}");
        }
    }

    #[test]
    fn only_the_site_is_asked_for_as_browsers_do() {
        let address = "127.0.0.1:80".parse().unwrap();
        let entry = |kind| CorpusFile { path: "a".to_owned(), bytes: 1, weight: 1.0, digest: [0; 32], kind };
        let bytes =
            |kind| String::from_utf8(request_for(&entry(kind), address).bytes(false).to_vec()).unwrap();
        assert_eq!(bytes(None), "GET /a HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n");
        let browser = bytes(Some(Kind::Avif));
        assert!(browser.contains("\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"), "{browser}");
        assert!(browser.contains("\r\nAccept: image/avif,"), "{browser}");
        assert!(asks(&[entry(Some(Kind::Js))], Files::Site, address).has_conditions());
        assert!(!asks(&[entry(None)], Files::Mix, address).has_conditions());
    }
}

//! A run from its first look around to its pictures.

pub(crate) mod admission;
pub mod corpus;
pub(crate) mod interrupt;
mod load;
pub(crate) mod lock;
pub(crate) mod newcomers;
pub mod options;
pub(crate) mod plan;
pub(crate) mod progress;
mod readings;
pub(crate) mod remeasure;
pub(crate) mod rounds;
pub mod scenario;
pub(crate) mod site;
pub mod trial;
mod warnings;

use crate::agent::fleet::Fleet;
use crate::agent::token::Token;
use crate::analysis::stats::median;
use crate::failure::{Failure, Result};
use crate::machine::disturbance::{Disturbance, Patience};
use crate::machine::environment::{Environment, Filesystem};
use crate::machine::placement::{Distance, LoadFrom, Topology, allowed_cpus, pin};
use crate::machine::slow_disk::SlowDisk;
use crate::random::Random;
use crate::record::trial::{Pass, Trial, TrialPosition};
use crate::record::{self, CellRecord, Ended, FORMAT, Folder, Record};
use crate::report::{self, Report};
use crate::run::admission::{Admission, Admitted};
use crate::run::corpus::Corpus;
use crate::run::interrupt::Interrupt;
use crate::run::lock::Lock;
use crate::run::options::{Options, repository};
use crate::run::plan::Plan;
use crate::run::progress::{Left, Progress};
use crate::run::rounds::{Budget, Originals, enough};
use crate::run::scenario::{Files, Group, Scenario, Tier, whole};
use crate::run::trial::{ATTEMPTS_MAX, Broken, Setting};
use crate::server::built;
use crate::server::calls::Tracepoints;
use crate::server::catalogue::catalogue;
use crate::server::congestion::{CONTROL, Control};
use crate::server::seat::Seat;
use crate::server::target::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

pub(crate) struct Run {
    session: Session,
    corpus: Corpus,
    targets: Vec<Target>,
    slow_disk: Option<SlowDisk>,
    folder: Folder,
    record: Record,
    trials: Vec<Trial>,
    progress: Progress,
}

/// A run's hold on the machine, and its time.
struct Session {
    /// Where a server runs that has one worker.
    seat: Seat,
    topology: Topology,
    fleet: Option<Fleet>,
    budget: Budget,
    patience: Patience,
    interrupt: Interrupt,
    _lock: Lock,
}

#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) report: Report,
    /// Whether the user ended it: then the folder can be resumed.
    pub(crate) interrupted: bool,
    /// What the trials give to warn of.
    pub(crate) warnings: Vec<String>,
    /// Scenarios that were disturbed too often: resuming the finished run measures them again.
    pub(crate) disturbed: Vec<String>,
    /// Servers of this project that failed, a line each.
    pub(crate) failed: Vec<String>,
}

impl Run {
    /// Looks around, writes the corpus, sends every target through the gate, and begins the results folder or
    /// goes on with that of an interrupted run.
    ///
    /// # Errors
    ///
    /// An unknown name, a folder that can't be written, another run under way, or a server of this project that
    /// fails at the gate.
    pub(crate) fn prepare(mut options: Options, plan: Plan, command: String) -> Result<Run> {
        if let Some(folder) = &options.resume {
            let record = record::read_record(folder)?;
            options.agents = record.agents.into_iter().map(|agent| agent.agent).collect();
            options.server_address = record.server_address.unwrap_or(options.server_address);
        }
        if options.resume.is_none() {
            options.check_targets(catalogue().iter().map(Target::id))?;
            build_program(&options, &plan.scenarios);
        }
        // The gate is part of a run's time.
        let budget = Budget::new(options.budget());
        let topology = Topology::look()?;
        let session = Session {
            _lock: Lock::take()?,
            interrupt: Interrupt::listen()?,
            seat: seat(&options, &topology)?,
            topology,
            fleet: fleet(&options)?,
            patience: Patience::of_run(budget.left()),
            budget,
        };
        pin(session.seat.placement.client.first())?;
        match options.resume.clone() {
            None => Run::begin(options, plan, command, session),
            Some(folder) => Run::resume(options, &folder, session),
        }
    }

    fn begin(options: Options, plan: Plan, command: String, session: Session) -> Result<Run> {
        let seat = session.seat;
        let (scenarios, left_out) = fitted(plan.scenarios, &session.topology, options.load())?;
        let corpus = corpus(&options, &scenarios, options.seed)?;
        let environment = Environment::look(corpus.root(), repository());
        let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let folder =
            Folder::create(&options.results(), &started, &environment.host, environment.source.as_ref())?;
        let admission = admission::admit(&options, &scenarios, &corpus, seat);
        let admission = admission.inspect_err(|_| folder.remove_if_empty())?;
        let mut cells = cells(&scenarios, options.tier, &admission.admitted);
        let shared = place(&mut cells, &scenarios, &session.topology, options.load());
        let Admission { admitted, records, control } = admission;
        let (slow_disk, slow_disk_record) = slow_disk(&scenarios, &corpus);
        let mut warnings = warnings::of_machine(&environment, seat.placement, control);
        warnings.extend(left_out.into_iter().chain(shared));
        warnings.extend(warnings::of_corpus(&corpus));
        let record = Record {
            format: FORMAT,
            started,
            finished: None,
            command,
            tier: options.tier,
            seed: options.seed,
            scenarios,
            cells,
            targets: records,
            placement: seat.placement,
            congestion_control: (control == Control::Ours).then(|| CONTROL.to_owned()),
            environment,
            capacities: BTreeMap::new(),
            slow_disk: slow_disk_record,
            unmeasured: BTreeMap::new(),
            agents: session.fleet.as_ref().map(Fleet::records).unwrap_or_default(),
            server_address: (!seat.address.is_loopback()).then_some(seat.address),
            warnings,
        };
        folder.write_record(&record)?;
        if let Some(mut chapter) = plan.chapter {
            chapter.load(corpus.root(), seat, || session.interrupt.is_asked());
            chapter.write(folder.path())?;
        }
        let targets = admitted.into_iter().map(|admitted| admitted.target).collect();
        let trials = Vec::new();
        let progress = Progress::new(Left::default());
        Ok(Run { session, corpus, targets, slow_disk, folder, record, trials, progress })
    }

    /// Goes on with the run in `path`, or measures again what was disturbed in it, if this is still the same
    /// comparison.
    fn resume(mut options: Options, path: &Path, session: Session) -> Result<Run> {
        let mut record = record::read_record(path)?;
        let name = path.display();
        let mut trials = record::read_trials(path)?;
        if record.finished.is_some() {
            let disturbed = remeasure::disturbed(&record, &trials).into_iter().map(str::to_owned).collect();
            if BTreeSet::is_empty(&disturbed) {
                return Err(Failure::new(format!(
                    "the run in {name} is finished, and no scenario in it was disturbed in over {:.0} % of its trials; \
                     there is nothing to resume",
                    remeasure::DISTURBED_MAX * 100.0
                )));
            }
            remeasure::reopen(&mut record, &disturbed, trials.len());
        }
        let mut folder = Folder::open(path)?;
        options.tier = record.tier;
        options.seed = record.seed;
        let corpus = corpus(&options, &record.scenarios, record.seed)?;
        let environment = Environment::look(corpus.root(), repository());
        let allowed = allowed_cpus()?;
        let mut placements = record.cells.iter().filter_map(|cell| cell.placement);
        let is_away = placements.any(|placement| !placement.server.iter().all(|cpu| allowed.contains(&cpu)));
        let is_elsewhere = session.seat.placement != record.placement || is_away;
        if environment.source != record.environment.source || is_elsewhere {
            return Err(Failure::new(format!(
                "the run in {name} was begun with another build or on other CPUs; start a new run"
            )));
        }
        let running = record.targets.iter().filter(|target| target.unavailable.is_none());
        options.targets = running.map(|target| target.id.clone()).collect();
        let admission = admission::admit(&options, &record.scenarios, &corpus, session.seat)?;
        let version = |id: &str, records: &[record::TargetRecord]| {
            let known = records.iter().find(|target| target.id == id);
            known.map(|target| (target.version.clone(), target.unavailable.clone()))
        };
        if let Some(id) =
            options.targets.iter().find(|id| version(id, &record.targets) != version(id, &admission.records))
        {
            return Err(Failure::new(format!(
                "the run in {name} was begun with another {id}; begin a new one"
            )));
        }
        let (slow_disk, found) = slow_disk(&record.scenarios, &corpus);
        record.slow_disk = found;
        // Said when it was interrupted; its end will say it of all trials.
        warnings::forget(&mut record.warnings, &warnings::of_trials(&trials));
        if remeasure::supersede(&record, &mut trials) {
            // In this order: if it ends in between, the record knows what is void.
            folder.write_record(&record)?;
            folder.replace(&trials)?;
        }
        let targets = admission.admitted.into_iter().map(|admitted| admitted.target).collect();
        let progress = Progress::new(Left::default());
        Ok(Run { session, corpus, targets, slow_disk, folder, record, trials, progress })
    }

    pub(crate) fn announcement(&self) -> String {
        let running = self.record.targets.iter().filter(|target| target.unavailable.is_none());
        let names: Vec<&str> = running.map(|target| target.label.as_str()).collect();
        let several =
            |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        format!(
            "{} of {}: {}; {}",
            several(self.record.cells.len(), "comparison"),
            several(names.len(), "server"),
            names.join("; "),
            self.record.placement
        )
    }

    /// What is known beforehand to make the results worth less.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.record.warnings
    }

    /// Measures, judges, and writes everything into the results folder.
    pub(crate) fn finish(mut self) -> Result<Finish> {
        let mut interrupted = false;
        self.progress = Progress::new(self.left(0));
        for index in 0..self.record.cells.len() {
            if self.record.cells[index].ended.is_some() {
                continue;
            }
            match self.measure(index)? {
                Some(ended) => self.record.cells[index].ended = Some(ended),
                None => {
                    interrupted = true;
                    break;
                }
            }
            self.folder.write_record(&self.record)?;
        }
        self.progress.finish();
        if !interrupted {
            let finished = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            self.record.finished = Some(finished);
        }
        let found = warnings::of_trials(&self.trials);
        self.record.warnings.extend(found.iter().cloned());
        self.record.unmeasured.extend(warnings::unmeasured(&self.trials));
        let failed = self.failures_of_ours();
        self.folder.write_record(&self.record)?;
        let report = report::write(self.folder.path(), &self.record, &self.trials)?;
        if !interrupted {
            self.folder.pack()?;
        }
        let disturbed =
            remeasure::disturbed(&self.record, &self.trials).into_iter().map(str::to_owned).collect();
        Ok(Finish { report, interrupted, warnings: found, disturbed, failed })
    }

    fn measure(&mut self, index: usize) -> Result<Option<Ended>> {
        let cell = self.record.cells[index].clone();
        let scenario = self.scenario_of(&cell).clone();
        let mut targets: Vec<Target> = self
            .targets
            .iter()
            .filter(|target| cell.targets.iter().any(|id| id == target.id()))
            .cloned()
            .collect();
        if !self.see_capacities(&scenario, &targets)? {
            return Ok(None);
        }
        targets.retain(|target| !self.record.cells[index].failures.contains_key(target.id()));
        let originals = self.originals(&scenario);
        let (least, most) = self.rounds(&scenario, index);
        let mut round = 0;
        let ended = loop {
            if round >= most {
                break Ended::Rounds;
            }
            if round >= least {
                if enough(&cell.id, scenario.metric, &self.trials, &originals) {
                    break Ended::Narrow;
                }
                // Another round, and what can't be done without.
                let counting = scenario.counting_passes();
                let here = Left::of((1 + counting) * targets.len(), self.length(&scenario));
                if self.session.budget.is_short(self.progress.time_for(self.left(index + 1).and(here))) {
                    break Ended::Budget;
                }
            }
            let mut order = targets.clone();
            let stream = (index as u64) << 32 | round as u64;
            Random::stream(self.record.seed, stream).shuffle(&mut order);
            for (position, target) in order.iter().enumerate() {
                let place = (round, position);
                if self.is_done(&cell, target, Pass::Timing, round) {
                    continue;
                }
                if !self.one(index, &scenario, target, Pass::Timing, place)? {
                    return Ok(None);
                }
                if self.record.cells[index].failures.contains_key(target.id()) {
                    targets.retain(|other| other.id() != target.id());
                }
            }
            round += 1;
            let rounds = least.saturating_sub(round) + scenario.counting_passes();
            let here = Left::of(rounds * targets.len(), self.length(&scenario));
            self.progress.plan(self.left(index + 1).and(here));
        };
        Ok(self.count(index, &scenario, &targets)?.then_some(ended))
    }

    /// The passes that count system calls; false when the user ended the run.
    fn count(&mut self, index: usize, scenario: &Scenario, targets: &[Target]) -> Result<bool> {
        let cell = self.record.cells[index].clone();
        let _in_place = scenario.count_calls.then(Tracepoints::keep);
        for round in 0..scenario.counting_passes() {
            for (position, target) in targets.iter().enumerate() {
                let has_failed = self.record.cells[index].failures.contains_key(target.id());
                if !has_failed
                    && !self.is_done(&cell, target, Pass::Counting, round)
                    && !self.one(index, scenario, target, Pass::Counting, (round, position))?
                {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// What the targets of a scenario can do at this time, where its rates relate to that: each in turns with the others,
    /// the median. False when the user ended the run.
    fn see_capacities(&mut self, scenario: &Scenario, targets: &[Target]) -> Result<bool> {
        const TURNS: usize = 3;
        let relative = scenario.relative_files();
        if relative.is_empty() || self.record.capacities.contains_key(&scenario.name) {
            return Ok(true);
        }
        let mut turns: BTreeMap<(Files, &str), Vec<f64>> = BTreeMap::new();
        let mut failed: BTreeMap<&str, String> = BTreeMap::new();
        let pacers: Vec<&Target> = targets.iter().filter(|target| trial::sets_the_pace(target)).collect();
        for _ in 0..TURNS {
            for (files, target) in relative.iter().flat_map(|files| pacers.iter().map(|one| (*files, *one))) {
                if failed.contains_key(target.id()) {
                    continue;
                }
                let (seat, seed) = (self.session.seat, self.record.seed);
                let fleet = self.session.fleet.as_mut();
                let seen = trial::capacity(target, fleet, &self.corpus, seat, files, seed);
                // Ctrl-C reaches the servers as well.
                if self.session.interrupt.is_asked() {
                    return Ok(false);
                }
                match seen {
                    Ok(capacity) => turns.entry((files, target.id())).or_default().push(capacity),
                    Err(Broken::Agent(lost)) => return Err(self.without_agent(&lost.to_string())),
                    Err(Broken::Server(failure)) => {
                        self.progress.say(&format!("{}: {failure}", scenario.name));
                        failed.insert(target.id(), failure.to_string());
                    }
                }
            }
        }
        let capacities = self.record.capacities.entry(scenario.name.clone()).or_default();
        for ((files, id), turns) in turns {
            capacities.entry(files).or_default().extend(median(&turns).map(|median| (id.to_owned(), median)));
        }
        for cell in self.record.cells.iter_mut().filter(|cell| cell.id.scenario == scenario.name) {
            cell.failures.extend(failed.iter().map(|(id, line)| ((*id).to_owned(), line.clone())));
        }
        self.folder.write_record(&self.record)?;
        Ok(true)
    }

    /// One trial, repeated while something disturbs it; false when the user ended the run.
    fn one(
        &mut self,
        index: usize,
        scenario: &Scenario,
        target: &Target,
        pass: Pass,
        (round, position): (usize, usize),
    ) -> Result<bool> {
        let cell = self.record.cells[index].clone();
        for attempt in 0..ATTEMPTS_MAX {
            if self.session.interrupt.is_asked() {
                return Ok(false);
            }
            let label = self.record.targets.iter().find(|record| record.id == target.id());
            self.progress.begin(label.map_or(target.id(), |record| &record.label), &cell.id);
            let begun = Instant::now();
            let place = TrialPosition { number: self.trials.len(), round, position, attempt };
            let setting = Setting {
                scenario,
                tier: self.record.tier,
                cell: &cell.id,
                value: cell.value,
                corpus: &self.corpus,
                seat: Seat {
                    placement: cell.placement.unwrap_or(self.record.placement),
                    ..self.session.seat
                },
                slow_disk: self.slow_disk.as_ref(),
                capacities: self.record.capacities.get(&scenario.name),
                seed: self.record.seed.wrapping_add(round as u64),
                spin_ns: self.usual_spin(),
            };
            let trial = match trial::run(&setting, self.session.fleet.as_mut(), target, pass, place) {
                Ok(trial) => trial,
                // Ctrl-C reaches the servers as well.
                Err(_) if self.session.interrupt.is_asked() => return Ok(false),
                Err(failure) => {
                    self.progress.say(&format!("{}: {failure}", cell.id));
                    let line = failure.to_string();
                    self.record.cells[index].failures.insert(target.id().to_owned(), line);
                    return Ok(true);
                }
            };
            self.folder.append(&trial)?;
            let again = trial.void.is_some();
            if let Some(lost) = trial.lost_agent() {
                if attempt + 1 == ATTEMPTS_MAX {
                    return Err(self.without_agent(lost));
                }
                self.progress.say(&format!("{}: void: {lost}", cell.id));
                thread::sleep(AGENT_PAUSE);
            }
            if again && let Some(found) = trial.disturbance.filter(Disturbance::is_large) {
                self.progress.wait(found.cause());
                let Session { patience, interrupt, .. } = &mut self.session;
                patience.await_calm(cell.placement.unwrap_or(self.record.placement), || interrupt.is_asked());
            }
            self.progress.end(&trial, self.length(scenario), begun.elapsed());
            self.trials.push(trial);
            if !again {
                break;
            }
        }
        Ok(true)
    }

    /// What ends a run whose agent doesn't come back.
    fn without_agent(&self, lost: &str) -> Failure {
        let folder = self.folder.path().display();
        Failure::new(format!(
            "{lost}; to go on when it is back: cargo run --release -p bench -- run --resume {folder}"
        ))
    }

    /// How long the spin has taken up to now, in the median; `None` while too few have been made.
    fn usual_spin(&self) -> Option<f64> {
        const SPINS_MIN: usize = 8;
        let spins: Vec<f64> =
            self.trials.iter().filter_map(|trial| trial.spin_ns).map(|spin| spin as f64).collect();
        if spins.len() < SPINS_MIN { None } else { median(&spins) }
    }

    fn scenario_of(&self, cell: &CellRecord) -> &Scenario {
        let known = self.record.scenarios.iter().find(|scenario| scenario.name == cell.id.scenario);
        known.expect("the cells were made from these scenarios")
    }

    /// What the scenario's servers without a technique, and those that do something besides, are compared with.
    fn originals(&self, scenario: &Scenario) -> Originals {
        let lesser = self.record.targets.iter().filter(|target| scenario.lesser.contains(&target.id));
        let lesser = lesser.filter_map(|target| Some((target.id.clone(), target.backend?.name().to_owned())));
        lesser.chain(scenario.pairs.iter().cloned()).collect()
    }

    /// The least and the most rounds of a comparison.
    fn rounds(&self, scenario: &Scenario, index: usize) -> (usize, usize) {
        let effort = scenario.effort(self.record.tier);
        let most = effort.rounds_max.unwrap_or(effort.rounds).max(effort.rounds);
        let affordable = self.session.budget.share(self.progress.time_for(self.left(index)));
        let least = whole(effort.rounds as f64 * affordable);
        (least.clamp(rounds::LEAST.min(effort.rounds), effort.rounds), most)
    }

    /// The least work left from this comparison on.
    fn left(&self, index: usize) -> Left {
        let of = |cell: &CellRecord| {
            let scenario = self.scenario_of(cell);
            let rounds = scenario.effort(self.record.tier).rounds + scenario.counting_passes();
            Left::of(rounds * cell.targets.len(), self.length(scenario))
        };
        let cells = self.record.cells.iter().skip(index).filter(|cell| cell.ended.is_none());
        cells.map(of).fold(Left::default(), Left::and)
    }

    fn length(&self, scenario: &Scenario) -> Duration {
        let tier = self.record.tier;
        Duration::from_millis(scenario.effort(tier).warm_up_ms + scenario.window_ms(tier))
    }

    fn is_done(&self, cell: &CellRecord, target: &Target, pass: Pass, round: usize) -> bool {
        self.trials.iter().any(|trial| {
            trial.cell == cell.id
                && trial.target == target.id()
                && trial.pass == pass
                && trial.place.round == round
                && (trial.place.number >= cell.trials_from || pass == Pass::Counting)
                && trial.lost_agent().is_none()
                && (trial.void.is_none() || trial.place.attempt + 1 == ATTEMPTS_MAX || pass == Pass::Counting)
        })
    }

    fn failures_of_ours(&self) -> Vec<String> {
        let ours: BTreeSet<&str> = self
            .record
            .targets
            .iter()
            .filter(|target| target.backend.is_some())
            .map(|target| target.id.as_str())
            .collect();
        let failures = self.record.cells.iter().flat_map(|cell| {
            let mine = cell.failures.iter().filter(|(id, _)| ours.contains(id.as_str()));
            mine.map(|(_, line)| format!("{}: {line}", cell.id))
        });
        failures.collect()
    }
}

/// Between two attempts to get an agent to work.
const AGENT_PAUSE: Duration = Duration::from_millis(500);

/// The agents that the options name, if any.
fn fleet(options: &Options) -> Result<Option<Fleet>> {
    if options.agents.is_empty() {
        return Ok(None);
    }
    let fleet = Fleet::gather(&options.agents, Token::of_harness()?)?;
    fleet.check_reach(options.server_address.into()).map_err(|why| {
        Failure::new(format!("{why}; name an address of this machine with --server-address"))
    })?;
    Ok(Some(fleet))
}

/// Where servers with one worker run and listen.
fn seat(options: &Options, topology: &Topology) -> Result<Seat> {
    let placement = topology.place(1, options.load());
    let placement = placement.ok_or_else(|| Failure::new("this process may run on no CPU"))?;
    Ok(Seat { placement, address: options.server_address })
}

/// The scenarios as this machine can run them, and why some of them are left out.
///
/// # Errors
///
/// None is left.
fn fitted(
    scenarios: Vec<Scenario>,
    topology: &Topology,
    load: LoadFrom,
) -> Result<(Vec<Scenario>, Vec<String>)> {
    let most = topology.workers_max(load);
    let is_pointless = |scenario: &Scenario| scenario.workers.is_some() && most < 2;
    let (pointless, rest): (Vec<Scenario>, Vec<Scenario>) = scenarios.into_iter().partition(is_pointless);
    let reason = |scenario: Scenario| {
        format!(
            "{}: this machine has one CPU to give: nothing to compare (--share-cpus lets server and client share, and \
             --agent takes the load from another machine)",
            scenario.name
        )
    };
    let reasons: Vec<String> = pointless.into_iter().map(reason).collect();
    match reasons.first() {
        Some(reason) if rest.is_empty() => Err(Failure::new(reason)),
        _ => Ok((rest.into_iter().map(|scenario| scenario.with_workers_max(most)).collect(), reasons)),
    }
}

/// Gives the servers of scenarios with several workers their CPUs. Says which have to share them with the client; their
/// points are named after that.
fn place(
    cells: &mut [CellRecord],
    scenarios: &[Scenario],
    topology: &Topology,
    load: LoadFrom,
) -> Vec<String> {
    let mut shared = Vec::new();
    for cell in cells {
        let scenario = scenarios.iter().find(|scenario| scenario.name == cell.id.scenario);
        let Some(workers) = scenario.and_then(|scenario| scenario.workers) else {
            continue;
        };
        cell.placement = topology.place(whole(workers.at(cell.value)), load);
        if let Some(placement) = cell.placement.filter(|placement| placement.distance == Distance::Same) {
            cell.id.point.push_str(", shared");
            shared.push(format!("{}: {placement}; its rates and times say little", cell.id));
        }
    }
    shared
}

/// Builds this project's program where it takes part, before the run's time begins. What comes of it is told when it is
/// to be started.
fn build_program(options: &Options, scenarios: &[Scenario]) {
    let is_named = options.targets.is_empty() || options.targets.iter().any(|name| name == built::NAME);
    let is_asked_for = |scenario: &Scenario| scenario.asks_for(Group::Program, built::NAME);
    if is_named && scenarios.iter().any(is_asked_for) {
        let _told_later = built::program();
    }
}

/// Writes the files that the scenarios ask for, and the small one, which null servers learn to answer with.
fn corpus(options: &Options, scenarios: &[Scenario], seed: u64) -> Result<Corpus> {
    let folder = options.corpus();
    fs::create_dir_all(&folder).map_err(Failure::context(format!("make the folder {}", folder.display())))?;
    if let Some(found) = Filesystem::of(&folder).filter(Filesystem::is_memory) {
        return Err(Failure::new(format!(
            "the corpus folder {} is on {}, which only lives in memory; name one on a disk with --corpus",
            folder.display(),
            found.kind
        )));
    }
    let asked = scenarios.iter().flat_map(|scenario| scenario.classes.iter().map(|class| class.files));
    Corpus::create(&folder, seed, asked.chain([Files::Small]))
}

/// Every scenario at each of its points, with the targets that take part.
pub(crate) fn cells(scenarios: &[Scenario], tier: Tier, admitted: &[Admitted]) -> Vec<CellRecord> {
    let mut cells = Vec::new();
    for scenario in scenarios {
        let takes_part = |admitted: &&Admitted| scenario.asks_for(admitted.group, admitted.target.id());
        let targets: Vec<String> =
            admitted.iter().filter(takes_part).map(|admitted| admitted.target.id().to_owned()).collect();
        for (id, value) in scenario.points(tier) {
            let (targets, failures) = (targets.clone(), BTreeMap::new());
            let cell =
                CellRecord { id, value, targets, failures, ended: None, trials_from: 0, placement: None };
            cells.push(cell);
        }
    }
    cells.retain(|cell| !cell.targets.is_empty());
    cells
}

fn slow_disk(scenarios: &[Scenario], corpus: &Corpus) -> (Option<SlowDisk>, Option<record::SlowDiskRecord>) {
    if scenarios.iter().any(|scenario| scenario.slow_disk) {
        let (slow_disk, record) = SlowDisk::prepare(corpus.root());
        return (Some(slow_disk), Some(record));
    }
    (None, None)
}

/// The group that a target belongs to, for scenarios that name groups.
pub(crate) fn group(target: &Target) -> Group {
    use crate::server::target::{Family, Settings};
    match target.family() {
        // Its twin, too: both take part where they are named.
        Family::Lab => Group::Lab,
        _ if target.twin_of().is_some() => Group::Twin,
        _ if target.is_program() => Group::Program,
        Family::Ours(_) => match target.settings() {
            Some(settings) if *settings == Settings::default() => Group::Ours,
            _ => Group::Lesser,
        },
        Family::Null(_) => Group::Null,
        Family::Peer if target.sends_sidecars() => Group::Sidecars,
        Family::Peer if target.compresses() => Group::Lesser,
        Family::Peer => Group::Peers,
    }
}

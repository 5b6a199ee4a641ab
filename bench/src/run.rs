//! A run from its first look around to its pictures.

pub mod cell;
pub mod corpus;
pub mod plan;
pub mod progress;
pub mod trial;

use crate::analysis::verdict::Verdict;
use crate::failure::{Failure, Result};
use crate::machine::disturbance::{OTHERS_MAX, STOLEN_MAX};
use crate::machine::environment::{Environment, Filesystem};
use crate::machine::placement::{Placement, pin};
use crate::record::{FORMAT, Folder, Record};
use crate::report::chart::{self, Metric};
use crate::report::summary;
use crate::run::cell::Cell;
use crate::run::corpus::Corpus;
use crate::run::plan::Plan;
use crate::run::progress::Progress;
use crate::run::trial::{Place, Trial};
use crate::server::congestion::{CONTROL, Control};
use crate::server::gate;
use crate::server::target::{Backend, Server, Start};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// Where a run reads and writes.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The corpus goes below it; not in memory.
    pub corpus: PathBuf,
    /// The results go below it; `None` keeps nothing.
    pub results: Option<PathBuf>,
    /// The checkout, to ask for the commit.
    pub repository: PathBuf,
}

/// A run under way.
pub struct Run {
    plan: Plan,
    corpus: Corpus,
    placement: Placement,
    folder: Option<Folder>,
    record: Record,
    servers: Vec<Backend>,
    trials: Vec<Trial>,
    progress: Progress,
}

impl Run {
    /// Looks around, writes the corpus, sends every server through the gate, and begins the results folder.
    ///
    /// # Errors
    ///
    /// A folder can't be written, or a server that should run fails at the gate.
    pub fn prepare(plan: Plan, folders: &Folders, command: String) -> Result<Run> {
        let placement = Placement::choose()?;
        pin(placement.client)?;
        fs::create_dir_all(&folders.corpus)
            .map_err(Failure::context(format!("make the folder {}", folders.corpus.display())))?;
        let filesystem = Filesystem::of(&folders.corpus);
        if folders.results.is_some() {
            refuse_memory(filesystem.as_ref(), &folders.corpus)?;
        }
        let corpus = Corpus::create(&folders.corpus, plan.seed)?;
        let environment = Environment::look(corpus.root(), &folders.repository);
        let Admission { unavailable, control } = admit(&corpus, placement)?;
        let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let folder = match &folders.results {
            None => None,
            Some(results) => {
                let source = environment.source.as_ref();
                Some(Folder::create(results, &started, &environment.host, source)?)
            }
        };
        let runs = |backend: &Backend| unavailable.get(backend).is_some_and(Option::is_none);
        let servers: Vec<Backend> = Backend::ALL.into_iter().filter(runs).collect();
        let progress = Progress::new(&plan, servers.len());
        let warnings = warnings(&environment, placement, control);
        let record = Record {
            format: FORMAT,
            started,
            finished: None,
            command,
            plan: plan.clone(),
            placement,
            congestion_control: (control == Control::Ours).then(|| CONTROL.to_owned()),
            environment,
            unavailable,
            warnings,
            verdicts: Vec::new(),
        };
        if let Some(folder) = &folder {
            folder.write_record(&record)?;
        }
        Ok(Run { plan, corpus, placement, folder, record, servers, trials: Vec::new(), progress })
    }

    /// The servers that this machine can run.
    pub fn servers(&self) -> &[Backend] {
        &self.servers
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Which CPU does what.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// The trials of `backend` in `cell`, in the order of the rounds. Asked for the first time, it runs all
    /// rounds of the cell, of all servers: a ratio needs them side by side.
    ///
    /// # Errors
    ///
    /// A server fails, or a line can't be written.
    pub fn trials(&mut self, cell: Cell, backend: Backend) -> Result<Vec<&Trial>> {
        if !self.trials.iter().any(|trial| trial.cell == cell) {
            let index = self.plan.cells.iter().position(|known| *known == cell);
            self.progress.enter(index.unwrap_or_default());
            let measured = self.measure(cell);
            self.progress.leave();
            measured?;
        }
        let mine = |trial: &&Trial| trial.cell == cell && trial.backend == backend;
        Ok(self.trials.iter().filter(mine).collect())
    }

    fn measure(&mut self, cell: Cell) -> Result<()> {
        for round in 0..self.plan.rounds {
            let order = self.plan.order(&cell, round, &self.servers);
            for (position, backend) in order.into_iter().enumerate() {
                self.progress.begin(backend, &cell);
                let begun = Instant::now();
                let place = Place { number: self.trials.len(), round, position };
                let trial = trial::run(backend, cell, place, &self.plan, &self.corpus, self.placement)?;
                self.progress.end(&trial, begun.elapsed());
                if let Some(folder) = &mut self.folder {
                    folder.append(&trial)?;
                }
                self.trials.push(trial);
            }
        }
        Ok(())
    }

    /// Judges, writes everything into the results folder, and says what it found; `None` when nothing was
    /// measured (then the folder is removed).
    ///
    /// # Errors
    ///
    /// A file can't be written.
    pub fn finish(mut self) -> Result<Option<Report>> {
        if self.trials.is_empty() {
            if let Some(folder) = self.folder {
                fs::remove_dir_all(folder.path())
                    .map_err(Failure::context("remove the empty results folder"))?;
            }
            return Ok(None);
        }
        let measured = |cell: &&Cell| self.trials.iter().any(|trial| trial.cell == **cell);
        let cells: Vec<Cell> = self.plan.cells.iter().filter(measured).copied().collect();
        self.record.verdicts = cells.into_iter().map(|cell| Verdict::of(cell, &self.trials)).collect();
        self.record.warnings.extend(misplaced(&self.trials));
        self.record.warnings.extend(disturbed(&self.trials));
        let finished = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        self.record.finished = Some(finished);
        if let Some(folder) = &self.folder {
            folder.write_record(&self.record)?;
            folder.write("SUMMARY.md", &summary::markdown(&self.record))?;
            for metric in Metric::ALL {
                folder.write(metric.file_name(), &chart::draw(metric, &self.record))?;
            }
        }
        let path = self.folder.map(|folder| folder.path().to_owned());
        Ok(Some(Report { record: self.record, folder: path }))
    }
}

/// What a run leaves to be shown.
#[derive(Debug)]
pub struct Report {
    /// The results.
    pub record: Record,
    /// Where they were written.
    pub folder: Option<PathBuf>,
}

/// On a file system in memory a ring hands each read to a kernel worker: another race than the one announced.
fn refuse_memory(filesystem: Option<&Filesystem>, corpus: &Path) -> Result<()> {
    match filesystem {
        Some(found) if found.is_memory() => Err(Failure::new(format!(
            "the corpus folder {} is on {}, which only lives in memory; name one on a disk with TRIPTYCH_BENCH_CORPUS",
            corpus.display(),
            found.kind
        ))),
        _ => Ok(()),
    }
}

/// What the gate has shown.
struct Admission {
    /// Per server, why this machine can't run it.
    unavailable: BTreeMap<Backend, Option<String>>,
    control: Control,
}

/// Sends every server through the gate.
fn admit(corpus: &Corpus, placement: Placement) -> Result<Admission> {
    let mut unavailable = BTreeMap::new();
    let mut control = Control::Ours;
    for backend in Backend::ALL {
        let reason = match Server::start(backend, corpus.root(), placement)? {
            Start::Unavailable(reason) => Some(reason),
            Start::Running(server) => {
                if server.control() == Control::Default {
                    control = Control::Default;
                }
                let passed = gate::pass(server.address(), corpus);
                let stopped = server.stop();
                passed.map_err(Failure::context(backend))?;
                stopped?;
                None
            }
        };
        unavailable.insert(backend, reason);
    }
    Ok(Admission { unavailable, control })
}

/// What is known beforehand to bias the numbers of this machine.
fn warnings(environment: &Environment, placement: Placement, control: Control) -> Vec<String> {
    let mut warnings = Vec::new();
    let default = environment.sysctls.get("net.ipv4.tcp_congestion_control").cloned().flatten();
    if let (Control::Default, Some("bbr")) = (control, default.as_deref()) {
        warnings.push(
            "net.ipv4.tcp_congestion_control is bbr and couldn't be overruled: its pacing shapes large \
             answers more than the servers do"
                .to_owned(),
        );
    }
    if !placement.is_apart() {
        warnings.push("server and client share a core: each slows the other down".to_owned());
    }
    if environment.build.opt_level != "3" {
        warnings.push(format!("built with optimisation level {}", environment.build.opt_level));
    }
    if let Some(governor) = &environment.cpu.governor
        && governor != "performance"
    {
        warnings.push(format!("the CPU's frequency governor is {governor}, not performance"));
    }
    if let Some(clock) = &environment.cpu.clock_source
        && clock != "tsc"
        && clock != "arch_sys_counter"
    {
        warnings.push(format!("the clock source is {clock}: each look at the clock costs more"));
    }
    warnings
}

/// Threads that could have left the server's CPU, a line per name and server.
fn misplaced(trials: &[Trial]) -> Vec<String> {
    let mut found = BTreeMap::new();
    for trial in trials {
        for thread in &trial.misplaced {
            let kind = if thread.is_ring_worker() { "iou-wrk" } else { &thread.name };
            *found.entry((trial.backend, kind.to_owned(), thread.cpus.clone())).or_insert(0_usize) += 1;
        }
    }
    let line = |((backend, name, cpus), trials): ((Backend, String, String), usize)| {
        format!("{backend}: thread {name} could run on CPUs {cpus}, in {trials} trials")
    };
    found.into_iter().map(line).collect()
}

/// How many trials something else disturbed.
fn disturbed(trials: &[Trial]) -> Option<String> {
    let large = |trial: &&Trial| trial.disturbance.is_some_and(|found| found.is_large());
    let count = trials.iter().filter(large).count();
    (count > 0).then(|| {
        format!(
            "in {count} of {} trials other work took over {:.0} % of a CPU, or the hypervisor over {:.0} %; \
             repeat on a quiet machine",
            trials.len(),
            OTHERS_MAX * 100.0,
            STOLEN_MAX * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::verdict::tests::trial;
    use crate::machine::placement::{Distance, Thread};

    #[test]
    fn memory_is_refused_with_a_way_out() {
        let tmpfs = Filesystem { kind: "tmpfs".to_owned(), options: "rw".to_owned() };
        let failure = refuse_memory(Some(&tmpfs), Path::new("/corpus")).unwrap_err().to_string();
        assert!(failure.contains("TRIPTYCH_BENCH_CORPUS") && !failure.contains('\n'), "{failure}");
        let ext4 = Filesystem { kind: "ext4".to_owned(), options: "rw".to_owned() };
        assert_eq!(refuse_memory(Some(&ext4), Path::new("/corpus")), Ok(()));
    }

    #[test]
    fn a_shared_core_and_a_stray_thread_are_warned_of() {
        let environment = Environment::look(Path::new("/"), Path::new("/"));
        let placement = Placement { server: 0, client: 0, distance: Distance::Same };
        let found = warnings(&environment, placement, Control::Ours);
        assert!(found[0].starts_with("server and client share"));
        let mut trial = trial(Backend::Uring, Cell::all()[0], 0, 7_000.0);
        let stray = |name: &str| Thread { name: name.to_owned(), cpus: "0-1".to_owned() };
        trial.misplaced = vec![stray("iou-wrk-17"), stray("iou-wrk-18")];
        let lines = misplaced(&[trial]);
        assert_eq!(lines, ["uring: thread iou-wrk could run on CPUs 0-1, in 2 trials"]);
    }
}

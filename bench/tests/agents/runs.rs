//! Whole runs with load from agents, and runs with several workers.

use crate::agent::{Agent, DEADLINE, TOKEN, within_deadline};
use crate::{Outcome, Test};
use bench::agent::token::VARIABLE;
use bench::record::trial::{Pass, Trial};
use bench::record::{read_record, read_trials};
use libtest_mimic::Failed;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;
use tempfile::TempDir;

pub(crate) const TESTS: &[Test] = &[
    ("a_run_takes_its_load_from_agents", a_run_takes_its_load_from_agents),
    ("agents_ask_as_browsers_do", agents_ask_as_browsers_do),
    ("a_run_whose_agent_is_gone_can_be_resumed", a_run_whose_agent_is_gone_can_be_resumed),
    ("one_cpu_to_give_is_nothing_to_compare", one_cpu_to_give_is_nothing_to_compare),
    ("shared_cpus_are_marked", shared_cpus_are_marked),
    ("with_agents_all_cpus_are_the_servers", with_agents_all_cpus_are_the_servers),
];

/// Folders for runs.
pub(crate) struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Result<Sandbox, Failed> {
        Ok(Sandbox { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))? })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
        command
            .args(arguments)
            .env(VARIABLE, TOKEN)
            .env("TMPDIR", self.folder.path())
            .env("TRIPTYCH_BENCH_CORPUS", self.folder.path().join("corpus"))
            .env("TRIPTYCH_BENCH_RESULTS", self.folder.path().join("results"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output, Failed> {
        let begun = Instant::now();
        let output = self.command(arguments).output()?;
        assert!(begun.elapsed() < 5 * DEADLINE, "it took {:?}", begun.elapsed());
        Ok(output)
    }

    fn start(&self, arguments: &[&str]) -> Result<Child, Failed> {
        Ok(self.command(arguments).spawn()?)
    }

    /// The folder of the only run.
    pub(crate) fn result(&self) -> Result<PathBuf, Failed> {
        let entry = fs::read_dir(self.folder.path().join("results"))?.next().ok_or("no run")?;
        Ok(entry?.path())
    }
}

/// Windows that are too short to be disturbed, and servers that are always there.
const SHORT: [&str; 5] = ["run", "--window-ms", "100", "--targets", "epoll,epoll-twin,blocking"];

pub(crate) fn read(folder: &Path) -> Result<(Value, Vec<Trial>), Failed> {
    Ok((serde_json::to_value(read_record(folder)?)?, read_trials(folder)?))
}

pub(crate) fn succeeded(output: &Output) -> Outcome {
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("it failed: {told}").into()) }
}

fn error_line(output: &Output) -> Result<String, Failed> {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut lines = told.lines().filter(|line| line.starts_with("error: "));
    match (output.status.code(), lines.next(), lines.next()) {
        (Some(1), Some(line), None) => Ok(line.to_owned()),
        _ => Err(told.into()),
    }
}

/// What holds for a finished run with load from so many agents.
pub(crate) fn check(folder: &Path, agents: usize) -> Outcome {
    let (record, trials) = read(folder)?;
    assert!(!record["finished"].is_null());
    let listed = record["agents"].as_array().ok_or("the record lists its agents")?;
    assert_eq!(listed.len(), agents);
    for agent in listed {
        let known = |field: &str| agent[field].as_str().is_some_and(|value| !value.is_empty());
        assert!(["agent", "name", "kernel", "cpus"].iter().all(|field| known(field)), "{agent}");
    }
    assert_eq!(record["placement"]["distance"], "machines");
    for cell in record["cells"].as_array().ok_or("it has cells")? {
        assert_eq!(cell["failures"].as_object().map(serde_json::Map::len), Some(0), "{cell}");
    }
    assert!(!trials.is_empty());
    for trial in &trials {
        let elsewhere = trial.elsewhere.as_ref().ok_or("it has the agents' part")?;
        assert_eq!((elsewhere.agents.len(), &elsewhere.lost), (agents, &None));
        assert!(elsewhere.skew_ns > 0 && elsewhere.interrupts_ns.is_some(), "{elsewhere:?}");
        assert_eq!(elsewhere.agents.iter().map(|agent| agent.answers).sum::<u64>(), trial.answers());
        assert!(trial.answers() > 0 && trial.errors() == 0 && trial.cost.cpu_ns > 0, "{trial:?}");
        assert!(trial.misplaced.is_empty(), "{:?}", trial.misplaced);
        let is_open = trial.classes[0].offered_per_second.is_some();
        assert_eq!(is_open, trial.cell.scenario == "common-rate", "the whole rate, not an agent's share");
    }
    let summary = fs::read_to_string(folder.join("SUMMARY.md"))?;
    assert!(
        summary.contains("\n- load from: ") && summary.contains("\n- beginnings of the agents: at most ")
    );
    Ok(())
}

fn a_run_takes_its_load_from_agents() -> Outcome {
    let (one, two) = (Agent::start(&[])?, Agent::start(&[])?);
    let sandbox = Sandbox::new()?;
    let only =
        ["--rounds", "2", "--only", "hot-small,common-rate", "--agent", &one.name, "--agent", &two.name];
    succeeded(&sandbox.run(&[&SHORT[..], &only].concat())?)?;
    check(&sandbox.result()?, 2)
}

/// Each agent remembers validators for itself; the harness looks at bodies over connections of its own.
fn agents_ask_as_browsers_do() -> Outcome {
    let (one, two) = (Agent::start(&[])?, Agent::start(&[])?);
    let sandbox = Sandbox::new()?;
    let only = ["--rounds", "1", "--only", "site", "--agent", &one.name, "--agent", &two.name];
    let short = ["run", "--window-ms", "100", "--targets", "epoll"];
    succeeded(&sandbox.run(&[&short[..], &only].concat())?)?;
    let folder = sandbox.result()?;
    check(&folder, 2)?;
    let (_, trials) = read(&folder)?;
    let traffic = serde_json::to_value(&trials[0].classes)?[0]["traffic"].clone();
    assert!(traffic["not_modified"].as_u64().is_some_and(|count| count > 0), "{traffic}");
    Ok(())
}

fn a_run_whose_agent_is_gone_can_be_resumed() -> Outcome {
    let (stays, mut goes) = (Agent::start(&[])?, Some(Agent::start(&[])?));
    let name = goes.as_ref().map(|agent| agent.name.clone()).ok_or("it is there")?;
    let sandbox = Sandbox::new()?;
    let only = ["--rounds", "8", "--only", "hot-small", "--agent", &stays.name, "--agent", &name];
    let run = sandbox.start(&[&SHORT[..], &only].concat())?;
    let trials = || sandbox.result().and_then(|folder| Ok(read_trials(&folder)?)).unwrap_or_default();
    let begun = within_deadline(|| trials().len() >= 3);
    drop(goes.take());
    let output = run.wait_with_output()?;
    begun?;
    let (line, folder) = (error_line(&output)?, sandbox.result()?);
    assert!(line.starts_with(&format!("error: agent {name}: ")), "{line}");
    let resume = format!("--resume {}", folder.display());
    assert!(line.ends_with(&resume), "{line}");
    let lost = |trial: &Trial| trial.elsewhere.as_ref().and_then(|elsewhere| elsewhere.lost.clone());
    let void: Vec<Trial> = trials().into_iter().filter(|trial| lost(trial).is_some()).collect();
    assert_eq!(void.len(), 3, "three attempts");
    for trial in &void {
        assert!(!trial.counts() && trial.void == lost(trial), "{:?}", trial.void);
        assert!(trial.void.as_ref().is_some_and(|void| void.starts_with(&format!("agent {name}: "))));
    }
    let refused = error_line(&sandbox.run(&["run", "--resume", folder.to_str().ok_or("a path")?])?)?;
    assert!(refused.starts_with(&format!("error: agent {name}: ")), "{refused}");
    let _back = Agent::listening(&name, &[])?;
    succeeded(&sandbox.run(&["run", "--resume", folder.to_str().ok_or("a path")?])?)?;
    let (record, trials) = read(&folder)?;
    assert!(!record["finished"].is_null());
    for round in 0..8 {
        for target in ["epoll", "epoll-twin", "blocking"] {
            let counts =
                |trial: &&Trial| trial.target == target && trial.place.round == round && trial.counts();
            assert_eq!(trials.iter().filter(counts).count(), 1, "{target} in round {round}");
        }
    }
    Ok(())
}

/// Lets a thread, and the processes that it starts, use so many CPUs.
fn with_cpus<T: Send>(
    count: usize,
    work: impl FnOnce() -> Result<T, Failed> + Send,
) -> Result<Option<T>, Failed> {
    let allowed = sched_getaffinity(None)?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).take(count).collect();
    if cpus.len() < count {
        return Ok(None);
    }
    let confined = || {
        let mut set = CpuSet::new();
        cpus.iter().for_each(|cpu| set.set(*cpu));
        sched_setaffinity(None, &set)?;
        work()
    };
    let done = std::thread::scope(|scope| scope.spawn(confined).join());
    done.map_err(|_| Failed::from("it panicked"))?.map(Some)
}

fn one_cpu_to_give_is_nothing_to_compare() -> Outcome {
    for cpus in [1, 2] {
        let sandbox = Sandbox::new()?;
        let output = with_cpus(cpus, || sandbox.run(&[&SHORT[..], &["--only", "scaling"]].concat()))?;
        let Some(output) = output else { continue };
        let line = error_line(&output)?;
        let wanted = "error: scaling: this machine has one CPU to give: nothing to compare (--share-cpus ";
        assert!(line.starts_with(wanted), "{cpus}: {line}");
        assert!(sandbox.result().is_err(), "nothing was begun");
    }
    // Beside others it is left out, and the record says so.
    let sandbox = Sandbox::new()?;
    let only = ["--rounds", "1", "--only", "hot-small,scaling"];
    let Some(output) = with_cpus(2, || sandbox.run(&[&SHORT[..], &only].concat()))? else { return Ok(()) };
    succeeded(&output)?;
    let (record, _) = read(&sandbox.result()?)?;
    let warnings = record["warnings"].as_array().ok_or("warnings")?;
    let says = |warning: &Value| {
        warning.as_str().is_some_and(|text| text.starts_with("scaling: this machine has one"))
    };
    assert!(warnings.iter().any(says), "{warnings:?}");
    assert_eq!(record["cells"].as_array().map(Vec::len), Some(1));
    Ok(())
}

/// Which servers had how many threads, by point.
fn threads(trials: &[Trial], target: &str, point: &str) -> Vec<usize> {
    let of = |trial: &&Trial| {
        let cell = trial.cell.to_string();
        trial.target == target && trial.pass == Pass::Timing && cell == format!("scaling@{point}")
    };
    trials.iter().filter(of).map(|trial| trial.server_threads).collect()
}

fn check_scaling(folder: &Path, second: &str) -> Outcome {
    let (record, trials) = read(folder)?;
    let (one, two) = (threads(&trials, "epoll", "1"), threads(&trials, "epoll", second));
    assert!(!one.is_empty() && one.len() == two.len(), "{one:?} and {two:?} in {record}");
    assert!(one.iter().max() < two.iter().min(), "threads with one and with two workers: {one:?}, {two:?}");
    for trial in &trials {
        assert!(trial.misplaced.is_empty(), "{:?}", trial.misplaced);
        assert!(trial.answers() > 0 && trial.errors() == 0, "{trial:?}");
    }
    Ok(())
}

fn shared_cpus_are_marked() -> Outcome {
    let sandbox = Sandbox::new()?;
    let only = ["--rounds", "1", "--only", "scaling", "--share-cpus"];
    let Some(output) = with_cpus(2, || sandbox.run(&[&SHORT[..], &only].concat()))? else { return Ok(()) };
    succeeded(&output)?;
    let folder = sandbox.result()?;
    check_scaling(&folder, "2, shared")?;
    let (record, _) = read(&folder)?;
    assert_eq!(record["cells"][1]["placement"]["distance"], "same");
    let warnings = record["warnings"].to_string();
    assert!(warnings.contains("scaling@2, shared: server on CPUs "), "{warnings}");
    let summary = fs::read_to_string(folder.join("SUMMARY.md"))?;
    assert!(summary.contains("2, shared"), "{summary}");
    Ok(())
}

fn with_agents_all_cpus_are_the_servers() -> Outcome {
    let agent = Agent::start(&[])?;
    let sandbox = Sandbox::new()?;
    let only = ["--rounds", "1", "--only", "scaling", "--agent", &agent.name];
    let Some(output) = with_cpus(2, || sandbox.run(&[&SHORT[..], &only].concat()))? else { return Ok(()) };
    succeeded(&output)?;
    let folder = sandbox.result()?;
    check_scaling(&folder, "2")?;
    let (record, _) = read(&folder)?;
    assert_eq!(record["cells"][1]["placement"]["distance"], "machines");
    Ok(())
}

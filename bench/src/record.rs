//! The results folder of a run.
//!
//! `trials.jsonl` gets a line per trial while the run goes on, so a crash loses no measurement; it is packed at the end.
//! `run.json` has the plan and the environment.

pub mod trial;
mod trials;

pub use trials::read_trials;

use crate::agent::fleet::AgentRecord;
use crate::failure::{Failure, Result};
use crate::machine::environment::{Environment, Source};
use crate::machine::placement::Placement;
use crate::record::trial::{CellId, Trial};
use crate::record::trials::Trials;
use crate::run::scenario::{Files, Scenario, Tier};
use crate::server::target::Backend;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Raised whenever a reader of older files would misunderstand newer ones.
pub(crate) const FORMAT: u32 = 2;

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`] of the writer.
    pub(crate) format: u32,
    pub(crate) started: String,
    /// When it ended; null while it runs, or if it never did.
    pub finished: Option<String>,
    pub(crate) command: String,
    pub(crate) tier: Tier,
    /// Everything random follows from it.
    pub(crate) seed: u64,
    /// What was asked, each with the effort of this run.
    pub(crate) scenarios: Vec<Scenario>,
    /// The comparisons, in the order of the run.
    pub cells: Vec<CellRecord>,
    pub(crate) targets: Vec<TargetRecord>,
    pub(crate) placement: Placement,
    /// The congestion control of the servers' connections; null for the machine's default.
    pub(crate) congestion_control: Option<String>,
    pub(crate) environment: Environment,
    /// Requests per second that the targets of a scenario answered just before its first round (closed loop, 64
    /// connections), by scenario: what relative rates relate to. None for scenarios without such rates.
    #[serde(default)]
    pub capacities: BTreeMap<String, Capacities>,
    /// How slow reads were made for the scenarios that ask for it, or why they weren't; null where none asks.
    pub(crate) slow_disk: Option<SlowDiskRecord>,
    /// What this machine can't measure, by the field's name, with the reason.
    pub(crate) unmeasured: BTreeMap<String, String>,
    /// The agents that gave the load; empty where the client was on this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) agents: Vec<AgentRecord>,
    /// Where the servers listened; null for the loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_address: Option<Ipv4Addr>,
    /// What a reader has to know before he believes the numbers.
    pub(crate) warnings: Vec<String>,
}

/// Requests per second, by the files that were asked for and by target.
pub(crate) type Capacities = BTreeMap<Files, BTreeMap<String, f64>>;

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// Which.
    #[serde(flatten)]
    pub id: CellId,
    /// The axis's value; null for a scenario of one point.
    pub(crate) value: Option<f64>,
    /// The targets that take part.
    pub targets: Vec<String>,
    /// Targets that failed in it, with the reason: they are left out of it from then on.
    pub failures: BTreeMap<String, String>,
    /// Why its rounds ended; null while they run.
    pub(crate) ended: Option<Ended>,
    /// The number of the trial from which on its trials for times count: 0, unless it was measured again.
    #[serde(default)]
    pub(crate) trials_from: usize,
    /// Where server and client ran, where that isn't what the run says: a server with several workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ended {
    Narrow,
    Rounds,
    Budget,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TargetRecord {
    /// Its id: "nginx-aio-threads".
    pub(crate) id: String,
    pub(crate) label: String,
    pub(crate) family: Family,
    /// The backend, for those of this project; its colour follows from it.
    pub(crate) backend: Option<Backend>,
    /// The target that it is the A/A twin of.
    pub(crate) twin_of: Option<String>,
    pub(crate) version: Option<String>,
    /// Its committed configuration, comments included; what differs from start to start is a name between `@`s.
    pub(crate) configuration: Option<String>,
    /// Why it took no part; null for one that did.
    pub(crate) unavailable: Option<String>,
}

impl TargetRecord {
    /// Whether its label has its version, as those of peers do; runs of earlier formats kept them apart.
    pub(crate) fn tells_version(&self) -> bool {
        let number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
        let version = self.version.as_deref().and_then(|version| version.split([' ', ',']).find(number));
        version.is_some_and(|version| self.label.split([' ', ',']).any(|word| word == version))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Family {
    Ours,
    /// A server that sends a constant and parses nothing: the ceiling of client and kernel.
    Null,
    /// A rung of the lab: one answer to everything.
    Lab,
    Peer,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlowDiskRecord {
    pub(crate) means: String,
    /// Reads per second; null where the disk is as fast as it is.
    pub(crate) reads_per_second: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    trials: Trials,
}

impl Folder {
    /// Makes `<time>-<host>-<commit>` below `results`.
    pub(crate) fn create(
        results: &Path,
        started: &str,
        host: &str,
        source: Option<&Source>,
    ) -> Result<Folder> {
        let path = results.join(folder_name(started, host, source));
        fs::create_dir_all(&path)
            .map_err(Failure::context(format!("make the results folder {}", path.display())))?;
        let trials = Trials::create(&path)?;
        Ok(Folder { path, trials })
    }

    /// Opens the folder of a run that ended, to go on with it.
    pub(crate) fn open(path: &Path) -> Result<Folder> {
        Ok(Folder { path: path.to_owned(), trials: Trials::open(path)? })
    }

    pub(crate) fn remove_if_empty(&self) {
        if self.trials.is_empty() {
            let _stays_as_it_is = fs::remove_dir_all(&self.path);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn append(&mut self, trial: &Trial) -> Result<()> {
        self.trials.append(trial)
    }

    /// Writes all trials anew, when earlier ones have changed.
    pub(crate) fn replace(&mut self, trials: &[Trial]) -> Result<()> {
        self.trials.replace(trials)
    }

    /// Writes `run.json`; a reader sees the old one or the new one.
    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        let mut text = serde_json::to_string_pretty(record).map_err(Failure::context("write run.json"))?;
        text.push('\n');
        write_file(&self.path, "run.json", &text)
    }

    /// The run has finished: no trial will follow.
    pub(crate) fn pack(self) -> Result<()> {
        self.trials.pack()
    }
}

/// Writes a file of a run's folder whole; a reader sees the old one or the new one.
pub(crate) fn write_file(folder: &Path, name: &str, content: &str) -> Result<()> {
    let path = folder.join(name);
    trials::write_whole(&path, content.as_bytes())
        .map_err(Failure::context(format!("write {}", path.display())))
}

/// Reads the `run.json` of a folder.
pub fn read_record(folder: &Path) -> Result<Record> {
    let path = folder.join("run.json");
    let doing = || format!("read {}", path.display());
    let text = fs::read_to_string(&path).map_err(Failure::context(doing()))?;
    // Only the format is sure to be where it is in a file of another version.
    let value: serde_json::Value = serde_json::from_str(&text).map_err(Failure::context(doing()))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if format != Some(u64::from(FORMAT)) {
        let found = format.map_or_else(|| "none".to_owned(), |format| format.to_string());
        let line = format!("{}: its format is {found}, this version reads {FORMAT}", doing());
        return Err(Failure::new(line));
    }
    serde_json::from_value(value).map_err(Failure::context(doing()))
}

/// The time first, so that folders sort by it; no character that a shell or a file system minds.
fn folder_name(started: &str, host: &str, source: Option<&Source>) -> String {
    let plain = |text: &str| {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        text.chars().map(plain).collect::<String>()
    };
    let commit = match source {
        None => "uncommitted".to_owned(),
        Some(Source { commit, dirty: false }) => commit.clone(),
        Some(Source { commit, dirty: true }) => format!("{commit}-dirty"),
    };
    format!("{}-{}-{}", plain(started), plain(host), plain(&commit))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::machine::cpus::Cpus;
    use crate::machine::placement::Distance;
    use crate::record::trial::tests::trial;
    use crate::run::scenario;

    /// A record of a quick run of `hot-small` among three servers, the twin, a null server and two peers, one
    /// of which couldn't run.
    pub(crate) fn record() -> Record {
        let target = |id: &str, family, backend, unavailable: Option<&str>| TargetRecord {
            id: id.to_owned(),
            label: id.to_owned(),
            family,
            backend,
            twin_of: id.strip_suffix("-twin").map(str::to_owned),
            version: None,
            configuration: None,
            unavailable: unavailable.map(str::to_owned),
        };
        let targets = vec![
            target("blocking", Family::Ours, Some(Backend::Blocking), None),
            target("epoll", Family::Ours, Some(Backend::Epoll), None),
            target("uring", Family::Ours, Some(Backend::Uring), None),
            target("epoll-twin", Family::Ours, Some(Backend::Epoll), None),
            target("null-epoll", Family::Null, Some(Backend::Epoll), None),
            target("nginx", Family::Peer, None, None),
            target("h2o", Family::Peer, None, Some("not installed: apt install h2o")),
        ];
        let running = targets.iter().filter(|target| target.unavailable.is_none());
        let cell = CellRecord {
            id: CellId { scenario: "hot-small".to_owned(), point: String::new() },
            value: None,
            targets: running.map(|target| target.id.clone()).collect(),
            failures: BTreeMap::new(),
            ended: Some(Ended::Rounds),
            trials_from: 0,
            placement: None,
        };
        Record {
            format: FORMAT,
            started: "2026-01-02T03:04:05Z".to_owned(),
            finished: Some("2026-01-02T03:10:00Z".to_owned()),
            command: "cargo bench".to_owned(),
            tier: Tier::Quick,
            seed: 7,
            scenarios: scenario::all().unwrap().into_iter().filter(|one| one.name == "hot-small").collect(),
            cells: vec![cell],
            targets,
            placement: Placement { server: Cpus::one(1), client: Cpus::one(0), distance: Distance::Cores },
            congestion_control: Some("reno".to_owned()),
            environment: Environment::look(Path::new("/"), Path::new("/")),
            capacities: BTreeMap::from([(
                "common-rate".to_owned(),
                BTreeMap::from([(Files::Small, BTreeMap::from([("epoll".to_owned(), 120_000.0)]))]),
            )]),
            slow_disk: None,
            unmeasured: BTreeMap::from([("calls".to_owned(), "tracepoints are not readable".to_owned())]),
            agents: Vec::new(),
            server_address: None,
            warnings: vec!["one".to_owned()],
        }
    }

    #[test]
    fn a_folder_reads_back_as_it_was_written() {
        let results = tempfile::tempdir().unwrap();
        let source = Source { commit: "abc1234".to_owned(), dirty: true };
        let started = "2026-01-02T03:04:05Z";
        let mut folder = Folder::create(results.path(), started, "the host", Some(&source)).unwrap();
        let name = folder.path().file_name().unwrap();
        assert_eq!(name, "2026-01-02T03-04-05Z-the-host-abc1234-dirty");
        let trials: Vec<Trial> =
            (0..3).map(|round| trial("epoll", round, 7_123.456_789 + round as f64)).collect();
        for trial in &trials {
            folder.append(trial).unwrap();
        }
        let record = record();
        folder.write_record(&record).unwrap();
        assert_eq!(read_trials(folder.path()).unwrap(), trials);
        assert_eq!(read_record(folder.path()).unwrap(), record);
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 2, "nothing unfinished is left");
    }

    #[test]
    fn what_is_unknown_is_null() {
        let line = serde_json::to_value(trial("epoll", 0, 7_000.0)).unwrap();
        assert!(line["void"].is_null() && line["calls"].is_null());
        assert_eq!((&line["scenario"], &line["round"]), (&"hot-small".into(), &0.into()));
    }

    #[test]
    fn another_format_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.json"), r#"{"format": 99}"#).unwrap();
        let failure = read_record(folder.path()).unwrap_err().to_string();
        assert!(failure.ends_with("its format is 99, this version reads 2"), "{failure}");
    }

    #[test]
    fn an_unwritable_folder_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results");
        fs::write(&file, "").unwrap();
        let failure = Folder::create(&file, "now", "here", None).unwrap_err().to_string();
        assert!(failure.starts_with("make the results folder "), "{failure}");
        assert!(failure.contains("now-here-uncommitted"), "{failure}");
    }

    /// What has been published stays readable.
    #[test]
    fn committed_runs_are_read() {
        let results = crate::run::options::repository().join("results");
        for name in ["reference", "ablation"] {
            let folder = results.join(name);
            let (record, trials) = (read_record(&folder).unwrap(), read_trials(&folder).unwrap());
            assert!(record.finished.is_some() && trials.len() > 100, "{name}: {}", trials.len());
        }
    }
}

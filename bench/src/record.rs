//! The results folder: everything that a run leaves behind.
//!
//! `trials.jsonl` gets a line per trial while the run goes on, so a crash loses nothing that was measured;
//! `run.json` says where, how and with what, at the start without verdicts, at the end with them.

use crate::analysis::verdict::Verdict;
use crate::failure::{Failure, Result};
use crate::machine::environment::{Environment, Source};
use crate::machine::placement::Placement;
use crate::run::plan::Plan;
use crate::run::trial::Trial;
use crate::server::target::Backend;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Raised whenever a reader of older files would misunderstand newer ones.
pub const FORMAT: u32 = 1;

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// When the run began, in UTC.
    pub started: String,
    /// When it ended; null while it runs, or if it never did.
    pub finished: Option<String>,
    /// The command that repeats it.
    pub command: String,
    /// What was to be measured.
    pub plan: Plan,
    /// Which CPU did what.
    pub placement: Placement,
    /// The congestion control of the servers' connections; null for the machine's default.
    pub congestion_control: Option<String>,
    /// Where.
    pub environment: Environment,
    /// Per server, why this machine can't run it; null for one that it can.
    pub unavailable: BTreeMap<Backend, Option<String>>,
    /// What a reader has to know before he believes the numbers.
    pub warnings: Vec<String>,
    /// The results, cell by cell.
    pub verdicts: Vec<Verdict>,
}

/// The folder of one run.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    trials: File,
}

impl Folder {
    /// Makes `<time>-<host>-<commit>` below `results`.
    ///
    /// # Errors
    ///
    /// It can't be made or written.
    pub fn create(results: &Path, started: &str, host: &str, source: Option<&Source>) -> Result<Folder> {
        let path = results.join(folder_name(started, host, source));
        fs::create_dir_all(&path)
            .map_err(Failure::context(format!("make the results folder {}", path.display())))?;
        let trials = path.join("trials.jsonl");
        let trials =
            File::create(&trials).map_err(Failure::context(format!("write {}", trials.display())))?;
        Ok(Folder { path, trials })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a trial.
    ///
    /// # Errors
    ///
    /// The disk is full, or worse.
    pub fn append(&mut self, trial: &Trial) -> Result<()> {
        let doing = "write trials.jsonl";
        let mut line = serde_json::to_string(trial).map_err(Failure::context(doing))?;
        line.push('\n');
        self.trials.write_all(line.as_bytes()).map_err(Failure::context(doing))
    }

    /// Writes `run.json`; a reader sees the old one or the new one.
    ///
    /// # Errors
    ///
    /// The disk is full, or worse.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let mut text = serde_json::to_string_pretty(record).map_err(Failure::context("write run.json"))?;
        text.push('\n');
        self.write("run.json", &text)
    }

    /// Writes a file whole.
    ///
    /// # Errors
    ///
    /// The disk is full, or worse.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let unfinished = self.path.join(format!("{name}.unfinished"));
        fs::write(&unfinished, content)
            .and_then(|()| fs::rename(&unfinished, self.path.join(name)))
            .map_err(Failure::context(format!("write {name}")))
    }
}

/// Reads the `run.json` of a folder.
///
/// # Errors
///
/// It isn't there, isn't one, or is of another format.
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

/// Reads the `trials.jsonl` of a folder.
///
/// # Errors
///
/// It isn't there, or a line isn't a trial.
pub fn read_trials(folder: &Path) -> Result<Vec<Trial>> {
    let path = folder.join("trials.jsonl");
    let text = fs::read_to_string(&path).map_err(Failure::context(format!("read {}", path.display())))?;
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(Failure::context(format!(
            "read {}, line {}",
            path.display(),
            index + 1
        )))
    };
    text.lines().enumerate().map(parse).collect()
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
    use crate::analysis::verdict::tests::trial;
    use crate::machine::placement::Distance;
    use crate::run::cell::Cell;
    use crate::run::plan::Effort;

    /// A record of a run with three rounds in the first cell; `uring` couldn't run.
    pub(crate) fn record(trials: &[Trial]) -> Record {
        let plan = Plan::new(Effort::Full, |_| None).unwrap();
        let verdicts = vec![Verdict::of(Cell::all()[0], trials)];
        Record {
            format: FORMAT,
            started: "2026-01-02T03:04:05Z".to_owned(),
            finished: Some("2026-01-02T03:10:00Z".to_owned()),
            command: "cargo bench".to_owned(),
            plan,
            placement: Placement { server: 1, client: 0, distance: Distance::Cores },
            congestion_control: Some("reno".to_owned()),
            environment: Environment::look(Path::new("/"), Path::new("/")),
            unavailable: BTreeMap::from([
                (Backend::Blocking, None),
                (Backend::Epoll, None),
                (Backend::Uring, Some("the kernel forbids it".to_owned())),
            ]),
            warnings: vec!["one".to_owned()],
            verdicts,
        }
    }

    fn trials() -> Vec<Trial> {
        let cell = Cell::all()[0];
        let both = |round| [(Backend::Blocking, round), (Backend::Epoll, round)];
        let pairs = (0..3).flat_map(both);
        pairs.map(|(backend, round)| trial(backend, cell, round, 7_123.456_789 + round as f64)).collect()
    }

    #[test]
    fn a_folder_reads_back_as_it_was_written() {
        let results = tempfile::tempdir().unwrap();
        let source = Source { commit: "abc1234".to_owned(), dirty: true };
        let started = "2026-01-02T03:04:05Z";
        let mut folder = Folder::create(results.path(), started, "the host", Some(&source)).unwrap();
        let name = folder.path().file_name().unwrap();
        assert_eq!(name, "2026-01-02T03-04-05Z-the-host-abc1234-dirty");
        let trials = trials();
        for trial in &trials {
            folder.append(trial).unwrap();
        }
        let record = record(&trials);
        folder.write_record(&record).unwrap();
        assert_eq!(read_trials(folder.path()).unwrap(), trials);
        assert_eq!(read_record(folder.path()).unwrap(), record);
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 2, "nothing unfinished is left");
    }

    #[test]
    fn what_did_not_run_is_null_with_its_reason() {
        let record = serde_json::to_value(record(&trials())).unwrap();
        assert_eq!(record["unavailable"]["uring"], "the kernel forbids it");
        assert!(record["unavailable"]["epoll"].is_null());
        let servers = record["verdicts"][0]["servers"].as_object().unwrap();
        assert!(servers["uring"].is_null() && servers["epoll"].is_object());
    }

    #[test]
    fn another_format_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.json"), r#"{"format": 99}"#).unwrap();
        let failure = read_record(folder.path()).unwrap_err().to_string();
        assert!(failure.ends_with("its format is 99, this version reads 1"), "{failure}");
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
}

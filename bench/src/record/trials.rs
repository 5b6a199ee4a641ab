//! The trials of a run in its folder: `trials.jsonl`, a line for each, while the run goes on; `trials.jsonl.gz` when it
//! has finished.
//!
//! Where both are there, the run was ended between the two, and `trials.jsonl` is whole.

use crate::failure::{Failure, Result};
use crate::record::trial::{Latency, Trial};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

pub(super) const PLAIN: &str = "trials.jsonl";
pub(super) const PACKED: &str = "trials.jsonl.gz";

/// What trials are appended to.
#[derive(Debug)]
pub(super) struct Trials {
    path: PathBuf,
    file: File,
}

impl Trials {
    pub(super) fn create(folder: &Path) -> Result<Trials> {
        let path = folder.join(PLAIN);
        let file = File::create(&path).map_err(Failure::context(format!("write {}", path.display())))?;
        Ok(Trials { path, file })
    }

    /// Opens those of a run that ended, to go on with them: what isn't a whole line is cut off.
    pub(super) fn open(folder: &Path) -> Result<Trials> {
        let path = folder.join(PLAIN);
        let doing = || format!("go on with {}", path.display());
        let text = whole_lines(text(folder)?);
        write_whole(&path, text.as_bytes()).map_err(Failure::context(doing()))?;
        remove(&folder.join(PACKED)).map_err(Failure::context(doing()))?;
        let file = OpenOptions::new().append(true).open(&path).map_err(Failure::context(doing()))?;
        Ok(Trials { path, file })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|found| found.len() == 0)
    }

    pub(super) fn append(&mut self, trial: &Trial) -> Result<()> {
        self.file.write_all(line(trial)?.as_bytes()).map_err(Failure::context(self.writing()))
    }

    /// Writes all of them anew, when earlier ones have changed; a reader sees the old ones or the new ones.
    pub(super) fn replace(&mut self, trials: &[Trial]) -> Result<()> {
        let lines: Vec<String> = trials.iter().map(line).collect::<Result<_>>()?;
        let written = write_whole(&self.path, lines.concat().as_bytes());
        let opened = written.and_then(|()| OpenOptions::new().append(true).open(&self.path));
        self.file = opened.map_err(Failure::context(self.writing()))?;
        Ok(())
    }

    /// Makes them `trials.jsonl.gz`, about a third of the size. [`Trials::open`] takes it back.
    pub(super) fn pack(self) -> Result<()> {
        let pack = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&fs::read(&self.path)?)?;
            write_whole(&self.path.with_file_name(PACKED), &encoder.finish()?)?;
            remove(&self.path)
        };
        pack().map_err(Failure::context(format!("pack {}", self.path.display())))
    }

    fn writing(&self) -> String {
        format!("write {}", self.path.display())
    }
}

/// Reads the trials of a run's folder. What stands behind the last line break was cut short by a crash, and isn't a
/// trial.
///
/// # Errors
/// If neither file can be read, or a line isn't a trial.
pub fn read_trials(folder: &Path) -> Result<Vec<Trial>> {
    let text = whole_lines(text(folder)?);
    let parse = |(index, line): (usize, &str)| {
        let doing = || format!("read the trials in {}, line {}", folder.display(), index + 1);
        serde_json::from_str(line).map_err(|error| Failure::context(doing())(error))
    };
    text.lines().enumerate().map(parse).collect()
}

fn text(folder: &Path) -> Result<String> {
    let plain = folder.join(PLAIN);
    match fs::read_to_string(&plain) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other.map_err(Failure::context(format!("read {}", plain.display()))),
    }
    let packed = folder.join(PACKED);
    let mut text = String::new();
    File::open(&packed)
        .and_then(|file| MultiGzDecoder::new(file).read_to_string(&mut text))
        .map_err(Failure::context(format!("read {}", packed.display())))?;
    Ok(text)
}

fn whole_lines(mut text: String) -> String {
    text.truncate(text.rfind('\n').map_or(0, |last| last + 1));
    text
}

fn line(trial: &Trial) -> Result<String> {
    let mut line = serde_json::to_string(&thinned(trial)).map_err(Failure::context("write a trial"))?;
    line.push('\n');
    Ok(line)
}

/// Without the histograms that nothing is made of: two thirds of a run's bytes. An open loop is judged by its response
/// times, and a trial that doesn't count by nothing; its quantiles stay.
fn thinned(trial: &Trial) -> Trial {
    let mut trial = trial.clone();
    let counts = trial.counts();
    for class in &mut trial.classes {
        let without = |latency: &mut Option<Latency>| {
            if let Some(latency) = latency {
                latency.histogram = None;
            }
        };
        if !counts || class.response.is_some() {
            without(&mut class.service);
        }
        if !counts {
            without(&mut class.response);
        }
    }
    trial
}

/// A reader sees the old file or the new one.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    fs::write(&unfinished, content)?;
    fs::rename(&unfinished, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::trial::Pass;
    use crate::record::trial::tests::trial;

    fn times(histogram: &str) -> Option<Latency> {
        let latency = trial("epoll", 0, 7_000.0).classes.remove(0).service?;
        Some(Latency { histogram: Some(histogram.to_owned()), ..latency })
    }

    fn files(folder: &Path) -> Vec<String> {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_finished_run_is_packed_and_can_be_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let all: Vec<Trial> = (0..3).map(|round| trial("epoll", round, 7_123.456_789)).collect();
        let mut trials = Trials::create(folder.path()).unwrap();
        assert!(trials.is_empty());
        trials.append(&all[0]).unwrap();
        trials.append(&all[1]).unwrap();
        let plain = fs::read(folder.path().join(PLAIN)).unwrap();
        trials.pack().unwrap();
        assert_eq!(files(folder.path()), [PACKED]);
        assert!(fs::metadata(folder.path().join(PACKED)).unwrap().len() * 2 < plain.len() as u64);
        assert_eq!(read_trials(folder.path()).unwrap(), all[..2]);
        let mut trials = Trials::open(folder.path()).unwrap();
        assert_eq!(files(folder.path()), [PLAIN]);
        assert!(!trials.is_empty());
        trials.append(&all[2]).unwrap();
        assert_eq!(read_trials(folder.path()).unwrap(), all);
        trials.pack().unwrap();
        assert_eq!(read_trials(folder.path()).unwrap(), all);
    }

    #[test]
    fn of_two_files_the_plain_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut trials = Trials::create(folder.path()).unwrap();
        trials.append(&trial("epoll", 0, 7_000.0)).unwrap();
        fs::write(folder.path().join(PACKED), "not packed to its end").unwrap();
        assert_eq!(read_trials(folder.path()).unwrap().len(), 1);
        drop(Trials::open(folder.path()).unwrap());
        assert_eq!(files(folder.path()), [PLAIN]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let said = || read_trials(folder.path()).unwrap_err().to_string();
        assert!(said().contains(PACKED), "{}", said());
        fs::write(folder.path().join(PACKED), "cut short").unwrap();
        assert!(said().contains(PACKED), "{}", said());
        fs::write(folder.path().join(PLAIN), "{}\n").unwrap();
        assert!(said().contains(", line 1"), "{}", said());
    }

    #[test]
    fn a_line_cut_short_by_a_crash_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut trials = Trials::create(folder.path()).unwrap();
        trials.append(&trial("epoll", 0, 7_000.0)).unwrap();
        trials.file.write_all(br#"{"started":"2026"#).unwrap();
        assert_eq!(read_trials(folder.path()).unwrap().len(), 1);
        // A resumed run appends whole lines.
        let mut trials = Trials::open(folder.path()).unwrap();
        trials.append(&trial("epoll", 1, 7_000.0)).unwrap();
        assert_eq!(read_trials(folder.path()).unwrap().len(), 2);
    }

    #[test]
    fn only_what_results_are_made_of_has_a_histogram() {
        let mut closed = trial("epoll", 0, 7_000.0);
        closed.classes[0].service = times("service");
        let mut open = closed.clone();
        open.classes[0].response = times("response");
        let counting = Trial { pass: Pass::Counting, ..open.clone() };
        let void = Trial { void: Some("disturbed".to_owned()), ..open.clone() };
        let table = [
            ("closed loop", closed, (Some("service"), None)),
            ("open loop", open, (None, Some("response"))),
            ("counting pass", counting, (None, None)),
            ("void", void, (None, None)),
        ];
        for (name, trial, expected) in table {
            let kept = thinned(&trial);
            let class = &kept.classes[0];
            let of = |latency: &Option<Latency>| latency.as_ref().and_then(|one| one.histogram.clone());
            let found = (of(&class.service), of(&class.response));
            assert_eq!((found.0.as_deref(), found.1.as_deref()), expected, "{name}");
            assert!(class.service.as_ref().is_some_and(|service| service.p99_ns.is_some()), "{name}");
        }
    }
}

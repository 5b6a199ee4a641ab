//! A race in a file: who took part, and every sample. Any static host can show it.

use crate::failure::{Failure, Result};
use crate::race::board::Sample;
use crate::server::availability::Availability;
use crate::server::target::Target;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The form of the file.
const FORMAT: u32 = 1;

/// Who takes part, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Meta {
    format: u32,
    racers: Vec<Name>,
    /// Requests per second for each.
    rate: f64,
    tick_ms: u64,
    /// Why the disk can't be made slow; none: it can.
    pub(super) without_throttle: Option<String>,
}

/// A racer's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Name {
    id: String,
    label: String,
}

impl Meta {
    pub(super) fn new(
        targets: &[Target],
        rate: f64,
        tick: Duration,
        without_throttle: Option<String>,
    ) -> Meta {
        let name = |target: &Target| {
            let version = match target.find() {
                Availability::Found { version } => version,
                _ => String::new(),
            };
            let is_number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
            let version = version.split_whitespace().next().filter(is_number).unwrap_or_default().to_owned();
            let is_ours = ["blocking", "epoll", "uring"].contains(&target.id());
            let label =
                if is_ours { target.label().to_owned() } else { format!("{} {version}", target.label()) };
            Name { id: target.id().to_owned(), label: label.trim().to_owned() }
        };
        let tick_ms = u64::try_from(tick.as_millis()).unwrap_or(u64::MAX);
        Meta { format: FORMAT, racers: targets.iter().map(name).collect(), rate, tick_ms, without_throttle }
    }

    /// For the page.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("names and numbers")
    }
}

/// A race that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Footage {
    pub(super) meta: Meta,
    pub(super) samples: Vec<Sample>,
}

impl Footage {
    /// A line for each sample.
    pub(super) fn json(&self) -> String {
        let line = |sample: &Sample| serde_json::to_string(sample).expect("numbers");
        let lines: Vec<String> = self.samples.iter().map(line).collect();
        format!("{{\"meta\":{},\n\"samples\":[\n{}\n]}}\n", self.meta.json(), lines.join(",\n"))
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        fs::write(file, self.json()).map_err(Failure::context(format!("write {}", file.display())))
    }

    pub(super) fn read(file: &Path) -> Result<Footage> {
        let doing = || format!("read the race {}", file.display());
        let text = fs::read_to_string(file).map_err(Failure::context(doing()))?;
        let footage: Footage = serde_json::from_str(&text).map_err(Failure::context(doing()))?;
        let fits = |sample: &Sample| sample.rows.len() == footage.meta.racers.len();
        if footage.meta.format != FORMAT || !footage.samples.iter().all(fits) {
            return Err(Failure::new(format!("{}: it isn't of this version", doing())));
        }
        Ok(footage)
    }
}

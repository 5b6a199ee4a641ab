//! What a run keeps of the claims in its folder.
//!
//! `claims.toml` is the book as it was before the run, `scenes.json` which of its claims were asked and what their scenes
//! have shown, and what wrk found. Both are written before the first trial. `claims.json` has the verdicts; it follows from those two
//! and the trials, so a report that is drawn anew judges by the rules that stood there before.

use crate::claims::book::{Book, Claim, TEXT};
use crate::claims::evidence::{Evidence, Reason};
use crate::claims::verdict::Judged;
use crate::claims::{rule::Test, wrk};
use crate::failure::{Failure, Result};
use crate::record::trial::Trial;
use crate::record::{Record, write_file};
use crate::server::seat::Seat;
use lab::show::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const BOOK: &str = "claims.toml";
const SCENES: &str = "scenes.json";
const VERDICTS: &str = "claims.json";

/// How a scene came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shown {
    AsClaimed,
    Otherwise,
    /// It can't be shown on this machine, for this reason.
    Impossible(Reason),
}

/// A scene that was shown: what `lab show` prints, and how it came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scene {
    pub(crate) shown: Shown,
    pub(crate) lines: Vec<String>,
}

/// The claims of a run.
#[derive(Clone, Debug)]
pub(crate) struct Chapter {
    book: Book,
    asked: Asked,
}

/// What another load generator found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loads {
    /// Requests per second, round by round.
    pub(crate) rates: Vec<f64>,
    /// The largest share of its CPU that it used in a round.
    pub(crate) client_busy: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Asked {
    claims: Vec<String>,
    scenes: BTreeMap<String, Scene>,
    /// What wrk found, or why it didn't; nothing where no claim asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrk: Option<std::result::Result<Loads, Reason>>,
}

impl Chapter {
    /// These claims of the book of this version, and what their scenes show now.
    ///
    /// # Errors
    ///
    /// An unknown name.
    pub(crate) fn open(names: &[String]) -> Result<Chapter> {
        let book = Book::read()?;
        let chosen = book.select(names)?;
        let scenes: BTreeSet<&str> =
            chosen.iter().flat_map(|claim| &claim.rules).filter_map(|rule| rule.test.scene()).collect();
        let scenes = scenes.into_iter().map(|name| (name.to_owned(), show(name))).collect();
        let claims = chosen.iter().map(|claim| claim.id.clone()).collect();
        Ok(Chapter { asked: Asked { claims, scenes, wrk: None }, book })
    }

    pub(crate) fn book(&self) -> &Book {
        &self.book
    }

    pub(crate) fn claims(&self) -> Vec<&Claim> {
        let is_asked = |claim: &&Claim| self.asked.claims.contains(&claim.id);
        self.book.claims.iter().filter(is_asked).collect()
    }

    /// What the scene of that claim has shown.
    pub(crate) fn scene(&self, claim: &str) -> Option<&Scene> {
        self.asked.scenes.get(claim)
    }

    /// Lets wrk load the server that a claim wants loaded by it.
    pub(crate) fn load(&mut self, root: &Path, seat: Seat, is_over: impl Fn() -> bool) {
        let claims = self.claims();
        let target = claims.iter().flat_map(|claim| &claim.rules).find_map(|rule| match &rule.test {
            Test::Wrk { target, .. } => Some(target.clone()),
            _ => None,
        });
        self.asked.wrk = target.map(|target| wrk::load(&target, root, seat, is_over));
    }

    /// Writes down what is asked, before anything is measured.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        write_file(folder, BOOK, TEXT)?;
        write_json(folder, SCENES, &self.asked)
    }

    /// The chapter of an earlier run; `None` if it asked about no claims.
    pub(crate) fn read(folder: &Path) -> Result<Option<Chapter>> {
        let path = folder.join(BOOK);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(Failure::context(format!("read {}", path.display())))?;
        let path = folder.join(SCENES);
        let doing = || format!("read {}", path.display());
        let asked = fs::read_to_string(&path).map_err(Failure::context(doing()))?;
        let asked = serde_json::from_str(&asked).map_err(Failure::context(doing()))?;
        Ok(Some(Chapter { book: Book::parse(&text)?, asked }))
    }

    /// The verdicts on what was measured; without a run those of the scenes.
    pub(crate) fn judge(&self, run: Option<(&Record, &[Trial])>) -> Vec<Judged> {
        let judged = |claim: &&Claim| {
            Judged::of(claim, Evidence { run, wrk: self.asked.wrk.as_ref() }, &self.asked.scenes)
        };
        self.claims().iter().map(judged).collect()
    }

    /// Writes the verdicts.
    pub(crate) fn write_verdicts(folder: &Path, verdicts: &[Judged]) -> Result<()> {
        write_json(folder, VERDICTS, &verdicts)
    }
}

fn write_json(folder: &Path, name: &str, content: &impl Serialize) -> Result<()> {
    let mut text =
        serde_json::to_string_pretty(content).map_err(Failure::context(format!("write {name}")))?;
    text.push('\n');
    write_file(folder, name, &text)
}

/// Shows a scene of the lab.
fn show(name: &str) -> Scene {
    let Some(scene) = lab::show::scene(name) else {
        return Scene { shown: Shown::Impossible(format!("there is no scene {name}")), lines: Vec::new() };
    };
    let lab::show::Shown { outcome, lines } = scene.show();
    let shown = match outcome {
        Outcome::AsClaimed => Shown::AsClaimed,
        Outcome::Otherwise => Shown::Otherwise,
        Outcome::Impossible(reason) => Shown::Impossible(reason),
    };
    Scene { shown, lines }
}

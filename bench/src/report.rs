//! Tables, words and pictures.
//!
//! [`write()`] puts everything that can be drawn from a run into its folder; [`redraw`] does so again for a
//! folder that is there already. Nothing here measures.

pub mod changes;
pub mod chart;
pub mod html;
pub mod overview;
pub mod readme;
pub mod results;
#[cfg(test)]
pub(crate) mod sample;
pub mod summary;
pub mod svg;
pub mod terminal;
pub mod wording;

use crate::analysis::verdict::Verdict;
use crate::failure::{Failure, Result};
use crate::record::trial::Trial;
use crate::record::{Record, read_record, read_trials, write_file};
use crate::report::results::Results;
use crate::report::summary::PictureLink;
use std::path::{Path, PathBuf};

/// What was written.
#[derive(Clone, Debug)]
pub struct Report {
    /// The run's folder.
    pub folder: PathBuf,
    /// The files that were written there.
    pub files: Vec<String>,
    /// The verdicts, in the order of the cells.
    pub verdicts: Vec<Verdict>,
    /// For the end of a run on a terminal: at most [`terminal::WIDTH_MAX`] columns wide.
    pub table: String,
    /// What couldn't be drawn, with the reason.
    pub undrawn: Vec<String>,
    /// What the run found and where the report lies, in three sentences.
    pub closing: String,
}

/// Writes `verdicts.json`, `SUMMARY.md`, the pictures and `report.html` into `folder`.
///
/// # Errors
///
/// The folder can't be written.
pub fn write(folder: &Path, record: &Record, trials: &[Trial]) -> Result<Report> {
    let results = Results::of(record, trials);
    let mut verdicts =
        serde_json::to_string_pretty(&results.verdicts).map_err(Failure::context("write verdicts.json"))?;
    verdicts.push('\n');
    let gallery = chart::draw(&results);
    let links: Vec<PictureLink> = gallery
        .pictures
        .iter()
        .map(|picture| PictureLink {
            file: format!("{}.svg", picture.name),
            title: picture.title.clone(),
            scenario: picture.scenario.clone(),
        })
        .collect();
    let mut files = vec![
        ("verdicts.json".to_owned(), verdicts),
        ("SUMMARY.md".to_owned(), summary::markdown(&results, &links, &gallery.undrawn)),
    ];
    files.push(("report.html".to_owned(), html::page(&results, &gallery)?));
    files.extend(
        gallery.pictures.iter().map(|picture| (format!("{}.svg", picture.name), picture.file.clone())),
    );
    for (name, content) in &files {
        write_file(folder, name, content)?;
    }
    Ok(Report {
        folder: folder.to_owned(),
        files: files.into_iter().map(|(name, _)| name).collect(),
        undrawn: gallery.undrawn,
        table: terminal::table(&results),
        closing: terminal::closing(&results, folder),
        verdicts: results.verdicts,
    })
}

/// Draws the run in `folder` again, from what was measured.
///
/// # Errors
///
/// It can't be read, is of another format, or can't be written.
pub fn redraw(folder: &Path) -> Result<Report> {
    write(folder, &read_record(folder)?, &read_trials(folder)?)
}

#[cfg(test)]
mod tests;

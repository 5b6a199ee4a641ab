//! Tables, text and charts.
//!
//! `write` puts everything into a run's folder; `redraw` does so again for an existing folder. Nothing
//! here measures.

pub(crate) mod changes;
pub(crate) mod chart;
mod heat;
pub(crate) mod html;
pub(crate) mod overview;
pub(crate) mod pairs;
pub(crate) mod readme;
pub(crate) mod results;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod scorecard;
mod still;
pub(crate) mod summary;
pub(crate) mod svg;
pub(crate) mod terminal;
mod verdicts;
pub mod wording;

use crate::claims::chapter::Chapter;
use crate::claims::verdict::Judged;
use crate::failure::Result;
use crate::record::trial::Trial;
use crate::record::{Record, read_record, read_trials, write_file};
use crate::report::results::Results;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) folder: PathBuf,
    /// For the end of a run on a terminal: at most [`terminal::WIDTH_MAX`] columns wide.
    pub(crate) table: String,
    /// What the run found and where the report lies, in three sentences.
    pub(crate) closing: String,
    /// What became of the claims that the run asked about.
    pub(crate) claims: Vec<Judged>,
}

/// Writes `verdicts.json`, `SUMMARY.md`, the pictures and `report.html` into `folder`.
pub(crate) fn write(folder: &Path, record: &Record, trials: &[Trial]) -> Result<Report> {
    let mut results = Results::of(record, trials);
    if let Some(chapter) = Chapter::read(folder)? {
        results.claims = chapter.judge(Some((record, trials)));
        Chapter::write_verdicts(folder, &results.claims)?;
    }
    let gallery = chart::draw(&results);
    let mut files = vec![
        ("verdicts.json".to_owned(), verdicts::json(&results)?),
        ("SUMMARY.md".to_owned(), summary::markdown(&results, &gallery)),
    ];
    files.push(("report.html".to_owned(), html::page(&results, &gallery)?));
    files.extend(gallery.stills().map(|(picture, still)| (picture.file_name(), still.to_owned())));
    for (name, content) in &files {
        write_file(folder, name, content)?;
    }
    Ok(Report {
        folder: folder.to_owned(),
        table: terminal::table(&results),
        closing: terminal::closing(&results, folder),
        claims: results.claims,
    })
}

/// Draws the run in `folder` again, from what was measured.
pub(crate) fn redraw(folder: &Path) -> Result<Report> {
    write(folder, &read_record(folder)?, &read_trials(folder)?)
}

#[cfg(test)]
mod tests;

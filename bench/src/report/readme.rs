//! README's numbers: the picture and the tables of a run, between two markers, so that nobody types them.

use crate::failure::{Failure, Result};
use crate::record::{read_record, read_trials};
use crate::report::overview;
use crate::report::results::Results;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What is spliced begins behind this line.
pub(crate) const BEGIN: &str = "<!-- bench:begin -->";
/// It ends before this one.
pub(crate) const END: &str = "<!-- bench:end -->";

/// Puts the results in `folder` between the markers of `readme`, and says whether that changed it.
///
/// # Errors
///
/// The markers aren't there, the results can't be read, or `readme` can't be written.
pub(crate) fn splice(readme: &Path, folder: &Path) -> Result<bool> {
    let (old, new) = both(readme, folder)?;
    if old == new {
        return Ok(false);
    }
    fs::write(readme, new).map_err(Failure::context(format!("write {}", readme.display())))?;
    Ok(true)
}

/// Whether [`splice`] would change `readme`; writes nothing.
///
/// # Errors
///
/// As for [`splice`].
pub(crate) fn would_change(readme: &Path, folder: &Path) -> Result<bool> {
    let (old, new) = both(readme, folder)?;
    Ok(old != new)
}

/// The file as it is and as it should be.
fn both(readme: &Path, folder: &Path) -> Result<(String, String)> {
    let doing = format!("read {}", readme.display());
    let old = fs::read_to_string(readme).map_err(Failure::context(&doing))?;
    let record = read_record(folder)?;
    let trials = read_trials(folder)?;
    let block = block(&Results::of(&record, &trials), &link(readme, folder));
    let new = replace(&old, &block).map_err(Failure::context(readme.display()))?;
    Ok((old, new))
}

/// Replaces what stands between the markers.
fn replace(text: &str, block: &str) -> Result<String> {
    let find = |marker: &str| match text.matches(marker).count() {
        1 => Ok(text.find(marker).unwrap_or_default()),
        0 => Err(Failure::new(format!("it has no line {marker}; put it where the results belong"))),
        _ => Err(Failure::new(format!("it has {marker} more than once"))),
    };
    let (begin, end) = (find(BEGIN)? + BEGIN.len(), find(END)?);
    if end < begin {
        return Err(Failure::new(format!("{END} comes before {BEGIN}")));
    }
    Ok(format!("{}\n{block}{}", &text[..begin], &text[end..]))
}

/// What the README says: the command, the picture, the tables.
fn block(results: &Results<'_>, folder: &str) -> String {
    let record = results.record;
    let mut text = format!("\n```sh\n{}\n```\n\n", record.command);
    if let Some(scenario) = results.scenarios().next() {
        let question = &scenario.question;
        text.push_str(&format!("[![{question}]({folder}/{}.svg)]({folder}/SUMMARY.md)\n\n", scenario.name));
    }
    for finding in results.findings() {
        let mut parts = vec![finding.numbers.clone()];
        parts.extend(finding.sentences.iter().cloned());
        text.push_str(&format!("- **{}** {}.\n", finding.scenario.question, parts.join("; ")));
    }
    text.push('\n');
    text.push_str(&overview::numbers(results).markdown());
    for id in ["uring", "epoll"] {
        if let Some(table) = overview::against_peers(results, id) {
            text.push('\n');
            text.push_str(&table.markdown());
        }
    }
    let cpu = record.environment.cpu.model.as_deref().unwrap_or("an unknown processor");
    let day = record.started.split('T').next().unwrap_or_default();
    text.push_str(&format!(
        "\nMedians, and ratios with 95 % intervals (≈ alike, ? no verdict; bold: the best; in parentheses: not \
         ranked). {cpu}, {day}, {}. [All of it]({folder}/SUMMARY.md).\n\n",
        results.source()
    ));
    text
}

/// The folder as a link in the readme: relative to the readme's own folder.
fn link(readme: &Path, folder: &Path) -> String {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let home = real(readme).parent().map(Path::to_owned).unwrap_or_default();
    let folder = real(folder);
    let mut from: Vec<Component<'_>> = home.components().collect();
    let mut to: Vec<Component<'_>> = folder.components().collect();
    let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    from.drain(..common);
    to.drain(..common);
    let up = from.iter().map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to).collect();
    path.display().to_string().replace(' ', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_the_markers_changes() {
        let text = format!("# Title\n{BEGIN}\nold\n{END}\nrest\n");
        let new = replace(&text, "new\n").unwrap();
        assert_eq!(new, format!("# Title\n{BEGIN}\nnew\n{END}\nrest\n"));
        assert_eq!(replace(&new, "new\n").unwrap(), new, "again changes nothing");
    }

    #[test]
    fn markers_that_are_missing_are_one_line() {
        let table = [
            ("nothing".to_owned(), "it has no line <!-- bench:begin -->; put it where the results belong"),
            (format!("{BEGIN}\n"), "it has no line <!-- bench:end -->; put it where the results belong"),
            (format!("{END}\n{BEGIN}\n"), "<!-- bench:end --> comes before <!-- bench:begin -->"),
            (format!("{BEGIN}{BEGIN}{END}"), "it has <!-- bench:begin --> more than once"),
        ];
        for (text, expected) in table {
            assert_eq!(replace(&text, "new").unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn links_are_relative_to_the_readme() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("results/a run");
        fs::create_dir_all(&folder).unwrap();
        let readme = home.path().join("README.md");
        fs::write(&readme, "").unwrap();
        assert_eq!(link(&readme, &folder), "results/a%20run");
        let below = home.path().join("docs");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("README.md"), "").unwrap();
        assert_eq!(link(&below.join("README.md"), &folder), "../results/a%20run");
    }
}

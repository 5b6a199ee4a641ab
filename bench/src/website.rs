//! `bench site`: what the pages of `www` show of runs, so that nobody types it.
//!
//! [`claims`] writes the scorecard, [`results`] the findings of the reference run. Each page keeps its frame, and gets
//! what lies between its markers. The page of a race gets the script and the style of [`race`].

mod claims;
mod results;

use crate::failure::{Failure, Result};
use crate::race;
use crate::report::svg::escape;
use crate::run::options::repository;
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};

/// What is spliced begins behind this line.
const BEGIN: &str = "<!-- bench:begin -->";
/// It ends before this one.
const END: &str = "<!-- bench:end -->";

/// The arguments of `bench site`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SiteArguments {
    /// A run of all claims: its folder [default: results/claims]
    claims: Option<PathBuf>,
    /// The run whose findings are shown: its folder
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Where the site is
    #[arg(long, value_name = "DIR")]
    site: Option<PathBuf>,
}

/// Writes the pages of claims and results. Says which changed.
///
/// # Errors
///
/// A run can't be read, or a page can't be written or lacks its markers.
pub(crate) fn run(arguments: &SiteArguments) -> Result<String> {
    let of = |given: &Option<PathBuf>, usual: &str| given.clone().unwrap_or_else(|| repository().join(usual));
    let site = of(&arguments.site, "www");
    let reference = of(&arguments.results, "results/reference");
    let claims = of(&arguments.claims, "results/claims");
    if arguments.claims.is_some() && !claims.join("claims.toml").exists() {
        return Err(Failure::new(format!("the run in {} asks about no claims", claims.display())));
    }
    let mut said = String::new();
    let mut write = |path: &Path, text: &str| -> Result<()> {
        let is_new = fs::read_to_string(path).ok().as_deref() != Some(text);
        if is_new {
            fs::write(path, text).map_err(Failure::context(format!("write {}", path.display())))?;
        }
        said.push_str(&format!("{}: {}\n", path.display(), if is_new { "written" } else { "as it was" }));
        Ok(())
    };
    let page = site.join("claims/index.html");
    write(&page, &spliced(&page, &claims::section(&claims)?)?)?;
    let page = site.join("results/index.html");
    let (section, picture) = results::section(&reference)?;
    write(&page, &spliced(&page, &section)?)?;
    write(&site.join("results").join(results::PICTURE), &picture)?;
    for (name, content) in [("race.js", race::SCRIPT), ("race.css", race::STYLE)] {
        write(&site.join("race").join(name), content)?;
    }
    Ok(said)
}

/// The page with this between its markers.
fn spliced(page: &Path, section: &str) -> Result<String> {
    let text = fs::read_to_string(page).map_err(Failure::context(format!("read {}", page.display())))?;
    let lacks = |marker: &str| Failure::new(format!("{} has no line {marker}", page.display()));
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| lacks(BEGIN))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| lacks(END))?;
    Ok(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

/// Text of a claim or a finding: `code` and **strong** as in Markdown.
fn prose(text: &str) -> String {
    let pairs = |text: &str, mark: &str, element: &str| {
        let parts: Vec<&str> = text.split(mark).collect();
        // A mark without a partner is itself.
        let paired = parts.len() - usize::from(parts.len().is_multiple_of(2));
        let mut html = String::new();
        for (index, part) in parts.iter().enumerate() {
            match (index, index.is_multiple_of(2)) {
                (index, _) if index >= paired => html.push_str(&format!("{mark}{part}")),
                (_, true) => html.push_str(part),
                (_, false) => html.push_str(&format!("<{element}>{part}</{element}>")),
            }
        }
        html
    };
    pairs(&pairs(&escape(text), "`", "code"), "**", "strong")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers differ from run to run, and with them how columns are filled up: times, ports, counts.
    fn shape(text: &str) -> String {
        let mut shape = String::new();
        for c in text.chars() {
            match c {
                '0'..='9' if shape.ends_with('#') => {}
                '0'..='9' => shape.push('#'),
                ',' | '.' if shape.ends_with('#') => {}
                ' ' if shape.ends_with(' ') => {}
                other => shape.push(other),
            }
        }
        shape
    }

    fn page(name: &str) -> String {
        fs::read_to_string(repository().join("www").join(name)).unwrap()
    }

    #[test]
    fn the_page_of_claims_is_what_the_command_writes() {
        let folder = repository().join("results/claims");
        let written =
            spliced(&repository().join("www/claims/index.html"), &claims::section(&folder).unwrap());
        let (page, written) = (page("claims/index.html"), written.unwrap());
        if folder.exists() {
            assert!(page == written, "www/claims is out of date: cargo run --release -p bench -- site");
        } else {
            // Its scenes are shown now, and other numbers come out.
            let (page, written) = (shape(&page), shape(&written));
            let differ = page.lines().zip(written.lines()).find(|(page, written)| page != written);
            assert_eq!(differ, None, "cargo run --release -p bench -- site");
            assert_eq!(page.lines().count(), written.lines().count());
        }
    }

    /// What stands on the page is what `lab show` prints.
    #[test]
    fn what_the_lab_showed_has_the_shape_of_what_it_shows() {
        let page = page("claims/index.html");
        for scene in &lab::show::SCENES {
            let shown = scene.show();
            if let lab::show::Outcome::Impossible(_) = shown.outcome {
                continue;
            }
            let (_, rest) = page.split_once(&format!("id=\"show-{}\"", scene.claim)).unwrap();
            let (_, rest) = rest.split_once("<pre").unwrap();
            let (recorded, _) = rest.split_once('>').unwrap().1.split_once("</pre>").unwrap();
            assert_eq!(shape(recorded), shape(&escape(&shown.lines.join("\n"))), "{}", scene.claim);
        }
    }

    #[test]
    fn every_claim_is_on_its_page_once() {
        let page = page("claims/index.html");
        for number in 1..=22 {
            assert_eq!(page.matches(&format!("id=\"C{number}\"")).count(), 1, "C{number}");
        }
    }

    #[test]
    fn the_page_of_results_is_what_the_command_writes() {
        let (section, picture) = results::section(&repository().join("results/reference")).unwrap();
        let written = spliced(&repository().join("www/results/index.html"), &section).unwrap();
        assert!(page("results/index.html") == written, "cargo run --release -p bench -- site");
        assert!(page(&format!("results/{}", results::PICTURE)) == picture);
    }

    #[test]
    fn prose_has_code_and_strength() {
        let table = [
            ("`a` & `b`", "<code>a</code> &amp; <code>b</code>"),
            ("**10 %** of `x`", "<strong>10 %</strong> of <code>x</code>"),
            ("a ` alone", "a ` alone"),
            ("<i>", "&lt;i&gt;"),
        ];
        for (text, html) in table {
            assert_eq!(prose(text), html);
        }
    }

    #[test]
    fn a_page_without_markers_and_a_run_without_claims_are_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.html");
        fs::write(&path, "x").unwrap();
        let failure = spliced(&path, "y").unwrap_err().to_string();
        assert_eq!(failure, format!("{} has no line {BEGIN}", path.display()));
        fs::write(&path, format!("a\n{BEGIN}\nold\n{END}\nb\n")).unwrap();
        let once = spliced(&path, "new\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        let arguments = SiteArguments { claims: Some(folder.path().to_owned()), results: None, site: None };
        let failure = run(&arguments).unwrap_err().to_string();
        assert_eq!(failure, format!("the run in {} asks about no claims", folder.path().display()));
    }
}

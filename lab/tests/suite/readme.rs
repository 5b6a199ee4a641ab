//! What the README says of the files is true of them: its quotes are there, and each rung has its section and its
//! functions in order.

use std::fs;
use std::path::Path;

use lab::rungs::RUNGS;
use libtest_mimic::Failed;

use crate::{Case, Outcome};

pub(crate) const TESTS: &[Case] = &[
    ("readme::quotes_are_in_the_files", quotes_are_in_the_files),
    ("readme::every_rung_has_a_section", every_rung_has_a_section),
    ("readme::all_rungs_have_the_same_functions_in_the_same_order", functions_are_in_order),
];

/// The functions of a rung in their order, each with its name where the kernel moves the bytes.
const FUNCTIONS: [(&str, &str); 6] = [
    ("serve", "serve"),
    ("accept", "accept"),
    ("on_accept", "on_accept"),
    ("on_readable", "on_received"),
    ("on_writable", "on_sent"),
    ("close", "close"),
];

fn read(path: &str) -> Result<String, Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(folder.join(path)).map_err(|error| format!("{path}: {error}").into())
}

/// The lines without what they are indented by.
fn flush_left<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> Vec<&'a str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let common = lines.clone().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    lines.map(|line| line.get(common..).unwrap_or("")).collect()
}

fn quotes_are_in_the_files() -> Outcome {
    let readme = read("README.md")?;
    let mut found = 0;
    for (before, after) in
        readme.match_indices("```rust\n").map(|(at, fence)| readme.split_at(at + fence.len()))
    {
        // [`src/rungs/x.rs`](src/rungs/x.rs):
        let path = before.lines().rev().find_map(|line| line.strip_suffix("):")?.rsplit('(').next());
        let path = path.ok_or("a quote that names no file")?;
        let quote: Vec<_> = after.lines().take_while(|line| *line != "```").collect();
        let file = read(path)?;
        let lines: Vec<_> = file.lines().collect();
        if !lines.windows(quote.len()).any(|window| flush_left(window.iter().copied()) == quote) {
            return Err(format!("{path} doesn't contain\n{}", quote.join("\n")).into());
        }
        found += 1;
    }
    if found >= RUNGS.len() { Ok(()) } else { Err(format!("only {found} quotes").into()) }
}

fn every_rung_has_a_section() -> Outcome {
    let readme = read("README.md")?;
    let sections: Vec<_> =
        readme.lines().filter(|line| line.starts_with("## ") && line.contains(". `")).collect();
    let expected = (1..).zip(&RUNGS).map(|(number, rung)| format!("## {number}. `{}`", rung.name));
    if expected.eq(sections.iter().copied()) { Ok(()) } else { Err(format!("{sections:?}").into()) }
}

fn functions_are_in_order() -> Outcome {
    for rung in &RUNGS {
        let file = read(&format!("src/rungs/{}.rs", rung.name.replace('-', "_")))?;
        let declared = file.lines().filter_map(|line| line.split_once("fn ")?.1.split(['(', '<']).next());
        let known = |name: &str| FUNCTIONS.iter().position(|(one, other)| name == *one || name == *other);
        let order: Vec<_> = declared.filter_map(known).collect();
        // It has those of `epoll-edge`.
        let expected = if rung.name == "reuseport" { 1 } else { FUNCTIONS.len() };
        if !order.iter().copied().eq(0..expected) {
            let names: Vec<_> = order.iter().map(|index| FUNCTIONS[*index].0).collect();
            return Err(format!("{}: {names:?}", rung.name).into());
        }
    }
    Ok(())
}

//! The skeleton shared by the three `server.rs`: the names of their functions, side by side.
//!
//! `ARCHITECTURE.md` shows it; `cargo run -p conformance --example skeleton` updates it.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

/// The crates, in column order.
const CRATES: [&str; 3] = ["blocking", "epoll", "uring"];

/// The lines of `ARCHITECTURE.md` around the columns.
const BEGIN: &str = "<!-- skeleton:begin -->";
const END: &str = "<!-- skeleton:end -->";

/// The functions of one stage, in file order.
struct Stage {
    name: String,
    functions: VecDeque<String>,
}

/// The path of `ARCHITECTURE.md`, its content, and what the content should be.
///
/// # Errors
/// If a file can't be read, or if the three differ in their stages or in the order of their functions.
pub fn architecture() -> Result<(PathBuf, String, String), String> {
    let path = root().join("ARCHITECTURE.md");
    let old = read(&path)?;
    let (before, rest) = old.split_once(BEGIN).ok_or(format!("{} has no {BEGIN}", path.display()))?;
    let (_, after) = rest.split_once(END).ok_or(format!("{} has no {END}", path.display()))?;
    let new = format!("{before}{BEGIN}\n\n```text\n{}```\n\n{END}{after}", columns()?);
    Ok((path, old, new))
}

/// The names, one column per server. A name shared by two servers is in one row.
///
/// # Errors
/// See [`architecture`].
pub fn columns() -> Result<String, String> {
    let load = |name: &str| read(&root().join(name).join("src/server.rs")).map(|source| stages(&source));
    let servers = [load(CRATES[0])?, load(CRATES[1])?, load(CRATES[2])?];
    let names = |stages: &[Stage]| stages.iter().map(|stage| stage.name.clone()).collect::<Vec<_>>();
    if servers.iter().any(|stages| names(stages) != names(&servers[0])) {
        return Err("the three server.rs differ in their stages".to_owned());
    }
    let mut text = format!("{:<12}{:<22}{:<22}{}\n", "", CRATES[0], CRATES[1], CRATES[2]);
    for stage in 0..servers[0].len() {
        let mut lists = servers.each_ref().map(|stages| stages[stage].functions.clone());
        let mut label = servers[0][stage].name.as_str();
        while let Some(name) = next(&lists)? {
            let take = |list: &mut VecDeque<String>| {
                if list.front() == Some(&name) { list.pop_front().unwrap_or_default() } else { String::new() }
            };
            let cells = lists.each_mut().map(take);
            let row = format!("{label:<12}{:<22}{:<22}{}", cells[0], cells[1], cells[2]);
            text.push_str(row.trim_end());
            text.push('\n');
            label = "";
        }
    }
    Ok(text)
}

/// The first name that comes after no other name in any list; `None` if all lists are empty.
fn next(lists: &[VecDeque<String>; 3]) -> Result<Option<String>, String> {
    let heads: Vec<&String> = lists.iter().filter_map(VecDeque::front).collect();
    let is_next =
        |name: &&&String| !lists.iter().any(|list| list.iter().skip(1).any(|other| other == **name));
    match heads.iter().find(is_next) {
        Some(name) => Ok(Some((**name).clone())),
        None if heads.is_empty() => Ok(None),
        None => Err(format!("the order of {heads:?} differs between the three server.rs")),
    }
}

/// The functions of a `server.rs`, grouped by the stages that comments `// ---- name` begin.
fn stages(source: &str) -> Vec<Stage> {
    let mut stages = vec![Stage { name: "serve".to_owned(), functions: VecDeque::new() }];
    for line in source.lines().take_while(|line| !line.starts_with("#[cfg(test)]")) {
        let line = line.trim_start();
        if let Some(title) = line.strip_prefix("// ---- ") {
            let name = title.split(':').next().unwrap_or(title).to_owned();
            stages.push(Stage { name, functions: VecDeque::new() });
        }
        let function = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("fn ");
        if let (Some(function), Some(stage)) = (function, stages.last_mut()) {
            let end = function.find(['(', '<']).unwrap_or(function.len());
            stage.functions.push_back(function[..end].to_owned());
        }
    }
    stages
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

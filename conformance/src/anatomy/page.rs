//! The page: recordings as data for its script, and one of them as a drawing for who has none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::recording::{Kind, Row};
use super::{Recordings, Stop, record};
use crate::backend::Backend;

/// What is spliced in: the drawing and the data.
const DRAWING: [&str; 2] = ["<!-- drawing:begin -->", "<!-- drawing:end -->"];
const DATA: [&str; 2] = ["<script type=\"application/json\" id=\"recordings\">", "</script>"];
/// What is drawn without a script.
const DRAWN: &str = "page-fast-one";
const STAGES: [&str; 5] = ["Accept", "Receive", "Open", "Send", "Finish"];
const KINDS: [Kind; 8] = [
    Kind::Step,
    Kind::Call,
    Kind::Slept,
    Kind::Sleeps,
    Kind::Wakes,
    Kind::Submits,
    Kind::Completes,
    Kind::Client,
];
const ACTORS: [&str; 7] = ["machine", "acceptor", "thread", "loop", "pool", "ring", "client"];

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../www/anatomy/index.html")
}

/// Records all three servers and writes the page.
///
/// # Errors
/// If one of them can't be recorded here, or the page can't be written.
pub fn update() -> Result<(), Failed> {
    let mut all = BTreeMap::new();
    for backend in Backend::ALL {
        let recordings = match record(backend) {
            Ok(recordings) => recordings,
            Err(Stop::Impossible(reason)) => return Err(reason.into()),
            Err(Stop::Failed(failed)) => return Err(failed),
        };
        all.insert(backend, recordings);
    }
    let old = fs::read_to_string(path())?;
    fs::write(path(), splice(&old, &all)?)?;
    Ok(())
}

/// What the page shows of a server.
pub(super) fn shown(backend: Backend) -> Result<Recordings, Failed> {
    let mut all = parse(&fs::read_to_string(path())?)?;
    Ok(all.remove(&backend).ok_or("the page lacks a server")?)
}

/// The path of the page, its text, and what that should be if it is made of the data that it has.
pub(super) fn respliced() -> Result<(PathBuf, String, String), Failed> {
    let old = fs::read_to_string(path())?;
    let new = splice(&old, &parse(&old)?)?;
    Ok((path(), old, new))
}

fn splice(text: &str, all: &BTreeMap<Backend, Recordings>) -> Result<String, Failed> {
    let text = replace(text, DRAWING, &format!("\n{}", drawing(all)))?;
    replace(&text, DATA, &format!("{}\n", data(all)))
}

fn replace(text: &str, [begin, end]: [&str; 2], new: &str) -> Result<String, Failed> {
    let (before, rest) = text.split_once(begin).ok_or_else(|| format!("the page has no {begin}"))?;
    let (_, after) = rest.split_once(end).ok_or_else(|| format!("the page has no {end}"))?;
    Ok(format!("{before}{begin}{new}{end}{after}"))
}

/// All rows that there are, each once, and the recordings as lists of their numbers.
fn data(all: &BTreeMap<Backend, Recordings>) -> String {
    let mut rows: Vec<Value> = Vec::new();
    let mut recordings: BTreeMap<&str, BTreeMap<&str, Vec<Vec<usize>>>> = BTreeMap::new();
    for (backend, recorded) in all {
        for (name, list) in recorded {
            let mut stages = vec![Vec::new(); STAGES.len()];
            for row in list {
                let client = row.client.map_or(0, |client| client + 1);
                let value = json!([row.who, row.kind.name(), row.name, row.note, client]);
                let known = rows.iter().position(|known| *known == value);
                stages[row.stage].push(known.unwrap_or(rows.len()));
                if known.is_none() {
                    rows.push(value);
                }
            }
            recordings.entry(name).or_default().insert(backend.name(), stages);
        }
    }
    // A line for each row and for each recording, so that a diff tells what has changed.
    let rows: Vec<String> = rows.iter().map(Value::to_string).collect();
    let recordings: Vec<String> = recordings
        .iter()
        .flat_map(|(name, lanes)| {
            let lanes: Vec<String> =
                lanes.iter().map(|(lane, stages)| format!("\"{lane}\":{}", json!(stages))).collect();
            [format!("\"{name}\":{{{}}}", lanes.join(",\n"))]
        })
        .collect();
    // No text of it may end the element that it is in.
    let text = format!(
        "\n{{\"rows\":[\n{}\n],\n\"recordings\":{{\n{}\n}}}}",
        rows.join(",\n"),
        recordings.join(",\n")
    );
    text.replace('<', "\\u003c")
}

fn parse(page: &str) -> Result<BTreeMap<Backend, Recordings>, Failed> {
    let (_, rest) = page.split_once(DATA[0]).ok_or("the page has no data")?;
    let (text, _) = rest.split_once(DATA[1]).ok_or("the page's data has no end")?;
    let data: Value = serde_json::from_str(text)?;
    let rows = data["rows"].as_array().ok_or("no rows")?;
    let mut all: BTreeMap<Backend, Recordings> = BTreeMap::new();
    for (name, lanes) in data["recordings"].as_object().ok_or("no recordings")? {
        for (lane, stages) in lanes.as_object().ok_or("no lanes")? {
            let list = all.entry(lane.parse()?).or_default().entry(name.clone()).or_default();
            for (stage, numbers) in stages.as_array().into_iter().flatten().enumerate() {
                for number in numbers.as_array().into_iter().flatten() {
                    let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
                    let row = number.and_then(|number| rows.get(number)).ok_or("a row is missing")?;
                    list.push(row_of(stage, row).ok_or_else(|| format!("no row: {row}"))?);
                }
            }
        }
    }
    Ok(all)
}

fn row_of(stage: usize, value: &Value) -> Option<Row> {
    let text = |index: usize| value[index].as_str().map(str::to_owned);
    let (who, kind) = (text(0)?, text(1)?);
    Some(Row {
        stage,
        who: ACTORS.into_iter().find(|actor| *actor == who)?,
        kind: KINDS.into_iter().find(|known| known.name() == kind)?,
        name: text(2)?,
        note: text(3)?,
        client: usize::try_from(value[4].as_u64()?).ok()?.checked_sub(1),
    })
}

/// One recording, as the script draws them all.
fn drawing(all: &BTreeMap<Backend, Recordings>) -> String {
    let mut html = String::new();
    let mut sleeping: BTreeMap<Backend, BTreeSet<&str>> = BTreeMap::new();
    for (stage, title) in STAGES.iter().enumerate() {
        let _infallible = writeln!(html, "<section class=\"stage\"><h3>{title}</h3>");
        for (backend, recordings) in all {
            let rows = recordings.get(DRAWN).into_iter().flatten().filter(|row| row.stage == stage);
            let _infallible = writeln!(html, "<ol class=\"lane {backend}\" aria-label=\"{backend}\">");
            let mut before = "";
            let sleeping = sleeping.entry(*backend).or_default();
            for row in rows {
                match row.kind {
                    Kind::Sleeps => sleeping.insert(row.who),
                    _ => sleeping.remove(row.who),
                };
                html.push_str(&item(row, before, !sleeping.is_empty()));
                before = row.who;
            }
            html.push_str("</ol>\n");
        }
        html.push_str("</section>\n");
    }
    html
}

/// `is_beside`: somebody else sleeps meanwhile.
fn item(row: &Row, before: &str, is_beside: bool) -> String {
    let Row { who, kind, name, note, .. } = row;
    let kind = kind.name();
    let whose = if *who == before || *who == "machine" { String::new() } else { format!("<i>{who}</i> ") };
    let note = if note.is_empty() { String::new() } else { format!(" {note}") };
    let name = if kind == "client" { name.clone() } else { format!("<code>{name}</code>") };
    let verb = match kind {
        "sleeps" | "slept" => " sleeps",
        "wakes" if note.is_empty() => " wakes",
        "wakes" => " wakes:",
        _ => "",
    };
    let beside = match (is_beside, *who) {
        (true, "client" | "pool") => "<use href=\"#asleep\"/>",
        _ => "",
    };
    format!(
        "<li class=\"{kind} {who}\"><svg viewBox=\"0 0 104 34\" aria-hidden=\"true\">{beside}<use href=\"#{kind}\"/></svg>\
         <span>{whose}{name}{verb}{note}</span></li>\n"
    )
}

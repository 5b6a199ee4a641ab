//! What a server's answers put on the wire, and of what kind that is.

use crate::analysis::figures::TrafficSummary;
use crate::load::coding::Coding;
use crate::report::chart::{Picture, rounded, spec};
use crate::report::overview::{NOTHING, Table};
use crate::report::results::Results;
use crate::report::wording;
use crate::run::scenario::Scenario;
use serde_json::{Value, json};

/// What bytes on the wire are, from the left to the right of a bar: first what is the same for all servers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Pictures,
    Text(Coding),
    Heads,
}

const PARTS: [Part; 7] = [
    Part::Pictures,
    Part::Text(Coding::Zstd),
    Part::Text(Coding::Br),
    Part::Text(Coding::Gzip),
    Part::Text(Coding::Deflate),
    Part::Text(Coding::Identity),
    Part::Heads,
];

impl Part {
    const fn class(self) -> &'static str {
        match self {
            Part::Pictures => "rest",
            Part::Text(Coding::Zstd) => "system",
            Part::Text(Coding::Br) => "user",
            Part::Text(Coding::Gzip) => "file",
            Part::Text(Coding::Deflate) => "ring",
            Part::Text(Coding::Identity) => "send",
            Part::Heads => "wait",
        }
    }

    fn label(self) -> String {
        match self {
            Part::Pictures => "pictures, fonts".to_owned(),
            Part::Text(Coding::Identity) => "text as it is".to_owned(),
            Part::Text(coding) => format!("text as {coding}"),
            Part::Heads => "heads".to_owned(),
        }
    }

    fn bytes(self, traffic: &TrafficSummary) -> f64 {
        match self {
            Part::Pictures => traffic.picture_bytes,
            Part::Text(coding) => traffic.text_bytes.get(&coding).copied().unwrap_or(0.0),
            Part::Heads => traffic.head_bytes,
        }
    }
}

pub(super) fn of(results: &Results<'_>, scenario: &Scenario) -> Result<Picture, String> {
    let verdict = results.main_cell(scenario).ok_or("no trial counts")?;
    let mut sent: Vec<(&str, &TrafficSummary)> = verdict
        .targets
        .iter()
        .filter_map(|figures| Some((figures.target.as_str(), figures.traffic.as_ref()?)))
        .collect();
    if sent.is_empty() {
        return Err("the bytes of answers weren't told apart".to_owned());
    }
    sent.sort_by(|one, other| one.1.wire_bytes().total_cmp(&other.1.wire_bytes()));
    let occurs = |part: &Part| sent.iter().any(|(_, traffic)| part.bytes(traffic) > 0.0);
    let parts: Vec<Part> = PARTS.into_iter().filter(occurs).collect();
    let rows: Vec<Value> = sent.iter().map(|(id, traffic)| bar(results, &parts, id, traffic)).collect();
    let panel = json!({
        "label": "bytes on the wire per answer",
        "unit": "size",
        "parts": parts.iter().map(|part| [part.class().to_owned(), part.label()]).collect::<Vec<_>>(),
        "rows": rows,
    });
    Ok(Picture {
        name: format!("wire-{}", scenario.name),
        title: "How much goes over the wire?".to_owned(),
        scenario: Some(scenario.name.clone()),
        answer: said(results, &sent),
        reading: format!(
            "{} What an answer puts on the wire, 304s among them; less is better.",
            scenario.about
        ),
        spec: spec(results, "bars", false, sent.iter().map(|(id, _)| *id), json!({"panels": [panel]})),
        tables: vec![("Bytes per answer".to_owned(), table(results, &parts, &sent))],
        still: None,
    })
}

fn bar(results: &Results<'_>, parts: &[Part], id: &str, traffic: &TrafficSummary) -> Value {
    let size = wording::size(traffic.wire_bytes());
    let kinds = parts.iter().filter(|part| part.bytes(traffic) > 0.0);
    let kinds: Vec<String> =
        kinds.map(|part| format!("{} {}", part.label(), wording::size(part.bytes(traffic)))).collect();
    json!({
        "t": results.index(id),
        "values": parts.iter().map(|part| rounded(part.bytes(traffic))).collect::<Vec<_>>(),
        "text": size,
        "says": format!(
            "{}: {size} per answer\n{}\n{:.0} % of the answers are 304",
            results.name(id),
            kinds.join(", "),
            traffic.not_modified_share * 100.0
        ),
    })
}

fn table(results: &Results<'_>, parts: &[Part], sent: &[(&str, &TrafficSummary)]) -> Table {
    let size = |bytes: f64| if bytes > 0.0 { wording::size(bytes) } else { NOTHING.to_owned() };
    let row = |(id, traffic): &(&str, &TrafficSummary)| {
        let mut cells: Vec<String> = parts.iter().map(|part| size(part.bytes(traffic))).collect();
        cells.push(size(traffic.wire_bytes()));
        (results.name(id), cells)
    };
    let mut heads: Vec<String> = parts.iter().map(|part| part.label()).collect();
    heads.push("all".to_owned());
    Table { corner: String::new(), heads, rows: sent.iter().map(row).collect() }
}

fn said(results: &Results<'_>, sent: &[(&str, &TrafficSummary)]) -> String {
    let ids: Vec<&str> = sent.iter().map(|(id, _)| *id).collect();
    let others = results.has_other_peers(&ids);
    let is_in = |id: &str| results.is_shown(id) || others && results.is_peer(id);
    let shown: Vec<_> = sent.iter().filter(|(id, _)| is_in(id)).collect();
    let size = |traffic: &TrafficSummary| wording::size(traffic.wire_bytes());
    let text = |(id, traffic): &(&str, &TrafficSummary)| format!("{} in {}", size(traffic), results.name(id));
    match shown.as_slice() {
        [least, .., most] if size(least.1) == size(most.1) => {
            format!("{} an answer in each of them.", size(least.1))
        }
        [least, .., most] => format!("From {} to {}.", text(least), text(most)),
        _ => sent.first().map_or_else(String::new, |only| format!("{}.", text(only))),
    }
}

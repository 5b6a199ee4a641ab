//! Which server is the cheapest in a field of the matrix: a load, a disk, a number of connections.

use crate::analysis::stats::Interval;
use crate::claims::bound::{Bound, Scale};
use crate::claims::evidence::{Evidence, Reason};
use crate::claims::judge::{Found, Number, Outcome, outcome, ratio};
use crate::claims::quantity::Quantity;
use crate::claims::rule::Pair;
use crate::claims::wording;
use serde::{Deserialize, Serialize};

/// Servers whose costs differ by no more than this share are alike: nobody would choose by it.
const ALIKE: f64 = 0.1;

/// A rule that fills a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldRule {
    pub(crate) scenario: String,
    pub(crate) at: Option<f64>,
    pub(crate) among: Vec<String>,
    pub(crate) row: String,
    pub(crate) column: String,
}

/// A field, filled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Field {
    pub(crate) row: String,
    pub(crate) column: String,
    #[serde(flatten)]
    pub(crate) answer: Answer,
}

/// What stands in a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", content = "what")]
pub(crate) enum Answer {
    /// It needs less CPU time than each of the others, beyond noise.
    Cheapest {
        server: String,
        /// What it needs of the next one's CPU time, and who that is.
        share: Number,
        next: String,
    },
    /// These need less than the others, or are all there are, and don't differ from each other by more than [`ALIKE`].
    Alike(Vec<String>),
    /// It may be any of these.
    Open(Vec<String>),
    /// Nothing is known, for this reason.
    Unknown(Reason),
}

impl Answer {
    /// "epoll, 0.81× [0.79, 0.83] of blocking".
    pub(crate) fn text(&self) -> String {
        match self {
            Answer::Cheapest { server, share, next } => {
                format!("{server}, {} of {next}", wording::beyond(share, 1.0))
            }
            Answer::Alike(servers) => format!("no difference between {}", servers.join(" and ")),
            Answer::Open(servers) => format!("can't be told: {}", servers.join(" or ")),
            Answer::Unknown(reason) => format!("unknown ({reason})"),
        }
    }
}

/// Servers, two of them at a time, in one cell.
struct Cell<'a> {
    evidence: Evidence<'a>,
    scenario: &'a str,
    at: Option<f64>,
}

impl Cell<'_> {
    /// What one needs of the other's CPU time, and whether that keeps the bound.
    fn compare(&self, above: &str, below: &str, bound: Bound) -> Result<(Number, Outcome), Reason> {
        let cell = self.evidence.cell(self.scenario, self.at)?;
        let scale = Scale::Ratio { band: self.evidence.band(cell, Quantity::CpuPerRequest) };
        let of = Pair {
            scenario: self.scenario.to_owned(),
            above: above.to_owned(),
            below: below.to_owned(),
            measure: Quantity::CpuPerRequest,
        };
        let number = ratio(&of, cell, self.evidence)?;
        Ok((number, outcome(bound, number, scale)))
    }

    /// Who isn't surely dearer than another one.
    fn unbeaten<'b>(&self, among: &'b [String]) -> Result<Vec<&'b String>, Reason> {
        let mut unbeaten = Vec::new();
        for one in among {
            let rivals = among.iter().filter(|rival| *rival != one);
            let beats =
                |rival: &String| Ok(self.compare(rival, one, Bound::AtMost(1.0))?.1 == Outcome::Holds);
            let beaten: Vec<bool> = rivals.map(beats).collect::<Result<_, Reason>>()?;
            if !beaten.contains(&true) {
                unbeaten.push(one);
            }
        }
        Ok(unbeaten)
    }

    fn are_alike(&self, servers: &[&String]) -> Result<bool, Reason> {
        let alike = 1.0 / (1.0 + ALIKE)..=1.0 + ALIKE;
        for (index, one) in servers.iter().enumerate() {
            for other in &servers[index + 1..] {
                let (number, _) = self.compare(one, other, Bound::AtMost(1.0))?;
                let within = |found: Interval| alike.contains(&found.low) && alike.contains(&found.high);
                if !number.interval.is_some_and(within) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn answer(&self, among: &[String]) -> Result<Answer, Reason> {
        let unbeaten = self.unbeaten(among)?;
        let owned = || unbeaten.iter().map(|name| (*name).clone()).collect();
        let [server] = unbeaten[..] else {
            return Ok(if self.are_alike(&unbeaten)? {
                Answer::Alike(owned())
            } else {
                Answer::Open(owned())
            });
        };
        let mut nearest: Option<(Number, &String)> = None;
        for rival in among.iter().filter(|rival| *rival != server) {
            let (share, _) = self.compare(server, rival, Bound::AtMost(1.0))?;
            if nearest.is_none_or(|(known, _)| share.value > known.value) {
                nearest = Some((share, rival));
            }
        }
        let (share, next) = nearest.ok_or("it has no rival")?;
        Ok(Answer::Cheapest { server: server.clone(), share, next: next.clone() })
    }
}

/// Who is the cheapest in a field.
pub(super) fn told(rule: &FieldRule, evidence: Evidence<'_>) -> Found {
    let FieldRule { scenario, at, among, row, column } = rule;
    let cell = Cell { evidence, scenario, at: *at };
    let answer = cell.answer(among).unwrap_or_else(Answer::Unknown);
    let turn = Some(answer.text());
    let field = Some(Field { row: row.clone(), column: column.clone(), answer });
    Found { turn, field, ..Found::without_number(Outcome::Told) }
}

/// What the expected server's CPU time is of its cheapest rival's.
pub(super) fn cheapest<'a>(
    scenario: &str,
    at: Option<f64>,
    rivals: impl Iterator<Item = &'a String>,
    expected: &str,
    tolerance: f64,
    evidence: Evidence<'_>,
) -> Result<Found, Reason> {
    let cell = Cell { evidence, scenario, at };
    let mut worst: Option<(Number, Outcome)> = None;
    for rival in rivals {
        let (number, outcome) = cell.compare(expected, rival, Bound::AtMost(tolerance))?;
        // One rival that is surely cheaper is enough; next comes what can't be told.
        let weight = |outcome: &Outcome| match outcome {
            Outcome::Fails => 2,
            Outcome::Open(_) | Outcome::Turns(_) => 1,
            Outcome::Holds | Outcome::Told => 0,
        };
        let is_worse = worst
            .as_ref()
            .is_none_or(|(known, before)| (weight(&outcome), number.value) > (weight(before), known.value));
        if is_worse {
            worst = Some((number, outcome));
        }
    }
    let (number, outcome) = worst.ok_or("it has no rival")?;
    Ok(Found::of(outcome, number))
}

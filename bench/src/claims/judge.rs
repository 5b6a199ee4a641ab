//! Judging: what a rule finds in a run.

use crate::analysis::reading::TOO_NOISY;
use crate::analysis::stats::{Estimate, Interval, mean_estimate, ratio_estimate};
use crate::claims::bound::{Bound, Decision, Scale};
use crate::claims::chapter::{Scene, Shown};
use crate::claims::evidence::{Evidence, Reason, Rounds, Served, paired};
use crate::claims::field::{self, Field};
use crate::claims::quantity::Unit;
use crate::claims::rule::{Of, Pair, Rule, Test, Turning};
use crate::claims::{wording, wrk};
use crate::record::CellRecord;
use crate::run::rounds::LEAST;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The fewest points that make a line.
const POINTS_MIN: usize = 3;

/// A number with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Number {
    pub(crate) value: f64,
    /// Its 95 % interval; null for what was only seen once, or isn't measured.
    pub(crate) interval: Option<Interval>,
    pub(crate) unit: Unit,
}

/// What a rule says of the claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "why")]
pub(crate) enum Outcome {
    Holds,
    Fails,
    /// It holds here and not there: where it turns.
    Turns(String),
    /// It can't be told, for this reason.
    Open(Reason),
    /// It is told besides, and decides nothing.
    Told,
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// A sentence, without a capital letter and a full stop.
    pub(crate) text: String,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    pub(crate) number: Option<Number>,
    /// What the number is held against.
    pub(crate) bound: Option<f64>,
    /// Along an axis: at which of its values the bound is kept.
    pub(crate) points: Vec<Point>,
    /// Where it was measured.
    pub(crate) scenario: Option<String>,
    /// The place in the claim's matrix, and what stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<Field>,
}

impl Finding {
    /// Its number in words, if it has one.
    pub(crate) fn figure(&self) -> Option<String> {
        self.number.as_ref().map(|number| told(number, &self.outcome, self.bound))
    }
}

/// One value of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) value: f64,
    /// Whether the bound is kept; null where that can't be told.
    pub(crate) kept: Option<bool>,
}

/// What a rule's test gives: an outcome, and a number or a turn for the sentence.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) outcome: Outcome,
    pub(super) number: Option<Number>,
    pub(super) turn: Option<String>,
    pub(super) points: Vec<Point>,
    pub(super) field: Option<Field>,
}

impl Found {
    fn open(reason: Reason) -> Found {
        Found::without_number(Outcome::Open(reason))
    }

    pub(super) fn without_number(outcome: Outcome) -> Found {
        Found { outcome, number: None, turn: None, points: Vec::new(), field: None }
    }

    pub(super) fn of(outcome: Outcome, number: Number) -> Found {
        Found { number: Some(number), ..Found::without_number(outcome) }
    }
}

/// Holds the evidence against a rule.
pub(crate) fn judge(rule: &Rule, evidence: Evidence<'_>, scenes: &BTreeMap<String, Scene>) -> Finding {
    let result = match &rule.test {
        Test::Shown { scene } => shown(scenes.get(scene), scene),
        Test::Untold { because } => Found::open(because.clone()),
        test => measured(test, evidence).unwrap_or_else(Found::open),
    };
    let number = result.number.as_ref().map(|number| told(number, &result.outcome, rule.test.bound()));
    // Whatever the sentence around it says.
    let number = number.map(|number| if number == TOO_NOISY { format!("({number})") } else { number });
    let mut text = rule.says.clone();
    for (place, found) in [("{number}", &number), ("{turn}", &result.turn)] {
        text = text.replace(place, found.as_deref().unwrap_or("an unknown number"));
    }
    let text = match &result.outcome {
        Outcome::Open(reason) if number.is_none() && result.turn.is_none() => reason.clone(),
        Outcome::Open(reason) => format!("{text} (undecided: {reason})"),
        Outcome::Fails if rule.test.scene().is_some() => format!("it wasn't shown that {text}"),
        Outcome::Holds | Outcome::Fails | Outcome::Turns(_) | Outcome::Told => text,
    };
    let scenario = rule.test.scenario().map(str::to_owned);
    let Found { outcome, number, points, field, .. } = result;
    Finding { text, outcome, number, bound: rule.test.bound(), points, scenario, field }
}

/// The number in words.
fn told(number: &Number, outcome: &Outcome, bound: Option<f64>) -> String {
    match (outcome, bound) {
        (Outcome::Holds | Outcome::Fails, Some(bound)) => wording::beyond(number, bound),
        _ => wording::number(number),
    }
}

fn shown(scene: Option<&Scene>, name: &str) -> Found {
    let outcome = match scene.map(|scene| &scene.shown) {
        None => Outcome::Open(format!("the scene {name} wasn't shown")),
        Some(Shown::AsClaimed) => Outcome::Holds,
        Some(Shown::Otherwise) => Outcome::Fails,
        Some(Shown::Impossible(reason)) => Outcome::Open(reason.clone()),
    };
    Found::without_number(outcome)
}

fn measured(test: &Test, evidence: Evidence<'_>) -> Result<Found, Reason> {
    match test {
        Test::Value { of, at, bound } => {
            let cell = evidence.cell(&of.scenario, *at)?;
            value(of, cell, evidence).map(|(found, scale)| decided(*bound, found, scale))
        }
        Test::Ratio { of, at, bound } => {
            let cell = evidence.cell(&of.scenario, *at)?;
            let scale = Scale::Ratio { band: evidence.band(cell, of.measure) };
            ratio(of, cell, evidence).map(|found| decided(*bound, found, scale))
        }
        Test::Change { of, from, to, bound } => change(of, *from, *to, *bound, evidence),
        Test::Slope { of, beside, bound } => {
            slope(of, beside.as_deref(), evidence).map(|found| decided(*bound, found, Scale::Difference))
        }
        Test::Turns { of, bound } => turns(of, *bound, evidence),
        Test::Limit { scenario, target, bound } => limit(scenario, target, *bound, evidence),
        Test::Cheapest { scenario, at, among, expected, tolerance } => {
            let rivals = among.iter().filter(|target| *target != expected);
            field::cheapest(scenario, *at, rivals, expected, *tolerance, evidence)
        }
        Test::Field(rule) => Ok(field::told(rule, evidence)),
        Test::Wrk { bound, .. } => Ok(wrk::judge(evidence.wrk, *bound)),
        Test::Shown { .. } | Test::Untold { .. } => Err("it isn't measured".to_owned()),
    }
}

fn numbered(estimate: Estimate, unit: Unit) -> Number {
    Number { value: estimate.value, interval: estimate.interval, unit }
}

fn decided(bound: Bound, number: Number, scale: Scale) -> Found {
    Found::of(outcome(bound, number, scale), number)
}

pub(super) fn outcome(bound: Bound, Number { value, interval, unit }: Number, scale: Scale) -> Outcome {
    let bounds = || wording::number(&Number { value: bound.value(), interval: None, unit });
    match bound.decide(&Estimate { value, interval }, scale) {
        Decision::Kept => Outcome::Holds,
        Decision::Broken => Outcome::Fails,
        Decision::Wide => {
            Outcome::Open(format!("the interval is wider than the distance to the bound of {}", bounds()))
        }
        Decision::Noise => Outcome::Open(format!(
            "two copies of one server differ by more than this and the bound of {}",
            bounds()
        )),
    }
}

/// The mean of what varies by factors is a geometric one; a count may be zero.
fn value(of: &Of, cell: &CellRecord, evidence: Evidence<'_>) -> Result<(Number, Scale), Reason> {
    let rounds: Vec<f64> = evidence.rounds(cell, &of.target, of.measure)?.into_values().collect();
    let is_positive = rounds.iter().all(|value| *value > 0.0);
    let (estimate, scale) = if is_positive {
        let pairs: Vec<(f64, f64)> = rounds.iter().map(|value| (*value, 1.0)).collect();
        (ratio_estimate(&pairs), Scale::Ratio { band: 0.0 })
    } else {
        (mean_estimate(&rounds), Scale::Difference)
    };
    Ok((numbered(estimate.ok_or("nothing was measured")?, of.measure.unit()), scale))
}

/// What every part has in common has to be as many rounds as each part needs.
fn enough<T>(rounds: &[T]) -> Result<&[T], Reason> {
    if rounds.len() >= LEAST {
        return Ok(rounds);
    }
    Err(format!("{} common rounds, where {LEAST} are needed", rounds.len()))
}

pub(super) fn ratio(of: &Pair, cell: &CellRecord, evidence: Evidence<'_>) -> Result<Number, Reason> {
    let rounds = |target: &str| evidence.rounds(cell, target, of.measure);
    let pairs = paired(&rounds(&of.above)?, &rounds(&of.below)?);
    if let Some(zero) = pairs.iter().find(|(above, below)| *above <= 0.0 || *below <= 0.0) {
        return Err(format!("a ratio of {} and {} says nothing", zero.0, zero.1));
    }
    let estimate = ratio_estimate(enough(&pairs)?).ok_or("no round has both servers")?;
    Ok(numbered(estimate, Unit::Times))
}

fn change(of: &Pair, from: f64, to: f64, bound: Bound, evidence: Evidence<'_>) -> Result<Found, Reason> {
    let mut band: f64 = 0.0;
    let mut ratios = |at: f64| -> Result<Rounds, Reason> {
        let cell = evidence.cell(&of.scenario, Some(at))?;
        band = band.max(evidence.band(cell, of.measure));
        let above = evidence.rounds(cell, &of.above, of.measure)?;
        let below = evidence.rounds(cell, &of.below, of.measure)?;
        Ok(above.iter().filter_map(|(round, above)| Some((*round, above / below.get(round)?))).collect())
    };
    let (before, behind) = (ratios(from)?, ratios(to)?);
    let estimate = ratio_estimate(enough(&paired(&behind, &before))?).ok_or("no round has both points")?;
    Ok(decided(bound, numbered(estimate, Unit::Times), Scale::Ratio { band }))
}

/// What one more on the axis adds, by least squares: the mean of the rounds' slopes.
fn slope(of: &Of, beside: Option<&str>, evidence: Evidence<'_>) -> Result<Number, Reason> {
    let slopes = |target: &str| slopes(of, target, evidence);
    let mut rounds: Vec<f64> = Vec::new();
    let mine = slopes(&of.target)?;
    match beside {
        None => rounds.extend(mine.values()),
        Some(beside) => {
            rounds.extend(paired(&mine, &slopes(beside)?).iter().map(|(mine, other)| mine - other))
        }
    }
    let estimate = mean_estimate(enough(&rounds)?).ok_or("no round has every point")?;
    Ok(numbered(estimate, of.measure.unit()))
}

/// A line through each round's points. Points that the server doesn't serve, or that don't count, are left out.
fn slopes(of: &Of, target: &str, evidence: Evidence<'_>) -> Result<Rounds, Reason> {
    let mut points: Vec<(f64, Rounds)> = Vec::new();
    let mut reason = None;
    for cell in evidence.cells(&of.scenario)? {
        match (cell.value, evidence.rounds(cell, target, of.measure)) {
            (Some(value), Ok(rounds)) => points.push((value, rounds)),
            (_, Err(why)) => reason = Some(why),
            (None, _) => {}
        }
    }
    if points.len() < POINTS_MIN {
        let why = reason.map_or_else(String::new, |why| format!(": {why}"));
        return Err(format!("{} points of {target} make no line{why}", points.len()));
    }
    let rounds = points[0].1.keys().copied();
    let slope = |round: usize| {
        let line: Option<Vec<(f64, f64)>> =
            points.iter().map(|(value, rounds)| Some((*value, *rounds.get(&round)?))).collect();
        Some((round, least_squares(&line?)?))
    };
    Ok(rounds.filter_map(slope).collect())
}

/// The slope of the line with the least sum of squared distances.
fn least_squares(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |sums, point| (sums.0 + point.0, sums.1 + point.1));
    let (x, y) = (x / count, y / count);
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (below > 0.0).then_some(above / below)
}

fn turns(of: &Turning, bound: Bound, evidence: Evidence<'_>) -> Result<Found, Reason> {
    let (scenario, measure) = match of {
        Turning::Ratio(of) => (&of.scenario, of.measure),
        Turning::Value(of) => (&of.scenario, of.measure),
    };
    let axis = evidence.scenario(scenario)?.axis.as_ref().ok_or("it has no axis")?;
    let mut points: Vec<(f64, Outcome)> = Vec::new();
    let mut last = None;
    for cell in evidence.cells(scenario)? {
        let found = match of {
            Turning::Ratio(of) => {
                let scale = Scale::Ratio { band: evidence.band(cell, measure) };
                ratio(of, cell, evidence).map(|number| (number, scale))
            }
            Turning::Value(of) => value(of, cell, evidence),
        };
        last = found.as_ref().ok().map(|(number, _)| *number).or(last);
        let outcome = found.map_or_else(Outcome::Open, |(number, scale)| outcome(bound, number, scale));
        points.push((cell.value.unwrap_or_default(), outcome));
    }
    let (outcome, turn) = turn(&points, &axis.name);
    let kept = |outcome: &Outcome| match outcome {
        Outcome::Holds => Some(true),
        Outcome::Fails => Some(false),
        Outcome::Turns(_) | Outcome::Open(_) | Outcome::Told => None,
    };
    let points = points.iter().map(|(value, outcome)| Point { value: *value, kept: kept(outcome) });
    Ok(Found { outcome, number: last, turn: Some(turn), points: points.collect(), field: None })
}

/// Where a bound begins, or ceases, to be kept along an axis; and that in words.
fn turn(points: &[(f64, Outcome)], axis: &str) -> (Outcome, String) {
    let at = |index: usize| wording::counted(points[index].0, axis);
    let is = |index: usize, wanted: &Outcome| points[index].1 == *wanted;
    let first = |wanted| (0..points.len()).find(|index| is(*index, wanted));
    let last = |wanted| (0..points.len()).rev().find(|index| is(*index, wanted));
    let why = points.iter().find_map(|(value, outcome)| match outcome {
        Outcome::Open(reason) => Some(format!("at {}: {reason}", wording::counted(*value, axis))),
        _ => None,
    });
    let kept = first(&Outcome::Holds).zip(last(&Outcome::Holds));
    let broken = first(&Outcome::Fails).zip(last(&Outcome::Fails));
    match (kept, broken, why) {
        (None, None, why) => {
            let reason = why.unwrap_or_else(|| "nothing was measured".to_owned());
            (Outcome::Open(reason), "nowhere for certain".to_owned())
        }
        (Some(_), None, None) => (Outcome::Holds, "everywhere".to_owned()),
        (None, Some(_), None) => (Outcome::Fails, "nowhere".to_owned()),
        (None, Some(_), Some(why)) => (Outcome::Open(why), "nowhere for certain".to_owned()),
        (Some((from, to)), None, Some(_)) if to + 1 == points.len() => {
            let turn = format!("from {} on, at the latest", at(from));
            (Outcome::Turns(turn.clone()), turn)
        }
        (Some((from, to)), Some((_, before)), _) if before < from && to + 1 == points.len() => {
            let late = if before + 1 < from { ", at the latest" } else { "" };
            let turn = format!("from {} on{late}", at(from));
            (Outcome::Turns(turn.clone()), turn)
        }
        (Some((0, to)), Some((behind, end)), _) if to < behind && end + 1 == points.len() => {
            let early = if to + 1 < behind { ", at least" } else { "" };
            let turn = format!("up to {}{early}", at(to));
            (Outcome::Turns(turn.clone()), turn)
        }
        (_, _, why) => {
            let reason = why.unwrap_or_else(|| "it goes back and forth along the axis".to_owned());
            (Outcome::Open(reason), "here and there".to_owned())
        }
    }
}

fn limit(scenario: &str, target: &str, bound: Bound, evidence: Evidence<'_>) -> Result<Found, Reason> {
    let axis = &evidence.scenario(scenario)?.axis.as_ref().ok_or("it has no axis")?.name;
    let (mut served, mut stopped, mut unknown) = (None, None, None);
    let mut points = Vec::new();
    for cell in evidence.cells(scenario)? {
        let value = cell.value.unwrap_or_default();
        let found = evidence.served(cell, target);
        let kept = match found {
            Served::Yes => Some(true),
            Served::No(_) => Some(false),
            Served::Unknown(_) => None,
        };
        points.push(Point { value, kept });
        match found {
            Served::Yes => served = Some(value),
            Served::No(line) => {
                // The sentence names the server already, and the line may do so more than once.
                let name = format!("{target}: ");
                let reason = line.trim_start_matches(name.as_str()).to_owned();
                stopped = stopped.or(Some((value, reason)));
            }
            Served::Unknown(reason) => unknown = unknown.or(Some(reason)),
        }
    }
    let Some(served) = served else {
        return Err(unknown
            .or(stopped.map(|(_, reason)| reason))
            .unwrap_or_else(|| "nothing was measured".to_owned()));
    };
    let number = Number { value: served, interval: None, unit: Unit::Count };
    let has = format!("{} {axis} served", wording::count(served));
    let turn = match &stopped {
        Some((at, reason)) => format!("{has}, and not {} ({reason})", wording::count(*at)),
        None => format!("{has}, the most that were tried"),
    };
    let stopped_at = stopped.map(|(at, _)| at);
    let outcome = match (bound, stopped_at) {
        (Bound::AtLeast(least), _) if served >= least => Outcome::Holds,
        (Bound::AtLeast(least), Some(at)) if at <= least => Outcome::Fails,
        (Bound::AtMost(most), Some(_)) if served <= most => Outcome::Holds,
        (Bound::AtMost(most), _) if served > most => Outcome::Fails,
        _ => Outcome::Open(unknown.unwrap_or_else(|| "more weren't tried".to_owned())),
    };
    Ok(Found { turn: Some(turn), points, ..Found::of(outcome, number) })
}

//! A chart's answer in one line. It names nobody who is too noisy, and no order that the intervals don't allow.

use crate::analysis::measure::Measure;
use crate::analysis::reading::Reading;
use crate::analysis::verdict::{Claim, Ratio, Verdict};
use crate::record::Family;
use crate::report::chart::measured::point;
use crate::report::results::Results;
use crate::report::{pairs, wording};
use crate::run::scenario::Scenario;

/// Names in a row; the others are counted.
const NAMES_MAX: usize = 3;

/// How servers are told apart by a measure: the best, several that are the best, the worst, and what follows a number.
fn words(measure: Measure) -> [String; 4] {
    let label = measure.label();
    match measure {
        Measure::CpuPerRequest => {
            ["needs the least CPU time", "need the least CPU time", "needs the most", " a request"]
        }
        Measure::Rate => ["answers the most requests", "answer the most requests", "answers the fewest", ""],
        Measure::P50 | Measure::P99 | Measure::P999 => {
            let [is, are] = ["has", "have"].map(|verb| format!("{verb} the lowest {label}"));
            return [is, are, "has the highest".to_owned(), String::new()];
        }
        Measure::MemoryPerConnection => {
            ["needs the least memory", "need the least memory", "needs the most", " a connection"]
        }
    }
    .map(str::to_owned)
}

/// Of the scenario's most telling cell.
pub(super) fn of_scenario(results: &Results<'_>, verdict: &Verdict, scenario: &Scenario) -> String {
    if !scenario.pairs.is_empty() {
        let last = pairs::sentences(results, verdict, scenario).pop();
        return last.map_or_else(|| "Nothing can be told here.".to_owned(), |text| sentence(&text));
    }
    if !scenario.lesser.is_empty() {
        return of_techniques(results, verdict);
    }
    let answer = of_cell(results, verdict, verdict.measure, !scenario.servers.is_empty());
    match (place(verdict, scenario), answer.strip_prefix("Too noisy to say here:")) {
        (None, _) => answer,
        (Some(place), Some(why)) => format!("{place} it is too noisy to say:{why}"),
        (Some(place), None) => format!("{place}: {answer}"),
    }
}

fn sentence(text: &str) -> String {
    format!("{}.", wording::capitalised(text))
}

/// "At 4,000 slow readers".
fn place(verdict: &Verdict, scenario: &Scenario) -> Option<String> {
    let axis = scenario.axis.as_ref()?;
    let of_what = if axis.unit == "%" { "of what the fastest server can do" } else { &axis.name };
    Some(format!("At {} {of_what}", point(verdict)))
}

/// Who is best, who is the best of the others, who is worst; and who can't be told.
pub(super) fn of_cell(results: &Results<'_>, verdict: &Verdict, measure: Measure, everybody: bool) -> String {
    let ranking = Ranking::of(results, verdict, measure, everybody);
    let Some(((best, value), rest)) = ranking.sure.split_first() else {
        return ranking.nothing(measure);
    };
    let [is_best, are_best, is_worst, each] = words(measure);
    let is_tied =
        |id: &str| verdict.ratio(id, best, measure).is_some_and(|ratio| ratio.claim != Claim::Difference);
    let ties: Vec<&str> = rest.iter().map(|(id, _)| *id).take_while(|id| is_tied(id)).collect();
    let spoken = |value: f64| format!("{}{}", wording::spoken(measure, value), each);
    let mut told = vec![*best];
    let mut text = if ties.is_empty() {
        format!("{} {}, {}", results.name(best), is_best, spoken(*value))
    } else {
        told.extend(&ties);
        let names = names(results, &told);
        format!("{names} {are_best}, {}, and can’t be told apart", spoken(*value))
    };
    let times = |id: &str, value_of: f64| {
        let ratio = verdict.ratio(id, best, measure).and_then(|ratio| ratio.reading().told());
        let ratio = ratio.map_or(value_of / value, |ratio| ratio.value);
        format!("{} ({}×)", wording::spoken(measure, value_of), wording::factor(ratio))
    };
    let is_peer = |id: &str| results.target(id).is_some_and(|target| target.family == Family::Peer);
    let untold = |told: &[&str], id: &str| !told.contains(&id);
    // The best of the other side: a peer beside one of ours, and one of ours beside a peer.
    let other = rest.iter().find(|(id, _)| untold(&told, id) && is_peer(id) != is_peer(best));
    if let Some((id, value)) = other
        && !told.iter().any(|told| is_peer(told) == is_peer(id))
    {
        let what = if is_peer(id) { "the best other server" } else { "the best of ours" };
        text.push_str(&format!("; {what} is {}, {}", results.name(id), times(id, *value)));
        told.push(id);
    }
    if let Some((id, value)) = rest.last().filter(|(id, _)| untold(&told, id)) {
        text.push_str(&format!("; {} {}, {}", results.name(id), is_worst, times(id, *value)));
    }
    text.push('.');
    if !ranking.noisy.is_empty() {
        text.push_str(&format!(" Too noisy to rank: {}.", names(results, &ranking.noisy)));
    }
    text
}

/// The servers that are shown, by how much can be said of them.
struct Ranking<'b> {
    /// The best first.
    sure: Vec<(&'b str, f64)>,
    noisy: Vec<&'b str>,
    /// Why the others aren't ranked.
    unranked: Option<String>,
}

impl<'b> Ranking<'b> {
    fn of(results: &Results<'_>, verdict: &'b Verdict, measure: Measure, everybody: bool) -> Ranking<'b> {
        let mut ranking = Ranking { sure: Vec::new(), noisy: Vec::new(), unranked: None };
        for figures in verdict.targets.iter().filter(|figures| everybody || results.is_shown(&figures.target))
        {
            let id = figures.target.as_str();
            match (figures.reading(measure), figures.unranked(measure)) {
                (Reading::TooNoisy(_), None) => ranking.noisy.push(id),
                (Reading::Told(estimate), None) => ranking.sure.push((id, estimate.value)),
                (_, Some(reason)) => ranking.unranked = Some(reason),
                (Reading::Unmeasured, None) => {}
            }
        }
        let order = |one: f64, other: f64| one.total_cmp(&other);
        ranking.sure.sort_by(|one, other| order(one.1, other.1));
        if !measure.lower_is_better() {
            ranking.sure.reverse();
        }
        ranking
    }

    /// The answer where nobody can be named.
    fn nothing(&self, measure: Measure) -> String {
        match &self.unranked {
            _ if !self.noisy.is_empty() => {
                "Too noisy to say here: every interval spans more than a factor of three.".to_owned()
            }
            Some(reason) if reason == "not measured" => {
                format!(
                    "Nobody can be ranked: not every round has enough requests for the {}.",
                    measure.label()
                )
            }
            Some(reason) => format!("Nobody is ranked here: {reason}."),
            None => "Nothing can be told here.".to_owned(),
        }
    }
}

/// "a, b and c", "a, b, c and 4 others".
pub(super) fn names(results: &Results<'_>, ids: &[&str]) -> String {
    let mut names: Vec<String> = ids.iter().take(NAMES_MAX).map(|id| results.name(id)).collect();
    match ids.len() - names.len() {
        0 => {}
        1 => names.extend(ids.last().map(|id| results.name(id))),
        more => names.push(format!("{more} others")),
    }
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) }
}

/// Which technique costs the most to do without.
pub(super) fn of_techniques(results: &Results<'_>, verdict: &Verdict) -> String {
    let ratios: Vec<_> = results.lesser(verdict, verdict.measure).collect();
    let differs = |ratio: &&Ratio| ratio.claim == Claim::Difference;
    let told =
        ratios.iter().filter(differs).filter_map(|ratio| Some((&ratio.above, ratio.reading().told()?.value)));
    let differ: Vec<(&String, f64)> = told.collect();
    let most = differ.iter().max_by(|one, other| one.1.total_cmp(&other.1));
    match most {
        None => format!("None of {} techniques makes a difference beyond noise.", ratios.len()),
        Some((above, value)) => format!(
            "{} of {} make a difference beyond noise, most of all “{}”: {}× the {}.",
            differ.len(),
            ratios.len(),
            results.label(above),
            wording::factor(*value),
            verdict.measure.label()
        ),
    }
}

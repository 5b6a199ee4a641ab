//! A chart's answer in one line. It names nobody who is too noisy, and no order that the intervals don't allow.

use crate::analysis::measure::Measure;
use crate::analysis::reading::Reading;
use crate::analysis::stats::Interval;
use crate::analysis::verdict::{Claim, Ratio, Verdict};
use crate::report::chart::measured::point;
use crate::report::results::Results;
use crate::report::{pairs, wording};
use crate::run::scenario::Scenario;

/// Names in a row; the others are counted.
const NAMES_MAX: usize = 3;

/// What an answer that names nobody begins with.
const UNTOLD: &str = "Too noisy to say here:";

/// How servers are told apart by a measure: one or several that are the best, and that are the worst; and what follows a
/// number.
struct Words {
    is_best: String,
    are_best: String,
    is_worst: String,
    are_worst: String,
    each: &'static str,
}

fn words(measure: Measure) -> Words {
    let of = |[is, are]: [&str; 2], best: &str, worst: &str, each| Words {
        is_best: format!("{is} {best}"),
        are_best: format!("{are} {best}"),
        is_worst: format!("{is} {worst}"),
        are_worst: format!("{are} {worst}"),
        each,
    };
    let label = measure.label();
    match measure {
        Measure::CpuPerRequest => of(["needs", "need"], "the least CPU time", "the most", " a request"),
        Measure::Rate => of(["answers", "answer"], "the most requests", "the fewest", ""),
        Measure::P50 | Measure::P99 | Measure::P999 => {
            of(["has", "have"], &format!("the lowest {label}"), "the highest", "")
        }
        Measure::MemoryPerConnection => {
            of(["needs", "need"], "the least memory", "the most", " a connection")
        }
    }
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
    match (place(verdict, scenario), answer.strip_prefix(UNTOLD)) {
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
    let Some(best) = ranking.sure.first() else {
        return ranking.nothing(measure);
    };
    // As in the heat map.
    if ranking.noisy.len() > ranking.sure.len() {
        let names = names(results, &ranking.noisy);
        return format!("{UNTOLD} {names} can’t be ranked.");
    }
    let text = Order { results, verdict, measure, best: *best }.text(&ranking.sure);
    match ranking.noisy.as_slice() {
        [] => text,
        noisy if ranking.is_best_open => {
            let (verb, names) = (if noisy.len() == 1 { "is" } else { "are" }, names(results, noisy));
            format!("{names} {verb} too noisy to rank; of the others, {text}")
        }
        noisy => format!("{text} Too noisy to rank: {}.", names(results, noisy)),
    }
}

/// Whether a verdict calls two servers different: what an answer names apart. Of the cell's own measure it is what the
/// report's sentences say, so that the answer and they agree.
pub(super) fn differ(
    results: &Results<'_>,
    verdict: &Verdict,
    measure: Measure,
    [one, other]: [&str; 2],
) -> bool {
    verdict.ratio(one, other, measure).is_some_and(|ratio| {
        let claim = if measure == verdict.measure { results.claim(verdict, &ratio) } else { ratio.claim };
        claim == Claim::Difference
    })
}

/// A server and its value.
type Ranked<'b> = (&'b str, f64);

/// Servers in the order of their values, as far as the verdicts tell them apart.
struct Order<'b> {
    results: &'b Results<'b>,
    verdict: &'b Verdict,
    measure: Measure,
    best: Ranked<'b>,
}

impl Order<'_> {
    fn differ(&self, one: &str, other: &str) -> bool {
        differ(self.results, self.verdict, self.measure, [one, other])
    }

    fn names(&self, servers: &[Ranked<'_>]) -> String {
        names(self.results, &servers.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    }

    fn is_peer(&self, (id, _): Ranked<'_>) -> bool {
        self.results.is_peer(id)
    }

    fn spoken(&self, value: f64) -> String {
        wording::spoken(self.measure, value)
    }

    /// How many times the best's value a server has.
    fn times(&self, (id, value): Ranked<'_>) -> String {
        let (best, value_of_best) = self.best;
        let ratio = self.verdict.ratio(id, best, self.measure).and_then(|ratio| ratio.reading().told());
        let ratio = ratio.map_or(value / value_of_best, |ratio| ratio.value);
        format!("{}×", wording::factor(ratio))
    }

    /// `sure` begins with the best.
    fn text(&self, sure: &[Ranked<'_>]) -> String {
        let words = words(self.measure);
        let (ties, rest): (Vec<Ranked<'_>>, Vec<Ranked<'_>>) =
            sure.iter().partition(|(id, _)| !self.differ(id, self.best.0));
        let mut text = self.leaders(sure, &ties, &words);
        let mut told = Vec::new();
        // The best of the other side: a peer beside one of ours, and one of ours beside a peer.
        let side = self.is_peer(self.best);
        let mut others = rest.iter().copied().filter(|server| self.is_peer(*server) != side);
        if let Some(first) = others.next()
            && ties.iter().all(|tie| self.is_peer(*tie) == side)
        {
            told.push(first);
            told.extend(others.filter(|(id, _)| !self.differ(id, first.0)));
            let what = match (self.is_peer(first), told.len()) {
                (true, 1) => "the best other server is",
                (true, _) => "the best other servers are",
                (false, 1) => "the best of ours is",
                (false, _) => "the best of ours are",
            };
            let from = if told.len() > 1 { "from " } else { "" };
            text.push_str(&format!("; {what} {} ({from}{})", self.names(&told), self.times(first)));
        }
        if let Some(worst) = rest.last().filter(|worst| !told.contains(*worst)) {
            let is_worst = |server: &Ranked<'_>| !told.contains(server) && !self.differ(server.0, worst.0);
            let last: Vec<Ranked<'_>> = rest.iter().copied().filter(is_worst).collect();
            let (verb, to) = if last.len() == 1 { (words.is_worst, "") } else { (words.are_worst, "up to ") };
            text.push_str(&format!("; {} {verb} ({to}{})", self.names(&last), self.times(*worst)));
        }
        text.push('.');
        text
    }

    /// The best alone; with those that can't be told from it; or, where these differ from each other, or others lie between
    /// them, the best and who can't be told from it.
    fn leaders(&self, sure: &[Ranked<'_>], ties: &[Ranked<'_>], words: &Words) -> String {
        let (best, Words { each, .. }) = (self.names(&ties[..1]), words);
        let (value, others) = (self.spoken(self.best.1), &ties[1..]);
        let apart = |one: usize| ties[one + 1..].iter().any(|other| self.differ(ties[one].0, other.0));
        let Some(last) = others.last() else {
            return format!("{best} {}, {value}{each}", words.is_best);
        };
        if sure.starts_with(ties) && !(0..ties.len()).any(apart) {
            let (names, last) = (self.names(ties), self.spoken(last.1));
            let values = if last == value { value } else { format!("{value} to {last}") };
            return format!("{names} {}, {values}{each}, and can’t be told apart", words.are_best);
        }
        let names = self.names(others);
        format!("{best} {}, {value}{each}, but {names} can’t be told from it", words.is_best)
    }
}

/// The servers that are shown, by how much can be said of them.
struct Ranking<'b> {
    /// The best first.
    sure: Vec<(&'b str, f64)>,
    noisy: Vec<&'b str>,
    /// Whether one that is too noisy may be better than all that aren't.
    is_best_open: bool,
    /// Why the others aren't ranked.
    unranked: Option<String>,
}

impl<'b> Ranking<'b> {
    fn of(results: &Results<'_>, verdict: &'b Verdict, measure: Measure, everybody: bool) -> Ranking<'b> {
        let mut ranking =
            Ranking { sure: Vec::new(), noisy: Vec::new(), is_best_open: false, unranked: None };
        let mut reach = Vec::new();
        let lower = measure.lower_is_better();
        let ids: Vec<&str> = verdict.targets.iter().map(|figures| figures.target.as_str()).collect();
        let others = results.has_other_peers(&ids);
        let is_in = |id: &str| everybody || results.is_shown(id) || others && results.is_peer(id);
        for figures in verdict.targets.iter().filter(|figures| is_in(&figures.target)) {
            let id = figures.target.as_str();
            match (figures.reading(measure), figures.unranked(measure)) {
                (Reading::TooNoisy(estimate), None) => {
                    ranking.noisy.push(id);
                    let best_of = |interval: Interval| if lower { interval.low } else { interval.high };
                    reach.push(estimate.interval.map_or(estimate.value, best_of));
                }
                (Reading::Told(estimate), None) => ranking.sure.push((id, estimate.value)),
                (_, Some(reason)) => ranking.unranked = Some(reason),
                (Reading::Unmeasured, None) => {}
            }
        }
        let order = |one: f64, other: f64| one.total_cmp(&other);
        ranking.sure.sort_by(|one, other| order(one.1, other.1));
        if !lower {
            ranking.sure.reverse();
        }
        ranking.is_best_open = ranking.sure.first().is_some_and(|(_, best)| {
            reach.iter().any(|reach| if lower { reach < best } else { reach > best })
        });
        ranking
    }

    /// The answer where nobody can be named.
    fn nothing(&self, measure: Measure) -> String {
        match &self.unranked {
            _ if !self.noisy.is_empty() => {
                format!("{UNTOLD} every interval spans more than a factor of three.")
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
    let differs = |ratio: &&Ratio| results.claim(verdict, ratio) == Claim::Difference;
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

//! What a scenario's pairs say: whether anybody notices what a server does besides, and what comes of it.

use crate::analysis::figures::IntroductionSummary;
use crate::analysis::verdict::{ALIKE, Claim, Ratio, Verdict};
use crate::load::introduction::VISITS_MAX;
use crate::record::Family;
use crate::report::results::Results;
use crate::report::wording;
use crate::run::scenario::Scenario;

/// A sentence for each pair, what came of new files, and the answer to the scenario's question.
pub(crate) fn sentences(results: &Results<'_>, verdict: &Verdict, scenario: &Scenario) -> Vec<String> {
    let pairs = scenario.pairs.iter();
    let mut sentences: Vec<String> =
        pairs.filter_map(|(with, without)| results.sentence(verdict, with, without)).collect();
    sentences.extend(bytes(results, verdict));
    sentences.extend(all_coded(results, verdict));
    sentences.extend(answer(results, verdict, scenario));
    sentences
}

/// What the servers of new files sent, visit by visit.
fn bytes(results: &Results<'_>, verdict: &Verdict) -> Option<String> {
    const VISITS: [&str; VISITS_MAX] = ["first", "second", "third", "later"];
    let text = |(id, introduction): (&str, &IntroductionSummary)| {
        let known = VISITS.into_iter().zip(&introduction.bytes_per_answer);
        let known = known.filter_map(|(visit, bytes)| Some(format!("{visit} {}", wording::size((*bytes)?))));
        format!("{}: {}", results.label(id), known.collect::<Vec<_>>().join(", "))
    };
    let texts: Vec<String> = introductions(results, verdict).map(text).collect();
    (!texts.is_empty()).then(|| format!("bytes of a new file's answers by its visits: {}", texts.join("; ")))
}

/// Until when every new file had come compressed.
fn all_coded(results: &Results<'_>, verdict: &Verdict) -> Option<String> {
    let text = |(id, introduction): (&str, &IntroductionSummary)| {
        let label = results.label(id);
        match introduction.all_coded_ns {
            Some(time) => format!("{label} {}", wording::duration(time)),
            None if introduction.coded == 0.0 => format!("{label} never"),
            None => format!(
                "{label} not yet ({} of {})",
                wording::thousands(introduction.coded),
                wording::thousands(introduction.files as f64)
            ),
        }
    };
    let texts: Vec<String> = introductions(results, verdict).map(text).collect();
    (!texts.is_empty()).then(|| format!("until all new files had come compressed: {}", texts.join("; ")))
}

fn introductions<'b>(
    results: &'b Results<'_>,
    verdict: &'b Verdict,
) -> impl Iterator<Item = (&'b str, &'b IntroductionSummary)> {
    let mine = verdict
        .targets
        .iter()
        .filter(|figures| results.target(&figures.target).is_some_and(|target| target.twin_of.is_none()));
    mine.filter_map(|figures| Some((figures.target.as_str(), figures.introduction.as_ref()?)))
}

/// One sentence, which claims no more than the intervals do.
fn answer(results: &Results<'_>, verdict: &Verdict, scenario: &Scenario) -> Option<String> {
    let ratios = |family: Family| -> Vec<Ratio> {
        let mine = scenario
            .pairs
            .iter()
            .filter(|(with, _)| results.target(with).is_some_and(|target| target.family == family));
        let ratio = |(with, without): &(String, String)| verdict.ratio(with, without, verdict.measure);
        mine.filter_map(ratio).collect()
    };
    let label = verdict.measure.label();
    let told = |ratio: &Ratio| ratio.reading().told();
    let named = |ratio: &Ratio| {
        format!(
            "{} {}",
            results.label(&ratio.above),
            told(ratio).as_ref().map(wording::ratio).unwrap_or_default()
        )
    };
    let list = |ratios: &[&Ratio]| ratios.iter().map(|ratio| named(ratio)).collect::<Vec<_>>().join(", ");
    let peers = ratios(Family::Peer);
    let (ours, untold): (Vec<Ratio>, Vec<Ratio>) =
        ratios(Family::Ours).into_iter().partition(|ratio| ratio.because.is_none());
    let reason = untold.first().and_then(|ratio| ratio.because.clone());
    if let (Some(reason), true) = (&reason, ours.is_empty()) {
        return Some(format!("it can't be told; {reason}"));
    }
    let noticed = |ratios: &'_ [Ratio]| -> Vec<Ratio> {
        let is_noticed = |ratio: &&Ratio| {
            results.claim(verdict, ratio) == Claim::Difference
                && told(ratio).is_some_and(|told| told.value > 1.0)
        };
        ratios.iter().filter(is_noticed).cloned().collect()
    };
    let (slower, slower_peers) = (noticed(&ours), noticed(&peers));
    let upper = |ratio: &Ratio| told(ratio)?.interval.map(|interval| interval.high);
    let mut text = if !slower.is_empty() {
        format!("yes: the {label} grows in {}", list(&slower.iter().collect::<Vec<_>>()))
    } else if !ours.is_empty() && ours.iter().all(|ratio| ratio.claim == Claim::Alike) {
        format!(
            "no: the {label} stays within {} of what it is without, in {}",
            wording::percent(ALIKE),
            list(&ours.iter().collect::<Vec<_>>())
        )
    } else {
        // Noise leaves room for a stall; how large a one, the intervals say.
        let (bound, widest) = ours
            .iter()
            .filter_map(|ratio| Some((upper(ratio)?, ratio)))
            .max_by(|one, other| one.0.total_cmp(&other.0))?;
        format!(
            "not that it shows: no {label} is above that without by more than noise, and none by more than {}× ({})",
            wording::factor(bound),
            results.label(&widest.above)
        )
    };
    if let Some(reason) = reason {
        let names: Vec<&str> = untold.iter().map(|ratio| results.label(&ratio.above)).collect();
        text.push_str(&format!("; of {} it can't be told: {reason}", names.join(" and ")));
    }
    if !slower_peers.is_empty() {
        text.push_str(&format!(
            "; on the request's way it grows in {}",
            list(&slower_peers.iter().collect::<Vec<_>>())
        ));
    }
    Some(text)
}

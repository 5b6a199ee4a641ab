//! What every page and picture draws from: a run with its verdicts, and the questions that all of them ask.

use crate::analysis::figures::Figures;
use crate::analysis::measure::Measure;
use crate::analysis::reading::TOO_NOISY;
use crate::analysis::stats::Estimate;
use crate::analysis::verdict::{Claim, Ratio, Verdict, judge, sure};
use crate::claims::verdict::Judged;
use crate::record::trial::{CellId, Trial};
use crate::record::{Family, Record, TargetRecord};
use crate::report::wording::Beside;
use crate::report::{pairs, readme, wording};
use crate::run::scenario::Scenario;
use crate::server::built;
use std::collections::BTreeMap;

/// So many peers are shown at first.
const PEERS_SHOWN: usize = 6;

#[derive(Debug)]
pub(crate) struct Results<'a> {
    pub(crate) record: &'a Record,
    pub(crate) trials: &'a [Trial],
    pub(crate) verdicts: Vec<Verdict>,
    /// What the report's sentences compare, and whether it may be told as a difference beside all the others.
    headlines: BTreeMap<Headline, bool>,
    /// What became of the claims that the run asked about, if it did.
    pub(crate) claims: Vec<Judged>,
}

/// A cell and two targets, in the order of their names.
type Headline = (CellId, String, String);

#[derive(Clone, Debug)]
pub(crate) struct Finding<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) cell: &'a CellId,
    /// The numbers of this project's servers: "blocking 11.7 µs, epoll 8.33 µs, uring 7.94 µs".
    pub(crate) numbers: String,
    pub(crate) sentences: Vec<String>,
}

impl<'a> Results<'a> {
    pub(crate) fn of(record: &'a Record, trials: &'a [Trial]) -> Results<'a> {
        let (verdicts, headlines) = (judge(record, trials), BTreeMap::new());
        let mut results = Results { record, trials, verdicts, headlines, claims: Vec::new() };
        results.headlines = results.compared();
        results
    }

    /// All comparisons of the report's sentences, judged together.
    fn compared(&self) -> BTreeMap<Headline, bool> {
        let mut pairs = readme::compared(self);
        for scenario in self.scenarios() {
            let Some(verdict) = self.main_cell(scenario) else {
                continue;
            };
            let theirs = self.pairs(verdict, scenario).into_iter();
            pairs.extend(theirs.map(|(above, below)| (verdict, above, below)));
        }
        let mut asked: BTreeMap<Headline, (Claim, f64)> = BTreeMap::new();
        for (verdict, above, below) in pairs {
            let ratio = verdict.ratio(above, below, verdict.measure);
            if let Some(ratio) = ratio.filter(|ratio| ratio.because.is_none()) {
                asked.insert(headline(verdict, &ratio), (ratio.claim, ratio.chance));
            }
        }
        let judged: Vec<(Claim, f64)> = asked.values().copied().collect();
        asked.into_keys().zip(sure(&judged)).collect()
    }

    /// What a report says of a ratio of its cell's own measure in a sentence: less than of that ratio alone, where the
    /// report has many.
    pub(crate) fn claim(&self, verdict: &Verdict, ratio: &Ratio) -> Claim {
        match self.headlines.get(&headline(verdict, ratio)) {
            Some(false) if ratio.claim == Claim::Difference => Claim::NoVerdict,
            _ => ratio.claim,
        }
    }

    pub(crate) fn target(&self, id: &str) -> Option<&'a TargetRecord> {
        self.record.targets.iter().find(|target| target.id == id)
    }

    pub(crate) fn label<'b>(&self, id: &'b str) -> &'b str
    where
        'a: 'b,
    {
        self.target(id).map_or(id, |target| target.label.as_str())
    }

    /// A server with its version: "epoll", "nginx 1.22.1, aio threads".
    pub(crate) fn name(&self, id: &str) -> String {
        let Some(target) = self.target(id).filter(|target| target.family == Family::Peer) else {
            return self.label(id).to_owned();
        };
        let version = target.version.as_deref().and_then(|version| version.split_whitespace().next());
        let is_number = |version: &&str| version.starts_with(|first: char| first.is_ascii_digit());
        match version.filter(is_number).filter(|_| !target.tells_version()) {
            None => target.label.clone(),
            Some(version) => match target.label.split_once(',') {
                Some((server, variant)) => format!("{server} {version},{variant}"),
                None => format!("{} {version}", target.label),
            },
        }
    }

    /// Its place among the record's targets.
    pub(crate) fn index(&self, id: &str) -> Option<usize> {
        self.record.targets.iter().position(|target| target.id == id)
    }

    /// Whether charts show it at first: the three models, and [`PEERS_SHOWN`] peers as they come. The others are a
    /// button away.
    pub(crate) fn is_shown(&self, id: &str) -> bool {
        match self.target(id).map(|target| target.family) {
            Some(Family::Ours) => !self.is_variant(id),
            Some(Family::Peer) => self.plain_peers().take(PEERS_SHOWN).any(|peer| peer.id == id),
            Some(Family::Null | Family::Lab) | None => false,
        }
    }

    /// Whether a chart of these servers has peers, but none that is shown at first: then they are shown for it.
    pub(crate) fn has_other_peers(&self, ids: &[&str]) -> bool {
        let mut peers = ids.iter().filter(|id| self.is_peer(id)).peekable();
        peers.peek().is_some() && !peers.any(|id| self.is_shown(id))
    }

    pub(crate) fn is_peer(&self, id: &str) -> bool {
        self.target(id).is_some_and(|target| target.family == Family::Peer)
    }

    /// Peers that took part, without those that are another one in other settings ("nginx-aio-threads").
    fn plain_peers(&self) -> impl Iterator<Item = &'a TargetRecord> {
        let took_part =
            |target: &&TargetRecord| target.family == Family::Peer && target.unavailable.is_none();
        let peers: Vec<&TargetRecord> = self.record.targets.iter().filter(took_part).collect();
        let is_other = |id: &str, peer: &TargetRecord| {
            id.strip_prefix(&peer.id).is_some_and(|rest| rest.starts_with('-'))
        };
        peers.clone().into_iter().filter(move |target| !peers.iter().any(|peer| is_other(&target.id, peer)))
    }

    /// Scenarios with at least one trial that counts, in the order of the run.
    pub(crate) fn scenarios(&self) -> impl Iterator<Item = &'a Scenario> {
        let ran = |scenario: &&Scenario| self.of_scenario(scenario).next().is_some();
        self.record.scenarios.iter().filter(ran)
    }

    pub(crate) fn of_scenario(&self, scenario: &Scenario) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| verdict.cell.scenario == scenario.name)
    }

    /// The most telling cell: the far end of the axis.
    pub(crate) fn main_cell(&self, scenario: &Scenario) -> Option<&Verdict> {
        self.of_scenario(scenario).last()
    }

    /// This project's servers with default settings, twins left out, that ran in a cell.
    pub(crate) fn ours(&self, verdict: &Verdict) -> Vec<&'a TargetRecord> {
        let plain = |target: &&TargetRecord| {
            target.backend.is_some_and(|backend| backend.name() == target.id)
                && verdict.figures(&target.id).is_some()
        };
        self.record.targets.iter().filter(plain).collect()
    }

    /// What the others are compared with: `epoll`, or the first that ran.
    pub(crate) fn baseline<'b>(&self, verdict: &'b Verdict) -> Option<&'b str> {
        let epoll = verdict.figures("epoll").or_else(|| verdict.targets.first());
        epoll.map(|figures| figures.target.as_str())
    }

    /// The best of a family that is ranked in the cell's measure and not too noisy; of this project's, those with default settings.
    pub(crate) fn best<'b>(&self, verdict: &'b Verdict, family: Family) -> Option<&'b Figures> {
        let measure = verdict.measure;
        let value = |figures: &Figures| {
            let value = figures.estimate(measure).map_or(f64::INFINITY, |estimate| estimate.value);
            if measure.lower_is_better() { value } else { -value }
        };
        let candidates = verdict.targets.iter().filter(|figures| {
            let target = self.target(&figures.target);
            target.is_some_and(|target| target.family == family)
                && !self.is_variant(&figures.target)
                && figures.unranked(measure).is_none()
                && figures.estimate(measure).is_some()
        });
        candidates.min_by(|one, other| value(one).total_cmp(&value(other)))
    }

    /// What is said of two servers in the cell's measure; nothing where that is too noisy.
    pub(crate) fn sentence(&self, verdict: &Verdict, above: &str, below: &str) -> Option<String> {
        let ratio = verdict.ratio(above, below, verdict.measure)?;
        let beside = Beside {
            claim: self.claim(verdict, &ratio),
            comparisons: self.headlines.len(),
            band: verdict.band(verdict.measure),
        };
        wording::sentence(&ratio, self.label(above), self.label(below), beside)
    }

    /// The servers without a technique that a cell's scenario asks about, each against its backend with default settings.
    pub(crate) fn lesser<'b>(
        &'b self,
        verdict: &'b Verdict,
        measure: Measure,
    ) -> impl Iterator<Item = Ratio> + 'b {
        let scenario = self.record.scenarios.iter().find(|scenario| scenario.name == verdict.cell.scenario);
        let asked = scenario.map_or(&[][..], |scenario| &scenario.lesser[..]);
        let targets = self.record.targets.iter().filter(move |target| asked.contains(&target.id));
        targets.filter_map(move |target| verdict.ratio(&target.id, target.backend?.name(), measure))
    }

    pub(crate) fn findings(&self) -> Vec<Finding<'_>> {
        self.scenarios().filter_map(|scenario| self.finding(scenario)).collect()
    }

    fn finding(&self, scenario: &'a Scenario) -> Option<Finding<'_>> {
        let verdict = self.main_cell(scenario)?;
        let number = |target: &&TargetRecord| {
            let reading = verdict.figures(&target.id)?.reading(verdict.measure);
            let text = reading.text("", |estimate| wording::spoken(verdict.measure, estimate.value));
            (!text.is_empty()).then(|| format!("{} {text}", target.label))
        };
        let numbers: Vec<String> = self.ours(verdict).iter().filter_map(number).collect();
        let numbers = numbers.join(", ");
        if !scenario.pairs.is_empty() {
            let sentences = pairs::sentences(self, verdict, scenario);
            return Some(Finding { scenario, cell: &verdict.cell, numbers, sentences });
        }
        let mut sentences: Vec<String> = self
            .plain_pairs(verdict, scenario)
            .iter()
            .filter_map(|(above, below)| self.sentence(verdict, above, below))
            .collect();
        if let Some((best, peer)) = self.best_pair(verdict)
            && let Some(sentence) = self.sentence(verdict, best, peer)
        {
            sentences.push(format!("against the best peer: {sentence}"));
        }
        // Rungs of the lab are compared by what is claimed of them.
        let is_silent = numbers.is_empty() && sentences.is_empty();
        if is_silent && !scenario.servers.is_empty() {
            return None;
        }
        // The verdict comes last: there are readers of that alone.
        sentences.splice(0..0, self.on_the_wire(verdict));
        Some(Finding { scenario, cell: &verdict.cell, numbers, sentences })
    }

    /// All that a cell's sentences compare.
    fn pairs<'b>(&'b self, verdict: &'b Verdict, scenario: &'b Scenario) -> Vec<(&'b str, &'b str)> {
        if !scenario.pairs.is_empty() {
            // Who does nothing besides isn't the better server for it, so the best peer is no measure.
            let pairs = scenario.pairs.iter();
            return pairs.map(|(with, without)| (with.as_str(), without.as_str())).collect();
        }
        let mut pairs = self.plain_pairs(verdict, scenario);
        pairs.extend(self.best_pair(verdict));
        pairs
    }

    /// This project's servers, each with the baseline or with itself as it comes; and its program.
    fn plain_pairs<'b>(&'b self, verdict: &'b Verdict, scenario: &'b Scenario) -> Vec<(&'b str, &'b str)> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        if let (true, Some(baseline)) = (scenario.lesser.is_empty(), self.baseline(verdict)) {
            let others = self.ours(verdict).into_iter().filter(|target| target.id != baseline);
            pairs.extend(others.map(|target| (target.id.as_str(), baseline)));
        }
        let lesser = self.record.targets.iter().filter(|target| scenario.lesser.contains(&target.id));
        pairs.extend(lesser.filter_map(|target| Some((target.id.as_str(), target.backend?.name()))));
        // What the program that people run costs beside the backend that it serves with.
        let program = self.target(built::NAME);
        pairs.extend(program.and_then(|program| Some((program.id.as_str(), program.backend?.name()))));
        pairs
    }

    /// The best of this project's servers and the best peer.
    fn best_pair<'b>(&self, verdict: &'b Verdict) -> Option<(&'b str, &'b str)> {
        let best = |family| self.best(verdict, family).map(|figures| figures.target.as_str());
        best(Family::Ours).zip(best(Family::Peer))
    }

    /// What everybody's answers put on the wire, the least first; `None` where the bytes leave no choice.
    fn on_the_wire(&self, verdict: &Verdict) -> Option<String> {
        let sizes = verdict.targets.iter().filter_map(|figures| {
            let is_twin = self.target(&figures.target)?.twin_of.is_some();
            Some((figures.target.as_str(), figures.traffic.as_ref()?.wire_bytes())).filter(|_| !is_twin)
        });
        let mut sizes: Vec<(&str, f64)> = sizes.collect();
        sizes.sort_by(|one, other| one.1.total_cmp(&other.1));
        let texts: Vec<String> =
            sizes.iter().map(|(id, bytes)| format!("{} {}", self.label(id), wording::size(*bytes))).collect();
        (!texts.is_empty()).then(|| format!("on the wire per answer: {}", texts.join("; ")))
    }

    /// How often the twin was judged in the scenarios' own measures, and how often it was declared different.
    pub(crate) fn twins(&self) -> (usize, usize) {
        let claims = self.verdicts.iter().filter_map(|verdict| {
            let twin = verdict.targets.iter().find_map(|figures| {
                let original = self.target(&figures.target)?.twin_of.as_deref()?;
                verdict.ratio(&figures.target, original, verdict.measure)
            });
            twin.map(|ratio| ratio.claim)
        });
        let claims: Vec<Claim> = claims.collect();
        (claims.len(), claims.iter().filter(|claim| **claim == Claim::Difference).count())
    }

    pub(crate) fn trial_counts(&self) -> (usize, usize) {
        (self.trials.len(), self.trials.iter().filter(|trial| trial.void.is_some()).count())
    }

    pub(crate) fn void_reasons(&self) -> Vec<(String, usize)> {
        let mut reasons: Vec<(String, usize)> = Vec::new();
        for reason in self.trials.iter().filter_map(|trial| trial.void.as_ref()) {
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, count)) => *count += 1,
                None => reasons.push((reason.clone(), 1)),
            }
        }
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        reasons
    }

    pub(crate) fn source(&self) -> String {
        match &self.record.environment.source {
            None => "not from a commit".to_owned(),
            Some(source) if source.dirty => format!("commit {} with changes", source.commit),
            Some(source) => format!("commit {}", source.commit),
        }
    }

    /// Peers (or others) that took no part, with the reason.
    pub(crate) fn absent(&self) -> impl Iterator<Item = (&'a TargetRecord, &'a str)> {
        self.record.targets.iter().filter_map(|target| Some((target, target.unavailable.as_deref()?)))
    }

    /// The target's class in style sheets: its colour everywhere.
    pub(crate) fn class(&self, id: &str) -> String {
        let Some(target) = self.target(id) else {
            return "peer".to_owned();
        };
        match (target.family, target.backend) {
            (Family::Ours, Some(backend)) => backend.name().to_owned(),
            (Family::Null, _) => "null".to_owned(),
            _ => "peer".to_owned(),
        }
    }

    /// Whether it is one of this project's servers in other settings than the default's, or a twin.
    pub(crate) fn is_variant(&self, id: &str) -> bool {
        self.target(id).is_some_and(|target| {
            target.family == Family::Ours && target.backend.is_some_and(|backend| backend.name() != target.id)
        })
    }

    /// A target's number in a cell, if it may be told.
    pub(crate) fn estimate(&self, verdict: &Verdict, id: &str, measure: Measure) -> Option<Estimate> {
        verdict.figures(id)?.estimate(measure)
    }

    /// Why a measure is missing.
    pub(crate) fn unmeasured(&self, measure: Measure) -> String {
        let mut all = self.verdicts.iter().flat_map(|verdict| &verdict.targets);
        if all.any(|figures| figures.reading(measure).is_too_noisy()) {
            return format!("{} is {TOO_NOISY} here", measure.label());
        }
        let reason = self.record.unmeasured.get(measure.name());
        reason.cloned().unwrap_or_else(|| format!("{} wasn't measured", measure.label()))
    }
}

fn headline(verdict: &Verdict, ratio: &Ratio) -> Headline {
    let (one, other) = (ratio.above.clone(), ratio.below.clone());
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    (verdict.cell.clone(), first, second)
}

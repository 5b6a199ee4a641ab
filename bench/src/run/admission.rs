//! Which targets take part: those that this machine has and that pass the gate.

use crate::failure::{Failure, Result};
use crate::record::{Family as RecordFamily, TargetRecord};
use crate::run::corpus::Corpus;
use crate::run::group;
use crate::run::options::Options;
use crate::run::scenario::{Files, Group, Scenario, Tier};
use crate::run::trial::request_for;
use crate::server::availability::Availability;
use crate::server::calls::Counting;
use crate::server::catalogue::{self, catalogue};
use crate::server::congestion::Control;
use crate::server::gate;
use crate::server::process::{Server, Start};
use crate::server::seat::Seat;
use crate::server::target::{Backend, Constant, Family, Target};
use std::collections::BTreeSet;

pub(crate) struct Admitted {
    pub(crate) target: Target,
    pub(crate) group: Group,
}

pub(crate) struct Admission {
    pub(crate) admitted: Vec<Admitted>,
    pub(crate) records: Vec<TargetRecord>,
    pub(crate) control: Control,
}

/// Sends every target that some scenario asks for through the gate.
///
/// # Errors
///
/// A server of this project fails. A peer that fails takes no part.
pub(crate) fn admit(
    options: &Options,
    scenarios: &[Scenario],
    corpus: &Corpus,
    seat: Seat,
) -> Result<Admission> {
    let all = catalogue();
    let is_there = |target: &Target| matches!(target.find(), Availability::Found { .. });
    // Who names targets has chosen among them.
    let has_chosen = !options.targets.is_empty();
    let left_out = if has_chosen { BTreeSet::new() } else { by_name_alone(options.tier, &all, is_there) };
    let group_of =
        |target: &Target| if left_out.contains(target.id()) { Group::ByNameAlone } else { group(target) };
    let mut admission = Admission { admitted: Vec::new(), records: Vec::new(), control: Control::Ours };
    let wanted = |target: &Target| {
        let named = options.targets.is_empty() || options.targets.iter().any(|name| name == target.id());
        named && scenarios.iter().any(|scenario| scenario.asks_for(group_of(target), target.id()))
    };
    let mut constant = None;
    for target in all.into_iter().filter(wanted) {
        let group = group_of(&target);
        let mut record = record(&target);
        let target = match (target.family(), target.find()) {
            (_, Availability::Missing { install }) => Err(format!("not installed: {install}")),
            (_, Availability::Unavailable { reason }) => Err(reason),
            (Family::Null(_), Availability::Found { version }) => {
                record.version = Some(version);
                if constant.is_none() {
                    constant = Some(constant_answer(corpus, seat)?);
                }
                Ok(constant.clone().map_or(target.clone(), |constant| target.answering(constant)))
            }
            (_, Availability::Found { version }) => {
                record.label = target.label_in(&version);
                record.version = Some(version);
                Ok(target)
            }
        };
        let admitted = target.and_then(|target| {
            let asked = asked_for(scenarios, &target, group);
            enter(&target, &mut record, &mut admission, corpus, &asked, seat)
                .map(|()| target)
                .map_err(|failure| failure.to_string())
        });
        match admitted {
            Ok(target) => admission.admitted.push(Admitted { group, target }),
            Err(reason)
                if record.backend.is_some() && record.version.is_some() && !is_unavailable(&record) =>
            {
                return Err(Failure::new(reason));
            }
            Err(reason) => record.unavailable = Some(reason),
        }
        admission.records.push(record);
    }
    if admission.admitted.is_empty() {
        return Err(Failure::new("none of the targets can run here; see `bench targets`"));
    }
    Ok(admission)
}

/// In the quick tier, which has minutes, servers stay away whose answer is that of another: httpsd's threads do what
/// `blocking`'s do.
const NOT_IN_QUICK: [&str; 1] = ["httpsd"];

/// Which targets take part by name alone. Of a program that is there twice the newest copy takes part; in the longer tiers
/// also the system's as most people run it, which shows what the versions in between have brought.
pub(crate) fn by_name_alone(
    tier: Tier,
    all: &[Target],
    is_there: impl Fn(&Target) -> bool,
) -> BTreeSet<String> {
    let newest = all.iter().filter(|target| target.system_s().is_some() && is_there(target));
    let superseded: BTreeSet<&str> = newest.filter_map(Target::system_s).collect();
    let is_left_out = |target: &&Target| {
        let stays = tier > Tier::Quick && target.is_plain_peer();
        let is_old = superseded.contains(target.id()) && !stays;
        is_old || tier == Tier::Quick && NOT_IN_QUICK.contains(&target.id())
    };
    all.iter().filter(is_left_out).map(|target| target.id().to_owned()).collect()
}

pub(crate) fn record(target: &Target) -> TargetRecord {
    let (family, backend) = match target.family() {
        Family::Ours(backend) => (RecordFamily::Ours, Some(backend)),
        Family::Null(_) => (RecordFamily::Null, None),
        Family::Lab => (RecordFamily::Lab, None),
        Family::Peer => (RecordFamily::Peer, None),
    };
    TargetRecord {
        id: target.id().to_owned(),
        label: target.label().to_owned(),
        family,
        backend,
        twin_of: target.twin_of().map(str::to_owned),
        version: None,
        configuration: None,
        unavailable: None,
    }
}

fn is_unavailable(record: &TargetRecord) -> bool {
    record.unavailable.is_some()
}

/// The files that a target's scenarios ask for, and the small one, which is always there. The lab has no files.
fn asked_for(scenarios: &[Scenario], target: &Target, group: Group) -> BTreeSet<Files> {
    let its = scenarios.iter().filter(|scenario| scenario.asks_for(group, target.id()));
    let classes = its.flat_map(|scenario| &scenario.classes);
    let always = if target.family() == Family::Lab { Files::Constant } else { Files::Small };
    classes.map(|class| class.files).chain([always]).collect()
}

fn enter(
    target: &Target,
    record: &mut TargetRecord,
    admission: &mut Admission,
    corpus: &Corpus,
    asked: &BTreeSet<Files>,
    seat: Seat,
) -> Result<()> {
    let server = match Server::start(target, corpus.root(), seat, Counting::Cost)? {
        Start::Running(server) => server,
        Start::Unavailable(reason) => {
            record.unavailable = Some(reason.clone());
            return Err(Failure::new(reason));
        }
    };
    record.configuration = target.configuration().map(str::to_owned);
    if let Some(told) = server.told().filter(|_| target.is_program()) {
        record.backend = Some(told.backend);
        record.label = format!("{} ({})", target.label(), told.backend.model());
        let version = record.version.take().unwrap_or_default();
        record.version = Some(format!("{version} with {}", told.how));
    }
    if server.control() == Control::Default {
        admission.control = Control::Default;
    }
    let passed = gate::pass(target, server.address(), corpus, |files| asked.contains(&files));
    let stopped = server.stop();
    passed.map_err(Failure::context(target))?;
    stopped
}

/// What the null servers send: what `epoll` answers for the small file, byte for byte.
fn constant_answer(corpus: &Corpus, seat: Seat) -> Result<Constant> {
    let epoll = catalogue::ours(Backend::Epoll);
    let server = Server::running(&epoll, corpus.root(), seat, Counting::Cost)?;
    let address = server.address();
    let entry =
        corpus.entries(Files::Small).first().ok_or_else(|| Failure::new("the corpus has no small file"))?;
    let constant = gate::learn(address, request_for(entry, address).bytes(false));
    server.stop()?;
    constant
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_copy_stands_for_its_program() {
        let all = catalogue();
        let left_out = |tier, there: &[&str]| {
            let is_there = |target: &Target| there.contains(&target.id());
            let mut ids: Vec<String> = by_name_alone(tier, &all, is_there).into_iter().collect();
            ids.retain(|id| id != "httpsd");
            ids
        };
        assert!(
            left_out(Tier::Quick, &["nginx", "caddy"]).is_empty(),
            "without a newer one the system's runs"
        );
        let there = ["nginx-latest", "nginx-latest-aio-threads", "caddy-latest-sidecars"];
        assert_eq!(left_out(Tier::Quick, &there), ["caddy-sidecars", "nginx", "nginx-aio-threads"]);
        for tier in [Tier::Standard, Tier::Full] {
            assert_eq!(
                left_out(tier, &there),
                ["caddy-sidecars", "nginx-aio-threads"],
                "nginx beside its newest"
            );
        }
    }
}

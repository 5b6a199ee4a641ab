//! Who takes part: what this machine has, let in through the gate.

use crate::failure::{Failure, Result};
use crate::machine::placement::Placement;
use crate::record::{Capacities, Family as RecordFamily, TargetRecord};
use crate::run::corpus::Corpus;
use crate::run::group;
use crate::run::options::Options;
use crate::run::scenario::{Files, Group, Rate, Scenario};
use crate::run::trial::{self, request_for};
use crate::server::calls::Counting;
use crate::server::catalogue::{self, catalogue};
use crate::server::congestion::Control;
use crate::server::gate;
use crate::server::process::{Server, Start};
use crate::server::target::{Availability, Backend, Constant, Family, Target};
use std::collections::{BTreeMap, BTreeSet};

/// A target that takes part.
pub struct Admitted {
    /// The target, ready to be started.
    pub target: Target,
    /// Where scenarios count it.
    pub group: Group,
}

/// What the gate has shown.
pub struct Admission {
    /// Who takes part, in display order.
    pub admitted: Vec<Admitted>,
    /// Everybody who was asked for, in display order.
    pub records: Vec<TargetRecord>,
    /// Requests per second, where a scenario needs them.
    pub capacities_by_files: Capacities,
    /// Whose congestion control the connections have.
    pub control: Control,
}

/// Sends every target that some scenario asks for through the gate.
///
/// # Errors
///
/// A server of this project fails. A peer that fails takes no part.
pub fn admit(
    options: &Options,
    scenarios: &[Scenario],
    corpus: &Corpus,
    placement: Placement,
) -> Result<Admission> {
    let all = catalogue();
    let mut admission = Admission {
        admitted: Vec::new(),
        records: Vec::new(),
        capacities_by_files: BTreeMap::new(),
        control: Control::Ours,
    };
    let relative: BTreeSet<Files> = scenarios
        .iter()
        .flat_map(|scenario| &scenario.classes)
        .filter(|class| matches!(class.rate, Some(Rate::OfSlowest(_) | Rate::OfFastest(_) | Rate::OfOwn(_))))
        .map(|class| class.files)
        .collect();
    let wanted = |target: &Target| {
        let named = options.targets.is_empty() || options.targets.iter().any(|name| name == target.id());
        named && scenarios.iter().any(|scenario| scenario.asks_for(group(target), target.id()))
    };
    let mut constant = None;
    for target in all.into_iter().filter(wanted) {
        let mut record = record(&target);
        let target = match (target.family(), target.find()) {
            (_, Availability::Missing { install }) => Err(format!("not installed: {install}")),
            (_, Availability::Unavailable { reason }) => Err(reason),
            (Family::Null(_), Availability::Found { version }) => {
                record.version = Some(version);
                if constant.is_none() {
                    constant = Some(constant_answer(corpus, placement)?);
                }
                Ok(constant.clone().map_or(target.clone(), |constant| target.answering(constant)))
            }
            (_, Availability::Found { version }) => {
                record.version = Some(version);
                Ok(target)
            }
        };
        let admitted = target.and_then(|target| {
            enter(&target, &mut record, &mut admission, corpus, placement, &relative, options.seed)
                .map(|()| target)
                .map_err(|failure| failure.to_string())
        });
        match admitted {
            Ok(target) => admission.admitted.push(Admitted { group: group(&target), target }),
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

fn record(target: &Target) -> TargetRecord {
    let (family, backend) = match target.family() {
        Family::Ours(backend) => (RecordFamily::Ours, Some(backend)),
        Family::Null(_) => (RecordFamily::Null, None),
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

/// Starts a target, sends it through the gate, and sees how fast it is.
fn enter(
    target: &Target,
    record: &mut TargetRecord,
    admission: &mut Admission,
    corpus: &Corpus,
    placement: Placement,
    relative: &BTreeSet<Files>,
    seed: u64,
) -> Result<()> {
    let server = match Server::start(target, corpus.root(), placement, Counting::Cost)? {
        Start::Running(server) => server,
        Start::Unavailable(reason) => {
            record.unavailable = Some(reason.clone());
            return Err(Failure::new(reason));
        }
    };
    record.configuration = target.configuration().map(str::to_owned);
    if server.control() == Control::Default {
        admission.control = Control::Default;
    }
    let passed = gate::pass(target, server.address(), corpus).and_then(|()| {
        for files in relative.iter().filter(|_| trial::sets_the_pace(target)) {
            let capacity = trial::capacity(target, &server, corpus, *files, seed)?;
            let capacities = admission.capacities_by_files.entry(*files).or_default();
            capacities.insert(target.id().to_owned(), capacity);
        }
        Ok(())
    });
    let stopped = server.stop();
    passed.map_err(Failure::context(target))?;
    stopped
}

/// What the null servers send: what `epoll` answers for the small file, byte for byte.
fn constant_answer(corpus: &Corpus, placement: Placement) -> Result<Constant> {
    let epoll = catalogue::ours(Backend::Epoll);
    let server = match Server::start(&epoll, corpus.root(), placement, Counting::Cost)? {
        Start::Running(server) => server,
        Start::Unavailable(reason) => return Err(Failure::new(reason)),
    };
    let address = server.address();
    let entry =
        corpus.entries(Files::Small).first().ok_or_else(|| Failure::new("the corpus has no small file"))?;
    let constant = gate::learn(address, request_for(entry, address).bytes(false));
    server.stop()?;
    constant
}

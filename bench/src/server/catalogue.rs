//! Everything that can be put under test, in the order in which it is always shown.

use crate::server::availability::Availability;
use crate::server::peer::Peer;
use crate::server::roster::{COMPRESSING, PLAIN, SIDECARS, TRIPTYCH};
use crate::server::target::{Backend, Cache, Mechanism, Runs, Settings, Target};
use common::Tune;
use lab::rungs::{RUNGS, Rung};
use std::borrow::Cow;

/// Everything known: this project's servers, its program, the twin, those without a technique, the null servers, the peers.
pub fn catalogue() -> Vec<Target> {
    let mut targets: Vec<Target> = Backend::ALL.map(ours).into();
    targets.push(program(&TRIPTYCH));
    targets.extend(Backend::ALL.into_iter().flat_map(cache_modes));
    let epoll = Runs::Backend(Backend::Epoll, Settings::default());
    targets.push(Target { twin_of: Some("epoll"), ..target("epoll-twin", "epoll (A/A twin)", epoll) });
    targets.extend(Backend::ALL.into_iter().flat_map(lesser));
    targets.push(target("null-epoll", "null server, epoll", Runs::Constant(Mechanism::Epoll)));
    targets.push(target("null-uring", "null server, io_uring", Runs::Constant(Mechanism::Uring)));
    targets.extend(PLAIN.map(program));
    #[cfg(feature = "hyper")]
    targets.push(target("hyper", "hyper, tower-http", Runs::Hyper { sends_sidecars: false }));
    targets.extend(SIDECARS.map(program));
    targets.extend(COMPRESSING.map(program));
    #[cfg(feature = "hyper")]
    targets.push(target("hyper-sidecars", "hyper, precompressed", Runs::Hyper { sends_sidecars: true }));
    targets.extend(rungs());
    targets
}

/// The ways to wait, one by one; and the twin that shows what noise does to them.
fn rungs() -> Vec<Target> {
    const TWIN_OF: &str = "lab-epoll-edge";
    let rung = |rung: &Rung| {
        target(format!("lab-{}", rung.name), format!("{} (lab)", rung.name), Runs::Rung(rung.name))
    };
    let mut rungs: Vec<Target> = RUNGS.iter().map(rung).collect();
    let twin = rungs.iter().find(|target| target.id == TWIN_OF).map(|original| Target {
        id: format!("{TWIN_OF}-twin").into(),
        label: "epoll-edge (lab, A/A twin)".into(),
        twin_of: Some(TWIN_OF),
        ..original.clone()
    });
    rungs.extend(twin);
    rungs
}

/// One of this project's servers, with its default settings.
pub fn ours(backend: Backend) -> Target {
    target(backend.name(), backend.name(), Runs::Backend(backend, Settings::default()))
}

/// A server in its other cache modes.
fn cache_modes(backend: Backend) -> [Target; 2] {
    [(Cache::Off, "off", "cache off"), (Cache::Descriptors, "descriptors", "descriptors")].map(
        |(cache, name, label)| {
            let settings = Runs::Backend(backend, cache.into());
            target(format!("{backend}-cache-{name}"), format!("{backend}, {label}"), settings)
        },
    )
}

/// A server without a technique: each by itself, and all at once, the cache included; and one without compression.
fn lesser(backend: Backend) -> Vec<Target> {
    let switches: Vec<Tune> =
        Tune::ALL.into_iter().filter(|switch| switch.server() == backend.name()).collect();
    let lesser = |name: &str, settings: Settings| {
        let label = format!("{backend}, {}", name.replace('-', " "));
        target(format!("{backend}-{name}"), label, Runs::Backend(backend, settings))
    };
    let without = |switch: &Tune| {
        let settings = Settings { copies: switch.copy() == common::CopyMode::Read, ..Settings::default() };
        lesser(switch.name(), Settings { without: vec![switch.name().to_owned()], ..settings })
    };
    let mut all: Vec<Target> = switches.iter().map(without).collect();
    all.push(lesser("copy-read", Settings { copies: true, ..Settings::default() }));
    let uncompressed = Settings { is_uncompressed: true, ..Settings::default() };
    all.push(Target {
        label: format!("{backend}, uncompressed").into(),
        ..lesser("compress-off", uncompressed)
    });
    if !switches.is_empty() {
        let without = Tune::all_of(backend.name()).map(|switch| switch.name().to_owned()).collect();
        all.push(lesser(
            "plain",
            Settings { cache: Cache::Off, copies: true, without, ..Settings::default() },
        ));
    }
    all
}

fn target(id: impl Into<Cow<'static, str>>, label: impl Into<Cow<'static, str>>, runs: Runs) -> Target {
    Target { id: id.into(), label: label.into(), twin_of: None, runs, constant: None }
}

fn program(peer: &'static Peer) -> Target {
    target(peer.id, peer.label(), Runs::Program(peer))
}

/// The target of that name.
pub fn named(id: &str) -> Option<Target> {
    catalogue().into_iter().find(|target| target.id == id)
}

/// What was found on this machine, version by version, and how to install the rest: a line per target.
pub(crate) fn report() -> String {
    let targets = catalogue();
    let width = targets.iter().map(|target| target.id.len()).max().unwrap_or_default();
    let line = |target: &Target| {
        let found = match target.find() {
            Availability::Found { version } => version,
            Availability::Missing { install } => format!("missing; to install: {install}"),
            Availability::Unavailable { reason } => format!("unavailable: {reason}"),
        };
        format!("{:width$}  {found}\n", target.id)
    };
    targets.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::target::Family;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_names() {
        let targets = catalogue();
        let ids: BTreeSet<&str> = targets.iter().map(Target::id).collect();
        assert_eq!(ids.len(), targets.len());
        for target in &targets {
            assert_eq!(named(target.id()).as_ref(), Some(target));
            assert!(target.twin_of().is_none_or(|twin| ids.contains(twin) && twin != target.id()));
        }
        assert_eq!(named("apache"), None);
        for backend in Backend::ALL {
            assert_eq!(named(backend.name()), Some(ours(backend)));
            assert_eq!(ours(backend).family(), Family::Ours(backend));
        }
    }

    #[test]
    fn every_technique_can_be_done_without() {
        for switch in Tune::ALL {
            let target = named(&format!("{}-{}", switch.server(), switch.name())).unwrap();
            assert_eq!(target.settings().unwrap().tune(), [switch]);
        }
        let plain = named("epoll-plain").unwrap();
        let settings = plain.settings().unwrap();
        assert_eq!((settings.cache, settings.copies), (Cache::Off, true));
        assert!(settings.tune().iter().all(|switch| switch.server() == "epoll"));
        assert!(
            named("blocking-plain").is_none(),
            "it has one technique, which can be switched off by itself"
        );
    }

    #[test]
    fn the_report_has_a_line_for_each() {
        let report = report();
        for (line, target) in report.lines().zip(catalogue()) {
            assert!(line.starts_with(target.id()), "{line}");
        }
        assert_eq!(report.lines().count(), catalogue().len());
    }
}

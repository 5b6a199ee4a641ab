//! Everything that can be put under test, in the order in which it is always shown.

use crate::server::peer::{
    CADDY, H2O, LIGHTTPD, MINISERVE, NGINX, NGINX_CACHE, NGINX_THREADS, Peer, STATIC_WEB,
};
use crate::server::target::{Availability, Backend, Cache, Mechanism, Runs, Target};

/// Everything known: this project's servers, the twin, the null servers, the peers.
pub fn catalogue() -> Vec<Target> {
    let mut targets = vec![
        target("blocking", "blocking", Runs::Backend(Backend::Blocking, Cache::Contents)),
        target("epoll", "epoll", Runs::Backend(Backend::Epoll, Cache::Contents)),
        target("uring", "uring", Runs::Backend(Backend::Uring, Cache::Contents)),
        target("blocking-cache-off", "blocking, cache off", Runs::Backend(Backend::Blocking, Cache::Off)),
        target(
            "blocking-cache-descriptors",
            "blocking, cached descriptors",
            Runs::Backend(Backend::Blocking, Cache::Descriptors),
        ),
        target("epoll-cache-off", "epoll, cache off", Runs::Backend(Backend::Epoll, Cache::Off)),
        target(
            "epoll-cache-descriptors",
            "epoll, cached descriptors",
            Runs::Backend(Backend::Epoll, Cache::Descriptors),
        ),
        target("uring-cache-off", "uring, cache off", Runs::Backend(Backend::Uring, Cache::Off)),
        target(
            "uring-cache-descriptors",
            "uring, cached descriptors",
            Runs::Backend(Backend::Uring, Cache::Descriptors),
        ),
        Target {
            twin_of: Some("epoll"),
            ..target("epoll-twin", "epoll (A/A twin)", Runs::Backend(Backend::Epoll, Cache::Contents))
        },
        target("null-epoll", "null server, epoll", Runs::Constant(Mechanism::Epoll)),
        target("null-uring", "null server, io_uring", Runs::Constant(Mechanism::Uring)),
    ];
    targets.extend(
        [&NGINX, &NGINX_CACHE, &NGINX_THREADS, &LIGHTTPD, &H2O, &CADDY, &STATIC_WEB, &MINISERVE].map(program),
    );
    #[cfg(feature = "hyper")]
    targets.push(target("hyper", "hyper, tower-http", Runs::Hyper));
    targets
}

fn target(id: &'static str, label: &'static str, runs: Runs) -> Target {
    Target { id, label, twin_of: None, runs, constant: None }
}

fn program(peer: &'static Peer) -> Target {
    target(peer.id, peer.label, Runs::Program(peer))
}

/// The target of that name.
pub fn named(id: &str) -> Option<Target> {
    catalogue().into_iter().find(|target| target.id == id)
}

/// One of this project's servers, with its default settings.
pub fn ours(backend: Backend) -> Target {
    target(backend.name(), backend.name(), Runs::Backend(backend, Cache::default()))
}

/// What was found on this machine, version by version, and how to install the rest: a line per target.
pub fn report() -> String {
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
    fn the_report_has_a_line_for_each() {
        let report = report();
        for (line, target) in report.lines().zip(catalogue()) {
            assert!(line.starts_with(target.id()), "{line}");
        }
        assert_eq!(report.lines().count(), catalogue().len());
    }
}

//! Tests that don't fit a table of exchanges: time, load, vanishing clients, changing files, and shutdown.
//!
//! Each test has its own server. Afterwards, the process must have no more descriptors and threads than before.

mod changing_files;
mod cold;
mod crowd;
mod descriptors;
mod downloads;
mod drain;
mod eviction;
mod freshness;
mod limits;
pub(crate) mod listings;
mod pages;
mod places;
mod proxies;
mod ring;
mod secrets;
mod slow_clients;
mod timeouts;
mod uploads;
mod validators;
mod vanishing;
mod variants;
mod volumes;
mod waiting;

use std::path::Path;
use std::sync::Arc;

use common::{Config, SiteOptions};
use libtest_mimic::{Completion, Failed, Trial};

use crate::backend::Backend;
use crate::census::Census;
use crate::child::{ChildServer, Settings};
use crate::lesser::Lesser;
use crate::server::Server;
use crate::site::Sites;

/// What a test works with.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The backend under test.
    pub backend: Backend,
    /// The disabled optimizations, if any.
    pub lesser: Option<&'a Lesser>,
    /// The sites to serve.
    pub sites: &'a Sites,
}

/// The result of a test: completed, ignored or failed.
pub type Outcome = Result<Completion, Failed>;

/// A test of one backend.
pub type Test = fn(Ground<'_>) -> Outcome;

/// The test has passed.
const DONE: Outcome = Ok(Completion::Completed);

impl Ground<'_> {
    /// Starts a server for the main site.
    fn serve(self, config: Config) -> Result<Server, Failed> {
        self.serve_folder(&self.sites.main(), config)
    }

    /// Starts a server for another folder.
    fn serve_folder(self, root: &Path, config: Config) -> Result<Server, Failed> {
        let config = match self.lesser {
            Some(lesser) => lesser.config(config),
            None => config,
        };
        Server::start(self.backend, root, SiteOptions::default(), config)
    }

    /// Starts a server for the main site in its own process.
    fn serve_in_child(self, settings: &Settings) -> Result<ChildServer, Failed> {
        ChildServer::start(self.backend, &self.sites.main(), settings)
    }
}

/// All tests for all backends.
#[must_use]
pub fn trials(sites: &Arc<Sites>) -> Vec<Trial> {
    let groups: [(&str, &[(&str, Test)]); 20] = [
        ("timeouts", timeouts::TESTS),
        ("slow_clients", slow_clients::TESTS),
        ("vanishing", vanishing::TESTS),
        ("changing_files", changing_files::TESTS),
        ("freshness", freshness::TESTS),
        ("validators", validators::TESTS),
        ("variants", variants::TESTS),
        ("pages", pages::TESTS),
        ("eviction", eviction::TESTS),
        ("secrets", secrets::TESTS),
        ("downloads", downloads::TESTS),
        ("cold", cold::TESTS),
        ("uploads", uploads::TESTS),
        ("limits", limits::TESTS),
        ("listings", listings::TESTS),
        ("descriptors", descriptors::TESTS),
        ("drain", drain::TESTS),
        ("crowd", crowd::TESTS),
        ("places", places::TESTS),
        ("proxies", proxies::TESTS),
    ];
    let mut trials = Vec::new();
    for backend in Backend::ALL {
        for (group, tests) in groups {
            for (name, test) in tests {
                trials.push(trial(sites, backend, None, format!("{backend}::{group}::{name}"), *test));
            }
        }
    }
    // Tests that exercise the disabled optimizations and take little time.
    let groups: [(&str, &[(&str, Test)]); 4] = [
        ("vanishing", vanishing::TESTS),
        ("downloads", downloads::TESTS),
        ("cold", cold::TESTS),
        ("uploads", uploads::TESTS),
    ];
    for lesser in Lesser::all().into_iter().map(Arc::new) {
        for (group, tests) in groups {
            for (name, test) in tests {
                let name = format!("{lesser}::{group}::{name}");
                trials.push(trial(sites, lesser.backend, Some(Arc::clone(&lesser)), name, *test));
            }
        }
    }
    for backend in [Backend::Epoll, Backend::Uring] {
        for (name, test) in waiting::TESTS {
            trials.push(trial(sites, backend, None, format!("{backend}::waiting::{name}"), *test));
        }
    }
    for backend in Backend::ALL {
        for (group, tests) in volumes::groups(backend) {
            for (name, test) in tests {
                trials.push(trial(sites, backend, None, format!("{backend}::{group}::{name}"), *test));
            }
        }
    }
    for (name, test) in places::TESTS_OF_THREADS {
        let name = format!("{}::places::{name}", Backend::Blocking);
        trials.push(trial(sites, Backend::Blocking, None, name, *test));
    }
    for (name, test) in ring::TESTS {
        trials.push(trial(sites, Backend::Uring, None, format!("{}::ring::{name}", Backend::Uring), *test));
    }
    trials
}

fn trial(
    sites: &Arc<Sites>,
    backend: Backend,
    lesser: Option<Arc<Lesser>>,
    name: String,
    test: Test,
) -> Trial {
    let sites = Arc::clone(sites);
    Trial::ignorable_test(name, move || {
        if let Some(reason) = backend.missing() {
            return Ok(Completion::ignored_with(reason));
        }
        let census = Census::take()?;
        let completion = test(Ground { backend, lesser: lesser.as_deref(), sites: &sites })?;
        census.returns()?;
        Ok(completion)
    })
}

//! Runs the table: every row on every backend, whole and split; all backends compared with each other; cached responses
//! compared with uncached ones.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use common::{CacheConfig, CacheLevel, Compress, Config, HeaderRules, MediaTypes, SiteOptions, Symlinks};
use libtest_mimic::{Completion, Failed, Trial};

use crate::backend::Backend;
use crate::census::{self, Census};
use crate::client::PATIENCE;
use crate::deadline;
use crate::exchange::{Exchange, Transcript, compare};
use crate::lesser::Lesser;
use crate::row::{Row, Variant};
use crate::server::Server;
use crate::site::Sites;
use crate::table::{Group, groups};

/// Requests per row on a server with a cache: the second request admits the file, later ones are hits.
const ROUNDS: u64 = 4;
/// The rounds that must be cache hits.
const HIT_ROUNDS: u64 = 2;

/// The cache levels that cache something, by name.
const LEVELS: [(&str, CacheLevel); 2] =
    [("descriptors", CacheLevel::Descriptors), ("contents", CacheLevel::Contents)];

/// The sites, and one server for each backend and variant used so far. These have no cache, so their open descriptors
/// belong to responses.
#[derive(Debug)]
pub struct Suite {
    sites: Sites,
    servers: Mutex<BTreeMap<(Backend, Variant), Arc<Server>>>,
}

impl Suite {
    /// Builds the sites. Servers are started when a row needs them.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn new() -> std::io::Result<Suite> {
        Ok(Suite { sites: Sites::build()?, servers: Mutex::default() })
    }

    fn server(&self, backend: Backend, variant: Variant) -> Result<Arc<Server>, Failed> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(&(backend, variant)) {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(self.start(backend, variant, uncached())?);
        // Descriptors opened lazily belong to the server, not to the test that happens to run first.
        Exchange::warm_up(server.address)?;
        census::connections_end(&server)?;
        servers.insert((backend, variant), Arc::clone(&server));
        Ok(server)
    }

    fn start(&self, backend: Backend, variant: Variant, config: Config) -> Result<Server, Failed> {
        let root = match variant {
            Variant::Custom => self.sites.custom(),
            Variant::Rules => self.sites.rules(),
            Variant::Sidecars | Variant::Uncoded => self.sites.sidecars(),
            Variant::Fields | Variant::Clean | Variant::Application => self.sites.flags(),
            _ => self.sites.main(),
        };
        let options = SiteOptions {
            hidden: variant == Variant::Hidden,
            symlinks: if variant == Variant::NoLinks { Symlinks::Deny } else { Symlinks::Beneath },
            listing: matches!(variant, Variant::Listing | Variant::Shared),
            etag: variant.etag(),
            compress: if variant == Variant::Uncoded { Compress::Off } else { Compress::Auto },
            spa: variant == Variant::Application,
            clean_urls: variant == Variant::Clean,
            ..match variant {
                Variant::Fields => SiteOptions {
                    media_types: own_types(),
                    index: "home.htm".parse().expect("a name"),
                    ..fields("https://app.example", &FIELDS)
                },
                Variant::Shared => fields("*", &[]),
                _ => SiteOptions::default(),
            }
        };
        Server::start(backend, &root, options, config)
    }

    /// Runs a row and checks that it leaves nothing behind.
    fn check(
        &self,
        backend: Backend,
        row: &Row,
        run: impl FnOnce(&Server) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let server = self.server(backend, row.variant)?;
        let census = Census::take()?;
        run(&server)?;
        census::connections_end(&server)?;
        census.descriptors_return()
    }

    fn run(&self, backend: Backend, row: &Row) -> Result<(), Failed> {
        self.check(backend, row, |server| {
            let exchange = Exchange::new(row, server.address)?;
            exchange.run(server.address).map(drop)
        })
    }

    fn run_split(&self, backend: Backend, row: &Row) -> Result<(), Failed> {
        self.check(backend, row, |server| Exchange::new(row, server.address)?.run_split(server))
    }

    /// Runs a group repeatedly on servers with a cache. The responses must equal those of the server without a cache,
    /// and finally come from the cache.
    fn run_cached(&self, backend: Backend, level: CacheLevel, group: &Group) -> Result<(), Failed> {
        let cache = CacheConfig { level, ..CacheConfig::default() };
        self.run_beside(backend, &Config { cache, ..Config::default() }, group, run_cached_row)
    }

    /// Runs a group on servers with optimizations disabled. The responses must equal those of the full server.
    fn run_lesser(&self, lesser: &Lesser, group: &Group) -> Result<(), Failed> {
        let config = lesser.config(Config::default());
        self.run_beside(lesser.backend, &config, group, |row, server, expected| {
            compare(expected, &Exchange::new(row, server.address)?.run(server.address)?)
        })
    }

    /// Runs a group on its own servers, with the transcripts of the servers without a cache for comparison.
    fn run_beside(
        &self,
        backend: Backend,
        config: &Config,
        group: &Group,
        run: impl Fn(&Row, &Server, &Transcript) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        // Collected first: whatever these servers open lazily stays open and must not be counted.
        let expected: Vec<_> = group.rows.iter().map(|row| self.transcript(backend, row)).collect();
        let mut expected = expected.into_iter();
        let census = Census::take()?;
        let mut servers = BTreeMap::new();
        every_row(group, |row| {
            let server = match servers.entry(row.variant) {
                Entry::Occupied(server) => server.into_mut(),
                Entry::Vacant(place) => place.insert(self.start(backend, row.variant, config.clone())?),
            };
            let expected = expected.next().ok_or("there is a transcript for every row")??;
            run(row, server, &expected)
        })?;
        drop(servers);
        census.returns()
    }

    /// The response of the server without a cache.
    fn transcript(&self, backend: Backend, row: &Row) -> Result<Transcript, Failed> {
        let server = self.server(backend, row.variant)?;
        let transcript = Exchange::new(row, server.address)?.run(server.address)?;
        census::connections_end(&server)?;
        Ok(transcript)
    }

    /// Compares the transcripts of two backends.
    fn compare(&self, one: Backend, other: Backend, row: &Row) -> Result<(), Failed> {
        compare(&self.transcript(one, row)?, &self.transcript(other, row)?)
    }
}

/// What the flags of [`Variant::Fields`] say of fields.
const FIELDS: [&str; 3] = ["Cache-Control: public, max-age=60", "X-Flag: one", "X-Flag: two"];

/// Settings as those flags make them.
fn fields(origin: &str, lines: &[&str]) -> SiteOptions {
    let cors: common::Cors = origin.parse().expect("an origin");
    let lines: Vec<&str> = cors.lines().lines().chain(lines.iter().copied()).collect();
    SiteOptions {
        fields: Arc::new(HeaderRules::of_everything(&lines).expect("fields")),
        cors: Some(cors),
        ..SiteOptions::default()
    }
}

/// Types of files that those flags choose.
fn own_types() -> MediaTypes {
    let own = ["bar=text/x-bar; charset=iso-8859-1", "css=application/x-css"];
    let own: Vec<_> = own.iter().map(|choice| choice.parse().expect("a type")).collect();
    MediaTypes::new(&own)
}

fn uncached() -> Config {
    Config { cache: CacheConfig::OFF, ..Config::default() }
}

fn run_cached_row(row: &Row, server: &Server, expected: &Transcript) -> Result<(), Failed> {
    let exchange = Exchange::new(row, server.address)?;
    census::connections_end(server)?;
    let hits = || server.service().stats.totals().cache_hits;
    let before = hits();
    for round in 1..=ROUNDS {
        let transcript = exchange.run(server.address)?;
        compare(expected, &transcript).map_err(|failed| complaint(&format!("round {round}"), &failed))?;
    }
    census::connections_end(server)?;
    let wanted = HIT_ROUNDS * row.files();
    deadline::within(PATIENCE, "the hits to be counted", || hits() - before >= wanted)
        .map_err(|_late| format!("{} hits instead of {wanted}", hits() - before).into())
}

impl Drop for Suite {
    /// Drains all servers at once; one by one, the last would be late.
    fn drop(&mut self) {
        let servers = self.servers.get_mut().unwrap_or_else(PoisonError::into_inner);
        servers.values().for_each(|server| server.drain());
    }
}

/// All tests of the table.
///
/// # Panics
/// If two rows of a group have the same name.
#[must_use]
pub fn trials(suite: &Arc<Suite>) -> Vec<Trial> {
    let groups: Vec<Arc<Group>> = groups().into_iter().map(Arc::new).collect();
    groups.iter().for_each(|group| assert_names_differ(group));
    let mut trials = Vec::new();
    for backend in Backend::ALL {
        for group in &groups {
            for index in 0..group.rows.len() {
                trials.push(whole_trial(suite, backend, group, index));
            }
        }
        trials.extend(groups.iter().map(|group| split_trial(suite, backend, group)));
        for (name, level) in LEVELS {
            trials.extend(groups.iter().map(|group| cached_trial(suite, backend, name, level, group)));
        }
    }
    for lesser in Lesser::all().into_iter().map(Arc::new) {
        trials.extend(groups.iter().map(|group| lesser_trial(suite, &lesser, group)));
    }
    trials.extend(groups.iter().map(|group| transcript_trial(suite, group)));
    trials
}

fn assert_names_differ(group: &Group) {
    let mut names: Vec<_> = group.rows.iter().map(|row| row.name).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1], "two rows of {} have the same name", group.name);
    }
}

fn whole_trial(suite: &Arc<Suite>, backend: Backend, group: &Arc<Group>, index: usize) -> Trial {
    let (suite, group) = (Arc::clone(suite), Arc::clone(group));
    let name = format!("{backend}::{}::{}", group.name, group.rows[index].name);
    Trial::ignorable_test(name, move || {
        if let Some(reason) = backend.missing() {
            return Ok(Completion::ignored_with(reason));
        }
        suite.run(backend, &group.rows[index])?;
        Ok(Completion::Completed)
    })
}

fn split_trial(suite: &Arc<Suite>, backend: Backend, group: &Arc<Group>) -> Trial {
    let (suite, group) = (Arc::clone(suite), Arc::clone(group));
    Trial::ignorable_test(format!("{backend}::split::{}", group.name), move || {
        if let Some(reason) = backend.missing() {
            return Ok(Completion::ignored_with(reason));
        }
        every_row(&group, |row| suite.run_split(backend, row))?;
        Ok(Completion::Completed)
    })
}

fn cached_trial(
    suite: &Arc<Suite>,
    backend: Backend,
    name: &str,
    level: CacheLevel,
    group: &Arc<Group>,
) -> Trial {
    let (suite, group) = (Arc::clone(suite), Arc::clone(group));
    Trial::ignorable_test(format!("{backend}::{name}::{}", group.name), move || {
        if let Some(reason) = backend.missing() {
            return Ok(Completion::ignored_with(reason));
        }
        suite.run_cached(backend, level, &group)?;
        Ok(Completion::Completed)
    })
}

fn lesser_trial(suite: &Arc<Suite>, lesser: &Arc<Lesser>, group: &Arc<Group>) -> Trial {
    let (suite, lesser, group) = (Arc::clone(suite), Arc::clone(lesser), Arc::clone(group));
    Trial::ignorable_test(format!("{lesser}::{}", group.name), move || {
        if let Some(reason) = lesser.backend.missing() {
            return Ok(Completion::ignored_with(reason));
        }
        suite.run_lesser(&lesser, &group)?;
        Ok(Completion::Completed)
    })
}

/// Compares the available backends with the first. A backend that can't run marks the test as ignored.
fn transcript_trial(suite: &Arc<Suite>, group: &Arc<Group>) -> Trial {
    let (suite, group) = (Arc::clone(suite), Arc::clone(group));
    Trial::ignorable_test(format!("transcript::{}", group.name), move || {
        let [first, others @ ..] = Backend::ALL;
        let mut completion = Completion::Completed;
        for other in others {
            match other.missing() {
                Some(reason) => {
                    completion = Completion::ignored_with(format!("only without {other}: {reason}"))
                }
                None => every_row(&group, |row| {
                    let names = |failed: Failed| complaint(&format!("{first} and {other}"), &failed);
                    suite.compare(first, other, row).map_err(names)
                })?,
            }
        }
        Ok(completion)
    })
}

/// Stop a group after this many failures: each may have waited for a whole deadline.
const FAILURES_MAX: usize = 3;

/// Runs the rows and reports the first failure.
fn every_row(group: &Group, mut run: impl FnMut(&Row) -> Result<(), Failed>) -> Result<(), Failed> {
    let failures: Vec<_> = group
        .rows
        .iter()
        .filter_map(|row| run(row).err().map(|failed| complaint(row.name, &failed)))
        .filter_map(|failed| failed.message().map(str::to_owned))
        .take(FAILURES_MAX)
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

fn complaint(what: &str, failed: &Failed) -> Failed {
    format!("{what}: {}", failed.message().unwrap_or("failed")).into()
}

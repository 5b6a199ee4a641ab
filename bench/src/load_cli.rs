//! `bench load`: the engine as a small load generator for any HTTP/1.1 server.
//!
//! The first answer says what all the others have to be: the same status, the same length.

mod histogram;
mod report;

use crate::agent::fleet::{Elsewhere, Fleet, Trouble};
use crate::agent::token::Token;
use crate::failure::{Failure, Result};
use crate::load::class::{Arrivals, Asks, Class, Life, Pacing, ReadPace};
use crate::load::engine::Engine;
use crate::load::outcome::Outcome;
use crate::load::probe;
use crate::load::request::{Expected, Request};
use crate::machine::placement;
use clap::Args;
use report::LoadReport;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

/// The longest wait for an address of several to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The arguments of `bench load`.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArguments {
    /// What to ask for: [http://]HOST[:PORT][/PATH]
    url: Url,
    /// Open loop: so many requests per second, whatever the server does
    ///
    /// It shows response times. The hot and churn classes share the rate, by their connections.
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Closed loop, the default: each connection asks again when answered
    ///
    /// It shows capacity and service times.
    #[arg(long, conflicts_with = "rate")]
    closed: bool,
    /// Connections of a class that doesn't say how many
    #[arg(long, short, default_value_t = 64, value_parser = parse_count)]
    connections: usize,
    /// How long to measure
    #[arg(long, short, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long to ask before that
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Client threads; the connections and the rate are shared out
    #[arg(long, short, default_value_t = 1, value_parser = parse_count)]
    threads: usize,
    /// A group of connections, hot, churn, slow or idle, and how many: `slow:100` [default: hot]
    ///
    /// Hot ones are kept, churn makes one per request, slow ones read slowly, idle ones ask once and keep still. Give it
    /// once per group.
    #[arg(long = "class", value_name = "CLASS[:COUNT]")]
    classes: Vec<ClassArgument>,
    /// How fast a connection of class slow reads
    #[arg(long, value_name = "BYTES_PER_SECOND", default_value_t = 65_536, value_parser = clap::value_parser!(u64).range(1..))]
    slow_rate: u64,
    /// How the requests of an open loop are spread
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// What the arrivals are drawn from: the same seed, the same arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Takes the load from this agent (`bench agent`), mostly on another machine; several share it
    #[arg(long = "agent", value_name = "HOST:PORT", conflicts_with = "threads")]
    agents: Vec<String>,
    /// The results as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hot,
    Churn,
    Slow,
    Idle,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Hot, Kind::Churn, Kind::Slow, Kind::Idle];

    fn name(self) -> &'static str {
        match self {
            Kind::Hot => "hot",
            Kind::Churn => "churn",
            Kind::Slow => "slow",
            Kind::Idle => "idle",
        }
    }

    /// Whether it takes part in the rate.
    fn is_paced(self) -> bool {
        matches!(self, Kind::Hot | Kind::Churn)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClassArgument {
    kind: Kind,
    connections: Option<usize>,
}

impl FromStr for ClassArgument {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<ClassArgument, String> {
        let (name, connections) = match text.split_once(':') {
            Some((name, count)) => (name, Some(parse_count(count)?)),
            None => (text, None),
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or("a class is hot, churn, slow or idle, and its connections follow a colon")?;
        Ok(ClassArgument { kind, connections })
    }
}

fn parse_count(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "a whole number from 1 on".to_owned())
}

fn parse_rate(text: &str) -> std::result::Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "requests per second, above 0".to_owned())
}

/// An http URL, as far as it is needed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// Host and port as written: the Host field's value.
    authority: String,
    /// Path and query.
    path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Url, String> {
        let is_scheme =
            |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let rest = match text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => return Err(format!("it speaks http, and not {scheme}")),
            None => text,
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        if authority.is_empty() || authority.contains('@') {
            return Err("it has to name a host, and may name a port: localhost:8080".to_owned());
        }
        // The colons of an address of IPv6 are in brackets.
        let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
        if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(format!("{authority} has no number behind its colon"));
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("blanks, controls and letters beyond ASCII are percent-encoded in a URL".to_owned());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Url { authority: authority.to_owned(), path: format!("{slash}{path}") })
    }
}

impl Url {
    /// Of several addresses, as those of localhost, the first that accepts a connection.
    fn resolve(&self) -> Result<SocketAddr> {
        let doing = || format!("resolve {}", self.authority);
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port { "" } else { ":80" };
        let addresses: Vec<SocketAddr> = format!("{}{port}", self.authority)
            .to_socket_addrs()
            .map_err(|error| Failure::new(format!("{}: {error}", doing())))?
            .collect();
        let accepts = |address: &&SocketAddr| TcpStream::connect_timeout(address, CONNECT_MAX).is_ok();
        let first =
            || addresses.first().ok_or_else(|| Failure::new(format!("{}: it has no address", doing())));
        if addresses.len() == 1 {
            return first().copied();
        }
        addresses.iter().find(accepts).map_or_else(first, Ok).copied()
    }
}

/// Loads the server and writes what that has shown.
pub(crate) fn run(arguments: &LoadArguments, output: &mut impl Write) -> Result<()> {
    let address = arguments.url.resolve()?;
    let Url { authority, path } = &arguments.url;
    // The first answer says what all others have to be.
    let unknown = Request::new(authority, path, Expected { status: 0, body_bytes: 0 });
    let (head, _) = probe::ask(address, unknown.bytes(false), |_, _| true)?;
    let expected = Expected { status: head.status, body_bytes: head.body_bytes };
    let request = Request::new(authority, path, expected);
    let classes = arguments.chosen();
    let (outcome, elsewhere) = if arguments.agents.is_empty() {
        (measure(arguments, address, &classes, &request)?, None)
    } else {
        let (outcome, elsewhere) = measure_elsewhere(arguments, address, &classes, &request)?;
        (outcome, Some(elsewhere))
    };
    let connections = classes.iter().map(|(_, connections)| *connections).collect();
    let report = LoadReport::new(arguments, expected, connections, &outcome, elsewhere);
    let text = if arguments.json {
        serde_json::to_string_pretty(&report).map_err(Failure::context("write the results as JSON"))? + "\n"
    } else {
        report.to_string()
    };
    output.write_all(text.as_bytes()).map_err(Failure::context("write the results"))
}

/// One engine per thread; all begin to measure at the same time.
fn measure(
    arguments: &LoadArguments,
    address: SocketAddr,
    classes: &[(Kind, usize)],
    request: &Request,
) -> Result<Outcome> {
    let threads = arguments.threads.min(classes.iter().map(|(_, count)| *count).min().unwrap_or(1));
    // One CPU has to be left for the server, or clients that stay awake would keep it waiting.
    let busy_polls = threads < placement::online();
    let start = Barrier::new(threads);
    let work = |thread: usize| {
        let classes = classes.iter().map(|(kind, count)| {
            let share = count / threads + usize::from(thread < count % threads);
            arguments.class(*kind, share, classes, request)
        });
        let seed = arguments.seed.wrapping_add(thread as u64);
        let engine = Engine::connect(address, classes.collect(), seed);
        let engine = engine.map(|engine| if busy_polls { engine.with_busy_polling() } else { engine });
        let warmed_up = engine.and_then(|mut engine| engine.run(arguments.warm_up, None).map(|_| engine));
        // A thread that failed waits as well, or the others would wait forever.
        start.wait();
        warmed_up.and_then(|mut engine| engine.run(arguments.duration, None))
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        running.into_iter().map(|thread| thread.join().expect("an engine doesn't panic")).collect()
    });
    let mut merged: Option<Outcome> = None;
    for outcome in outcomes {
        let outcome = outcome.map_err(Failure::context("load"))?;
        match &mut merged {
            None => merged = Some(outcome),
            Some(merged) => merged.merge(&outcome),
        }
    }
    merged.ok_or_else(|| Failure::new("no thread has asked"))
}

/// Agents share the classes; all begin to measure at the same time.
fn measure_elsewhere(
    arguments: &LoadArguments,
    address: SocketAddr,
    classes: &[(Kind, usize)],
    request: &Request,
) -> Result<(Outcome, Elsewhere)> {
    let mut fleet = Fleet::gather(&arguments.agents, Token::of_harness()?)?;
    fleet.check_reach(address.ip()).map_err(Failure::new)?;
    let whole: Vec<Class> =
        classes.iter().map(|(kind, count)| arguments.class(*kind, *count, classes, request)).collect();
    let mut load = || {
        fleet.connect(address, &whole, arguments.seed)?;
        fleet.run(arguments.warm_up, None)?;
        fleet.run(arguments.duration, None)
    };
    load().map_err(|trouble| match trouble {
        Trouble::Agent(failure) => failure,
        Trouble::Server(error) => Failure::context("load")(error),
    })
}

impl LoadArguments {
    /// The classes and their connections.
    fn chosen(&self) -> Vec<(Kind, usize)> {
        if self.classes.is_empty() {
            return vec![(Kind::Hot, self.connections)];
        }
        let connections = |class: &ClassArgument| class.connections.unwrap_or(self.connections);
        self.classes.iter().map(|class| (class.kind, connections(class))).collect()
    }

    /// A thread's share of a class.
    fn class(&self, kind: Kind, share: usize, all: &[(Kind, usize)], request: &Request) -> Class {
        let paced: usize = all.iter().filter(|(kind, _)| kind.is_paced()).map(|(_, count)| count).sum();
        let pacing = match (kind, self.rate) {
            (Kind::Idle, _) => Pacing::Idle,
            (Kind::Hot | Kind::Churn, Some(rate)) => Pacing::Open {
                per_second: rate * share as f64 / paced as f64,
                arrivals: self.arrivals,
                steps: Vec::new(),
            },
            (Kind::Hot | Kind::Churn | Kind::Slow, _) => Pacing::Closed,
        };
        Class {
            name: kind.name().to_owned(),
            connections: share,
            pacing,
            life: if kind == Kind::Churn { Life::Requests(1) } else { Life::KeepAlive },
            reading: match kind {
                Kind::Slow => ReadPace::Slow { bytes_per_second: self.slow_rate },
                Kind::Hot | Kind::Churn | Kind::Idle => ReadPace::AtOnce,
            },
            asks: Asks::one(request.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |text: &str| text.parse::<Url>().map(|url| (url.authority, url.path));
        let right = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        assert_eq!(url("http://localhost:8080/a/b?c#d"), right("localhost:8080", "/a/b?c"));
        assert_eq!(url("http://[::1]:81"), right("[::1]:81", "/"));
        assert_eq!(url("http://example?q"), right("example", "/?q"));
        assert_eq!(url("localhost:8080"), right("localhost:8080", "/"));
        assert_eq!(url("localhost"), right("localhost", "/"));
        assert_eq!(url("HTTP://a:1/b"), right("a:1", "/b"));
        assert_eq!(url("a:1/?from=http://b/"), right("a:1", "/?from=http://b/"));
        for wrong in [
            "https://localhost/",
            "ftp://localhost/",
            "",
            "/a",
            "http://",
            "http:///a",
            "http://h/a b",
            "http://a@b/",
            "http:/a",
            "localhost:eighty",
            "localhost:99999",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_is_80_unless_it_is_said() {
        let resolve = |text: &str| text.parse::<Url>().unwrap().resolve().unwrap().to_string();
        assert_eq!(resolve("http://127.0.0.1/"), "127.0.0.1:80");
        assert_eq!(resolve("http://127.0.0.1:81/"), "127.0.0.1:81");
        assert_eq!(resolve("http://[::1]/"), "[::1]:80");
    }

    #[test]
    fn classes() {
        let class = |text: &str| text.parse::<ClassArgument>();
        assert_eq!(class("hot"), Ok(ClassArgument { kind: Kind::Hot, connections: None }));
        assert_eq!(class("idle:8000"), Ok(ClassArgument { kind: Kind::Idle, connections: Some(8_000) }));
        for wrong in ["warm", "hot:0", "hot:", "hot:x", ""] {
            assert!(class(wrong).is_err(), "{wrong}");
        }
    }
}

//! The agents of a run, seen from the harness.
//!
//! Trouble with one of them ends all conversations, so that no agent goes on with a load that nobody counts. The next load
//! begins with new ones.

use crate::agent::lines::{GREETING_BYTES_MAX, LINE_BYTES_MAX, LineError, Lines};
use crate::agent::message::{Ask, Entry, Greeting, Host, LoadOrder, PROTOCOL, Reply, SOURCES, mismatch};
use crate::agent::token::Token;
use crate::failure::{Failure, Result};
use crate::load::class::Class;
use crate::load::engine::STALL;
use crate::load::error::LoadError;
use crate::load::outcome::Outcome;
use crate::load::share::share;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

/// More agents than this are a mistake.
const AGENTS_MAX: usize = 64;
/// How long an agent may take to accept a connection, and for anything that is done at once.
const REPLY_MAX: Duration = Duration::from_secs(5);
/// For thousands of connections, or all files of a site.
const CONNECT_MAX: Duration = Duration::from_secs(60);
/// Beyond a window, and the time after which an engine gives up a silent server.
const RUN_GRACE: Duration = Duration::from_secs(5);
/// A conversation that has just been ended keeps an agent for a moment.
const BUSY_MAX: Duration = Duration::from_secs(2);
const BUSY_INTERVAL: Duration = Duration::from_millis(50);
/// Of so many looks at an agent's clock the one with the shortest round trip counts.
const LOOKS: usize = 16;
/// From the order to the beginning: time for the orders to arrive.
const LEAD: Duration = Duration::from_millis(50);

/// An agent in a run's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentRecord {
    /// As it was named: host and port.
    pub(crate) agent: String,
    #[serde(flatten)]
    pub(crate) host: Host,
}

impl fmt::Display for AgentRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
        let Host { name, kernel, processor, cpus, .. } = &self.host;
        let kernel = known(kernel);
        let kernel = kernel.split(' ').next().unwrap_or_default();
        write!(f, "{} ({name}, {}, CPUs {}, Linux {kernel})", self.agent, known(processor), known(cpus))
    }
}

/// What load from other machines has shown besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// How far apart the beginnings of the agents, and of what was measured here, may have been at most: half the round
    /// trips of the two clocks that are known least, and what their agents were late.
    pub skew_ns: u64,
    /// What interrupts took of the server's CPUs, the network's among them; it belongs to no process, and isn't in the
    /// server's CPU time.
    #[serde(default)]
    pub interrupts_ns: Option<u64>,
    /// Agent by agent.
    pub agents: Vec<AgentFigures>,
    /// The agent that failed, and how: then the trial is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// What one agent has shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentFigures {
    /// As it was named.
    pub agent: String,
    /// Right answers.
    pub answers: u64,
    /// Samples in its histograms of service times.
    pub samples: u64,
    /// The share of the time in which it had something to do.
    pub busy: f64,
    /// The shortest round trip to it.
    pub round_trip_ns: u64,
    /// How late it began, by its own clock.
    pub late_ns: u64,
    /// Why it was the limit; null if it wasn't.
    pub client_bound: Option<String>,
}

/// Why there was no load.
#[derive(Debug)]
pub enum Trouble {
    /// An agent failed: this says nothing about the server.
    Agent(Failure),
    /// The server failed an agent.
    Server(LoadError),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Agent(failure) => failure.fmt(f),
            Trouble::Server(error) => error.fmt(f),
        }
    }
}

type Done<T> = std::result::Result<T, Trouble>;

/// Agents that share a load.
pub struct Fleet {
    token: Token,
    agents: Vec<Agent>,
    /// How many classes the load has.
    classes: usize,
}

struct Agent {
    name: String,
    address: SocketAddr,
    host: Host,
    /// None after trouble.
    lines: Option<Lines>,
    /// The classes that it has a part of, by their numbers.
    numbers: Vec<usize>,
}

/// What is known of an agent's clock.
struct Clock {
    /// At this moment here,
    here: Instant,
    /// it was so late there,
    there: Duration,
    /// give or take half of this.
    round_trip: Duration,
}

impl Fleet {
    /// Agents by their hosts and ports, who all have this token.
    ///
    /// # Errors
    ///
    /// One of them isn't there, is another build, or doesn't know the token: a line that says which.
    pub fn gather(names: &[String], token: Token) -> Result<Fleet> {
        if names.len() > AGENTS_MAX {
            return Err(Failure::new(format!("{} agents are more than {AGENTS_MAX}", names.len())));
        }
        let mut agents: Vec<Agent> = Vec::new();
        for name in names {
            let address = resolve(name)?;
            if let Some(other) = agents.iter().find(|agent| agent.address == address) {
                return Err(Failure::new(format!("{name} and {} are one agent", other.name)));
            }
            let (lines, host) = enter(address, &token).map_err(|why| lost(name, &why))?;
            let (name, numbers) = (name.clone(), Vec::new());
            agents.push(Agent { name, address, host, lines: Some(lines), numbers });
        }
        Ok(Fleet { token, agents, classes: 0 })
    }

    /// What a record says of them.
    pub(crate) fn records(&self) -> Vec<AgentRecord> {
        let record = |agent: &Agent| AgentRecord { agent: agent.name.clone(), host: agent.host.clone() };
        self.agents.iter().map(record).collect()
    }

    /// Why no agent on another machine reaches this address, if so.
    pub(crate) fn check_reach(&self, target: IpAddr) -> std::result::Result<(), String> {
        let far = self.agents.iter().find(|agent| !agent.address.ip().is_loopback());
        match far.filter(|_| target.is_loopback()) {
            None => Ok(()),
            Some(agent) => {
                Err(format!("{target} is each machine's own: {} doesn't reach this one there", agent.name))
            }
        }
    }

    /// Opens the connections of these classes, each agent its part of them.
    ///
    /// # Errors
    ///
    /// An agent fails or refuses, or the server fails it.
    pub fn connect(&mut self, target: SocketAddr, classes: &[Class], seed: u64) -> Done<()> {
        self.attend()?;
        self.classes = classes.len();
        // On the server's own machine a client that stays awake would keep it waiting.
        let busy_polls = !target.ip().is_loopback();
        let parts = share(classes, self.agents.len(), seed);
        let order = |part| Ask::Connect(Box::new(LoadOrder::new(target, part, busy_polls)));
        let mut orders = Vec::new();
        for (agent, part) in self.agents.iter_mut().zip(&parts) {
            agent.numbers.clone_from(&part.numbers);
            orders.push((!part.classes.is_empty()).then(|| order(part)));
        }
        self.all(orders, CONNECT_MAX)
    }

    /// See [`Engine::hold_back`](crate::load::engine::Engine::hold_back).
    pub(crate) fn hold_back(&mut self, class: usize, is_held_back: bool) -> Done<()> {
        let orders = self.with_class(class, |class| Ask::HoldBack { class, is_held_back });
        self.all(orders, REPLY_MAX)
    }

    /// Lets each agent with a part of this class ask for all of its requests once.
    pub(crate) fn visit_all(&mut self, class: usize) -> Done<()> {
        let orders = self.with_class(class, |class| Ask::VisitAll { class });
        self.all(orders, CONNECT_MAX)
    }

    /// See [`Engine::run`](crate::load::engine::Engine::run). All agents begin at one moment.
    ///
    /// # Errors
    ///
    /// As with [`Fleet::connect`]. No agent is waited for much longer than its load can last.
    pub fn run(&mut self, window: Duration, slice: Option<Duration>) -> Done<(Outcome, Elsewhere)> {
        let working: Vec<usize> =
            (0..self.agents.len()).filter(|index| !self.agents[*index].numbers.is_empty()).collect();
        let mut clocks = Vec::new();
        for index in &working {
            clocks.push(self.clock(*index)?);
        }
        let start = Instant::now() + LEAD;
        for (index, clock) in working.iter().zip(&clocks) {
            let at_ns = nanoseconds(clock.there + start.saturating_duration_since(clock.here));
            let (window_ns, slice_ns) = (nanoseconds(window), slice.map(nanoseconds));
            self.send(*index, &Ask::Run { at_ns, window_ns, slice_ns })?;
        }
        let deadline = start + window + STALL + RUN_GRACE;
        let mut reports = Vec::new();
        for index in &working {
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.receive(*index, wait)? {
                Reply::Ran { outcome, late_ns } => reports.push((outcome, late_ns)),
                other => return Err(self.unexpected(*index, other)),
            }
        }
        let errors = clocks
            .iter()
            .zip(&reports)
            .map(|(clock, (_, late_ns))| clock.round_trip / 2 + Duration::from_nanos(*late_ns));
        let skew = skew(errors.collect());
        let mut elsewhere = Elsewhere { skew_ns: nanoseconds(skew), ..Elsewhere::default() };
        let mut parts = Vec::new();
        for ((index, clock), (report, late_ns)) in working.iter().zip(&clocks).zip(reports) {
            let outcome = report.outcome(skew).map_err(|why| self.failed(*index, &why))?;
            let agent = &self.agents[*index];
            elsewhere.agents.push(figures(agent, &outcome, clock.round_trip, late_ns));
            parts.push((agent.numbers.clone(), outcome));
        }
        let whole = Outcome::gather(&parts, self.classes);
        let whole = whole.ok_or_else(|| self.failed(working[0], "it lacks a class"))?;
        Ok((whole, elsewhere))
    }

    /// Lets the agents close their connections to the server.
    pub(crate) fn release(&mut self) -> Done<()> {
        let orders = self.agents.iter().map(|_| Some(Ask::Release)).collect();
        self.all(orders, REPLY_MAX)
    }

    /// Begins the conversations that have ended.
    fn attend(&mut self) -> Done<()> {
        for index in 0..self.agents.len() {
            let Agent { address, lines, .. } = &self.agents[index];
            // One that has been waiting for too long has been ended by the agent.
            if lines.as_ref().is_some_and(|lines| lines.is_silent(Duration::from_micros(1))) {
                // Whether somebody is still at home: with thousands of connections to open, an answer takes its time.
                self.send(index, &Ask::Time)?;
                self.receive(index, REPLY_MAX)?;
                continue;
            }
            match enter(*address, &self.token) {
                Ok((lines, host)) => {
                    let agent = &mut self.agents[index];
                    (agent.lines, agent.host) = (Some(lines), host);
                }
                Err(why) => return Err(self.failed(index, &why)),
            }
        }
        Ok(())
    }

    /// An order for each agent that has a part of a class, which has its own number there.
    fn with_class(&self, class: usize, order: impl Fn(usize) -> Ask) -> Vec<Option<Ask>> {
        let place = |agent: &Agent| agent.numbers.iter().position(|number| *number == class);
        self.agents.iter().map(|agent| place(agent).map(&order)).collect()
    }

    /// Sends each agent its order, and waits until all have obeyed.
    fn all(&mut self, orders: Vec<Option<Ask>>, wait: Duration) -> Done<()> {
        for (index, order) in orders.iter().enumerate() {
            if let Some(order) = order {
                self.send(index, order)?;
            }
        }
        let deadline = Instant::now() + wait;
        for index in (0..orders.len()).filter(|index| orders[*index].is_some()) {
            match self.receive(index, deadline.saturating_duration_since(Instant::now()))? {
                Reply::Done => {}
                other => return Err(self.unexpected(index, other)),
            }
        }
        Ok(())
    }

    /// What time it is for an agent.
    fn clock(&mut self, index: usize) -> Done<Clock> {
        let mut best: Option<Clock> = None;
        for _ in 0..LOOKS {
            let sent = Instant::now();
            self.send(index, &Ask::Time)?;
            let ns = match self.receive(index, REPLY_MAX)? {
                Reply::Time { ns } => ns,
                other => return Err(self.unexpected(index, other)),
            };
            let round_trip = sent.elapsed();
            let clock = Clock { here: sent + round_trip / 2, there: Duration::from_nanos(ns), round_trip };
            if best.as_ref().is_none_or(|best| clock.round_trip < best.round_trip) {
                best = Some(clock);
            }
        }
        best.ok_or_else(|| self.failed(index, "it has no clock"))
    }

    fn send(&mut self, index: usize, ask: &Ask) -> Done<()> {
        let sent = match &mut self.agents[index].lines {
            Some(lines) => lines.send(ask),
            None => Err(LineError::Ended),
        };
        sent.map_err(|error| self.failed(index, &error.to_string()))
    }

    fn receive(&mut self, index: usize, wait: Duration) -> Done<Reply> {
        let received = match &mut self.agents[index].lines {
            Some(lines) => lines.receive(LINE_BYTES_MAX, wait),
            None => Err(LineError::Ended),
        };
        received.map_err(|error| self.failed(index, &error.to_string()))
    }

    /// For a reply that isn't what was asked for.
    fn unexpected(&mut self, index: usize, reply: Reply) -> Trouble {
        match reply {
            Reply::Failed { kind, line } => {
                self.hang_up();
                Trouble::Server(LoadError::told(&kind, line))
            }
            Reply::Refused { reason } => self.failed(index, &format!("it refuses: {reason}")),
            _ => self.failed(index, "it answered out of turn"),
        }
    }

    fn failed(&mut self, index: usize, why: &str) -> Trouble {
        self.hang_up();
        Trouble::Agent(lost(&self.agents[index].name, why))
    }

    fn hang_up(&mut self) {
        self.agents.iter_mut().for_each(|agent| agent.lines = None);
    }
}

fn lost(name: &str, why: &str) -> Failure {
    Failure::new(format!("agent {name}: {why}"))
}

fn figures(agent: &Agent, outcome: &Outcome, round_trip: Duration, late_ns: u64) -> AgentFigures {
    AgentFigures {
        agent: agent.name.clone(),
        answers: outcome.classes.iter().map(|class| class.answers).sum(),
        samples: outcome.classes.iter().map(|class| class.service.len()).sum(),
        busy: outcome.client_busy(),
        round_trip_ns: nanoseconds(round_trip),
        late_ns,
        client_bound: outcome.client_bound().map(|bound| bound.to_string()),
    }
}

/// How far apart any two of the beginnings can be, of clocks that may be wrong by so much; with one, how far from the moment
/// that was meant.
fn skew(mut errors: Vec<Duration>) -> Duration {
    errors.sort_unstable_by(|a, b| b.cmp(a));
    errors.iter().take(2).sum()
}

fn resolve(name: &str) -> Result<SocketAddr> {
    let doing = || format!("agent {name}");
    let mut addresses = name.to_socket_addrs().map_err(Failure::context(doing()))?;
    addresses.next().ok_or_else(|| Failure::new(format!("{}: it has no address", doing())))
}

/// Begins a conversation.
fn enter(address: SocketAddr, token: &Token) -> std::result::Result<(Lines, Host), String> {
    let deadline = Instant::now() + BUSY_MAX;
    loop {
        let (lines, reply) = introduce(address, token)?;
        match reply {
            Reply::Welcome(host) => return Ok((lines, *host)),
            Reply::Busy if Instant::now() < deadline => thread::sleep(BUSY_INTERVAL),
            Reply::Busy => return Err("it works for another harness".to_owned()),
            Reply::Refused { reason } => return Err(format!("it refuses: {reason}")),
            _ => return Err("it answered out of turn".to_owned()),
        }
    }
}

fn introduce(address: SocketAddr, token: &Token) -> std::result::Result<(Lines, Reply), String> {
    let told = |error: LineError| error.to_string();
    let stream = TcpStream::connect_timeout(&address, REPLY_MAX).map_err(|error| error.to_string())?;
    let mut lines = Lines::over(stream).map_err(|error| error.to_string())?;
    let greeting = match lines.receive::<Greeting>(GREETING_BYTES_MAX, REPLY_MAX) {
        Ok(greeting) => greeting,
        Err(LineError::NotUnderstood(_) | LineError::TooLong(_)) => {
            return Err("what listens there is no agent of this harness".to_owned());
        }
        Err(error) => return Err(told(error)),
    };
    if let Some(why) = mismatch(greeting.triptych_bench_agent, &greeting.sources, "harness") {
        return Err(why);
    }
    let proof = token.proof(&greeting.challenge);
    let entry = Entry { triptych_bench_harness: PROTOCOL, sources: SOURCES.to_owned(), proof };
    lines.send(&entry).map_err(told)?;
    let reply = lines.receive(GREETING_BYTES_MAX, REPLY_MAX).map_err(told)?;
    Ok((lines, reply))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_clocks_that_are_known_least_make_the_skew() {
        let micros = |errors: &[u64]| skew(errors.iter().map(|us| Duration::from_micros(*us)).collect());
        assert_eq!(micros(&[]), Duration::ZERO);
        assert_eq!(micros(&[30]), Duration::from_micros(30));
        assert_eq!(micros(&[10, 30, 20]), Duration::from_micros(50));
    }
}

//! The agent: listens, lets in who knows the token, and gives load as long as that harness is there.

use crate::agent::lines::{GREETING_BYTES_MAX, LINE_BYTES_MAX, Lines};
use crate::agent::message::{Ask, Entry, Greeting, Host, LoadOrder, PROTOCOL, Reply, SOURCES, mismatch};
use crate::agent::outcome::OutcomeReport;
use crate::agent::permit::Permit;
use crate::agent::token::{Token, VARIABLE, challenge};
use crate::failure::{Failure, Result};
use crate::load::engine::Engine;
use crate::load::error::LoadError;
use crate::load::outcome::Outcome;
use crate::machine::environment::{Cpu, kernel, name};
use crate::machine::placement;
use clap::Args;
use ipnet::IpNet;
use std::hint::spin_loop;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Connections at once of those who haven't proved that they know the token, and of the one who has.
const VISITORS_MAX: usize = 8;
/// How long a harness may take to answer the greeting.
const ENTRY_MAX: Duration = Duration::from_secs(5);
/// A harness that says nothing for so long has forgotten its agent.
const IDLE_MAX: Duration = Duration::from_secs(15 * 60);
/// A moment to begin that is further away is a mistake.
const AHEAD_MAX: Duration = Duration::from_secs(10);
/// It is awake for so long before it begins.
const AWAKE: Duration = Duration::from_millis(2);
/// How often it looks during a load whether the harness is still there.
const LOOK: Duration = Duration::from_millis(25);

/// The arguments of `bench agent`.
#[derive(Args, Clone, Debug)]
pub(crate) struct AgentArguments {
    /// Where the harness reaches this agent
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Gives load to addresses of this network, once per network [default: those of private networks]
    #[arg(long, value_name = "CIDR")]
    target_allow: Vec<IpNet>,
    /// Holds so many connections at most
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    connections_max: usize,
    /// Sends so many requests per second at most, in an open loop
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1_000_000.0)]
    rate_max: f64,
    /// Gives load for so long at most
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    duration_max: Duration,
}

/// What all conversations share.
struct Agent {
    permit: Permit,
    token: Token,
    host: Host,
    /// What its clock counts from.
    begun: Instant,
    is_taken: AtomicBool,
    visitors: AtomicUsize,
}

/// Serves harnesses until the process is ended. Says where it listens, and the token if it had to make one.
pub(crate) fn run(arguments: &AgentArguments, output: &mut impl Write) -> Result<()> {
    let (token, is_new) = match Token::of_environment()? {
        Some(token) => (token, false),
        None => (Token::generate()?, true),
    };
    let doing = || format!("listen on {}", arguments.listen);
    let listener = TcpListener::bind(arguments.listen).map_err(Failure::context(doing()))?;
    let address = listener.local_addr().map_err(Failure::context(doing()))?;
    let mut text = format!("an agent listens on {address} (load generator {SOURCES})\n");
    if is_new {
        text += &format!("for the harness: export {VARIABLE}={}\n", token.reveal());
    }
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(Failure::context("say so"))?;
    let AgentArguments { target_allow, connections_max, rate_max, duration_max, .. } = arguments;
    let agent = Arc::new(Agent {
        permit: Permit::new(target_allow, *connections_max, *rate_max, *duration_max),
        token,
        host: host(),
        begun: Instant::now(),
        is_taken: AtomicBool::new(false),
        visitors: AtomicUsize::new(0),
    });
    loop {
        // Out of descriptors, or a visitor that is gone already: the next one is as welcome.
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(LOOK);
            continue;
        };
        let agent = Arc::clone(&agent);
        let Some(place) = Place::take(&agent) else {
            continue;
        };
        let talk = move || {
            let _place = place;
            converse(&agent, stream);
        };
        // Without a thread the visitor is turned away.
        let _spawned = thread::Builder::new().name("harness".to_owned()).spawn(talk);
    }
}

fn host() -> Host {
    let Cpu { model, online, clock_source, .. } = Cpu::look();
    Host { name: name(), kernel: kernel(), processor: model, cpus: online, clock_source }
}

/// A visitor's place.
struct Place(Arc<Agent>);

impl Place {
    fn take(agent: &Arc<Agent>) -> Option<Place> {
        let place = Place(Arc::clone(agent));
        // Dropped, it gives back what it took.
        (agent.visitors.fetch_add(1, Ordering::Relaxed) < VISITORS_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.visitors.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The agent, as long as it works for one harness.
struct Taken<'a>(&'a Agent);

impl<'a> Taken<'a> {
    fn take(agent: &'a Agent) -> Option<Taken<'a>> {
        // Not made unless it is taken: dropped, it would free what another one has.
        (!agent.is_taken.swap(true, Ordering::Acquire)).then(|| Taken(agent))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
    }
}

/// Talks to one visitor until one of both ends it.
fn converse(agent: &Agent, stream: TcpStream) {
    let Ok(mut lines) = Lines::over(stream) else {
        return;
    };
    let Some(taken) = enter(agent, &mut lines) else {
        return;
    };
    let mut load = Load { agent, engine: None };
    while let Ok(ask) = lines.receive(LINE_BYTES_MAX, IDLE_MAX) {
        let reply = load.obey(ask, &lines);
        if lines.send(&reply).is_err() {
            break;
        }
    }
    // The connections go before somebody else may have the agent.
    drop(load);
    drop(taken);
}

/// Lets a harness in that speaks the same language and knows the token, if there isn't one.
fn enter<'a>(agent: &'a Agent, lines: &mut Lines) -> Option<Taken<'a>> {
    let challenge = challenge().ok()?;
    let sources = SOURCES.to_owned();
    let greeting = Greeting { triptych_bench_agent: PROTOCOL, sources, challenge: challenge.clone() };
    lines.send(&greeting).ok()?;
    let entry: Entry = lines.receive(GREETING_BYTES_MAX, ENTRY_MAX).ok()?;
    let reason = mismatch(entry.triptych_bench_harness, &entry.sources, "agent").or_else(|| {
        let accepts = agent.token.accepts(&challenge, &entry.proof);
        (!accepts).then(|| format!("the harness's {VARIABLE} isn't this agent's"))
    });
    let taken = if reason.is_none() { Taken::take(agent) } else { None };
    let reply = match (reason, &taken) {
        (Some(reason), _) => Reply::Refused { reason },
        (None, None) => Reply::Busy,
        (None, Some(_)) => Reply::Welcome(Box::new(agent.host.clone())),
    };
    lines.send(&reply).ok()?;
    taken
}

/// What a harness has asked for up to now.
struct Load<'a> {
    agent: &'a Agent,
    engine: Option<Connected>,
}

struct Connected {
    engine: Engine,
    /// How many requests each class has.
    requests: Vec<usize>,
    /// Whether the class is an open loop.
    is_open: Vec<bool>,
    stop: Arc<AtomicBool>,
}

/// Why something wasn't done.
enum Undone {
    Refused(String),
    Failed(LoadError),
}

impl From<String> for Undone {
    fn from(reason: String) -> Undone {
        Undone::Refused(reason)
    }
}

impl From<LoadError> for Undone {
    fn from(error: LoadError) -> Undone {
        Undone::Failed(error)
    }
}

impl Load<'_> {
    fn obey(&mut self, ask: Ask, lines: &Lines) -> Reply {
        let done = match ask {
            Ask::Time => return Reply::Time { ns: self.now_ns() },
            Ask::Release => {
                self.engine = None;
                Ok(Reply::Done)
            }
            Ask::Connect(order) => self.connect(&order).map(|()| Reply::Done),
            Ask::HoldBack { class, is_held_back } => {
                self.hold_back(class, is_held_back).map(|()| Reply::Done)
            }
            Ask::VisitAll { class } => self.visit_all(class).map(|()| Reply::Done),
            Ask::Run { at_ns, window_ns, slice_ns } => {
                let (window, slice) = (Duration::from_nanos(window_ns), slice_ns.map(Duration::from_nanos));
                self.run(at_ns, window, slice, lines)
            }
        };
        match done {
            Ok(reply) => reply,
            Err(Undone::Refused(reason)) => Reply::Refused { reason },
            Err(Undone::Failed(error)) => {
                // An engine that has failed is of no more use.
                self.engine = None;
                Reply::Failed { kind: error.kind().to_owned(), line: error.to_string() }
            }
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.agent.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn connect(&mut self, order: &LoadOrder) -> std::result::Result<(), Undone> {
        self.engine = None;
        self.agent.permit.check(order)?;
        let classes = order.classes()?;
        let requests = classes.iter().map(|class| class.asks.requests().len()).collect();
        let is_open = classes.iter().map(|class| class.pacing.mean_rate().is_some()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let engine = Engine::connect(order.target, classes, order.seed)?.with_phase(order.phase);
        let engine = engine.with_stop(Arc::clone(&stop));
        let busy_polls = order.busy_polls && placement::online() > 1;
        let engine = if busy_polls { engine.with_busy_polling() } else { engine };
        self.engine = Some(Connected { engine, requests, is_open, stop });
        Ok(())
    }

    fn connected(&mut self) -> std::result::Result<&mut Connected, Undone> {
        self.engine.as_mut().ok_or_else(|| Undone::Refused("there is no load yet".to_owned()))
    }

    fn hold_back(&mut self, class: usize, is_held_back: bool) -> std::result::Result<(), Undone> {
        let connected = self.connected()?;
        if connected.is_open.get(class) != Some(&true) {
            return Err(Undone::Refused("only an open loop is held back".to_owned()));
        }
        connected.engine.hold_back(class, is_held_back);
        Ok(())
    }

    fn visit_all(&mut self, class: usize) -> std::result::Result<(), Undone> {
        let connected = self.connected()?;
        let Some(count) = connected.requests.get(class).copied() else {
            return Err(Undone::Refused("there is no such class".to_owned()));
        };
        let all: Vec<usize> = (0..count).collect();
        Ok(connected.engine.ask_once(class, &all)?)
    }

    /// Gives load from that moment on. It ends early if the harness is gone, or says anything.
    fn run(
        &mut self,
        at_ns: u64,
        window: Duration,
        slice: Option<Duration>,
        lines: &Lines,
    ) -> std::result::Result<Reply, Undone> {
        self.agent.permit.check_window(window)?;
        if slice.is_some_and(|slice| slice < Duration::from_millis(1)) {
            return Err(Undone::Refused("a slice of time is at least a millisecond".to_owned()));
        }
        let begun = self.agent.begun;
        let at = begun + Duration::from_nanos(at_ns.min(self.now_ns() + 2 * nanoseconds(AHEAD_MAX)));
        let ahead = at.checked_duration_since(Instant::now());
        if ahead.is_none_or(|ahead| ahead > AHEAD_MAX) {
            return Err(Undone::Refused("the moment to begin is past, or too far away".to_owned()));
        }
        let connected = self.connected()?;
        let is_over = AtomicBool::new(false);
        let stop = Arc::clone(&connected.stop);
        stop.store(false, Ordering::Relaxed);
        let watch = || {
            while !is_over.load(Ordering::Relaxed) {
                if !lines.is_silent(LOOK) {
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
            }
        };
        let (late, outcome): (Duration, std::result::Result<Outcome, LoadError>) = thread::scope(|scope| {
            scope.spawn(watch);
            await_moment(at);
            let late = at.elapsed();
            let outcome = connected.engine.run(window, slice);
            is_over.store(true, Ordering::Relaxed);
            (late, outcome)
        });
        let outcome = Box::new(OutcomeReport::of(&outcome?));
        Ok(Reply::Ran { outcome, late_ns: nanoseconds(late) })
    }
}

/// Sleeps, and is awake when the moment comes.
fn await_moment(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()).saturating_sub(AWAKE));
    while Instant::now() < at {
        spin_loop();
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

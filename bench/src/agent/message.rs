//! What a harness and an agent say to each other.
//!
//! The agent begins with its [`Greeting`], which every version understands; the harness answers with [`Entry`], and gets
//! [`Reply::Welcome`]. From then on each [`Ask`] has one [`Reply`].

use crate::agent::outcome::OutcomeReport;
use crate::load::class::{Asks, Class, Life, Order, Pacing, ReadPace};
use crate::load::request::{Expected, Request};
use crate::load::share::Part;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Raised whenever one of these messages changes its form or its meaning.
pub(crate) const PROTOCOL: u32 = 1;

/// A digest of the sources that make the load: two builds with the same one do the same.
pub(crate) const SOURCES: &str = env!("BENCH_LOAD_SOURCES");

/// The agent's first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    /// [`PROTOCOL`] of the agent.
    pub(crate) triptych_bench_agent: u32,
    /// [`SOURCES`] of the agent.
    pub(crate) sources: String,
    pub(crate) challenge: String,
}

/// The harness's first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) triptych_bench_harness: u32,
    pub(crate) sources: String,
    /// That it knows the token, see `token`.
    pub(crate) proof: String,
}

/// Why two builds can't work together, said by `side` ("harness") about the other one.
pub(crate) fn mismatch(protocol: u32, sources: &str, side: &str) -> Option<String> {
    if protocol != PROTOCOL {
        return Some(format!(
            "it speaks version {protocol} of the protocol, this {side} {PROTOCOL}; build both from one commit"
        ));
    }
    // What a stranger sends isn't repeated whole.
    let sources: String = sources.chars().filter(char::is_ascii_alphanumeric).take(SOURCES.len()).collect();
    (sources != SOURCES).then(|| {
        format!("its load generator is {sources}, this {side}'s {SOURCES}; build both from one commit")
    })
}

/// What the harness wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ask {
    /// The agent's clock.
    Time,
    /// Connections for this load.
    Connect(Box<LoadOrder>),
    /// See [`Engine::hold_back`](crate::load::engine::Engine::hold_back).
    HoldBack { class: usize, is_held_back: bool },
    /// Each request of a class once, so that the agent knows all files.
    VisitAll { class: usize },
    /// Load from a moment of the agent's clock on.
    Run { at_ns: u64, window_ns: u64, slice_ns: Option<u64> },
    /// The connections can go.
    Release,
}

/// What the agent answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    Welcome(Box<Host>),
    /// It works for another harness.
    Busy,
    /// Nanoseconds since the agent's start.
    Time {
        ns: u64,
    },
    Done,
    /// What the load has shown, and how long after the moment it began.
    Ran {
        outcome: Box<OutcomeReport>,
        late_ns: u64,
    },
    /// The agent won't do it.
    Refused {
        reason: String,
    },
    /// The server under test has failed it, or this agent's machine is at a limit.
    Failed {
        kind: String,
        line: String,
    },
}

/// The machine that an agent runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) name: String,
    /// `uname -r` and `-v`.
    pub(crate) kernel: Option<String>,
    pub(crate) processor: Option<String>,
    /// Online CPUs, as the kernel lists them.
    pub(crate) cpus: Option<String>,
    pub(crate) clock_source: Option<String>,
}

/// An agent's part of a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadOrder {
    pub(crate) target: SocketAddr,
    pub(crate) classes: Vec<ClassOrder>,
    pub(crate) seed: u64,
    pub(crate) phase: f64,
    /// Whether it may keep a CPU busy while it waits: not on the server's machine.
    pub(crate) busy_polls: bool,
}

/// A [`Class`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassOrder {
    pub(crate) name: String,
    pub(crate) connections: usize,
    pub(crate) pacing: Pacing,
    pub(crate) life: Life,
    pub(crate) reading: ReadPace,
    pub(crate) order: Order,
    pub(crate) conditional: f64,
    pub(crate) requests: Vec<RequestOrder>,
}

/// A [`Request`]. Not its bytes: an agent sends GETs and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestOrder {
    pub(crate) host: String,
    pub(crate) path: String,
    /// Fields besides, each with its line's end; empty unless the answer is negotiated.
    pub(crate) fields: String,
    /// For a negotiated one: whether coding makes the file smaller.
    pub(crate) is_text: Option<bool>,
    pub(crate) status: u16,
    pub(crate) body_bytes: u64,
}

impl LoadOrder {
    pub(crate) fn new(target: SocketAddr, part: &Part, busy_polls: bool) -> LoadOrder {
        let classes = part.classes.iter().map(ClassOrder::new).collect();
        LoadOrder { target, classes, seed: part.seed, phase: part.phase, busy_polls }
    }

    /// The classes to connect.
    ///
    /// # Errors
    ///
    /// What no harness would ask for.
    pub(crate) fn classes(&self) -> Result<Vec<Class>, String> {
        if self.classes.is_empty() || !(0.0..=1.0).contains(&self.phase) {
            return Err("a load has classes, and a phase from 0 to 1".to_owned());
        }
        self.classes.iter().map(ClassOrder::class).collect()
    }
}

impl ClassOrder {
    fn new(class: &Class) -> ClassOrder {
        ClassOrder {
            name: class.name.clone(),
            connections: class.connections,
            pacing: class.pacing.clone(),
            life: class.life,
            reading: class.reading,
            order: class.asks.order().clone(),
            conditional: class.asks.conditional(),
            requests: class.asks.requests().iter().map(RequestOrder::new).collect(),
        }
    }

    /// The highest rate of an open loop.
    pub(crate) fn rate_max(&self) -> Option<f64> {
        let Pacing::Open { per_second, steps, .. } = &self.pacing else {
            return None;
        };
        let highest = steps.iter().map(|(_, factor)| *factor).reduce(f64::max).unwrap_or(1.0);
        Some(per_second * highest)
    }

    /// The class, if it is one: an engine takes it for granted that its classes make sense.
    fn class(&self) -> Result<Class, String> {
        let is_above = |number: f64| number > 0.0 && number.is_finite();
        let paced = match &self.pacing {
            Pacing::Closed => true,
            Pacing::Idle => self.life == Life::KeepAlive,
            Pacing::Open { per_second, steps, .. } => {
                is_above(*per_second) && steps.iter().all(|(_, factor)| is_above(*factor))
            }
        };
        let ordered = match &self.order {
            Order::InTurn | Order::Once => true,
            Order::Introduced { visits, apart } => {
                (1..=VISITS_MAX).contains(visits) && *apart <= self.requests.len() && self.is_negotiated()
            }
            Order::Weighted(weights) => {
                weights.len() == self.requests.len()
                    && weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite())
                    && is_above(weights.iter().sum())
            }
        };
        let conditional =
            (0.0..=1.0).contains(&self.conditional) && (self.conditional == 0.0 || self.is_negotiated());
        let reads = self.reading != ReadPace::Slow { bytes_per_second: 0 };
        let lives = self.life != Life::Requests(0);
        let some = self.connections > 0 && !self.requests.is_empty();
        if !(paced && ordered && conditional && reads && lives && some) {
            return Err("a class of connections doesn't make sense".to_owned());
        }
        let requests: Vec<Request> =
            self.requests.iter().map(RequestOrder::request).collect::<Result<_, _>>()?;
        let asks = Asks::new(requests, self.order.clone());
        let asks = if self.conditional > 0.0 { asks.with_conditions(self.conditional) } else { asks };
        Ok(Class {
            name: self.name.clone(),
            connections: self.connections,
            pacing: self.pacing.clone(),
            life: self.life,
            reading: self.reading,
            asks,
        })
    }

    fn is_negotiated(&self) -> bool {
        self.requests.iter().all(|request| request.is_text.is_some())
    }
}

/// More visits of one new file than any scenario makes.
const VISITS_MAX: usize = 16;

impl RequestOrder {
    fn new(request: &Request) -> RequestOrder {
        let (host, path, fields) = request.parts().expect("a request is what it was made of");
        let Expected { status, body_bytes } = request.expected();
        RequestOrder {
            host: host.to_owned(),
            path: path.to_owned(),
            fields: fields.to_owned(),
            is_text: request.choice().map(|choice| choice.is_text),
            status,
            body_bytes,
        }
    }

    /// The request, if it is one and nothing besides.
    fn request(&self) -> Result<Request, String> {
        let expected = Expected { status: self.status, body_bytes: self.body_bytes };
        let request = match self.is_text {
            None if self.fields.is_empty() => Request::new(&self.host, &self.path, expected),
            None => return Err("only a negotiated request has fields".to_owned()),
            Some(is_text) => Request::negotiated(&self.host, &self.path, &self.fields, is_text, expected),
        };
        let bytes = request.bytes(false);
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        let is_one =
            parsed.parse(bytes).is_ok_and(|status| status == httparse::Status::Complete(bytes.len()));
        let is_plain = parsed.path == Some(self.path.as_str())
            && parsed.headers.first().is_some_and(|field| field.value == self.host.as_bytes());
        let has_body = parsed.headers.iter().any(|field| {
            ["content-length", "transfer-encoding"].iter().any(|name| field.name.eq_ignore_ascii_case(name))
        });
        if is_one && is_plain && !has_body { Ok(request) } else { Err("a request isn't one GET".to_owned()) }
    }
}

/// More fields than any browser sends.
const FIELDS_MAX: usize = 32;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::load::class::Arrivals;
    use crate::load::share::share;

    /// A part of an open loop.
    pub(crate) fn order() -> LoadOrder {
        let expected = Expected { status: 200, body_bytes: 7 };
        let plain = Request::new("10.0.0.1:80", "/a?b", expected);
        let fields = "Accept: */*\r\nAccept-Encoding: br\r\n";
        let browser = |path: &str| Request::negotiated("10.0.0.1:80", path, fields, true, expected);
        let asks = Asks::new([browser("/x"), browser("/y")], Order::Weighted(vec![1.0, 0.1]));
        let pacing = Pacing::Open { per_second: 100.1, arrivals: Arrivals::Poisson, steps: Vec::new() };
        let classes = [
            Class { pacing, ..Class::closed("hot", 8, asks.with_conditions(0.3)) },
            Class { life: Life::Requests(10), ..Class::closed("churn", 4, Asks::one(plain.clone())) },
            Class {
                reading: ReadPace::Slow { bytes_per_second: 4_096 },
                ..Class::closed("slow", 2, Asks::new([plain], Order::Once))
            },
        ];
        LoadOrder::new("10.0.0.1:80".parse().unwrap(), &share(&classes, 1, 7)[0], true)
    }

    #[test]
    fn a_load_arrives_as_it_was_sent() {
        let order = order();
        let line = serde_json::to_string(&Ask::Connect(Box::new(order.clone()))).unwrap();
        let Ask::Connect(arrived) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        assert_eq!(*arrived, order);
        let again: Vec<ClassOrder> = arrived.classes().unwrap().iter().map(ClassOrder::new).collect();
        assert_eq!(again, order.classes, "what the engine gets says the same");
        assert_eq!(order.classes[0].rate_max(), Some(100.1));
    }

    #[test]
    fn what_no_harness_asks_for_is_refused() {
        type Spoil = fn(&mut ClassOrder);
        let table: [(&str, Spoil); 16] = [
            ("no connections", |class| class.connections = 0),
            ("no requests", |class| class.requests.clear()),
            ("a weight too few", |class| class.requests.truncate(1)),
            ("no weight", |class| class.order = Order::Weighted(vec![0.0, 0.0])),
            ("a weight below 0", |class| class.order = Order::Weighted(vec![2.0, -1.0])),
            ("a share above 1", |class| class.conditional = 1.5),
            ("a request that isn't negotiated", |class| class.requests[0].is_text = None),
            ("no visits", |class| class.order = Order::Introduced { visits: 0, apart: 1 }),
            ("endless visits", |class| class.order = Order::Introduced { visits: 1 << 40, apart: 1 }),
            ("no reading", |class| class.reading = ReadPace::Slow { bytes_per_second: 0 }),
            ("no life", |class| class.life = Life::Requests(0)),
            ("no rate", |class| {
                class.pacing =
                    Pacing::Open { per_second: 0.0, arrivals: Arrivals::Poisson, steps: Vec::new() };
            }),
            ("a second request", |class| {
                class.requests[0].path = "/ HTTP/1.1\r\nHost: a\r\n\r\nPOST /".to_owned();
            }),
            ("another host", |class| class.requests[0].host = "a\r\nX: y".to_owned()),
            ("an end of the head", |class| class.requests[0].fields = "A: b\r\n\r\n".to_owned()),
            ("a body", |class| class.requests[0].fields = "Content-Length: 9\r\n".to_owned()),
        ];
        for (name, spoil) in table {
            let mut order = order();
            spoil(&mut order.classes[0]);
            assert!(order.classes().is_err(), "{name}");
        }
        assert!(LoadOrder { classes: Vec::new(), ..order() }.classes().is_err());
        assert!(LoadOrder { phase: f64::NAN, ..order() }.classes().is_err());
    }

    #[test]
    fn builds_that_differ_are_told_in_a_line() {
        assert_eq!(mismatch(PROTOCOL, SOURCES, "harness"), None);
        let older = mismatch(0, SOURCES, "harness").unwrap();
        assert_eq!(older, "it speaks version 0 of the protocol, this harness 1; build both from one commit");
        let other = mismatch(PROTOCOL, "abc\n\u{1b}[31mdef", "agent").unwrap();
        assert_eq!(
            other,
            format!("its load generator is abc31mdef, this agent's {SOURCES}; build both from one commit")
        );
    }
}

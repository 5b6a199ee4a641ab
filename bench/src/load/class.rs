//! What one group of connections does.

use crate::load::request::Request;
use crate::random::Random;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A group of connections that behave alike, with histograms of its own.
#[derive(Clone, Debug)]
pub struct Class {
    /// How it is called in outcomes: "hot", "slow".
    pub name: String,
    /// How many connections it has at most.
    pub connections: usize,
    /// When it asks.
    pub pacing: Pacing,
    /// How long a connection lives.
    pub life: Life,
    /// How fast it reads the answers.
    pub reading: ReadPace,
    /// What it asks for.
    pub asks: Asks,
}

impl Class {
    /// A closed loop over kept connections that reads at once.
    pub(crate) fn closed(name: &str, connections: usize, asks: Asks) -> Class {
        Class {
            name: name.to_owned(),
            connections,
            pacing: Pacing::Closed,
            life: Life::KeepAlive,
            reading: ReadPace::AtOnce,
            asks,
        }
    }
}

/// When a class asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pacing {
    /// Each connection sends its next request when it is answered: measures service time and capacity.
    Closed,
    /// Requests follow a schedule, whatever the server does: measures response time. A request that finds all
    /// connections busy queues for the next free one.
    Open {
        /// Arrivals per second, over all connections of the class; above 0.
        per_second: f64,
        /// How they are spread.
        arrivals: Arrivals,
        /// Phases of the window with their own rate: length and factor. The last factor holds until the end.
        steps: Vec<(Duration, f64)>,
    },
    /// Sends one request when the engine connects, to know that the connection was accepted, then stays idle.
    Idle,
}

impl Pacing {
    /// Arrivals per second over all stretches; `None` where there is no schedule.
    pub(crate) fn mean_rate(&self) -> Option<f64> {
        let Pacing::Open { per_second, steps, .. } = self else {
            return None;
        };
        let length: f64 = steps.iter().map(|(length, _)| length.as_secs_f64()).sum();
        if length <= 0.0 {
            return Some(*per_second);
        }
        let work: f64 = steps.iter().map(|(length, factor)| length.as_secs_f64() * factor).sum();
        Some(per_second * work / length)
    }
}

/// How the arrivals of an open loop are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Independent of each other: the gaps are exponentially distributed.
    Poisson,
    /// Evenly spaced.
    Constant,
}

/// How long a connection of a class lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// As long as the engine.
    KeepAlive,
    /// This many requests, at least one. The last one says `Connection: close`, and the server has to end the
    /// connection after its answer.
    Requests(u32),
}

impl Life {
    /// Whether the `nth` request of a connection, from 1, is its last.
    pub(crate) fn ends_with(self, nth: u32) -> bool {
        match self {
            Life::KeepAlive => false,
            Life::Requests(count) => nth >= count,
        }
    }
}

/// How fast a class reads its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadPace {
    /// As fast as they come.
    AtOnce,
    /// In small reads at this mean rate, through a small receive buffer, so that a server can't push a body
    /// into the kernel and forget it. Answers in flight when a run ends continue in the next one.
    Slow {
        /// Bytes per second and connection; above 0.
        bytes_per_second: u64,
    },
}

/// What a class asks for.
#[derive(Clone, Debug)]
pub struct Asks {
    requests: Arc<[Request]>,
    order: Order,
    /// For [`Order::Weighted`]: the share of the requests up to each one, rising to 1.
    cumulative: Arc<[f64]>,
    /// For [`Order::Introduced`]: the requests that introduce.
    introduction: Arc<[usize]>,
    conditional: f64,
}

/// In which order a class asks for its requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// One after another, then from the beginning.
    InTurn,
    /// Drawn by these weights, one per request: any scale, none below 0, not all of them 0.
    Weighted(Vec<f64>),
    /// As files become known to the world: one after another, each so often at first, with so many others' beginnings
    /// between two visits. Then in turn.
    Introduced {
        /// How often each is asked for until it is known; at least once.
        visits: usize,
        /// How many others begin between two visits.
        apart: usize,
    },
    /// Each at most once in the life of the engine. Then the class stops, and its outcome says so.
    Once,
}

impl Asks {
    /// At least one request; weights, if any, one per request.
    pub fn new(requests: impl Into<Arc<[Request]>>, order: Order) -> Asks {
        let requests = requests.into();
        assert!(!requests.is_empty(), "a class asks for something");
        let cumulative = match &order {
            Order::InTurn | Order::Introduced { .. } | Order::Once => Vec::new(),
            Order::Weighted(weights) => {
                assert_eq!(weights.len(), requests.len(), "each request has a weight");
                cumulative(weights)
            }
        };
        let introduction = match order {
            Order::Introduced { visits, apart } => introduction(requests.len(), visits, apart),
            Order::InTurn | Order::Weighted(_) | Order::Once => Vec::new(),
        };
        let (cumulative, introduction) = (cumulative.into(), introduction.into());
        Asks { requests, order, cumulative, introduction, conditional: 0.0 }
    }

    /// This share of the requests asks whether the file is still the one that came last, with the validators that came
    /// with it; all of them are negotiated. A file that hasn't come yet, or came without validators, is asked for
    /// without a condition.
    #[must_use]
    pub fn with_conditions(mut self, share: f64) -> Asks {
        assert!((0.0..=1.0).contains(&share), "a share");
        assert!(
            self.requests.iter().all(|request| request.choice().is_some()),
            "304 is a right answer to all of them"
        );
        self.conditional = share;
        self
    }

    /// Whether any request asks with validators.
    pub(crate) fn has_conditions(&self) -> bool {
        self.conditional > 0.0
    }

    /// Whether it introduces what it asks for.
    pub(crate) fn introduces(&self) -> bool {
        matches!(self.order, Order::Introduced { .. })
    }

    /// The same request again and again.
    pub fn one(request: Request) -> Asks {
        Asks::new([request], Order::InTurn)
    }

    pub(crate) fn requests(&self) -> &[Request] {
        &self.requests
    }

    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    /// The share of the requests that ask with validators.
    pub(crate) fn conditional(&self) -> f64 {
        self.conditional
    }

    /// Whether each request is for one client alone, where several share a load: once is once, and new is new.
    pub(crate) fn is_shared_out(&self) -> bool {
        matches!(self.order, Order::Introduced { .. } | Order::Once)
    }

    /// What the `part`-th of `parts` clients asks for: every request, or every `parts`-th of them where they are shared out.
    pub(crate) fn part(&self, part: usize, parts: usize) -> Asks {
        if !self.is_shared_out() {
            return self.clone();
        }
        let requests: Vec<Request> = self.requests.iter().skip(part).step_by(parts).cloned().collect();
        Asks { conditional: self.conditional, ..Asks::new(requests, self.order.clone()) }
    }
}

/// The numbers of `count` requests, each `visits` times, `apart` beginnings after its last visit.
fn introduction(count: usize, visits: usize, apart: usize) -> Vec<usize> {
    assert!(visits > 0, "each is asked for");
    let beginnings = count + apart * (visits - 1);
    let due = |begun: usize| {
        let visit = move |visit: usize| begun.checked_sub(visit * apart);
        (0..visits).filter_map(visit).filter(move |number| *number < count)
    };
    (0..beginnings).flat_map(due).collect()
}

fn cumulative(weights: &[f64]) -> Vec<f64> {
    assert!(weights.iter().all(|weight| *weight >= 0.0), "no weight is below 0");
    let total: f64 = weights.iter().sum();
    assert!(total > 0.0, "some weight is above 0");
    let mut sum = 0.0;
    let share = |weight: &f64| {
        sum += weight;
        sum / total
    };
    weights.iter().map(share).collect()
}

pub(crate) struct Picker {
    asks: Asks,
    next: usize,
    random: Random,
}

impl Picker {
    pub(crate) fn new(asks: Asks) -> Picker {
        Picker { asks, next: 0, random: Random::new(0) }
    }

    /// Restarts the random sequence. Requests for [`Order::Once`] stay used up.
    pub(crate) fn begin(&mut self, random: Random) {
        self.random = random;
        if self.asks.order != Order::Once {
            self.next = 0;
        }
    }

    pub(crate) fn asks(&self) -> &Asks {
        &self.asks
    }

    /// The number of the next request; `None` when all are used up.
    pub(crate) fn pick(&mut self) -> Option<usize> {
        let count = self.asks.requests.len();
        match self.asks.order {
            Order::InTurn => {
                let picked = self.next;
                self.next = if picked + 1 == count { 0 } else { picked + 1 };
                Some(picked)
            }
            Order::Introduced { .. } => {
                let picked = self.next;
                self.next += 1;
                let known = |picked| (picked - self.asks.introduction.len()) % count;
                Some(self.asks.introduction.get(picked).copied().unwrap_or_else(|| known(picked)))
            }
            Order::Weighted(_) => {
                let draw = self.random.fraction();
                Some(self.asks.cumulative.partition_point(|share| *share <= draw).min(count - 1))
            }
            Order::Once => {
                let picked = self.next;
                self.next += 1;
                (picked < count).then_some(picked)
            }
        }
    }

    /// Whether the next request is one that asks with validators. Draws only for a class that has such requests, so that
    /// the others' sequences stay what they are.
    pub(crate) fn is_conditional(&mut self) -> bool {
        self.asks.has_conditions() && self.random.fraction() < self.asks.conditional
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.asks.order == Order::Once && self.next >= self.asks.requests.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::request::Expected;

    fn picker(count: usize, order: Order) -> Picker {
        let request = |number| {
            Request::new("localhost", &format!("/{number}"), Expected { status: 200, body_bytes: 1 })
        };
        Picker::new(Asks::new((0..count).map(request).collect::<Vec<_>>(), order))
    }

    #[test]
    fn in_turn_begins_again() {
        let mut picker = picker(3, Order::InTurn);
        let picked: Vec<_> = (0..7).map_while(|_| picker.pick()).collect();
        assert_eq!(picked, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn once_is_once_over_all_runs() {
        let mut picker = picker(3, Order::Once);
        picker.begin(Random::new(1));
        assert_eq!((picker.pick(), picker.pick(), picker.is_used_up()), (Some(0), Some(1), false));
        picker.begin(Random::new(2));
        assert_eq!((picker.pick(), picker.is_used_up(), picker.pick()), (Some(2), true, None));
    }

    #[test]
    fn what_is_introduced_is_visited_while_others_begin() {
        let mut picker = picker(4, Order::Introduced { visits: 3, apart: 2 });
        let picked: Vec<_> = (0..20).map_while(|_| picker.pick()).collect();
        assert_eq!(
            picked[..12],
            [0, 1, 2, 0, 3, 1, 2, 0, 3, 1, 2, 3],
            "each three times, two beginnings apart"
        );
        assert_eq!(picked[12..], [0, 1, 2, 3, 0, 1, 2, 3], "then in turn");
        picker.begin(Random::new(1));
        assert_eq!((picker.pick(), picker.pick()), (Some(0), Some(1)));
    }

    #[test]
    fn weights_are_shares() {
        let mut picker = picker(4, Order::Weighted(vec![35.0, 50.0, 0.0, 15.0]));
        picker.begin(Random::new(5));
        let mut counts = [0_u32; 4];
        for _ in 0..100_000 {
            counts[picker.pick().unwrap()] += 1;
        }
        assert_eq!(counts[2], 0);
        assert!((34_500..35_500).contains(&counts[0]), "{counts:?}");
        assert!((14_600..15_400).contains(&counts[3]), "{counts:?}");
    }

    #[test]
    fn the_last_of_a_connection() {
        assert!(!Life::KeepAlive.ends_with(u32::MAX));
        assert!(Life::Requests(1).ends_with(1));
        assert!(!Life::Requests(3).ends_with(2) && Life::Requests(3).ends_with(3));
    }
}

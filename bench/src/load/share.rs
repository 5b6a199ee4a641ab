//! A load in parts, for several clients that together do what one would.

use crate::load::class::{Class, Pacing};
use crate::random::Random;

/// What one of several clients does.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Which of the classes it has a part of, by their numbers.
    pub(crate) numbers: Vec<usize>,
    /// These, with its share of their connections and rates.
    pub(crate) classes: Vec<Class>,
    /// What everything random in it follows from.
    pub(crate) seed: u64,
    /// Its constant arrivals are this share of a gap earlier.
    pub(crate) phase: f64,
}

/// Divides the connections of each class among `count` clients, and its rate with them. A class with fewer connections than
/// clients isn't on all of them.
pub(crate) fn share(classes: &[Class], count: usize, seed: u64) -> Vec<Part> {
    let part = |part: usize| {
        let of_class = |(number, class): (usize, &Class)| Some((number, share_of(class, part, count)?));
        let (numbers, classes) = classes.iter().enumerate().filter_map(of_class).unzip();
        let seed = Random::stream(seed, part as u64).draw();
        Part { numbers, classes, seed, phase: part as f64 / count as f64 }
    };
    (0..count).map(part).collect()
}

/// `None` where nothing is left for this client.
fn share_of(class: &Class, part: usize, count: usize) -> Option<Class> {
    let requests = class.asks.requests().len();
    let count = if class.asks.is_shared_out() { count.min(requests) } else { count };
    if part >= count {
        return None;
    }
    let connections = class.connections / count + usize::from(part < class.connections % count);
    if connections == 0 {
        return None;
    }
    let mut pacing = class.pacing.clone();
    if let Pacing::Open { per_second, .. } = &mut pacing {
        *per_second *= connections as f64 / class.connections as f64;
    }
    // As many clients have connections, so many have requests.
    let asking = count.min(class.connections);
    Some(Class { connections, pacing, asks: class.asks.part(part, asking), ..class.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::class::{Arrivals, Asks, Order};
    use crate::load::request::{Expected, Request};
    use std::collections::BTreeSet;

    fn requests(count: usize) -> Vec<Request> {
        let expected = Expected { status: 200, body_bytes: 1 };
        (0..count).map(|number| Request::new("a", &format!("/{number}"), expected)).collect()
    }

    fn open(connections: usize, order: Order) -> Class {
        let pacing = Pacing::Open { per_second: 1_000.0, arrivals: Arrivals::Poisson, steps: Vec::new() };
        Class { pacing, ..Class::closed("hot", connections, Asks::new(requests(10), order)) }
    }

    /// Connections, rates and requests that are shared out add up, whatever their number.
    #[test]
    fn the_parts_are_the_whole() {
        for (connections, count) in [(64, 1), (64, 2), (64, 3), (7, 4), (2, 3), (1, 5), (16, 16), (40, 16)] {
            let classes = [open(connections, Order::InTurn), open(connections, Order::Once)];
            let parts = share(&classes, count, 7);
            assert_eq!(parts.len(), count);
            for number in 0..classes.len() {
                let of_class = |part: &Part| {
                    let place = part.numbers.iter().position(|known| *known == number)?;
                    Some(part.classes[place].clone())
                };
                let shares: Vec<Class> = parts.iter().filter_map(of_class).collect();
                let sum: usize = shares.iter().map(|class| class.connections).sum();
                let rate: f64 = shares.iter().filter_map(|class| class.pacing.mean_rate()).sum();
                assert_eq!(sum, connections, "{connections} on {count}");
                assert!((rate - 1_000.0).abs() < 1e-6, "{connections} on {count}: {rate}");
                assert!(shares.iter().all(|class| class.connections > 0));
                let paths = shares.iter().flat_map(|class| class.asks.requests());
                let paths: Vec<&str> = paths.filter_map(|request| Some(request.parts()?.1)).collect();
                let different: BTreeSet<&str> = paths.iter().copied().collect();
                assert_eq!(different.len(), 10, "{connections} on {count}");
                let expected = if number == 1 { 10 } else { 10 * shares.len() };
                assert_eq!(paths.len(), expected, "{connections} on {count}: once is once");
            }
        }
    }

    #[test]
    fn parts_are_random_in_their_own_way() {
        let parts = share(&[open(64, Order::InTurn)], 3, 7);
        let seeds: BTreeSet<u64> = parts.iter().map(|part| part.seed).collect();
        assert_eq!(seeds.len(), 3);
        let again = share(&[open(64, Order::InTurn)], 3, 7);
        assert!(again.iter().zip(&parts).all(|(again, part)| again.seed == part.seed));
    }
}

//! The pause between two turns of a client with many connections.
//!
//! On loopback, a server that sends to a sleeping client pays for waking it, which no server does across a
//! network: there, the card raises an interrupt on the other machine, and moderates how often. So a closed
//! loop of many connections does as a card does and rests between two looks at its sockets, as long as the
//! server has enough to do. Throughput doesn't fall by it; the wake-ups leave the server's bill, and the
//! context switches the client's.

use crate::load::class::{Class, Pacing, Reading};
use std::time::Duration;

/// Fewer connections than this are looked at as soon as the kernel says so.
const CONNECTIONS_MIN: usize = 16;
/// How long a client rests, by the number of its connections; from 64 of them on as long as common cards
/// hold an interrupt back.
const PER_CONNECTION: Duration = Duration::from_nanos(1_500);
const PAUSE_MAX: Duration = Duration::from_micros(96);

/// It never starves the server: it is taken only after a turn that found less than half of the connections
/// ready, so more than half of them have a request at the server, and no server answers one in less than
/// twice [`PER_CONNECTION`].
#[derive(Clone, Copy)]
pub(crate) struct Rest {
    /// Whose events count.
    group: usize,
    pause: Duration,
    ready_below: usize,
}

impl Rest {
    /// `None` where a rest would show: with requests that are due at times of their own, with several closed
    /// loops (one may be all that keeps the server busy, while another waits for a disk), or with few
    /// connections.
    pub(crate) fn for_classes(classes: &[Class]) -> Option<Rest> {
        if classes.iter().any(|class| matches!(class.pacing, Pacing::Open { .. })) {
            return None;
        }
        let is_loop = |class: &Class| class.pacing == Pacing::Closed && class.reading == Reading::AtOnce;
        let mut loops = classes.iter().enumerate().filter(|(_, class)| is_loop(class));
        let (Some((group, class)), None) = (loops.next(), loops.next()) else {
            return None;
        };
        Rest::between(group, class.connections)
    }

    fn between(group: usize, connections: usize) -> Option<Rest> {
        if connections < CONNECTIONS_MIN {
            return None;
        }
        let factor = u32::try_from(connections).unwrap_or(u32::MAX);
        let pause = PER_CONNECTION.saturating_mul(factor).min(PAUSE_MAX);
        Some(Rest { group, pause, ready_below: connections / 2 })
    }

    pub(crate) fn group(self) -> usize {
        self.group
    }

    pub(crate) fn after(self, ready: usize) {
        if ready < self.ready_below {
            std::thread::sleep(self.pause);
        }
    }
}

//! A closed loop with many connections polls in batches: it pauses between two polls.
//!
//! On loopback, a server that sends to a sleeping client pays for waking it. Across a network it doesn't: the
//! network card raises the interrupt on the other machine, and moderates the rate. The pause does what interrupt
//! moderation does. It costs no throughput, because it is taken only while the server has enough to do.

use crate::load::class::{Class, Pacing, ReadPace};
use std::time::Duration;

/// With fewer connections there is no pause.
const CONNECTIONS_MIN: usize = 16;
/// The pause per connection; from 64 connections on it is as long as common cards hold an interrupt back.
const PER_CONNECTION: Duration = Duration::from_nanos(1_500);
const PAUSE_MAX: Duration = Duration::from_micros(96);

/// It never starves the server: it is taken only after a turn that found less than half of the connections
/// ready. So more than half have a request at the server, and no server answers one in less than twice
/// [`PER_CONNECTION`].
#[derive(Clone, Copy)]
pub(crate) struct PollPause {
    group: usize,
    pause: Duration,
    ready_below: usize,
}

impl PollPause {
    /// `None` where a pause would show in the results: in an open loop, with several closed loops (one may be
    /// all that keeps the server busy while another waits for a disk), or with few connections.
    pub(crate) fn for_classes(classes: &[Class]) -> Option<PollPause> {
        if classes.iter().any(|class| matches!(class.pacing, Pacing::Open { .. })) {
            return None;
        }
        let is_loop = |class: &Class| class.pacing == Pacing::Closed && class.reading == ReadPace::AtOnce;
        let mut loops = classes.iter().enumerate().filter(|(_, class)| is_loop(class));
        let (Some((group, class)), None) = (loops.next(), loops.next()) else {
            return None;
        };
        PollPause::between(group, class.connections)
    }

    fn between(group: usize, connections: usize) -> Option<PollPause> {
        if connections < CONNECTIONS_MIN {
            return None;
        }
        let factor = u32::try_from(connections).unwrap_or(u32::MAX);
        let pause = PER_CONNECTION.saturating_mul(factor).min(PAUSE_MAX);
        Some(PollPause { group, pause, ready_below: connections / 2 })
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

//! The end: a signal ends a server soon, whatever its clients do.

use std::time::{Duration, Instant};

use lab::rungs::Rung;
use rustix::process::Signal;

use crate::server::Server;
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[("ending::a_signal_ends_it_soon", a_signal_ends_it_soon)];

fn a_signal_ends_it_soon(rung: &'static Rung) -> Outcome {
    const END_MAX: Duration = Duration::from_secs(3);
    for (signal, limits) in [(Signal::INT, "true"), (Signal::TERM, "true"), (Signal::TERM, "ulimit -n 40")] {
        let server = Server::start_limited(rung, "echo", limits)?;
        let _idle = server.connect_served()?;
        let mut slow = server.connect()?;
        slow.send_until_blocked(64 << 20)?;
        // With the last limit, some are left in the queue.
        let mut waiting = Vec::new();
        for _ in 0..40 {
            waiting.push(server.connect()?);
        }
        let begun = Instant::now();
        let status = server.end(signal)?;
        if !status.success() || begun.elapsed() > END_MAX {
            return Err(format!("{status} after {:?}", begun.elapsed()).into());
        }
    }
    Ok(())
}

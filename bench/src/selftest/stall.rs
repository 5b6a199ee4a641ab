//! A server that stops for a second: the open loop has to see all of it, the closed loop can't.

use super::fake::FakeServer;
use super::{
    Bound, CheckResult, Client, Reading, class, engine, only_class, response_ms, seconds, undisturbed,
};
use crate::failure::{Failure, Result};
use crate::load::class::{Arrivals, Pacing};
use crate::load::outcome::Outcome;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(4);
const STALL_START: Duration = Duration::from_millis(1_500);
const STALL: Duration = Duration::from_secs(1);
const PER_SECOND: f64 = 500.0;
const CONNECTIONS: usize = 8;

/// What a server does whose every answer takes `service`, and that stops for [`STALL`].
fn measure(client: Client, pacing: Pacing, service: Duration) -> Result<(FakeServer, Outcome)> {
    let start = Arc::new(OnceLock::<Instant>::new());
    let known = Arc::clone(&start);
    let server = FakeServer::start(move |now| {
        let done = now + service;
        let Some(start) = known.get() else { return done };
        let stall = *start + STALL_START..*start + STALL_START + STALL;
        if stall.contains(&now) { stall.end } else { done }
    })?;
    let probe = class(&server, CONNECTIONS, pacing);
    let mut engine = engine(&server, probe, client, 1)?;
    start.get_or_init(Instant::now);
    let outcome = engine.run(WINDOW, None).map_err(Failure::context("load"))?;
    Ok((server, outcome))
}

/// Who comes when there are `rest` left of the stall waits so long; so the share of those who wait longer
/// than x is (stall − x) / window, and the quantile q lies at stall − (1 − q) · window.
pub(super) fn open_loop(client: Client) -> Result<CheckResult> {
    undisturbed(|| {
        let pacing = Pacing::Open { per_second: PER_SECOND, arrivals: Arrivals::Constant, steps: Vec::new() };
        let (server, outcome) = measure(client, pacing, Duration::ZERO)?;
        let class = only_class(&outcome)?;
        let mut readings = Vec::new();
        for at in [0.85, 0.9, 0.95] {
            let expected = (STALL.as_secs_f64() - (1.0 - at) * WINDOW.as_secs_f64()) * 1e3;
            let measured = response_ms(class, at)?;
            readings.push(Reading::near(
                format!("response p{:.0}", at * 100.0),
                measured,
                expected,
                0.02,
                "ms",
            ));
        }
        let longest = class.response.as_ref().map_or(0, |response| response.max());
        readings.push(Reading::near("longest response", seconds(longest) * 1e3, 1_000.0, 0.02, "ms"));
        let all = PER_SECOND * WINDOW.as_secs_f64() - 1.0;
        readings.push(Reading::near("answers", class.answers as f64, all, 0.0, "answers"));
        Ok((server, outcome, readings))
    })
}

/// Only one request per connection meets the stall, among thousands: the 99th percentile is the service time.
pub(super) fn closed_loop() -> Result<CheckResult> {
    const SERVICE: Duration = Duration::from_millis(4);
    undisturbed(|| {
        let (server, outcome) = measure(Client::Asleep, Pacing::Closed, SERVICE)?;
        let class = only_class(&outcome)?;
        let long = u64::try_from(STALL.as_nanos() / 2).unwrap_or(u64::MAX);
        let stalled = class.service.count_between(long, class.service.high());
        let readings = vec![
            Reading {
                what: "service p99".to_owned(),
                measured: seconds(class.service.value_at_quantile(0.99)) * 1e3,
                bound: Bound::AtMost(STALL.as_secs_f64() * 1e3 / 50.0),
                unit: "ms, though the server stood still for 1,000 ms",
            },
            Reading::at_least("answers", class.answers as f64, 100.0 * CONNECTIONS as f64, "answers"),
            Reading::near("answers that met the stall", stalled as f64, CONNECTIONS as f64, 0.0, "answers"),
        ];
        Ok((server, outcome, readings))
    })
}

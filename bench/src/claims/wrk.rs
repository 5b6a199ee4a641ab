//! wrk(1), the load generator by which the texts count requests per second.
//!
//! It runs where this project's client runs otherwise, on a CPU of its own, and the server on another one. It asks again
//! as soon as it is answered, so its rate is the server's capacity, unless its own CPU is the limit: then it only shows
//! that the server does no less.

use crate::analysis::stats::ratio_estimate;
use crate::claims::bound::{Bound, Decision, Scale};
use crate::claims::chapter::Loads;
use crate::claims::evidence::Reason;
use crate::claims::judge::{Found, Number, Outcome};
use crate::claims::quantity::Unit;
use crate::claims::wording;
use crate::failure::{Failure, Result};
use crate::load::descriptors;
use crate::machine::disturbance::CpuAccount;
use crate::machine::placement::Placement;
use crate::selftest::cpu_of_children;
use crate::server::calls::Counting;
use crate::server::catalogue;
use crate::server::process::Server;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// As the texts run it: `wrk -t4 -c1000`.
const THREADS: usize = 4;
const CONNECTIONS: usize = 1_000;
const SECONDS: u32 = 2;
/// Each with a fresh server.
const ROUNDS: usize = 5;
/// Rounds that other work disturbed are repeated, so that there are at most so many in all.
const ATTEMPTS_MAX: usize = 10;
/// From this share of its CPU on wrk was the limit.
const LIMIT_BUSY: f64 = 0.98;
/// What it needs besides a socket for each connection: an epoll instance for each thread, and some more.
const OTHERS_MAX: usize = 64;

/// Loads a server of the catalogue, as often as an interval needs. What stands in the way is the reason why there are no
/// rates. The calling thread is pinned to the client's CPU, and wrk inherits that.
pub(crate) fn load(
    target: &str,
    root: &Path,
    placement: Placement,
    is_over: impl Fn() -> bool,
) -> std::result::Result<Loads, Reason> {
    match Command::new("wrk").arg("--version").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err("wrk isn't installed".to_owned()),
        Err(error) => return Err(format!("wrk can't be run: {error}")),
        Ok(_) => {}
    }
    // wrk inherits the limit.
    descriptors::provide(CONNECTIONS + OTHERS_MAX).map_err(|error| error.to_string())?;
    let mut loads = Loads::default();
    for _ in 0..ATTEMPTS_MAX {
        if is_over() {
            return Err("it was interrupted".to_owned());
        }
        let found = round(target, root, placement).map_err(|failure| failure.to_string())?;
        if let Some((rate, busy)) = found {
            loads.rates.push(rate);
            loads.client_busy = loads.client_busy.max(busy);
        }
        if loads.rates.len() == ROUNDS {
            return Ok(loads);
        }
    }
    Err(format!("other work disturbed all but {} of {ATTEMPTS_MAX} rounds", loads.rates.len()))
}

/// Requests per second, and the share of its CPU that wrk used; `None` if something disturbed them.
fn round(target: &str, root: &Path, placement: Placement) -> Result<Option<(f64, f64)>> {
    let found = catalogue::named(target).ok_or_else(|| Failure::new(format!("there is no {target}")))?;
    let server = Server::running(&found, root, placement, Counting::Cost)?;
    let (before, cost, account) = (cpu_of_children()?, server.cost()?, CpuAccount::read(placement));
    let output = command(server.address()).output().map_err(Failure::context("run wrk"))?;
    let later = CpuAccount::read(placement);
    let (used, cost) = (cpu_of_children()? - before, server.cost()? - cost);
    server.stop()?;
    let disturbance = account.zip(later).and_then(|(account, later)| account.until(later, used + cost.cpu));
    if disturbance.is_some_and(|found| found.is_large()) {
        return Ok(None);
    }
    let told = String::from_utf8_lossy(&output.stdout);
    let rate = rate(&told).map_err(|what| Failure::new(format!("wrk: {what}")))?;
    Ok(Some((rate, used.as_secs_f64() / f64::from(SECONDS))))
}

fn command(address: SocketAddr) -> Command {
    let mut command = Command::new("wrk");
    command.arg(format!("-t{THREADS}")).arg(format!("-c{CONNECTIONS}")).arg(format!("-d{SECONDS}s"));
    command.arg(format!("http://{address}/"));
    command
}

/// The rate in what wrk prints; or what went wrong.
fn rate(told: &str) -> std::result::Result<f64, String> {
    let after = |prefix: &str| told.lines().find_map(|line| line.trim().strip_prefix(prefix));
    let faults = ["Socket errors:", "Non-2xx or 3xx responses:"];
    if let Some((what, rest)) = faults.iter().find_map(|prefix| Some((prefix, after(prefix)?))) {
        return Err(format!("{}{rest}", what.to_lowercase()));
    }
    let rate = after("Requests/sec:").and_then(|rate| rate.trim().parse().ok());
    rate.filter(|rate| *rate > 0.0).ok_or_else(|| "it tells no rate".to_owned())
}

/// What the rates say about a bound. Where wrk was the limit, or there are none, they decide nothing: what the server's
/// CPU could do is known from what a request costs.
pub(super) fn judge(loads: Option<&std::result::Result<Loads, Reason>>, bound: Bound) -> Found {
    let untold = |turn: String| Found { turn: Some(turn), ..Found::without_number(Outcome::Told) };
    let loads = match loads {
        None => return untold("not asked".to_owned()),
        Some(Err(reason)) => return untold(format!("not told, because {reason}")),
        Some(Ok(loads)) => loads,
    };
    let pairs: Vec<(f64, f64)> = loads.rates.iter().map(|rate| (*rate, 1.0)).collect();
    let Some(estimate) = ratio_estimate(&pairs) else { return untold("not told".to_owned()) };
    let number = Number { value: estimate.value, interval: estimate.interval, unit: Unit::PerSecond };
    let rate = wording::number(&number);
    let outcome = match bound.decide(&estimate, Scale::Ratio { band: 0.0 }) {
        Decision::Kept => Outcome::Holds,
        _ if loads.client_busy >= LIMIT_BUSY => {
            return untold(format!("{rate}, where wrk itself was the limit, so that decides nothing"));
        }
        Decision::Broken => Outcome::Fails,
        Decision::Wide | Decision::Noise => {
            Outcome::Open("the interval is wider than the distance to the bound".to_owned())
        }
    };
    Found { turn: Some(rate), ..Found::of(outcome, number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_rate_is_found_and_its_faults_are_told() {
        let table = [
            ("Running 2s test @ http://127.0.0.1:1/\nRequests/sec: 103482.11\n", Ok(103_482.11)),
            (
                "  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec: 1.00\n",
                Err("socket errors: connect 0, read 3, write 0, timeout 0"),
            ),
            ("  Non-2xx or 3xx responses: 7\nRequests/sec: 9.00\n", Err("non-2xx or 3xx responses: 7")),
            ("Requests/sec:      0.00\n", Err("it tells no rate")),
            ("unable to connect\n", Err("it tells no rate")),
        ];
        for (told, expected) in table {
            assert_eq!(rate(told), expected.map_err(str::to_owned), "{told}");
        }
    }

    #[test]
    fn a_rate_decides_unless_wrk_was_the_limit() {
        let outcome = |rates: &[f64], client_busy| {
            let loads = Ok(Loads { rates: rates.to_vec(), client_busy });
            let Found { outcome, turn, .. } = judge(Some(&loads), Bound::AtLeast(100_000.0));
            (outcome, turn.unwrap_or_default())
        };
        let high = [140_000.0, 141_000.0, 139_500.0];
        let low = high.map(|rate| rate / 2.0);
        assert_eq!(outcome(&high, 0.7).0, Outcome::Holds);
        assert_eq!(outcome(&high, 1.0).0, Outcome::Holds, "the server does no less");
        assert_eq!(outcome(&low, 0.7).0, Outcome::Fails);
        let (told, text) = outcome(&low, 1.0);
        assert_eq!(told, Outcome::Told);
        assert!(text.starts_with("70,0") && text.contains("wrk itself was the limit"), "{text}");
        assert!(matches!(outcome(&[99_000.0, 102_000.0, 100_500.0], 0.5).0, Outcome::Open(_)));
        let absent = Err("wrk isn't installed".to_owned());
        let found = judge(Some(&absent), Bound::AtLeast(1.0));
        assert_eq!(found.turn.as_deref(), Some("not told, because wrk isn't installed"));
    }
}

//! Crowds: as many connections as a rung can hold.

use std::sync::{Mutex, PoisonError};

use lab::rungs::Rung;
use libtest_mimic::{Completion, Failed};
use rustix::process::{Resource, getrlimit};

use crate::server::Server;

/// Two crowds at once would need the descriptors of two.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Descriptors of the tests and of the server besides its connections.
const SPARE: u64 = 256;

/// What a rung should hold. Those that look at every connection whenever they wait have fewer, so that a test takes
/// seconds.
fn crowd_of(rung: &Rung) -> u64 {
    match rung.name {
        "busy" | "select" => 1000,
        "thread" => 2000,
        "poll" => 4000,
        _ => 10_100,
    }
}

/// Ignored if the limit of descriptors allows only a smaller crowd, after trying that.
pub(crate) fn every_connection_is_served(rung: &'static Rung) -> Result<Completion, Failed> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    lab::raise_descriptors();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let crowd = crowd_of(rung);
    let count = crowd.min(limit.saturating_sub(SPARE));
    let server = Server::start(rung, "echo")?;
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(server.connect()?);
    }
    for round in 0..2u64 {
        for (number, client) in (round..).zip(&mut clients) {
            client.send(&number.to_ne_bytes())?;
        }
        for (number, client) in (round..).zip(&mut clients) {
            client.expect(&number.to_ne_bytes())?;
        }
    }
    drop(clients);
    server.connect()?.echo(b"and now it is quiet")?;
    server.end_having_said(&[])?;
    if count < crowd {
        let reason = format!("`ulimit -Hn` is {limit}: {count} connections instead of {crowd}");
        return Ok(Completion::ignored_with(reason));
    }
    Ok(Completion::Completed)
}

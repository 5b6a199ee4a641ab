//! `--drain-delay`: after the signal, the server goes on for a while before it drains.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::service::shutdown::HURRY_MAX;
use libtest_mimic::Failed;
use rustix::process::Signal;

use super::Needs::Server;
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::Client;
use crate::deadline;
use crate::load::expect_end;
use crate::program::Running;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("connections_are_accepted_for_a_while", Server, connections_are_accepted_for_a_while),
    ("a_second_signal_ends_the_delay", Server, a_second_signal_ends_the_delay),
];

const DELAY: Duration = Duration::from_millis(1500);
const SOON: Duration = Duration::from_secs(10);

/// Asks for a file; the answer has to leave the connection open.
fn ask(client: &mut Client) -> Result<(), Failed> {
    let answer = client.get("/digits.txt")?;
    if answer.status == 200 && !answer.closes() { DONE.map(drop) } else { Err(format!("{answer:?}").into()) }
}

fn signal(running: &Running, signal: Signal, delay: &str) -> Result<(), Failed> {
    running.signal(signal)?;
    let line = format!(": connections are accepted for another {delay} (--drain-delay), then it drains; ");
    deadline::within(SOON, "a word on the delay", || running.errors().contains(&line))
}

fn connections_are_accepted_for_a_while(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&["--drain-delay", "1500ms", "--grace", "5s", "--workers", "2"])?;
    let address = running.addresses(1)?[0];
    let mut kept = Client::connect(address)?;
    ask(&mut kept)?;
    let begun = Instant::now();
    signal(&running, Signal::TERM, "1s 500ms")?;
    ask(&mut kept)?;
    let mut new = Client::connect(address)?;
    for _ in 0..2 {
        ask(&mut new)?;
    }
    if begun.elapsed() > DELAY / 2 {
        return Err(format!("the machine is too slow: {:?}", begun.elapsed()).into());
    }
    deadline::within(SOON, "the drain to begin", || TcpStream::connect(address).is_err())?;
    let accepted = begun.elapsed();
    for client in [&mut kept, &mut new] {
        expect_end(client)?;
    }
    let ended = running.wait(SOON)?;
    let took = begun.elapsed();
    let lines = ended.errors.lines().count();
    if ended.status.code() != Some(0) || lines != 2 || accepted < DELAY || took > DELAY + SOON / 2 {
        return Err(format!("accepted for {accepted:?}, ended after {took:?}: {ended:?}").into());
    }
    DONE
}

fn a_second_signal_ends_the_delay(ground: Ground<'_>) -> Outcome {
    for (second, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut running = ground.serve(&["--drain-delay", "1h"])?;
        let mut client = Client::connect(running.addresses(1)?[0])?;
        ask(&mut client)?;
        signal(&running, Signal::INT, "1h")?;
        ask(&mut client)?;
        running.signal(second)?;
        let begun = Instant::now();
        let ended = running.wait(SOON)?;
        expect_end(&mut client)?;
        if ended.status.code() != Some(code) || begun.elapsed() > HURRY_MAX * 2 {
            return Err(format!("after {:?}: {ended:?}", begun.elapsed()).into());
        }
    }
    DONE
}

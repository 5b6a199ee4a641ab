//! Draining: responses in progress are completed, nothing new is started, and the server ends.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::Config;
use common::service::shutdown::QUIET;
use libtest_mimic::Failed;
use rustix::process::Signal;

use super::{DONE, Ground, Outcome, Test};
use crate::child::Settings;
use crate::client::{Client, PATIENCE};
use crate::deadline;
use crate::load::{Download, ask_until_closed, expect_end, join_all};
use crate::response::{Framing, Response};
use crate::row::get;
use crate::server::Server;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("with_nothing_to_do", with_nothing_to_do),
    ("downloads_are_finished", downloads_are_finished),
    ("busy_clients_lose_nothing", busy_clients_lose_nothing),
    ("idle_clients_are_closed", idle_clients_are_closed),
    ("a_request_under_way_is_answered", a_request_under_way_is_answered),
    ("a_new_connection_is_still_answered", a_new_connection_is_still_answered),
    ("requests_that_have_come_are_answered", requests_that_have_come_are_answered),
    ("new_connections_are_refused", new_connections_are_refused),
    ("grace_ends", grace_ends),
    ("two_workers", two_workers),
];

/// Longer than a drain that waits for nothing, far shorter than the grace period.
const SOON: Duration = Duration::from_secs(5);

fn expect_soon_over(server: Server) -> Outcome {
    deadline::within(SOON, "a drained server to end", || server.has_ended())?;
    server.stop()?;
    DONE
}

fn with_nothing_to_do(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config::default())?;
    server.drain();
    server.drain(); // a second call has no effect
    expect_soon_over(server)
}

fn downloads_are_finished(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config::default())?;
    let mut clients = (0..12).map(|_| Download::begin(server.address)).collect::<Result<Vec<_>, _>>()?;
    server.drain();
    clients.iter_mut().try_for_each(Download::finish)?;
    drop(clients);
    expect_soon_over(server)
}

fn busy_clients_lose_nothing(ground: Ground<'_>) -> Outcome {
    drain_under_load(ground, Config::default())
}

fn two_workers(ground: Ground<'_>) -> Outcome {
    drain_under_load(ground, Config { workers: 2, ..Config::default() })
}

fn drain_under_load(ground: Ground<'_>, config: Config) -> Outcome {
    const CLIENTS: usize = 16;
    let server = ground.serve(config)?;
    let address = server.address;
    let answers = AtomicUsize::new(0);
    let finished: Result<(), Failed> = thread::scope(|scope| {
        let targets =
            ["/digits.txt", "/dir/file.txt", "/65537.bin", "/300000.bin"].into_iter().cycle().take(CLIENTS);
        let answers = &answers;
        let ask = |target| scope.spawn(move || ask_until_closed(address, target, answers));
        let clients: Vec<_> = targets.map(ask).collect();
        let busy =
            deadline::within(PATIENCE, "the clients to be busy", || answers.load(Relaxed) > 50 * CLIENTS);
        server.drain();
        join_all(clients).and(busy)
    });
    finished?;
    expect_soon_over(server)
}

fn idle_clients_are_closed(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config::default())?;
    let mut clients = (0..20).map(|_| Client::connect(server.address)).collect::<Result<Vec<_>, _>>()?;
    for client in clients.iter_mut().step_by(2) {
        client.get("/digits.txt")?;
    }
    server.drain();
    let begun = Instant::now();
    for client in &mut clients {
        expect_end(client)?;
    }
    // Not before a request that is on its way could have come, and not only when a deadline wakes the server.
    let elapsed = begun.elapsed();
    if !(QUIET - Duration::from_millis(20)..QUIET + Duration::from_secs(1)).contains(&elapsed) {
        return Err(format!("idle clients were closed after {elapsed:?}").into());
    }
    drop(clients);
    expect_soon_over(server)
}

/// A complete response that announces the end of the connection.
fn expect_last(response: &Response, client: &mut Client) -> Result<(), Failed> {
    if response.status != 200 || !response.closes() {
        return Err(format!("not the last response: \"{}\"", response.head.escape_ascii()).into());
    }
    expect_end(client)
}

fn a_request_under_way_is_answered(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config::default())?;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = Client::connect(server.address)?;
        client.get("/digits.txt")?;
        client.send(b"GET /digits.txt HTTP/1.1\r\nHo")?;
        clients.push(client);
    }
    let received = clients.len() as u64
        * ("GET /digits.txt HTTP/1.1\r\nHo".len() + get("/digits.txt", &[]).len()) as u64;
    let stats = &server.service().stats;
    deadline::within(PATIENCE, "the first halves to be read", || stats.totals().bytes_in >= received)?;
    server.drain();
    // Long after idle connections have been closed.
    thread::sleep(QUIET * 2);
    for client in &mut clients {
        client.send(b"st: h\r\n\r\n")?;
        let response = client.response(Framing::Content)?;
        expect_last(&response, client)?;
    }
    drop(clients);
    expect_soon_over(server)
}

/// A connection accepted before the drain still has a moment to send its request.
fn a_new_connection_is_still_answered(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config::default())?;
    let mut client = Client::connect(server.address)?;
    let stats = &server.service().stats;
    deadline::within(PATIENCE, "the connection to be accepted", || stats.active() == 1)?;
    server.drain();
    let response = client.get("/digits.txt")?;
    expect_last(&response, &mut client)?;
    drop(client);
    expect_soon_over(server)
}

/// More requests than a server looks at in one turn are there when it closes idle connections: those aren't idle.
fn requests_that_have_come_are_answered(ground: Ground<'_>) -> Outcome {
    deadline::in_one_of_three(|| pause_in_the_drain(ground))?;
    DONE
}

fn pause_in_the_drain(ground: Ground<'_>) -> Result<(), Failed> {
    const CLIENTS: usize = 700;
    let mut server = ground.serve_in_child(&Settings::default())?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(server.address)?;
        client.get("/digits.txt")?;
        clients.push(client);
    }
    server.drain();
    deadline::within(SOON, "the drain to begin", || TcpStream::connect(server.address).is_err())?;
    server.signal(Signal::STOP)?;
    for client in &mut clients {
        client.send(&get("/digits.txt", &[]))?;
    }
    thread::sleep(QUIET); // the moment has passed when it goes on
    server.signal(Signal::CONT)?;
    for client in &mut clients {
        let response = client.response(Framing::Content)?;
        expect_last(&response, client)?;
    }
    drop(clients);
    server.stop()
}

fn new_connections_are_refused(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config::default())?;
    let mut download = Download::begin(server.address)?;
    server.drain();
    let refused = || {
        TcpStream::connect_timeout(&server.address, PATIENCE)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    deadline::within(SOON, "connections to be refused", refused)?;
    download.finish()?;
    drop(download);
    expect_soon_over(server)
}

/// A client that never reads can't delay the end beyond the grace period, of which the last eighth isn't for clients.
fn grace_ends(ground: Ground<'_>) -> Outcome {
    deadline::in_one_of_three(|| end_with_a_client_that_never_reads(ground))?;
    DONE
}

fn end_with_a_client_that_never_reads(ground: Ground<'_>) -> Result<(), Failed> {
    const GRACE: Duration = Duration::from_millis(800);
    const SERVED: Duration = Duration::from_millis(700);
    let server = ground.serve(Config { grace: GRACE, ..Config::default() })?;
    let stuck = Download::begin(server.address)?;
    let mut partial = Client::connect(server.address)?;
    partial.send(b"GET /digits.txt HTTP/1.1\r\n")?;
    server.drain();
    let begun = Instant::now();
    deadline::within(GRACE + SOON, "the end of the grace period", || server.has_ended())?;
    let elapsed = begun.elapsed();
    if !(SERVED - Duration::from_millis(20)..GRACE + Duration::from_millis(200)).contains(&elapsed) {
        return Err(format!("the server ended after {elapsed:?}, with {GRACE:?} of grace").into());
    }
    server.stop()?;
    stuck.expect_cut().map(drop)
}

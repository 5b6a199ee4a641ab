//! SIGTERM and SIGINT drain the server; other signals end nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};
use rustix::process::Signal;

use super::Needs::Server;
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::{Client, PATIENCE};
use crate::deadline;
use crate::load::{Download, ask_until_closed, join_all};
use crate::program::Running;
use crate::response::Framing;
use crate::row::get;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("term_with_nothing_to_do", Server, term_with_nothing_to_do),
    ("term_under_load_cuts_nothing", Server, term_under_load_cuts_nothing),
    ("int_under_load_cuts_nothing", Server, int_under_load_cuts_nothing),
    ("term_in_a_flood_of_connections", Server, term_in_a_flood_of_connections),
    ("pipe_is_ignored", Server, pipe_is_ignored),
    ("killed_and_started_again", Server, killed_and_started_again),
    ("hup_ends_nothing", Server, hup_ends_nothing),
];

const SOON: Duration = Duration::from_secs(5);

/// Ends the program, which must have nothing left to do.
pub(super) fn end_with_success(running: Running) -> Outcome {
    running.signal(Signal::TERM)?;
    expect_success(running)
}

pub(super) fn expect_success(running: Running) -> Outcome {
    let ended = running.wait(SOON)?;
    if ended.status.code() == Some(0) { DONE } else { Err(format!("{ended:?}").into()) }
}

fn term_with_nothing_to_do(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&[])?;
    running.addresses(1)?;
    running.signal(Signal::TERM)?;
    expect_success(running)
}

fn term_under_load_cuts_nothing(ground: Ground<'_>) -> Outcome {
    drain_under_load(ground, Signal::TERM)
}

fn int_under_load_cuts_nothing(ground: Ground<'_>) -> Outcome {
    drain_under_load(ground, Signal::INT)
}

/// Busy clients and large downloads: every response in progress is completed, then the program ends.
fn drain_under_load(ground: Ground<'_>, signal: Signal) -> Outcome {
    let mut running = ground.serve(&["--workers", "2"])?;
    let address = running.addresses(1)?[0];
    let answers = AtomicUsize::new(0);
    let mut downloads = (0..4).map(|_| Download::begin(address)).collect::<Result<Vec<_>, _>>()?;
    let finished: Result<(), Failed> = thread::scope(|scope| {
        let busy: Vec<_> =
            (0..8).map(|_| scope.spawn(|| ask_until_closed(address, "/65537.bin", &answers))).collect();
        deadline::within(PATIENCE, "the clients to be busy", || answers.load(Relaxed) > 400)?;
        running.signal(signal)?;
        join_all(busy)
    });
    finished?;
    downloads.iter_mut().try_for_each(Download::finish)?;
    drop(downloads);
    expect_success(running)
}

/// Connections come faster than they are accepted, so that the queue is never empty: the signal is seen all the same.
fn term_in_a_flood_of_connections(ground: Ground<'_>) -> Outcome {
    const THREADS: usize = 3;
    const FLOOD_MAX: Duration = Duration::from_secs(20);
    /// The flood takes most of the machine, but not forever.
    const SOON: Duration = Duration::from_secs(12);
    let mut running = ground.serve(&["--workers", "1"])?;
    let address = running.addresses(1)?[0];
    let connected = AtomicUsize::new(0);
    let (begun, is_over) = (Instant::now(), AtomicBool::new(false));
    let ended: Result<(), Failed> = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !is_over.load(Relaxed) && begun.elapsed() < FLOOD_MAX {
                    connected.fetch_add(usize::from(knock(address).is_ok()), Relaxed);
                }
            });
        }
        let ended = deadline::within(PATIENCE, "a flood", || connected.load(Relaxed) > 20_000)
            .and_then(|()| running.signal(Signal::TERM))
            .and_then(|()| deadline::within(SOON, "the program to end", || running.has_ended()));
        is_over.store(true, Relaxed);
        ended
    });
    ended?;
    expect_success(running)
}

/// Connects and goes. Never waits: where the queue is full, the kernel drops the attempt. Loopback answers before this
/// returns, though the call itself doesn't say so.
fn knock(address: SocketAddr) -> rustix::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    match connect(&socket, &address) {
        Err(Errno::INPROGRESS) => Ok(()),
        result => result,
    }
}

/// A vanished client or a closed standard error must not kill the server (SIGPIPE).
fn pipe_is_ignored(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&[])?;
    let address = running.addresses(1)?[0];
    for _ in 0..20 {
        let mut client = Client::connect(address)?;
        client.send(&get("/8m.bin", &[]))?;
        client.head(Framing::Content)?;
        client.reset()?;
    }
    Client::connect(address)?.get("/digits.txt")?;
    running.signal(Signal::TERM)?;
    expect_success(running)
}

/// There is nothing to open again here, and a terminal that is closed is no reason to end.
fn hup_ends_nothing(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&[])?;
    let address = running.addresses(1)?[0];
    for _ in 0..3 {
        running.signal(Signal::HUP)?;
        Client::connect(address)?.get("/digits.txt")?;
    }
    running.signal(Signal::TERM)?;
    expect_success(running)
}

/// The kernel may hold the port of a process for a moment after it was killed; a supervisor doesn't wait for that.
fn killed_and_started_again(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&[])?;
    let address = running.addresses(1)?[0];
    for _ in 0..20 {
        Client::connect(address)?.get("/digits.txt")?;
        running.signal(Signal::KILL)?;
        running.wait(SOON)?;
        let mut command = ground.command(&["--listen", &address.to_string()])?;
        running = Running::start(command.arg(ground.sites.main()))?;
        running.addresses(1)?;
    }
    running.signal(Signal::TERM)?;
    expect_success(running)
}

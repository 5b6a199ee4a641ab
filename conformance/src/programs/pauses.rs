//! Pauses: a process that was stopped, or that got no time on a processor, looks at what has come meanwhile before it
//! acts on a deadline.

use std::fs;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::service::shutdown::QUIET;
use libtest_mimic::{Completion, Failed};
use rustix::process::{Pid, Signal, kill_process};

use super::Needs::Server;
use super::signals::{end_with_success, expect_success};
use super::{Ground, Needs, Outcome, Test};
use crate::client::{Client, Heard, PATIENCE};
use crate::deadline;
use crate::program::Running;
use crate::response::Framing;
use crate::row::{get, request};
use crate::site::pattern_of;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("who_asks_during_a_pause_is_answered", Server, who_asks_during_a_pause_is_answered),
    ("content_that_came_during_a_pause_counts", Server, content_that_came_during_a_pause_counts),
    ("who_reads_during_a_pause_is_served", Server, who_reads_during_a_pause_is_served),
    ("a_drain_answers_what_came_during_a_pause", Server, a_drain_answers_what_came_during_a_pause),
];

/// Long enough for all clients to be ready for the pause.
const TIMEOUT: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_secs(5);

/// Stops the program for longer than its timeouts, and does something meanwhile.
fn pause(running: &Running, act: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    let server = running.server_id()?;
    let signal = |signal| {
        Ok::<_, Failed>(kill_process(Pid::from_raw(server.cast_signed()).ok_or("no process")?, signal)?)
    };
    signal(Signal::STOP)?;
    let begun = Instant::now();
    let threads = || fs::read_dir(format!("/proc/{server}/task"));
    deadline::within(PATIENCE, "every thread to be stopped", || {
        threads().is_ok_and(|mut threads| {
            threads.all(|thread| {
                let stat = thread.and_then(|thread| fs::read_to_string(thread.path().join("stat")));
                stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
            })
        })
    })?;
    let acted = act();
    thread::sleep(PAUSE.saturating_sub(begun.elapsed()));
    signal(Signal::CONT)?;
    acted
}

fn serve(ground: Ground<'_>) -> Result<Running, Failed> {
    let timeout = format!("{}ms", TIMEOUT.as_millis());
    ground.serve(&[
        "--workers",
        "1",
        "--idle-timeout",
        &timeout,
        "--head-timeout",
        &timeout,
        "--send-timeout",
        &timeout,
    ])
}

fn expect_status(client: &mut Client, status: u16, who: &str) -> Result<(), Failed> {
    let response = client.response(Framing::Content);
    match response {
        Ok(response) if response.status == status => Ok(()),
        Ok(response) => Err(format!("{who}: {} instead of {status}", response.status).into()),
        Err(failed) => Err(format!("{who}: {}", failed.message().unwrap_or_default()).into()),
    }
}

/// More clients than a loop hears of at once: idle ones, and ones in the middle of a head.
fn who_asks_during_a_pause_is_answered(ground: Ground<'_>) -> Outcome {
    const CLIENTS: usize = 700;
    let mut running = serve(ground)?;
    let address = running.addresses(1)?[0];
    let head = get("/digits.txt", &[]).to_vec();
    let mut silent = Client::connect(address)?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Client::connect(address)?;
        client.send(&head)?;
        expect_status(&mut client, 200, "before the pause")?;
        let sent = if number % 2 == 0 { 0 } else { head.len() / 2 };
        client.send(&head[..sent])?;
        clients.push((client, sent));
    }
    pause(&running, || {
        for (client, sent) in &mut clients {
            client.send(&head[*sent..])?;
        }
        Ok(())
    })?;
    for (number, (client, sent)) in clients.iter_mut().enumerate() {
        expect_status(client, 200, &format!("client {number}, {sent} bytes before the pause"))?;
    }
    // But a pause is no reason to wait for those that have nothing to say.
    match silent.hear(Instant::now() + PATIENCE)? {
        Heard::End => {}
        heard => return Err(format!("{heard:?} for who is silent").into()),
    }
    drop(clients);
    end_with_success(running)
}

/// What a socket holds without the server's help may take many receives.
fn content_that_came_during_a_pause_counts(ground: Ground<'_>) -> Outcome {
    static CONTENT: [u8; 50_000] = [b'x'; 50_000];
    let mut running = serve(ground)?;
    let address = running.addresses(1)?[0];
    let head = request("POST", "/digits.txt", &[&format!("Content-Length: {}", CONTENT.len())]);
    let mut clients = (0..8).map(|_| Client::connect(address)).collect::<Result<Vec<_>, _>>()?;
    for client in &mut clients {
        client.send(&get("/digits.txt", &[]))?;
        expect_status(client, 200, "before the pause")?;
        client.send(&head)?;
        client.send(&CONTENT[..1000])?;
    }
    pause(&running, || {
        for client in &mut clients {
            client.send(&CONTENT[1000..])?;
        }
        Ok(())
    })?;
    for client in &mut clients {
        expect_status(client, 405, "content")?;
    }
    drop(clients);
    end_with_success(running)
}

/// It has taken all that there was, and waits for more.
fn who_reads_during_a_pause_is_served(ground: Ground<'_>) -> Outcome {
    const BYTES: u64 = 8 << 20;
    let mut running = serve(ground)?;
    let address = running.addresses(1)?[0];
    let mut client = Client::connect_narrow(address, 16 * 1024)?;
    client.send(&get("/8m.bin", &[]))?;
    client.head(Framing::Content)?;
    client.content(50_000, |at, bytes| pattern_of(BYTES).check(at, bytes))?;
    // It is slow already, so the pause is not the first that the server sees of it.
    thread::sleep(TIMEOUT / 3);
    pause(&running, || {
        // As much as comes without the server.
        while let Heard::Bytes(_) = client.hear(Instant::now() + Duration::from_millis(300))? {}
        Ok(())
    })?;
    client.content(BYTES - 50_000, |at, bytes| pattern_of(BYTES).check(50_000 + at, bytes))?;
    drop(client);
    end_with_success(running)
}

/// The pause begins in the drain, and is longer than the time for which busy clients are answered.
fn a_drain_answers_what_came_during_a_pause(ground: Ground<'_>) -> Outcome {
    const CLIENTS: usize = 50;
    let mut running = ground.serve(&["--workers", "1"])?;
    let address = running.addresses(1)?[0];
    let head = get("/digits.txt", &[]);
    let mut clients = (0..CLIENTS).map(|_| Client::connect(address)).collect::<Result<Vec<_>, _>>()?;
    for client in &mut clients {
        client.send(&head)?;
        expect_status(client, 200, "before the pause")?;
    }
    let begun = Instant::now();
    running.signal(Signal::TERM)?;
    deadline::within(PATIENCE, "the drain to begin", || TcpStream::connect(address).is_err())?;
    let mut late = false;
    pause(&running, || {
        late = begun.elapsed() > QUIET / 2;
        // If it was, they may have been closed.
        let sent = clients.iter_mut().try_for_each(|client| client.send(&head));
        if late { Ok(()) } else { Ok(sent?) }
    })?;
    if late {
        return Ok(Completion::ignored_with("this machine is too slow to stop a process in time"));
    }
    for client in &mut clients {
        expect_status(client, 200, "a request that came during the pause")?;
    }
    drop(clients);
    expect_success(running)
}

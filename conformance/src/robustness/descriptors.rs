//! Running out of descriptors: the server waits, and resumes when some are free again.

use std::thread;
use std::time::{Duration, Instant};

use common::CacheLevel;
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::child::{ChildServer, Settings};
use crate::client::{Client, Heard, PATIENCE};
use crate::deadline;
use crate::response::Framing;
use crate::row::get;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("accepting_resumes", accepting_resumes),
    ("idle_clients_give_way", idle_clients_give_way),
    ("opening_resumes", opening_resumes),
];

const DESCRIPTORS_MAX: u64 = 64;

fn start(ground: Ground<'_>) -> Result<ChildServer, Failed> {
    ground.serve_in_child(&Settings {
        connections_max: 1000,
        descriptors_max: Some(DESCRIPTORS_MAX),
        // Nobody gives way before the end of the test but who is idle.
        head_timeout: Duration::from_secs(600),
        // With a cached file, running out of descriptors wouldn't show.
        cache: CacheLevel::Off,
        ..Settings::default()
    })
}

/// More clients than descriptors, none of which is idle: the server neither ends nor spins, and finally serves all.
fn accepting_resumes(ground: Ground<'_>) -> Outcome {
    const CLIENTS: usize = 100;
    const WINDOW: Duration = Duration::from_secs(1);
    const BUSY_MAX: Duration = Duration::from_millis(100);
    let server = start(ground)?;
    let others = server.process().descriptors()?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(server.address)?;
        client.send(b"GET /digits.txt HTTP/1.1\r\nHo")?;
        clients.push(client);
    }
    let held = || server.process().descriptors().unwrap_or(0);
    deadline::within(PATIENCE, "descriptors to run out", || held() as u64 >= DESCRIPTORS_MAX)?;
    let before = server.process().processor_time()?;
    thread::sleep(WINDOW); // the time in which the server might spin
    let busy = server.process().processor_time()? - before;
    if busy > BUSY_MAX {
        return Err(format!("{busy:?} of CPU time in {WINDOW:?}, although there was nothing to do").into());
    }
    let mut waiting = clients.split_off(held().saturating_sub(others));
    // So many that when they are accepted, files can be opened, too.
    waiting.truncate(clients.len() / 2);
    for client in &mut waiting {
        client.send(b"st: here\r\n\r\n")?;
    }
    drop(clients);
    for mut client in waiting {
        // The last descriptor may have gone to a connection that is about to end.
        let mut response = client.response(Framing::Content)?;
        let deadline = Instant::now() + PATIENCE;
        while response.status == 503 && Instant::now() < deadline {
            response = client.get("/digits.txt")?;
        }
        if response.status != 200 {
            return Err(format!("{} with descriptors to spare", response.status).into());
        }
    }
    server.stop()?;
    DONE
}

/// Clients that keep idle connections open lock nobody out, although there are places left for more of them.
fn idle_clients_give_way(ground: Ground<'_>) -> Outcome {
    const CLIENTS: usize = 80;
    let server = start(ground)?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(server.address)?;
        client.get("/digits.txt")?;
        clients.push(client);
    }
    // So many have given way as there are too many, and a few more: nobody who needn't.
    let mut gone = 0;
    for client in &mut clients {
        gone += usize::from(client.hear(Instant::now() + Duration::from_millis(1))? == Heard::End);
    }
    let held = server.process().descriptors()?;
    if gone > CLIENTS / 2 || held + gone < CLIENTS {
        return Err(format!("{gone} of {CLIENTS} are gone, {held} descriptors are held").into());
    }
    drop(clients);
    server.stop()?;
    DONE
}

/// The last descriptor goes to a connection, and none is left for its file: 503, and a moment later 200.
fn opening_resumes(ground: Ground<'_>) -> Outcome {
    let server = start(ground)?;
    let mut clients = Vec::new();
    loop {
        let mut client = Client::connect(server.address)?;
        client.send(&get("/digits.txt", &[]))?;
        if client.hear(Instant::now() + Duration::from_secs(1))? == Heard::Silence {
            return Err(format!("{} clients were served, and none with 503", clients.len()).into());
        }
        let response = client.response(Framing::Content)?;
        if response.status == 503 {
            response.require("Retry-After")?;
            if response.closes() {
                return Err("a 503 for lack of descriptors needn't close the connection".into());
            }
            drop(clients);
            return retry(client, server);
        }
        clients.push(client);
        if clients.len() > 64 {
            return Err("descriptors never run out".into());
        }
    }
}

fn retry(mut client: Client, server: ChildServer) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while client.get("/digits.txt")?.status != 200 {
        if Instant::now() > deadline {
            return Err("503, although the other clients have gone".into());
        }
    }
    drop(client);
    server.stop()?;
    DONE
}

//! Running out of descriptors: the server waits, and resumes when some are free again.

use std::thread;
use std::time::{Duration, Instant};

use common::CacheLevel;
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::child::{ChildServer, Settings};
use crate::client::{Client, Heard, PATIENCE};
use crate::response::Framing;
use crate::row::get;

pub(super) const TESTS: &[(&str, Test)] =
    &[("accepting_resumes", accepting_resumes), ("opening_resumes", opening_resumes)];

const DESCRIPTORS_MAX: u64 = 64;

fn start(ground: Ground<'_>) -> Result<ChildServer, Failed> {
    ground.serve_in_child(&Settings {
        connections_max: 1000,
        descriptors_max: Some(DESCRIPTORS_MAX),
        // With a cached file, running out of descriptors wouldn't show.
        cache: CacheLevel::Off,
        ..Settings::default()
    })
}

/// More clients than descriptors: the server neither ends nor spins, and finally serves all of them.
fn accepting_resumes(ground: Ground<'_>) -> Outcome {
    const CLIENTS: usize = 100;
    const WINDOW: Duration = Duration::from_secs(1);
    const BUSY_MAX: Duration = Duration::from_millis(100);
    let server = start(ground)?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(server.address)?;
        client.send(&get("/digits.txt", &[]))?;
        clients.push(client);
    }
    let mut waiting = Vec::new();
    let mut served = Vec::new();
    for mut client in clients {
        match client.hear(Instant::now() + Duration::from_millis(20))? {
            Heard::Bytes(_) => served.push(client),
            Heard::Silence => waiting.push(client),
            heard @ (Heard::End | Heard::Reset) => {
                return Err(format!("{heard:?} for a client that should wait").into());
            }
        }
    }
    if waiting.len() < CLIENTS - 64 {
        return Err(format!("only {} clients wait, with {DESCRIPTORS_MAX} descriptors", waiting.len()).into());
    }
    let before = server.process().processor_time()?;
    thread::sleep(WINDOW); // the time in which the server might spin
    let busy = server.process().processor_time()? - before;
    if busy > BUSY_MAX {
        return Err(format!("{busy:?} of CPU time in {WINDOW:?}, although there was nothing to do").into());
    }
    drop(served);
    for client in &mut waiting {
        // The last descriptor may have gone to this connection, leaving none for the file for a moment.
        let mut response = client.response(Framing::Content)?;
        let deadline = Instant::now() + PATIENCE;
        while response.status == 503 && Instant::now() < deadline {
            response = client.get("/digits.txt")?;
        }
        if response.status != 200 {
            return Err(format!("{} with descriptors to spare", response.status).into());
        }
    }
    drop(waiting);
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

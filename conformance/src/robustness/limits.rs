//! Limits on connections and memory.

use std::fs;
use std::time::{Duration, Instant};

use common::{Config, SiteOptions};
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::census::connections_end;
use crate::child::Settings;
use crate::client::{Client, Heard, PATIENCE};
use crate::response::Framing;
use crate::row::get;
use crate::server::Server;
use crate::site::{DIGITS, write};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("connections", connections),
    ("connections_of_two_workers", connections_of_two_workers),
    ("flood_of_requests", flood_of_requests),
    ("steady_memory", steady_memory),
    ("stuck_readers", stuck_readers),
    ("listing_of_too_many_entries", listing_of_too_many_entries),
];

/// How long to wait before concluding that nothing arrives.
const SILENCE: Duration = Duration::from_millis(200);
/// The same for many clients.
const BRIEF_SILENCE: Duration = Duration::from_millis(20);

/// A time for request heads of which not even a tenth passes here: then half a head would give way.
const UNHURRIED: Duration = Duration::from_secs(600);
/// The beginning of a request, so that the connection isn't idle and doesn't give way to others.
const BEGUN: &[u8] = b"GET /digits.txt HTTP/1.1\r\n";

/// Beyond the limit, connections aren't refused: they wait in the kernel's backlog until another one closes.
fn connections(ground: Ground<'_>) -> Outcome {
    const MAX: usize = 4;
    let config = Config { connections_max: MAX, head_timeout: UNHURRIED, ..Config::default() };
    let server = ground.serve(config)?;
    let mut clients = Vec::new();
    for _ in 0..MAX {
        let mut client = Client::connect(server.address)?;
        client.get("/digits.txt")?;
        client.send(BEGUN)?;
        clients.push(client);
    }
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(server.address)?;
        client.send(&get("/digits.txt", &[]))?;
        waiting.push(client);
    }
    for client in &mut waiting {
        expect_silence(client, SILENCE)?;
    }
    for mut client in waiting {
        // Each connection that closes makes room for the next, in order of arrival.
        drop(clients.remove(0));
        client.response(Framing::Content)?;
        client.get("/missing")?;
        client.send(BEGUN)?;
        clients.push(client);
    }
    if server.service().stats.active() > MAX as u64 {
        return Err("more connections than allowed".into());
    }
    drop(clients);
    connections_end(&server)?;
    server.stop()?;
    DONE
}

fn expect_silence(client: &mut Client, duration: Duration) -> Result<(), Failed> {
    match client.hear(Instant::now() + duration)? {
        Heard::Silence => Ok(()),
        heard => Err(format!("{heard:?}, although the connection limit is reached").into()),
    }
}

/// Removes the clients that have received a response.
fn take_answered(clients: &mut Vec<Client>) -> Result<Vec<Client>, Failed> {
    let (mut answered, mut waiting) = (Vec::new(), Vec::new());
    for mut client in clients.drain(..) {
        match client.hear(Instant::now() + Duration::from_millis(5))? {
            Heard::Bytes(_) => answered.push(client),
            Heard::Silence => waiting.push(client),
            heard @ (Heard::End | Heard::Reset) => {
                return Err(format!("{heard:?} for a client that should wait").into());
            }
        }
    }
    *clients = waiting;
    Ok(answered)
}

/// The limit holds for all workers together.
fn connections_of_two_workers(ground: Ground<'_>) -> Outcome {
    const MAX: usize = 6;
    let config = Config { workers: 2, connections_max: MAX, head_timeout: UNHURRIED, ..Config::default() };
    let server = ground.serve(config)?;
    let mut clients = Vec::new();
    for _ in 0..8 * MAX {
        let mut client = Client::connect(server.address)?;
        client.send(&[&get("/digits.txt", &[])[..], BEGUN].concat())?;
        clients.push(client);
    }
    let stats = &server.service().stats;
    let mut answered = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while answered.len() < MAX {
        answered.append(&mut take_answered(&mut clients)?);
        if Instant::now() > deadline {
            return Err(format!("{} were served; {MAX} are allowed", answered.len()).into());
        }
    }
    for client in &mut clients {
        expect_silence(client, BRIEF_SILENCE)?;
    }
    let active = stats.active();
    if answered.len() != MAX || active > MAX as u64 {
        return Err(format!("{} were served, {active} are open; {MAX} are allowed", answered.len()).into());
    }
    // The served clients leave, and the others are served, some at a time.
    drop(answered);
    while !clients.is_empty() {
        drop(take_answered(&mut clients)?);
        if Instant::now() > deadline {
            return Err(format!("{} were never served", clients.len()).into());
        }
    }
    connections_end(&server)?;
    server.stop()?;
    DONE
}

/// A client that sends many requests and never reads: the server stops reading from it, keeps little for it, and serves
/// others.
fn flood_of_requests(ground: Ground<'_>) -> Outcome {
    const MEMORY_BYTES_MAX: u64 = 8 << 20;
    const FLOOD_BYTES_MAX: usize = 64 << 20;
    let server = ground.serve_in_child(&Settings::default())?;
    let mut other = Client::connect(server.address)?;
    other.get("/digits.txt")?;
    let before = server.process().resident_bytes()?;
    for target in ["/missing", "/digits.txt", "/300000.bin"] {
        let mut flood = Client::connect(server.address)?;
        let requests = get(target, &[]).repeat(1000);
        let mut sent = 0;
        loop {
            match flood.send_some(&requests[sent % requests.len()..], Duration::from_millis(300))? {
                0 => break,
                count => sent += count,
            }
            if sent > FLOOD_BYTES_MAX {
                return Err(format!("{sent} bytes of requests were accepted, and no response read").into());
            }
        }
        other.get("/digits.txt")?;
        let grown = server.process().resident_bytes()?.saturating_sub(before);
        if grown > MEMORY_BYTES_MAX {
            return Err(format!("{grown} bytes more memory for one client that doesn't read").into());
        }
    }
    drop(other);
    server.stop()?;
    DONE
}

/// Requests leak neither memory nor descriptors.
fn steady_memory(ground: Ground<'_>) -> Outcome {
    const ROUND: usize = 4000;
    const GROWTH_BYTES_MAX: u64 = 1 << 20;
    let server = ground.serve_in_child(&Settings::default())?;
    let mut client = Client::connect(server.address)?;
    let mut sizes = Vec::new();
    for _ in 0..3 {
        for round in 0..ROUND {
            client.send(&get(["/digits.txt", "/missing", "/65537.bin", "/dir"][round % 4], &[]))?;
            client.response(Framing::Content)?;
            if round % 8 == 0 {
                client = Client::connect(server.address)?;
            }
        }
        let descriptors = server.process().descriptors()?;
        sizes.push((server.process().resident_bytes()?, descriptors));
    }
    let [_warm, (early, some), (late, others)] = sizes[..] else { return Err("three rounds".into()) };
    if late > early + GROWTH_BYTES_MAX {
        return Err(format!("{ROUND} requests took {} bytes of memory", late - early).into());
    }
    if others > some + 2 {
        return Err(format!("{ROUND} requests took descriptors: {some}, then {others}").into());
    }
    drop(client);
    server.stop()?;
    DONE
}

/// Many clients leave a large response unread: the memory for each is bounded.
fn stuck_readers(ground: Ground<'_>) -> Outcome {
    const CLIENTS: u64 = 300;
    const MEMORY_BYTES_MAX: u64 = CLIENTS * 192 * 1024;
    let server = ground.serve_in_child(&Settings::default())?;
    let mut other = Client::connect(server.address)?;
    other.get("/1m.bin")?;
    let before = server.process().resident_bytes()?;
    let mut stuck = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect_narrow(server.address, 16 * 1024)?;
        client.send(&get("/8m.bin", &[]))?;
        client.head(Framing::Content)?;
        stuck.push(client);
    }
    other.get("/1m.bin")?;
    let grown = server.process().resident_bytes()?.saturating_sub(before);
    if grown > MEMORY_BYTES_MAX {
        return Err(format!("{grown} bytes more memory for {CLIENTS} clients that don't read").into());
    }
    drop((stuck, other));
    server.stop()?;
    DONE
}

/// The page ends at the limit, and says so. It is larger than any buffer.
fn listing_of_too_many_entries(ground: Ground<'_>) -> Outcome {
    const ENTRIES_MAX: usize = 10_000;
    let folder = ground.sites.scratch("crowded")?;
    // Links to one file: creating ten thousand files would be slow.
    let file = folder.join("entry.txt");
    write(&file, DIGITS)?;
    for number in 1..ENTRIES_MAX {
        fs::hard_link(&file, folder.join(format!("entry-{number:05}.txt")))?;
    }
    let options = SiteOptions { listing: true, ..SiteOptions::default() };
    let server = Server::start(ground.backend, &folder, options, Config::default())?;
    let mut client = Client::connect_narrow(server.address, 32 * 1024)?;
    for too_many in [false, true] {
        let page = String::from_utf8(client.get("/")?.content)?;
        let entries = page.matches("<tr><th scope=\"row\">").count();
        if entries != ENTRIES_MAX || page.contains("Only") != too_many {
            return Err(format!("{entries} entries; too many: {too_many}").into());
        }
        write(&folder.join("one-more.txt"), DIGITS)?;
    }
    drop(client);
    server.stop()?;
    DONE
}

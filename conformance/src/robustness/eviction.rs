//! A cache too small for its load: responses in progress lose nothing, and the limits hold.

use std::path::Path;

use common::{CacheConfig, CacheLevel, Config};
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::client::Client;
use crate::response::Framing;
use crate::row::get;
use crate::server::Server;
use crate::site::{pattern_of, write_pattern};

pub(super) const TESTS: &[(&str, Test)] =
    &[("bodies_in_flight", bodies_in_flight), ("files_in_flight", files_in_flight)];

const FILES: u64 = 32;
const BOUNDS: CacheConfig =
    CacheConfig { level: CacheLevel::Contents, bytes: 300_000, entries: 12, descriptors: 4 };
/// Enough to become more popular than any other file here.
const REQUESTS_MAX: usize = 1000;
/// Requests a client pipelines: their responses exceed all buffers between server and client.
const PIPELINED: usize = 16;
const BUFFER_BYTES: usize = 16 * 1024;

fn bodies_in_flight(ground: Ground<'_>) -> Outcome {
    evict(ground, 60_000)
}

fn files_in_flight(ground: Ground<'_>) -> Outcome {
    evict(ground, 200_000)
}

fn path(bytes: u64) -> String {
    format!("/{bytes}.bin")
}

/// A client leaves its responses unread. They were started from the cache, and the file is evicted meanwhile. The
/// responses must be unaffected.
fn evict(ground: Ground<'_>, bytes: u64) -> Outcome {
    let root = ground.sites.scratch("eviction")?;
    for size in bytes..bytes + FILES {
        write_pattern(&root.join(&path(size)[1..]), size)?;
    }
    let config = Config { cache: BOUNDS, ..Config::default() };
    let server = ground.serve_folder(Path::new(&root), config)?;
    let mut busy = Client::connect(server.address)?;
    let mut slow = Vec::new();
    for size in bytes..bytes + FILES {
        ask_until_cached(&server, &mut busy, size)?;
        let mut client = Client::connect_narrow(server.address, BUFFER_BYTES)?;
        client.send(&get(&path(size), &[]).repeat(PIPELINED))?;
        slow.push((size, client));
        check_bounds(&server)?;
    }
    let (totals, cached) = (server.service().stats.totals(), server.service().stats.cached());
    if totals.cache_hits < FILES || cached.evictions < FILES / 2 {
        return Err(format!("the cache was not exercised: {totals}, {cached}").into());
    }
    for (size, mut client) in slow {
        for _ in 0..PIPELINED {
            client.head(Framing::Content)?;
            client.content(size, |at, received| pattern_of(size).check(at, received))?;
        }
    }
    drop(busy);
    server.stop()?;
    DONE
}

/// Requests the file until it is more popular than another, which is evicted for it.
fn ask_until_cached(server: &Server, client: &mut Client, size: u64) -> Result<(), Failed> {
    let admissions = || {
        let cached = server.service().stats.cached();
        cached.entries + cached.evictions
    };
    let before = admissions();
    for _ in 0..REQUESTS_MAX {
        ask(client, size)?;
        if admissions() > before {
            return Ok(());
        }
    }
    Err(format!("{} is never cached: {}", path(size), server.service().stats.cached()).into())
}

fn ask(client: &mut Client, size: u64) -> Result<(), Failed> {
    client.send(&get(&path(size), &[]))?;
    client.head(Framing::Content)?;
    client.content(size, |at, received| pattern_of(size).check(at, received))
}

fn check_bounds(server: &Server) -> Result<(), Failed> {
    let cached = server.service().stats.cached();
    let CacheConfig { bytes, entries, descriptors, .. } = BOUNDS;
    if cached.bytes > bytes || cached.entries > entries as u64 || cached.descriptors > descriptors as u64 {
        return Err(format!("{cached} with {BOUNDS:?}").into());
    }
    Ok(())
}

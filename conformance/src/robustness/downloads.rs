//! Many concurrent downloads, with every byte checked; and HEAD compared with GET.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::Config;
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::client::Client;
use crate::exchange::{compare, mask_date};
use crate::load::join_all;
use crate::response::Framing;
use crate::row::{get, request};
use crate::site::{PATTERNS, pattern_of};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("many_at_once", many_at_once),
    ("many_at_once_with_narrow_windows", many_at_once_with_narrow_windows),
    ("a_greedy_client_starves_nobody", a_greedy_client_starves_nobody),
    ("head_equals_get", head_equals_get),
];

const CLIENTS: u64 = 24;
const REQUESTS: u64 = 20;

fn many_at_once(ground: Ground<'_>) -> Outcome {
    download_at_once(ground, Client::connect)
}

/// Responses are sent in many interleaved pieces.
fn many_at_once_with_narrow_windows(ground: Ground<'_>) -> Outcome {
    download_at_once(ground, |address| Client::connect_narrow(address, 32 * 1024))
}

fn download_at_once(ground: Ground<'_>, connect: fn(SocketAddr) -> std::io::Result<Client>) -> Outcome {
    let server = ground.serve(Config { workers: 2, ..Config::default() })?;
    let address = server.address;
    in_parallel(CLIENTS, |client| download_many(address, connect, client))?;
    server.stop()?;
    DONE
}

/// Runs a function for this many clients at once and returns the first failure.
fn in_parallel(count: u64, run: impl Fn(u64) -> Result<(), Failed> + Sync) -> Result<(), Failed> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|client| {
                scope.spawn({
                    let run = &run;
                    move || run(client)
                })
            })
            .collect();
        join_all(threads)
    })
}

/// One client's requests: whole files and ranges in its own order, sometimes on a new connection.
fn download_many(
    address: SocketAddr,
    connect: fn(SocketAddr) -> std::io::Result<Client>,
    number: u64,
) -> Result<(), Failed> {
    let mut client = connect(address)?;
    for round in 0..REQUESTS {
        let choice = pattern_of(number).bytes(round * 8, 4);
        let (name, bytes) = PATTERNS[usize::from(choice[0]) % PATTERNS.len()];
        let first = u64::from(choice[1]) * bytes / 512;
        let fields = if choice[2] < 128 { vec![] } else { vec![format!("Range: bytes={first}-")] };
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        client.send(&get(&format!("/{name}"), &fields))?;
        let head = client.head(Framing::Content)?;
        let start = if head.status == 206 { first } else { 0 };
        if head.content_bytes as u64 != bytes - start {
            return Err(format!("{} bytes of {name} from {start} on", head.content_bytes).into());
        }
        client.content(bytes - start, |at, received| pattern_of(bytes).check(start + at, received))?;
        if choice[3] < 32 {
            client = connect(address)?;
        }
    }
    Ok(())
}

/// One client downloads gigabytes as fast as it can. Small requests on the same worker must still be served.
fn a_greedy_client_starves_nobody(ground: Ground<'_>) -> Outcome {
    const LATE_MAX: Duration = Duration::from_secs(1);
    let server = ground.serve(Config::default())?;
    let address = server.address;
    let over = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        let greedy = scope.spawn(|| {
            let mut client = Client::connect(address)?;
            client.send(&get("/sparse.bin", &[]))?;
            let bytes = client.head(Framing::Content)?.content_bytes as u64;
            let mut taken = 0;
            while taken < bytes && !over.load(Relaxed) {
                let piece = (1 << 20).min(bytes - taken);
                client.content(piece, |_, _| Ok(()))?;
                taken += piece;
            }
            client.reset().map_err(Failed::from)
        });
        let asked = ask_often(address, LATE_MAX);
        over.store(true, Relaxed);
        greedy.join().unwrap_or_else(|_panic| Err("the greedy client panicked".into())).and(asked)
    });
    result?;
    server.stop()?;
    DONE
}

fn ask_often(address: SocketAddr, late_max: Duration) -> Result<(), Failed> {
    let mut client = Client::connect(address)?;
    for _ in 0..200 {
        let asked = Instant::now();
        client.get("/digits.txt")?;
        if asked.elapsed() > late_max {
            return Err(format!("a response of ten bytes took {:?}", asked.elapsed()).into());
        }
    }
    Ok(())
}

fn head_equals_get(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config::default())?;
    let mut client = Client::connect(server.address)?;
    let patterns = PATTERNS.iter().map(|(name, _)| format!("/{name}"));
    let others = [
        "/",
        "/digits.txt",
        "/empty.txt",
        "/kilobyte.txt",
        "/style.css",
        "/picture.png",
        "/README",
        "/dir",
        "/dir/",
        "/dir?query",
        "/bare/",
        "/odd/",
        "/missing",
        "/digits.txt/",
        "/.hidden",
        "/.well-known/token",
        "/fifo",
        "/link-file",
        "/link-outside",
        "/%ff%fe.txt",
        "/..",
        "/%",
        "http://triptych.test/digits.txt",
    ];
    for target in others.map(str::to_owned).into_iter().chain(patterns) {
        for fields in [
            &[][..],
            &["If-None-Match: *"],
            &["If-Match: \"x\""],
            &["If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT"],
        ] {
            client.send(&get(&target, fields))?;
            let got = client.response(Framing::Content)?;
            client.send(&request("HEAD", &target, fields))?;
            let told = client.response(Framing::HeadOnly)?;
            compare(&mask_date(&got.head), &mask_date(&told.head))
                .map_err(|failed| format!("{target} {fields:?}: {}", failed.message().unwrap_or_default()))?;
        }
    }
    server.stop()?;
    DONE
}

//! Large inputs: content from many clients at once, and more pipelined requests than either side can buffer.

use std::io::Write;
use std::thread;

use common::Config;
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::census::{connections_begin, connections_end};
use crate::client::Client;
use crate::load::{expect_end, join_all};
use crate::response::Framing;
use crate::row::{get, request};

pub(super) const TESTS: &[(&str, Test)] = &[
    ("content_from_many_clients_at_once", content_from_many_clients_at_once),
    ("a_refusal_reaches_who_goes_on_sending", a_refusal_reaches_who_goes_on_sending),
    ("a_pipeline_longer_than_any_buffer", a_pipeline_longer_than_any_buffer),
    ("a_connection_for_each_request", a_connection_for_each_request),
];

/// More pieces are in flight than a server has buffers; none may be lost or mixed up.
fn content_from_many_clients_at_once(ground: Ground<'_>) -> Outcome {
    const CLIENTS: usize = 400;
    const PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
    const PIECES: usize = 8;
    let server = ground.serve(Config::default())?;
    let length = format!("Content-Length: {}", PIECE.len() * PIECES);
    let mut clients = (0..CLIENTS).map(|_| Client::connect(server.address)).collect::<Result<Vec<_>, _>>()?;
    for client in &mut clients {
        client.send(&request("POST", "/digits.txt", &[&length]))?;
    }
    for _ in 0..PIECES {
        for client in &mut clients {
            client.send(&PIECE)?;
        }
    }
    for client in &mut clients {
        // The next response proves that exactly the content was consumed.
        client.send(&get("/digits.txt", &[]))?;
        for expected in [405, 200] {
            let status = client.response(Framing::Content)?.status;
            if status != expected {
                return Err(format!("{status} instead of {expected}").into());
            }
        }
    }
    drop(clients);
    server.stop()?;
    DONE
}

/// A client that is refused in the middle of a large upload may not notice before it is through: it is heard to its
/// end, so that it reads the answer instead of a reset.
fn a_refusal_reaches_who_goes_on_sending(ground: Ground<'_>) -> Outcome {
    const UPLOAD_BYTES: usize = 20 << 20;
    let server = ground.serve(Config::default())?;
    let length = format!("Content-Length: {UPLOAD_BYTES}");
    for (what, head, status) in [
        ("a length that is too large", request("POST", "/digits.txt", &[&length]), 413),
        ("chunks that become too much", request("PUT", "/digits.txt", &["Transfer-Encoding: chunked"]), 413),
        ("no chunks at all", request("POST", "/digits.txt", &["Transfer-Encoding: chunked"]), 400),
        ("what isn't a request", get("/digits.txt", &["no colon"]), 400),
        ("content of unknown length", request("POST", "/digits.txt", &["Transfer-Encoding: gzip"]), 400),
    ] {
        let chunks = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        let piece = if what.starts_with("chunks") { chunks } else { vec![b'x'; 0x10000] };
        let mut client = Client::connect(server.address)?;
        client.send(&head)?;
        for sent in (0..UPLOAD_BYTES).step_by(0x10000) {
            client.send(&piece).map_err(|error| format!("{what}: {error} after {sent} bytes"))?;
        }
        let response = client.response(Framing::Content)?;
        if response.status != status || !response.closes() {
            return Err(format!("{what}: {} instead of {status}", response.status).into());
        }
        expect_end(&mut client)?;
    }
    server.stop()?;
    DONE
}

/// The client sends and reads at the same time. The server must neither lose its place nor stall.
fn a_pipeline_longer_than_any_buffer(ground: Ground<'_>) -> Outcome {
    const ROUNDS: usize = 4000;
    const TARGETS: [(&str, u16); 5] =
        [("/digits.txt", 200), ("/missing", 404), ("/4096.bin", 200), ("/dir", 301), ("/%", 400)];
    let server = ground.serve(Config::default())?;
    let mut client = Client::connect(server.address)?;
    let mut writer = client.writer()?;
    let piece: Vec<u8> = TARGETS.iter().flat_map(|(target, _)| get(target, &[]).to_vec()).collect();
    let answered = thread::scope(|scope| {
        let sent = scope.spawn(move || writer.write_all(&piece.repeat(ROUNDS)).map_err(Failed::from));
        for round in 0..ROUNDS {
            for (target, expected) in TARGETS {
                let status = client.response(Framing::Content)?.status;
                if status != expected {
                    return Err(format!("round {round}: {status} instead of {expected} for {target}").into());
                }
            }
        }
        join_all([sent])
    });
    answered?;
    drop(client);
    server.stop()?;
    DONE
}

fn a_connection_for_each_request(ground: Ground<'_>) -> Outcome {
    const CLIENTS: usize = 16;
    const REQUESTS: usize = 150;
    let server = ground.serve(Config { workers: 2, ..Config::default() })?;
    let address = server.address;
    let ask = || {
        for round in 0..REQUESTS {
            let mut client = Client::connect(address)?;
            // Alternate which side closes first.
            let fields: &[&str] = if round % 2 == 0 { &["Connection: close"] } else { &[] };
            client.send(&get("/digits.txt", fields))?;
            client.response(Framing::Content)?;
            if round % 2 == 0 && !client.rest()?.is_empty() {
                return Err("bytes after the last response".into());
            }
        }
        Ok(())
    };
    thread::scope(|scope| join_all((0..CLIENTS).map(|_| scope.spawn(ask)).collect::<Vec<_>>()))?;
    let requests = (CLIENTS * REQUESTS) as u64;
    connections_begin(&server, requests)?;
    connections_end(&server)?;
    let counts = server.service().stats.totals();
    if counts.requests() != requests || counts.errors != 0 {
        return Err(format!("counted: {counts}").into());
    }
    server.stop()?;
    DONE
}

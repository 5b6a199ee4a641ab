//! Connections that begin with a header of the PROXY protocol: what follows a right one is answered as if there were
//! none, and nothing is sent to who sends a wrong one.

use std::time::{Duration, Instant};

use common::machine::proxies::Proxies;
use common::{CacheConfig, Config, SiteOptions};
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::census::{connections_begin, connections_end};
use crate::client::{Client, PATIENCE};
use crate::deadline;
use crate::exchange::{compare, mask_date};
use crate::load::{expect_dropped, expect_end};
use crate::response::Framing;
use crate::row::get;
use crate::server::Server;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("answers_behind_a_header", answers_behind_a_header),
    ("a_header_comes_in_any_pieces", a_header_comes_in_any_pieces),
    ("a_long_header", a_long_header),
    ("wrong_headers", wrong_headers),
    ("a_header_that_is_cut", a_header_that_is_cut),
    ("a_header_that_never_comes", a_header_that_never_comes),
    ("a_header_of_a_stranger", a_header_of_a_stranger),
    ("a_drain_ends_who_has_said_nothing", a_drain_ends_who_has_said_nothing),
];

const LINE: &[u8] = b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n";
/// Version 2, with a TLV.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xcb\0\x71\x09\x7f\0\0\x01\0\x01\0\x02\x04\0\x01\0";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn config(trusted: &str) -> Config {
    let ranges = vec![trusted.parse().expect("a range")];
    let proxies = Proxies { ranges, send_header: true }.into();
    Config { proxies, cache: CacheConfig::OFF, ..Config::default() }
}

fn ours() -> Config {
    config("127.0.0.0/8")
}

/// Requests of each kind, pipelined: a file, none, a page, and one that ends the connection.
fn requests() -> Vec<u8> {
    [
        &get("/digits.txt", &[])[..],
        &get("/missing", &[]),
        &get("/65537.bin", &["Range: bytes=5-70"]),
        &get("/digits.txt", &["Connection: close"]),
    ]
    .concat()
}

/// Everything that a server answers to those, to its end.
fn hear(client: &mut Client) -> Result<Vec<u8>, Failed> {
    let mut all = Vec::new();
    for _ in 0..4 {
        let answer = client.response(Framing::Content)?;
        all.extend(mask_date(&answer.head));
        all.extend(&answer.content);
    }
    expect_end(client)?;
    Ok(all)
}

/// What a server answers that knows no proxies.
fn plain(ground: Ground<'_>) -> Result<Vec<u8>, Failed> {
    let server = ground.serve(Config { cache: CacheConfig::OFF, ..Config::default() })?;
    let mut client = Client::connect(server.address)?;
    client.send(&requests())?;
    let answers = hear(&mut client)?;
    server.stop()?;
    Ok(answers)
}

fn answers_behind_a_header(ground: Ground<'_>) -> Outcome {
    let expected = plain(ground)?;
    let server = ground.serve(ours())?;
    for header in [LINE, BINARY, LOCAL, b"PROXY UNKNOWN\r\n"] {
        for round in 0..3 {
            let mut client = Client::connect(server.address)?;
            if round == 0 {
                client.send(header)?;
                client.send(&requests())?;
            } else {
                client.send(&[header, &requests()].concat())?;
            }
            compare(&expected, &hear(&mut client)?)?;
        }
    }
    connections_end(&server)?;
    if server.service().stats.totals().errors != 0 {
        return Err("an error was counted".into());
    }
    server.stop()?;
    DONE
}

/// Waits until the server has read so many bytes, so that the next piece arrives alone.
fn await_reading(server: &Server, bytes: u64) -> Result<(), Failed> {
    deadline::within(PATIENCE, "the server to read what was sent", || {
        server.service().stats.totals().bytes_in >= bytes
    })
}

fn a_header_comes_in_any_pieces(ground: Ground<'_>) -> Outcome {
    let expected = plain(ground)?;
    let server = ground.serve(ours())?;
    let mut sent = 0;
    for header in [LINE, BINARY] {
        let bytes = [header, &requests()].concat();
        // A byte at a time.
        let mut client = Client::connect(server.address)?;
        for byte in &bytes {
            client.send(&[*byte])?;
            sent += 1;
            await_reading(&server, sent)?;
        }
        compare(&expected, &hear(&mut client)?)?;
        // In two pieces, of which the first ends anywhere in the header or in the first request.
        for cut in 1..header.len() + 30 {
            let mut client = Client::connect(server.address)?;
            client.send(&bytes[..cut])?;
            await_reading(&server, sent + cut as u64)?;
            client.send(&bytes[cut..])?;
            let answers = hear(&mut client)?;
            compare(&expected, &answers)
                .map_err(|failed| format!("cut after {cut}: {}", failed.message().unwrap_or_default()))?;
            sent += bytes.len() as u64;
        }
    }
    server.stop()?;
    DONE
}

/// The longest one that is taken, and more requests behind it than fit into one receive.
fn a_long_header(ground: Ground<'_>) -> Outcome {
    const REQUESTS: usize = 2000;
    let server = ground.serve(ours())?;
    let value = u16::try_from(common::http::proxy_header::HEADER_BYTES_MAX - 16 - 12 - 3)?;
    let mut header = BINARY[..14].to_vec();
    header.extend((12 + 3 + value).to_be_bytes());
    header.extend(&BINARY[16..28]);
    header.push(4);
    header.extend(value.to_be_bytes());
    header.extend(vec![b'\n'; usize::from(value)]);
    let mut client = Client::connect(server.address)?;
    let mut writer = client.writer()?;
    let bytes = [&header[..], &get("/missing", &[]).repeat(REQUESTS)].concat();
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || std::io::Write::write_all(&mut writer, &bytes));
        for _ in 0..REQUESTS {
            client.response(Framing::Content)?;
        }
        sent.join().map_err(|_| "the writer panicked")?.map_err(Failed::from)
    })?;
    drop(client);
    header[14..16].copy_from_slice(&(12 + 3 + value + 1).to_be_bytes());
    let mut client = Client::connect(server.address)?;
    client.send(&header)?;
    expect_dropped(&mut client)?;
    server.stop()?;
    DONE
}

fn wrong_headers(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(ours())?;
    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat();
    let wrong: [&[u8]; 9] = [
        b"",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
        &long,
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c\x01\x01\x01\x01\x02\x02\x02\x02\0\x01\0\x02",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\x01\x01\x01\x01",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\x01\x01\x01\x01\x02\x02\x02\x02\0\x01\0\x02\x04\0\x09",
    ];
    for header in wrong {
        let bytes = [header, &get("/digits.txt", &[])].concat();
        let mut client = Client::connect(server.address)?;
        client.send(&bytes)?;
        expect_dropped(&mut client).map_err(|failed| {
            format!("{}: {}", header.escape_ascii(), failed.message().unwrap_or_default())
        })?;
        // It ends as soon as it is known to be wrong.
        let mut client = Client::connect(server.address)?;
        for byte in &bytes {
            if client.send(&[*byte]).is_err() {
                break;
            }
        }
        expect_dropped(&mut client)?;
    }
    connections_end(&server)?;
    let errors = server.service().stats.totals().errors;
    if errors != 2 * wrong.len() as u64 {
        return Err(format!("{errors} errors were counted").into());
    }
    server.stop()?;
    DONE
}

fn a_header_that_is_cut(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(ours())?;
    for header in [LINE, BINARY] {
        for length in [0, 1, 12, 15, 16, header.len() - 1] {
            let mut client = Client::connect(server.address)?;
            client.send(&header[..length])?;
            client.half_close()?;
            expect_end(&mut client)?;
        }
        // It is whole, but there is no request, or half of one.
        let mut client = Client::connect(server.address)?;
        client.send(header)?;
        client.half_close()?;
        expect_end(&mut client)?;
        let mut client = Client::connect(server.address)?;
        client.send(&[header, b"GET / HTTP/1.1\r\n"].concat())?;
        client.half_close()?;
        let refused = client.response(Framing::Content)?;
        if refused.status != 400 {
            return Err(format!("{refused:?}").into());
        }
    }
    connections_end(&server)?;
    server.stop()?;
    DONE
}

/// A proxy has the time of a head, from when it connects, however it trickles.
fn a_header_that_never_comes(ground: Ground<'_>) -> Outcome {
    const LIMIT: Duration = Duration::from_millis(400);
    const LATE_MAX: Duration = Duration::from_millis(1000);
    let server = ground.serve(Config { head_timeout: LIMIT, ..ours() })?;
    for piece in [&b""[..], b"PROXY TCP4 ", &BINARY[..20]] {
        deadline::in_one_of_three(|| {
            let begun = Instant::now();
            let mut client = Client::connect(server.address)?;
            for byte in piece {
                client.send(&[*byte])?;
                std::thread::sleep(LIMIT / 50);
            }
            expect_end(&mut client)?;
            if begun.elapsed() < LIMIT || begun.elapsed() > LIMIT + LATE_MAX {
                return Err(format!("{}: after {:?}", piece.escape_ascii(), begun.elapsed()).into());
            }
            connections_end(&server)
        })?;
    }
    // Once it has come, a connection is like any other.
    let mut client = Client::connect(server.address)?;
    client.send(LINE)?;
    std::thread::sleep(LIMIT * 2);
    client.get("/digits.txt")?;
    drop(client);
    server.stop()?;
    DONE
}

/// For them it is a server of HTTP, and the header a bad request.
fn a_header_of_a_stranger(ground: Ground<'_>) -> Outcome {
    let expected = plain(ground)?;
    let server = ground.serve(config("10.0.0.0/8"))?;
    let mut client = Client::connect(server.address)?;
    client.send(&requests())?;
    compare(&expected, &hear(&mut client)?)?;
    for header in [LINE, BINARY, LOCAL] {
        let mut client = Client::connect(server.address)?;
        client.send(&[header, &requests()].concat())?;
        let refused = client.response(Framing::Content)?;
        if refused.status != 400 || !refused.closes() {
            return Err(format!("{refused:?}").into());
        }
        expect_end(&mut client)?;
    }
    server.stop()?;
    DONE
}

fn a_drain_ends_who_has_said_nothing(ground: Ground<'_>) -> Outcome {
    let config = Config { grace: Duration::from_secs(60), ..ours() };
    let server = Server::start(ground.backend, &ground.sites.main(), SiteOptions::default(), config)?;
    let mut silent = Client::connect(server.address)?;
    let mut introduced = Client::connect(server.address)?;
    introduced.send(LINE)?;
    introduced.get("/digits.txt")?;
    connections_begin(&server, 2)?;
    server.drain();
    expect_end(&mut silent)?;
    expect_end(&mut introduced)?;
    server.stop()?;
    DONE
}

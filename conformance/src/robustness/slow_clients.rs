//! Slow clients: whoever takes what it is sent is served to the end, whoever doesn't is given up, and what tells them
//! apart is what their kernel has acknowledged.

use std::thread;
use std::time::{Duration, Instant};

use common::Config;
use common::machine::progress::{LOOKS, RATE_TIMEOUTS};
use libtest_mimic::Failed;

use super::timeouts::{HEARD_LATE, watch_arrivals_until_end};
use super::{DONE, Ground, Outcome, Test};
use crate::census::connections_begin;
use crate::client::{Client, Heard, PATIENCE};
use crate::response::Framing;
use crate::row::get;
use crate::site::pattern_of;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("a_steady_reader_with_wide_buffers", a_steady_reader_with_wide_buffers),
    ("a_trickle_is_no_progress", a_trickle_is_no_progress),
    ("who_takes_the_last_answer_is_not_idle", who_takes_the_last_answer_is_not_idle),
    ("who_never_takes_the_last_answer_is_given_up", who_never_takes_the_last_answer_is_given_up),
];

const SEND_TIMEOUT: Duration = Duration::from_millis(1_200);
const IDLE_TIMEOUT: Duration = Duration::from_millis(300);
/// Allowed delay: a look comes an eighth of the timeout after the last one, and a machine may be busy.
const LATE_MAX: Duration = Duration::from_millis(900);

/// Reads some content at a steady rate for a while.
fn read_steadily(client: &mut Client, bytes: u64, rate: u64, time: Duration) -> Result<u64, Failed> {
    const PIECE_BYTES: u64 = 4_000;
    let begun = Instant::now();
    let mut taken = 0;
    while taken < bytes && begun.elapsed() < time {
        let piece = PIECE_BYTES.min(bytes - taken);
        client.content(piece, |at, received| pattern_of(bytes).check(taken + at, received))?;
        taken += piece;
        let due = Duration::from_millis(taken * 1000 / rate);
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    Ok(taken)
}

/// The buffers of both sides hold megabytes: for far longer than the timeout, the server's has no room that it is told
/// of, although the client reads without a pause.
fn a_steady_reader_with_wide_buffers(ground: Ground<'_>) -> Outcome {
    const RATE: u64 = 150_000;
    let server = ground.serve(Config { send_timeout: SEND_TIMEOUT, ..Config::default() })?;
    let mut client = Client::connect(server.address)?;
    client.send(&get("/8m.bin", &[]))?;
    let bytes = client.head(Framing::Content)?.content_bytes as u64;
    let taken = read_steadily(&mut client, bytes, RATE, SEND_TIMEOUT * 5)?;
    if taken > bytes / 4 {
        return Err(format!("{taken} of {bytes} bytes were read: too fast to prove anything").into());
    }
    client.content(bytes - taken, |at, received| pattern_of(bytes).check(taken + at, received))?;
    drop(client);
    server.stop()?;
    DONE
}

/// A client that takes something all the time, but too little.
fn a_trickle_is_no_progress(ground: Ground<'_>) -> Outcome {
    const RATE: u64 = 100_000;
    let window = SEND_TIMEOUT * RATE_TIMEOUTS;
    for (rate_min, is_enough) in [(RATE * 2, false), (RATE / 2, true)] {
        let config = Config { send_timeout: SEND_TIMEOUT, send_rate_min: rate_min, ..Config::default() };
        let server = ground.serve(config)?;
        let mut client = Client::connect_narrow(server.address, 16 * 1024)?;
        client.send(&get("/8m.bin", &[]))?;
        let bytes = client.head(Framing::Content)?.content_bytes as u64;
        let begun = Instant::now();
        let served = read_steadily(&mut client, bytes, RATE, window * 2);
        let elapsed = begun.elapsed();
        if served.is_ok() != is_enough {
            return Err(format!("{rate_min} asked, {RATE} bytes a second taken: {served:?}").into());
        }
        // It was the rate, not a standstill: a client that takes nothing is given up after the timeout.
        if !is_enough && (elapsed < window || elapsed > window + SEND_TIMEOUT / LOOKS + LATE_MAX) {
            return Err(format!("given up after {elapsed:?} instead of {window:?}").into());
        }
        drop(client);
        server.stop()?;
    }
    DONE
}

/// The last byte of an answer may be in the server's buffer long before the client has it. It isn't idle meanwhile, and
/// is kept for its next request.
fn who_takes_the_last_answer_is_not_idle(ground: Ground<'_>) -> Outcome {
    const RATE: u64 = 300_000;
    let server = ground.serve(Config { idle_timeout: IDLE_TIMEOUT, ..Config::default() })?;
    let mut client = Client::connect_narrow(server.address, 16 * 1024)?;
    client.send(&get("/300000.bin", &[]))?;
    let bytes = client.head(Framing::Content)?.content_bytes as u64;
    let begun = Instant::now();
    let taken = read_steadily(&mut client, bytes, RATE, PATIENCE)?;
    if taken < bytes || begun.elapsed() < IDLE_TIMEOUT * 2 {
        return Err(format!("{taken} bytes in {:?} prove nothing", begun.elapsed()).into());
    }
    if client.get("/digits.txt")?.status != 200 {
        return Err("no answer to the next request".into());
    }
    // Then it is idle, and its connection ends as any other.
    match client.hear(Instant::now() + PATIENCE)? {
        Heard::End => {}
        heard => return Err(format!("{heard:?} instead of the end").into()),
    }
    drop(client);
    server.stop()?;
    DONE
}

/// Whether it keeps the connection or not: the server's last byte is in a buffer, and the client takes nothing.
fn who_never_takes_the_last_answer_is_given_up(ground: Ground<'_>) -> Outcome {
    let config = Config { idle_timeout: IDLE_TIMEOUT, send_timeout: SEND_TIMEOUT, ..Config::default() };
    let server = ground.serve(config)?;
    let mut client = Client::connect_narrow(server.address, 16 * 1024)?;
    client.send(&get("/300000.bin", &[]))?;
    client.hear(Instant::now() + PATIENCE)?;
    let last_read = Instant::now();
    connections_begin(&server, 1)?;
    let last_arrival = watch_arrivals_until_end(&server, &client)?;
    let at_least = last_read.elapsed() + HEARD_LATE;
    if at_least < SEND_TIMEOUT || last_arrival.elapsed() > IDLE_TIMEOUT + SEND_TIMEOUT + LATE_MAX {
        return Err(format!("given up after {at_least:?}, {:?}", last_arrival.elapsed()).into());
    }
    let end = loop {
        match client.hear(Instant::now() + PATIENCE)? {
            Heard::Bytes(_) => {}
            end => break end,
        }
    };
    if end != Heard::Reset {
        return Err(format!("{end:?} instead of a reset").into());
    }
    drop(client);
    server.stop()?;
    DONE
}

//! Timeouts: each one fires, starts at the right moment, and isn't extended by a trickle of bytes.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::Config;
use common::machine::connection::LINGER_BYTES_MAX;
use common::machine::connection::LINGER_TIMEOUT;
use libtest_mimic::Failed;

use super::{DONE, Ground, Outcome, Test};
use crate::census::{connections_begin, connections_end};
use crate::client::{Client, Heard, PATIENCE};
use crate::deadline;
use crate::load::expect_end;
use crate::response::{Framing, Response};
use crate::row::{get, request};
use crate::server::Server;
use crate::site::pattern_of;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("slow_head", slow_head),
    ("slow_head_of_a_second_request", slow_head_of_a_second_request),
    ("slow_head_behind_an_answer", slow_head_behind_an_answer),
    ("slow_content", slow_content),
    ("idle_from_the_start", idle_from_the_start),
    ("idle_after_an_answer", idle_after_an_answer),
    ("busy_is_not_idle", busy_is_not_idle),
    ("slow_reader", slow_reader),
    ("slow_reader_of_many_answers", slow_reader_of_many_answers),
    ("steady_reader", steady_reader),
    ("lingering_ends", lingering_ends),
    ("lingering_ends_for_who_goes_on", lingering_ends_for_who_goes_on),
    ("lingering_reads_only_so_much", lingering_reads_only_so_much),
    ("the_date_goes_on", the_date_goes_on),
];

/// The timeout under test; the others are far longer.
const LIMIT: Duration = Duration::from_millis(300);
/// A longer timeout, where a stalled machine must not affect the result.
const WIDE_LIMIT: Duration = Duration::from_millis(1_200);
/// Allowed delay: clocks are read once per loop turn, and the wheel is coarse. But nothing may fire early.
const LATE_MAX: Duration = Duration::from_millis(700);
/// The server may have sent its last byte this long before the client started its clock.
pub(super) const HEARD_LATE: Duration = Duration::from_millis(50);
/// The interval between two bytes of a trickle.
const TRICKLE: Duration = Duration::from_millis(20);
const SMALL_BUFFER_BYTES: usize = 16 * 1024;

/// Checks that an event came after the timeout, but not much later.
fn check_time(begun: Instant, limit: Duration) -> Result<(), Failed> {
    check_time_between(begun, begun, limit)
}

/// The same if the exact start is unknown but lies between two moments.
fn check_time_between(earliest: Instant, latest: Instant, limit: Duration) -> Result<(), Failed> {
    let elapsed = earliest.elapsed();
    if elapsed < limit {
        return Err(format!("after {elapsed:?}, before the timeout of {limit:?}").into());
    }
    let elapsed = latest.elapsed();
    if elapsed > limit + LATE_MAX {
        return Err(format!("only after {elapsed:?}; the timeout is {limit:?}").into());
    }
    Ok(())
}

/// Sends one byte at a time, slowly, until the server reacts.
fn trickle(client: &mut Client, bytes: &[u8]) -> Result<(), Failed> {
    for byte in bytes {
        client.send(&[*byte])?;
        match client.hear(Instant::now() + TRICKLE)? {
            Heard::Silence => {}
            Heard::Bytes(_) => return Ok(()),
            heard @ (Heard::End | Heard::Reset) => return Err(format!("{heard:?} without a response").into()),
        }
    }
    Err("the server waits forever".into())
}

fn expect_408(client: &mut Client) -> Result<(), Failed> {
    let response = client.response(Framing::Content)?;
    expect_status(&response, 408)?;
    if !response.closes() {
        return Err("408 must close the connection".into());
    }
    expect_end(client)
}

fn expect_status(response: &Response, status: u16) -> Result<(), Failed> {
    if response.status == status {
        Ok(())
    } else {
        Err(format!("{} instead of {status}", response.status).into())
    }
}

/// Closes the client first: a server that has half-closed waits for it.
fn end(client: Client, server: Server) -> Outcome {
    drop(client);
    server.stop()?;
    DONE
}

fn endless_head() -> Vec<u8> {
    get("/digits.txt", &[&format!("X: {}", "x".repeat(1000))]).to_vec()
}

fn slow_head(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config { head_timeout: LIMIT, ..Config::default() })?;
    let mut client = Client::connect(server.address)?;
    // The time before the first byte doesn't count.
    if client.hear(Instant::now() + LIMIT * 2)? != Heard::Silence {
        return Err("the head timeout started before the first byte".into());
    }
    let begun = Instant::now();
    trickle(&mut client, &endless_head())?;
    check_time(begun, LIMIT)?;
    expect_408(&mut client)?;
    end(client, server)
}

fn slow_head_of_a_second_request(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config { head_timeout: LIMIT, ..Config::default() })?;
    let mut client = Client::connect(server.address)?;
    expect_status(&client.get("/digits.txt")?, 200)?;
    if client.hear(Instant::now() + LIMIT * 2)? != Heard::Silence {
        return Err("the head timeout started between requests".into());
    }
    let begun = Instant::now();
    trickle(&mut client, &endless_head())?;
    check_time(begun, LIMIT)?;
    expect_408(&mut client)?;
    end(client, server)
}

/// The first bytes of the second request arrive with the first request.
fn slow_head_behind_an_answer(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config { head_timeout: LIMIT, ..Config::default() })?;
    let mut client = Client::connect(server.address)?;
    let begun = Instant::now();
    client.send(&get("/digits.txt", &[]).with("GET /digits"))?;
    expect_status(&client.response(Framing::Content)?, 200)?;
    expect_408(&mut client)?;
    check_time(begun, LIMIT)?;
    end(client, server)
}

fn slow_content(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config { head_timeout: LIMIT, ..Config::default() })?;
    for field in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut client = Client::connect(server.address)?;
        client.send(&request("POST", "/digits.txt", &[field]))?;
        let begun = Instant::now();
        // Sent as a chunk of 500 bytes that never completes.
        trickle(&mut client, &[b"1f4\r\n", [b'x'; 400].as_slice()].concat())?;
        check_time(begun, LIMIT)?;
        expect_408(&mut client)?;
    }
    server.stop()?;
    DONE
}

fn idle_from_the_start(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config { idle_timeout: LIMIT, ..Config::default() })?;
    let begun = Instant::now();
    let mut client = Client::connect(server.address)?;
    expect_end(&mut client)?;
    check_time(begun, LIMIT)?;
    end(client, server)
}

fn idle_after_an_answer(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config { idle_timeout: LIMIT, ..Config::default() })?;
    for target in ["/digits.txt", "/missing", "/1m.bin"] {
        let mut client = Client::connect(server.address)?;
        let begun = Instant::now();
        client.get(target)?;
        expect_end(&mut client)?;
        check_time(begun, LIMIT)?;
    }
    server.stop()?;
    DONE
}

/// Every request restarts the idle timeout.
fn busy_is_not_idle(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config { idle_timeout: WIDE_LIMIT, ..Config::default() })?;
    let mut client = Client::connect(server.address)?;
    for _ in 0..6 {
        if client.hear(Instant::now() + WIDE_LIMIT / 4)? != Heard::Silence {
            return Err("closed while in use".into());
        }
        expect_status(&client.get("/digits.txt")?, 200)?;
    }
    expect_end(&mut client)?;
    end(client, server)
}

/// A client that doesn't read is reset.
fn slow_reader(ground: Ground<'_>) -> Outcome {
    expect_reset_of_whoever_reads_nothing(ground, &get("/8m.bin", &[]))
}

/// The same with many small responses from memory.
fn slow_reader_of_many_answers(ground: Ground<'_>) -> Outcome {
    expect_reset_of_whoever_reads_nothing(ground, &get("/missing", &[]).repeat(10_000))
}

fn expect_reset_of_whoever_reads_nothing(ground: Ground<'_>, requests: &[u8]) -> Outcome {
    let config =
        Config { send_timeout: WIDE_LIMIT, send_buffer_bytes: Some(SMALL_BUFFER_BYTES), ..Config::default() };
    let server = ground.serve(config)?;
    let mut client = Client::connect_narrow(server.address, SMALL_BUFFER_BYTES)?;
    // The server may stop reading long before the last request.
    client.send_some(requests, LIMIT / 2)?;
    // Read something first, so that there is a moment when reading stops.
    client.hear(Instant::now() + PATIENCE)?;
    let last_read = Instant::now();
    connections_begin(&server, 1)?;
    let last_arrival = watch_arrivals_until_end(&server, &client)?;
    check_time_between(last_read - HEARD_LATE, last_arrival, WIDE_LIMIT)?;
    let mut total = 0;
    loop {
        match client.hear(Instant::now() + PATIENCE)? {
            Heard::Bytes(count) => total += count,
            Heard::Reset => break,
            heard @ (Heard::End | Heard::Silence) => {
                return Err(format!("{heard:?} instead of a reset").into());
            }
        }
    }
    if total > 1 << 20 {
        return Err(format!("{total} bytes arrived, although the client wasn't reading").into());
    }
    end(client, server)
}

/// Waits until the server has no connections left; returns when its last bytes arrived.
///
/// Bytes still arrive after the client has stopped reading: its last reads have freed some buffer space. If that is
/// less than a segment, the server's kernel fills it with window probes, after 0.2 s, 0.6 s and so on (RFC 9293,
/// section 3.8.6.1). To the server, that is progress.
pub(super) fn watch_arrivals_until_end(server: &Server, client: &Client) -> Result<Instant, Failed> {
    let mut unread = client.unread_bytes()?;
    let mut last_arrival = Instant::now();
    deadline::within(PATIENCE, "the connection to end", || {
        let now_unread = client.unread_bytes().unwrap_or(unread);
        if now_unread != unread {
            (unread, last_arrival) = (now_unread, Instant::now());
        }
        server.service().stats.active() == 0
    })?;
    Ok(last_arrival)
}

/// A client that keeps reading, however slowly, gets the whole response.
fn steady_reader(ground: Ground<'_>) -> Outcome {
    // Small enough that most of it isn't in the sockets' buffers by the time that the timeout has passed.
    const PIECE_BYTES: u64 = 8_000;
    let config =
        Config { send_timeout: WIDE_LIMIT, send_buffer_bytes: Some(SMALL_BUFFER_BYTES), ..Config::default() };
    let server = ground.serve(config)?;
    let mut client = Client::connect_narrow(server.address, SMALL_BUFFER_BYTES)?;
    client.send(&get("/300000.bin", &[]))?;
    let bytes = client.head(Framing::Content)?.content_bytes as u64;
    let begun = Instant::now();
    let mut position = 0;
    while position < bytes {
        let piece = PIECE_BYTES.min(bytes - position);
        let start = position;
        client.content(piece, |at, received| pattern_of(bytes).check(start + at, received))?;
        position += piece;
        thread::sleep(WIDE_LIMIT / 12); // the pace of this client
    }
    if begun.elapsed() < WIDE_LIMIT {
        return Err("the client was too fast to prove anything".into());
    }
    expect_status(&client.get("/digits.txt")?, 200)?;
    end(client, server)
}

/// After an error, the server waits for the client to close, but not forever.
fn lingering_ends(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config::default())?;
    let mut silent = Client::connect(server.address)?;
    silent.send(b"\0")?;
    expect_status(&silent.response(Framing::Content)?, 400)?;
    let begun = Instant::now();
    connections_begin(&server, 1)?;
    connections_end(&server)?;
    check_time_between(begun - HEARD_LATE, begun, LINGER_TIMEOUT)?;
    end(silent, server)
}

/// Nor for one that goes on sending, a little at a time.
fn lingering_ends_for_who_goes_on(ground: Ground<'_>) -> Outcome {
    const LINGER: Duration = Duration::from_secs(4);
    let server = ground.serve(Config { linger_time: LINGER, ..Config::default() })?;
    let mut talkative = Client::connect(server.address)?;
    talkative.send(b"\0")?;
    expect_status(&talkative.response(Framing::Content)?, 400)?;
    let begun = Instant::now();
    connections_begin(&server, 1)?;
    while server.service().stats.active() > 0 {
        if begun.elapsed() > LINGER + LATE_MAX {
            return Err(format!("it still lingers after {:?}", begun.elapsed()).into());
        }
        // Once the server has closed, this fails.
        let _sent = talkative.send_some(b"x", LIMIT);
        thread::sleep(TRICKLE);
    }
    // Nothing extends it beyond its end, so the last silence may begin that much before.
    if begun.elapsed() < LINGER - LINGER_TIMEOUT {
        return Err(format!("it lingered for {:?} only", begun.elapsed()).into());
    }
    end(talkative, server)
}

/// Nor does it read forever what comes as fast as it goes.
fn lingering_reads_only_so_much(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config::default())?;
    let mut talkative = Client::connect(server.address)?;
    talkative.send(b"\0")?;
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < PATIENCE {
        match talkative.send_some(&[b'x'; 256 * 1024], LIMIT) {
            Ok(count) => sent += count,
            Err(_closed) => break,
        }
    }
    connections_begin(&server, 1)?;
    connections_end(&server)?;
    // Plus the contents of the buffers on both sides.
    if !(LINGER_BYTES_MAX..LINGER_BYTES_MAX + (16 << 20)).contains(&sent) {
        return Err(format!("{sent} bytes were taken after a refusal").into());
    }
    end(talkative, server)
}

/// The clock is read once per loop turn, but must not stand still while the loop sleeps, nor lag behind while it doesn't:
/// a date is of the second in which its answer was made.
fn the_date_goes_on(ground: Ground<'_>) -> Outcome {
    const PAUSE: Duration = Duration::from_millis(1_100);
    const STEPS: u32 = 110;
    /// Between two clocks that are read one after the other.
    const APART: Duration = Duration::from_millis(2);
    let server = ground.serve(Config::default())?;
    let mut client = Client::connect(server.address)?;
    // A loop that sleeps for more than a second, then is busy for as long; a file from the cache, and what is never.
    let pauses = [PAUSE].into_iter().chain((0..STEPS).map(|_| PAUSE / STEPS));
    for (pause, target) in pauses.zip(["/digits.txt", "/missing"].into_iter().cycle()) {
        client.hear(Instant::now() + pause)?;
        let earliest = SystemTime::now() - APART;
        let response = client.get(target)?;
        let latest = SystemTime::now();
        let date = httpdate::parse_http_date(response.require("Date")?)?;
        if date > latest || date + Duration::from_secs(1) <= earliest {
            let (date, asked) = (httpdate::fmt_http_date(date), earliest.duration_since(date));
            return Err(format!("asked {asked:?} after {date}, which is what the answer says").into());
        }
    }
    end(client, server)
}

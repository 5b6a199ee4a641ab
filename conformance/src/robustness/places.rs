//! More clients than places, and many at once: who gives way, who waits, and that nobody is forgotten.

use std::thread;
use std::time::{Duration, Instant};

use common::Config;
use common::service::idles::{HEAD_SHARE, IDLE_MIN, LINGERING_MIN};
use libtest_mimic::{Completion, Failed};
use rustix::process::Signal;

use super::{DONE, Ground, Outcome, Test};
use crate::census::connections_end;
use crate::child::Settings;
use crate::client::{Client, Heard, PATIENCE};
use crate::deadline;
use crate::load::{Download, expect_end};
use crate::response::Framing;
use crate::row::get;
use crate::server::Server;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("the_longest_idle_give_way", the_longest_idle_give_way),
    ("the_longest_idle_of_two_workers_give_way", the_longest_idle_of_two_workers_give_way),
    ("who_has_begun_a_request_stays", who_has_begun_a_request_stays),
    ("idle_ones_go_first_then_lingering_ones_then_half_sent_heads", the_order_of_giving_way),
    ("half_sent_heads_have_their_time", half_sent_heads_have_their_time),
    ("an_answer_under_way_never_gives_way", an_answer_under_way_never_gives_way),
    ("a_request_on_its_way_is_answered", a_request_on_its_way_is_answered),
    ("are_for_any_worker", are_for_any_worker),
    ("are_sought_in_all_workers", are_sought_in_all_workers),
    ("none_is_taken_beyond_them", none_is_taken_beyond_them),
    ("a_burst_is_served_at_once", a_burst_is_served_at_once),
    ("the_queue_is_served_before_the_end", the_queue_is_served_before_the_end),
];

/// Of `blocking`, whose threads may run out.
pub(super) const TESTS_OF_THREADS: &[(&str, Test)] =
    &[("idle_clients_give_way_for_want_of_threads", idle_clients_give_way_for_want_of_threads)];

/// The beginning of a request, and the rest of it.
const BEGUN: &[u8] = b"GET /digits.txt HTTP/1.1\r\nHo";
const REST: &[u8] = b"st: here\r\n\r\n";

/// With this timeout, half a request head doesn't give way before a test is over.
const UNHURRIED: Duration = Duration::from_secs(600);

/// A receive buffer that soon blocks the server.
const NARROW_BYTES: usize = 16 * 1024;

fn answer(client: &mut Client) -> Result<(), Failed> {
    match client.response(Framing::Content)?.status {
        200 => Ok(()),
        status => Err(format!("the answer is {status}").into()),
    }
}

/// Clients, each of which has received an answer and waits, the first one longest.
fn idle_clients(server: &Server, count: usize) -> Result<Vec<Client>, Failed> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(server.address)?;
        client.get("/digits.txt")?;
        clients.push(client);
        // A server knows the order to a turn of its loop, or to a thread's turn on a processor.
        thread::sleep(Duration::from_millis(5));
    }
    Ok(clients)
}

/// Sends the first half of a request, and waits until the server has it.
fn begin(server: &Server, clients: &mut [Client]) -> Result<(), Failed> {
    let stats = &server.service().stats;
    let received = stats.totals().bytes_in + (BEGUN.len() * clients.len()) as u64;
    clients.iter_mut().try_for_each(|client| client.send(BEGUN))?;
    deadline::within(PATIENCE, "the first halves to be read", || stats.totals().bytes_in >= received)
}

fn the_longest_idle_give_way(ground: Ground<'_>) -> Outcome {
    give_way_in_order(ground, 1, 6)
}

/// The order is one of all workers.
fn the_longest_idle_of_two_workers_give_way(ground: Ground<'_>) -> Outcome {
    give_way_in_order(ground, 2, 12)
}

/// All places are taken by idle clients; each newcomer is served at the expense of the one that has been idle longest.
fn give_way_in_order(ground: Ground<'_>, workers: usize, places: usize) -> Outcome {
    let server = ground.serve(Config { workers, connections_max: places, ..Config::default() })?;
    let mut clients = idle_clients(&server, places)?;
    // Being asked once more makes the first ones the last ones.
    for client in &mut clients[..2] {
        client.get("/digits.txt")?;
        thread::sleep(Duration::from_millis(5));
    }
    clients.rotate_left(2);
    let mut newcomers = Vec::new();
    let begun = Instant::now();
    while !clients.is_empty() {
        let mut newcomer = Client::connect_narrow(server.address, NARROW_BYTES)?;
        newcomer.get("/digits.txt")?;
        expect_end(&mut clients.remove(0))?;
        for (place, client) in clients.iter_mut().enumerate() {
            if client.hear(Instant::now() + Duration::from_millis(1))? != Heard::Silence {
                return Err(format!("number {place} of {} was closed out of turn", clients.len()).into());
            }
        }
        if server.service().stats.active() > places as u64 {
            return Err("more connections than places".into());
        }
        // Its answer is under way, so it isn't next.
        newcomers.push(Download::begin_on(newcomer)?);
    }
    // The first ones had been asked a moment before.
    if begun.elapsed() < IDLE_MIN * 3 / 4 {
        return Err(format!("all have given way within {:?}", begun.elapsed()).into());
    }
    drop(newcomers);
    server.stop()?;
    DONE
}

fn who_has_begun_a_request_stays(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config { connections_max: 3, head_timeout: UNHURRIED, ..Config::default() })?;
    let mut clients = idle_clients(&server, 3)?;
    begin(&server, &mut clients)?;
    let mut newcomer = Client::connect(server.address)?;
    newcomer.send(&get("/digits.txt", &[]))?;
    if newcomer.hear(Instant::now() + IDLE_MIN * 3)? != Heard::Silence {
        return Err("a place was found although all are busy".into());
    }
    for client in &mut clients {
        client.send(REST)?;
        answer(client)?;
        thread::sleep(Duration::from_millis(5));
    }
    // They are idle now, and the first one has been for longest.
    answer(&mut newcomer)?;
    expect_end(&mut clients.remove(0))?;
    clients.iter_mut().try_for_each(|client| client.get("/digits.txt").map(drop))?;
    drop((clients, newcomer));
    connections_end(&server)?;
    server.stop()?;
    DONE
}

/// Who gives way, in the end: all that have nothing under way.
fn the_order_of_giving_way(ground: Ground<'_>) -> Outcome {
    for workers in [1, 3] {
        give_way_by_rank(ground, workers)?;
    }
    DONE
}

fn give_way_by_rank(ground: Ground<'_>, workers: usize) -> Result<(), Failed> {
    const OTHERS: Duration = Duration::from_millis(20);
    const NONSENSE: &[u8] = b"nonsense\r\n\r\n";
    let linger_time = Duration::from_secs(600);
    let server = ground.serve(Config { workers, connections_max: 3, linger_time, ..Config::default() })?;
    // The longest half a head, then lingering, then idle: the order in which they would go by their time alone.
    let mut partial = Client::connect(server.address)?;
    partial.send(BEGUN)?;
    let mut lingering = Client::connect(server.address)?;
    lingering.send(NONSENSE)?;
    expect_end_of_answer(&mut lingering)?;
    let mut idle = Client::connect(server.address)?;
    idle.get("/digits.txt")?;
    let mut bytes = (BEGUN.len() + NONSENSE.len() + get("/digits.txt", &[]).len()) as u64;
    // Whoever has sent something that isn't read yet stays.
    let is_read = |bytes: u64| {
        let read = || server.service().stats.totals().bytes_in >= bytes;
        deadline::within(PATIENCE, "what was sent to be read", read)
    };
    let until = Instant::now() + LINGERING_MIN.max(Config::default().head_timeout / HEAD_SHARE) + OTHERS * 5;
    while Instant::now() < until {
        lingering.send(b"x")?;
        bytes += 1;
        is_read(bytes)?;
        thread::sleep(OTHERS);
    }
    let mut newcomers = vec![Download::begin(server.address)?];
    expect_end(&mut idle)?;
    lingering.send(b"x").map_err(|error| format!("who lingers went before its time: {error}"))?;
    bytes += 1 + get("/8m.bin", &[]).len() as u64;
    is_read(bytes)?;
    newcomers.push(Download::begin(server.address)?);
    deadline::within(PATIENCE, "who lingers to be gone", || lingering.send(b"x").is_err())?;
    if partial.hear(Instant::now() + OTHERS)? != Heard::Silence {
        return Err("half a head went before its time".into());
    }
    newcomers.push(Download::begin(server.address)?);
    // Without an answer, as an idle one.
    expect_end(&mut partial)?;
    drop(newcomers);
    server.stop()
}

/// Reads an answer and the end behind it.
fn expect_end_of_answer(client: &mut Client) -> Result<(), Failed> {
    client.response(Framing::Content)?;
    expect_end(client)
}

/// Clients that never finish a request head lock nobody out, but each has a fair time for it, and the first goes first.
fn half_sent_heads_have_their_time(ground: Ground<'_>) -> Outcome {
    const HEAD_TIMEOUT: Duration = Duration::from_secs(8);
    let server =
        ground.serve(Config { connections_max: 2, head_timeout: HEAD_TIMEOUT, ..Config::default() })?;
    let begun = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(server.address)?;
        client.send(BEGUN)?;
        clients.push(client);
        thread::sleep(Duration::from_millis(50));
    }
    let mut newcomer = Client::connect(server.address)?;
    newcomer.get("/digits.txt")?;
    let waited = begun.elapsed();
    if !(HEAD_TIMEOUT / HEAD_SHARE..HEAD_TIMEOUT / 2).contains(&waited) {
        return Err(format!("half a head gave way after {waited:?}, of {HEAD_TIMEOUT:?}").into());
    }
    expect_end(&mut clients.remove(0))?;
    clients[0].send(REST)?;
    answer(&mut clients[0])?;
    drop((clients, newcomer));
    server.stop()?;
    DONE
}

fn an_answer_under_way_never_gives_way(ground: Ground<'_>) -> Outcome {
    let server = ground.serve(Config { workers: 2, connections_max: 2, ..Config::default() })?;
    let mut downloads = [Download::begin(server.address)?, Download::begin(server.address)?];
    let mut newcomer = Client::connect(server.address)?;
    newcomer.send(&get("/digits.txt", &[]))?;
    if newcomer.hear(Instant::now() + LINGERING_MIN + IDLE_MIN)? != Heard::Silence {
        return Err("a place was found although all are busy".into());
    }
    server.drain();
    downloads.iter_mut().try_for_each(Download::finish)?;
    drop((downloads, newcomer));
    server.stop()?;
    DONE
}

/// A request and a newcomer come in the same moment: the one who has been idle longest is no longer idle.
fn a_request_on_its_way_is_answered(ground: Ground<'_>) -> Outcome {
    let settings = Settings { connections_max: 2, ..Settings::default() };
    let server = ground.serve_in_child(&settings)?;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(server.address)?;
        client.get("/digits.txt")?;
        clients.push(client);
    }
    thread::sleep(IDLE_MIN * 2); // so that both could give way
    server.signal(Signal::STOP)?;
    clients[0].send(&get("/digits.txt", &[]))?;
    let mut newcomer = Client::connect(server.address)?;
    newcomer.send(&get("/digits.txt", &[]))?;
    server.signal(Signal::CONT)?;
    let response = clients[0].response(Framing::Content)?;
    answer(&mut newcomer)?;
    // Where it was chosen in the very moment, its answer says so.
    let is_last = response.field("connection") == Some("close");
    expect_end(&mut clients[usize::from(!is_last)])?;
    clients[usize::from(is_last)].get("/digits.txt")?;
    drop((clients, newcomer));
    server.stop()?;
    DONE
}

/// However the kernel divides clients between the workers, there is a place for as many as there are places.
fn are_for_any_worker(ground: Ground<'_>) -> Outcome {
    const PLACES: usize = 5;
    // Two workers with shares of their own, two and three, would be enough for three of ten such crowds.
    for _ in 0..12 {
        let server = ground.serve(Config { workers: 2, connections_max: PLACES, ..Config::default() })?;
        let mut clients = idle_clients(&server, PLACES)?;
        // Nobody has had to give way.
        clients.iter_mut().try_for_each(|client| client.get("/digits.txt").map(drop))?;
        drop(clients);
        server.stop()?;
    }
    DONE
}

/// A client waits in the queue of one worker while the others hold all places: one that closes there lets it in.
fn are_sought_in_all_workers(ground: Ground<'_>) -> Outcome {
    deadline::in_one_of_three(|| take_each_other_s_places(ground))?;
    DONE
}

fn take_each_other_s_places(ground: Ground<'_>) -> Result<(), Failed> {
    const PLACES: usize = 4;
    /// Less than what a worker waits before it looks for a place by itself.
    const SOON: Duration = Duration::from_millis(30);
    const CLIENTS: usize = 24;
    let config = Config { workers: 4, connections_max: PLACES, head_timeout: UNHURRIED, ..Config::default() };
    let server = ground.serve(config)?;
    let mut clients = idle_clients(&server, PLACES)?;
    begin(&server, &mut clients)?;
    let (mut late, mut worst) = (0, Duration::ZERO);
    for _ in 0..CLIENTS {
        let mut newcomer = Client::connect(server.address)?;
        newcomer.send(BEGUN)?;
        if newcomer.hear(Instant::now() + Duration::from_millis(5))? != Heard::Silence {
            return Err("a place was found although all are busy".into());
        }
        newcomer.send(REST)?;
        clients.remove(0).reset()?;
        let begun = Instant::now();
        answer(&mut newcomer)?;
        worst = worst.max(begun.elapsed());
        late += usize::from(begun.elapsed() > SOON);
        newcomer.send(BEGUN)?;
        clients.push(newcomer);
    }
    // On a busy machine, one or the other may be.
    if late > CLIENTS / 4 {
        return Err(format!("{late} of {CLIENTS} waited for longer than {SOON:?}, at worst {worst:?}").into());
    }
    drop(clients);
    connections_end(&server)?;
    server.stop()
}

/// Clients for which there is no place stay with the kernel, and cost the server no descriptor.
fn none_is_taken_beyond_them(ground: Ground<'_>) -> Outcome {
    const PLACES: usize = 160;
    const CLIENTS: usize = 250;
    const WATCHED: Duration = Duration::from_millis(300);
    let settings = Settings { connections_max: PLACES, head_timeout: UNHURRIED, ..Settings::default() };
    let server = ground.serve_in_child(&settings)?;
    let others = server.process().descriptors()?;
    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        let mut client = Client::connect(server.address)?;
        client.send(BEGUN)?;
        clients.push(client);
    }
    let descriptors = || server.process().descriptors().unwrap_or(usize::MAX);
    deadline::within(PATIENCE, "all places to be taken", || descriptors() >= others + PLACES)?;
    let mut most = 0;
    // One after the other closes, and the next one takes its place.
    for _ in 0..8 {
        clients.remove(0).reset()?;
        let until = Instant::now() + WATCHED / 8;
        while Instant::now() < until {
            most = most.max(descriptors());
        }
    }
    if !(others + PLACES..=others + PLACES + 2).contains(&most) {
        return Err(format!("up to {most} descriptors for {PLACES} places, and {others} for the rest").into());
    }
    // All of them are served in the end.
    while !clients.is_empty() {
        let rest = clients.split_off(clients.len().min(PLACES));
        for mut client in std::mem::replace(&mut clients, rest) {
            client.send(REST)?;
            answer(&mut client)?;
        }
    }
    server.stop()?;
    DONE
}

/// Many clients come in one moment. Those at the front of the queue have gone again, so they cause no further event, and
/// nothing but the first of all tells of those behind them.
fn a_burst_is_served_at_once(ground: Ground<'_>) -> Outcome {
    const GONE: usize = 500;
    const CLIENTS: usize = 100;
    /// Far less than a server would take that waits for a deadline after each batch.
    const SOON: Duration = Duration::from_secs(4);
    let server = ground.serve_in_child(&Settings::default())?;
    Client::connect(server.address)?.get("/digits.txt")?;
    server.signal(Signal::STOP)?;
    for _ in 0..GONE {
        Client::connect(server.address)?.reset()?;
    }
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(server.address)?;
        client.send(&get("/digits.txt", &[]))?;
        clients.push(client);
    }
    server.signal(Signal::CONT)?;
    let begun = Instant::now();
    clients.iter_mut().try_for_each(answer)?;
    if begun.elapsed() > SOON {
        return Err(format!("{CLIENTS} clients were served within {:?}", begun.elapsed()).into());
    }
    drop(clients);
    server.stop()?;
    DONE
}

/// Connections that the kernel had accepted when the drain began are served: more than one batch of them.
fn the_queue_is_served_before_the_end(ground: Ground<'_>) -> Outcome {
    const CLIENTS: usize = 600;
    let mut server = ground.serve_in_child(&Settings::default())?;
    Client::connect(server.address)?.get("/digits.txt")?;
    server.signal(Signal::STOP)?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(server.address)?;
        client.send(&get("/digits.txt", &[]))?;
        clients.push(client);
    }
    server.drain();
    server.signal(Signal::CONT)?;
    for (number, client) in clients.iter_mut().enumerate() {
        answer(client).map_err(|failed| format!("client {number}: {}", failed.message().unwrap_or("")))?;
    }
    clients.iter_mut().try_for_each(expect_end)?;
    drop(clients);
    server.stop()?;
    DONE
}

/// The system allows fewer threads than there are places.
fn idle_clients_give_way_for_want_of_threads(ground: Ground<'_>) -> Outcome {
    /// A user of no process here, because the limit is one of the user.
    const USER: u32 = 54_321;
    const THREADS: u64 = 8;
    let settings = Settings { user: Some(USER), threads_max: Some(THREADS), ..Settings::default() };
    let Ok(server) = ground.serve_in_child(&settings) else {
        return Ok(Completion::ignored_with("it takes root to run a server as another user"));
    };
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = Client::connect(server.address)?;
        client.get("/digits.txt")?;
        clients.push(client);
    }
    expect_end(&mut clients[0])?;
    clients[11].get("/digits.txt")?;
    drop(clients);
    server.stop()?;
    DONE
}

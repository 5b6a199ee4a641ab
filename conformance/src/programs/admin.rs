//! The admin listener: what it tells is true and well-formed, and whoever asks it disturbs nobody.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::service::admin::{BURST_MAX, VISIT_MAX, VISITORS_MAX};
use libtest_mimic::Failed;
use rustix::process::Signal;

use super::Needs::{Nothing, Server};
use super::signals::{end_with_success, expect_success};
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::backend::Backend;
use crate::client::{Client, PATIENCE};
use crate::deadline;
use crate::exposition::Exposition;
use crate::load::Download;
use crate::program::Running;
use crate::response::{Framing, Response};
use crate::row::{get, request};
use crate::site::MODIFIED;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("traffic_is_told_exactly", Server, traffic_is_told_exactly),
    ("pages_are_well_formed", Server, pages_are_well_formed),
    ("connections_are_told_by_state", Server, connections_are_told_by_state),
    ("latencies_are_told_by_class", Server, latencies_are_told_by_class),
    ("who_gives_way_is_counted", Server, who_gives_way_is_counted),
    ("lines_that_standard_error_refuses_are_counted", Server, lines_that_standard_error_refuses_are_counted),
    ("readiness_ends_with_the_drain", Server, readiness_ends_with_the_drain),
    ("health_is_an_exit_code", Server, health_is_an_exit_code),
    ("stalled_visitors_hold_up_nobody", Server, stalled_visitors_hold_up_nobody),
    ("a_flood_of_visitors_holds_up_nobody", Server, a_flood_of_visitors_holds_up_nobody),
    ("an_address_that_is_taken", Nothing, an_address_that_is_taken),
    ("an_address_of_clients", Nothing, an_address_of_clients),
];

/// The program with one worker and an admin listener: where clients go, and where visitors do.
fn serve(ground: Ground<'_>, arguments: &[&str]) -> Result<(Running, SocketAddr, SocketAddr), Failed> {
    let arguments = [&["--workers", "1", "--admin", "127.0.0.1:0"], arguments].concat();
    let mut running = ground.serve(&arguments)?;
    let address = running.addresses(1)?[0];
    let said = running.errors();
    let admin = said.lines().find_map(|line| line.split_once(": admin on http://")?.1.strip_suffix('/'));
    Ok((running, address, admin.ok_or("it doesn't say where it is asked")?.parse()?))
}

/// Asks the admin listener, on a connection that it must close.
fn visit(admin: SocketAddr, target: &str) -> Result<Response, Failed> {
    let mut client = Client::connect(admin)?;
    let response = client.get(target)?;
    match client.rest()?.as_slice() {
        [] => Ok(response),
        more => Err(format!("\"{}\" behind the answer", more.escape_ascii()).into()),
    }
}

fn expect_status(admin: SocketAddr, target: &str, status: u16) -> Result<(), Failed> {
    match visit(admin, target)?.status {
        told if told == status => Ok(()),
        told => Err(format!("{told} for {target}, not {status}").into()),
    }
}

fn scrape(admin: SocketAddr) -> Result<Exposition, Failed> {
    let response = visit(admin, "/metrics")?;
    if response.status != 200 {
        return Err(format!("{} for /metrics", response.status).into());
    }
    Exposition::read(&String::from_utf8(response.content)?)
}

/// Waits until these samples have these values: what was counted is handed over once a turn.
fn expect(admin: SocketAddr, expected: &[(&str, f64)]) -> Result<(), Failed> {
    let mut last = Ok(());
    // Fewer than the listener lets in.
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let page = scrape(admin)?;
        last = expected.iter().try_for_each(|(key, value)| match page.value(key)? {
            #[expect(clippy::float_cmp, reason = "these are whole numbers")]
            told if told == *value => Ok(()),
            told => Err(format!("{key} is {told}, not {value}").into()),
        });
        if last.is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    last
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand bytes")]
fn traffic_is_told_exactly(ground: Ground<'_>) -> Outcome {
    let (_running, address, admin) = serve(ground, &["--compress", "off"])?;
    let mut client = Client::connect(address)?;
    let (mut asked, mut answered) = (0, 0);
    let unmodified = format!("If-Modified-Since: {MODIFIED}");
    for (target, field, status) in [
        ("/digits.txt", "A: b", 200),
        ("/digits.txt", "A: b", 200),
        ("/missing", "A: b", 404),
        ("/digits.txt", "A: b", 200),
        ("/digits.txt", unmodified.as_str(), 304),
        ("/missing", "A: b", 404),
        ("/digits.txt", "Range: bytes=100-", 416),
    ] {
        let request = get(target, &[field]);
        client.send(&request)?;
        let framing = if status == 304 { Framing::HeadOnly } else { Framing::Content };
        let response = client.response(framing)?;
        if response.status != status {
            return Err(format!("{} for {target}, not {status}", response.status).into());
        }
        asked += request.len();
        answered += response.head.len() + response.content.len();
    }
    expect(
        admin,
        &[
            ("triptych_http_requests_total{class=\"2xx\"}", 3.0),
            ("triptych_http_requests_total{class=\"3xx\"}", 1.0),
            ("triptych_http_requests_total{class=\"4xx\"}", 3.0),
            ("triptych_http_requests_total{class=\"5xx\"}", 0.0),
            ("triptych_http_request_duration_seconds_count{class=\"2xx\"}", 3.0),
            ("triptych_http_request_duration_seconds_count{class=\"3xx\"}", 1.0),
            ("triptych_http_request_duration_seconds_count{class=\"4xx\"}", 3.0),
            ("triptych_received_bytes_total", asked as f64),
            ("triptych_sent_bytes_total", answered as f64),
            ("triptych_errors_total", 0.0),
            // It is let in on its second request; of what isn't there, a page is looked for, too.
            ("triptych_cache_hits_total", 3.0),
            ("triptych_cache_misses_total", 2.0 + 2.0 * 2.0),
            ("triptych_file_opens_total", 2.0 + 2.0 * 2.0),
            ("triptych_cache_entries", 1.0),
            ("triptych_cache_bytes", 10.0),
            ("triptych_connections_accepted_total", 1.0),
            ("triptych_connections_closed_total", 0.0),
            ("triptych_connections_open{state=\"idle\"}", 1.0),
        ],
    )?;
    drop(client);
    expect(
        admin,
        &[("triptych_connections_closed_total", 1.0), ("triptych_connections_open{state=\"idle\"}", 0.0)],
    )?;
    DONE
}

/// Names that depend on the model are those of this one alone; what is told of the process is plausible.
fn pages_are_well_formed(ground: Ground<'_>) -> Outcome {
    let log = ground.sites.scratch(&format!("admin-{}", ground.program))?.join("access.log");
    let (running, address, admin) = serve(ground, &[&format!("--access-log={}", log.display())])?;
    Client::connect(address)?.get("/digits.txt")?;
    // The answer may come before its turn is over, and with it the counts.
    expect(admin, &[("triptych_http_requests_total{class=\"2xx\"}", 1.0)])?;
    let page = scrape(admin)?;
    let build = format!(
        "triptych_build_info{{version=\"{}\",model=\"{}\"}}",
        env!("CARGO_PKG_VERSION"),
        ground.program.backend()
    );
    let unix_time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    for (key, least, most) in [
        (build.as_str(), 1.0, 1.0),
        ("triptych_workers", 1.0, 1.0),
        ("triptych_uptime_seconds", 0.0, 60.0),
        ("process_start_time_seconds", unix_time - 60.0, unix_time),
        ("process_cpu_seconds_total", 1e-6, 60.0),
        ("triptych_connections_max", 1.0, 65_536.0),
        ("process_max_fds", 16.0, f64::MAX),
        ("triptych_log_lines_lost_total", 0.0, 0.0),
        ("triptych_stderr_lines_lost_total", 0.0, 0.0),
        ("triptych_compressed_bytes", 0.0, 0.0),
        ("triptych_cache_descriptors", 0.0, 0.0),
        ("triptych_cache_evictions_total", 0.0, 0.0),
        ("triptych_connections_cut_off_total", 0.0, 0.0),
    ] {
        let value = page.value(key)?;
        if !(least..=most).contains(&value) {
            return Err(format!("{key} is {value}").into());
        }
    }
    let of = |models: &[Backend], keys: &[&str]| {
        keys.iter().try_for_each(|key| match (page.value(key), models.contains(&ground.program.backend())) {
            (Ok(_), true) | (Err(_), false) => Ok(()),
            (told, _) => Err(Failed::from(format!("{key}: {told:?}"))),
        })
    };
    of(&[Backend::Uring], &["triptych_ring_enters_total", "triptych_ring_completions_total"])?;
    of(&[Backend::Epoll], &["triptych_epoll_waits_total", "triptych_epoll_events_total"])?;
    let of_pool = ["triptych_pool_queue_length", "triptych_pool_threads{state=\"idle\"}"];
    of(&[Backend::Epoll, Backend::Uring], &of_pool)?;
    let waits = page.sum("triptych_ring_") + page.sum("triptych_epoll_");
    if (waits > 0.0) != (ground.program.backend() != Backend::Blocking) {
        return Err(format!("{waits} waits and events").into());
    }
    // As of Linux 6.2; the list itself and this visitor are among them.
    if let Ok(open) = page.value("process_open_fds") {
        let held = crate::process::Process::new(running.server_id()?).descriptors()?;
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        if (open - held as f64).abs() > 3.0 {
            return Err(format!("{open} descriptors are told of, {held} are open").into());
        }
    }
    check_with_promtool(admin)?;
    end_with_success(running)
}

/// Where promtool is installed, it has no complaint.
fn check_with_promtool(admin: SocketAddr) -> Result<(), Failed> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut promtool) = command.spawn() else { return Ok(()) };
    let page = visit(admin, "/metrics")?.content;
    promtool.stdin.take().ok_or("no input")?.write_all(&page)?;
    let output = promtool.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() && said.is_empty() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&said).into_owned().into())
    }
}

fn connections_are_told_by_state(ground: Ground<'_>) -> Outcome {
    let (_running, address, admin) = serve(ground, &[])?;
    let mut idle = Client::connect(address)?;
    idle.get("/digits.txt")?;
    let mut readers = [Client::connect(address)?, Client::connect(address)?];
    readers[0].send(b"GET /digits.txt HTTP/1.1\r\n")?;
    readers[1].send(&request("GET", "/digits.txt", &["Content-Length: 10"]))?;
    let mut download = Download::begin(address)?;
    let [of_idle, of_reading, of_answering] = ["idle", "reading", "answering"]
        .map(|state| format!("triptych_connections_open{{state=\"{state}\"}}"));
    expect(admin, &[(&of_idle, 1.0), (&of_reading, 2.0), (&of_answering, 1.0)])?;
    readers[0].send(b"Host: a\r\n\r\n")?;
    readers[1].send(b"0123456789")?;
    for client in &mut readers {
        client.response(Framing::Content)?;
    }
    expect(admin, &[(&of_idle, 3.0), (&of_reading, 0.0), (&of_answering, 1.0)])?;
    download.finish_answer()?;
    expect(admin, &[(&of_idle, 4.0), (&of_reading, 0.0), (&of_answering, 0.0)])?;
    // Each way to end is seen: half a request, and an answer that is given up.
    readers[0].send(b"GET /digits.txt HTTP/1.1\r\n")?;
    let given_up = Download::begin(address)?;
    expect(admin, &[(&of_idle, 3.0), (&of_reading, 1.0), (&of_answering, 1.0)])?;
    drop((idle, readers, download, given_up));
    expect(admin, &[(&of_idle, 0.0), (&of_reading, 0.0), (&of_answering, 0.0)])?;
    DONE
}

/// An answer that takes its time is in another bucket than one that doesn't, and one that is given up in none.
fn latencies_are_told_by_class(ground: Ground<'_>) -> Outcome {
    const SLOW: Duration = Duration::from_millis(600);
    let (_running, address, admin) = serve(ground, &[])?;
    Client::connect(address)?.get("/missing")?;
    let begun = Instant::now();
    let mut slow = Download::begin(address)?;
    let given_up = Download::begin(address)?;
    thread::sleep(SLOW);
    slow.finish_answer()?;
    let took = begun.elapsed().as_secs_f64();
    drop(given_up);
    let count = "triptych_http_request_duration_seconds_count";
    expect(
        admin,
        &[
            (&format!("{count}{{class=\"2xx\"}}"), 1.0),
            (&format!("{count}{{class=\"4xx\"}}"), 1.0),
            ("triptych_http_requests_total{class=\"2xx\"}", 2.0),
            ("triptych_http_request_duration_seconds_bucket{class=\"2xx\",le=\"0.5\"}", 0.0),
            ("triptych_http_request_duration_seconds_bucket{class=\"4xx\",le=\"10\"}", 1.0),
            ("triptych_connections_open{state=\"answering\"}", 0.0),
        ],
    )?;
    let sum = scrape(admin)?.value("triptych_http_request_duration_seconds_sum{class=\"2xx\"}")?;
    if !(SLOW.as_secs_f64() * 0.9..=took).contains(&sum) {
        return Err(format!("an answer took {sum} s, the client had it after {took} s").into());
    }
    DONE
}

fn who_gives_way_is_counted(ground: Ground<'_>) -> Outcome {
    let (_running, address, admin) = serve(ground, &["--connections-max", "1"])?;
    for _ in 0..3 {
        // Each stays until the next one needs its place.
        let mut client = Client::connect(address)?;
        client.get("/digits.txt")?;
        std::mem::forget(client);
    }
    expect(admin, &[("triptych_connections_gave_way_total", 2.0), ("triptych_connections_max", 1.0)])?;
    DONE
}

/// Nobody can read there where it is asked, so its port is one that was free a moment ago.
fn lines_that_standard_error_refuses_are_counted(ground: Ground<'_>) -> Outcome {
    let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "1", "--admin", &admin.to_string()];
    let mut command = ground.command(&arguments)?;
    let full = std::fs::File::options().write(true).open("/dev/full")?;
    command.arg(ground.sites.main()).stdout(Stdio::null()).stderr(full);
    let running = Running::start_writing_to(&mut command)?;
    let answers = || TcpStream::connect(admin).is_ok();
    deadline::within(PATIENCE, "the admin listener", answers)?;
    expect(admin, &[("triptych_stderr_lines_lost_total", 2.0)])?;
    end_with_success(running)
}

fn readiness_ends_with_the_drain(ground: Ground<'_>) -> Outcome {
    let (running, address, admin) = serve(ground, &[])?;
    expect_status(admin, "/readyz", 200)?;
    expect_status(admin, "/healthz", 200)?;
    let mut download = Download::begin(address)?;
    running.signal(Signal::TERM)?;
    let is_unready = || expect_status(admin, "/readyz", 503).is_ok();
    // Not more often than the listener lets in.
    let mut asked = Instant::now();
    deadline::within(PATIENCE, "the drain to be told of", || {
        let is_due = asked.elapsed() > Duration::from_millis(20);
        asked = if is_due { Instant::now() } else { asked };
        is_due && is_unready()
    })?;
    expect(admin, &[("triptych_connections_open{state=\"answering\"}", 1.0)])?;
    expect_status(admin, "/readyz", 503)?;
    expect_status(admin, "/healthz", 200)?;
    download.finish()?;
    drop(download);
    expect_success(running)
}

/// A second program asks the first one, as the health check of an image does.
fn health_is_an_exit_code(ground: Ground<'_>) -> Outcome {
    let (running, _, admin) = serve(ground, &[])?;
    let check = || -> Result<(Option<i32>, String), Failed> {
        let mut command = ground.command(&["--check-health"])?;
        let output = command.env("TRIPTYCH_ADMIN", admin.to_string()).output()?;
        Ok((output.status.code(), String::from_utf8([output.stdout, output.stderr].concat())?))
    };
    let healthy = check()?;
    if healthy != (Some(0), String::new()) {
        return Err(format!("{healthy:?} of a server that is healthy").into());
    }
    end_with_success(running)?;
    let (code, said) = check()?;
    if code != Some(1) || !said.contains("no answer from the admin listener on ") || said.lines().count() != 1
    {
        return Err(format!("{code:?} and {said:?} of a server that is gone").into());
    }
    DONE
}

/// Visitors that send a byte, or ask and never read, in numbers that fill all places for them.
fn stalled_visitors_hold_up_nobody(ground: Ground<'_>) -> Outcome {
    let (running, address, admin) = serve(ground, &[])?;
    let mut stalled = Vec::new();
    for index in 0..VISITORS_MAX * 2 {
        let mut visitor = Client::connect_narrow(admin, 4096)?;
        if index % 2 == 0 {
            visitor.send(b"G")?;
        } else {
            visitor.send(&get("/metrics", &[]))?;
        }
        stalled.push(visitor);
    }
    let begun = Instant::now();
    let mut client = Client::connect(address)?;
    for _ in 0..10 {
        if client.get("/digits.txt")?.status != 200 {
            return Err("a client was refused".into());
        }
        scrape(admin)?;
    }
    if begun.elapsed() >= VISIT_MAX {
        return Err(format!("ten scrapes took {:?}", begun.elapsed()).into());
    }
    for visitor in &mut stalled[..VISITORS_MAX] {
        visitor.send(b"G").ok();
    }
    drop(client);
    // They still stay, and the end doesn't wait for them.
    end_with_success(running)
}

fn a_flood_of_visitors_holds_up_nobody(ground: Ground<'_>) -> Outcome {
    const FLOOD: Duration = Duration::from_secs(3);
    let (running, address, admin) = serve(ground, &[])?;
    let over = AtomicBool::new(false);
    let visits = AtomicUsize::new(0);
    let flooded: Result<usize, Failed> = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let visit = TcpStream::connect_timeout(&admin, Duration::from_secs(1));
                    if visit.is_ok_and(|mut visitor| visitor.write_all(&get("/metrics", &[])).is_ok()) {
                        visits.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let asked = ask_for(address, FLOOD);
        let told = scrape(admin);
        over.store(true, Relaxed);
        told?;
        asked
    });
    let (answers, visits) = (flooded?, visits.load(Relaxed));
    if answers < 100 || visits < BURST_MAX as usize {
        return Err(format!("{answers} answers in a flood of {visits} visits").into());
    }
    end_with_success(running)
}

/// Asks for a file again and again for so long. Returns how many answers there were.
fn ask_for(address: SocketAddr, time: Duration) -> Result<usize, Failed> {
    let (begun, mut client, mut answers) = (Instant::now(), Client::connect(address)?, 0);
    while begun.elapsed() < time {
        let status = client.get("/digits.txt")?.status;
        if status != 200 {
            return Err(format!("{status} in a flood of visitors").into());
        }
        answers += 1;
    }
    Ok(answers)
}

/// Starts the program with an admin address that it can't have, and expects one line.
fn expect_refusal(ground: Ground<'_>, arguments: &[&str], expected: &str) -> Outcome {
    let ended = Running::start(&mut ground.command(arguments)?)?.wait(PATIENCE)?;
    if ended.status.code() == Some(1) && ended.errors == format!("{}: error: {expected}\n", ground.program) {
        DONE
    } else {
        Err(format!("not \"{expected}\": {ended:?}").into())
    }
}

fn an_address_that_is_taken(ground: Ground<'_>) -> Outcome {
    let other = TcpListener::bind("127.0.0.1:0")?;
    let taken = other.local_addr()?.to_string();
    expect_refusal(
        ground,
        &["--listen", "127.0.0.1:0", "--admin", &taken],
        &format!("admin on {taken}: address in use; choose another address with --admin"),
    )
}

fn an_address_of_clients(ground: Ground<'_>) -> Outcome {
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    expect_refusal(
        ground,
        &["--listen", &free, "--admin", &free],
        &format!("admin on {free}: --listen has this address; choose another one with --admin"),
    )
}

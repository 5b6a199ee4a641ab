//! A running program: its startup line, addresses and flags.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use libtest_mimic::{Completion, Failed};
use rustix::process::Signal;

use super::Needs::Server;
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::backend::Backend;
use crate::client::Client;
use crate::deadline;
use crate::program::{Program, Running};
use crate::response::Framing;
use crate::row::get;
use crate::site::{DIGITS, PATTERNS, pattern_of};

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("flags_of_a_site", Server, flags_of_a_site),
    ("variables_of_a_site", Server, variables_of_a_site),
    ("says_where", Server, says_where),
    ("current_directory", Server, current_directory),
    ("several_addresses", Server, several_addresses),
    ("ipv6_wildcard_takes_ipv4", Server, ipv6_wildcard_takes_ipv4),
    ("says_how_others_come", Server, says_how_others_come),
    ("addresses_in_short", Server, addresses_in_short),
    ("a_port_before_the_variables", Server, a_port_before_the_variables),
    ("environment", Server, environment),
    ("switches_by_variable", Server, switches_by_variable),
    ("empty_variables", Server, empty_variables),
    ("hidden", Server, hidden),
    ("symlinks", Server, symlinks),
    ("listing", Server, listing),
    ("listings_are_mentioned_once", Server, listings_are_mentioned_once),
    ("time_limits", Server, time_limits),
    ("copy", Server, copy),
    ("low_limit_of_descriptors", Server, low_limit_of_descriptors),
    ("few_descriptors", Server, few_descriptors),
    ("file_shorter_than_its_size", Server, file_shorter_than_its_size),
];

const PATIENCE: Duration = Duration::from_secs(10);

/// Ends a program and checks that it printed nothing but its startup lines.
fn end(running: Running, lines: usize) -> Result<(), Failed> {
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    if ended.status.code() != Some(0) || ended.errors.lines().count() != lines || !ended.output.is_empty() {
        return Err(format!("{ended:?}").into());
    }
    Ok(())
}

fn expect(running: &mut Running, target: &str, status: u16) -> Result<(), Failed> {
    let address = running.addresses(1)?[0];
    let mut client = Client::connect(address)?;
    match client.get(target)?.status {
        received if received == status => Ok(()),
        received => Err(format!("{received} instead of {status} for {target}").into()),
    }
}

fn says_where(ground: Ground<'_>) -> Outcome {
    for (workers, words) in [("1", "1 worker"), ("2", "2 workers")] {
        let mut running = ground.serve(&["--workers", workers])?;
        let address = running.addresses(1)?[0];
        let (name, root) = (ground.program, ground.sites.main());
        let line = format!("{name}: serving {} on http://{address}/", root.display());
        let how = match (ground.program, ground.program.backend()) {
            (Program::Of(_), _) => format!(" ({words})\n"),
            (Program::Triptych, Backend::Uring) => format!(" with io_uring ({words}; "),
            (Program::Triptych, _) => format!(" with epoll ({words}; "),
        };
        let said = running.errors();
        if !said.starts_with(&(line + &how)) || said.matches('\n').count() != 1 {
            return Err(format!("it said: {}", running.errors()).into());
        }
        // The line means that connections are accepted, so don't wait in between.
        let response = Client::connect(address)?.get("/digits.txt")?;
        if response.content != DIGITS.as_bytes() {
            return Err("wrong content".into());
        }
        end(running, 1)?;
    }
    DONE
}

fn current_directory(ground: Ground<'_>) -> Outcome {
    let mut command = ground.command(&["--listen", "127.0.0.1:0"])?;
    let mut running = Running::start(command.current_dir(ground.sites.main()))?;
    expect(&mut running, "/digits.txt", 200)?;
    end(running, 1)?;
    DONE
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

fn several_addresses(ground: Ground<'_>) -> Outcome {
    let second = if has_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
    let mut running = ground.serve(&["--workers", "2", "-l", second])?;
    let addresses = running.addresses(2)?;
    for address in addresses {
        for _ in 0..4 {
            Client::connect(address)?.get("/digits.txt")?;
        }
    }
    end(running, 2)?;
    DONE
}

fn ipv6_wildcard_takes_ipv4(ground: Ground<'_>) -> Outcome {
    if !has_ipv6() {
        return Ok(Completion::ignored_with("this machine has no IPv6"));
    }
    let mut command = ground.command(&["--listen", "[::]:0"])?;
    let mut running = Running::start(command.arg(ground.sites.main()))?;
    let port = running.addresses(1)?[0].port();
    for host in ["127.0.0.1", "[::1]"] {
        Client::connect(format!("{host}:{port}").parse()?)?.get("/digits.txt")?;
    }
    let neighbours = running.errors().lines().filter(|line| line.contains(IN_THIS_NETWORK)).count();
    end(running, 1 + neighbours)?;
    DONE
}

const IN_THIS_NETWORK: &str = ":   in this network: http://";

/// Whoever listens everywhere is told by which addresses others come. They all serve; how many there are is the machine's
/// business, but the one by which it would go to others is among them.
fn says_how_others_come(ground: Ground<'_>) -> Outcome {
    for listen in ["0.0.0.0:0", ":0"] {
        let mut command = ground.command(&["--listen", listen])?;
        let mut running = Running::start(command.arg(ground.sites.main()))?;
        let own = running.addresses(1)?[0];
        // Without a packet: connect(2) of a datagram socket only chooses a route.
        let route = UdpSocket::bind("0.0.0.0:0")?;
        route.connect("192.0.2.1:9").or_else(|_nowhere| route.connect("127.0.0.1:9"))?;
        let ip = route.local_addr()?.ip();
        let mut told = Vec::new();
        deadline::within(PATIENCE, "the address by which others come", || {
            told = neighbours(&running.errors());
            ip.is_loopback() || told.len() == 4 || told.iter().any(|address| address.ip() == ip)
        })
        .map_err(|_| format!("{ip} is missing: {}", running.errors()))?;
        for address in told {
            Client::connect(address)?.get("/digits.txt")?;
        }
        running.signal(Signal::TERM)?;
        let ended = running.wait(PATIENCE)?;
        let told = neighbours(&ended.errors);
        let is_right = |address: &SocketAddr| !address.ip().is_loopback() && address.port() == own.port();
        if told.len() > 4 || told.len() + 1 != ended.errors.lines().count() || !told.iter().all(is_right) {
            return Err(format!("{own}: {ended:?}").into());
        }
    }
    DONE
}

/// The addresses by which others come, of the lines that name them.
fn neighbours(errors: &str) -> Vec<SocketAddr> {
    let urls = errors.lines().filter_map(|line| line.split_once(IN_THIS_NETWORK)?.1.strip_suffix('/'));
    urls.filter_map(|url| url.parse().ok()).collect()
}

/// A name, and numbers alone, are this machine's.
fn addresses_in_short(ground: Ground<'_>) -> Outcome {
    let count = if has_ipv6() { 2 } else { 1 };
    for (flags, count) in [(&["-l", "localhost:0"][..], count), (&["--listen=0"], 1), (&["-p", "0"], 1)] {
        let mut command = ground.command(flags)?;
        let mut running = Running::start(command.arg(ground.sites.main()))?;
        for address in running.addresses(count)? {
            if !address.ip().is_loopback() {
                return Err(format!("{flags:?}: {address}").into());
            }
            Client::connect(address)?.get("/digits.txt")?;
        }
        end(running, count)?;
    }
    DONE
}

/// The command line counts before the variables.
fn a_port_before_the_variables(ground: Ground<'_>) -> Outcome {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let port = port.to_string();
    for (flags, variables) in [
        (&["-p", &port][..], &[("TRIPTYCH_LISTEN", "127.0.0.1:0")][..]),
        (&["-p", &port], &[("TRIPTYCH_PORT", "0")]),
        (&["-l", &port], &[("TRIPTYCH_PORT", "0")]),
        (&[], &[("TRIPTYCH_PORT", &port), ("TRIPTYCH_LISTEN", "")]),
    ] {
        let mut command = ground.command(flags)?;
        let mut running = Running::start(command.envs(variables.iter().copied()).arg(ground.sites.main()))?;
        let address = running.addresses(1)?[0].to_string();
        if address != format!("127.0.0.1:{port}") {
            return Err(format!("{flags:?}, {variables:?}: {address}").into());
        }
        end(running, 1)?;
    }
    DONE
}

fn environment(ground: Ground<'_>) -> Outcome {
    let mut command = ground.command(&[])?;
    command.env("TRIPTYCH_LISTEN", "127.0.0.1:0,127.0.0.1:0").env("TRIPTYCH_WORKERS", "3");
    command.env("TRIPTYCH_HIDDEN", "true").env("TRIPTYCH_ROOT", ground.sites.main());
    // `Running::start` removes only the inherited settings, not those set on the command.
    let mut running = Running::start(&mut command)?;
    let addresses = running.addresses(2)?;
    if !running.errors().contains("(3 workers") {
        return Err(format!("it said: {}", running.errors()).into());
    }
    let status = Client::connect(addresses[1])?.get("/.hidden")?.status;
    if status != 200 {
        return Err(format!("{status} for a hidden file").into());
    }
    end(running, 2)?;
    DONE
}

fn switches_by_variable(ground: Ground<'_>) -> Outcome {
    for (value, status) in [
        ("1", 200),
        ("yes", 200),
        ("On", 200),
        ("TRUE", 200),
        ("0", 404),
        ("no", 404),
        ("OFF", 404),
        ("", 404),
    ] {
        let mut command = ground.command(&["--listen", "127.0.0.1:0", "--workers", "1"])?;
        command.env("TRIPTYCH_LISTING", value).env("TRIPTYCH_HIDDEN", value);
        let mut running = Running::start(command.arg(ground.sites.main()))?;
        expect(&mut running, "/bare/", status)?;
        expect(&mut running, "/.hidden", status)?;
        // Where it isn't listed, it is said once that it could be.
        end(running, if status == 404 { 2 } else { 1 })?;
    }
    DONE
}

/// A deployment that has no value for a setting often leaves its variable empty.
fn empty_variables(ground: Ground<'_>) -> Outcome {
    let mut command = ground.command(&["--listen", "127.0.0.1:0"])?;
    for setting in [
        "ROOT",
        "LISTEN",
        "WORKERS",
        "CONNECTIONS_MAX",
        "HEAD_TIMEOUT",
        "IDLE_TIMEOUT",
        "SEND_TIMEOUT",
        "SEND_RATE_MIN",
        "GRACE",
        "HIDDEN",
        "SYMLINKS",
        "LISTING",
        "COPY",
        "TUNE",
        "CACHE",
        "CACHE_BYTES",
        "CACHE_ENTRIES",
        "CACHE_DESCRIPTORS",
        "ACCESS_LOG",
        "STATS",
    ] {
        command.env(format!("TRIPTYCH_{setting}"), "");
    }
    let mut running = Running::start(command.current_dir(ground.sites.main()))?;
    expect(&mut running, "/digits.txt", 200)?;
    end(running, 1)?;
    DONE
}

fn hidden(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&["--hidden"])?;
    expect(&mut running, "/.hidden", 200)?;
    expect(&mut running, "/../secret.txt", 400)?;
    end(running, 1)?;
    DONE
}

fn symlinks(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&["--symlinks=deny"])?;
    expect(&mut running, "/link-file", 404)?;
    expect(&mut running, "/digits.txt", 200)?;
    end(running, 1)?;
    let mut running = ground.serve(&["--symlinks=beneath"])?;
    expect(&mut running, "/link-file", 200)?;
    expect(&mut running, "/link-outside", 404)?;
    end(running, 1)?;
    DONE
}

fn listing(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&["--listing"])?;
    expect(&mut running, "/bare/", 200)?;
    expect(&mut running, "/missing/", 404)?;
    end(running, 1)?;
    DONE
}

/// The first folder without an index tells the operator of the flag, whoever is told 404 for it, and nothing else does.
fn listings_are_mentioned_once(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&["--workers=2"])?;
    for target in ["/digits.txt", "/missing", "/missing/", "/digits.txt/", "/.git/", "/link-outside-dir/"] {
        expect(&mut running, target, if target == "/digits.txt" { 200 } else { 404 })?;
    }
    if running.errors().contains("--listing") {
        return Err(format!("nothing could be listed, but it said: {}", running.errors()).into());
    }
    for target in ["/bare/", "/odd/", "/bare/"] {
        expect(&mut running, target, 404)?;
    }
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    let line = format!("{}: /bare/ has no index.html; with --listing it would be listed\n", ground.program);
    if ended.errors.matches("--listing").count() != 1 || !ended.errors.contains(&line) {
        return Err(format!("it said: {}", ended.errors).into());
    }
    let mut running = ground.serve(&["--listing"])?;
    expect(&mut running, "/missing/", 404)?;
    expect(&mut running, "/bare/", 200)?;
    end(running, 1)?;
    DONE
}

/// The flags set the actual timeouts.
fn time_limits(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&["--idle-timeout", "200ms", "--head-timeout", "300ms"])?;
    let address = running.addresses(1)?[0];
    let mut idle = Client::connect(address)?;
    let mut slow = Client::connect(address)?;
    slow.send(b"GET /digits.txt HTTP/1.1\r\n")?;
    if !idle.rest()?.is_empty() {
        return Err("an idle connection was told something".into());
    }
    let status = slow.response(Framing::Content)?.status;
    if status != 408 {
        return Err(format!("{status} for a slow head").into());
    }
    drop(slow);
    end(running, 1)?;
    DONE
}

/// The bytes are the same in every copy mode.
fn copy(ground: Ground<'_>) -> Outcome {
    for how in ["--copy=sendfile", "--copy=read"] {
        let mut running = ground.serve(&[how])?;
        let address = running.addresses(1)?[0];
        let mut client = Client::connect_narrow(address, 64 * 1024)?;
        for (name, bytes) in PATTERNS {
            let response = client.get(&format!("/{name}"))?;
            pattern_of(*bytes).check(0, &response.content)?;
            client.send(&get(&format!("/{name}"), &["Range: bytes=-1000"]))?;
            let head = client.head(Framing::Content)?;
            let start = bytes - head.content_bytes as u64;
            client.content(bytes - start, |at, received| pattern_of(*bytes).check(start + at, received))?;
        }
        drop(client);
        end(running, 1)?;
    }
    DONE
}

/// The soft limit is raised. If the hard limit is too low, the server says so and works with fewer connections.
fn low_limit_of_descriptors(ground: Ground<'_>) -> Outcome {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 200 && exec \"$@\"", "sh"]).arg(ground.programs.path(ground.program)?);
    shell
        .args(["--listen", "127.0.0.1:0", "--workers", "1", "--connections-max", "5000"])
        .arg(ground.sites.main());
    let mut running = Running::start(&mut shell)?;
    expect(&mut running, "/digits.txt", 200)?;
    let errors = running.errors();
    if !(errors.contains("200 descriptors") && errors.contains("5000 connections")) {
        return Err(format!("it said: {errors}").into());
    }
    end(running, 2)?;
    DONE
}

/// Few descriptors mean few connections, not one at a time, and the operator is told.
fn few_descriptors(ground: Ground<'_>) -> Outcome {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"]).arg(ground.programs.path(ground.program)?);
    shell.args(["--listen", "127.0.0.1:0", "--workers", "1"]).arg(ground.sites.main());
    let mut running = Running::start(&mut shell)?;
    let address = running.addresses(1)?[0];
    let mut clients = (0..8).map(|_| Client::connect(address)).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..3 {
        for client in &mut clients {
            let status = client.get("/digits.txt")?.status;
            if status != 200 {
                return Err(format!("the answer is {status}").into());
            }
        }
    }
    drop(clients);
    let errors = running.errors();
    if !(errors.contains("64 descriptors allow only ") && errors.contains("ulimit -Hn")) {
        return Err(format!("it said: {errors}").into());
    }
    end(running, 2)?;
    DONE
}

/// Files of sysfs say that they have 4096 bytes, whatever they hold: what there is is sent, then the connection ends.
fn file_shorter_than_its_size(ground: Ground<'_>) -> Outcome {
    let path = Path::new("/sys/kernel/fscaps");
    let Ok(content) = fs::read(path) else { return Ok(Completion::ignored_with("there is no sysfs")) };
    let mut command = ground.command(&["--listen", "127.0.0.1:0"])?;
    let mut running = Running::start(command.arg("/sys/kernel"))?;
    // The second is let into the cache.
    for _ in 0..3 {
        let mut stream = TcpStream::connect(running.addresses(1)?[0])?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /fscaps HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no head")?;
        if !head.starts_with("HTTP/1.1 200 ") || body.as_bytes() != content {
            return Err(format!("{head}: {body:?} instead of {content:?}").into());
        }
    }
    // Where it serves, and that each of the answers was cut short.
    end(running, 4)?;
    DONE
}

/// What the flags and the variables of a site are to say.
fn expect_flags(mut running: Running) -> Outcome {
    let mut client = Client::connect(running.addresses(1)?[0])?;
    for (target, field, status, name, expected) in [
        ("/digits.txt", "X: y", 200, "Cache-Control", "max-age=60"),
        ("/digits.txt", "X: y", 200, "X-One", "1"),
        ("/digits.txt", "X: y", 200, "X-Two", "a, b"),
        ("/digits.txt", "X: y", 200, "Access-Control-Allow-Origin", "*"),
        ("/missing.css", "X: y", 404, "Access-Control-Allow-Origin", "*"),
        ("/text.bar", "X: y", 200, "Content-Type", "text/x-bar"),
        ("/about.html", "X: y", 301, "Location", "/about"),
        ("/", "X: y", 200, "Content-Length", "9"),
        ("/some/route", "Accept: text/html", 200, "Content-Length", "9"),
    ] {
        client.send(&get(target, &[field]))?;
        let response = client.response(Framing::Content)?;
        if response.status != status || response.field(name) != Some(expected) {
            let bytes = response.bytes();
            let shown = bytes.escape_ascii();
            return Err(format!("{target}: not {status} with {name}: {expected}, but {shown}").into());
        }
    }
    DONE
}

fn flags_of_a_site(ground: Ground<'_>) -> Outcome {
    let mut command = ground.command(&["--listen", "127.0.0.1:0", "--spa", "--clean-urls", "--cors"])?;
    command.args(["--index", "home.htm", "--cache-control", "max-age=60", "--mime=.BAR=text/x-bar"]);
    command.args(["--header", "X-One: 1", "--header", "X-Two: a", "--header=x-two:b"]);
    expect_flags(Running::start(command.arg(ground.sites.flags()))?)
}

fn variables_of_a_site(ground: Ground<'_>) -> Outcome {
    let mut command = ground.command(&["--listen", "127.0.0.1:0"])?;
    command.envs([
        ("TRIPTYCH_SPA", "yes"),
        ("TRIPTYCH_CLEAN_URLS", "1"),
        ("TRIPTYCH_CORS", "*"),
        ("TRIPTYCH_INDEX", "home.htm"),
        ("TRIPTYCH_CACHE_CONTROL", "max-age=60"),
        ("TRIPTYCH_MIME", "wasm=application/wasm\nbar=text/x-bar\n"),
        ("TRIPTYCH_HEADER", "X-One: 1\nX-Two: a\n\nX-Two: b\n"),
    ]);
    expect_flags(Running::start(command.arg(ground.sites.flags()))?)
}

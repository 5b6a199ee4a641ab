//! `--trusted-proxies` and `--proxy-protocol`: what the log says of who has asked.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::process::Signal;

use super::Needs::{Nothing, Server};
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::Client;
use crate::deadline;
use crate::load::expect_dropped;
use crate::program::{Ended, Running};
use crate::response::Framing;
use crate::row::get;

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("a_trusted_proxy_is_believed", Server, a_trusted_proxy_is_believed),
    ("others_are_not", Server, others_are_not),
    ("introduced_clients_are_logged", Server, introduced_clients_are_logged),
    ("a_proxy_without_a_header_is_named_once", Server, a_proxy_without_a_header_is_named_once),
    ("a_header_needs_a_trusted_proxy", Nothing, a_header_needs_a_trusted_proxy),
];

const PATIENCE: Duration = Duration::from_secs(10);

fn serve(ground: Ground<'_>, name: &str, arguments: &[&str]) -> Result<(Running, PathBuf), Failed> {
    let log = ground.sites.scratch(&format!("proxies-{}-{name}", ground.program))?.join("access.log");
    let log_flag = format!("--access-log={}", log.display());
    Ok((ground.serve(&[arguments, &[&log_flag]].concat())?, log))
}

/// Ends the program; its log must name these clients, in order.
fn expect_clients(running: Running, log: &PathBuf, clients: &[&str]) -> Result<Ended, Failed> {
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    let log = fs::read_to_string(log)?;
    let logged: Vec<_> = log.lines().filter_map(|line| line.split(' ').next()).collect();
    if logged == clients { Ok(ended) } else { Err(format!("not of {clients:?}: {log}").into()) }
}

fn a_trusted_proxy_is_believed(ground: Ground<'_>) -> Outcome {
    let (mut running, log) = serve(ground, "trusted", &["--trusted-proxies=10.0.0.0/8,127.0.0.1"])?;
    let mut client = Client::connect(running.addresses(1)?[0])?;
    for list in ["203.0.113.9", "6.6.6.6, 203.0.113.8, 10.1.2.3", "2001:db8::1", "unknown"] {
        client.send(&get("/digits.txt", &[&format!("X-Forwarded-For: {list}")]))?;
        client.response(Framing::Content)?;
    }
    client.get("/digits.txt")?;
    expect_clients(running, &log, &["203.0.113.9", "203.0.113.8", "2001:db8::1", "127.0.0.1", "127.0.0.1"])?;
    DONE
}

fn others_are_not(ground: Ground<'_>) -> Outcome {
    for flags in [&[][..], &["--trusted-proxies=10.0.0.0/8"], &["--trusted-proxies=unix", "--proxy-protocol"]]
    {
        let (mut running, log) = serve(ground, &format!("others-{}", flags.len()), flags)?;
        let mut client = Client::connect(running.addresses(1)?[0])?;
        client.send(&get("/digits.txt", &["X-Forwarded-For: 203.0.113.9"]))?;
        client.response(Framing::Content)?;
        client.send(b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n\r\n")?;
        let refused = client.response(Framing::Content)?;
        if refused.status != 400 {
            return Err(format!("{refused:?}").into());
        }
        expect_clients(running, &log, &["127.0.0.1", "127.0.0.1"])?;
    }
    DONE
}

fn introduced_clients_are_logged(ground: Ground<'_>) -> Outcome {
    let flags = ["--trusted-proxies", "127.0.0.1", "--proxy-protocol", "--workers=1"];
    let (mut running, log) = serve(ground, "introduced", &flags)?;
    let address = running.addresses(1)?[0];
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    let six: std::net::Ipv6Addr = "2001:db8::7".parse()?;
    binary.extend([six.octets(), six.octets()].concat());
    binary.extend([0, 1, 0, 2]);
    let headers = [
        &b"PROXY TCP4 203.0.113.9 127.0.0.1 56324 443\r\n"[..],
        &binary,
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ];
    for (before, header) in headers.into_iter().enumerate() {
        let mut client = Client::connect(address)?;
        // A request right behind the header, and one on the same connection.
        client.send(&[header, &get("/digits.txt", &[])].concat())?;
        client.response(Framing::Content)?;
        client.get("/missing")?;
        // Only the lines of one connection have an order.
        let logged = || fs::read_to_string(&log).is_ok_and(|log| log.lines().count() == 2 * (before + 1));
        deadline::within(PATIENCE, "lines of a connection", logged)?;
    }
    let clients = ["203.0.113.9", "2001:db8::7", "127.0.0.1", "127.0.0.1"];
    let twice: Vec<_> = clients.into_iter().flat_map(|client| [client; 2]).collect();
    let ended = expect_clients(running, &log, &twice)?;
    if ended.errors.lines().count() == 1 { DONE } else { Err(format!("{ended:?}").into()) }
}

/// The sign of a proxy that wasn't told to send a header: one line, and no answer.
fn a_proxy_without_a_header_is_named_once(ground: Ground<'_>) -> Outcome {
    let flags = ["--trusted-proxies=127.0.0.0/8", "--proxy-protocol"];
    let (mut running, log) = serve(ground, "without", &flags)?;
    let address = running.addresses(1)?[0];
    for _ in 0..3 {
        let mut client = Client::connect(address)?;
        client.send(&get("/digits.txt", &[]))?;
        expect_dropped(&mut client)?;
    }
    let line = format!(
        "{}: the trusted proxy 127.0.0.1 has begun a connection without the header of --proxy-protocol, so it was \
         closed\n",
        ground.program
    );
    deadline::within(PATIENCE, "a word on the proxy", || running.errors().contains(&line))?;
    let ended = expect_clients(running, &log, &[])?;
    if ended.errors.lines().count() == 2 { DONE } else { Err(format!("{ended:?}").into()) }
}

fn a_header_needs_a_trusted_proxy(ground: Ground<'_>) -> Outcome {
    let flag = Running::start(&mut ground.command(&["--proxy-protocol"])?)?.wait(PATIENCE)?;
    let mut command = ground.command(&[])?;
    let variable = Running::start(command.env("TRIPTYCH_PROXY_PROTOCOL", "yes"))?.wait(PATIENCE)?;
    for (ended, setting) in [(flag, "--proxy-protocol"), (variable, "TRIPTYCH_PROXY_PROTOCOL")] {
        let line = format!("{setting} needs --trusted-proxies");
        if ended.status.code() != Some(2) || !ended.errors.contains(&line) {
            return Err(format!("{ended:?}").into());
        }
    }
    DONE
}

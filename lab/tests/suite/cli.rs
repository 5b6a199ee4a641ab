//! The command line: what is wrong gets one clear line.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use crate::client::Client;
use crate::server::{lab, lab_limited};
use crate::{Case, Outcome};

pub(crate) const TESTS: &[Case] = &[
    ("cli::mistakes_get_one_clear_line", mistakes_get_one_clear_line),
    ("cli::rungs_are_listed", rungs_are_listed),
    ("cli::stats_tell_of_what_happens", stats_tell_of_what_happens),
];

fn mistakes_get_one_clear_line() -> Outcome {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let in_use = taken.local_addr()?.to_string();
    for (limits, arguments, code, line) in [
        (
            "true",
            &["serve", "epoll"][..],
            2,
            "there is no rung \"epoll\"; the nearest are poll, epoll-edge, epoll-level",
        ),
        (
            "true",
            &["serve", "poll", "--service", "htp"],
            2,
            "there is no service \"htp\"; the nearest are http",
        ),
        ("true", &["serve", "poll", "--workers", "2"], 2, "poll has no workers"),
        ("true", &["serve", "queues", "--workers", "0"], 2, "--workers takes 1 to"),
        ("true", &["serve", "poll", "--listen", &in_use], 1, "address in use"),
        ("true", &["serve", "reuseport", "--listen", &in_use], 1, "address in use"),
        ("true", &["serve", "poll", "--listen", "192.0.2.1:1"], 1, "no such address on this machine"),
        ("ulimit -n 16", &["serve", "poll"], 1, "`ulimit -n` must allow 32"),
    ] {
        let output = lab_limited(limits).args(arguments).output()?;
        let said = String::from_utf8(output.stderr)?;
        let is_one_line = said.starts_with("error: ") && said.lines().count() == 1;
        if !is_one_line || !said.contains(line) || output.status.code() != Some(code) {
            return Err(format!("{arguments:?}: {said:?}, {}", output.status).into());
        }
    }
    let output = lab().args(["serve", "poll", "--listen", "here"]).output()?;
    if output.status.code() != Some(2) {
        return Err(format!("no address: {}", output.status).into());
    }
    Ok(())
}

fn rungs_are_listed() -> Outcome {
    let output = lab().arg("rungs").output()?;
    let listed = String::from_utf8(output.stdout)?;
    let names: Vec<_> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let expected: Vec<_> = lab::rungs::RUNGS.iter().map(|rung| rung.name).collect();
    if names == expected { Ok(()) } else { Err(listed.into()) }
}

fn stats_tell_of_what_happens() -> Outcome {
    let mut child = lab()
        .args(["serve", "epoll-edge", "--listen", "127.0.0.1:0", "--stats"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let outcome = (|| {
        let mut said = BufReader::new(child.stderr.take().ok_or("standard error is piped")?).lines();
        let start = said.next().ok_or("a start line")??;
        let address = start.split_whitespace().nth(3).ok_or("an address")?.parse()?;
        let mut clients = [Client::connect(address)?, Client::connect(address)?];
        let mut printed = BufReader::new(child.stdout.take().ok_or("standard output is piped")?).lines();
        let header = printed.next().ok_or("a header")??;
        for line in printed.take(10) {
            let line = line?;
            if line.len() != header.len() {
                return Err(format!("{header:?} and {line:?} differ in length").into());
            }
            let words: Vec<_> = line.split_whitespace().collect();
            let [connections, bytes_in, "KiB", bytes_out, "KiB", events] = words[..] else {
                clients.iter_mut().try_for_each(|client| client.echo(&[0; 2048]))?;
                continue;
            };
            let is_right = connections == "2" && bytes_in == bytes_out && events != "0";
            return if is_right { Ok(()) } else { Err(line.into()) };
        }
        Err("ten lines tell of nothing".into())
    })();
    child.kill()?;
    child.wait()?;
    outcome
}

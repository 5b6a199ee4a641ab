//! The access log and the statistics.

use std::fs;
use std::path::Path;
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::process::Signal;

use super::Needs::Server;
use super::{DONE, Ground, Needs, Outcome, Test};
use crate::client::Client;
use crate::deadline;
use crate::program::Running;
use crate::response::Framing;
use crate::row::{get, request};

pub(super) const TESTS: &[(&str, Needs, Test)] = &[
    ("access_log_to_a_file", Server, access_log_to_a_file),
    ("access_log_to_standard_output", Server, access_log_to_standard_output),
    ("access_log_as_json", Server, access_log_as_json),
    ("access_log_to_a_full_device", Server, access_log_to_a_full_device),
    ("access_log_is_rotated", Server, access_log_is_rotated),
    ("access_log_cannot_be_opened_again", Server, access_log_cannot_be_opened_again),
    ("statistics", Server, statistics),
    ("silence_without_flags", Server, silence_without_flags),
];

const PATIENCE: Duration = Duration::from_secs(10);

/// Sends some requests; returns how each of their lines must begin and end.
fn converse(running: &mut Running) -> Result<Vec<(&'static str, String)>, Failed> {
    let mut client = Client::connect(running.addresses(1)?[0])?;
    client.send(&get("/digits.txt?x=y", &["Referer: http://a.test/", "User-Agent: curl/8"]))?;
    client.response(Framing::Content)?;
    client.send(&request("HEAD", "/digits.txt", &[]))?;
    client.response(Framing::HeadOnly)?;
    client.send(&get("/300000.bin", &["Range: bytes=0-99999", "User-Agent: \"quoted\" \\ \u{e9}"]))?;
    client.response(Framing::Content)?;
    let missing = client.get("/missing")?.content.len();
    client.send(&request("BREW", "/pot", &[]))?;
    let unknown = client.response(Framing::Content)?.content.len();
    client.send(b"GET /digits.txt HTTP/1.1\r\n\r\n")?;
    let malformed = client.response(Framing::Content)?.content.len();
    Ok(vec![
        ("\"GET /digits.txt?x=y HTTP/1.1\"", " 200 10 \"http://a.test/\" \"curl/8\" ".to_owned()),
        ("\"HEAD /digits.txt HTTP/1.1\"", " 200 0 \"-\" \"-\" ".to_owned()),
        ("\"GET /300000.bin HTTP/1.1\"", " 206 100000 \"-\" \"\\\"quoted\\\" \\\\ \\xC3\\xA9\" ".to_owned()),
        ("\"GET /missing HTTP/1.1\"", format!(" 404 {missing} \"-\" \"-\" ")),
        ("\"BREW /pot HTTP/1.1\"", format!(" 501 {unknown} \"-\" \"-\" ")),
        ("", format!(" 400 {malformed} ")),
    ])
}

fn expect_lines(log: &str, expected: &[(&str, String)]) -> Result<(), Failed> {
    let lines: Vec<&str> = log.lines().collect();
    if lines.len() != expected.len() {
        return Err(format!("{} lines instead of {}: {log}", lines.len(), expected.len()).into());
    }
    for (line, (request, rest)) in lines.iter().zip(expected) {
        let whole = format!("{request}{rest}");
        let seconds = line.rsplit(' ').next().and_then(|seconds| seconds.parse::<f64>().ok());
        let is_dated = line.strip_prefix("127.0.0.1 - - [").and_then(|rest| rest.split_once("] "));
        let is_date =
            |date: &str| date.len() == "29/Feb/2024:12:34:56 +0000".len() && date.ends_with(" +0000");
        let is_short = seconds.is_some_and(|seconds| (0.0..60.0).contains(&seconds));
        if !line.contains(&whole) || !is_dated.is_some_and(|(date, _)| is_date(date)) || !is_short {
            return Err(format!("\"{line}\" isn't the line of \"{whole}\"").into());
        }
    }
    Ok(())
}

fn access_log_to_a_file(ground: Ground<'_>) -> Outcome {
    let path = ground.sites.scratch("logs")?.join("access.log");
    fs::write(&path, "kept\n")?;
    let mut running = ground.serve(&[&format!("--access-log={}", path.display())])?;
    let expected = converse(&mut running)?;
    // Must be written while serving, not only at the end.
    let written = || fs::read_to_string(&path).is_ok_and(|log| log.lines().count() > expected.len());
    deadline::within(PATIENCE, "the log to be written", written)?;
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    let log = fs::read_to_string(&path)?;
    let added = log.strip_prefix("kept\n").ok_or("the log isn't appended to")?;
    expect_lines(added, &expected)?;
    if ended.errors.lines().count() != 1 || !ended.output.is_empty() {
        return Err(format!("{ended:?}").into());
    }
    DONE
}

fn access_log_to_standard_output(ground: Ground<'_>) -> Outcome {
    for flag in ["--access-log", "--access-log=-"] {
        let mut running = ground.serve(&[flag])?;
        let expected = converse(&mut running)?;
        running.signal(Signal::TERM)?;
        expect_lines(&running.wait(PATIENCE)?.output, &expected)?;
    }
    DONE
}

fn access_log_as_json(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch(&format!("json-{}", ground.program))?;
    let path = folder.join("access.log");
    let mut running =
        ground.serve(&[&format!("--access-log={}", path.display()), "--access-log-format=json"])?;
    converse(&mut running)?;
    running.signal(Signal::TERM)?;
    running.wait(PATIENCE)?;
    let log = fs::read_to_string(&path)?;
    let lines: Vec<serde_json::Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let told = |line: &serde_json::Value| {
        let texts = ["method", "uri", "proto", "host", "referer", "user_agent"];
        let texts = texts.map(|name| line[name].as_str().unwrap_or("-").to_owned()).join(" ");
        format!("{} {texts}", line["status"])
    };
    let expected = [
        "200 GET /digits.txt?x=y HTTP/1.1 triptych.test http://a.test/ curl/8",
        "200 HEAD /digits.txt HTTP/1.1 triptych.test - -",
        "206 GET /300000.bin HTTP/1.1 triptych.test - \"quoted\" \\ \u{e9}",
        "404 GET /missing HTTP/1.1 triptych.test - -",
        "501 BREW /pot HTTP/1.1 triptych.test - -",
        "400 - - - - - -",
    ];
    let is_dated = |line: &serde_json::Value| {
        line["ts"].as_str().is_some_and(|ts| ts.len() == 27 && ts.starts_with("20") && ts.ends_with('Z'))
    };
    let sizes: Vec<_> = lines[..3].iter().filter_map(|line| line["size"].as_u64()).collect();
    let clients =
        lines.iter().all(|line| line["client_ip"] == "127.0.0.1" && line["remote_ip"] == "127.0.0.1");
    if lines.iter().map(told).ne(expected)
        || !lines.iter().all(is_dated)
        || sizes != [10, 0, 100_000]
        || !clients
    {
        return Err(log.into());
    }
    DONE
}

/// A log that can't be written must not stop the server.
fn access_log_to_a_full_device(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&["--access-log=/dev/full"])?;
    for _ in 0..3 {
        converse(&mut running)?;
    }
    deadline::within(PATIENCE, "a word on the log", || running.errors().contains("access log"))?;
    converse(&mut running)?;
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    // Once: the writer has tried ten times a second.
    let told = ended.errors.matches("lines wait").count();
    if ended.status.code() == Some(0) && told == 1 { DONE } else { Err(format!("{ended:?}").into()) }
}

/// As logrotate does it: the file is renamed, then the server told.
fn access_log_is_rotated(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("rotated")?;
    let (path, old) = (folder.join("access.log"), folder.join("access.log.1"));
    let mut running = ground.serve(&[&format!("--access-log={}", path.display())])?;
    let lines = |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    let expected = converse(&mut running)?;
    deadline::within(PATIENCE, "the log to be written", || lines(&path) == expected.len())?;
    fs::rename(&path, &old)?;
    running.signal(Signal::HUP)?;
    deadline::within(PATIENCE, "a new file", || path.exists())?;
    // A keeper opens the file; whoever serves goes on in the old one until it has got it.
    let server = running.server_id()?;
    let holds_old = || {
        let mut open = fs::read_dir(format!("/proc/{server}/fd")).into_iter().flatten().flatten();
        open.any(|entry| fs::read_link(entry.path()).is_ok_and(|file| file == old))
    };
    deadline::within(PATIENCE, "the old file to be closed", || !holds_old())?;
    let expected = converse(&mut running)?;
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    expect_lines(&fs::read_to_string(&old)?, &expected)?;
    expect_lines(&fs::read_to_string(&path)?, &expected)?;
    if ended.status.code() != Some(0) || ended.errors.lines().count() != 1 {
        return Err(format!("{ended:?}").into());
    }
    DONE
}

fn access_log_cannot_be_opened_again(ground: Ground<'_>) -> Outcome {
    let folder = ground.sites.scratch("not-rotated")?;
    let (path, old) = (folder.join("access.log"), folder.join("access.log.1"));
    let mut running = ground.serve(&[&format!("--access-log={}", path.display())])?;
    running.addresses(1)?;
    fs::rename(&path, &old)?;
    fs::create_dir(&path)?;
    running.signal(Signal::HUP)?;
    deadline::within(PATIENCE, "a word on the log", || running.errors().contains("stays in use"))?;
    let expected = converse(&mut running)?;
    running.signal(Signal::TERM)?;
    running.wait(PATIENCE)?;
    expect_lines(&fs::read_to_string(&old)?, &expected)?;
    DONE
}

fn statistics(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&["--stats=100ms"])?;
    let mut client = Client::connect(running.addresses(1)?[0])?;
    for _ in 0..100 {
        client.get("/digits.txt")?;
    }
    deadline::within(PATIENCE, "a line with the connection", || running.errors().contains(": 1 active, "))?;
    drop(client);
    deadline::within(PATIENCE, "a line without it", || {
        running.errors().lines().next_back().is_some_and(|line| line.contains(": 0 active, 0 requests/s, "))
    })?;
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    let total = ended.errors.lines().next_back().unwrap_or_default();
    if !total.starts_with(&format!("{}: total 1 connections, 100 requests, ", ground.program)) {
        return Err(format!("the totals are: {total}").into());
    }
    // The second request admits the file.
    if !total.contains(" 98 hits, 2 misses, 1 cached (0.00 MB, 0 descriptors), 0 evictions") {
        return Err(format!("the cache kept nothing: {total}").into());
    }
    DONE
}

fn silence_without_flags(ground: Ground<'_>) -> Outcome {
    let mut running = ground.serve(&[])?;
    converse(&mut running)?;
    running.signal(Signal::TERM)?;
    let ended = running.wait(PATIENCE)?;
    if ended.errors.lines().count() == 1 && ended.output.is_empty() {
        DONE
    } else {
        Err(format!("{ended:?}").into())
    }
}

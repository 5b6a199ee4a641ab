//! `bench race` as a program: servers start, are loaded, shown and ended.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// They share a CPU and a folder of files to serve.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn race(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["race", "blocking", "epoll", "--port", "0", "--rate", "200", "--save"]);
    // The lock is in there, and tests of other files measure as well.
    command.arg(folder.join("race.json")).args(arguments).env("TMPDIR", folder);
    command.env("TRIPTYCH_BENCH_CORPUS", Path::new(env!("CARGO_TARGET_TMPDIR")).join("race"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn footage(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("race.json")).unwrap()).unwrap()
}

#[test]
fn a_race_shows_answers_and_leaves_a_file() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let mut child = race(folder.path(), &["--for", "4s", "--tour"]);
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(child.wait().unwrap().success(), "{errors}");
    assert!(output.contains("2 servers, 200 requests per second each: http://127.0.0.1:"), "{output}");
    let footage = footage(folder.path());
    let samples = footage["samples"].as_array().unwrap();
    assert!(samples.len() >= 4, "{footage}");
    let answered = |sample: &Value| (0..2).all(|racer| sample["rows"][racer][0].as_f64().unwrap() > 50.0);
    assert!(samples.iter().any(answered), "{footage}");
    assert!(
        samples.iter().any(|sample| sample["rows"][0][1].as_f64().is_some_and(|cpu| cpu > 0.0)),
        "{footage}"
    );
    assert!(samples.iter().any(|sample| sample["readers"] == true), "{footage}");
    let throttled = footage["meta"]["without-throttle"].is_null();
    assert_eq!(samples.iter().any(|sample| sample["disk"] == true), throttled, "{footage}");
    let failed = |sample: &Value| sample["rows"].as_array().unwrap().iter().any(|row| row[3] != 0);
    assert!(!samples.iter().any(failed), "{footage}");
}

/// Ctrl-C ends all that it has started, and keeps what there is.
#[test]
fn a_signal_ends_it() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let mut child = race(folder.path(), &["--for", "5m"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once('/')).unwrap().0;
    let mut events = TcpStream::connect(address).unwrap();
    write!(events, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut lines = BufReader::new(events).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("data: {\"t\":")), "{line}");
    let pid = Pid::from_child(&child);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    assert_eq!(children.split_whitespace().count(), 2, "{children}");
    let asked = Instant::now();
    kill_process(pid, Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    for server in children.split_whitespace() {
        assert!(!Path::new("/proc").join(server).exists(), "{server} is left");
    }
    assert!(!footage(folder.path())["samples"].as_array().unwrap().is_empty());
}

//! `bench load` as a program.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Answers every request the same; a thread per connection, until the test ends.
fn server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || converse(stream, answer));
        }
    });
    address
}

fn converse(mut stream: TcpStream, answer: &str) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        thread::sleep(Duration::from_millis(1));
        let closes = buffer[..count].windows(17).any(|window| window == b"Connection: close");
        if stream.write_all(answer.as_bytes()).is_err() || closes {
            return;
        }
    }
}

const RIGHT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).arg("load").args(arguments).output().unwrap()
}

fn json(address: SocketAddr, arguments: &[&str]) -> Value {
    let url = format!("http://{address}/hello");
    let all = [&[url.as_str(), "--json", "-d", "300ms", "--warm-up", "50ms"], arguments].concat();
    let output = load(&all);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error_line(arguments: &[&str]) -> (Option<i32>, String) {
    let output = load(arguments);
    assert!(output.stdout.is_empty());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_closed_loop() {
    let report = json(server(RIGHT), &["-c", "8", "-t", "2"]);
    assert_eq!((&report["status"], &report["body_bytes"]), (&200.into(), &5.into()));
    let class = &report["classes"][0];
    let answers = class["answers"].as_u64().unwrap();
    assert!(answers > 100, "{answers}");
    assert_eq!((&class["name"], &class["connections"]), (&"hot".into(), &8.into()));
    assert_eq!(class["wire_bytes_per_answer"], RIGHT.len() as f64);
    assert!(class["service_us"]["p50"].as_f64().unwrap() >= 1_000.0);
    assert!(class["response_us"].is_null() && report["offered_per_second"].is_null());
}

#[test]
fn an_open_loop_of_several_classes() {
    let arguments = ["--rate", "400", "--arrivals", "constant", "-c", "4", "--class", "hot", "--class"];
    let rest = ["churn:4", "--class", "idle:20", "--class", "slow:3"];
    let report = json(server(RIGHT), &[&arguments[..], &rest[..]].concat());
    let classes = report["classes"].as_array().unwrap();
    let names: Vec<_> = classes.iter().map(|class| class["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["hot", "churn", "idle", "slow"]);
    for class in &classes[..2] {
        // Half of 400 a second, for 0.3 s; the one at the end is outside.
        assert_eq!(class["requests"], 59, "{class}");
        assert!(class["response_us"]["max"].as_f64() >= class["service_us"]["max"].as_f64());
    }
    for class in classes {
        assert_eq!(class["errors"], serde_json::json!({}), "{class}");
    }
}

#[test]
fn people_get_a_table_and_what_is_unknown_says_so() {
    let url = format!("http://{}/", server(RIGHT));
    let output = load(&[&url, "-c", "2", "-d", "300ms", "--warm-up", "10ms"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("each answer has status 200 and 5 bytes\nclosed loop, 0.3"), "{text}");
    assert!(text.contains("hot, 2 connections: ") && text.contains("client busy for "), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    // A few hundred answers: 20 of them aren't above the quantile 0.99.
    let missing = lines.iter().find(|line| line.contains("needs")).unwrap();
    let answers = lines.iter().find_map(|line| line.strip_prefix("hot, 2 connections: ")?.split(' ').next());
    let expected = format!("  p99 needs 2,000 answers, p99.9 20,000; there were {}", answers.unwrap());
    assert_eq!(*missing, expected, "{text}");
    assert!(!text.contains("n/a"), "{text}");
    let begin = lines.iter().position(|line| *line == "  service times from").unwrap();
    let rows: Vec<&&str> = lines[begin + 1..].iter().take_while(|line| line.ends_with(" %")).collect();
    assert!((1..=12).contains(&rows.len()), "{text}");
    assert!(rows.iter().any(|row| row.contains(&"█".repeat(40))), "the longest bar: {text}");
    let counted: u64 = rows.iter().map(|row| count(row)).sum();
    assert_eq!(counted.to_string(), answers.unwrap(), "every answer is in a row: {text}");
    assert!(!text.contains('\u{1b}'), "no colours for a pipe");
}

/// "  1.1 ms ████ 123 61.0 %": the number before the share.
fn count(row: &str) -> u64 {
    row.split_whitespace().rev().nth(2).unwrap().replace(',', "").parse().unwrap()
}

/// It may have an address of IPv6 as well, which nobody listens on.
#[test]
fn an_address_without_a_scheme_is_a_url() {
    let port = server(RIGHT).port();
    for url in [format!("localhost:{port}"), format!("localhost:{port}/hello"), format!("127.0.0.1:{port}")] {
        let output = load(&[&url, "-c", "1", "-d", "50ms", "--warm-up", "0s"]);
        assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(&format!("http://{}", &url[..9])), "{text}");
    }
}

#[test]
fn errors_are_counted_by_kind() {
    let address = server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more");
    let report = json(address, &["-c", "2"]);
    let class = &report["classes"][0];
    assert_eq!(class["answers"], 0);
    assert!(class["errors"]["surplus"]["count"].as_u64().unwrap() > 2);
    assert_eq!(class["errors"]["surplus"]["example"], "bytes follow the end of the body");
}

/// Waits until the process sleeps ("S"), or has been stopped ("T").
fn await_state(pid: u32, state: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let stat = format!("/proc/{pid}/stat");
    while std::fs::read_to_string(&stat).unwrap().split(' ').nth(2) != Some(state) {
        assert!(Instant::now() < deadline, "it doesn't get into state {state}");
        thread::yield_now();
    }
}

/// A socket with a timeout isn't read on by the kernel after a stop, as signal(7) tells.
#[test]
fn a_stop_while_it_waits_for_the_first_answer_is_no_failure() {
    use rustix::process::{Pid, Signal, kill_process};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hello", listener.local_addr().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["load", &url, "-d", "100ms", "--warm-up", "0s", "-c", "1"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut first, _) = listener.accept().unwrap();
    assert!(first.read(&mut [0; 4096]).unwrap() > 0);
    await_state(child.id(), "S");
    kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
    await_state(child.id(), "T");
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    first.write_all(RIGHT.as_bytes()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || converse(stream, RIGHT));
        }
    });
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_can_not_be_loaded_is_one_line() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, line) = error_line(&[&format!("http://{nobody}/")]);
    assert!(code == Some(1) && line.starts_with(&format!("error: {nobody}: ")), "{line}");
    let chunked = server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let (code, line) = error_line(&[&format!("http://{chunked}/")]);
    assert_eq!(
        (code, line.as_str()),
        (Some(1), "error: the answer has a Transfer-Encoding: no answer could be checked\n")
    );
}

#[test]
fn bad_arguments_are_usage() {
    for arguments in [
        &["https://127.0.0.1/"][..],
        &["http://127.0.0.1/", "--rate", "0"],
        &["http://127.0.0.1/", "--rate", "5", "--closed"],
        &["http://127.0.0.1/", "--class", "warm"],
        &["http://127.0.0.1/", "-c", "0"],
        &["http://127.0.0.1/", "-t", "0"],
        &["http://127.0.0.1/", "-d", "soon"],
        &["http://127.0.0.1/", "--slow-rate", "0"],
        &[],
    ] {
        assert_eq!(error_line(arguments).0, Some(2), "{arguments:?}");
    }
}

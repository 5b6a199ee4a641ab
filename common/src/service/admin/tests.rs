use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::service::config::Config;
use crate::site::root::{Site, SiteOptions};

const PATIENCE: Duration = Duration::from_secs(10);

fn started() -> (SocketAddr, Arc<Service>) {
    let site = Site::open_root(Path::new("."), SiteOptions::default()).expect("opened");
    let service = Arc::new(Service::new(site, Config::default()).expect("made"));
    let (address, socket) = bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    Admin::new(address, socket, "epoll").start(Arc::clone(&service)).expect("started");
    (address, service)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(request).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and the end");
    answer
}

fn get(address: SocketAddr, target: &str) -> String {
    ask(address, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
}

/// The status, and the body.
fn parts(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (&head[9..12], body)
}

#[test]
fn health_and_readiness_follow_the_service() {
    let (address, service) = started();
    assert_eq!(parts(&get(address, "/healthz")), ("200", "ok\n"));
    assert_eq!(parts(&get(address, "/readyz")), ("503", "starting\n"));
    service.set_up();
    assert_eq!(parts(&get(address, "/readyz")), ("200", "ok\n"));
    service.shutdown.drain();
    assert_eq!(parts(&get(address, "/readyz")), ("503", "draining\n"));
    assert_eq!(parts(&get(address, "/healthz")), ("200", "ok\n"));
    service.shutdown.fail("worker-1 has failed".to_owned());
    assert_eq!(parts(&get(address, "/healthz")), ("503", "failed: worker-1 has failed\n"));
    assert_eq!(parts(&get(address, "/metrics")).0, "200", "still");
}

#[test]
fn messages_are_http() {
    let (address, _service) = started();
    let answer = get(address, "/metrics?a=b");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    for field in [
        "Content-Type: text/plain; version=0.0.4; charset=utf-8",
        &format!("Content-Length: {}", body.len()),
        "Connection: close",
        "Cache-Control: no-store",
    ] {
        assert!(head.lines().any(|line| line == field), "{field} is missing in {head}");
    }
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nServer: triptych\r\nDate: "), "{head}");
    assert!(body.starts_with("# HELP triptych_build_info "), "{body}");
    let answer = ask(address, b"HEAD /healthz HTTP/1.0\r\n\r\n");
    assert!(answer.contains("\r\nContent-Length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    for (request, status) in [
        (&b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"[..], "405"),
        (b"OPTIONS /readyz HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        (b"BREW /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "404"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        (b"GET /metrics/ HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", "400"),
        (b"nonsense\r\n\r\n", "400"),
        (b"\0\xff\r\n\r\n", "400"),
        (b"GET /metrics HTTP/3.0\r\nHost: a\r\n\r\n", "505"),
    ] {
        let answer = ask(address, request);
        assert_eq!(parts(&answer).0, status, "{:?}", request.escape_ascii().to_string());
        assert_eq!(answer.contains("\r\nAllow: GET, HEAD\r\n"), status == "405", "{answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(10_000));
    assert_eq!(parts(&ask(address, long.as_bytes())).0, "414");
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(5000));
    assert_eq!(parts(&ask(address, many.as_bytes())).0, "431");
}

#[test]
fn visitors_that_stall_hold_up_nobody() {
    let (address, _service) = started();
    let begun = Instant::now();
    let mut stalled: Vec<TcpStream> = Vec::new();
    for index in 0..3 * VISITORS_MAX {
        let mut stream = connect(address);
        match index % 3 {
            0 => stream.write_all(b"G").expect("sent"),
            1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent"),
            _ => {}
        }
        stalled.push(stream);
        assert_eq!(parts(&get(address, "/healthz")), ("200", "ok\n"));
    }
    assert!(begun.elapsed() < VISIT_MAX, "nobody has waited for a visit to be over: {:?}", begun.elapsed());
    // The last ones still stay, and each leaves when its time is over.
    let last = stalled.last_mut().expect("many");
    assert_eq!(last.read(&mut [0; 1]).expect("an end"), 0);
    let stayed = begun.elapsed();
    assert!(stayed >= VISIT_MAX && stayed < VISIT_MAX * 2, "{stayed:?}");
}

#[test]
fn who_sends_without_end_is_dropped() {
    let (address, _service) = started();
    let begun = Instant::now();
    let mut stream = connect(address);
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n").expect("sent");
    let refused = (0..10_000).find(|_| stream.write_all(&[b'x'; 64 * 1024]).is_err());
    assert!(refused.is_some() && begun.elapsed() < VISIT_MAX, "{refused:?} after {:?}", begun.elapsed());
}

/// Another process answers on the same socket then, and this one must not take a visitor from it.
#[test]
fn who_has_handed_over_lets_nobody_in() {
    let service = || {
        let site = Site::open_root(Path::new("."), SiteOptions::default()).expect("opened");
        Arc::new(Service::new(site, Config::default()).expect("made"))
    };
    let [old, new] = [service(), service()];
    let (address, socket) = bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let shared = socket.try_clone().expect("a descriptor");
    Admin::new(address, socket, "epoll").start(Arc::clone(&old)).expect("started");
    old.set_up();
    assert_eq!(parts(&get(address, "/readyz")).0, "200");
    Admin::new(address, shared, "uring").start(Arc::clone(&new)).expect("started");
    new.set_up();
    old.shutdown.hand_over();
    for _ in 0..20 {
        assert_eq!(parts(&get(address, "/readyz")), ("200", "ok\n"));
        assert!(get(address, "/metrics").contains("model=\"uring\""));
    }
}

/// Those that come beyond the bound wait, each for its interval.
#[test]
fn so_many_are_let_in_and_no_more() {
    let (address, _service) = started();
    let begun = Instant::now();
    let visits = BURST_MAX + 30;
    for _ in 0..visits {
        assert_eq!(parts(&get(address, "/healthz")).0, "200");
    }
    assert!(begun.elapsed() >= ACCEPT_INTERVAL * 25, "{visits} visits took {:?}", begun.elapsed());
}

#[test]
fn an_address_that_is_taken_is_refused_in_one_line() {
    let (taken, _socket) = bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let error = bind(taken).expect_err("taken").to_string();
    assert_eq!(error, format!("admin on {taken}: address in use; choose another address with --admin"));
    let error = bind("192.0.2.1:0".parse().expect("an address")).expect_err("not ours").to_string();
    assert!(error.contains("no such address on this machine; choose another"), "{error}");
}

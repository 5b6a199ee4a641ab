//! The load engine where a server chooses: codings, chunks, validators.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

#[expect(dead_code, reason = "other tests use the rest")]
mod scripted;

use bench::load::class::{Arrivals, Asks, Class, Life, Order, Pacing};
use bench::load::coding::Coding;
use bench::load::engine::Engine;
use bench::load::error::LoadError;
use bench::load::outcome::ClassOutcome;
use bench::load::request::{Expected, Request};
use scripted::{BODY, EXPECTED, Then, WINDOW, class, ends_with, engine, error, only, scripted, send};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ACCEPTS: &str = "Accept-Encoding: gzip, deflate, br, zstd\r\n";
/// How often a request is conditional.
const SHARE: f64 = 1.0 / 3.0;

/// A class that asks for the fox as a browser does.
fn browser(address: SocketAddr, share: f64) -> Class {
    let request = Request::negotiated(address, "/fox", ACCEPTS, true, EXPECTED);
    Class { asks: Asks::one(request).with_conditions(share), ..class(address, Life::KeepAlive, 3) }
}

/// The outcome of a load after a first visit, and long enough for some answers, however busy the machine is.
fn visit(address: SocketAddr) -> ClassOutcome {
    const LONGEST: Duration = Duration::from_secs(8);
    let mut window = WINDOW;
    loop {
        let mut engine: Engine = engine(address, vec![browser(address, SHARE)]);
        engine.ask_once(0, &[0]).unwrap();
        let class = only(engine.run(window, None).unwrap());
        if class.answers + class.error_count() >= 300 || window > LONGEST {
            return class;
        }
        window *= 2;
    }
}

fn coded(fields: &str, body: &[u8]) -> Vec<u8> {
    ends_with(&format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len()), body)
}

/// "The quick brown fox jumps over the lazy dog.", by gzip(1).
const GZIPPED: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 11, 201, 72, 85, 40, 44, 205, 76, 206, 86, 72, 42, 202, 47, 207, 83, 72,
    203, 175, 80, 200, 42, 205, 45, 40, 86, 200, 47, 75, 45, 82, 40, 1, 74, 231, 36, 86, 85, 42, 164, 228,
    167, 235, 1, 0, 233, 37, 144, 81, 44, 0, 0, 0,
];

#[test]
fn one_in_three_asks_with_the_tag_that_this_server_gave() {
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    let address = scripted(move |stream, request| {
        assert!(request.contains("\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"), "{request}");
        if request.contains("\r\nIf-None-Match: \"this-server\"\r\n") {
            counter.fetch_add(1, Ordering::Relaxed);
            send(stream, b"HTTP/1.1 304 Not Modified\r\nETag: \"this-server\"\r\n\r\n");
        } else {
            assert!(!request.contains("If-"), "{request}");
            send(stream, &coded("ETag: \"this-server\"\r\nContent-Encoding: gzip\r\n", GZIPPED));
        }
        Then::Keep
    });
    let class = visit(address);
    assert!(class.errors.is_empty(), "{:?}", class.errors);
    let traffic = serde_json::to_value(class.traffic.unwrap()).unwrap();
    let number = |path: &str| traffic.pointer(path).unwrap().as_u64().unwrap();
    assert_eq!(number("/not_modified") + number("/text/gzip/answers"), class.answers);
    assert_eq!(number("/text/gzip/body_bytes"), number("/text/gzip/answers") * GZIPPED.len() as u64);
    assert_eq!(number("/head_bytes") + number("/text/gzip/body_bytes"), class.wire_bytes);
    let share = number("/not_modified") as f64 / class.answers as f64;
    // Of 300 draws a third with five standard deviations; they are the same in every run of so many.
    assert!((share - SHARE).abs() < 0.14, "{share}");
    assert!(asked.load(Ordering::Relaxed) >= number("/not_modified"));
}

#[test]
fn a_file_without_a_validator_is_asked_for_as_ever() {
    let address = scripted(|stream, request| {
        assert!(!request.contains("If-"), "{request}");
        send(stream, &coded("", BODY));
        Then::Keep
    });
    assert!(visit(address).errors.is_empty());
}

#[test]
fn a_304_that_nobody_asked_for_is_an_error() {
    let address = scripted(|stream, _| {
        send(stream, b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
        Then::Keep
    });
    let mut engine = engine(address, vec![browser(address, SHARE)]);
    let class = only(engine.run(WINDOW, None).unwrap());
    assert_eq!(error(&class), LoadError::Status { got: 304, want: 200 });
}

#[test]
fn codings_that_nobody_asked_for_and_wrong_lengths_are_errors() {
    let table: [(&str, Vec<u8>, LoadError); 4] = [
        ("unknown", coded("Content-Encoding: compress\r\n", BODY), LoadError::Coding),
        ("two of them", coded("Content-Encoding: gzip, br\r\n", BODY), LoadError::Coding),
        ("cut short as it is", coded("", &BODY[1..]), LoadError::Length { got: 43, want: 44 }),
        ("coded to nothing", coded("Content-Encoding: br\r\n", b""), LoadError::Length { got: 0, want: 44 }),
    ];
    for (name, answer, expected) in table {
        let address = scripted(move |stream, _| {
            send(stream, &answer);
            Then::Keep
        });
        let mut engine = engine(address, vec![browser(address, SHARE)]);
        assert_eq!(error(&only(engine.run(WINDOW, None).unwrap())), expected, "{name}");
    }
}

#[test]
fn the_same_strong_tag_for_other_bytes_is_an_error() {
    let count = AtomicU64::new(0);
    let address = scripted(move |stream, request| {
        let length = if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { GZIPPED.len() } else { 9 };
        assert!(request.contains(ACCEPTS));
        send(stream, &coded("ETag: \"x\"\r\nContent-Encoding: gzip\r\n", &GZIPPED[..length]));
        Then::Keep
    });
    // Every second answer; without conditions, since a tag that lies is no good to ask with.
    let class = Class { connections: 1, ..browser(address, f64::MIN_POSITIVE) };
    let mut engine = engine(address, vec![class]);
    assert_eq!(error(&only(engine.run(WINDOW, None).unwrap())), LoadError::Tag);
}

#[test]
fn chunks_are_read_and_counted_with_their_frame() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (first, second) = GZIPPED.split_at(20);
    let frame = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    let answer = [HEAD.as_bytes(), &frame(first), &frame(second), b"0\r\n\r\n"].concat();
    let length = answer.len() as u64;
    let address = scripted(move |stream, _| {
        // In two segments, the cut within the second chunk.
        let (begin, end) = answer.split_at(answer.len() - 12);
        send(stream, begin);
        send(stream, end);
        Then::Keep
    });
    let class = visit(address);
    assert!(class.errors.is_empty(), "{:?}", class.errors);
    assert_eq!(class.wire_bytes, class.answers * length);
    let mut engine = engine(address, vec![browser(address, SHARE)]);
    let fetched = engine.fetch(0, &[0, 0]).unwrap();
    assert_eq!(fetched.len(), 2);
    for received in fetched {
        assert_eq!((received.coding, &received.body[..]), (Coding::Gzip, GZIPPED));
        assert_eq!(received.coding.decode(&received.body, EXPECTED.body_bytes).unwrap(), BODY);
    }
}

#[test]
fn chunks_that_are_none_are_errors() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let table: [(&str, Vec<u8>, LoadError); 3] = [
        ("no size", ends_with(head, b"x\r\n"), LoadError::Chunks),
        ("more than the last", ends_with(head, b"0\r\n\r\n!"), LoadError::Chunks),
        ("another length", ends_with(head, b"3\r\nThe\r\n0\r\n\r\n"), LoadError::Length { got: 3, want: 44 }),
    ];
    for (name, answer, expected) in table {
        let address = scripted(move |stream, _| {
            send(stream, &answer);
            Then::Keep
        });
        let mut engine = engine(address, vec![browser(address, SHARE)]);
        assert_eq!(error(&only(engine.run(WINDOW, None).unwrap())), expected, "{name}");
    }
}

#[test]
fn new_files_are_unknown_until_they_are_introduced() {
    const FILES: usize = 12;
    let asked = Arc::new(Mutex::new([0_u64; FILES]));
    let counts = Arc::clone(&asked);
    // Compresses what it is asked for the third time.
    let address = scripted(move |stream, request| {
        let path = request.split(' ').nth(1).unwrap().trim_start_matches('/');
        let mut is_known = true;
        if let Ok(number) = path.parse::<usize>() {
            let mut counts = counts.lock().unwrap();
            counts[number] += 1;
            is_known = counts[number] >= 3;
        }
        let (fields, body) = if is_known { ("Content-Encoding: gzip\r\n", GZIPPED) } else { ("", BODY) };
        send(stream, &coded(fields, body));
        Then::Keep
    });
    let request = |number: usize| {
        let expected = Expected { status: 200, body_bytes: BODY.len() as u64 };
        Request::negotiated(address, &format!("/{number}"), ACCEPTS, true, expected)
    };
    let order = Order::Introduced { visits: 3, apart: 2 };
    let asks = Asks::new((0..FILES).map(request).collect::<Vec<_>>(), order);
    let pacing = Pacing::Open { per_second: 400.0, arrivals: Arrivals::Constant, steps: Vec::new() };
    let new = Class { pacing, asks, ..class(address, Life::KeepAlive, 1) };
    let mut engine = engine(address, vec![browser(address, SHARE), new]);
    engine.hold_back(1, true);
    engine.run(WINDOW, None).unwrap();
    assert_eq!(*asked.lock().unwrap(), [0; FILES], "nobody has heard of them");
    engine.hold_back(1, false);
    let outcome = engine.run(Duration::from_millis(400), None).unwrap();
    let shown = outcome.classes[1].introduction.clone().unwrap();
    assert_eq!((shown.files, shown.coded), (FILES as u64, FILES as u64));
    // All are due within 90 ms; who shares the machine may hold up the answers.
    assert!(shown.all_coded_ns.is_some_and(|time| time >= 80_000_000), "{shown:?}");
    assert!(outcome.classes[0].introduction.is_none(), "the others aren't new");
}

#[test]
fn each_file_has_its_own_tag() {
    const FILES: usize = 40;
    let address = scripted(|stream, request| {
        let path = request.split(' ').nth(1).unwrap().to_owned();
        if request.contains("If-None-Match") {
            assert!(request.contains(&format!("\r\nIf-None-Match: \"{path}\"\r\n")), "{request}");
            send(stream, b"HTTP/1.1 304 Not Modified\r\n\r\n");
        } else {
            send(stream, &coded(&format!("ETag: \"{path}\"\r\n"), BODY));
        }
        Then::Keep
    });
    let request = |number: usize| {
        let expected = Expected { status: 200, body_bytes: BODY.len() as u64 };
        Request::negotiated(address, &format!("/{number}"), ACCEPTS, number.is_multiple_of(2), expected)
    };
    let weights = (0..FILES).map(|number| 1.0 / (number + 1) as f64).collect();
    let asks =
        Asks::new((0..FILES).map(request).collect::<Vec<_>>(), Order::Weighted(weights)).with_conditions(1.0);
    let mut engine = engine(address, vec![Class { asks, ..class(address, Life::KeepAlive, 7) }]);
    let all: Vec<usize> = (0..FILES).collect();
    engine.ask_once(0, &all).unwrap();
    let class = only(engine.run(WINDOW, None).unwrap());
    assert!(class.errors.is_empty(), "{:?}", class.errors);
    let traffic = serde_json::to_value(class.traffic.unwrap()).unwrap();
    assert_eq!(traffic["not_modified"], class.answers, "all of them are known from the first visit");
}

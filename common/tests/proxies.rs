//! Proxies that are trusted, and the log that they tell of their clients: the state machine, driven by a script.

mod script;

use std::fs::{self, File};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use common::machine::proxies::Proxies;
use common::machine::record::LogFormat;
use common::service::log::AccessLog;
use common::{CacheConfig, Close, Config, Notice, Peer, SiteOptions, Step};
use proptest::prelude::*;
use script::{Script, get, text};
use serde_json::Value;
use tempfile::NamedTempFile;

/// Trusted.
const PROXY: &str = "192.0.2.1";
const STRANGER: &str = "198.51.100.1";
const CLIENT: &str = "203.0.113.9";

fn peer(text: &str) -> Option<Peer> {
    Some(Peer::from(text.parse::<IpAddr>().expect("an address")))
}

/// A script, its log, and what the operator was told.
struct Ground {
    script: Script,
    log: NamedTempFile,
    told: Arc<Mutex<Vec<String>>>,
}

impl Ground {
    fn new(send_header: bool, format: LogFormat) -> Ground {
        Ground::with(send_header, format, CacheConfig::OFF)
    }

    fn with(send_header: bool, format: LogFormat, cache: CacheConfig) -> Ground {
        let ranges = vec![PROXY.parse().expect("an address")];
        let proxies = Arc::new(Proxies { ranges, send_header });
        let config = Config { proxies, cache, ..Config::default() };
        let log = NamedTempFile::new().expect("a file");
        let output = File::options().append(true).open(log.path()).expect("opened");
        let told = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&told);
        let notice = Notice::new(move |about| theirs.lock().expect("not poisoned").push(about.to_owned()));
        let output = AccessLog::over(output).expect("started").in_format(format);
        let script = Script::of_proxies(config, SiteOptions::default(), output, Arc::new(notice));
        Ground { script, log, told }
    }

    /// What is sent to a connection of this peer that sends these pieces.
    fn converse(&mut self, from: &str, pieces: &[&[u8]]) -> String {
        self.script.connect(peer(from));
        let mut wire = Vec::new();
        for piece in pieces {
            if let Some(Close::Reset | Close::Drop) = self.script.closes() {
                break;
            }
            self.script.receive(piece);
            wire.extend(self.script.run(usize::MAX));
        }
        text(&wire)
    }

    /// The lines of the log.
    fn end(self) -> Vec<String> {
        drop(self.script);
        fs::read_to_string(self.log.path()).expect("read").lines().map(str::to_owned).collect()
    }
}

fn codes(wire: &str) -> Vec<&str> {
    wire.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

/// Version 2, with a TLV.
fn binary() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10".to_vec();
    header.extend([203, 0, 113, 9, 127, 0, 0, 1, 1, 0, 2, 0, 4, 0, 1, 0]);
    header
}

/// However it comes, the client that the header names has its answers, and the log has the client.
#[test]
fn a_client_is_introduced() {
    let line = format!("PROXY TCP4 {CLIENT} 127.0.0.1 1 2\r\n").into_bytes();
    for header in [line, binary()] {
        let bytes = [&header[..], &get("/a.txt"), &get("/none")].concat();
        let mut ground = Ground::new(true, LogFormat::Combined);
        let whole = codes(&ground.converse(PROXY, &[&bytes])).join(" ");
        assert_eq!(whole, "200 404");
        for cut in 1..bytes.len() {
            let (one, other) = bytes.split_at(cut);
            assert_eq!(codes(&ground.converse(PROXY, &[one, other])).join(" "), whole, "{cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(codes(&ground.converse(PROXY, &single)).join(" "), whole);
        assert_eq!(ground.script.worker.service().stats.totals().errors, 0);
        assert!(ground.told.lock().expect("not poisoned").is_empty());
        let log = ground.end();
        assert_eq!(log.len(), 2 * (bytes.len() + 1));
        for line in log {
            assert!(line.starts_with(&format!("{CLIENT} - - [")), "{line}");
        }
    }
}

#[test]
fn who_is_not_introduced_is_the_proxy_itself() {
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let mut ground = Ground::new(true, LogFormat::Combined);
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN 1.1.1.1 2.2.2.2 1 2\r\n", local] {
        assert_eq!(codes(&ground.converse(PROXY, &[header, &get("/a.txt")])), ["200"]);
    }
    for line in ground.end() {
        assert!(line.starts_with(&format!("{PROXY} - - [")), "{line}");
    }
}

/// Whoever isn't trusted may introduce nobody: to them this is a server of HTTP.
#[test]
fn a_stranger_introduces_nobody() {
    let line = format!("PROXY TCP4 {CLIENT} 127.0.0.1 1 2\r\n").into_bytes();
    for header in [line, binary()] {
        let mut ground = Ground::new(true, LogFormat::Combined);
        let wire = ground.converse(STRANGER, &[&header, &get("/a.txt")]);
        assert_eq!(codes(&wire), ["400"], "{wire}");
        assert_eq!(codes(&ground.converse(STRANGER, &[&get("/a.txt")])), ["200"]);
        for line in ground.end() {
            assert!(line.starts_with(&format!("{STRANGER} - - [")), "{line}");
        }
    }
    // Nor a proxy that isn't to do so.
    let mut ground = Ground::new(false, LogFormat::Combined);
    assert_eq!(codes(&ground.converse(PROXY, &[&binary()])), ["400"]);
}

#[test]
fn a_proxy_without_a_header_is_sent_nothing() {
    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    let wrong: [&[&[u8]]; 6] = [
        &[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
        &[b"PROXY TCP4 1.1.1.1 2.2.2.2 1 99999\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"],
        &[b"PR", b"I * HTTP/2.0\r\n\r\n"],
        &[&long],
        &[b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"],
        &[b"\r\n"],
    ];
    let mut ground = Ground::new(true, LogFormat::Combined);
    for (index, pieces) in (1..).zip(&wrong[..5]) {
        assert_eq!(ground.converse(PROXY, pieces), "", "{pieces:?}");
        assert_eq!(ground.script.closes(), Some(Close::Reset), "{pieces:?}");
        ground.script.worker.flush();
        assert_eq!(ground.script.service.stats.totals().errors, index);
    }
    // A part of it, and the end.
    for (pieces, errors) in [(&[&b""[..]][..], 5), (&[b"PROXY TCP4", b""], 6), (&[&binary()[..20], b""], 7)] {
        assert_eq!(ground.converse(PROXY, pieces), "");
        assert_eq!(ground.script.closes(), Some(Close::Drop), "{pieces:?}");
        ground.script.worker.flush();
        assert_eq!(ground.script.service.stats.totals().errors, errors);
    }
    assert_eq!(ground.converse(PROXY, wrong[5]), "");
    assert!(matches!(ground.script.connection.step(), Step::Receive), "it may still become a header");
    assert_eq!(*ground.told.lock().expect("not poisoned"), [PROXY], "once is enough");
    assert!(ground.end().is_empty(), "nobody has asked for anything");
}

/// Each request of a connection has a client of its own.
#[test]
fn a_proxy_tells_who_has_asked() {
    let ask = |fields: &str| format!("GET /a.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
    let requests = [
        (ask("X-Forwarded-For: 203.0.113.9\r\n"), CLIENT),
        (ask("x-forwarded-for: 6.6.6.6, 203.0.113.8\r\n"), "203.0.113.8"),
        (ask("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 192.0.2.1\r\n"), "203.0.113.7"),
        (ask("X-Forwarded-For: unknown\r\n"), PROXY),
        (ask("Forwarded: for=203.0.113.9\r\n"), PROXY),
        (ask(""), PROXY),
        (b"GET /\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n".to_vec(), PROXY),
    ];
    let all: Vec<u8> = requests.iter().flat_map(|(request, _)| request.clone()).collect();
    let plain = requests.iter().map(|_| ask("")).collect::<Vec<_>>().concat();
    for (from, send_header) in [(PROXY, false), (STRANGER, false), (STRANGER, true)] {
        let mut ground = Ground::new(send_header, LogFormat::Combined);
        let wire = ground.converse(from, &[&all]);
        assert_eq!(codes(&wire)[..6], ["200"; 6]);
        let other = ground.converse(from, &[&plain]);
        let first = |wire: &str| wire.split("HTTP/1.1 ").nth(1).map(str::to_owned);
        assert_eq!(first(&wire), first(&other), "nothing else depends on it");
        let log = ground.end();
        assert_eq!(log.len(), 2 * requests.len());
        for ((_, client), line) in requests.iter().zip(log) {
            let client = if from == PROXY { client } else { from };
            assert!(line.starts_with(&format!("{client} - - [")), "{line} isn't of {client}");
        }
    }
    // Behind a header, it is the one introduced who is trusted or not.
    let mut ground = Ground::new(true, LogFormat::Combined);
    for introduced in [STRANGER, PROXY] {
        let header = format!("PROXY TCP4 {introduced} 127.0.0.1 1 2\r\n");
        ground.converse(PROXY, &[header.as_bytes(), &requests[0].0]);
    }
    let log = ground.end();
    assert!(log[0].starts_with(STRANGER) && log[1].starts_with(CLIENT), "{log:?}");
}

#[test]
fn a_line_of_json_has_all_that_is_known() {
    let mut ground = Ground::new(false, LogFormat::Json);
    let fields = "X-Forwarded-For: 203.0.113.9\r\nUser-Agent: \"x\" \u{e9}\r\nReferer: http://r.test/";
    let request = format!("GET /a.txt?b=\"c\" HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n");
    ground.converse(PROXY, &[request.as_bytes()]);
    ground.converse(PROXY, &[b"HEAD http://b.test:80/none HTTP/1.0\r\nHost: a.test\r\n\r\n"]);
    ground.converse(STRANGER, &[b"nonsense\r\n\r\n"]);
    let lines = ground.end();
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<_> = lines[0].as_object().expect("an object").keys().collect();
    for line in &lines {
        assert!(line["duration"].as_f64().is_some_and(|seconds| (0.0..60.0).contains(&seconds)), "{line}");
        assert_eq!(line.as_object().expect("an object").keys().collect::<Vec<_>>(), names);
    }
    let expect = |line: &Value, expected: Value| {
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(&line[name], value, "{name} of {line}");
        }
    };
    let first = serde_json::json!({
        "client_ip": CLIENT, "remote_ip": PROXY, "method": "GET", "host": "a.test", "uri": "/a.txt?b=\"c\"",
        "proto": "HTTP/1.1", "status": 200, "size": 5, "encoding": null, "referer": "http://r.test/",
        "user_agent": "\"x\" \u{e9}",
    });
    expect(&lines[0], first);
    let second = serde_json::json!({
        "client_ip": PROXY, "remote_ip": PROXY, "method": "HEAD", "host": "b.test:80",
        "uri": "http://b.test:80/none", "proto": "HTTP/1.0", "status": 404, "size": 0, "user_agent": null,
    });
    expect(&lines[1], second);
    let third = serde_json::json!({ "client_ip": STRANGER, "method": null, "host": null, "uri": null, "status": 400 });
    expect(&lines[2], third);
}

#[test]
fn a_line_of_json_names_the_coding_that_was_sent() {
    let mut ground = Ground::with(false, LogFormat::Json, CacheConfig::default());
    let root = ground.script.root();
    fs::write(root.join("s.css"), "a{}").expect("written");
    fs::write(root.join("s.css.gz"), "gzip").expect("written");
    let ask = |method: &str, target: &str, fields: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
    };
    let asked = [
        (ask("GET", "/s.css", "Accept-Encoding: gzip\r\n"), 200, "gzip", 4),
        (ask("GET", "/s.css", ""), 200, "", 3),
        (ask("HEAD", "/s.css", "Accept-Encoding: gzip\r\n"), 200, "gzip", 0),
        (ask("GET", "/s.css", "Accept-Encoding: gzip\r\nRange: bytes=0-0\r\n"), 206, "", 1),
        (ask("GET", "/s.css", "Accept-Encoding: gzip\r\nIf-None-Match: *\r\n"), 304, "", 0),
        (ask("GET", "/a.txt", "Accept-Encoding: gzip\r\n"), 200, "", 5),
    ];
    let requests: Vec<u8> = asked.iter().flat_map(|(request, ..)| request.clone()).collect();
    // From the second time on they come from the cache.
    ground.converse(PROXY, &[&requests.repeat(4)]);
    let lines = ground.end();
    assert_eq!(lines.len(), 4 * asked.len());
    for ((_, status, coding, size), line) in asked.iter().cycle().zip(lines) {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let told = line["encoding"].as_str().unwrap_or_default();
        assert_eq!((&line["status"], told, &line["size"]), (&(*status).into(), *coding, &(*size).into()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever a proxy sends, in whatever pieces, the outcome is the same.
    #[test]
    fn any_bytes_of_a_proxy_have_one_outcome(
        start in 0usize..4,
        bytes in proptest::collection::vec(any::<u8>(), 1..100),
        step in 1usize..20,
    ) {
        let start = [&b""[..], b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n\x21"][start];
        let bytes = [start, &bytes].concat();
        let mut ground = Ground::new(true, LogFormat::Combined);
        let whole = codes(&ground.converse(PROXY, &[&bytes])).join(" ");
        let closes = ground.script.closes();
        let pieces: Vec<_> = bytes.chunks(step).collect();
        prop_assert_eq!(codes(&ground.converse(PROXY, &pieces)).join(" "), whole);
        prop_assert_eq!(ground.script.closes(), closes);
    }
}

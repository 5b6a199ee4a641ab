//! The state machine, driven by a script instead of a backend.

mod script;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::machine::connection::LINGER_BYTES_MAX;
use common::{CacheConfig, Close, Config, Connection, Notice, SiteOptions, Step};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use script::{BIG_BYTES, Script, get, in_memory, text};

#[test]
fn a_file_is_served_whole_despite_short_writes() {
    let mut whole = Script::new();
    whole.receive(&get("/big"));
    let expected = whole.run(usize::MAX);
    assert!(expected.len() > BIG_BYTES && text(&expected[..200]).starts_with("HTTP/1.1 200 OK\r\n"));
    for most in [1000, 4096, 65_536] {
        let mut script = Script::new();
        script.receive(&get("/big"));
        let wire = script.run(most);
        assert_eq!(wire.len(), expected.len());
        assert!(script.closes().is_none(), "kept alive");
    }
}

#[test]
fn requests_in_one_buffer_are_answered_in_order() {
    let mut script = Script::new();
    script.receive(
        &[get("/a.txt"), get("/none"), b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), get("/a.txt")]
            .concat(),
    );
    let wire = text(&script.run(usize::MAX));
    let codes: Vec<_> = wire.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(codes, ["200", "404", "204", "200"]);
}

/// Content comes before the answer, in whatever pieces, and what follows it is another request.
#[test]
fn what_follows_the_content_is_a_request() {
    let mut script = Script::new();
    for (field, content) in
        [("Content-Length: 5", "12345"), ("Transfer-Encoding: chunked", "3\r\n123\r\n0\r\n\r\n")]
    {
        let first = format!("GET /a.txt HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n{content}");
        let both = [first.as_bytes(), &get("/none")].concat();
        for at in 1..=both.len() {
            let (one, other) = both.split_at(at);
            script.receive(one);
            let mut wire = text(&script.run(usize::MAX));
            assert!(at >= first.len() || wire.is_empty(), "{field}, {at}: {wire}");
            if !other.is_empty() {
                script.receive(other);
                wire += &text(&script.run(usize::MAX));
            }
            let codes: Vec<_> = wire.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
            assert_eq!(codes, ["200", "404"], "{field}, {at}");
        }
    }
}

/// A HEAD is answered with the head that the GET would have, wherever the body would come from.
#[test]
fn a_head_has_no_body() {
    let mut script = Script::new();
    for target in ["/a.txt", "/big", "/dir", "/none"] {
        script.receive(&get(target));
        let whole = text(&script.run(usize::MAX));
        let (head, body) = whole.split_once("\r\n\r\n").expect("a head");
        assert!(!body.is_empty(), "{target}");
        let ask = format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        script.receive(&[&b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"[..], &ask].concat());
        let both = text(&script.run(usize::MAX));
        let (_, answer) = both.split_once("\r\n\r\n").expect("the answer to OPTIONS");
        assert_eq!(answer, format!("{head}\r\n\r\n"), "{target}");
    }
}

#[test]
fn parts_are_as_long_as_was_said() {
    let mut script = Script::new();
    script.receive(b"GET /big HTTP/1.1\r\nHost: a\r\nRange: bytes=0-0,50000-50001\r\n\r\n");
    let wire = text(&script.run(usize::MAX));
    let (head, body) = wire.split_once("\r\n\r\n").expect("a head");
    assert!(head.lines().any(|line| line == format!("Content-Length: {}", body.len())), "{wire}");
    let boundary = head.split("boundary=").nth(1).and_then(|rest| rest.lines().next()).expect("a boundary");
    let delimiter = format!("--{boundary}");
    let parts: Vec<_> = body.split(&delimiter).collect();
    assert!(parts.len() == 4 && parts[0].is_empty() && parts[3] == "--\r\n", "{wire}");
    assert!(parts[1].ends_with("\r\n\r\nx\r\n") && parts[2].ends_with("\r\n\r\nxx\r\n"), "{wire}");
}

#[test]
fn requests_and_what_went_wrong_are_counted() {
    let mut script = Script::new();
    for _ in 0..3 {
        script.receive(&get("/a.txt"));
        script.run(usize::MAX);
    }
    for errno in [5, 12, 13] {
        script.receive(&get("/big"));
        script.connection.opened(&mut script.worker, Err(io::Error::from_raw_os_error(errno)));
        script.run(usize::MAX);
    }
    script.worker.flush();
    let counts = script.service.stats.totals();
    assert_eq!((counts.requests(), counts.errors), (6, 2), "403 is no error of the server's");
    // A file is let in on its second request. Of the three that failed, each looked for a page, too.
    assert_eq!((counts.cache_hits, counts.cache_misses), (1, 2 + 3 * 2));
}

#[test]
fn responses_from_memory_are_sent_together() {
    let mut script = Script::new();
    script.receive(&b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20));
    let Step::Send(answer) = script.connection.step() else { panic!("something to send") };
    assert_eq!(text(&in_memory(answer)).matches("204 No Content").count(), 20);
}

#[test]
fn early_bytes_are_kept_up_to_a_limit() {
    let mut script = Script::new();
    script.receive(&get("/big"));
    assert!(matches!(script.connection.step(), Step::Open(_)));
    let mut pipelined = 0;
    while script.connection.wants_bytes() {
        script.receive(&get("/a.txt"));
        pipelined += 1;
        assert!(pipelined < 10_000, "no bound");
    }
    let wire = text(&script.run(usize::MAX));
    assert_eq!(wire.matches("HTTP/1.1 200 OK").count(), 1 + pipelined);
    assert!(script.connection.wants_bytes());
}

#[test]
fn a_client_that_half_closes_gets_its_response() {
    let mut script = Script::new();
    script.receive(&get("/a.txt"));
    script.receive(b"");
    assert!(text(&script.run(usize::MAX)).ends_with("\r\n\r\nhello"));
    assert_eq!(script.closes(), Some(Close::Drop));
}

#[test]
fn a_request_cut_short_is_refused() {
    let mut script = Script::new();
    script.receive(b"GET / HT");
    script.receive(b"");
    assert!(text(&script.run(usize::MAX)).starts_with("HTTP/1.1 400 "));
    assert_eq!(script.closes(), Some(Close::Drop), "the client is gone, no need to linger");
}

#[test]
fn a_refusal_lingers() {
    let mut script = Script::new();
    script.receive(b"nonsense\r\n");
    assert!(text(&script.run(usize::MAX)).contains("\r\nConnection: close\r\n"));
    assert_eq!(script.closes(), Some(Close::Graceful));
    script.connection.half_closed(&mut script.worker);
    script.receive(&[0; 1000]);
    assert_eq!(script.closes(), None);
    let piece = vec![0; 1 << 20];
    for received in (1000..).step_by(piece.len()).take_while(|received| *received < LINGER_BYTES_MAX) {
        assert_eq!(script.closes(), None, "after {received} bytes");
        script.receive(&piece);
    }
    assert_eq!(script.closes(), Some(Close::Drop), "lingering is bounded");
    const { assert!(LINGER_BYTES_MAX >= 100 << 20, "an upload that is refused is no larger than that") };
}

/// A close is graceful where the client may still be sending: a plain one would destroy the answer on its way.
#[test]
fn a_close_is_graceful_where_the_client_may_be_sending() {
    let asks = |fields: &str| format!("GET /a.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
    let closing = asks("Connection: close\r\n");
    let http10 = b"GET /a.txt HTTP/1.0\r\n\r\n".to_vec();
    for (name, request, ended, close) in [
        ("who asks for the close has sent all", closing.clone(), false, Some(Close::Drop)),
        ("as has who can't keep it", http10.clone(), false, Some(Close::Drop)),
        (
            "but not who sends more all the same",
            [closing, get("/a.txt")].concat(),
            false,
            Some(Close::Graceful),
        ),
        ("as with HTTP/1.0", [http10, get("/a.txt")].concat(), false, Some(Close::Graceful)),
        (
            "or who may send the content that it has announced",
            asks("Connection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n"),
            false,
            Some(Close::Graceful),
        ),
        ("who can't be understood", b"nonsense\r\n\r\n".to_vec(), false, Some(Close::Graceful)),
        ("who can't be understood, and has closed", b"nonsense\r\n\r\n".to_vec(), true, Some(Close::Drop)),
        ("who has closed", get("/a.txt"), true, Some(Close::Drop)),
        ("who is kept", get("/a.txt"), false, None),
        ("as is who may send content, and has announced none", asks("Expect: 100-continue\r\n"), false, None),
    ] {
        let mut script = Script::new();
        script.receive(&request);
        if ended {
            script.receive(b"");
        }
        assert!(!script.run(usize::MAX).is_empty(), "{name}");
        assert_eq!(script.closes(), close, "{name}");
    }
}

#[test]
fn deadlines_follow_the_state() {
    let millis = Duration::from_millis;
    let config = Config {
        head_timeout: millis(20),
        idle_timeout: millis(60),
        send_timeout: millis(40),
        ..Config::default()
    };
    let mut script = Script::with(config, SiteOptions::default());
    let left = |script: &Script| script.connection.deadline().map(|deadline| deadline - script.worker.now());
    assert_eq!(left(&script), Some(millis(60)));
    script.receive(b"GET");
    assert_eq!(left(&script), Some(millis(20)));
    let deadline = script.connection.deadline();
    script.worker.tick();
    script.receive(b" /big");
    assert_eq!(script.connection.deadline(), deadline, "trickling bytes don't extend it");
    script.receive(b" HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(left(&script), Some(millis(40)), "a disk has as much time as a client");
    let Step::Open(request) = script.connection.step() else { panic!("an open") };
    let result = request.open();
    script.connection.opened(&mut script.worker, result);
    // A first look, and eight more that see nothing; fewer, where they come late.
    let begun = script.worker.now();
    let mut looks = 0;
    while script.closes().is_none() {
        assert_eq!(left(&script), Some(millis(5)));
        script.connection.expired(&mut script.worker, None);
        assert!(script.closes().is_none() && looks < 9, "not yet: {looks}");
        std::thread::sleep(millis(5));
        script.worker.tick();
        script.connection.expired(&mut script.worker, None);
        looks += 1;
    }
    assert_eq!(script.closes(), Some(Close::Reset));
    assert!(script.worker.now() - begun >= millis(40), "{looks} looks");
}

#[test]
fn a_file_that_does_not_come_is_a_503() {
    let send_timeout = Duration::from_millis(5);
    let config = Config { send_timeout, ..Config::default() };
    for (name, levels_of_steps) in [("an open", 1), ("a read", 2)] {
        let mut script = Script::with(config.clone(), SiteOptions::default());
        // The second request for a file is the one that reads it for the cache.
        for _ in 1..levels_of_steps {
            script.receive(&get("/a.txt"));
            script.run(usize::MAX);
        }
        script.receive(&get("/a.txt"));
        if let Step::Open(request) = script.connection.step()
            && levels_of_steps > 1
        {
            let result = request.open();
            script.connection.opened(&mut script.worker, result);
            assert!(matches!(script.connection.step(), Step::Read(_)), "{name}");
        }
        script.connection.expired(&mut script.worker, None);
        assert!(!matches!(script.connection.step(), Step::Send(_)), "{name}: not yet");
        std::thread::sleep(send_timeout + Duration::from_millis(1));
        script.worker.tick();
        script.connection.expired(&mut script.worker, None);
        // What comes of the file now finds nobody.
        script.connection.opened(&mut script.worker, Err(io::Error::from_raw_os_error(13)));
        let wire = text(&script.run(usize::MAX));
        assert!(wire.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{name}: {wire}");
        assert!(wire.contains("\r\nRetry-After: ") && wire.contains("\r\nConnection: close\r\n"), "{wire}");
        assert_eq!(wire.matches("HTTP/1.1").count(), 1, "{name}");
        assert_eq!(script.closes(), Some(Close::Graceful), "{name}");
    }
}

#[test]
fn a_slow_request_gets_a_408() {
    let config = Config { head_timeout: Duration::from_millis(1), ..Config::default() };
    let mut script = Script::with(config, SiteOptions::default());
    script.receive(b"GET / HTTP/1.1\r\n");
    std::thread::sleep(Duration::from_millis(2));
    script.worker.tick();
    script.connection.expired(&mut script.worker, None);
    assert!(text(&script.run(usize::MAX)).starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    assert_eq!(script.closes(), Some(Close::Graceful));
}

#[test]
fn a_failed_open_becomes_a_status() {
    for (error, status, kept) in [
        (io::Error::from_raw_os_error(24), "503 Service Unavailable", true),
        (io::Error::from_raw_os_error(13), "403 Forbidden", true),
        (io::Error::from_raw_os_error(5), "500 Internal Server Error", true),
    ] {
        let mut script = Script::new();
        script.receive(&get("/a.txt"));
        script.connection.opened(&mut script.worker, Err(error));
        let wire = text(&script.run(usize::MAX));
        assert!(wire.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{wire}");
        assert_eq!(script.closes().is_none(), kept);
    }
}

#[test]
fn who_gives_way_in_the_moment_of_its_request_is_told() {
    let mut script = Script::new();
    script.worker.keep_no_connection();
    script.receive(&get("/a.txt"));
    assert!(text(&script.run(usize::MAX)).contains("\r\nConnection: close\r\n"));
    assert_eq!(script.closes(), Some(Close::Graceful));
}

#[test]
fn a_drain_tells_busy_connections_and_closes_idle_ones() {
    let mut script = Script::new();
    script.receive(&get("/a.txt"));
    script.service.shutdown.drain();
    script.connection.drain();
    assert!(text(&script.run(usize::MAX)).contains("\r\nConnection: close\r\n"));
    assert_eq!(script.closes(), Some(Close::Graceful));
    let mut idle = Script::new();
    idle.connection.drain();
    assert_eq!(idle.closes(), Some(Close::Drop));
}

#[test]
fn a_failed_response_resets_the_connection() {
    let mut script = Script::new();
    script.receive(&get("/big"));
    let Step::Open(request) = script.connection.step() else { panic!("an open") };
    let result = request.open();
    script.connection.opened(&mut script.worker, result);
    script.connection.sent(&mut script.worker, 500);
    script.connection.failed(&mut script.worker);
    assert_eq!(script.closes(), Some(Close::Reset));
}

/// The client resets the connection before it is closed gracefully.
#[test]
fn a_half_close_that_fails_drops_the_connection() {
    let mut script = Script::new();
    script.receive(b"nonsense\r\n\r\n");
    assert!(text(&script.run(usize::MAX)).starts_with("HTTP/1.1 400 "));
    assert_eq!(script.closes(), Some(Close::Graceful));
    script.connection.failed(&mut script.worker);
    assert_eq!(script.closes(), Some(Close::Drop));
}

/// Bytes queued before an unfinished body are still sent; the next request gets no response.
#[test]
fn a_truncated_response_ends_the_connection_after_its_head() {
    for (sent, next) in [(0, "/a.txt"), (5, "/a.txt"), (500, "/a.txt"), (0, ""), (500, "")] {
        let mut script = Script::new();
        script.receive(&get("/big"));
        if !next.is_empty() {
            script.receive(&get(next));
        }
        let Step::Open(request) = script.connection.step() else { panic!("an open") };
        let result = request.open();
        script.connection.opened(&mut script.worker, result);
        script.connection.sent(&mut script.worker, sent);
        script.connection.cut_short(&mut script.worker);
        if sent < 500 {
            let Step::Send(rest) = script.connection.step() else { panic!("the head is still to be sent") };
            assert!(rest.front().1.is_none());
            let rest = in_memory(rest);
            assert!(rest.starts_with(&b"HTTP/1.1 200 OK\r\n"[sent..]) && rest.ends_with(b"\r\n\r\n"));
            script.connection.sent(&mut script.worker, rest.len());
        }
        assert_eq!(script.closes(), Some(Close::Graceful), "{sent} sent, {next} asked");
    }
}

#[test]
fn listings_show_only_what_is_served() {
    let options = SiteOptions { listing: true, ..SiteOptions::default() };
    let mut script = Script::with(Config::default(), options);
    script.receive(&get("/"));
    let page = text(&script.run(usize::MAX));
    for expected in [
        "200 OK",
        "<a href=\"./dir/\">dir/</a>",
        "<a href=\"./a.txt\">a.txt</a><td title=\"5 bytes\">5 B<",
        "Cache-Control: no-cache\r\nVary: Accept\r\n",
    ] {
        assert!(page.contains(expected), "{page}");
    }
    assert!(!page.contains("../"), "no link above the root");
    script.receive(&get("/dir/"));
    assert!(text(&script.run(usize::MAX)).contains("<a href=\"../\">"));
    script.receive(&get("/none/"));
    assert!(text(&script.run(usize::MAX)).starts_with("HTTP/1.1 404 "));
    let mut without = Script::new();
    without.receive(&get("/"));
    assert!(text(&without.run(usize::MAX)).starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_listing_is_in_the_format_and_the_order_that_were_asked_for() {
    let options = SiteOptions { listing: true, ..SiteOptions::default() };
    let mut script = Script::with(Config::default(), options);
    let accept = b"GET /?sort=size HTTP/1.1\r\nHost: a\r\nACCEPT: application/json\r\n\r\n";
    for (request, is_json, first) in [
        (get("/?sort=size"), false, "a.txt"),
        (get("/?sort=size&order=desc"), false, "big"),
        (get("/?sort=size&order=desc&format=json"), true, "big"),
        (accept.to_vec(), true, "a.txt"),
    ] {
        script.receive(&request);
        let answer = text(&script.run(usize::MAX));
        let media_type = if is_json { "application/json" } else { "text/html; charset=utf-8" };
        assert!(answer.contains(&format!("\r\nContent-Type: {media_type}\r\n")), "{answer}");
        assert!(answer.contains("\r\nVary: Accept\r\n"), "{answer}");
        let at = |name: &str| answer.find(&format!("\"./{name}\"")).expect("listed");
        let last = if first == "big" { "a.txt" } else { "big" };
        assert!(at("dir/") < at(first) && at(first) < at(last), "{answer}");
    }
}

/// What is opened on the way to an answer without an error page, by path.
fn opened(script: &mut Script, request: &[u8]) -> Vec<String> {
    let mut paths = Vec::new();
    script.receive(request);
    while let Step::Open(open) = script.connection.step() {
        paths.push(open.path().to_string_lossy().into_owned());
        let result = open.open();
        script.connection.opened(&mut script.worker, result);
    }
    let wire = text(&script.run(usize::MAX));
    assert!(wire.starts_with("HTTP/1.1 404 ") && wire.contains("<h1><b>404</b>"), "{wire}");
    paths
}

#[test]
fn the_page_for_what_is_missing_is_looked_for_on_the_way_up_and_not_too_often() {
    let mut script = Script::new();
    for (target, expected) in [
        ("/x", &["x", "404.html"][..]),
        ("/404.html", &["404.html", "404.html"]),
        ("/a/b/x", &["a/b/x", "a/b/404.html", "a/404.html", "404.html"]),
        ("/a/b/", &["a/b/index.html", "a/b/404.html", "a/404.html", "404.html"]),
        ("/.git/x", &["404.html"]),
        ("/a/.git/b/x", &["a/404.html", "404.html"]),
        ("/a/.git", &["a/404.html", "404.html"]),
    ] {
        assert_eq!(opened(&mut script, &get(target)), expected, "{target}");
    }
    let deep = opened(&mut script, &get(&format!("/{}x", "d/".repeat(1000))));
    assert_eq!(deep.len(), 1 + 8);
    assert_eq!([&deep[7], &deep[8]], [&format!("{}404.html", "d/".repeat(994)), "404.html"]);
}

/// Whatever is no file has no bytes to be sent.
#[test]
fn what_is_no_file_is_not_answered_with() {
    let options = SiteOptions { listing: true, ..SiteOptions::default() };
    let mut script = Script::with(Config::default(), options);
    let fifo = script.root().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("made");
    for folder in ["dir/index.html", "dir/404.html"] {
        std::fs::create_dir(script.root().join(folder)).expect("made");
    }
    for (target, expected) in
        [("/fifo", &["fifo", "404.html"][..]), ("/dir/x", &["dir/x", "dir/404.html", "404.html"])]
    {
        assert_eq!(opened(&mut script, &get(target)), expected, "{target}");
    }
    script.receive(&get("/dir/"));
    let wire = text(&script.run(usize::MAX));
    assert!(wire.starts_with("HTTP/1.1 200 ") && wire.contains("<a href=\"./404.html/\">"), "{wire}");
    for (target, location) in [("/dir", "/dir/"), ("/dir?a=b", "/dir/?a=b")] {
        script.receive(&get(target));
        let wire = text(&script.run(usize::MAX));
        assert!(wire.starts_with("HTTP/1.1 301 "), "{wire}");
        assert!(wire.contains(&format!("\r\nLocation: {location}\r\n")), "{wire}");
    }
}

#[test]
fn pages_for_other_errors_are_in_the_root() {
    let mut script = Script::new();
    for (name, content) in [("403.html", "their 403"), ("50x.html", "their 50x")] {
        std::fs::write(script.root().join(name), content).expect("written");
    }
    for (errno, status, retry, expected) in [
        (13, "403 Forbidden", false, "their 403"),
        (5, "500 Internal Server Error", false, "their 50x"),
        (12, "503 Service Unavailable", true, "their 50x"),
    ] {
        // From the second on they come out of the cache.
        for _ in 0..4 {
            script.receive(&get("/dir/a.txt"));
            script.connection.opened(&mut script.worker, Err(io::Error::from_raw_os_error(errno)));
            let wire = text(&script.run(usize::MAX));
            assert!(wire.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{wire}");
            assert!(wire.ends_with(&format!("\r\n\r\n{expected}")), "{wire}");
            assert_eq!(wire.contains("\r\nRetry-After: 1\r\n"), retry, "{wire}");
            assert!(!wire.contains("ETag") && script.closes().is_none(), "{wire}");
        }
    }
    // One that can't be opened either.
    let config = Config { cache: CacheConfig::OFF, ..Config::default() };
    let mut script = Script::with(config, SiteOptions::default());
    script.receive(&get("/dir/b.txt"));
    for _ in 0..2 {
        script.connection.opened(&mut script.worker, Err(io::Error::from_raw_os_error(24)));
    }
    let wire = text(&script.run(usize::MAX));
    assert!(wire.starts_with("HTTP/1.1 503 ") && wire.contains("<h1><b>503</b>"), "{wire}");
}

#[test]
fn the_operator_is_told_of_listings_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&told);
    let notice = Notice::new(move |folder| theirs.lock().expect("not poisoned").push(folder.to_owned()));
    let notice = Arc::new(notice);
    for listing in [true, false] {
        let options = SiteOptions { listing, ..SiteOptions::default() };
        let mut script = Script::with_notice(options, Arc::clone(&notice));
        for target in ["/a.txt", "/none", "/none/", "/a.txt/", "/.git/"] {
            script.receive(&get(target));
            script.run(usize::MAX);
        }
        assert!(told.lock().expect("not poisoned").is_empty(), "nothing to list");
        for _ in 0..3 {
            script.receive(&get("/dir/"));
            script.run(usize::MAX);
        }
    }
    assert_eq!(*told.lock().expect("not poisoned"), ["/dir/"]);
}

#[test]
fn the_root_is_told_of_by_its_name() {
    let (tell, told) = std::sync::mpsc::channel();
    let notice = Notice::new(move |folder| tell.send(folder.to_owned()).expect("received"));
    let mut script = Script::with_notice(SiteOptions::default(), Arc::new(notice));
    script.receive(&get("/"));
    script.run(usize::MAX);
    assert_eq!(told.try_recv().as_deref(), Ok("/"));
}

/// A share of the output outlives its connection, unmodified while it is held.
#[test]
fn an_operation_in_flight_keeps_its_bytes() {
    let mut script = Script::new();
    script.receive(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    let Step::Send(answer) = script.connection.step() else { panic!("something to send") };
    let share = answer.front().0[0].share();
    let before = share.bytes().to_vec();
    script.connection.failed(&mut script.worker);
    let mut next = Connection::new(&script.worker, None);
    next.received(&mut script.worker, b"nonsense\r\n");
    assert_eq!(share.bytes(), before);
}

#[test]
fn a_keep_alive_request_allocates_nothing() {
    let config = Config { cache: CacheConfig::OFF, ..Config::default() };
    let mut script = Script::with(config, SiteOptions::default());
    let request = get("/a.txt");
    let one = |script: &mut Script| {
        script.receive(&request);
        let Step::Open(open) = script.connection.step() else { panic!("an open") };
        let open = Arc::clone(open);
        let opened = open.open();
        drop(open);
        let counted = allocation_counter::measure(|| {
            script.connection.opened(&mut script.worker, opened);
            while let Step::Send(answer) = script.connection.step() {
                let bytes = usize::try_from(answer.length()).expect("fits");
                script.connection.sent(&mut script.worker, bytes);
            }
            script.receive(&request);
        });
        let Step::Open(open) = script.connection.step() else { panic!("an open") };
        let opened = open.open();
        script.connection.opened(&mut script.worker, opened);
        script.run(usize::MAX);
        counted.count_total
    };
    one(&mut script); // grows the buffers
    assert_eq!(one(&mut script), 0);
    assert!(
        std::mem::size_of::<Connection>() <= 96,
        "an idle connection is {} bytes",
        std::mem::size_of::<Connection>()
    );
}

/// A page that can't be opened just now isn't one that isn't there.
#[test]
fn a_page_that_does_not_come_is_no_404() {
    let config = Config { cache: CacheConfig::OFF, ..Config::default() };
    let options = SiteOptions { clean_urls: true, ..SiteOptions::default() };
    let mut script = Script::with(config, options);
    for (errors, expected) in [
        (&[2, 24, 2][..], "503"),
        (&[2, 13, 2], "403"),
        (&[2, 2, 2], "404"),
        (&[24, 2], "503"),
        (&[13, 2], "403"),
    ] {
        script.receive(&get("/about"));
        for errno in errors {
            assert!(matches!(script.connection.step(), Step::Open(_)), "{errors:?}: {errno}");
            script.connection.opened(&mut script.worker, Err(io::Error::from_raw_os_error(*errno)));
        }
        let wire = text(&script.run(usize::MAX));
        assert!(wire.starts_with(&format!("HTTP/1.1 {expected} ")), "{errors:?}: {wire}");
    }
    // Whether a file has its address can't be found out: then it is sent by its name.
    std::fs::write(script.root().join("about.html"), "page").expect("written");
    script.receive(&get("/about.html"));
    let Step::Open(open) = script.connection.step() else { panic!("an open") };
    let opened = open.open();
    script.connection.opened(&mut script.worker, opened);
    let Step::Open(open) = script.connection.step() else { panic!("an open of the namesake") };
    assert_eq!(open.path(), c"about");
    script.connection.opened(&mut script.worker, Err(io::Error::from_raw_os_error(24)));
    let wire = text(&script.run(usize::MAX));
    assert!(wire.starts_with("HTTP/1.1 200 ") && wire.ends_with("page"), "{wire}");
}

/// Whatever rules lead to, clean addresses close no circle: who follows gets somewhere.
#[test]
fn clean_addresses_make_no_loops() {
    for rules in [
        "",
        "/about /about.html 301!",
        "/about/ /about.html 301!",
        "/about /x 302!\n/x /about.html 302!",
        "/about /x 302\n/x /about.html 302",
        "/about.html /about/ 301!",
        "/docs /docs/index.html 301!",
        "/docs/ /docs/index 301!",
        "/docs/* /docs/index.html 302",
        "/ /index.html 301!",
        "/index /index.html 301!",
        "/about https://a/about.html 301!\n/about.html /about/ 301",
        "https://a/about /about.html 301!",
        "/about q=1 /about.html?q=1 301!",
    ] {
        let options = SiteOptions { clean_urls: true, spa: true, ..SiteOptions::default() };
        let outer = tempfile::tempdir().expect("a directory");
        for (name, content) in
            [("_redirects", rules), ("about.html", "p"), ("index.html", "i"), ("x.html", "x")]
        {
            std::fs::write(outer.path().join(name), content).expect("written");
        }
        for folder in ["docs", "about", "bare"] {
            std::fs::create_dir(outer.path().join(folder)).expect("made");
        }
        std::fs::write(outer.path().join("docs/index.html"), "d").expect("written");
        let site = common::Site::open_root(outer.path(), options).expect("opened");
        let mut script = Script::of_site(site);
        for start in [
            "/",
            "/about",
            "/about/",
            "/about.html",
            "/about.html?q=1",
            "/index.html",
            "/index",
            "/docs",
            "/docs/",
            "/docs/index.html",
            "/docs/index",
            "/x",
            "/x.html",
            "/bare",
            "/bare/",
            "/about?q=1",
            "/nothing",
        ] {
            let mut target = start.to_owned();
            let mut hops = 0;
            loop {
                script.receive(&get(&target));
                let wire = text(&script.run(usize::MAX));
                let Some(location) = wire.lines().find_map(|line| line.strip_prefix("Location: ")) else {
                    break;
                };
                hops += 1;
                assert!(hops < 6, "{rules:?}: {start} leads to {target} and on to {location}");
                location.strip_prefix("https://a").unwrap_or(location).clone_into(&mut target);
            }
        }
    }
}

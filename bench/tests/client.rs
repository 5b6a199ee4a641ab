//! The client against servers that follow a script: what is wrong with an answer must not go unseen.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests themselves do")]

use bench::load::client::{Client, Outcome};
use bench::load::fault::Fault;
use bench::load::request::{Expected, Persistence, Request};
use bench::load::response::HeadError;
use bench::run::corpus::{Corpus, Size};
use bench::server::gate;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BODY: &[u8] = b"The quick brown fox jumps over the lazy dog.";
const WINDOW: Duration = Duration::from_millis(60);

/// What a scripted server does with each request.
type Script = dyn Fn(&mut TcpStream, &str) -> Then + Send + Sync;

/// What becomes of the connection afterwards.
enum Then {
    Keep,
    Close,
}

/// Serves by the script, a thread per connection, until the test ends.
fn scripted(script: impl Fn(&mut TcpStream, &str) -> Then + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script: Arc<Script> = Arc::new(script);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let script = Arc::clone(&script);
            thread::spawn(move || converse(stream, &*script));
        }
    });
    address
}

fn converse(mut stream: TcpStream, script: &Script) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = received.drain(..end + 4).collect();
            if let Then::Close = script(&mut stream, std::str::from_utf8(&head).unwrap()) {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A client that has gone away is none of the server's business.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _client_gone = stream.write_all(bytes);
}

fn right_answer() -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nServer: script\r\nContent-Length: {}\r\n\r\n", BODY.len());
    [head.as_bytes(), BODY].concat()
}

fn ends_with(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), body].concat()
}

fn client(address: SocketAddr, persistence: Persistence, connections: usize) -> Client {
    let expected = Expected { status: 200, body_bytes: BODY.len() as u64 };
    let request = Request::get(address, "/fox", persistence, expected);
    Client::connect(address, request, connections).unwrap().with_stall(Duration::from_millis(300))
}

/// The outcome of a short load on three connections.
fn load(address: SocketAddr, persistence: Persistence) -> Result<Outcome, Fault> {
    client(address, persistence, 3).load(WINDOW)
}

fn kept(answer: Vec<u8>) -> Result<Outcome, Fault> {
    let address = scripted(move |stream, _| {
        send(stream, &answer);
        Then::Keep
    });
    load(address, Persistence::KeepAlive)
}

fn closed_after(answer: Vec<u8>) -> Result<Outcome, Fault> {
    let address = scripted(move |stream, request| {
        assert!(request.contains("\r\nConnection: close\r\n"), "{request}");
        send(stream, &answer);
        Then::Close
    });
    load(address, Persistence::PerRequest)
}

#[test]
fn right_answers_are_counted() {
    let served = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&served);
    let address = scripted(move |stream, request| {
        assert!(request.starts_with("GET /fox HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        counter.fetch_add(1, Ordering::Relaxed);
        send(stream, &right_answer());
        Then::Keep
    });
    let outcome = load(address, Persistence::KeepAlive).unwrap();
    assert!(outcome.answers >= 3);
    assert_eq!(outcome.answers, served.load(Ordering::Relaxed));
    assert_eq!(outcome.wire_bytes, outcome.answers * right_answer().len() as u64);
    assert_eq!(outcome.service.len(), outcome.answers);
    assert!(outcome.elapsed >= WINDOW && outcome.client_cpu < outcome.elapsed);
}

#[test]
fn a_connection_per_request() {
    let outcome = closed_after(right_answer()).unwrap();
    assert!(outcome.answers >= 3);
}

#[test]
fn several_loads_on_the_same_connections() {
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        Then::Keep
    });
    let mut client = client(address, Persistence::KeepAlive, 20);
    for _ in 0..3 {
        assert!(client.load(WINDOW).unwrap().answers >= 20);
    }
}

#[test]
fn an_answer_in_pieces_is_one_answer() {
    for piece_bytes in [1, 7, 50] {
        let address = scripted(move |stream, _| {
            for piece in right_answer().chunks(piece_bytes) {
                send(stream, piece);
            }
            Then::Keep
        });
        let digest = Sha256::digest(BODY).into();
        let mut client = client(address, Persistence::KeepAlive, 2);
        assert!(client.load(WINDOW).is_ok(), "{piece_bytes} bytes a piece");
        assert_eq!(client.verify(2, &digest), Ok(()), "{piece_bytes} bytes a piece");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let want = BODY.len() as u64;
    let table: [(&str, Vec<u8>, Fault); 6] = [
        (
            "another status",
            ends_with("HTTP/1.1 404 Not Found\r\nContent-Length: 44\r\n\r\n", BODY),
            Fault::Status { got: 404, want: 200 },
        ),
        (
            "another length",
            ends_with("HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n", &BODY[1..]),
            Fault::Length { got: 43, want },
        ),
        ("no HTTP", b"hello, who is there?\r\n\r\n".to_vec(), Fault::Head(HeadError::NotHttp)),
        ("no length", ends_with("HTTP/1.1 200 OK\r\n\r\n", BODY), Fault::Head(HeadError::NoLength)),
        (
            "a transfer coding",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            Fault::Head(HeadError::TransferCoding),
        ),
        ("too many bytes", [right_answer(), b"!".to_vec()].concat(), Fault::Surplus),
    ];
    for (name, answer, fault) in table {
        assert_eq!(kept(answer.clone()).unwrap_err(), fault, "{name}");
        assert_eq!(closed_after(answer).unwrap_err(), fault, "{name}, a connection per request");
    }
}

#[test]
fn surplus_after_a_pause_is_still_surplus() {
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        thread::sleep(Duration::from_millis(5));
        send(stream, b"!");
        Then::Close
    });
    assert_eq!(load(address, Persistence::PerRequest).unwrap_err(), Fault::Surplus);
    // On a kept connection it is the beginning of an answer that isn't one, or of no answer at all.
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        thread::sleep(Duration::from_millis(5));
        send(stream, b"!");
        Then::Keep
    });
    let fault = load(address, Persistence::KeepAlive).unwrap_err();
    assert!(matches!(fault, Fault::Head(HeadError::NotHttp) | Fault::Surplus), "{fault}");
}

#[test]
fn a_body_that_ends_early_is_short() {
    for missing in [1, BODY.len()] {
        let answer = right_answer();
        let sent = answer[..answer.len() - missing].to_vec();
        let fault = closed_after(sent).unwrap_err();
        let want = BODY.len() as u64;
        assert_eq!(fault, Fault::Short { got: want - missing as u64, want });
    }
}

#[test]
fn an_end_before_the_answer_is_seen() {
    let address = scripted(|_, _| Then::Close);
    assert_eq!(load(address, Persistence::KeepAlive).unwrap_err(), Fault::Closed);
    let address = scripted(|_, _| Then::Close);
    assert_eq!(load(address, Persistence::PerRequest).unwrap_err(), Fault::Closed);
}

#[test]
fn a_kept_connection_has_to_be_kept() {
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        Then::Close
    });
    let fault = load(address, Persistence::KeepAlive).unwrap_err();
    // The next request may meet the end of the stream, or the reset that it provokes.
    assert!(matches!(fault, Fault::Closed | Fault::System { .. }), "{fault}");
}

#[test]
fn a_silent_server_is_given_up() {
    let address = scripted(|_, _| Then::Keep);
    let begun = Instant::now();
    let fault = load(address, Persistence::KeepAlive).unwrap_err();
    assert!(matches!(fault, Fault::Stalled { owed: 3, .. }), "{fault}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_connection_that_should_end_and_does_not_is_given_up() {
    let address = scripted(|stream, _| {
        send(stream, &right_answer());
        Then::Keep
    });
    let fault = load(address, Persistence::PerRequest).unwrap_err();
    assert!(matches!(fault, Fault::Stalled { owed: 3, .. }), "{fault}");
}

#[test]
fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let expected = Expected { status: 200, body_bytes: 1 };
    let request = Request::get(address, "/", Persistence::PerRequest, expected);
    let fault = Client::connect(address, request, 1).unwrap().load(WINDOW).unwrap_err();
    assert!(matches!(fault, Fault::System { .. }), "{fault}");
}

#[test]
fn service_time_is_what_the_server_takes() {
    let pause = Duration::from_millis(4);
    let address = scripted(move |stream, _| {
        thread::sleep(pause);
        send(stream, &right_answer());
        Then::Keep
    });
    let outcome = load(address, Persistence::KeepAlive).unwrap();
    let least = Duration::from_nanos(outcome.service.min());
    assert!(least + Duration::from_micros(100) >= pause, "{least:?}");
}

#[test]
fn right_length_and_wrong_bytes_pass_a_load_and_fail_a_check() {
    let mut spoilt = right_answer();
    *spoilt.last_mut().unwrap() = b'?';
    let address = scripted(move |stream, _| {
        send(stream, &spoilt);
        Then::Keep
    });
    let mut client = client(address, Persistence::KeepAlive, 2);
    assert!(client.load(WINDOW).is_ok());
    let digest = Sha256::digest(BODY).into();
    assert_eq!(client.verify(2, &digest), Err(Fault::Content));
}

/// A server over the corpus that spoils what `spoil` tells it to.
fn corpus_server(corpus: &Corpus, spoil: fn(&str, &mut Vec<u8>)) -> SocketAddr {
    let root = corpus.root().to_owned();
    scripted(move |stream, request| {
        let path = request.split(' ').nth(1).unwrap().trim_start_matches('/');
        let (status, mut body) = match std::fs::read(root.join(path)) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        spoil(path, &mut body);
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        send(stream, &ends_with(&head, &body));
        if request.contains("Connection: close") { Then::Close } else { Then::Keep }
    })
}

#[test]
fn the_gate_lets_equal_work_through_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = Corpus::create(folder.path(), 3).unwrap();
    assert_eq!(gate::pass(corpus_server(&corpus, |_, _| {}), &corpus), Ok(()));
    let one_byte = |path: &str, body: &mut Vec<u8>| {
        if path == Size::Large.file_name() {
            body[7_654_321] ^= 1;
        }
    };
    let failure = gate::pass(corpus_server(&corpus, one_byte), &corpus).unwrap_err().to_string();
    assert_eq!(failure, "gate, 10 MiB: the body's SHA-256 isn't the file's");
    let cut = |path: &str, body: &mut Vec<u8>| {
        if path == Size::Medium.file_name() {
            body.pop();
        }
    };
    let failure = gate::pass(corpus_server(&corpus, cut), &corpus).unwrap_err().to_string();
    assert!(failure.starts_with("gate, 100 KiB: the answer's Content-Length is 102399"), "{failure}");
}

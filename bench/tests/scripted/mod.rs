//! Servers that follow a script, and classes that ask them.

use bench::load::class::{Asks, Class, Life, Pacing, ReadPace};
use bench::load::engine::Engine;
use bench::load::error::LoadError;
use bench::load::outcome::{ClassOutcome, Outcome};
use bench::load::request::{Expected, Request};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub(crate) const BODY: &[u8] = b"The quick brown fox jumps over the lazy dog.";
/// Long enough for many answers, except where the machine has no time for them.
pub(crate) const WINDOW: Duration = Duration::from_millis(60);

/// What a scripted server does with each request.
type Script = dyn Fn(&mut TcpStream, &str) -> Then + Send + Sync;

/// What becomes of the connection afterwards.
pub(crate) enum Then {
    Keep,
    Close,
}

/// Serves by the script, a thread per connection, until the test ends.
pub(crate) fn scripted(script: impl Fn(&mut TcpStream, &str) -> Then + Send + Sync + 'static) -> SocketAddr {
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
pub(crate) fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _client_gone = stream.write_all(bytes);
}

pub(crate) fn right_answer() -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nServer: script\r\nContent-Length: {}\r\n\r\n", BODY.len());
    [head.as_bytes(), BODY].concat()
}

pub(crate) fn ends_with(head: &str, body: &[u8]) -> Vec<u8> {
    [head.as_bytes(), body].concat()
}

pub(crate) const EXPECTED: Expected = Expected { status: 200, body_bytes: BODY.len() as u64 };

/// A closed class that asks for the fox.
pub(crate) fn class(address: SocketAddr, life: Life, connections: usize) -> Class {
    Class {
        name: "fox".to_owned(),
        connections,
        pacing: Pacing::Closed,
        life,
        reading: ReadPace::AtOnce,
        asks: Asks::one(Request::new(address, "/fox", EXPECTED)),
    }
}

pub(crate) fn engine(address: SocketAddr, classes: Vec<Class>) -> Engine {
    Engine::connect(address, classes, 1).unwrap()
}

pub(crate) fn only(outcome: Outcome) -> ClassOutcome {
    outcome.classes.into_iter().next().unwrap()
}

/// The first error of the only kind that there is, and that at least one answer came to grief by it.
pub(crate) fn error(class: &ClassOutcome) -> LoadError {
    assert_eq!(class.errors.len(), 1, "{:?}", class.errors);
    class.first_error().unwrap().clone()
}

pub(crate) fn right_server() -> SocketAddr {
    scripted(|stream, request| {
        send(stream, &right_answer());
        if request.contains("\r\nConnection: close\r\n") { Then::Close } else { Then::Keep }
    })
}

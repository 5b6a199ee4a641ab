//! `http` on every rung.

use lab::rungs::Rung;
use lab::services::{ANSWER, HEAD_BYTES_MAX};

use crate::server::Server;
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("http::every_request_is_answered_however_it_is_cut", every_request_is_answered),
    ("http::many_pipelined_requests", many_pipelined_requests),
    ("http::close_means_close", close_means_close),
    ("http::a_head_is_bounded", a_head_is_bounded),
];

const REQUEST: &[u8] = b"GET /anything HTTP/1.1\r\nHost: lab\r\n\r\n";

fn every_request_is_answered(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "http")?;
    let mut client = server.connect()?;
    for part in [1, 2, 10, REQUEST.len() - 1, REQUEST.len()] {
        for bytes in REQUEST.chunks(part) {
            client.send(bytes)?;
        }
        client.expect(ANSWER)?;
    }
    Ok(())
}

fn many_pipelined_requests(rung: &'static Rung) -> Outcome {
    const COUNT: usize = 5000;
    let server = Server::start(rung, "http")?;
    let mut client = server.connect()?;
    // The end of a part is in the middle of a request.
    for bytes in REQUEST.repeat(COUNT).chunks(9973) {
        client.send(bytes)?;
    }
    client.expect(&ANSWER.repeat(COUNT))
}

fn close_means_close(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "http")?;
    let mut client = server.connect()?;
    // What comes behind the last request isn't read, and must not turn the close into a reset.
    let last = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    client.send(&[REQUEST, last, &REQUEST.repeat(100)].concat())?;
    let received = client.receive_all()?;
    let answers = received.windows(8).filter(|bytes| bytes == b"HTTP/1.1").count();
    if answers == 2 { Ok(()) } else { Err(format!("{answers} answers instead of two").into()) }
}

fn a_head_is_bounded(rung: &'static Rung) -> Outcome {
    let server = Server::start(rung, "http")?;
    let mut client = server.connect()?;
    client.send(&[b"GET / HTTP/1.1\r\nA: ", &vec![b'x'; HEAD_BYTES_MAX][..]].concat())?;
    let received = client.receive_all()?;
    if !received.starts_with(b"HTTP/1.1 431 ") {
        return Err(String::from_utf8_lossy(&received).into_owned().into());
    }
    let mut next = server.connect()?;
    next.send(REQUEST)?;
    next.expect(ANSWER)
}

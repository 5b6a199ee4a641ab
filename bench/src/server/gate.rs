//! The gate: who doesn't do the same work doesn't race.

use crate::failure::{Failure, Result};
use crate::load::client::Client;
use crate::load::request::{Expected, Persistence, Request};
use crate::load::response::parse_head;
use crate::run::corpus::{Corpus, Size};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Nothing on loopback takes so long but a server that hangs.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a GET for a file of the corpus is, and what the answer has to be.
pub fn request_for(address: SocketAddr, size: Size, persistence: Persistence) -> Request {
    let expected = Expected { status: 200, body_bytes: size.bytes() };
    Request::get(address, &format!("/{}", size.file_name()), persistence, expected)
}

/// Lets a server through that serves every file of the corpus byte for byte, keeps a connection and ends it
/// as it is told, and says 404 for what isn't there.
///
/// # Errors
///
/// What it does differently.
pub fn pass(address: SocketAddr, corpus: &Corpus) -> Result<()> {
    for size in Size::ALL {
        for persistence in [Persistence::KeepAlive, Persistence::PerRequest] {
            let request = request_for(address, size, persistence);
            let mut client = Client::connect(address, request, 2)
                .map_err(Failure::context(format!("gate, {}", size.label())))?;
            // Twice, so that a kept connection has to carry a second answer.
            for _ in 0..2 {
                client
                    .verify(2, corpus.digest(size))
                    .map_err(Failure::context(format!("gate, {}", size.label())))?;
            }
        }
    }
    let status = status_of_missing(address).map_err(Failure::context("gate, a file that isn't there"))?;
    if status == 404 {
        return Ok(());
    }
    Err(Failure::new(format!("gate, a file that isn't there: the answer's status is {status}, not 404")))
}

/// The status of the answer for a path that names nothing.
fn status_of_missing(address: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, EXCHANGE_TIMEOUT)?;
    stream.set_read_timeout(Some(EXCHANGE_TIMEOUT))?;
    stream.write_all(
        format!("GET /no-such-file HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match parse_head(&answer) {
        Ok(Some(head)) => Ok(head.status),
        Ok(None) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Err(error) => Err(std::io::Error::other(error.to_string())),
    }
}

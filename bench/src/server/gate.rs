//! The gate: a server that doesn't do the same work isn't compared.

use crate::failure::{Failure, Result};
use crate::load::class::{Asks, Class, Life, Order};
use crate::load::engine::Engine;
use crate::load::error::LoadError;
use crate::load::probe;
use crate::load::request::{Request, Sha256Bytes};
use crate::load::response::Head;
use crate::run::corpus::{Corpus, CorpusFile};
use crate::run::scenario::Files;
use crate::run::trial::{asks, check_bodies, request_for};
use crate::server::target::{Constant, Family, Target};
use std::io::{Read, Write};
use std::net::SocketAddr;

/// Files requested at once, each on its own connection.
const FILES_AT_ONCE: usize = 256;
/// The same for files in any coding, whose bodies are kept until they are decoded.
const CODED_FILES_AT_ONCE: usize = 64;

/// Lets a server through that serves every file that it will be asked for byte for byte, keeps a connection and ends it
/// as it is told, and says 404 for what isn't there. A null server has one answer, and only that is asked; a rung of the
/// lab has one as well, but ends connections. `is_asked` tells for which sets of the corpus the target's scenarios ask.
///
/// # Errors
///
/// What it does differently.
pub fn pass(
    target: &Target,
    address: SocketAddr,
    corpus: &Corpus,
    is_asked: impl Fn(Files) -> bool,
) -> Result<()> {
    let null = matches!(target.family(), Family::Null(_));
    let sets =
        if null { vec![Files::Small] } else { corpus.sets().filter(|files| is_asked(*files)).collect() };
    for files in sets {
        if files.are_negotiated() {
            negotiated(address, corpus.entries(files), files)
                .map_err(Failure::context(format!("gate, the files {files:?}").to_lowercase()))?;
            continue;
        }
        for entries in corpus.entries(files).chunks(FILES_AT_ONCE) {
            let doing = || format!("gate, {}", entries[0].path);
            // Twice, so that a kept connection has to carry a second answer.
            verify(address, entries, Life::KeepAlive, 2).map_err(Failure::context(doing()))?;
        }
        if !null {
            let first = &corpus.entries(files)[..1];
            let doing = || format!("gate, {} on a connection of its own", first[0].path);
            verify(address, first, Life::Requests(1), 2).map_err(Failure::context(doing()))?;
        }
    }
    if null || target.family() == Family::Lab {
        return Ok(());
    }
    let status = status_of_missing(address).map_err(Failure::context("gate, a file that isn't there"))?;
    if status == 404 {
        return Ok(());
    }
    Err(Failure::new(format!("gate, a file that isn't there: the answer's status is {status}, not 404")))
}

/// Asks for each file as a browser does, and looks at what the answer says in whatever coding it has.
fn negotiated(address: SocketAddr, entries: &[CorpusFile], files: Files) -> Result<()> {
    let class = Class::closed("gate", CODED_FILES_AT_ONCE, asks(entries, files, address));
    let mut engine =
        Engine::connect(address, vec![class], 0).map_err(|error| Failure::new(error.to_string()))?;
    let all: Vec<usize> = (0..entries.len()).collect();
    check_bodies(&mut engine, 0, entries, &all)
}

/// Asks for each file on two connections at once, so often.
fn verify(
    address: SocketAddr,
    entries: &[CorpusFile],
    life: Life,
    times: usize,
) -> std::result::Result<(), LoadError> {
    let requests: Vec<Request> = entries.iter().map(|entry| request_for(entry, address)).collect();
    let contents: Vec<Sha256Bytes> = entries.iter().map(|entry| entry.digest).collect();
    let connections = entries.len().max(2);
    let class = Class { life, ..Class::closed("gate", connections, Asks::new(requests, Order::InTurn)) };
    let mut engine = Engine::connect(address, vec![class], 0)?;
    for _ in 0..times {
        engine.verify(0, connections, &contents)?;
    }
    Ok(())
}

/// What the server at `address` answers to `request`, head and body, for a null server to repeat.
pub fn learn(address: SocketAddr, request: &[u8]) -> Result<Constant> {
    let whole = |head: &Head, received| received as u64 >= head.head_bytes as u64 + head.body_bytes;
    let (_, answer) = probe::ask(address, request, whole).map_err(Failure::context("learn an answer"))?;
    Ok(Constant { answer: answer.into() })
}

/// The status of the answer for a path that names nothing. How its body is framed is the server's choice.
fn status_of_missing(address: SocketAddr) -> std::io::Result<u16> {
    let mut stream = probe::connect(address)?;
    stream.write_all(
        format!("GET /no-such-file HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let status = answer.strip_prefix(b"HTTP/1.1 ").and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok());
    status
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| std::io::Error::other("the answer doesn't begin with an HTTP/1.1 status line"))
}

//! Clients that keep a server busy, for tests that drain it meanwhile.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use common::service::shutdown::QUIET;
use libtest_mimic::Failed;

use crate::client::{Client, Heard, PATIENCE};
use crate::response::Framing;
use crate::row::get;
use crate::site::pattern_of;

/// The size of `/8m.bin`: more than fits into all buffers of a narrow connection.
const LARGE_BYTES: u64 = 8 << 20;
/// A download counts as begun once this much has been read.
const BEGUN_BYTES: u64 = 50_000;

/// A client in the middle of a large response, most of which is still in the server.
#[derive(Debug)]
pub struct Download {
    client: Client,
}

impl Download {
    /// Sends the request and reads the beginning.
    ///
    /// # Errors
    /// If the response is wrong.
    pub fn begin(address: SocketAddr) -> Result<Download, Failed> {
        Download::begin_on(Client::connect_narrow(address, 16 * 1024)?)
    }

    /// As [`begin`](Self::begin), on a narrow connection.
    ///
    /// # Errors
    /// If the response is wrong.
    pub fn begin_on(mut client: Client) -> Result<Download, Failed> {
        client.send(&get("/8m.bin", &[]))?;
        client.head(Framing::Content)?;
        client.content(BEGUN_BYTES, |at, bytes| pattern_of(LARGE_BYTES).check(at, bytes))?;
        Ok(Download { client })
    }

    /// Reads the rest, which must be complete, and then the end of the connection.
    ///
    /// # Errors
    /// If something is missing, wrong, or follows it.
    pub fn finish(&mut self) -> Result<(), Failed> {
        self.finish_answer()?;
        expect_end(&mut self.client)
    }

    /// Reads the rest, which must be complete.
    ///
    /// # Errors
    /// If something is missing or wrong.
    pub fn finish_answer(&mut self) -> Result<(), Failed> {
        let rest = LARGE_BYTES - BEGUN_BYTES;
        self.client.content(rest, |at, bytes| pattern_of(LARGE_BYTES).check(BEGUN_BYTES + at, bytes))
    }

    /// Asks for something more behind the request that is being answered.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn ask_more(&mut self) -> Result<(), Failed> {
        Ok(self.client.send(&get("/digits.txt", &[]))?)
    }

    /// Reads what is left of a response that the server has given up: all that it had sent, and then an orderly end.
    /// Returns how many bytes of the content have come.
    ///
    /// # Errors
    /// If the response is complete after all, or the connection is reset or stays open.
    pub fn expect_cut(mut self) -> Result<u64, Failed> {
        let mut taken = BEGUN_BYTES + self.client.received().len() as u64;
        loop {
            match self.client.hear(Instant::now() + PATIENCE)? {
                Heard::Bytes(count) => taken += count as u64,
                Heard::End if taken < LARGE_BYTES => return Ok(taken),
                heard => {
                    return Err(
                        format!("{heard:?} after {taken} bytes of a response that was given up").into()
                    );
                }
            }
        }
    }
}

/// Requests a target repeatedly until the server announces that it closes. Every response must be complete, and the
/// server must close after the last one.
///
/// If the client was delayed so long that a draining server may have considered it idle, the connection may be closed
/// without an announcement.
///
/// # Errors
/// If a response is truncated or isn't 200, or the connection ends unannounced.
pub fn ask_until_closed(address: SocketAddr, target: &str, answers: &AtomicUsize) -> Result<(), Failed> {
    let mut client = Client::connect(address)?;
    let mut asked = Instant::now();
    loop {
        // At least as long as the server has waited for the request.
        let seemed_idle = asked.elapsed() > QUIET / 2;
        asked = Instant::now();
        let response = match client.get(target) {
            Err(_closed) if seemed_idle && client.received().is_empty() && asked.elapsed() < PATIENCE / 2 => {
                return Ok(());
            }
            answer => answer?,
        };
        answers.fetch_add(1, Relaxed);
        if response.status != 200 {
            return Err(format!("{} for {target}", response.status).into());
        }
        if response.closes() {
            return expect_end(&mut client);
        }
    }
}

/// Expects the server to close in an orderly way without sending more.
///
/// # Errors
/// If it sends more, resets, or doesn't close.
pub fn expect_end(client: &mut Client) -> Result<(), Failed> {
    match client.rest()?.as_slice() {
        [] => Ok(()),
        more => Err(format!("\"{}\" before the end", more.escape_ascii()).into()),
    }
}

/// Expects the server to close without sending anything, in whatever way.
///
/// # Errors
/// If it sends something, or doesn't close.
pub fn expect_dropped(client: &mut Client) -> Result<(), Failed> {
    match client.hear(Instant::now() + PATIENCE)? {
        Heard::End | Heard::Reset => Ok(()),
        heard @ (Heard::Bytes(_) | Heard::Silence) => {
            let bytes = client.received().escape_ascii();
            Err(format!("{heard:?} instead of the end: \"{bytes}\"").into())
        }
    }
}

/// Joins client threads and returns the first failure.
///
/// # Errors
/// The first failure.
pub fn join_all<'scope>(
    clients: impl IntoIterator<Item = ScopedJoinHandle<'scope, Result<(), Failed>>>,
) -> Result<(), Failed> {
    let panicked = |_| Err("a client panicked".into());
    clients.into_iter().try_for_each(|client| client.join().unwrap_or_else(panicked))
}

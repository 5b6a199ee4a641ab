//! Clients that keep a server busy: for whoever drains it meanwhile.

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

/// The size of `/8m.bin`, more than all buffers between the two ends of a narrow connection hold.
const LARGE_BYTES: u64 = 8 << 20;
/// So much of it has been read when a download has begun.
const BEGUN_BYTES: u64 = 50_000;

/// A client in the middle of a large answer, most of which can't have left the server.
#[derive(Debug)]
pub struct Download {
    client: Client,
}

impl Download {
    /// Asks, and reads the beginning.
    ///
    /// # Errors
    /// When the answer isn't what it must be.
    pub fn begin(address: SocketAddr) -> Result<Download, Failed> {
        let mut client = Client::connect_narrow(address, 16 * 1024)?;
        client.send(&get("/8m.bin", &[]))?;
        client.head(Framing::Content)?;
        client.content(BEGUN_BYTES, |at, bytes| pattern_of(LARGE_BYTES).check(at, bytes))?;
        Ok(Download { client })
    }

    /// Reads the rest, which must be whole, and the end of the connection behind it.
    ///
    /// # Errors
    /// When something is missing or wrong, or more is to come.
    pub fn finish(&mut self) -> Result<(), Failed> {
        let rest = LARGE_BYTES - BEGUN_BYTES;
        self.client.content(rest, |at, bytes| pattern_of(LARGE_BYTES).check(BEGUN_BYTES + at, bytes))?;
        expect_end(&mut self.client)
    }

    /// Reads what is still to be had of an answer that the server has given up.
    ///
    /// # Errors
    /// When the answer is whole after all, or never ends.
    pub fn expect_cut(mut self) -> Result<(), Failed> {
        let mut taken = BEGUN_BYTES + self.client.received().len() as u64;
        loop {
            match self.client.hear(Instant::now() + PATIENCE)? {
                Heard::Bytes(count) => taken += count as u64,
                Heard::End | Heard::Reset if taken < LARGE_BYTES => return Ok(()),
                heard => {
                    return Err(
                        format!("{heard:?} after {taken} bytes of an answer that was given up").into()
                    );
                }
            }
        }
    }
}

/// Asks for a target again and again until the server says that it closes. Every answer must be whole, and
/// after the last one the server must have closed.
///
/// A client that was kept from asking for so long that a draining server may have taken it for idle can find
/// its connection closed instead.
///
/// # Errors
/// When an answer is cut, isn't 200, or the connection ends without a word.
pub fn ask_until_closed(address: SocketAddr, target: &str, answers: &AtomicUsize) -> Result<(), Failed> {
    let mut client = Client::connect(address)?;
    let mut asked = Instant::now();
    loop {
        // At least as long as the server has been waiting.
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

/// The server closes in order, and says nothing more.
///
/// # Errors
/// When it says more, resets, or doesn't close.
pub fn expect_end(client: &mut Client) -> Result<(), Failed> {
    match client.rest()?.as_slice() {
        [] => Ok(()),
        more => Err(format!("\"{}\" before the end", more.escape_ascii()).into()),
    }
}

/// Waits for clients that run in threads; the first failure counts.
///
/// # Errors
/// That failure.
pub fn join_all<'scope>(
    clients: impl IntoIterator<Item = ScopedJoinHandle<'scope, Result<(), Failed>>>,
) -> Result<(), Failed> {
    let panicked = |_| Err("a client panicked".into());
    clients.into_iter().try_for_each(|client| client.join().unwrap_or_else(panicked))
}

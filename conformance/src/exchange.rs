//! Executes a row of the table: whole, split at every byte, and as a transcript for comparison.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::client::{Client, Heard, PATIENCE};
use crate::deadline;
use crate::response::{Framing, Response};
use crate::row::{Answer, Row, Then, Variant, digits, get, untagged_digits};
use crate::server::Server;

/// Every byte the server sent, with Date values masked.
pub type Transcript = Vec<u8>;

/// Longer requests are split only at some positions.
const SPLIT_EVERYWHERE_BYTES_MAX: usize = 300;
/// Connections held at their split point at the same time.
const SPLITS_AT_ONCE: usize = 64;
/// How long a server may take to read the available bytes.
const READING_PATIENCE: Duration = Duration::from_secs(5);
/// This many small responses fit into the buffers between server and client unread.
const UNREAD_ANSWERS_MAX: usize = 20;

/// A row prepared for one site: its entity tag is known.
#[derive(Debug)]
pub struct Exchange<'a> {
    row: &'a Row,
    etag: String,
    request: Vec<u8>,
}

impl<'a> Exchange<'a> {
    /// Asks the server for the entity tag the row may refer to.
    ///
    /// # Errors
    /// If the server doesn't provide one, or does although it shouldn't.
    pub fn new(row: &'a Row, address: SocketAddr) -> Result<Exchange<'a>, Failed> {
        let response = ask_for_digits(address)?;
        if row.variant == Variant::Untagged {
            if let Some(etag) = response.field("ETag") {
                return Err(format!("an entity tag where they are off: {etag}").into());
            }
            let etag = "\"none\"".to_owned();
            let request = replace(&row.request, b"{etag}", etag.as_bytes());
            return Ok(Exchange { row, etag, request });
        }
        let etag = response.require("ETag")?.to_owned();
        if !(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"')) {
            return Err(format!("not a strong entity tag: {etag}").into());
        }
        let request = replace(&row.request, b"{etag}", etag.as_bytes());
        Ok(Exchange { row, etag, request })
    }

    /// Requests a file, a missing file and a listing, so that the server opens everything it opens lazily.
    ///
    /// # Errors
    /// If an exchange fails.
    pub fn warm_up(address: SocketAddr) -> Result<(), Failed> {
        let mut client = Client::connect(address)?;
        for target in ["/digits.txt", "/missing", "/bare/"] {
            client.send(&get(target, &[]))?;
            client.response(Framing::Content)?;
        }
        Ok(())
    }

    /// Sends the request in one piece and checks everything that comes back.
    ///
    /// # Errors
    /// The first difference.
    pub fn run(&self, address: SocketAddr) -> Result<Transcript, Failed> {
        let mut client = Client::connect(address)?;
        client.send(&self.request)?;
        self.finish(client)
    }

    /// Sends the request in two pieces, split at each position in turn, and byte by byte. The transcript must always be
    /// the same.
    ///
    /// # Errors
    /// The first difference, with the position of the split.
    pub fn run_split(&self, server: &Server) -> Result<(), Failed> {
        let whole = self.run(server.address)?;
        for cuts in self.cuts().chunks(SPLITS_AT_ONCE) {
            self.run_cuts(server, cuts, &whole)?;
        }
        if self.request.len() <= SPLIT_EVERYWHERE_BYTES_MAX {
            let trickled = self.trickle(server).map_err(|failed| complaint("byte by byte", &failed))?;
            compare(&whole, &trickled).map_err(|failed| complaint("byte by byte", &failed))?;
        }
        Ok(())
    }

    /// Where the request is cut: everywhere, or at its ends and some places between.
    fn cuts(&self) -> Vec<usize> {
        let length = self.request.len();
        let step = if length <= SPLIT_EVERYWHERE_BYTES_MAX { 1 } else { (length / 48).max(1) };
        (1..length).filter(|cut| cut % step == 0 || *cut < 48 || length - cut < 48).collect()
    }

    /// Opens many connections and holds each at its split point until the server has read what was sent so far.
    fn run_cuts(&self, server: &Server, cuts: &[usize], whole: &Transcript) -> Result<(), Failed> {
        let received = server.service().stats.totals().bytes_in;
        let mut clients = Vec::new();
        for cut in cuts {
            let mut client = Client::connect(server.address)?;
            client.send(&self.request[..*cut])?;
            clients.push((*cut, client));
        }
        self.await_reading(server, received + cuts.iter().map(|cut| *cut as u64).sum::<u64>())?;
        for (cut, mut client) in clients {
            // A server that refused the first piece may have closed already; the transcript shows it.
            let _sent = client.send(&self.request[cut..]);
            let split = self.finish(client).and_then(|transcript| compare(whole, &transcript));
            split.map_err(|failed| complaint(&format!("cut after byte {cut}"), &failed))?;
        }
        Ok(())
    }

    /// Sends one byte at a time, after the server has read the previous one.
    fn trickle(&self, server: &Server) -> Result<Transcript, Failed> {
        let mut client = Client::connect(server.address)?;
        let mut received = server.service().stats.totals().bytes_in;
        for byte in &self.request {
            if client.send(&[*byte]).is_err() {
                break; // refused already
            }
            received += 1;
            self.await_reading(server, received)?;
        }
        self.finish(client)
    }

    /// Waits until the server has read this many bytes since its start, so that the next piece arrives alone.
    fn await_reading(&self, server: &Server, bytes: u64) -> Result<(), Failed> {
        // A server may stop reading if its responses aren't read, or after the last one.
        if self.row.then == Then::Dropped || self.row.answers.len() > UNREAD_ANSWERS_MAX {
            return Ok(());
        }
        let stats = &server.service().stats;
        deadline::within(READING_PATIENCE, "the server to read what was sent", || {
            stats.totals().bytes_in >= bytes
        })
    }

    /// Reads the responses, then checks the state of the connection.
    fn finish(&self, mut client: Client) -> Result<Transcript, Failed> {
        if self.row.half_close {
            // Fails if the server has closed already; its bytes can still be read.
            let _closed = client.half_close();
        }
        let mut transcript = Transcript::new();
        for answer in &self.row.answers {
            self.receive(&mut client, answer, &mut transcript)?;
        }
        match self.row.then {
            Then::Open => {
                client.send(&get("/digits.txt", &[]))?;
                let untagged = self.row.variant == Variant::Untagged;
                let expected = if untagged { untagged_digits() } else { digits() };
                self.receive(&mut client, &expected, &mut transcript)?;
                client.reset()?;
            }
            Then::Closed => {
                let rest = client.rest()?;
                if !rest.is_empty() {
                    return Err(format!("unexpected bytes: \"{}\"", rest.escape_ascii()).into());
                }
            }
            Then::Dropped => match client.hear(Instant::now() + PATIENCE)? {
                Heard::End | Heard::Reset => {}
                heard @ (Heard::Bytes(_) | Heard::Silence) => {
                    return Err(format!("{heard:?} instead of the end").into());
                }
            },
        }
        Ok(transcript)
    }

    fn receive(
        &self,
        client: &mut Client,
        answer: &Answer,
        transcript: &mut Transcript,
    ) -> Result<(), Failed> {
        let response = client.response(answer.framing())?;
        answer.check(&response, &self.etag)?;
        transcript.extend_from_slice(&mask_date(&response.head));
        transcript.extend_from_slice(&response.content);
        Ok(())
    }
}

fn ask_for_digits(address: SocketAddr) -> Result<Response, Failed> {
    let mut client = Client::connect(address)?;
    client.send(&get("/digits.txt", &["Connection: close"]))?;
    let response = client.response(Framing::Content)?;
    client.rest()?;
    Ok(response)
}

/// A head with its Date value masked.
#[must_use]
pub fn mask_date(head: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"\r\nDate: ";
    const DATE_BYTES: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();
    let mut masked = head.to_vec();
    if let Some(at) = masked.windows(NAME.len()).position(|window| window == NAME) {
        let start = at + NAME.len();
        masked[start..start + DATE_BYTES].fill(b'D');
    }
    masked
}

/// Compares two transcripts.
///
/// # Errors
/// If they differ: where, and how.
pub fn compare(one: &[u8], other: &[u8]) -> Result<(), Failed> {
    if one == other {
        return Ok(());
    }
    let first = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let shown = |bytes: &[u8]| {
        let start = first.saturating_sub(60);
        bytes[start..bytes.len().min(first + 60)].escape_ascii().to_string()
    };
    Err(format!("from byte {first} on: \"{}\" became \"{}\"", shown(one), shown(other)).into())
}

fn complaint(how: &str, failed: &Failed) -> Failed {
    format!("{how}: {}", failed.message().unwrap_or("failed")).into()
}

fn replace(bytes: &[u8], pattern: &[u8], with: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(pattern.len()).position(|window| window == pattern) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(with);
        rest = &rest[at + pattern.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

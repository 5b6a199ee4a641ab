//! Records for the access log: what is known of an answer when its last byte has left.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::machine::peer::Peer;

/// Lines that wait for the writer, per worker, in bytes.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// What one line says.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Who asked.
    pub peer: Option<Peer>,
    /// Seconds since the Unix epoch.
    pub unix_seconds: i64,
    /// The request line as it was sent; empty when there was none.
    pub request_line: &'a [u8],
    /// The status code of the answer.
    pub status: u16,
    /// Bytes of the answer's content that were sent.
    pub content_bytes: u64,
    /// The `Referer` field.
    pub referer: Option<&'a [u8]>,
    /// The `User-Agent` field.
    pub user_agent: Option<&'a [u8]>,
    /// From the request's first byte to the answer's last.
    pub duration: Duration,
}

/// Lines on their way to the writer.
#[derive(Debug, Default)]
pub struct Lines {
    /// Whole lines.
    pub waiting: Vec<u8>,
    /// Lines that found no room.
    pub dropped: u64,
}

/// One worker's end of the log.
#[derive(Clone, Debug, Default)]
pub struct LogBuffer(pub Arc<Mutex<Lines>>);

impl LogBuffer {
    /// Appends a line; dropped, and counted, when too much is waiting already.
    pub fn append(&self, record: &Record<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.waiting.len() >= WAITING_BYTES_MAX {
            lines.dropped += 1;
        } else {
            write_line(&mut lines.waiting, record);
        }
    }
}

/// `peer - - [date] "request line" status bytes "referer" "user agent" seconds`
fn write_line(out: &mut Vec<u8>, record: &Record<'_>) {
    match record.peer {
        Some(peer) => append(out, format_args!("{peer} - - [")),
        None => out.extend_from_slice(b"- - - ["),
    }
    let date =
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(record.unix_seconds.max(0).unsigned_abs()));
    // `Sun, 06 Nov 1994 08:49:37 GMT` holds what the Common Log Format writes as 06/Nov/1994:08:49:37 +0000.
    append(out, format_args!("{}/{}/{}:{} +0000] ", &date[5..7], &date[8..11], &date[12..16], &date[17..25]));
    quoted(out, Some(record.request_line).filter(|line| !line.is_empty()));
    append(out, format_args!(" {} {} ", record.status, record.content_bytes));
    quoted(out, record.referer);
    out.push(b' ');
    quoted(out, record.user_agent);
    append(out, format_args!(" {:.6}\n", record.duration.as_secs_f64()));
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec can't fail");
}

/// A quoted string in which nothing can end the quotes, the line, or steer a terminal.
fn quoted(out: &mut Vec<u8>, text: Option<&[u8]>) {
    out.push(b'"');
    for byte in text.unwrap_or(b"-") {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..=0x7e => out.push(*byte),
            _ => append(out, format_args!("\\x{byte:02X}")),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::net::SocketAddr;

    pub(crate) fn record() -> Record<'static> {
        let peer: SocketAddr = "[::ffff:192.0.2.7]:1".parse().expect("an address");
        Record {
            peer: Some(peer.into()),
            unix_seconds: 784_111_777,
            request_line: b"GET /a%20b HTTP/1.1",
            status: 200,
            content_bytes: 1024,
            referer: None,
            user_agent: Some(b"curl/8 \"x\" \\ \x1b[2J\n\xe9"),
            duration: Duration::from_micros(1500),
        }
    }

    pub(crate) const LINE: &str = "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a%20b HTTP/1.1\" 200 1024 \"-\" \
        \"curl/8 \\\"x\\\" \\\\ \\x1B[2J\\x0A\\xE9\" 0.001500\n";

    #[test]
    fn a_line_is_combined_format_with_nothing_to_inject() {
        let mut out = Vec::new();
        write_line(&mut out, &record());
        assert_eq!(String::from_utf8(out).expect("ASCII"), LINE);
    }

    #[test]
    fn what_exceeds_the_bound_is_dropped_and_counted() {
        let buffer = LogBuffer::default();
        let enough = WAITING_BYTES_MAX / LINE.len() + 10;
        for _ in 0..enough {
            buffer.append(&record());
        }
        let lines = buffer.0.lock().expect("not poisoned");
        assert!(lines.waiting.len() < WAITING_BYTES_MAX + LINE.len());
        assert_eq!(lines.waiting.len() / LINE.len() + usize::try_from(lines.dropped).expect("few"), enough);
        assert!(lines.dropped > 0);
    }
}

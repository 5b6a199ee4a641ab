//! The access log: combined format, with the duration appended.
//!
//! A worker appends lines to a buffer of its own; one thread writes what has gathered, ten times a second. A
//! slow or blocked output therefore never holds up a loop: its buffers fill, and what exceeds their bound is
//! dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::start::StartError;

/// Lines that wait for the writer, per worker, in bytes.
pub const WAITING_BYTES_MAX: usize = 1 << 20;
const WRITE_INTERVAL: Duration = Duration::from_millis(100);

/// What one line says.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Who asked.
    pub peer: Option<IpAddr>,
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

#[derive(Debug, Default)]
struct Lines {
    waiting: Vec<u8>,
    dropped: u64,
}

/// One worker's end of the log.
#[derive(Clone, Debug)]
pub struct LogBuffer(Arc<Mutex<Lines>>);

impl LogBuffer {
    /// Appends a line; dropped, and counted, when too much is waiting already.
    pub fn append(&self, entry: &Entry<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.waiting.len() >= WAITING_BYTES_MAX {
            lines.dropped += 1;
        } else {
            write_line(&mut lines.waiting, entry);
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<Lines>>>>,
    ended: Mutex<bool>,
    end: Condvar,
}

/// The log of a server: its buffers, and the thread that writes them. Dropping it writes the rest.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// A log that goes to the file, appended to; `-` is standard output.
    ///
    /// # Errors
    /// When the file can't be opened for appending.
    pub fn open(path: &Path) -> Result<AccessLog, StartError> {
        let fail = |error: io::Error| {
            StartError::new(format!(
                "access log {}: {error}; name a file that can be written, or - for standard output",
                path.display()
            ))
        };
        if path == Path::new("-") {
            AccessLog::start(io::stdout()).map_err(fail)
        } else {
            let file: File = OpenOptions::new().create(true).append(true).open(path).map_err(fail)?;
            AccessLog::start(file).map_err(fail)
        }
    }

    /// A log that goes to `output`.
    ///
    /// # Errors
    /// When the writing thread can't be started.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<AccessLog> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let writer =
            thread::Builder::new().name("access-log".to_owned()).spawn(move || theirs.write(output))?;
        Ok(AccessLog { shared, writer: Mutex::new(Some(writer)) })
    }

    /// A buffer for one more worker.
    #[must_use]
    pub fn buffer(&self) -> LogBuffer {
        let buffer = LogBuffer(Arc::default());
        self.shared.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&buffer.0));
        buffer
    }
}

impl AccessLog {
    /// Writes what is waiting and ends the log: what is appended later is lost.
    pub fn close(&self) {
        *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.end.notify_all();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ended = writer.join();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn write(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        let mut failed = false;
        loop {
            let ended = self.wait();
            let dropped = self.collect(&mut batch);
            if dropped > 0 {
                eprintln!("access log: {dropped} lines dropped, the output is too slow");
            }
            let result = output.write_all(&batch).and_then(|()| output.flush());
            if let (Err(error), false) = (&result, failed) {
                eprintln!("access log: {error}; lines are lost until it can be written again");
            }
            failed = result.is_err();
            batch.clear();
            if ended {
                return;
            }
        }
    }

    /// Waits for the next turn; true when it is the last.
    fn wait(&self) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, _timeout) = self
            .end
            .wait_timeout_while(ended, WRITE_INTERVAL, |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        *ended
    }

    /// Moves the waiting lines of all workers into the batch; returns how many were dropped.
    fn collect(&self, batch: &mut Vec<u8>) -> u64 {
        let mut dropped = 0;
        for buffer in &*self.buffers.lock().unwrap_or_else(PoisonError::into_inner) {
            let mut lines = buffer.lock().unwrap_or_else(PoisonError::into_inner);
            batch.append(&mut lines.waiting);
            dropped += std::mem::take(&mut lines.dropped);
        }
        dropped
    }
}

/// `peer - - [date] "request line" status bytes "referer" "user agent" seconds`
fn write_line(out: &mut Vec<u8>, entry: &Entry<'_>) {
    match entry.peer {
        Some(peer) => append(out, format_args!("{} - - [", peer.to_canonical())),
        None => out.extend_from_slice(b"- - - ["),
    }
    let date = httpdate::fmt_http_date(
        std::time::UNIX_EPOCH + Duration::from_secs(entry.unix_seconds.max(0).unsigned_abs()),
    );
    // `Sun, 06 Nov 1994 08:49:37 GMT` holds what the Common Log Format writes as 06/Nov/1994:08:49:37 +0000.
    append(out, format_args!("{}/{}/{}:{} +0000] ", &date[5..7], &date[8..11], &date[12..16], &date[17..25]));
    quoted(out, Some(entry.request_line).filter(|line| !line.is_empty()));
    append(out, format_args!(" {} {} ", entry.status, entry.content_bytes));
    quoted(out, entry.referer);
    out.push(b' ');
    quoted(out, entry.user_agent);
    append(out, format_args!(" {:.6}\n", entry.duration.as_secs_f64()));
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
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
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            peer: Some("::ffff:192.0.2.7".parse().expect("an address")),
            unix_seconds: 784_111_777,
            request_line: b"GET /a%20b HTTP/1.1",
            status: 200,
            content_bytes: 1024,
            referer: None,
            user_agent: Some(b"curl/8 \"x\" \\ \x1b[2J\n\xe9"),
            duration: Duration::from_micros(1500),
        }
    }

    const LINE: &str = "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a%20b HTTP/1.1\" 200 1024 \"-\" \
        \"curl/8 \\\"x\\\" \\\\ \\x1B[2J\\x0A\\xE9\" 0.001500\n";

    #[test]
    fn a_line_is_combined_format_with_nothing_to_inject() {
        let mut out = Vec::new();
        write_line(&mut out, &entry());
        assert_eq!(String::from_utf8(out).expect("ASCII"), LINE);
    }

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn dropping_the_log_writes_the_rest() {
        let output = Output::default();
        let log = AccessLog::start(output.clone()).expect("started");
        let buffers = [log.buffer(), log.buffer()];
        for buffer in &buffers {
            buffer.append(&entry());
        }
        drop(log);
        assert_eq!(*output.0.lock().expect("not poisoned"), LINE.repeat(2).as_bytes());
    }

    #[test]
    fn what_exceeds_the_bound_is_dropped_and_counted() {
        let buffer = LogBuffer(Arc::default());
        let enough = WAITING_BYTES_MAX / LINE.len() + 10;
        for _ in 0..enough {
            buffer.append(&entry());
        }
        let lines = buffer.0.lock().expect("not poisoned");
        assert!(lines.waiting.len() < WAITING_BYTES_MAX + LINE.len());
        assert_eq!(lines.waiting.len() / LINE.len() + usize::try_from(lines.dropped).expect("few"), enough);
        assert!(lines.dropped > 0);
    }
}

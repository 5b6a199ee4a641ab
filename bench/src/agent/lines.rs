//! A line of JSON each way over TCP, of bounded length and within a deadline.

use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The longest line: some thousand requests with their fields, or a dozen histograms.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest line from somebody who hasn't proved yet that he may talk.
pub(crate) const GREETING_BYTES_MAX: usize = 4 * 1024;
/// How long the other side may take to receive what was sent.
const SEND_MAX: Duration = Duration::from_secs(10);
/// A machine that has vanished is found out after about this time and [`PROBES`] intervals more.
const PROBE_AFTER: Duration = Duration::from_secs(5);
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;

/// A connection that carries lines.
pub(crate) struct Lines {
    stream: TcpStream,
    /// What has come of lines that nobody has asked for yet.
    received: Vec<u8>,
}

/// Why a line didn't come or go.
#[derive(Debug)]
pub(crate) enum LineError {
    Ended,
    Late(Duration),
    TooLong(usize),
    NotUnderstood(serde_json::Error),
    Io(io::Error),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::Ended => f.write_str("the connection ended"),
            LineError::Late(waited) => write!(f, "no answer within {:.0} s", waited.as_secs_f64()),
            LineError::TooLong(most) => write!(f, "a message has more than {most} bytes"),
            LineError::NotUnderstood(error) => write!(f, "a message isn't understood ({error})"),
            LineError::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> LineError {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
                LineError::Ended
            }
            _ => LineError::Io(error),
        }
    }
}

impl Lines {
    pub(crate) fn over(stream: TcpStream) -> io::Result<Lines> {
        set_tcp_nodelay(&stream, true)?;
        set_socket_keepalive(&stream, true)?;
        set_tcp_keepidle(&stream, PROBE_AFTER)?;
        set_tcp_keepintvl(&stream, PROBE_INTERVAL)?;
        set_tcp_keepcnt(&stream, PROBES)?;
        stream.set_write_timeout(Some(SEND_MAX))?;
        Ok(Lines { stream, received: Vec::new() })
    }

    pub(crate) fn send(&mut self, message: &impl Serialize) -> Result<(), LineError> {
        let mut line = serde_json::to_vec(message).map_err(LineError::NotUnderstood)?;
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            return Err(LineError::TooLong(LINE_BYTES_MAX));
        }
        match self.stream.write_all(&line) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(LineError::Late(SEND_MAX)),
            written => Ok(written?),
        }
    }

    /// The next line, which has at most `bytes_max` bytes and is there within `wait`.
    pub(crate) fn receive<T: DeserializeOwned>(
        &mut self,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<T, LineError> {
        let deadline = Instant::now() + wait;
        let mut looked_at = 0;
        loop {
            if let Some(end) = self.received[looked_at..].iter().position(|byte| *byte == b'\n') {
                let end = looked_at + end;
                if end > bytes_max {
                    return Err(LineError::TooLong(bytes_max));
                }
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(LineError::NotUnderstood);
            }
            looked_at = self.received.len();
            if looked_at > bytes_max {
                return Err(LineError::TooLong(bytes_max));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LineError::Late(wait));
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(LineError::Ended),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the other side is still there and says nothing, looked at for as long as `wait`.
    pub(crate) fn is_silent(&self, wait: Duration) -> bool {
        if !self.received.is_empty() || self.stream.set_read_timeout(Some(wait)).is_err() {
            return false;
        }
        let looked = self.stream.peek(&mut [0]);
        looked.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(50);

    fn pair() -> (TcpStream, Lines) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (there, Lines::over(listener.accept().unwrap().0).unwrap())
    }

    #[test]
    fn lines_come_one_by_one_however_they_are_cut() {
        let (mut there, mut lines) = pair();
        there.write_all(b"[1,2]\n\"a").unwrap();
        assert_eq!(lines.receive::<Vec<u8>>(100, LONG).unwrap(), [1, 2]);
        assert!(!lines.is_silent(SHORT), "half a line is there");
        there.write_all(b"b\"\n7\n").unwrap();
        assert_eq!(lines.receive::<String>(100, LONG).unwrap(), "ab");
        assert_eq!(lines.receive::<u8>(100, LONG).unwrap(), 7);
        assert!(lines.is_silent(SHORT));
        lines.send(&"x").unwrap();
        let mut answer = [0; 4];
        there.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"\"x\"\n");
        drop(there);
        assert!(!lines.is_silent(SHORT));
        assert!(matches!(lines.receive::<u8>(100, LONG), Err(LineError::Ended)));
    }

    #[test]
    fn a_line_that_is_too_long_too_late_or_no_json_is_refused() {
        for (sent, is_right) in [
            (&b"\"0123456789\"\n"[..], true),
            (b"\"01234567890\"\n", false),
            (b"\"01234567890123456789", false),
        ] {
            let (mut there, mut lines) = pair();
            there.write_all(sent).unwrap();
            match lines.receive::<String>(12, LONG) {
                Ok(_) => assert!(is_right),
                Err(error) => assert!(!is_right && matches!(error, LineError::TooLong(12)), "{error}"),
            }
        }
        let (mut there, mut lines) = pair();
        there.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert!(matches!(lines.receive::<String>(100, LONG), Err(LineError::NotUnderstood(_))));
        assert!(matches!(lines.receive::<String>(100, SHORT), Err(LineError::Late(_))));
    }

    /// A byte now and then doesn't extend the time.
    #[test]
    fn who_trickles_is_late() {
        let (mut there, mut lines) = pair();
        thread::spawn(move || {
            while there.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let begun = Instant::now();
        assert!(matches!(lines.receive::<u8>(1 << 20, SHORT), Err(LineError::Late(_))));
        assert!(begun.elapsed() < LONG);
    }
}

//! Scans a request head as it arrives, possibly one byte at a time.
//!
//! Errors are reported as soon as a prefix of the head proves them: control characters, bare line endings, a malformed
//! request line, an exceeded limit. The scan resumes where it stopped, so a head that trickles in costs no more than
//! one that arrives whole.

use std::ops::Range;

use crate::http::status::Status;

/// A longer method is refused with 501. The longest that is registered has 17 bytes.
pub const METHOD_BYTES_MAX: usize = 64;
/// A longer request line is refused with 414.
pub const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;
/// A longer head, counting the empty lines before it, is refused with 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Empty lines tolerated before a request line (RFC 9112 §2.2).
pub const EMPTY_LINES_MAX: usize = 2;

/// The result of scanning the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// The head isn't complete yet.
    Incomplete,
    /// The head is complete, and its request line is well-formed.
    Complete {
        /// Position of the request line, without its line ending.
        line: Range<usize>,
        /// The head's length in bytes.
        length: usize,
    },
    /// The bytes can't be a valid request.
    Refused(Status),
}

/// Progress of scanning one head.
#[derive(Clone, Copy, Debug)]
pub struct HeadScan {
    position: usize,
    line_start: usize,
    empty_lines: usize,
    /// No space seen yet. Input that isn't HTTP usually fails here.
    in_method: bool,
    /// Start and end of the request line, once it is complete.
    request_line: Option<(usize, usize)>,
}

impl Default for HeadScan {
    fn default() -> Self {
        HeadScan { position: 0, line_start: 0, empty_lines: 0, in_method: true, request_line: None }
    }
}

impl HeadScan {
    /// Whether any bytes have been scanned.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.position > 0
    }

    /// Continues the scan. `bytes` holds everything received so far, including the bytes of earlier calls.
    pub fn advance(&mut self, bytes: &[u8]) -> Scanned {
        while let Some(byte) = bytes.get(self.position) {
            let decided = match byte {
                b'\n' if self.position == self.line_start || bytes[self.position - 1] != b'\r' => {
                    Some(Scanned::Refused(Status::BadRequest))
                }
                b'\n' => self.end_line(bytes),
                _ if self.position > self.line_start && bytes[self.position - 1] == b'\r' => {
                    Some(Scanned::Refused(Status::BadRequest))
                }
                b'\r' => None,
                b' ' if self.request_line.is_none() => {
                    self.in_method = false;
                    None
                }
                byte if self.request_line.is_none() && self.in_method && !is_token_byte(*byte) => {
                    Some(Scanned::Refused(Status::BadRequest))
                }
                b'\t' => None,
                0..0x20 | 0x7f => Some(Scanned::Refused(Status::BadRequest)),
                _ => None,
            };
            self.position += 1;
            if let Some(decided) = decided.or_else(|| self.exceeds(*byte)) {
                return decided;
            }
        }
        Scanned::Incomplete
    }

    /// Handles the end of a line at `position`; returns a result if the line decides one.
    fn end_line(&mut self, bytes: &[u8]) -> Option<Scanned> {
        let line = self.line_start..self.position - 1;
        self.line_start = self.position + 1;
        match self.request_line {
            None if line.is_empty() => {
                self.empty_lines += 1;
                (self.empty_lines > EMPTY_LINES_MAX).then_some(Scanned::Refused(Status::BadRequest))
            }
            None => {
                self.request_line = Some((line.start, line.end));
                request_line(&bytes[line]).err().map(Scanned::Refused)
            }
            Some((start, end)) if line.is_empty() => {
                Some(Scanned::Complete { line: start..end, length: self.position + 1 })
            }
            Some(_) => None,
        }
    }

    /// The limit that the byte before `position` exceeded, if any.
    fn exceeds(&self, byte: u8) -> Option<Scanned> {
        let line_bytes = self.position - self.line_start.min(self.position);
        let line_bytes_max = REQUEST_LINE_BYTES_MAX + usize::from(byte == b'\r');
        // A method longer than any that is implemented is the method's fault, not the target's (RFC 9112 §3).
        if self.in_method && line_bytes > METHOD_BYTES_MAX {
            return Some(Scanned::Refused(Status::NotImplemented));
        }
        if self.request_line.is_none() && line_bytes > line_bytes_max {
            return Some(Scanned::Refused(Status::UriTooLong));
        }
        (self.position >= HEAD_BYTES_MAX).then_some(Scanned::Refused(Status::RequestHeaderFieldsTooLarge))
    }
}

/// The three parts of a request line.
#[derive(Debug)]
pub(crate) struct RequestLine<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) is_http10: bool,
}

/// Reads `method SP target SP HTTP/1.x`, with exactly one space each (RFC 9112 §3).
pub(crate) fn request_line(line: &[u8]) -> Result<RequestLine<'_>, Status> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Status::BadRequest);
    };
    let is_visible = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) {
        return Err(Status::BadRequest);
    }
    if target.is_empty() || !target.iter().all(is_visible) {
        return Err(Status::BadRequest);
    }
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => {
            Ok(RequestLine { method, target, is_http10: *minor == b'0' })
        }
        [b'H', b'T', b'T', b'P', b'/', b'2'..=b'9', b'.', minor] if minor.is_ascii_digit() => {
            Err(Status::HttpVersionNotSupported)
        }
        _ => Err(Status::BadRequest),
    }
}

/// RFC 9110 §5.6.2
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Scanned {
        let whole = HeadScan::default().advance(bytes);
        let mut scan = HeadScan::default();
        let split = (1..=bytes.len())
            .map(|end| scan.advance(&bytes[..end]))
            .find(|scanned| *scanned != Scanned::Incomplete)
            .unwrap_or(Scanned::Incomplete);
        assert_eq!(whole, split, "the outcome depends on how the bytes were split");
        whole
    }

    #[test]
    fn heads_end_at_an_empty_line() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(scan(head), Scanned::Complete { line: 0..14, length: head.len() });
        assert_eq!(
            scan(b"\r\n\r\nGET / HTTP/1.1\r\n\r\nrest"),
            Scanned::Complete { line: 4..18, length: 22 }
        );
        assert_eq!(scan(&head[..head.len() - 1]), Scanned::Incomplete);
        assert_eq!(scan(b""), Scanned::Incomplete);
    }

    #[test]
    fn refusals_come_as_early_as_they_can() {
        for (bytes, status) in [
            (&b"\n"[..], 400),
            (b"\r\r", 400),
            (b"\r\n\r\n\r\n", 400),
            (b"GET / HTTP/1.1\n", 400),
            (b"GET /\rx", 400),
            (b"GET /\0", 400),
            (b"\x16\x03\x01", 400),
            (b"G\x7f", 400),
            (b"\xde\xad", 400),
            (b"{", 400),
            (b"\t", 400),
            (b"GET /\r\n", 400),
            (b"GET  / HTTP/1.1\r\n", 400),
            (b"GET / HTTP/1.1 \r\n", 400),
            (b" GET / HTTP/1.1\r\n", 400),
            (b" / HTTP/1.1\r\n", 400),
            (b"GET / HTTP/1.x\r\n", 400),
            (b"GET / HTTP/2.x\r\n", 400),
            (b"GET /\ta HTTP/1.1\r\n", 400),
            (b"G@T / HTTP/1.1\r\n", 400),
            (b"GET / http/1.1\r\n", 400),
            (b"GET / HTTP/1.10\r\n", 400),
            (b"GET / HTTP/0.9\r\n", 400),
            (b"PRI * HTTP/2.0\r\n", 505),
            (b"GET / HTTP/1.1\r\nA: b\n", 400),
            (b"GET / HTTP/1.1\r\nA: b\rc", 400),
            (b"GET / HTTP/1.1\r\nA: b\x01", 400),
        ] {
            let Scanned::Refused(refused) = scan(bytes) else {
                panic!("{} is not refused", bytes.escape_ascii())
            };
            assert_eq!(refused.code(), status, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_scan_begins_with_the_first_byte() {
        let mut scan = HeadScan::default();
        assert!(!scan.has_begun());
        assert_eq!(scan.advance(b""), Scanned::Incomplete);
        assert!(!scan.has_begun());
        for bytes in [&b"G"[..], b"GE", b"GET /"] {
            assert_eq!(scan.advance(bytes), Scanned::Incomplete);
            assert!(scan.has_begun());
        }
    }

    #[test]
    fn the_request_line_is_bounded() {
        let line = |bytes: usize| {
            let target = "a".repeat(bytes - "GET / HTTP/1.1".len());
            format!("GET /{target} HTTP/1.1\r\n\r\n").into_bytes()
        };
        assert!(matches!(scan(&line(REQUEST_LINE_BYTES_MAX)), Scanned::Complete { .. }));
        assert_eq!(scan(&line(REQUEST_LINE_BYTES_MAX + 1)), Scanned::Refused(Status::UriTooLong));
        let endless = |bytes: usize| format!("GET {}", "a".repeat(bytes - "GET ".len())).into_bytes();
        assert_eq!(scan(&endless(REQUEST_LINE_BYTES_MAX)), Scanned::Incomplete);
        assert_eq!(scan(&endless(REQUEST_LINE_BYTES_MAX + 1)), Scanned::Refused(Status::UriTooLong));
    }

    #[test]
    fn the_method_is_bounded() {
        let head = |bytes: usize| format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(bytes)).into_bytes();
        assert!(matches!(scan(&head(METHOD_BYTES_MAX)), Scanned::Complete { .. }));
        for bytes in [METHOD_BYTES_MAX + 1, REQUEST_LINE_BYTES_MAX, REQUEST_LINE_BYTES_MAX + 1] {
            assert_eq!(scan(&head(bytes)), Scanned::Refused(Status::NotImplemented));
        }
        assert_eq!(scan(&[b'a'; METHOD_BYTES_MAX]), Scanned::Incomplete);
        assert_eq!(scan(&[b'a'; METHOD_BYTES_MAX + 1]), Scanned::Refused(Status::NotImplemented));
        let no_token = [vec![b'a'; METHOD_BYTES_MAX], b"(".to_vec()].concat();
        assert_eq!(scan(&no_token), Scanned::Refused(Status::BadRequest));
        let behind_empty_lines = [b"\r\n\r\n".to_vec(), head(METHOD_BYTES_MAX)].concat();
        assert!(matches!(scan(&behind_empty_lines), Scanned::Complete { .. }));
    }

    #[test]
    fn the_head_is_bounded() {
        let head = |bytes: usize| {
            let mut head = b"GET / HTTP/1.1\r\nA: ".to_vec();
            head.resize(bytes - 4, b'a');
            head.extend_from_slice(b"\r\n\r\n");
            head
        };
        assert!(matches!(scan(&head(HEAD_BYTES_MAX)), Scanned::Complete { length: HEAD_BYTES_MAX, .. }));
        assert_eq!(scan(&head(HEAD_BYTES_MAX + 1)), Scanned::Refused(Status::RequestHeaderFieldsTooLarge));
    }
}

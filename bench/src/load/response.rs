//! The head of a response, as far as the check of every answer needs it: the status, what says where the body ends
//! (RFC 9112 §6), how it is coded, and what a browser would ask again with. Everything else is the conformance suite's
//! business.

use crate::load::coding::Coding;
use memchr::memchr;
use std::fmt;
use std::ops::Range;

/// The longest head that the client reads. None of the servers under test sends more than a few hundred bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What the client learns from a response's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) body_bytes: u64,
    /// Length of the head itself, the empty line included: the body begins here.
    pub(crate) head_bytes: usize,
    /// Whether the server will end the connection after the body (RFC 9112 §9.3).
    pub(crate) closes: bool,
    /// Whether the body comes in chunks; then `body_bytes` is 0.
    pub(crate) is_chunked: bool,
    /// How the body is coded; `None` for a coding that nobody has asked for.
    pub(crate) coding: Option<Coding>,
    pub(crate) tag: Span,
    pub(crate) modified: Span,
}

/// Where the value of a field stands in a head; empty where there is no such field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// The value itself, from the bytes that the head was read from.
    pub(crate) fn of(self, received: &[u8]) -> &[u8] {
        &received[self.start..self.end]
    }

    /// Of a part of `whole`.
    fn within(whole: &[u8], part: &[u8]) -> Span {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Span { start, end: start + part.len() }
    }
}

/// Why bytes can't be the head of a response that the client could check.
#[expect(missing_docs, reason = "Display says what each one is")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    NotHttp,
    NoLength,
    BadLength,
    TransferCoding,
    TooLong,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeadError::NotHttp => "the answer doesn't begin with an HTTP/1.x status line",
            HeadError::NoLength => "the answer has no Content-Length",
            HeadError::BadLength => "the answer's Content-Length isn't one number",
            HeadError::TransferCoding => "the answer has a Transfer-Encoding",
            HeadError::TooLong => "the answer's head doesn't end within 16 KiB",
        })
    }
}

/// A cache of the last head: most heads of a server differ only in their date.
#[derive(Debug, Default)]
pub(crate) struct LastHead {
    bytes: Vec<u8>,
    /// Where the value of Date stands; empty if there is none.
    date: Range<usize>,
    head: Option<Head>,
}

impl LastHead {
    /// Like [`parse_head`], but faster where the head equals the last one outside of the date.
    pub(crate) fn parse(&mut self, received: &[u8]) -> Result<Option<Head>, HeadError> {
        if let Some(head) = self.head
            && self.knows(received)
        {
            return Ok(Some(head));
        }
        let head = parse_head(received)?;
        if let Some(head) = head {
            self.bytes.clear();
            self.bytes.extend_from_slice(&received[..head.head_bytes]);
            self.date = date_value(&self.bytes);
            self.head = Some(head);
        }
        Ok(head)
    }

    fn knows(&self, received: &[u8]) -> bool {
        let Some(received) = received.get(..self.bytes.len()) else {
            return false;
        };
        let Range { start, end } = self.date;
        received[..start] == self.bytes[..start]
            && received[end..] == self.bytes[end..]
            // A line's end within would make something else of what follows.
            && memchr(b'\n', &received[start..end]).is_none()
    }
}

/// Where the value of the Date field stands in a whole head.
fn date_value(head: &[u8]) -> Range<usize> {
    const NAME: &[u8] = b"\ndate: ";
    let matches = |at: &usize| {
        let found = head.get(*at..*at + NAME.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(NAME))
    };
    let Some(newline) = memchr::memchr_iter(b'\n', head).find(matches) else {
        return 0..0;
    };
    let start = newline + NAME.len();
    let length = memchr(b'\n', &head[start..]).unwrap_or(0);
    start..start + length
}

/// More fields than any server under test sends.
const FIELDS_MAX: usize = 64;

/// Reads the head at the beginning of `received`; `None` while its end hasn't arrived.
///
/// # Errors
///
/// The bytes can't become a head that says how long its body is.
pub(crate) fn parse_head(received: &[u8]) -> Result<Option<Head>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let head_bytes = match response.parse(received) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if received.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(HeadError::TooLong);
        }
        Err(_) => return Err(HeadError::NotHttp),
    };
    let status = response.code.ok_or(HeadError::NotHttp)?;
    // HTTP/1.0 keeps a connection only if it says so.
    let closes = response.version == Some(0);
    let mut head = Head { status, head_bytes, closes, coding: Some(Coding::Identity), ..Head::default() };
    let mut length = None;
    for field in response.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let value = field.value.trim_ascii();
        if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::TransferCoding);
            }
            head.is_chunked = true;
        } else if is("content-length") {
            let value = parse_digits(value).ok_or(HeadError::BadLength)?;
            if length.replace(value).is_some_and(|earlier| earlier != value) {
                return Err(HeadError::BadLength);
            }
        } else if is("content-encoding") {
            head.coding = Coding::parse(value);
        } else if is("etag") {
            head.tag = Span::within(received, value);
        } else if is("last-modified") {
            head.modified = Span::within(received, value);
        } else if is("connection") {
            for option in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                head.closes = option.eq_ignore_ascii_case(b"close")
                    || head.closes && !option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
    }
    match length {
        // Whatever it says of a body, there is none (RFC 9112 §6.3).
        _ if status == 304 || status == 204 => head.is_chunked = false,
        Some(_) if head.is_chunked => return Err(HeadError::BadLength),
        Some(bytes) => head.body_bytes = bytes,
        None if head.is_chunked => {}
        None => return Err(HeadError::NoLength),
    }
    Ok(Some(head))
}

fn parse_digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] =
        b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-LENGTH:  1024 \r\nConnection: close\r\n\r\nbody";

    #[test]
    fn whole_head() {
        let head = parse_head(WHOLE).unwrap().unwrap();
        let (head_bytes, coding) = (WHOLE.len() - 4, Some(Coding::Identity));
        let expected =
            Head { status: 200, body_bytes: 1024, head_bytes, closes: true, coding, ..Head::default() };
        assert_eq!(head, expected);
    }

    #[test]
    fn every_prefix_of_a_head_is_incomplete() {
        for end in 0..WHOLE.len() - 4 {
            assert_eq!(parse_head(&WHOLE[..end]), Ok(None), "{end} bytes");
        }
    }

    #[test]
    fn refused() {
        let long = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'a'; HEAD_BYTES_MAX]].concat();
        let table: [(&str, &[u8], HeadError); 11] = [
            ("garbage", b"hello", HeadError::NotHttp),
            ("HTTP/2", b"HTTP/2 200\r\n\r\n", HeadError::NotHttp),
            ("no digits", b"HTTP/1.1 2x0 OK\r\n\r\n", HeadError::NotHttp),
            ("four digits", b"HTTP/1.1 2000\r\n\r\n", HeadError::NotHttp),
            ("no length", b"HTTP/1.1 200 OK\r\n\r\n", HeadError::NoLength),
            ("empty length", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", HeadError::BadLength),
            ("signed length", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", HeadError::BadLength),
            (
                "two lengths",
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                HeadError::BadLength,
            ),
            (
                "coded for the transfer",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                HeadError::TransferCoding,
            ),
            (
                "chunks and a length",
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadError::BadLength,
            ),
            ("endless", &long, HeadError::TooLong),
        ];
        for (name, bytes, error) in table {
            assert_eq!(parse_head(bytes), Err(error), "{name}");
        }
    }

    #[test]
    fn validators_and_codings() {
        let head = |fields: &str| {
            let received = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{fields}\r\n").into_bytes();
            let head = parse_head(&received).unwrap().unwrap();
            (head.coding, head.tag.of(&received).to_vec(), head.modified.of(&received).to_vec())
        };
        assert_eq!(head(""), (Some(Coding::Identity), Vec::new(), Vec::new()));
        let fields = "Content-Encoding: BR\r\nETag:  W/\"a b\" \r\nlast-modified: Thu\r\n";
        assert_eq!(head(fields), (Some(Coding::Br), b"W/\"a b\"".to_vec(), b"Thu".to_vec()));
        assert_eq!(head("Content-Encoding: gzip, br\r\n").0, None);
    }

    #[test]
    fn some_answers_have_no_body_whatever_they_say() {
        for fields in ["", "Content-Length: 1024\r\n", "Transfer-Encoding: chunked\r\n"] {
            let head =
                parse_head(format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").as_bytes()).unwrap().unwrap();
            assert_eq!((head.status, head.body_bytes, head.is_chunked), (304, 0, false), "{fields}");
        }
        let head = parse_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.body_bytes, head.is_chunked), (0, true));
    }

    #[test]
    fn length_over_u64_is_refused() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n";
        assert_eq!(parse_head(bytes), Err(HeadError::BadLength));
    }

    #[test]
    fn names_that_only_begin_alike_are_other_fields() {
        let bytes =
            b"HTTP/1.1 404 Not Found\r\nContent-Length-X: 9\r\nTrailer: a\r\nContent-Length: 3\r\n\r\n";
        let head = parse_head(bytes).unwrap().unwrap();
        assert_eq!((head.status, head.body_bytes), (404, 3));
    }

    #[test]
    fn who_ends_the_connection() {
        let table = [
            ("HTTP/1.1 200 OK\r\n", false),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", false),
            ("HTTP/1.1 200 OK\r\nconnection: Close\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: upgrade , close\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: closed\r\n", false),
            ("HTTP/1.0 200 OK\r\n", true),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", false),
        ];
        for (start, closes) in table {
            let bytes = format!("{start}Content-Length: 3\r\n\r\n");
            let head = parse_head(bytes.as_bytes()).unwrap().unwrap();
            assert_eq!(head.closes, closes, "{start}");
        }
    }

    #[test]
    fn a_head_like_the_last_one_says_the_same() {
        let head = |status, date, length| {
            format!("HTTP/1.1 {status} OK\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n").into_bytes()
        };
        let mut last_head = LastHead::default();
        let table = [
            ("the first", head(200, "Tue", 1024)),
            ("the same", head(200, "Tue", 1024)),
            ("another date", head(200, "Wed", 1024)),
            ("another length", head(200, "Wed", 1025)),
            ("another status", head(404, "Wed", 1025)),
            ("a line within the date", head(404, "W\n\n", 1025)),
            ("a body behind it", [head(404, "Wed", 1025), b"body".to_vec()].concat()),
            ("half of it", head(404, "Wed", 1025)[..30].to_vec()),
            ("no date", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n".to_vec()),
            ("no date again", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n".to_vec()),
            ("garbage", b"hello".to_vec()),
        ];
        for (name, bytes) in table {
            assert_eq!(last_head.parse(&bytes), parse_head(&bytes), "{name}");
        }
    }
}

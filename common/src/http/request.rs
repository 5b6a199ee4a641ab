//! Parses a request head into a [`Request`] or a refusal. No I/O, no allocation.
//!
//! `httparse` splits the head into lines and fields. This module decides what httparse leaves open, always the strict
//! way: requests are smuggled where two servers read the same bytes differently (RFC 9112 §11.2). Framing is checked
//! before the method, so a smuggled POST is a 400, not a 405.

use std::mem::MaybeUninit;
use std::ops::Range;

use arrayvec::ArrayVec;

use crate::http::conditional::{CONDITIONS_MAX, Condition, Conditions};
use crate::http::scan::{
    HEAD_BYTES_MAX, HeadScan, METHOD_BYTES_MAX, REQUEST_LINE_BYTES_MAX, RequestLine, Scanned, request_line,
};
use crate::http::status::Status;
use crate::http::target::is_authority;

/// A head with more fields than this is refused with 431.
pub const FIELDS_MAX: usize = 100;

/// A request method (RFC 9110 §9): supported, known, or unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// OPTIONS
    Options,
    /// Another method of RFC 9110, or PATCH: recognized but not supported.
    Known,
    /// Anything else.
    Unknown,
}

impl Method {
    fn from_token(token: &[u8]) -> Method {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"POST" | b"PUT" | b"DELETE" | b"PATCH" | b"TRACE" | b"CONNECT" => Method::Known,
            _ => Method::Unknown,
        }
    }
}

/// How the request content is framed (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By length in bytes; 0 if there is no content.
    Length(u64),
    /// By the chunked transfer coding.
    Chunked,
}

/// What the `Expect` field asks for (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    None,
    /// `100-continue`.
    Continue,
    /// Any other expectation, which can't be met.
    Unknown,
}

/// A range of bytes in a head. A head has at most 16 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// The position of `part`, a slice of `whole`, within it.
    #[expect(clippy::cast_possible_truncation, reason = "a head is shorter than 64 KiB")]
    fn of(part: &[u8], whole: &[u8]) -> Span {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        Span { start: start as u16, end: (start + part.len()) as u16 }
    }

    fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

/// A parsed request, stored as positions in its head, so it is valid for any copy of those bytes.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Whether the connection may be reused (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the request is HTTP/1.0. Such clients must be told explicitly that the connection stays open.
    pub is_http10: bool,
    /// How the content is framed.
    pub framing: Framing,
    /// What the client expects before it sends the content.
    pub expectation: Expectation,
    target: Span,
    line: Span,
    referer: Span,
    user_agent: Span,
    accept_encoding: Span,
    /// There are more fields of that name.
    has_more_codings: bool,
    conditions: ArrayVec<(Condition, Span), CONDITIONS_MAX>,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            method: Method::Unknown,
            keep_alive: false,
            is_http10: false,
            framing: Framing::Length(0),
            expectation: Expectation::None,
            target: Span::default(),
            line: Span::default(),
            referer: Span::default(),
            user_agent: Span::default(),
            accept_encoding: Span::default(),
            has_more_codings: false,
            conditions: ArrayVec::new(),
        }
    }
}

impl Request {
    /// The request target. Here and below, `head` is the bytes the request was parsed from.
    #[must_use]
    pub fn target<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[self.target.range()]
    }

    /// The request line without its line ending.
    #[must_use]
    pub fn line<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[self.line.range()]
    }

    /// The `Referer` field.
    #[must_use]
    pub fn referer<'a>(&self, head: &'a [u8]) -> Option<&'a [u8]> {
        Some(&head[self.referer.range()]).filter(|value| !value.is_empty())
    }

    /// The `User-Agent` field.
    #[must_use]
    pub fn user_agent<'a>(&self, head: &'a [u8]) -> Option<&'a [u8]> {
        Some(&head[self.user_agent.range()]).filter(|value| !value.is_empty())
    }

    /// Whether the client accepts codings of its own choice. One that asks for a range doesn't, whatever it says: a part
    /// of a variant fits no part of the file.
    pub(crate) fn negotiates_codings(&self) -> bool {
        self.accept_encoding != Span::default()
            && !self.conditions.iter().any(|(name, _)| *name == Condition::Range)
    }

    /// The value of `Accept-Encoding`, if there is one such field.
    pub(crate) fn accept_encoding<'a>(&self, head: &'a [u8]) -> Option<&'a [u8]> {
        (!self.has_more_codings).then(|| &head[self.accept_encoding.range()])
    }

    /// The values of every line of any field, in order. This goes through the whole head: for what is rarely asked.
    pub fn values<'a>(head: &'a [u8], name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        head.split(|byte| *byte == b'\n').filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
        })
    }

    /// The fields that the response depends on.
    #[must_use]
    pub fn conditions<'a>(&self, head: &'a [u8]) -> Conditions<'a> {
        Conditions(self.conditions.iter().map(|(name, span)| (*name, &head[span.range()])).collect())
    }

    /// Whether the response depends on the target alone.
    pub(crate) fn is_unconditional(&self) -> bool {
        self.conditions.is_empty()
    }
}

/// The result of parsing the bytes received so far.
#[derive(Debug)]
pub enum Parsed {
    /// A complete head and its length in bytes.
    Complete(Request, usize),
    /// An incomplete head.
    Incomplete,
    /// A request that can't be served. Framing is lost, so the connection must close.
    Refused(Status),
}

/// Parses one request head, of any method, from the start of `bytes`.
///
/// The outcome doesn't depend on how the bytes were split in transit.
#[must_use]
pub fn parse_http_get(bytes: &[u8]) -> Parsed {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    // Fast path: one pass of httparse, if it accepted nothing that the strict rules refuse.
    if !bytes.first().is_some_and(u8::is_ascii_whitespace)
        && let Ok(httparse::Status::Complete(length)) = parsed.parse_with_uninit_headers(bytes, &mut fields)
        && let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
        && method.len() <= METHOD_BYTES_MAX
        && let Some(line_end) = line_end_if_strict(&bytes[..length], parsed.headers)
    {
        let line =
            RequestLine { method: method.as_bytes(), target: target.as_bytes(), is_http10: version == 0 };
        return assemble(bytes, &bytes[..line_end], &line, parsed.headers)
            .map_or_else(Parsed::Refused, |request| Parsed::Complete(request, length));
    }
    match HeadScan::default().advance(bytes) {
        Scanned::Incomplete => Parsed::Incomplete,
        Scanned::Refused(status) => Parsed::Refused(status),
        Scanned::Complete { line, length } => match parse_scanned(bytes, line, length) {
            Ok(request) => Parsed::Complete(request, length),
            Err(status) => Parsed::Refused(status),
        },
    }
}

/// The end of the request line, if every line ends in CR LF (httparse accepts a bare LF) and the head is within its
/// limits. The parsed field names tell where each line starts.
fn line_end_if_strict(head: &[u8], fields: &[httparse::Header<'_>]) -> Option<usize> {
    if head.len() > HEAD_BYTES_MAX {
        return None;
    }
    let names = fields.iter().map(|field| Span::of(field.name.as_bytes(), head).range().start);
    let mut lines = names.chain([head.strip_suffix(b"\r\n")?.len()]);
    let line_end = lines.clone().next()?.checked_sub(2)?;
    (line_end <= REQUEST_LINE_BYTES_MAX && lines.all(|start| head[..start].ends_with(b"\r\n")))
        .then_some(line_end)
}

/// The slow path: empty lines before the request line, HTTP/1.2, and heads that httparse refuses.
fn parse_scanned(bytes: &[u8], line: Range<usize>, length: usize) -> Result<Request, Status> {
    let parsed = request_line(&bytes[line.clone()])?;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(&bytes[line.end + 2..length], &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => assemble(bytes, &bytes[line], &parsed, fields),
        Err(httparse::Error::TooManyHeaders) => Err(Status::RequestHeaderFieldsTooLarge),
        Ok(httparse::Status::Partial) | Err(_) => Err(Status::BadRequest),
    }
}

/// Connection and framing fields, collected over all lines.
#[derive(Default)]
struct Gathered<'a> {
    hosts: usize,
    host: &'a [u8],
    content_length: Option<u64>,
    coding: Option<Coding>,
    close: bool,
    keep_alive: bool,
}

/// The transfer codings seen so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Unknown,
    UnknownThenChunked,
    Broken,
}

fn assemble(
    head: &[u8],
    line_bytes: &[u8],
    line: &RequestLine<'_>,
    fields: &[httparse::Header<'_>],
) -> Result<Request, Status> {
    let mut request = Request {
        method: Method::from_token(line.method),
        target: Span::of(line.target, head),
        line: Span::of(line_bytes, head),
        is_http10: line.is_http10,
        ..Request::default()
    };
    let mut gathered = Gathered::default();
    for field in fields {
        note_field(&mut request, &mut gathered, head, field)?;
    }
    if gathered.hosts > 1 || (gathered.hosts == 0 && !line.is_http10) {
        return Err(Status::BadRequest);
    }
    if gathered.hosts == 1 && !is_authority(gathered.host.trim_ascii()) {
        return Err(Status::BadRequest);
    }
    request.framing = match (gathered.coding, gathered.content_length) {
        (None, length) => Framing::Length(length.unwrap_or(0)),
        (Some(Coding::Chunked), None) if !line.is_http10 => Framing::Chunked,
        (Some(Coding::UnknownThenChunked), None) if !line.is_http10 => {
            return Err(Status::NotImplemented);
        }
        (Some(_), _) => return Err(Status::BadRequest),
    };
    request.keep_alive = !gathered.close && (gathered.keep_alive || !line.is_http10);
    if line.is_http10 {
        request.expectation = Expectation::None; // RFC 9110 §10.1.1: ignored
    }
    Ok(request)
}

fn note_field<'a>(
    request: &mut Request,
    gathered: &mut Gathered<'a>,
    head: &[u8],
    field: &httparse::Header<'a>,
) -> Result<(), Status> {
    let (name, value) = (field.name.as_bytes(), field.value);
    let condition = match name.len() {
        4 if is(name, b"host") => {
            gathered.hosts += 1;
            gathered.host = value;
            None
        }
        5 if is(name, b"range") => Some(Condition::Range),
        6 if is(name, b"expect") => {
            let known = value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
            request.expectation = match request.expectation {
                Expectation::None | Expectation::Continue if known => Expectation::Continue,
                _ => Expectation::Unknown,
            };
            None
        }
        7 if is(name, b"referer") => {
            request.referer = Span::of(value, head);
            None
        }
        8 if is(name, b"if-match") => Some(Condition::IfMatch),
        8 if is(name, b"if-range") => Some(Condition::IfRange),
        10 if is(name, b"connection") => {
            for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                gathered.close |= token.eq_ignore_ascii_case(b"close");
                gathered.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
            None
        }
        10 if is(name, b"user-agent") => {
            request.user_agent = Span::of(value, head);
            None
        }
        13 if is(name, b"if-none-match") => Some(Condition::IfNoneMatch),
        14 if is(name, b"content-length") => {
            gathered.content_length = Some(content_length(value, gathered.content_length)?);
            None
        }
        15 if is(name, b"accept-encoding") => {
            request.has_more_codings = request.accept_encoding != Span::default();
            request.accept_encoding = Span::of(value, head);
            None
        }
        17 if is(name, b"if-modified-since") => Some(Condition::IfModifiedSince),
        17 if is(name, b"transfer-encoding") => {
            for coding in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                gathered.coding = Some(next_coding(gathered.coding, coding));
            }
            None
        }
        19 if is(name, b"if-unmodified-since") => Some(Condition::IfUnmodifiedSince),
        _ => None,
    };
    if let Some(condition) = condition {
        let span = Span::of(value.trim_ascii(), head);
        let full = |_| Status::RequestHeaderFieldsTooLarge;
        request.conditions.try_push((condition, span)).map_err(full)?;
    }
    Ok(())
}

/// Whether a field has this name, which is in small letters. The fifth bit of a letter is its case; of what else may be in
/// a name (RFC 9110 §5.6.2) nothing becomes a letter or a hyphen by it.
#[inline]
fn is<const BYTES: usize>(name: &[u8], expected: &[u8; BYTES]) -> bool {
    let Ok(name) = <&[u8; BYTES]>::try_from(name) else { return false };
    name.iter().zip(expected).fold(0, |difference, (one, other)| difference | ((one | 0x20) ^ other)) == 0
}

/// Parses one Content-Length line: a number, or a list repeating the same number (RFC 9110 §8.6).
fn content_length(value: &[u8], earlier: Option<u64>) -> Result<u64, Status> {
    let mut length = earlier;
    for item in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if item.is_empty() || !item.iter().all(u8::is_ascii_digit) {
            return Err(Status::BadRequest);
        }
        let number = item
            .iter()
            .try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        match (length, number) {
            (_, None) => return Err(Status::BadRequest),
            (Some(length), Some(number)) if length != number => return Err(Status::BadRequest),
            (_, number) => length = number,
        }
    }
    length.ok_or(Status::BadRequest)
}

/// Adds a transfer coding. Only `chunked`, once and last, can frame a request (RFC 9112 §6.1).
fn next_coding(earlier: Option<Coding>, coding: &[u8]) -> Coding {
    let chunked = coding.eq_ignore_ascii_case(b"chunked");
    let is_token =
        !coding.is_empty() && !coding.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"chunked"));
    match earlier {
        None if chunked => Coding::Chunked,
        None | Some(Coding::Unknown) if is_token => Coding::Unknown,
        Some(Coding::Unknown) if chunked => Coding::UnknownThenChunked,
        _ => Coding::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(fields: &str) -> Vec<u8> {
        format!("GET /a?b HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n").into_bytes()
    }

    fn complete(bytes: &[u8]) -> Request {
        match parse_http_get(bytes) {
            Parsed::Complete(request, length) => {
                assert_eq!(length, bytes.len());
                request
            }
            other => panic!("{}: {other:?}", bytes.escape_ascii()),
        }
    }

    #[test]
    fn a_request_is_read() {
        let bytes = get(
            "User-Agent: x y\r\nReferer: r\r\nRange: bytes=0-1 \r\nif-none-match: \"a\"\r\nIF-NONE-MATCH: \"b\"\r\n",
        );
        let request = complete(&bytes);
        assert_eq!(request.method, Method::Get);
        assert_eq!(request.target(&bytes), b"/a?b");
        assert_eq!(request.line(&bytes), b"GET /a?b HTTP/1.1");
        assert_eq!(request.user_agent(&bytes), Some(&b"x y"[..]));
        assert_eq!(request.referer(&bytes), Some(&b"r"[..]));
        let conditions = request.conditions(&bytes);
        assert_eq!(conditions.single(Condition::Range), Some(&b"bytes=0-1"[..]));
        let tags: Vec<_> = conditions.values(Condition::IfNoneMatch).collect();
        assert_eq!(tags, [b"\"a\"", b"\"b\""]);
        assert!(request.keep_alive);
    }

    #[test]
    fn any_field_can_be_looked_up() {
        let bytes =
            get("ACCEPT: a/b , c/d\r\nAccept-Encoding: br\r\nX: accept: e\r\naccept:f/g\r\nAccept:\r\n");
        complete(&bytes);
        let found: Vec<_> = Request::values(&bytes, "Accept").collect();
        assert_eq!(found, [&b"a/b , c/d"[..], b"f/g", b""]);
        assert_eq!(Request::values(&bytes, "GET /a?b HTTP/1.1\r\nHost").count(), 0);
        assert_eq!(Request::values(b"", "Accept").count(), 0);
    }

    #[test]
    fn methods_are_known_or_not() {
        for (method, expected) in [
            ("GET", Method::Get),
            ("HEAD", Method::Head),
            ("OPTIONS", Method::Options),
            ("DELETE", Method::Known),
            ("CONNECT", Method::Known),
            ("get", Method::Unknown),
            ("BREW", Method::Unknown),
        ] {
            assert_eq!(
                complete(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).method,
                expected
            );
        }
    }

    #[test]
    fn a_long_method_is_refused_however_it_arrives() -> Result<(), TestCaseError> {
        for bytes in [METHOD_BYTES_MAX, METHOD_BYTES_MAX + 1, REQUEST_LINE_BYTES_MAX + 1] {
            let head = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(bytes));
            let refused = matches!(parse_http_get(head.as_bytes()), Parsed::Refused(Status::NotImplemented));
            assert_eq!(refused, bytes > METHOD_BYTES_MAX);
            if bytes < REQUEST_LINE_BYTES_MAX {
                check_every_prefix(head.as_bytes())?;
            }
        }
        Ok(())
    }

    #[test]
    fn keep_alive_by_version_and_tokens() {
        for (version, connection, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: foo, CLOSE\r\n", false),
            ("1.1", "Connection: closed\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
            ("1.2", "", true),
        ] {
            let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n").into_bytes();
            let request = complete(&bytes);
            assert_eq!(request.keep_alive, expected, "{version} {connection}");
            assert_eq!(request.is_http10, version == "1.0");
        }
    }

    #[test]
    fn framing_is_read_or_refused() {
        for (fields, expected) in [
            ("", Ok(Framing::Length(0))),
            ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
            ("Content-Length: 5, 5\r\nContent-Length: 5\r\n", Ok(Framing::Length(5))),
            ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
            ("Content-Length: +5\r\n", Err(400)),
            ("Content-Length: 5, 6\r\n", Err(400)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
            ("Content-Length:\r\n", Err(400)),
            ("Content-Length: 18446744073709551616\r\n", Err(400)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(400)),
            ("Transfer-Encoding: gzip\r\n", Err(400)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(501)),
            ("Transfer-Encoding: chunked;q=1\r\n", Err(400)),
            ("Transfer-Encoding: gzip, chunked;q=1\r\n", Err(400)),
            ("Transfer-Encoding: gzip,\r\n", Err(400)),
            ("Transfer-Encoding:\r\n", Err(400)),
            ("Host: b\r\n", Err(400)),
            ("Host : b\r\n", Err(400)),
            ("X: a\r\n b\r\n", Err(400)),
            (" X: a\r\n", Err(400)),
            (": a\r\n", Err(400)),
            ("X y: a\r\n", Err(400)),
            ("X\r\n", Err(400)),
        ] {
            let result = match parse_http_get(&get(fields)) {
                Parsed::Complete(request, _) => Ok(request.framing),
                Parsed::Refused(status) => Err(status.code()),
                Parsed::Incomplete => panic!("{fields} is incomplete"),
            };
            assert_eq!(result, expected, "{fields}");
        }
    }

    #[test]
    fn hosts_are_required_once_and_valid() {
        for (head, ok) in [
            ("GET / HTTP/1.1\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", true),
        ] {
            assert_eq!(matches!(parse_http_get(head.as_bytes()), Parsed::Complete(..)), ok, "{head}");
        }
    }

    #[test]
    fn a_bare_line_feed_is_refused() {
        for fields in ["", "A: b\r\nC:\r\nD: e \r\n"] {
            let head = String::from_utf8(get(fields)).expect("ASCII");
            for (at, _) in head.match_indices('\r') {
                let mut bare = head.clone();
                bare.remove(at);
                let refused = matches!(parse_http_get(bare.as_bytes()), Parsed::Refused(Status::BadRequest));
                assert!(refused, "{}", bare.escape_debug());
            }
        }
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let head = |count: usize| get(&"X: y\r\n".repeat(count - 1));
        assert_eq!(complete(&head(FIELDS_MAX)).method, Method::Get);
        let refused = |bytes: &[u8]| {
            matches!(parse_http_get(bytes), Parsed::Refused(Status::RequestHeaderFieldsTooLarge))
        };
        assert!(refused(&head(FIELDS_MAX + 1)));
        assert!(refused(&get(&"Range: bytes=0-1\r\n".repeat(CONDITIONS_MAX + 1))));
    }

    #[test]
    fn lines_and_heads_are_bounded() {
        let line = |bytes: usize| {
            let target = "a".repeat(bytes - "GET / HTTP/1.1".len());
            format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n")
        };
        let head = |bytes: usize| {
            let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
            format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4))
        };
        for (name, head, expected) in [
            ("the longest line", line(REQUEST_LINE_BYTES_MAX), None),
            ("a longer line", line(REQUEST_LINE_BYTES_MAX + 1), Some(Status::UriTooLong)),
            ("the longest head", head(HEAD_BYTES_MAX), None),
            ("a longer head", head(HEAD_BYTES_MAX + 1), Some(Status::RequestHeaderFieldsTooLarge)),
            ("a much longer head", head(2 * HEAD_BYTES_MAX), Some(Status::RequestHeaderFieldsTooLarge)),
        ] {
            let status = match parse_http_get(head.as_bytes()) {
                Parsed::Complete(_, length) if length == head.len() => None,
                Parsed::Refused(status) => Some(status),
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(status, expected, "{name}");
        }
    }

    #[test]
    fn empty_lines_before_a_request_are_no_part_of_it() {
        for (lines, is_read) in [(0, true), (1, true), (2, true), (3, false)] {
            let head = format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(lines));
            match parse_http_get(head.as_bytes()) {
                Parsed::Complete(request, length) if is_read => {
                    assert_eq!((request.line(head.as_bytes()), length), (&b"GET / HTTP/1.1"[..], head.len()));
                }
                Parsed::Refused(Status::BadRequest) if !is_read => {}
                other => panic!("{lines}: {other:?}"),
            }
        }
    }

    /// A field is what its whole name says, not what its length does.
    #[test]
    fn other_fields_say_nothing() {
        for field in [
            "Hose: b",
            "Angel: bytes=0-1",
            "Expekt: 100-continue",
            "Refered: r",
            "If-Watch: \"a\"",
            "If-Orange: \"a\"",
            "If-Angel: \"a\"",
            "Connectors: close",
            "User-Agony: x",
            "If-None-Watch: \"a\"",
            "Content-Strength: 5",
            "Content-Langth: 5",
            "If-Modified-Sinke: now",
            "Transfer-Encodium: chunked",
            "If-Unmodified-Sinke: now",
        ] {
            let bytes = get(&format!("{field}\r\n"));
            let request = complete(&bytes);
            assert!(request.keep_alive && request.is_unconditional(), "{field}");
            assert_eq!(request.framing, Framing::Length(0), "{field}");
            assert_eq!(request.expectation, Expectation::None, "{field}");
            assert_eq!((request.referer(&bytes), request.user_agent(&bytes)), (None, None), "{field}");
        }
    }

    #[test]
    fn every_condition_is_noted() {
        for (name, condition) in [
            ("If-Match", Condition::IfMatch),
            ("If-Unmodified-Since", Condition::IfUnmodifiedSince),
            ("If-None-Match", Condition::IfNoneMatch),
            ("If-Modified-Since", Condition::IfModifiedSince),
            ("If-Range", Condition::IfRange),
            ("Range", Condition::Range),
        ] {
            let bytes = get(&format!("{name}:  x \r\n"));
            let request = complete(&bytes);
            assert!(!request.is_unconditional(), "{name}");
            assert_eq!(request.conditions(&bytes).0.as_slice(), [(condition, &b"x"[..])], "{name}");
        }
    }

    #[test]
    fn expectations() {
        for (fields, expected) in [
            ("", Expectation::None),
            ("Expect: 100-continue\r\n", Expectation::Continue),
            ("Expect:  100-Continue \r\n", Expectation::Continue),
            ("Expect: 100-continue\r\nExpect: 100-continue\r\n", Expectation::Continue),
            ("Expect: tea\r\n", Expectation::Unknown),
            ("Expect:\r\n", Expectation::Unknown),
            ("Expect: 100-continue, tea\r\n", Expectation::Unknown),
            ("Expect: 100-continue\r\nExpect: tea\r\n", Expectation::Unknown),
            ("Expect: tea\r\nExpect: 100-continue\r\n", Expectation::Unknown),
        ] {
            assert_eq!(complete(&get(fields)).expectation, expected, "{fields}");
            let old = format!("GET / HTTP/1.0\r\n{fields}\r\n");
            assert_eq!(complete(old.as_bytes()).expectation, Expectation::None, "{fields}");
        }
    }

    /// RFC 9112 §6.1: a sender of HTTP/1.0 knows no transfer codings.
    #[test]
    fn old_clients_have_no_transfer_codings() {
        for coding in ["chunked", "gzip", "gzip, chunked", ""] {
            let head = format!("GET / HTTP/1.0\r\nTransfer-Encoding: {coding}\r\n\r\n");
            let parsed = parse_http_get(head.as_bytes());
            assert!(matches!(parsed, Parsed::Refused(Status::BadRequest)), "{coding}: {parsed:?}");
        }
    }

    /// Fragments of valid and invalid heads; random sequences of them hit the cases on which parsers disagree.
    const PIECES: &[&str] = &[
        "GET",
        " ",
        "/",
        " HTTP/1.1",
        " HTTP/1.0",
        " HTTP/1.2",
        " HTTP/2.0",
        "\r\n",
        "\r",
        "\n",
        "Host: a\r\n",
        "\0",
        "Content-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "GET / HTTP/1.1\r\n",
        "X:\ty\r\n",
        " folded\r\n",
        "Connection: close\r\n",
        ":",
        "\u{e9}",
        "\r\n\r\n",
        "/a?b",
    ];

    fn outcome(bytes: &[u8]) -> Option<Result<(usize, String), u16>> {
        match parse_http_get(bytes) {
            Parsed::Complete(request, length) => Some(Ok((length, format!("{request:?}")))),
            Parsed::Refused(status) => Some(Err(status.code())),
            Parsed::Incomplete => None,
        }
    }

    fn check_every_prefix(bytes: &[u8]) -> Result<(), TestCaseError> {
        let whole = outcome(bytes);
        let first = (0..=bytes.len()).find_map(|end| outcome(&bytes[..end]));
        prop_assert_eq!(&whole, &first, "parsing at once and byte after byte differ");
        let mut scan = HeadScan::default();
        for end in 0..=bytes.len() {
            match scan.advance(&bytes[..end]) {
                Scanned::Incomplete => prop_assert!(outcome(&bytes[..end]).is_none()),
                Scanned::Refused(status) => {
                    prop_assert_eq!(whole, Some(Err(status.code())));
                    return Ok(());
                }
                Scanned::Complete { length, .. } => {
                    prop_assert_eq!(length, end);
                    prop_assert!(outcome(&bytes[..end]).is_some());
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn one_shot_equals_byte_at_a_time(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..14)) {
            check_every_prefix(pieces.concat().as_bytes())?;
        }

        #[test]
        fn a_good_head_with_arbitrary_fields(fields in proptest::collection::vec("[!-~]{1,12}:[ -~\t]{0,20}\r\n", 0..6)) {
            check_every_prefix(&get(&fields.concat()))?;
        }

        #[test]
        fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            check_every_prefix(&bytes)?;
        }
    }
}

//! `http`: the same answer to every request, for load generators such as `wrk`.
//!
//! It speaks as much HTTP as a load generator needs: heads that arrive in pieces, pipelining, keep-alive, `HEAD` and
//! `Connection: close`. It accepts no content, ignores the path and sends no `Date`. The real servers are `blocking`,
//! `epoll` and `uring`.

use httparse::{EMPTY_HEADER, Request, Status};

use super::output::Output;

/// The longest request head.
pub const HEAD_BYTES_MAX: usize = 8192;

/// The most header fields in a request.
const FIELDS_MAX: usize = 64;

/// The answer, and the length of its head.
pub const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, waiting";
const ANSWER_HEAD_BYTES: usize = ANSWER.len() - 14;

/// The answer to a request after which the connection closes.
const LAST_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\
    Connection: close\r\n\r\nHello, waiting";
const LAST_ANSWER_HEAD_BYTES: usize = LAST_ANSWER.len() - 14;

const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const CONTENT_TOO_LARGE: &[u8] =
    b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const FIELDS_TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// A head whose end hasn't arrived.
    head: Vec<u8>,
}

impl Requests {
    /// Answers all complete requests. False if the connection ends with the last answer.
    pub(super) fn received(&mut self, bytes: &[u8], output: &mut Output) -> bool {
        let joined;
        let mut rest = if self.head.is_empty() {
            bytes
        } else {
            self.head.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.head);
            &joined
        };
        while !rest.is_empty() {
            let Some((length, answer, goes_on)) = answer_to(rest) else {
                self.head = rest.to_vec();
                return true;
            };
            output.push(answer);
            if !goes_on {
                return false;
            }
            rest = &rest[length..];
        }
        true
    }
}

/// The length of the first head, its answer, and whether the connection stays open. `None` if it is incomplete.
fn answer_to(bytes: &[u8]) -> Option<(usize, &'static [u8], bool)> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut request = Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return None,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Some((0, FIELDS_TOO_LARGE, false)),
        Err(_malformed) => return Some((0, BAD_REQUEST, false)),
    };
    let mut goes_on = request.version == Some(1);
    for field in request.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let value = field.value.trim_ascii();
        if is("transfer-encoding") || is("content-length") && value != b"0" {
            return Some((0, CONTENT_TOO_LARGE, false));
        }
        if is("connection") {
            let mut options = value.split(|byte| *byte == b',');
            goes_on &= !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        }
    }
    let (answer, head_bytes) =
        if goes_on { (ANSWER, ANSWER_HEAD_BYTES) } else { (LAST_ANSWER, LAST_ANSWER_HEAD_BYTES) };
    let answer = if request.method == Some("HEAD") { &answer[..head_bytes] } else { answer };
    Some((length, answer, goes_on))
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Service};
    use super::*;

    /// What is answered, with the bytes in parts of this size, and whether the connection is over then.
    fn exchange(bytes: &[u8], part: usize) -> (String, bool) {
        let mut connection = Service::new(Kind::Http).connect();
        bytes.chunks(part).for_each(|bytes| connection.received(bytes));
        let output = String::from_utf8(connection.output().to_vec()).expect("ASCII");
        connection.sent(output.len());
        (output, connection.is_over())
    }

    #[test]
    fn answers_do_not_depend_on_how_requests_are_cut() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let (ok, last) =
            (str::from_utf8(ANSWER).expect("ASCII"), str::from_utf8(LAST_ANSWER).expect("ASCII"));
        let (bad, fields, content) = ("HTTP/1.1 400 ", "HTTP/1.1 431 ", "HTTP/1.1 413 ");
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1));
        let long = |bytes: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(bytes - 23));
        for (name, bytes, expected, is_over) in [
            ("one", get.to_owned(), ok.to_owned(), false),
            ("three", get.repeat(3), ok.repeat(3), false),
            ("nothing", String::new(), String::new(), false),
            ("a part", get[..20].to_owned(), String::new(), false),
            ("lines that end with LF alone", "GET / HTTP/1.1\n\n".to_owned(), ok.to_owned(), false),
            ("HEAD", "HEAD / HTTP/1.1\r\n\r\n".to_owned(), ok[..ANSWER_HEAD_BYTES].to_owned(), false),
            (
                "close, and one behind it",
                format!("{get}GET / HTTP/1.1\r\nconnection: a, Close\r\n\r\n{get}"),
                [ok, last].concat(),
                true,
            ),
            ("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n".to_owned(), last.to_owned(), true),
            ("no HTTP", "hello\r\n\r\n".to_owned(), bad.to_owned(), true),
            (
                "content",
                "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
                content.to_owned(),
                true,
            ),
            ("no content", "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned(), ok.to_owned(), false),
            (
                "chunks",
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                content.to_owned(),
                true,
            ),
            ("as long as may be", long(HEAD_BYTES_MAX), ok.to_owned(), false),
            ("too long", long(HEAD_BYTES_MAX + 1), fields.to_owned(), true),
            ("too many fields", many, fields.to_owned(), true),
        ] {
            for part in [1, 7, 1 << 20] {
                let (output, over) = exchange(bytes.as_bytes(), part);
                let fits = if is_over { output.starts_with(&expected) } else { output == expected };
                assert!(fits && over == is_over, "{name} in parts of {part}: {output:?}, over: {over}");
            }
        }
    }

    #[test]
    fn lengths_are_those_of_the_body() {
        for answer in [ANSWER, LAST_ANSWER] {
            let text = str::from_utf8(answer).expect("ASCII");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
        }
    }
}

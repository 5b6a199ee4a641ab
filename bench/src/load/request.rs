//! What the client asks for, and what every answer to it must be.
//!
//! A request of most scenarios has one right answer. A **negotiated** one, as browsers send it, has several: the file
//! in any coding that the request accepts, and 304 where it asks whether the file has changed.

use std::fmt::Display;

/// SHA-256 of a file or a body.
pub(crate) type Sha256Bytes = [u8; 32];

/// What every answer must be; anything else is a [`LoadError`](crate::load::error::LoadError).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The status code.
    pub status: u16,
    /// The Content-Length, and the number of bytes that really arrive.
    pub body_bytes: u64,
}

/// One request, its bytes built beforehand.
#[derive(Clone, Debug)]
pub struct Request {
    kept: Box<[u8]>,
    closing: Box<[u8]>,
    expected: Expected,
    negotiated: Option<Negotiated>,
}

/// What differs from file to file where the server chooses how it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// Whether coding makes it smaller: not so for pictures and fonts.
    pub(crate) is_text: bool,
}

impl Request {
    /// A GET for `path` with no field but Host, and Connection on the last request of a connection.
    pub fn new(host: impl Display, path: &str, expected: Expected) -> Request {
        let bytes = |ending| {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{ending}\r\n").into_bytes().into_boxed_slice()
        };
        let (kept, closing) = (bytes(""), bytes("Connection: close\r\n"));
        Request { kept, closing, expected, negotiated: None }
    }

    /// The same with these `fields`, each with its line's end, which let the server choose a coding. `expected` is said
    /// of the file itself.
    pub fn negotiated(
        host: impl Display,
        path: &str,
        fields: &str,
        is_text: bool,
        expected: Expected,
    ) -> Request {
        let bytes = |ending| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}{ending}\r\n");
            request.into_bytes().into_boxed_slice()
        };
        let (kept, closing) = (bytes(""), bytes("Connection: close\r\n"));
        Request { kept, closing, expected, negotiated: Some(Negotiated { is_text }) }
    }

    /// The bytes as they go over the wire; `closing` on the last request of a connection.
    pub(crate) fn bytes(&self, closing: bool) -> &[u8] {
        if closing { &self.closing } else { &self.kept }
    }

    /// The bytes that ask whether the file is still the one with these validators, both of them where both are known,
    /// as browsers do; empty where none is.
    pub(crate) fn again(&self, tag: &[u8], modified: &[u8]) -> Box<[u8]> {
        let fields = [("If-None-Match: ", tag), ("If-Modified-Since: ", modified)];
        let mut bytes = self.kept[..self.kept.len() - 2].to_vec();
        let mut is_known = false;
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            bytes.extend([name.as_bytes(), value, b"\r\n"].concat());
            is_known = true;
        }
        bytes.extend_from_slice(b"\r\n");
        if is_known { bytes.into() } else { Box::default() }
    }

    /// What it was made of: host, path and fields.
    pub(crate) fn parts(&self) -> Option<(&str, &str, &str)> {
        let (path, rest) =
            std::str::from_utf8(&self.kept).ok()?.strip_prefix("GET ")?.split_once(" HTTP/1.1\r\nHost: ")?;
        let (host, fields) = rest.split_once("\r\n")?;
        Some((host, path, fields.strip_suffix("\r\n")?))
    }

    pub(crate) fn choice(&self) -> Option<Negotiated> {
        self.negotiated
    }

    pub(crate) fn expected(&self) -> Expected {
        self.expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_knows_what_it_was_made_of() {
        let expected = Expected { status: 200, body_bytes: 1 };
        let plain = Request::new("localhost:80", "/a?b", expected);
        assert_eq!(plain.parts(), Some(("localhost:80", "/a?b", "")));
        let fields = "Accept: */*\r\nAccept-Encoding: br\r\n";
        let negotiated = Request::negotiated("[::1]:81", "/", fields, true, expected);
        assert_eq!(negotiated.parts(), Some(("[::1]:81", "/", fields)));
    }
}

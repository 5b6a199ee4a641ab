//! What the client asks for, and what every answer to it must be.

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
}

impl Request {
    /// A GET for `path` with no field but Host, and Connection on the last request of a connection.
    pub fn new(host: impl Display, path: &str, expected: Expected) -> Request {
        let bytes = |ending| {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{ending}\r\n").into_bytes().into_boxed_slice()
        };
        let (kept, closing) = (bytes(""), bytes("Connection: close\r\n"));
        Request { kept, closing, expected }
    }

    /// The bytes as they go over the wire; `closing` on the last request of a connection.
    pub(crate) fn bytes(&self, closing: bool) -> &[u8] {
        if closing { &self.closing } else { &self.kept }
    }

    pub(crate) fn expected(&self) -> Expected {
        self.expected
    }
}

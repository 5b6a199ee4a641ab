//! What the client asks for, and what every answer to it must be.

use std::net::SocketAddr;

/// How long a connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Persistence {
    /// The next request leaves on the connection that brought the last answer.
    KeepAlive,
    /// Each request says `Connection: close`, and the server has to end the connection after its answer.
    PerRequest,
}

/// What every answer must be; anything else is a [`Fault`](crate::load::fault::Fault).
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
    bytes: Vec<u8>,
    persistence: Persistence,
    expected: Expected,
}

impl Request {
    /// A GET for `path` with no fields but Host and, where the connection is to end, Connection.
    pub fn get(address: SocketAddr, path: &str, persistence: Persistence, expected: Expected) -> Request {
        let ending = match persistence {
            Persistence::KeepAlive => "",
            Persistence::PerRequest => "Connection: close\r\n",
        };
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{ending}\r\n").into_bytes();
        Request { bytes, persistence, expected }
    }

    /// The bytes as they go over the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the connection outlives the answer.
    pub fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// What the answer must be.
    pub fn expected(&self) -> Expected {
        self.expected
    }
}

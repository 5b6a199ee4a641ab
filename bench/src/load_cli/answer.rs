//! What a server answers before any load.

use super::Url;
use crate::failure::{Failure, Result};
use crate::load::request::{Expected, Request};
use crate::load::response::parse_head;
use rustix::io::retry_on_intr;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server without load that takes longer is no use under load.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks once: what the answer is, all answers have to be.
pub(super) fn learn(address: SocketAddr, url: &Url) -> Result<Expected> {
    let unknown = Expected { status: 0, body_bytes: 0 };
    let request = Request::new(&url.authority, &url.path, unknown);
    let refused = |error: std::io::Error| Failure::new(format!("{address}: {error}"));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(refused)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(refused)?;
    stream.write_all(request.bytes(false)).map_err(refused)?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = retry_on_intr(|| rustix::io::read(&stream, &mut buffer));
        let count = read.map_err(|error| refused(error.into()))?;
        if count == 0 {
            return Err(Failure::new(format!("{address}: the connection ended before an answer")));
        }
        received.extend_from_slice(&buffer[..count]);
        let head = parse_head(&received)
            .map_err(|error| Failure::new(format!("{error}: no answer could be checked")))?;
        if let Some(head) = head {
            return Ok(Expected { status: head.status, body_bytes: head.body_bytes });
        }
    }
}

//! One request on a blocking socket, before any load.

use crate::failure::{Failure, Result};
use crate::load::response::{Head, HeadError, parse_head};
use rustix::io::retry_on_intr;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server without load that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Sends `request` and receives until `is_enough` of its answer is there: the head, and all received bytes.
pub(crate) fn ask(
    address: SocketAddr,
    request: &[u8],
    is_enough: impl Fn(&Head, usize) -> bool,
) -> Result<(Head, Vec<u8>)> {
    let failed = |error: std::io::Error| Failure::new(format!("{address}: {error}"));
    let mut stream = connect(address).map_err(failed)?;
    stream.write_all(request).map_err(failed)?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = retry_on_intr(|| rustix::io::read(&stream, &mut buffer));
        let count = read.map_err(|errno| failed(errno.into()))?;
        if count == 0 {
            return Err(Failure::new(format!("{address}: the connection ended before an answer")));
        }
        answer.extend_from_slice(&buffer[..count]);
        let head = parse_head(&answer)
            .and_then(|head| match head {
                Some(head) if head.is_chunked => Err(HeadError::TransferCoding),
                head => Ok(head),
            })
            .map_err(|error| Failure::new(format!("{error}: no answer could be checked")))?;
        if let Some(head) = head.filter(|head| is_enough(head, answer.len())) {
            return Ok((head, answer));
        }
    }
}

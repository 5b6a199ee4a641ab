//! C18: a send that doesn't fit.

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::calls::{epoll_add, epoll_create, epoll_wait, pair, receive, send_bytes};
use super::{Script, Stop};

/// More than the buffers of two sockets hold.
const BYTES: usize = 1024 * 1024;

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    let (writer, reader) = pair(script)?;
    let epoll = epoll_create(script)?;
    epoll_add(script, &epoll, &writer, EventFlags::OUT | EventFlags::ET)?;
    // The room that is there at first.
    epoll_wait(script, &epoll, 0)?;
    let bytes = vec![b'x'; BYTES];
    let (mut sent, mut received, mut fills, mut untold) = (0, 0, 0, false);
    while sent < BYTES {
        match send_bytes(script, &writer, &bytes[sent..]) {
            Ok(count) => sent += count,
            Err(Errno::AGAIN) => {
                fills += 1;
                // While there is no room there is no event; when the reader has made some, there is one.
                let before = epoll_wait(script, &epoll, 0)?;
                received += drain(script, &reader)?;
                let after = epoll_wait(script, &epoll, 0)?;
                untold |= !before.is_empty() || !after.iter().any(|flags| flags.contains(EventFlags::OUT));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    received += drain(script, &reader)?;
    script.found(format_args!("{sent} bytes sent, {received} received; {fills} times the rest had to wait"));
    Ok(fills > 0 && !untold && received == BYTES)
}

/// Receives until there is nothing left.
fn drain(script: &mut Script, reader: &std::os::fd::OwnedFd) -> Result<usize, Stop> {
    let mut received = 0;
    loop {
        match receive(script, reader, BYTES) {
            Ok(count) => received += count,
            Err(Errno::AGAIN) => return Ok(received),
            Err(errno) => return Err(errno.into()),
        }
    }
}

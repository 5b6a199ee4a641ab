//! C16: half of the bytes are read; what do the level and the edge say?

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::calls::{epoll_add, epoll_create, epoll_wait, pair, receive, send_bytes};
use super::{Script, Stop};

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    script.found("level-triggered");
    let level = tells(script, EventFlags::IN)?;
    script.found("edge-triggered");
    let edge = tells(script, EventFlags::IN | EventFlags::ET)?;
    Ok(level == [true, true, false, true] && edge == [true, false, false, true])
}

/// Whether epoll tells of 8 bytes; of the other half when 4 were read; of nothing when all were; and of the next ones.
fn tells(script: &mut Script, flags: EventFlags) -> Result<[bool; 4], Stop> {
    let (reader, writer) = pair(script)?;
    let epoll = epoll_create(script)?;
    epoll_add(script, &epoll, &reader, flags)?;
    send_bytes(script, &writer, b"12345678")?;
    let arrival = !epoll_wait(script, &epoll, 0)?.is_empty();
    receive(script, &reader, 4)?;
    let half = !epoll_wait(script, &epoll, 0)?.is_empty();
    receive(script, &reader, 4)?;
    if receive(script, &reader, 4) != Err(Errno::AGAIN) {
        return Err(Stop("the socket isn't drained by what was sent".to_owned()));
    }
    let drained = !epoll_wait(script, &epoll, 0)?.is_empty();
    send_bytes(script, &writer, b"1234")?;
    let next = !epoll_wait(script, &epoll, 0)?.is_empty();
    Ok([arrival, half, drained, next])
}

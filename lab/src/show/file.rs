//! C3: epoll and a regular file.

use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags, fcntl_getfl, open};
use rustix::io::Errno;

use super::calls::{epoll_add, epoll_create, number, pair, read_file};
use super::{Script, Stop};

/// A regular file that is always there: the program itself.
const FILE: &str = "/proc/self/exe";

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = open(FILE, flags, Mode::empty());
    let told = opened.as_ref().map(number).map_err(|errno| *errno);
    script.called(format!("open({FILE:?}, O_RDONLY|O_NONBLOCK)"), told)?;
    let file = opened?;
    let is_non_blocking = fcntl_getfl(&file)?.contains(OFlags::NONBLOCK);
    script.called(format!("fcntl({}, F_GETFL) & O_NONBLOCK", number(&file)), Ok(is_non_blocking))?;
    let epoll = epoll_create(script)?;
    let refused = epoll_add(script, &epoll, &file, EventFlags::IN);
    let (socket, _peer) = pair(script)?;
    let accepted = epoll_add(script, &epoll, &socket, EventFlags::IN);
    let read = read_file(script, &file, 4096)?;
    Ok(refused == Err(Errno::PERM) && accepted.is_ok() && is_non_blocking && read > 0)
}

//! C14: the descriptor that select has no place for.

use std::os::fd::AsFd;

use nix::sys::select::{FD_SETSIZE, FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::calls::{number, pair, poll_readable, send_bytes};
use super::{Script, Stop};
use crate::limits::{descriptors_max, raise_descriptors};

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    raise_descriptors();
    let (reader, writer) = pair(script)?;
    send_bytes(script, &writer, b"x")?;
    let size = i32::try_from(FD_SETSIZE)?;
    if let Some(max) = descriptors_max().filter(|max| *max <= FD_SETSIZE as u64) {
        return Err(Stop(format!(
            "there is no descriptor {FD_SETSIZE}: {max} descriptors are allowed (`ulimit -Hn`)"
        )));
    }
    let mut copy = |least: i32| {
        let copy = fcntl_dupfd_cloexec(&reader, least);
        let told = copy.as_ref().map(number).map_err(|errno| *errno);
        script.called(format!("fcntl({}, F_DUPFD_CLOEXEC, {least})", number(&reader)), told)?;
        copy
    };
    let beyond = copy(size)?;
    // The last one that has a place is 1,023; a lower one does if that is taken.
    let within = copy(size - 1).ok().filter(|copy| number(copy) < size);
    let within = within.map_or_else(|| reader.try_clone(), Ok)?;
    let mut set = FdSet::new();
    set.insert(within.as_fd());
    let ready = select(None, Some(&mut set), None, None, Some(&mut TimeVal::milliseconds(0)));
    let ready = ready.map_err(|errno| Errno::from_raw_os_error(errno as i32));
    let is_told = script
        .called(format!("select({}, [{}], timeout 0)", number(&within) + 1, number(&within)), ready)?
        == 1;
    let bits = 8 * size_of::<FdSet>();
    script.found(format_args!("the set has {bits} bits: none for descriptor {}", number(&beyond)));
    let polled = poll_readable(script, &beyond)?;
    Ok(is_told && bits == FD_SETSIZE && number(&beyond) >= size && polled)
}

//! Accepting: one connection at a time, and what a failure means.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};

/// Takes one connection; its address only where somebody wants to know it.
pub(crate) fn accept_one(
    listener: &OwnedFd,
    wants_peer: bool,
) -> rustix::io::Result<(OwnedFd, Option<IpAddr>)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    if !wants_peer {
        return Ok((accept_with(listener, flags)?, None));
    }
    let (socket, address) = acceptfrom_with(listener, flags)?;
    let peer = address.and_then(|address| SocketAddr::try_from(address).ok());
    Ok((socket, peer.map(|peer| peer.ip().to_canonical())))
}

/// Whether an accept failed for the one connection that it tried to take: the next may succeed. Besides an
/// aborted handshake, Linux reports errors already pending on the new socket this way (accept(2)).
pub(crate) fn is_of_the_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PERM
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::NONET
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::TIMEDOUT
    )
}

//! What all servers do alike with the sockets of their clients.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::GetSockOpt;
use nix::{getsockopt_impl, sockopt_impl};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrAny, SocketFlags,
    accept_with, acceptfrom_with, connect_unspec, getpeername, recv, send, sendmsg, shutdown, sockopt,
};

use crate::machine::chunks::{PIECES_MAX, Pieces};
use crate::machine::peer::Peer;
use crate::machine::progress::Delivery;
use arrayvec::ArrayVec;

/// How long a listener pauses after descriptors, memory or threads have run out, unless a connection closes first.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Received at once of what nobody reads,
const UNREAD_BYTES: usize = 16 * 1024;
/// and so often, before a connection ends.
const UNREAD_RECEIVES_MAX: usize = 64;

/// Why an accept has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// No connection is waiting.
    Empty,
    /// The one connection that it tried to take is gone; the next may be accepted at once. Besides an aborted
    /// handshake, Linux reports errors already pending on the new socket this way (accept(2), "Error handling").
    Connection,
    /// Descriptors or memory have run out, or the listener is unusable. Repeated at once it would fail again: pause.
    Exhausted,
}

impl From<Errno> for AcceptError {
    fn from(errno: Errno) -> AcceptError {
        match errno {
            Errno::AGAIN => AcceptError::Empty,
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
            | Errno::TIMEDOUT => AcceptError::Connection,
            _ => AcceptError::Exhausted,
        }
    }
}

/// Takes one connection from a non-blocking listener. Its peer is only asked for where the log wants it.
///
/// # Errors
/// See [`AcceptError`].
pub fn accept(
    listener: &OwnedFd,
    flags: SocketFlags,
    wants_peer: bool,
) -> Result<(OwnedFd, Option<Peer>), AcceptError> {
    let flags = flags | SocketFlags::CLOEXEC;
    if !wants_peer {
        return Ok((accept_with(listener, flags)?, None));
    }
    let (socket, address) = acceptfrom_with(listener, flags)?;
    Ok((socket, address.and_then(peer_at)))
}

/// The peer of a connected socket (getpeername(2)).
#[must_use]
pub fn peer_of(socket: &OwnedFd) -> Option<Peer> {
    peer_at(getpeername(socket).ok()??)
}

/// Whether a connection waits to be accepted. This doesn't wait.
#[must_use]
pub fn has_connection(listener: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Whether nothing has come from the client that hasn't been received. This doesn't wait.
#[must_use]
pub fn is_silent(socket: impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    !recv(socket, &mut [0; 1], flags).is_ok_and(|(received, _)| received > 0)
}

fn peer_at(address: SocketAddrAny) -> Option<Peer> {
    // Clients of a unix socket have no name of their own.
    if address.address_family() == AddressFamily::UNIX {
        return Some(Peer::Unix);
    }
    SocketAddr::try_from(address).ok().map(Peer::from)
}

/// Sends pieces of memory with one call: send(2) if there is one, else sendmsg(2).
///
/// # Errors
/// Those of send(2).
pub fn send_pieces(socket: impl AsFd, pieces: &Pieces<'_>, flags: SendFlags) -> rustix::io::Result<usize> {
    let flags = flags | SendFlags::NOSIGNAL;
    if let [piece] = pieces.as_slice() {
        return send(socket, piece.bytes(), flags);
    }
    let slices: ArrayVec<IoSlice<'_>, PIECES_MAX> =
        pieces.iter().map(|piece| IoSlice::new(piece.bytes())).collect();
    sendmsg(socket, &slices, &mut SendAncillaryBuffer::default(), flags)
}

sockopt_impl!(
    /// The first words of the kernel's `struct tcp_info` (tcp(7)), which only ever grows at its end. It has had them
    /// since Linux 4.6.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u64; 19]
);

/// Where those of its fields are that matter here: `tcpi_unacked` counts segments, the others bytes.
const UNACKED_AT: usize = 24;
const BYTES_ACKED_AT: usize = 120;
const NOTSENT_BYTES_AT: usize = 144;

/// What a socket knows of the bytes that it was given to send: one getsockopt(2). `None` if it can't tell, because it
/// isn't one of TCP.
#[must_use]
pub fn delivery(socket: &impl AsFd) -> Option<Delivery> {
    let words = TcpInfo.get(socket).ok()?;
    let word_at = |offset: usize| words[offset / 8].to_ne_bytes();
    let half_at = |offset: usize| {
        let word = word_at(offset);
        let half = &word[offset % 8..][..4];
        u32::from_ne_bytes(half.try_into().expect("four bytes"))
    };
    Some(Delivery {
        acknowledged: u64::from_ne_bytes(word_at(BYTES_ACKED_AT)),
        is_complete: half_at(UNACKED_AT) == 0 && half_at(NOTSENT_BYTES_AT) == 0,
    })
}

/// Whether bytes wait in the socket to be received.
#[must_use]
pub fn has_bytes(socket: impl AsFd) -> bool {
    ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0)
}

/// Ends a connection in the ordinary way, and wakes whoever waits on the socket: what the kernel has taken is still sent,
/// and the end behind it, even if the process is gone by then.
pub fn end(socket: impl AsFd) {
    // Fails only where there is nothing left to end.
    let _ended = shutdown(&socket, Shutdown::Both);
    // What nobody has read would make the close a reset (RFC 9293 §3.10.4).
    discard_unread(socket.as_fd());
}

/// Receives what is there, and forgets it. Never inlined: the buffer would be a part of its caller's frame, all pages of
/// which are touched when it is entered, and a thread per connection would keep them for as long as the connection lasts.
#[inline(never)]
fn discard_unread(socket: BorrowedFd<'_>) {
    let mut unread = [0; UNREAD_BYTES];
    for _ in 0..UNREAD_RECEIVES_MAX {
        let received = recv(socket, &mut unread, RecvFlags::DONTWAIT);
        if !received.is_ok_and(|(received, _)| received > 0) {
            break;
        }
    }
}

/// Resets a connection: what was not sent is discarded, and whoever waits on the socket is woken. connect(2) to nowhere
/// (`AF_UNSPEC`) does that at once.
pub fn reset(socket: impl AsFd) {
    // Where that is refused (another thread waits on the socket, Linux 6.4): the close will be a reset, and the shutdown
    // wakes. Neither can fail on a connected socket, and on another one there is nothing left to end.
    if connect_unspec(&socket).is_err() {
        let _lingering = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        let _ended = shutdown(&socket, Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    #[test]
    fn accept_errors_fall_into_three_kinds() {
        for (errno, kind) in [
            (Errno::AGAIN, AcceptError::Empty),
            (Errno::CONNABORTED, AcceptError::Connection),
            (Errno::PROTO, AcceptError::Connection),
            (Errno::PERM, AcceptError::Connection),
            (Errno::MFILE, AcceptError::Exhausted),
            (Errno::NFILE, AcceptError::Exhausted),
            (Errno::NOBUFS, AcceptError::Exhausted),
            (Errno::NOMEM, AcceptError::Exhausted),
            (Errno::BADF, AcceptError::Exhausted),
        ] {
            assert_eq!(AcceptError::from(errno), kind, "{errno}");
        }
    }

    #[test]
    fn a_socket_knows_what_was_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut ours = TcpStream::connect(listener.local_addr().expect("a name")).expect("connected");
        let (mut theirs, _) = listener.accept().expect("accepted");
        let begun = Instant::now();
        let settled = |ours: &TcpStream, is_complete: bool| loop {
            let delivery = delivery(ours).expect("of TCP");
            if delivery.is_complete == is_complete {
                return delivery.acknowledged;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{delivery:?} after {:?}", begun.elapsed());
        };
        let before = settled(&ours, true);
        ours.write_all(&[0; 1000]).expect("written");
        assert_eq!(settled(&ours, true) - before, 1000);
        ours.set_nonblocking(true).expect("non-blocking");
        let mut sent = 1000;
        while let Ok(more) = ours.write(&[0; 100_000]) {
            sent += more as u64;
        }
        let part = settled(&ours, false) - before;
        assert!((1000..sent).contains(&part), "{part} of {sent}");
        assert!(!has_bytes(&ours) && has_bytes(&theirs));
        let mut unread = sent;
        while unread > 0 {
            unread -= theirs.read(&mut [0; 100_000]).expect("read") as u64;
        }
        assert_eq!(settled(&ours, true) - before, sent);
        assert!(!has_bytes(&theirs));
    }

    #[test]
    fn other_sockets_cannot_tell() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        assert_eq!(delivery(&ours), None);
    }

    #[test]
    fn an_end_loses_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("a name")).expect("connected");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let (mut socket, _) = listener.accept().expect("accepted");
        client.write_all(&[1; 100_000]).expect("written");
        while !has_bytes(&socket) {}
        socket.set_nonblocking(true).expect("non-blocking");
        let mut sent = 0;
        while let Ok(more) = socket.write(&[2; 100_000]) {
            sent += more;
        }
        end(&socket);
        drop(socket);
        let mut received = Vec::new();
        client.read_to_end(&mut received).expect("an orderly end");
        assert_eq!(received.len(), sent);
    }

    #[test]
    fn a_reset_is_what_the_client_sees() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("a name")).expect("connected");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let (socket, _) = listener.accept().expect("accepted");
        reset(&socket);
        drop(socket);
        let error = client.read(&mut [0; 1]).expect_err("nothing to read");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    /// A listener that doesn't wait, as the servers have them, and a client that has connected to it.
    fn connected() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("a name")).expect("connected");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        listener.set_nonblocking(true).expect("set");
        (listener.into(), client)
    }

    #[test]
    fn a_connection_is_taken_with_its_peer_or_without() {
        for wants_peer in [false, true] {
            let (listener, client) = connected();
            assert!(has_connection(&listener));
            let (socket, peer) = accept(&listener, SocketFlags::NONBLOCK, wants_peer).expect("accepted");
            let name = client.local_addr().expect("a name");
            assert_eq!(peer, wants_peer.then(|| name.into()));
            assert_eq!(peer_of(&socket), Some(name.into()));
            assert!(!has_connection(&listener));
            let none = accept(&listener, SocketFlags::empty(), wants_peer);
            assert_eq!(none.map(drop), Err(AcceptError::Empty));
            let flags = (rustix::io::fcntl_getfd(&socket), rustix::fs::fcntl_getfl(&socket));
            assert!(flags.0.is_ok_and(|flags| flags.contains(rustix::io::FdFlags::CLOEXEC)));
            assert!(flags.1.is_ok_and(|flags| flags.contains(rustix::fs::OFlags::NONBLOCK)));
        }
    }

    #[test]
    fn clients_of_a_unix_socket_have_no_name() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let _client = std::os::unix::net::UnixStream::connect(&path).expect("connected");
        let (socket, peer) = accept(&listener.into(), SocketFlags::empty(), true).expect("accepted");
        assert_eq!((peer, peer_of(&socket)), (Some(Peer::Unix), Some(Peer::Unix)));
        assert_eq!(peer.map(|peer| peer.to_string()).as_deref(), Some("unix:"));
    }

    #[test]
    fn a_reset_of_a_unix_socket_is_an_end() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        reset(&ours);
        assert_eq!(theirs.read(&mut [0; 1]).expect("an end, while it is still open"), 0);
    }

    #[test]
    fn a_socket_is_silent_until_something_has_come() {
        let (listener, mut client) = connected();
        let (socket, _) = accept(&listener, SocketFlags::empty(), false).expect("accepted");
        assert!(is_silent(&socket) && !has_bytes(&socket));
        client.write_all(b"x").expect("written");
        let mut events = [PollFd::new(&socket, PollFlags::IN)];
        poll(&mut events, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).expect("it comes");
        assert!(!is_silent(&socket) && has_bytes(&socket), "looking takes nothing");
        assert!(!is_silent(&socket));
        let (listener, client) = connected();
        let (socket, _) = accept(&listener, SocketFlags::empty(), false).expect("accepted");
        client.shutdown(std::net::Shutdown::Write).expect("half closed");
        let mut events = [PollFd::new(&socket, PollFlags::IN)];
        poll(&mut events, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).expect("it comes");
        assert!(is_silent(&socket) && !has_bytes(&socket), "an end is nothing that was sent");
    }
}

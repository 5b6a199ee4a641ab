//! System calls that write themselves down: the arguments in the script are those of the call.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname, listen, recv, send,
    socket_with, socketpair, sockopt,
};

use super::{Script, Stop};

type Result<T> = std::result::Result<T, Errno>;

/// Where a scene listens: any free port of the loopback.
pub(super) const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A descriptor's number.
pub(super) fn number(descriptor: &impl AsRawFd) -> i32 {
    descriptor.as_raw_fd()
}

/// A descriptor in a script is its number.
struct Number(OwnedFd);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_raw_fd().fmt(f)
    }
}

/// The names of flags, as in the manual.
fn names(flags: EventFlags) -> String {
    let names: Vec<String> = flags.iter_names().map(|(name, _)| format!("EPOLL{name}")).collect();
    if names.is_empty() { "0".to_owned() } else { names.join("|") }
}

pub(super) fn epoll_create(script: &mut Script) -> Result<OwnedFd> {
    let made = epoll::create(CreateFlags::CLOEXEC).map(Number);
    script.called("epoll_create1(EPOLL_CLOEXEC)", made).map(|made| made.0)
}

pub(super) fn epoll_add(
    script: &mut Script,
    epoll: &OwnedFd,
    descriptor: &(impl AsFd + AsRawFd),
    flags: EventFlags,
) -> Result<()> {
    let data = EventData::new_u64(number(descriptor).unsigned_abs().into());
    let added = epoll::add(epoll, descriptor, data, flags).map(|()| 0);
    let (epoll, descriptor) = (number(epoll), number(descriptor));
    let call = format!("epoll_ctl({epoll}, EPOLL_CTL_ADD, {descriptor}, {})", names(flags));
    script.called(call, added).map(|_| ())
}

/// What epoll has to tell now, or within `milliseconds`.
pub(super) fn epoll_wait(script: &mut Script, epoll: &OwnedFd, milliseconds: u32) -> Result<Vec<EventFlags>> {
    struct Events(Vec<EventFlags>);
    impl fmt::Display for Events {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let texts: Vec<String> = self.0.iter().map(|flags| names(*flags)).collect();
            write!(f, "{} [{}]", self.0.len(), texts.join(", "))
        }
    }
    let timeout = Timespec {
        tv_sec: i64::from(milliseconds / 1_000),
        tv_nsec: i64::from(milliseconds % 1_000) * 1_000_000,
    };
    let mut events = Vec::with_capacity(8);
    let waited = epoll::wait(epoll, spare_capacity(&mut events), Some(&timeout));
    let waited = waited.map(|_| Events(events.iter().map(|event| event.flags).collect()));
    let call = format!("epoll_wait({}, events, {}, {milliseconds} ms)", number(epoll), events.capacity());
    script.called(call, waited).map(|events| events.0)
}

/// Two connected sockets, non-blocking.
pub(super) fn pair(script: &mut Script) -> Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let made = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let text = made.as_ref().map(|(one, other)| format!("[{}, {}]", number(one), number(other)));
    let _told = script.called("socketpair(AF_UNIX, SOCK_STREAM|SOCK_NONBLOCK)", text.map_err(|errno| *errno));
    made
}

pub(super) fn receive(script: &mut Script, socket: &OwnedFd, length: usize) -> Result<usize> {
    let received = recv(socket, &mut vec![0; length][..], RecvFlags::empty()).map(|(count, _)| count);
    script.called(format!("recv({}, buffer, {length})", number(socket)), received)
}

pub(super) fn send_bytes(script: &mut Script, socket: &OwnedFd, bytes: &[u8]) -> Result<usize> {
    let sent = send(socket, bytes, SendFlags::NOSIGNAL);
    script.called(format!("send({}, bytes, {})", number(socket), bytes.len()), sent)
}

pub(super) fn read_file(script: &mut Script, file: &OwnedFd, length: usize) -> Result<usize> {
    let read = rustix::io::read(file, &mut vec![0; length][..]);
    script.called(format!("read({}, buffer, {length})", number(file)), read)
}

/// Whether poll(2) says that there is something to read.
pub(super) fn poll_readable(script: &mut Script, descriptor: &(impl AsFd + AsRawFd)) -> Result<bool> {
    let mut fds = [PollFd::new(descriptor, PollFlags::IN)];
    let ready = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    let is_readable = fds[0].revents().contains(PollFlags::IN);
    script.called(format!("poll([{}: POLLIN], 1, 0)", number(descriptor)), ready)?;
    Ok(is_readable)
}

/// A socket that listens, non-blocking, with `SO_REUSEPORT` if it is to share its port.
pub(super) fn listen_at(script: &mut Script, address: SocketAddr, shares: bool) -> Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let made = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).map(Number);
    let socket = script.called("socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK)", made)?.0;
    let name = number(&socket);
    if shares {
        let set = sockopt::set_socket_reuseport(&socket, true).map(|()| 0);
        script.called(format!("setsockopt({name}, SOL_SOCKET, SO_REUSEPORT, 1)"), set)?;
    }
    script.called(format!("bind({name}, {address})"), bind(&socket, &address).map(|()| 0))?;
    script.called(format!("listen({name}, {BACKLOG})"), listen(&socket, BACKLOG).map(|()| 0))?;
    Ok(socket)
}

/// Where a socket listens.
pub(super) fn address_of(socket: &OwnedFd) -> std::result::Result<SocketAddr, Stop> {
    Ok(SocketAddr::try_from(getsockname(socket)?)?)
}

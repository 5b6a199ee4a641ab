//! The socket between the keeper and a server: lines of JSON, and open descriptors beside them (unix(7), `SCM_RIGHTS`).

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use common::KeeperCounts;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Descriptors that one message carries, at most; the kernel takes 253 (`SCM_MAX_FD`).
const DESCRIPTORS_MAX: usize = 128;
/// Received at once.
const RECEIVE_BYTES: usize = 4096;
/// No line is longer than this; whoever sends one is no keeper and no server of ours.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What the two say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Sockets that listen at this address; more of the same address may follow.
    Listen(String),
    /// The access log's file.
    Log,
    /// The socket of the admin listener, at this address.
    Admin(String),
    /// That was all: serve.
    Serve,
    /// This signal has come: the first one starts the drain, a second one ends it.
    End(i32),
    /// Drain: another server has taken over.
    HandOver,
    /// Read the rules again, and go on in this log file, if there is one beside.
    Reload,
    /// From a server: it is ready, and waits for [`Accept`](Message::Accept).
    Ready,
    /// Accept connections: no other server does.
    Accept,
    /// From a server that has handed over: it accepts nobody any more.
    Closed,
    /// From a server: its root's path leads elsewhere.
    Moved,
    /// What the keeper has done so far: to a server before it serves and whenever that changes, and to the keeper's next
    /// incarnation.
    Counts(Counts),
    /// What a program of another version says, and this one doesn't know.
    #[serde(skip)]
    Unknown,
    /// To the keeper's next incarnation: what others see while it lives, and the paths of unix sockets with what tells
    /// them from others that may be there later.
    Names(Vec<(PathBuf, (u64, u64, i64, u64))>),
    /// To the keeper's next incarnation: a server, and the channel to it.
    Server {
        /// Its process.
        pid: i32,
        /// Whether it serves, or leaves.
        serves: bool,
    },
}

/// [`KeeperCounts`], as they are sent. Those of another version may lack some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    pub(crate) starts: u64,
    pub(crate) restarts: u64,
    pub(crate) upgrades: u64,
    pub(crate) failed_upgrades: u64,
    pub(crate) switches: u64,
    pub(crate) failed_switches: u64,
    /// The keeper's.
    version: String,
}

impl Counts {
    /// As this program says them.
    pub(crate) fn as_own(&self) -> Counts {
        Counts { version: env!("CARGO_PKG_VERSION").to_owned(), ..self.clone() }
    }
}

impl From<Counts> for KeeperCounts {
    fn from(counts: Counts) -> KeeperCounts {
        let Counts { starts, restarts, upgrades, failed_upgrades, switches, failed_switches, version } =
            counts;
        KeeperCounts { version, starts, restarts, upgrades, failed_upgrades, switches, failed_switches }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Line<M> {
    message: M,
    descriptors: usize,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    bytes: VecDeque<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Channel {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Channel::over(ours), theirs))
    }

    pub(crate) fn over(socket: OwnedFd) -> Channel {
        Channel { socket, bytes: VecDeque::new(), descriptors: VecDeque::new() }
    }

    /// Says something, and hands over descriptors with it. A channel whose other end is gone takes nothing.
    pub(crate) fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self.socket.as_fd(), message, descriptors)
    }

    /// The other end of a thread's own.
    pub(crate) fn sender(&self) -> io::Result<Sender> {
        Ok(Sender(self.socket.try_clone()?))
    }

    /// Waits for the next message; `None` at the end.
    pub(crate) fn receive(&mut self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if !self.read(RecvFlags::empty())? {
                return Ok(None);
            }
        }
    }

    /// The messages that have come; and whether more may. This doesn't wait.
    pub(crate) fn pending(&mut self) -> io::Result<(Vec<Message>, bool)> {
        let mut messages = Vec::new();
        let open = match self.read(RecvFlags::DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            open => open?,
        };
        while let Some((message, _)) = self.take()? {
            messages.push(message);
        }
        Ok((messages, open))
    }

    /// Whether there may be more.
    fn read(&mut self, flags: RecvFlags) -> io::Result<bool> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [0; RECEIVE_BYTES];
        let received = loop {
            let slices = &mut [IoSliceMut::new(&mut buffer)];
            match recvmsg(&self.socket, slices, &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(false),
                received => break received?.bytes,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.bytes.extend(&buffer[..received]);
        Ok(received > 0)
    }

    /// The next whole line, and its descriptors.
    fn take(&mut self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "nobody who is known speaks here");
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else {
            return if self.bytes.len() > LINE_BYTES_MAX { Err(wrong()) } else { Ok(None) };
        };
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        let line = serde_json::from_slice::<Line<Value>>(&line).map_err(|_| wrong())?;
        let Line { message, descriptors } = line;
        let message = serde_json::from_value(message).unwrap_or(Message::Unknown);
        if descriptors > self.descriptors.len() {
            return Err(wrong());
        }
        Ok(Some((message, self.descriptors.drain(..descriptors).collect())))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An end that only speaks.
#[derive(Debug)]
pub(crate) struct Sender(OwnedFd);

impl Sender {
    pub(crate) fn send(&self, message: &Message) -> io::Result<()> {
        send(self.0.as_fd(), message, &[])
    }
}

/// One call to sendmsg(2): the line is short, so the kernel takes it as a whole.
fn send(socket: BorrowedFd<'_>, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut parts = descriptors.chunks(DESCRIPTORS_MAX);
    let mut part = parts.next().unwrap_or_default();
    loop {
        let mut line = serde_json::to_vec(&Line { message, descriptors: part.len() })?;
        line.push(b'\n');
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !part.is_empty() && !control.push(SendAncillaryMessage::ScmRights(part)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut rest = &line[..];
        while !rest.is_empty() {
            match sendmsg(socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    rest = &rest[sent..];
                    control.clear();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        match parts.next() {
            Some(next) => part = next,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn descriptors_arrive_with_their_message() {
        let (ours, theirs) = Channel::pair().expect("a pair");
        let mut theirs = Channel::over(theirs);
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        let null = File::open("/dev/null").expect("opened");
        let many: Vec<_> = std::iter::repeat_n(null.as_fd(), DESCRIPTORS_MAX + 3).collect();
        ours.send(&Message::Serve, &[]).expect("sent");
        ours.send(&Message::Listen("a \"b\"\n\u{e9}".to_owned()), &many).expect("sent");
        ours.send(&Message::Log, &[writer.as_fd()]).expect("sent");
        ours.send(&Message::End(15), &[]).expect("sent");
        let mut next = || theirs.receive().expect("received").expect("not the end");
        assert_eq!(next().0, Message::Serve);
        for count in [DESCRIPTORS_MAX, 3] {
            let (message, descriptors) = next();
            assert_eq!((message, descriptors.len()), (Message::Listen("a \"b\"\n\u{e9}".to_owned()), count));
        }
        let (message, mut descriptors) = next();
        assert_eq!((message, descriptors.len()), (Message::Log, 1));
        let mut copy = File::from(descriptors.remove(0));
        copy.write_all(b"x").and_then(|()| writer.write_all(b"y")).expect("written");
        let mut read = [0; 2];
        reader.read_exact(&mut read).expect("read");
        assert_eq!((&read, next().0), (b"xy", Message::End(15)));
        assert_eq!(theirs.pending().expect("nothing"), (Vec::new(), true));
        drop(ours);
        assert!(theirs.receive().expect("received").is_none());
        assert_eq!(theirs.pending().expect("the end"), (Vec::new(), false));
    }

    /// An upgrade may come from a program that says less, or go to one that says more.
    #[test]
    fn what_other_versions_say_ends_nothing() {
        let (mut ours, theirs) = Channel::pair().expect("a pair");
        let lines = br#"{"message":{"Hue":7},"descriptors":0}
{"message":"Hue","descriptors":0,"more":1}
{"message":{"Counts":{"starts":3,"hues":1}},"descriptors":0}
"#;
        rustix::io::write(&theirs, lines).expect("written");
        let mut next = || ours.receive().expect("received").expect("not the end").0;
        assert_eq!((next(), next()), (Message::Unknown, Message::Unknown));
        let counts = Counts { starts: 3, ..Counts::default() };
        assert_eq!(next(), Message::Counts(counts));
    }

    #[test]
    fn nobody_else_is_understood() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"{\"message\":\"Log\",\"descriptors\":1}\n", b"\n"] {
            let (mut ours, theirs) = Channel::pair().expect("a pair");
            rustix::io::write(&theirs, bytes).expect("written");
            assert_eq!(ours.receive().expect_err("refused").kind(), io::ErrorKind::InvalidData);
        }
        let (mut ours, theirs) = Channel::pair().expect("a pair");
        rustix::io::write(&theirs, &[b'x'; LINE_BYTES_MAX + 1]).expect("written");
        assert_eq!(ours.receive().expect_err("refused").kind(), io::ErrorKind::InvalidData);
    }
}

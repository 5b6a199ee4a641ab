//! A client: a connection, its socket, and what is in flight for it.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use common::connection::{Connection, Step};
use common::site::SharedFile;
use common::worker::Worker;
use rustix::io::ioctl_fionbio;
use rustix::net::{self, Shutdown, sockopt};

use crate::ring::{Flight, Socket};

/// A connection and its socket.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) socket: Socket,
    pub(crate) receiving: Receiving,
    pub(crate) doing: Doing,
    /// Calls on the socket don't wait (`O_NONBLOCK`). Operations of the ring would fail instead of waiting.
    pub(crate) is_nonblocking: bool,
    /// The file of the answer under way; shared with the connection, so that whoever lets go of it last can
    /// see that.
    pub(crate) file: Option<Arc<SharedFile>>,
}

/// What the receive of a client is doing.
#[derive(Clone, Copy)]
pub(crate) enum Receiving {
    /// There has been none.
    New,
    /// It is not in flight.
    Off,
    /// It found no buffer. It is armed again at the end of the turn, when there are some.
    Starved,
    /// It is in flight.
    Armed(Flight),
    /// It was cancelled, and has not ended yet.
    Ending,
    /// The client has closed its side, or the connection broke: there is nothing more to come.
    Over,
}

/// What else is in flight for a client.
#[derive(Clone, Copy)]
pub(crate) enum Doing {
    /// Nothing.
    Waiting,
    /// A file is being opened, by the ring or by the lister.
    Opening,
    /// A small file is being read for the cache.
    Loading,
    /// A piece of the answer is being sent, or waits for room.
    Sending,
    /// The client is going. `owed`: what it was doing has yet to end.
    Leaving { owed: bool },
}

impl Client {
    /// Whether nothing of it is in flight any more.
    pub(crate) fn is_landed(&self) -> bool {
        let is_receiving = matches!(self.receiving, Receiving::Armed(_) | Receiving::Ending);
        !is_receiving && matches!(self.doing, Doing::Leaving { owed: false })
    }

    /// Makes the socket right for what comes: system calls that don't wait, or operations of the ring that do.
    /// An operation looks at it once, when it begins, so a receive in flight goes on. Whether it is so now.
    pub(crate) fn set_nonblocking(&mut self, nonblocking: bool) -> bool {
        if self.is_nonblocking != nonblocking && ioctl_fionbio(&self.socket, nonblocking).is_ok() {
            self.is_nonblocking = nonblocking;
        }
        self.is_nonblocking == nonblocking
    }

    /// Asks the socket whether it was reset, when a request isn't whole and nothing is about to be sent. A
    /// reset that comes right behind bytes is lost on a multishot receive: both wake it up, it reads the
    /// bytes, sees that there are no more, and waits for another event (liburing's issue 1549 has the story
    /// for sockets that are closed). A send would notice by itself.
    pub(crate) fn look_for_reset(&mut self, worker: &mut Worker) {
        if let Step::Receive = self.connection.step()
            && let Ok(Err(_)) = sockopt::socket_error(&self.socket)
        {
            self.connection.failed(worker);
        }
    }
}

/// Sends a reset and ends all that is in flight on the socket: connect(2) to nowhere discards what was not
/// sent.
pub(crate) fn reset(socket: &Socket) {
    // Where that is refused: the close will be a reset, and what is in flight ends with the shutdown. Neither
    // can fail on a connected socket, and on another one there is nothing left to end.
    if net::connect_unspec(socket).is_err() {
        let _lingering = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        let _ended = net::shutdown(socket, Shutdown::Both);
    }
}

/// Whose address is at the other end.
pub(crate) fn peer_of(socket: &OwnedFd) -> Option<IpAddr> {
    let address = std::net::SocketAddr::try_from(net::getpeername(socket).ok()??).ok()?;
    Some(address.ip().to_canonical())
}

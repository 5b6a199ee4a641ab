//! A client: a connection, its socket, and what is in flight for it.

use std::sync::Arc;

use common::{Connection, SharedFile, Step, Worker};
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt;

use crate::ring::{Flight, Socket};

/// A connection and its socket.
pub(crate) struct Client {
    pub(crate) socket: Socket,
    pub(crate) connection: Connection,
    pub(crate) receiving: Receiving,
    pub(crate) doing: Doing,
    /// System calls on the socket don't wait (`O_NONBLOCK`). Operations of the ring would fail instead of waiting.
    pub(crate) is_nonblocking: bool,
    /// An open or a read is in flight that the client has given up.
    pub(crate) has_given_up: bool,
    /// A share of the file that is being sent, so that whoever lets go of it last can close it through the ring.
    pub(crate) file: Option<Arc<SharedFile>>,
}

/// What the receive of a client is doing.
#[derive(Clone, Copy)]
pub(crate) enum Receiving {
    /// There has been none.
    New,
    /// It is not in flight.
    Off,
    /// It found no buffer. It is armed again at the end of the turn, when buffers have come back.
    Starved,
    /// It is in flight.
    Armed(Flight),
    /// It was cancelled, and has not ended yet.
    Ending,
    /// The client has closed its side, or the connection broke: nothing more will come.
    Over,
}

/// What else is in flight for a client.
#[derive(Clone, Copy)]
pub(crate) enum Doing {
    /// Nothing.
    Waiting,
    /// A file is being opened by the ring.
    Opening,
    /// Bytes of a file are being read for the cache by the ring.
    Reading,
    /// Some of the answer is being sent, or waits for room in the socket.
    Sending,
    /// The pool opens, reads or sends. This isn't the ring's, so nothing waits for it to end.
    Job,
    /// The client is being closed. `in_flight`: the operation that it was waiting for has yet to end.
    Closing { in_flight: bool },
}

impl Client {
    /// Whether the client is being closed, and nothing of it is in flight any more.
    pub(crate) fn is_done(&self) -> bool {
        let is_receiving = matches!(self.receiving, Receiving::Armed(_) | Receiving::Ending);
        !is_receiving && !self.has_given_up && matches!(self.doing, Doing::Closing { in_flight: false })
    }

    /// Prepares the socket for what comes: system calls that don't wait, or operations of the ring that do. Whether it
    /// is prepared now. An operation looks at the mode once, when it begins, so a receive in flight goes on.
    pub(crate) fn set_nonblocking(&mut self, nonblocking: bool) -> bool {
        if self.is_nonblocking != nonblocking && ioctl_fionbio(&self.socket, nonblocking).is_ok() {
            self.is_nonblocking = nonblocking;
        }
        self.is_nonblocking == nonblocking
    }

    /// Asks the socket whether it was reset, when a request isn't whole and nothing is about to be sent. A reset right
    /// behind bytes is lost on a multishot receive: both wake it up, it reads the bytes, finds no more, and waits for
    /// another event (liburing issue 1549 tells the story for sockets that are closed). A send would notice by itself.
    pub(crate) fn look_for_reset(&mut self, worker: &mut Worker) {
        if let Step::Receive = self.connection.step()
            && let Ok(Err(_)) = sockopt::socket_error(&self.socket)
        {
            self.connection.failed(worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;

    /// What an idle connection costs: its place among the clients, its receive in flight, its socket's count.
    #[test]
    fn an_idle_connection_takes_less_than_256_bytes() {
        let place = size_of::<Option<Client>>() + size_of::<u64>();
        let socket = size_of::<[usize; 2]>() + size_of::<u64>();
        assert!(
            place + Ring::IN_FLIGHT_BYTES + socket <= 200,
            "{place} + {} + {socket}",
            Ring::IN_FLIGHT_BYTES
        );
    }
}

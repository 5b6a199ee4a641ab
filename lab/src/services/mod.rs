//! The services: what is said to a client, without I/O.
//!
//! A [`Connection`] is all that a rung knows of a service. The rung moves bytes between it and a socket:
//!
//! | call | meaning |
//! |---|---|
//! | [`wants_bytes`](Connection::wants_bytes) | may the rung receive? |
//! | [`received`](Connection::received), [`ended`](Connection::ended) | this has arrived |
//! | [`output`](Connection::output), or [`take_output`](Connection::take_output) | what is there to send? |
//! | [`sent`](Connection::sent) | this much has been sent |
//! | [`is_over`](Connection::is_over) | should the rung close? |
//!
//! Output that the socket doesn't take stays in the connection until the socket has room. While there are
//! [`OUTPUT_BYTES_MAX`] of it, the connection wants no bytes, so a client that doesn't read is soon not read from
//! either.
//!
//! In chat, bytes of one client become output of others. The rung leaves a [`Waker`] with
//! [`wake_with`](Connection::wake_with), which says that a connection has output although its own socket has reported
//! nothing.

mod chat;
mod echo;
mod http;
mod output;

use std::sync::Arc;
use std::task::Waker;

use crate::stats::Stats;
use chat::{Member, Room};
use http::Requests;
use output::Output;

pub use chat::{LINE_BYTES_MAX, MAILBOX_BYTES_MAX};
pub use http::{ANSWER, HEAD_BYTES_MAX};

/// Output at which a connection stops receiving. What the last receive turns into may exceed it.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// The most bytes that a rung receives with one call.
pub const RECEIVE_BYTES_MAX: usize = 16 * 1024;

/// What a server does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes come back.
    Echo,
    /// Each line goes to everybody else.
    Chat,
    /// Every request gets the same answer.
    Http,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Echo, Kind::Chat, Kind::Http];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Echo => "echo",
            Kind::Chat => "chat",
            Kind::Http => "http",
        }
    }
}

/// A service, and what its connections share. It is used by all threads of a server.
#[derive(Debug)]
pub struct Service {
    kind: Kind,
    room: Room,
    /// The counters.
    pub stats: Stats,
}

impl Service {
    /// A service without connections.
    #[must_use]
    pub fn new(kind: Kind) -> Arc<Service> {
        Arc::new(Service { kind, room: Room::default(), stats: Stats::default() })
    }

    /// Which service it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A new client's connection.
    #[must_use]
    pub fn connect(self: &Arc<Self>) -> Connection {
        self.stats.count_opened();
        let talk = match self.kind {
            Kind::Echo => Talk::Echo,
            Kind::Chat => Talk::Chat(Member::default()),
            Kind::Http => Talk::Http(Requests::default()),
        };
        Connection { service: Arc::clone(self), talk, input: Input::Open, output: Output::default() }
    }
}

/// The state of a client's sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    /// The client has closed its side.
    Ended,
    /// The service has ended it.
    Refused,
}

/// What a connection's service remembers of it.
#[derive(Debug)]
enum Talk {
    Echo,
    Chat(Member),
    Http(Requests),
}

/// One client's connection. Dropping it takes the client out of the room.
#[derive(Debug)]
pub struct Connection {
    service: Arc<Service>,
    talk: Talk,
    input: Input,
    output: Output,
}

impl Connection {
    /// Whom to wake when output comes from another client: when the first of it arrives, and when the connection is
    /// dropped for not reading. This happens only in chat, where the client is in the room from now on.
    pub fn wake_with(&mut self, waker: Waker) {
        if let Talk::Chat(member) = &mut self.talk {
            member.join(&self.service.room, waker);
        }
    }

    /// Whether the rung may receive. Not while there is too much output: that is the back-pressure.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        let is_full = match self.talk {
            // What a client says in chat isn't sent back to it.
            Talk::Chat(_) => false,
            Talk::Echo | Talk::Http(_) => self.output.len() >= OUTPUT_BYTES_MAX,
        };
        self.input == Input::Open && !is_full
    }

    /// These bytes have arrived.
    pub fn received(&mut self, bytes: &[u8]) {
        self.service.stats.count_in(bytes.len());
        if self.input != Input::Open {
            return;
        }
        let goes_on = match &mut self.talk {
            Talk::Echo => echo::received(bytes, &mut self.output),
            Talk::Chat(member) => member.received(bytes, &self.service.room),
            Talk::Http(requests) => requests.received(bytes, &mut self.output),
        };
        if !goes_on {
            self.input = Input::Refused;
        }
    }

    /// The client has closed its side. Output is still sent.
    pub fn ended(&mut self) {
        if self.input == Input::Open {
            self.input = Input::Ended;
            if let Talk::Chat(member) = &mut self.talk {
                member.ended(&self.service.room);
            }
        }
    }

    /// Whether there is something to send.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.output.bytes().is_empty() || matches!(&self.talk, Talk::Chat(member) if member.has_mail())
    }

    /// What to send; empty if there is nothing. It stays until it is [`sent`](Connection::sent).
    pub fn output(&mut self) -> &[u8] {
        self.open_mail();
        self.output.bytes()
    }

    /// Takes what there is to send, for a rung that doesn't hold the connection while it sends. It counts as output
    /// until it is [`sent`](Connection::sent), and nothing more can be taken before.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.open_mail();
        self.output.take()
    }

    fn open_mail(&mut self) {
        if let Talk::Chat(member) = &self.talk
            && self.output.len() == 0
        {
            self.output = Output::from(member.take_mail());
        }
    }

    /// This many bytes have been sent.
    pub fn sent(&mut self, bytes: usize) {
        self.service.stats.count_out(bytes);
        self.output.sent(bytes);
        if let Talk::Chat(member) = &self.talk
            && self.output.len() == 0
        {
            member.caught_up();
        }
    }

    /// Whether the rung should close: nothing is left to receive or send, or the client is
    /// [dropped](Self::is_dropped).
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_dropped() || self.input != Input::Open && self.output.len() == 0 && !self.has_output()
    }

    /// Whether the client is dropped because it doesn't read what others say.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        matches!(&self.talk, Talk::Chat(member) if member.is_dropped())
    }

    /// Whether the service has ended the connection, so that the client may still be sending.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        self.input == Input::Refused
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Talk::Chat(member) = &mut self.talk {
            member.leave(&self.service.room);
        }
        self.service.stats.count_closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_full_wants_nothing_until_it_has_sent() {
        for kind in [Kind::Echo, Kind::Http] {
            let mut connection = Service::new(kind).connect();
            let request = b"GET / HTTP/1.1\r\n\r\n".repeat(64);
            let mut receives = 0;
            while connection.wants_bytes() {
                connection.received(&request);
                receives += 1;
                assert!(receives < OUTPUT_BYTES_MAX, "it is bounded");
            }
            let output = connection.output().len();
            assert!(output >= OUTPUT_BYTES_MAX, "{output}");
            // What is on its way counts, too.
            assert_eq!(connection.take_output().len(), output);
            assert!(!connection.wants_bytes() && !connection.has_output() && !connection.is_over());
            connection.sent(output - OUTPUT_BYTES_MAX);
            assert!(!connection.wants_bytes());
            connection.sent(1);
            assert!(connection.wants_bytes());
        }
    }

    #[test]
    fn what_was_received_before_the_end_is_still_sent() {
        let mut connection = Service::new(Kind::Echo).connect();
        connection.received(b"last words");
        connection.ended();
        assert!(!connection.wants_bytes() && !connection.is_over());
        assert_eq!(connection.output(), b"last words");
        connection.sent(5);
        assert!(!connection.is_over());
        assert_eq!(connection.output(), b"words");
        connection.sent(5);
        assert!(connection.is_over());
    }

    #[test]
    fn every_connection_is_counted_until_it_is_dropped() {
        let service = Service::new(Kind::Echo);
        let (one, other) = (service.connect(), service.connect());
        assert_eq!(service.stats.read().connections, 2);
        drop(one);
        assert_eq!(service.stats.read().connections, 1);
        drop(other);
        assert_eq!(service.stats.read().connections, 0);
    }
}

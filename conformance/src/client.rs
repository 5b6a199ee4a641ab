//! A client that works on raw bytes: it sends exactly the given bytes, in the given pieces, and reads responses by
//! their framing. Every read and write has a deadline.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::response::{Framing, Response, find_head};
use crate::row::get;

/// The longest single wait for the server.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Larger than any response head of this server.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// How long to wait for a whole response.
    patience: Duration,
    /// Bytes received but not yet returned as part of a response.
    received: Vec<u8>,
}

/// The result of waiting for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// This many bytes.
    Bytes(usize),
    /// The server closed its side in an orderly way.
    End,
    /// The server reset the connection.
    Reset,
    /// Nothing arrived before the deadline.
    Silence,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        Client::wrap(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// Connects with a small receive buffer, so that an unread response soon blocks the server.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect_narrow(address: SocketAddr, receive_buffer_bytes: usize) -> io::Result<Client> {
        let socket = net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            Some(ipproto::TCP),
        )?;
        // Set before connect(2): the window is negotiated in the handshake (tcp(7)).
        sockopt::set_socket_recv_buffer_size(&socket, receive_buffer_bytes)?;
        net::connect(&socket, &address)?;
        Client::wrap(TcpStream::from(socket))
    }

    fn wrap(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, patience: PATIENCE, received: Vec::new() })
    }

    /// Waits no longer than this for a response from now on.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Client {
        Client { patience, ..self }
    }

    /// Sends the bytes in one piece.
    ///
    /// # Errors
    /// Those of write(2). If the server has closed, the error shows here or at the next read.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A second handle to the connection, for writing while this one reads.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn writer(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    /// Sends as much as the connection takes, blocking for at most `patience` at a time. Returns the number of bytes
    /// sent.
    ///
    /// # Errors
    /// Those of write(2), except would-block.
    pub fn send_some(&mut self, bytes: &[u8], patience: Duration) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(patience))?;
        let sent = match self.stream.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            sent => sent,
        };
        self.stream.set_write_timeout(Some(PATIENCE))?;
        sent
    }

    /// Requests a target and waits for the complete response.
    ///
    /// # Errors
    /// See [`Client::send`] and [`Client::response`].
    pub fn get(&mut self, target: &str) -> Result<Response, Failed> {
        self.send(&get(target, &[]))?;
        self.response(Framing::Content)
    }

    /// Shuts down the client's side.
    ///
    /// # Errors
    /// Those of shutdown(2).
    pub fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Closes with a reset instead of an orderly close, which also avoids TIME-WAIT.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    pub fn reset(self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?)
    }

    /// Waits for bytes until the deadline. They stay buffered for the next read.
    ///
    /// # Errors
    /// Those of read(2), except a reset and a timeout.
    pub fn hear(&mut self, deadline: Instant) -> io::Result<Heard> {
        let mut chunk = [0; 64 * 1024];
        let heard = self.read_until(deadline, &mut chunk)?;
        if let Heard::Bytes(count) = heard {
            self.received.extend_from_slice(&chunk[..count]);
        }
        Ok(heard)
    }

    fn read_until(&mut self, deadline: Instant, chunk: &mut [u8]) -> io::Result<Heard> {
        // A zero timeout would mean no timeout.
        let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(patience))?;
        loop {
            return match self.stream.read(chunk) {
                Ok(0) => Ok(Heard::End),
                Ok(count) => Ok(Heard::Bytes(count)),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(Heard::Silence),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(Heard::Reset),
                    _ => Err(error),
                },
            };
        }
    }

    /// The number of bytes waiting in the socket.
    ///
    /// # Errors
    /// Those of `ioctl(FIONREAD)` (tcp(7)).
    pub fn unread_bytes(&self) -> io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.stream)?)
    }

    /// The buffered bytes.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Takes the buffered bytes.
    #[must_use]
    pub fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }

    /// Reads one response by its framing. Interim responses (1xx) count as responses of their own.
    ///
    /// # Errors
    /// If the server closes, resets or stalls in the middle, and for every syntax error.
    pub fn response(&mut self, framing: Framing) -> Result<Response, Failed> {
        let mut response = self.head(framing)?;
        let content = response.content_bytes;
        self.fill(content, "the content")?;
        response.content = self.take(content);
        Ok(response)
    }

    /// Reads only a response's head; `content_bytes` tells how much follows.
    ///
    /// # Errors
    /// See [`Client::response`].
    pub fn head(&mut self, framing: Framing) -> Result<Response, Failed> {
        loop {
            if let Some(length) = find_head(&self.received) {
                let head = self.take(length);
                return Response::parse(head, framing);
            }
            if self.received.len() > HEAD_BYTES_MAX {
                return Err("the response head never ends".into());
            }
            self.fill(self.received.len() + 1, "a head")?;
        }
    }

    /// Reads the next `count` bytes of content and passes each piece to `each` with its position.
    ///
    /// # Errors
    /// If the server doesn't send all of them, and the errors of `each`.
    pub fn content(
        &mut self,
        count: u64,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let mut position = 0;
        while position < count {
            if self.received.is_empty() {
                self.fill(1, "content")?;
            }
            let wanted = usize::try_from(count - position).unwrap_or(usize::MAX).min(self.received.len());
            let piece = self.take(wanted);
            each(position, &piece)?;
            position += wanted as u64;
        }
        Ok(())
    }

    /// Reads until the server closes its side; a reset is an error.
    ///
    /// # Errors
    /// If the server resets the connection or doesn't close it.
    pub fn rest(&mut self) -> Result<Vec<u8>, Failed> {
        loop {
            match self.hear(Instant::now() + PATIENCE)? {
                Heard::Bytes(_) => {}
                Heard::End => return Ok(std::mem::take(&mut self.received)),
                Heard::Reset => return Err(self.complaint("a reset instead of an orderly close")),
                Heard::Silence => return Err(self.complaint("the connection stays open")),
            }
        }
    }

    /// Waits until this many bytes are buffered.
    fn fill(&mut self, count: usize, what: &str) -> Result<(), Failed> {
        let deadline = Instant::now() + self.patience;
        while self.received.len() < count {
            let missing = match self.hear(deadline)? {
                Heard::Bytes(_) => continue,
                Heard::End => "closed",
                Heard::Reset => "reset",
                Heard::Silence => "nothing more",
            };
            return Err(self.complaint(&format!("{missing} in the middle of {what} ({count} bytes wanted)")));
        }
        Ok(())
    }

    fn complaint(&self, what: &str) -> Failed {
        let shown = &self.received[..self.received.len().min(400)];
        format!("{what}; received {} bytes: \"{}\"", self.received.len(), shown.escape_ascii()).into()
    }

    /// Takes the first buffered bytes.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.received.split_off(count);
        std::mem::replace(&mut self.received, rest)
    }
}

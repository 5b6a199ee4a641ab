//! A client that speaks bytes: it sends exactly what it is told, in the pieces that it is told, and reads
//! answers by their framing. Every read and write has a deadline.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::response::{Framing, Response, find_head};
use crate::row::get;

/// How long any single wait for the server may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// More than any head of this server has.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Received, and not yet part of a response that was handed out.
    received: Vec<u8>,
}

/// What a wait for bytes ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// So many bytes.
    Bytes(usize),
    /// The server closed its side, in order.
    End,
    /// The server reset the connection.
    Reset,
    /// Nothing, until the deadline.
    Silence,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// What connect(2) reports.
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        Client::wrap(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// Connects with a small receive buffer, so that an answer that isn't read soon holds up the server.
    ///
    /// # Errors
    /// What connect(2) reports.
    pub fn connect_narrow(address: SocketAddr, receive_buffer_bytes: usize) -> io::Result<Client> {
        let socket = net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            Some(ipproto::TCP),
        )?;
        // Before connect(2): the window is agreed on in the handshake (tcp(7)).
        sockopt::set_socket_recv_buffer_size(&socket, receive_buffer_bytes)?;
        net::connect(&socket, &address)?;
        Client::wrap(TcpStream::from(socket))
    }

    fn wrap(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, received: Vec::new() })
    }

    /// Sends the bytes in one piece.
    ///
    /// # Errors
    /// What write(2) reports: a server that has closed shows here, or at the next read.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Another handle of the connection, to write to it while this one reads.
    ///
    /// # Errors
    /// What dup(2) reports.
    pub fn writer(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    /// Sends as much as the connection takes without waiting for longer than `patience`; how much that was.
    ///
    /// # Errors
    /// What write(2) reports, would-block aside.
    pub fn send_some(&mut self, bytes: &[u8], patience: Duration) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(patience))?;
        let sent = match self.stream.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            sent => sent,
        };
        self.stream.set_write_timeout(Some(PATIENCE))?;
        sent
    }

    /// Asks for a target, and waits for the whole answer.
    ///
    /// # Errors
    /// As for [`Client::send`] and [`Client::response`].
    pub fn get(&mut self, target: &str) -> Result<Response, Failed> {
        self.send(&get(target, &[]))?;
        self.response(Framing::Content)
    }

    /// Ends the client's side: no more bytes will come from here.
    ///
    /// # Errors
    /// What shutdown(2) reports.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Closes with a reset instead of an orderly end; also leaves no port behind in TIME-WAIT.
    ///
    /// # Errors
    /// What setsockopt(2) reports.
    pub fn reset(self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))?)
    }

    /// Waits for some bytes, at most until the deadline; what came stays for the next reader.
    ///
    /// # Errors
    /// What read(2) reports, a reset and a timeout aside.
    pub fn hear(&mut self, deadline: Instant) -> io::Result<Heard> {
        let mut chunk = [0; 64 * 1024];
        let heard = self.read_until(deadline, &mut chunk)?;
        if let Heard::Bytes(count) = heard {
            self.received.extend_from_slice(&chunk[..count]);
        }
        Ok(heard)
    }

    fn read_until(&mut self, deadline: Instant, chunk: &mut [u8]) -> io::Result<Heard> {
        // A zero timeout would mean none at all.
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

    /// Bytes that have come and wait in the socket.
    ///
    /// # Errors
    /// What `ioctl(FIONREAD)` reports (tcp(7)).
    pub fn unread_bytes(&self) -> io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.stream)?)
    }

    /// What was received and not yet handed out.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Takes what was received and not yet handed out.
    #[must_use]
    pub fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }

    /// Reads one response by its framing, interim ones (1xx) included as responses of their own.
    ///
    /// # Errors
    /// When the server ends, resets or falls silent in the middle, and for every breach of syntax.
    pub fn response(&mut self, framing: Framing) -> Result<Response, Failed> {
        let mut response = self.head(framing)?;
        let content = response.content_bytes;
        self.fill(content, "the content")?;
        response.content = self.take(content);
        Ok(response)
    }

    /// Reads a response's head only. `content_bytes` says how much follows.
    ///
    /// # Errors
    /// As for [`Client::response`].
    pub fn head(&mut self, framing: Framing) -> Result<Response, Failed> {
        loop {
            if let Some(length) = find_head(&self.received) {
                let head = self.take(length);
                return Response::parse(head, framing);
            }
            if self.received.len() > HEAD_BYTES_MAX {
                return Err("the head of a response never ends".into());
            }
            self.fill(self.received.len() + 1, "a head")?;
        }
    }

    /// Reads the next `count` bytes of content, handing each piece on with its position.
    ///
    /// # Errors
    /// When the server doesn't send them all, and what `each` reports.
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
    /// When the server resets the connection or doesn't close it.
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

    /// Waits until so many bytes are there.
    fn fill(&mut self, count: usize, what: &str) -> Result<(), Failed> {
        let deadline = Instant::now() + PATIENCE;
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

    /// Takes the first bytes of what was received.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.received.split_off(count);
        std::mem::replace(&mut self.received, rest)
    }
}

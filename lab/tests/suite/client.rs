//! A client of the tests.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::net::sockopt;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A client whose reads and writes have a deadline.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Client, Failed> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client(stream))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    pub(crate) fn receive(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Receives exactly these bytes.
    pub(crate) fn expect(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let received = self.receive(bytes.len())?;
        if received == bytes {
            return Ok(());
        }
        let at = received.iter().zip(bytes).take_while(|(one, other)| one == other).count();
        Err(format!("{} bytes, of which number {at} is wrong", bytes.len()).into())
    }

    /// Whether something has come that wasn't received.
    pub(crate) fn has_bytes(&self) -> bool {
        rustix::io::ioctl_fionread(&self.0).is_ok_and(|bytes| bytes > 0)
    }

    pub(crate) fn echo(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.send(bytes)?;
        self.expect(bytes)
    }

    /// Receives until the server closes.
    pub(crate) fn receive_all(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Receives until the server closes or resets; how many bytes that were. An error if it does neither.
    pub(crate) fn receive_to_any_end(&mut self) -> io::Result<usize> {
        let (mut count, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return Ok(count),
                Ok(received) => count += received,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(count),
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn half_close(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(&self.0, Some(Duration::ZERO))?)
    }

    /// Sends until nothing has left for a while; how many bytes have.
    pub(crate) fn send_until_blocked(&mut self, bytes_max: usize) -> Result<usize, Failed> {
        let mut sent = 0;
        while sent < bytes_max {
            let part = pattern(sent, 1 << 16);
            let fits = self.send_what_fits(&part)?;
            sent += fits;
            if fits < part.len() {
                return Ok(sent);
            }
        }
        Err(format!("{sent} bytes were taken from a client that doesn't read").into())
    }

    /// Sends these bytes, or as many as leave until nothing has left for a while; how many.
    pub(crate) fn send_what_fits(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const BLOCKED: Duration = Duration::from_millis(700);
        self.0.set_write_timeout(Some(BLOCKED))?;
        let mut sent = 0;
        while sent < bytes.len() {
            match self.0.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.0.set_write_timeout(Some(PATIENCE))?;
        Ok(sent)
    }
}

/// Bytes of an endless sequence that repeats late, so that bytes that are lost, doubled or exchanged are noticed.
pub(crate) fn pattern(from: usize, count: usize) -> Vec<u8> {
    let byte = |at: usize| ((at % 251) ^ (at / 251 % 241)).to_le_bytes()[0];
    (from..from + count).map(byte).collect()
}

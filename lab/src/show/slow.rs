//! C21: clients that don't read.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::server::{PATIENCE, connections, crowd, serve};
use super::{Script, Stop};
use crate::services::{Kind, MAILBOX_BYTES_MAX};

const CLIENTS: u64 = 8;

/// A client that can't send for so long is one that the server doesn't read from.
const STUCK: Duration = Duration::from_millis(100);

/// What is said in the chat: more than the bound, and than the buffers of two sockets.
const TALK_BYTES: usize = MAILBOX_BYTES_MAX + 16 * 1024 * 1024;

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    let stay = serve(Kind::Echo, |service, address| {
        let clients = crowd(address, CLIENTS)?;
        let sent = clients.iter().map(send_until_stuck).sum::<Result<usize, Stop>>()?;
        script.found(format_args!("echo: {CLIENTS} clients sent {sent} bytes in all, and read none"));
        let answer = ask(address)?;
        script.found(format_args!("echo: another client is answered: {answer:?}"));
        let held = connections(service, |held| held == CLIENTS);
        script.found(format_args!("echo: {held} connections are held, for as long as the clients like"));
        Ok(held == CLIENTS && answer == "hello")
    })?;
    let end = serve(Kind::Chat, |service, address| {
        let clients = crowd(address, CLIENTS)?;
        connections(service, |held| held == CLIENTS);
        let mut speaker = TcpStream::connect(address)?;
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..TALK_BYTES / line.len() {
            speaker.write_all(&line)?;
        }
        script
            .found(format_args!("chat: somebody says {TALK_BYTES} bytes; {CLIENTS} others read none of it"));
        let held = connections(service, |held| held == 1);
        script.found(format_args!(
            "chat: {held} connection is held: at most {MAILBOX_BYTES_MAX} bytes are kept for each"
        ));
        drop(clients);
        Ok(held == 1)
    })?;
    Ok(stay && end)
}

/// Sends until the server takes no more; returns how much it took.
fn send_until_stuck(mut client: &TcpStream) -> Result<usize, Stop> {
    client.set_write_timeout(Some(STUCK))?;
    let mut sent = 0;
    loop {
        match client.write(&[b'x'; 65_536]) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(sent);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a client that reads gets from echo.
fn ask(address: SocketAddr) -> Result<String, Stop> {
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(b"hello")?;
    let mut answer = [0; 5];
    client.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

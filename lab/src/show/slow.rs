//! C21: clients that don't read.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::calls::ANYWHERE;
use super::{Script, Stop};
use crate::rungs::RUNGS;
use crate::services::{Kind, MAILBOX_BYTES_MAX, Service};
use crate::{End, Setup, listen_on};

const RUNG: &str = "epoll-edge";
const CLIENTS: u64 = 8;

/// A client that can't send for so long is one that the server doesn't read from.
const STUCK: Duration = Duration::from_millis(100);

/// Whoever waits longer than this waits for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is said in the chat: more than the bound, and than the buffers of two sockets.
const TALK_BYTES: usize = MAILBOX_BYTES_MAX + 16 * 1024 * 1024;

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    let stay = serve(Kind::Echo, |service, address| {
        let clients = crowd(address)?;
        let sent = clients.iter().map(send_until_stuck).sum::<Result<usize, Stop>>()?;
        script.found(format_args!("echo: {CLIENTS} clients sent {sent} bytes in all, and read none"));
        let answer = ask(address)?;
        script.found(format_args!("echo: another client is answered: {answer:?}"));
        let held = connections(service, |held| held == CLIENTS);
        script.found(format_args!("echo: {held} connections are held, for as long as the clients like"));
        Ok(held == CLIENTS && answer == "hello")
    })?;
    let end = serve(Kind::Chat, |service, address| {
        let clients = crowd(address)?;
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

/// Runs the rung for as long as the scene takes.
fn serve(kind: Kind, scene: impl FnOnce(&Service, SocketAddr) -> Result<bool, Stop>) -> Result<bool, Stop> {
    let rung = RUNGS.iter().find(|rung| rung.name == RUNG).expect("it is a rung");
    let (listeners, address) = listen_on(ANYWHERE, 1)?;
    let (service, end) = (Service::new(kind), Arc::new(End::default()));
    let setup = Setup { listeners, workers: 1, service: Arc::clone(&service), end: Arc::clone(&end) };
    thread::scope(|scope| {
        let server = scope.spawn(move || (rung.serve)(setup));
        let shown = scene(&service, address);
        end.begin();
        server.join().map_err(|_| Stop("the server has panicked".to_owned()))??;
        shown
    })
}

fn crowd(address: SocketAddr) -> Result<Vec<TcpStream>, Stop> {
    (0..CLIENTS).map(|_| TcpStream::connect(address).map_err(Stop::from)).collect()
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

/// How many connections a server has, as soon as they are as many as expected, or else at last.
fn connections(service: &Service, is_expected: impl Fn(u64) -> bool) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let held = service.stats.read().connections;
        if is_expected(held) || Instant::now() > deadline {
            return held;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

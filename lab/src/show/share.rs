//! C17: two listeners on one port.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::accept;

use super::calls::{ANYWHERE, address_of, listen_at, number};
use super::{Script, Stop};

/// With so many, one listener gets none of them once in 2^63 times.
const CONNECTIONS: usize = 64;

pub(super) fn play(script: &mut Script) -> Result<bool, Stop> {
    script.found("without SO_REUSEPORT");
    let alone = listen_at(script, ANYWHERE, false)?;
    let refused = listen_at(script, address_of(&alone)?, false).err();
    script.found("with SO_REUSEPORT");
    let first = listen_at(script, ANYWHERE, true)?;
    let address = address_of(&first)?;
    let second = listen_at(script, address, true)?;
    let clients: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    let counts = [accepted(script, &first, address)?, accepted(script, &second, address)?];
    drop(clients);
    let all_are_there = counts.iter().sum::<usize>() == CONNECTIONS;
    Ok(refused == Some(Errno::ADDRINUSE) && all_are_there && counts.iter().all(|count| *count > 0))
}

/// How many connections wait at a listener.
fn accepted(script: &mut Script, listener: &OwnedFd, address: SocketAddr) -> Result<usize, Stop> {
    let mut count = 0;
    let last = loop {
        match accept(listener) {
            Ok(_closed_at_once) => count += 1,
            Err(errno) => break errno,
        }
    };
    script.found(format_args!(
        "accept({}) gave {count} of {CONNECTIONS} connections to {address}",
        number(listener)
    ));
    let _told = script.called(format!("accept({})", number(listener)), Err::<usize, _>(last));
    if last == Errno::AGAIN { Ok(count) } else { Err(last.into()) }
}

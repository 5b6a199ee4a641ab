//! The setup: what a rung needs to serve.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use common::service::listen::BACKLOG;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with, sockopt,
};

use crate::bell::End;
use crate::services::Service;

/// What a rung needs.
#[derive(Debug)]
pub struct Setup {
    /// Non-blocking listeners on one address: one for each worker that accepts.
    pub listeners: Vec<OwnedFd>,
    /// The number of workers, in rungs that have them.
    pub workers: usize,
    /// The service.
    pub service: Arc<Service>,
    /// Tells when to return.
    pub end: Arc<End>,
}

impl Setup {
    /// The listener of a rung with a single one.
    ///
    /// # Panics
    /// If it has been taken already.
    pub fn listener(&mut self) -> OwnedFd {
        self.listeners.pop().expect("there is a listener, and one taker")
    }
}

/// This many listeners on an address, and the actual address: port 0 picks a free port, the same for all.
///
/// The first one is bound without `SO_REUSEPORT`, which would silently share the port with another server.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2).
pub fn listen_on(address: SocketAddr, count: usize) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    let first = listening_socket(address, false)?;
    let bound = SocketAddr::try_from(getsockname(&first)?)?;
    if count > 1 {
        sockopt::set_socket_reuseport(&first, true)?;
    }
    let mut listeners = vec![first];
    while listeners.len() < count {
        listeners.push(listening_socket(bound, true)?);
    }
    Ok((listeners, bound))
}

fn listening_socket(address: SocketAddr, shares: bool) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shares)?;
    // Inherited by accepted sockets.
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Why the address can't be used, and what to do.
pub(crate) fn explain(address: SocketAddr, error: &io::Error) -> String {
    let reason = match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => "address in use; choose another port (port 0: any free one)",
        Some(Errno::ADDRNOTAVAIL) => {
            "no such address on this machine; `ip address` lists those that there are"
        }
        Some(Errno::ACCESS) => "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        Some(Errno::AFNOSUPPORT) => "this kernel lacks the address family; listen on an IPv4 address",
        Some(Errno::MFILE | Errno::NFILE) => "out of descriptors; raise `ulimit -n`",
        _ => return format!("listen on {address}: {error}"),
    };
    format!("listen on {address}: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn all_sockets_share_one_port_and_nobody_else_does() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        for count in [1, 3] {
            let (listeners, bound) = listen_on(any, count).expect("bound");
            assert_eq!(listeners.len(), count);
            assert_ne!(bound.port(), 0);
            TcpStream::connect(bound).expect("connected");
            let refused = listen_on(bound, count).expect_err("in use");
            let expected =
                format!("listen on {bound}: address in use; choose another port (port 0: any free one)");
            assert_eq!(explain(bound, &refused), expected);
        }
    }
}

//! Listening sockets: one per endpoint and worker.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto, sockopt};

use crate::service::config::Config;
use crate::service::endpoint::Endpoint;
use crate::service::socket_path::{SocketPath, listen_at};
use crate::service::start::{StartError, out_of_descriptors};

/// Connections that may wait for an accept, per socket; `net.core.somaxconn` may cap it.
pub const BACKLOG: i32 = 4096;

/// How long a start waits for a port whose owner was killed: the kernel tears a ring down some time after its process
/// has ended, and the listeners that an accept in it refers to with it.
pub(crate) const RELEASE_MAX: Duration = Duration::from_secs(1);
pub(crate) const RELEASE_INTERVAL: Duration = Duration::from_millis(10);

/// A non-blocking TCP socket that listens on `address` and shares its port with the other workers' sockets
/// (`SO_REUSEPORT`, socket(7)). An IPv6 wildcard also accepts IPv4. Accepted connections inherit `TCP_NODELAY` and the
/// send buffer size.
///
/// # Errors
/// Errors of socket(2), bind(2) and listen(2).
pub fn listen_socket(address: SocketAddr, send_buffer_bytes: Option<usize>) -> io::Result<OwnedFd> {
    listen_on(address, true, send_buffer_bytes)
}

fn listen_on(address: SocketAddr, share: bool, send_buffer_bytes: Option<usize>) -> io::Result<OwnedFd> {
    let socket = bind_socket(address, share)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(bytes) = send_buffer_bytes {
        sockopt::set_socket_send_buffer_size(&socket, bytes)?;
    }
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

pub(super) fn bind_socket(address: SocketAddr, reuse_port: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, reuse_port)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    net::bind(&socket, &address)?;
    Ok(socket)
}

/// The name of whoever listens on an address, to tell others that it is alive: an abstract socket (unix(7)) is gone
/// when its process is, while a ring may hold the port a little longer.
///
/// It is no lock. Whether a port is free is for the kernel to say; the name only says whether waiting is of any use. So
/// nobody gains anything by taking it from us.
fn name_of(address: SocketAddr) -> rustix::io::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    Ok((socket, SocketAddrUnix::new_abstract_name(format!("triptych {address}").as_bytes())?))
}

fn take_name(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let (socket, name) = name_of(address)?;
    net::bind(&socket, &name)?;
    Ok(socket)
}

/// Whether a living server has the name of this address. Asking doesn't take it, not even for a moment.
fn is_served(address: SocketAddr) -> bool {
    name_of(address).is_ok_and(|(socket, name)| net::connect(&socket, &name).is_ok())
}

/// Listens alone, without sharing the port. Waits for an address that is in use, unless a living server has it.
fn listen_first(address: SocketAddr, send_buffer_bytes: Option<usize>) -> io::Result<OwnedFd> {
    let deadline = Instant::now() + RELEASE_MAX;
    loop {
        let outcome = listen_on(address, false, send_buffer_bytes);
        let in_use = |error: &io::Error| Errno::from_io_error(error) == Some(Errno::ADDRINUSE);
        if !outcome.as_ref().is_err_and(in_use) || is_served(address) || Instant::now() >= deadline {
            return outcome;
        }
        thread::sleep(RELEASE_INTERVAL);
    }
}

/// An address that is listened on, and the sockets that do.
#[derive(Debug)]
pub struct Bound {
    /// Where, with the actual port.
    pub endpoint: Endpoint,
    /// Non-blocking sockets that listen there. Where they are several, the kernel divides the connections among them
    /// (`SO_REUSEPORT`), so none may be left without somebody who accepts.
    pub sockets: Vec<OwnedFd>,
}

/// The sockets of a server that is about to start. They are already listening, so no connection is refused any more.
#[derive(Debug)]
pub struct Listeners {
    /// Each has at least one socket per worker.
    bound: Vec<Bound>,
    workers: usize,
    names: Names,
}

/// What whoever has bound the addresses holds for as long as a server listens there: names, which tell other processes
/// that it does, and the paths of unix sockets, which are removed at the end.
#[derive(Debug, Default)]
pub struct Names {
    /// Held, not used.
    sockets_held: Vec<OwnedFd>,
    paths_held: Vec<SocketPath>,
}

impl Names {
    /// What another process, or another program in this one, is to hold from now on.
    #[must_use]
    pub fn new(sockets: Vec<OwnedFd>, paths: Vec<SocketPath>) -> Names {
        Names { sockets_held: sockets, paths_held: paths }
    }

    /// The sockets that are names.
    #[must_use]
    pub fn sockets(&self) -> &[OwnedFd] {
        &self.sockets_held
    }

    /// The paths of unix sockets.
    #[must_use]
    pub fn paths(&self) -> &[SocketPath] {
        &self.paths_held
    }
}

impl Listeners {
    /// Binds every address once per worker. Port 0 picks a free port, the same for all workers.
    ///
    /// # Errors
    /// One line with the address, the reason and a remedy.
    pub fn bind(endpoints: &[Endpoint], config: &Config) -> Result<Listeners, StartError> {
        let mut listeners = Listeners { bound: Vec::new(), workers: config.workers, names: Names::default() };
        for endpoint in endpoints {
            let bound = match endpoint {
                Endpoint::Tcp(address) => {
                    listeners.bind_tcp(*address, config).map_err(|error| explain(*address, &error))?
                }
                Endpoint::Unix(path) => {
                    let (socket, path) = listen_at(path, config.socket_mode)?;
                    listeners.names.paths_held.push(path);
                    Bound { endpoint: endpoint.clone(), sockets: vec![socket] }
                }
            };
            listeners.bound.push(bound);
        }
        Ok(listeners.divide()?)
    }

    /// Sockets that listen already, for so many workers. Of an address that has fewer sockets, some are duplicated, so
    /// that every worker accepts its connections; of one that has more, some workers have several.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn of(bound: Vec<Bound>, workers: usize) -> io::Result<Listeners> {
        Listeners { bound, workers, names: Names::default() }.divide()
    }

    /// Gives every worker a socket of each address.
    fn divide(mut self) -> io::Result<Listeners> {
        for Bound { sockets, .. } in &mut self.bound {
            let own = sockets.len();
            for index in own..self.workers.max(own) {
                let shared = sockets.get(index % own.max(1)).map(OwnedFd::try_clone);
                sockets.extend(shared.transpose()?);
            }
        }
        Ok(self)
    }

    fn bind_tcp(&mut self, address: SocketAddr, config: &Config) -> io::Result<Bound> {
        // SO_REUSEPORT would silently share the port with another server of the same user. So the first socket listens
        // without it: of several servers that are started in the same moment, the kernel lets one do that. Only then
        // does it share, and it stays: a socket that lets go of the port would make room for another server.
        let first = listen_first(address, config.send_buffer_bytes)?;
        let bound = net::getsockname(&first)?.try_into()?;
        // Without a name, other servers only wait longer before they give up.
        self.names.sockets_held.extend(take_name(bound));
        if self.workers > 1 {
            sockopt::set_socket_reuseport(&first, true)?;
        }
        let mut sockets = vec![first];
        while sockets.len() < self.workers {
            sockets.push(listen_socket(bound, config.send_buffer_bytes)?);
        }
        Ok(Bound { endpoint: Endpoint::Tcp(bound), sockets })
    }

    /// What is to be held for as long as a server listens here, by whoever has bound the addresses.
    pub fn take_names(&mut self) -> Names {
        std::mem::take(&mut self.names)
    }

    /// The endpoints, with their actual ports.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.bound.iter().map(|bound| bound.endpoint.clone()).collect()
    }

    /// The sockets, to be handed to whoever serves: see [`Listeners::of`]. The names are left to the caller, who takes
    /// them before.
    #[must_use]
    pub fn into_bound(self) -> Vec<Bound> {
        self.bound
    }

    /// The sockets, one list per worker.
    pub(crate) fn into_workers(self) -> Vec<Vec<OwnedFd>> {
        let mut workers = Vec::new();
        workers.resize_with(self.workers, Vec::new);
        for bound in self.bound {
            for (index, socket) in bound.sockets.into_iter().enumerate() {
                workers[index % self.workers].push(socket);
            }
        }
        workers
    }
}

fn explain(address: SocketAddr, error: &io::Error) -> StartError {
    if let Some(line) = out_of_descriptors(error) {
        return StartError::new(format!("listen on {address}: {line}"));
    }
    let (what, todo) = match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => (
            "address in use".to_owned(),
            "stop the other server, or choose another port (-p 0: any free one)",
        ),
        Some(Errno::ACCESS) => (
            "permission denied".to_owned(),
            "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher one, like -p 8080",
        ),
        Some(Errno::ADDRNOTAVAIL) => {
            ("no such address on this machine".to_owned(), "`ip address` lists those that there are")
        }
        Some(Errno::AFNOSUPPORT) => {
            ("this kernel lacks the address family".to_owned(), "listen on an IPv4 address")
        }
        _ => (error.to_string(), "choose another address with --listen"),
    };
    StartError::new(format!("listen on {address}: {what}; {todo}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    fn config(workers: usize) -> Config {
        Config { workers, ..Config::default() }
    }

    #[test]
    fn port_zero_picks_one_free_port_for_all_workers() {
        let any: Endpoint = "127.0.0.1:0".parse().expect("an address");
        let listeners = Listeners::bind(&[any.clone(), any], &config(3)).expect("bound");
        let ports: Vec<_> = listeners
            .endpoints()
            .iter()
            .filter_map(Endpoint::address)
            .map(|address| address.port())
            .collect();
        assert!(ports[0] != 0 && ports[1] != 0 && ports[0] != ports[1]);
        for sockets in listeners.into_workers() {
            assert_eq!(bound_ports(&sockets), ports);
        }
    }

    fn bound_ports(sockets: &[OwnedFd]) -> Vec<u16> {
        let port =
            |socket| SocketAddr::try_from(net::getsockname(socket).expect("a name")).expect("inet").port();
        sockets.iter().map(port).collect()
    }

    #[test]
    fn sockets_are_divided_over_any_number_of_workers() {
        let any: Endpoint = "127.0.0.1:0".parse().expect("an address");
        for (bound, workers, expected) in
            [(1, 1, &[2][..]), (1, 3, &[2, 2, 2]), (3, 2, &[4, 2]), (2, 5, &[2; 5]), (4, 4, &[2; 4])]
        {
            let mut listeners = Listeners::bind(&[any.clone(), any.clone()], &config(bound)).expect("bound");
            let names = listeners.take_names();
            assert_eq!(names.sockets_held.len(), 2);
            let taken = listeners.into_bound();
            assert!(taken.iter().all(|one| one.sockets.len() == bound));
            let addresses: Vec<_> = taken.iter().map(|one| one.endpoint.address().expect("of TCP")).collect();
            let listeners = Listeners::of(taken, workers).expect("divided");
            assert_eq!(
                listeners.endpoints(),
                addresses.iter().map(|at| Endpoint::Tcp(*at)).collect::<Vec<_>>()
            );
            let own: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
            let of_workers = listeners.into_workers();
            assert_eq!(of_workers.iter().map(Vec::len).collect::<Vec<_>>(), expected);
            for sockets in &of_workers {
                let ports = bound_ports(sockets);
                assert!(own.iter().all(|port| ports.contains(port)), "{ports:?} of {own:?}");
            }
            for address in addresses {
                assert!(Listeners::bind(&[Endpoint::Tcp(address)], &config(1)).is_err(), "still held");
                reach_all(address, &of_workers, bound.min(workers));
            }
        }
    }

    /// Connects until so many workers have a connection that none of the others has taken.
    fn reach_all(address: SocketAddr, workers: &[Vec<OwnedFd>], own: usize) {
        let clients: Vec<_> = (0..200).map(|_| TcpStream::connect(address).expect("connected")).collect();
        let (mut accepted, mut reached) = (0, 0);
        for sockets in workers {
            let before = accepted;
            for socket in sockets {
                let flags = rustix::io::fcntl_getfd(socket).expect("flags");
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "nobody inherits it");
                while net::accept(socket).is_ok() {
                    accepted += 1;
                }
            }
            reached += usize::from(accepted > before);
        }
        assert_eq!((accepted, reached), (clients.len(), own), "of {} workers", workers.len());
    }

    #[test]
    fn every_worker_is_given_connections() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let listeners = Listeners::bind(&[any], &config(3)).expect("bound");
        let address = listeners.endpoints()[0].address().expect("of TCP");
        // Each goes to one of the three by its hash.
        let _clients: Vec<_> = (0..100).map(|_| TcpStream::connect(address).expect("connected")).collect();
        for sockets in listeners.into_workers() {
            assert!(net::accept(&sockets[0]).is_ok(), "a worker without connections");
        }
    }

    #[test]
    fn a_port_in_use_is_an_error_even_if_shared() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let first = Listeners::bind(&[any], &config(1)).expect("bound");
        let taken = first.endpoints().remove(0);
        let error =
            Listeners::bind(std::slice::from_ref(&taken), &config(1)).expect_err("in use").to_string();
        assert_eq!(
            error,
            format!(
                "listen on {taken}: address in use; stop the other server, or choose another port (-p 0: any free one)"
            )
        );
        let other = TcpListener::bind("127.0.0.1:0").expect("bound");
        let taken = other.local_addr().expect("a name");
        assert!(Listeners::bind(&[taken.into()], &config(2)).is_err());
    }

    /// One socket that isn't shared, so that no other server can join it unseen; several share their port.
    #[test]
    fn a_port_is_shared_among_workers_only() {
        let any: Endpoint = "127.0.0.1:0".parse().expect("an address");
        for workers in [1, 2] {
            let mut listeners = Listeners::bind(std::slice::from_ref(&any), &config(workers)).expect("bound");
            let names = listeners.take_names();
            let sockets = listeners.into_workers().into_iter().flatten();
            for socket in sockets.chain(names.sockets_held) {
                let flags = (rustix::io::fcntl_getfd(&socket), rustix::fs::fcntl_getfl(&socket));
                assert!(flags.0.is_ok_and(|flags| flags.contains(rustix::io::FdFlags::CLOEXEC)));
                assert!(flags.1.is_ok_and(|flags| flags.contains(rustix::fs::OFlags::NONBLOCK)));
                let is_name =
                    net::getsockname(&socket).expect("a name").address_family() == AddressFamily::UNIX;
                assert_eq!(sockopt::socket_reuseport(&socket), Ok(workers > 1 && !is_name));
            }
        }
    }

    /// Only a port that a dead server has left behind is waited for.
    #[test]
    fn a_port_in_use_is_waited_for_unless_it_is_served() {
        let timed = |address: SocketAddr| {
            let begun = Instant::now();
            let bound = Listeners::bind(&[Endpoint::Tcp(address)], &config(1));
            (bound, begun.elapsed())
        };
        let any = "127.0.0.1:0".parse().expect("an address");
        let (served, took) = timed(any);
        assert!(took < RELEASE_MAX, "a free one took {took:?}");
        let served = served.expect("bound");
        let (refused, took) = timed(served.endpoints()[0].address().expect("of TCP"));
        assert!(refused.is_err() && took < RELEASE_MAX, "a living server was waited for: {took:?}");
        // Whoever this is, it has no name.
        let nameless = TcpListener::bind(any).expect("bound");
        let address = nameless.local_addr().expect("a name");
        let (refused, took) = timed(address);
        assert!(refused.is_err() && took >= RELEASE_MAX, "it wasn't waited for: {took:?}");
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(RELEASE_MAX / 4);
                drop(nameless);
            });
            let (bound, took) = timed(address);
            assert!(bound.is_ok(), "it was free after a while, and refused after {took:?}");
        });
    }

    #[test]
    fn what_is_wrong_with_an_address_is_told_with_a_remedy() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for (errno, expected) in [
            (
                Errno::ADDRINUSE,
                "address in use; stop the other server, or choose another port (-p 0: any free one)",
            ),
            (
                Errno::ACCESS,
                "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher one, like -p 8080",
            ),
            (Errno::ADDRNOTAVAIL, "no such address on this machine; `ip address` lists those that there are"),
            (Errno::AFNOSUPPORT, "this kernel lacks the address family; listen on an IPv4 address"),
            (Errno::NOBUFS, "No buffer space available (os error 105); choose another address with --listen"),
        ] {
            let line = explain(address, &errno.into()).to_string();
            assert_eq!(line, format!("listen on 127.0.0.1:80: {expected}"));
        }
        let line = explain(address, &Errno::MFILE.into()).to_string();
        assert!(line.contains("descriptors") && line.starts_with("listen on 127.0.0.1:80: "), "{line}");
    }

    /// One queue of connections, of which every worker takes some.
    #[test]
    fn workers_share_a_unix_socket() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.sock");
        let endpoint = Endpoint::Unix(path.clone());
        let mut listeners = Listeners::bind(std::slice::from_ref(&endpoint), &config(3)).expect("bound");
        let names = listeners.take_names();
        assert_eq!(listeners.endpoints(), [endpoint]);
        let workers = listeners.into_workers();
        let clients: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).expect("connected")).collect();
        for sockets in &workers {
            assert_eq!(sockets.len(), 1);
            assert!(net::accept(&sockets[0]).is_ok());
        }
        drop((clients, workers));
        assert!(path.exists(), "held");
        drop(names);
        assert!(!path.exists());
    }
}

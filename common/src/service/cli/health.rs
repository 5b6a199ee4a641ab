//! `--check-health`: asks a running server's admin listener, for supervisors that judge by a program's exit code and have
//! no other program there (the `HEALTHCHECK` of an image that holds nothing else).

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::service::start::StartError;

/// How long the check takes, at most. The admin listener answers at once or not at all.
const CHECK_MAX: Duration = Duration::from_secs(5);
/// More than an answer of `/healthz` has.
const ANSWER_MAX: usize = 4096;

/// Whether the server with this admin listener is whole.
///
/// # Errors
/// One line that says what is wrong.
pub(super) fn check(admin: SocketAddr) -> Result<(), StartError> {
    let [address, other] = reachable(admin);
    let answer = ask(address).or_else(|error| if other == address { Err(error) } else { ask(other) });
    let answer = answer.map_err(|error| unreachable(address, &error))?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some(_) => {
            let reason = answer.lines().last().unwrap_or_default();
            Err(unhealthy(address, reason))
        }
        None => Err(unhealthy(address, "it closed the connection without an answer")),
    }
}

fn unhealthy(address: SocketAddr, reason: &str) -> StartError {
    StartError::new(format!("the server with its admin listener on {address} isn't healthy: {reason}"))
}

fn unreachable(address: SocketAddr, error: &io::Error) -> StartError {
    StartError::new(format!("no answer from the admin listener on {address}: {error}"))
}

/// Where this machine reaches a listener that is bound to there: who listens on all addresses of IPv6 does so on those of
/// IPv4, too, and a machine may have no others.
fn reachable(admin: SocketAddr) -> [SocketAddr; 2] {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let ips = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => [v4, v4],
        IpAddr::V6(ip) if ip.is_unspecified() => [v6, v4],
        ip => [ip, ip],
    };
    ips.map(|ip| SocketAddr::new(ip, admin.port()))
}

fn ask(address: SocketAddr) -> io::Result<Vec<u8>> {
    let until = Instant::now() + CHECK_MAX;
    let mut stream = TcpStream::connect_timeout(&address, CHECK_MAX)?;
    stream.set_write_timeout(Some(CHECK_MAX))?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 512]);
    while answer.len() < ANSWER_MAX {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What the check says of a server that answers like this.
    fn told_of(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("a name");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut request = [0; 512];
            let count = stream.read(&mut request).expect("read");
            assert!(request[..count].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).expect("sent");
        });
        let told = check(address).map_or_else(|error| error.to_string(), |()| "healthy".to_owned());
        server.join().expect("no panic");
        told
    }

    #[test]
    fn health_is_what_the_admin_listener_says() {
        assert_eq!(told_of("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"), "healthy");
        for (answer, expected) in [
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\nfailed: worker 1 panicked\n",
                "failed: worker 1 panicked",
            ),
            ("HTTP/1.1 404 Not Found\r\n\r\n404 Not Found\n", "404 Not Found"),
            ("", "without an answer"),
        ] {
            let told = told_of(answer);
            assert!(told.ends_with(expected) && !told.contains('\n'), "{told}");
        }
    }

    /// As on a machine without IPv6.
    #[test]
    fn all_addresses_may_be_those_of_ipv4() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("a name").port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            assert!(stream.read(&mut [0; 512]).expect("read") > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("sent");
        });
        assert!(check(format!("[::]:{port}").parse().expect("an address")).is_ok());
        server.join().expect("no panic");
    }

    #[test]
    fn nobody_there_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("a name");
        drop(listener);
        let told = check(address).expect_err("nobody is there").to_string();
        assert!(told.contains(&address.to_string()) && told.contains("refused"), "{told}");
    }

    #[test]
    fn all_addresses_are_asked_on_this_machine() {
        for (admin, asked) in [
            ("0.0.0.0:1", ["127.0.0.1:1"; 2]),
            ("[::]:2", ["[::1]:2", "127.0.0.1:2"]),
            ("192.0.2.1:3", ["192.0.2.1:3"; 2]),
        ] {
            let reachable = reachable(admin.parse().expect("an address"));
            assert_eq!(reachable.map(|address| address.to_string()), asked);
        }
    }
}

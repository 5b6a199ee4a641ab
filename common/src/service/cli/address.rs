//! What `--listen` takes, and what `--port` and `--socket-mode` take.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::str::FromStr;

use rustix::io::Errno;

use crate::service::endpoint::Endpoint;

/// Permissions that let somebody connect.
const WRITABLE: u32 = 0o222;

/// Where to listen, as the operator writes it. It may be more than one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// That one.
    At(Endpoint),
    /// `:8080`: all addresses of this machine.
    Everywhere(u16),
    /// `localhost:8080`: this machine alone, in IPv4 and in IPv6.
    Localhost(u16),
}

impl Address {
    /// A port that only this machine can reach.
    pub(super) fn of_port(port: u16) -> Address {
        Address::At(Endpoint::Tcp((Ipv4Addr::LOCALHOST, port).into()))
    }

    /// What is to be bound: on a machine without IPv6, only what there is.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        let tcp = |ip: IpAddr, port: u16| Endpoint::Tcp(SocketAddr::new(ip, port));
        match self {
            Address::At(endpoint) => vec![endpoint.clone()],
            Address::Everywhere(port) if exists(Ipv6Addr::UNSPECIFIED.into()) => {
                vec![tcp(Ipv6Addr::UNSPECIFIED.into(), *port)]
            }
            Address::Everywhere(port) => vec![tcp(Ipv4Addr::UNSPECIFIED.into(), *port)],
            Address::Localhost(port) => {
                let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                let there: Vec<_> = both.into_iter().filter(|ip| exists(*ip)).collect();
                // Without either of them, the bind tells what is wrong.
                let ips = if there.is_empty() { vec![both[0]] } else { there };
                ips.into_iter().map(|ip| tcp(ip, *port)).collect()
            }
        }
    }
}

/// The address of the admin listener: one, with a port.
pub(super) fn admin_address(text: &str) -> Result<SocketAddr, String> {
    let hint = "write it like 127.0.0.1:9090, :9090 or 9090";
    let address: Address = text.parse().map_err(|_| hint.to_owned())?;
    match address.endpoints().first() {
        Some(Endpoint::Tcp(address)) => Ok(*address),
        _ => Err(hint.to_owned()),
    }
}

/// Whether this machine has the address. In doubt it does, and a bind says why not.
fn exists(ip: IpAddr) -> bool {
    let missing = [Some(Errno::ADDRNOTAVAIL), Some(Errno::AFNOSUPPORT)];
    TcpListener::bind((ip, 0))
        .map_err(|error| Errno::from_io_error(&error))
        .err()
        .is_none_or(|errno| !missing.contains(&errno))
}

/// An address of IPv6 with a port behind it that isn't told from it. `::1:8080` is an address, too, but nobody has such a
/// one: a last group that is as long as a port, and of decimal digits alone.
fn bare_ipv6(text: &str) -> Option<(Ipv6Addr, u16)> {
    let (ip, digits) = text.rsplit_once(':')?;
    let is_port = digits.len() > 1 && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((ip.parse().ok()?, digits.parse().ok().filter(|_| is_port)?))
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if text.starts_with("unix:") {
            return text.parse().map(Address::At);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Address::At(Endpoint::Tcp(address)));
        }
        if let Some((_, rest)) = text.split_once("://") {
            let rest = rest.trim_end_matches('/');
            return Err(format!("an address has no scheme and no path; write it like {rest}"));
        }
        if text.contains('/') {
            return Err(format!("if that is the path of a unix socket, write unix:{text}"));
        }
        if let Some((ip, port)) = bare_ipv6(text) {
            let address = SocketAddr::new(ip.into(), port);
            return Err(format!("an IPv6 address with a port is written in brackets, like {address}"));
        }
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Err(format!("the port is missing; write it like {}", SocketAddr::new(ip, 8080)));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return port(text).map(Address::of_port);
        }
        match text.rsplit_once(':') {
            Some(("", digits)) => port(digits).map(Address::Everywhere),
            Some((host, digits)) if host.eq_ignore_ascii_case("localhost") => {
                port(digits).map(Address::Localhost)
            }
            Some(("*", digits)) => {
                let port = port(digits)?;
                Err(format!("all addresses are written :{port}"))
            }
            Some((host, digits)) if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => {
                let problem = port(digits).err();
                Err(problem.unwrap_or_else(|| "write it like 127.0.0.1:8080 or [::1]:8080".to_owned()))
            }
            None if text.eq_ignore_ascii_case("localhost") => {
                Err("the port is missing; write it like localhost:8080".to_owned())
            }
            _ => Err(
                "names aren't looked up; write it like 127.0.0.1:8080, :8080 for all addresses, localhost:8080 or \
                 unix:/run/www.sock"
                    .to_owned(),
            ),
        }
    }
}

/// A port; 0 is a free one, to be found out.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "a port is a number from 0 (any free one) to 65535, like 8080".to_owned())
}

/// Permissions in octal digits.
pub(super) fn socket_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal =
        (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(digits, 8) {
        Ok(mode @ 0..=0o777) if is_octal && mode & WRITABLE == 0 => {
            Err("nobody could connect, which takes the permission to write; write it like 660".to_owned())
        }
        Ok(mode @ 0..=0o777) if is_octal => Ok(mode),
        _ => {
            Err("write it in octal digits, like 660 for the owner and the group, or 666 for everybody"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Address {
        Address::At(Endpoint::Tcp(text.parse().expect("an address")))
    }

    #[test]
    fn addresses_in_all_their_forms() {
        for (text, expected) in [
            ("127.0.0.1:80", tcp("127.0.0.1:80")),
            ("[::1]:0", tcp("[::1]:0")),
            ("8080", tcp("127.0.0.1:8080")),
            ("0", tcp("127.0.0.1:0")),
            (":8080", Address::Everywhere(8080)),
            ("localhost:8080", Address::Localhost(8080)),
            ("LocalHost:0", Address::Localhost(0)),
            ("unix:/run/x.sock", Address::At(Endpoint::Unix("/run/x.sock".into()))),
        ] {
            assert_eq!(text.parse::<Address>(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_bad_address_is_told_what_would_be_right() {
        for (text, expected) in [
            ("", "names aren't looked up; write it like 127.0.0.1:8080, :8080"),
            ("nowhere", "names aren't looked up"),
            ("example.com:80", "names aren't looked up"),
            ("localhost", "the port is missing; write it like localhost:8080"),
            ("192.0.2.5", "the port is missing; write it like 192.0.2.5:8080"),
            ("::1", "the port is missing; write it like [::1]:8080"),
            ("[::1]", "the port is missing; write it like [::1]:8080"),
            ("::1:8080", "an IPv6 address with a port is written in brackets, like [::1]:8080"),
            (":::80", "in brackets, like [::]:80"),
            ("2001:db8::1:8443", "in brackets, like [2001:db8::1]:8443"),
            ("2001:db8:1:2:3:4:5:6:80", "in brackets, like [2001:db8:1:2:3:4:5:6]:80"),
            ("fe80::1:2", "the port is missing; write it like [fe80::1:2]:8080"),
            ("2001:db8::beef", "the port is missing; write it like [2001:db8::beef]:8080"),
            ("2001:db8::1:99999", "0 (any free one) to 65535"),
            ("127.0.0.1:99999", "a port is a number from 0 (any free one) to 65535"),
            ("127.0.0.1:", "a port is a number"),
            ("[::1]:http", "a port is a number"),
            (":", "a port is a number"),
            ("localhost:x", "a port is a number"),
            ("70000", "a port is a number"),
            ("-1", "names aren't looked up"),
            ("*:80", "all addresses are written :80"),
            ("http://127.0.0.1:8080/", "write it like 127.0.0.1:8080"),
            ("/run/x.sock", "write unix:/run/x.sock"),
            ("unix:", "the path is missing"),
        ] {
            let error = text.parse::<Address>().expect_err("refused");
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn what_there_is_of_a_name_is_bound() {
        assert_eq!(tcp("127.0.0.1:1").endpoints().len(), 1);
        let has_six = exists(Ipv6Addr::LOCALHOST.into());
        let localhost: Vec<String> =
            Address::Localhost(7).endpoints().iter().map(Endpoint::to_string).collect();
        assert_eq!(localhost, if has_six { &["127.0.0.1:7", "[::1]:7"][..] } else { &["127.0.0.1:7"] });
        let everywhere = Address::Everywhere(7).endpoints();
        let any = if exists(Ipv6Addr::UNSPECIFIED.into()) { "[::]:7" } else { "0.0.0.0:7" };
        assert_eq!(everywhere.iter().map(Endpoint::to_string).collect::<Vec<_>>(), [any]);
        // Nobody has an address of RFC 5737.
        assert!(exists(Ipv4Addr::LOCALHOST.into()) && !exists(Ipv4Addr::new(192, 0, 2, 1).into()));
    }

    #[test]
    fn permissions_are_octal() {
        for (text, mode) in
            [("660", 0o660), ("0660", 0o660), ("0o600", 0o600), ("777", 0o777), ("222", 0o222)]
        {
            assert_eq!(socket_mode(text), Ok(mode));
        }
        for (text, expected) in [
            ("", "octal"),
            ("888", "octal"),
            ("rw", "octal"),
            ("+660", "octal"),
            ("1777", "octal"),
            ("00660", "octal"),
            ("-1", "octal"),
            ("444", "nobody could connect"),
            ("0", "nobody could connect"),
        ] {
            let error = socket_mode(text).expect_err("refused");
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

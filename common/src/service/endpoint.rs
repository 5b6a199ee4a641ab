//! Where a server listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// What the path of a unix socket is written behind.
const UNIX: &str = "unix:";

/// One place where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address; port 0 is a free port, to be found out.
    Tcp(SocketAddr),
    /// The path of a unix socket (unix(7)).
    Unix(PathBuf),
}

impl Endpoint {
    /// The address, if it is one of TCP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Tcp(address) => Some(*address),
            Endpoint::Unix(_) => None,
        }
    }

    /// Whether nobody can listen at both: they are the same, or one is a wildcard that includes the other. One of IPv6
    /// includes IPv4 (`IPV6_V6ONLY` is off for it, ipv6(7)).
    #[must_use]
    pub fn overlaps(&self, other: &Endpoint) -> bool {
        let (one, other) = match (self, other) {
            (Endpoint::Tcp(one), Endpoint::Tcp(other)) => (one, other),
            (one, other) => return one == other,
        };
        let includes = |one: &SocketAddr, other: &SocketAddr| {
            one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
        };
        let is_same_port = one.port() == other.port() && one.port() != 0;
        is_same_port && (one == other || includes(one, other) || includes(other, one))
    }

    /// What a start line calls it: an URL, where a browser could go.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Endpoint::Tcp(address) => format!("http://{address}/"),
            Endpoint::Unix(_) => self.to_string(),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return match path {
                "" => Err("the path is missing; write it like unix:/run/www.sock".to_owned()),
                path if path.starts_with('@') => {
                    Err("abstract sockets are open to everybody; write a path, like unix:/run/www.sock"
                        .to_owned())
                }
                path => Ok(Endpoint::Unix(PathBuf::from(path))),
            };
        }
        let address =
            text.parse().map_err(|error| format!("{error}; write it like 127.0.0.1:8080 or [::]:8080"));
        address.map(Endpoint::Tcp)
    }
}

/// As the operator writes it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint::Tcp(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_written_as_they_are_read() {
        for (text, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("[::]:0", "http://[::]:0/"),
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
            ("unix:x", "unix:x"),
        ] {
            let endpoint: Endpoint = text.parse().expect("an endpoint");
            assert_eq!((endpoint.to_string().as_str(), endpoint.url().as_str()), (text, url));
            let address = text.parse::<SocketAddr>().ok();
            assert_eq!(endpoint.address(), address);
            assert!(address.is_none_or(|address| Endpoint::from(address) == endpoint));
        }
        for (text, expected) in [
            ("localhost", "; write it like 127.0.0.1:8080 or [::]:8080"),
            ("unix:", "the path is missing"),
            ("unix:@name", "abstract sockets are open to everybody"),
        ] {
            let error = text.parse::<Endpoint>().expect_err("no endpoint");
            assert!(error.contains(expected), "{error}");
        }
    }
}

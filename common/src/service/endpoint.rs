//! Where a server listens.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Where a server listens, as the operator writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address; port 0 is a free port, to be found out.
    Tcp(SocketAddr),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
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
        for text in ["127.0.0.1:8080", "[::]:0"] {
            let endpoint: Endpoint = text.parse().expect("an address");
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(Endpoint::from(text.parse::<SocketAddr>().expect("an address")), endpoint);
        }
        let error = "localhost".parse::<Endpoint>().expect_err("no address");
        assert!(error.ends_with("; write it like 127.0.0.1:8080 or [::]:8080"), "{error}");
    }
}

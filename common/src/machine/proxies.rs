//! Proxies that are trusted: what they say of their clients is believed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::machine::peer::Peer;

/// The field in which a proxy says whom it speaks for: a list, to which each proxy on the way has added the address that
/// it was asked from.
pub const FORWARDED_FOR: &str = "X-Forwarded-For";

/// An IPv4 address in an IPv6 one has so many bits in front of it (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// Where trusted proxies are, as the operator writes it: `10.0.0.0/8`, `2001:db8::1`, `unix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyRange {
    /// At these addresses.
    Net(IpNet),
    /// On this machine, and they come through a unix socket.
    Unix,
}

impl FromStr for ProxyRange {
    type Err = String;

    fn from_str(text: &str) -> Result<ProxyRange, String> {
        let text = text.trim_ascii();
        if text == "unix" {
            return Ok(ProxyRange::Unix);
        }
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(|net| ProxyRange::Net(canonical(net)))
            .map_err(|_| "write it like 10.0.0.0/8, 2001:db8::1 or unix".to_owned())
    }
}

impl fmt::Display for ProxyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyRange::Net(net) => net.fmt(f),
            ProxyRange::Unix => f.write_str("unix"),
        }
    }
}

/// IPv4 addresses are written as such, as peers are.
fn canonical(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(net) => net.network().to_ipv4_mapped().zip(net.prefix_len().checked_sub(MAPPED_BITS)),
        IpNet::V4(_) => None,
    };
    let net = mapped.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok()).map_or(net, IpNet::V4);
    net.trunc()
}

/// The proxies that a server trusts; by default none.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Where they are.
    pub ranges: Vec<ProxyRange>,
    /// Whether each of their connections begins with a header of the PROXY protocol
    /// ([`proxy_header`](crate::http::proxy_header)).
    pub send_header: bool,
}

impl Proxies {
    /// Whether this is one of them.
    #[must_use]
    pub fn trust(&self, peer: Peer) -> bool {
        self.ranges.iter().any(|range| match (range, peer) {
            (ProxyRange::Net(net), Peer::Ip(address)) => net.contains(&address),
            (ProxyRange::Unix, Peer::Unix) => true,
            (ProxyRange::Net(_), Peer::Unix) | (ProxyRange::Unix, Peer::Ip(_)) => false,
        })
    }

    /// Whether a connection of this peer begins with a header of the PROXY protocol.
    #[must_use]
    pub(crate) fn introduce(&self, peer: Option<Peer>) -> bool {
        self.send_header && peer.is_some_and(|peer| self.trust(peer))
    }

    /// Who asked: the peer; or if that is trusted, whom it speaks for. That is the last address of
    /// [`X-Forwarded-For`](FORWARDED_FOR) that isn't trusted itself, because what stands before it may be the client's
    /// invention. Where that can't be told, it is the last one that could be. `lines` are those of the field, the last one
    /// first.
    pub(crate) fn client<'a, L: Iterator<Item = &'a [u8]>>(
        &self,
        peer: Option<Peer>,
        lines: impl FnOnce() -> L,
    ) -> Option<Peer> {
        let mut client = peer?;
        if self.ranges.is_empty() || !self.trust(client) {
            return peer;
        }
        let items = lines().flat_map(|line| line.rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        // An empty element is none (RFC 9110 §5.6.1.2).
        for item in items.filter(|item| !item.is_empty()) {
            let Some(address) = str::from_utf8(item).ok().and_then(|item| item.parse::<IpAddr>().ok()) else {
                break;
            };
            client = Peer::from(address);
            if !self.trust(client) {
                break;
            }
        }
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies(ranges: &str) -> Proxies {
        let ranges = ranges.split(',').map(|range| range.parse().expect("a range")).collect();
        Proxies { ranges, send_header: false }
    }

    fn ip(text: &str) -> Peer {
        Peer::from(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn ranges_are_written_as_they_are_meant() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            (" ::1 ", "::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("unix", "unix"),
        ] {
            assert_eq!(text.parse::<ProxyRange>().expect(text).to_string(), expected);
        }
        for text in
            ["", "10.0.0.0/33", "10/8", "10.0.0.0/", "localhost", "UNIX", "::1/129", "1.2.3.4:80", "*"]
        {
            let error = text.parse::<ProxyRange>().expect_err(text);
            assert_eq!(error, "write it like 10.0.0.0/8, 2001:db8::1 or unix");
        }
    }

    #[test]
    fn only_those_named_are_trusted() {
        let some = proxies("10.0.0.0/8,2001:db8::/32,192.0.2.7");
        for (peer, trusted) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(some.trust(ip(peer)), trusted, "{peer}");
        }
        assert!(!some.trust(Peer::Unix) && proxies("unix").trust(Peer::Unix));
        assert!(!Proxies::default().trust(Peer::Unix) && !proxies("unix").trust(ip("::1")));
        assert!(!proxies("::/0").trust(ip("10.0.0.1")), "all of IPv6 has nothing of IPv4");
        let sending = Proxies { send_header: true, ..some.clone() };
        for peer in [Some(ip("10.0.0.1")), Some(ip("11.0.0.1")), Some(Peer::Unix), None] {
            assert_eq!(sending.introduce(peer), peer == Some(ip("10.0.0.1")));
            assert!(!some.introduce(peer));
        }
    }

    #[test]
    fn the_client_is_the_last_one_not_trusted() {
        let proxies = proxies("10.0.0.0/8,2001:db8::/32,unix");
        for (peer, lines, expected) in [
            ("10.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2,10.0.0.3"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9", "10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1,\t203.0.113.9 ", " , ,"], "203.0.113.9"),
            ("10.0.0.1", &["2001:DB9::0001"], "2001:db9::1"),
            ("10.0.0.1", &["2001:db9::1, 2001:db8::1"], "2001:db9::1"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            // All of them are trusted.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Nothing is said.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["", " ", ","], "10.0.0.1"),
            // What can't be read ends it.
            ("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.9, _hidden, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.9:4711"], "10.0.0.1"),
            ("10.0.0.1", &["[2001:db9::1]"], "10.0.0.1"),
            ("10.0.0.1", &["[2001:db9::1]:4711"], "10.0.0.1"),
            ("10.0.0.1", &["2001:db9::1%eth0"], "10.0.0.1"),
            ("10.0.0.1", &["\"203.0.113.9\""], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.09"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9 10.0.0.2"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113"], "10.0.0.1"),
            ("10.0.0.1", &["\u{ff11}.1.1.1"], "10.0.0.1"),
            // Who isn't trusted is believed nothing.
            ("203.0.113.1", &["203.0.113.9"], "203.0.113.1"),
            ("203.0.113.1", &["10.0.0.1"], "203.0.113.1"),
        ] {
            let found = proxies.client(Some(ip(peer)), || lines.iter().rev().map(|line| line.as_bytes()));
            assert_eq!(found, Some(ip(expected)), "{peer}: {lines:?}");
        }
        let lines = || [&b"203.0.113.9"[..]].into_iter();
        assert_eq!(proxies.client(Some(Peer::Unix), lines), Some(ip("203.0.113.9")));
        assert_eq!(proxies.client(None, lines), None);
        let none = Proxies::default();
        let unasked = || -> std::iter::Empty<&[u8]> { panic!("nobody is trusted") };
        assert_eq!(none.client(Some(ip("10.0.0.1")), unasked), Some(ip("10.0.0.1")));
    }

    proptest! {
        /// Whatever a client invents, it stands before what the proxy adds.
        #[test]
        fn a_client_cannot_say_who_it_is(invented in any::<Vec<u8>>(), own in any::<[u8; 4]>()) {
            let own = IpAddr::from(own);
            prop_assume!(!proxies("10.0.0.0/8").trust(own.into()));
            let line = [&invented[..], b", ", own.to_string().as_bytes()].concat();
            let found = proxies("10.0.0.0/8").client(Some(ip("10.0.0.1")), || [&line[..]].into_iter());
            prop_assert_eq!(found, Some(Peer::from(own)));
        }
    }
}

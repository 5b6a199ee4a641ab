//! By which addresses others in the same network reach a server that listens on all.

use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::service::endpoint::Endpoint;

/// A machine with containers and tunnels has dozens of addresses; nobody tries more than a few.
const ADDRESSES_MAX: usize = 4;

/// URLs for those in the same network, if this is a wildcard address; none otherwise.
pub(super) fn urls(endpoint: &Endpoint) -> Vec<String> {
    let Some(address) = endpoint.address().filter(|address| address.ip().is_unspecified()) else {
        return Vec::new();
    };
    let interfaces = getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = interface.address?;
        let ip = address
            .as_sockaddr_in()
            .map(|four| IpAddr::from(four.ip()))
            .or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::from(six.ip())));
        Some((interface.flags, ip?))
    });
    reachable(address, interfaces)
}

fn reachable(address: SocketAddr, interfaces: impl Iterator<Item = (InterfaceFlags, IpAddr)>) -> Vec<String> {
    let works = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    let mut ips: Vec<IpAddr> = interfaces
        .filter(|(flags, _)| flags.contains(works) && !flags.contains(InterfaceFlags::IFF_LOOPBACK))
        .map(|(_, ip)| ip)
        .filter(|ip| match ip {
            IpAddr::V4(four) => !four.is_link_local() && !four.is_loopback(),
            // A browser can't be told the interface, which an address of the link needs.
            IpAddr::V6(six) => address.is_ipv6() && !six.is_unicast_link_local() && !six.is_loopback(),
        })
        .collect();
    // The short ones first: somebody has to type them.
    ips.sort_by_key(IpAddr::is_ipv6);
    ips.truncate(ADDRESSES_MAX);
    ips.into_iter().map(|ip| format!("http://{}/", SocketAddr::new(ip, address.port()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKS: InterfaceFlags = InterfaceFlags::IFF_UP.union(InterfaceFlags::IFF_RUNNING);

    fn reached(address: &str, interfaces: &[(InterfaceFlags, &str)]) -> Vec<String> {
        let interfaces = interfaces.iter().map(|(flags, ip)| (*flags, ip.parse().expect("an address")));
        reachable(address.parse().expect("an address"), interfaces)
    }

    #[test]
    fn addresses_that_a_neighbour_can_use() {
        let interfaces = [
            (WORKS | InterfaceFlags::IFF_LOOPBACK, "127.0.0.1"),
            (WORKS | InterfaceFlags::IFF_LOOPBACK, "::1"),
            (WORKS | InterfaceFlags::IFF_LOOPBACK, "10.9.9.9"),
            (WORKS, "2001:db8::5"),
            (WORKS, "fe80::1"),
            (WORKS, "169.254.3.4"),
            (InterfaceFlags::IFF_UP, "172.17.0.1"),
            (WORKS, "192.0.2.5"),
        ];
        assert_eq!(reached("0.0.0.0:80", &interfaces), ["http://192.0.2.5:80/"]);
        assert_eq!(
            reached("[::]:8080", &interfaces),
            ["http://192.0.2.5:8080/", "http://[2001:db8::5]:8080/"]
        );
        let many: Vec<_> =
            ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"].map(|ip| (WORKS, ip)).into();
        assert_eq!(reached("[::]:1", &many).len(), ADDRESSES_MAX);
    }

    #[test]
    fn other_addresses_say_it_all_themselves() {
        for endpoint in ["127.0.0.1:80", "[::1]:80", "192.0.2.5:80", "unix:/run/x.sock"] {
            assert_eq!(urls(&endpoint.parse().expect("an endpoint")), [""; 0]);
        }
    }
}

//! Where a server runs and where it listens.

use crate::machine::placement::Placement;
use std::net::{Ipv4Addr, SocketAddr};

/// A server's place on this machine and in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its CPUs, one for each worker that it is to have.
    pub placement: Placement,
    /// Where it listens: an address of this machine that its clients reach.
    pub address: Ipv4Addr,
}

/// On the loopback, for clients on this machine.
impl From<Placement> for Seat {
    fn from(placement: Placement) -> Seat {
        Seat { placement, address: Ipv4Addr::LOCALHOST }
    }
}

impl Seat {
    /// So many workers it is to have.
    pub(crate) fn workers(self) -> usize {
        self.placement.server.count()
    }

    /// Its address with any free port.
    pub(crate) fn any_port(self) -> SocketAddr {
        SocketAddr::from((self.address, 0))
    }
}

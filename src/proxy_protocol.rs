//! The PROXY protocol, with which a proxy passes on the address of its client: the networks that are
//! trusted to use the protocol, and its header. Pure: no I/O.

pub(crate) mod header;
pub(crate) mod network;

use std::net::IpAddr;
use std::time::Duration;

use network::Network;

/// The settings of a server for the PROXY protocol.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyProtocol {
    /// The networks from which every connection must begin with a header. If there are none, the server
    /// expects no headers.
    pub(crate) trusted: Vec<Network>,
    /// The time limit for the whole header.
    pub(crate) timeout: Duration,
}

impl ProxyProtocol {
    /// Returns whether connections from this address must begin with a header.
    pub(crate) fn trusts(&self, addr: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(addr))
    }
}

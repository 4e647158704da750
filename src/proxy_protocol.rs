//! The PROXY protocol, by which a proxy passes on the address of its client: the networks that are
//! trusted to use the protocol, and its header. Pure: bytes and addresses come in, decisions go out.

pub(crate) mod header;
pub(crate) mod network;

use std::net::IpAddr;
use std::time::Duration;

use network::Network;

/// The settings of a server for the PROXY protocol.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyProtocol {
    /// The networks whose connections begin with a header. Without any, no connection does.
    pub(crate) trusted: Vec<Network>,
    /// How long a header may take.
    pub(crate) timeout: Duration,
}

impl ProxyProtocol {
    /// Returns whether connections from this address begin with a header.
    pub(crate) fn trusts(&self, addr: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(addr))
    }
}

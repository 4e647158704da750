//! What is known of one connection for as long as anybody asks, and what it leaves behind: a line in
//! the log, and its share of the totals.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Instant;

use super::control::Control;
use super::counter::Counter;
use super::stage::{CurrentStage, Stage};
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol::header::Endpoints;

/// The record of one connection. Its owner writes it; a shutdown reads it if the owner never ends.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: u64,
    /// The other end of the socket.
    peer: SocketAddr,
    /// Known once somebody has asked for it. In a box, because few do.
    local: OnceLock<Box<SocketAddr>>,
    /// What the header of a proxy says instead. In a box, because most connections have none.
    #[cfg(feature = "proxy-protocol")]
    proxied: OnceLock<Box<Endpoints>>,
    pub(crate) accepted: Instant,
    bytes_in: Counter,
    bytes_out: Counter,
    finished: AtomicBool,
    stage: CurrentStage,
    /// What has become of the connection, as far as an abort is concerned: a [`Fate`].
    fate: AtomicU8,
    pub(crate) control: Control,
}

/// The first of these that happens to a connection is the one that counts and is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing has happened yet.
    Live,
    /// The connection was aborted because the server stopped.
    AbortedByStop,
    /// This connection alone was aborted.
    AbortedAlone,
    /// The connection has left its line in the log.
    Finished,
}

// Relaxed is enough throughout: the fields decide which thread comes first, and publish nothing else.
impl Record {
    pub(crate) fn new(id: u64, peer: SocketAddr) -> Self {
        Self {
            id,
            peer,
            local: OnceLock::new(),
            #[cfg(feature = "proxy-protocol")]
            proxied: OnceLock::new(),
            accepted: Instant::now(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            finished: AtomicBool::new(false),
            stage: CurrentStage::new(),
            fate: AtomicU8::new(Fate::Live as u8),
            control: Control::default(),
        }
    }

    /// Returns the address of the client.
    pub(crate) fn peer(&self) -> SocketAddr {
        #[cfg(feature = "proxy-protocol")]
        if let Some(endpoints) = self.proxied.get() {
            return endpoints.source;
        }
        self.peer
    }

    /// Returns the address that the client has connected to, if it is known.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        #[cfg(feature = "proxy-protocol")]
        if let Some(endpoints) = self.proxied.get() {
            return Some(endpoints.destination);
        }
        self.local.get().map(|local| **local)
    }

    /// Notes the address of this end of the socket.
    pub(crate) fn set_local(&self, local: SocketAddr) {
        self.local.get_or_init(|| Box::new(local));
    }

    /// Notes the addresses that the header of a proxy has.
    #[cfg(feature = "proxy-protocol")]
    pub(crate) fn set_proxied(&self, endpoints: Endpoints) {
        let canonical = Endpoints {
            source: canonical(endpoints.source),
            destination: canonical(endpoints.destination),
        };
        self.proxied.get_or_init(|| Box::new(canonical));
    }

    pub(crate) fn received(&self, n: usize) {
        self.bytes_in.add(n);
    }

    pub(crate) fn sent(&self, n: usize) {
        self.bytes_out.add(n);
    }

    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.get()
    }

    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.get()
    }

    /// Returns how far the connection has come.
    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Notes that the connection has come this far.
    pub(crate) fn reach(&self, stage: Stage) {
        self.stage.set(stage);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Finishes the record, and returns whether it was not finished before.
    pub(super) fn finish(&self) -> bool {
        let is_first = !self.finished.swap(true, Ordering::Relaxed);
        self.reach(Stage::Ended);
        // A later abort finds nothing to count, and the log agrees with the totals.
        self.meet(Fate::Finished);
        is_first
    }

    /// Decides the fate of the connection. Returns whether it was still open.
    pub(super) fn meet(&self, fate: Fate) -> bool {
        self.fate
            .compare_exchange(
                Fate::Live as u8,
                fate as u8,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    fn has_met(&self, fate: Fate) -> bool {
        self.fate.load(Ordering::Relaxed) == fate as u8
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.has_met(Fate::AbortedByStop) || self.is_aborted_alone()
    }

    /// Returns whether this connection alone was aborted, by its handler or by a handle.
    pub(crate) fn is_aborted_alone(&self) -> bool {
        self.has_met(Fate::AbortedAlone)
    }
}

/// Shows an IPv4 address that arrived over an IPv6 socket (`::ffff:…`) as the IPv4 it is.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(addr.ip().to_canonical(), addr.port())
        }
        _ => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_shown_as_ipv4_and_others_are_left_alone() {
        let canonical = |addr: &str| canonical(addr.parse().unwrap()).to_string();
        assert_eq!(canonical("[::ffff:192.0.2.1]:7"), "192.0.2.1:7");
        assert_eq!(canonical("[::1]:7"), "[::1]:7");
        assert_eq!(canonical("[fe80::1%3]:7"), "[fe80::1%3]:7");
        assert_eq!(canonical("192.0.2.1:7"), "192.0.2.1:7");
    }
}

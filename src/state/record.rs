//! The record of one connection, from which its line in the log and its share of the totals are made.
//!
//! Handles keep the record after the connection has ended.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Instant;

use super::control::Control;
use super::counter::Counter;
use super::stage::{CurrentStage, Stage};
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol::header::Endpoints;

/// The record of one connection. The connection's owner writes it, and handles and the status read it. If
/// the handler never returns, a shutdown finishes it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: u64,
    /// The address of the socket's peer.
    peer: SocketAddr,
    /// The address of this end, once it was looked up. Boxed to save memory, because it rarely is.
    local: OnceLock<Box<SocketAddr>>,
    /// The addresses in the PROXY header, which replace the two above. Boxed, because few connections have
    /// a header.
    #[cfg(feature = "proxy-protocol")]
    proxied: OnceLock<Box<Endpoints>>,
    pub(crate) accepted: Instant,
    bytes_in: Counter,
    bytes_out: Counter,
    finished: AtomicBool,
    stage: CurrentStage,
    /// A [`Fate`], as a number.
    fate: AtomicU8,
    pub(crate) control: Control,
}

/// Whether a connection was aborted, or finished first. The first of these events counts and is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing has happened yet.
    Live,
    /// The connection was aborted because the server stopped.
    AbortedByStop,
    /// The handler or a handle aborted this connection alone.
    AbortedAlone,
    /// The connection has ended, and is in the totals.
    Finished,
}

// Relaxed is enough throughout: the fields decide which thread comes first, and no thread reads other memory
// by what they say.
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

    /// Returns the address that the client has connected to, if it was looked up or is in a PROXY header.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        #[cfg(feature = "proxy-protocol")]
        if let Some(endpoints) = self.proxied.get() {
            return Some(endpoints.destination);
        }
        self.local.get().map(|local| **local)
    }

    /// Stores the address of this end of the socket.
    pub(crate) fn set_local(&self, local: SocketAddr) {
        self.local.get_or_init(|| Box::new(local));
    }

    /// Stores the addresses in the PROXY header.
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

    /// Returns the current stage.
    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Advances the connection to `stage`, unless it has passed that stage.
    pub(crate) fn reach(&self, stage: Stage) {
        self.stage.set(stage);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Finishes the record. Returns `false` if it was finished before.
    pub(super) fn finish(&self) -> bool {
        let is_first = !self.finished.swap(true, Ordering::Relaxed);
        self.reach(Stage::Ended);
        // A later abort then does not count, so that the log agrees with the totals.
        self.decide_fate(Fate::Finished);
        is_first
    }

    /// Sets the fate of the connection. Returns `false`, without setting it, if it was set before.
    pub(super) fn decide_fate(&self, fate: Fate) -> bool {
        self.fate
            .compare_exchange(
                Fate::Live as u8,
                fate as u8,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    fn has_fate(&self, fate: Fate) -> bool {
        self.fate.load(Ordering::Relaxed) == fate as u8
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.has_fate(Fate::AbortedByStop) || self.is_aborted_alone()
    }

    /// Returns whether the handler or a handle aborted this connection alone.
    pub(crate) fn is_aborted_alone(&self) -> bool {
        self.has_fate(Fate::AbortedAlone)
    }
}

/// Returns the IPv4 address for an IPv4-mapped address (`::ffff:…`), which an IPv6 socket has for an IPv4
/// peer, and any other address unchanged.
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

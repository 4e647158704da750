//! What is known of one connection for as long as anybody asks, and what it leaves behind: a line in
//! the log, and its share of the totals.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::control::Control;
use super::counter::Counter;

/// The record of one connection. Its owner writes it; a shutdown reads it if the owner never ends.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    /// Known once somebody has asked for it.
    pub(crate) local: OnceLock<SocketAddr>,
    pub(crate) accepted: Instant,
    bytes_in: Counter,
    bytes_out: Counter,
    finished: AtomicBool,
    pub(crate) control: Control,
}

// Relaxed is enough: the flag only decides which thread finishes the record.
impl Record {
    pub(crate) fn new(id: u64, peer: SocketAddr) -> Self {
        Self {
            id,
            peer,
            local: OnceLock::new(),
            accepted: Instant::now(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            finished: AtomicBool::new(false),
            control: Control::default(),
        }
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

    /// Finishes the record, and returns whether it was not finished before.
    pub(super) fn finish(&self) -> bool {
        !self.finished.swap(true, Ordering::Relaxed)
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

//! How many connections each source has. Pure: addresses come in, verdicts go out.
//!
//! Only sources with a live connection are kept, so there are never more than connections, and
//! each question costs one look-up, however many there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};

/// What counts as one source: an IPv4 address, or an IPv6 /64, which is the least that one
/// customer is given (RFC 6177): within it, moving costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(peer: IpAddr) -> Self {
        Self(match peer.to_canonical() {
            IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & (u128::MAX << 64)).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The sources that have connections, and how many.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    counts: HashMap<Source, usize>,
}

impl Sources {
    /// Counts one more for `source`, unless it has `limit` already.
    pub(crate) fn claim(&mut self, source: Source, limit: usize) -> bool {
        let count = self.counts.entry(source).or_default();
        let admitted = *count < limit;
        *count += usize::from(admitted);
        admitted
    }

    /// Takes back one that was claimed.
    pub(crate) fn release(&mut self, source: Source) {
        if let Entry::Occupied(mut entry) = self.counts.entry(source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(addr: &str) -> Source {
        addr.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network_of_64_bits() {
        assert_eq!(source("::ffff:192.0.2.7"), source("192.0.2.7"));
        assert_ne!(source("192.0.2.7"), source("192.0.2.8"));
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), source("2001:db8:1:2::9"));
        assert_ne!(source("2001:db8:1:3::9"), source("2001:db8:1:2::9"));
    }

    #[test]
    fn each_source_has_its_own_limit_and_leaves_nothing_behind() {
        let (one, other) = (source("192.0.2.7"), source("192.0.2.8"));
        let mut sources = Sources::default();
        assert!(sources.claim(one, 2));
        assert!(sources.claim(one, 2));
        assert!(!sources.claim(one, 2));
        assert!(sources.claim(other, 2));
        sources.release(one);
        assert!(sources.claim(one, 2));
        for source in [one, one, other] {
            sources.release(source);
        }
        assert!(sources.counts.is_empty());
    }
}

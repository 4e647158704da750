//! Counts the connections of each source. Nothing here makes a system call.
//!
//! The table has only sources with a live connection, so it is never larger than the number of
//! connections. Each claim and each release costs one look-up in a hash table.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A source of connections: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    V4(Ipv4Addr),
    /// A /64, the smallest network that a customer gets (RFC 6177). A client can use all its addresses at no
    /// cost, so they count as one source. Every link has the same link-local network, so the number of the
    /// link (`sin6_scope_id`) distinguishes them.
    V6 {
        network: Ipv6Addr,
        link: u32,
    },
}

impl From<SocketAddr> for Source {
    fn from(peer: SocketAddr) -> Self {
        let link = match peer {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id(),
            _ => 0,
        };
        match peer.ip().to_canonical() {
            IpAddr::V4(addr) => Self::V4(addr),
            IpAddr::V6(addr) => Self::V6 {
                network: Ipv6Addr::from_bits(addr.to_bits() & (u128::MAX << 64)),
                link,
            },
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(addr) => addr.fmt(f),
            Self::V6 { network, link: 0 } => write!(f, "{network}/64"),
            Self::V6 { network, link } => write!(f, "{network}%{link}/64"),
        }
    }
}

/// The number of connections of each source that has any.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    counts: HashMap<Source, usize>,
}

impl Sources {
    /// Counts one more connection of `source`. Returns `false`, without counting, if it has `limit` already.
    pub(crate) fn claim(&mut self, source: Source, limit: usize) -> bool {
        let count = self.counts.entry(source).or_default();
        let admitted = *count < limit;
        *count += usize::from(admitted);
        admitted
    }

    /// Counts one connection of `source` less.
    pub(crate) fn release(&mut self, source: Source) {
        if let Entry::Occupied(mut entry) = self.counts.entry(source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// The maximum number of sources in one line of the log.
const MAX_NAMED: usize = 3;

/// Returns as text the sources to which most of `peers` belong: `9 from 192.0.2.7, 1 from …`.
pub(super) fn name_largest(peers: &[SocketAddr]) -> String {
    let mut counts: HashMap<Source, usize> = HashMap::new();
    for &peer in peers {
        *counts.entry(peer.into()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by_key(|&(source, count)| (Reverse(count), source));
    let names: Vec<_> = counts
        .iter()
        .take(MAX_NAMED)
        .map(|(source, count)| format!("{count} from {source}"))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn source(addr: &str) -> Source {
        SocketAddr::from((addr.parse::<IpAddr>().unwrap(), 1007)).into()
    }

    #[test]
    fn links_are_sources_of_their_own_and_each_source_is_named() {
        let on_link = |addr: &str| Source::from(addr.parse::<SocketAddr>().unwrap());
        let (one, other) = (on_link("[fe80::1%1]:7"), on_link("[fe80::1%2]:7"));
        assert_ne!(one, other);
        assert_eq!(one, on_link("[fe80::2%1]:9"));
        assert_eq!(one.to_string(), "fe80::%1/64");
        assert_eq!(source("2001:db8:1:2::9").to_string(), "2001:db8:1:2::/64");
        assert_eq!(source("::ffff:192.0.2.7").to_string(), "192.0.2.7");
    }

    #[test]
    fn the_largest_sources_are_named_first_and_at_most_three() {
        let peers = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter()
                .enumerate()
                .map(|(port, addr)| {
                    let port = u16::try_from(port).unwrap();
                    (addr.parse::<IpAddr>().unwrap(), port).into()
                })
                .collect()
        };
        assert_eq!(name_largest(&[]), "");
        assert_eq!(
            name_largest(&peers(&["192.0.2.9", "192.0.2.7", "::ffff:192.0.2.7"])),
            "2 from 192.0.2.7, 1 from 192.0.2.9"
        );
        let many = [
            "::1",
            "192.0.2.4",
            "2001:db8::1",
            "192.0.2.3",
            "2001:db8::2",
        ];
        assert_eq!(
            name_largest(&peers(&many)),
            "2 from 2001:db8::/64, 1 from 192.0.2.3, 1 from 192.0.2.4"
        );
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

    proptest! {
        /// In any sequence of claims and releases, a claim succeeds exactly while the source is below the
        /// limit, and a source without connections leaves no entry.
        #[test]
        fn counts_are_those_of_a_list(
            limit in 1..4_usize,
            steps in vec((0..6_u8, any::<bool>()), 0..200),
        ) {
            let mut sources = Sources::default();
            let mut list = Vec::new();
            for (host, claims) in steps {
                let source = source(&format!("192.0.2.{host}"));
                let held = list.iter().filter(|&&other| other == source).count();
                if claims {
                    prop_assert_eq!(sources.claim(source, limit), held < limit);
                    list.extend((held < limit).then_some(source));
                } else if let Some(index) = list.iter().position(|&other| other == source) {
                    list.swap_remove(index);
                    sources.release(source);
                }
            }
            for source in list.drain(..) {
                sources.release(source);
            }
            prop_assert!(sources.counts.is_empty());
        }

        #[test]
        fn addresses_of_one_ipv6_network_of_64_bits_are_one_source(
            network in any::<u64>(),
            hosts in any::<[u64; 2]>(),
        ) {
            let addr = |host: u64| IpAddr::from(
                ((u128::from(network) << 64) | u128::from(host)).to_be_bytes(),
            );
            let [one, other] = hosts.map(addr);
            // Network 0 contains the IPv4-mapped addresses, which are IPv4 sources.
            prop_assume!(network != 0);
            let [one, other] = [one, other].map(|addr| Source::from(SocketAddr::from((addr, 7))));
            prop_assert_eq!(one, other);
        }
    }
}

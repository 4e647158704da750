//! Decides which addresses of one call need their own socket. Nothing here makes a system call.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::state::record::canonical;

/// Returns the indices of `addrs` in the order in which to bind the addresses: wildcards first, because
/// they may make others superfluous.
pub(super) fn widest_first(addrs: &[SocketAddr]) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..addrs.len()).collect();
    indices.sort_by_key(|&index| match canonical(addrs[index]).ip() {
        ip if ip == Ipv6Addr::UNSPECIFIED => 0,
        ip if ip == Ipv4Addr::UNSPECIFIED => 1,
        _ => 2,
    });
    indices
}

/// Returns whether the socket of `bound` also receives the clients of `addr`: both are the same address,
/// or `bound` is the wildcard of the same port.
///
/// `[::]` covers IPv4, because its socket is dual-stack (`IPV6_V6ONLY` off). With port 0 the kernel
/// chooses a different port for each socket, so such an address covers no other. The exception is
/// `0.0.0.0:0` beside `[::]:0`: the user wants any one port on all addresses, so one socket is enough.
pub(super) fn covers(bound: SocketAddr, addr: SocketAddr) -> bool {
    let (bound, addr) = (canonical(bound), canonical(addr));
    let is_any = |addr: SocketAddr| addr.ip() == Ipv4Addr::UNSPECIFIED;
    let covers_all = bound.ip() == Ipv6Addr::UNSPECIFIED;
    if bound.port() != addr.port() {
        return false;
    }
    if bound.port() == 0 {
        return covers_all && is_any(addr);
    }
    bound == addr || covers_all || (is_any(bound) && addr.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_wildcard_covers_its_own_port_and_family() {
        let cases = [
            ("[::]:7", "0.0.0.0:7", true),
            ("[::]:7", "127.0.0.1:7", true),
            ("[::]:7", "[::1]:7", true),
            ("[::]:7", "[fe80::1%3]:7", true),
            ("[::]:7", "[::]:7", true),
            ("[::]:7", "127.0.0.1:8", false),
            ("0.0.0.0:7", "127.0.0.1:7", true),
            ("0.0.0.0:7", "[::ffff:127.0.0.1]:7", true),
            ("[::ffff:0.0.0.0]:7", "127.0.0.1:7", true),
            ("0.0.0.0:7", "[::1]:7", false),
            ("0.0.0.0:7", "[::]:7", false),
            ("127.0.0.1:7", "127.0.0.1:7", true),
            ("127.0.0.1:7", "127.0.0.2:7", false),
            ("127.0.0.1:7", "0.0.0.0:7", false),
            ("[fe80::1%3]:7", "[fe80::1%4]:7", false),
            ("[::]:0", "0.0.0.0:0", true),
            ("[::]:0", "[::]:0", false),
            ("[::]:0", "127.0.0.1:0", false),
            ("0.0.0.0:0", "127.0.0.1:0", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ];
        for (bound, other, covered) in cases {
            assert_eq!(covers(addr(bound), addr(other)), covered, "{bound} {other}");
        }
    }

    #[test]
    fn wildcards_are_bound_first_and_the_rest_in_order() {
        let list = ["127.0.0.1:7", "0.0.0.0:7", "[::1]:7", "[::]:7"].map(addr);
        assert_eq!(widest_first(&list), [3, 1, 0, 2]);
    }
}

//! Which addresses a server binds, and the errors of addresses that it can't bind.

use std::error::Error as _;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socketserver::TcpServer;

#[test]
fn wildcards_of_two_ports_are_two_sockets() {
    let port = || {
        let any = TcpListener::bind("[::]:0").unwrap();
        any.local_addr().unwrap().port()
    };
    let both: [SocketAddr; 2] = [
        (Ipv6Addr::UNSPECIFIED, port()).into(),
        (Ipv4Addr::UNSPECIFIED, port()).into(),
    ];
    let server = TcpServer::bind(&both[..]).unwrap();
    assert_eq!(server.local_addrs(), both);
}

#[test]
fn both_wildcards_of_one_port_make_one_dual_stack_socket() {
    let port = TcpListener::bind("[::]:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let both: [SocketAddr; 2] = [
        format!("[::]:{port}").parse().unwrap(),
        format!("0.0.0.0:{port}").parse().unwrap(),
    ];
    let server = TcpServer::bind(&both[..]).unwrap();
    assert_eq!(server.local_addrs().len(), 1);
}

#[test]
fn a_port_in_use_is_named_in_the_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = TcpServer::bind(addr).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot bind {addr}"));
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.source().unwrap().to_string().contains("in use"));
}

#[test]
fn a_name_that_does_not_resolve_is_named_in_the_error() {
    let error = TcpServer::bind("no-such-host.invalid:7").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"cannot resolve "no-such-host.invalid:7""#
    );
}

/// Returns a port that is free on every address.
fn free_port() -> u16 {
    let any = TcpListener::bind("[::]:0").unwrap();
    any.local_addr().unwrap().port()
}

/// Binds a list of addresses, with `P` in place of the port. Returns the addresses that have a socket.
fn bind_list(port: u16, list: &str) -> Vec<String> {
    let addrs: Vec<SocketAddr> = list
        .split(',')
        .map(|addr| addr.replace('P', &port.to_string()).parse().unwrap())
        .collect();
    let listeners = TcpServer::builder().listen(&addrs[..]).unwrap();
    let bound = |listener: &TcpListener| listener.local_addr().unwrap();
    listeners
        .iter()
        .map(|listener| bound(listener).to_string().replace(&port.to_string(), "P"))
        .collect()
}

#[test]
fn an_address_that_a_wildcard_of_its_port_covers_is_left_out_whatever_the_order() {
    for (list, bound) in [
        ("127.0.0.1:P,[::]:P", "[::]:P"),
        ("[::1]:P,0.0.0.0:P,[::]:P,127.0.0.1:P", "[::]:P"),
        ("127.0.0.1:P,0.0.0.0:P,[::1]:P", "0.0.0.0:P,[::1]:P"),
        (
            "127.0.0.2:P,[::1]:P,127.0.0.1:P",
            "127.0.0.2:P,[::1]:P,127.0.0.1:P",
        ),
        ("127.0.0.1:P,127.0.0.1:P", "127.0.0.1:P"),
        ("[::]:P,[::]:P", "[::]:P"),
    ] {
        let expected: Vec<_> = bound.split(',').collect();
        assert_eq!(bind_list(free_port(), list), expected, "{list}");
    }
}

#[test]
fn port_0_is_another_port_for_each_address_but_one_for_both_wildcards() {
    let count = |list: &[&str]| {
        let addrs: Vec<SocketAddr> = list.iter().map(|addr| addr.parse().unwrap()).collect();
        TcpServer::builder().listen(&addrs[..]).unwrap().len()
    };
    assert_eq!(
        count(&["127.0.0.1:0", "127.0.0.1:0", "[::]:0", "[::]:0"]),
        4
    );
    assert_eq!(count(&["0.0.0.0:0", "[::]:0"]), 1);
}

#[test]
fn a_name_without_an_address_is_named_in_the_error() {
    let none: &[SocketAddr] = &[];
    let error = TcpServer::bind(none).unwrap_err();
    assert_eq!(error.to_string(), "cannot bind []");
    assert_eq!(
        error.source().unwrap().to_string(),
        "it resolves to no address"
    );
}

/// Runs `run` on a thread for which the system has no IPv6: `socket(2)` fails with `errno`.
#[cfg(target_os = "linux")]
fn without_ipv6<T: Send>(errno: rustix::io::Errno, run: impl FnOnce() -> T + Send) -> T {
    use nix::libc::{AF_INET6, SYS_socket};
    crate::support::refused(SYS_socket, Some((0, AF_INET6)), errno, run)
}

#[cfg(target_os = "linux")]
#[test]
fn without_ipv6_the_addresses_that_its_wildcard_would_cover_are_bound() {
    use rustix::io::Errno;
    for errno in [Errno::AFNOSUPPORT, Errno::PROTONOSUPPORT] {
        let bound = |list| {
            let port = free_port();
            without_ipv6(errno, || bind_list(port, list))
        };
        assert_eq!(bound("[::]:P,0.0.0.0:P"), ["0.0.0.0:P"], "{errno}");
        assert_eq!(
            bound("127.0.0.1:P,[::]:P,127.0.0.2:P"),
            ["127.0.0.1:P", "127.0.0.2:P"],
            "{errno}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn where_no_address_can_be_used_the_most_telling_failure_is_reported() {
    use rustix::io::Errno;
    let of = |list: &[&str]| {
        let addrs: Vec<SocketAddr> = list.iter().map(|addr| addr.parse().unwrap()).collect();
        without_ipv6(Errno::AFNOSUPPORT, || {
            TcpServer::bind(&addrs[..]).unwrap_err()
        })
    };
    // 192.0.2.0/24 is reserved for documentation, so this machine has no such address.
    for list in [
        ["192.0.2.1:7017", "[::1]:7017"],
        ["[::1]:7017", "192.0.2.1:7017"],
    ] {
        let error = of(&list);
        assert_eq!(error.to_string(), "cannot bind 192.0.2.1:7017");
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    }
    let error = of(&["[::1]:7017", "[::2]:7017"]);
    assert_eq!(error.to_string(), "cannot bind [::1]:7017");
}

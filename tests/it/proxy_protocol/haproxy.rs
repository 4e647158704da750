//! HAProxy as the proxy, with each version of the header and without one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;

use super::PROXY;
use crate::support::{
    Daemon, Haproxy, available, connect_from, eventually, example, noise, ping, read_to_end,
};

/// The options of HAProxy for a header of version 1 and of version 2, also for health checks.
const HEADERS: [&str; 2] = [
    "send-proxy",
    "send-proxy-v2 proxy-v2-options crc32c,unique-id check inter 100ms",
];

/// Starts a HAProxy with a listener for each of these ways to reach a daemon. Returns `None` if HAProxy is
/// not installed.
fn haproxy(server: SocketAddr, ways: &[&str]) -> Option<Haproxy> {
    let line = |way: &&str| format!("server echod {server} source {PROXY} {way}");
    let lines: Vec<_> = ways.iter().map(line).collect();
    available(&["haproxy"]).then(|| Haproxy::start(&lines))
}

#[test]
fn the_addresses_are_the_clients_and_the_echo_is_exact() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY]);
    let Some(haproxy) = haproxy(daemon.addr, &HEADERS) else {
        return;
    };
    let message = noise(14, 1 << 20);
    for (version, &addr) in haproxy.addrs.iter().enumerate() {
        for n in 10..20 {
            let client = connect_from(&format!("127.0.0.{n}"), addr);
            thread::scope(|scope| {
                scope.spawn(|| {
                    (&client).write_all(&message).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                });
                let echo = read_to_end(&client).unwrap();
                assert!(echo == message, "version {}", version + 1);
            });
            let (peer, len) = (client.local_addr().unwrap(), message.len());
            daemon.wait_for_line(&[
                &format!("peer={peer} "),
                &format!("bytes_in={len} bytes_out={len} "),
            ]);
        }
    }
    // A health check sends the command LOCAL, so its connection has the proxy's own address.
    daemon.wait_for_log(&format!("peer={PROXY}:"));
    let log = daemon.stop().log;
    assert!(!log.contains("WARN"), "{log}");
    assert!(!log.contains("proxy-header"), "{log}");
}

#[test]
fn each_client_behind_haproxy_has_a_limit_of_its_own() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY, "--max-per-source", "2"]);
    let Some(haproxy) = haproxy(daemon.addr, &HEADERS) else {
        return;
    };
    for (version, &addr) in haproxy.addrs.iter().enumerate() {
        let source = |n: usize| format!("127.0.{version}.{}", n + 10);
        let clients: Vec<_> = (0..20)
            .map(|n| connect_from(&source(n / 2), addr))
            .collect();
        clients.iter().for_each(|client| ping(client, b"in"));
        let third = connect_from(&source(0), addr);
        assert!(!matches!((&third).read(&mut [0]), Ok(1..)));
        let peer = third.local_addr().unwrap();
        eventually("the line of the third", || {
            let log = daemon.log();
            let mut lines = log.lines();
            lines.any(|line| {
                line.contains(&format!("peer={peer} ")) && line.ends_with("reason=limit")
            })
        });
        clients.iter().for_each(|client| ping(client, b"unhurt"));
    }
    let by = "limit of 2 connections per source reached by 127.0.0.10; new ones are closed";
    assert!(daemon.log().contains(by));
}

#[test]
fn a_haproxy_that_sends_no_header_causes_a_warning() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY]);
    let Some(haproxy) = haproxy(daemon.addr, &[""]) else {
        return;
    };
    for _ in 0..10 {
        let client = connect_from("127.0.0.10", haproxy.addrs[0]);
        (&client).write_all(b"hello\n").unwrap();
        assert!(!matches!((&client).read(&mut [0]), Ok(1..)));
    }
    let log = daemon.stop().log;
    let said = "is trusted to send a PROXY header, but sent \"hello\\n\"";
    assert_eq!(log.matches(said).count(), 10, "{log}");
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    assert!(log.contains(&format!("WARN ] peer={PROXY}:")), "{log}");
}

/// Leaves out the urgent byte, which HAProxy drops with and without a header, because it does not set
/// `SO_OOBINLINE`. Also leaves out the cases that take seconds.
#[test]
fn the_conformance_suite_passes_through_haproxy() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY]);
    let Some(haproxy) = haproxy(daemon.addr, &HEADERS) else {
        return;
    };
    let servers: Vec<_> = haproxy.addrs.iter().map(ToString::to_string).collect();
    for case in [
        "nothing",
        "one byte",
        "pipelined",
        "random",
        "half-close",
        "1 MiB",
        "reset",
        "unread",
        "vanish",
        "64 MiB",
        "500",
    ] {
        let output = example("conformance")
            .args(["--only", case])
            .args(&servers)
            .output()
            .unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(table.contains("\n2 passed, 0 failed\n"), "{table}");
    }
}

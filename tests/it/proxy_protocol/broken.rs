//! Headers that are wrong, late, or missing.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::SockRef;
use socketserver::{CloseReason, ConnectionHandle, EchoHandler, TcpServer};

use super::{CLIENT, LOCAL, PROXY, addr, proxy, trusting, v1_header, v2_header};
use crate::support::{
    Daemon, TIMEOUT, TestServer, assert_takes, connect_from, eventually, exchange, logged, ping,
};

/// The beginning of a header that never ends.
const BEGINNING: &[u8] = b"PROXY TCP4 192.0.2.7";

/// Waits until the connection ends. The server must not have sent anything.
fn assert_closed(mut client: &TcpStream) {
    match client.read(&mut [0]) {
        Ok(n) => assert_eq!(n, 0, "nothing was to come"),
        // The server has not read all that the client sent.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// What a proxy may send instead of a header, and the reason in the log.
fn broken() -> Vec<(Vec<u8>, String)> {
    let line = |line: &str| format!("PROXY {line}\r\n").into_bytes();
    let v2 = |command: u8, family: u8, len: u16, rest: &[u8]| {
        let begin = b"\r\n\r\n\0\r\nQUIT\n";
        [begin, &[command, family][..], &len.to_be_bytes(), rest].concat()
    };
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0, 7];
    let checksum = [&addresses[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
    let leftover = [&addresses[..], &[4, 0]].concat();
    let beyond = [&addresses[..], &[4, 0, 9]].concat();
    let long = "x".repeat(200);
    [
        (b"hello\n".to_vec(), "sent \"hello\\n\""),
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "sent \"GET / HTTP/1.1\\r\\n\"",
        ),
        (b"\x1b[2Jx".to_vec(), "sent \"\\x1b[2Jx\""),
        (b"PROXY\r\n".to_vec(), "sent \"PROXY\\r\\n\""),
        (
            line("TCP5 192.0.2.7 198.51.100.1 1 7"),
            "sent a malformed one: ",
        ),
        (
            line("TCP4 192.0.2.7 198.51.100.1 1 70000"),
            "sent a malformed one: ",
        ),
        (line("TCP4 ::1 ::1 1 7"), "sent a malformed one: "),
        (line("TCP4 192.0.2.7"), "sent a malformed one: "),
        (
            b"PROXY UNKNOWN\n".to_vec(),
            "its line does not end with CR LF",
        ),
        (line(&long), "sent one of more than 107 bytes"),
        (
            format!("PROXY {long}").into_bytes(),
            "sent one of more than 107 bytes",
        ),
        (v2(0x11, 0x11, 12, &addresses), "sent a malformed one: "),
        (v2(0x22, 0x11, 12, &addresses), "sent a malformed one: "),
        (v2(0x21, 0x51, 12, &addresses), "sent a malformed one: "),
        (v2(0x21, 0x21, 12, &addresses), "sent a malformed one: "),
        (v2(0x21, 0x11, 4, &addresses[..4]), "sent a malformed one: "),
        (v2(0x21, 0x11, 19, &checksum), "its CRC-32C is wrong"),
        (v2(0x21, 0x11, 14, &leftover), "sent a malformed one: "),
        (v2(0x21, 0x11, 15, &beyond), "sent a malformed one: "),
        (
            v2(0x21, 0x11, 4081, &[]),
            "sent one of more than 4096 bytes",
        ),
        (
            v2(0x21, 0x11, 65_535, &[]),
            "sent one of more than 4096 bytes",
        ),
    ]
    .map(|(bytes, said)| (bytes, said.to_owned()))
    .into()
}

#[test]
fn a_broken_header_closes_its_connection_and_the_log_says_what_it_was() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY]);
    let others = connect_from(CLIENT, daemon.addr);
    for (bytes, said) in broken() {
        let client = proxy(daemon.addr);
        (&client).write_all(&bytes).unwrap();
        assert_closed(&client);
        let peer = client.local_addr().unwrap();
        let header = "is trusted to send a PROXY header, but";
        eventually(&said, || {
            let log = daemon.log();
            let mut lines = log.lines();
            lines.any(|line| {
                line.contains(&format!("peer={peer} {header} ")) && line.contains(&said)
            })
        });
        daemon.wait_for_line(&[&format!("peer={peer} "), "bytes_in=0 bytes_out=0 "]);
        ping(&others, b"unhurt");
    }
    drop(others);
    let log = daemon.stop().log;
    let count = broken().len();
    assert_eq!(log.matches("reason=proxy-header").count(), count, "{log}");
    // There is one warning for all of them, which names the proxy.
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    assert!(log.contains(&format!("WARN ] peer={PROXY}:")), "{log}");
}

#[test]
fn a_header_that_ends_early_closes_its_connection() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY]);
    let (source, destination) = (addr("192.0.2.7:4711"), addr("198.51.100.1:7"));
    for header in [
        v1_header(source, destination),
        v2_header(source, destination),
    ] {
        for len in [1, 5, 6, 12, 16, header.len() - 1] {
            let client = proxy(daemon.addr);
            (&client).write_all(&header[..len]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!((&client).read(&mut [0]).unwrap(), 0);
            let peer = client.local_addr().unwrap();
            let said = format!("closed the connection after {len} bytes of one");
            daemon.wait_for_log(&format!(
                "peer={peer} is trusted to send a PROXY header, but {said}"
            ));
        }
    }
    let log = daemon.stop().log;
    assert_eq!(log.matches("reason=proxy-header").count(), 12, "{log}");
}

#[test]
fn a_check_that_only_connects_causes_no_warning() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY]);
    for _ in 0..20 {
        let client = proxy(daemon.addr);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&client).read(&mut [0]).unwrap(), 0);
    }
    let log = daemon.stop().log;
    assert_eq!(
        log.matches("but closed the connection without one").count(),
        20
    );
    assert_eq!(log.matches("reason=proxy-header").count(), 20, "{log}");
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_reset_in_the_midst_of_a_header_is_a_reset() {
    let (builder, lines) = logged();
    let server = TestServer::with(trusting(builder), EchoHandler::new);
    for sent in [&b""[..], b"PROXY", LOCAL.split_at(14).0] {
        let client = proxy(server.addr);
        (&client).write_all(sent).unwrap();
        eventually("the connection", || server.handle.connection_count() == 1);
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        assert_eq!(lines.reason_after(client), "reset");
        eventually("the end of the connection", || {
            server.handle.connection_count() == 0
        });
    }
}

#[test]
fn a_header_has_a_time_limit_however_it_drips() {
    let timeout = Duration::from_millis(300);
    let builder = trusting(TcpServer::builder()).proxy_header_timeout(timeout);
    let server = TestServer::with(builder, EchoHandler::new);
    for sent in [&b""[..], b"PRO", LOCAL.split_at(15).0] {
        assert_takes(timeout, Duration::from_millis(150), || {
            let start = Instant::now();
            let client = proxy(server.addr);
            (&client).write_all(sent).unwrap();
            assert_closed(&client);
            start.elapsed()
        });
    }
    // The proxy sends a byte at a time. All bytes would take ten times the timeout.
    assert_takes(timeout, Duration::from_millis(150), || {
        let start = Instant::now();
        let client = proxy(server.addr);
        client
            .set_read_timeout(Some(Duration::from_millis(40)))
            .unwrap();
        for byte in b"PROXY UNKNOWN x".repeat(5) {
            let _ = (&client).write(&[byte]);
            match (&client).read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return start.elapsed(),
            }
        }
        panic!("it was waited for");
    });
    let totals = server.stop();
    assert_eq!(
        totals.closed_by(CloseReason::ProxyHeader),
        totals.connections()
    );
}

#[test]
fn the_daemon_waits_three_seconds_for_a_header() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY]);
    let start = Instant::now();
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let client = proxy(daemon.addr);
            (&client).write_all(BEGINNING).unwrap();
            client
        })
        .collect();
    // These connections must not delay other clients.
    let others = connect_from(CLIENT, daemon.addr);
    ping(&others, b"unhurt");
    assert!(start.elapsed() < Duration::from_secs(3));
    clients.iter().for_each(assert_closed);
    assert!(start.elapsed() >= Duration::from_secs(3));
    let log = daemon.stop().log;
    assert_eq!(
        log.matches("but sent 20 bytes of one within 3s").count(),
        100
    );
    assert_eq!(log.matches("reason=proxy-header").count(), 100);
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
}

#[test]
fn connections_without_a_header_hold_their_slots_for_no_longer() {
    let builder = trusting(TcpServer::builder())
        .max_connections(2)
        .proxy_header_timeout(Duration::from_millis(200));
    let server = TestServer::with(builder, EchoHandler::new);
    let _silent = [proxy(server.addr), proxy(server.addr)];
    let third = connect_from(CLIENT, server.addr);
    ping(&third, b"my turn");
}

/// Returns clients that have sent a part of a header, and a server that waits an hour for the rest.
fn unfinished(count: usize) -> (TestServer, Vec<TcpStream>) {
    let hour = Duration::from_secs(3600);
    let builder = trusting(TcpServer::builder())
        .proxy_header_timeout(hour)
        .drain_timeout(hour);
    let server = TestServer::with(builder, EchoHandler::new);
    let clients: Vec<_> = (0..count).map(|_| proxy(server.addr)).collect();
    for mut client in &clients {
        client.write_all(BEGINNING).unwrap();
    }
    eventually("all connections", || {
        server.handle.connection_count() == count
    });
    (server, clients)
}

#[test]
fn a_stop_does_not_wait_for_headers() {
    let (server, clients) = unfinished(100);
    let totals = server.stop();
    clients.iter().for_each(assert_closed);
    assert_eq!(totals.closed_by(CloseReason::Shutdown), 100);
    assert_eq!((totals.connections(), totals.aborted()), (100, 0));
    assert_eq!((totals.bytes_in(), totals.bytes_out()), (0, 0));
}

#[test]
fn the_daemon_stops_at_once_in_the_midst_of_headers() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY, "--drain-timeout", "1h"]);
    let clients: Vec<_> = (0..10).map(|_| proxy(daemon.addr)).collect();
    for mut client in &clients {
        client.write_all(BEGINNING).unwrap();
    }
    let served = connect_from(CLIENT, daemon.addr);
    ping(&served, b"in");
    daemon.signal(Signal::TERM);
    let output = daemon.wait();
    assert_eq!(output.code, Some(0));
    assert!(!output.log.contains("proxy-header"), "{}", output.log);
    assert!(!output.log.contains("WARN"), "{}", output.log);
}

#[test]
fn a_handle_ends_a_connection_in_the_midst_of_its_header() {
    let (server, clients) = unfinished(2);
    let connections = server.handle.connections();
    // Without a header, the handle has the address of the proxy.
    let peers: Vec<_> = connections
        .iter()
        .map(ConnectionHandle::peer_addr)
        .collect();
    let mut own: Vec<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
    own.sort_by_key(|addr| peers.iter().position(|peer| peer == addr));
    assert_eq!(peers, own);
    connections[0].close();
    connections[1].abort();
    clients.iter().for_each(assert_closed);
    eventually("no connection", || server.handle.connection_count() == 0);
    let totals = server.stop();
    for reason in [CloseReason::Closed, CloseReason::Aborted] {
        assert_eq!(totals.closed_by(reason), 1, "{reason}");
    }
}

#[test]
fn a_lifetime_ends_a_connection_in_the_midst_of_its_header() {
    let builder = trusting(TcpServer::builder()).max_lifetime(Duration::from_millis(100));
    let builder = builder.proxy_header_timeout(TIMEOUT * 2);
    let server = TestServer::with(builder, EchoHandler::new);
    let client = proxy(server.addr);
    (&client).write_all(BEGINNING).unwrap();
    assert_closed(&client);
    assert_eq!(server.stop().closed_by(CloseReason::Lifetime), 1);
}

#[test]
fn a_check_from_a_trusted_address_fails() {
    let daemon = Daemon::start(&["--proxy-protocol", "127.0.0.1"]);
    let mut check = Daemon::command();
    let check = check.args(["probe", &daemon.addr.to_string()]).output();
    assert_eq!(check.unwrap().status.code(), Some(6), "a reset");
    daemon.wait_for_log("peer=127.0.0.1:");
    daemon.wait_for_log("is trusted to send a PROXY header, but sent \"");
}

#[test]
fn a_header_timeout_of_zero_is_rejected() {
    let builder = trusting(TcpServer::builder()).proxy_header_timeout(Duration::ZERO);
    let error = builder.bind("127.0.0.1:0").unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot serve with proxy_header_timeout 0"
    );
}

#[test]
fn ten_thousand_broken_headers_leave_nothing_behind() {
    const CLIENTS: usize = 4;
    let daemon = Daemon::start(&["--proxy-protocol", PROXY]);
    let pid = daemon.pid().as_raw_nonzero();
    let descriptors = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let resident = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let play = |server: SocketAddr, rounds: usize| {
        let broken = broken();
        for (bytes, _) in broken.iter().cycle().take(rounds) {
            let client = proxy(server);
            let _ = (&client).write_all(bytes);
            assert_closed(&client);
        }
    };
    assert_eq!(exchange(daemon.addr, b"x"), b"x");
    let before = descriptors();
    let addr = daemon.addr;
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| play(addr, 500));
        }
    });
    let warm = resident();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| play(addr, 2000));
        }
    });
    eventually("the descriptors", || descriptors() == before);
    let grown = resident().saturating_sub(warm);
    assert!(grown < 2000, "{grown} KiB for 8,000 connections");
    let log = daemon.stop().log;
    assert_eq!(log.matches("reason=proxy-header").count(), 10_000);
    assert_eq!(log.matches("WARN").count(), 1, "flooded");
    assert!(log.contains("connections=10001 "), "{log}");
}

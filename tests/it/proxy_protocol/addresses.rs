//! What uses the address in the header: limits, hooks, handles, results and the log.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use socketserver::{CloseReason, EchoHandler, Network, TcpServer, from_fn};

use super::{CLIENT, PROXY, addr, proxy, trusting, v1_header, v2_header};
use crate::support::{Daemon, TIMEOUT, TestServer, connect_from, eventually, ping, read_to_end};

/// Returns a connection of the proxy for a client with this address. It has been served.
fn client(server: std::net::SocketAddr, source: &str) -> TcpStream {
    let client = proxy(server);
    let header = v2_header(addr(source), addr("198.51.100.1:7"));
    (&client).write_all(&header).unwrap();
    client
}

#[test]
fn the_limit_per_source_counts_clients_and_not_their_proxy() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY, "--max-per-source", "2"]);
    let others: Vec<_> = (1..=20)
        .map(|n| client(daemon.addr, &format!("192.0.2.{n}:4711")))
        .collect();
    let inside = [1, 2].map(|n| client(daemon.addr, &format!("203.0.113.7:{n}")));
    others
        .iter()
        .chain(&inside)
        .for_each(|client| ping(client, b"in"));
    for n in 3..=10 {
        let refused = client(daemon.addr, &format!("203.0.113.7:{n}"));
        // The client may send before it sees its end. It must still see end of file, and not a reset.
        (&refused).write_all(b"hello?").unwrap();
        assert_eq!(read_to_end(&refused).unwrap(), b"");
    }
    let by = "limit of 2 connections per source reached by 203.0.113.7; new ones are closed";
    assert_eq!(daemon.log().matches(by).count(), 1);
    // The limit also holds for the proxy's own connections.
    let own: Vec<_> = (0..2).map(|_| proxy(daemon.addr)).collect();
    for mut own in &own {
        own.write_all(b"PROXY UNKNOWN\r\n").unwrap();
        ping(own, b"in");
    }
    let third = proxy(daemon.addr);
    (&third).write_all(b"PROXY UNKNOWN\r\n").unwrap();
    assert_eq!(read_to_end(&third).unwrap(), b"");

    drop(inside);
    eventually("room for the client", || {
        let next = client(daemon.addr, "203.0.113.7:99");
        (&next).write_all(b"x").unwrap();
        (&next).read(&mut [0]).is_ok_and(|n| n == 1)
    });
    let log = daemon.stop().log;
    let is_end = |line: &str| {
        line.contains("peer=203.0.113.7:3 ") && line.contains("bytes_in=0 bytes_out=0 ")
    };
    assert!(log.lines().any(is_end), "{log}");
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
}

/// Without a new client, nothing wakes the leader, which sleeps without a timeout.
#[test]
fn the_end_of_a_limit_is_logged_even_if_no_client_connects() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY, "--max-per-source", "1"]);
    let inside = client(daemon.addr, "203.0.113.7:1");
    ping(&inside, b"in");
    let refused = client(daemon.addr, "203.0.113.7:2");
    assert_eq!(read_to_end(&refused).unwrap(), b"");
    daemon.wait_for_log("no source exceeds the limit of 1 connections any more");
    ping(&inside, b"still in");
}

#[test]
fn a_client_beyond_its_limit_is_rejected_and_reported_to_the_hook() {
    let (sender, closed) = mpsc::channel();
    let builder = trusting(TcpServer::builder())
        .max_per_source(1)
        .on_close(move |closed| sender.send(closed.clone()).unwrap());
    let server = TestServer::with(builder, EchoHandler::new);
    let inside = client(server.addr, "192.0.2.7:1");
    ping(&inside, b"in");
    let refused = client(server.addr, "192.0.2.7:2");
    assert_eq!(read_to_end(&refused).unwrap(), b"");
    drop(refused);
    let refused = closed.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(refused.peer_addr(), addr("192.0.2.7:2"));
    assert_eq!(refused.reason(), CloseReason::Limit);
    drop(inside);
    let totals = server.stop();
    assert_eq!((totals.connections(), totals.rejected()), (2, 1));
    assert_eq!(totals.closed_by(CloseReason::Limit), 1);
}

#[test]
fn hooks_and_handles_see_the_client() {
    let (sender, seen) = mpsc::channel();
    let told = sender.clone();
    let failed = sender.clone();
    let builder = trusting(TcpServer::builder())
        .verify_request(move |conn| {
            sender.send(("verify", conn.peer_addr())).unwrap();
            conn.peer_addr().port() != 2
        })
        .handle_error(move |conn, _| failed.send(("error", conn.peer_addr())).unwrap())
        .on_close(move |closed| {
            assert_eq!(closed.local_addr(), Some(addr("198.51.100.1:7")));
            told.send(("close", closed.peer_addr())).unwrap();
        });
    let server = TestServer::with(
        builder,
        from_fn(|conn| {
            // The addresses of the socket itself stay available.
            assert_eq!(conn.stream().peer_addr()?.ip().to_string(), PROXY);
            assert_eq!(conn.stream().local_addr()?.ip().to_string(), "127.0.0.1");
            conn.write_all(b"x")?;
            conn.read_exact(&mut [0])?;
            Err(io::Error::other("broken"))
        }),
    );
    let source = addr("192.0.2.7:1");
    let served = client(server.addr, "192.0.2.7:1");
    (&served).read_exact(&mut [0]).unwrap();
    let connections = server.handle.connections();
    assert_eq!(connections[0].peer_addr(), source);
    assert_eq!(connections[0].local_addr().unwrap(), addr("198.51.100.1:7"));
    (&served).write_all(b"x").unwrap();
    assert_eq!(read_to_end(&served).unwrap(), b"");
    drop(served);
    for what in ["verify", "error", "close"] {
        assert_eq!(seen.recv_timeout(TIMEOUT).unwrap(), (what, source));
    }
    let denied = client(server.addr, "192.0.2.7:2");
    assert_eq!(read_to_end(&denied).unwrap(), b"");
    drop(denied);
    for what in ["verify", "close"] {
        assert_eq!(
            seen.recv_timeout(TIMEOUT).unwrap(),
            (what, addr("192.0.2.7:2"))
        );
    }
    assert_eq!(server.stop().closed_by(CloseReason::Denied), 1);
}

#[test]
fn one_request_has_its_header_too() {
    let mut server = trusting(TcpServer::builder()).bind("127.0.0.1:0").unwrap();
    let mut serve = |header: &[u8]| {
        let client = proxy(server.local_addr());
        (&client).write_all(header).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        thread::scope(|scope| {
            let served = scope.spawn(|| server.handle_request(EchoHandler::new));
            let echo = read_to_end(&client).unwrap();
            (served.join().unwrap().unwrap().unwrap(), echo)
        })
    };
    let header = v1_header(addr("192.0.2.7:1"), addr("198.51.100.1:7"));
    let (closed, echo) = serve(&[&*header, b"payload"].concat());
    assert_eq!(echo, b"payload");
    assert_eq!(closed.peer_addr(), addr("192.0.2.7:1"));
    assert_eq!(closed.local_addr(), Some(addr("198.51.100.1:7")));
    assert_eq!((closed.bytes_in(), closed.bytes_out()), (7, 7));
    assert_eq!(closed.reason(), CloseReason::Eof);
    let (closed, echo) = serve(b"");
    assert_eq!(
        (closed.reason(), &*echo),
        (CloseReason::ProxyHeader, &b""[..])
    );
}

#[test]
fn a_connection_that_was_accepted_elsewhere_has_its_header_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = proxy(listener.local_addr().unwrap());
    let (stream, _) = listener.accept().unwrap();
    let header = v1_header(addr("192.0.2.7:1"), addr("198.51.100.1:7"));
    (&client)
        .write_all(&[&*header, b"payload"].concat())
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let builder = trusting(TcpServer::builder()).max_per_source(1);
    let server = builder.from_stream(stream).unwrap();
    let totals = server.serve_forever(EchoHandler::new).unwrap();
    assert_eq!((totals.connections(), totals.bytes_in()), (1, 7));
    assert_eq!(read_to_end(&client).unwrap(), b"payload");
}

#[test]
fn what_had_arrived_behind_its_header_before_a_stop_is_echoed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = proxy(listener.local_addr().unwrap());
    let (stream, _) = listener.accept().unwrap();
    let header = v2_header(addr("192.0.2.7:1"), addr("198.51.100.1:7"));
    let sent = [&*header, b"payload"].concat();
    (&client).write_all(&sent).unwrap();
    eventually("all of it", || {
        stream.peek(&mut vec![0; sent.len() + 1]).unwrap() == sent.len()
    });
    let server = trusting(TcpServer::builder()).from_stream(stream).unwrap();
    server.handle().shutdown();
    let totals = server.serve_forever(EchoHandler::new).unwrap();
    assert_eq!(read_to_end(&client).unwrap(), b"payload");
    assert_eq!((totals.bytes_out(), totals.aborted()), (7, 0));
    assert_eq!(totals.closed_by(CloseReason::Shutdown), 1);
}

#[test]
fn every_one_of_several_networks_is_trusted_and_no_other() {
    let trusted = ["127.0.0.2", "127.0.1.0/24", "::1"].map(|text| text.parse::<Network>().unwrap());
    let server = TestServer::with(
        TcpServer::builder().proxy_protocol(trusted),
        EchoHandler::new,
    );
    for (source, is_trusted) in [
        (PROXY, true),
        ("127.0.1.0", true),
        ("127.0.1.255", true),
        ("127.0.2.0", false),
        (CLIENT, false),
        ("127.0.0.1", false),
    ] {
        let client = connect_from(source, server.addr);
        (&client).write_all(b"PROXY UNKNOWN\r\nx").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let echo = read_to_end(&client).unwrap();
        assert_eq!(echo.len() == 1, is_trusted, "{source}");
    }
}

#[test]
fn a_wrong_network_is_rejected_with_the_likely_correction() {
    let run = |flags: &[&str], variable: &str| {
        let mut command = Daemon::command();
        command.args(flags).env("ECHOD_PROXY_PROTOCOL", variable);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        said
    };
    let meant = "10.1.2.3 is an address in the network 10.0.0.0/8; write one of them";
    let wrong = "expected a network such as 10.0.0.0/8 or 2001:db8::/32, or an address";
    for (value, part, expected) in [
        ("10.1.2.3/8", "10.1.2.3/8", meant),
        ("::1,10.1.2.3/8", "10.1.2.3/8", meant),
        ("10.0.0.0/33", "10.0.0.0/33", wrong),
        ("proxy.example", "proxy.example", wrong),
        ("127.0.0.1,", "", wrong),
    ] {
        let said = run(&["--proxy-protocol", value], "");
        let error = format!("invalid value '{part}' for '--proxy-protocol <CIDR>': {expected}\n");
        assert!(said.contains(&error), "{said}");
        let said = run(&[], value);
        let error = format!("invalid value '{part}' for 'ECHOD_PROXY_PROTOCOL': {expected}\n");
        assert!(said.contains(&error), "{said}");
    }
}

#[test]
fn several_networks_come_from_the_variable() {
    let variable = ("ECHOD_PROXY_PROTOCOL", "127.0.0.2, 127.0.1.0/24");
    let mut command = Daemon::command();
    command.env(variable.0, variable.1);
    let daemon = Daemon::spawn(command.args(["-v", "--listen", "127.0.0.1:0"]));
    for source in [PROXY, "127.0.1.9"] {
        let client = connect_from(source, daemon.addr);
        (&client).write_all(b"PROXY UNKNOWN\r\nx").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&client).unwrap(), b"x");
    }
}

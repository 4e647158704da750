//! Valid headers, in whatever pieces they arrive and whatever follows them.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rustix::net::{SendFlags, send};
use socketserver::{EchoHandler, TcpServer};

use super::{
    CLIENT, GreetingEcho, LOCAL, PROXY, addr, proxy, trusting, v1_header, v2_header, v2_header_with,
};
use crate::support::{
    Daemon, TIMEOUT, TestServer, connect_from, eventually, exchange, noise, read_to_end,
};

/// Returns both versions of a header with these addresses.
fn headers() -> [Vec<u8>; 4] {
    let (v4, v4_to) = (addr("192.0.2.7:4711"), addr("198.51.100.1:7"));
    let (v6, v6_to) = (addr("[2001:db8::7]:4711"), addr("[2001:db8::1]:7"));
    [
        v1_header(v4, v4_to),
        v2_header(v4, v4_to),
        v1_header(v6, v6_to),
        v2_header_with(v6, v6_to, &noise(1, 20)),
    ]
}

/// Half-closes, and returns what [`GreetingEcho`] has sent: the first line, and the rest.
fn reply(client: &TcpStream) -> (String, Vec<u8>) {
    // This fails if the client has half-closed before and is already disconnected.
    let _ = client.shutdown(Shutdown::Write);
    let all = read_to_end(client).unwrap();
    let end = all.iter().position(|&byte| byte == b'\n').unwrap();
    let greeting = String::from_utf8(all[..end].to_vec()).unwrap();
    (greeting, all[end + 1..].to_vec())
}

/// Sends `pieces` to a server, each after the server has received the piece before. Returns the client.
fn send_one_by_one<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = proxy(listener.local_addr().unwrap());
    let (stream, _) = listener.accept().unwrap();
    // A second handle of the socket, to see what the server has not received yet.
    let look = stream.try_clone().unwrap();
    let builder = trusting(TcpServer::builder()).proxy_header_timeout(TIMEOUT);
    let server = TestServer::serve(builder.from_stream(stream).unwrap(), || GreetingEcho);
    for piece in pieces {
        (&client).write_all(piece).unwrap();
        eventually("the server has received it", || {
            rustix::io::ioctl_fionread(&look).unwrap() == 0
        });
    }
    drop(look);
    client.shutdown(Shutdown::Write).unwrap();
    server.join();
    client
}

#[test]
fn a_header_may_be_split_anywhere() {
    for header in headers() {
        for cut in 1..header.len() {
            let (begin, end) = header.split_at(cut);
            let client = send_one_by_one([begin, &[end, b"payload"].concat()]);
            let (greeting, echo) = reply(&client);
            assert!(greeting.contains(":4711 to "), "{greeting}");
            assert_eq!(echo, b"payload", "cut at {cut}");
        }
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    for header in headers() {
        let client = send_one_by_one([&*header, b"payload"].concat().chunks(1));
        let (greeting, echo) = reply(&client);
        assert!(greeting.contains(":4711 to "), "{greeting}");
        assert_eq!(echo, b"payload");
    }
}

#[test]
fn what_follows_in_the_same_packet_is_echoed_and_the_header_is_not() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY]);
    let mut port = 1000;
    for header in 0..4 {
        // The sizes include those that the reactor copies and those that it splices.
        for len in [0, 1, 15, 16, 107, 4096, 65_536, 1 << 20] {
            port += 1;
            let (v4, v6) = (SocketAddr::from(([192, 0, 2, 7], port)), addr("[::1]:7"));
            let header = match header {
                0 => v1_header(v4, addr("198.51.100.1:7")),
                1 => v2_header(v4, addr("198.51.100.1:7")),
                2 => v2_header_with(v4, addr("198.51.100.1:7"), &noise(3, 2000)),
                // Two addresses of different families make the header UNKNOWN, without addresses.
                _ => v1_header(v4, v6),
            };
            let payload = noise(u64::from(port), len);
            let client = proxy(daemon.addr);
            thread::scope(|scope| {
                scope.spawn(|| {
                    (&client).write_all(&[&*header, &payload].concat()).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                });
                assert!(read_to_end(&client).unwrap() == payload, "{len} bytes");
            });
            let is_unknown = header.starts_with(b"PROXY UNKNOWN");
            let own = client.local_addr().unwrap();
            let peer = if is_unknown { own } else { v4 };
            daemon.wait_for_line(&[
                &format!("peer={peer} "),
                &format!("bytes_in={len} bytes_out={len} "),
            ]);
        }
    }
    let log = daemon.stop().log;
    assert_eq!(log.matches("reason=eof").count(), 32, "{log}");
    assert!(!log.contains("WARN"), "{log}");
}

/// Sends two packets. The second begins in the middle of the header.
#[test]
fn an_urgent_byte_in_the_header_is_a_byte_of_it() {
    let server = TestServer::with(trusting(TcpServer::builder()), || GreetingEcho);
    for header in headers() {
        let client = proxy(server.addr);
        let (begin, end) = header.split_at(9);
        (&client).write_all(begin).unwrap();
        send(&client, &end[..1], SendFlags::OOB).unwrap();
        (&client).write_all(&end[1..]).unwrap();
        (&client).write_all(b"payload").unwrap();
        let (greeting, echo) = reply(&client);
        assert!(greeting.contains(":4711 to "), "{greeting}");
        assert_eq!(echo, b"payload");
    }
}

#[test]
fn from_other_sources_a_header_is_data() {
    let daemon = Daemon::start(&["--proxy-protocol", PROXY]);
    for header in headers() {
        let client = connect_from(CLIENT, daemon.addr);
        (&client).write_all(&header).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&client).unwrap(), header);
        let len = header.len();
        let peer = client.local_addr().unwrap();
        daemon.wait_for_line(&[
            &format!("peer={peer} "),
            &format!("bytes_in={len} bytes_out={len} "),
        ]);
    }
    // Without the setting, a header is data from every client.
    let server = TestServer::start(EchoHandler::new);
    assert_eq!(exchange(server.addr, &headers()[0]), headers()[0]);
}

#[test]
fn a_proxy_that_speaks_for_itself_keeps_its_address() {
    let server = TestServer::with(trusting(TcpServer::builder()), || GreetingEcho);
    let v2 = |command: u8, family: u8, rest: &[u8]| {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        let begin = b"\r\n\r\n\0\r\nQUIT\n";
        [begin, &[command, family][..], &len, rest].concat()
    };
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0, 7];
    for header in [
        LOCAL.to_vec(),
        v2(0x20, 0x11, &addresses),
        v2(0x20, 0x00, b"whatever it is"),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x12, &addresses),
        v2(0x21, 0x31, &[b'/'; 216]),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
    ] {
        let client = proxy(server.addr);
        (&client).write_all(&header).unwrap();
        (&client).write_all(b"payload").unwrap();
        let (greeting, echo) = reply(&client);
        let own = client.local_addr().unwrap();
        assert_eq!(greeting, format!("{own} to {}", server.addr));
        assert_eq!(echo, b"payload");
    }
}

#[test]
fn a_mapped_address_is_shown_as_ipv4() {
    let server = TestServer::with(trusting(TcpServer::builder()), || GreetingEcho);
    let (source, destination) = ("[::ffff:192.0.2.7]:4711", "[::ffff:198.51.100.1]:7");
    for header in [v1_header, v2_header] {
        let client = proxy(server.addr);
        let header = header(addr(source), addr(destination));
        (&client).write_all(&header).unwrap();
        assert_eq!(reply(&client).0, "192.0.2.7:4711 to 198.51.100.1:7");
    }
}

#[test]
fn a_proxy_that_comes_over_ipv4_to_a_listener_of_both_is_trusted() {
    let daemon = Daemon::spawn(Daemon::command().args([
        "-v",
        "--listen",
        ":0",
        "--proxy-protocol",
        "127.0.0.2/31",
    ]));
    let server = SocketAddr::from(([127, 0, 0, 1], daemon.addr.port()));
    let client = proxy(server);
    (&client).write_all(&headers()[0]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&client).unwrap(), b"");
    let counts = "bytes_in=0 bytes_out=0 ";
    daemon.wait_for_line(&["peer=192.0.2.7:4711 ", counts, "reason=eof"]);
}

/// Generates valid headers, with the line that [`GreetingEcho`] sends for them.
fn header() -> impl Strategy<Value = (Vec<u8>, Option<String>)> {
    let addr = || any::<(IpAddr, u16)>().prop_map(SocketAddr::from);
    (addr(), addr(), any::<bool>(), vec(any::<u8>(), 0..200)).prop_map(
        |(source, destination, is_text, noise)| {
            let known = source.is_ipv4() == destination.is_ipv4();
            let header = match (is_text, known) {
                (true, _) => v1_header(source, destination),
                (false, true) => v2_header_with(source, destination, &noise),
                // A header without addresses has no room for additional bytes.
                (false, false) => v2_header(source, destination),
            };
            // IPv4-mapped addresses are shown as IPv4.
            let shown = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
            let (source, destination) = (shown(source), shown(destination));
            (header, known.then(|| format!("{source} to {destination}")))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Header and payload arrive in any pieces. The payload must come back, and nothing else.
    #[test]
    fn in_any_pieces_the_payload_comes_back(
        (header, expected) in header(),
        payload in vec(any::<u8>(), 0..3000),
        cuts in vec(any::<Index>(), 0..10),
    ) {
        let server = TestServer::with(trusting(TcpServer::builder()), || GreetingEcho);
        let client = proxy(server.addr);
        let sent = [&*header, &payload].concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(sent.len())).collect();
        cuts.extend([0, sent.len()]);
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            (&client).write_all(&sent[piece[0]..piece[1]]).unwrap();
            // Give the server a chance to see the pieces separately.
            thread::yield_now();
        }
        let (greeting, echo) = reply(&client);
        let own = format!("{} to {}", client.local_addr().unwrap(), server.addr);
        prop_assert_eq!(greeting, expected.unwrap_or(own));
        prop_assert_eq!(echo, payload);
    }

    /// Any bytes from a trusted source are a header and data, or they end that connection only.
    #[test]
    fn any_bytes_affect_only_their_connection(
        begin in prop_oneof![Just(&b"PROXY "[..]), Just(LOCAL), Just(&LOCAL[..12]), Just(&b""[..])],
        rest in vec(any::<u8>(), 0..300),
    ) {
        let server = TestServer::with(trusting(TcpServer::builder()), EchoHandler::new);
        let client = proxy(server.addr);
        (&client).write_all(&[begin, &rest].concat()).unwrap();
        // The server may already have reset the connection. Otherwise this ends what follows the header.
        let _ = client.shutdown(Shutdown::Write);
        let mut echo = Vec::new();
        let _ = (&client).read_to_end(&mut echo);
        prop_assert!(rest.ends_with(&echo));
        let client = connect_from(CLIENT, server.addr);
        (&client).write_all(b"unhurt").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        prop_assert_eq!(read_to_end(&client).unwrap(), b"unhurt");
        prop_assert_eq!(server.stop().connections(), 2);
    }
}

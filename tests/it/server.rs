//! Binding, listening, serving: what a server does before and between connections.

use std::error::Error as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use socketserver::{Builder, CloseReason, EchoHandler, TcpServer, from_fn};

use crate::support::{TIMEOUT, TestServer, bind_again, connect, eventually, exchange, ping};

#[test]
fn port_0_reports_the_real_port() {
    let server = TestServer::start(EchoHandler::new);
    assert_ne!(server.addr.port(), 0);
    assert_eq!(exchange(server.addr, b"hello"), b"hello");
}

#[test]
fn several_listeners_are_served_by_one_server() {
    let builder = TcpServer::builder();
    let mut listeners = builder.listen("127.0.0.1:0").unwrap();
    listeners.extend(builder.listen("127.0.0.2:0").unwrap());
    listeners.extend(builder.listen("[::1]:0").unwrap());
    let server = builder.from_listeners(listeners).unwrap();
    let addrs = server.local_addrs().to_vec();
    assert_eq!(addrs.len(), 3);
    let _server = TestServer::serve(server, EchoHandler::new);
    for round in 0..3_u8 {
        for &addr in &addrs {
            assert_eq!(exchange(addr, &[round]), [round]);
        }
    }
}

#[test]
fn one_socket_takes_both_families_and_shows_ipv4_clients_as_ipv4() {
    let server = TcpServer::bind("[::]:0").unwrap();
    let port = server.local_addr().port();
    let server = TestServer::serve(
        server,
        from_fn(|conn| {
            write!(
                conn,
                "{} {}",
                conn.peer_addr().ip(),
                conn.local_addr()?.ip()
            )
        }),
    );
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert_eq!(exchange(v4, b""), b"127.0.0.1 127.0.0.1");
    let v6 = format!("[::1]:{port}").parse().unwrap();
    assert_eq!(exchange(v6, b""), b"::1 ::1");
    assert_eq!(server.stop().connections(), 2);
}

#[test]
fn accepted_connections_have_the_socket_options() {
    let (sender, receiver) = mpsc::channel();
    let server = TestServer::with(
        TcpServer::builder()
            .write_timeout(Duration::from_secs(9))
            .keepalive(Duration::from_secs(33)),
        from_fn(move |conn| {
            // The server must have set the timeouts before the handler makes its first call that may block.
            conn.write_all(b"x")?;
            let socket = SockRef::from(conn.stream());
            let options = (
                socket.tcp_nodelay()?,
                socket.out_of_band_inline()?,
                socket.keepalive()?,
                socket.tcp_keepalive_time()?,
                socket.write_timeout()?.is_some(),
                socket.nonblocking()?,
            );
            sender.send(options).unwrap();
            Ok(())
        }),
    );
    exchange(server.addr, b"");
    let seconds = Duration::from_secs;
    assert_eq!(
        receiver.recv_timeout(TIMEOUT).unwrap(),
        (true, true, true, seconds(33), true, false)
    );
}

#[test]
fn buffers_of_a_set_size_bound_what_a_client_that_never_reads_makes_the_kernel_hold() {
    // Returns how much such a client can send until no side accepts more.
    let held = |builder: Builder| {
        let server = TestServer::with(builder, EchoHandler::new);
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        client.set_send_buffer_size(64 * 1024).unwrap();
        client.connect(&server.addr.into()).unwrap();
        client
            .set_write_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let mut client = TcpStream::from(client);
        let (chunk, mut sent) = ([7; 16 * 1024], 0);
        while let Ok(n) = client.write(&chunk) {
            sent += n;
        }
        server.handle.shutdown_now();
        sent
    };
    let bounded = held(TcpServer::builder().socket_buffers(32 * 1024));
    let by_default = held(TcpServer::builder());
    assert!(bounded < 400 * 1024, "{bounded}");
    assert!(by_default > 2 * bounded, "{by_default}, {bounded}");
}

#[test]
fn a_keepalive_that_the_system_refuses_is_named_in_the_error() {
    // The largest keepalive time of Linux is 32,767 s.
    let builder = || TcpServer::builder().keepalive(Duration::from_secs(40_000));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shared = listener.try_clone().unwrap();
    let errors = [
        builder().bind("127.0.0.1:0").unwrap_err(),
        builder().from_listeners([listener]).unwrap_err(),
    ];
    for error in errors {
        let cause = error.source().unwrap().to_string();
        assert!(cause.starts_with("keepalive of 40000s: Invalid"), "{cause}");
    }
    assert!(!SockRef::from(&shared).keepalive().unwrap());
}

#[test]
fn settings_of_zero_that_make_no_sense_are_refused() {
    let zero = TcpServer::builder().max_connections(0).bind("127.0.0.1:0");
    assert_eq!(zero.unwrap_err().kind(), ErrorKind::InvalidInput);
    for builder in [
        TcpServer::builder().idle_timeout(Duration::ZERO),
        TcpServer::builder().write_timeout(Duration::ZERO),
    ] {
        let error = builder.bind("127.0.0.1:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_server_needs_a_listener_and_a_listener_must_listen() {
    let none = TcpServer::builder().from_listeners([]);
    assert_eq!(none.unwrap_err().kind(), ErrorKind::InvalidInput);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let error = TcpServer::from_listener(std::os::fd::OwnedFd::from(connected).into()).unwrap_err();
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .contains("does not listen")
    );

    let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(TcpServer::from_listener(std::os::fd::OwnedFd::from(datagram).into()).is_err());
}

#[test]
fn a_thousand_failed_binds_leak_no_descriptor() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let failed = |_| TcpServer::bind(addr).unwrap_err();
    // Other tests run at the same time and hold descriptors of their own. A leak of one descriptor for each
    // bind would still stand out.
    let before = open_descriptors();
    (0..1024).for_each(|n| drop(failed(n)));
    assert!(open_descriptors() < before + 512);
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_server_that_never_served_releases_its_port() {
    let server = TcpServer::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    drop(server);
    drop(bind_again(addr));
    eventually("a refusal", || TcpStream::connect(addr).is_err());
}

#[test]
fn a_server_restarts_on_its_port_while_old_connections_are_in_time_wait() {
    let server = TestServer::start(EchoHandler::new);
    let addr = server.addr;
    let client = connect(addr);
    ping(&client, b"x");
    // The server closes first, so that TIME_WAIT is on the server's side.
    server.handle.shutdown();
    assert_eq!(server.join().connections(), 1);
    drop(client);
    bind_again(addr);
}

#[test]
fn a_listener_made_elsewhere_is_served_and_survives_its_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shared = listener.try_clone().unwrap();
    let server = TestServer::serve(
        TcpServer::from_listener(listener).unwrap(),
        EchoHandler::new,
    );
    let addr = server.addr;
    assert_eq!(exchange(addr, b"first"), b"first");
    server.stop();

    // A client that connects between two servers waits in the backlog.
    let waiting = connect(addr);
    let _next = TestServer::serve(TcpServer::from_listener(shared).unwrap(), EchoHandler::new);
    ping(&waiting, b"second");
}

#[test]
fn a_listener_shut_down_by_someone_else_ends_the_server_with_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shared = listener.try_clone().unwrap();
    let server = TestServer::serve(
        TcpServer::from_listener(listener).unwrap(),
        EchoHandler::new,
    );
    let client = connect(server.addr);
    ping(&client, b"served");
    SockRef::from(&shared).shutdown(Shutdown::Read).unwrap();
    let addr = server.addr;
    let error = server.join_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), format!("cannot accept on {addr}"));
}

#[test]
fn handle_request_serves_exactly_one() {
    let mut server = TcpServer::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    let first = connect(addr);
    let second = connect(addr);
    first.shutdown(Shutdown::Write).unwrap();
    let served = server.handle_request(EchoHandler::new).unwrap().unwrap();
    assert_eq!(served.peer_addr(), first.local_addr().unwrap());
    assert_eq!(served.local_addr(), Some(addr));
    assert_eq!(served.reason(), CloseReason::Eof);
    // The second client is still in the backlog, for the next call.
    second.shutdown(Shutdown::Write).unwrap();
    let served = server.handle_request(EchoHandler::new).unwrap().unwrap();
    assert_eq!(served.peer_addr(), second.local_addr().unwrap());
}

#[test]
fn handle_request_gives_every_listener_its_turn() {
    let builder = TcpServer::builder();
    let mut listeners = builder.listen("127.0.0.1:0").unwrap();
    listeners.extend(builder.listen("127.0.0.2:0").unwrap());
    // The clients never close, so don't linger.
    let builder = builder.lingering_time(Duration::ZERO);
    let mut server = builder.from_listeners(listeners).unwrap();
    let addrs = server.local_addrs().to_vec();
    // Each listener has four pending clients. Those of the first listener connected first.
    let _clients: Vec<_> = (0..8).map(|n| connect(addrs[n / 4])).collect();
    let served = std::cell::RefCell::new(Vec::new());
    for _ in 0..8 {
        let note = from_fn(|conn| {
            served.borrow_mut().push(conn.local_addr()?);
            Ok(())
        });
        server.handle_request(note).unwrap();
    }
    let served = served.into_inner();
    assert!(served.windows(2).all(|two| two[0] != two[1]), "{served:?}");
}

#[test]
fn handle_request_may_borrow_from_its_caller() {
    let mut server = TcpServer::bind("127.0.0.1:0").unwrap();
    let mut client = connect(server.local_addr());
    client.write_all(b"x").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let seen = std::cell::Cell::new(0);
    server
        .handle_request(from_fn(|conn| {
            seen.set(std::io::copy(conn, &mut std::io::sink())?);
            Ok(())
        }))
        .unwrap();
    assert_eq!(seen.get(), 1);
}

#[test]
fn handle_request_returns_none_at_its_timeout() {
    let timeout = Duration::from_millis(50);
    let mut server = TcpServer::builder()
        .accept_timeout(timeout)
        .bind("127.0.0.1:0")
        .unwrap();
    let start = std::time::Instant::now();
    assert_eq!(server.handle_request(EchoHandler::new).unwrap(), None);
    assert!(start.elapsed() >= timeout);
}

#[test]
fn a_shutdown_ends_a_handle_request_that_waits() {
    let mut server = TcpServer::bind("127.0.0.1:0").unwrap();
    let handle = server.handle();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.handle_request(EchoHandler::new).unwrap());
        // `is_responsive` is only true while `serve_forever` runs.
        assert!(!handle.is_responsive(Duration::from_millis(50)));
        handle.shutdown();
        assert_eq!(waiting.join().unwrap(), None);
    });
    assert_eq!(server.handle_request(EchoHandler::new).unwrap(), None);
}

#[test]
fn a_shutdown_ends_the_reads_of_handle_request() {
    let mut server = TcpServer::bind("127.0.0.1:0").unwrap();
    let client = connect(server.local_addr());
    let handled = server.handle_request(from_fn(|conn| {
        conn.server().shutdown();
        assert_eq!(conn.read(&mut [0; 64])?, 0);
        conn.write_all(b"over")
    }));
    let handled = handled.unwrap().unwrap();
    assert_eq!(handled.peer_addr(), client.local_addr().unwrap());
    assert_eq!(handled.reason(), CloseReason::Shutdown);
    assert_eq!((handled.bytes_in(), handled.bytes_out()), (0, 4));
    let mut over = [0; 4];
    (&client).read_exact(&mut over).unwrap();
}

#[test]
fn the_handle_counts_live_connections() {
    let server = TestServer::start(EchoHandler::new);
    let clients: Vec<_> = (0..5).map(|_| connect(server.addr)).collect();
    eventually("5 connections", || server.handle.connection_count() == 5);
    drop(clients);
    eventually("no connection", || server.handle.connection_count() == 0);
}

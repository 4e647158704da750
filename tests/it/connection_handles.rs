//! `ConnectionHandle`: what other threads see of a connection, and how they close it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use socketserver::{Connection, ConnectionHandle, EchoHandler, ServerHandle, TcpServer, from_fn};

use crate::support::{
    TIMEOUT, TestServer, connect, eventually, field, logged, noise, ping, read_to_end,
};

/// Echoes with blocking reads and writes.
fn copy(conn: &mut Connection) -> io::Result<()> {
    io::copy(&mut &*conn, &mut &*conn).map(drop)
}

/// Returns the handle of the connection with this client.
pub(crate) fn handle_of(server: &ServerHandle, client: &TcpStream) -> ConnectionHandle {
    let peer = client.local_addr().unwrap();
    let mut handle = None;
    eventually("the connection", || {
        let all = server.connections();
        handle = all.into_iter().find(|conn| conn.peer_addr() == peer);
        handle.is_some()
    });
    handle.unwrap()
}

/// Connects a client with a small receive buffer.
pub(crate) fn connect_narrow(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&addr.into()).unwrap();
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client
}

/// Sends until the connection accepts no more bytes for a moment. Returns how many it accepted.
pub(crate) fn fill(mut client: &TcpStream, block: &[u8]) -> usize {
    client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(200) {
        match client.write(&block[sent % block.len()..]) {
            Ok(n) => {
                sent += n;
                last = Instant::now();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                thread::yield_now();
            }
        }
    }
    client.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn a_close_ends_one_connection_that_sleeps_in_a_read_or_in_the_reactor() {
    let (builder, lines_of_blocking) = logged();
    let blocking = TestServer::with(builder, from_fn(copy));
    let (builder, lines_of_carried) = logged();
    let carried = TestServer::with(builder, EchoHandler::new);
    for (server, lines) in [(blocking, lines_of_blocking), (carried, lines_of_carried)] {
        let [client, neighbour] = [(); 2].map(|()| connect(server.addr));
        ping(&neighbour, b"hello");
        ping(&client, b"hello");
        let handle = handle_of(&server.handle, &client);
        handle.close();
        handle.close();
        assert_eq!(read_to_end(&client).unwrap(), b"");
        assert_eq!(lines.reason(&client), "closed");
        ping(&neighbour, b"unhurt");
        // The connection has ended, but its handle still has the numbers.
        eventually("the end", || server.handle.connection_count() == 1);
        handle.close();
        handle.abort();
        assert_eq!((handle.bytes_in(), handle.bytes_out()), (5, 5));
        assert_eq!(handle.peer_addr(), client.local_addr().unwrap());
        assert_eq!(server.handle.totals().aborted(), 0);
        drop(client);
        assert_eq!(server.stop().aborted(), 0);
    }
}

#[test]
fn a_read_returns_what_had_arrived_before_a_close_and_then_end_of_file() {
    let (builder, lines) = logged();
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let server = TestServer::with(
        builder,
        from_fn(move |conn| {
            let _ = gate.lock().unwrap().recv();
            copy(conn)
        }),
    );
    let client = connect(server.addr);
    let sent = noise(1, 60_000);
    (&client).write_all(&sent).unwrap();
    handle_of(&server.handle, &client).close();
    drop(release);
    assert!(read_to_end(&client).unwrap() == sent);
    assert_eq!(lines.reason_after(client), "closed");
}

#[test]
fn a_close_tells_a_handler_that_only_writes() {
    let (builder, lines) = logged();
    let server = TestServer::with(
        builder,
        from_fn(|conn| {
            while !conn.is_closing() {
                conn.write_all(b"news\n")?;
            }
            Ok(())
        }),
    );
    let client = connect(server.addr);
    (&client).read_exact(&mut [0; 5]).unwrap();
    let handle = handle_of(&server.handle, &client);
    handle.close();
    let rest = read_to_end(&client).unwrap();
    assert_eq!(lines.reason(&client), "closed");
    assert_eq!(handle.bytes_out(), 5 + rest.len() as u64);
}

#[test]
fn a_close_of_a_stalled_echo_gives_up_what_is_due_after_the_drain_timeout() {
    let (builder, lines) = logged();
    let drain = Duration::from_millis(400);
    let builder = builder.drain_timeout(drain).lingering_time(Duration::ZERO);
    let server = TestServer::with(builder, EchoHandler::new);
    let client = connect_narrow(server.addr);
    fill(&client, &noise(2, 1 << 20));
    let handle = handle_of(&server.handle, &client);
    let start = Instant::now();
    handle.close();
    let reason = lines.reason(&client);
    assert_eq!(reason, "closed");
    assert!(start.elapsed() >= drain);
    // A stream is on a thread, which checks for a request to close within a second.
    assert!(start.elapsed() < drain + Duration::from_secs(5));
    assert_eq!(server.stop().aborted(), 0);
}

#[test]
fn a_peer_that_reads_what_is_due_after_a_close_gets_all_that_had_arrived() {
    let builder = TcpServer::builder().drain_timeout(TIMEOUT);
    let server = TestServer::with(builder, EchoHandler::new);
    let client = connect_narrow(server.addr);
    let block = noise(3, 1 << 20);
    let sent = fill(&client, &block);
    let handle = handle_of(&server.handle, &client);
    handle.close();
    client.shutdown(Shutdown::Write).unwrap();
    let echo = read_to_end(&client).unwrap();
    for (echo, sent) in echo.chunks(block.len()).zip(std::iter::repeat(&block)) {
        assert!(echo == &sent[..echo.len()], "the echo is not a prefix");
    }
    assert!(echo.len() <= sent);
    eventually("the end", || server.handle.connection_count() == 0);
    assert_eq!(echo.len() as u64, handle.bytes_out());
    assert_eq!(handle.bytes_in(), handle.bytes_out());
}

#[test]
fn a_close_ends_a_stream_with_a_prefix() {
    let (builder, lines) = logged();
    let server = TestServer::with(builder, EchoHandler::new);
    let client = connect(server.addr);
    let block = noise(4, 1 << 20);
    let echo = thread::scope(|scope| {
        // This ends when the server has closed.
        scope.spawn(|| while (&client).write_all(&block).is_ok() {});
        let handle = handle_of(&server.handle, &client);
        let mut echo = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        let mut closes = true;
        while let Ok(n @ 1..) = (&client).read(&mut buffer) {
            echo.extend_from_slice(&buffer[..n]);
            if closes && echo.len() > 16 << 20 {
                handle.close();
                closes = false;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        echo
    });
    for (echo, sent) in echo.chunks(block.len()).zip(std::iter::repeat(&block)) {
        assert!(echo == &sent[..echo.len()], "the echo is not a prefix");
    }
    let line = lines.of(client.local_addr().unwrap());
    assert_eq!(field(&line, "reason"), Some("closed"));
    assert_eq!(field(&line, "bytes_out"), Some(&*echo.len().to_string()));
}

#[test]
fn a_close_ends_handle_request_in_its_handler_and_after_it() {
    let handlers: [fn(&mut Connection) -> io::Result<()>; 2] = [copy, |conn| {
        conn.continue_with(socketserver::Rest::Echo, &[]);
        Ok(())
    }];
    for handler in handlers {
        let (builder, lines) = logged();
        let mut server = builder.bind("127.0.0.1:0").unwrap();
        let (addr, handle) = (server.local_addr(), server.handle());
        thread::scope(|scope| {
            scope.spawn(|| server.handle_request(from_fn(handler)).unwrap());
            let client = connect(addr);
            ping(&client, b"hello");
            handle_of(&handle, &client).close();
            assert_eq!(read_to_end(&client).unwrap(), b"");
            assert_eq!(lines.reason_after(client), "closed");
        });
    }
}

/// Closes the connection with this peer, if there is one.
fn close(server: &ServerHandle, peer: SocketAddr) -> bool {
    let all = server.connections();
    let found = all.iter().find(|conn| conn.peer_addr() == peer);
    found.map(ConnectionHandle::close).is_some()
}

#[test]
fn a_close_that_comes_as_the_reactor_takes_over_is_not_lost() {
    let builder = TcpServer::builder().max_connections(8);
    let server = TestServer::with(builder, EchoHandler::new);
    for _ in 0..500 {
        let client = connect(server.addr);
        let peer = client.local_addr().unwrap();
        // The connection is listed as soon as it is accepted. Its thread may not have passed it to the
        // reactor yet.
        let start = Instant::now();
        while !close(&server.handle, peer) {
            assert!(start.elapsed() < TIMEOUT);
        }
        assert_eq!(read_to_end(&client).unwrap(), b"");
    }
}

#[test]
fn a_close_while_a_shutdown_drains_changes_nothing() {
    let (builder, lines) = logged();
    let server = TestServer::with(builder, EchoHandler::new);
    let client = connect_narrow(server.addr);
    let sent = fill(&client, &noise(5, 1 << 20));
    let handle = handle_of(&server.handle, &client);
    server.handle.shutdown();
    handle.close();
    client.shutdown(Shutdown::Write).unwrap();
    let echo = read_to_end(&client).unwrap();
    assert!(!echo.is_empty() && echo.len() <= sent);
    assert_eq!(lines.reason(&client), "shutdown");
    assert_eq!(server.join().aborted(), 0);
}

#[test]
fn connections_are_listed_by_age_until_they_end_and_no_id_comes_twice() {
    let builder = TcpServer::builder().lingering_time(Duration::ZERO);
    let server = TestServer::with(builder, EchoHandler::new);
    let mut last = 0;
    for _ in 0..5 {
        let clients: Vec<_> = (0..4).map(|_| connect(server.addr)).collect();
        clients.iter().for_each(|client| ping(client, b"hello"));
        let handles = server.handle.connections();
        assert_eq!(handles.len(), 4);
        for (handle, client) in handles.iter().zip(&clients) {
            assert!(handle.id() > last, "{handles:?}");
            last = handle.id();
            assert_eq!(handle.peer_addr(), client.local_addr().unwrap());
            assert_eq!(handle.local_addr().unwrap(), server.addr);
            // The server counts bytes a moment after it has sent them.
            eventually("the count", || handle.bytes_out() == 5);
        }
        drop(clients);
        eventually("the end", || server.handle.connections().is_empty());
        assert_eq!(handles[3].bytes_in(), 5);
    }
}

//! Connections that are aborted: what the peer sees, what wakes, what counts.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socketserver::{EchoHandler, TcpServer, from_fn};

use crate::connection_handles::{connect_narrow, fill, handle_of};
use crate::support::{TIMEOUT, TestServer, connect, eventually, logged, noise, ping, read_to_end};

/// Checks that the connection of the client was reset.
fn assert_reset(client: &TcpStream) {
    let error = read_to_end(client).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_abort_wakes_a_reader_and_a_blocked_writer_at_once() {
    let (builder, lines) = logged();
    let (sender, errors) = mpsc::channel();
    let server = TestServer::with(
        builder,
        from_fn(move |conn| {
            let conn = &*conn;
            thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    let mut conn = conn;
                    loop {
                        if let Err(error) = conn.write_all(&[0; 1 << 14]) {
                            return error;
                        }
                    }
                });
                let read = (&mut &*conn).read(&mut [0]);
                sender.send((read, writer.join().unwrap())).unwrap();
            });
            Ok(())
        }),
    );
    let client = connect(server.addr);
    let handle = handle_of(&server.handle, &client);
    let local = client.peer_addr().unwrap();
    // Wait until the writer is blocked.
    let mut before = 0;
    eventually("a stall", || {
        let now = handle.bytes_out();
        thread::park_timeout(Duration::from_millis(100));
        std::mem::replace(&mut before, now) == now && now > 0
    });
    handle.abort();
    handle.abort();
    let start = Instant::now();
    let (read, write) = errors.recv_timeout(TIMEOUT).unwrap();
    assert!(start.elapsed() < TIMEOUT / 2);
    assert!(read.is_err() || read.unwrap() == 0);
    assert_ne!(write.kind(), ErrorKind::TimedOut);
    assert_reset(&client);
    assert_eq!(lines.reason(&client), "aborted");
    // After a reset, the kernel no longer knows the address of the socket.
    assert_eq!(handle.local_addr().unwrap(), local);
    handle.abort();
    assert_eq!(server.stop().aborted(), 1);
}

#[test]
fn an_abort_in_the_reactor_is_counted_once_and_logged() {
    let (builder, lines) = logged();
    let server = TestServer::with(builder, EchoHandler::new);
    let idle = connect(server.addr);
    ping(&idle, b"hello");
    let stalled = connect_narrow(server.addr);
    fill(&stalled, &noise(6, 1 << 20));
    for client in [&idle, &stalled] {
        let handle = handle_of(&server.handle, client);
        handle.abort();
        handle.abort();
        assert_eq!(lines.reason(client), "aborted");
        assert_reset(client);
    }
    assert_eq!(server.stop().aborted(), 2);
}

#[test]
fn an_abort_of_a_lingering_connection_is_counted_once_and_logged() {
    let (builder, lines) = logged();
    let builder = builder.lingering_time(TIMEOUT);
    let server = TestServer::with(builder, from_fn(|conn| conn.write_all(b"bye")));
    let client = connect(server.addr);
    assert_eq!(read_to_end(&client).unwrap(), b"bye");
    let handle = handle_of(&server.handle, &client);
    handle.abort();
    handle.abort();
    assert_eq!(lines.reason(&client), "aborted");
    assert_eq!(server.stop().aborted(), 1);
}

#[test]
fn a_handler_can_abort_its_own_connection() {
    let (builder, lines) = logged();
    let (sender, written) = mpsc::channel();
    let server = TestServer::with(
        builder,
        from_fn(move |conn| {
            conn.abort();
            sender.send(conn.write_all(b"too late")).unwrap();
            Ok(())
        }),
    );
    let client = connect(server.addr);
    assert_reset(&client);
    assert!(written.recv_timeout(TIMEOUT).unwrap().is_err());
    assert_eq!(lines.reason(&client), "aborted");
    assert_eq!(server.stop().aborted(), 1);
}

#[test]
fn a_reply_in_flight_after_the_handlers_own_fin_is_not_taken_for_delivered() {
    let builder = TcpServer::builder()
        .drain_timeout(Duration::from_millis(300))
        .lingering_time(TIMEOUT);
    let (sender, done) = mpsc::channel();
    let server = TestServer::with(
        builder,
        from_fn(move |conn| {
            conn.write_all(&vec![0; 100_000])?;
            conn.shutdown_write()?;
            sender.send(()).unwrap();
            Ok(())
        }),
    );
    // The client reads nothing, so the abort loses a part of the reply.
    let _client = connect_narrow(server.addr);
    done.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(server.stop().aborted(), 1);
}

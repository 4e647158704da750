//! Connections that have ended: what the hook receives, what the totals count, and what the log says.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use socketserver::{Builder, CloseReason, ClosedConnection, EchoHandler, TcpServer, from_fn};

use crate::support::{
    TIMEOUT, TestServer, bind_again, connect, eventually, exchange, ping, read_to_end,
};

/// Returns a builder whose hook sends each `ClosedConnection` to the receiver.
fn told() -> (Builder, Receiver<ClosedConnection>) {
    let (sender, receiver) = mpsc::channel();
    let builder = TcpServer::builder().on_close(move |closed| {
        sender.send(closed.clone()).unwrap();
    });
    (builder, receiver)
}

#[test]
fn the_hook_is_called_once_for_each_connection_with_its_numbers() {
    let (builder, closed) = told();
    let server = TestServer::with(builder, EchoHandler::new);
    let mut peers = Vec::new();
    for n in 1..=3 {
        let client = connect(server.addr);
        peers.push(client.local_addr().unwrap());
        (&client).write_all(&vec![7; n]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&client).unwrap().len(), n);
    }
    let addr = server.addr;
    let totals = server.stop();
    let mut closed: Vec<_> = closed.iter().collect();
    closed.sort_by_key(ClosedConnection::id);
    assert_eq!(closed.len(), 3);
    for (n, (closed, peer)) in (1..).zip(closed.iter().zip(peers)) {
        assert_eq!((closed.id(), closed.peer_addr()), (n, peer));
        assert_eq!(closed.local_addr(), Some(addr));
        assert_eq!((closed.bytes_in(), closed.bytes_out()), (n, n));
        assert_eq!(closed.reason(), CloseReason::Eof);
        assert!(closed.duration() < Duration::from_secs(60));
    }
    assert_eq!(totals.closed_by(CloseReason::Eof), 3);
}

#[test]
fn every_reason_is_reported_and_counted() {
    let (builder, closed) = told();
    let builder = builder
        .idle_timeout(Duration::from_millis(50))
        .verify_request(|conn| conn.id() != 5);
    let server = TestServer::with(
        builder,
        from_fn(|conn| match conn.id() {
            1 => Ok(()),
            2 => Err(io::Error::other("broken")),
            3 => panic!("broken"),
            4 => conn.read(&mut [0; 9]).map(drop),
            6 => {
                // A client that is reset earlier may still be in `connect`, which would then fail.
                conn.set_idle_timeout(None);
                conn.read_exact(&mut [0])?;
                conn.abort();
                Ok(())
            }
            7 => {
                conn.handle().close();
                conn.read(&mut [0; 9]).map(drop)
            }
            _ => unreachable!("the hook has denied it"),
        }),
    );
    let expected = [
        CloseReason::Done,
        CloseReason::Error,
        CloseReason::Panic,
        CloseReason::Idle,
        CloseReason::Denied,
        CloseReason::Aborted,
        CloseReason::Closed,
    ];
    for (id, reason) in (1..).zip(expected) {
        let client = connect(server.addr);
        if reason == CloseReason::Aborted {
            (&client).write_all(b"x").unwrap();
        }
        match read_to_end(&client) {
            Err(error) if reason == CloseReason::Aborted => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
            read => assert_eq!(read.unwrap(), b""),
        }
        drop(client);
        let closed = closed.recv_timeout(TIMEOUT).unwrap();
        assert_eq!((closed.id(), closed.reason()), (id, reason));
    }
    let totals = server.stop();
    for reason in expected {
        assert_eq!(totals.closed_by(reason), 1, "{reason}");
    }
    assert_eq!(totals.closed_by(CloseReason::Eof), 0);
    assert_eq!(totals.aborted(), 1, "the aborted one");
}

#[test]
fn a_hook_that_panics_or_is_slow_affects_no_other_connection() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let builder = TcpServer::builder()
        .max_connections(2)
        .on_close(move |closed| match closed.id() {
            1 => panic!("a bug of the hook"),
            2 => released.lock().unwrap().recv().unwrap(),
            _ => {}
        });
    let server = TestServer::with(builder, EchoHandler::new);
    for _ in 0..2 {
        assert_eq!(exchange(server.addr, b"x"), b"x");
    }
    // The slow hook of the second connection holds its slot. One more slot is free.
    for _ in 0..10 {
        assert_eq!(exchange(server.addr, b"x"), b"x");
    }
    eventually("only the slow one", || {
        server.handle.connection_count() == 1
    });
    release.send(()).unwrap();
    eventually("no connection", || server.handle.connection_count() == 0);
    assert_eq!(server.stop().connections(), 12);
}

#[test]
fn the_hook_is_called_for_a_handler_that_ignores_an_abort_too() {
    let (builder, closed) = told();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let builder = builder.drain_timeout(Duration::ZERO);
    let server = TestServer::with(
        builder,
        from_fn(move |conn| {
            conn.write_all(b"x")?;
            let _ = released.lock().unwrap().recv();
            Ok(())
        }),
    );
    let client = connect(server.addr);
    (&client).read_exact(&mut [0]).unwrap();
    let totals = server.stop();
    let only = closed.try_iter().collect::<Vec<_>>();
    assert_eq!(only.len(), 1);
    assert_eq!(only[0].reason(), CloseReason::Shutdown);
    assert_eq!(totals.closed_by(CloseReason::Shutdown), 1);
    drop(release);
}

#[test]
fn a_running_server_has_its_address_and_ends_with_its_value() {
    let server = TcpServer::builder().name("guests").bind("127.0.0.1:0");
    let server = server.unwrap().start(EchoHandler::new).unwrap();
    let addr = server.local_addr();
    assert_eq!(server.local_addrs(), [addr]);
    assert_eq!(exchange(addr, b"x"), b"x");
    let open = connect(addr);
    ping(&open, b"x");
    eventually("the first is gone", || {
        server.handle().connection_count() == 1
    });
    // Dropping the running server drains the connection and frees the port.
    drop(server);
    assert_eq!(read_to_end(&open).unwrap(), b"");
    let again = bind_again(addr).start(EchoHandler::new);
    assert_eq!(exchange(addr, b"x"), b"x");
    let totals = again.unwrap().stop().unwrap();
    assert_eq!(totals.connections(), 1);
}

#[test]
fn a_running_server_that_another_thread_stops_is_waited_for() {
    let server = TcpServer::bind("127.0.0.1:0").unwrap();
    let server = server.start(EchoHandler::new).unwrap();
    let handle = server.handle().clone();
    let stopping = std::thread::spawn(move || handle.shutdown());
    assert_eq!(server.wait().unwrap().connections(), 0);
    stopping.join().unwrap();
}

#[test]
fn a_thousand_running_servers_leave_no_descriptor() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let start = || {
        let server = TcpServer::bind("127.0.0.1:0").unwrap();
        server.start(EchoHandler::new).unwrap()
    };
    start().stop().unwrap();
    // Other tests in this process also open and close descriptors.
    let before = descriptors();
    for round in 0..1000 {
        let server = start();
        if round % 100 == 0 {
            exchange(server.local_addr(), b"x");
        }
    }
    eventually("the descriptors", || descriptors() < before + 500);
}

//! Handles, waits and aborts leave nothing behind in the process.

use std::cell::RefCell;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socketserver::{Connection, ConnectionHandle, Rest, ServerHandle, TcpServer, Wait, from_fn};

use crate::support::{TIMEOUT, TestServer, connect, eventually, ping, read_to_end};
use crate::turn;
use crate::usage::own_status;

fn count_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until the connection is woken or closed.
fn wait_once(conn: &mut Connection) -> std::io::Result<()> {
    conn.wait(None).map(drop)
}

/// Returns the handle of the connection with this client. It polls without sleeping, because it is called
/// often.
fn handle_of(server: &ServerHandle, client: &TcpStream) -> ConnectionHandle {
    let peer = client.local_addr().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let all = server.connections();
        if let Some(found) = all.into_iter().find(|conn| conn.peer_addr() == peer) {
            return found;
        }
        assert!(Instant::now() < deadline, "it is not accepted");
        thread::yield_now();
    }
}

/// Ends connections by a close, a wake-up and an abort in turn, `at_once` of them at the same time.
fn end_in_turn(connections: usize, at_once: usize, server: &ServerHandle, addr: SocketAddr) {
    let mut turns = (0..3).cycle();
    for _ in 0..connections / at_once {
        let clients: Vec<_> = (0..at_once).map(|_| connect(addr)).collect();
        for (client, turn) in clients.iter().zip(&mut turns) {
            let handle = handle_of(server, client);
            match turn {
                0 => handle.close(),
                1 => handle.wake(),
                _ => handle.abort(),
            }
        }
        for mut client in clients {
            match client.read(&mut [0]) {
                Ok(read) => assert_eq!(read, 0),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
    }
    eventually("the end", || server.connection_count() == 0);
}

/// So many connections that a leak of one descriptor, thread or entry for each would show.
const MANY: usize = 10_000;

/// Memory that the allocator may keep after use, in KiB.
const MARGIN: u64 = 2048;

#[test]
fn ten_thousand_closes_wake_ups_and_aborts_leave_nothing() {
    let _turn = turn();
    let server = TestServer::start(from_fn(wait_once));
    let end = |many| end_in_turn(many, 30, &server.handle, server.addr);
    // The first connections start the threads.
    end(300);
    let (descriptors, before) = (count_descriptors(), own_status("VmRSS:"));
    end(MANY);
    eventually("few descriptors", || count_descriptors() <= descriptors);
    let after = own_status("VmRSS:");
    assert!(after < before + MARGIN, "{before} KiB, then {after} KiB");
    let totals = server.stop();
    assert_eq!(totals.aborted() * 3, totals.connections());
}

#[test]
fn a_thousand_of_them_in_handle_request_leave_nothing() {
    // If the client is silent when its connection closes, the close takes 10 ms. Here each connection waits
    // for the one before.
    let _turn = turn();
    let mut server = TcpServer::bind("127.0.0.1:0").unwrap();
    let (addr, handle) = (server.local_addr(), server.handle());
    thread::scope(|scope| {
        scope.spawn(
            move || {
                while server.handle_request(from_fn(wait_once)).unwrap().is_some() {}
            },
        );
        let end = |many| end_in_turn(many, 1, &handle, addr);
        end(100);
        let (descriptors, before) = (count_descriptors(), own_status("VmRSS:"));
        end(MANY / 10);
        eventually("few descriptors", || count_descriptors() <= descriptors);
        let after = own_status("VmRSS:");
        assert!(after < before + MARGIN, "{before} KiB, then {after} KiB");
        handle.shutdown();
    });
}

#[test]
fn a_wait_gives_its_descriptors_back_when_the_handler_is_done() {
    const CLIENTS: usize = 50;
    let _turn = turn();
    let server = TestServer::start(from_fn(|conn| {
        conn.wait(Duration::ZERO)?;
        conn.continue_with(Rest::Echo, &[]);
        Ok(())
    }));
    ping(&connect(server.addr), b"first");
    eventually("its end", || server.handle.connection_count() == 0);
    let before = count_descriptors();
    let clients: Vec<_> = (0..CLIENTS).map(|_| connect(server.addr)).collect();
    for client in &clients {
        ping(client, b"x");
    }
    let handles = server.handle.connections();
    // After the handler has returned, a wake-up does nothing.
    handles.iter().for_each(ConnectionHandle::wake);
    eventually("two for each client", || {
        count_descriptors() <= before + 2 * CLIENTS
    });
    for client in &clients {
        ping(client, b"x");
    }
    drop(clients);
    eventually("none", || count_descriptors() <= before);
}

/// Runs `run` while this process can open no descriptor.
fn out_of_descriptors<T>(run: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    // All descriptors below this limit are in use. `poll` fails with more descriptors than the limit allows,
    // so the limit must not be lower.
    let none = Rlimit {
        current: Some(3),
        ..before
    };
    setrlimit(Resource::Nofile, none).unwrap();
    let result = run();
    setrlimit(Resource::Nofile, before).unwrap();
    result
}

#[test]
fn out_of_descriptors_a_first_wait_fails_and_a_later_one_does_not() {
    // This is more than the servers of other tests may still give back.
    const CONNECTIONS: usize = 50;
    let _turn = turn();
    let mut server = TcpServer::bind("127.0.0.1:0").unwrap();
    let before = count_descriptors();
    for _ in 0..CONNECTIONS {
        let _client = connect(server.local_addr());
        let waits = RefCell::default();
        let handled = server.handle_request(from_fn(|conn| {
            conn.handle().wake();
            let first = out_of_descriptors(|| conn.wait(None));
            let second = conn.wait(None);
            conn.handle().wake();
            let third = out_of_descriptors(|| conn.wait(None));
            waits.replace(vec![first, second, third]);
            conn.abort();
            Ok(())
        }));
        assert!(handled.unwrap().is_some());
        let mut waits = waits.take().into_iter();
        let error = waits.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("Too many open files"), "{error}");
        // The wake-up is not lost, and the descriptors of the first wait serve any number of waits.
        for waited in waits {
            assert_eq!(waited.unwrap(), Wait::Woken);
        }
    }
    assert!(count_descriptors() <= before);
}

#[test]
fn out_of_descriptors_a_close_reaches_a_reader_all_the_same() {
    let _turn = turn();
    let server = TestServer::start(from_fn(|conn| {
        std::io::copy(&mut &*conn, &mut &*conn).map(drop)
    }));
    let clients = [(); 3].map(|()| connect(server.addr));
    for client in &clients {
        ping(client, b"in");
    }
    let handles = server.handle.connections();
    out_of_descriptors(|| handles[1].close());
    assert_eq!(read_to_end(&clients[1]).unwrap(), b"");
    ping(&clients[0], b"unhurt");
    ping(&clients[2], b"unhurt");
}

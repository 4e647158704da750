//! The status that a running server reports.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use socketserver::{
    AtLimit, CloseReason, Connection, EchoHandler, Resource, Rest, ServerStatus, Stage, TcpServer,
    from_fn,
};

use crate::connection_handles::handle_of;
use crate::support::{TIMEOUT, TestServer, connect, eventually, exchange, ping, read_to_end};

fn ended(status: &ServerStatus) -> u64 {
    let totals = status.totals();
    CloseReason::all()
        .map(|reason| totals.closed_by(reason))
        .sum()
}

#[test]
fn a_connection_passes_through_its_stages() {
    let barrier = Arc::new(Barrier::new(2));
    let server = TestServer::start({
        let barrier = Arc::clone(&barrier);
        from_fn(move |conn: &mut Connection| {
            barrier.wait();
            conn.continue_with(Rest::Echo, &[]);
            Ok(())
        })
    });
    let client = connect(server.addr);
    let handle = handle_of(&server.handle, &client);
    assert_eq!(handle.stage(), Stage::Handler);
    assert_eq!(server.handle.status().live_in(Stage::Handler), 1);

    barrier.wait();
    ping(&client, b"carried");
    eventually("the reactor", || handle.stage() == Stage::Reactor);
    assert_eq!(server.handle.status().live_in(Stage::Reactor), 1);

    client.shutdown(Shutdown::Write).unwrap();
    eventually("the end", || handle.stage() == Stage::Ended);
    let status = server.handle.status();
    assert_eq!((status.live(), status.live_in(Stage::Ended)), (0, 0));
    assert_eq!(status.totals().closed_by(CloseReason::Eof), 1);
}

#[test]
fn a_connection_whose_peer_has_not_closed_is_closing() {
    let builder = TcpServer::builder().lingering_time(TIMEOUT);
    let server = TestServer::with(builder, from_fn(|_: &mut Connection| Ok(())));
    let mut client = connect(server.addr);
    // The server has sent its FIN, but the client has not.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let handle = handle_of(&server.handle, &client);
    eventually("the close", || handle.stage() == Stage::Closing);
    let status = server.handle.status();
    assert_eq!((status.live(), status.live_in(Stage::Closing)), (1, 1));
    drop(client);
    eventually("the end", || handle.stage() == Stage::Ended);
}

#[test]
fn while_clients_come_and_go_the_numbers_agree_and_no_count_goes_back() {
    const CLIENTS: u64 = 200;
    const MESSAGES: u64 = 10;
    let server = TestServer::start(EchoHandler::new);
    let (addr, handle) = (server.addr, server.handle.clone());
    let done = AtomicBool::new(false);
    let looks = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut looks = 0;
            let mut before = [0; 3];
            while !done.load(Ordering::Relaxed) {
                let status = handle.status();
                let totals = status.totals();
                let now = [totals.connections(), totals.bytes_in(), totals.bytes_out()];
                assert!((0..3).all(|count| now[count] >= before[count]));
                assert_eq!(totals.connections(), ended(&status) + status.live() as u64);
                before = now;
                looks += 1;
            }
            looks
        });
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    for _ in 0..CLIENTS / 4 {
                        let client = connect(addr);
                        for _ in 0..MESSAGES {
                            ping(&client, &[b'x'; 100]);
                        }
                    }
                })
            })
            .collect();
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert!(looks > 10, "{looks}");
    eventually("the end of all", || server.handle.status().live() == 0);
    let totals = server.handle.status().totals();
    assert_eq!(totals.connections(), CLIENTS);
    assert_eq!(totals.bytes_in(), CLIENTS * MESSAGES * 100);
    assert_eq!(totals.bytes_out(), CLIENTS * MESSAGES * 100);
}

#[test]
fn bytes_count_while_their_connection_lives() {
    let server = TestServer::start(EchoHandler::new);
    let client = connect(server.addr);
    ping(&client, &[1; 500]);
    assert_eq!(server.handle.status().totals().bytes_in(), 500);
    // The server counts bytes after it has sent them.
    eventually("the echo in the count", || {
        server.handle.status().totals().bytes_out() == 500
    });
    // The totals only count connections that have ended.
    assert_eq!(server.handle.totals().bytes_in(), 0);
    assert_eq!(exchange(server.addr, &[2; 500]), [2; 500]);
    eventually("the end of one", || {
        server.handle.totals().bytes_in() == 500
    });
    assert_eq!(server.handle.status().totals().bytes_in(), 1000);
}

#[test]
fn rejected_connections_are_counted_by_the_limit() {
    let builder = TcpServer::builder()
        .max_connections(2)
        .max_per_source(1)
        .at_limit(AtLimit::Reject);
    let server = TestServer::with(builder, EchoHandler::new);
    let first = connect(server.addr);
    ping(&first, b"x");
    let is_closed = |client: &TcpStream| assert_eq!(read_to_end(client).unwrap(), b"");
    is_closed(&connect(server.addr));
    server.handle.set_max_connections(1);
    is_closed(&connect(server.addr));
    is_closed(&connect(server.addr));
    let status = server.handle.status();
    assert_eq!(status.totals().rejected(), 3);
    assert_eq!(status.totals().rejected_per_source(), 1);
    assert_eq!(
        (status.max_connections(), status.max_per_source()),
        (1, Some(1))
    );
}

#[test]
fn threads_are_those_of_handlers_and_reactors_start_when_needed() {
    let server = TestServer::with(
        TcpServer::builder().reactors(1),
        from_fn(|conn: &mut Connection| io::copy(&mut &*conn, &mut &*conn).map(drop)),
    );
    let status = server.handle.status();
    assert_eq!((status.threads(), status.reactors()), (0, 0));
    let clients: Vec<_> = (0..10).map(|_| connect(server.addr)).collect();
    clients.iter().for_each(|client| ping(client, b"x"));
    // There is a thread for each connection, and one that leads.
    eventually("their threads", || server.handle.status().threads() == 11);
    // The reactor delivers the end of a reply, without a thread.
    for mut client in &clients {
        client.write_all(b"y").unwrap();
    }
    drop(clients);
    eventually("their end", || server.handle.status().live() == 0);
    let handle = server.handle.clone();
    server.stop();
    eventually("no thread", || handle.status().threads() == 0);
    eventually("no reactor", || handle.status().reactors() == 0);
}

#[test]
fn a_server_that_is_short_of_nothing_says_so() {
    let server = TestServer::start(EchoHandler::new);
    assert_eq!(exchange(server.addr, b"x"), b"x");
    let totals = server.handle.status().totals();
    for resource in [
        Resource::Descriptors,
        Resource::Memory,
        Resource::Threads,
        Resource::Other,
    ] {
        assert_eq!(totals.shortages(resource), 0, "{resource}");
    }
}

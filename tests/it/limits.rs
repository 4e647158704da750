//! The limits of connections: in all, and for each source.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socketserver::{AtLimit, Connection, EchoHandler, RequestHandler, TcpServer};

use crate::support::{
    Daemon, TIMEOUT, TestServer, connect, connect_from, eventually, noise, ping, read_to_end,
};

/// An echo that counts how many handlers run at the same time.
struct Counted {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl RequestHandler for Counted {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        // Copy here, because `EchoHandler` leaves the echo to the server and returns at once.
        let echoed = io::copy(&mut &*conn, &mut &*conn).map(drop);
        self.running.fetch_sub(1, Ordering::SeqCst);
        echoed
    }
}

#[test]
fn the_eleventh_of_ten_is_served_when_one_ends() {
    let server = TestServer::with(TcpServer::builder().max_connections(10), EchoHandler::new);
    let mut clients: Vec<_> = (0..10).map(|_| connect(server.addr)).collect();
    clients.iter().for_each(|client| ping(client, b"in"));
    assert_eq!(server.handle.connection_count(), 10);

    let mut eleventh = connect(server.addr);
    eleventh.write_all(b"waiting").unwrap();
    eleventh
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let error = eleventh.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(server.handle.connection_count(), 10);

    clients.pop();
    eleventh.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut echo = [0; 7];
    eleventh.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"waiting");
    assert_eq!(server.handle.connection_count(), 10);
}

#[test]
fn the_limit_is_never_exceeded_and_no_client_is_lost() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let server = TestServer::with(TcpServer::builder().max_connections(3), {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        move || Counted {
            running: Arc::clone(&running),
            most: Arc::clone(&most),
        }
    });
    // Have the maximum run at the same time. Otherwise the count below would prove nothing.
    let inside: Vec<_> = (0..3).map(|_| connect(server.addr)).collect();
    inside.iter().for_each(|client| ping(client, b"in"));
    drop(inside);
    std::thread::scope(|scope| {
        for worker in 0..8_u64 {
            scope.spawn(move || {
                for round in 0..50 {
                    let message = noise(worker * 1000 + round, 2000);
                    let client = connect(server.addr);
                    ping(&client, &message);
                    client.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(read_to_end(&client).unwrap(), b"");
                }
            });
        }
    });
    let totals = server.stop();
    assert_eq!(totals.connections(), 3 + 400);
    assert_eq!(totals.bytes_out(), 3 * 2 + 400 * 2000);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[test]
fn a_limit_of_one_serves_one_after_another() {
    let server = TestServer::with(TcpServer::builder().max_connections(1), EchoHandler::new);
    let clients: Vec<_> = (0..20).map(|_| connect(server.addr)).collect();
    for client in clients {
        ping(&client, b"my turn");
    }
}

#[test]
fn reaching_the_limit_again_and_again_is_reported_once() {
    let daemon = Daemon::start(&["--max-connections", "2"]);
    for _ in 0..20 {
        let clients: Vec<_> = (0..4).map(|_| connect(daemon.addr)).collect();
        for client in clients {
            ping(&client, b"x");
        }
    }
    let output = daemon.stop();
    assert_eq!(
        output.log.matches("limit of 2 connections reached").count(),
        1
    );
    assert_eq!(output.log.matches("WARN").count(), 1, "{}", output.log);
}

#[test]
fn raising_the_limit_admits_waiting_clients_and_lowering_it_closes_none() {
    let server = TestServer::with(TcpServer::builder().max_connections(1), EchoHandler::new);
    let clients: Vec<_> = (0..5).map(|_| connect(server.addr)).collect();
    ping(&clients[0], b"in");
    server.handle.set_max_connections(5);
    assert_eq!(server.handle.max_connections(), 5);
    clients.iter().for_each(|client| ping(client, b"all in"));

    server.handle.set_max_connections(2);
    clients.iter().for_each(|client| ping(client, b"still in"));
    let sixth = connect(server.addr);
    sixth
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    (&sixth).write_all(b"x").unwrap();
    let mut clients = clients.into_iter();
    for left in [4, 3, 2] {
        drop(clients.next());
        eventually("one less", || server.handle.connection_count() == left);
        assert!((&sixth).read(&mut [0]).is_err(), "admitted beside {left}");
    }
    drop(clients.next());
    sixth.set_read_timeout(Some(TIMEOUT)).unwrap();
    (&sixth).read_exact(&mut [0]).unwrap();
}

#[test]
fn at_the_limit_a_client_is_rejected_cleanly_if_so_chosen() {
    let daemon = Daemon::start(&["--max-connections", "2", "--at-limit", "reject"]);
    let inside: Vec<_> = (0..2).map(|_| connect(daemon.addr)).collect();
    inside.iter().for_each(|client| ping(client, b"in"));
    for _ in 0..200 {
        let rejected = connect(daemon.addr);
        // The client may send before it sees its end. It must still see end of file, and not a reset.
        (&rejected).write_all(b"hello?").unwrap();
        assert_eq!(read_to_end(&rejected).unwrap(), b"");
    }
    inside.iter().for_each(|client| ping(client, b"unhurt"));
    drop(inside);
    daemon.wait_for_log("reason=eof");
    eventually("room", || {
        let next = connect(daemon.addr);
        (&next).write_all(b"x").unwrap();
        (&next).read(&mut [0]).unwrap() == 1
    });
    let output = daemon.stop();
    assert_eq!(output.log.matches("WARN").count(), 1, "{}", output.log);
    let rejected = output
        .log
        .matches("bytes_in=0 bytes_out=0 duration=0.000000 reason=limit")
        .count();
    assert!(rejected >= 200);
    assert!(
        output
            .log
            .contains(&format!("connections=3 rejected={rejected} "))
    );
}

#[test]
fn each_source_has_its_own_limit() {
    let daemon =
        Daemon::spawn(Daemon::command().args(["-v", "--listen", ":0", "--max-per-source", "2"]));
    let server = SocketAddr::from(([127, 0, 0, 1], daemon.addr.port()));
    let from = |source: &str| connect_from(source, server);
    let first = [from("127.0.0.7"), from("127.0.0.7")];
    first.iter().for_each(|client| ping(client, b"in"));
    assert_eq!(read_to_end(&from("127.0.0.7")).unwrap(), b"");
    let others: Vec<_> = (8..40).map(|n| from(&format!("127.0.0.{n}"))).collect();
    others.iter().for_each(|client| ping(client, b"in"));
    drop(first);
    eventually("room for the first source", || {
        let next = from("127.0.0.7");
        (&next).write_all(b"x").unwrap();
        (&next).read(&mut [0]).unwrap() == 1
    });
    let output = daemon.stop();
    assert_eq!(output.code, Some(0));
    assert!(
        output.log.contains(
            "limit of 2 connections per source reached by 127.0.0.7; new ones are closed"
        )
    );
    assert!(output.log.contains("reason=limit"));
}

#[test]
fn the_log_names_the_source_that_fills_the_limit_and_says_when_there_is_room() {
    for at_limit in ["wait", "reject"] {
        let daemon = Daemon::start(&["--max-connections", "3", "--at-limit", at_limit]);
        let again = "below the limit of 3 connections again";
        // This counts as one episode, however often there is room in between.
        for round in 1..=5 {
            let clients: Vec<_> = (0..3).map(|_| connect(daemon.addr)).collect();
            clients.iter().for_each(|client| ping(client, b"in"));
            // This client exceeds the limit.
            drop(connect(daemon.addr));
            daemon.wait_for_log("; the most: 3 from 127.0.0.1\n");
            drop(clients);
            let lines = || daemon.log().matches("reason=").count();
            eventually("the end of all four", || lines() == 4 * round);
        }
        assert!(!daemon.log().contains(again), "{}", daemon.log());
        daemon.wait_for_log(again);
        let log = daemon.stop().log;
        assert_eq!(log.matches("limit of 3 connections reached").count(), 1);
        assert_eq!(log.matches(again).count(), 1);
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
    }
}

#[test]
fn the_log_says_when_no_source_exceeds_its_limit_any_more() {
    let daemon = Daemon::start(&["--max-per-source", "1"]);
    let inside = connect(daemon.addr);
    ping(&inside, b"in");
    for _ in 0..5 {
        assert_eq!(read_to_end(&connect(daemon.addr)).unwrap(), b"");
    }
    let over = "no source exceeds the limit of 1 connections any more";
    assert!(!daemon.log().contains(over), "{}", daemon.log());
    // The first client's connection stays open.
    daemon.wait_for_log(over);
    ping(&inside, b"still in");
    let log = daemon.stop().log;
    assert_eq!(log.matches("reached by 127.0.0.1").count(), 1);
    assert_eq!(log.matches(over).count(), 1);
}

#[test]
fn a_rejected_client_that_stays_does_not_keep_a_thread_of_a_server_that_has_ended() {
    let builder = TcpServer::builder()
        .at_limit(AtLimit::Reject)
        .lingering_time(Duration::from_secs(3600));
    let server = TestServer::with(builder, EchoHandler::new);
    let handle = server.handle.clone();
    handle.set_max_connections(0);
    let client = connect(server.addr);
    assert_eq!(read_to_end(&client).unwrap(), b"");
    assert_eq!(server.stop().rejected(), 1);
    eventually("the end of the reactor", || handle.status().reactors() == 0);
}

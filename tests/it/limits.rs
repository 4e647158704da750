//! The connection limit and the timeouts.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use socketserver::{Connection, EchoHandler, RequestHandler, TcpServer};

use crate::support::{Daemon, PATIENCE, TestServer, connect, eventually, noise, ping, read_to_end};

/// An echo that keeps count of how many run at once.
struct Counted {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl RequestHandler for Counted {
    fn handle(&mut self, conn: &mut Connection) -> std::io::Result<()> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let echoed = EchoHandler::new().handle(conn);
        self.running.fetch_sub(1, Ordering::SeqCst);
        echoed
    }
}

#[test]
fn the_eleventh_of_ten_is_served_when_one_ends() {
    let server = TestServer::with(TcpServer::builder().max_connections(10), EchoHandler::new);
    let mut clients: Vec<_> = (0..10).map(|_| connect(server.addr)).collect();
    clients.iter().for_each(|client| ping(client, b"in"));
    assert_eq!(server.handle.connections(), 10);

    let mut eleventh = connect(server.addr);
    eleventh.write_all(b"waiting").unwrap();
    eleventh
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let error = eleventh.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(server.handle.connections(), 10);

    clients.pop();
    eleventh.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut echo = [0; 7];
    eleventh.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"waiting");
    assert_eq!(server.handle.connections(), 10);
}

#[test]
fn the_limit_is_never_exceeded_and_nobody_is_lost_at_it() {
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let server = TestServer::with(TcpServer::builder().max_connections(3), {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        move || Counted {
            running: Arc::clone(&running),
            most: Arc::clone(&most),
        }
    });
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
    assert_eq!(totals.connections(), 400);
    assert_eq!(totals.bytes_out(), 400 * 2000);
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
fn an_idle_connection_ends_after_the_idle_timeout_and_a_busy_one_does_not() {
    let daemon = Daemon::start(&["--idle-timeout", "300ms"]);
    let start = Instant::now();
    let idle = connect(daemon.addr);
    let busy = connect(daemon.addr);
    let (sender, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            assert_eq!(read_to_end(&idle).unwrap(), b"");
            sender.send(start.elapsed()).unwrap();
        });
        let elapsed = loop {
            ping(&busy, b"busy");
            if let Ok(elapsed) = ended.recv_timeout(Duration::from_millis(20)) {
                break elapsed;
            }
        };
        assert!(elapsed >= Duration::from_millis(300), "{elapsed:?}");
    });
    ping(&busy, b"still there");
    daemon.wait_for_log("reason=idle");
    drop(busy);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_client_that_reads_nothing_ends_after_the_write_timeout() {
    let daemon = Daemon::start(&["--write-timeout", "300ms"]);
    let neighbour = connect(daemon.addr);
    let mut stalled = connect(daemon.addr);
    stalled
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    // Until the kernel's buffers on both sides are full.
    let block = noise(4, 1 << 20);
    while stalled.write(&block).is_ok_and(|n| n > 0) && !daemon.log().contains("stalled") {
        ping(&neighbour, b"unhurt");
    }
    daemon.wait_for_log("reason=stalled");
    ping(&neighbour, b"unhurt");
    assert_eq!(daemon.log().matches("reason=").count(), 1);
}

#[test]
fn a_slow_reader_is_not_taken_for_a_stalled_one() {
    let server = TestServer::with(
        TcpServer::builder().write_timeout(Duration::from_millis(150)),
        EchoHandler::new,
    );
    let client = connect(server.addr);
    let sent = noise(5, 12 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        // Slower than a third of a send buffer in the timeout, but never silent for as long.
        let (_open, pause) = mpsc::channel::<()>();
        let mut received = vec![0; 2 << 20];
        for part in received.chunks_mut(128 << 10) {
            (&client).read_exact(part).unwrap();
            let _ = pause.recv_timeout(Duration::from_millis(60));
        }
        received.extend(read_to_end(&client).unwrap());
        assert!(received == sent);
    });
    eventually("the end", || server.handle.connections() == 0);
}

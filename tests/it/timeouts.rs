//! The time limits of a connection: to send, to read, and to live.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use socketserver::{EchoHandler, TcpServer, from_fn};

use crate::support::{
    Daemon, TestServer, assert_takes, connect, eventually, noise, ping, read_to_end,
};

#[test]
fn an_idle_connection_ends_after_the_idle_timeout_and_a_busy_one_does_not() {
    // Even on a busy machine, the busy client never pauses for as long as this.
    let daemon = Daemon::start(&["--idle-timeout", "2s"]);
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
        assert!(elapsed >= Duration::from_secs(2), "{elapsed:?}");
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
    // Send until the buffers of both kernels are full.
    let block = noise(4, 1 << 20);
    eventually("a stalled client", || {
        let _ = stalled.write(&block);
        ping(&neighbour, b"unhurt");
        daemon.log().contains("reason=stalled")
    });
    assert_eq!(daemon.log().matches("reason=").count(), 1);
}

#[test]
fn a_slow_reader_is_not_taken_for_a_stalled_one() {
    // On a busy machine the reader may pause for longer than it means to, so the timeout is long.
    let server = TestServer::with(
        TcpServer::builder().write_timeout(Duration::from_secs(2)),
        EchoHandler::new,
    );
    let client = connect(server.addr);
    let sent = noise(5, 12 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        // The client reads about 1 MB in each timeout. That is less than a third of a send buffer of 4 MB,
        // but more than a sixteenth of a receive buffer of 6 MB, at which the kernel reopens a full window.
        let (_open, pause) = mpsc::channel::<()>();
        let mut received = vec![0; 2 << 20];
        for part in received.chunks_mut(128 << 10) {
            (&client).read_exact(part).unwrap();
            let _ = pause.recv_timeout(Duration::from_millis(240));
        }
        received.extend(read_to_end(&client).unwrap());
        assert!(received == sent);
    });
    eventually("the end", || server.handle.connection_count() == 0);
}

#[test]
fn a_connection_ends_with_its_lifetime_however_busy_it_is() {
    let daemon = Daemon::start(&["--max-lifetime", "300ms"]);
    let start = Instant::now();
    let silent = connect(daemon.addr);
    let mut busy = connect(daemon.addr);
    let mut rounds = 0;
    // The connection ends between two messages, or within one. All bytes that came back must be those that
    // were sent.
    let ended = loop {
        let message = noise(rounds, 1000);
        let mut echo = Vec::new();
        if busy.write_all(&message).is_err() {
            break start.elapsed();
        }
        while echo.len() < message.len() {
            let mut part = [0; 1000];
            match busy.read(&mut part) {
                Ok(n @ 1..) => echo.extend_from_slice(&part[..n]),
                Ok(0) | Err(_) => break,
            }
        }
        assert_eq!(echo, message[..echo.len()]);
        if echo.len() < message.len() {
            break start.elapsed();
        }
        rounds += 1;
    };
    assert!(ended >= Duration::from_millis(300), "{ended:?}");
    assert_eq!(read_to_end(&silent).unwrap(), b"");
    drop(busy);
    eventually("both ends", || {
        daemon.log().matches("reason=lifetime").count() == 2
    });
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_stream_that_outlives_its_lifetime_is_echoed_up_to_its_end() {
    for seed in 0..5 {
        let server = TestServer::with(
            TcpServer::builder().max_lifetime(Duration::from_millis(100)),
            EchoHandler::new,
        );
        let client = connect(server.addr);
        let sent = noise(seed, 64 << 20);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // This ends when the server has closed.
                while (&client).write_all(&sent).is_ok() {}
            });
            let mut echo = Vec::new();
            let mut buffer = vec![0; 1 << 16];
            while let Ok(n @ 1..) = (&client).read(&mut buffer) {
                echo.extend_from_slice(&buffer[..n]);
            }
            let _ = client.shutdown(Shutdown::Both);
            for (received, sent) in echo.chunks(sent.len()).zip(std::iter::repeat(&sent)) {
                assert!(
                    received == &sent[..received.len()],
                    "the echo is not a prefix"
                );
            }
            let totals = server.stop();
            // All bytes that the server counts as sent have arrived, so no reset destroyed any.
            assert_eq!(echo.len() as u64, totals.bytes_out());
            assert_eq!(totals.bytes_in(), totals.bytes_out());
        });
    }
}

/// Starts a server whose handler writes without end, and whose lifetime and lingering time are both `time`.
fn serve_without_end(time: Duration) -> TestServer {
    TestServer::with(
        TcpServer::builder().max_lifetime(time).lingering_time(time),
        from_fn(|conn| {
            loop {
                conn.write_all(&[0; 4096])?;
            }
        }),
    )
}

#[test]
fn a_stalled_write_fails_after_the_lifetime_and_the_linger() {
    // The server retries the write every second, but must not wait for the next try.
    assert_takes(
        Duration::from_millis(100),
        Duration::from_millis(700),
        || {
            let server = serve_without_end(Duration::from_millis(50));
            let start = Instant::now();
            let _stalled = connect(server.addr);
            eventually("the end of the connection", || {
                server.handle.totals().bytes_out() > 0
            });
            let taken = start.elapsed();
            assert_eq!(server.stop().aborted(), 0);
            taken
        },
    );
}

#[test]
fn a_peer_that_reads_nothing_holds_its_slot_for_the_lifetime_and_one_linger() {
    let lifetime = Duration::from_millis(300);
    let linger = Duration::from_secs(1);
    assert_takes(lifetime, linger + Duration::from_millis(500), || {
        let server = TestServer::with(
            TcpServer::builder()
                .max_lifetime(lifetime)
                .lingering_time(linger),
            EchoHandler::new,
        );
        let start = Instant::now();
        let client = connect(server.addr);
        client.set_nonblocking(true).unwrap();
        let block = noise(3, 1 << 20);
        eventually("the end of the connection", || {
            // The client sends and never reads.
            let _ = (&client).write(&block);
            server.handle.totals().bytes_out() > 0
        });
        start.elapsed()
    });
}

#[test]
fn a_handler_that_only_writes_ends_with_its_lifetime_and_the_linger() {
    let server = serve_without_end(Duration::from_millis(100));
    let start = Instant::now();
    let mut client = connect(server.addr);
    // The client reads everything, so no write is blocked for long.
    std::io::copy(&mut client, &mut std::io::sink()).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(server.stop().connections(), 1);
}

//! What a handler, or another thread, can do to a connection: set time limits, wait, close.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use socketserver::{CloseReason, Connection, Rest, TcpServer, Wait, from_fn};

use crate::support::{
    TIMEOUT, TestServer, assert_takes, connect, eventually, noise, ping, read_to_end,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Serves one client by `handle`. Returns what `handle` returned, how long it took, and the reason of the
/// end.
fn serve<T: Send + 'static>(
    handle: impl Fn(&mut Connection) -> T + Send + Sync + 'static,
    client: impl FnOnce(TcpStream),
) -> (T, Duration, CloseReason) {
    let (results, result) = mpsc::channel();
    let (closes, closed) = mpsc::channel();
    let builder = TcpServer::builder()
        .lingering_time(ms(10))
        .on_close(move |closed| closes.send(closed.reason()).unwrap());
    let server = TestServer::with(
        builder,
        from_fn(move |conn| {
            let start = Instant::now();
            let value = handle(conn);
            results.send((value, start.elapsed())).unwrap();
            Ok(())
        }),
    );
    client(connect(server.addr));
    let (value, took) = result.recv_timeout(TIMEOUT).unwrap();
    (value, took, closed.recv_timeout(TIMEOUT).unwrap())
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("it fails").kind()
}

#[test]
fn a_write_to_a_client_that_reads_nothing_fails_at_its_deadline() {
    assert_takes(ms(200), ms(500), || {
        // The deadline must also hold if the first write of the connection had no limit.
        let (kind, took, reason) = serve(
            |conn| {
                conn.write_all(b"x").unwrap();
                conn.set_deadline(Instant::now() + ms(200));
                kind(conn.write_all(&noise(1, 32 << 20)))
            },
            |client| {
                SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
                eventually("the end of the connection", || {
                    client.set_nonblocking(true).unwrap();
                    (&client)
                        .write(b"x")
                        .is_err_and(|e| e.kind() != ErrorKind::WouldBlock)
                });
            },
        );
        assert_eq!((kind, reason), (ErrorKind::TimedOut, CloseReason::Deadline));
        took
    });
}

#[test]
fn a_wait_distinguishes_input_wake_ups_and_timeouts() {
    let (waits, ..) = serve(
        |conn| {
            let mut waits = vec![conn.wait(Duration::ZERO).unwrap()];
            // Several wake-ups before a wait count as one.
            conn.handle().wake();
            conn.handle().wake();
            waits.push(conn.wait(None).unwrap());
            waits.push(conn.wait(ms(30)).unwrap());
            let handle = conn.handle();
            thread::spawn(move || handle.wake()).join().unwrap();
            waits.push(conn.wait(None).unwrap());
            conn.write_all(b"!").unwrap();
            waits.push(conn.wait(None).unwrap());
            // Both input and a wake-up are pending. Each must be returned in turn.
            conn.handle().wake();
            waits.push(conn.wait(None).unwrap());
            conn.handle().wake();
            waits.push(conn.wait(None).unwrap());
            waits.push(conn.wait(None).unwrap());
            waits
        },
        |mut client| {
            client.read_exact(&mut [0]).unwrap();
            client.write_all(b"x").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&client).unwrap(), b"");
        },
    );
    let expected = [
        Wait::TimedOut,
        Wait::Woken,
        Wait::TimedOut,
        Wait::Woken,
        Wait::Input,
        Wait::Woken,
        Wait::Input,
        Wait::Woken,
    ];
    assert_eq!(waits, expected);
}

#[test]
fn a_wait_ends_at_a_stop_at_a_close_and_at_the_limits() {
    let wait = |conn: &mut Connection| conn.wait(None).map_err(|error| error.kind());
    for how in ["stop", "close", "idle", "deadline"] {
        let (waiting, waits) = mpsc::channel();
        let (results, result) = mpsc::channel();
        let server = TestServer::start(from_fn(move |conn| {
            match how {
                "idle" => conn.set_idle_timeout(ms(100)),
                "deadline" => conn.set_deadline(Instant::now() + ms(100)),
                _ => {}
            }
            waiting.send(()).unwrap();
            results.send((wait(conn), wait(conn))).unwrap();
            conn.write_all(b"goodbye").or(Ok(()))
        }));
        let client = connect(server.addr);
        waits.recv_timeout(TIMEOUT).unwrap();
        match how {
            "stop" => server.handle.shutdown(),
            "close" => server.handle.connections()[0].close(),
            _ => {}
        }
        let expected = match how {
            "stop" | "close" => Ok(Wait::Closing),
            _ => Err(ErrorKind::TimedOut),
        };
        assert_eq!(
            result.recv_timeout(TIMEOUT).unwrap(),
            (expected, expected),
            "{how}"
        );
        if expected.is_ok() {
            assert_eq!(read_to_end(&client).unwrap(), b"goodbye");
        }
    }
}

#[test]
fn a_close_ends_reads_waits_and_what_the_server_continues() {
    for how in ["reads", "echo", "stream"] {
        let (closes, closed) = mpsc::channel();
        let builder = TcpServer::builder()
            .on_close(move |closed| closes.send((closed.id(), closed.reason())).unwrap());
        let server = TestServer::with(
            builder,
            from_fn(move |conn| {
                if how != "reads" {
                    conn.continue_with(Rest::Echo, b"");
                    return Ok(());
                }
                let mut buffer = [0; 64];
                loop {
                    match conn.read(&mut buffer)? {
                        0 => return conn.write_all(b"bye"),
                        n => conn.write_all(&buffer[..n])?,
                    }
                }
            }),
        );
        let (one, other) = (connect(server.addr), connect(server.addr));
        for client in [&one, &other] {
            ping(client, b"hello");
            if how == "stream" {
                ping(client, &noise(1, 3 << 20));
            }
        }
        let peer = one.local_addr().unwrap();
        let handles = server.handle.connections();
        assert_eq!(handles.len(), 2);
        let handle = handles.iter().find(|h| h.peer_addr() == peer).unwrap();
        // The server counts bytes after it has sent them.
        eventually("the count", || {
            handle.bytes_in() >= 5 && handle.bytes_out() >= 5
        });
        assert_eq!(handle.local_addr().unwrap(), server.addr);
        handle.close();
        handle.close();
        let rest = read_to_end(&one).unwrap();
        assert_eq!(rest, if how == "reads" { &b"bye"[..] } else { b"" });
        drop(one);
        assert_eq!(
            closed.recv_timeout(TIMEOUT).unwrap(),
            (handle.id(), CloseReason::Closed),
            "{how}"
        );
        // The other connection goes on, and a handle of an ended connection does nothing.
        handle.close();
        handle.abort();
        handle.wake();
        ping(&other, b"still here");
        assert_eq!(server.stop().aborted(), 0);
    }
}

#[test]
fn an_abort_resets_at_once_whatever_the_connection_does() {
    for how in ["reads", "writes", "waits", "echo"] {
        let (closes, closed) = mpsc::channel();
        let (starts, started) = mpsc::channel();
        let builder =
            TcpServer::builder().on_close(move |closed| closes.send(closed.reason()).unwrap());
        let server = TestServer::with(
            builder,
            from_fn(move |conn| {
                starts.send(()).unwrap();
                match how {
                    "reads" => conn.read_to_end(&mut Vec::new()).map(drop),
                    "writes" => conn.write_all(&noise(1, 32 << 20)),
                    "waits" => conn.wait(None).map(drop),
                    _ => {
                        conn.continue_with(Rest::Echo, b"");
                        Ok(())
                    }
                }
            }),
        );
        let client = connect(server.addr);
        started.recv_timeout(TIMEOUT).unwrap();
        if how == "echo" {
            ping(&client, b"x");
        }
        let handle = server.handle.connections().remove(0);
        handle.abort();
        handle.abort();
        assert_eq!(
            closed.recv_timeout(TIMEOUT).unwrap(),
            CloseReason::Aborted,
            "{how}"
        );
        let error = read_to_end(&client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{how}");
        let totals = server.stop();
        assert_eq!(totals.aborted(), 1, "{how}");
        assert_eq!(totals.closed_by(CloseReason::Aborted), 1);
    }
}

#[test]
fn a_half_close_of_the_server_leaves_the_other_direction_open() {
    let (read, ..) = serve(
        |conn| {
            conn.write_all(b"that was all").unwrap();
            conn.shutdown_write().unwrap();
            conn.shutdown_write().unwrap();
            assert_eq!(kind(conn.write_all(b"more")), ErrorKind::BrokenPipe);
            let mut read = Vec::new();
            conn.read_to_end(&mut read).unwrap();
            read
        },
        |client| {
            assert_eq!(read_to_end(&client).unwrap(), b"that was all");
            (&client).write_all(b"I see").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        },
    );
    assert_eq!(read, b"I see");
}

#[test]
fn closes_aborts_and_wake_ups_at_random_hang_nothing() {
    let server = TestServer::start(from_fn(|conn| {
        match conn.id() % 3 {
            0 => while let Wait::Woken = conn.wait(ms(500))? {},
            1 => drop(io::copy(&mut &*conn, &mut io::sink())),
            _ => conn.continue_with(Rest::Echo, b""),
        }
        Ok(())
    }));
    let end = Instant::now() + ms(1500);
    thread::scope(|scope| {
        for worker in 0..3_usize {
            let (handle, addr) = (server.handle.clone(), server.addr);
            scope.spawn(move || {
                while Instant::now() < end {
                    // The connection may be reset before `connect` returns.
                    let Ok(client) = TcpStream::connect(addr) else {
                        continue;
                    };
                    let _ = (&client).write_all(b"hello");
                    for (n, conn) in handle.connections().iter().enumerate() {
                        match (n + worker) % 4 {
                            0 => conn.close(),
                            1 => conn.abort(),
                            _ => conn.wake(),
                        }
                    }
                    let _ = client.shutdown(Shutdown::Write);
                    let _ = read_to_end(&client);
                }
            });
        }
    });
    eventually("no connection", || server.handle.connection_count() == 0);
    server.stop();
}

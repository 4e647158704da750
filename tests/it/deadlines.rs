//! The deadline that a handler sets for a phase of its connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use socketserver::{Builder, Connection, Rest, TcpServer, from_fn};

use crate::support::{
    Lines, TIMEOUT, TestServer, assert_takes, connect, logged, noise, ping, read_to_end,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Serves one client by `handle`, and returns what that function returned.
fn serve<T: Send>(
    builder: Builder,
    client: impl FnOnce(&TcpStream) + Send,
    handle: impl Fn(&mut Connection) -> T + Sync,
) -> T {
    let mut server = builder.bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    let result = Mutex::new(None);
    thread::scope(|scope| {
        scope.spawn(move || client(&connect(addr)));
        let handled = server.handle_request(from_fn(|conn| {
            *result.lock().unwrap() = Some(handle(conn));
            // Otherwise the server would wait for a client that reads nothing.
            conn.abort();
            Ok(())
        }));
        handled.unwrap();
    });
    result.into_inner().unwrap().unwrap()
}

/// Sends a byte every 100 ms until the connection ends.
fn drip(mut client: &TcpStream) {
    client.set_read_timeout(Some(ms(100))).unwrap();
    while client.write_all(b"x").is_ok() {
        match client.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => break,
        }
    }
}

/// Reads nothing until the server has closed.
fn take_nothing(client: &TcpStream) {
    let broken = rustix::event::PollFlags::RDHUP;
    let mut fds = [rustix::event::PollFd::new(client, broken)];
    let patience = TIMEOUT.try_into().unwrap();
    rustix::event::poll(&mut fds, Some(&patience)).unwrap();
}

/// Writes until a write fails.
fn write_on(mut conn: &Connection) -> io::Error {
    loop {
        if let Err(error) = conn.write_all(&[0; 1 << 14]) {
            return error;
        }
    }
}

/// Returns how long `fail` takes. It must end at a deadline.
fn time_of(fail: impl FnOnce() -> io::Error) -> Duration {
    let start = Instant::now();
    assert_eq!(fail().kind(), ErrorKind::TimedOut);
    start.elapsed()
}

#[test]
fn bytes_that_drip_in_do_not_postpone_a_deadline() {
    assert_takes(ms(350), ms(50), || {
        serve(TcpServer::builder(), drip, |conn| {
            time_of(|| {
                conn.set_deadline(Instant::now() + ms(350));
                conn.read_exact(&mut [0; 1000]).unwrap_err()
            })
        })
    });
}

#[test]
fn a_deadline_in_the_past_fails_every_call_until_it_is_removed() {
    let (builder, lines) = logged();
    let (sender, results) = mpsc::channel();
    let server = TestServer::with(
        builder,
        from_fn(move |conn| {
            let mut buffer = [0; 10];
            conn.read_exact(&mut buffer[..1])?;
            // The bytes of the next read have already arrived.
            conn.set_deadline(Instant::now());
            for _ in 0..3 {
                sender.send(conn.read(&mut buffer).unwrap_err()).unwrap();
                sender.send(conn.write(b"x").unwrap_err()).unwrap();
                sender.send(conn.wait(None).unwrap_err()).unwrap();
            }
            conn.set_deadline(None);
            conn.read_exact(&mut buffer[..5])?;
            conn.write_all(&buffer[..5])?;
            assert_eq!(conn.read(&mut buffer)?, 0);
            Ok(())
        }),
    );
    let mut client = connect(server.addr);
    client.write_all(b"xhello").unwrap();
    let start = Instant::now();
    for _ in 0..9 {
        let error = results.recv_timeout(TIMEOUT).unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("deadline"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    let mut reply = [0; 5];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"hello");
    assert_eq!(lines.reason_after(client), "eof");
    server.stop();
}

#[test]
fn a_deadline_that_ends_a_connection_is_its_reason() {
    let (builder, lines) = logged();
    let server = TestServer::with(
        builder,
        from_fn(|conn| {
            conn.set_deadline(Instant::now() + ms(50));
            conn.read_exact(&mut [0; 10])
        }),
    );
    let client = connect(server.addr);
    assert_eq!(read_to_end(&client).unwrap(), b"");
    assert_eq!(lines.reason_after(client), "deadline");
}

#[test]
fn a_write_to_a_peer_that_reads_nothing_fails_at_its_deadline() {
    for write_timeout in [None, Some(TIMEOUT)] {
        for writes_before in [false, true] {
            assert_takes(ms(300), ms(50), || {
                let builder = TcpServer::builder().write_timeout(write_timeout);
                serve(builder, take_nothing, |conn| {
                    if writes_before {
                        conn.write_all(b"x").unwrap();
                    }
                    time_of(|| {
                        conn.set_deadline(Instant::now() + ms(300));
                        write_on(conn)
                    })
                })
            });
        }
    }
}

#[test]
fn a_deadline_shorter_than_a_blocking_slice_is_kept() {
    assert_takes(ms(5), ms(5), || {
        serve(TcpServer::builder(), take_nothing, |conn| {
            time_of(|| {
                conn.set_deadline(Instant::now() + ms(5));
                conn.read(&mut [0]).unwrap_err()
            })
        })
    });
    assert_takes(ms(5), ms(5), || {
        serve(TcpServer::builder(), take_nothing, |conn| {
            // The send buffer is full, so a blocking write would last for a whole slice.
            conn.set_deadline(Instant::now() + ms(100));
            write_on(conn);
            time_of(|| {
                conn.set_deadline(Instant::now() + ms(5));
                write_on(conn)
            })
        })
    });
}

#[test]
fn a_wait_keeps_its_deadline_however_much_keeps_coming() {
    assert_takes(ms(200), ms(50), || {
        serve(
            TcpServer::builder(),
            |mut client| {
                client.write_all(b"never read").unwrap();
                take_nothing(client);
            },
            |conn| {
                time_of(|| {
                    conn.set_deadline(Instant::now() + ms(200));
                    let handle = conn.handle();
                    loop {
                        handle.wake();
                        if let Err(error) = conn.wait(None) {
                            return error;
                        }
                    }
                })
            },
        )
    });
}

/// Returns a handler that sets a deadline and then leaves the echo to the server.
fn echo_for(deadline: Duration) -> impl Fn(&mut Connection) -> io::Result<()> + Send + Sync {
    move |conn| {
        conn.set_deadline(Instant::now() + deadline);
        conn.continue_with(Rest::Echo, &[]);
        Ok(())
    }
}

/// Returns how long the server at this address echoes for a client.
fn time_of_echo(addr: SocketAddr, lines: &Lines) -> Duration {
    let start = Instant::now();
    let client = connect(addr);
    ping(&client, b"hello");
    assert_eq!(read_to_end(&client).unwrap(), b"");
    let elapsed = start.elapsed();
    assert_eq!(lines.reason_after(client), "lifetime");
    elapsed
}

#[test]
fn after_the_handler_a_deadline_ends_the_connection_as_its_lifetime_does() {
    // Even on a busy machine, the client's message comes before.
    const DEADLINE: Duration = ms(1000);
    let (builder, lines) = logged();
    let server = TestServer::with(builder, from_fn(echo_for(DEADLINE)));
    assert_takes(DEADLINE, ms(50), || time_of_echo(server.addr, &lines));
    let (builder, lines) = logged();
    let mut server = builder.bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    thread::scope(|scope| {
        let client = scope.spawn(|| time_of_echo(addr, &lines));
        server.handle_request(from_fn(echo_for(DEADLINE))).unwrap();
        assert!(client.join().unwrap() >= DEADLINE);
    });
}

#[test]
fn a_stream_is_echoed_up_to_its_end_at_the_deadline() {
    let (builder, lines) = logged();
    let server = TestServer::with(builder, from_fn(echo_for(ms(300))));
    let sent = noise(5, 4 << 20);
    assert_takes(ms(300), ms(300), || {
        let start = Instant::now();
        let client = connect(server.addr);
        let before = server.handle.totals();
        let (mut received, mut right) = (0, true);
        thread::scope(|scope| {
            // This ends when the server has closed.
            scope.spawn(|| while (&client).write_all(&sent).is_ok() {});
            let mut buffer = vec![0; 1 << 16];
            while let Ok(n @ 1..) = (&client).read(&mut buffer) {
                let at = received % sent.len();
                let until = (at + n).min(sent.len());
                right &= buffer[..until - at] == sent[at..until];
                received += n;
            }
            let _ = client.shutdown(std::net::Shutdown::Both);
        });
        let elapsed = start.elapsed();
        assert!(right, "the echo is not a prefix");
        assert_eq!(lines.reason_after(client), "lifetime");
        let totals = server.handle.totals();
        let (bytes_in, bytes_out) = (
            totals.bytes_in() - before.bytes_in(),
            totals.bytes_out() - before.bytes_out(),
        );
        assert_eq!((bytes_in, bytes_out), (received as u64, received as u64));
        elapsed
    });
}

#[test]
fn a_shutdown_does_not_wait_for_a_deadline() {
    let (builder, lines) = logged();
    let (entered, inside) = mpsc::channel();
    let server = TestServer::with(
        builder,
        from_fn(move |conn| {
            conn.set_deadline(Instant::now() + TIMEOUT);
            entered.send(()).unwrap();
            assert_eq!(conn.read(&mut [0; 10])?, 0);
            Ok(())
        }),
    );
    let client = connect(server.addr);
    inside.recv_timeout(TIMEOUT).unwrap();
    let start = Instant::now();
    assert_eq!(server.stop().aborted(), 0);
    assert!(start.elapsed() < TIMEOUT / 2);
    assert_eq!(lines.reason(&client), "shutdown");
}

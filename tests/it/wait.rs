//! `Connection::wait`: for a client, for other threads, for the end and for a time, all at once.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use socketserver::{Builder, Connection, ConnectionHandle, TcpServer, Wait, from_fn};

use crate::support::{TIMEOUT, TestServer, connect, eventually, logged};

const IDLE: Duration = Duration::from_millis(200);

/// A server whose handler waits again and again, and reports what ended each wait.
struct Waiter {
    server: TestServer,
    client: TcpStream,
    handle: ConnectionHandle,
    results: mpsc::Receiver<io::Result<Wait>>,
}

impl Waiter {
    fn start(builder: Builder) -> Self {
        let (sender, results) = mpsc::channel();
        let server = TestServer::with(
            builder,
            from_fn(move |conn| {
                loop {
                    let waited = conn.wait(None);
                    let goes_on = matches!(waited, Ok(Wait::Woken | Wait::Input));
                    let has_input = matches!(waited, Ok(Wait::Input));
                    let _ = sender.send(waited);
                    if !goes_on || (has_input && conn.read(&mut [0; 64])? == 0) {
                        return Ok(());
                    }
                }
            }),
        );
        let client = connect(server.addr);
        let mut handles = Vec::new();
        eventually("the connection", || {
            handles = server.handle.connections();
            !handles.is_empty()
        });
        let handle = handles.remove(0);
        Self {
            server,
            client,
            handle,
            results,
        }
    }

    fn next(&self) -> Wait {
        self.results.recv_timeout(TIMEOUT).unwrap().unwrap()
    }
}

#[test]
fn input_and_wake_ups_each_end_a_wait_and_so_does_the_end() {
    let (builder, lines) = logged();
    let waiter = Waiter::start(builder);
    for _ in 0..20 {
        waiter.handle.wake();
        assert_eq!(waiter.next(), Wait::Woken);
        (&waiter.client).write_all(b"x").unwrap();
        assert_eq!(waiter.next(), Wait::Input);
    }
    waiter.handle.close();
    assert_eq!(waiter.next(), Wait::Closing);
    assert_eq!(lines.reason(&waiter.client), "closed");
    // The connection has ended, and a wake-up must do nothing.
    waiter.handle.wake();
    assert_eq!(waiter.server.stop().aborted(), 0);

    let (builder, lines) = logged();
    let waiter = Waiter::start(builder);
    waiter.server.handle.shutdown();
    assert_eq!(waiter.next(), Wait::Closing);
    assert_eq!(lines.reason(&waiter.client), "shutdown");

    let (builder, lines) = logged();
    let start = Instant::now();
    let waiter = Waiter::start(builder.max_lifetime(IDLE));
    assert_eq!(waiter.next(), Wait::Closing);
    assert!(start.elapsed() >= IDLE);
    assert_eq!(lines.reason(&waiter.client), "lifetime");
}

#[test]
fn an_end_of_file_and_a_reset_are_input() {
    let waiter = Waiter::start(TcpServer::builder());
    waiter.client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(waiter.next(), Wait::Input);

    let waiter = Waiter::start(TcpServer::builder());
    let socket = socket2::SockRef::from(&waiter.client);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(waiter.client);
    let ended = waiter.results.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(ended.unwrap(), Wait::Input);

    let waiter = Waiter::start(TcpServer::builder());
    waiter.handle.abort();
    assert_eq!(waiter.next(), Wait::Input);
}

/// Serves one silent client by `handle`, and fails if `handle` panics.
fn with_silent_client(builder: Builder, handle: impl Fn(&mut Connection)) {
    let mut server = builder.bind("127.0.0.1:0").unwrap();
    let _client = connect(server.local_addr());
    let has_returned = Cell::new(false);
    let handled = server.handle_request(from_fn(|conn| {
        handle(conn);
        has_returned.set(true);
        conn.abort();
        Ok(())
    }));
    handled.unwrap();
    assert!(has_returned.get(), "the handler panicked");
}

#[test]
fn wake_ups_before_the_first_wait_count_and_many_are_one() {
    with_silent_client(TcpServer::builder(), |conn| {
        let handle = conn.handle();
        for _ in 0..3 {
            for _ in 0..1000 {
                handle.wake();
            }
            assert_eq!(conn.wait(None).unwrap(), Wait::Woken);
            assert_eq!(conn.wait(Duration::ZERO).unwrap(), Wait::TimedOut);
        }
    });
}

#[test]
fn a_wait_takes_its_time_and_no_longer() {
    with_silent_client(TcpServer::builder(), |conn| {
        let start = Instant::now();
        assert_eq!(conn.wait(IDLE).unwrap(), Wait::TimedOut);
        assert!(start.elapsed() >= IDLE);
        assert!(start.elapsed() < TIMEOUT / 2);
        // This time is longer than any clock can represent.
        conn.handle().wake();
        assert_eq!(conn.wait(Duration::MAX).unwrap(), Wait::Woken);
    });
}

#[test]
fn the_idle_timeout_counts_from_the_last_input_whatever_wakes_the_wait() {
    for timeout in [None, Some(Duration::ZERO), Some(IDLE / 10)] {
        let builder = TcpServer::builder().idle_timeout(IDLE);
        with_silent_client(builder, |conn| {
            let (start, handle) = (Instant::now(), conn.handle());
            let error = loop {
                if timeout.is_none() {
                    // Without a timeout, always have a wake-up pending.
                    handle.wake();
                }
                match conn.wait(timeout) {
                    Ok(Wait::Woken | Wait::TimedOut) => assert!(start.elapsed() < TIMEOUT),
                    ended => break ended.unwrap_err(),
                }
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= IDLE);
        });
    }
}

#[test]
fn neither_input_nor_wake_ups_starve_where_both_keep_coming() {
    let (sender, turns) = mpsc::channel();
    let server = TestServer::start(from_fn(move |conn| {
        // From here on, there is always input.
        assert_eq!(conn.wait(TIMEOUT)?, Wait::Input);
        let handle = conn.handle();
        let turns: io::Result<Vec<_>> = (0..200)
            .map(|_| {
                // From here on, there is always a wake-up, too.
                handle.wake();
                let event = conn.wait(TIMEOUT)?;
                if event == Wait::Input {
                    (&*conn).read_exact(&mut [0; 1])?;
                }
                Ok(event)
            })
            .collect();
        sender.send(turns?).unwrap();
        Ok(())
    }));
    let client = connect(server.addr);
    // Send one segment, so that all bytes have arrived when the first has.
    (&client).write_all(&[0; 200]).unwrap();
    let turns = turns.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(turns, [Wait::Woken, Wait::Input].repeat(100));
}

#[test]
fn each_wake_up_wakes_one_of_two_threads_and_a_close_both() {
    const WAKE_UPS: usize = 200;
    let woken = Arc::new(AtomicUsize::new(0));
    let (sender, ends) = mpsc::channel();
    let server = TestServer::start(from_fn({
        let woken = Arc::clone(&woken);
        let sender = Mutex::new(sender);
        move |conn| {
            let conn = &*conn;
            let wait = || {
                loop {
                    match conn.wait(None)? {
                        Wait::Woken => woken.fetch_add(1, Ordering::Relaxed),
                        other => break io::Result::Ok(other),
                    };
                }
            };
            thread::scope(|scope| {
                let other = scope.spawn(wait);
                let ends = [wait(), other.join().unwrap()];
                sender.lock().unwrap().send(ends).unwrap();
            });
            Ok(())
        }
    }));
    let _client = connect(server.addr);
    eventually("the connection", || server.handle.connection_count() == 1);
    let handle = server.handle.connections().remove(0);
    for n in 1..=WAKE_UPS {
        handle.wake();
        eventually("a wake-up", || woken.load(Ordering::Relaxed) == n);
    }
    handle.close();
    let ends = ends.recv_timeout(TIMEOUT).unwrap();
    assert!(ends.into_iter().all(|end| end.unwrap() == Wait::Closing));
    // One wake-up never wakes both threads.
    assert_eq!(woken.load(Ordering::Relaxed), WAKE_UPS);
}

#[test]
fn a_handler_that_never_waits_is_not_disturbed() {
    let server = TestServer::start(from_fn(|conn| io::copy(&mut &*conn, &mut &*conn).map(drop)));
    let client = connect(server.addr);
    eventually("the connection", || server.handle.connection_count() == 1);
    let handle = server.handle.connections().remove(0);
    for _ in 0..100 {
        handle.wake();
        crate::support::ping(&client, b"hello");
    }
    client.shutdown(Shutdown::Write).unwrap();
    eventually("the end", || server.handle.connection_count() == 0);
    handle.wake();
    assert_eq!((handle.bytes_in(), handle.bytes_out()), (500, 500));
}

#[test]
fn no_wake_up_is_lost_that_comes_as_a_wait_begins_or_ends() {
    let barrier = Arc::new(Barrier::new(2));
    let (sender, results) = mpsc::channel();
    let server = TestServer::start(from_fn({
        let barrier = Arc::clone(&barrier);
        move |conn| {
            for _ in 0..2000 {
                barrier.wait();
                sender.send(conn.wait(TIMEOUT)).unwrap();
            }
            Ok(())
        }
    }));
    let _client = connect(server.addr);
    eventually("the connection", || server.handle.connection_count() == 1);
    let handle = server.handle.connections().remove(0);
    for _ in 0..2000 {
        barrier.wait();
        handle.wake();
        let waited = results.recv_timeout(2 * TIMEOUT).unwrap();
        assert_eq!(waited.unwrap(), Wait::Woken);
    }
}

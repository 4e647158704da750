//! The three stages of a shutdown, as a user of the library sees them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use socketserver::{EchoHandler, TcpServer, from_fn};

use crate::support::{
    TIMEOUT, TestServer, assert_takes, bind_again, connect, eventually, exchange, noise, ping,
    read_to_end,
};

#[test]
fn twenty_immediate_start_and_shutdown_pairs_end() {
    for _ in 0..20 {
        let server = TestServer::start(EchoHandler::new);
        assert_eq!(server.stop().connections(), 0);
    }
}

#[test]
fn ten_start_and_stop_cycles_serve_on_the_same_address() {
    let addr = TestServer::start(EchoHandler::new).addr;
    for round in 0..10_u8 {
        let server = TestServer::serve(bind_again(addr), EchoHandler::new);
        assert_eq!(exchange(addr, &[round]), [round]);
        server.stop();
    }
}

#[test]
fn shutdown_wakes_an_idle_listener() {
    assert_takes(Duration::ZERO, Duration::from_millis(500), || {
        let server = TestServer::start(EchoHandler::new);
        // After a first client, the server is in its loop.
        exchange(server.addr, b"");
        eventually("idle", || server.handle.connection_count() == 0);
        let start = Instant::now();
        server.stop();
        start.elapsed()
    });
}

#[test]
fn shutdown_before_serving_makes_serving_return_at_once() {
    let server = TcpServer::bind("127.0.0.1:0").unwrap();
    server.handle().shutdown();
    // This client stays in the backlog.
    let _client = connect(server.local_addr());
    let totals = server.serve_forever(EchoHandler::new).unwrap();
    assert_eq!(totals.connections(), 0);
}

#[test]
fn shutdown_twice_and_after_the_end_is_harmless() {
    let server = TestServer::start(EchoHandler::new);
    let handle = server.handle.clone();
    handle.shutdown();
    handle.shutdown();
    server.join();
    handle.shutdown();
    handle.shutdown_now();
}

#[test]
fn shutdown_works_from_a_handler() {
    let server = TestServer::start(from_fn(|conn| {
        conn.server().shutdown();
        conn.write_all(b"good night")
    }));
    assert_eq!(exchange(server.addr, b""), b"good night");
    assert_eq!(server.join().aborted(), 0);
}

#[test]
fn shutdown_works_from_a_hook_and_while_the_limit_is_reached() {
    let server = TestServer::with(TcpServer::builder().max_connections(1), EchoHandler::new);
    let client = connect(server.addr);
    ping(&client, b"in");
    let _waiting = connect(server.addr);
    assert_eq!(server.stop().connections(), 1);
    assert_eq!(read_to_end(&client).unwrap(), b"");

    let server = TestServer::with(
        TcpServer::builder().verify_request(|conn| {
            conn.server().shutdown();
            false
        }),
        EchoHandler::new,
    );
    exchange(server.addr, b"");
    assert_eq!(server.join().connections(), 1);
}

#[test]
fn idle_clients_see_a_clean_end_of_file() {
    let server = TestServer::start(EchoHandler::new);
    let clients: Vec<_> = (0..50).map(|_| connect(server.addr)).collect();
    clients.iter().for_each(|client| ping(client, b"x"));
    let totals = server.stop();
    assert_eq!((totals.connections(), totals.aborted()), (50, 0));
    for client in clients {
        assert_eq!(read_to_end(&client).unwrap(), b"");
    }
}

#[test]
fn new_connections_are_refused_as_soon_as_a_shutdown_begins() {
    let (entered, inside) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let server = TestServer::start(from_fn(move |_| {
        entered.send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
        Ok(())
    }));
    let client = connect(server.addr);
    inside.recv_timeout(TIMEOUT).unwrap();
    server.handle.shutdown();
    eventually("a refusal", || TcpStream::connect(server.addr).is_err());
    drop(release);
    drop(client);
    assert_eq!(server.join().aborted(), 0);
}

#[test]
fn clients_accepted_in_a_burst_before_the_shutdown_are_served() {
    for _ in 0..20 {
        let served = Arc::new(AtomicU64::new(0));
        let builder = TcpServer::builder().lingering_time(Duration::ZERO);
        let server = builder.bind("127.0.0.1:0").unwrap();
        // These clients are in the backlog before the server begins.
        let clients: Vec<_> = (0..50).map(|_| connect(server.local_addr())).collect();
        let count = Arc::clone(&served);
        let totals = server.serve_forever(from_fn(move |conn| {
            conn.server().shutdown();
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }));
        assert_eq!(
            served.load(Ordering::Relaxed),
            totals.unwrap().connections()
        );
        drop(clients);
    }
}

#[test]
fn what_had_arrived_before_the_shutdown_is_echoed() {
    // The handler reads only after the shutdown has been requested.
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let server = TestServer::start(from_fn(move |conn| {
        let _ = gate.lock().unwrap().recv();
        io::copy(&mut &*conn, &mut &*conn).map(drop)
    }));
    let sent = noise(7, 60_000);
    let client = connect(server.addr);
    (&client).write_all(&sent).unwrap();
    eventually("the connection", || server.handle.connection_count() == 1);
    server.handle.shutdown();
    drop(release);
    assert!(read_to_end(&client).unwrap() == sent);
    drop(client);
    assert_eq!(server.join().aborted(), 0);
}

#[test]
fn a_client_that_never_pauses_gets_a_prefix_and_does_not_delay_the_drain() {
    for _ in 0..5 {
        let server = TestServer::with(
            TcpServer::builder().drain_timeout(TIMEOUT),
            EchoHandler::new,
        );
        let client = connect(server.addr);
        let sent = noise(8, 32 << 20);
        let flowing = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // This ends when the server has closed.
                let _ = (&client).write_all(&sent);
                let _ = client.shutdown(Shutdown::Write);
            });
            let reader = scope.spawn(|| {
                let mut echo = Vec::new();
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match (&client).read(&mut buffer) {
                        Ok(0) | Err(_) => return echo,
                        Ok(n) => echo.extend_from_slice(&buffer[..n]),
                    }
                    flowing.store(echo.len() > 1 << 20, Ordering::Relaxed);
                }
            });
            eventually("a flow", || flowing.load(Ordering::Relaxed));
            let totals = server.stop();
            assert_eq!(totals.aborted(), 0);
            let echo = reader.join().unwrap();
            assert!(echo == sent[..echo.len()], "the echo is not a prefix");
            // All bytes that the server counts as sent have arrived, so no reset destroyed any.
            assert_eq!(echo.len() as u64, totals.bytes_out());
            assert_eq!(totals.bytes_in(), totals.bytes_out());
        });
    }
}

/// Connects with a small receive buffer, which keeps most of an echo in the server's kernel.
fn connect_with_small_buffer(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&addr.into()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.into()
}

#[test]
fn a_client_that_has_not_read_its_echo_yet_does_not_lose_it_to_a_reset() {
    // The server's kernel has the echo but can't deliver it, because the client's buffer is full. To the
    // server the connection looks idle. Then a late byte arrives, after the FIN.
    const LEN: usize = 1_000_000;
    let (echoed, all_echoed) = mpsc::channel();
    let server = TestServer::start(from_fn(move |conn| {
        io::copy(&mut (&*conn).take(LEN as u64), &mut &*conn)?;
        echoed.send(()).unwrap();
        let rest = io::copy(&mut &*conn, &mut &*conn);
        echoed.send(()).unwrap();
        rest.map(drop)
    }));
    let mut client = connect_with_small_buffer(server.addr);
    let sent = noise(11, LEN);
    client.write_all(&sent).unwrap();
    all_echoed.recv_timeout(TIMEOUT).unwrap();
    let stopping = thread::spawn(move || server.stop());
    // The handler has seen the stop, so it reads no more input. The FIN follows within this pause.
    all_echoed.recv_timeout(TIMEOUT).unwrap();
    thread::park_timeout(Duration::from_millis(100));
    client.write_all(b"!").unwrap();
    let mut echo = vec![0; sent.len()];
    client.read_exact(&mut echo).unwrap();
    assert!(echo == sent);
    drop(client);
    let totals = stopping.join().unwrap();
    assert_eq!((totals.bytes_out(), totals.aborted()), (LEN as u64, 0));
}

/// Stops a server while its kernel holds the echo of a slow reader that goes on sending. The reader pauses
/// for `pause` after each read of at most 4 KiB. Returns how much of the echo arrived, and how many
/// connections were aborted.
fn stop_beside_a_slow_reader(drain_timeout: Duration, pause: Duration) -> (usize, u64) {
    const LEN: usize = 1_000_000;
    let (echoed, all_echoed) = mpsc::channel();
    let server = TestServer::with(
        TcpServer::builder()
            .drain_timeout(drain_timeout)
            // This is much less than the reader needs.
            .lingering_time(Duration::from_millis(50)),
        from_fn(move |conn| {
            io::copy(&mut (&*conn).take(LEN as u64), &mut &*conn)?;
            echoed.send(()).unwrap();
            io::copy(&mut &*conn, &mut io::sink()).map(drop)
        }),
    );
    let mut client = connect_with_small_buffer(server.addr);
    let sent = noise(13, LEN);
    client.write_all(&sent).unwrap();
    all_echoed.recv_timeout(TIMEOUT).unwrap();
    let stopping = thread::spawn(move || server.stop());
    let mut echo = Vec::new();
    let mut part = [0; 4096];
    while let Ok(n @ 1..) = client.read(&mut part) {
        echo.extend_from_slice(&part[..n]);
        let _ = client.write(b"!");
        // This sets the pace of the reader, and is not a wait for a condition.
        thread::park_timeout(pause);
    }
    drop(client);
    assert!(echo == sent[..echo.len()], "the echo is not a prefix");
    (echo.len(), stopping.join().unwrap().aborted())
}

#[test]
fn a_slow_reader_that_goes_on_sending_gets_its_whole_echo_within_the_drain_timeout() {
    let pause = Duration::from_millis(3);
    assert_eq!(stop_beside_a_slow_reader(TIMEOUT, pause), (1_000_000, 0));
}

#[test]
fn a_slow_reader_that_does_not_get_its_whole_echo_is_counted_as_aborted() {
    let drain_timeout = Duration::from_millis(100);
    // The whole echo would take 7 s.
    let (received, aborted) = stop_beside_a_slow_reader(drain_timeout, Duration::from_millis(30));
    assert!(received < 1_000_000);
    assert_eq!(aborted, 1);
}

#[test]
fn a_reply_that_an_abort_leaves_unsent_is_counted() {
    // The handler has written, but the client does not read the reply.
    let reply = noise(12, 8 << 20);
    let (sender, written) = mpsc::channel();
    let server = TestServer::with(
        TcpServer::builder()
            .drain_timeout(Duration::from_millis(100))
            .lingering_time(TIMEOUT),
        from_fn(move |conn| {
            conn.stream().set_nonblocking(true)?;
            // Write as much as the kernel accepts.
            sender.send(conn.write(&reply)?).unwrap();
            Ok(())
        }),
    );
    let client = connect(server.addr);
    assert!(written.recv_timeout(TIMEOUT).unwrap() > 1 << 20);
    assert_eq!(server.stop().aborted(), 1);
    drop(client);
}

#[test]
fn stuck_clients_are_aborted_at_the_drain_timeout() {
    let drain = Duration::from_millis(200);
    let server = TestServer::with(TcpServer::builder().drain_timeout(drain), EchoHandler::new);
    // The client sends without reading, until the server is blocked in a write.
    let mut client = connect(server.addr);
    client
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let block = noise(9, 1 << 20);
    while client.write_all(&block).is_ok() {}
    let start = Instant::now();
    let totals = server.stop();
    assert!(start.elapsed() >= drain);
    assert!(start.elapsed() < drain + Duration::from_secs(2));
    assert_eq!(totals.aborted(), 1);
}

#[test]
fn a_handler_that_blocks_for_ever_does_not_delay_the_end() {
    let (entered, inside) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let server = TestServer::with(
        TcpServer::builder().drain_timeout(Duration::ZERO),
        from_fn(move |conn| {
            conn.read_exact(&mut [0; 5])?;
            entered.send(()).unwrap();
            let _ = gate.lock().unwrap().recv();
            Ok(())
        }),
    );
    let mut client = connect(server.addr);
    client.write_all(b"stuck").unwrap();
    inside.recv_timeout(TIMEOUT).unwrap();
    let totals = server.stop();
    assert_eq!((totals.aborted(), totals.bytes_in()), (1, 5));
    drop(release);
}

#[test]
fn shutdown_now_skips_the_drain() {
    let server = TestServer::with(
        TcpServer::builder().drain_timeout(TIMEOUT),
        from_fn(|conn| {
            loop {
                // This handler ignores end of file. Only the abort ends it.
                if conn.read(&mut [0; 64])? == 0 {
                    conn.write_all(&[0; 1 << 14])?;
                }
            }
        }),
    );
    let client = connect(server.addr);
    eventually("the connection", || server.handle.connection_count() == 1);
    let handle = server.handle.clone();
    handle.shutdown();
    handle.shutdown_now();
    let start = Instant::now();
    assert_eq!(server.join().aborted(), 1);
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(client);
}

#[test]
fn a_silent_new_connection_does_not_delay_the_drain() {
    let server = TestServer::with(
        TcpServer::builder().drain_timeout(TIMEOUT),
        EchoHandler::new,
    );
    let client = connect(server.addr);
    eventually("the connection", || server.handle.connection_count() == 1);
    let start = Instant::now();
    assert_eq!(server.stop().aborted(), 0);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(read_to_end(&client).unwrap(), b"");
}

#[test]
fn a_handler_that_only_asks_whether_to_end_does_not_delay_the_stop() {
    // The lingering time is 2 s, and the stop must not wait for it.
    assert_takes(Duration::ZERO, Duration::from_secs(1), || {
        // The handler reads nothing, like a service that only sends.
        let server = TestServer::start(from_fn(|conn| {
            while !conn.is_closing() {
                conn.write_all(&[7; 100])?;
                thread::park_timeout(Duration::from_millis(1));
            }
            Ok(())
        }));
        let client = connect(server.addr);
        (&client).read_exact(&mut [0; 100]).unwrap();
        let handle = server.handle.clone();
        let taken = thread::scope(|scope| {
            // The client reads everything, so that the reply can be delivered.
            scope.spawn(|| io::copy(&mut &client, &mut io::sink()).unwrap());
            let start = Instant::now();
            assert_eq!(server.stop().aborted(), 0);
            start.elapsed()
        });
        assert_eq!(handle.connection_count(), 0);
        taken
    });
}

#[test]
fn a_linger_that_is_under_way_is_shortened_by_the_stop() {
    let builder = TcpServer::builder()
        .lingering_time(TIMEOUT)
        .drain_timeout(TIMEOUT);
    let server = TestServer::with(builder, from_fn(|conn| conn.write_all(b"bye")));
    let client = connect(server.addr);
    let mut bye = Vec::new();
    (&client).read_to_end(&mut bye).unwrap();
    assert_eq!(bye, b"bye");
    assert_eq!(server.handle.connection_count(), 1, "it lingers");
    let start = Instant::now();
    assert_eq!(server.stop().aborted(), 0);
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(client);
}

#[test]
fn two_threads_of_a_handler_that_read_both_see_the_end() {
    for _ in 0..20 {
        // The client goes on sending after the end.
        let builder = TcpServer::builder().lingering_time(Duration::from_millis(10));
        let both_read = from_fn(|conn| {
            let conn = &*conn;
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| io::copy(&mut &*conn, &mut io::sink()).unwrap());
                }
            });
            Ok(())
        });
        let server = TestServer::with(builder, both_read);
        let client = connect(server.addr);
        let stopped = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Send all the time, so that both threads find input at the stop.
                while !stopped.load(Ordering::Relaxed) {
                    let _ = (&client).write(b"x");
                }
            });
            eventually("input", || server.handle.connection_count() == 1);
            let start = Instant::now();
            assert_eq!(server.stop().aborted(), 0);
            stopped.store(true, Ordering::Relaxed);
            assert!(start.elapsed() < Duration::from_secs(4));
        });
    }
}

#[test]
fn a_read_sees_the_end_though_what_had_arrived_was_received_elsewhere() {
    let (sender, ended) = mpsc::channel();
    let server = TestServer::start(from_fn(move |conn| {
        conn.wait(None)?;
        conn.handle().close();
        // This read counts two bytes as unread.
        conn.read_exact(&mut [0])?;
        // A thread whose read began before the close may receive them, but only rarely. So take them
        // from the stream.
        conn.stream().read_exact(&mut [0; 2])?;
        sender.send(conn.read(&mut [0])?).unwrap();
        Ok(())
    }));
    let client = connect(server.addr);
    (&client).write_all(b"abc").unwrap();
    assert_eq!(ended.recv_timeout(TIMEOUT), Ok(0));
}

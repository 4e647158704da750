//! Every client is served, whichever thread accepts it, and no client is accepted after a stop.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use socketserver::{AtLimit, Builder, EchoHandler, TcpServer};

use crate::support::{TestServer, connect, eventually, exchange, noise, ping, read_to_end};

#[test]
fn clients_that_connect_right_after_another_has_left_are_all_served() {
    let server = TestServer::start(EchoHandler::new);
    for round in 0..200 {
        // The thread of the first client now waits for the next client. It alone is too few for those that
        // come now.
        assert_eq!(exchange(server.addr, b"first"), b"first");
        let clients: Vec<_> = (0..=round % 10).map(|_| connect(server.addr)).collect();
        for client in clients.iter().rev() {
            ping(client, b"one of many");
        }
        // The connection of the first client may still end after the client has seen end of file.
        eventually("only the new clients are connected", || {
            server.handle.connection_count() == clients.len()
        });
    }
    assert_eq!(server.stop().aborted(), 0);
}

#[test]
fn clients_that_come_and_go_all_the_time_are_all_served() {
    const CLIENTS: u64 = 8;
    const TURNS: u64 = 200;
    let server = TestServer::with(TcpServer::builder().max_connections(9), EchoHandler::new);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let addr = server.addr;
            scope.spawn(move || {
                for turn in 0..TURNS {
                    let message = noise(client * TURNS + turn, 300);
                    assert!(exchange(addr, &message) == message);
                }
            });
        }
    });
    eventually("all have left", || server.handle.connection_count() == 0);
    let totals = server.stop();
    assert_eq!(totals.connections(), CLIENTS * TURNS);
    assert_eq!(totals.bytes_out(), CLIENTS * TURNS * 300);
}

#[test]
fn no_client_is_rejected_below_the_limit() {
    let builder = TcpServer::builder()
        .max_connections(2)
        .at_limit(AtLimit::Reject);
    let server = TestServer::with(builder, EchoHandler::new);
    for _ in 0..200 {
        assert_eq!(exchange(server.addr, b"first"), b"first");
        eventually("the client has left", || {
            server.handle.connection_count() == 0
        });
        let both = [connect(server.addr), connect(server.addr)];
        both.iter().for_each(|client| ping(client, b"one of two"));
        drop(both);
        eventually("both have left", || server.handle.connection_count() == 0);
    }
    assert_eq!(server.stop().rejected(), 0);
}

#[test]
fn a_stop_right_after_a_client_has_left_is_clean_and_does_not_wait_for_the_drain_timeout() {
    for _ in 0..50 {
        let server = TestServer::start(EchoHandler::new);
        let client = connect(server.addr);
        ping(&client, b"x");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&client).unwrap(), b"");
        let start = Instant::now();
        let totals = server.stop();
        assert!(start.elapsed() < Builder::DRAIN_TIMEOUT);
        assert_eq!((totals.connections(), totals.aborted()), (1, 0));
    }
}

#[test]
fn a_stop_without_drain_timeout_right_after_a_client_has_left_is_clean() {
    for _ in 0..50 {
        let builder = TcpServer::builder().drain_timeout(Duration::ZERO);
        let server = TestServer::with(builder, EchoHandler::new);
        let client = connect(server.addr);
        ping(&client, b"x");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&client).unwrap(), b"");
        eventually("the client has left", || {
            server.handle.connection_count() == 0
        });
        let totals = server.stop();
        assert_eq!((totals.connections(), totals.aborted()), (1, 0));
    }
}

#[test]
fn a_client_that_connects_after_the_request_to_stop_is_left_to_the_next_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let serve = || {
        let shared = listener.try_clone().unwrap();
        TestServer::serve(TcpServer::from_listener(shared).unwrap(), EchoHandler::new)
    };
    for round in 0..200 {
        let first = serve();
        // A thread has just become idle. It is about to become the leader, or it is the leader already.
        assert_eq!(exchange(first.addr, b"x"), b"x");
        first.handle.shutdown();
        let late = connect(first.addr);
        let next = serve();
        ping(&late, b"late");
        assert_eq!(first.join().connections(), 1, "round {round}");
        assert_eq!(next.stop().connections(), 1, "round {round}");
    }
}

#[test]
fn clients_that_wait_at_a_stop_are_left_to_the_next_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shared = listener.try_clone().unwrap();
    let builder = TcpServer::builder().max_connections(1);
    let first = TestServer::serve(
        builder.from_listeners([listener]).unwrap(),
        EchoHandler::new,
    );
    let inside = connect(first.addr);
    ping(&inside, b"inside");
    let waiting: Vec<_> = (0..20).map(|_| connect(first.addr)).collect();
    assert_eq!(first.stop().connections(), 1);
    let next = TestServer::serve(TcpServer::from_listener(shared).unwrap(), EchoHandler::new);
    for client in &waiting {
        ping(client, b"late");
    }
    assert_eq!(next.stop().connections(), 20);
}

#[test]
fn a_socket_keeps_no_timeout_of_a_server_that_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shared = listener.try_clone().unwrap();
    let server = TestServer::serve(
        TcpServer::from_listener(listener).unwrap(),
        EchoHandler::new,
    );
    assert_eq!(exchange(server.addr, b"x"), b"x");
    server.stop();
    let socket = socket2::SockRef::from(&shared);
    assert_eq!(socket.read_timeout().unwrap(), None);
    assert_eq!(socket.write_timeout().unwrap(), None);
    assert!(!socket.tcp_nodelay().unwrap());
}

#[test]
fn options_inherited_from_a_listener_do_not_reset_the_end_of_an_echo() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = socket2::SockRef::from(&listener);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    socket
        .set_write_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    #[cfg(target_os = "linux")]
    socket.set_tcp_cork(true).unwrap();
    let server = TestServer::serve(
        TcpServer::from_listener(listener).unwrap(),
        EchoHandler::new,
    );
    let start = Instant::now();
    let client = connect(server.addr);
    for _ in 0..20 {
        ping(&client, b"x");
    }
    // With `TCP_CORK`, each echo would take 0.2 s.
    assert!(start.elapsed() < Duration::from_secs(2));
    let message = noise(1, 3 << 20);
    let reader = client.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut echo = Vec::new();
        let mut part = [0; 4096];
        // The client reads more slowly than the server sends, so that much is in flight when the server
        // closes.
        while let n @ 1.. = (&reader).read(&mut part).unwrap() {
            echo.extend_from_slice(&part[..n]);
            thread::yield_now();
        }
        echo
    });
    (&client).write_all(&message).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(reading.join().unwrap() == message);
    server.stop();
}

#[test]
fn clients_that_waited_before_the_server_began_are_drained_like_the_rest() {
    // As with socket activation: these connections were established before the server set options on the
    // socket, so they have not inherited the options.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let clients: Vec<_> = (0..3)
        .map(|_| connect(listener.local_addr().unwrap()))
        .collect();
    let server = TestServer::serve(
        TcpServer::from_listener(listener).unwrap(),
        EchoHandler::new,
    );
    for client in &clients {
        ping(client, b"late");
    }
    let totals = server.stop();
    assert_eq!((totals.connections(), totals.aborted()), (3, 0));
}

#[test]
fn clients_that_waited_since_before_an_earlier_server_are_drained_by_the_next() {
    // As in a restart at the limit: the socket has the options of the first server, but these connections do
    // not.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shared = listener.try_clone().unwrap();
    let clients: Vec<_> = (0..3)
        .map(|_| connect(listener.local_addr().unwrap()))
        .collect();
    let builder = TcpServer::builder().max_connections(1);
    let first = TestServer::serve(
        builder.from_listeners([listener]).unwrap(),
        EchoHandler::new,
    );
    ping(&clients[0], b"inside");
    assert_eq!(first.stop().aborted(), 0);

    let second = TestServer::serve(TcpServer::from_listener(shared).unwrap(), EchoHandler::new);
    ping(&clients[1], b"late");
    ping(&clients[2], b"late");
    let totals = second.stop();
    assert_eq!((totals.connections(), totals.aborted()), (2, 0));
}

#[test]
fn a_server_that_has_ended_leaves_the_socket_to_another_as_it_was() {
    // If the server that stops removed the timeouts of the shared socket, the threads of the other server
    // would wait in accept(2) for ever.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let shared = listener.try_clone().unwrap();
    let stays = TestServer::serve(TcpServer::from_listener(shared).unwrap(), EchoHandler::new);
    let goes = TestServer::serve(
        TcpServer::from_listener(listener).unwrap(),
        EchoHandler::new,
    );
    goes.stop();
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(exchange(stays.addr, b"x"), b"x");
    }
    stays.stop();
    assert!(start.elapsed() < Builder::DRAIN_TIMEOUT);
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_whose_options_can_not_be_set_is_counted_and_ends() {
    use nix::libc::SYS_setsockopt;
    use rustix::io::Errno;
    // The listener has no options to inherit, so each connection gets its options by calls of its own.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let builder = TcpServer::builder().accept_timeout(Duration::from_millis(300));
    let mut server = builder.from_listeners([listener]).unwrap();
    let client = connect(server.local_addr());
    let served = crate::support::refused(SYS_setsockopt, None, Errno::INVAL, || {
        server.handle_request(EchoHandler::new).unwrap()
    });
    assert_eq!(served, None);
    assert_eq!(read_to_end(&client).unwrap(), b"");
    assert_eq!(server.handle().totals().connections(), 1);
    assert_eq!(server.handle().connection_count(), 0);
}

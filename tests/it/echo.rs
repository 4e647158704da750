//! The echo is exact: every byte comes back once and in order, however the client reads.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use rustix::net::{SendFlags, send};
use socket2::{Domain, Socket, Type};
use socketserver::EchoHandler;

use crate::support::{Daemon, TIMEOUT, TestServer, connect, exchange, noise, ping, read_to_end};

/// Sends all of `bytes` from a thread, half-closes, and compares the echo that `receive` returns.
fn stream(client: &TcpStream, bytes: &[u8], receive: impl FnOnce(&TcpStream) -> Vec<u8>) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = client;
            writer.write_all(bytes).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let echo = receive(client);
        assert_eq!(echo.len(), bytes.len());
        assert!(echo == bytes, "the echo differs");
    });
}

#[test]
fn without_input_nothing_comes_back() {
    let daemon = Daemon::start(&[]);
    assert_eq!(exchange(daemon.addr, b""), b"");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn every_byte_value_comes_back() {
    let server = TestServer::start(EchoHandler::new);
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(exchange(server.addr, &bytes), bytes);
}

#[test]
fn messages_of_every_size_around_the_buffers_come_back() {
    let server = TestServer::start(EchoHandler::new);
    let client = connect(server.addr);
    for exponent in 0..=18 {
        for size in [(1 << exponent) - 1, 1 << exponent, (1 << exponent) + 1] {
            ping(&client, &noise(size as u64, size));
        }
    }
}

#[test]
fn a_stream_of_64_mib_comes_back_to_a_client_that_reads_at_once() {
    let daemon = Daemon::start(&[]);
    let bytes = noise(64, 64 << 20);
    stream(&connect(daemon.addr), &bytes, |client| {
        read_to_end(client).unwrap()
    });
    let output = daemon.stop();
    let counts = format!("bytes_in={0} bytes_out={0}", bytes.len());
    assert_eq!(output.log.matches(&counts).count(), 2, "{}", output.log);
}

#[test]
fn a_stream_of_64_mib_comes_back_to_a_client_that_reads_slowly() {
    let daemon = Daemon::start(&[]);
    let bytes = noise(65, 64 << 20);
    // The receive buffer is small and read in small pieces, so the sender is always ahead and waits.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.connect(&daemon.addr.into()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream(&socket.into(), &bytes, |mut client| {
        let mut echo = Vec::new();
        let mut piece = [0; 1000];
        loop {
            match client.read(&mut piece).unwrap() {
                0 => return echo,
                n => echo.extend_from_slice(&piece[..n]),
            }
        }
    });
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_client_that_sends_everything_before_it_reads_gets_everything() {
    // This is more than the server buffers, and less than the kernel's buffers on the way.
    let server = TestServer::start(EchoHandler::new);
    let bytes = noise(66, 1 << 20);
    let mut client = connect(server.addr);
    client.write_all(&bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_to_end(&client).unwrap() == bytes);
}

#[test]
fn two_hundred_streams_of_1_mib_at_the_same_time_come_back() {
    let daemon = Daemon::start(&[]);
    let addr = daemon.addr;
    thread::scope(|scope| {
        for seed in 0..200 {
            scope.spawn(move || {
                let bytes = noise(seed, 1 << 20);
                stream(&connect(addr), &bytes, |client| {
                    read_to_end(client).unwrap()
                });
            });
        }
    });
    let output = daemon.stop();
    assert_eq!(
        output
            .log
            .matches("bytes_in=1048576 bytes_out=1048576")
            .count(),
        200
    );
    assert_eq!(output.log.matches("reason=eof").count(), 200);
    let total = 200 << 20;
    assert!(output.log.contains(&format!(
        "stopped: connections=200 rejected=0 bytes_in={total} bytes_out={total} aborted=0"
    )));
}

#[test]
fn one_byte_at_a_time_comes_back() {
    let server = TestServer::start(EchoHandler::new);
    let client = connect(server.addr);
    for byte in noise(67, 2000) {
        ping(&client, &[byte]);
    }
}

#[test]
fn an_urgent_byte_comes_back_in_its_place() {
    let server = TestServer::start(EchoHandler::new);
    let client = connect(server.addr);
    for round in 0..50 {
        (&client).write_all(b"before").unwrap();
        send(&client, b"!", SendFlags::OOB).unwrap();
        (&client).write_all(b"after").unwrap();
        let mut echo = [0; 12];
        (&client).read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"before!after", "round {round}");
    }
}

#[test]
fn an_urgent_byte_in_a_stream_comes_back_in_its_place() {
    let server = TestServer::start(EchoHandler::new);
    let client = connect(server.addr);
    let block = noise(65, 1 << 20);
    let expected: Vec<u8> = [&block[..], b"!"].concat().repeat(20);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                (&client).write_all(&block).unwrap();
                send(&client, b"!", SendFlags::OOB).unwrap();
            }
            client.shutdown(Shutdown::Write).unwrap();
        });
        let echo = read_to_end(&client).unwrap();
        assert_eq!(echo.len(), expected.len());
        assert!(echo == expected, "the echo differs");
    });
}

#[test]
fn messages_between_streams_come_back_without_delay() {
    let server = TestServer::start(EchoHandler::new);
    let client = connect(server.addr);
    for round in 0..10 {
        let stream = noise(round, 4 << 20);
        thread::scope(|scope| {
            scope.spawn(|| (&client).write_all(&stream).unwrap());
            let mut echo = vec![0; stream.len()];
            (&client).read_exact(&mut echo).unwrap();
            assert!(echo == stream, "the echo differs in round {round}");
        });
        for size in [1, 100, 1000, 10_000] {
            ping(&client, &noise(round, size));
        }
    }
}

#[test]
fn more_streams_than_there_are_pipes_come_back() {
    let daemon = Daemon::start(&[]);
    let bytes = noise(66, 4 << 20);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                stream(&connect(daemon.addr), &bytes, |client| {
                    read_to_end(client).unwrap()
                });
            });
        }
    });
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_stalled_reader_affects_no_other_connection() {
    let server = TestServer::start(EchoHandler::new);
    let stalled = fill(server.addr);
    for seed in 0..20 {
        let bytes = noise(seed, 100_000);
        assert!(exchange(server.addr, &bytes) == bytes);
    }
    drop(stalled);
}

/// Sends until the connection accepts no more bytes: the server has stopped reading.
fn fill(addr: SocketAddr) -> TcpStream {
    let client = connect(addr);
    client.set_nonblocking(true).unwrap();
    let block = noise(68, 1 << 16);
    let mut refused = 0;
    while refused < 100 {
        match (&client).write(&block) {
            Ok(_) => refused = 0,
            Err(_) => refused += 1,
        }
        // Let the server move what it can.
        thread::yield_now();
    }
    client
}

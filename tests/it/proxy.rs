//! The example `proxy`, which relays to another server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::SockRef;
use socketserver::EchoHandler;

use crate::support::{
    Session, TIMEOUT, TestServer, connect, eventually, exchange, noise, read_to_end, reserve_addr,
    serving,
};

/// A running proxy, with an upstream and a client that the test controls.
struct Relay {
    proxy: Session,
    client: TcpStream,
    upstream: TcpStream,
}

impl Relay {
    fn start() -> Self {
        Self::with_idle_timeout("60")
    }

    fn with_idle_timeout(seconds: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = listener.local_addr().unwrap().to_string();
        let (proxy, addr) = serving("proxy", &[&upstream, "127.0.0.1:0", seconds]);
        let client = connect(addr);
        let (upstream, _) = listener.accept().unwrap();
        upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
        upstream.set_write_timeout(Some(TIMEOUT)).unwrap();
        let relay = Self {
            proxy,
            client,
            upstream,
        };
        // After this exchange, both threads of the proxy are running.
        passes(&relay.client, &relay.upstream, b"request");
        passes(&relay.upstream, &relay.client, b"reply");
        relay
    }
}

fn start(upstream: SocketAddr) -> (Session, SocketAddr) {
    serving("proxy", &[&upstream.to_string(), "127.0.0.1:0"])
}

fn passes(mut from: &TcpStream, mut to: &TcpStream, message: &[u8]) {
    from.write_all(message).unwrap();
    let mut arrived = vec![0; message.len()];
    to.read_exact(&mut arrived).unwrap();
    assert_eq!(arrived, message);
}

/// Closes with a RST.
fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

fn is_reset(stream: &TcpStream) {
    assert_eq!(
        read_to_end(stream).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn twenty_megabytes_each_way_arrive_intact() {
    let upstream = TestServer::start(EchoHandler::new);
    let (proxy, addr) = start(upstream.addr);
    let message = noise(5, 20_000_000);
    let client = connect(addr);
    let echo = thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&message).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut echo = Vec::new();
        (&client).read_to_end(&mut echo).unwrap();
        echo
    });
    assert!(echo == message, "{} bytes came back", echo.len());
    proxy.stderr.wait_for("reason=eof");
    proxy.gets(Signal::TERM);
}

#[test]
fn a_client_that_half_closes_first_gets_the_rest_of_the_reply() {
    let relay = Relay::start();
    relay.client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&relay.upstream).unwrap(), b"");
    let reply = noise(6, 3_000_000);
    thread::scope(|scope| {
        let received = scope.spawn(|| read_to_end(&relay.client).unwrap());
        (&relay.upstream).write_all(&reply).unwrap();
        relay.upstream.shutdown(Shutdown::Write).unwrap();
        assert!(received.join().unwrap() == reply);
    });
    relay.proxy.stderr.wait_for("reason=eof");
    relay.proxy.gets(Signal::TERM);
}

#[test]
fn an_upstream_that_half_closes_first_gets_the_rest_of_the_request() {
    let relay = Relay::start();
    relay.upstream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&relay.client).unwrap(), b"");
    let request = noise(7, 3_000_000);
    thread::scope(|scope| {
        let received = scope.spawn(|| read_to_end(&relay.upstream).unwrap());
        (&relay.client).write_all(&request).unwrap();
        relay.client.shutdown(Shutdown::Write).unwrap();
        assert!(received.join().unwrap() == request);
    });
    relay.proxy.stderr.wait_for("reason=eof");
    relay.proxy.gets(Signal::TERM);
}

#[test]
fn a_client_is_reset_when_its_upstream_refuses() {
    let (_reserved, upstream) = reserve_addr();
    let (proxy, addr) = start(upstream);
    // The reset may come before `connect` has returned.
    let error = TcpStream::connect(addr).and_then(|client| {
        client.set_read_timeout(Some(TIMEOUT))?;
        read_to_end(&client)
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.stderr.wait_for("Connection refused");
    proxy.stderr.wait_for("reason=aborted");
    // The proxy still serves the next client.
    let echo = TcpListener::bind(upstream).unwrap();
    let echo = TestServer::serve(
        socketserver::TcpServer::from_listener(echo).unwrap(),
        EchoHandler::new,
    );
    assert_eq!(exchange(addr, b"hello"), b"hello");
    proxy.gets(Signal::TERM);
    echo.stop();
}

#[test]
fn a_client_is_reset_when_its_upstream_is() {
    let Relay {
        proxy,
        client,
        upstream,
    } = Relay::start();
    reset(upstream);
    is_reset(&client);
    proxy.stderr.wait_for("upstream: Connection reset");
    proxy.stderr.wait_for("reason=aborted");
    proxy.gets(Signal::TERM);
}

#[test]
fn a_client_that_sends_is_reset_when_its_upstream_is() {
    // Usually one thread of the proxy gets the error, and sometimes the other, so try often.
    for _ in 0..20 {
        let Relay {
            proxy,
            client,
            upstream,
        } = Relay::start();
        is_reset_while_it_sends(&client, upstream);
        proxy.stderr.wait_for("reason=aborted");
        proxy.gets(Signal::TERM);
    }
}

#[test]
fn an_upstream_is_reset_when_its_client_is() {
    let Relay {
        proxy,
        client,
        upstream,
    } = Relay::start();
    reset(client);
    is_reset(&upstream);
    proxy.stderr.wait_for("reason=reset");
    assert!(!proxy.stderr.text().contains("WARN"));
    proxy.gets(Signal::TERM);
}

#[test]
fn an_upstream_that_sends_is_reset_when_its_client_is() {
    // Usually one thread of the proxy gets the error, and sometimes the other, so try often.
    for _ in 0..20 {
        let Relay {
            proxy,
            client,
            upstream,
        } = Relay::start();
        is_reset_while_it_sends(&upstream, client);
        proxy.gets(Signal::TERM);
    }
}

/// Checks that the proxy passes a reset on as a reset, and not as end of file.
///
/// Of the two threads that use `stream`, only one gets the error. After end of file, a write would fail with
/// `BrokenPipe`.
fn is_reset_while_it_sends(mut stream: &TcpStream, mut other: TcpStream) {
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            loop {
                if let Err(error) = stream.write_all(&[0; 1000]) {
                    return error;
                }
            }
        });
        let reader = scope.spawn(move || read_to_end(stream).err());
        other.read_exact(&mut vec![0; 100_000]).unwrap();
        reset(other);
        let errors = [Some(sender.join().unwrap()), reader.join().unwrap()];
        let mut kinds = errors.iter().flatten().map(io::Error::kind);
        assert!(
            kinds.any(|kind| kind == ErrorKind::ConnectionReset),
            "{errors:?}"
        );
    });
}

/// Waits until the other side's kernel has acknowledged everything that was sent.
#[cfg(target_os = "linux")]
fn has_arrived(stream: &TcpStream) {
    let local = stream.local_addr().unwrap();
    eventually("the acknowledgement of all bytes", || {
        let sockets = procfs::net::tcp().unwrap();
        let mut own = sockets
            .iter()
            .filter(|socket| socket.local_address == local);
        own.any(|socket| socket.tx_queue == 0)
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_stop_passes_on_what_had_arrived_in_both_directions() {
    let Relay {
        proxy,
        client,
        upstream,
    } = Relay::start();
    let (request, reply) = (noise(8, 200_000), noise(9, 8_000_000));
    (&client).write_all(&request).unwrap();
    has_arrived(&client);
    thread::scope(|scope| {
        // Neither the upstream nor the client reads before the stop.
        let sender = scope.spawn(|| {
            (&upstream).write_all(&reply).unwrap();
            upstream.shutdown(Shutdown::Write).unwrap();
        });
        proxy.signal(Signal::TERM);
        proxy.stderr.wait_for("draining");
        assert!(read_to_end(&upstream).unwrap() == request);
        assert!(read_to_end(&client).unwrap() == reply);
        sender.join().unwrap();
    });
    let ended = proxy.ends();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("aborted=0"), "{}", ended.stderr);
}

#[test]
fn a_stop_ends_both_directions_of_a_silent_relay() {
    let Relay {
        proxy,
        client,
        upstream,
    } = Relay::start();
    proxy.signal(Signal::TERM);
    // The upstream gets end of file at once. It sends no FIN of its own, but the client gets one.
    assert_eq!(read_to_end(&upstream).unwrap(), b"");
    assert_eq!(read_to_end(&client).unwrap(), b"");
    let ended = proxy.ends();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("aborted=0"), "{}", ended.stderr);
    drop(upstream);
}

#[test]
fn both_sides_are_closed_when_nothing_has_gone_either_way_for_the_idle_timeout() {
    for end in [None, Some(Shutdown::Write)] {
        let relay = Relay::with_idle_timeout("2");
        // A client that only receives for longer than the timeout is not idle. Nor is a client that has
        // half-closed.
        if let Some(end) = end {
            relay.client.shutdown(end).unwrap();
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            passes(&relay.upstream, &relay.client, b"news");
            thread::park_timeout(Duration::from_millis(500));
        }
        assert_eq!(read_to_end(&relay.client).unwrap(), b"");
        assert_eq!(read_to_end(&relay.upstream).unwrap(), b"");
        let reason = if end.is_some() { "eof" } else { "idle" };
        relay.proxy.stderr.wait_for(&format!("reason={reason}"));
        relay.proxy.gets(Signal::TERM);
    }
}

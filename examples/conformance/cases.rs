//! The cases: each is one normal or abusive behaviour of a client of an echo server.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::net::{SendFlags, send};

use crate::client::{Client, Failure, Result};

/// One behaviour of a client.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Whether the case is short enough for `soak` to run it again and again.
    #[allow(
        dead_code,
        reason = "only `soak` reads it; the conformance suite runs all cases"
    )]
    pub(crate) light: bool,
    pub(crate) play: fn(SocketAddr, &mut Rng) -> Result,
}

const fn case(name: &'static str, play: fn(SocketAddr, &mut Rng) -> Result) -> Case {
    let light = true;
    Case { name, light, play }
}

const fn heavy(name: &'static str, play: fn(SocketAddr, &mut Rng) -> Result) -> Case {
    let light = false;
    Case { name, light, play }
}

pub(crate) const CASES: &[Case] = &[
    case("nothing sent", nothing),
    case("one byte at a time", one_byte_at_a_time),
    case("pipelined messages", pipelined),
    case("messages of random sizes", random_sizes),
    case("half-close, echo still queued", half_close_with_echo_queued),
    case("all of 1 MiB sent, then read", send_all_then_read),
    case("urgent data", urgent),
    case("reset in mid-stream", reset_in_mid_stream),
    case("closed with echo unread", close_with_echo_unread),
    case("connect and vanish", connect_and_vanish),
    heavy("64 MiB at full speed", bulk),
    heavy("reader at 100 KiB/s", slow_reader),
    heavy("stalled reader, busy neighbours", stalled_reader),
    heavy("500 connections at once", many_connections),
];

fn nothing(server: SocketAddr, _: &mut Rng) -> Result {
    let mut client = Client::connect(server)?;
    client.half_close()?;
    client.expect_end()
}

fn one_byte_at_a_time(server: SocketAddr, rng: &mut Rng) -> Result {
    let mut client = Client::connect(server)?;
    for _ in 0..1000 {
        let byte = [rng.u8(..)];
        client.send(&byte)?;
        client.expect(&byte)?;
    }
    client.half_close()?;
    client.expect_end()
}

fn pipelined(server: SocketAddr, rng: &mut Rng) -> Result {
    let mut client = Client::connect(server)?;
    let messages: Vec<_> = (0..500).map(|_| noise(rng, 100)).collect();
    for message in &messages {
        client.send(message)?;
    }
    for message in &messages {
        client.expect(message)?;
    }
    client.half_close()?;
    client.expect_end()
}

/// Sends messages from a byte to a mebibyte, small ones as often as large ones.
fn random_sizes(server: SocketAddr, rng: &mut Rng) -> Result {
    let mut client = Client::connect(server)?;
    for _ in 0..50 {
        let size = 1 << rng.u32(0..20);
        let size = size + rng.usize(0..size);
        let message = noise(rng, size);
        client.exchange(&message)?;
    }
    client.half_close()?;
    client.expect_end()
}

/// Half-closes before it reads. `ncat -e` failed here, because the end of its input ended its output.
fn half_close_with_echo_queued(server: SocketAddr, rng: &mut Rng) -> Result {
    for _ in 0..10 {
        let sent = noise(rng, 256 << 10);
        let mut client = Client::connect(server)?;
        client.send(&sent)?;
        client.half_close()?;
        client.expect(&sent)?;
        client.expect_end()?;
    }
    Ok(())
}

fn send_all_then_read(server: SocketAddr, rng: &mut Rng) -> Result {
    let sent = noise(rng, 1 << 20);
    let mut client = Client::connect(server)?;
    client.send(&sent)?;
    client.expect(&sent)?;
    client.half_close()?;
    client.expect_end()
}

/// Sends urgent data, which must come back as a byte of the stream (RFC 6093).
fn urgent(server: SocketAddr, rng: &mut Rng) -> Result {
    let mut client = Client::connect(server)?;
    for _ in 0..10 {
        let message = noise(rng, 21);
        client.send(&message[..10])?;
        send(client.stream(), &message[10..11], SendFlags::OOB)?;
        client.send(&message[11..])?;
        client.expect(&message)?;
    }
    client.half_close()?;
    client.expect_end()
}

fn reset_in_mid_stream(server: SocketAddr, rng: &mut Rng) -> Result {
    for _ in 0..10 {
        let sent = noise(rng, 100_000);
        let mut client = Client::connect(server)?;
        client.send(&sent[..50_000])?;
        client.expect(&sent[..rng.usize(1..50_000)])?;
        client.reset()?;
    }
    still_serves(server, rng)
}

fn close_with_echo_unread(server: SocketAddr, rng: &mut Rng) -> Result {
    for _ in 0..10 {
        let mut client = Client::connect(server)?;
        client.send(&noise(rng, 100_000))?;
    }
    still_serves(server, rng)
}

fn connect_and_vanish(server: SocketAddr, rng: &mut Rng) -> Result {
    for round in 0..100 {
        let client = Client::connect(server)?;
        if round % 2 == 0 {
            client.reset()?;
        }
    }
    still_serves(server, rng)
}

fn bulk(server: SocketAddr, rng: &mut Rng) -> Result {
    let sent = noise(rng, 64 << 20);
    let mut client = Client::connect(server)?;
    client.exchange(&sent)?;
    client.half_close()?;
    client.expect_end()
}

fn slow_reader(server: SocketAddr, rng: &mut Rng) -> Result {
    const PER_TENTH: usize = 10 << 10;
    let sent = noise(rng, 300 << 10);
    let mut client = Client::connect(server)?;
    let mut sender = client.sender()?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            sender.send(&sent)?;
            sender.half_close()
        });
        for part in sent.chunks(PER_TENTH) {
            thread::sleep(Duration::from_millis(100));
            client.expect(part)?;
        }
        client.expect_end()?;
        sending.join().map_err(|_| Failure::panicked())?
    })
}

fn stalled_reader(server: SocketAddr, rng: &mut Rng) -> Result {
    let stalled = Client::connect(server)?;
    fill(stalled.stream(), &noise(rng, 1 << 16))?;
    for _ in 0..50 {
        still_serves(server, rng)?;
    }
    Ok(())
}

/// Sends until the connection accepts no more bytes for a quarter of a second.
fn fill(mut stream: &TcpStream, block: &[u8]) -> Result {
    stream.set_nonblocking(true)?;
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(250) {
        match stream.write(block) {
            Ok(1..) => last = Instant::now(),
            Ok(0) | Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    Ok(())
}

fn many_connections(server: SocketAddr, rng: &mut Rng) -> Result {
    let mut clients = Vec::new();
    for _ in 0..500 {
        clients.push(Client::connect(server)?);
    }
    let messages: Vec<_> = clients.iter().map(|_| noise(rng, 1000)).collect();
    for (client, message) in clients.iter_mut().zip(&messages) {
        client.send(message)?;
        client.half_close()?;
    }
    for (client, message) in clients.iter_mut().zip(&messages) {
        client.expect(message)?;
        client.expect_end()?;
    }
    Ok(())
}

/// Checks that the server still serves the next client.
fn still_serves(server: SocketAddr, rng: &mut Rng) -> Result {
    let message = noise(rng, 1000);
    let mut client = Client::connect(server)?;
    client.send(&message)?;
    client.half_close()?;
    client.expect(&message)?;
    client.expect_end()
}

fn noise(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

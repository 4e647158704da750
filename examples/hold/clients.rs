//! The clients. One thread takes the same step on all connections, one after another.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use socket2::{Domain, Socket, Type};

/// The most connections from one source address. Linux has 28,232 ephemeral ports by default for each
/// address, and takes long to find a free one when most of them are in use.
const PER_SOURCE: u32 = 10_000;

/// Time limit for each step of a client. Even on a busy machine no step takes that long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Opens this many connections to `server`.
pub(crate) fn connect_all(server: SocketAddr, connections: u32) -> Result<Vec<TcpStream>, String> {
    let mut clients = Vec::new();
    each("connecting", 0..connections, |n| {
        clients.push(connect(server, n)?);
        Ok(())
    })?;
    Ok(clients)
}

/// Connects from 127.0.0.1, or from one of the next addresses: 127.0.0.2 and so on.
fn connect(server: SocketAddr, n: u32) -> io::Result<TcpStream> {
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + n / PER_SOURCE);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    // The kernel applies this timeout to `connect(2)`, too.
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

/// Sends on all connections, then receives on all of them.
pub(crate) fn echo_all(when: &str, clients: &[TcpStream]) -> Result<(), String> {
    let message = |n| format!("connection {n} at the {when}\n").into_bytes();
    each("sending", (0..).zip(clients), |(n, mut client)| {
        client.write_all(&message(n))
    })?;
    each("receiving", (0..).zip(clients), |(n, mut client)| {
        let mut echo = message(n);
        client
            .read_exact(&mut echo)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => {
                    io::Error::other("the server closed it before the whole echo")
                }
                ErrorKind::WouldBlock => io::Error::other(format!("no echo within {TIMEOUT:?}")),
                _ => error,
            })?;
        if echo == message(n) {
            Ok(())
        } else {
            Err(io::Error::other("the echo is wrong"))
        }
    })
}

/// Checks that nothing but the end of file is left to read on any connection. Closes each one at
/// once, because a server waits for that before it ends.
pub(crate) fn end_all(clients: Vec<TcpStream>) -> Result<(), String> {
    each("stopping", clients.into_iter(), |mut client| {
        match client.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::other("more came back than was sent")),
        }
    })
}

/// Runs `step` on each connection, up to the first failure, and shows a progress bar.
fn each<C>(
    what: &'static str,
    connections: impl Iterator<Item = C>,
    mut step: impl FnMut(C) -> io::Result<()>,
) -> Result<(), String> {
    let length = connections.size_hint().0;
    let connections = progress(what, length as u64).wrap_iter(connections);
    for (n, connection) in connections.enumerate() {
        step(connection).map_err(|error| format!("{what}: connection {n}: {error}"))?;
    }
    Ok(())
}

pub(crate) fn progress(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} {msg}");
    ProgressBar::new(length)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
}

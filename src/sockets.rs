//! How a listening socket is made, and what its connections inherit from it.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::times::BRIEFLY;

/// Binds and listens.
pub(crate) fn listen(addr: SocketAddr, backlog: u32, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Sets on the listener what connections inherit from it, which saves setting it on each.
pub(crate) fn prepare_listener(
    listener: &TcpListener,
    keepalive: Option<Duration>,
    write_timeout: Option<Duration>,
    nonblocking: bool,
) -> io::Result<()> {
    let socket = SockRef::from(listener);
    if socket.r#type()? != Type::STREAM {
        return Err(invalid("it is not a stream socket"));
    }
    if !socket.is_listener()? {
        return Err(invalid("it does not listen"));
    }
    // A connection that poll(2) has announced may be gone, or another's, when it is accepted. One
    // that blocks does so for no longer than its read timeout.
    socket.set_nonblocking(nonblocking)?;
    prepare(&socket, keepalive, write_timeout)
}

/// Sets on a connection what it has not inherited, and returns its peer.
pub(crate) fn prepare_stream(
    stream: &TcpStream,
    keepalive: Option<Duration>,
    write_timeout: Option<Duration>,
) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    if socket.r#type()? != Type::STREAM {
        return Err(invalid("it is not a stream socket"));
    }
    let peer = stream.peer_addr()?;
    socket.set_nonblocking(false)?;
    prepare(&socket, keepalive, write_timeout)?;
    Ok(peer)
}

/// All of it is set even when it is off: a socket that outlives this process keeps it.
fn prepare(
    socket: &SockRef<'_>,
    keepalive: Option<Duration>,
    write_timeout: Option<Duration>,
) -> io::Result<()> {
    // An echo sends what it has: there is nothing to wait for (Nagle's algorithm, RFC 896).
    socket.set_tcp_nodelay(true)?;
    // Otherwise the last urgent byte would be lost to plain reads (RFC 6093).
    socket.set_out_of_band_inline(true)?;
    match keepalive {
        Some(silence) => {
            let silence = silence.max(Duration::from_secs(1));
            socket
                .set_tcp_keepalive(&TcpKeepalive::new().with_time(silence))
                .map_err(|error| {
                    io::Error::new(error.kind(), format!("keepalive of {silence:?}: {error}"))
                })?;
        }
        None => socket.set_keepalive(false)?,
    }
    socket.set_read_timeout(Some(BRIEFLY))?;
    socket.set_write_timeout(write_timeout)
}

fn invalid(cause: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, cause)
}

/// Returns whether an address can't be bound because this machine has neither it nor its family.
pub(crate) fn is_not_of_this_machine(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
    )
}

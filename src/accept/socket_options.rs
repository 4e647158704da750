//! How a listening socket is made, and what its connections inherit from it.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::connection::canonical;
use crate::state::timeouts::BRIEFLY;

/// What is set on every connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) keepalive: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
}

impl Options {
    /// Sets them on a connection, or on a listener, whose connections inherit them. All of them are
    /// set even when they are off: a socket that outlives this process keeps them.
    fn set(self, socket: &SockRef<'_>) -> io::Result<()> {
        // An echo sends what it has: there is nothing to wait for (Nagle's algorithm, RFC 896).
        socket.set_tcp_nodelay(true)?;
        // Otherwise the last urgent byte would be lost to plain reads (RFC 6093).
        socket.set_out_of_band_inline(true)?;
        match self.keepalive {
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
        socket.set_write_timeout(self.write_timeout)?;
        // The last one, by which the others are known to be set.
        socket.set_read_timeout(Some(BRIEFLY))
    }

    fn are_set(self, socket: &SockRef<'_>) -> bool {
        socket.read_timeout().ok() == Some(Some(BRIEFLY))
            && socket.write_timeout().ok() == Some(self.write_timeout)
    }

    /// Sets them on a listener.
    pub(crate) fn prepare(self, listener: &TcpListener, nonblocking: bool) -> io::Result<()> {
        let socket = SockRef::from(listener);
        if socket.r#type()? != Type::STREAM {
            return Err(invalid("it is not a stream socket"));
        }
        if !listens(listener)? {
            return Err(invalid("it does not listen"));
        }
        self.set(&socket)?;
        // A connection that poll(2) has announced may be gone, or another's, when it is accepted. One
        // that blocks does so for no longer than its read timeout.
        socket.set_nonblocking(nonblocking)
    }

    /// Takes a connection, and sees to it that it has them. It has inherited them from its listener
    /// unless it was there before they were set, waiting for an earlier process perhaps, or another
    /// process that has the listener has changed them.
    pub(crate) fn accept(self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = listener.accept()?;
        let inherits = cfg!(any(target_os = "linux", target_os = "android"));
        if !inherits || !self.are_set(&SockRef::from(&stream)) {
            // It fails where the peer has gone again already, on systems that say so.
            self.take(&stream).map_err(|_| Errno::CONNABORTED)?;
        }
        Ok((stream, canonical(peer)))
    }

    /// Sets them on a connection.
    pub(crate) fn take(self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        self.set(&SockRef::from(stream))
    }
}

/// Binds and listens.
pub(crate) fn listen(
    addr: SocketAddr,
    backlog: u32,
    reuse_port: bool,
    options: Options,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&addr.into())?;
    // What connects before they are set does not inherit them.
    options.set(&SockRef::from(&socket))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Returns the peer of a socket, if it is a connection.
pub(crate) fn peer_of(stream: &TcpStream) -> io::Result<SocketAddr> {
    if SockRef::from(stream).r#type()? != Type::STREAM {
        return Err(invalid("it is not a stream socket"));
    }
    Ok(canonical(stream.peer_addr()?))
}

#[cfg(not(target_vendor = "apple"))]
fn listens(listener: &TcpListener) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(listener)?)
}

/// Apple's systems have the option, but it says nothing (`SO_ACCEPTCONN`).
#[cfg(target_vendor = "apple")]
fn listens(_: &TcpListener) -> io::Result<bool> {
    Ok(true)
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

//! Makes listening sockets, and sets the options of connections.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::state::record::canonical;

/// The options of every connection of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    pub(crate) keepalive: Option<Duration>,
}

impl SocketOptions {
    /// Sets the options on a connection, or on a listener before it listens. On Linux a listener's
    /// connections inherit the options.
    fn apply(self, socket: &SockRef<'_>) -> io::Result<()> {
        // Otherwise the kernel would delay a small reply until the peer has acknowledged the one before
        // (Nagle's algorithm, RFC 896).
        if_possible(socket.set_tcp_nodelay(true))?;
        // Otherwise plain reads would not return the last urgent byte (RFC 6093).
        if_possible(socket.set_out_of_band_inline(true))?;
        match self.keepalive.map(at_least_a_second) {
            Some(silence) => socket
                .set_tcp_keepalive(&TcpKeepalive::new().with_time(silence))
                .map_err(|error| keepalive_error(silence, &error)),
            None => socket.set_keepalive(false),
        }
    }

    /// Returns whether a socket has the options, and no other that would change what connections do.
    ///
    /// Only on Linux do connections inherit the options, and some systems can't return the keep-alive
    /// time of a socket.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn are_set(self, socket: &SockRef<'_>) -> io::Result<bool> {
        let keepalive = match self.keepalive.map(at_least_a_second) {
            Some(silence) => {
                socket.keepalive()? && socket.tcp_keepalive_time()?.as_secs() == silence.as_secs()
            }
            None => !socket.keepalive()?,
        };
        Ok(keepalive
            && socket.tcp_nodelay()?
            && socket.out_of_band_inline()?
            && !has_harmful_option(socket)?)
    }

    /// Checks that a socket listens, and returns whether its connections inherit the options.
    ///
    /// Makes the listener non-blocking. Otherwise the server could block in `accept(2)`, because a
    /// connection that `poll(2)` has reported may be gone, or another process may have accepted it. No
    /// other option of the listener is changed, because other processes may share the listener.
    pub(crate) fn apply_to_listener(self, listener: &TcpListener) -> io::Result<bool> {
        let socket = SockRef::from(listener);
        if socket.r#type()? != Type::STREAM {
            return Err(invalid("it is not a stream socket"));
        }
        if !listens(listener)? {
            return Err(invalid("it does not listen"));
        }
        socket.set_nonblocking(true)?;
        self.check_keepalive(listener)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return self.are_set(&socket);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        Ok(false)
    }

    /// Checks that the system accepts the keep-alive time, so that setting it does not fail later, on each
    /// connection.
    ///
    /// The check sets the time on the listener and then restores it. A new socket for the check would not
    /// do, because a sandbox may forbid making one.
    fn check_keepalive(self, listener: &TcpListener) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(silence) = self.keepalive.map(at_least_a_second) {
            use rustix::net::sockopt::{set_tcp_keepidle, tcp_keepidle};
            let own = tcp_keepidle(listener)?;
            set_tcp_keepidle(listener, silence)
                .map_err(|errno| keepalive_error(silence, &errno.into()))?;
            set_tcp_keepidle(listener, own)?;
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (self, listener);
        Ok(())
    }

    /// Sets the options on a connection, and undoes options that it may have inherited from its listener.
    pub(crate) fn apply_to_stream(self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        let socket = SockRef::from(stream);
        // With `SO_LINGER` at 0 s the close would reset the connection, and destroy data in flight to the
        // peer.
        socket.set_linger(None)?;
        // Timeouts of the listener would make reads and writes fail. The server sets its own later.
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            // With `TCP_CORK` the kernel would hold back a partial segment for up to 0.2 s (`tcp(7)`).
            if_possible(socket.set_tcp_cork(false))?;
        }
        self.apply(&socket)
    }
}

/// Returns whether a listener has an option that its connections inherit, and that would delay their
/// data, reset them, or make their reads and writes fail.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn has_harmful_option(listener: &SockRef<'_>) -> io::Result<bool> {
    Ok(listener.tcp_cork().unwrap_or(false)
        || listener.linger()?.is_some()
        || listener.read_timeout()?.is_some()
        || listener.write_timeout()?.is_some())
}

/// Ignores the error if this kind of socket lacks the option, as an MPTCP socket lacks `SO_OOBINLINE`.
fn if_possible(set: io::Result<()>) -> io::Result<()> {
    match set.as_ref().map_err(Errno::from_io_error) {
        Err(Some(Errno::OPNOTSUPP | Errno::NOPROTOOPT)) => Ok(()),
        _ => set,
    }
}

fn keepalive_error(silence: Duration, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("keepalive of {silence:?}: {error}"))
}

/// Returns at least one second, because the kernel counts keep-alive in whole seconds and rejects 0.
fn at_least_a_second(silence: Duration) -> Duration {
    silence.max(Duration::from_secs(1))
}

/// Makes a socket that listens on `addr`. `buffer_size` is that of each connection's buffers, or `None` for
/// the kernel's default.
pub(crate) fn listen(
    addr: SocketAddr,
    backlog: u32,
    reuse_port: bool,
    buffer_size: Option<usize>,
    options: SocketOptions,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    if reuse_port {
        share_port(&socket)?;
    }
    if let Some(size) = buffer_size {
        // The size is an `int` in the system call. The kernel clamps it to its own limits.
        let size = size.min(1 << 30);
        socket.set_recv_buffer_size(size)?;
        socket.set_send_buffer_size(size)?;
    }
    socket.bind(&addr.into())?;
    // Set the options before the first client can connect, so that every connection inherits them.
    options.apply(&SockRef::from(&socket))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Lets other sockets listen on the same address (`SO_REUSEPORT`).
#[cfg(not(any(target_os = "illumos", target_os = "solaris", target_os = "cygwin")))]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(any(target_os = "illumos", target_os = "solaris", target_os = "cygwin"))]
fn share_port(_: &Socket) -> io::Result<()> {
    let cause = "this system has no SO_REUSEPORT";
    Err(io::Error::new(ErrorKind::Unsupported, cause))
}

/// Returns the peer of a connected TCP socket. Fails for any other socket.
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

/// Returns `true`, because `SO_ACCEPTCONN` is not reliable on Apple's systems.
#[cfg(target_vendor = "apple")]
fn listens(_: &TcpListener) -> io::Result<bool> {
    Ok(true)
}

fn invalid(cause: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, cause)
}

/// Returns whether an address can't be bound because this machine lacks the address or its family.
///
/// In a sandbox without IPv6 the system may report that it lacks the protocol instead.
pub(crate) fn is_not_of_this_machine(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT)
    )
}

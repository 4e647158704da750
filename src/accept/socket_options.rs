//! How a listening socket is made, and which options each connection has.

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
    /// Sets the options on a socket: a connection, or a listener before it listens, whose
    /// connections inherit them on Linux.
    fn apply(self, socket: &SockRef<'_>) -> io::Result<()> {
        // An echo sends what it has, and there is nothing to wait for (Nagle's algorithm, RFC 896).
        if_possible(socket.set_tcp_nodelay(true))?;
        // Otherwise the last urgent byte would be lost to plain reads (RFC 6093).
        if_possible(socket.set_out_of_band_inline(true))?;
        match self.keepalive.map(at_least_a_second) {
            Some(silence) => socket
                .set_tcp_keepalive(&TcpKeepalive::new().with_time(silence))
                .map_err(|error| refused(silence, &error)),
            None => socket.set_keepalive(false),
        }
    }

    /// Returns whether a socket has the options. Only Linux passes them on to connections, and not
    /// every other system can say what time of keep-alive a socket has.
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
            && !passes_on_a_trap(socket)?)
    }

    /// Checks that a socket listens, and returns whether its connections inherit the options.
    ///
    /// Nothing else is set on the listener, because other processes may share it, except that
    /// `accept(2)` no longer blocks: a connection that `poll(2)` has announced may be gone, or
    /// accepted by another process, when it is accepted here.
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

    /// Finds out whether the system refuses the time of keep-alive: now, and not at every connection.
    /// The listener tells, because a sandbox may forbid another socket, and keeps its own time.
    fn check_keepalive(self, listener: &TcpListener) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(silence) = self.keepalive.map(at_least_a_second) {
            use rustix::net::sockopt::{set_tcp_keepidle, tcp_keepidle};
            let own = tcp_keepidle(listener)?;
            set_tcp_keepidle(listener, silence).map_err(|errno| refused(silence, &errno.into()))?;
            set_tcp_keepidle(listener, own)?;
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (self, listener);
        Ok(())
    }

    /// Sets the options on a connection, and puts right what its listener has passed on.
    pub(crate) fn apply_to_stream(self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        let socket = SockRef::from(stream);
        // At 0 s the close would reset the connection, and destroy what is under way to the peer.
        socket.set_linger(None)?;
        // The timeouts of the blocking slice are set later, and only where a call may block.
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            // Corked, each message would wait for 0.2 s, or for more of them.
            if_possible(socket.set_tcp_cork(false))?;
        }
        self.apply(&socket)
    }
}

/// Returns whether a listener has an option that would change what its connections do.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn passes_on_a_trap(listener: &SockRef<'_>) -> io::Result<bool> {
    Ok(listener.tcp_cork().unwrap_or(false)
        || listener.linger()?.is_some()
        || listener.read_timeout()?.is_some()
        || listener.write_timeout()?.is_some())
}

/// Goes on where the kind of the socket does not have an option, as MPTCP has no `SO_OOBINLINE`.
fn if_possible(set: io::Result<()>) -> io::Result<()> {
    match set.as_ref().map_err(Errno::from_io_error) {
        Err(Some(Errno::OPNOTSUPP | Errno::NOPROTOOPT)) => Ok(()),
        _ => set,
    }
}

fn refused(silence: Duration, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("keepalive of {silence:?}: {error}"))
}

/// Keep-alive is counted in whole seconds.
fn at_least_a_second(silence: Duration) -> Duration {
    silence.max(Duration::from_secs(1))
}

/// Binds and listens. The size is that of the buffers of each connection, if it is not the kernel's.
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
        // The kernel takes an `int`, and clamps it to its own limits.
        let size = size.min(1 << 30);
        socket.set_recv_buffer_size(size)?;
        socket.set_send_buffer_size(size)?;
    }
    socket.bind(&addr.into())?;
    // Before the first client connects, so that every connection inherits them.
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

/// Returns whether an address can't be bound because this machine lacks the address or its family.
/// A sandbox without IPv6 may say that it lacks the protocol instead.
pub(crate) fn is_not_of_this_machine(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT)
    )
}

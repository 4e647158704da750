//! The settings of sockets: what listeners and connections have the kernel do.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// Sets how long a connection is silent before the kernel sends keep-alive probes (`SO_KEEPALIVE`,
    /// `TCP_KEEPIDLE`). Defaults to 60 s. `None` turns the probes off.
    ///
    /// With probes, the server notices within minutes that a peer has vanished, and frees its slot. An
    /// address translator (NAT) on the path does not forget a silent connection.
    ///
    /// The kernel counts whole seconds. Less than 1 s counts as 1 s. Making the server fails if the time is
    /// longer than the system allows (Linux: 32,767 s).
    #[must_use]
    pub fn keepalive(mut self, silence: impl Into<Option<Duration>>) -> Self {
        self.keepalive = silence.into();
        self
    }

    /// Sets the listen backlog of each listener: the maximum number of connections that are established
    /// but not yet accepted (`listen(2)`). Defaults to [`BACKLOG`](Self::BACKLOG).
    ///
    /// The kernel clamps the number (Linux: to `net.core.somaxconn`). The setting applies to the listeners
    /// that [`listen`](Self::listen) and [`bind`](Self::bind) make. Listeners that are passed to
    /// [`from_listeners`](Self::from_listeners) keep theirs.
    #[doc(alias = "request_queue_size")]
    #[must_use]
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Sets whether other sockets may listen on the same address (`SO_REUSEPORT`, `socket(7)`). Defaults to
    /// no.
    ///
    /// With this setting a new process can start before the old one stops. `SO_REUSEADDR` is always on, so
    /// that a restart need not wait for connections in `TIME_WAIT`.
    ///
    /// All sockets of an address must have the setting, and their processes must have the same effective
    /// user. Otherwise binding fails with [`AddrInUse`](std::io::ErrorKind::AddrInUse). So every process of
    /// that user can take a part of your clients. A second instance that was started by mistake no longer
    /// fails.
    ///
    /// The kernel assigns each connection to one of the sockets at its first packet. If the server of that
    /// socket is at its limit, the client waits there, even while the other processes have room. The
    /// limits and totals of this server don't include the clients of the others.
    ///
    /// The setting applies to the listeners that [`listen`](Self::listen) and [`bind`](Self::bind) make.
    /// Listeners that are passed to [`from_listeners`](Self::from_listeners) keep theirs.
    ///
    /// # Platform-specific behavior
    ///
    /// Linux chooses the socket by a hash of both addresses. When a listener is closed, Linux resets the
    /// connections that still wait in its backlog. With the sysctl `net.ipv4.tcp_migrate_req=1` (Linux
    /// 5.14 and later) Linux moves nearly all of them to another listener of the address instead. Other
    /// systems may assign all clients to one of the sockets.
    ///
    /// On illumos and Solaris, binding fails with [`Unsupported`](std::io::ErrorKind::Unsupported).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), socketserver::Error> {
    /// use socketserver::TcpServer;
    ///
    /// let old = TcpServer::builder().reuse_port(true).bind("127.0.0.1:0")?;
    /// let new = TcpServer::builder().reuse_port(true).bind(old.local_addr())?;
    /// assert_eq!(new.local_addr(), old.local_addr());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "allow_reuse_port")]
    #[doc(alias = "allow_reuse_address")]
    #[must_use]
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Sets the size in bytes of each connection's receive and send buffer in the kernel (`SO_RCVBUF`,
    /// `SO_SNDBUF`). Defaults to `None`: the kernel sizes them by the traffic.
    ///
    /// By default a buffer grows on Linux to 6 MB (on newer kernels 32 MB) for input and 4 MB for output
    /// (`tcp_rmem`, `tcp_wmem`).
    /// A fixed size limits the memory that a client can occupy by sending much and reading nothing. It also
    /// limits the rate of a connection to about one buffer per round-trip time. Linux doubles the size for
    /// its own bookkeeping, and clamps it (`net.core.rmem_max`, `net.core.wmem_max`; `socket(7)`).
    ///
    /// The setting applies to the listeners that [`listen`](Self::listen) and [`bind`](Self::bind) make,
    /// because a connection takes its window scale from its listener (RFC 7323). Listeners that are passed
    /// to [`from_listeners`](Self::from_listeners) keep theirs.
    #[must_use]
    pub fn socket_buffers(mut self, size: impl Into<Option<usize>>) -> Self {
        self.socket_buffers = size.into();
        self
    }
}

//! Every setting of a server, with its default.

use std::fmt;
use std::time::Duration;

use crate::accept::AtLimit;
use crate::connection::Connection;
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol::{ProxyProtocol, network::Network};
use crate::state::CloseHook;
use crate::state::closed::ClosedConnection;
use crate::state::timeouts::{BLOCKING_SLICE, Timeouts};
use crate::worker::handler::HandlerError;
use crate::worker::session::Hooks;

/// Configures a [`TcpServer`](crate::TcpServer).
///
/// A setting that must not be zero is checked when the server is made: then
/// [`bind`](Self::bind), [`from_listeners`](Self::from_listeners) and [`from_stream`](Self::from_stream)
/// fail with [`InvalidInput`](std::io::ErrorKind::InvalidInput).
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), socketserver::Error> {
/// use socketserver::TcpServer;
/// use std::time::Duration;
///
/// let server = TcpServer::builder()
///     .max_connections(100)
///     .idle_timeout(Duration::from_secs(300))
///     .verify_request(|conn| conn.peer_addr().ip().is_loopback())
///     .bind("127.0.0.1:0")?;
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    pub(crate) name: Option<String>,
    pub(crate) max_connections: usize,
    pub(crate) timeouts: Timeouts,
    pub(crate) accept_timeout: Option<Duration>,
    pub(crate) stack_size: Option<usize>,
    pub(crate) reactors: Option<usize>,
    pub(crate) hooks: Hooks,
    pub(crate) close_hook: Option<CloseHook>,
    pub(crate) at_limit: AtLimit,
    pub(crate) max_per_source: Option<usize>,
    #[cfg(feature = "proxy-protocol")]
    pub(crate) proxy_protocol: ProxyProtocol,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) backlog: u32,
    pub(crate) reuse_port: bool,
    pub(crate) socket_buffers: Option<usize>,
}

impl Builder {
    /// The default of [`max_connections`](Self::max_connections): 10,000.
    ///
    /// With Linux's default settings the [limit on threads](crate::TcpServer::max_threads) is about
    /// 14,000. So 10,000 connections can be served even if each handler blocks. Idle in a reactor, they
    /// take 50 MiB of memory, most of it the kernel's.
    pub const MAX_CONNECTIONS: usize = 10_000;
    /// The default of [`backlog`](Self::backlog): 4096, the default maximum of Linux
    /// (`net.core.somaxconn`).
    pub const BACKLOG: u32 = 4096;
    /// The default of [`drain_timeout`](Self::drain_timeout): 5 s.
    ///
    /// Container runtimes commonly wait 10 s after SIGTERM before they kill.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
    /// The default of [`busy_poll`](Self::busy_poll): 50 µs.
    ///
    /// This is about the round-trip time of a message between two processes on one machine, if both
    /// sleep in between.
    pub const BUSY_POLL: Duration = Duration::from_micros(50);

    /// The maximum of [`busy_poll`](Self::busy_poll): 20 ms.
    ///
    /// A connection that is silent for longer is idle, so the server does not busy-poll it.
    pub const MAX_BUSY_POLL: Duration = BLOCKING_SLICE;

    /// The default of [`proxy_header_timeout`](Self::proxy_header_timeout): 3 s.
    ///
    /// This is the minimum that the specification recommends, so that a lost segment can be sent again.
    #[cfg(feature = "proxy-protocol")]
    pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(3);

    /// Returns a builder with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self {
            name: None,
            max_connections: Self::MAX_CONNECTIONS,
            timeouts: Timeouts {
                idle: None,
                output_is_activity: false,
                write: None,
                lifetime: None,
                lingering: Duration::from_secs(2),
                busy_poll: Self::BUSY_POLL,
                drain: Self::DRAIN_TIMEOUT,
            },
            accept_timeout: None,
            stack_size: None,
            reactors: None,
            hooks: Hooks::default(),
            close_hook: None,
            at_limit: AtLimit::Wait,
            max_per_source: None,
            #[cfg(feature = "proxy-protocol")]
            proxy_protocol: ProxyProtocol {
                trusted: Vec::new(),
                timeout: Self::PROXY_HEADER_TIMEOUT,
            },
            keepalive: Some(Duration::from_secs(60)),
            backlog: Self::BACKLOG,
            reuse_port: false,
            socket_buffers: None,
        }
    }

    /// Sets the server's name in the log. Defaults to none.
    ///
    /// The server's log lines then begin with `service=NAME`, and their records have the key-value pair
    /// `service`. The names of the server's threads begin with the name, too.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), socketserver::Error> {
    /// use socketserver::TcpServer;
    ///
    /// let server = TcpServer::builder().name("guests").bind("127.0.0.1:0")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the maximum number of live connections. Defaults to
    /// [`MAX_CONNECTIONS`](Self::MAX_CONNECTIONS). Must not be 0.
    ///
    /// At the limit, [`at_limit`](Self::at_limit) decides what happens to further clients. The limit can
    /// be changed while the server runs, also to 0:
    /// [`ServerHandle::set_max_connections`](crate::ServerHandle::set_max_connections).
    #[must_use]
    pub fn max_connections(mut self, limit: usize) -> Self {
        self.max_connections = limit;
        self
    }

    /// Sets what happens to a client that connects at the limit of
    /// [`max_connections`](Self::max_connections). Defaults to [`AtLimit::Wait`].
    #[must_use]
    pub fn at_limit(mut self, at_limit: AtLimit) -> Self {
        self.at_limit = at_limit;
        self
    }

    /// Sets the maximum number of live connections from one source: one IPv4 address, or one IPv6 /64.
    /// Defaults to `None`: no limit per source. Must not be 0.
    ///
    /// Further connections of the source are rejected, whatever [`at_limit`](Self::at_limit) says. In the
    /// backlog they would delay the clients behind them. At the limit of
    /// [`max_connections`](Self::max_connections), `at_limit` applies to the clients of every source.
    #[must_use]
    pub fn max_per_source(mut self, limit: impl Into<Option<usize>>) -> Self {
        self.max_per_source = limit.into();
        self
    }

    /// Sets the networks of trusted proxies, whose connections begin with a PROXY header. Defaults to none.
    /// Needs the feature `proxy-protocol`.
    ///
    /// The header passes on the address of the proxy's client. The server reads versions 1 and 2 of the
    /// protocol ([specification](https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt)).
    ///
    /// From a trusted network the header is required. From any other network a header is ordinary input, so
    /// that no client can claim another address. Trust only addresses that belong to your proxies, because
    /// every program that can connect from there can claim any address. The server compares the socket's
    /// peer address with the networks. An IPv4 peer of an IPv6 listener counts as IPv4.
    ///
    /// The addresses in the header replace those of the socket. The source in the header becomes the
    /// connection's [`peer_addr`](Connection::peer_addr), also in the hooks, in the log and for
    /// [`max_per_source`](Self::max_per_source). The destination, to which the client has connected,
    /// becomes the [`local_addr`](Connection::local_addr). [`stream`](Connection::stream) still returns
    /// the socket, with its own addresses. The connection keeps the addresses of the socket
    ///
    /// - until the header has been read, in
    ///   [`ServerHandle::connections`](crate::ServerHandle::connections),
    /// - if the proxy itself opened the connection, for example for a health check (`LOCAL`),
    /// - if the client's protocol is not TCP or not known (`UNKNOWN`, `UNSPEC`, `UNIX`, `DGRAM`).
    ///
    /// The server reads the header on the connection's thread, before the
    /// [verify hook](Self::verify_request). Handlers don't see the header, and `bytes_in` does not count it.
    /// Bytes after the header, in the same packet or later, are the connection's first input. A header may
    /// have at most 107 bytes in version 1, the specification's limit, and at most 4096 in version 2. The
    /// server ignores additional values (TLVs), except a checksum (`PP2_TYPE_CRC32C`), which must be right.
    ///
    /// The server closes a connection that begins with something else, that ends within its header, or that
    /// has no whole header [in time](Self::proxy_header_timeout). It sends nothing. If input is unread, the
    /// kernel resets the connection. The reason is [`ProxyHeader`](crate::CloseReason::ProxyHeader). The
    /// server logs the cause at debug, and once per episode as a warning. It does not warn of a peer that
    /// connects and closes without sending a byte, because simple health checks do that. At a stop the server
    /// closes connections without a whole header at once.
    ///
    /// Until the header has been read, the server can't know that a client exceeds
    /// [`max_per_source`](Self::max_per_source). So [`Totals::connections`](crate::Totals::connections)
    /// counts such a connection as well as [`Totals::rejected`](crate::Totals::rejected), and the
    /// [`on_close`](Self::on_close) hook receives it with the reason [`Limit`](crate::CloseReason::Limit).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use socketserver::{Connection, Network, TcpServer, from_fn};
    /// use std::io::{Read, Write};
    /// use std::net::TcpStream;
    ///
    /// let loopback: Network = "127.0.0.0/8".parse()?;
    /// let server = TcpServer::builder()
    ///     .proxy_protocol([loopback])
    ///     .bind("127.0.0.1:0")?
    ///     .start(from_fn(|conn: &mut Connection| write!(conn, "hello, {}", conn.peer_addr())))?;
    ///
    /// let mut proxy = TcpStream::connect(server.local_addr())?;
    /// proxy.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 7\r\n")?;
    /// let mut reply = String::new();
    /// proxy.read_to_string(&mut reply)?;
    /// assert_eq!(reply, "hello, 192.0.2.7:4711");
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "proxy-protocol")]
    #[must_use]
    pub fn proxy_protocol(mut self, trusted: impl IntoIterator<Item = Network>) -> Self {
        self.proxy_protocol.trusted = trusted.into_iter().collect();
        self
    }

    /// Sets the time limit for the whole header of a [trusted proxy](Self::proxy_protocol). Defaults to
    /// [`PROXY_HEADER_TIMEOUT`](Self::PROXY_HEADER_TIMEOUT). Must not be zero. Needs the feature
    /// `proxy-protocol`.
    ///
    /// The time runs from the moment at which a thread begins to serve the connection. Single bytes that
    /// arrive don't extend it. While the server waits for the header, the connection keeps its slot and
    /// its thread.
    #[cfg(feature = "proxy-protocol")]
    #[must_use]
    pub fn proxy_header_timeout(mut self, timeout: Duration) -> Self {
        self.proxy_protocol.timeout = timeout;
        self
    }

    /// Sets the maximum age of a connection. Defaults to `None`: no limit. Must not be zero.
    ///
    /// At this age the connection ends as at a [shutdown](crate::ServerHandle::shutdown): reads return the
    /// input that had arrived, then end of file. Writes fail when the
    /// [lingering time](Self::lingering_time) is over as well. A peer that has not read its reply by then
    /// may lose the rest.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.timeouts.lifetime = lifetime.into();
        self
    }

    /// Sets how long a read waits for input before it fails with
    /// [`TimedOut`](std::io::ErrorKind::TimedOut). Defaults to `None`: no limit. Must not be zero.
    ///
    /// Only input counts: a client that only receives is idle, unless
    /// [`output_is_activity`](Self::output_is_activity) is set. A handler can
    /// [change the timeout](Connection::set_idle_timeout) for its connection.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.idle = timeout.into();
        self
    }

    /// Sets whether output restarts the [idle timeout](Self::idle_timeout), too. Defaults to no: only
    /// input does.
    ///
    /// Set this for proxies and downloads, where one direction may be silent for long. A handler can
    /// [change the setting](Connection::set_output_is_activity) for its connection.
    #[must_use]
    pub fn output_is_activity(mut self, counts: bool) -> Self {
        self.timeouts.output_is_activity = counts;
        self
    }

    /// Sets how long a write waits for a peer that reads nothing before the write fails with
    /// [`TimedOut`](std::io::ErrorKind::TimedOut). Defaults to `None`: no limit. Must not be zero.
    ///
    /// The server notices that the peer reads when the kernel's send buffer has room again. A peer whose
    /// receive buffer is full opens its window only once a part of the buffer is free. On Linux that is a
    /// sixteenth, up to about 400 kB. The peer also acknowledges only whole segments. So a peer that needs
    /// longer than the timeout to read that much counts as stalled.
    #[must_use]
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.write = timeout.into();
        self
    }

    /// Sets how long the server waits for live connections to end after a
    /// [shutdown](crate::ServerHandle::shutdown) before it aborts them. Defaults to
    /// [`DRAIN_TIMEOUT`](Self::DRAIN_TIMEOUT). At zero the server aborts them at once.
    #[doc(alias = "block_on_close")]
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.drain = timeout;
        self
    }

    /// Sets how long the server waits for the peer's FIN after it has sent its own. Defaults to 2 s.
    ///
    /// If the server closed the connection while the peer was still sending, the kernel would reset the
    /// connection. Then the peer might lose the end of the reply. While the server waits, the connection
    /// counts as live, and the duration in its log line includes this time. It keeps no thread, except on
    /// systems without `epoll(7)`.
    #[must_use]
    pub fn lingering_time(mut self, time: Duration) -> Self {
        self.timeouts.lingering = time;
        self
    }

    /// Sets how long a read busy-polls for the next message before it sleeps: lower latency, more CPU.
    /// Defaults to [`BUSY_POLL`](Self::BUSY_POLL). Zero turns busy-polling off; values over
    /// [`MAX_BUSY_POLL`](Self::MAX_BUSY_POLL) are clamped to it.
    ///
    /// The server busy-polls only connections whose messages follow each other closely. There it saves the
    /// cost of sleeping and waking for each message. Between two tries the thread yields the processor to
    /// other threads that are ready (`sched_yield(2)`).
    ///
    /// For each message that is received, busy-polling wastes at most this much processor time, or that of
    /// four tries if they take longer. When it keeps failing on a connection, only one read in 64 tries it.
    #[must_use]
    pub fn busy_poll(mut self, longest: Duration) -> Self {
        self.timeouts.busy_poll = longest;
        self
    }

    /// Sets the stack size in bytes of the threads that run handlers. Defaults to `None`: the default of
    /// [`std::thread`], which is 2 MiB or the value of `RUST_MIN_STACK`.
    ///
    /// A stack takes memory only where it has been used. But it takes its whole size of address space,
    /// which may be limited. The system rounds the size up, and may fail to start a thread whose stack is
    /// too large. The setting has no effect on [`handle_request`](crate::TcpServer::handle_request), which
    /// uses the caller's thread.
    #[must_use]
    pub fn stack_size(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.stack_size = bytes.into();
        self
    }

    /// Sets the number of reactors, which carry the connections whose handlers have returned. Defaults to
    /// `None`: one for every two processors, at least one. 0 counts as 1.
    ///
    /// A reactor is one thread with one `epoll(7)` set, and starts with its first connection. On two
    /// processors a second reactor made an echo slower, because the two loops and the client compete for
    /// the processors. The default for larger machines is inferred from that, not measured.
    ///
    /// # Platform-specific behavior
    ///
    /// Without `epoll(7)` there are no reactors, and each connection keeps its thread.
    #[must_use]
    pub fn reactors(mut self, count: impl Into<Option<usize>>) -> Self {
        self.reactors = count.into();
        self
    }

    /// Sets how long [`handle_request`](crate::TcpServer::handle_request) waits for a client. Defaults to
    /// `None`: no limit. At zero it only accepts a client that already waits.
    #[must_use]
    pub fn accept_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.accept_timeout = timeout.into();
        self
    }

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
    /// By default a buffer grows on Linux to 6 MB for input and 4 MB for output (`tcp_rmem`, `tcp_wmem`).
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

    /// Sets a hook that decides whether a connection is served. Defaults to serving all connections.
    ///
    /// The hook runs on the connection's thread. If it returns `false`, the server closes the connection
    /// with a FIN, for the reason [`Denied`](crate::CloseReason::Denied). A panic in the hook closes that
    /// connection and nothing else, unless the program is built with `panic = "abort"`.
    #[must_use]
    pub fn verify_request<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection) -> bool + Send + Sync + 'static,
    {
        self.hooks.verify = Some(Box::new(hook));
        self
    }

    /// Sets a hook that receives every error and panic of a handler, instead of the log.
    ///
    /// The errors include those of the connection itself, such as a reset by the peer or a timeout. A
    /// panic in the hook closes that connection and nothing else, unless the program is built with
    /// `panic = "abort"`.
    ///
    /// Without a hook, the server [logs](crate#logging) a panic at error. It logs an error as a warning
    /// once per episode, and otherwise at debug. Errors of the connection itself appear only as the reason
    /// in the connection's line.
    #[must_use]
    pub fn handle_error<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection, &HandlerError) + Send + Sync + 'static,
    {
        self.hooks.handle_error = Some(Box::new(hook));
        self
    }

    /// Sets a hook that receives each connection that has ended: for access logs, accounting and metrics.
    /// Defaults to none.
    ///
    /// The hook runs after the descriptor was closed and before the connection's slot is free again. A
    /// slow hook therefore delays new connections at the limit, and nothing else. A stop waits for hooks
    /// as it waits for connections. A panic in the hook is logged, and affects nothing else.
    ///
    /// The hook runs on a thread of the server. In [`handle_request`](crate::TcpServer::handle_request), and
    /// for connections whose handlers ignore an abort, it runs on the calling thread.
    ///
    /// The hook does not receive clients that are rejected at a limit: see
    /// [`Totals::rejected`](crate::Totals::rejected).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), socketserver::Error> {
    /// use socketserver::{CloseReason, TcpServer};
    ///
    /// let server = TcpServer::builder()
    ///     .on_close(|closed| {
    ///         if closed.reason() == CloseReason::Stalled {
    ///             eprintln!("{} does not read", closed.peer_addr());
    ///         }
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_close<F>(mut self, hook: F) -> Self
    where
        F: Fn(&ClosedConnection) + Send + Sync + 'static,
    {
        self.close_hook = Some(CloseHook(Box::new(hook)));
        self
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Builder");
        debug
            .field("name", &self.name)
            .field("max_connections", &self.max_connections)
            .field("at_limit", &self.at_limit)
            .field("max_per_source", &self.max_per_source)
            .field("timeouts", &self.timeouts)
            .field("accept_timeout", &self.accept_timeout)
            .field("stack_size", &self.stack_size)
            .field("reactors", &self.reactors)
            .field("keepalive", &self.keepalive)
            .field("backlog", &self.backlog)
            .field("reuse_port", &self.reuse_port)
            .field("socket_buffers", &self.socket_buffers)
            .field("hooks", &self.hooks)
            .field("close_hook", &self.close_hook);
        #[cfg(feature = "proxy-protocol")]
        debug.field("proxy_protocol", &self.proxy_protocol);
        debug.finish()
    }
}

//! Every setting of a server with its default.

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
    /// The default of [`max_connections`](Self::max_connections): 10,000. That many connections fit
    /// under the [limit on threads](crate::TcpServer::max_threads) that Linux's own defaults make,
    /// about 14,000, even if each handler blocks. Idle, they take 50 MiB of memory, most of it the
    /// kernel's.
    pub const MAX_CONNECTIONS: usize = 10_000;
    /// The default of [`backlog`](Self::backlog): 4096, the most that Linux allows by default
    /// (`net.core.somaxconn`).
    pub const BACKLOG: u32 = 4096;
    /// The default of [`drain_timeout`](Self::drain_timeout): 5 s, half of what container
    /// runtimes commonly wait before they kill.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
    /// The default of [`busy_poll`](Self::busy_poll): 50 µs. That is about what two processes on one machine
    /// take for a message there and back if both sleep in between.
    pub const BUSY_POLL: Duration = Duration::from_micros(50);

    /// The most that [`busy_poll`](Self::busy_poll) can be set to: 20 ms. A connection that is silent for
    /// longer is idle, and is not waited for.
    pub const MAX_BUSY_POLL: Duration = BLOCKING_SLICE;

    /// The default of [`proxy_header_timeout`](Self::proxy_header_timeout): 3 s, the least that the
    /// specification recommends, so that a lost segment can be sent again.
    #[cfg(feature = "proxy-protocol")]
    pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(3);

    /// Starts from the defaults.
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

    /// Sets what the server is called in the log: its lines begin with `service=NAME`, and their
    /// records have that key-value pair. Defaults to nothing.
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

    /// Sets how many connections may be live at the same time. Defaults to
    /// [`MAX_CONNECTIONS`](Self::MAX_CONNECTIONS).
    ///
    /// What happens to more is up to [`at_limit`](Self::at_limit). The limit can be changed while
    /// the server runs: [`ServerHandle::set_max_connections`](crate::ServerHandle).
    #[must_use]
    pub fn max_connections(mut self, limit: usize) -> Self {
        self.max_connections = limit;
        self
    }

    /// Sets what happens to a client while the limit of connections is reached. Defaults to
    /// [`AtLimit::Wait`].
    #[must_use]
    pub fn at_limit(mut self, at_limit: AtLimit) -> Self {
        self.at_limit = at_limit;
        self
    }

    /// Sets how many connections one source may have at the same time: one IPv4 address, or one
    /// IPv6 network of 64 bits. Defaults to `None`: as many as all.
    ///
    /// While there is room, more from the same source are rejected, whatever
    /// [`at_limit`](Self::at_limit) says: in the backlog they would be in the way of others.
    #[must_use]
    pub fn max_per_source(mut self, limit: impl Into<Option<usize>>) -> Self {
        self.max_per_source = limit.into();
        self
    }

    /// Sets the networks of trusted proxies. Each of their connections begins with a header of the PROXY
    /// protocol, version 1 or 2, which passes on the address of the proxy's client ([the
    /// specification](https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt)). Defaults to none.
    /// Needs the feature `proxy-protocol`.
    ///
    /// From a trusted network the header is required. From any other network a header is data, so that no
    /// client can claim another address. Trust only addresses that belong to your proxies: every program
    /// that can connect from there can claim any address. The address of the socket decides; an IPv4 peer
    /// of an IPv6 listener counts as IPv4.
    ///
    /// The addresses in the header replace those of the socket. The source is the connection's
    /// [`peer_addr`](Connection::peer_addr), also in the hooks, in the log and for
    /// [`max_per_source`](Self::max_per_source). The destination, which the client has connected to, is
    /// its [`local_addr`](Connection::local_addr). The addresses of the socket can still be had from
    /// [`stream`](Connection::stream), and they are the connection's
    ///
    /// - until the header has been read, in
    ///   [`ServerHandle::connections`](crate::ServerHandle::connections),
    /// - if the connection is the proxy's own, such as a health check (`LOCAL`),
    /// - if the client's protocol is not TCP or not known (`UNKNOWN`, `UNSPEC`, `UNIX`, `DGRAM`).
    ///
    /// The header is read on the connection's thread, before the [verify hook](Self::verify_request). No
    /// handler sees it, and `bytes_in` does not count it. What follows the header, in the same packet or
    /// later, is the connection's first data. Version 1 may have 107 bytes, the specification's bound,
    /// and version 2 may have 4096. Additional values (TLVs) are ignored, except a checksum
    /// (`PP2_TYPE_CRC32C`), which must be right.
    ///
    /// A connection is closed if it begins with something else, ends in the midst of its header, or has
    /// no whole header [in time](Self::proxy_header_timeout). Nothing is sent; if input is unread, the
    /// kernel resets the connection. The reason is
    /// [`ProxyHeader`](crate::CloseReason::ProxyHeader). The cause is logged at debug, and once per episode
    /// as a warning. No warning is about a peer that connects and closes without sending a byte, as simple
    /// health checks do. A stop closes connections without a whole header at once.
    ///
    /// A client that exceeds [`max_per_source`](Self::max_per_source) is only found out once its
    /// connection is live. So its connection counts in [`Totals::connections`](crate::Totals::connections)
    /// as well as in [`Totals::rejected`](crate::Totals::rejected), and the
    /// [`on_close`](Self::on_close) hook is told of it, with the reason
    /// [`Limit`](crate::CloseReason::Limit).
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

    /// Sets how long the whole header of a [trusted proxy](Self::proxy_protocol) may take. Defaults to
    /// [`PROXY_HEADER_TIMEOUT`](Self::PROXY_HEADER_TIMEOUT). Needs the feature `proxy-protocol`.
    ///
    /// The time begins when a thread begins to serve the connection, and bytes that drip in don't extend
    /// it. Until then a connection without a header holds its slot and that thread.
    #[cfg(feature = "proxy-protocol")]
    #[must_use]
    pub fn proxy_header_timeout(mut self, timeout: Duration) -> Self {
        self.proxy_protocol.timeout = timeout;
        self
    }

    /// Sets how long a connection may live in all. Defaults to `None`: for ever.
    ///
    /// Then it ends as at a [shutdown](crate::ServerHandle::shutdown): reads return what had
    /// arrived, then end of file. Writes fail once the [lingering time](Self::lingering_time) after that is over,
    /// and a peer that has not taken its reply within it may lose the rest.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.timeouts.lifetime = lifetime.into();
        self
    }

    /// Sets how long a connection may send nothing before a read of it fails with
    /// [`TimedOut`](std::io::ErrorKind::TimedOut). Defaults to `None`: for ever.
    ///
    /// It is about input: a client that only receives is idle, unless
    /// [`output_is_activity`](Self::output_is_activity). A handler can
    /// [change it](Connection::set_idle_timeout) for its connection.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.idle = timeout.into();
        self
    }

    /// Sets whether what is sent counts as activity, too. Defaults to no: then the [idle
    /// timeout](Self::idle_timeout) is about input alone. Proxies and downloads want yes, because one
    /// direction may be silent for long. A handler can [change it](Connection::set_output_is_activity) for its
    /// connection.
    #[must_use]
    pub fn output_is_activity(mut self, counts: bool) -> Self {
        self.timeouts.output_is_activity = counts;
        self
    }

    /// Sets how long a peer may take nothing of what is due to it before a write fails with
    /// [`TimedOut`](std::io::ErrorKind::TimedOut). Defaults to `None`: for ever.
    ///
    /// What it takes is seen when the kernel has room in its send buffer again. A peer whose buffer
    /// is full opens its window only once a part of it is free (on Linux a sixteenth: up to some
    /// 400 kB), and acknowledges whole segments. One that needs longer than the timeout for as much
    /// counts as stalled.
    #[must_use]
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.write = timeout.into();
        self
    }

    /// Sets how long live connections may take to end after a
    /// [shutdown](crate::ServerHandle::shutdown) before they are aborted. Defaults to
    /// [`DRAIN_TIMEOUT`](Self::DRAIN_TIMEOUT).
    #[doc(alias = "block_on_close")]
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.drain = timeout;
        self
    }

    /// Sets how long after its handler a connection waits for the peer to finish sending.
    /// Defaults to 2 s.
    ///
    /// Without it a peer that is still sending would be reset, and might lose the end of the
    /// reply. The connection counts as live in the meantime, and its line in the log counts that
    /// time, too. It keeps no thread, except on systems without `epoll(7)`.
    #[must_use]
    pub fn lingering_time(mut self, time: Duration) -> Self {
        self.timeouts.lingering = time;
        self
    }

    /// Sets how long a read waits awake for the next message before it sleeps. Defaults to
    /// [`SPIN`](Self::BUSY_POLL). At zero it sleeps at once.
    ///
    /// It is done only on connections whose messages follow each other closely, and there it saves
    /// sleeping and being woken for each. The processor is yielded to whoever is ready
    /// (`sched_yield(2)`) between the tries. This bounds what is wasted: at most so much of a
    /// processor's time, or four tries if they take longer, for each message that is received, and
    /// on a connection that it does not help, for one in 64. A longer time counts as
    /// [`MAX_BUSY_POLL`](Self::MAX_BUSY_POLL).
    #[must_use]
    pub fn busy_poll(mut self, longest: Duration) -> Self {
        self.timeouts.busy_poll = longest;
        self
    }

    /// Sets how many bytes of stack a connection's thread has. Defaults to `None`: as many as
    /// [`std::thread`] gives, 2 MiB unless `RUST_MIN_STACK` says otherwise.
    ///
    /// A stack takes memory only where it has been used, but address space, which may be limited,
    /// in whole. The system rounds it up, and may refuse a thread whose stack is too large.
    /// [`handle_request`](crate::TcpServer::handle_request) serves on its caller's.
    #[must_use]
    pub fn stack_size(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.stack_size = bytes.into();
        self
    }

    /// Sets how many reactors carry the connections that have no handler any more. Defaults to
    /// `None`: one for every two processors, and at least one.
    ///
    /// A reactor is one thread with one `epoll(7)` set, started by its first connection; 0 counts
    /// as 1. On two processors a second reactor made an echo slower, because the two loops and the
    /// client take the processors from each other. The default for larger machines is reasoned
    /// from that, and not measured.
    ///
    /// # Platform-specific behavior
    ///
    /// Without `epoll(7)` there are no reactors, and each connection keeps its thread.
    #[must_use]
    pub fn reactors(mut self, count: impl Into<Option<usize>>) -> Self {
        self.reactors = count.into();
        self
    }

    /// Sets how long [`handle_request`](crate::TcpServer::handle_request) waits for a connection.
    /// Defaults to `None`: for ever.
    #[must_use]
    pub fn accept_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.accept_timeout = timeout.into();
        self
    }

    /// Sets how long a connection is silent before the kernel asks whether the peer is still
    /// there (`SO_KEEPALIVE`), or `None` not to. Defaults to a minute.
    ///
    /// It is counted in whole seconds, at least 1, and at most what the system allows (Linux:
    /// 32,767). A peer that is gone then gives its slot back after minutes, and an address translator on
    /// the path keeps the connection.
    #[must_use]
    pub fn keepalive(mut self, silence: impl Into<Option<Duration>>) -> Self {
        self.keepalive = silence.into();
        self
    }

    /// Sets how many connections the kernel completes ahead of `accept(2)` (`listen(2)`), for
    /// each listener. Defaults to [`BACKLOG`](Self::BACKLOG); the kernel clamps it.
    #[doc(alias = "request_queue_size")]
    #[must_use]
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Sets whether other sockets may listen on the same address (`SO_REUSEPORT`, `socket(7)`), so that a
    /// new process can start before the old one stops. Defaults to no. `SO_REUSEADDR`, so that a restart
    /// need not wait for `TIME_WAIT`, is always on.
    ///
    /// All sockets of an address must have the setting, and the processes must have the same effective
    /// user. Otherwise binding fails with [`AddrInUse`](std::io::ErrorKind::AddrInUse). So each process of
    /// that user can take a part of your clients. A second instance that was started by mistake is no
    /// longer an error.
    ///
    /// Each connection belongs to one of the sockets from its first packet on. A client whose socket is at
    /// its limit waits there, while the other processes have room. The limits and totals of this server
    /// don't include the clients of the others.
    ///
    /// It is set on the listeners that [`listen`](Self::listen) and [`bind`](Self::bind) make. Those that
    /// are passed to [`from_listeners`](Self::from_listeners) keep theirs.
    ///
    /// # Platform-specific behavior
    ///
    /// Linux picks the socket by a hash of both addresses. When a listener is closed, Linux resets the
    /// connections that still wait in its backlog. With the sysctl `net.ipv4.tcp_migrate_req=1` (Linux
    /// 5.14 and later) it moves nearly all of them to another listener of the address. Other systems may give
    /// all clients to one of the sockets.
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

    /// Sets the size in bytes of the two buffers that the kernel keeps for each connection, one for
    /// what has arrived and one for what is to be sent (`SO_RCVBUF`, `SO_SNDBUF`). Defaults to `None`:
    /// the kernel lets them grow with the traffic, on Linux to 6 MB and 4 MB (`tcp_rmem`, `tcp_wmem`).
    ///
    /// A fixed size bounds the memory that clients hold that send much and read nothing, and the rate
    /// of a connection: to about one size in each round-trip time. Linux doubles the size, for its own
    /// bookkeeping, and clamps it (`net.core.rmem_max`, `net.core.wmem_max`; `socket(7)`).
    ///
    /// It is set on the listeners that [`listen`](Self::listen) and [`bind`](Self::bind) make, because
    /// a connection takes its window scale from its listener (RFC 7323). Those that are passed to
    /// [`from_listeners`](Self::from_listeners) keep theirs.
    #[must_use]
    pub fn socket_buffers(mut self, size: impl Into<Option<usize>>) -> Self {
        self.socket_buffers = size.into();
        self
    }

    /// Sets a hook that decides whether a connection is served. Defaults to serving all.
    ///
    /// It runs on the connection's thread. A rejected connection is closed, with a FIN. A panic
    /// in the hook closes that connection and nothing else, unless the program is built with
    /// `panic = "abort"`.
    #[must_use]
    pub fn verify_request<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection) -> bool + Send + Sync + 'static,
    {
        self.hooks.verify = Some(Box::new(hook));
        self
    }

    /// Sets a hook that is told of every error and panic of a handler. By default a panic is
    /// logged as an error, and an error at debug level, unless it is a routine one, which the
    /// reason in the connection's line tells.
    ///
    /// Errors include the routine ones of a network: a peer's reset, a timeout. A panic in the
    /// hook closes that connection and nothing else, unless the program is built with
    /// `panic = "abort"`.
    #[must_use]
    pub fn handle_error<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection, &HandlerError) + Send + Sync + 'static,
    {
        self.hooks.handle_error = Some(Box::new(hook));
        self
    }

    /// Sets a hook that is told of each connection that has ended: for access logs, accounting and
    /// metrics.
    ///
    /// It runs on a thread of the server, or in [`handle_request`](crate::TcpServer::handle_request) on the
    /// caller's, after the descriptor was closed and before the connection's slot is free again. A slow
    /// hook so holds up new connections at the limit, and nothing else. A stop waits for hooks as it
    /// waits for connections; those of handlers that ignore an abort run on the thread in
    /// [`serve_forever`](crate::TcpServer::serve_forever). A panic in the hook is logged, and goes no
    /// further. Clients that are rejected at a limit are no connections: see
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

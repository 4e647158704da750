//! Every setting of a server, with its default.

mod hooks;
#[cfg(feature = "proxy-protocol")]
mod proxy_protocol;
mod sockets;

use std::fmt;
use std::time::Duration;

use crate::accept::AtLimit;
#[cfg(feature = "proxy-protocol")]
use crate::proxy_protocol::ProxyProtocol;
use crate::reactor::MAX_REACTORS;
use crate::state::closed::CloseHook;
use crate::state::timeouts::{BLOCKING_SLICE, Timeouts};
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

    /// The maximum of [`reactors`](Self::reactors): 1024.
    pub const MAX_REACTORS: usize = MAX_REACTORS;
    /// The maximum of [`busy_poll`](Self::busy_poll): 20 ms.
    ///
    /// A connection that is silent for longer is idle, so the server does not busy-poll it.
    pub const MAX_BUSY_POLL: Duration = BLOCKING_SLICE;

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
    /// [change the timeout](crate::Connection::set_idle_timeout) for its connection.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.idle = timeout.into();
        self
    }

    /// Sets whether output restarts the [idle timeout](Self::idle_timeout), too. Defaults to no: only
    /// input does.
    ///
    /// Set this for proxies and downloads, where one direction may be silent for long. A handler can
    /// [change the setting](crate::Connection::set_output_is_activity) for its connection.
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
    /// `None`: one for every two processors, at least one. 0 counts as 1, and a number above
    /// [`MAX_REACTORS`](Self::MAX_REACTORS) as that.
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

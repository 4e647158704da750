//! Every setting of a server with its default.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use crate::connection::Connection;
use crate::error::Error;
use crate::handler::Failure;
use crate::server::TcpServer;
use crate::session::{ErrorHook, VerifyHook};
use crate::sockets;
use crate::standby;
use crate::times::Times;

/// Configures a [`TcpServer`].
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
    pub(crate) times: Times,
    pub(crate) timeout: Option<Duration>,
    pub(crate) stack_size: Option<usize>,
    pub(crate) verify_request: Option<VerifyHook>,
    pub(crate) handle_error: Option<ErrorHook>,
    pub(crate) at_limit: AtLimit,
    pub(crate) max_per_source: Option<usize>,
    keepalive: Option<Duration>,
    backlog: u32,
    reuse_port: bool,
}

/// What happens to a client that connects while the limit of connections is reached.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::{AtLimit, EchoHandler, TcpServer};
/// use std::io::Read;
/// use std::net::TcpStream;
///
/// let server = TcpServer::builder()
///     .at_limit(AtLimit::Refuse)
///     .bind("127.0.0.1:0")?;
/// let (addr, handle) = (server.local_addr(), server.handle());
/// handle.set_max_connections(0);
/// let serving = std::thread::spawn(move || server.serve_forever(EchoHandler::new));
///
/// // It is closed, and nothing is sent.
/// assert_eq!(TcpStream::connect(addr)?.read(&mut [0; 8])?, 0);
///
/// handle.shutdown();
/// let totals = serving.join().expect("the server does not panic")?;
/// assert_eq!((totals.connections(), totals.refused()), (0, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtLimit {
    /// It waits in the kernel's backlog until a connection ends.
    #[default]
    Wait,
    /// It is accepted, sent a FIN and nothing else, and counted as
    /// [refused](crate::Totals::refused).
    Refuse,
}

impl Builder {
    /// The default of [`max_connections`](Self::max_connections): 4000, which fits under a
    /// descriptor limit of 4096, the lowest hard limit in common use.
    pub const MAX_CONNECTIONS: usize = 4000;
    /// The default of [`backlog`](Self::backlog): 4096, the most that Linux allows by default
    /// (`net.core.somaxconn`).
    pub const BACKLOG: u32 = 4096;
    /// The default of [`drain_timeout`](Self::drain_timeout): 5 s, half of what container
    /// runtimes commonly wait before they kill.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
    /// The default of [`spin`](Self::spin): 50 µs. That is about what two processes on one machine
    /// take for a message there and back if both sleep in between.
    pub const SPIN: Duration = Duration::from_micros(50);

    /// Starts from the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            name: None,
            max_connections: Self::MAX_CONNECTIONS,
            times: Times {
                idle: None,
                write: None,
                lifetime: None,
                linger: Duration::from_secs(2),
                spin: Self::SPIN,
                drain: Self::DRAIN_TIMEOUT,
            },
            timeout: None,
            stack_size: None,
            verify_request: None,
            handle_error: None,
            at_limit: AtLimit::Wait,
            max_per_source: None,
            keepalive: Some(Duration::from_secs(60)),
            backlog: Self::BACKLOG,
            reuse_port: false,
        }
    }

    /// Sets what the server is called in the log: its lines begin with `service=NAME`. Defaults to
    /// nothing.
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
    /// While there is room, more from the same source are refused, whatever
    /// [`at_limit`](Self::at_limit) says: in the backlog they would be in the way of others.
    #[must_use]
    pub fn max_per_source(mut self, limit: impl Into<Option<usize>>) -> Self {
        self.max_per_source = limit.into();
        self
    }

    /// Sets how long a connection may live in all. Defaults to `None`: for ever.
    ///
    /// Then it ends as at a [shutdown](crate::ServerHandle::shutdown): reads return what had
    /// arrived, then end of file. Writes fail once the [linger](Self::linger) after that is over,
    /// and a peer that has not taken its reply within it may lose the rest.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.times.lifetime = lifetime.into();
        self
    }

    /// Sets how long a connection may send nothing before a read of it fails with
    /// [`TimedOut`](std::io::ErrorKind::TimedOut). Defaults to `None`: for ever.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.times.idle = timeout.into();
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
        self.times.write = timeout.into();
        self
    }

    /// Sets how long live connections may take to end after a
    /// [shutdown](crate::ServerHandle::shutdown) before they are cut. Defaults to
    /// [`DRAIN_TIMEOUT`](Self::DRAIN_TIMEOUT).
    #[doc(alias = "block_on_close")]
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.times.drain = timeout;
        self
    }

    /// Sets how long after its handler a connection waits for the peer to finish sending.
    /// Defaults to 2 s.
    ///
    /// Without it a peer that is still sending would be reset, and might lose the end of the
    /// reply. The connection keeps its thread, and counts as live, in the meantime.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.times.linger = linger;
        self
    }

    /// Sets how long a read waits awake for the next message before it sleeps. Defaults to
    /// [`SPIN`](Self::SPIN). At zero it sleeps at once.
    ///
    /// It is done only on connections whose messages follow each other closely, and there it saves
    /// sleeping and being woken for each. The processor is yielded to whoever is ready
    /// (`sched_yield(2)`) between the tries. This bounds what is wasted: at most so much of a
    /// processor's time, or four tries if they take longer, for each message that is received, and
    /// on a connection that it does not help, for one in 64. An idle connection is not waited for;
    /// one is idle after 20 ms, so more than that counts as that.
    #[must_use]
    pub fn spin(mut self, longest: Duration) -> Self {
        self.times.spin = longest;
        self
    }

    /// Sets how many bytes of stack a connection's thread has. Defaults to `None`: as many as
    /// [`std::thread`] gives, 2 MiB unless `RUST_MIN_STACK` says otherwise.
    ///
    /// A stack takes memory only where it has been used, but address space, which may be limited,
    /// in whole. The system rounds it up, and may refuse a thread whose stack is too large.
    /// [`handle_request`](TcpServer::handle_request) serves on its caller's.
    #[must_use]
    pub fn stack_size(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.stack_size = bytes.into();
        self
    }

    /// Sets how long [`handle_request`](TcpServer::handle_request) waits for a connection.
    /// Defaults to `None`: for ever.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
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

    /// Sets whether other sockets may listen on the same address (`SO_REUSEPORT`). Defaults to
    /// no. `SO_REUSEADDR`, so that a restart need not wait for `TIME_WAIT`, is always on.
    #[doc(alias = "allow_reuse_port")]
    #[doc(alias = "allow_reuse_address")]
    #[must_use]
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Sets a hook that decides whether a connection is served. Defaults to serving all.
    ///
    /// It runs on the connection's thread. A rejected connection is closed, with a FIN. A panic
    /// in the hook closes that connection and nothing else.
    #[must_use]
    pub fn verify_request<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection) -> bool + Send + Sync + 'static,
    {
        self.verify_request = Some(Box::new(hook));
        self
    }

    /// Sets a hook that is told of every error and panic of a handler. By default a panic is
    /// logged as an error, and an error at debug level, unless it is a routine one, which the
    /// reason in the connection's line tells.
    ///
    /// Errors include the routine ones of a network: a peer's reset, a timeout. A panic in the
    /// hook closes that connection and nothing else.
    #[must_use]
    pub fn handle_error<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection, &Failure) + Send + Sync + 'static,
    {
        self.handle_error = Some(Box::new(hook));
        self
    }

    /// Binds every address that `addr` resolves to, and makes a server that listens on them.
    ///
    /// It is [`listen`](Self::listen), then [`from_listeners`](Self::from_listeners).
    ///
    /// # Errors
    ///
    /// Those of both.
    #[doc(alias = "server_bind")]
    #[doc(alias = "server_activate")]
    pub fn bind(self, addr: impl ToSocketAddrs + fmt::Debug) -> Result<TcpServer, Error> {
        let listeners = self.listen(addr)?;
        self.from_listeners(listeners)
    }

    /// Makes a listening socket for every address that `addr` resolves to, for servers with
    /// several: collect the sockets, and pass them to [`from_listeners`](Self::from_listeners).
    ///
    /// `[::]` takes IPv4 clients, too (`IPV6_V6ONLY` off). Where a name has addresses that this
    /// machine can't listen on, because it lacks their family or they are not its own, the others
    /// are enough. `0.0.0.0` after `[::]` on the same port is left
    /// out: its clients arrive there.
    ///
    /// # Errors
    ///
    /// `addr` can't be resolved, or one of its addresses can't be bound; the error names it.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), socketserver::Error> {
    /// use socketserver::TcpServer;
    ///
    /// let builder = TcpServer::builder();
    /// let mut listeners = builder.listen("127.0.0.1:0")?;
    /// listeners.extend(builder.listen("127.0.0.2:0")?);
    /// let server = builder.from_listeners(listeners)?;
    /// assert_eq!(server.local_addrs().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn listen(&self, addr: impl ToSocketAddrs + fmt::Debug) -> Result<Vec<TcpListener>, Error> {
        let addrs: Vec<SocketAddr> = addr
            .to_socket_addrs()
            .map_err(|error| Error::new(format!("cannot resolve {addr:?}"), error))?
            .collect();
        let mut listeners = Vec::new();
        let mut bound = Vec::new();
        let mut skipped = None;
        for &one in &addrs {
            // A dual-stack socket on the same port has its clients.
            let covered = SocketAddr::from((Ipv6Addr::UNSPECIFIED, one.port()));
            if one.ip() == Ipv4Addr::UNSPECIFIED && bound.contains(&covered) {
                continue;
            }
            match sockets::listen(one, self.backlog, self.reuse_port) {
                Ok(listener) => {
                    listeners.push(listener);
                    bound.push(one);
                }
                Err(error) if sockets::is_not_of_this_machine(&error) => {
                    skipped = Some(Error::new(format!("cannot bind {one}"), error));
                }
                Err(error) => return Err(Error::new(format!("cannot bind {one}"), error)),
            }
        }
        match skipped {
            Some(error) if listeners.is_empty() => Err(error),
            None if listeners.is_empty() => Err(Error::invalid(
                format!("cannot bind {addr:?}"),
                "there is no address to it",
            )),
            _ => Ok(listeners),
        }
    }

    /// Makes a server that listens on sockets that were bound elsewhere, in an earlier process
    /// for example.
    ///
    /// They get the settings that accepted connections inherit from their listener: no delay,
    /// keep-alive, urgent data in line, and the timeouts. Whether they block is set, too: one socket
    /// alone does on Linux, for up to 20 ms. All of it stays set on a socket that others share.
    ///
    /// # Errors
    ///
    /// There is no listener, one of them is not a listening TCP socket, a setting is zero that
    /// can't be, or the process is out of descriptors.
    #[allow(clippy::wrong_self_convention)] // It is `from` as in the constructor of the server.
    pub fn from_listeners(
        self,
        listeners: impl IntoIterator<Item = TcpListener>,
    ) -> Result<TcpServer, Error> {
        self.check()?;
        let listeners: Vec<_> = listeners.into_iter().collect();
        if listeners.is_empty() {
            return Err(Error::invalid("cannot serve", "there is no listener"));
        }
        let mut addrs = Vec::new();
        for listener in &listeners {
            let addr = listener
                .local_addr()
                .map_err(|error| Error::new("cannot listen on a socket that is not IP", error))?;
            let nonblocking = !standby::suits(&listeners);
            let send_timeout = self.times.send_timeout();
            sockets::prepare(listener, self.keepalive, send_timeout, nonblocking)
                .map_err(|error| Error::new(format!("cannot listen on {addr}"), error))?;
            addrs.push(addr);
        }
        TcpServer::new(self, listeners, addrs)
    }

    /// Refuses a zero where it would mean that nobody is served.
    fn check(&self) -> Result<(), Error> {
        for (name, is_zero) in [
            ("max_connections", self.max_connections == 0),
            ("max_per_source", self.max_per_source == Some(0)),
            ("idle_timeout", self.times.idle == Some(Duration::ZERO)),
            ("write_timeout", self.times.write == Some(Duration::ZERO)),
            ("max_lifetime", self.times.lifetime == Some(Duration::ZERO)),
        ] {
            if is_zero {
                let cause = "it must be more than zero";
                return Err(Error::invalid(format!("cannot serve with {name} 0"), cause));
            }
        }
        Ok(())
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("max_connections", &self.max_connections)
            .field("at_limit", &self.at_limit)
            .field("max_per_source", &self.max_per_source)
            .field("times", &self.times)
            .field("timeout", &self.timeout)
            .field("stack_size", &self.stack_size)
            .field("keepalive", &self.keepalive)
            .field("backlog", &self.backlog)
            .field("reuse_port", &self.reuse_port)
            .field("verify_request", &self.verify_request.is_some())
            .field("handle_error", &self.handle_error.is_some())
            .finish()
    }
}

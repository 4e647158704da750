//! The server: from its settings, over serving until a stop, to its totals.

mod addresses;
mod bind;
pub(crate) mod builder;
mod drain;
pub(crate) mod running;

use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::accept::{Lead, Waited, Watch};
use crate::connection::Connection;
use crate::error::Error;
use crate::reactor::carried::Carried;
use crate::reactor::poll_loop;
use crate::state::ServerState;
use crate::state::closed::ClosedConnection;
use crate::state::handle::ServerHandle;
use crate::state::log_prefix::LogPrefix;
use crate::state::totals::Totals;
use crate::thread_limit;
use crate::worker::Crew;
use crate::worker::handler::{HandlerError, HandlerFactory, RequestHandler};
use builder::Builder;
use drain::{drain, wait_for_end};

/// A TCP server that runs a handler for each connection, each handler that may block on its own thread.
///
/// [`serve_forever`](Self::serve_forever) serves on the calling thread, [`start`](Self::start) on a new
/// one, and [`handle_request`](Self::handle_request) serves one connection.
///
/// # Examples
///
/// ```no_run
/// use socketserver::{EchoHandler, TcpServer};
///
/// fn main() -> Result<(), socketserver::Error> {
///     TcpServer::bind("127.0.0.1:7007")?.serve_forever(EchoHandler::new)?;
///     Ok(())
/// }
/// ```
pub struct TcpServer {
    settings: Builder,
    state: Arc<ServerState>,
    lead: Box<Lead>,
    /// The connection of a server without listeners, which another program has accepted.
    given: Option<Box<Connection>>,
    addrs: Vec<SocketAddr>,
}

impl TcpServer {
    /// Binds every address that `addr` resolves to, with the default settings.
    ///
    /// # Errors
    ///
    /// Fails as [`Builder::bind`] does.
    pub fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> Result<Self, Error> {
        Self::builder().bind(addr)
    }

    /// Makes a server that accepts on a socket that already listens, with the default settings.
    ///
    /// # Errors
    ///
    /// Fails as [`Builder::from_listeners`] does.
    pub fn from_listener(listener: TcpListener) -> Result<Self, Error> {
        Self::builder().from_listeners([listener])
    }

    /// Returns a builder with the default settings, to change some of them.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(
        mut settings: Builder,
        listeners: Vec<(TcpListener, bool)>,
        addrs: Vec<SocketAddr>,
    ) -> Result<Self, Error> {
        let state = ServerState::new(
            LogPrefix::new(settings.name.clone()),
            settings.timeouts,
            settings.max_connections,
            settings.max_per_source,
            settings.close_hook.take(),
        )
        .map_err(|error| Error::new("cannot make a wake-up pipe", error))?;
        #[cfg(feature = "proxy-protocol")]
        let state = state.with_proxy_protocol(settings.proxy_protocol.clone());
        let state = Arc::new(state);
        let lead = Lead::new(&state, listeners, settings.options(), settings.at_limit);
        Ok(Self {
            lead: Box::new(lead),
            state,
            settings,
            given: None,
            addrs,
        })
    }

    /// Takes over a connection that another program has accepted.
    pub(crate) fn take_over(&mut self, stream: TcpStream, peer: SocketAddr) {
        let slot = self.state.admit();
        self.given = slot.map(|slot| Connection::new(stream, peer, slot));
    }

    /// Returns the maximum number of threads for connections in this process, over all its servers.
    ///
    /// A handler that blocks keeps its thread, so this many handlers can run at the same time. Further
    /// clients wait in the backlog.
    ///
    /// The number is seven eighths of the lowest limit of the system: `kernel.threads-max`,
    /// `kernel.pid_max`, `RLIMIT_NPROC` (except for root), or a quarter of `vm.max_map_count`, because a
    /// thread takes four memory mappings. The mappings that the process has already are subtracted.
    /// Where none of these limits exists, the number is [`usize::MAX`].
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(socketserver::TcpServer::max_threads() > 0);
    /// ```
    #[must_use]
    pub fn max_threads() -> usize {
        thread_limit::max_threads()
    }

    /// Returns the address of the first listener. A port of 0 is replaced by the port that the kernel chose.
    #[doc(alias = "server_address")]
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Returns the addresses of all listeners, in the order of the listeners.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Returns a handle, by which other threads stop and monitor the server.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(Arc::clone(&self.state))
    }

    /// Serves connections until a [shutdown](ServerHandle::shutdown), and returns the totals once the
    /// last connection has ended.
    ///
    /// One idle thread of the server, the leader, waits for the next client. The leader first finds a
    /// thread that will lead next, starting one if necessary. Then the leader accepts the client, hands
    /// the lead over, and serves the connection itself. That thread, named `connection`, also calls
    /// `factory`, so a handler needs to be neither `Send` nor `Sync`. Idle threads are reused, and end
    /// after 10 s without a task. If the handlers [never block](RequestHandler::never_blocks), the leader
    /// keeps the lead, and serves one client after the other.
    ///
    /// The calling thread runs no handler. It takes the lead while no other thread can. An idle server
    /// uses no CPU. If descriptors, threads or kernel memory are short, the server warns once and leaves
    /// new connections in the backlog. It tries again after 5 ms, then after pauses that double up to 1 s.
    ///
    /// A shutdown has three steps:
    ///
    /// 1. The server closes its listeners.
    /// 2. Live connections drain: reads return the input that had arrived, then end of file.
    /// 3. After the [drain timeout](Builder::drain_timeout) the server aborts the connections that are
    ///    left. [`Totals::aborted`] counts those whose peers may have lost data.
    ///
    /// A handler may ignore even the abort. Then this function returns half a second later, and the
    /// handler's thread goes on.
    ///
    /// # Errors
    ///
    /// A listener became unusable, for example because another process that shares the socket has shut
    /// it down. The server drains its connections before it returns the error.
    ///
    /// # Examples
    ///
    /// Many threads call `factory` at the same time, so it is an `Fn`. It gives each handler a clone of
    /// what all handlers share, usually of an [`Arc`]:
    ///
    /// ```no_run
    /// # use socketserver::{Connection, RequestHandler, TcpServer};
    /// # use std::io::{self, Write};
    /// # use std::sync::Arc;
    /// struct Motd {
    ///     text: Arc<String>,
    /// }
    /// # impl RequestHandler for Motd {
    /// #     fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
    /// #         conn.write_all(self.text.as_bytes())
    /// #     }
    /// # }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let text = Arc::new(std::fs::read_to_string("/etc/motd")?);
    /// let server = TcpServer::bind("127.0.0.1:7007")?;
    /// server.serve_forever(move || Motd { text: Arc::clone(&text) })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Moving the shared value into the first handler does not compile (E0507):
    ///
    /// ```compile_fail,E0507
    /// # use socketserver::{Connection, RequestHandler, TcpServer};
    /// # use std::io::{self, Write};
    /// # use std::sync::Arc;
    /// # struct Motd {
    /// #     text: Arc<String>,
    /// # }
    /// # impl RequestHandler for Motd {
    /// #     fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
    /// #         conn.write_all(self.text.as_bytes())
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let text = Arc::new(std::fs::read_to_string("/etc/motd")?);
    /// # let server = TcpServer::bind("127.0.0.1:7007")?;
    /// server.serve_forever(move || Motd { text })?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("Arc", "Fn", "FnMut", "closure", "factory", "E0507"))]
    pub fn serve_forever<F, H>(self, factory: F) -> Result<Totals, Error>
    where
        F: Fn() -> H + Send + Sync + 'static,
        H: RequestHandler + 'static,
    {
        self.serve(HandlerFactory::new(factory))
    }

    /// Serves exactly one connection, on the calling thread, and returns how the connection ended.
    ///
    /// Returns `None` if no client connected within the [accept timeout](Builder::accept_timeout), or if
    /// a shutdown was requested before that. A connection also counts if the
    /// [verify hook](Builder::verify_request) denies it, or if a trusted proxy sends no header on it. A
    /// client that is [rejected](crate::AtLimit) at a limit does not count, unless the client is behind a
    /// trusted proxy.
    ///
    /// A shutdown while the connection is served ends its reads as in
    /// [`serve_forever`](Self::serve_forever), and never aborts the connection.
    ///
    /// # Errors
    ///
    /// A listener became unusable.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), socketserver::Error> {
    /// use socketserver::{EchoHandler, TcpServer};
    /// use std::time::Duration;
    ///
    /// let mut server = TcpServer::builder()
    ///     .accept_timeout(Duration::from_millis(10))
    ///     .bind("127.0.0.1:0")?;
    /// assert_eq!(server.handle_request(EchoHandler::new)?, None);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "handle_timeout")]
    pub fn handle_request<F, H>(&mut self, factory: F) -> Result<Option<ClosedConnection>, Error>
    where
        F: Fn() -> H,
        H: RequestHandler,
    {
        let Some(conn) = self.next_connection()? else {
            return Ok(None);
        };
        // The result includes the local address. Once the descriptor is closed, the kernel can't be asked.
        let _ = conn.local_addr();
        let hooks = &self.settings.hooks;
        let conn = match hooks.admit(conn) {
            Ok(conn) => conn,
            Err(closed) => return Ok(Some(closed)),
        };
        let (conn, wish) = hooks.serve(conn, &|| Box::new(factory()));
        let carried = Carried::new(conn, wish, Instant::now());
        let closed = poll_loop::carry(carried, &|conn, error| {
            hooks.report(conn, &HandlerError::Error(error));
        });
        Ok(Some(closed))
    }

    /// Accepts the next connection, or returns `None` after the accept timeout or at a stop.
    fn next_connection(&mut self) -> Result<Option<Box<Connection>>, Error> {
        if let Some(conn) = self.given.take() {
            return Ok(Some(conn));
        }
        if !self.lead.has_listeners() {
            return Ok(None);
        }
        let timeout = self.settings.accept_timeout;
        let watch = Watch {
            clients: true,
            until: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            is_supervisor: false,
        };
        loop {
            match self.lead.wait(watch)? {
                Waited::Client(index) => {
                    if let Some(conn) = self.lead.accept(index)? {
                        return Ok(Some(conn));
                    }
                }
                Waited::Woken => {}
                Waited::TimedOut | Waited::Stopped => return Ok(None),
            }
        }
    }

    fn serve(self, factory: HandlerFactory) -> Result<Totals, Error> {
        let Self {
            settings,
            state,
            lead,
            given,
            addrs,
        } = self;
        let prefix = &state.prefix;
        // A server without listeners serves one connection, whose own line in the log is enough.
        let is_listening = lead.has_listeners();
        for addr in addrs.iter().filter(|_| is_listening) {
            log::info!(service = prefix, address:% = addr; "{prefix}listening on {addr}");
        }
        let reactors = settings.reactors.unwrap_or_else(default_reactors);
        let crew = Crew::new(
            &state,
            settings.hooks,
            factory,
            settings.stack_size,
            reactors,
        );
        let outcome = match given {
            Some(conn) => crew
                .serve_one(conn)
                .and_then(|()| wait_for_end(&state, &crew)),
            None if is_listening => crew.supervise(lead),
            None => Ok(()),
        };
        if let Err(error) = &outcome {
            // Log the error now: draining may take seconds, and the caller sees it only afterwards.
            let cause = error.cause();
            log::error!(service = prefix, error:%; "{prefix}{error}: {cause}");
        }
        // From here on each thread ends with its connection. Letting a thousand threads go idle first,
        // and then waking each to end, would take longer than the drain.
        crew.close();
        drain(&state, &crew)?;
        crew.end_reactors();
        let totals = state.totals();
        if is_listening {
            totals.log(prefix);
        }
        outcome.map(|()| totals)
    }
}

impl fmt::Debug for TcpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpServer")
            .field("settings", &self.settings)
            .field("addrs", &self.addrs)
            .finish_non_exhaustive()
    }
}

/// Returns one reactor for every two processors, at least one.
fn default_reactors() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2))
}

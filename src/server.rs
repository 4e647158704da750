//! The server: its listeners, the loop that serves them, and its shutdown in three steps.

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

/// A TCP server that serves each connection by a handler of its own, on a thread of its own.
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
    /// A connection that was accepted elsewhere.
    given: Option<Box<Connection>>,
    addrs: Vec<SocketAddr>,
}

impl TcpServer {
    /// Binds every address that `addr` resolves to, with the default settings.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::bind`].
    pub fn bind(addr: impl ToSocketAddrs + fmt::Debug) -> Result<Self, Error> {
        Self::builder().bind(addr)
    }

    /// Makes a server of a socket that already listens, with the default settings.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::from_listeners`].
    pub fn from_listener(listener: TcpListener) -> Result<Self, Error> {
        Self::builder().from_listeners([listener])
    }

    /// Returns a builder, to change settings first.
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

    /// Takes a connection that was accepted elsewhere.
    pub(crate) fn take_over(&mut self, stream: TcpStream, peer: SocketAddr) {
        let slot = self.state.admit();
        self.given = slot.map(|slot| Connection::new(stream, peer, slot));
    }

    /// Returns how many threads a process of the library may have for its connections.
    ///
    /// A handler that blocks keeps its thread, so no more of its connections are served at the same
    /// time; others wait in the backlog. The bound keeps the process away from the limits of the
    /// system: `vm.max_map_count`, of which a thread takes four, `kernel.threads-max`,
    /// `kernel.pid_max` and `RLIMIT_NPROC`, less an eighth of each.
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

    /// Returns the address of the first listener, with the real port where 0 was asked for.
    #[doc(alias = "server_address")]
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Returns the addresses of all listeners, in their order.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Returns a handle, to stop the server from another thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(Arc::clone(&self.state))
    }

    /// Serves connections until a [shutdown](ServerHandle::shutdown) is requested, and returns
    /// when the last one has ended.
    ///
    /// One idle thread of the server waits for the next client. It makes sure that another thread
    /// waits next, accepts, and serves the connection itself. `factory` is called once for each
    /// connection, on that thread, which is named `connection`. The handler that `factory` makes
    /// needs to be neither `Send` nor `Sync`. Idle threads are reused, and end after 10 s.
    ///
    /// The calling thread supervises. It serves nobody, and holds the place of the waiting thread
    /// while there is none. An idle server uses no CPU. Out of descriptors or threads, it warns once,
    /// leaves new connections in the backlog, and tries again after 5 ms, doubling up to 1 s.
    ///
    /// A shutdown has three steps. The listeners are closed. Live connections drain: reads return
    /// what had arrived, then end of file. Those still there after the
    /// [drain timeout](Builder::drain_timeout) are aborted, and counted in [`Totals::aborted`] if they lose something by it.
    /// A handler that ignores even that keeps its thread, and is not waited for.
    ///
    /// # Errors
    ///
    /// A listener became unusable, for example because another process that shares it has shut
    /// it down. Connections are drained before the error is returned.
    ///
    /// # Examples
    ///
    /// Many threads call `factory` at the same time, so it is an `Fn`. It gives each handler a clone of what
    /// they share, mostly of an [`Arc`]:
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
    /// Giving it away, to the first handler, does not compile (E0507):
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
        let factory: HandlerFactory = Arc::new(move || Box::new(factory()));
        self.serve(factory)
    }

    /// Serves exactly one connection, on the calling thread, and returns how it ended.
    ///
    /// Returns `None` if no connection came within the [timeout](Builder::accept_timeout), or if a
    /// shutdown was requested before one did. A connection that the
    /// [verify hook](Builder::verify_request) rejects counts as the one, and so does one of a trusted proxy
    /// that has no header. A shutdown that is
    /// requested while it is served ends its reads as in [`serve_forever`](Self::serve_forever);
    /// nothing is aborted.
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
        // It is in what is returned, and found out while there is a descriptor.
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

    /// Waits for a connection, for as long as the accept timeout says.
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
        // A server of one connection is not worth more than the connection's line.
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
            Some(conn) => crew.serve_one(conn).and_then(|()| wait_for_end(&state)),
            None if is_listening => crew.supervise(lead),
            None => Ok(()),
        };
        if let Err(error) = &outcome {
            // Log the error now: draining may take seconds, and the caller sees it only afterwards.
            let cause = error.cause();
            log::error!(service = prefix, error:%; "{prefix}{error}: {cause}");
        }
        // From here on threads end with their connections. Letting them go idle first, and then
        // waking a thousand of them to end, would take longer than the drain.
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

/// One reactor for every two processors, at least one.
fn default_reactors() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2))
}

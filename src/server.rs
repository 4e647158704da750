//! The server: its listeners, the loop that serves them, and its shutdown in three steps.

pub(crate) mod at_limit;
mod bind;
pub(crate) mod builder;

use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::accept::socket_options::Options;
use crate::accept::standby::Standby;
use crate::accept::{Acceptor, Past};
use crate::connection::Connection;
use crate::error::Error;
use crate::server::at_limit::AtLimit;
use crate::server::builder::Builder;
use crate::state::handle::ServerHandle;
use crate::state::log_prefix::Tag;
use crate::state::shutdown::Phase;
use crate::state::timeouts::Times;
use crate::state::{Registry, Totals};
use crate::wake::wait;
use crate::worker::Workers;
use crate::worker::handler::RequestHandler;
use crate::worker::session::Session;

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
#[doc(alias = "TCPServer")]
#[doc(alias = "ThreadingTCPServer")]
#[doc(alias = "ThreadingMixIn")]
#[derive(Debug)]
pub struct TcpServer {
    listeners: Arc<Vec<TcpListener>>,
    addrs: Vec<SocketAddr>,
    registry: Arc<Registry>,
    session: Arc<Session>,
    options: Options,
    times: Times,
    at_limit: AtLimit,
    timeout: Option<Duration>,
    stack_size: Option<usize>,
    past: Past,
}

type Factory = Arc<dyn Fn() -> Box<dyn RequestHandler> + Send + Sync>;

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
        settings: Builder,
        listeners: Vec<TcpListener>,
        addrs: Vec<SocketAddr>,
        options: Options,
    ) -> Result<Self, Error> {
        let registry = Registry::new(
            Tag::new(settings.name),
            settings.max_connections,
            settings.max_per_source,
        )
        .map_err(|error| Error::new("cannot make a wake-up pipe", error))?;
        Ok(Self {
            listeners: Arc::new(listeners),
            addrs,
            registry: Arc::new(registry),
            session: Arc::new(Session {
                verify: settings.verify_request,
                handle_error: settings.handle_error,
            }),
            options,
            times: settings.times,
            at_limit: settings.at_limit,
            timeout: settings.timeout,
            stack_size: settings.stack_size,
            past: Past::default(),
        })
    }

    /// Takes a connection that was accepted elsewhere.
    pub(crate) fn take_over(&mut self, stream: TcpStream, peer: SocketAddr) {
        let slot = self.registry.admit();
        self.past
            .ahead
            .extend(slot.map(|slot| Connection::new(stream, peer, slot, self.times)));
    }

    /// Returns the address of the first listener, with the real port where 0 was asked for.
    #[doc(alias = "server_address")]
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Returns the addresses of all listeners, in the order in which they were bound.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Returns a handle, to stop the server from another thread.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(Arc::clone(&self.registry))
    }

    /// Serves connections until a [shutdown](ServerHandle::shutdown) is requested, and returns
    /// when the last one has ended.
    ///
    /// `factory` is called once per connection, on that connection's thread, which is named
    /// `connection`. The handler it makes needs to be neither `Send` nor `Sync`.
    ///
    /// The loop sleeps until there is something to do: an idle server uses no CPU. Out of
    /// descriptors or threads, it warns once, leaves new connections in the backlog, and
    /// tries again after 5 ms, doubling up to 1 s.
    ///
    /// A shutdown has three steps. The listeners are closed. Live connections drain: reads return
    /// what had arrived, then end of file. Those still there after the
    /// [drain timeout](Builder::drain_timeout) are cut, and counted in [`Totals::cut`].
    /// A handler that ignores even that keeps its thread, and is not waited for.
    ///
    /// # Errors
    ///
    /// A listener became unusable, for example because another process that shares it has shut
    /// it down. Connections are drained before the error is returned.
    pub fn serve_forever<F, H>(self, factory: F) -> Result<Totals, Error>
    where
        F: Fn() -> H + Send + Sync + 'static,
        H: RequestHandler + 'static,
    {
        let factory: Factory = Arc::new(move || Box::new(factory()));
        self.serve(&factory)
    }

    /// Serves exactly one connection, on the calling thread, and returns its peer.
    ///
    /// Returns `None` if no connection came within the [timeout](Builder::timeout), or if a
    /// shutdown was requested before one did. A connection that the
    /// [verify hook](Builder::verify_request) rejects counts as the one. A shutdown that is
    /// requested while it is served ends its reads as in [`serve_forever`](Self::serve_forever);
    /// nothing is cut.
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
    ///     .timeout(Duration::from_millis(10))
    ///     .bind("127.0.0.1:0")?;
    /// assert_eq!(server.handle_request(EchoHandler::new)?, None);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "handle_timeout")]
    pub fn handle_request<F, H>(&mut self, factory: F) -> Result<Option<SocketAddr>, Error>
    where
        F: Fn() -> H,
        H: RequestHandler,
    {
        let deadline = self.timeout.and_then(|t| Instant::now().checked_add(t));
        let mut acceptor = self.acceptor(None);
        let Some((conn, ())) = acceptor.next(deadline, || Ok(()))? else {
            return Ok(None);
        };
        drop(acceptor);
        let peer = conn.peer_addr();
        self.session.serve(conn, &|| Box::new(factory()));
        Ok(Some(peer))
    }

    fn serve(mut self, factory: &Factory) -> Result<Totals, Error> {
        // One that only serves a connection is not worth more than that one's line.
        let is_listening = !self.listeners.is_empty();
        for addr in self.addrs.iter().filter(|_| is_listening) {
            let tag = self.registry.tag();
            log::info!(service = tag, address:% = addr; "{tag}listening on {addr}");
        }
        let workers = Workers::new(self.stack_size);
        let outcome = self.accept_all(&workers, factory);
        if let Err(error) = &outcome {
            // Now, as the drain may take a while; the caller is told after it.
            let tag = self.registry.tag();
            let cause = error.cause();
            log::error!(service = tag, error:%; "{tag}{error}: {cause}");
        }
        let Self {
            registry,
            times,
            listeners,
            ..
        } = self;
        drop(listeners);
        // From here on threads end with their connections. To let them become idle, and then wake
        // a thousand of them to end while the process exits, takes longer than the drain.
        drop(workers);
        drain(&registry, times.drain)?;
        let totals = registry.totals();
        if is_listening {
            totals.log(registry.tag());
        }
        outcome.map(|()| totals)
    }

    /// Serves connections until a shutdown is requested, or no more can come.
    fn accept_all(&mut self, workers: &Workers, factory: &Factory) -> Result<(), Error> {
        let session = Arc::clone(&self.session);
        let standby = Arc::new(Standby::new(
            &self.listeners,
            &self.registry,
            self.options,
            self.at_limit,
            self.times,
        ));
        let mut acceptor = self.acceptor(Some(&standby));
        while let Some((conn, worker)) = acceptor.next(None, || workers.reserve())? {
            let session = Arc::clone(&session);
            let factory = Arc::clone(factory);
            let standby = Arc::clone(&standby);
            worker.run(Box::new(move || {
                let mut next = Some(conn);
                while let Some(conn) = next {
                    session.serve(conn, &*factory);
                    next = standby.next();
                }
            }));
        }
        drop(acceptor);
        // Without listeners it is what there was that ends the server.
        let registry = &self.registry;
        while registry.shutdown().phase() == Phase::Serving && !registry.empty_or_wake_up() {
            sleep_until(registry, None)?;
        }
        Ok(())
    }

    fn acceptor<'s>(&'s mut self, standby: Option<&'s Standby>) -> Acceptor<'s> {
        Acceptor::new(
            &self.listeners,
            &self.registry,
            standby,
            self.options,
            self.at_limit,
            self.times,
            &mut self.past,
        )
    }
}

/// How long threads have to close what was cut under them. One that needs longer is stuck in
/// something else than its connection.
const AFTER_CUT: Duration = Duration::from_millis(500);

/// Waits for live connections to end by themselves, and cuts them at the deadline.
fn drain(registry: &Registry, timeout: Duration) -> Result<(), Error> {
    let shutdown = registry.shutdown();
    // After an error of the loop nobody else has asked for it.
    shutdown.request(Phase::Draining);
    let deadline = Instant::now().checked_add(timeout);
    let tag = registry.tag();
    let connections = registry.live();
    if connections > 0 {
        log::info!(service = tag, connections; "{tag}draining: connections={connections}");
    }
    while !registry.empty_or_wake_up() && shutdown.phase() == Phase::Draining {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            // Without one, the slots are those of threads that still wait for a client.
            let connections = registry.live();
            if connections > 0 {
                log::warn!(
                    service = tag, connections;
                    "{tag}drain timeout of {timeout:?} is over: connections={connections}"
                );
            }
            shutdown.request(Phase::Cutting);
        } else {
            sleep_until(registry, deadline)?;
        }
    }
    if registry.empty_or_wake_up() {
        return Ok(());
    }
    let connections = registry.live();
    if connections > 0 {
        log::info!(service = tag, connections; "{tag}cutting: connections={connections}");
    }
    registry.cut();
    let deadline = Instant::now() + AFTER_CUT;
    while !registry.empty_or_wake_up() && Instant::now() < deadline {
        sleep_until(registry, Some(deadline))?;
    }
    Ok(())
}

/// Sleeps until the last connection ends, the shutdown goes a step further, or `until`.
fn sleep_until(registry: &Registry, until: Option<Instant>) -> Result<(), Error> {
    let waker = registry.shutdown().waker();
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    wait(&mut [PollFd::new(waker, PollFlags::IN)], left)
        .map_err(|error| Error::new("cannot wait for connections to end", error))?;
    waker.clear();
    Ok(())
}

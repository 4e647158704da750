//! A server on a thread of its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use crate::error::Error;
use crate::server::TcpServer;
use crate::state::handle::ServerHandle;
use crate::state::totals::Totals;
use crate::worker::handler::RequestHandler;

impl TcpServer {
    /// Serves connections as [`serve_forever`](Self::serve_forever) does, on a thread of its own: for
    /// tests, and for programs that do something else besides.
    ///
    /// # Errors
    ///
    /// The thread can't be started.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use socketserver::{EchoHandler, TcpServer};
    /// use std::net::TcpStream;
    ///
    /// let server = TcpServer::bind("127.0.0.1:0")?.start(EchoHandler::new)?;
    /// let client = TcpStream::connect(server.local_addr())?;
    /// drop(client);
    /// let totals = server.stop()?;
    /// assert_eq!(totals.aborted(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("background", "closure", "factory", "spawn"))]
    pub fn start<F, H>(self, factory: F) -> Result<RunningServer, Error>
    where
        F: Fn() -> H + Send + Sync + 'static,
        H: RequestHandler + 'static,
    {
        let addrs = self.local_addrs().to_vec();
        let handle = self.handle();
        let thread = thread::Builder::new()
            .name(self.state.prefix.thread_name("server"))
            .spawn(move || self.serve_forever(factory))
            .map_err(|error| Error::new("cannot start the thread of a server", error))?;
        Ok(RunningServer {
            addrs,
            handle,
            thread: Some(thread),
        })
    }
}

/// A server on a thread of its own, made by [`TcpServer::start`].
///
/// Dropping it asks the server to stop, and waits for that: for connections that do not end, as long as the
/// [drain timeout](crate::Builder::drain_timeout).
#[must_use = "dropping it stops the server"]
pub struct RunningServer {
    addrs: Vec<SocketAddr>,
    handle: ServerHandle,
    /// Gone once it is joined.
    thread: Option<JoinHandle<Result<Totals, Error>>>,
}

impl RunningServer {
    /// Returns the address of the first listener, with the real port where 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Returns the addresses of all listeners.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Returns a handle of the server.
    #[must_use]
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// Asks the server to stop ([`ServerHandle::shutdown`]), and waits until it has.
    ///
    /// # Errors
    ///
    /// What [`serve_forever`](TcpServer::serve_forever) returns: a listener became unusable.
    pub fn stop(mut self) -> Result<Totals, Error> {
        self.handle.shutdown();
        self.join()
    }

    /// Waits until the server has stopped, because a [handle](Self::handle) asked for it or a listener
    /// became unusable.
    ///
    /// # Errors
    ///
    /// What [`serve_forever`](TcpServer::serve_forever) returns: a listener became unusable.
    pub fn wait(mut self) -> Result<Totals, Error> {
        self.join()
    }

    fn join(&mut self) -> Result<Totals, Error> {
        let Some(thread) = self.thread.take() else {
            return Ok(self.handle.totals());
        };
        thread.join().unwrap_or_else(|_| {
            let cause = io::Error::other("its thread has panicked");
            Err(Error::new("the server has ended", cause))
        })
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.handle.shutdown();
        // Its errors are logged. Whoever wants to know calls `stop`.
        let _ = self.join();
    }
}

impl fmt::Debug for RunningServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningServer")
            .field("addrs", &self.addrs)
            .finish_non_exhaustive()
    }
}

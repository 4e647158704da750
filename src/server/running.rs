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
    /// Starts a thread that serves connections as [`serve_forever`](Self::serve_forever) does.
    ///
    /// This is for tests, and for programs whose main thread has other work. The thread is named `server`.
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

/// A server that runs on its own thread, started by [`TcpServer::start`].
///
/// Dropping this value asks the server to stop, and waits until it has stopped. If connections don't end
/// by themselves, that takes the [drain timeout](crate::Builder::drain_timeout).
#[must_use = "dropping it stops the server"]
pub struct RunningServer {
    addrs: Vec<SocketAddr>,
    handle: ServerHandle,
    /// `None` once the thread was joined.
    thread: Option<JoinHandle<Result<Totals, Error>>>,
}

impl RunningServer {
    /// Returns the address of the first listener. A port of 0 is replaced by the port that the kernel chose.
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
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// Asks the server to stop ([`ServerHandle::shutdown`]), waits until it has stopped, and returns the
    /// totals.
    ///
    /// # Errors
    ///
    /// Fails as [`serve_forever`](TcpServer::serve_forever) does: a listener became unusable.
    pub fn stop(mut self) -> Result<Totals, Error> {
        self.handle.shutdown();
        self.join()
    }

    /// Waits until the server has stopped, without asking it to stop, and returns the totals.
    ///
    /// A server stops after a request by a [handle](Self::handle), or when a listener becomes unusable.
    ///
    /// # Errors
    ///
    /// Fails as [`serve_forever`](TcpServer::serve_forever) does: a listener became unusable.
    pub fn wait(mut self) -> Result<Totals, Error> {
        self.join()
    }

    fn join(&mut self) -> Result<Totals, Error> {
        let Some(thread) = self.thread.take() else {
            return Ok(self.handle.totals());
        };
        thread.join().unwrap_or_else(|_| {
            let cause = io::Error::other("the server's thread has panicked");
            Err(Error::new("cannot serve", cause))
        })
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.handle.shutdown();
        // The server logs its own errors. A caller that needs the error calls `stop` instead.
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

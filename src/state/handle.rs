//! What other threads can do to a server: see how busy it is, and stop it.

use std::sync::Arc;
use std::time::Duration;

use crate::state::ServerState;
use crate::state::connection_handle::ConnectionHandle;
use crate::state::shutdown::Phase;
use crate::state::status::ServerStatus;
use crate::state::totals::Totals;

/// A handle to a server, to stop it from any thread.
///
/// It is cheap to clone, and usable before the server serves and after it has stopped.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use socketserver::{EchoHandler, TcpServer};
/// use std::thread;
///
/// let server = TcpServer::bind("127.0.0.1:0")?;
/// let handle = server.handle();
/// let serving = thread::spawn(move || server.serve_forever(EchoHandler::new));
///
/// handle.shutdown();
/// let totals = serving.join().expect("the server does not panic")?;
/// assert_eq!(totals.aborted(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ServerHandle {
    state: Arc<ServerState>,
}

impl ServerHandle {
    pub(crate) fn new(state: Arc<ServerState>) -> Self {
        Self { state }
    }

    /// Asks the server to stop: it accepts no more, and lets live connections come to an end.
    ///
    /// A read of a live connection still returns what had arrived, and then end of file, so that
    /// handlers end by themselves. Those that have not when the
    /// [drain timeout](crate::Builder::drain_timeout) is over are aborted.
    ///
    /// So an end of file need not be the client's. For a protocol that says goodbye, see
    /// [`Connection`](crate::Connection#saying-goodbye).
    ///
    /// The call never blocks. It may be made from any thread, a handler's too, before or while
    /// the server serves, and more than once. It does not wait for the end:
    /// [`serve_forever`](crate::TcpServer::serve_forever) returns then.
    #[doc(alias("ctrlc", "goodbye", "server_close", "signal"))]
    pub fn shutdown(&self) {
        self.state.shutdown.request(Phase::Draining);
    }

    /// Asks the server to stop, and to abort live connections at once (`shutdown(2)` of both
    /// directions) instead of waiting for the drain timeout.
    ///
    /// Otherwise it is like [`shutdown`](Self::shutdown), and may follow it. In
    /// [`handle_request`](crate::TcpServer::handle_request) nothing is aborted.
    pub fn shutdown_now(&self) {
        self.state.shutdown.request(Phase::Aborting);
    }

    /// Returns how many connections are live at this moment.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.state.connection_count()
    }

    /// Returns a handle to each live connection, the oldest first: also to those that the server goes
    /// on with after their handler ([`continue_with`](crate::Connection::continue_with)), and to
    /// those that are being closed.
    ///
    /// # Examples
    ///
    /// Closing every connection that has been silent so far:
    ///
    /// ```
    /// fn close_silent(server: &socketserver::ServerHandle) {
    ///     for conn in server.connections() {
    ///         if conn.bytes_in() == 0 && conn.age().as_secs() > 10 {
    ///             conn.close();
    ///         }
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionHandle> {
        self.state.connections()
    }

    /// Returns what the server has done so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), socketserver::Error> {
    /// use socketserver::TcpServer;
    ///
    /// let server = TcpServer::bind("127.0.0.1:0")?;
    /// assert_eq!(server.handle().totals().connections(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.state.totals()
    }

    /// Returns what the server has done so far and what it does at this moment, for monitoring.
    ///
    /// The call looks at every live connection, and holds up others that begin or end meanwhile: for about
    /// 0.1 ms with 10,000 of them. Ask once a second, not once a message.
    ///
    /// # Examples
    ///
    /// ```
    /// fn print(server: &socketserver::ServerHandle) {
    ///     let status = server.status();
    ///     let totals = status.totals();
    ///     println!("{} live, {} bytes received", status.live(), totals.bytes_in());
    /// }
    /// ```
    #[must_use]
    pub fn status(&self) -> ServerStatus {
        self.state.status()
    }

    /// Returns whether every loop of the server responds: wakes the loop that accepts, each reactor,
    /// and the thread in `serve_forever`, and waits for their responses for up to `timeout`.
    ///
    /// It is for watchdogs. A server that is at its limit, short of something or draining responds. A
    /// server that does not serve yet, has stopped, or serves in
    /// [`handle_request`](crate::TcpServer::handle_request) does not.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use socketserver::{EchoHandler, TcpServer};
    /// use std::{thread, time::Duration};
    ///
    /// let server = TcpServer::bind("127.0.0.1:0")?;
    /// let handle = server.handle();
    /// assert!(!handle.is_responsive(Duration::from_millis(10)));
    ///
    /// let serving = thread::spawn(move || server.serve_forever(EchoHandler::new));
    /// assert!(handle.is_responsive(Duration::from_secs(10)));
    ///
    /// handle.shutdown();
    /// serving.join().expect("the server does not panic")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_responsive(&self, timeout: Duration) -> bool {
        self.state.is_responsive(timeout)
    }

    /// Returns how many connections may be live at the same time.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.state.max_connections()
    }

    /// Changes how many connections may be live at the same time.
    ///
    /// Raising the limit admits clients that wait. Lowering it ends no connection; the server admits
    /// no more until fewer are live. At 0 it admits nobody.
    pub fn set_max_connections(&self, limit: usize) {
        self.state.set_max_connections(limit);
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state.shutdown.phase()
    }

    pub(crate) fn state(&self) -> &Arc<ServerState> {
        &self.state
    }
}

//! The handle by which other threads stop and monitor a server.

use std::sync::Arc;
use std::time::Duration;

use crate::state::ServerState;
use crate::state::connection_handle::ConnectionHandle;
use crate::state::shutdown::Phase;
use crate::state::status::ServerStatus;
use crate::state::totals::Totals;

/// A handle to a server, to stop and monitor it from any thread.
///
/// A handle is cheap to clone. It can be used before the server serves, and after it has stopped.
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

    /// Asks the server to stop accepting, and to let live connections end by themselves.
    ///
    /// Reads of a live connection return the input that had arrived, then end of file, so that its handler
    /// ends as if the client had half-closed. When the [drain timeout](crate::Builder::drain_timeout) is
    /// over, the server aborts the connections that are left. If a protocol has a last message, such as a
    /// goodbye, see [`Connection`](crate::Connection#saying-goodbye).
    ///
    /// The call never blocks. Any thread may call it, including a handler's, before or while the server
    /// serves, and more than once. It does not wait for the end:
    /// [`serve_forever`](crate::TcpServer::serve_forever) returns when the last connection has ended.
    #[doc(alias("ctrlc", "goodbye", "server_close", "signal"))]
    pub fn shutdown(&self) {
        self.state.shutdown.request(Phase::Draining);
    }

    /// Asks the server to stop, and to abort live connections at once (`shutdown(2)` of both directions)
    /// instead of waiting for the drain timeout.
    ///
    /// In other respects the call is like [`shutdown`](Self::shutdown), and may follow it.
    /// [`handle_request`](crate::TcpServer::handle_request) never aborts its connection.
    pub fn shutdown_now(&self) {
        self.state.shutdown.request(Phase::Aborting);
    }

    /// Returns the number of live connections at this moment.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.state.connection_count()
    }

    /// Returns a handle to each live connection, the oldest first.
    ///
    /// These include connections without a handler: those in a reactor
    /// ([`continue_with`](crate::Connection::continue_with)), and those that are closing.
    ///
    /// # Examples
    ///
    /// Closing every connection that has sent nothing in its first 10 seconds:
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

    /// Returns the totals so far. The bytes are those of connections that have ended; [`status`](Self::status)
    /// includes those of live ones.
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

    /// Returns a snapshot for monitoring: the totals so far, and the live connections, limits and threads.
    ///
    /// The call looks at every live connection, which takes about 0.1 ms with 10,000 of them. No connection
    /// can begin or end meanwhile. So call it once a second, not once a message.
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

    /// Returns whether every loop of the server responds within `timeout`, for watchdogs.
    ///
    /// Wakes the leader, each reactor and the thread in `serve_forever`, and waits until all have woken up.
    /// A server responds also at its limit, during a shortage and while it drains. A server does not respond
    /// before it serves, after it has stopped, or in
    /// [`handle_request`](crate::TcpServer::handle_request).
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

    /// Returns the maximum number of live connections.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.state.max_connections()
    }

    /// Changes the maximum number of live connections, from the next client on.
    ///
    /// A higher limit admits clients that wait in the backlog. A lower limit ends no connection, but the
    /// server admits no client until fewer connections than the limit are live. At 0 it admits no client.
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

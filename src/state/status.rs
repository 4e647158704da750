//! The status of a server at one moment, in numbers that agree with each other.

use crate::state::stage::Stage;
use crate::state::totals::Totals;

/// A snapshot of a server: its totals so far, and its live connections, limits and threads.
///
/// [`ServerHandle::status`](crate::ServerHandle::status) returns it. The numbers of connections and bytes
/// are of the same moment: the accepted connections are those that have ended plus those that are
/// [live](Self::live).
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), socketserver::Error> {
/// use socketserver::{Stage, TcpServer};
///
/// let server = TcpServer::builder().max_connections(50).bind("127.0.0.1:0")?;
/// let status = server.handle().status();
/// assert_eq!((status.live(), status.max_connections()), (0, 50));
/// assert_eq!(status.live_in(Stage::Reactor), 0);
/// assert_eq!(status.totals().bytes_in(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ServerStatus {
    pub(super) totals: Totals,
    pub(super) live: [usize; Stage::ALL.len()],
    pub(super) max_connections: usize,
    pub(super) max_per_source: Option<usize>,
    pub(super) threads: usize,
    pub(super) reactors: usize,
}

impl ServerStatus {
    /// Returns the totals so far. Unlike in [`ServerHandle::totals`](crate::ServerHandle::totals), the bytes
    /// include those of live connections. They never decrease.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns the number of live connections: accepted to be served, and not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.iter().sum()
    }

    /// Returns the number of live connections in this stage. For [`Stage::Ended`] it is 0.
    #[must_use]
    pub fn live_in(&self, stage: Stage) -> usize {
        self.live[stage as usize]
    }

    /// Returns the maximum number of live connections.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Returns the maximum number of live connections of one source, or `None` without a
    /// [limit](crate::Builder::max_per_source).
    #[must_use]
    pub fn max_per_source(&self) -> Option<usize> {
        self.max_per_source
    }

    /// Returns the number of threads for handlers, including idle ones. The thread in
    /// [`serve_forever`](crate::TcpServer::serve_forever) and those of the [reactors](Self::reactors) don't
    /// count.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Returns the number of running reactors, each on its own thread. A reactor starts with its first
    /// connection.
    #[must_use]
    pub fn reactors(&self) -> usize {
        self.reactors
    }
}

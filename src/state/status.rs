//! What a server does at one moment, in numbers that agree with each other.

use crate::state::stage::Stage;
use crate::state::totals::Totals;

/// What a server has done so far, and what it does at this moment: a snapshot, by
/// [`ServerHandle::status`](crate::ServerHandle::status).
///
/// Its numbers are of the same moment: the connections that were accepted are those that have ended and
/// those that are [live](Self::live).
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
    /// Returns what the server has done so far. Unlike in
    /// [`ServerHandle::totals`](crate::ServerHandle::totals), the bytes include those of live connections,
    /// and never become fewer.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns how many connections have not ended.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.iter().sum()
    }

    /// Returns how many live connections are in this stage: none in [`Stage::Ended`].
    #[must_use]
    pub fn live_in(&self, stage: Stage) -> usize {
        self.live[stage as usize]
    }

    /// Returns how many connections may be live at the same time.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Returns how many connections of one source may be live at the same time, if there is a
    /// [limit](crate::Builder::max_per_source).
    #[must_use]
    pub fn max_per_source(&self) -> Option<usize> {
        self.max_per_source
    }

    /// Returns how many threads the server has for handlers, idle ones included: without the thread in
    /// [`serve_forever`](crate::TcpServer::serve_forever), and without those of the
    /// [reactors](Self::reactors).
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Returns how many reactors run, each on a thread of its own. A reactor starts with its first
    /// connection.
    #[must_use]
    pub fn reactors(&self) -> usize {
        self.reactors
    }
}

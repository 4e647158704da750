//! The summary of a connection that has ended.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::state::close_reason::CloseReason;
use crate::state::record::Record;

/// The summary of a connection that has ended: its addresses, bytes, duration and reason.
///
/// The hook of [`Builder::on_close`](crate::Builder::on_close) receives it, and
/// [`TcpServer::handle_request`](crate::TcpServer::handle_request) returns it.
///
/// # Examples
///
/// ```
/// use socketserver::{ClosedConnection, TcpServer};
///
/// fn account(closed: &ClosedConnection) {
///     let (peer, bytes) = (closed.peer_addr(), closed.bytes_in() + closed.bytes_out());
///     println!("{peer}: {bytes} bytes in {:?}, then {}", closed.duration(), closed.reason());
/// }
///
/// let builder = TcpServer::builder().on_close(account);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedConnection {
    id: u64,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    bytes_in: u64,
    bytes_out: u64,
    duration: Duration,
    reason: CloseReason,
}

impl ClosedConnection {
    pub(crate) fn new(record: &Record, reason: CloseReason) -> Self {
        // A connection that was rejected has no number, and its record was only made for the log line, so
        // the record's age says nothing.
        let duration = match record.id {
            0 => Duration::ZERO,
            _ => record.accepted.elapsed(),
        };
        Self {
            id: record.id,
            peer: record.peer(),
            local: record.local(),
            bytes_in: record.bytes_in(),
            bytes_out: record.bytes_out(),
            duration,
            reason,
        }
    }

    /// Returns the number of the connection: see [`Connection::id`](crate::Connection::id).
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the number, or `None` for a rejected connection, which has none.
    pub(crate) fn logged_id(&self) -> Option<u64> {
        (self.id > 0).then_some(self.id)
    }

    /// Returns the address of the peer: see [`Connection::peer_addr`](crate::Connection::peer_addr).
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Returns the address that the peer connected to, or `None` if the connection was reset before the
    /// server looked up the address.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Returns the number of bytes that were received.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Returns the number of bytes that the kernel has taken for sending. The peer may have received fewer.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// Returns the time from `accept(2)` to `close(2)`, which includes the lingering close.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Returns the reason for the end of the connection.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        self.reason
    }
}

/// Shows the text of the connection's line in the log.
impl fmt::Display for ClosedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            peer,
            bytes_in,
            bytes_out,
            reason,
            ..
        } = self;
        if let Some(id) = self.logged_id() {
            write!(f, "id={id} ")?;
        }
        write!(f, "peer={peer} ")?;
        if let Some(local) = self.local {
            write!(f, "local={local} ")?;
        }
        let seconds = self.duration.as_secs_f64();
        write!(
            f,
            "bytes_in={bytes_in} bytes_out={bytes_out} duration={seconds:.6} reason={reason}"
        )
    }
}

/// A hook that receives each connection that has ended.
pub(crate) struct CloseHook(pub(crate) Box<dyn Fn(&ClosedConnection) + Send + Sync>);

impl fmt::Debug for CloseHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CloseHook")
    }
}

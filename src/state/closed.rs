//! What is told of a connection that has ended.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::state::close_reason::CloseReason;
use crate::state::record::Record;

/// A connection that has ended: who it was with, what went over it, and why it ended.
///
/// [`Builder::on_close`](crate::Builder::on_close) is told of each, and
/// [`TcpServer::handle_request`](crate::TcpServer::handle_request) returns it.
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
        // A connection that was accepted only to be rejected has neither number nor time of its own.
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

    /// Returns the number that the connection had: see [`Connection::id`](crate::Connection::id).
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the number, unless the connection had none because it was rejected.
    pub(crate) fn logged_id(&self) -> Option<u64> {
        (self.id > 0).then_some(self.id)
    }

    /// Returns the address of the peer.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Returns the address that the peer connected to, unless the peer had reset the connection before
    /// anybody asked.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Returns how many bytes were received.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Returns how many bytes were handed to the kernel to be sent.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// Returns how long the connection lasted, from its acceptance to its close, with the lingering time.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Returns why the connection ended.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        self.reason
    }
}

/// Shows what the line in the log shows.
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

//! The reasons for the end of a connection, and the line that a connection leaves in the log.

use std::fmt;

use crate::state::closed::ClosedConnection;
use crate::state::log_prefix::LogPrefix;
use crate::state::record::Record;

/// The reason for the end of a connection, as the connection's line in the log shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// `done`: the handler returned without having read the peer's end of file.
    Done,
    /// `eof`: the peer half-closed the connection (FIN).
    Eof,
    /// `reset`: the peer reset the connection, or vanished, so that the kernel ended the connection.
    Reset,
    /// `idle`: the peer sent nothing for the [idle timeout](crate::Builder::idle_timeout).
    Idle,
    /// `stalled`: the peer read nothing for the [write timeout](crate::Builder::write_timeout).
    Stalled,
    /// `deadline`: the handler's [deadline](crate::Connection::set_deadline) passed.
    Deadline,
    /// `lifetime`: the connection reached its [maximum lifetime](crate::Builder::max_lifetime).
    Lifetime,
    /// `closed`: [`ConnectionHandle::close`](crate::ConnectionHandle::close) was called.
    Closed,
    /// `aborted`: the handler or a handle [reset](crate::ConnectionHandle::abort) the connection.
    Aborted,
    /// `shutdown`: the server was asked to stop.
    Shutdown,
    /// `denied`: the [verify hook](crate::Builder::verify_request) returned `false`.
    Denied,
    /// `error`: the handler returned an error that was not the connection's own.
    Error,
    /// `panic`: the handler or a hook panicked.
    Panic,
    /// `proxy-header`: a trusted proxy sent no PROXY header, or a malformed or late one
    /// (`Builder::proxy_protocol`, with the feature `proxy-protocol`).
    ProxyHeader,
    /// `limit`: the connection was rejected at a limit.
    Limit,
}

impl CloseReason {
    /// The number of reasons.
    pub(crate) const COUNT: usize = Self::Limit as usize + 1;

    const ALL: [Self; Self::COUNT] = [
        Self::Done,
        Self::Eof,
        Self::Reset,
        Self::Idle,
        Self::Stalled,
        Self::Deadline,
        Self::Lifetime,
        Self::Closed,
        Self::Aborted,
        Self::Shutdown,
        Self::Denied,
        Self::Error,
        Self::Panic,
        Self::ProxyHeader,
        Self::Limit,
    ];

    /// Returns every reason, in a fixed order.
    ///
    /// # Examples
    ///
    /// ```
    /// use socketserver::{CloseReason, Totals};
    ///
    /// fn print(totals: &Totals) {
    ///     for reason in CloseReason::all() {
    ///         println!("{reason}: {}", totals.closed_by(reason));
    ///     }
    /// }
    /// ```
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    /// Returns the reason to log: `aborted` if this connection alone was aborted, otherwise this reason. The
    /// totals count the same reason.
    pub(crate) fn unless_aborted(self, record: &Record) -> Self {
        if record.is_aborted_alone() {
            Self::Aborted
        } else {
            self
        }
    }

    /// Returns whether the server asked the connection to end, so that reads return end of file.
    pub(crate) fn is_by_server(self) -> bool {
        matches!(self, Self::Lifetime | Self::Closed | Self::Shutdown)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Done => "done",
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Deadline => "deadline",
            Self::Lifetime => "lifetime",
            Self::Closed => "closed",
            Self::Aborted => "aborted",
            Self::Shutdown => "shutdown",
            Self::Denied => "denied",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::ProxyHeader => "proxy-header",
            Self::Limit => "limit",
        })
    }
}

/// Logs the line that every connection leaves at its end.
pub(crate) fn log_close(prefix: &LogPrefix, closed: &ClosedConnection) {
    let (peer, reason) = (closed.peer_addr(), closed.reason());
    let id = closed.logged_id();
    let local = closed.local_addr().map(|local| local.to_string());
    let (bytes_in, bytes_out) = (closed.bytes_in(), closed.bytes_out());
    let duration = closed.duration().as_secs_f64();
    log::debug!(
        service = prefix, id, peer:%, local, bytes_in, bytes_out, duration, reason:%;
        "{prefix}{closed}"
    );
}

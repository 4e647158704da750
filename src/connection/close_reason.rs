//! Why a connection ended: the reason in its log line.

use crate::state::log_prefix::LogPrefix;
use crate::state::record::Record;

/// The reason for the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The handler was done before the peer was.
    Done,
    /// The peer half-closed.
    Eof,
    /// The peer reset the connection, or vanished.
    Reset,
    /// The peer sent nothing for the idle timeout.
    Idle,
    /// The peer took nothing for the write timeout.
    Stalled,
    /// The deadline that the handler had set was over.
    Deadline,
    /// The connection reached its maximum lifetime.
    Lifetime,
    /// A handle of the connection asked for its end.
    Closed,
    /// The connection was reset by its handler or by a handle.
    Aborted,
    /// The server was asked to stop.
    Shutdown,
    /// The verify hook denied the connection.
    Denied,
    /// The handler, or a hook, returned an error.
    Error,
    /// The handler, or a hook, panicked.
    Panic,
    /// A limit was reached, so the connection was rejected.
    Limit,
}

impl CloseReason {
    fn name(self) -> &'static str {
        match self {
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
            Self::Denied => "rejected",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Limit => "limit",
        }
    }

    /// Returns whether the server ended the connection, on its own account.
    pub(crate) fn is_the_servers(self) -> bool {
        matches!(self, Self::Lifetime | Self::Closed | Self::Shutdown)
    }

    /// Logs the one line that every connection leaves.
    pub(crate) fn log(self, prefix: &LogPrefix, record: &Record) {
        let peer = record.peer;
        let (bytes_in, bytes_out) = (record.bytes_in(), record.bytes_out());
        // A connection that was accepted only to be rejected has no time of its own.
        let seconds = match self {
            Self::Limit => 0.0,
            _ => record.accepted.elapsed().as_secs_f64(),
        };
        let reason = self.name();
        log::debug!(
            service = prefix, peer:%, "in" = bytes_in, out = bytes_out, duration = seconds, reason;
            "{prefix}peer={peer} in={bytes_in} out={bytes_out} duration={seconds:.6} reason={reason}"
        );
    }
}

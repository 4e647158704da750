//! The end of a connection: the requests for it, its time, and its reason.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Connection;
use super::progress::Progress;
use crate::state::close_reason::CloseReason;
use crate::state::shutdown::Phase;
use crate::state::timeouts::Timeouts;

impl Connection {
    /// Sends a FIN (`shutdown(2)`, `SHUT_WR`), and leaves this side open for reading.
    ///
    /// The peer reads an end of file after everything that was written. Later writes fail with
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe). A second call does nothing.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected): the peer has reset the connection.
    #[doc(alias("FIN", "half_close"))]
    pub fn shutdown_write(&self) -> io::Result<()> {
        // Once the peer has closed as well, the kernel would fail a second `shutdown(2)`.
        if self.has_sent_fin.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.stream().shutdown(Shutdown::Write)
    }

    /// Resets the connection (RST), as [`ConnectionHandle::abort`](crate::ConnectionHandle::abort) does.
    ///
    /// What the peer has not received yet is lost. Call this if the peer breaks the protocol, or if it must
    /// not take an incomplete reply for a complete one.
    #[doc(alias("RST", "reset"))]
    pub fn abort(&self) {
        self.handle().abort();
    }

    /// Returns whether the server is ending the connection: because a shutdown or a
    /// [close](crate::ConnectionHandle::close) was requested, or because its
    /// [lifetime](crate::Builder::max_lifetime) is over.
    ///
    /// A read returns end of file then. A handler that only writes calls this method, and returns once the
    /// answer is true. The reason in the log is then `shutdown`, `closed` or `lifetime` instead of `done`.
    ///
    /// # Examples
    ///
    /// ```
    /// use socketserver::Connection;
    /// use std::io::{self, Write};
    ///
    /// fn count(conn: &mut Connection) -> io::Result<()> {
    ///     let mut number = 0;
    ///     while !conn.is_closing() {
    ///         writeln!(conn, "{number}")?;
    ///         number += 1;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[doc(alias("goodbye", "eof", "UnexpectedEof"))]
    #[must_use]
    pub fn is_closing(&self) -> bool {
        let closing = self.should_close();
        if closing {
            self.update_progress(Progress::inform_handler);
        }
        closing
    }

    /// Returns whether the server is ending the connection. Unlike [`is_closing`](Self::is_closing) this
    /// does not note that the handler knows.
    pub(crate) fn should_close(&self) -> bool {
        self.is_asked_to_close() || self.lifetime_end().is_some_and(|end| Instant::now() >= end)
    }

    /// Returns whether a shutdown of the server, or the close of this connection, was requested.
    pub(crate) fn is_asked_to_close(&self) -> bool {
        self.server().phase() != Phase::Serving || self.record.control.is_closing()
    }

    pub(super) fn lifetime_end(&self) -> Option<Instant> {
        self.record.accepted.checked_add(self.lifetime?)
    }

    /// Returns the server's reason, now, for ending the connection. Meaningful only if the server does.
    pub(crate) fn reason_to_close(&self) -> CloseReason {
        match self.server().phase() {
            _ if self.record.is_aborted_alone() => CloseReason::Aborted,
            Phase::Serving if self.record.control.is_closing() => CloseReason::Closed,
            Phase::Serving => CloseReason::Lifetime,
            Phase::Draining | Phase::Aborting => CloseReason::Shutdown,
        }
    }

    /// Returns the reason for the end of a connection whose stream has failed with `error`.
    pub(crate) fn reason_of(&self, error: &io::Error) -> CloseReason {
        if self.record.is_aborted() {
            // We aborted the connection, so this is no reset by the peer.
            self.reason_to_close()
        } else if is_the_peers(error.kind()) {
            CloseReason::Reset
        } else {
            CloseReason::Error
        }
    }

    /// Notes the reason for the end of the connection.
    pub(crate) fn end(&self, reason: CloseReason) {
        self.update_progress(|progress| progress.end(reason));
    }

    /// Returns the reason for the end of the connection. Its handler must be done.
    pub(crate) fn reason(&self) -> CloseReason {
        match self.progress().reason(self.reason_to_close()) {
            CloseReason::Panic => CloseReason::Panic,
            // After an abort the handler's calls fail, so another reason would only be a consequence.
            reason => reason.unless_aborted(&self.record),
        }
    }

    /// Returns when the server stops delivering output to the peer of a connection without a handler,
    /// because its close was requested.
    pub(crate) fn close_end(&self) -> Option<Instant> {
        let since = self.record.control.closing_since()?;
        let Timeouts {
            drain, lingering, ..
        } = *self.timeouts();
        since.checked_add(drain.max(lingering))
    }

    /// Ends the handler's part: closes the pipe of its waits, and makes its deadline the end of the
    /// connection's lifetime.
    pub(crate) fn leave_handler(&mut self) {
        self.is_handler_done = true;
        self.record.control.release();
        let deadline = self.lock_limits().deadline.take();
        let age = deadline.map(|deadline| deadline.saturating_duration_since(self.accepted()));
        self.lifetime = self.lifetime.into_iter().chain(age).min();
    }
}

/// Returns whether an error of a stream means that the peer has reset the connection or vanished.
fn is_the_peers(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            // Keep-alive or retransmission gave up, or the path to the peer is down.
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
    )
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_peer_that_is_gone_or_out_of_reach_is_no_error_of_the_server() {
        let is_the_peers = |errno: Errno| is_the_peers(io::Error::from(errno).kind());
        for errno in [
            Errno::CONNRESET,
            Errno::PIPE,
            Errno::TIMEDOUT,
            Errno::HOSTUNREACH,
            Errno::NETUNREACH,
            Errno::NETDOWN,
        ] {
            assert!(is_the_peers(errno), "{errno:?}");
        }
        for errno in [Errno::NOBUFS, Errno::NOMEM, Errno::PERM, Errno::NOSYS] {
            assert!(!is_the_peers(errno), "{errno:?}");
        }
    }
}

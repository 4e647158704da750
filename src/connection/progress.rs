//! How far a connection has come towards its end, as its reads and writes have noticed. Pure.

use crate::state::close_reason::CloseReason;

/// The state of a connection while a handler has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Neither side has ended the connection.
    Open,
    /// The handler knows, from `is_closing` or `wait`, that the server ends the connection.
    HandlerInformed,
    /// A read has noticed that the server ends the connection. Of the input that had arrived by then,
    /// `unread` bytes are still to be read. `informed`: the handler knows, as in [`HandlerInformed`](Self::HandlerInformed).
    Draining { unread: u64, informed: bool },
    /// The connection has ended. `silent`: the server ended the connection, and the peer sent nothing
    /// within the drain grace.
    Ended { reason: CloseReason, silent: bool },
}

impl Progress {
    /// Notes the end of the connection. A later reason replaces an earlier one.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        let silent = self.is_silent();
        *self = Self::Ended { reason, silent };
    }

    /// Notes that the server ends the connection and that the peer is silent. If the peer had
    /// half-closed before, this remains the reason.
    pub(crate) fn end_silent(&mut self, why: CloseReason) {
        let reason = match *self {
            Self::Ended {
                reason: CloseReason::Eof,
                ..
            } => CloseReason::Eof,
            _ => why,
        };
        *self = Self::Ended {
            reason,
            silent: true,
        };
    }

    /// Notes that the handler knows that the server ends the connection.
    pub(crate) fn inform_handler(&mut self) {
        match self {
            Self::Open => *self = Self::HandlerInformed,
            Self::Draining { informed, .. } => *informed = true,
            Self::HandlerInformed | Self::Ended { .. } => {}
        }
    }

    /// Notes how many unread bytes had arrived when a read noticed that the server ends the connection,
    /// unless another thread has noted this before.
    pub(crate) fn drain(&mut self, arrived: u64) {
        if !matches!(self, Self::Draining { .. }) {
            *self = Self::Draining {
                unread: arrived,
                informed: *self == Self::HandlerInformed,
            };
        }
    }

    /// Notes that this many bytes were received.
    pub(crate) fn received(&mut self, n: u64) {
        match self {
            // Two threads that read at the same time may receive more than had arrived.
            Self::Draining { unread, .. } => *unread = unread.saturating_sub(n),
            // A handler that reads on after a timeout goes on with its connection.
            Self::Ended {
                reason: CloseReason::Idle | CloseReason::Stalled | CloseReason::Deadline,
                ..
            } => *self = Self::Open,
            Self::Open | Self::HandlerInformed | Self::Ended { .. } => {}
        }
    }

    /// Returns the reason for the end of a connection whose handler is done. `why` is the server's
    /// current reason for ending the connection.
    pub(crate) fn reason(self, why: CloseReason) -> CloseReason {
        match self {
            Self::Open
            | Self::Draining {
                informed: false, ..
            } => CloseReason::Done,
            Self::HandlerInformed | Self::Draining { informed: true, .. } => why,
            Self::Ended { reason, .. } => reason,
        }
    }

    pub(crate) fn is_silent(self) -> bool {
        matches!(self, Self::Ended { silent: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHY: CloseReason = CloseReason::Shutdown;

    #[test]
    fn a_handler_that_reads_on_after_a_timeout_is_done_in_the_end() {
        let mut progress = Progress::Open;
        progress.end(CloseReason::Idle);
        assert_eq!(progress.reason(WHY), CloseReason::Idle);
        progress.received(1);
        assert_eq!(progress.reason(WHY), CloseReason::Done);
    }

    #[test]
    fn what_had_arrived_is_read_to_its_end_and_counted_once() {
        let mut progress = Progress::Open;
        progress.drain(10);
        progress.received(4);
        progress.drain(99);
        assert_eq!(unread(progress), 6);
        progress.received(7);
        assert_eq!(unread(progress), 0);
    }

    fn unread(progress: Progress) -> u64 {
        match progress {
            Progress::Draining { unread, .. } => unread,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_handler_that_reads_on_and_knows_of_the_end_ends_for_the_servers_reason() {
        let mut progress = Progress::Open;
        progress.drain(1);
        assert_eq!(progress.reason(WHY), CloseReason::Done);
        progress.inform_handler();
        progress.received(1);
        assert_eq!(progress.reason(WHY), WHY);
        let mut progress = Progress::Open;
        progress.inform_handler();
        progress.drain(1);
        assert_eq!(progress.reason(WHY), WHY);
    }

    #[test]
    fn a_peers_own_end_remains_the_reason_at_a_stop() {
        let mut progress = Progress::Open;
        progress.end(CloseReason::Eof);
        progress.end_silent(WHY);
        assert_eq!(progress.reason(WHY), CloseReason::Eof);
    }

    #[test]
    fn a_handler_that_knows_of_the_end_ends_for_the_servers_reason() {
        let mut progress = Progress::Open;
        progress.inform_handler();
        assert_eq!(progress.reason(WHY), WHY);
        progress.end(CloseReason::Panic);
        progress.inform_handler();
        assert_eq!(progress.reason(WHY), CloseReason::Panic);
    }
}

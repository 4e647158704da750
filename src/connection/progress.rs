//! How far a connection is on the way to its end, as its reads and writes have found out. Pure.

use crate::state::close_reason::CloseReason;

/// The state of a connection while a handler has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Neither side has ended the connection.
    Open,
    /// The handler has asked, and was told that the server ends the connection.
    Told,
    /// A read has noticed that the server ends the connection. This much of the input that had
    /// arrived by then is still to be read. `told`: the handler has asked as well.
    Draining { unread: u64, told: bool },
    /// The connection has ended. `silent`: when the server ended it, the peer had sent nothing.
    Ended { reason: CloseReason, silent: bool },
}

impl Progress {
    /// Notes the end of the connection. A later reason replaces an earlier one.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        let silent = self.is_silent();
        *self = Self::Ended { reason, silent };
    }

    /// Notes that the server ends the connection and that the peer is silent. A peer's own end
    /// that came before remains the reason.
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

    /// Notes that the handler was told of the end.
    pub(crate) fn tell(&mut self) {
        match self {
            Self::Open => *self = Self::Told,
            Self::Draining { told, .. } => *told = true,
            Self::Told | Self::Ended { .. } => {}
        }
    }

    /// Notes what had arrived when the server ended the connection, unless another thread has.
    pub(crate) fn drain(&mut self, arrived: u64) {
        if !matches!(self, Self::Draining { .. }) {
            *self = Self::Draining {
                unread: arrived,
                told: *self == Self::Told,
            };
        }
    }

    /// Notes that this many bytes were received.
    pub(crate) fn received(&mut self, n: u64) {
        match self {
            // Two threads may have read at the same time.
            Self::Draining { unread, .. } => *unread = unread.saturating_sub(n),
            // A handler may read on after a timeout, and then that was not the end.
            Self::Ended {
                reason: CloseReason::Idle | CloseReason::Stalled | CloseReason::Deadline,
                ..
            } => *self = Self::Open,
            Self::Open | Self::Told | Self::Ended { .. } => {}
        }
    }

    /// Returns the reason for the end, now that the handler is done. `why` is the server's
    /// reason to end connections at this time.
    pub(crate) fn reason(self, why: CloseReason) -> CloseReason {
        match self {
            Self::Open | Self::Draining { told: false, .. } => CloseReason::Done,
            Self::Told | Self::Draining { told: true, .. } => why,
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
    fn a_handler_that_is_told_of_the_end_leaves_because_of_it_whatever_it_reads() {
        let mut progress = Progress::Open;
        progress.drain(1);
        assert_eq!(progress.reason(WHY), CloseReason::Done);
        progress.tell();
        progress.received(1);
        assert_eq!(progress.reason(WHY), WHY);
        let mut progress = Progress::Open;
        progress.tell();
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
    fn a_handler_that_was_told_of_the_end_ends_for_the_servers_reason() {
        let mut progress = Progress::Open;
        progress.tell();
        assert_eq!(progress.reason(WHY), WHY);
        progress.end(CloseReason::Panic);
        progress.tell();
        assert_eq!(progress.reason(WHY), CloseReason::Panic);
    }
}

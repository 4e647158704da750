//! Why a connection ended: the reason in its log line.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::state::log_prefix::Tag;

/// The last thing that happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing yet; after the handler: it was done before the peer was.
    Done,
    /// The peer half-closed.
    Eof,
    /// The peer reset the connection, or vanished.
    Reset,
    /// The peer sent nothing for the idle timeout.
    Idle,
    /// The peer took nothing for the write timeout.
    Stalled,
    /// Its lifetime was over.
    Lifetime,
    /// The server was asked to stop.
    Shutdown,
    /// The verify hook said no.
    Rejected,
    /// The handler, or a hook, returned an error.
    Error,
    /// The handler, or a hook, panicked.
    Panic,
    /// It was refused, at a limit.
    Limit,
}

impl Ending {
    const ALL: [(Self, &str); 11] = [
        (Self::Done, "done"),
        (Self::Eof, "eof"),
        (Self::Reset, "reset"),
        (Self::Idle, "idle"),
        (Self::Stalled, "stalled"),
        (Self::Lifetime, "lifetime"),
        (Self::Shutdown, "shutdown"),
        (Self::Rejected, "rejected"),
        (Self::Error, "error"),
        (Self::Panic, "panic"),
        (Self::Limit, "limit"),
    ];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Logs the one line that every connection leaves.
    pub(crate) fn log(self, tag: &Tag, peer: SocketAddr, bytes: (u64, u64), duration: Duration) {
        let (bytes_in, bytes_out) = bytes;
        let seconds = duration.as_secs_f64();
        let reason = self.name();
        log::debug!(
            service = tag, peer:%, "in" = bytes_in, out = bytes_out, duration = seconds, reason;
            "{tag}peer={peer} in={bytes_in} out={bytes_out} duration={seconds:.6} reason={reason}"
        );
    }
}

/// An [`Ending`] that may be set through a shared reference.
#[derive(Debug)]
pub(crate) struct EndingCell(AtomicU8);

// Relaxed: the ending publishes nothing but itself.
impl EndingCell {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(Ending::Done as u8))
    }

    pub(crate) fn get(&self) -> Ending {
        Ending::ALL[usize::from(self.0.load(Ordering::Relaxed))].0
    }

    pub(crate) fn set(&self, ending: Ending) {
        self.0.store(ending as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_stands_at_its_own_index() {
        for (index, (ending, _)) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, index);
        }
    }

    #[test]
    fn a_cell_returns_what_was_set() {
        let cell = EndingCell::new();
        assert_eq!(cell.get(), Ending::Done);
        for (ending, _) in Ending::ALL {
            cell.set(ending);
            assert_eq!(cell.get(), ending);
        }
    }
}

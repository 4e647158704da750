//! How far a connection has come.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far a connection has come on its way from `accept(2)` to `close(2)`.
///
/// A connection may skip a stage, and never goes back to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// `handler`: a thread runs the connection's hooks and its handler.
    Handler,
    /// `reactor`: the handler is done, and the server echoes or drops what the peer still sends
    /// ([`continue_with`](crate::Connection::continue_with)). That takes no thread, except for a stream,
    /// and on systems without `epoll(7)`.
    Reactor,
    /// `closing`: the server waits until the peer has what is due to it, sends a FIN, and drops input
    /// until the peer's own FIN.
    Closing,
    /// `ended`: the connection is closed, or the server has given up on its handler.
    Ended,
}

impl Stage {
    pub(super) const ALL: [Self; Self::Ended as usize + 1] =
        [Self::Handler, Self::Reactor, Self::Closing, Self::Ended];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Handler => "handler",
            Self::Reactor => "reactor",
            Self::Closing => "closing",
            Self::Ended => "ended",
        })
    }
}

/// The stage of a connection, which its owner sets and others read.
#[derive(Debug)]
pub(super) struct CurrentStage(AtomicU8);

// Relaxed is enough: the stage publishes nothing else.
impl CurrentStage {
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(Stage::Handler as u8))
    }

    pub(super) fn get(&self) -> Stage {
        let number = usize::from(self.0.load(Ordering::Relaxed));
        // Only stages are stored.
        Stage::ALL.get(number).copied().unwrap_or(Stage::Ended)
    }

    pub(super) fn set(&self, stage: Stage) {
        // It is set for every message, and changes twice.
        if self.0.load(Ordering::Relaxed) < stage as u8 {
            self.0.fetch_max(stage as u8, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_read_as_it_was_set_and_never_goes_back() {
        let current = CurrentStage::new();
        for (number, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, number);
            current.set(stage);
            assert_eq!(current.get(), stage);
        }
        current.set(Stage::Handler);
        assert_eq!(current.get(), Stage::Ended);
    }
}

//! The stages of a connection.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// The stage of a connection between `accept(2)` and `close(2)`.
///
/// A connection may skip a stage, and never goes back to an earlier one.
///
/// # Examples
///
/// Counting the handlers that are running:
///
/// ```
/// use socketserver::{ServerHandle, Stage};
///
/// fn count_handlers(server: &ServerHandle) -> usize {
///     let connections = server.connections();
///     connections.iter().filter(|conn| conn.stage() == Stage::Handler).count()
/// }
/// # let server = socketserver::TcpServer::bind("127.0.0.1:0").unwrap();
/// # assert_eq!(count_handlers(&server.handle()), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// `handler`: a thread runs the connection's hooks and its handler.
    Handler,
    /// `reactor`: the handler has returned, and the server echoes or discards the peer's input
    /// ([`continue_with`](crate::Connection::continue_with)). The connection has no thread, except during a
    /// stream of large reads, and on systems without `epoll(7)`.
    Reactor,
    /// `closing`: the server delivers the rest of the reply, sends a FIN, and discards input until the
    /// peer's own FIN.
    Closing,
    /// `ended`: the connection is closed, or the server has stopped without waiting for its handler.
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

/// The current stage of a connection. The connection's owner sets it, and any thread reads it.
#[derive(Debug)]
pub(super) struct CurrentStage(AtomicU8);

// Relaxed is enough, because no thread reads other memory by what the stage says.
impl CurrentStage {
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(Stage::Handler as u8))
    }

    pub(super) fn get(&self) -> Stage {
        let number = usize::from(self.0.load(Ordering::Relaxed));
        // Every stored number is a stage, so the default is never used.
        Stage::ALL.get(number).copied().unwrap_or(Stage::Ended)
    }

    pub(super) fn set(&self, stage: Stage) {
        // Callers set the stage for every message, but it rarely changes. A load is cheaper than `fetch_max`.
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

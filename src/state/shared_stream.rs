//! The part of a connection that others than its thread reach: to cut it.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

/// A stream, shared by the thread that serves it and the shutdown that may cut it. Nobody
/// duplicates the descriptor.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    /// Whether its handler is done, and nothing that was due to the peer waits to be sent.
    settled: AtomicBool,
    cut: AtomicBool,
}

// Relaxed is enough throughout: no flag publishes anything but itself.
impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            settled: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        }
    }

    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Disconnects, whatever the thread is blocked in. Returns whether anything was lost by it.
    pub(crate) fn cut(&self) -> bool {
        // Before it is cut: afterwards its thread has nothing left to send.
        let settled = self.settled.load(Ordering::Relaxed);
        self.cut.store(true, Ordering::Relaxed);
        // It fails if the peer has reset the connection, and then nothing blocks either.
        let _ = self.stream.shutdown(Shutdown::Both);
        !settled
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

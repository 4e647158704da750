//! The part of a connection that is reached from outside its thread: to end it.
//!
//! Ending a connection takes three steps. It is asked, and its thread learns of it at its next
//! read. It is woken, if its thread sleeps in a read meanwhile. It is cut, if it is still there
//! when its time is over. A shutdown takes all connections through them, a lifetime one.

use std::net::{self, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// How far a connection is on the way to its end. It only goes forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It is served, and its thread may be blocked in a read.
    Open,
    /// It shall end. Its thread may not know.
    Asked,
    /// Its thread knows, or was woken for it: no read blocks any more.
    Draining,
    /// Its handler is done.
    Closing,
}

/// A stream, shared by the thread that serves it and those that may end it. Nobody duplicates the
/// descriptor.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    stage: AtomicU8,
    /// Whether the thread is in the middle of a write, after which it will learn by itself.
    pub(crate) writing: AtomicBool,
    cut: AtomicBool,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            stage: AtomicU8::new(Stage::Open as u8),
            writing: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        }
    }

    // Relaxed is enough for both: the stage publishes nothing but itself.
    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Relaxed);
    }

    pub(crate) fn reached(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Relaxed) >= stage as u8
    }

    /// Ends the read that the thread is blocked in. Returns whether the thread knows now, or will:
    /// not while it writes.
    ///
    /// A woken read still returns what is queued, then end of file. But once the peer has been
    /// sent a FIN as well, its next byte is answered by a reset (Linux, `tcp_rcv_state_process`),
    /// which can overtake the echo. So a thread that will learn by itself is left alone.
    pub(crate) fn wake(&self) -> bool {
        if self.reached(Stage::Draining) {
            return true;
        }
        if self.writing.load(Ordering::Relaxed) {
            return false;
        }
        self.advance(Stage::Draining);
        // It fails if the peer has reset the connection, and then no read blocks either.
        let _ = self.stream.shutdown(net::Shutdown::Read);
        true
    }

    /// Disconnects it, whatever its thread is blocked in. Returns whether its handler was not
    /// done.
    pub(crate) fn cut(&self) -> bool {
        let unfinished = !self.reached(Stage::Closing);
        self.advance(Stage::Draining);
        self.cut.store(true, Ordering::Relaxed);
        let _ = self.stream.shutdown(net::Shutdown::Both);
        unfinished
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

//! A connection's stream, shared by the thread that serves it and the shutdown that may abort it.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockRef;

use super::record::{Fate, Record};

/// The stream of one connection. The descriptor is never duplicated, because a peer sees no end
/// of file until the last duplicate is closed.
#[derive(Debug)]
pub(crate) struct SharedStream {
    pub(crate) stream: TcpStream,
    /// Whether the handler is done and the peer has everything that was due to it.
    delivered: AtomicBool,
}

// Relaxed is enough: the flag publishes nothing but itself.
impl SharedStream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            delivered: AtomicBool::new(false),
        }
    }

    /// Notes that the peer loses nothing if the connection is aborted from now on.
    pub(crate) fn mark_delivered(&self) {
        self.delivered.store(true, Ordering::Relaxed);
    }

    /// Disconnects, whatever a thread or a reactor waits for there. Returns whether this is the
    /// first abort and the peer may have lost something by it.
    pub(super) fn abort(&self, record: &Record) -> bool {
        // Read before the abort: afterwards its thread has nothing left to send.
        let delivered = self.delivered.load(Ordering::Relaxed);
        let is_first = record.meet(Fate::AbortedByStop);
        // `shutdown` fails if the peer has reset the connection, and then nothing blocks either.
        let _ = self.stream.shutdown(Shutdown::Both);
        is_first && !delivered
    }

    /// Resets the connection, whatever a thread or a reactor waits for there. The totals count the
    /// abort when the record is finished.
    pub(super) fn reset(&self, record: &Record) {
        record.meet(Fate::AbortedAlone);
        // On Linux that sends a RST and wakes every sleeper (`connect(2)`, `AF_UNSPEC`). Elsewhere the
        // close sends the RST, because nothing may linger.
        if rustix::net::connect_unspec(&self.stream).is_err() {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

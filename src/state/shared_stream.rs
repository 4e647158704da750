//! A connection's stream, shared by the owner of the connection and by threads that may abort it.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockRef;

use super::record::{Fate, Record};

/// The stream of one connection. The descriptor is never duplicated, because the kernel would not close the
/// connection before the last duplicate is closed.
#[derive(Debug)]
pub(crate) struct SharedStream {
    pub(crate) stream: TcpStream,
    /// Whether the handler has returned and the peer has received all output.
    delivered: AtomicBool,
}

// Relaxed is enough, because no thread reads other memory by what the flag says.
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

    /// Disconnects the stream, which ends every wait of a thread or a reactor on it. Returns whether this
    /// is the first abort and the peer may have lost data by it.
    pub(super) fn abort(&self, record: &Record) -> bool {
        // Read the flag before the abort. Afterwards nothing can be sent, so the owner may set the flag
        // although data was lost.
        let delivered = self.delivered.load(Ordering::Relaxed);
        let is_first = record.decide_fate(Fate::AbortedByStop);
        // `shutdown` fails if the peer has reset the connection. Then no thread is blocked on it either.
        let _ = self.stream.shutdown(Shutdown::Both);
        is_first && !delivered
    }

    /// Resets the connection, which ends every wait of a thread or a reactor on it. The totals count the
    /// abort when the record is finished.
    pub(super) fn reset(&self, record: &Record) {
        record.decide_fate(Fate::AbortedAlone);
        // On Linux, `connect(2)` with `AF_UNSPEC` sends a RST and wakes every thread that waits on the
        // socket. Elsewhere the close sends the RST, because `SO_LINGER` is set to 0 s.
        if rustix::net::connect_unspec(&self.stream).is_err() {
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

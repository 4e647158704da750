//! The handle by which other threads inspect, close, abort or wake a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::state::ServerState;
use crate::state::record::Record;
use crate::state::record::canonical;
use crate::state::shared_stream::SharedStream;
use crate::state::stage::Stage;

/// A handle to one connection, to inspect, close, abort or wake it from any thread.
///
/// [`Connection::handle`](crate::Connection::handle) and
/// [`ServerHandle::connections`](crate::ServerHandle::connections) make handles. A handle is cheap to clone.
/// It keeps neither the connection open nor its slot in use. After the connection has ended, the numbers
/// stay as they were at the end, and requests do nothing.
///
/// # Examples
///
/// A handler that other threads wake:
///
/// ```
/// use socketserver::{Connection, ConnectionHandle, Wait};
/// use std::io::{self, Write};
/// use std::sync::Mutex;
///
/// static LISTENERS: Mutex<Vec<ConnectionHandle>> = Mutex::new(Vec::new());
///
/// /// Sends a line at each wake-up.
/// fn listen(conn: &mut Connection) -> io::Result<()> {
///     LISTENERS.lock().unwrap_or_else(|e| e.into_inner()).push(conn.handle());
///     while let Wait::Woken = conn.wait(None)? {
///         writeln!(conn, "news")?;
///     }
///     Ok(())
/// }
///
/// fn publish() {
///     for listener in LISTENERS.lock().unwrap_or_else(|e| e.into_inner()).iter() {
///         listener.wake();
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectionHandle {
    state: Arc<ServerState>,
    /// Weak, so that only the owner of the connection closes its descriptor.
    stream: Weak<SharedStream>,
    record: Arc<Record>,
}

impl ConnectionHandle {
    pub(crate) fn new(
        state: &Arc<ServerState>,
        stream: Weak<SharedStream>,
        record: Arc<Record>,
    ) -> Self {
        let state = Arc::clone(state);
        Self {
            state,
            stream,
            record,
        }
    }

    /// Returns the number of the connection: see [`Connection::id`](crate::Connection::id).
    #[must_use]
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// Returns the address of the peer: see [`Connection::peer_addr`](crate::Connection::peer_addr).
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.record.peer()
    }

    /// Returns the address that the peer connected to: see
    /// [`Connection::local_addr`](crate::Connection::local_addr).
    ///
    /// # Errors
    ///
    /// [`NotConnected`](io::ErrorKind::NotConnected): the connection has ended, and the server had not
    /// looked up the address before. Otherwise an error of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        if let Some(local) = self.record.local() {
            return Ok(local);
        }
        let stream = self.stream.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let local = canonical(stream.stream.local_addr()?);
        self.record.set_local(local);
        Ok(self.record.local().unwrap_or(local))
    }

    /// Returns the number of bytes that were received so far.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.record.bytes_in()
    }

    /// Returns the number of bytes that the kernel has taken for sending so far. The peer may have
    /// received fewer.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.record.bytes_out()
    }

    /// Returns the time since the connection was accepted, also after the connection has ended.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.record.accepted.elapsed()
    }

    /// Returns the stage of the connection: served by its handler, in a reactor, closing or ended.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.record.stage()
    }

    /// Asks the connection to end, as a [shutdown](crate::ServerHandle::shutdown) asks all connections.
    ///
    /// Reads return the input that had arrived, then end of file.
    /// [`is_closing`](crate::Connection::is_closing) returns `true`, and
    /// [`wait`](crate::Connection::wait) returns [`Closing`](crate::Wait::Closing). The reason in the log
    /// is `closed`.
    ///
    /// The peer gets the rest of the reply, then a FIN. If the handler has left the connection to the
    /// server, the peer has the [drain timeout](crate::Builder::drain_timeout) for that, or the
    /// [lingering time](crate::Builder::lingering_time) if that is longer. Data that the peer has not
    /// received by then is lost.
    ///
    /// A handler that ignores the request goes on. A blocked write goes on, too: if the peer reads nothing
    /// and there is no [write timeout](crate::Builder::write_timeout), it never ends.
    /// [`abort`](Self::abort) ends such connections.
    ///
    /// The call does not block. A second call does nothing. A call during a shutdown does nothing either,
    /// and `shutdown` remains the reason.
    pub fn close(&self) {
        if let Some(stream) = self.stream.upgrade() {
            self.state.close(&stream, &self.record);
        }
    }

    /// Resets the connection (RST).
    ///
    /// Data that the peer has not received yet is lost. The handler's reads and writes fail, also those
    /// that are blocked.
    ///
    /// The reason in the log is `aborted`, even if the connection was already closing for another reason.
    /// [`Totals::aborted`](crate::Totals::aborted) counts the connection once it has ended.
    ///
    /// The call does not block. A second call does nothing, nor does a call after a shutdown has aborted
    /// the connection.
    ///
    /// # Platform-specific behavior
    ///
    /// Except on Linux, the peer may receive a FIN first.
    pub fn abort(&self) {
        if let Some(stream) = self.stream.upgrade() {
            // The log line shows the address. Ask now, because after the reset the kernel no longer knows it.
            let _ = self.local_addr();
            stream.reset(&self.record);
        }
    }

    /// Makes the handler's current or next call of [`wait`](crate::Connection::wait) return
    /// [`Woken`](crate::Wait::Woken).
    ///
    /// Several wake-ups before the handler notices the first count as one. The call does not block. It has
    /// no effect on a handler that never waits.
    #[doc(alias("broadcast", "notify", "unpark"))]
    pub fn wake(&self) {
        self.record.control.wake();
    }
}

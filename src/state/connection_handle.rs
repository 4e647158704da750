//! What other threads can see of a connection, and do to it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::state::ServerState;
use crate::state::record::Record;
use crate::state::record::canonical;
use crate::state::shared_stream::SharedStream;
use crate::state::stage::Stage;

/// A handle to one connection, to close or wake it from any thread.
///
/// It is made by [`Connection::handle`](crate::Connection::handle) and
/// [`ServerHandle::connections`](crate::ServerHandle::connections). It is cheap to clone, and keeps
/// neither the connection nor its slot: when the connection has ended, its numbers stay as they were
/// at the end, and requests do nothing.
///
/// # Examples
///
/// A handler that lets others wake it:
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
    /// [`NotConnected`](io::ErrorKind::NotConnected): the connection has ended, and nobody had asked
    /// before.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        if let Some(local) = self.record.local() {
            return Ok(local);
        }
        let stream = self.stream.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let local = canonical(stream.stream.local_addr()?);
        self.record.set_local(local);
        Ok(self.record.local().unwrap_or(local))
    }

    /// Returns how many bytes were received so far.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.record.bytes_in()
    }

    /// Returns how many bytes were handed to the kernel to be sent so far.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.record.bytes_out()
    }

    /// Returns how long ago the connection was accepted, whether it has ended or not.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.record.accepted.elapsed()
    }

    /// Returns how far the connection has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.record.stage()
    }

    /// Asks the connection to end, as a [shutdown](crate::ServerHandle::shutdown) asks all: its reads
    /// return what had arrived, then end of file;
    /// [`is_closing`](crate::Connection::is_closing) is true and
    /// [`wait`](crate::Connection::wait) returns [`Closing`](crate::Wait::Closing). The reason in the log
    /// is `closed`.
    ///
    /// The peer gets what is due to it, then FIN. A connection that its handler has left to the server
    /// has the [drain timeout](crate::Builder::drain_timeout) for that, or the
    /// [lingering time](crate::Builder::lingering_time) if that is longer. What the peer has not taken by then is lost.
    ///
    /// A handler that ignores the request goes on, and so does a write that is blocked: without a [write
    /// timeout](crate::Builder::write_timeout) a peer that takes nothing holds it up. Then
    /// [`abort`](Self::abort) ends the connection all the same.
    ///
    /// The call does not block. A second one does nothing, and neither does one during a shutdown, which
    /// then remains the reason.
    pub fn close(&self) {
        if let Some(stream) = self.stream.upgrade() {
            self.state.close(&stream, &self.record);
        }
    }

    /// Resets the connection (RST): what the peer has not received yet is lost, and reads and writes
    /// of the handler fail, also those that are under way.
    ///
    /// The reason in the log is `aborted`, whatever it would have been, also if the connection only
    /// lingered. [`Totals::aborted`](crate::Totals::aborted) counts the connection once it has ended.
    ///
    /// The call does not block, and a second one does nothing. Neither does one for a connection that a
    /// shutdown has aborted before.
    ///
    /// # Platform-specific behavior
    ///
    /// Except on Linux the peer may see a FIN first.
    pub fn abort(&self) {
        if let Some(stream) = self.stream.upgrade() {
            // Afterwards the kernel no longer knows the address.
            let _ = self.local_addr();
            stream.reset(&self.record);
        }
    }

    /// Makes the handler's [`wait`](crate::Connection::wait) return
    /// [`Woken`](crate::Wait::Woken): the current one or, if the handler does something else now, the
    /// next. Wake-ups that the handler has not noticed yet are one.
    ///
    /// The call does not block. To a handler that never waits it does nothing.
    #[doc(alias("broadcast", "notify", "unpark"))]
    pub fn wake(&self) {
        self.record.control.wake();
    }
}

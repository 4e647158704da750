//! One accepted connection: its stream, its addresses, its counters.
//!
//! Reading and writing go through here rather than to the stream, so that bytes are counted, every
//! timeout is one kind of error, and a shutdown is noticed even by a thread that waits for input.

pub(crate) mod busy_poll;
pub(crate) mod close_reason;
pub(crate) mod closing;
pub(crate) mod progress;
pub(crate) mod rest;
pub(crate) mod transfer;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::state::Slot;
use crate::state::handle::ServerHandle;
use crate::state::log_prefix::LogPrefix;
use crate::state::record::Record;
use crate::state::shared_stream::SharedStream;
use crate::state::timeouts::Timeouts;
use crate::wake::wait;
use busy_poll::BusyPoll;
use close_reason::CloseReason;
use progress::Progress;
use rest::Wish;

/// A connection, as a handler sees it: [`Read`], [`Write`], and who is at the other end.
///
/// Both traits are also implemented for `&Connection`, as they are for `&TcpStream`, so one part
/// of a handler can read through a [`BufReader`](std::io::BufReader) while another writes.
///
/// A read returns end of file (0 bytes) when the peer has half-closed, and also once a shutdown
/// was requested, or the connection's [lifetime](crate::Builder::max_lifetime) is over, and
/// everything that had arrived by then has been read.
///
/// After the handler the server closes the connection: FIN, then what still arrives is read and
/// dropped until the peer's FIN or the end of the [linger](crate::Builder::linger), and only then
/// `close(2)`. Closing with input unread would make the kernel send a reset, which can destroy
/// the end of the reply at the peer (RFC 1122, section 4.2.2.13). A peer that sends on beyond the
/// linger is reset.
///
/// When a shutdown or the lifetime ends it, the FIN waits until the reply has reached the peer, but
/// for some 3 kB: within the [drain timeout](crate::Builder::drain_timeout) or the linger. A peer
/// that was silent then is not lingered for.
///
/// # Examples
///
/// ```
/// use socketserver::Connection;
/// use std::io::{self, BufRead, BufReader, Write};
///
/// /// Answers every line with its length.
/// fn lengths(conn: &mut Connection) -> io::Result<()> {
///     let mut reply = &*conn;
///     for line in BufReader::new(&*conn).lines() {
///         writeln!(reply, "{}", line?.len())?;
///     }
///     Ok(())
/// }
/// ```
#[doc(alias = "rfile")]
#[doc(alias = "wfile")]
#[derive(Debug)]
pub struct Connection {
    // Fields drop in this order: the descriptor is closed before its slot is given back.
    stream: Arc<SharedStream>,
    slot: Slot,
    server: ServerHandle,
    record: Arc<Record>,
    progress: Mutex<Progress>,
    wish: Mutex<Option<Wish>>,
    busy_poll: BusyPoll,
    /// Whether messages are so far apart that a read waits in `poll(2)` at once.
    polls_first: AtomicBool,
    /// Whether blocking calls on the stream return after the blocking slice.
    has_slices: AtomicBool,
}

impl Connection {
    /// Makes a connection in a box, which passes from thread to thread and stays off their stacks.
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, slot: Slot) -> Box<Self> {
        let stream = Arc::new(SharedStream::new(stream));
        let record = Arc::new(Record::new(peer));
        slot.attach(&stream, &record);
        let busy_poll = BusyPoll::new(slot.state().timeouts.busy_poll);
        Box::new(Self {
            server: ServerHandle::new(Arc::clone(slot.state())),
            stream,
            slot,
            record,
            progress: Mutex::new(Progress::Open),
            wish: Mutex::default(),
            busy_poll,
            polls_first: AtomicBool::new(false),
            has_slices: AtomicBool::new(false),
        })
    }

    pub(crate) fn prefix(&self) -> &LogPrefix {
        &self.slot.state().prefix
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.slot.state().timeouts
    }

    pub(crate) fn accepted(&self) -> Instant {
        self.record.accepted
    }

    pub(crate) fn shared_stream(&self) -> &Arc<SharedStream> {
        &self.stream
    }

    /// Returns the address of the peer. An IPv4 client of an IPv6 listener is shown as IPv4.
    #[doc(alias = "client_address")]
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.record.peer
    }

    /// Returns the address that the peer connected to (`getsockname(2)`).
    ///
    /// # Errors
    ///
    /// Those of the system call; none is expected on a live connection.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream().local_addr().map(canonical)
    }

    /// Returns the stream, for its options.
    ///
    /// Leave its timeouts, and whether it blocks, as they are: the connection sets them. Don't read
    /// or write there: the bytes would not be counted, no timeout would apply, a shutdown would
    /// not be noticed before the connection is cut, and a read may fail after 20 ms. Don't duplicate
    /// it with [`try_clone`](TcpStream::try_clone): the peer would see no end of file until the
    /// duplicate is closed, too.
    #[doc(alias = "request")]
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream.stream
    }

    /// Returns the handle of the server that accepted this connection.
    #[must_use]
    pub fn server(&self) -> &ServerHandle {
        &self.server
    }

    /// Returns whether the connection is to come to its end, because a shutdown was requested or its
    /// [lifetime](crate::Builder::max_lifetime) is over.
    ///
    /// A read tells by an end of file. A handler that only writes asks here, and returns.
    ///
    /// # Examples
    ///
    /// ```
    /// use socketserver::Connection;
    /// use std::io::{self, Write};
    ///
    /// fn count(conn: &mut Connection) -> io::Result<()> {
    ///     let mut number = 0;
    ///     while !conn.is_ending() {
    ///         writeln!(conn, "{number}")?;
    ///         number += 1;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn is_ending(&self) -> bool {
        let closing = self.should_close();
        if closing {
            self.update_progress(Progress::tell);
        }
        closing
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

    pub(crate) fn progress(&self) -> Progress {
        *self.lock_progress()
    }

    /// Notes why the connection has ended.
    pub(crate) fn end(&self, reason: CloseReason) {
        self.update_progress(|progress| progress.end(reason));
    }

    fn update_progress(&self, update: impl FnOnce(&mut Progress)) {
        update(&mut self.lock_progress());
    }

    fn lock_progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why the connection has ended, now that its handler is done.
    pub(crate) fn reason(&self) -> CloseReason {
        self.progress().reason(self.reason_to_close())
    }

    /// Sleeps until the stream is ready or the timeout is over. Returns whether it is ready.
    fn wait_for(&self, event: PollFlags, timeout: Duration) -> bool {
        let mut fds = [PollFd::new(self.stream(), event)];
        wait(&mut fds, Some(timeout)).unwrap_or(true)
    }
}

impl Read for &Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.receive(buf)
    }
}

impl Write for &Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.send(buf)
    }

    /// Formats first and writes once, so that a `write!` is one system call and one packet, and not
    /// one for each fragment of its format string.
    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
        match args.as_str() {
            Some(text) => self.write_all(text.as_bytes()),
            None => self.write_all(args.to_string().as_bytes()),
        }
    }

    /// Does nothing: what is written is with the kernel already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    /// Formats first and writes once, as for `&Connection`.
    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
        (&*self).write_fmt(args)
    }

    /// Does nothing: what is written is with the kernel already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows an IPv4 address that arrived over an IPv6 socket (`::ffff:…`) as the IPv4 it is.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(addr.ip().to_canonical(), addr.port())
        }
        _ => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_shown_as_ipv4_and_others_are_left_alone() {
        let canonical = |addr: &str| canonical(addr.parse().unwrap()).to_string();
        assert_eq!(canonical("[::ffff:192.0.2.1]:7"), "192.0.2.1:7");
        assert_eq!(canonical("[::1]:7"), "[::1]:7");
        assert_eq!(canonical("[fe80::1%3]:7"), "[fe80::1%3]:7");
        assert_eq!(canonical("192.0.2.1:7"), "192.0.2.1:7");
    }
}

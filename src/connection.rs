//! One accepted connection: its stream, its addresses, its counters.
//!
//! Handlers read and write through [`Connection`] rather than through the `TcpStream`. So the server
//! counts the bytes, every timeout is the same kind of error, and a thread that waits for input
//! notices a shutdown.

pub(crate) mod busy_poll;
pub(crate) mod closing;
mod ending;
pub(crate) mod limits;
pub(crate) mod progress;
#[cfg(feature = "proxy-protocol")]
pub(crate) mod proxy_header;
pub(crate) mod rest;
pub(crate) mod transfer;
pub(crate) mod wait;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::state::connection_handle::ConnectionHandle;
use crate::state::handle::ServerHandle;
use crate::state::log_prefix::LogPrefix;
use crate::state::record::Record;
use crate::state::shared_stream::SharedStream;
use crate::state::timeouts::Timeouts;
use crate::state::{Slot, Source};
use crate::wake::wait;
use busy_poll::BusyPoll;
use limits::Limits;
use progress::Progress;
use rest::Wish;

/// A client's connection, as its handler gets it: [`Read`](io::Read), [`Write`](io::Write), and the
/// addresses of both ends.
///
/// Both traits are also implemented for `&Connection`, as they are for `&TcpStream`, so one part
/// of a handler can read through a [`BufReader`](std::io::BufReader) while another writes.
///
/// A read returns end of file (0 bytes) when the peer has half-closed. The server ends a connection if
/// a shutdown or a [close](crate::ConnectionHandle::close) was requested, or when the
/// [lifetime](crate::Builder::max_lifetime) of the connection is over. Reads then return the input that
/// had arrived by that time, and end of file after that.
///
/// When the handler has returned, the server sends a FIN (`shutdown(2)`). It then reads and drops what
/// still arrives, until the peer's FIN or the end of the
/// [lingering time](crate::Builder::lingering_time), and only then calls `close(2)`. Closing with
/// unread input would make the kernel send a reset, which can destroy the end of the reply at the peer
/// (RFC 1122, section 4.2.2.13). A peer that still sends after the lingering time is reset.
///
/// If the server ends the connection, it sends the FIN only once the peer has acknowledged the reply
/// except for about 3 kB. For that it waits at most the lingering time or, after a shutdown or close
/// request, the [drain timeout](crate::Builder::drain_timeout) if that is longer. If the peer sends
/// nothing while the server ends the connection, the server closes it without lingering.
///
/// # Reading lines
///
/// [`lines`](std::io::BufRead::lines) and [`read_line`](std::io::BufRead::read_line) have two traps. A
/// client that never ends its line fills the memory, and bytes that are not UTF-8 are an error. To
/// bound each line, call [`take`](io::Read::take) and set its limit again for each line. To read any bytes,
/// call [`read_until`](std::io::BufRead::read_until):
///
/// ```
/// use socketserver::Connection;
/// use std::io::{self, BufRead, BufReader, Read, Write};
///
/// /// Answers every line with its length. A line has at most 1000 bytes.
/// fn lengths(conn: &mut Connection) -> io::Result<()> {
///     let mut reply = &*conn;
///     let mut input = BufReader::new(&*conn).take(0);
///     let mut line = Vec::new();
///     loop {
///         input.set_limit(1000);
///         if input.read_until(b'\n', &mut line)? == 0 {
///             return Ok(());
///         }
///         if input.limit() == 0 && !line.ends_with(b"\n") {
///             return writeln!(reply, "this line is too long");
///         }
///         let text = String::from_utf8_lossy(line.trim_ascii_end());
///         writeln!(reply, "{}", text.chars().count())?;
///         line.clear();
///     }
/// }
/// ```
///
/// The reader borrows `&*conn`, so the handler can write meanwhile through another `&*conn`. The variable
/// of this second reference must be `mut` (otherwise E0596). Writing to `conn` itself would need an
/// exclusive borrow (E0502). A reader made of `conn` itself moves `conn` (E0382) or borrows `conn`
/// exclusively, and then writing does not compile (E0499):
///
/// ```compile_fail,E0499
/// # use socketserver::Connection;
/// # use std::io::{self, BufRead, BufReader, Write};
/// fn lengths(conn: &mut Connection) -> io::Result<()> {
///     for line in BufReader::new(&mut *conn).split(b'\n') {
///         writeln!(conn, "{}", line?.len())?;
///     }
///     Ok(())
/// }
/// ```
///
/// # Both directions at once
///
/// A connection is `Send` and `Sync`. So two threads of a [`scope`](std::thread::scope), one of them the
/// handler's, can share the connection: one reads and the other writes. A thread that may outlive the
/// handler can't borrow the connection (E0521), but can own its [`handle`](Self::handle):
///
/// ```
/// use socketserver::Connection;
/// use std::io;
/// use std::net::{Shutdown, TcpStream};
/// use std::thread;
///
/// /// Relays between the client and another server.
/// fn proxy(conn: &mut Connection) -> io::Result<()> {
///     let (mut client, upstream) = (&*conn, TcpStream::connect("127.0.0.1:7007")?);
///     thread::scope(|scope| {
///         scope.spawn(|| {
///             let copied = io::copy(&mut &upstream, &mut &*conn);
///             // Without a FIN or a reset the client would wait for more replies, and the copy below
///             // for the client.
///             if copied.and_then(|_| conn.shutdown_write()).is_err() {
///                 conn.abort();
///             }
///         });
///         let copied = io::copy(&mut client, &mut &upstream);
///         upstream.shutdown(Shutdown::Write)?;
///         copied.map(drop)
///     })
/// }
/// ```
///
/// # Saying goodbye
///
/// A read returns end of file if the client half-closes, and also if the server ends the connection.
/// [`is_closing`](Self::is_closing) tells which. If the server ends the connection, the handler can still
/// write, for example the goodbye of its protocol. A handler that waits for more than its client calls
/// [`wait`](Self::wait), which then returns [`Closing`](crate::Wait::Closing).
///
/// ```
/// use socketserver::Connection;
/// use std::io::{self, Read, Write};
///
/// fn echo(conn: &mut Connection) -> io::Result<()> {
///     let mut buffer = [0; 1024];
///     loop {
///         match conn.read(&mut buffer)? {
///             0 if conn.is_closing() => return conn.write_all(b"421 closing, try later\r\n"),
///             0 => return Ok(()),
///             n => conn.write_all(&buffer[..n])?,
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Connection {
    // Fields drop in this order, so that the descriptor is closed before the slot is free. Otherwise the
    // server could have more descriptors open than it has slots.
    stream: Arc<SharedStream>,
    slot: Slot,
    record: Arc<Record>,
    progress: Mutex<Progress>,
    wish: Mutex<Option<Wish>>,
    limits: Mutex<Limits>,
    /// The longest time that the connection may live: the server's setting. A deadline that the handler
    /// leaves behind shortens this.
    lifetime: Option<Duration>,
    is_handler_done: bool,
    /// Whether the handler has sent a FIN.
    has_sent_fin: AtomicBool,
    busy_poll: BusyPoll,
    /// Whether a read without input sleeps in `poll(2)` at once, not in `recv(2)` first, because
    /// messages arrive far apart.
    polls_first: AtomicBool,
    /// Whether the stream has its timeouts: blocking calls on it return after the blocking slice.
    has_slices: AtomicBool,
    /// Whether blocking writes return after the blocking slice, too.
    sends_in_slices: AtomicBool,
}

impl Connection {
    /// Makes a connection in a box, so that it takes no room on the stacks of the threads that pass it on.
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, slot: Slot) -> Box<Self> {
        let stream = Arc::new(SharedStream::new(stream));
        let record = Arc::new(Record::new(slot.id(), peer));
        slot.attach(&stream, &record);
        let timeouts = slot.state().timeouts;
        let busy_poll = BusyPoll::new(timeouts.busy_poll);
        let limits = Mutex::new(Limits::new(&timeouts));
        let sends_in_slices = timeouts.send_timeout().is_some();
        Box::new(Self {
            stream,
            slot,
            record,
            progress: Mutex::new(Progress::Open),
            wish: Mutex::default(),
            limits,
            lifetime: timeouts.lifetime,
            is_handler_done: false,
            has_sent_fin: AtomicBool::new(false),
            busy_poll,
            polls_first: AtomicBool::new(false),
            has_slices: AtomicBool::new(false),
            sends_in_slices: AtomicBool::new(sends_in_slices),
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

    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// Counts the connection towards the limit of its source, unless it is counted already.
    ///
    /// # Errors
    ///
    /// The source has reached its limit. Returns both.
    pub(crate) fn claim_source(&mut self) -> Result<(), (Source, usize)> {
        self.slot.claim_source(self.record.peer())
    }

    pub(crate) fn shared_stream(&self) -> &Arc<SharedStream> {
        &self.stream
    }

    /// Returns the address of the peer (`accept(2)`).
    ///
    /// For an IPv4 client of an IPv6 listener this is the IPv4 address. Behind a trusted proxy
    /// (`Builder::proxy_protocol`, with the feature `proxy-protocol`) this is the client's address; the
    /// [stream](Self::stream) has the proxy's.
    #[doc(alias = "client_address")]
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.record.peer()
    }

    /// Returns the address that the peer connected to (`getsockname(2)`).
    ///
    /// Behind a trusted proxy (`Builder::proxy_protocol`, with the feature `proxy-protocol`) this is the
    /// address of the proxy that the client connected to.
    ///
    /// # Errors
    ///
    /// Those of `getsockname(2)`; none is expected on a live connection.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.handle().local_addr()
    }

    /// Returns the number of the connection.
    ///
    /// A server numbers its connections from 1 in the order in which it accepts them, and uses no number
    /// twice. If a connection could not be served, its number is left out.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// Returns a handle, with which other threads can inspect, close, abort and wake this connection.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        let stream = Arc::downgrade(&self.stream);
        ConnectionHandle::new(self.slot.state(), stream, Arc::clone(&self.record))
    }

    /// Returns the stream, for its socket options.
    ///
    /// You can call
    ///
    /// - the getters, such as [`local_addr`](TcpStream::local_addr), [`nodelay`](TcpStream::nodelay) and
    ///   [`take_error`](TcpStream::take_error);
    /// - [`set_nodelay`](TcpStream::set_nodelay), [`set_ttl`](TcpStream::set_ttl), and the options that the
    ///   crate `socket2` sets, except those below;
    /// - [`peek`](TcpStream::peek), which may fail with [`WouldBlock`](io::ErrorKind::WouldBlock) after
    ///   20 ms.
    ///
    /// Don't change the timeouts, `SO_LINGER` or the blocking mode, because the connection sets them itself.
    /// Don't read or write through the stream. The bytes would not be counted, and no timeout would apply.
    /// The handler would not notice a shutdown before the connection is aborted, and a read may fail after
    /// 20 ms. Instead of [`shutdown`](TcpStream::shutdown) call [`shutdown_write`](Self::shutdown_write) or
    /// [`abort`](Self::abort). Don't duplicate the stream with [`try_clone`](TcpStream::try_clone), because
    /// the peer may see no end of file until the duplicate is closed, too.
    #[doc(alias("request", "try_clone", "set_nonblocking"))]
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream.stream
    }

    /// Returns the handle of the server that accepted this connection.
    #[must_use]
    pub fn server(&self) -> &ServerHandle {
        self.slot.server()
    }

    /// Returns the number of bytes received so far.
    ///
    /// The header of the PROXY protocol, and input that is dropped after the FIN, are not counted.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.record.bytes_in()
    }

    /// Returns the number of bytes handed to the kernel so far (`send(2)`). The peer may not have received
    /// all of them yet.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.record.bytes_out()
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.lock_progress()
    }

    fn update_progress(&self, update: impl FnOnce(&mut Progress)) {
        update(&mut self.lock_progress());
    }

    fn lock_progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until the stream is ready or the timeout is over. Returns whether the stream is ready.
    fn wait_for(&self, event: PollFlags, timeout: Duration) -> bool {
        let mut fds = [PollFd::new(self.stream(), event)];
        // If `poll(2)` fails, let the caller try: the next call on the stream reports what is wrong.
        wait(&mut fds, Some(timeout)).unwrap_or(true)
    }
}

//! One accepted connection: its stream, its addresses, its counters.
//!
//! Reading and writing go through here rather than to the stream, so that bytes are counted, every
//! timeout is one kind of error, and a shutdown is noticed even by a thread that waits for input.

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

use std::fmt;
use std::io::{self, Read, Write};
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

/// A connection, as a handler sees it: [`Read`], [`Write`], and who is at the other end.
///
/// Both traits are also implemented for `&Connection`, as they are for `&TcpStream`, so one part
/// of a handler can read through a [`BufReader`](std::io::BufReader) while another writes.
///
/// A read returns end of file (0 bytes) when the peer has half-closed. A read also does so once
/// everything has been read that had arrived when the server began to end the connection: because a
/// shutdown or a [close](ConnectionHandle::close) was requested, or because the
/// [lifetime](crate::Builder::max_lifetime) of the connection was over.
///
/// After the handler the server closes the connection: FIN, then what still arrives is read and
/// dropped until the peer's FIN or the end of the [lingering time](crate::Builder::lingering_time), and only then
/// `close(2)`. Closing with input unread would make the kernel send a reset, which can destroy
/// the end of the reply at the peer (RFC 1122, section 4.2.2.13). A peer that sends on beyond the
/// lingering time is reset.
///
/// When a shutdown or the lifetime ends it, the FIN waits until the reply has reached the peer, but
/// for some 3 kB: within the [drain timeout](crate::Builder::drain_timeout) or the lingering time. A peer
/// that was silent then is not lingered for.
///
/// # Reading lines
///
/// [`lines`](std::io::BufRead::lines) and [`read_line`](std::io::BufRead::read_line) have two traps. A
/// client that never ends its line fills the memory, and bytes that are not UTF-8 are an error.
/// [`take`](Read::take) bounds a line if its limit is set again for each line, and
/// [`read_until`](std::io::BufRead::read_until) reads any bytes:
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
/// The reader borrows `&*conn`, so the handler can write meanwhile through another `&*conn`, in a variable
/// that is `mut` (E0596). Writing to `conn` itself would need it exclusively (E0502). A reader of `conn`
/// itself takes it (E0382) or borrows it exclusively, and then writing does not compile (E0499):
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
/// A connection is `Send` and `Sync`. Two threads of a [`scope`](std::thread::scope) can share it, one that
/// reads and one that writes. The handler's thread is one of them. A thread that may outlive the handler
/// can't have it (E0521), but can have its [`handle`](Self::handle):
///
/// ```
/// use socketserver::Connection;
/// use std::io;
/// use std::net::{Shutdown, TcpStream};
/// use std::thread;
///
/// /// Connects the client with another server.
/// fn proxy(conn: &mut Connection) -> io::Result<()> {
///     let (mut client, upstream) = (&*conn, TcpStream::connect("127.0.0.1:7007")?);
///     thread::scope(|scope| {
///         scope.spawn(|| {
///             let copied = io::copy(&mut &upstream, &mut &*conn);
///             // Without an end or an abort the client would wait for replies, and the copy below for
///             // the client.
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
/// An end of file may be the client's or the server's: [`is_closing`](Self::is_closing) tells which. At a stop
/// the handler can still write, so it can say goodbye as its protocol asks. A handler that waits for more
/// than its client uses [`wait`](Self::wait), which returns [`Closing`](crate::Wait::Closing) then.
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
    // Fields drop in this order: the descriptor is closed before its slot is given back.
    stream: Arc<SharedStream>,
    slot: Slot,
    record: Arc<Record>,
    progress: Mutex<Progress>,
    wish: Mutex<Option<Wish>>,
    limits: Mutex<Limits>,
    /// How long the connection may live: the server's setting, until the handler has left a deadline.
    lifetime: Option<Duration>,
    /// Whether the handler is done.
    is_left: bool,
    /// Whether the handler has sent a FIN.
    has_sent_fin: AtomicBool,
    busy_poll: BusyPoll,
    /// Whether messages are so far apart that a read waits in `poll(2)` at once.
    polls_first: AtomicBool,
    /// Whether blocking calls on the stream return after the blocking slice.
    has_slices: AtomicBool,
    /// Whether writes do, too.
    sends_in_slices: AtomicBool,
}

impl Connection {
    /// Makes a connection in a box, which passes from thread to thread and stays off their stacks.
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
            is_left: false,
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

    /// Counts the connection as one of its source's, unless it was counted before.
    pub(crate) fn claim_source(&mut self) -> Result<(), (Source, usize)> {
        self.slot.claim_source(self.record.peer())
    }

    pub(crate) fn shared_stream(&self) -> &Arc<SharedStream> {
        &self.stream
    }

    /// Returns the address of the peer. An IPv4 client of an IPv6 listener is shown as IPv4. Behind a
    /// trusted proxy (`Builder::proxy_protocol`, with the feature `proxy-protocol`) it is the client's, and
    /// the proxy's is that of the [stream](Self::stream).
    #[doc(alias = "client_address")]
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.record.peer()
    }

    /// Returns the address that the peer connected to (`getsockname(2)`). Behind a trusted proxy
    /// (`Builder::proxy_protocol`, with the feature `proxy-protocol`) that is one of the proxy's.
    ///
    /// # Errors
    ///
    /// Those of the system call; none is expected on a live connection.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.handle().local_addr()
    }

    /// Returns the number of the connection.
    ///
    /// A server counts its connections from 1 in the order in which it accepts them, and uses no number
    /// again. A number is left out if its connection could not be served.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// Returns a handle, by which other threads can see, close and wake this connection.
    #[must_use]
    pub fn handle(&self) -> ConnectionHandle {
        let stream = Arc::downgrade(&self.stream);
        ConnectionHandle::new(self.slot.state(), stream, Arc::clone(&self.record))
    }

    /// Returns the stream, for its options.
    ///
    /// Safe to call are the getters, such as [`local_addr`](TcpStream::local_addr),
    /// [`nodelay`](TcpStream::nodelay) and [`take_error`](TcpStream::take_error);
    /// [`set_nodelay`](TcpStream::set_nodelay), [`set_ttl`](TcpStream::set_ttl), and the options that the
    /// crate `socket2` sets, except those below; and [`peek`](TcpStream::peek), which may fail with
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) after 20 ms.
    ///
    /// Leave the timeouts, `SO_LINGER`, and whether the stream blocks, as they are: the connection sets them.
    /// Don't read or write there: the bytes would not be counted, no timeout would apply, a shutdown
    /// would not be noticed before the connection is aborted, and a read may fail after 20 ms. For
    /// [`shutdown`](TcpStream::shutdown) there are [`shutdown_write`](Self::shutdown_write) and
    /// [`abort`](Self::abort). Don't duplicate the stream with [`try_clone`](TcpStream::try_clone): the peer
    /// would see no end of file until the duplicate is closed, too.
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

    fn update_progress(&self, update: impl FnOnce(&mut Progress)) {
        update(&mut self.lock_progress());
    }

    fn lock_progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
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

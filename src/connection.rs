//! One accepted connection: its stream, its addresses, its counters, how it waits and ends.
//!
//! Reading and writing go through here rather than to the stream, so that bytes are counted, every
//! timeout is one kind of error, and a shutdown is noticed even by a thread that waits for input.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::SendFlags;

use crate::ending::{Ending, EndingCell};
use crate::handle::ServerHandle;
use crate::link::Link;
use crate::registry::Slot;
use crate::shutdown::Phase;
use crate::times::Times;
use crate::wait::wait;

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
/// the end of the reply at the peer (RFC 1122, section 4.2.2.13).
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
#[derive(Debug)]
pub struct Connection {
    // Fields drop in this order: the descriptor is closed before its slot is given back.
    link: Arc<Link>,
    slot: Slot,
    server: ServerHandle,
    peer: SocketAddr,
    accepted: Instant,
    times: Times,
    ending: EndingCell,
    /// Whether reads of the stream block only [`BRIEFLY`].
    reads_briefly: AtomicBool,
    /// How much of what had arrived when the end was noticed is still unread.
    due: AtomicU64,
}

/// How long a read blocks in `recv(2)` before it waits in `poll(2)`, where a shutdown and the
/// timeouts reach it. While messages follow each other faster than this, each costs one system
/// call and not two; a connection that falls silent costs one wake-up.
const BRIEFLY: Duration = Duration::from_millis(20);

/// How long what is under way to a connection that shall end is waited for. A few round trips on
/// a local network; no person sees it.
const NOTICE: Duration = Duration::from_millis(10);

/// What `due` holds until a read notices that the connection shall end.
const NOT_NOTICED: u64 = u64::MAX;

/// What `due` holds if the peer was silent then.
const SILENT: u64 = u64::MAX - 1;

/// Apple's systems have no `MSG_NOSIGNAL`; there the standard library sets `SO_NOSIGPIPE`.
#[cfg(target_vendor = "apple")]
const WITHOUT_WAITING: SendFlags = SendFlags::DONTWAIT;
#[cfg(not(target_vendor = "apple"))]
const WITHOUT_WAITING: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

impl Connection {
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, slot: Slot, times: Times) -> Self {
        let link = Arc::new(Link::new(stream));
        slot.attach(&link);
        Self {
            server: ServerHandle::new(Arc::clone(slot.registry())),
            link,
            slot,
            peer,
            accepted: Instant::now(),
            times,
            ending: EndingCell::new(),
            reads_briefly: AtomicBool::new(false),
            due: AtomicU64::new(NOT_NOTICED),
        }
    }

    /// Returns the address of the peer. An IPv4 client of an IPv6 listener is shown as IPv4.
    #[doc(alias = "client_address")]
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
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
    /// Don't read or write there: it would not be counted, no timeout would apply, a shutdown
    /// would not be noticed before the connection is cut, and after a first read through the
    /// connection, one of the stream fails when it has waited for 20 ms. Don't duplicate it with
    /// [`try_clone`](TcpStream::try_clone): the peer would see no end of file until the duplicate
    /// is closed, too.
    #[doc(alias = "request")]
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.link.stream
    }

    /// Returns the handle of the server that accepted this connection.
    #[must_use]
    pub fn server(&self) -> &ServerHandle {
        &self.server
    }

    /// Returns how many bytes were received so far.
    #[must_use]
    pub fn bytes_in(&self) -> u64 {
        self.slot.bytes_in.load(Ordering::Relaxed)
    }

    /// Returns how many bytes were handed to the kernel to be sent so far.
    #[must_use]
    pub fn bytes_out(&self) -> u64 {
        self.slot.bytes_out.load(Ordering::Relaxed)
    }

    pub(crate) fn ending(&self) -> Ending {
        self.ending.get()
    }

    pub(crate) fn set_ending(&self, ending: Ending) {
        self.ending.set(ending);
    }

    /// Ends the connection as the type's documentation says, logs it, and gives the slot back.
    pub(crate) fn close(self) {
        self.leave();
        let reason = self.ending().name();
        let Self { link, slot, .. } = self;
        drop(link);
        log::debug!(
            "peer={} in={} out={} duration={:.6} reason={reason}",
            self.peer,
            slot.bytes_in.load(Ordering::Relaxed),
            slot.bytes_out.load(Ordering::Relaxed),
            self.accepted.elapsed().as_secs_f64(),
        );
        drop(slot);
    }

    /// Sends a FIN, and waits until a close can't reset the peer out of what is due to it.
    fn leave(&self) {
        let ending = self.ending();
        // Only before the FIN can it be told.
        let settled = ending == Ending::Eof || !self.has_unsent();
        if settled {
            self.link.settle();
        }
        if ending == Ending::Reset || self.stream().shutdown(Shutdown::Write).is_err() {
            return;
        }
        match ending {
            // The peer has nothing more to send.
            Ending::Eof => {}
            // It may never do so. With everything sent, what it sends from now on comes too late.
            Ending::Shutdown | Ending::Lifetime if settled => {
                let was_silent = self.due.load(Ordering::Relaxed) == SILENT;
                self.drop_input(if was_silent { Duration::ZERO } else { NOTICE });
            }
            _ => self.drop_input(Duration::MAX),
        }
    }

    /// Reads and drops until the peer's FIN, until it is silent for `silence`, but not beyond the
    /// linger.
    fn drop_input(&self, silence: Duration) {
        let start = Instant::now();
        let mut scratch = [0; 4096];
        loop {
            let left = self.times.linger.saturating_sub(start.elapsed());
            if left.is_zero() || !self.wait_for(PollFlags::IN, left.min(silence)) {
                return;
            }
            match self.stream().read(&mut scratch) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Returns whether anything still waits to be sent, because the peer does not take it. If it
    /// can't be told, something may.
    fn has_unsent(&self) -> bool {
        // With this mark the stream is writable once everything was sent (`tcp(7)`).
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if socket2::SockRef::from(self.stream())
            .set_tcp_notsent_lowat(1)
            .is_ok()
        {
            return !self.wait_for(PollFlags::OUT, Duration::ZERO);
        }
        true
    }

    fn wait_for(&self, event: PollFlags, timeout: Duration) -> bool {
        let mut fds = [PollFd::new(self.stream(), event)];
        wait(&mut fds, Some(timeout)).unwrap_or(true)
    }

    /// Returns whether the connection is to come to its end.
    fn shall_end(&self) -> bool {
        self.server.phase() != Phase::Serving || self.lifetime_left() == Some(Duration::ZERO)
    }

    fn lifetime_left(&self) -> Option<Duration> {
        let lifetime = self.times.lifetime?;
        Some(lifetime.saturating_sub(self.accepted.elapsed()))
    }

    /// Returns why the connection is to come to its end.
    fn reason_to_end(&self) -> Ending {
        match self.server.phase() {
            Phase::Serving => Ending::Lifetime,
            Phase::Draining | Phase::Cutting => Ending::Shutdown,
        }
    }

    /// Reads, however long it takes for something to arrive.
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.reads_briefly.load(Ordering::Relaxed) {
            self.stream().set_read_timeout(Some(BRIEFLY))?;
            self.reads_briefly.store(true, Ordering::Relaxed);
        }
        let mut silent_since = None;
        loop {
            if self.shall_end() {
                return self.receive_rest(buf);
            }
            match self.receive_briefly(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let since = *silent_since.get_or_insert_with(Instant::now);
                    self.wait_for_input(since)?;
                }
                received => return received,
            }
        }
    }

    /// Sleeps until there may be something to read, or to notice.
    fn wait_for_input(&self, silent_since: Instant) -> io::Result<()> {
        let silence = silent_since.elapsed();
        let idle_left = self.times.idle.map(|idle| idle.saturating_sub(silence));
        if idle_left == Some(Duration::ZERO) {
            self.set_ending(Ending::Idle);
            let cause = "the peer sent nothing for too long";
            return Err(io::Error::new(ErrorKind::TimedOut, cause));
        }
        let stop = self.server.stop();
        let mut fds = [
            PollFd::new(self.stream(), PollFlags::IN),
            PollFd::new(&stop, PollFlags::IN),
        ];
        let times = [idle_left, self.lifetime_left()];
        wait(&mut fds, times.into_iter().flatten().min())?;
        Ok(())
    }

    /// Reads now that the connection is to come to its end: what had arrived when that was
    /// noticed, or arrives within a moment, and no more, however fast the peer goes on sending.
    fn receive_rest(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut due = self.due.load(Ordering::Relaxed);
        if due == NOT_NOTICED {
            due = if self.wait_for(PollFlags::IN, NOTICE) {
                rustix::io::ioctl_fionread(self.stream())?
            } else {
                SILENT
            };
            self.due.store(due, Ordering::Relaxed);
            if due == 0 {
                // The peer's own end, by a FIN or a reset.
                match self.receive_briefly(buf) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    received => return received,
                }
            }
        }
        if due == 0 || due == SILENT {
            self.set_ending(self.reason_to_end());
            return Ok(0);
        }
        let allowed = buf.len().min(usize::try_from(due).unwrap_or(usize::MAX));
        let n = self.receive_briefly(&mut buf[..allowed])?;
        self.due.fetch_sub(n as u64, Ordering::Relaxed);
        Ok(n)
    }

    /// Reads once, and notes what comes of it.
    fn receive_briefly(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream().read(buf) {
                // A read with a timeout is interrupted by signals even under `SA_RESTART`, and by
                // SIGSTOP and SIGCONT (see `signal(7)`).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(error) => return Err(self.failed(error)),
                Ok(0) => {
                    self.set_ending(if self.link.is_cut() {
                        self.reason_to_end()
                    } else {
                        Ending::Eof
                    });
                    return Ok(0);
                }
                Ok(n) => {
                    // A handler may go on after a timeout, and then it was not the end.
                    if self.ending() != Ending::Done {
                        self.set_ending(Ending::Done);
                    }
                    self.slot.bytes_in.fetch_add(n as u64, Ordering::Relaxed);
                    return Ok(n);
                }
            }
        }
    }

    /// Writes some, however long it takes for the peer to make room.
    fn send(&self, buf: &[u8]) -> io::Result<usize> {
        let mut blocked = Duration::ZERO;
        loop {
            match self.stream().write(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                sent => return sent.map_err(|error| self.failed(error)),
            }
            // The kernel wakes a blocked send once a third of its buffer is free. A peer that is
            // slow rather than stalled may have made less room than that.
            if let Ok(n) = rustix::net::send(self.stream(), buf, WITHOUT_WAITING) {
                return Ok(n);
            }
            blocked += self.times.write_tick().unwrap_or_default();
            if self.times.write.is_some_and(|write| blocked >= write) {
                return Err(self.not_taken(Ending::Stalled));
            }
            if blocked >= self.times.linger && self.lifetime_left() == Some(Duration::ZERO) {
                return Err(self.not_taken(Ending::Lifetime));
            }
        }
    }

    fn not_taken(&self, ending: Ending) -> io::Error {
        self.set_ending(ending);
        io::Error::new(ErrorKind::TimedOut, "the peer took nothing for too long")
    }

    /// Notes an error as the ending.
    fn failed(&self, error: io::Error) -> io::Error {
        self.set_ending(match error.kind() {
            // What came of a cut is not the peer's doing.
            _ if self.link.is_cut() => self.reason_to_end(),
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            // Keep-alive or retransmission gave up: the peer is gone.
            | ErrorKind::TimedOut => Ending::Reset,
            _ => Ending::Error,
        });
        error
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
        let n = self.send(buf)?;
        self.slot.bytes_out.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
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

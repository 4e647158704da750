//! One accepted connection: its stream, its addresses, its counters, and how it ended.
//!
//! Reading and writing go through here rather than to the stream, so that bytes are counted, a
//! timeout has one name, and a shutdown is noticed between two reads.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::net::SendFlags;

use crate::handle::ServerHandle;
use crate::link::{Link, Stage};
use crate::registry::Slot;
use crate::shutdown::Phase;

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
    ending: AtomicU8,
    /// How much of what had arrived when the end was noticed is still unread.
    due: AtomicU64,
}

/// Apple's systems have no `MSG_NOSIGNAL`; there the standard library sets `SO_NOSIGPIPE`.
#[cfg(target_vendor = "apple")]
const WITHOUT_WAITING: SendFlags = SendFlags::DONTWAIT;
#[cfg(not(target_vendor = "apple"))]
const WITHOUT_WAITING: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// What `due` holds until a read notices that the connection shall end.
const NOT_NOTICED: u64 = u64::MAX;

/// The last thing that happened to a connection: the reason of its log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing yet; after the handler: it was done before the peer was.
    Done,
    /// The peer half-closed.
    Eof,
    /// The peer reset the connection, or vanished.
    Reset,
    /// The peer sent nothing for the idle timeout.
    Idle,
    /// The peer read nothing for the write timeout.
    Stalled,
    /// Its lifetime was over.
    Lifetime,
    /// The server was asked to stop.
    Shutdown,
    /// The verify hook said no.
    Rejected,
    /// The handler, or a hook, returned an error.
    Error,
    /// The handler, or a hook, panicked.
    Panic,
}

impl Ending {
    const ALL: [(Self, &str); 10] = [
        (Self::Done, "done"),
        (Self::Eof, "eof"),
        (Self::Reset, "reset"),
        (Self::Idle, "idle"),
        (Self::Stalled, "stalled"),
        (Self::Lifetime, "lifetime"),
        (Self::Shutdown, "shutdown"),
        (Self::Rejected, "rejected"),
        (Self::Error, "error"),
        (Self::Panic, "panic"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, slot: Slot) -> Self {
        let link = Arc::new(Link::new(stream));
        let accepted = Instant::now();
        slot.attach(&link, accepted);
        Self {
            server: ServerHandle::new(Arc::clone(slot.registry())),
            link,
            slot,
            peer,
            accepted,
            ending: AtomicU8::new(Ending::Done as u8),
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
    /// What is read or written there directly is not counted. Don't duplicate it with
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
        Ending::ALL[usize::from(self.ending.load(Ordering::Relaxed))].0
    }

    pub(crate) fn set_ending(&self, ending: Ending) {
        self.ending.store(ending as u8, Ordering::Relaxed);
    }

    /// Ends the connection as the type's documentation says, logs it, and gives the slot back.
    pub(crate) fn close(self, linger: Duration) {
        self.link.advance(Stage::Closing);
        if self.ending() != Ending::Reset
            && self.stream().shutdown(net::Shutdown::Write).is_ok()
            && self.ending() != Ending::Eof
        {
            self.drop_input_until(Instant::now() + linger);
        }
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

    fn drop_input_until(&self, deadline: Instant) {
        let mut scratch = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream().set_read_timeout(Some(left)).is_err() {
                return;
            }
            match self.stream().read(&mut scratch) {
                Ok(0) => return,
                Err(error) if error.kind() != ErrorKind::Interrupted => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Returns who asked the connection to end.
    fn asked_by(&self) -> Ending {
        match self.server.phase() {
            Phase::Serving => Ending::Lifetime,
            Phase::Draining | Phase::Cutting => Ending::Shutdown,
        }
    }

    /// Returns how many of `wanted` bytes may still be read now that the connection shall end:
    /// all that had arrived when the first read noticed it, and no more, however fast the peer
    /// goes on sending. `None` lets the read block.
    fn allowance(&self, wanted: usize) -> io::Result<Option<usize>> {
        let mut due = self.due.load(Ordering::Relaxed);
        if due == NOT_NOTICED {
            due = rustix::io::ioctl_fionread(self.stream())?;
            // What is under way at this moment is still served, until the thread is woken.
            if due == 0 && !self.link.reached(Stage::Draining) {
                return Ok(None);
            }
            self.link.advance(Stage::Draining);
            self.due.store(due, Ordering::Relaxed);
        }
        let due = usize::try_from(due).unwrap_or(usize::MAX);
        Ok(Some(wanted.min(due)))
    }

    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream().read(buf) {
                // A read with a timeout is interrupted by signals even under `SA_RESTART`, and by
                // SIGSTOP and SIGCONT (see `signal(7)`).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error, Ending::Idle)),
                Ok(0) => {
                    let asked = self.link.reached(Stage::Draining);
                    self.set_ending(if asked { self.asked_by() } else { Ending::Eof });
                    return Ok(0);
                }
                Ok(n) => {
                    self.slot.bytes_in.fetch_add(n as u64, Ordering::Relaxed);
                    return Ok(n);
                }
            }
        }
    }

    fn send(&self, buf: &[u8]) -> io::Result<usize> {
        match self.stream().write(buf) {
            // The write timeout is over, but the peer may be slow rather than stalled: Linux wakes
            // a blocked send only once a third of the send buffer is free, and a peer may need
            // longer than the timeout to read that much. If it has read anything, there is room.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Ok(rustix::net::send(self.stream(), buf, WITHOUT_WAITING)?)
            }
            written => written,
        }
    }

    /// Notes an error as the ending, and gives a timeout the kind that says so: the kernel
    /// reports it as `EAGAIN`.
    fn failed(&self, error: io::Error, timeout: Ending) -> io::Error {
        let (ending, error) = match error.kind() {
            // It was cut: what the peer did is not what ended it.
            _ if self.link.is_cut() => (self.asked_by(), error),
            ErrorKind::WouldBlock => {
                let what = match timeout {
                    Ending::Idle => "the peer sent nothing for too long",
                    _ => "the peer read nothing for too long",
                };
                (timeout, io::Error::new(ErrorKind::TimedOut, what))
            }
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            // Keep-alive or retransmission gave up: the peer is gone.
            | ErrorKind::TimedOut => (Ending::Reset, error),
            _ => (Ending::Error, error),
        };
        self.set_ending(ending);
        error
    }
}

impl Read for &Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if self.server.phase() == Phase::Serving && !self.link.reached(Stage::Asked) {
            return self.receive(buf);
        }
        match self.allowance(buf.len())? {
            None => self.receive(buf),
            Some(0) => {
                self.set_ending(self.asked_by());
                Ok(0)
            }
            Some(allowed) => {
                let n = self.receive(&mut buf[..allowed])?;
                self.due.fetch_sub(n as u64, Ordering::Relaxed);
                Ok(n)
            }
        }
    }
}

impl Write for &Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.link.writing.store(true, Ordering::Relaxed);
        let written = self.send(buf);
        self.link.writing.store(false, Ordering::Relaxed);
        match written {
            Ok(n) => {
                self.slot.bytes_out.fetch_add(n as u64, Ordering::Relaxed);
                Ok(n)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => Err(self.failed(error, Ending::Stalled)),
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
    fn every_ending_stands_at_its_own_index() {
        for (index, (ending, _)) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, index);
        }
    }

    #[test]
    fn a_mapped_address_is_shown_as_ipv4_and_others_are_left_alone() {
        let canonical = |addr: &str| canonical(addr.parse().unwrap()).to_string();
        assert_eq!(canonical("[::ffff:192.0.2.1]:7"), "192.0.2.1:7");
        assert_eq!(canonical("[::1]:7"), "[::1]:7");
        assert_eq!(canonical("[fe80::1%3]:7"), "[fe80::1%3]:7");
        assert_eq!(canonical("192.0.2.1:7"), "192.0.2.1:7");
    }
}
